"""`python -m polycdn` is `polycdn`."""

from polycdn.cli.main import main

main()
