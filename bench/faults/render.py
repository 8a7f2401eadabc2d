"""The result of a run of faults as Markdown, and the aims that it missed."""

from cases import FAULTS, why_apart
from machine import made_by
from measure import LAG_MS_MAX

MODES = {False: "off", True: "on"}


def missed(result: dict) -> list[str]:
    """Aims of polycdn that were missed, as sentences."""
    found = []
    for run in result["runs"]:
        if run["target"] != "polycdn":
            continue
        where = f"{run['fault']}, cache {MODES[run['is_caching']]}"
        for workload, cell in run["cells"].items():
            if cell["failed"] and why_apart(run["fault"], workload) is None:
                found.append(
                    f"{where}: {cell['failed']} of {cell['attempted']} {workload} failed ({_kinds(cell)})"
                )
            elif cell["twice"]:
                found.append(f"{where}: {cell['twice']} {workload} carried out twice")
            elif run["fault"] == "both-down" and cell["kinds"].get("wrong"):
                found.append(f"{where}: {cell['kinds']['wrong']} {workload} with wrong bytes")
    return found


def rendered(result: dict) -> str:
    """All tables."""
    shown = result["machine"]
    versions = ", ".join(f"{name} ({text})" for name, text in result["targets"].items())
    lines = [
        "# Faults: what users see while one upstream of two is sick",
        "",
        f"{made_by(result)}, "
        f"Python {shown['python']}, 1-minute load {shown['load_1m']} at the end, {result['took_s']} s. "
        f"Targets: {versions}.",
        "",
        f"Runs of {result['seconds']} s; the fault lasts from the first to the last quarter. Shown: failed / "
        "attempted, and the longest that any request took. Clients never retry.",
        *_disturbed(result["runs"]),
    ]
    for is_caching, mode in MODES.items():
        runs = [run for run in result["runs"] if run["is_caching"] is is_caching]
        if runs:
            lines += ["", f"## Cache {mode}", "", *_summary(runs, list(result["targets"])), "", *_apart(runs)]
    for name in result["targets"]:
        for is_caching, mode in MODES.items():
            runs = [run for run in result["runs"] if (run["target"], run["is_caching"]) == (name, is_caching)]
            if runs:
                lines += ["", f"## {name}, cache {mode}, by workload", "", *_by_workload(runs)]
    aims = result["missed"]
    lines += ["", "## Aims missed by polycdn", "", *(f"- {aim}" for aim in aims)] if aims else []
    return "\n".join([*lines, ""])


def _disturbed(runs: list[dict]) -> list[str]:
    """A sentence on runs in which the machine was busy with something else."""
    late = [run["lag_ms"] for run in runs if run["lag_ms"] > LAG_MS_MAX]
    if not late:
        return []
    return [
        f"{len(late)} of {len(runs)} runs are suspect: the measuring process itself waited for its turn, "
        f"up to {max(late)} ms."
    ]


def _summary(runs: list[dict], targets: list[str]) -> list[str]:
    """Cells in which a healthy upstream remains and nothing forbids to go to it."""
    lines = [
        "One healthy upstream remains:",
        "",
        f"| fault | {' | '.join(targets)} |",
        f"|---|{'---:|' * len(targets)}",
    ]
    lines += _rows(runs, targets, lambda fault, workload: why_apart(fault, workload) is None)
    return lines


def _apart(runs: list[dict]) -> list[str]:
    """Cells in which no answer without a failure can be promised."""
    targets = sorted({run["target"] for run in runs}, key=[run["target"] for run in runs].index)
    lines = [
        "Shown apart, as nobody can promise an answer there; the aim is never twice, and never wrong bytes "
        "when both are down:",
        "",
    ]
    lines += [f"| fault | {' | '.join(targets)} |", f"|---|{'---:|' * len(targets)}"]
    return lines + _rows(runs, targets, lambda fault, workload: why_apart(fault, workload) is not None)


def _rows(runs: list[dict], targets: list[str], is_in) -> list[str]:  # type: ignore[no-untyped-def]
    by_place = {(run["fault"], run["target"]): run for run in runs}
    lines = []
    for fault in FAULTS:
        shown = []
        for target in targets:
            run = by_place.get((fault, target))
            cells = [cell for name, cell in run["cells"].items() if is_in(fault, name)] if run else []
            shown.append(_sum(cells) if cells else "-")
        if set(shown) != {"-"}:
            lines.append(f"| {fault} | {' | '.join(shown)} |")
    return lines


def _sum(cells: list[dict]) -> str:
    failed, attempted = sum(cell["failed"] for cell in cells), sum(cell["attempted"] for cell in cells)
    worst_ms, twice = max(cell["worst_ms"] for cell in cells), sum(cell["twice"] for cell in cells)
    return f"{failed} / {attempted}, {worst_ms} ms" + (f", **{twice} twice**" if twice else "")


def _by_workload(runs: list[dict]) -> list[str]:
    workloads = list(runs[0]["cells"])
    lines = [f"| fault | {' | '.join(workloads)} |", f"|---|{'---:|' * len(workloads)}"]
    for run in runs:
        cells = [_cell(run["fault"], name, run["cells"][name]) for name in workloads]
        lines.append(f"| {run['fault']} | {' | '.join(cells)} |")
    return lines


def _cell(fault: str, workload: str, cell: dict) -> str:
    mark = "°" if why_apart(fault, workload) else ""
    kinds = f" ({_kinds(cell)})" if cell["failed"] else ""
    return f"{cell['failed']} / {cell['attempted']}{mark}{kinds}, {cell['worst_ms']} ms"


def _kinds(cell: dict) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in sorted(cell["kinds"].items()))
