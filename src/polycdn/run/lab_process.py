"""One process of the lab: `python -m polycdn.run.lab_process KIND SPEC.json`."""

import sys
from pathlib import Path

from polycdn.errors import PolycdnError
from polycdn.lab.process import main as run_process
from polycdn.run.clock import Wall, clock_from_spec


def main(arguments: list[str]) -> int:
    """Exit code of the process; 2 and a sentence on stderr when it was told wrongly."""
    if len(arguments) != 2:
        print("usage: python -m polycdn.run.lab_process KIND SPEC.json", file=sys.stderr)
        return 2
    try:
        return run_process(arguments[0], Path(arguments[1]), clock_from_spec, Wall())
    except PolycdnError as error:
        print(error, file=sys.stderr)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
