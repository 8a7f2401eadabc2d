"""`polycdn parity` beside a decider that runs: an unequal standby is passed over until it is equal again."""

import asyncio
import json
from pathlib import Path

import pytest
from purgeable import Purgeable
from stage import running, until

from polycdn.cli.main import run_command
from polycdn.config.load import load
from polycdn.run.up import Programs

POLICY = """\
[policy]
require_parity = true
probe_interval = "200ms"
dwell = "0s"
move_max = "100%"

[listen]
observations = "127.0.0.1:0"

[[vantage]]
name = "here"

[[surface]]
name = "kept"
kind = "memory"

[[service]]
name = "www"
hostname = "www.example.org"
object = ["/health.txt"]
"""


def written(folder: Path, caches: dict[str, Purgeable]) -> Path:
    providers = "".join(
        f'[[provider]]\nname = "{name}"\nkind = "cdn"\nendpoint = "http://127.0.0.1:{cache.port}"\n'
        + ("purge = {}\n" if name != "c" else "")
        for name, cache in caches.items()
    )
    file = folder / "polycdn.toml"
    file.write_text(f'state_dir = "{folder / "state"}"\n{POLICY}{providers}')
    return file


@pytest.mark.lab
def test_an_unequal_standby_is_passed_over_until_it_is_equal_again(folder, capsys):
    async def story():
        with Purgeable() as first, Purgeable() as standby, Purgeable() as third, Purgeable() as last:
            config = written(folder, {"a": first, "b": standby, "c": third, "d": last})

            async def say(*words: str) -> tuple[int, str]:
                code = await asyncio.to_thread(run_command, [*words, "--config", str(config)])
                return code, capsys.readouterr().out

            async def shares() -> dict[str, int]:
                _, text = await say("status", "--json")
                (region,) = json.loads(text)["services"][0]["regions"]
                return {one["provider"]: one["share_bp"] for one in region["shares"]}

            async def carries(name: str) -> bool:
                return (await shares()).get(name, 0) > 0

            async with running(load(str(config), env={}), Programs()):
                standby.body = b"old\n"
                code, text = await say("parity", "www")
                assert code == 1
                assert "Not equal to a: b." in text
                assert "The decider was told." in text
                assert (await say("force", "a", "down", "--for", "1h"))[0] == 0
                await until(lambda: carries("c"), "the third one carries what the first did")
                assert (await shares()).get("b", 0) == 0
                _, text = await say("explain", "www")
                assert "b is not offered traffic in anywhere: its answers differ" in " ".join(text.split())

                standby.body = first.body
                code, text = await say("parity", "www", "--json")
                assert (code, json.loads(text)["not_ready"]) == (0, [])
                assert (await say("force", "c", "down", "--for", "1h"))[0] == 0
                await until(lambda: carries("b"), "the standby is offered traffic, before the last one")
                assert (await shares()).get("d", 0) == 0
                _, text = await say("explain", "www")
                assert "b is not offered" not in " ".join(text.split())

    asyncio.run(story())


@pytest.mark.lab
def test_the_reach_of_a_purge_is_asked_for_by_name_and_told(folder, capsys):
    with Purgeable() as first, Purgeable() as second, Purgeable() as third:
        config = str(written(folder, {"a": first, "b": second, "c": third}))
        assert run_command(["parity", "www", "--config", config]) == 0
        assert (first.purges, second.purges) == ([], [])
        capsys.readouterr()
        assert run_command(["parity", "www", "--config", config, "--purge", "/health.txt", "--json"]) == 1
        (line,) = [line for line in json.loads(capsys.readouterr().out)["lines"] if line["aspect"] == "purge"]
        assert line["values"] == {"a": "reached", "b": "reached", "c": "no purge configured"}
        assert line["unequal"] == ["c"]
        assert len(first.purges) == len(second.purges) == 1


@pytest.mark.parametrize("is_set", [True, False])
def test_what_cannot_be_purged_is_told_before_anything_is_asked(folder, capsys, monkeypatch, is_set):
    from polycdn.errors import ConfigError

    with Purgeable() as first, Purgeable() as second:
        config = written(folder, {"a": first, "c": second})
        config.write_text(config.read_text().replace("purge = {}", 'purge = { token_variable = "SECRET" }'))
        monkeypatch.setenv("SECRET", "two\nlines") if is_set else monkeypatch.delenv("SECRET", raising=False)
        with pytest.raises(ConfigError) as caught:
            run_command(["parity", "www", "--config", str(config), "--purge", "/other"])
        assert [fault.place for fault in caught.value.faults] == ["--purge", "$SECRET, for a"]
        assert "two" not in capsys.readouterr().err
        assert not first.kept
