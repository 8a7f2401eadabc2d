"""The result as a page of Markdown: the table of rows, then every target in every row."""

from collections.abc import Mapping

from figures import Measure, Rounds, best, faults, figures, middle, ratio
from rows import ABSOLUTE_AIMS, ROWS, Row, Unit

OURS, FLOORS = "polycdn", ("limit", "limit-copy")


def page(result: Mapping) -> str:
    """All of it."""
    shown, versions = result["machine"], result["versions"]
    lines = [
        "# Throughput",
        "",
        f"`{result['command']}`, {result['date'][:10]}, {result['wall_s']} s on {shown['cpu']} "
        f"({shown['cores']} cores), {shown['system']}, 1-minute load {shown['load_1m']} at the end. Median "
        f"of {result['rounds']} rounds of {result['seconds']} s, the least and the most in brackets. Less is "
        "better.",
        "",
        *_overview(result),
        "",
        "Aims missed: " + ("; ".join(result["missed"]) or "none") + ".",
        "",
        "| target | version | note |",
        "|---|---|---|",
        *(f"| {name} | {version} | {result['notes'].get(name, '')} |" for name, version in versions.items()),
    ]
    left_out = result["skipped"].get("all", {})
    lines += ["", *(f"{name} was left out: {why}." for name, why in left_out.items())] if left_out else []
    for row in ROWS:
        if row.name in result["measures"] or row.name in result["skipped"]:
            lines += ["", f"## {row.title}", "", *_whole_row(result, row)]
    return "\n".join(lines) + "\n"


def missed(result: Mapping) -> list[str]:
    """The aims that ours missed, and its wrong answers, as sentences."""
    found = []
    for row in ROWS:
        by = measures_of(result, row.name)
        ours = by.get(OURS)
        if why := result["skipped"].get(row.name, {}).get(OURS):
            found.append(f"{row.name}: {why}")
        if not ours:
            continue
        found += [f"{row.name}: {text}" for text in faults(ours)]
        peer, aim, mine = _best_peer(by), ABSOLUTE_AIMS.get(row.name), figures(ours)
        if aim and mine and mine.median > aim:
            found.append(f"{row.name}: {mine.median:.1f} {row.unit}, aim {aim:.0f}")
        against = ratio(ours, by[peer]) if peer and not aim else None
        if against and against.median > 1:
            found.append(f"{row.name}: {against.median:.2f} times {peer}, aim 1.00")
    return found


def measures_of(result: Mapping, row: str) -> dict[str, Rounds]:
    """Target -> its measures in a row, read back from the result."""
    return {
        name: [Measure(**{**one, "faults": tuple(one["faults"])}) for one in all_]
        for name, all_ in result["measures"].get(row, {}).items()
    }


def _best_peer(by: Mapping[str, Rounds]) -> str | None:
    return best({name: rounds for name, rounds in by.items() if name not in (OURS, *FLOORS)})


def _overview(result: Mapping) -> list[str]:
    lines = [
        "| row | best peer | its figure | polycdn | ratio | p99 ms, ours / that peer's | floor |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    for row in ROWS:
        by = measures_of(result, row.name)
        if not by:
            continue
        peer, ours = _best_peer(by), by.get(OURS, [])
        theirs: Rounds = by[peer] if peer else []
        against = ratio(ours, theirs) if ours and theirs else None
        tails = [_number(middle(rounds, "p99_ms")) for rounds in (ours, theirs)]
        floor = best({name: by[name] for name in FLOORS if name in by})
        lines.append(
            f"| {row.title} | {peer or '-'} | {_figure(row, theirs)} | {_figure(row, ours)} "
            f"| {_spread(against, 2)} | {' / '.join(tails)} | {_figure(row, by[floor]) if floor else '-'} |"
        )
    return lines


def _whole_row(result: Mapping, row: Row) -> list[str]:
    heads = [row.unit.value, "requests/s", "p50 ms", "p99 ms"]
    heads += ["origin fetches"] if row.unit is Unit.WORST else []
    lines = [f"| target | {' | '.join(heads)} | faults |", f"|---|{'---:|' * len(heads)}---|"]
    for name, rounds in measures_of(result, row.name).items():
        cells = [
            name,
            _figure(row, rounds, with_unit=False),
            *(_number(middle(rounds, field)) for field in ("rate", "p50_ms", "p99_ms")),
        ]
        if row.unit is Unit.WORST:
            cells.append(_number(middle(rounds, "extra")))
        lines.append("| " + " | ".join([*cells, "; ".join(faults(rounds))]) + " |")
    for name, why in result["skipped"].get(row.name, {}).items():
        lines.append(f"| {name} | left out: {why} |" + " |" * (lines[0].count("|") - 3))
    return lines


def _figure(row: Row, rounds: Rounds, with_unit: bool = True) -> str:
    found = figures(rounds)
    if not found:
        return "-"
    text = _spread(found, 3 if row.unit is Unit.BYTES else 1)
    if row.unit is Unit.RESIDENT:
        text = f"{found.median:.1f} / {_number(middle(rounds, 'extra'))}"
    if row.unit is Unit.WORST:
        text = f"{_number(middle(rounds, 'extra'))} fetches, {text}"
    return f"{text} {row.unit.split(' per ')[0].split()[0]}" if with_unit else text


def _spread(found, digits: int) -> str:
    if not found:
        return "-"
    return f"{found.median:.{digits}f} ({found.least:.{digits}f}-{found.most:.{digits}f})"


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.2f}"
