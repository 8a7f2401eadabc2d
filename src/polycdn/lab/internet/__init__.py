"""A whole internet, small: its own root, DNS operators, authorities, CDNs and third parties, on loopback."""
