"""The cache in front of the origin: what is kept, what is served of it, and what the origin gets to see."""

import json
import signal
import ssl
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import pytest
from alone import Alone, alone
from engine_process import poll
from providers import HOST, Exchange, Hangup, Provider, Reply, get, parse, read_to_end

from polycdn.cli.main import main

sys.path.insert(0, str(Path(__file__).parent.parent / "fakes"))

from own_certs import OwnAuthority

pytestmark = pytest.mark.lab

LARGE = bytes((index * 7 + index // 251) % 256 for index in range(1_000_003)) * 9
BLOCK = 1 << 20


@dataclass
class Origin:
    """Answers by path with the fields and the body that a test sets, and counts."""

    fields: dict[str, str] = field(default_factory=dict)
    bodies: dict[str, bytes] = field(default_factory=dict)
    status: dict[str, str] = field(default_factory=dict)
    gate: threading.Event = field(default_factory=threading.Event)
    answered: int = 0

    def behave(self, exchange: Exchange) -> None:
        self.answered += 1
        path = exchange.target.split("?")[0]
        if path.startswith("/gated"):
            self.gate.wait(10)
        if path.startswith("/gone"):
            raise Hangup
        body = self.bodies.get(path, f"body {self.answered} of {exchange.target}".encode())
        fields = self.fields.get(path, "")
        etag = next((row[6:] for row in fields.split("\r\n") if row.startswith("etag: ")), None)
        if etag and exchange.value("if-none-match") == etag:
            exchange.send(f"HTTP/1.1 304 Not Modified\r\n{fields}\r\n".encode())
            return
        wanted = exchange.value("range") if "accept-ranges" in fields else None
        status, part = self.status.get(path, "200 OK"), body
        if wanted and exchange.value("if-range") in (None, etag):
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            first, last = (first, last) if first else (str(max(len(body) - int(last), 0)), "")
            end = min(int(last) + 1 if last else len(body), len(body))
            status, part = "206 Partial Content", body[int(first) : end]
            fields += f"content-range: bytes {first}-{end - 1}/{len(body)}\r\n"
        head = f"HTTP/1.1 {status}\r\n{fields}content-length: {len(part)}\r\n\r\n"
        exchange.send(head.encode() + (b"" if exchange.method == "HEAD" else part))


@dataclass
class Rig:
    origin: Origin
    provider: Provider
    edge: Alone

    def ask(self, target: str, fields: str = "", method: str = "GET") -> Reply:
        return parse(self.edge.raw(get(target, f"{fields}connection: close\r\n", method)))

    def seen(self, target: str) -> list[Exchange]:
        """What the origin got for that target."""
        return [one for one in self.provider.requests if one.target == target]

    def purge(self, order: dict[str, object]) -> None:
        token = Path(self.edge.token_file).read_text().strip()
        body = json.dumps(order).encode()
        status, text = self.edge.ask_admin("/api/v1/purge", "POST", body, authorization=f"Bearer {token}")
        assert status == 200, text


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    origin = Origin()
    with Provider(origin.behave) as provider, alone(provider.port, words=("--memory", "64MB")) as edge:
        yield Rig(origin, provider, edge)


def keep(rig: Rig, path: str, fields: str, body: bytes | None = None) -> str:
    rig.origin.fields[path] = fields
    if body is not None:
        rig.origin.bodies[path] = body
    return path


def test_a_fresh_answer_is_served_again_without_asking(rig):
    path = keep(rig, "/fresh", "cache-control: max-age=60\r\nx-kept: 1\r\n", b"0123456789")
    first, second = rig.ask(path), rig.ask(path)
    assert (first.body, second.body) == (b"0123456789", b"0123456789")
    assert first.value("cache-status") == "polycdn; fwd=uri-miss; fwd-status=200; stored"
    assert str(second.value("cache-status")).startswith("polycdn; hit; ttl=")
    assert (second.value("age"), second.value("x-kept")) == ("0", "1")
    assert second.value("date")
    assert len(rig.seen(path)) == 1


@pytest.mark.parametrize(
    "fields",
    ["", "cache-control: no-store\r\n", "cache-control: private, max-age=60\r\n", "expires: 0\r\n"],
    ids=repr,
)
def test_what_may_not_be_stored_is_not(rig, fields):
    path = keep(rig, f"/no{hash(fields)}", fields)
    assert rig.ask(path).body != rig.ask(path).body
    assert len(rig.seen(path)) == 2


def test_parts_and_conditions_are_answered_from_what_is_stored(rig):
    path = keep(rig, "/parts", 'cache-control: max-age=60\r\netag: "a"\r\n', b"0123456789")
    rig.ask(path)
    assert rig.ask(path, 'if-none-match: "b", "a"\r\n').status == 304
    assert rig.ask(path, 'if-none-match: "b"\r\n').status == 200
    assert rig.ask(path, 'if-match: "b"\r\n').status == 412
    one = rig.ask(path, "range: bytes=2-4\r\n")
    assert (one.status, one.body, one.value("content-range")) == (206, b"234", "bytes 2-4/10")
    assert rig.ask(path, "range: bytes=-3\r\n").body == b"789"
    assert rig.ask(path, 'range: bytes=0-0\r\nif-range: "b"\r\n').status == 200
    beyond = rig.ask(path, "range: bytes=10-\r\n")
    assert (beyond.status, beyond.value("content-range")) == (416, "bytes */10")
    head = rig.ask(path, method="HEAD")
    assert (head.status, head.value("content-length"), head.body) == (200, "10", b"")
    assert len(rig.seen(path)) == 1


def test_several_ranges_come_in_parts(rig):
    path = keep(
        rig, "/several", "cache-control: max-age=60\r\ncontent-type: text/x\r\n", bytes(range(256)) * 4
    )
    rig.ask(path)
    reply = rig.ask(path, "range: bytes=0-1,500-502\r\n")
    assert reply.status == 206
    boundary = str(reply.value("content-type")).partition("boundary=")[2]
    parts = reply.body.split(f"--{boundary}".encode())
    assert [part.partition(b"\r\n\r\n")[2][:-2] for part in parts[1:-1]] == [b"\x00\x01", b"\xf4\xf5\xf6"]
    assert reply.value("content-length") == str(len(reply.body))


def test_a_stale_answer_is_validated_and_stays(rig):
    path = keep(rig, "/validated", 'cache-control: max-age=1\r\netag: "v"\r\n', b"same")
    rig.ask(path)
    time.sleep(1.1)
    reply = rig.ask(path)
    assert (reply.status, reply.body) == (200, b"same")
    assert "fwd=stale; fwd-status=304" in str(reply.value("cache-status"))
    assert rig.seen(path)[1].value("if-none-match") == '"v"'
    poll(lambda: "; hit" in str(rig.ask(path).value("cache-status")), "it is not fresh again")


def test_a_stale_answer_serves_while_it_is_fetched_anew(rig):
    path = keep(rig, "/while", "cache-control: max-age=1, stale-while-revalidate=60\r\n")
    first = rig.ask(path).body
    time.sleep(1.1)
    stale = rig.ask(path)
    assert stale.body == first
    assert "stale-while-revalidate" in str(stale.value("cache-status"))
    assert len(rig.seen(path)) <= 2
    poll(lambda: rig.ask(path).body != first, "the new answer does not come")


def test_a_stale_answer_serves_on_error_where_its_sender_said_so(rig):
    path = keep(rig, "/error", "cache-control: max-age=1, stale-if-error=60\r\n", b"old")
    other = keep(rig, "/error-not", "cache-control: max-age=1\r\n", b"old")
    rig.ask(path), rig.ask(other)
    rig.origin.status |= {path: "503 No", other: "503 No"}
    time.sleep(1.1)
    assert (rig.ask(path).status, rig.ask(path).body) == (200, b"old")
    assert rig.ask(other).status == 503


def test_variants_are_kept_apart(rig):
    path = keep(rig, "/vary", "cache-control: max-age=60\r\nvary: x-kind\r\n")
    bodies = {kind: rig.ask(path, f"x-kind: {kind}\r\n").body for kind in ("a", "b")}
    assert bodies["a"] != bodies["b"]
    for kind, body in bodies.items():
        again = rig.ask(path, f"x-kind: {kind}\r\n")
        assert again.body == body
        assert "; hit" in str(again.value("cache-status"))
    assert len(rig.seen(path)) == 2


def test_many_that_miss_at_once_make_one_fetch(rig):
    path = keep(rig, "/gated", "cache-control: max-age=60\r\n", b"x" * 300_000)
    rig.origin.gate.clear()
    replies: list[Reply] = []
    threads = [threading.Thread(target=lambda: replies.append(rig.ask(path))) for _ in range(40)]
    for thread in threads:
        thread.start()
    poll(lambda: rig.seen(path), "nobody asks")
    rig.origin.gate.set()
    for thread in threads:
        thread.join()
    assert {len(reply.body) for reply in replies} == {300_000}
    assert len(replies) == 40
    assert len(rig.seen(path)) == 1


def test_a_fetch_goes_on_when_the_client_that_began_it_leaves(rig):
    path = keep(rig, "/gated-left", "cache-control: max-age=60\r\n", b"y" * 100_000)
    rig.origin.gate.clear()
    with rig.edge.connect() as leaver:
        leaver.sendall(get(path))
        poll(lambda: rig.seen(path), "nobody asks")
        waiting: list[Reply] = []
        thread = threading.Thread(target=lambda: waiting.append(rig.ask(path)))
        thread.start()
        poll(lambda: rig.edge.metric("polycdn_cache_collapsed_total") >= 1, "the second does not wait")
    rig.origin.gate.set()
    thread.join()
    assert waiting[0].body == b"y" * 100_000


def test_a_range_of_a_large_object_fetches_only_its_blocks(rig):
    path = keep(rig, "/large", 'cache-control: max-age=60\r\netag: "l"\r\naccept-ranges: bytes\r\n', LARGE)
    first = 5 * BLOCK + 17
    for _ in range(2):
        reply = rig.ask(path, f"range: bytes={first}-{first + 9}\r\n")
        assert (reply.status, reply.body) == (206, LARGE[first : first + 10])
        assert reply.value("content-range") == f"bytes {first}-{first + 9}/{len(LARGE)}"
    assert [one.value("range") for one in rig.seen(path)] == [f"bytes={5 * BLOCK}-{6 * BLOCK - 1}"]
    assert rig.ask(path).body == LARGE
    assert all(one.value("if-range") == '"l"' for one in rig.seen(path)[1:])
    asked = len(rig.seen(path))
    assert rig.ask(path).body == LARGE
    assert len(rig.seen(path)) == asked


def test_a_body_without_a_length_that_outgrows_the_cache_still_comes_whole():
    whole = LARGE * 3

    def behave(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 200 OK\r\ncache-control: max-age=60\r\ntransfer-encoding: chunked\r\n\r\n")
        for at in range(0, len(whole), 500_000):
            piece = whole[at : at + 500_000]
            exchange.send(b"%x\r\n%s\r\n" % (len(piece), piece))
        exchange.send(b"0\r\n\r\n")

    with Provider(behave) as provider, alone(provider.port, words=("--memory", "16MB")) as edge:
        for _ in range(2):
            with edge.connect() as connection:
                connection.sendall(get("/", "connection: close\r\n").replace(b"HTTP/1.1", b"HTTP/1.0"))
                assert parse(read_to_end(connection)).body == whole


def test_a_change_forgets_what_was_stored(rig):
    path = keep(rig, "/changed", "cache-control: max-age=60\r\n")
    rig.ask(path)
    for method in ("POST", "PUT", "DELETE"):
        assert "; hit" in str(rig.ask(path).value("cache-status"))
        assert rig.ask(path, "content-length: 0\r\n", method).status == 200
        assert "uri-miss" in str(rig.ask(path).value("cache-status")), method


def test_purges_forget_by_url_by_prefix_and_by_key(rig):
    path = keep(rig, "/purged/one", "cache-control: max-age=60\r\nsurrogate-key: red blue\r\n")
    orders: list[dict[str, object]] = [
        {"url": f"http://www.example.test{path}"},
        {"prefix": "http://www.example.test/purged/"},
        {"key": "blue"},
        {"key": "red", "soft": True},
    ]
    rig.ask(path)
    for order in orders:
        assert "; hit" in str(rig.ask(path).value("cache-status"))
        rig.purge(order)
        assert "fwd=" in str(rig.ask(path).value("cache-status")), order
    rig.purge({"key": "green"})
    assert "; hit" in str(rig.ask(path).value("cache-status"))


def test_what_is_no_part_of_the_key_does_not_reach_the_origin(rig):
    path = keep(rig, "/poison", "cache-control: max-age=60\r\n")
    fields = (
        "x-forwarded-host: evil.test\r\nx-original-url: /admin\r\nx-forwarded-for: 192.0.2.1\r\nx-fine: 1\r\n"
    )
    rig.ask(path, fields)
    seen = rig.seen(path)[0]
    assert seen.value("x-forwarded-host") == HOST
    assert seen.value("x-original-url") is None
    assert (seen.value("x-forwarded-for"), seen.value("x-fine")) == ("127.0.0.1", "1")


def test_a_client_that_wants_only_what_is_stored_gets_504(rig):
    assert rig.ask("/never-stored", "cache-control: only-if-cached\r\n").status == 504
    assert not rig.seen("/never-stored")


def test_hits_and_misses_are_counted(rig):
    path = keep(rig, "/counted", "cache-control: max-age=60\r\n")
    before = {
        word: rig.edge.metric(f'polycdn_edge_requests_total{{cache="{word}"}}') for word in ("hit", "miss")
    }
    rig.ask(path), rig.ask(path), rig.ask(path)
    for word, more in (("hit", 2), ("miss", 1)):
        assert rig.edge.metric(f'polycdn_edge_requests_total{{cache="{word}"}}') == before[word] + more


def test_pipelined_hits_are_answered_in_order(rig):
    paths = [
        keep(rig, f"/pipe/{number}", "cache-control: max-age=60\r\n", b"%d" % number) for number in range(5)
    ]
    for path in paths:
        rig.ask(path)
    pipe = b"".join(get(path, "") for path in paths) + get(paths[0], "connection: close\r\n")
    replies = rig.edge.raw(pipe).split(b"HTTP/1.1 200 OK\r\n")[1:]
    assert [reply[-1:] for reply in replies] == [b"0", b"1", b"2", b"3", b"4", b"0"]


def test_no_cache_passes_everything_on():
    origin = Origin(fields={"/": "cache-control: max-age=60\r\n"})
    with Provider(origin.behave) as provider, alone(provider.port, words=("--no-cache",)) as edge:
        for _ in range(2):
            assert parse(edge.raw(get())).value("cache-status") is None
        assert len(provider.requests) == 2


def test_the_disk_tier_survives_a_restart(tmp_path):
    origin = Origin(fields={"/": "cache-control: max-age=3600\r\n"}, bodies={"/": b"d" * 70_000})
    words = ("--disk", f"{tmp_path / 'disk'}:64MB")
    with Provider(origin.behave) as provider:
        for turn in range(2):
            with alone(provider.port, words=words) as edge:
                reply = parse(edge.raw(get()))
                assert reply.body == b"d" * 70_000
                assert ("; hit" in str(reply.value("cache-status"))) == (turn == 1)
                if turn == 0:
                    poll(
                        lambda: edge.metric('polycdn_cache_disk_records{kind="head"}') >= 1,
                        "nothing is written",
                    )
                assert edge.stop() == 0
        assert len(provider.requests) == 1


def test_the_purge_command_tells_a_running_edge(rig, capsys):
    path = keep(rig, "/by-command", "cache-control: max-age=60\r\ncache-tag: one, two\r\n")
    url = f"http://www.example.test{path}"
    place = ["--admin", f"127.0.0.1:{rig.edge.admin}", "--token-file", rig.edge.token_file]
    rig.ask(path)
    for order in ([url], ["--prefix", url[:-3]], ["--key", "two"], ["--key", "one", "--soft", "--json"]):
        assert "; hit" in str(rig.ask(path).value("cache-status"))
        with pytest.raises(SystemExit) as stop:
            main(["purge", *order, *place])
        assert stop.value.code == 0, capsys.readouterr()
        assert "fwd=" in str(rig.ask(path).value("cache-status")), order
    for wrong in ([], ["ftp://a/"], [url, "--service", "x"]):
        with pytest.raises(SystemExit) as stop:
            main(["purge", *wrong, *place])
        assert stop.value.code == 2
    assert "Traceback" not in capsys.readouterr().err


def test_a_certificate_that_changes_is_read_again(tmp_path):
    (tmp_path / "a").mkdir(), (tmp_path / "b").mkdir()
    pairs = [OwnAuthority(tmp_path / name).leaf("www.example.test") for name in ("a", "b")]
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"

    def place(pair: tuple[str, str]) -> None:
        for source, goal in zip(pair, (cert, key), strict=True):
            goal.write_bytes(Path(source).read_bytes())

    place(pairs[0])
    with Provider(Origin().behave) as provider, alone(provider.port, tls=(str(cert), str(key))) as edge:
        address = ("127.0.0.1", edge.tls_port)
        before = ssl.get_server_certificate(address, timeout=10)
        place(pairs[1])
        edge.process.send_signal(signal.SIGHUP)
        poll(lambda: ssl.get_server_certificate(address, timeout=10) != before, "the old one stays")
        cert.write_text("no certificate")
        edge.process.send_signal(signal.SIGHUP)
        poll(lambda: edge.metric("polycdn_config_last_reload_successful") == 0, "the fault is not told")
        assert ssl.get_server_certificate(address, timeout=10) != before


def test_no_byte_is_wrong_when_the_cache_is_far_too_small():
    sizes = [100, 50_000, BLOCK, 3_000_001, 9_000_000]
    bodies = {f"/o{number}": LARGE[number : number + size] for number, size in enumerate(sizes)}
    rules = 'cache-control: max-age=60\r\netag: "x"\r\naccept-ranges: bytes\r\n'
    origin = Origin(fields=dict.fromkeys(bodies, rules), bodies=bodies)
    wrong: list[tuple[str, str]] = []

    def ask(edge: Alone, seed: int) -> None:
        dice = Random(seed)
        for _ in range(40):
            path = dice.choice(sorted(bodies))
            body = bodies[path]
            first = dice.randrange(len(body))
            last = min(first + dice.choice([0, 1_000, 2_000_000]), len(body) - 1)
            fields = dice.choice(
                ["", f"range: bytes={first}-{last}\r\n", f"range: bytes=-{len(body) - first}\r\n"]
            )
            reply = parse(edge.raw(get(path, f"{fields}connection: close\r\n")))
            want = body if reply.status == 200 else body[first:] if "=-" in fields else body[first : last + 1]
            if reply.body != want:
                wrong.append((path, fields))

    with Provider(origin.behave) as provider, alone(provider.port, words=("--memory", "8MB")) as edge:
        threads = [threading.Thread(target=ask, args=(edge, seed)) for seed in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong
