"""`polycdn init` writes a starter config; `polycdn check` validates one."""

import json
import os
from pathlib import Path
from typing import Annotated, Any

import typer

from polycdn.errors import ConfigError, Fault, UnavailableError

ConfigOption = Annotated[
    str | None, typer.Option("--config", "-c", metavar="FILE", help="The config; default: the search path.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command("init")(init)
    app.command("check")(check)


def init(
    path: Annotated[str, typer.Argument(metavar="[PATH]", help="Where to write it.")] = "polycdn.toml",
    force: Annotated[bool, typer.Option("--force", help="Write over a file that is there.")] = False,
) -> None:
    """Write a commented starter config.

    Example: polycdn init && polycdn check
    """
    from polycdn.config.starter import STARTER

    target = Path(path)
    if target.is_dir():
        target /= "polycdn.toml"
    try:
        write_new(target, STARTER, force=force)
    except FileExistsError:
        raise ConfigError(
            (Fault(str(target), "a file", "a path where nothing is", "add --force, or name another path"),)
        ) from None
    except OSError as error:
        raise UnavailableError(f"cannot write {target}: {error.strerror or error}") from None
    typer.echo(f"wrote {target}; check it with: polycdn check -c {target}", err=True)


def write_new(target: Path, text: str, *, force: bool) -> None:
    """Writes a whole file or nothing. Raises FileExistsError unless `force`."""
    if not force:
        with target.open("x", encoding="utf-8") as file:
            file.write(text)
        return
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(target)


def check(
    config: ConfigOption = None,
    as_json: JsonOption = False,
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the JSON Schema for editors, and do nothing else.")
    ] = False,
) -> int:
    """Validate the config: every fault at once, with its place and a remedy.

    Exit code 0 if there is none, else 2. Example: polycdn check -c examples/polycdn.toml --json
    """
    if schema:
        from polycdn.config.document import json_schema

        typer.echo(json.dumps(json_schema(), indent=2))
        return 0

    from polycdn.config.load import load

    try:
        loaded = load(config)
    except ConfigError as error:
        if as_json:
            typer.echo(json.dumps({"ok": False, "faults": [_as_json(fault) for fault in error.faults]}))
            return error.exit_code
        for fault in error.faults:
            typer.echo(_as_text(fault), err=True)
        typer.echo(f"{len(error.faults)} to mend", err=True)
        return error.exit_code
    services: list[dict[str, Any]] = [
        {
            "name": service.name,
            "hostname": service.hostname,
            "providers": [provider.name for provider in service.providers],
            "regions": [region.name for region in service.regions],
            "vantages": [vantage.name for vantage in service.vantages],
        }
        for service, _policy in loaded.services
    ]
    if as_json:
        typer.echo(json.dumps({"ok": True, "sources": loaded.sources, "services": services, "faults": []}))
        return 0
    for service in services:
        typer.echo(f"{service['name']} ({service['hostname']}): {', '.join(service['providers'])}")
    typer.echo(f"ok: {', '.join(loaded.sources)}")
    return 0


def _as_json(fault: Fault) -> dict[str, Any]:
    file, _, line = fault.place.rpartition(":")
    has_line = line.isdecimal()
    return {
        "place": fault.place,
        "file": file if has_line else fault.place,
        "line": int(line) if has_line else None,
        "found": fault.found,
        "allowed": fault.allowed,
        "remedy": fault.remedy,
    }


def _as_text(fault: Fault) -> str:
    return f"{fault.place}: found {fault.found}\n    allowed: {fault.allowed}\n    remedy:  {fault.remedy}"
