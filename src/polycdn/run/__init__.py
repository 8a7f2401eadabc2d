"""The only room that joins rooms: clock, loop, and the four runs."""
