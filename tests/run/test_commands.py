"""The operator's commands as typed: exit codes, one clear sentence, and the JSON of docs/operate.md."""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from stage import loaded, running
from test_replay import journal_of

from polycdn.cli.main import main
from polycdn.run.up import Up

COMMAND = (sys.executable, "-c", "from polycdn.cli.main import main; main()")


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of one command."""
    with pytest.raises(SystemExit) as ended:
        main(words)
    found = capsys.readouterr()
    return int(ended.value.code or 0), found.out, found.err


def test_verify_of_a_whole_journal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "journal", "verify", str(journal_of(tmp_path)))
    assert (code, "whole" in out) == (0, True)
    code, out, _ = run(capsys, "journal", "verify", str(tmp_path), "--json")
    shown = json.loads(out)
    assert shown["is_whole"]
    assert set(shown) == {
        "journal", "is_whole", "files", "records", "first_seq", "last_seq", "last_hash", "torn", "broken"
    }  # fmt: skip


def test_verify_of_a_broken_journal_names_file_and_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (segment,) = journal_of(tmp_path).glob("journal-*.jsonl")
    lines = segment.read_bytes().splitlines(keepends=True)
    segment.write_bytes(b"".join([*lines[:6], *lines[7:]]))
    code, out, _ = run(capsys, "journal", "verify", str(segment))
    assert code == 1
    assert f"{segment}:7: record 7 should be here, found 8" in out
    assert json.loads(run(capsys, "journal", "verify", str(tmp_path), "--json")[1])["broken"]


def test_verify_of_a_torn_journal_is_no_problem(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (segment,) = journal_of(tmp_path).glob("journal-*.jsonl")
    segment.write_bytes(segment.read_bytes()[:-5])
    code, out, _ = run(capsys, "journal", "verify", str(tmp_path))
    assert (code, "torn" in out) == (0, True)


def test_verify_without_a_journal_cannot_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "journal", "verify", str(tmp_path))
    assert (code, out) == (3, "")
    assert "no journal here" in err


def test_replay_says_whether_all_is_as_recorded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "replay", str(journal_of(tmp_path)))
    assert (code, "every one as recorded" in out) == (0, True)
    shown = json.loads(run(capsys, "replay", str(tmp_path), "--json")[1])
    assert set(shown) == {"journal", "is_equal", "decisions", "first_difference"}


CONFIG = """
[[provider]]
name = "a"
kind = "cdn"
addresses = ["192.0.2.1"]
[[provider]]
name = "b"
kind = "cdn"
addresses = ["192.0.2.2"]
[[service]]
name = "www"
hostname = "www.example.org"
providers = ["a", "b"]
[[vantage]]
name = "v0"
[policy]
false_alarm = "3650d"
"""


def test_replay_with_another_policy_shows_both_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "polycdn.toml").write_text(CONFIG)
    words = ("replay", str(journal_of(tmp_path / "journal")), "--policy", str(tmp_path / "polycdn.toml"))
    code, out, _ = run(capsys, *words)
    assert (code, "with the other policy" in out) == (0, True)
    shown = json.loads(run(capsys, *words, "--json")[1])
    assert shown["recorded"][0]["regions"][0]["shares"] == [{"provider": "a", "share_bp": 10_000}]


@pytest.mark.parametrize(
    "words",
    [
        ("status",),
        ("explain", "www"),
        ("force", "a", "down"),
        ("release", "a"),
        ("drain", "a"),
        ("freeze",),
        ("thaw",),
        ("down",),
    ],
)
def test_when_nothing_runs_every_command_says_so_in_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    code, out, err = run(capsys, *words, "--state", str(tmp_path))
    assert (code, out) == (3, "")
    assert str(tmp_path) in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize("lasting", ["73h", "4d", "0h", "-1h", "4", "soon", ""])
def test_time_that_is_too_long_or_none_is_the_operators_mistake(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], lasting: str
) -> None:
    for words in (("force", "a", "down"), ("drain", "a"), ("freeze",)):
        code, _, err = run(capsys, *words, f"--for={lasting}", "--state", str(tmp_path))
        assert code == 2
        assert "at most 72h" in err


def test_stance_that_is_none_is_the_operators_mistake(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = run(capsys, "force", "a", "sideways", "--state", str(tmp_path))
    assert (code, "up or down" in err) == (2, True)


@pytest.mark.parametrize("clock", ["noon", "script:1,2", "script:1,2,0"])
def test_up_with_a_clock_that_is_none_is_the_operators_mistake(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], clock: str
) -> None:
    code, _, err = run(capsys, "up", "--clock", clock, "--state", str(tmp_path))
    assert (code, "--clock" in err) == (2, True)


async def command(up: Up, *words: str) -> tuple[int, Any]:
    """Exit code and JSON of one command in a process of its own."""
    process = await asyncio.create_subprocess_exec(
        *COMMAND, *words, "--state", str(up.layout.state), "--json", stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    return process.returncode or 0, json.loads(out) if out else None


@pytest.mark.lab
def test_commands_to_a_running_decider_give_the_promised_json(folder: Path) -> None:
    async def story() -> None:
        async with running(loaded(folder)) as up:
            code, shown = await command(up, "status")
            assert code == 0, shown["problems"]
            assert set(shown) == {
                "format", "pid", "now_ms", "clock", "is_shadow", "rounds", "journal", "services", "surfaces",
                "vantages", "engines", "problems",
            }  # fmt: skip
            assert shown["engines"][0]["services"][0]["generation"] == shown["services"][0]["generation"]
            code, shown = await command(up, "force", "a", "down", "--for", "2h", "--why", "test")
            assert code == 0
            assert set(shown) == {"services", "until_ms", "warnings"}
            assert shown["warnings"] == []
            code, shown = await command(up, "force", "b", "down", "--for", "1h")
            assert code == 0
            assert any("every provider looks DOWN or is forced down" in one for one in shown["warnings"])
            code, shown = await command(up, "explain", "www")
            assert (code, set(shown)) == (0, {"service", "generation", "sentences"})
            assert (await command(up, "force", "nobody", "down"))[0] == 2
            assert (await command(up, "explain", "nothing"))[0] == 2
            for words in (("release", "a"), ("drain", "b"), ("freeze", "--for", "1h"), ("thaw",)):
                assert (await command(up, *words))[0] == 0
        code, shown = await command(up, "status")
        assert (code, shown["problems"]) == (1, ["no decider runs; engines serve their last plan"])
        assert await command(up, "down") == (0, {"ended": ["engine-e1"]})

    asyncio.run(story())
