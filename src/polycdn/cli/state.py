"""Options that the operator's commands share: which state directory, and how to print."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from polycdn.run.layout import Layout

ConfigOption = Annotated[
    str | None, typer.Option("--config", "-c", metavar="FILE", help="The config; default: the search path.")
]
StateOption = Annotated[
    Path | None,
    typer.Option("--state", metavar="DIR", help="The state directory; default: that of the config."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]


def layout_of(config: str | None, state: Path | None) -> "Layout":
    """Where things lie: under `--state`, else under the config's state directory. Raises ConfigError."""
    from polycdn.run.layout import Layout

    if state is not None:
        return Layout(state)
    from polycdn.config.load import load

    return Layout(Path(load(config).state_dir))


def print_json(value: Any) -> None:
    """One object on stdout; indented where a person reads it."""
    print(json.dumps(value, indent=2 if sys.stdout.isatty() else None, ensure_ascii=False))
