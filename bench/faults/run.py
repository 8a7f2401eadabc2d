"""Faults x workloads through our edge and its peers: what a user sees while one upstream of two is sick.

    python bench/faults/run.py [--quick] [--faults A,B] [--workloads A,B] [--targets A,B]
                               [--cache on|off|both] [--seconds N] [--seed N] [--jobs N] [--json FILE]
                               [-- MORE WORDS FOR polycdn edge]

Each run sends all workloads at once through one proxy; the first upstream has the fault from the first to
the last quarter of it. Writes bench/results/faults.json and .md, unless only a part was asked for. Exit 1
when polycdn fails a request in a cell in which one healthy upstream remains, or carries a write out twice.
"""

import argparse
import json
import multiprocessing
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from cases import FAULTS, TLS_FAULTS
from machine import machine
from measure import Case, measure
from render import missed, rendered
from targets import TARGETS, installed
from workloads import WORKLOADS

RESULTS = Path(__file__).parent.parent / "results"
QUICK_FAULTS = (
    "none",
    "refuse",
    "http-5xx",
    "die-mid-body",
    "truncate",
    "corrupt",
    "error-page",
    "both-down",
)


def main() -> int:
    asked = arguments()
    began = time.monotonic()
    cases = cases_of(asked)
    runs: list[dict] = []
    with ProcessPoolExecutor(asked.jobs, multiprocessing.get_context("spawn")) as pool:
        for run in pool.map(measure, cases):
            runs.append(run)
            failed = sum(cell["failed"] for cell in run["cells"].values())
            place = f"{len(runs)}/{len(cases)} {run['target']} {run['fault']}"
            print(f"{place}: {failed} failed", file=sys.stderr)
            # What is measured is kept, however the rest of a long run ends.
            result = result_of(asked, runs, round(time.monotonic() - began))
            write(asked.json, result)
    print(rendered(result))
    return 1 if result["missed"] else 0


def result_of(asked: argparse.Namespace, runs: list[dict], took_s: int) -> dict:
    """The runs so far, with where, when and how they were made."""
    result = {
        "what": "requests that failed while one upstream of two was sick",
        "command": " ".join(["python bench/faults/run.py", *sys.argv[1:]]),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "targets": asked.versions,
        "seconds": asked.seconds,
        "seed": asked.seed,
        "took_s": took_s,
        "runs": runs,
    }
    return result | {"missed": missed(result)}


def write(file: Path | None, result: dict) -> None:
    """The result, and the tables beside it."""
    if file is not None:
        file.write_text(json.dumps(result, indent=1) + "\n")
        file.with_suffix(".md").write_text(rendered(result))


def arguments() -> argparse.Namespace:
    """What was asked for, checked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--faults", type=_names(FAULTS))
    parser.add_argument("--workloads", type=_names(WORKLOADS), default=list(WORKLOADS))
    parser.add_argument("--targets", type=_names(TARGETS))
    parser.add_argument("--cache", choices=("on", "off", "both"), default="both")
    parser.add_argument("--seconds", type=int, default=8)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2, help="runs at the same time")
    parser.add_argument("--json", type=Path, help="result file, and a table beside it")
    parser.add_argument("--quick", action="store_true", help="polycdn alone, few faults, short")
    parser.add_argument("words", nargs="*", help="more words for polycdn edge, after --")
    asked = parser.parse_args()
    is_whole = not (asked.quick or asked.faults or asked.targets)
    if is_whole and not asked.json:
        asked.json = RESULTS / "faults.json"
    if asked.quick:
        asked.seconds, asked.cache, asked.jobs = 4, "off", 5
    asked.faults = asked.faults or list(QUICK_FAULTS if asked.quick else FAULTS)
    asked.targets = asked.targets or (["polycdn"] if asked.quick else list(installed()))
    asked.versions = {name: TARGETS[name].version() for name in asked.targets if TARGETS[name].found()}
    absent = [name for name in asked.targets if not TARGETS[name].found()]
    if absent:
        parser.error(
            f"not installed: {', '.join(absent)}; see `make peers`, or set BENCH_{absent[0].upper()}_BIN"
        )
    return asked


def cases_of(asked: argparse.Namespace) -> list[Case]:
    """All runs; those of one fault beside each other, so that all targets have the same neighbours."""
    caches = {"on": [True], "off": [False], "both": [False, True]}[asked.cache]
    workloads = tuple(asked.workloads)
    words = tuple(asked.words)
    return [
        Case(
            name,
            fault,
            is_caching,
            workloads,
            asked.seconds * 1_000,
            asked.seed,
            words if name == "polycdn" else (),
        )
        for is_caching in caches
        for fault in asked.faults
        for name in asked.targets
        if TARGETS[name].can_cache or not is_caching
        if TARGETS[name].speaks_tls_upstream or fault not in TLS_FAULTS
    ]


def _names(known: dict):  # type: ignore[type-arg]
    def read(text: str) -> list[str]:
        names = text.split(",")
        unknown = [name for name in names if name not in known]
        if unknown:
            raise argparse.ArgumentTypeError(f"{unknown[0]!r} is none of {', '.join(known)}")
        return names

    return read


if __name__ == "__main__":
    sys.exit(main())
