"""`polycdn blast`: what of the web falls with a provider."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from polycdn.cli.tables import add_heads
from polycdn.errors import ConfigError, Fault, UnavailableError

MEMORY_MIB_MIN, MEMORY_MIB_MAX = 256, 1_048_576


def register(app: typer.Typer) -> None:
    """Adds the command of this file."""
    app.command()(blast)


def blast(
    sites: Annotated[list[Path], typer.Option(help="Table of site, role, provider, critical; repeatable.")],
    providers: Annotated[
        list[Path] | None, typer.Option(help="Table of provider, role, depends_on, critical.")
    ] = None,
    down: Annotated[
        str | None, typer.Option(help="These are down at once, with commas between them.")
    ] = None,
    only: Annotated[
        str | None, typer.Option(help="The figures of these alone, which is much quicker; commas between.")
    ] = None,
    share: Annotated[float, typer.Option(help="Find the smallest set that takes down so many %.")] = 50.0,
    second: Annotated[
        int, typer.Option(help="What a second provider for the top N sites saves (needs a column rank).")
    ] = 0,
    before: Annotated[list[Path] | None, typer.Option(help="An earlier table, for trends.")] = None,
    engine: Annotated[str, typer.Option(help="duckdb or spark.")] = "duckdb",
    memory: Annotated[int, typer.Option(help="MiB that the engine may hold.")] = 5_120,
    spill: Annotated[Path | None, typer.Option(help="Folder for what does not fit into memory.")] = None,
    top: Annotated[int, typer.Option(help="Rows of the table of providers.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="JSON on standard output.")] = False,
    html: Annotated[Path | None, typer.Option(help="Write a page with plots to this file.")] = None,
) -> int:
    """Blast radius of providers over millions of sites: what depends on whom, what falls with whom.

    Examples: polycdn blast --sites sites.parquet --providers providers.csv --down cloudflare,fastly
    """
    from polycdn.audit.blast.engine import open_engine
    from polycdn.audit.blast.look import Question, look
    from polycdn.audit.blast.one import look_only

    names, alone = _names(down), _names(only)
    whole = {"--down": down, "--second": second, "--before": before, "--html": html}
    beside = [option for option, value in whole.items() if value and only is not None]
    _check(share, second, memory, spill, {"--down": down, "--only": only}, beside)
    asked = Question(
        tuple(sites),
        tuple(providers or ()),
        names,
        round(share * 100),
        second,
        max(1_000, top),
        tuple(before or ()),
    )
    opened = open_engine(engine, memory, spill)
    try:
        shown = look_only(opened, asked, alone) if alone else look(opened, asked)
    finally:
        opened.close()
    if html is not None:
        _write(html, shown)
    if as_json:
        print(json.dumps(shown, ensure_ascii=False))
    else:
        _print(shown, top)
    return 0


def _check(
    share: float,
    second: int,
    memory: int,
    spill: Path | None,
    lists: dict[str, str | None],
    beside_only: list[str],
) -> None:
    """Raises ConfigError for all wrong options at once; `beside_only` are those that need the whole look."""
    faults = []
    if not 0 < share <= 100:
        faults.append(Fault("--share", str(share), "above 0, up to 100", "take 50"))
    if second < 0:
        faults.append(Fault("--second", str(second), "0 or more", "take 10000"))
    if not MEMORY_MIB_MIN <= memory <= MEMORY_MIB_MAX:
        faults.append(
            Fault("--memory", str(memory), f"{MEMORY_MIB_MIN} to {MEMORY_MIB_MAX} MiB", "take 5120")
        )
    if spill is not None and not spill.is_dir():
        faults.append(Fault("--spill", str(spill), "a folder that exists", "make it"))
    for option, text in lists.items():
        if text is not None and not _names(text):
            faults.append(Fault(option, repr(text), "names with commas between them", "name a provider"))
    faults += [
        Fault(option, "beside --only", "a look at everybody", "leave out one of the two")
        for option in beside_only
    ]
    if faults:
        raise ConfigError(tuple(faults))


def _names(text: str | None) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name.strip() for name in (text or "").split(",") if name.strip()))


def _write(path: Path, shown: dict[str, Any]) -> None:
    from polycdn.cli.blast_page import page

    try:
        path.write_text(page(shown), encoding="utf-8")
    except OSError as error:
        raise UnavailableError(f"cannot write {path}: {error.strerror}") from None


def _print(shown: dict[str, Any], top: int) -> None:
    from polycdn.cli.simulate_commands import console

    out = console()
    if "roles" not in shown:
        out.print(providers_table(shown, len(shown["providers"])))
        return
    out.print(roles_table(shown))
    out.print(providers_table(shown, top))
    if shown["down"]:
        _print_down(out, shown)
    smallest = shown["smallest_set"]
    if smallest:
        how = "proven" if smallest["is_proven"] else "found step by step, a smaller one may exist"
        names = ", ".join(smallest["providers"])
        share = smallest["share_bp"] / 100
        out.print(f"Smallest set that takes down {share:g} %: {names} ({how})", markup=False)
    if shown["second_provider"]:
        out.print(second_table(shown))
    if shown["trends"]:
        out.print(trends_table(shown))


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def _print_down(out: Console, shown: dict[str, Any]) -> None:
    fallen = shown["down"]
    roles = ", ".join(f"{role} {count:,}" for role, count in fallen["by_role"].items() if count)
    others = len(fallen["fallen"]) - len(fallen["down"])
    out.print(
        f"Down: {', '.join(fallen['down'])}, and {_counted(others, 'other provider')} through them. "
        f"Unreachable: {_counted(fallen['unreachable'], 'site')} "
        f"({percent(fallen['unreachable_share'])}); affected: {fallen['affected']:,}. "
        f"By role: {roles or '-'}",
        markup=False,
    )


def percent(share: float) -> str:
    """A share as a percentage with one decimal."""
    return f"{share * 100:.1f} %"


def roles_table(shown: dict[str, Any]) -> Table:
    """A row a role; shares are of the sites that have it."""
    table = Table(title=f"{shown['sites']:,} sites, {shown['edges']:,} edges", title_justify="left")
    heads = (
        "role",
        "sites",
        "providers",
        "HHI",
        "centralization",
        "third party",
        "critical",
        "redundant",
        "top 3",
    )
    add_heads(table, heads)
    for role in shown["roles"]:
        of = role["sites"]
        shares = (role["third_party"], role["critical_third_party"], role["redundant"])
        top = next(each["critical_sites"] for each in role["top"] if each["k"] == 3)
        table.add_row(
            role["role"], f"{of:,}", f"{role['providers']:,}", f"{role['hhi']:.4f}",
            f"{role['centralization']:.4f}", *(percent(part / of) for part in (*shares, top)),
        )  # fmt: skip
    critical = percent(shown["any_critical_third_party"] / shown["sites"])
    table.caption = f"critically on some third party: {critical} of the sites"
    return table


def providers_table(shown: dict[str, Any], top: int) -> Table:
    """A row a provider, the widest radius first."""
    table = Table(title="providers", title_justify="left")
    heads = (
        "provider",
        "roles",
        "uses it",
        "also through others",
        "critical",
        "also through others",
        "gone with it",
    )
    for index, name in enumerate((*heads, "share", "amplified")):
        table.add_column(name, justify="left" if index < 2 else "right", overflow="fold")
    for each in shown["providers"][:top]:
        share = each["unreachable_share"]
        amplified = "-" if each["amplification"] is None else f"{each['amplification']:.2f}"
        table.add_row(
            each["provider"], " ".join(each["roles"]), f"{each['concentration_direct']:,}",
            f"{each['concentration']:,}", f"{each['impact_direct']:,}", f"{each['impact']:,}",
            f"{each['unreachable']:,}", "-" if share is None else percent(share), amplified,
        )  # fmt: skip
    return table


def second_table(shown: dict[str, Any]) -> Table:
    """What a second provider for the top N sites would save, by the role that it is for."""
    second = shown["second_provider"]
    table = Table(
        title=f"sites saved by a second provider for the top {second['top']:,}", title_justify="left"
    )
    roles = [role["role"] for role in shown["roles"]]
    add_heads(table, ("when it fails", "gone with it", *roles, "all roles"))
    for each in second["providers"]:
        saved = [f"{each['saved_by_role'][role]:,}" for role in roles]
        table.add_row(each["provider"], f"{each['unreachable']:,}", *saved, f"{each['saved_all_roles']:,}")
    return table


def trends_table(shown: dict[str, Any]) -> Table:
    """How the roles changed, in percentage points."""
    table = Table(title="changes since the earlier table", title_justify="left")
    add_heads(table, ("role", "HHI", "third party", "critical", "redundant"))
    for role in shown["trends"]["roles"]:
        shares = ("third_party_share", "critical_third_party_share", "redundant_share")
        table.add_row(role["role"], f"{role['hhi']:+.4f}", *(f"{role[key] * 100:+.1f}" for key in shares))
    return table
