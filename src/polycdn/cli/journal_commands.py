"""`polycdn journal verify` checks the chain; `polycdn replay` decides a journal once more."""

from pathlib import Path
from typing import Annotated, Any

import typer

from polycdn.cli.state import ConfigOption, JsonOption, StateOption, layout_of, print_json


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    group = typer.Typer(help="Look at a journal.", no_args_is_help=True)
    group.command("verify")(verify)
    app.add_typer(group, name="journal")
    app.command("replay")(replay)


def verify(
    journal: Annotated[
        Path | None, typer.Argument(metavar="[DIR|FILE]", help="A journal; default: that of the config.")
    ] = None,
    config: ConfigOption = None,
    state: StateOption = None,
    as_json: JsonOption = False,
) -> int:
    """Check every record of a journal and the chain that holds them together.

    Exit code 0: the chain holds (a torn last line is reported, and harmless); 1: it is broken, and where.
    """
    from polycdn.journal.scan import verify as verify_chain

    place = journal if journal is not None else layout_of(config, state).journal
    found = verify_chain(place)
    if as_json:
        print_json(
            {
                "journal": str(place),
                "is_whole": not found.broken,
                "files": found.files,
                "records": found.records,
                "first_seq": found.first_seq,
                "last_seq": found.last_seq,
                "last_hash": found.last_hash,
                "torn": found.torn,
                "broken": found.broken,
            }
        )
    else:
        for text in (found.torn, found.broken):
            if text:
                typer.echo(text)
        verdict = "broken" if found.broken else "whole"
        span = f"{found.records} records ({found.first_seq} to {found.last_seq}) in {found.files} files"
        typer.echo(f"{place}: {verdict}; {span}")
    return 1 if found.broken else 0


def replay(
    journal: Annotated[
        Path, typer.Argument(metavar="JOURNAL", help="A journal's folder, or one file of it.")
    ],
    policy: Annotated[
        str | None,
        typer.Option("--policy", metavar="FILE", help="What if: the policies of this config instead."),
    ] = None,
    as_json: JsonOption = False,
) -> int:
    """Decide a journal's events once more and compare with what was decided then.

    Exit code 0: every decision is the same; 1: the first difference is shown. With --policy, shows how the
    plans would have differed; exit code 0.
    """
    from polycdn.run.replay import replay as replay_journal
    from polycdn.run.replay import what_if

    if policy is not None:
        from polycdn.config.load import load

        shown = what_if(journal, {service.name: found for service, found in load(policy).services})
    else:
        shown = replay_journal(journal)
    if as_json:
        print_json(shown)
    else:
        typer.echo("\n".join(_lines(shown)))
    return 0 if policy is not None or shown["is_equal"] else 1


def _lines(shown: dict[str, Any]) -> list[str]:
    if "is_equal" not in shown:
        counts = f"{len(shown['recorded'])} plans then, {len(shown['what_if'])} with the other policy"
        return [counts, *shown["differences"]]
    if shown["is_equal"]:
        return [f"{shown['decisions']} decisions, every one as recorded"]
    first = shown["first_difference"]
    return [
        f"{shown['decisions']} decisions; the first that differs is that on record {first['seq']}",
        f"  service {first['service']}, {first['event']} at {first['at_ms']} ms",
        f"  recorded: {first['recorded']}",
        f"  now:      {first['replayed']}",
    ]
