"""Blast radius of providers over millions of sites: what depends on whom, and what falls with whom."""
