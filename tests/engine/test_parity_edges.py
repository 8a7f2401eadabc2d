"""Parity between two edges of ours: what one purge reaches, through their admin listeners."""

import json

import pytest
from alone import alone
from providers import Provider, answer

from polycdn.cli.main import run_command

pytestmark = pytest.mark.lab

CONFIG = """\
[[service]]
name = "www"
hostname = "www.example.test"
object = ["/health.txt"]

[[provider]]
name = "first"
kind = "edge"
endpoint = "http://127.0.0.1:{first.port}"

[provider.purge]
url = "http://127.0.0.1:{first.admin}/api/v1/purge"
body = '{{"url": "{{url}}"}}'
token_file = "{first.token_file}"

[[provider]]
name = "second"
kind = "edge"
endpoint = "http://127.0.0.1:{second.port}"

[provider.purge]
url = "http://127.0.0.1:{second.admin}/api/v1/purge"
body = '{{"url": "{{url}}"}}'
token_file = "{token}"
"""


def test_a_purge_reaches_an_edge_of_ours_that_takes_the_token_and_no_other(tmp_path, capsys):
    keeping = answer(fields="cache-control: max-age=60\r\n")
    with Provider(keeping) as origin, alone(origin.port) as first, alone(origin.port) as second:
        file = tmp_path / "polycdn.toml"

        def reach(token: str) -> tuple[int, dict[str, str]]:
            file.write_text(CONFIG.format(first=first, second=second, token=token))
            code = run_command(["parity", "www", "-c", str(file), "--purge", "/health.txt", "--json"])
            lines = json.loads(capsys.readouterr().out)["lines"]
            return code, next(line["values"] for line in lines if line["aspect"] == "purge")

        assert reach(second.token_file) == (0, {"first": "reached", "second": "reached"})
        (tmp_path / "wrong").write_text("not this one")
        refused = "not reached: the purge was answered by 401"
        assert reach(str(tmp_path / "wrong")) == (1, {"first": "reached", "second": refused})
