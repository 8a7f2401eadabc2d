"""The command line: what goes wrong is told in one message, with the exit code that the docs promise."""

import subprocess
import sys

import pytest

from polycdn.cli.main import GROUPS, main


def polycdn(*words, cwd=None):
    """One run of the program: exit code, standard output, standard error."""
    command = [sys.executable, "-m", "polycdn", *words]
    run = subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=150)
    return run.returncode, run.stdout, run.stderr


@pytest.mark.parametrize(
    "words",
    [
        ["nope"],
        ["check", "--nope"],
        ["simulate"],
        ["rehearse", "2025-11-18-cloudflare", "--speed", "fast"],
        ["rehearse", "2025-11-18-cloudflare", "--speed", "0"],
        ["rehearse", "no-such-incident"],
        ["simulate", "all", "--users", "-1"],
        ["journal", "verify", "--nope"],
        ["edge", "--engine-config", "/nowhere.json"],
        ["vantage", "--spec", "/nowhere.json"],
        ["check", "-c", "/nowhere.toml"],
    ],
    ids=" ".join,
)
def test_a_mistake_is_exit_code_2_and_never_a_traceback(words, capsys):
    with pytest.raises(SystemExit) as stop:
        main(words)
    told = capsys.readouterr()
    assert stop.value.code == 2, told
    assert told.err.strip()
    assert "Traceback" not in told.err
    assert not told.out.strip()


@pytest.mark.lab
def test_help_lists_every_command_and_a_bare_call_shows_it(tmp_path):
    code, out, _ = polycdn("--help")
    assert code == 0
    for name in ("demo", "rehearse", "simulate", "up", "status", "explain", "force", "init", "check"):
        assert f" {name} " in out
    assert polycdn(cwd=tmp_path)[0] in (0, 2)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["stauts"], "polycdn: No such command 'stauts'. Did you mean 'status'? Try: polycdn --help\n"),
        (["journal", "verfy"], "Did you mean 'verify'? Try: polycdn journal --help\n"),
        (["journal"], "Usage: polycdn journal "),
    ],
)
def test_a_wrong_word_is_answered_with_the_help_that_has_the_right_one(words, said, capsys):
    with pytest.raises(SystemExit):
        main(words)
    err = capsys.readouterr().err
    assert said in err
    assert not err.startswith("polycdn journal: Usage")


def test_version_is_printed(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["version"])
    assert stop.value.code == 0
    assert capsys.readouterr().out.startswith("polycdn 0.")


def test_every_group_of_commands_registers_itself():
    from importlib import import_module

    assert all(callable(import_module(group).register) for group in GROUPS)
