"""What a request costs: server CPU of our edge, of the servers that people use now, and of the floor.

    python bench/throughput/run.py [--targets polycdn,nginx] [--rows hit_1k,range] [--rounds 7] [--seconds 1]

All servers run at once on one CPU, the load comes from the other, and each round of a row goes once round
all of them. A whole run writes bench/results/throughput.json and .md; a run of some rows or targets only
prints, unless --out names a folder. Exit 1 when an answer of ours was wrong or an aim is missed, 3 when it
cannot run here.
"""

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from machine import machine
from throughput import peers, rows
from throughput.load import Client
from throughput.page import missed, page
from throughput.rounds import Bench, Found, Server, go_round, say
from throughput.scene import NoCompiler, prepared
from throughput.serving import StartError, favoured, running

RESULTS = Path(__file__).parent.parent / "results"
MEMORY = Path("/dev/shm")
"""Where objects and caches in files lie, so that no disk is measured."""


def main() -> int:
    asked = arguments()
    began, date = time.monotonic(), datetime.now(UTC)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    try:
        with ExitStack() as stack:
            stack.enter_context(favoured(asked.nice))
            found, versions = rounds_of(asked, stack)
    except NoCompiler as error:
        print(f"throughput: {error}", file=sys.stderr)
        return 3
    result = {
        "command": " ".join(["python", "bench/throughput/run.py", *sys.argv[1:]]),
        "date": date.isoformat(timespec="seconds"),
        "machine": machine(),
        "rounds": asked.rounds,
        "seconds": asked.seconds,
        "wall_s": round(time.monotonic() - began, 1),
        "versions": versions,
        "notes": {target.name: target.note for target in asked.targets if target.name in versions},
        "skipped": found.skipped,
        "measures": {
            row: {name: [one.stored() for one in all_] for name, all_ in by_target.items()}
            for row, by_target in found.measures.items()
        },
    }
    result["missed"] = missed(result)
    if asked.out:
        asked.out.mkdir(parents=True, exist_ok=True)
        (asked.out / "throughput.json").write_text(as_text(result))
        (asked.out / "throughput.md").write_text(page(result))
    print(page(result))
    return 1 if result["missed"] else 0


def as_text(result: dict[str, Any]) -> str:
    """The result as JSON, a line for each target of each row."""
    short = {name: value for name, value in result.items() if name != "measures"}
    rows_ = [
        f"  {json.dumps(row)}: {{\n"
        + ",\n".join(f"   {json.dumps(name)}: {json.dumps(all_)}" for name, all_ in by_target.items())
        + "\n  }"
        for row, by_target in result["measures"].items()
    ]
    return json.dumps(short, indent=1)[:-2] + ',\n "measures": {\n' + ",\n".join(rows_) + "\n }\n}\n"


def stop(number: int, _frame: object) -> None:
    """Ends the run, and with it all that it has started; a second signal does not disturb that."""
    for one in (signal.SIGINT, signal.SIGTERM):
        signal.signal(one, signal.SIG_IGN)
    say("stopping, and all that was started")
    sys.exit(128 + number)


def rounds_of(asked: argparse.Namespace, stack: ExitStack) -> tuple[Found, dict[str, str]]:
    """Everything that was found, and the version of each target that ran. Servers end with the stack."""
    folder = tempfile.TemporaryDirectory(prefix="throughput-", dir=MEMORY if MEMORY.is_dir() else None)
    scene = prepared(Path(stack.enter_context(folder)))
    os.sched_setaffinity(0, {asked.load_cpu})
    bench = Bench(
        scene,
        Client(scene.programs, scene.files, asked.seconds, scene.folder / "h2load.log"),
        asked.server_cpu,
    )
    found, servers = Found(), []
    for target in asked.targets:
        paths = target.found()
        if isinstance(paths, str):
            found.skip("all", target.name, paths)
            continue
        origin = stack.enter_context(scene.origin(target.name, asked.load_cpu))
        site = scene.site(target.name, origin.port)
        try:
            one = stack.enter_context(running(site, target.setup(site, paths), asked.server_cpu))
        except (StartError, OSError) as error:
            found.skip("all", target.name, str(error))
            continue
        say(f"{target.name} runs ({target.told_version(paths) or 'no version'})")
        servers.append(Server(target, paths, origin, one, one.resident_kib() / 1024))
    for row in asked.rows:
        go_round(bench, row, servers, asked.rounds, found)
    return found, {server.target.name: server.target.told_version(server.paths) for server in servers}


def arguments() -> argparse.Namespace:
    """What was asked for, checked; ends with code 2 and one sentence otherwise."""
    cpus = sorted(os.sched_getaffinity(0))
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--targets", default="", help=f"of {', '.join(target.name for target in peers.TARGETS)}; all without")
    add("--rows", default="", help=f"of {', '.join(row.name for row in rows.ROWS)}; all without")
    add("--rounds", type=int, default=7)
    add("--seconds", type=int, default=1, help="of each burst")
    add("--quick", action="store_true", help="one round of one second")
    add("--polycdn", metavar="PATH", help="another polycdn than the one installed with this Python")
    add("--before", metavar="PATH", help="an older polycdn, measured beside it as the target `before`")
    add("--out", type=Path, metavar="FOLDER", help="where throughput.json and throughput.md go")
    add("--nice", type=int, default=0, help="nice value of servers and load; below 0 needs root")
    add("--server-cpu", type=int, default=cpus[0], help=f"of {cpus}; {cpus[0]} without")
    add("--load-cpu", type=int, default=cpus[-1], help=f"of {cpus}; {cpus[-1]} without")
    asked = parser.parse_args()
    is_whole = not (asked.targets or asked.rows or asked.quick or asked.polycdn or asked.before)
    os.environ["BENCH_POLYCDN"] = asked.polycdn or peers.beside_python("polycdn")
    if asked.before:
        os.environ["BENCH_BEFORE"] = asked.before
        asked.targets = f"{asked.targets},before" if asked.targets else ""
    try:
        asked.rows, asked.targets = rows.chosen(asked.rows), peers.chosen(asked.targets)
    except ValueError as error:
        parser.error(str(error))
    if asked.quick:
        asked.rounds = asked.seconds = 1
    if asked.rounds < 1 or asked.seconds < 1:
        parser.error(f"--rounds {asked.rounds} --seconds {asked.seconds}: each has to be 1 or more")
    for path in filter(None, (asked.polycdn, asked.before)):
        if not shutil.which(path):
            parser.error(f"{path}: no program that can be run; give the path of a polycdn")
    if asked.nice < 0 and os.geteuid():
        parser.error(f"--nice {asked.nice}: values below 0 need root; leave it out")
    if not {asked.server_cpu, asked.load_cpu} <= set(cpus):
        parser.error(f"--server-cpu {asked.server_cpu} --load-cpu {asked.load_cpu}: allowed here are {cpus}")
    asked.out = asked.out or (RESULTS if is_whole else None)
    return asked


if __name__ == "__main__":
    sys.exit(main())
