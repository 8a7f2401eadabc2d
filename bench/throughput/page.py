"""The result as a page of Markdown: the table of rows, then every target in every row."""

from collections.abc import Mapping
from typing import Any

from throughput.figures import Measure, Rounds, Spread, best, faults, over, ratio
from throughput.rows import ABSOLUTE_AIMS, ROWS, Row, Unit

OURS, FLOORS = "polycdn", ("limit", "limit-copy")
NO_PEERS = (OURS, "before", *FLOORS)
SHORT = {
    Unit.REQUEST: "us",
    Unit.BYTES: "s/GiB",
    Unit.WORST: "ms",
    Unit.RESIDENT: "MiB",
    Unit.START: "ms",
}


def page(result: Mapping[str, Any]) -> str:
    """All of it."""
    shown, versions = result["machine"], result["versions"]
    lines = [
        "# Throughput",
        "",
        f"`{result['command']}`, {result['date'][:10]}, {result['wall_s']} s on {shown['cpu']} "
        f"({shown['cores']} cores), {shown['system']}, 1-minute load {shown['load_1m']} at the end. Median "
        f"of {result['rounds']} rounds of {result['seconds']} s, the least and the most in brackets; a ratio "
        "is made within a round. Less is better.",
        "",
        *_overview(result),
        "",
        "Aims missed: " + ("; ".join(result["missed"]) or "none") + ".",
        "",
        "| target | version | note |",
        "|---|---|---|",
        *(f"| {name} | {version} | {result['notes'].get(name, '')} |" for name, version in versions.items()),
        *(f"| {name} | - | left out: {why} |" for name, why in result["skipped"].get("all", {}).items()),
    ]
    for row in ROWS:
        if row.name in result["measures"] or row.name in result["skipped"]:
            lines += ["", f"## {row.title}", "", *_whole_row(result, row)]
    return "\n".join(lines) + "\n"


def missed(result: Mapping[str, Any]) -> list[str]:
    """The aims that ours missed, and its wrong answers, as sentences."""
    found = [f"polycdn: {why}" for name, why in result["skipped"].get("all", {}).items() if name == OURS]
    for row in ROWS:
        by_target = measures_of(result, row.name)
        if why := result["skipped"].get(row.name, {}).get(OURS):
            found.append(f"{row.name}: {why}")
        if ours := by_target.get(OURS):
            found += [f"{row.name}: {text}" for text in faults(ours)]
            found += (
                _missed_absolute(row, ours) if row.name in ABSOLUTE_AIMS else _missed_ratios(row, by_target)
            )
    return found


def measures_of(result: Mapping[str, Any], row: str) -> dict[str, Rounds]:
    """Target -> its measures in a row, read back from the result."""
    return {
        name: [Measure.of(one) for one in rounds] for name, rounds in result["measures"].get(row, {}).items()
    }


def _missed_absolute(row: Row, ours: Rounds) -> list[str]:
    mine, aim = over(ours), ABSOLUTE_AIMS[row.name]
    if not mine or mine.median <= aim:
        return []
    return [f"{row.name}: {mine.median:.1f} {SHORT[row.unit]}, aim {aim:.0f}"]


def _missed_ratios(row: Row, by_target: Mapping[str, Rounds]) -> list[str]:
    peer = _best_peer(by_target)
    if not peer:
        return []
    found = []
    for name, words in (("figure", ""), ("p99_ms", "p99 ")):
        against = ratio(by_target[OURS], by_target[peer], name)
        is_same = row.unit is Unit.WORST and name == "p99_ms"
        if against and against.median > 1 and not is_same:
            found.append(f"{row.name}: {words}{against.median:.2f} times {peer}'s")
    return found


def _best_peer(by_target: Mapping[str, Rounds]) -> str | None:
    return best({name: rounds for name, rounds in by_target.items() if name not in NO_PEERS})


def _overview(result: Mapping[str, Any]) -> list[str]:
    lines = [
        "| row | best peer | its figure | polycdn | ratio | p99 ms: polycdn, that peer | floor |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    for row in ROWS:
        if by_target := measures_of(result, row.name):
            peer, floor = _best_peer(by_target), best({n: by_target[n] for n in FLOORS if n in by_target})
            ours, theirs = by_target.get(OURS, []), by_target[peer] if peer else []
            cells = [
                row.title,
                peer or "-",
                _figure(row, theirs, SHORT[row.unit]),
                _figure(row, ours, SHORT[row.unit]),
                _spread(ratio(ours, theirs) if ours and theirs else None, 2),
                f"{_number(over(ours, 'p99_ms'))}, {_number(over(theirs, 'p99_ms'))}",
                _figure(row, by_target[floor] if floor else [], SHORT[row.unit]),
            ]
            lines.append(f"| {' | '.join(cells)} |")
    return lines


def _whole_row(result: Mapping[str, Any], row: Row) -> list[str]:
    heads = [row.unit.value, "requests/s", "p50 ms", "p99 ms"]
    lines = [f"| target | {' | '.join(heads)} | faults |", f"|---|{'---:|' * len(heads)}---|"]
    for name, rounds in measures_of(result, row.name).items():
        cells = [_figure(row, rounds), *(_number(over(rounds, one)) for one in ("rate", "p50_ms", "p99_ms"))]
        lines.append(f"| {name} | {' | '.join(cells)} | {'; '.join(faults(rounds))} |")
    for name, why in result["skipped"].get(row.name, {}).items():
        lines.append(f"| {name} |{' |' * len(heads)} left out: {why} |")
    return lines


def _figure(row: Row, rounds: Rounds, unit: str = "") -> str:
    """Median and spread; a storm's with the origin's fetches, memory's beside that with the test set."""
    found = over(rounds)
    if not found:
        return "-"
    text, extra = _spread(found, 3 if row.unit is Unit.BYTES else 1), over(rounds, "extra")
    if row.unit is Unit.RESIDENT and extra:
        text = f"{found.median:.1f} / {extra.median:.1f}"
    text = f"{text} {unit}".strip()
    if row.unit is Unit.WORST and extra:
        text += f", {extra.median:.0f} fetch{'es' if extra.median > 1 else ''}"
    return text


def _spread(found: Spread | None, digits: int) -> str:
    if not found:
        return "-"
    brackets = f" ({found.least:.{digits}f}-{found.most:.{digits}f})" if found.count > 1 else ""
    return f"{found.median:.{digits}f}{brackets}"


def _number(found: Spread | None) -> str:
    if not found:
        return "-"
    return f"{found.median:,.0f}" if found.median >= 100 else f"{found.median:.2f}"
