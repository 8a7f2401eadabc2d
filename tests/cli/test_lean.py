"""What the commands load that must start fast: by what is in `sys.modules` when the engine begins."""

import subprocess
import sys

import pytest

HEAVY = {
    "pydantic", "rich", "pycurl", "starlette", "typer", "click", "uvicorn", "httpx", "dns", "cryptography",
    "asyncio", "logging", "pathlib", "dataclasses", "tomllib", "typing_extensions", "socket", "ssl",
    "importlib.metadata", "polycdn.config", "polycdn.model", "polycdn.surface", "polycdn.decide",
}  # fmt: skip

PROGRAM = """
import sys, types
fake = types.ModuleType("polycdn._native")
fake.run_edge = fake.run_dns = lambda config: print(*sorted(sys.modules), sep="\\n") or 0
sys.modules["polycdn._native"] = fake
import polycdn
polycdn._native = fake
from polycdn.cli.main import main
main(sys.argv[1:])
"""


def loaded_by(*words: str) -> set[str]:
    command = [sys.executable, "-S", "-c", f"import sys; sys.path[:0] = {sys.path!r}\n{PROGRAM}", *words]
    run = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    return set(run.stdout.split())


@pytest.mark.timeout(30)
def test_an_edge_loads_nothing_that_it_does_not_use() -> None:
    words = (
        "--origin",
        "http://a.test",
        "--listen",
        "127.0.0.1:0",
        "--admin",
        "127.0.0.1:0",
        "--workers",
        "1",
    )
    loaded = loaded_by("edge", *words)
    assert "polycdn.run.engine" in loaded
    assert loaded & HEAVY <= {"socket"}, loaded & HEAVY
