"""The rules of the house, read off the source: who imports whom, sizes, banned names, clocks and dice."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "polycdn"
FILES = sorted(SOURCE.rglob("*.py"))
RUST_FILES = sorted((ROOT / "rust" / "src").rglob("*.rs"))

EVERYONE = {"model", "errors"}
ROOMS = {
    "__main__": {"cli"},
    "errors": set(),
    "model": set(),
    "decide": set(),
    "config": set(),
    "measure": set(),
    "surface": set(),
    "vendor": set(),
    "journal": set(),
    "incidents": set(),
    "world": {"incidents"},
    "lab": {"incidents"},
    "client": set(),
    "fleet": set(),
    "audit": {"measure", "incidents"},
    "console": {"run", "audit", "journal", "config", "incidents"},
    "cli": {"run", "audit", "journal", "config", "incidents"},
    "run": {
        "decide", "config", "measure", "surface", "vendor", "journal", "incidents", "world", "lab",
        "client", "fleet", "audit",
    },
}  # fmt: skip
"""Room -> the other rooms that it may import, besides itself, model and errors."""

FUNCTION_LINES_MAX = 70
FILE_LINES_MAX = 450
BANNED_NAMES = {"manager", "helper", "helpers", "utils", "util", "common"}
CLOCK_FILE = SOURCE / "run" / "clock.py"
CLOCK_CALLS = {
    ("time", "time"), ("time", "time_ns"), ("time", "monotonic"), ("time", "monotonic_ns"),
    ("time", "perf_counter"), ("time", "perf_counter_ns"), ("datetime", "now"), ("datetime", "utcnow"),
    ("date", "today"), ("loop", "time"),
}  # fmt: skip


def room_of(path: Path) -> str:
    part = path.relative_to(SOURCE).parts[0]
    return part.removesuffix(".py")


def imports_of(tree: ast.AST) -> list[tuple[str, int]]:
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"relative import at line {node.lineno}"
            found += [(f"{node.module}.{alias.name}", node.lineno) for alias in node.names]
    return found


@pytest.fixture(params=FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def source(request):
    return request.param


def test_a_room_imports_only_the_rooms_that_it_may(source):
    room = room_of(source)
    if room in ("__init__",):
        return
    allowed = ROOMS[room] | EVERYONE | {room}
    for name, line in imports_of(ast.parse(source.read_text())):
        parts = name.split(".")
        if parts[0] == "polycdn" and len(parts) > 1 and parts[1] != "_native":
            assert parts[1] in allowed, f"{source}:{line}: {room} may not import {parts[1]}"


def test_only_run_engine_imports_the_native_half(source):
    if source == SOURCE / "run" / "engine.py":
        return
    for name, line in imports_of(ast.parse(source.read_text())):
        assert not name.startswith("polycdn._native"), f"{source}:{line}: imports the native half"


def test_only_the_clock_file_reads_a_clock(source):
    if source == CLOCK_FILE:
        return
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.Attribute):
            owner = node.value
            name = owner.id if isinstance(owner, ast.Name) else getattr(owner, "attr", "")
            assert (name, node.attr) not in CLOCK_CALLS, f"{source}:{node.lineno}: reads a real clock"


def test_nothing_but_the_world_draws_numbers(source):
    if room_of(source) == "world":
        return
    for name, line in imports_of(ast.parse(source.read_text())):
        assert name.split(".")[0] != "random", f"{source}:{line}: draws numbers"


def test_model_and_decide_are_pure(source):
    if room_of(source) not in ("model", "decide"):
        return
    banned = {"os", "io", "socket", "asyncio", "logging", "time", "datetime", "subprocess", "pathlib", "sys"}
    tree = ast.parse(source.read_text())
    for name, line in imports_of(tree):
        assert name.split(".")[0] not in banned, f"{source}:{line}: {name} is not pure"
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in ("open", "print", "input"), f"{source}:{node.lineno}: does I/O"


def test_model_holds_no_floats(source):
    if room_of(source) != "model":
        return
    for node in ast.walk(ast.parse(source.read_text())):
        assert not (isinstance(node, ast.Constant) and isinstance(node.value, float)), (
            f"{source}:{node.lineno}: a float"
        )
        assert not (isinstance(node, ast.Name) and node.id == "float"), f"{source}:{node.lineno}: a float"


def test_functions_and_files_stay_small(source):
    text = source.read_text()
    lines = text.count("\n") + 1
    assert lines <= FILE_LINES_MAX, f"{source}: {lines} lines, limit {FILE_LINES_MAX}"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            assert length <= FUNCTION_LINES_MAX, (
                f"{source}:{node.lineno}: {node.name} has {length} lines, limit {FUNCTION_LINES_MAX}"
            )


def test_banned_names_stay_out(source):
    words = set(source.stem.lower().split("_"))
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            words |= set(node.name.lower().split("_")) | {node.name.lower()}
    assert not any(word.endswith("manager") for word in words), f"{source}: a manager"
    assert not words & BANNED_NAMES, f"{source}: {words & BANNED_NAMES}"


def test_only_the_loop_catches_everything(source):
    if source == SOURCE / "run" / "loop.py":
        return
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.ExceptHandler):
            caught = node.type
            is_all = caught is None or (
                isinstance(caught, ast.Name) and caught.id in ("Exception", "BaseException")
            )
            assert not is_all, f"{source}:{node.lineno}: catches everything"


def test_every_public_definition_has_a_docstring(source):
    if room_of(source) == "cli":
        return
    tree = ast.parse(source.read_text())
    assert ast.get_docstring(tree), f"{source}: no module docstring"
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{source}:{node.lineno}: {node.name} has no docstring"


@pytest.mark.parametrize("path", RUST_FILES, ids=lambda path: str(path.relative_to(ROOT / "rust")))
def test_rust_keeps_its_clock_and_its_seam(path):
    text = path.read_text()
    if path.name != "py.rs":
        assert "pyo3" not in text, f"{path}: only py.rs knows PyO3"
    if path.name != "clock.rs":
        assert "SystemTime::now" not in text, f"{path}: only clock.rs reads the time"
        assert "Instant::now" not in text, f"{path}: only clock.rs reads the time"


def test_no_file_names_a_package_registry():
    hosts = ["py" + "pi.org", "files.python" + "hosted", "index.cra" + "tes.io", "registry.npm" + "js"]
    for path in ROOT.rglob("*"):
        if not path.is_file() or {".git", ".venv", "target"} & set(path.parts):
            continue
        if path.suffix in (".so", ".pyc", ".gz") or "cache" in str(path):
            continue
        text = path.read_text(errors="replace")
        assert not any(host in text for host in hosts), f"{path} names a registry"
