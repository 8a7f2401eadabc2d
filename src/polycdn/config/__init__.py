"""The operator's `polycdn.toml`, checked whole and turned into topology, policy and what `up` starts."""
