"""Verbs. Pure functions from what was seen to what to do; `now_ms` is an argument, answers are integers."""
