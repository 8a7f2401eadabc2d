"""The command line: parses words, calls `run`, prints. Decides nothing."""
