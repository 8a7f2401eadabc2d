"""A plan, somewhere: engines, a zone file, a feed, memory; each is read, compared and changed alike.

An older generation is refused, applying a plan twice changes nothing, the plan in force survives a restart.
"""
