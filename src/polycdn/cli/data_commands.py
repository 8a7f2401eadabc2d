"""`polycdn data`: tables that the user brings, kept for the audit."""

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Adds the group."""
    group = typer.Typer(help="Tables for the audit.", no_args_is_help=True)
    group.command("import")(import_table)
    group.callback()(_group)
    app.add_typer(group, name="data")


def _group() -> None:
    """Tables for the audit."""


def import_table(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="CSV, also gzip: first,last,asn,organisation.")
    ],
    into: Annotated[
        Path | None, typer.Option("--into", metavar="FILE", help="Instead of the user's data directory.")
    ] = None,
) -> int:
    """Import a table of networks, so that an audit can tell whose an address is. Replaces the one before.

    Example: polycdn data import asn-ipv4.csv.gz asn-ipv6.csv.gz
    """
    from polycdn.audit.networks import default_table
    from polycdn.audit.networks_import import import_networks
    from polycdn.errors import UnavailableError

    table = into or default_table()
    try:
        rows = import_networks(files, table)
    except OSError as error:
        raise UnavailableError(f"{table} cannot be written: {error.strerror or error}") from None
    typer.echo(f"{rows} networks in {table}")
    return 0
