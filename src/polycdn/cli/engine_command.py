"""`polycdn edge` and `polycdn dns`: start an engine in this process. Lean, since restarts wait for it."""

import argparse


def edge(argv: list[str]) -> int:
    return _run("edge", "Carry the traffic: a reverse proxy that goes on when a provider fails.", argv)


def dns(argv: list[str]) -> int:
    return _run("dns", "Answer the DNS: authoritative for the steered names.", argv)


def _run(role: str, description: str, argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog=f"polycdn {role}",
        description=description,
        epilog="Started by `polycdn up`. Ends by SIGTERM, after what is under way is finished.",
    )
    parser.add_argument(
        "--engine-config", required=True, metavar="FILE", help="JSON as in docs/engine-protocol.md"
    )
    arguments = parser.parse_args(argv)
    from polycdn.run.engine import run_engine

    return run_engine(role, arguments.engine_config)
