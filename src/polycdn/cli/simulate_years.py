"""`polycdn simulate --years`: the table of what redundancy buys."""

import json
import sys
from pathlib import Path
from typing import Any

from rich.table import Table

from polycdn.cli.tables import add_heads
from polycdn.errors import ConfigError, Fault

YEARS: int = 10_000
YEARS_MAX = 1_000_000


def simulate_years_command(
    services: tuple[Any, ...],
    years: int,
    shared: list[str],
    evidence: Path | None,
    money: tuple[float, list[str]],
    options: Any,
    as_json: bool,
) -> int:
    """Prints the table for the first of the services, if there is any. Raises ConfigError."""
    from polycdn.cli.simulate_commands import console
    from polycdn.run.simulate_years import Money, simulate_years
    from polycdn.run.simulate_years_setup import setups

    groups = tuple(tuple(part.strip() for part in text.split(",") if part.strip()) for text in shared)
    faults = []
    if not 1 <= years <= YEARS_MAX:
        faults.append(Fault("--years", str(years), f"1 to {YEARS_MAX}", f"take {YEARS}"))
    if shared and not services:
        faults.append(Fault("--shared", ", ".join(shared), "only with --config", "name a config"))
    if evidence and not services:
        faults.append(Fault("--evidence", str(evidence), "only with --config", "name the config audited"))
    faults += [
        Fault("--shared", repr(text), "two names or more, with commas", "name who shares the node")
        for text, group in zip(shared, groups, strict=True)
        if len(group) < 2
    ]
    fixed = []
    for text in money[1]:
        name, _, amount = text.partition("=")
        try:
            fixed.append((name, float(amount)))
        except ValueError:
            faults.append(Fault("--fixed", repr(text), "NAME=AMOUNT", "such as cdn-a=12000"))
    if faults:
        raise ConfigError(tuple(faults))
    audited, unseen = _audited(evidence, services[0][0]) if evidence else ((), ())
    ways = setups(services[0] if services else None, groups, audited, unseen)
    shown = simulate_years(
        ways,
        years,
        options,
        Money(money[0], tuple(fixed)),
        lambda text: print(text, file=sys.stderr, flush=True),
    )
    if as_json:
        print(json.dumps(shown))
    else:
        console().print(years_table(shown))
    return 0


def _audited(evidence: Path, service: Any) -> tuple[tuple[Any, ...], tuple[str, ...]]:
    """The nodes that the service's providers share by an audit, and those of whom it knows nothing."""
    from polycdn.audit.evidence_file import read_evidence
    from polycdn.audit.findings import audit_of
    from polycdn.audit.grounds import grounds_of
    from polycdn.run.simulate_years_setup import SharedNode

    names = [provider.name for provider in service.providers]
    grounds = grounds_of(audit_of(read_evidence(evidence)), service.hostname, names)
    if set(grounds.unseen) == set(names):
        found = f"nothing of the providers of {service.hostname}"
        remedy = f"make it with polycdn audit --config FILE --save {evidence.name}"
        raise ConfigError((Fault(str(evidence), found, "the evidence of an audit of this config", remedy),))
    nodes = [
        SharedNode(ground.label, ground.members, ground.role or "cdn", f"audit, {evidence.name}", ground.ways)
        for ground in grounds.found
    ]
    return tuple(nodes), grounds.unseen


def years_table(shown: dict[str, Any]) -> Table:
    """A row a setup."""
    table = Table(title=f"{shown['years']:,} years, {shown['users']:,} users", title_justify="left")
    heads = (
        "carried by",
        "user-minutes lost a year",
        "95 % interval",
        "worst year",
        "outages drawn",
        "all down",
        "cost a year",
    )
    add_heads(table, heads)
    for row in shown["setups"]:
        low, mean, high = row["user_minutes_a_year"]
        cost = f"{row['cost_a_year']:,.0f}" if row["cost_a_year"] else "-"
        table.add_row(
            row["setup"], f"{mean:,}", f"{low:,} to {high:,}", f"{row['worst_year']:,}",
            f"{row['outages']:,}", f"{row['all_down_at_once']:,}", cost,
        )  # fmt: skip
    lines = [
        f"{each['kind']}: {each['outages']} outages of {each['companies']} companies in "
        f"{each['observed_years']} years, "
        f"{each['per_company_and_year'][1]} a year ({each['per_company_and_year'][0]} to "
        f"{each['per_company_and_year'][2]}), {each['minutes'][1]} min "
        f"({each['minutes'][0]} to {each['minutes'][2]})"
        for each in shown["frequencies"]
    ]
    table.caption = "\n".join(["estimates, from the recorded outages:", *lines, *shared_lines(shown)])
    table.caption_justify = "left"
    return table


def shared_lines(shown: dict[str, Any]) -> list[str]:
    """What the config's providers share, and who says so."""
    lines = []
    for row in shown["setups"]:
        for node in row["shared"]:
            if node["from"]:
                what = f"{node['node']} ({node['role']})" if node["role"] else node["node"]
                lines.append(f"{row['setup']}: {', '.join(node['providers'])} share {what}; {node['from']}")
                lines += [f"    {way}" for way in node["ways"]]
        if row["unseen"]:
            lines.append(f"{row['setup']}: the audit knows nothing of {', '.join(row['unseen'])}")
        if not row["vantages"]:
            lines.append(f"{row['setup']}: there is no vantage, so that nothing is seen and nobody moved")
    return ["shared nodes, and what else to know:", *lines] if lines else []
