"""What operators see of an edge and tell it: logs, metrics, certificates, what upstreams hear of clients."""

import json
import signal
import socket
import ssl
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from alone import Alone, alone
from engine_process import poll
from exposition import read_page
from providers import HOST, Provider, answer, edge, get, parse, published, settings, upstream

from polycdn.model.settings import CacheRules, Certificate, Forwarded

sys.path.insert(0, str(Path(__file__).parent.parent / "fakes"))

from own_certs import OwnAuthority

pytestmark = [pytest.mark.lab, pytest.mark.timeout(60)]

KEPT = "content-type: text/plain\r\ncache-control: max-age=60\r\n"


def lines_of(path: Path, wanted: int) -> list[dict]:
    """The lines of a log once there are so many."""

    def enough() -> list[dict] | None:
        found = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        return found if len(found) >= wanted else None

    return poll(enough, f"{wanted} lines in the access log")


def test_a_line_of_the_access_log_tells_a_request_but_not_who_asked_or_what_for(tmp_path):
    path = tmp_path / "access.log"
    words = ("--access-log", str(path))
    with Provider(answer(b"good", fields=KEPT)) as origin, alone(origin.port, words=words) as one:
        for target in ("/a?token=secret", "/a?token=secret", "/b\\x"):
            one.raw(get(target))
        one.raw(get("/c", method="DELETE"))
        told = lines_of(path, 4)
        rows = [(row["method"], row["path"], row["status"], row["cache"], row["provider"]) for row in told]
        assert rows == [
            ("GET", "/a", 200, "miss", "origin-1"),
            ("GET", "/a", 200, "hit", None),
            ("GET", "/b\\x", 200, "miss", "origin-1"),
            ("DELETE", "/c", 200, "pass", "origin-1"),
        ]
        for row in told:
            assert row["bytes"] > len(b"good")
            assert 0 <= row["first_byte_ms"] <= row["total_ms"] < 60_000
            assert (row["service"], row["protocol"], row["scheme"]) == ("edge", "h1", "http")
            assert row["at_ms"] > 1_700_000_000_000
        text = path.read_text()
        assert "127.0.0" not in text and "secret" not in text
        assert one.metric("polycdn_access_log_lines_total") >= 4
        assert one.metric("polycdn_access_log_dropped_total") == 0


def test_a_log_that_was_moved_away_is_opened_anew_at_sighup_and_whole_at_the_end(tmp_path):
    path, old = tmp_path / "access.log", tmp_path / "old.log"
    words = ("--access-log", str(path), "--access-log-sample-bp", "5000", "--access-log-prefix")
    with Provider(answer()) as origin, alone(origin.port, words=words) as one:
        for _ in range(4):
            one.raw(get())
        assert len(lines_of(path, 2)) == 2
        path.rename(old)
        one.process.send_signal(signal.SIGHUP)
        poll(path.exists, "the log is opened anew")
        for _ in range(4):
            one.raw(get())
        assert one.stop() == 0
        assert [row["client"] for row in lines_of(path, 2)] == ["127.0.0.0/24"] * 2
        assert len(lines_of(old, 2)) == 2


def test_an_access_log_that_cannot_be_written_is_told_at_the_start(tmp_path):
    with Provider(answer()) as origin, pytest.raises(AssertionError, match="does not listen"):
        words = ("--access-log", str(tmp_path / "none" / "log"))
        with alone(origin.port, words=words, patience_s=3):
            pass


def test_a_full_disk_under_the_access_log_costs_lines_and_no_request():
    words = ("--access-log", "/dev/full")
    with Provider(answer()) as origin, alone(origin.port, words=words) as one:
        for _ in range(300):
            assert parse(one.raw(get())).status == 200
        poll(lambda: one.metric("polycdn_access_log_dropped_total") > 0, "lost lines are counted")


EXPECTED = {
    "polycdn_build_info", "polycdn_start_time_seconds", "polycdn_draining",
    "polycdn_config_last_reload_successful", "polycdn_config_last_reload_success_timestamp_seconds",
    "polycdn_plan_generation", "polycdn_decision_age_seconds",
    "polycdn_edge_requests_total", "polycdn_edge_served_total", "polycdn_provider_attempts_total",
    "polycdn_edge_first_byte_seconds", "polycdn_edge_sent_bytes_total",
    "polycdn_edge_connections_open", "polycdn_edge_connections_total", "polycdn_edge_tls_handshakes_total",
    "polycdn_cache_memory_bytes", "polycdn_cache_memory_budget_bytes", "polycdn_cache_objects",
    "polycdn_cache_evictions_total", "polycdn_cache_purges_total", "polycdn_cache_disk_off",
    "polycdn_access_log_lines_total", "polycdn_access_log_dropped_total",
}  # fmt: skip


def page_of(one: Alone) -> dict:
    status, text = one.ask_admin("/metrics")
    assert status == 200
    return read_page(text)


def test_the_page_of_metrics_is_whole_and_in_its_format(tmp_path):
    words = ("--access-log", str(tmp_path / "log"), "--disk", f"{tmp_path}/tier:32MB")
    fields = KEPT + 'x-odd: "\\\r\n'
    with Provider(answer(b"x" * 1_000, fields=fields)) as origin, alone(origin.port, words=words) as one:
        with one.connect() as kept:
            kept.sendall(get("/a", fields=""))
            kept.recv(65_536)
            one.raw(get("/a"))
            one.raw(get("/none", method="BREW"))
            page = poll(
                lambda: (found := page_of(one))["polycdn_edge_served_total"].samples and found,
                "a whole second was counted",
            )
            assert set(page) >= EXPECTED, EXPECTED - set(page)
            assert page["polycdn_edge_connections_open"].samples["", ()] == 1
        value = one.metric
        assert value('polycdn_edge_requests_total{cache="hit"}') == 1
        assert value("polycdn_edge_first_byte_seconds_count") == 3
        assert value("polycdn_edge_connections_total") == 3
        assert value("polycdn_edge_sent_bytes_total") > 3_000
        ok = 'polycdn_provider_attempts_total{service="edge",provider="origin-1",reason="ok"}'
        poll(lambda: value(ok) == 2, "attempts are counted")
        poll(lambda: value("polycdn_edge_connections_open") == 0, "connections are let go of")


CLAIMS = "x-forwarded-for: 203.0.113.9\r\nforwarded: for=203.0.113.9\r\nx-forwarded-host: a\r\n"


@pytest.mark.parametrize(
    ("rules", "seen"),
    [
        (Forwarded(), ("127.0.0.1", "http", HOST, None, "1.1 polycdn")),
        (Forwarded("none", has_via=False), (None, None, None, None, None)),
        (
            Forwarded("forwarded"),
            (None, None, None, f'for=127.0.0.1;host="{HOST}";proto=http', "1.1 polycdn"),
        ),
        (
            Forwarded("both", is_client_trusted=True),
            (
                "203.0.113.9, 127.0.0.1", "http", "a",
                f'for=203.0.113.9, for=127.0.0.1;host="{HOST}";proto=http', "1.1 polycdn",
            ),
        ),
    ],
    ids=["default", "none", "standard", "trusted"],
)  # fmt: skip
def test_upstreams_hear_of_clients_what_the_settings_say(rules, seen):
    with Provider(answer()) as origin, edge() as one:
        one.serve(settings(upstream("a", origin.port), forwarded=rules))
        reply = parse(one.raw(get(fields=f"{CLAIMS}connection: close\r\n")))
        got = origin.requests[-1]
        names = ("x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "forwarded", "via")
        assert tuple(got.value(name) for name in names) == seen
        assert (reply.value("via") is not None) == rules.has_via


def test_each_service_of_a_process_has_its_own_rules_and_a_bad_one_is_refused_alone(tmp_path):
    with Provider(answer(b"good", fields=KEPT)) as origin, edge() as one:
        kept = settings(upstream("a", origin.port), cache=CacheRules())
        passed = settings(upstream("a", origin.port), hostnames=("other.test",))
        passed = replace(passed, service="other")
        assert one.process.apply(kept, published(kept))["ok"]
        assert one.process.apply(passed, published(passed))["ok"]
        bad = replace(passed, certificates=(Certificate(str(tmp_path / "none"), str(tmp_path / "none")),))
        refused = one.process.apply(bad, published(bad, 2))
        assert not refused["ok"] and str(tmp_path / "none") in refused["error"]
        for host, requests in ((HOST, 1), ("other.test", 2)):
            before = len(origin.requests)
            for _ in range(2):
                assert parse(one.raw(get().replace(HOST.encode(), host.encode()))).status == 200
            assert len(origin.requests) - before == requests
        assert one.process.apply(kept, published(kept, 2))["ok"]
        errors = one.process.say({"op": "status"})["errors"]
        assert [error["service"] for error in errors] == ["other"]


def test_a_certificate_that_is_spoiled_later_costs_no_service_its_old_one(tmp_path):
    authority = OwnAuthority(tmp_path)
    with Provider(answer()) as origin, edge() as one:
        for name in ("one", "two"):
            pair = Certificate(*authority.leaf(f"{name}.test"))
            made = settings(upstream("a", origin.port), hostnames=(f"{name}.test",), certificates=(pair,))
            made = replace(made, service=name)
            assert one.process.apply(made, published(made))["ok"]
        spoiled = tmp_path / "one.test-90.pem"
        spoiled.write_text("no certificate")
        one.process.process.send_signal(signal.SIGHUP)
        poll(lambda: one.process.say({"op": "status"})["errors"], "the reload is reported")
        (error,) = one.process.say({"op": "status"})["errors"]
        assert error["service"] == "one" and str(spoiled) in error["error"]
        for name in ("one", "two"):
            assert tls(one.tls_port, f"{name}.test", authority.ca_file)[1] == b"good"


def test_of_several_certificates_of_a_service_the_one_for_the_name_is_shown(tmp_path):
    authority = OwnAuthority(tmp_path)
    names = ("one.test", "two.test", "three.test")
    pairs = tuple(Certificate(*authority.leaf(name)) for name in names)
    with Provider(answer()) as origin, edge() as one:
        one.serve(settings(upstream("a", origin.port), hostnames=("*",), certificates=pairs))
        for name in names:
            assert tls(one.tls_port, name, authority.ca_file)[1] == b"good"
        with pytest.raises(ssl.SSLCertVerificationError):
            tls(one.tls_port, "four.test", authority.ca_file)


def tls(port: int, host: str, ca_file: str, session: ssl.SSLSession | None = None):
    """Session and body of one request, and whether it was resumed. TLS 1.2: its tickets come at once."""
    context = tls.contexts.setdefault(ca_file, ssl.create_default_context(cafile=ca_file))
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname=host, session=session) as secure,
    ):
        secure.sendall(f"GET / HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n".encode())
        got = b""
        while piece := secure.recv(65_536):
            got += piece
        return secure.session, parse(got).body, secure.session_reused


tls.contexts = {}


def test_a_session_is_resumed_by_any_worker_and_after_certificates_were_read_again(tmp_path):
    authority = OwnAuthority(tmp_path)
    pair = Certificate(*authority.leaf(HOST))
    with Provider(answer()) as origin, edge(workers=4) as one:
        one.serve(settings(upstream("a", origin.port), certificates=(pair,)))
        session, body, is_resumed = tls(one.tls_port, HOST, authority.ca_file)
        assert (body, is_resumed) == (b"good", False)
        for turn in range(24):
            if turn == 12:
                one.process.process.send_signal(signal.SIGHUP)
                assert one.process.say({"op": "hello"})["ok"]
            assert tls(one.tls_port, HOST, authority.ca_file, session)[1:] == (b"good", True), turn
