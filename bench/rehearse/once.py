"""One rehearsal as a process of its own, and where results go."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

RESULTS = Path(__file__).parent.parent / "results"


def timed_run(incident: str, *words: str, check: bool = False) -> dict:
    """What `polycdn rehearse` says of the incident as JSON, with how long that took and its exit code."""
    start = time.monotonic()
    command = [sys.executable, "-m", "polycdn", "rehearse", incident, *words, "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=check)
    wall_s = round(time.monotonic() - start, 1)
    return json.loads(done.stdout) | {"exit_code": done.returncode, "wall_s": wall_s}


def save(name: str, result: dict, table: Callable[[dict], str]) -> int:
    """Writes and prints the result; gives the exit code."""
    (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n")
    (RESULTS / f"{name}.md").write_text(table(result))
    print(table(result))
    return 1 if result["missed"] else 0
