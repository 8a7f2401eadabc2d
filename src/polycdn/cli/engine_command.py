"""`polycdn edge` and `polycdn dns`: start an engine in this process. Lean, since restarts wait for it."""

import argparse


def edge(argv: list[str]) -> int:
    """Exit code of an edge, started from an engine's config or from nothing but the command line."""
    from polycdn.cli import edge_options

    parser = _parser("edge", "Carry the traffic: a caching reverse proxy that goes on when a provider fails.")
    edge_options.add_to(parser)
    arguments = parser.parse_args(argv)
    if arguments.engine_config:
        edge_options.refuse_beside_config(parser, arguments)
        return _run("edge", arguments.engine_config)
    from polycdn.cli import edge_alone

    alone = edge_alone.prepare(edge_options.read(parser, arguments))
    try:
        return _run("edge", alone.config_file)
    finally:
        alone.remove()


def dns(argv: list[str]) -> int:
    """Exit code of a nameserver."""
    parser = _parser("dns", "Answer the DNS: authoritative for the steered names.")
    arguments = parser.parse_args(argv)
    if not arguments.engine_config:
        parser.error("the following arguments are required: --engine-config")
    return _run("dns", arguments.engine_config)


def _parser(role: str, description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"polycdn {role}",
        description=description,
        epilog="Ends with 0 by SIGTERM, after what is under way is finished.",
    )
    parser.add_argument(
        "--engine-config",
        metavar="FILE",
        help="JSON as in docs/engine-protocol.md; `polycdn up` starts it so",
    )
    return parser


def _run(role: str, config_file: str) -> int:
    from polycdn.run.engine import run_engine

    return run_engine(role, config_file)
