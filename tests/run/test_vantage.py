"""A vantage with real sockets: on schedule, signed, and nothing lost that the queue can hold."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "fakes"))

from misbehaving import Misbehaving, answer, late, raw

from polycdn.errors import ConfigError
from polycdn.measure.report import VantageReport
from polycdn.measure.sign import refusal
from polycdn.measure.target import SUSPECT_LOOKS
from polycdn.model import wire
from polycdn.model.observation import Reason
from polycdn.model.policy import Policy
from polycdn.model.topology import Endpoint, ProbedObject, Provider, ProviderKind, Service
from polycdn.model.units import ORIGIN
from polycdn.run.clock import Recorded, Script, Wall
from polycdn.run.inbox import Inbox
from polycdn.run.ingest import Ingest
from polycdn.run.vantage import VantageSpec, Watched, read_spec, run_vantage

KEY = b"0123456789abcdef0123456789abcdef"
LOCAL = ("127.0.0.1",)
STOPPED_MS = 1_500


class Receiver:
    """Keeps what is posted; answers with the statuses given, the last one for ever."""

    def __init__(self, *statuses: int) -> None:
        self.statuses = list(statuses) or [204]
        self.posts: list[tuple[dict[str, str], bytes]] = []

    async def behave(self, reader, writer, head: bytes) -> None:
        fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:] if ": " in line)
        headers = {name.lower(): value for name, value in fields.items()}
        body = await reader.readexactly(int(headers["content-length"]))
        status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        self.posts.append((headers, body))
        writer.write(f"HTTP/1.1 {status} X\r\ncontent-length: 0\r\n\r\n".encode())
        await writer.drain()

    @property
    def reports(self) -> list[VantageReport]:
        return [wire.from_json(VantageReport, json.loads(body)) for _headers, body in self.posts]

    @property
    def observations(self):
        return [
            seen for report in self.reports for service in report.services for seen in service.observations
        ]


def spec_for(tmp_path, service: Service, report_url: str, **changes) -> VantageSpec:
    key_file = tmp_path / "v1.key"
    key_file.write_bytes(KEY + b"\n")
    policy = changes.pop("policy", Policy(probe_interval_ms=10_000, probe_deadline_ms=400))
    return VantageSpec("v1", (Watched(service, policy),), report_url, str(key_file), **changes)


def service_at(port: int, **changes) -> Service:
    providers = (
        Provider("good", ProviderKind.CDN, Endpoint("www.test", port, False, LOCAL)),
        Provider("gone", ProviderKind.CDN, Endpoint("www.test", closed_port(), False, LOCAL)),
    )
    origin = Endpoint("origin.test", port, False, LOCAL)
    return Service(
        **{"name": "www", "hostname": "www.test", "providers": providers, "origin": origin} | changes
    )


def closed_port() -> int:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        return closed.getsockname()[1]


async def until(claim, within_ms: int = 60_000) -> None:
    """Returns as soon as the claim holds."""
    clock = Wall()
    end_ms = clock.now_ms() + within_ms
    while not claim():
        assert clock.now_ms() < end_ms, "did not come true in time"
        await asyncio.sleep(0.01)


def compressed() -> Script:
    """90 times as fast: a look every 10 s is one every 111 ms."""
    return Script(1_763_465_000_000, Wall().now_ms(), 90)


async def watched(spec: VantageSpec, clock, claim) -> None:
    vantage = asyncio.create_task(run_vantage(spec, clock))
    try:
        await until(lambda: claim() or vantage.done())
    finally:
        vantage.cancel()
        with pytest.raises(asyncio.CancelledError):
            await vantage


def test_looks_are_posted_signed_and_stamped_by_the_clock(tmp_path):
    receiver = Receiver()

    async def run():
        async with Misbehaving(answer()) as server, Misbehaving(receiver.behave) as sink:
            url = f"http://127.0.0.1:{sink.port}/observations"
            spec = spec_for(tmp_path, service_at(server.port), url, lab_key_header="x-lab-key")
            clock = compressed()
            start_ms = clock.now_ms()
            await watched(spec, clock, lambda: len(receiver.posts) >= 6)
            return start_ms, clock.now_ms(), server.heads, sink.heads

    start_ms, end_ms, heads, posts = asyncio.run(run())
    newest_ms = 0
    for headers, body in receiver.posts:
        assert refusal(KEY, headers, body, end_ms, newest_ms) == ""
        newest_ms = int(headers["x-polycdn-at-ms"])
    assert [report.sequence for report in receiver.reports] == list(range(1, len(receiver.posts) + 1))
    assert posts[0].startswith(b"POST /observations HTTP/1.1\r\n")
    by_provider = {
        name: [s for s in receiver.observations if s.provider == name] for name in ("good", "gone", ORIGIN)
    }
    assert all(len(seen) >= 4 for seen in by_provider.values())
    assert {seen.reason for seen in by_provider["good"] + by_provider[ORIGIN]} == {Reason.OK}
    assert {seen.reason for seen in by_provider["gone"]} == {Reason.REFUSED}
    assert {seen.vantage for seen in receiver.observations} == {"v1"}
    assert all(start_ms <= seen.at_ms <= end_ms for seen in receiver.observations)
    gaps_ms = [b.at_ms - a.at_ms for a, b in pairwise(by_provider["good"])]
    mean_ms = sum(gaps_ms) / len(gaps_ms)
    assert mean_ms > 7_000, "never more often than the schedule says"
    assert mean_ms < 13_000 or receiver.reports[-1].skipped
    keys = sorted(head.split(b"x-lab-key: ")[1].split(b"\r\n")[0] for head in heads if b"Host: www" in head)
    assert {key.split(b"/")[0] for key in keys} == {b"v1"}
    assert len(set(keys)) >= 4


def test_a_good_connection_is_kept_and_a_failing_one_is_not(tmp_path):
    receiver = Receiver()

    async def connections(behave):
        async with Misbehaving(behave) as server, Misbehaving(receiver.behave) as sink:
            service = service_at(server.port, origin=None)
            service = Service("www", "www.test", service.providers[:1])
            spec = spec_for(tmp_path, service, f"http://127.0.0.1:{sink.port}/observations")
            await watched(spec, compressed(), lambda: len(server.heads) >= 12)
            return server.connections, len(server.heads)

    kept, looks = asyncio.run(connections(answer()))
    assert kept <= 1 + looks // 3
    broken, looks = asyncio.run(connections(answer(status="503 Sorry")))
    assert broken >= looks - 1


def test_after_one_failure_looks_connect_anew_for_a_while(tmp_path):
    receiver, good, bad = Receiver(), answer(), answer(status="503 Sorry")

    async def run():
        async def once(reader, writer, head):
            await (bad if len(server.heads) == 1 else good)(reader, writer, head)

        async with Misbehaving(once) as server, Misbehaving(receiver.behave) as sink:
            service = service_at(server.port, origin=None)
            service = Service("www", "www.test", service.providers[:1])
            spec = spec_for(tmp_path, service, f"http://127.0.0.1:{sink.port}/observations")
            await watched(spec, compressed(), lambda: len(server.heads) >= SUSPECT_LOOKS + 1)
            assert server.connections >= SUSPECT_LOOKS + 1
            await watched(spec, compressed(), lambda: len(server.heads) >= 2 * SUSPECT_LOOKS + 12)
            return server.connections, len(server.heads)

    connections, looks = asyncio.run(run())
    assert connections <= looks - 4, "nothing is kept any more"


def test_reports_wait_for_a_receiver_that_is_away_and_arrive_in_order(tmp_path):
    receiver = Receiver(503, 503, 204)

    async def run():
        async with Misbehaving(answer()) as server, Misbehaving(receiver.behave) as sink:
            spec = spec_for(tmp_path, service_at(server.port), f"http://127.0.0.1:{sink.port}/observations")
            await watched(spec, compressed(), lambda: len(receiver.posts) >= 6)

    asyncio.run(run())
    sequences = [report.sequence for report in receiver.reports]
    assert sequences[:5] == [1, 1, 1, 2, 3]
    assert receiver.reports[-1].dropped == 0


def test_a_unix_socket_receives_too(tmp_path):
    receiver = Receiver()
    path = str(tmp_path / "o.sock")

    open_now = 0

    async def serve(reader, writer):
        nonlocal open_now
        open_now += 1
        try:
            while True:
                await receiver.behave(reader, writer, await reader.readuntil(b"\r\n\r\n"))
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()
            open_now -= 1

    async def run():
        async with Misbehaving(answer()) as server:
            sink = await asyncio.start_unix_server(serve, path)
            await watched(
                spec_for(tmp_path, service_at(server.port), f"unix:{path}"),
                compressed(),
                lambda: len(receiver.posts) >= 2,
            )
            sink.close()
            await until(lambda: not open_now)

    asyncio.run(run())
    assert receiver.observations


def test_a_hanging_provider_delays_nobody_else(tmp_path):
    receiver = Receiver()

    async def run():
        async with (
            Misbehaving(answer()) as server,
            Misbehaving(raw(b"", then="hang")) as hanging,
            Misbehaving(receiver.behave) as sink,
        ):
            stuck = Provider("stuck", ProviderKind.CDN, Endpoint("www.test", hanging.port, False, LOCAL))
            base = service_at(server.port)
            service = service_at(server.port, providers=(base.providers[0], stuck))
            spec = spec_for(tmp_path, service, f"http://127.0.0.1:{sink.port}/observations")
            await watched(
                spec,
                compressed(),
                lambda: sum(seen.provider == "stuck" for seen in receiver.observations) >= 3,
            )

    asyncio.run(run())
    good = [seen for seen in receiver.observations if seen.provider == "good"]
    stuck = [seen for seen in receiver.observations if seen.provider == "stuck"]
    assert {seen.reason for seen in stuck} == {Reason.TIMEOUT}
    assert len(good) >= len(stuck) + 2
    assert {seen.reason for seen in good} == {Reason.OK}


def test_objects_take_turns(tmp_path):
    receiver = Receiver()

    async def run():
        async with Misbehaving(answer()) as server, Misbehaving(receiver.behave) as sink:
            objects = (ProbedObject("/a"), ProbedObject("/b"))
            spec = spec_for(
                tmp_path,
                service_at(server.port, objects=objects),
                f"http://127.0.0.1:{sink.port}/observations",
            )
            await watched(spec, compressed(), lambda: len(receiver.posts) >= 5)

    asyncio.run(run())
    paths = [seen.path for seen in receiver.observations if seen.provider == "good"]
    assert set(paths) == {"/a", "/b"}
    assert all(one != two for one, two in pairwise(paths))


def test_what_a_vantage_posts_is_what_the_decider_takes(tmp_path):
    posted = Receiver()

    async def run():
        async with Misbehaving(answer()) as server, Misbehaving(posted.behave) as sink:
            service = service_at(server.port)
            url = f"http://127.0.0.1:{sink.port}/observations"
            clock = compressed()
            # An address that is not ours blinds every look; half of the reports come from such a vantage.
            for source_address in (None, "203.0.113.9"):
                spec = spec_for(tmp_path, service, url, source_address=source_address)
                enough = len(posted.posts) + 3
                await watched(spec, clock, lambda: len(posted.posts) >= enough)  # noqa: B023
            return service, clock.now_ms()

    service, now_ms = asyncio.run(run())
    clock = Recorded(now_ms)
    ingest = Ingest({"v1": KEY}, (service,), Inbox(["www"], clock, 1_000), clock)
    taken = [ingest.take(headers, body)[0] for headers, body in posted.posts]
    stamps = {headers["x-polycdn-at-ms"] for headers, _body in posted.posts}
    assert taken.count(202) == len(stamps)
    assert set(taken) <= {202, 409}, "a report whose answer was lost is sent again"
    assert {Reason.OK, Reason.REFUSED, Reason.BLIND} <= {seen.reason for seen in posted.observations}
    headers, body = posted.posts[0]
    assert ingest.take(headers, body)[0] == 409


def test_a_spec_survives_its_file(tmp_path):
    spec = spec_for(tmp_path, service_at(80), "unix:/run/o.sock", regions=("eu",), source_address="127.0.0.2")
    path = tmp_path / "spec.json"
    path.write_bytes(wire.canonical(spec))
    assert read_spec(str(path)) == spec


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{", b'{"name": 3}', b"\xff", b'{"format": "polycdn/vantage/9"}']
)
def test_a_bad_spec_is_the_operators_mistake(tmp_path, content):
    path = tmp_path / "spec.json"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=str(path)):
        read_spec(str(path))


def test_a_missing_spec_or_key_is_the_operators_mistake(tmp_path):
    with pytest.raises(ConfigError, match="No such file"):
        read_spec(str(tmp_path / "none.json"))
    spec = spec_for(tmp_path, service_at(80), "unix:/run/o.sock")
    (tmp_path / "v1.key").write_bytes(b"short")
    with pytest.raises(ConfigError, match="5 bytes"):
        asyncio.run(run_vantage(spec, Wall()))


@pytest.mark.lab
def test_the_process_ends_with_0_on_sigterm(tmp_path):
    receiver = Receiver()

    async def run():
        async with Misbehaving(answer()) as server, Misbehaving(receiver.behave) as sink:
            policy = Policy(probe_interval_ms=100)
            spec = spec_for(
                tmp_path, service_at(server.port), f"http://127.0.0.1:{sink.port}/observations", policy=policy
            )
            path = tmp_path / "spec.json"
            path.write_bytes(wire.canonical(spec))
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-c",
                "from polycdn.cli.main import main; main()",
                "vantage",
                "--spec",
                str(path),
                stderr=subprocess.PIPE,
            )
            await until(lambda: len(receiver.posts) >= 3, 60_000)
            os.kill(process.pid, signal.SIGTERM)
            _out, stderr = await process.communicate()
            return process.returncode, stderr

    code, stderr = asyncio.run(run())
    assert (code, stderr) == (0, b"")


@pytest.mark.lab
def test_a_vantage_that_was_stopped_blames_nobody_and_does_not_burst(tmp_path):
    receiver = Receiver()

    async def run():
        async with Misbehaving(late(0.08)) as server, Misbehaving(receiver.behave) as sink:
            policy = Policy(probe_interval_ms=100, probe_deadline_ms=400)
            url = f"http://127.0.0.1:{sink.port}/observations"
            service = Service("www", "www.test", service_at(server.port).providers[:1])
            path = tmp_path / "spec.json"
            path.write_bytes(wire.canonical(spec_for(tmp_path, service, url, policy=policy)))
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-c",
                "from polycdn.cli.main import main; main()",
                "vantage",
                "--spec",
                str(path),
            )
            await until(lambda: len(receiver.posts) >= 5, 60_000)
            os.kill(process.pid, signal.SIGSTOP)
            await asyncio.sleep(STOPPED_MS / 1_000)
            before = len(server.heads)
            os.kill(process.pid, signal.SIGCONT)
            await until(lambda: receiver.reports[-1].skipped > 0, 60_000)
            await until(lambda: len(server.heads) >= before + 5, 60_000)
            os.kill(process.pid, signal.SIGTERM)
            await process.wait()

    asyncio.run(run())
    # What was due meanwhile was left out, all but the newest look and one for the edges: there was no burst.
    assert receiver.reports[-1].skipped >= STOPPED_MS // 100 - 2
    assert {seen.reason for seen in receiver.observations} <= {Reason.OK, Reason.BLIND}
