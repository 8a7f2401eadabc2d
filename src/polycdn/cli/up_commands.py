"""`polycdn up` starts everything and keeps it running; `polycdn down` ends it."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from polycdn.cli.state import ConfigOption, JsonOption, StateOption, layout_of, print_json
from polycdn.errors import UnavailableError


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command("up")(up)
    app.command("down")(down)


def up(
    config: ConfigOption = None,
    shadow: Annotated[
        bool, typer.Option("--shadow", help="Decide, but touch no engine and no surface.")
    ] = False,
    clock: Annotated[
        str, typer.Option("--clock", metavar="SPEC", help="wall, or script:START_MS,ZERO_MS,SPEED.")
    ] = "wall",
    state: StateOption = None,
    stop_engines: Annotated[
        bool, typer.Option("--stop-engines", help="Drain the engines too when told to stop.")
    ] = False,
) -> int:
    """Start the decider, the engines and the vantages, and keep them running.

    SIGTERM or Ctrl-C stops decider and vantages; engines serve on with the plan in force, and the next `up`
    takes them over. SIGHUP reads the config again.

    Example: polycdn up -c polycdn.toml
    """
    from polycdn.config.load import load
    from polycdn.config.loaded import Loaded
    from polycdn.run.clock import clock_from_spec
    from polycdn.run.up import installed_programs, run_up
    from polycdn.run.wiring import UpOptions

    def read() -> Loaded:
        return load(config)

    options = UpOptions(clock_from_spec(clock).spec, is_shadow=shadow, stops_engines=stop_engines)
    return run_up(read, options, installed_programs(), state)


def down(config: ConfigOption = None, state: StateOption = None, as_json: JsonOption = False) -> int:
    """End everything that `up` started here, engines too; they finish what is under way.

    Exit code 3 when nothing ran.
    """
    from polycdn.run.running import down as end_all

    layout = layout_of(config, state)
    ended = asyncio.run(end_all(layout))
    if not ended:
        raise UnavailableError(f"nothing runs on {Path(layout.state)}")
    if as_json:
        print_json({"ended": list(ended)})
    else:
        typer.echo("ended " + ", ".join(ended))
    return 0
