"""The docs are true: links lead somewhere, commands and options exist, Python blocks run."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from polycdn.cli.main import LEAN, typer_app

ROOT = Path(__file__).parent.parent
PAGES = sorted(
    path
    for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("bench/**/*.md")]
    if ".venv" not in path.parts
)
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.M | re.S)


def commands() -> dict[str, set[str]]:
    """Command -> its options, those of its sub-commands among them."""
    group = typer.main.get_command(typer_app())
    found = {name: set() for name in LEAN} | {"version": set()}
    for name, command in group.commands.items():
        options = {opt for param in command.params for opt in (*param.opts, *param.secondary_opts)}
        for sub in getattr(command, "commands", {}).values():
            options |= {opt for param in sub.params for opt in (*param.opts, *param.secondary_opts)}
        found[name] = options
    return found


@pytest.fixture(params=PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def page(request):
    return request.param


def test_links_lead_to_files(page):
    for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", FENCE.sub("", page.read_text())):
        if not re.match(r"[a-z]+:", target):
            assert (page.parent / target).exists(), f"{page}: {target} does not exist"


def test_commands_in_shell_blocks_exist(page):
    known = commands()
    for language, body in FENCE.findall(page.read_text()):
        if language not in ("sh", "console", "bash", ""):
            continue
        for line in body.splitlines():
            words = line.removeprefix("$ ").split("#")[0].split()
            if len(words) < 2 or words[0] != "polycdn" or not words[1].isidentifier():
                continue
            assert words[1] in known, f"{page}: no command `polycdn {words[1]}`"
            options = known[words[1]] | {"--help"}
            for word in words[2:]:
                option = word.split("=")[0]
                if option.startswith("--") and words[1] not in LEAN:
                    assert option in options, f"{page}: polycdn {words[1]} has no option {option}"


def test_make_targets_in_the_docs_exist(page):
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    for name in re.findall(r"`make ([a-z-]+)`", page.read_text()):
        assert name in targets, f"{page}: no target `make {name}`"


def test_python_blocks_run(page):
    for language, body in FENCE.findall(page.read_text()):
        if language == "python":
            run = subprocess.run([sys.executable, "-W", "error", "-c", body], capture_output=True, text=True)
            assert run.returncode == 0, f"{page}:\n{body}\n{run.stderr}"
