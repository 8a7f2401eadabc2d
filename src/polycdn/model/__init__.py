"""Nouns. Frozen values, integers with their unit in the name; no input or output, no clock, no dice."""
