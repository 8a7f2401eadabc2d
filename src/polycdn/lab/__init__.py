"""The real world, small: origins, emulated CDNs, faults and load as real processes on loopback addresses."""
