"""`polycdn parity SERVICE`: where a standby is not equal."""

import asyncio
import json
from pathlib import Path
from typing import Annotated, Any

import typer

from polycdn.cli.state import ConfigOption, JsonOption, StateOption, layout_of
from polycdn.errors import ConfigError, Fault


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("parity")(parity)


def parity(
    service: Annotated[str, typer.Argument(metavar="SERVICE", help="A service of the config.")],
    config: ConfigOption = None,
    state: StateOption = None,
    everything: Annotated[bool, typer.Option("--all", help="Also the lines that are equal.")] = False,
    purge: Annotated[
        str | None,
        typer.Option("--purge", metavar="PATH", help="Also purge this object of SERVICE at every provider."),
    ] = None,
    as_json: JsonOption = False,
) -> int:
    """Ask every provider of SERVICE the same at the same moment and show where the answers differ.

    A decider that runs here is told, if the policy says `require_parity`. Nothing changes at a provider,
    except by --purge.

    Exit code 0 if all are equal to the first provider, 1 if one is not. Example: polycdn parity www --json
    """
    from polycdn.config.load import load
    from polycdn.run.clock import Wall
    from polycdn.run.parity import PurgeLook
    from polycdn.run.parity import parity as look

    loaded = load(config)
    services = loaded.services
    own = next((pair for pair in services if pair[0].name == service), None)
    if own is None:
        names = ", ".join(pair[0].name for pair in services)
        raise ConfigError((Fault("SERVICE", repr(service), names, "name a service of the config"),))
    order = PurgeLook(purge, loaded.purge_doors(service)) if purge is not None else None
    found = asyncio.run(look(*own, Wall(), order))
    is_told = own[1].require_parity and _tell(config, state, found)
    if as_json:
        print(json.dumps(as_object(found)))
    else:
        _print(found, everything)
        if is_told:
            print("The decider was told.")
    return 1 if found.not_ready else 0


def _tell(config: str | None, state: Path | None, found: Any) -> bool:
    """Whether a decider runs here and took the finding."""
    from polycdn.run.api import say

    socket = layout_of(config, state).decider_socket
    if not socket.exists():
        return False
    say(socket, {"op": "parity", "service": found.service, "not_ready": list(found.not_ready)})
    return True


def as_object(found: Any) -> dict[str, Any]:
    """The matrix as `--json` prints it."""
    return {
        "service": found.service,
        "at_ms": found.at_ms,
        "providers": list(found.providers),
        "not_ready": list(found.not_ready),
        "lines": [
            {
                "path": line.path, "aspect": line.aspect, "what": line.what,
                "values": dict(zip(found.providers, line.values, strict=True)), "unequal": list(line.unequal),
                "unknown": list(line.unknown),
            }
            for line in found.lines
        ],
    }  # fmt: skip


def _print(found: Any, everything: bool) -> None:
    from rich.table import Table

    from polycdn.cli.simulate_commands import console

    table = Table(title=f"parity of {found.service}", title_justify="left")
    for name in ("path", "asked", "what", *found.providers):
        table.add_column(name, overflow="fold")
    for line in found.lines:
        if line.unequal or line.unknown or everything:
            table.add_row(line.path, line.aspect, line.what, *line.values)
    out = console()
    if table.row_count:
        out.print(table, markup=False)
    for sentence in sentences_of(found):
        out.print(sentence, markup=False, highlight=False, soft_wrap=True)


def sentences_of(found: Any) -> list[str]:
    """What the matrix comes to."""
    not_ready = ", ".join(found.not_ready)
    unknown = [f"{line.what} of {', '.join(line.unknown)}" for line in found.lines if line.unknown]
    lines = f"{len(found.lines)} lines" + (" as far as is known" if unknown else "")
    equal = f"All providers are equal, in {lines}; --all shows them."
    told = [f"Not equal to {found.providers[0]}: {not_ready}." if not_ready else equal]
    return told + ([f"Not known: {'; '.join(unknown)}."] if unknown else [])
