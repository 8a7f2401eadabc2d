"""Load: its schedule, what it logs, and what its clients hold to be good."""

import asyncio
import json
from collections import Counter

import pytest
from lab_stage import FOREVER_MS, HOSTNAME, SMALL, running, staged, until

from polycdn.lab.checks import ChatCheck, FeedCheck, ObjectCheck
from polycdn.lab.content import JSON, chat_event, feed_body, probed_objects
from polycdn.lab.exchange import BODY_SHA256
from polycdn.lab.fault import FaultKind, Window
from polycdn.lab.http1 import Head
from polycdn.lab.load import Client, Shots, run_load
from polycdn.lab.reader import read_lines
from polycdn.lab.spec import Aim, LoadSpec, Process, Rates
from polycdn.model.observation import Reason
from polycdn.run.clock import Virtual, Wall

pytestmark = pytest.mark.alone

RATES = Rates(3_000, 10_000, 3_000, 10_000, 2_000)


def spec_of(tmp_path, stage, ca_file, **more):
    process = Process("single", "wall", str(tmp_path / "single.ready"))
    log = str(tmp_path / "single.requests")
    fields = {"content": SMALL, "rates": RATES, "address": stage.address} | more
    return LoadSpec(process, Aim.PINNED, HOSTNAME, stage.site.port, ca_file, log, **fields)


def after_load(tmp_path, certified, *windows, for_ms=1_000, **more):
    """The lines of a client that ran for a while against one CDN."""

    async def work():
        async with staged(tmp_path, certified, *windows) as stage:
            stop_ms = Wall().now_ms() + for_ms
            spec = spec_of(tmp_path, stage, certified.ca_file, stop_ms=stop_ms, **more)
            await run_load(spec, Wall(), Wall(), lambda _: None)

    asyncio.run(work())
    return read_lines([tmp_path / "single.requests"])


def test_every_kind_is_asked_for_and_good(tmp_path, certified):
    lines = after_load(tmp_path, certified)
    assert {line.reason for line in lines} == {Reason.OK}
    assert {line.kind for line in lines} == {
        "chat-connect", "chat-stream", "feed-get", "feed-post", "music-playlist", "music-segment", "patch",
    }  # fmt: skip
    assert {line.target for line in lines} == {"127.0.0.1"}


class Noted(Client):
    """Notes what is due instead of sending it."""

    def _start(self, shot, due_ms):
        self.noted.append((shot.key, due_ms, self._wall.now_ms()))


def test_request_n_is_due_n_over_the_rate_after_the_start(tmp_path, certified):
    async def work():
        wall = Virtual(5_000)
        process = Process("single", "wall", "ready")
        spec = LoadSpec(process, Aim.PINNED, HOSTNAME, 1, certified.ca_file, "log", SMALL, stop_ms=15_000)
        client = Noted(spec, (), wall, wall, None)
        client.noted = []
        await client.send_group(5_000, "feed-get", 40_000, Shots("single", SMALL, wall).feed_get)
        return client.noted

    noted = asyncio.run(work())
    assert [key for key, _, _ in noted] == [f"single/feed-get/{number}" for number in range(400)]
    offset_ms = noted[0][1] - 5_000
    assert 0 <= offset_ms < 25
    assert [due_ms for _, due_ms, _ in noted] == [5_000 + offset_ms + 25 * number for number in range(400)]
    assert all(due_ms == now_ms for _, due_ms, now_ms in noted)


def test_a_slow_service_does_not_slow_the_load(tmp_path, certified):
    slow = Window("alpha", 0, FOREVER_MS, FaultKind.SLOW_FIRST_BYTE, delay_ms=600)
    rates = Rates(0, 40_000, 0, 0, 0)
    lines = after_load(tmp_path, certified, slow, rates=rates)
    assert 20 <= len(lines) <= 41, "one at a time there would be two"
    assert {line.reason for line in lines} == {Reason.OK}
    assert min(line.total_ms for line in lines) >= 600


def test_beyond_its_bound_a_client_sends_nothing_and_says_so(tmp_path, certified):
    slow = Window("alpha", 0, FOREVER_MS, FaultKind.SLOW_FIRST_BYTE, delay_ms=2_000)
    rates = Rates(0, 40_000, 0, 0, 0)
    lines = after_load(tmp_path, certified, slow, rates=rates, in_flight_max=5)
    reasons = Counter(line.reason for line in lines)
    assert reasons[Reason.OK] == 5
    assert reasons[Reason.BLIND] >= 15


def test_a_failed_request_is_not_sent_again(tmp_path, certified):
    broken = Window("alpha", 0, FOREVER_MS, FaultKind.HTTP_5XX)
    lines = after_load(tmp_path, certified, broken, for_ms=500)
    assert {line.reason for line in lines} == {Reason.HTTP_5XX}
    faults = [json.loads(line) for line in (tmp_path / "alpha.faults").read_text().splitlines()]
    assert max(Counter(fault["key"] for fault in faults).values()) == 1


def test_a_chat_that_never_connects_has_no_stream(tmp_path, certified):
    broken = Window("alpha", 0, FOREVER_MS, FaultKind.ERROR_PAGE)
    lines = after_load(tmp_path, certified, broken, for_ms=400, rates=Rates(20_000, 0, 0, 0, 0))
    assert {(line.kind, line.reason) for line in lines} == {("chat-connect", Reason.CONTENT)}


def test_a_chat_that_breaks_off_was_connected(tmp_path, certified):
    broken = Window("alpha", 0, FOREVER_MS, FaultKind.TRUNCATE)
    lines = after_load(tmp_path, certified, broken, for_ms=400, rates=Rates(20_000, 0, 0, 0, 0))
    assert {(line.kind, line.reason) for line in lines} == {
        ("chat-connect", Reason.OK),
        ("chat-stream", Reason.TRUNCATED),
    }


def test_requests_under_way_at_the_end_are_not_failures(tmp_path, certified):
    async def work():
        async with staged(tmp_path, certified) as stage:
            spec = spec_of(tmp_path, stage, certified.ca_file)
            async with running(run_load, spec):
                log = tmp_path / "single.requests"
                await until(lambda: log.exists() and log.read_text().count("\n") > 5)

    asyncio.run(work())
    assert {line.reason for line in read_lines([tmp_path / "single.requests"])} == {Reason.OK}


def answered(content_type=JSON, **fields):
    named = {name.replace("_", "-"): value for name, value in fields.items()}
    return Head(("HTTP/1.1", "200", "OK"), {"content-type": content_type, **named})


def judge(check, head, *chunks):
    for reason in (check.head(head), *map(check.chunk, chunks)):
        if reason is not Reason.OK:
            return reason
    return check.end()


def test_a_post_of_another_number_is_wrong_content():
    from hashlib import sha256

    body = feed_body(8, "origin-1", 0)
    head = Head(("HTTP/1.1", "200", "OK"), {"content-type": JSON, BODY_SHA256: sha256(body).hexdigest()})
    assert judge(FeedCheck(8), head, body) is Reason.OK
    assert judge(FeedCheck(7), head, body) is Reason.CONTENT
    assert judge(FeedCheck(8), head, body.replace(b"post", b"pest")) is Reason.CORRUPT
    assert judge(FeedCheck(8), answered(), body) is Reason.CONTENT


def test_an_object_of_another_size_type_or_digest_is_told():
    expect = probed_objects(SMALL)[0].expect
    size = str(expect.body_bytes)
    good = answered(expect.content_type, content_length=size)
    assert judge(ObjectCheck(expect), answered("text/html", content_length=size)) is Reason.CONTENT
    assert judge(ObjectCheck(expect), answered(expect.content_type, content_length="7")) is Reason.CONTENT
    assert judge(ObjectCheck(expect), good, bytes(expect.body_bytes)) is Reason.CORRUPT
    assert judge(ObjectCheck(expect), answered(expect.content_type), b"short") is Reason.CONTENT


@pytest.mark.parametrize(
    ("shown", "reason"),
    [
        ([1, 2, 3, 4, 5, 6, 7, 8], Reason.OK),
        ([1, 2, 3, 4, 5, 6, 7], Reason.TRUNCATED),
        ([1, 2, 4], Reason.CORRUPT),
        ([2], Reason.CORRUPT),
        ([], Reason.TRUNCATED),
    ],
)
def test_a_gap_in_a_stream_is_seen(shown, reason):
    events = b"".join(chat_event(SMALL, "r", index) for index in shown)
    pieces = [events[start : start + 7] for start in range(0, len(events), 7)]
    check = ChatCheck(SMALL, "r", Wall())
    assert judge(check, answered("text/event-stream"), *pieces) is reason
    assert (check.first_event_ms > 0) is (shown[:1] == [1])
