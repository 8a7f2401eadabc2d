"""The false world: providers that fail as an outage says, a network to look through, and users in cohorts.

Everything is a function of a seed. Times are whole seconds or milliseconds from the start of the outage.
"""
