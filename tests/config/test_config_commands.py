"""`polycdn init` and `polycdn check` as an operator meets them."""

import json

import pytest
import typer
from typer.testing import CliRunner

from polycdn.cli.config_commands import register
from polycdn.cli.main import main
from polycdn.config.document import json_schema
from polycdn.config.schema import Root
from polycdn.config.starter import STARTER
from polycdn.errors import ConfigError


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs one command in an empty folder, with nothing of this machine's configs in sight."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("POLYCDN_CONFIG", raising=False)
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    app = typer.Typer()
    register(app)

    def invoke(*words: str):
        return CliRunner().invoke(app, words, standalone_mode=False)

    return invoke


def test_init_writes_a_starter_that_passes_check(run, tmp_path):
    assert run("init").return_value is None
    assert (tmp_path / "polycdn.toml").read_text() == STARTER
    result = run("check")
    assert result.return_value == 0
    assert "www (www.example.com): cdn-a, cdn-b, own-edge" in result.stdout


def test_init_does_not_write_over_a_file_unless_told(run, tmp_path):
    (tmp_path / "polycdn.toml").write_text("mine")
    refused = run("init")
    assert isinstance(refused.exception, ConfigError)
    assert "--force" in str(refused.exception)
    assert (tmp_path / "polycdn.toml").read_text() == "mine"
    run("init", "--force")
    assert (tmp_path / "polycdn.toml").read_text() == STARTER
    assert [path.name for path in tmp_path.iterdir()] == ["polycdn.toml"]


def test_init_writes_where_it_is_told(run, tmp_path):
    run("init", "other.toml")
    assert (tmp_path / "other.toml").exists()
    (tmp_path / "folder").mkdir()
    run("init", "folder")
    assert (tmp_path / "folder" / "polycdn.toml").exists()


def test_check_lists_all_faults_and_gives_2(run, tmp_path):
    text = STARTER.replace('dwell = "1m" ', 'dwell = "1 moon" ').replace(
        'rule = "priority"', 'rul = "priority"'
    )
    (tmp_path / "polycdn.toml").write_text(text)
    result = run("check")
    assert result.return_value == 2
    assert result.stdout == ""
    assert "1 moon" in result.stderr and "did you mean `rule`?" in result.stderr
    assert "2 to mend" in result.stderr
    told = json.loads(run("check", "--json").stdout)
    assert told["ok"] is False
    lines = text.splitlines()
    assert [
        "rul =" in lines[told["faults"][0]["line"] - 1],
        "moon" in lines[told["faults"][1]["line"] - 1],
    ] == [True, True]
    assert set(told["faults"][0]) == {"place", "file", "line", "found", "allowed", "remedy"}


def test_check_says_in_json_what_is_fine(run, tmp_path):
    (tmp_path / "polycdn.toml").write_text(STARTER)
    told = json.loads(run("check", "--json").stdout)
    assert told["ok"] is True
    assert told["services"][0]["providers"] == ["cdn-a", "cdn-b", "own-edge"]


def test_check_without_a_config_gives_2_and_a_remedy(run):
    result = run("check")
    assert result.return_value == 2
    assert "polycdn init" in result.stderr


def test_the_whole_program_gives_2_without_a_traceback(run, tmp_path, capsys):
    (tmp_path / "bad.toml").write_text("x = \n")
    with pytest.raises(SystemExit) as stop:
        main(["check", "-c", "bad.toml"])
    assert stop.value.code == 2
    assert "bad.toml:1" in capsys.readouterr().err


def test_the_schema_knows_every_key_in_both_spellings(run):
    schema = json.loads(run("check", "--schema").stdout)
    assert schema == json_schema()
    policy = schema["$defs"]["PolicyTable"]["properties"]
    assert {"dwell", "dwell_ms", "move_max", "move_max_bp"} <= set(policy)
    assert policy["dwell"]["examples"] == ["10s"]
    provider = schema["$defs"]["ProviderTable"]["properties"]
    assert {"capacity", "capacity_rps", "capacity_mbps", "cost"} <= set(provider)
    service = schema["$defs"]["ServiceTable"]["properties"]
    assert {"type": "string"}.items() <= service["origin"]["anyOf"][1].items()
    assert set(schema["properties"]) == set(Root.model_fields)
    for name, definition in schema["$defs"].items():
        assert definition["additionalProperties"] is False, name
        assert all(key.get("description") for key in definition["properties"].values()), name
