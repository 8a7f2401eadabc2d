"""`polycdn vantage --spec F`: one vantage, until SIGTERM."""

import argparse
import asyncio


def vantage(argv: list[str]) -> int:
    """Exit code of the vantage process; argv is what follows the command's name."""
    parser = argparse.ArgumentParser(
        prog="polycdn vantage",
        description="Look at providers on schedule and post signed reports. Started by `polycdn up`.",
    )
    parser.add_argument(
        "--spec", required=True, metavar="FILE", help="JSON: what to look at, and whom to tell"
    )
    arguments = parser.parse_args(argv)

    from polycdn.run.clock import clock_from_spec
    from polycdn.run.vantage import read_spec, run_vantage

    spec = read_spec(arguments.spec)
    return asyncio.run(run_vantage(spec, clock_from_spec(spec.clock)))
