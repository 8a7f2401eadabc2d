"""`polycdn edge` without a config file: what it serves, how it ends, and what it refuses."""

import hashlib
import json
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from alone import alone, is_open
from providers import Provider, answer, get, parse, refused_port

from polycdn.cli import edge_alone, edge_options
from polycdn.cli.engine_command import _parser
from polycdn.errors import ConfigError
from polycdn.model.settings import PublishedPlan, Settings
from polycdn.model.wire import canonical, from_json

lab = pytest.mark.lab


def options(*words):
    parser = _parser("edge", "")
    edge_options.add_to(parser)
    return edge_options.read(parser, parser.parse_args(list(words)))


LISTEN = ("--listen", "127.0.0.1:8080")
FULL = (
    *("--origin", "http://a.test", "--origin", "https://b.test:8443", "--origin-ca", "/ca.pem"),
    *("--listen-tls", "[::1]:8443", "--cert", "/c.pem", "--key", "/k.pem"),
)


@pytest.mark.parametrize(
    "words",
    [
        ("--origin", "http://a.test"),
        FULL,
        (*FULL, "--no-cache"),
        (*FULL, "--forwarded", "both"),
        (*FULL, "--trust-client"),
    ],
)
def test_the_files_are_what_the_model_would_write(words):
    made = options(*words, *LISTEN)
    settings = edge_alone.settings_of(made)
    content = json.dumps(settings, sort_keys=True, separators=(",", ":")).encode()
    assert canonical(from_json(Settings, settings)) == content
    plan = edge_alone.plan_of(made, hashlib.sha256(content).hexdigest())
    assert (
        canonical(from_json(PublishedPlan, plan))
        == json.dumps(plan, sort_keys=True, separators=(",", ":")).encode()
    )
    assert (settings.get("cache") is None) == ("--no-cache" in words)


def test_options_mean_what_they_say():
    made = options(*FULL, *LISTEN, "--memory", "64MiB", "--disk", "/var/cache:10GB", "--workers", "3")
    assert made.origins == (("a.test", 80, False), ("b.test", 8443, True))
    assert (made.http, made.https) == (("127.0.0.1:8080",), ("[::1]:8443",))
    assert (made.memory_bytes, made.disk, made.workers) == (67_108_864, ("/var/cache", 10_000_000_000), 3)


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--origin", "http://a.test"],
        ["--origin", "a.test", *LISTEN],
        ["--origin", "ftp://a.test", *LISTEN],
        ["--origin", "http://a.test/path", *LISTEN],
        ["--origin", "http://u@a.test", *LISTEN],
        ["--origin", "http://a.test:0", *LISTEN],
        ["--origin", "http://a.test:65536", *LISTEN],
        ["--origin", "http://a.test", "--listen", "127.0.0.1"],
        ["--origin", "http://a.test", "--listen-tls", "127.0.0.1:1"],
        ["--origin", "http://a.test", *LISTEN, "--cert", "/c", "--key", "/k"],
        ["--origin", "http://a.test", *LISTEN, "--memory", "lots"],
        ["--origin", "http://a.test", *LISTEN, "--memory", "1"],
        ["--origin", "http://a.test", *LISTEN, "--disk", "10GB"],
        ["--origin", "http://a.test", *LISTEN, "--disk", "/d:10XB"],
        ["--origin", "http://a.test", *LISTEN, "--workers", "0"],
        ["--origin", "http://a.test", *LISTEN, "--admin", "9"],
        ["--origin", "http://a.test", *LISTEN, "--digests", "/none/d"],
        ["--origin", "http://a.test", *LISTEN, "--drain-s", "-1"],
        ["--origin", "http://a.test", *LISTEN, "--access-log-sample-bp", "5"],
        ["--origin", "http://a.test", *LISTEN, "--access-log", "/l", "--access-log-sample-bp", "0"],
        ["--origin", "http://a.test", *LISTEN, "--forwarded", "all"],
    ],
    ids=" ".join,
)
def test_a_mistake_is_one_sentence_and_exit_code_2(words, capsys):
    with pytest.raises(SystemExit) as stop:
        options(*words)
    assert stop.value.code == 2
    assert "error: " in capsys.readouterr().err


def test_the_admin_listener_is_on_loopback_unless_told_otherwise():
    words = ["--origin", "http://a.test", "--listen", ":8080", "--admin"]
    assert options(*words, ":9000").admin == "127.0.0.1:9000"
    assert options(*words, "*:9000").admin == "0.0.0.0:9000"
    assert options(*words, ":9000").http == ("0.0.0.0:8080",)
    assert options(*words[:-1]).admin is None


@pytest.mark.lab
def test_any_host_is_served_and_sigterm_ends_with_0_and_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    with Provider(answer()) as origin, alone(origin.port) as edge:
        for host in ("a.test", "127.0.0.1:1", "[::1]"):
            request = f"GET / HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n".encode()
            assert parse(edge.raw(request)).body == b"good"
            assert origin.requests[-1].value("host") == host
        folder = next(tmp_path.iterdir())
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert stat.S_IMODE(Path(edge.token_file).stat().st_mode) == 0o600
        assert edge.stop() == 0
        assert not any(tmp_path.iterdir())


@pytest.mark.lab
def test_the_second_origin_is_asked_when_the_first_is_gone():
    with Provider(answer(b"second")) as origin, alone(refused_port(), origin.port) as edge:
        assert parse(edge.raw(get())).body == b"second"


@pytest.mark.lab
def test_a_certificate_that_cannot_be_read_is_told_before_anything_is_served(tmp_path):
    words = ["--origin", "http://a.test", "--listen-tls", "127.0.0.1:0"]
    words += ["--cert", str(tmp_path / "none"), "--key", str(tmp_path / "none")]
    command = [sys.executable, "-m", "polycdn", "edge", *words]
    run = subprocess.run(command, capture_output=True, text=True, timeout=150)
    assert run.returncode == 2
    assert str(tmp_path / "none") in run.stderr
    assert "Traceback" not in run.stderr


def test_a_gate_file_says_who_gets_in(tmp_path):
    gate = tmp_path / "gate.toml"
    limits = '[limits]\nrequests_per_prefix = "50 rps"\nfirst_byte_timeout = "3s"\n'
    gate.write_text(f'{limits}[access]\ndeny = ["192.0.2.0/24"]\n')
    settings = edge_alone.settings_of(options("--origin", "http://a.test", *LISTEN, "--gate", str(gate)))
    assert settings["limits"] == {"first_byte_timeout_ms": 3_000}
    assert settings["gate"] == {
        "limits": {"requests_per_prefix_rps": 50}, "access": {"deny": ["192.0.2.0/24"]}
    }  # fmt: skip
    content = json.dumps(settings, sort_keys=True, separators=(",", ":")).encode()
    assert canonical(from_json(Settings, settings)) == content


def test_every_fault_of_a_gate_file_is_told_with_its_line(tmp_path):
    gate = tmp_path / "gate.toml"
    gate.write_text('[limits]\nrequests_per_prefix = "many"\nuri_bytes_max = 1\n[acces]\n')
    with pytest.raises(ConfigError) as stop:
        options("--origin", "http://a.test", *LISTEN, "--gate", str(gate))
    assert [fault.place for fault in stop.value.faults] == [f"{gate}:{line}" for line in (2, 3, 4)]
    assert "did you mean `access`" in str(stop.value)
    with pytest.raises(ConfigError, match="No such file"):
        options("--origin", "http://a.test", *LISTEN, "--gate", str(tmp_path / "none"))


@pytest.mark.lab
def test_a_client_over_the_limit_of_a_gate_file_is_told_to_come_back(tmp_path):
    gate = tmp_path / "gate.toml"
    gate.write_text('[limits]\nrequests_per_prefix = "1 rps"\nrequests_per_prefix_burst = 2\n')
    with Provider(answer()) as origin, alone(origin.port, words=("--gate", str(gate))) as edge:
        replies = [parse(edge.raw(get())) for _ in range(20)]
        assert {reply.status for reply in replies} == {200, 429}
        assert edge.metric('polycdn_edge_refused_total{reason="prefix_requests"}') > 0


@pytest.mark.lab
def test_the_admin_listener_tells_health_and_metrics_and_guards_purging():
    with Provider(answer()) as origin, alone(origin.port) as edge:
        assert edge.ask_admin("/healthz") == (200, "ok\n")
        assert edge.ask_admin("/readyz") == (200, "ok\n")
        status, text = edge.ask_admin("/metrics")
        assert status == 200
        assert 'polycdn_build_info{version="' in text
        assert 'polycdn_plan_generation{service="edge"} 1' in text.splitlines()
        assert edge.ask_admin("/nope")[0] == 404
        assert edge.ask_admin("/healthz", "POST")[0] == 405
        order = json.dumps({"key": "a"}).encode()
        assert edge.ask_admin("/api/v1/purge", "POST", order)[0] == 401
        assert edge.ask_admin("/api/v1/purge", "POST", order, authorization="Bearer x")[0] == 401
        token = Path(edge.token_file).read_text().strip()
        status, text = edge.ask_admin("/api/v1/purge", "POST", b"{}", authorization=f"Bearer {token}")
        assert status == 422
        assert json.loads(text)["status"] == 422
        assert not is_open(edge.tls_port) if edge.tls_port else True
