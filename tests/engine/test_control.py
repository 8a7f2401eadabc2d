"""Orders to an engine by files and socket (docs/engine-protocol.md). The nameserver stands for both roles."""

import json
import re
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import MISSING, fields, replace
from pathlib import Path
from typing import Any

import pytest
from dns_service import SETTINGS, Client, named, published
from engine_process import Engine, engine, poll

from polycdn.model.observation import Reason
from polycdn.model.plan import Note, Severity
from polycdn.model.settings import (
    Access,
    CacheRules,
    Certificate,
    ClientLimits,
    Digest,
    Fallback,
    Forwarded,
    Gate,
    Issuer,
    Limits,
    Reflexes,
    Settings,
    Signing,
    Zone,
)
from polycdn.model.topology import Endpoint, Expect, ProbedObject, Region
from polycdn.model.wire import canonical, digest, to_json

RUST = Path(__file__).parents[2] / "rust" / "src"
ALPHA, BETA = ["192.0.2.1", "192.0.2.2"], ["198.51.100.1"]

lab = pytest.mark.lab


@pytest.fixture
def server() -> Iterator[Engine]:
    """Started, serving nothing yet."""
    with engine("dns", dns=["127.0.0.1:0"]) as one:
        one.start()
        yield one


def addresses(server: Engine, name: str = "www.example.test") -> list[str]:
    return Client(server.say({"op": "hello"})["listeners"]["dns"][0]).addresses(name)


def statuses(server: Engine) -> dict[str, tuple[int, str]]:
    """Generation and source by service."""
    services = server.say({"op": "status"})["services"]
    return {one["service"]: (one["generation"], one["source"]) for one in services}


def refusal(answer: dict[str, Any]) -> str:
    """The sentence, after checking that this is a refusal that no repetition helps."""
    assert answer["ok"] is False
    assert answer["retry"] is False, answer
    return str(answer["error"])


@lab
def test_a_plan_applied_changes_the_answers_and_the_status(server):
    assert server.say({"op": "status"}) == {"ok": True, "services": [], "errors": []}
    assert server.apply(SETTINGS, published(1)) == {"ok": True, "generation": 1, "changed": True}
    assert addresses(server) == ALPHA
    assert server.apply(SETTINGS, published(5, {"beta": 10_000}))["changed"] is True
    assert addresses(server) == BETA
    (status,) = server.say({"op": "status"})["services"]
    assert status.pop("age_ms") < 60_000
    settings_hash = digest(SETTINGS)
    assert status == {
        "service": "www",
        "generation": 5,
        "settings_hash": settings_hash,
        "source": "candidate",
    }


@lab
def test_the_same_plan_twice_changes_nothing_and_an_older_one_is_refused(server):
    server.apply(SETTINGS, published(4))
    file = server.service_folder("www") / "plan.json"
    written = file.stat().st_mtime_ns
    assert server.apply(SETTINGS, published(4)) == {"ok": True, "generation": 4, "changed": False}
    assert file.stat().st_mtime_ns == written
    assert "older" in refusal(server.apply(SETTINGS, published(3, {"beta": 10_000})))
    assert "other content" in refusal(server.apply(SETTINGS, published(4, {"beta": 10_000})))
    assert addresses(server) == ALPHA
    assert statuses(server) == {"www": (4, "candidate")}


@lab
def test_hello_tells_who_and_where_and_only_the_owner_may_ask(server):
    answer = server.say({"op": "hello"})
    (listener,) = answer.pop("listeners")["dns"]
    assert int(listener.removeprefix("127.0.0.1:")) > 0
    assert answer == {
        "ok": True,
        "format": "polycdn/control/1",
        "engine": "e1",
        "role": "dns",
        "version": "0.1.0",
        "pid": server.process.pid,
    }
    mode = server.socket.stat().st_mode
    assert (stat.S_ISSOCK(mode), stat.S_IMODE(mode)) == (True, 0o600)


@lab
@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGKILL])
def test_a_restart_serves_the_plan_that_was_in_force(server, signal_number):
    server.apply(SETTINGS, published(1))
    server.apply(SETTINGS, published(2, {"beta": 10_000}))
    (server.service_folder("www") / "candidate.json").write_text("{}")
    server.stop(signal_number)
    server.start()
    assert addresses(server) == BETA
    assert statuses(server) == {"www": (2, "plan")}
    assert "older" in refusal(server.apply(SETTINGS, published(1)))


@lab
@pytest.mark.parametrize("damage", [b"", b"{", b"\x00" * 100, b"\xff\xfe", b"[" * 100_000, b"{}"])
def test_a_damaged_plan_is_reported_and_the_good_one_served(server, damage):
    server.apply(SETTINGS, published(1))
    assert server.say({"op": "good", "service": "www", "generation": 1}) == {"ok": True}
    server.apply(SETTINGS, published(2, {"beta": 10_000}))
    server.stop(signal.SIGKILL)
    (server.service_folder("www") / "plan.json").write_bytes(damage)
    server.start()
    assert addresses(server) == ALPHA
    assert statuses(server) == {"www": (1, "good")}
    (error,) = server.say({"op": "status"})["errors"]
    assert (error["service"], error["file"]) == ("www", "plan.json")
    assert server.apply(SETTINGS, published(3, {"beta": 10_000}))["changed"] is True
    assert addresses(server) == BETA
    assert server.say({"op": "status"})["errors"] == []


@lab
def test_a_start_that_prefers_the_good_plan_serves_it(server):
    server.apply(SETTINGS, published(1))
    server.say({"op": "good", "service": "www", "generation": 1})
    server.apply(SETTINGS, published(2, {"beta": 10_000}))
    server.stop()
    server.start(prefer_good=True)
    assert (statuses(server), addresses(server)) == ({"www": (1, "good")}, ALPHA)
    assert server.say({"op": "status"})["errors"] == []


@lab
def test_only_the_plan_in_force_becomes_the_good_one(server):
    server.apply(SETTINGS, published(2))
    assert "not 1" in refusal(server.say({"op": "good", "service": "www", "generation": 1}))
    assert "not served" in refusal(server.say({"op": "good", "service": "xyz", "generation": 1}))
    assert not (server.service_folder("www") / "good.json").exists()
    assert server.say({"op": "good", "service": "www", "generation": 2})["ok"]
    folder = server.service_folder("www")
    assert (folder / "good.json").read_bytes() == (folder / "plan.json").read_bytes()


@lab
def test_a_service_that_cannot_be_loaded_stops_no_other(server):
    other = named("shop", "shop.example.test")
    server.apply(SETTINGS, published(1))
    server.apply(other, published(1, settings=other))
    server.stop()
    for settings_file in server.service_folder("www").glob("settings-*.json"):
        settings_file.unlink()
    (server.service_folder("empty")).mkdir()
    server.start()
    assert statuses(server) == {"shop": (1, "plan")}
    assert addresses(server, "shop.example.test") == ALPHA
    (error,) = server.say({"op": "status"})["errors"]
    assert error["service"] == "www"
    assert "settings-" in error["error"]


@lab
def test_a_removed_service_is_refused_now_and_after_a_restart(server):
    server.apply(SETTINGS, published(5))
    server.say({"op": "good", "service": "www", "generation": 5})
    assert server.say({"op": "remove", "service": "www"}) == {"ok": True}
    assert addresses(server) == []
    assert "not served" in refusal(server.say({"op": "remove", "service": "www"}))
    assert "older" in refusal(server.apply(SETTINGS, published(4)))
    server.stop()
    server.start()
    assert statuses(server) == {}
    assert server.apply(SETTINGS, published(5))["changed"] is True


def changed(path: str, value: object) -> bytes:
    """A good plan of generation 9 with one field replaced."""
    raw = to_json(published(9))
    *parents, last = path.split(".")
    place = raw
    for key in parents:
        place = place[int(key)] if isinstance(place, list) else place[key]
    place[last] = value
    return json.dumps(raw).encode()


REGION = "plan.regions.0."


@lab
def test_a_wrong_candidate_is_refused_with_its_reason_and_the_last_plan_serves(server):
    server.apply(SETTINGS, published(1))
    cases = [
        (b"x" * (17 * 1024 * 1024), "limit 16777216 bytes"),
        (b"", "EOF"),
        (b"\xff", "candidate.json"),
        (b"[" * 100_000, "recursion"),
        (changed("format", "polycdn/plan/2"), "not known here"),
        (changed("surprise", 1), "unknown field"),
        (changed("plan.surprise", 1), "unknown field"),
        (changed("plan.generation", 0), "generation 0"),
        (changed("plan.generation", -1), "invalid value"),
        (changed("plan.generation", 2**64), "invalid"),
        (changed("plan.generation", 9.0), "invalid type"),
        (changed("plan.generation", True), "invalid type"),
        (changed("plan.service", "other"), "other"),
        (changed("plan.regions", []), "nothing for region"),
        (changed(REGION + "region", "mars"), "mars"),
        (changed(REGION + "region", "eu"), "twice"),
        (changed(REGION + "order", []), "empty"),
        (changed(REGION + "order", ["alpha", "alpha"]), "twice"),
        (changed(REGION + "order", ["alpha", "nobody"]), "nobody"),
        (changed(REGION + "order", ["beta"]), "not in the order"),
        (changed(REGION + "shares", []), "sum to 0"),
        (changed(REGION + "shares", [["alpha", 9_999]]), "sum to 9999"),
        (changed(REGION + "shares", [["alpha", 5_000], ["alpha", 5_000]]), "twice"),
        (changed(REGION + "shares", [["alpha", 20_000], ["beta", -10_000]]), "invalid value"),
        (changed(REGION + "ttl_s", 2**31), "ttl_s"),
        (changed("settings_hash", "0" * 63), "hex digits"),
        (changed("settings_hash", "../" + "0" * 61), "hex digits"),
    ]
    candidate = server.service_folder("www") / "candidate.json"
    for content, reason in cases:
        candidate.write_bytes(content)
        error = refusal(server.say({"op": "apply", "service": "www"}))
        assert reason in error, error
        assert statuses(server) == {"www": (1, "candidate")}
    assert addresses(server) == ALPHA
    assert server.say({"op": "status"})["errors"][0]["file"] == "candidate.json"


@lab
def test_wrong_settings_are_refused_with_the_plan_that_names_them(server):
    alpha, *others = SETTINGS.upstreams
    cases: list[tuple[dict[str, Any], str]] = [
        ({"hostnames": ()}, "hostname"),
        ({"hostnames": ("a b.example.test",)}, "not a host name"),
        ({"hostnames": ("www.example.test", "WWW.example.test.")}, "twice"),
        ({"upstreams": (replace(alpha, ipv4=("192.0.2.256",)), *others)}, "192.0.2.256"),
        ({"upstreams": (replace(alpha, name="origin"), *others)}, "origin"),
        ({"upstreams": (alpha, alpha, *others)}, "twice"),
        ({"upstreams": (replace(alpha, ipv4=(), ipv6=()), *others)}, "nothing to answer with"),
        ({"regions": (Region(), Region("eu", ("10.0.0.1/8",)))}, "10.0.0.1/8"),
        ({"regions": (Region("eu"), Region("eu"))}, "twice"),
        ({"zone": None}, "no zone"),
        ({"format": "polycdn/settings/2"}, "not known here"),
    ]
    for change, reason in cases:
        settings = replace(SETTINGS, **change)
        answer = server.apply(settings, published(1, settings=settings))
        assert reason in refusal(answer), answer
    folder = server.service_folder("www")
    (folder / f"settings-{digest(SETTINGS)}.json").write_bytes(canonical(named("www", "x.example.test")))
    (folder / "candidate.json").write_bytes(canonical(published(1)))
    assert "another hash" in refusal(server.say({"op": "apply", "service": "www"}))
    assert statuses(server) == {}


@lab
def test_settings_count_by_their_content_not_by_their_spaces(server):
    server.write(SETTINGS, published(1))
    file = server.service_folder("www") / f"settings-{digest(SETTINGS)}.json"
    file.write_text(json.dumps(to_json(SETTINGS), indent=2))
    assert server.say({"op": "apply", "service": "www"})["ok"]


@lab
def test_every_field_of_the_model_is_understood(server):
    """Field by field: a value that differs from the default is written out, and nothing is refused."""
    endpoint = Endpoint("h.test", 8443, False, ("192.0.2.7", "2001:db8::7"), "/ca.pem")
    expect = Expect(206, 5, "ab" * 32, "text/html", (("x", "ü"),), "nä")
    upstreams = tuple(replace(one, endpoint=endpoint) for one in SETTINGS.upstreams)
    zone = SETTINGS.zone
    assert zone is not None
    gate = Gate(
        ClientLimits(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13),
        Access(("192.0.2.0/24",), ("::/0",), "/allow", "/deny"),
        Signing((Issuer("us", "/keys"),), ("edge",), "token", 1, "k1"),
    )
    settings = Settings(
        "www",
        SETTINGS.hostnames,
        upstreams,
        endpoint,
        (Region("all", (), ("DE",), (64_512,), 1, 2), Region("eu", ("::/1",))),
        (ProbedObject("/ü", expect),),
        (Certificate("/cert.pem", "/key.pem"),),
        Zone(zone.apex, zone.name_servers, zone.mailbox, 1, 2, 3, 4),
        Limits(1, 2, 3, 4, 5, 6, 7, 8),
        CacheRules(True, ((404, 60),), "allow", ("page",), 1, 2, 3, 4),
        Reflexes("digest", "strict", "service", 1, 2, 3, 4, 5, 6, 7, Fallback(503, "text/html", "/dev/null")),
        Forwarded("both", True, False),
        (Digest("/a", 5, "ab" * 32, 4, ("cd" * 32, "ef" * 32)),),
        gate,
    )
    gates = (gate, gate.limits, gate.access, gate.signing)
    inner = (settings.limits, settings.cache, settings.reflexes, settings.zone, settings.forwarded)
    for one in (settings, *inner, *gates, settings.digests[0], expect, endpoint):
        for field in fields(one):
            is_default = field.default is not MISSING and getattr(one, field.name) == field.default
            assert not is_default or field.name == "format", f"{field.name} is left at its default"
    plan = published(1, settings=settings)
    notes = tuple(Note(severity, "code", 'te"xt\n\x01\u2028') for severity in Severity)
    answer = server.apply(settings, replace(plan, plan=replace(plan.plan, notes=notes)))
    assert answer == {"ok": True, "generation": 1, "changed": True}


def test_defaults_are_the_same_on_both_sides():
    source = (RUST / "document.rs").read_text()
    source = re.sub(r"(?<=\d)_(?=\d)", "", source)
    for model in (Limits, Zone, CacheRules, Reflexes, Forwarded, ClientLimits):
        for field in fields(model):
            if isinstance(field.default, int):
                value = str(field.default).lower()
                in_struct = re.search(rf"\b{field.name}: {value}(,| }})", source)
                in_function = re.search(rf"fn {field.name}\(\) -> u32 {{\s*{field.default}\s*}}", source)
                assert in_struct or in_function, f"{field.name} = {field.default} is not in document.rs"
    assert "status: 200," in source
    assert f'"{Signing(()).attribute}"' in source
    assert (Expect().status, Endpoint("x").port, Endpoint("x").tls) == (200, 443, True)


def test_the_reasons_are_the_words_of_the_model():
    source = (RUST / "count.rs").read_text()
    block = source[source.index("impl Reason") : source.index("pub fn is_failure")]
    assert set(re.findall(r'"(\w+)"', block)) == {reason.value for reason in Reason}


@lab
def test_two_services_cannot_have_one_hostname(server):
    server.apply(SETTINGS, published(1))
    thief = named("thief", "WWW.example.test")
    answer = server.apply(thief, published(1, settings=thief))
    assert (answer["ok"], answer["retry"]) == (False, True), "it can, when the other one gives it up"
    assert "belongs to service" in answer["error"]
    assert addresses(server) == ALPHA


@lab
def test_bad_lines_are_answered_in_order_and_the_connection_goes_on(server):
    lines = [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"op":"nope"}',
        b'{"op":"apply"}',
        b'{"op":"status","x":1}',
        b"\xff",
    ]
    lines += [b'{"op":"counts","since_ms":-1}', b"[" * 5_000, b'{"op":"apply","service":"../../etc"}']
    with server.connect() as connection, connection.makefile("rwb") as stream:
        stream.write(b"\n".join(lines) + b'\n{"op":"hello"}\n')
        stream.flush()
        for line in lines:
            assert refusal(json.loads(stream.readline())), line
        assert json.loads(stream.readline())["ok"] is True


@lab
def test_a_line_of_more_than_a_mebibyte_is_refused_and_ends_the_connection(server):
    fits = b'{"op":"hello"}'.ljust(1_048_576)
    with server.connect() as connection, connection.makefile("rwb") as stream:
        stream.write(fits + b"\n")
        stream.flush()
        assert json.loads(stream.readline())["ok"] is True
        stream.write(fits + b"x")
        stream.flush()
        assert "1048576 bytes" in refusal(json.loads(stream.readline()))
        assert stream.read(1) == b""


@lab
def test_a_client_killed_in_the_middle_of_a_word_leaves_the_engine_serving(server):
    server.apply(SETTINGS, published(1))
    program = (
        "import socket, sys, time\n"
        "one = socket.socket(socket.AF_UNIX)\n"
        "one.connect(sys.argv[1])\n"
        'one.sendall(b\'{"op":"status"}\\n\' * 1000 + b\'{"op":"app\')\n'
        "print('sent', flush=True)\n"
        "time.sleep(60)\n"
    )
    words = [sys.executable, "-c", program, str(server.socket)]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as client:
        assert client.stdout is not None
        assert client.stdout.readline() == b"sent\n"
        client.kill()
    assert addresses(server) == ALPHA
    assert server.apply(SETTINGS, published(2, {"beta": 10_000}))["changed"] is True
    assert addresses(server) == BETA


@lab
def test_a_client_that_never_reads_holds_up_nobody(server):
    with server.connect() as deaf:
        deaf.setblocking(False)
        with pytest.raises(BlockingIOError):
            while True:
                deaf.send(b'{"op":"hello"}\n' * 1_000)
        assert server.say({"op": "status"})["ok"]


@lab
def test_what_cannot_be_written_is_refused_for_now_and_the_last_plan_serves(server):
    server.apply(SETTINGS, published(1))
    in_the_way = server.service_folder("www") / ".plan.json.new"
    in_the_way.mkdir()
    answer = server.apply(SETTINGS, published(2, {"beta": 10_000}))
    assert (answer["ok"], answer["retry"]) == (False, True)
    assert "plan.json cannot be written" in answer["error"]
    assert (addresses(server), statuses(server)) == (ALPHA, {"www": (1, "candidate")})
    in_the_way.rmdir()
    assert server.say({"op": "apply", "service": "www"})["changed"] is True
    assert addresses(server) == BETA


@lab
@pytest.mark.parametrize("order", ["drain", signal.SIGTERM])
def test_a_drain_ends_with_code_0_and_takes_the_socket_away(server, order):
    idle = socket.create_connection(
        ("127.0.0.1", Client(server.say({"op": "hello"})["listeners"]["dns"][0]).port)
    )
    if order == "drain":
        assert server.say({"op": "drain"}) == {"ok": True}
        server.process.communicate(timeout=120)
        assert server.process.returncode == 0
    else:
        assert server.stop(order) == 0
    idle.close()
    assert not server.socket.exists()


def exit_of(server: Engine, **config: Any) -> tuple[int, str]:
    """Exit code and standard error of a start that fails."""
    server.launch(**config)
    assert server.process is not None
    error = server.process.communicate(timeout=120)[1].decode()
    code, server.process = server.process.returncode, None
    return code, error


@lab
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"surprise": 1}, "unknown field"),
        ({"format": "polycdn/engine/2"}, "not known here"),
        ({"dns": []}, "no address"),
        ({"dns": ["localhost:53"]}, "invalid socket address"),
        ({"http": ["127.0.0.1:0"]}, "does not listen"),
        ({"workers": 0}, "workers"),
        ({"workers": 257}, "workers"),
        ({"engine": "../e"}, "engine"),
    ],
)
def test_a_wrong_start_config_is_told_with_code_2(change, reason):
    with engine("dns", dns=["127.0.0.1:0"]) as one:
        code, error = exit_of(one, **change)
        assert (code, reason in error, "Traceback" in error) == (2, True, False), error


@lab
def test_a_second_engine_and_a_taken_port_are_told_with_code_3(server):
    listener = server.say({"op": "hello"})["listeners"]["dns"][0]
    first, server.process = server.process, None
    code, error = exit_of(server)
    assert (code, "another engine runs" in error) == (3, True), error
    with engine("dns", dns=[listener]) as other:
        code, error = exit_of(other)
        assert (code, listener in error, "Traceback" in error) == (3, True, False), error
    server.process = first
    assert server.say({"op": "hello"})["pid"] == first.pid


@lab
def test_a_socket_left_by_a_killed_engine_is_in_nobodys_way(server):
    server.stop(signal.SIGKILL)
    assert server.socket.exists()
    server.start()
    assert stat.S_IMODE(server.socket.stat().st_mode) == 0o600
    poll(lambda: server.say({"op": "counts", "since_ms": 0})["upto_ms"] > 0, "no second is closed")
