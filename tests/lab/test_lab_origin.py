"""What an origin does with a request; and the way to it from a CDN."""

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import pytest
from lab_stage import HOSTNAME, SMALL, Hand, running, staged, until

from polycdn.lab.checks import ObjectCheck
from polycdn.lab.content import PATCH_PATH, chat_event, probed_objects, statics
from polycdn.lab.exchange import Request
from polycdn.lab.fault import FaultKind, Schedule, Window
from polycdn.lab.injector import write_faults
from polycdn.lab.logs import LineLog
from polycdn.lab.origin import Origin
from polycdn.lab.places import split_listen
from polycdn.lab.process import run_origin
from polycdn.lab.spec import OriginSpec, Process
from polycdn.lab.upstream import Origins
from polycdn.model.observation import Reason
from polycdn.model.topology import Endpoint
from polycdn.run.clock import Wall


def spec_of(tmp_path, name="origin-1", **more):
    process = Process(name, "wall", str(tmp_path / f"{name}.ready"))
    return OriginSpec(process, "127.0.0.1:0", str(tmp_path / f"{name}.served"), SMALL, **more)


def ask(origin, method, target, **fields):
    named = {name.replace("_", "-"): value for name, value in fields.items()}
    return origin.answer(Request(method, target, named, b"", "the-key"))


def with_origins(tmp_path, *specs):
    """Runs a test's coroutine with Origin objects; returns what they logged."""

    def wrap(work):
        async def run():
            logs = [LineLog(spec.request_log) for spec in specs]
            origins = [Origin(spec, Hand(), log) for spec, log in zip(specs, logs, strict=True)]
            await work(*origins)
            for log in logs:
                log.close()

        asyncio.run(run())
        texts = [Path(spec.request_log).read_text() for spec in specs]
        return [json.loads(line) for text in texts for line in text.splitlines()]

    return wrap


def test_a_post_is_executed_once_for_each_key(tmp_path):
    @with_origins(tmp_path, spec_of(tmp_path))
    async def served(origin):
        first = await ask(origin, "POST", "/feed", idempotency_key="a")
        again = await ask(origin, "POST", "/feed", idempotency_key="a")
        other = await ask(origin, "POST", "/feed", idempotency_key="b")
        assert (first.status, again.status, other.status) == (201, 200, 201)
        assert first.body == again.body != other.body

    assert [(line["key"], line["executed"]) for line in served] == [("a", True), ("a", False), ("b", True)]


def test_origins_that_share_keys_execute_once_in_all(tmp_path):
    (tmp_path / "keys").mkdir()
    specs = [spec_of(tmp_path, name, keys_dir=str(tmp_path / "keys")) for name in ("one", "two")]

    @with_origins(tmp_path, *specs)
    async def served(one, two):
        first = await ask(one, "POST", "/feed", idempotency_key="a/b")
        assert (await ask(two, "POST", "/feed", idempotency_key="a/b")).body == first.body

    assert sum(line["executed"] for line in served) == 1


def test_origins_of_their_own_execute_each(tmp_path):
    @with_origins(tmp_path, spec_of(tmp_path, "one"), spec_of(tmp_path, "two"))
    async def served(one, two):
        await ask(one, "POST", "/feed", idempotency_key="a")
        await ask(two, "POST", "/feed", idempotency_key="a")

    assert sum(line["executed"] for line in served) == 2


@pytest.mark.parametrize("key", ["", "x" * 201])
def test_a_post_without_a_fitting_key_is_refused(tmp_path, key):
    @with_origins(tmp_path, spec_of(tmp_path))
    async def served(origin):
        assert (await ask(origin, "POST", "/feed", idempotency_key=key)).status == 400

    assert not served[0]["executed"]


@pytest.mark.parametrize(
    ("method", "target", "status"),
    [
        ("GET", "/nothing", 404),
        ("GET", "/feed/", 404),
        ("GET", "/feed/x", 404),
        ("POST", "/probe", 404),
        ("DELETE", "/probe", 405),
        ("GET", "/feed/12?x=1", 200),
        ("HEAD", "/probe", 200),
    ],
)
def test_other_requests(tmp_path, method, target, status):
    @with_origins(tmp_path, spec_of(tmp_path))
    async def served(origin):
        assert (await ask(origin, method, target)).status == status

    assert [(line["status"], line["method"]) for line in served] == [(status, method)]


@pytest.mark.parametrize("last", [0, 3, 7, 8, 99])
def test_a_chat_goes_on_after_the_last_event_that_was_seen(tmp_path, last):
    events = []

    @with_origins(tmp_path, spec_of(tmp_path))
    async def served(origin):
        answer = await ask(origin, "GET", "/chat?reply=r", last_event_id=str(last))
        events.extend([event async for event in answer.stream])

    assert events == [chat_event(SMALL, "r", index) for index in range(last + 1, SMALL.chat_events + 1)]
    assert served[0]["bytes"] == sum(map(len, events))


def test_what_is_expected_of_an_object_is_what_is_served(tmp_path):
    @with_origins(tmp_path, spec_of(tmp_path))
    async def served(origin):
        for known in probed_objects(SMALL):
            answer = await ask(origin, "GET", known.path)
            assert len(answer.body) == known.expect.body_bytes
            assert answer.fields["content-type"] == known.expect.content_type

    assert len(served) == len(statics(SMALL))


def test_a_cdn_fetches_the_patch_once_for_many(tmp_path, certified):
    async def work():
        async with staged(tmp_path, certified) as stage:
            outcomes = await asyncio.gather(*(stage.get(PATCH_PATH) for _ in range(6)))
            assert {outcome.reason.value for outcome in outcomes} == {"ok"}
            assert {outcome.body_bytes for outcome in outcomes} == {SMALL.patch_bytes}
            await until(lambda: stage.origin_log.read_text())
            assert stage.origin_log.read_text().count(PATCH_PATH) == 1

    asyncio.run(work())


def through(origins, method="GET", target="/feed/1", **fields):
    named = {name.replace("_", "-"): value for name, value in fields.items()}
    return origins.fetch(Request(method, target, named, b"", "k"))


def endpoints(*listens):
    places = [split_listen(listen) for listen in listens]
    return tuple(Endpoint(HOSTNAME, port, False, (address,)) for address, port in places)


def body_origin(answer):
    return json.loads(bytes(answer.body))["from"]


@pytest.mark.parametrize(
    "kind",
    [FaultKind.REFUSE, FaultKind.RESET, FaultKind.HTTP_5XX, FaultKind.TRUNCATE, FaultKind.EMPTY_REPLY],
    ids=str,
)
def test_the_second_origin_is_asked_when_the_first_fails(tmp_path, kind):
    faults = tmp_path / "faults.json"
    first = spec_of(tmp_path, "one", faults_file=str(faults))

    async def work():
        async with running(run_origin, first) as one, running(run_origin, spec_of(tmp_path, "two")) as two:
            origins = Origins(endpoints(one, two), Wall())
            assert body_origin(await through(origins)) == "one"
            write_faults(faults, Schedule(1, (Window("one", 0, 1 << 60, kind),)))
            async with asyncio.timeout(5):
                while body_origin(await through(origins)) != "two":
                    await asyncio.sleep(0.01)
            origins.close()

    asyncio.run(work())


@pytest.mark.parametrize(
    ("kind", "status"), [(FaultKind.REFUSE, 201), (FaultKind.RESET, 502), (FaultKind.HTTP_5XX, 503)], ids=str
)
def test_a_post_goes_to_the_second_origin_only_if_the_first_cannot_have_it(tmp_path, kind, status):
    faults = tmp_path / "faults.json"
    write_faults(faults, Schedule(1, (Window("one", 0, 1 << 60, kind),)))
    first = spec_of(tmp_path, "one", faults_file=str(faults))

    async def work():
        async with running(run_origin, first) as one, running(run_origin, spec_of(tmp_path, "two")) as two:
            origins = Origins(endpoints(one, two), Wall())
            answer = await through(origins, "POST", "/feed", idempotency_key="a")
            assert answer.status == status
            origins.close()

    asyncio.run(work())


def test_without_any_origin_the_answer_is_a_bad_gateway(tmp_path):
    async def work():
        async with running(run_origin, spec_of(tmp_path, "one")) as gone:
            pass
        assert (await through(Origins(endpoints(gone, gone), Wall()))).status == 502

    asyncio.run(work())


def test_a_message_is_executed_each_time_it_arrives(tmp_path):
    @with_origins(tmp_path, spec_of(tmp_path))
    async def served(origin):
        statuses = [(await ask(origin, "POST", "/message")).status for _ in range(2)]
        assert statuses == [201, 201]

    assert [line["executed"] for line in served] == [True, True]


def test_another_version_has_other_bytes_and_an_etag_of_its_own(tmp_path):
    @with_origins(tmp_path, spec_of(tmp_path))
    async def _(origin):
        ours = await ask(origin, "GET", PATCH_PATH)
        fields = {"range": "bytes=5-", "if-range": ours.fields["etag"]}
        theirs = await origin.answer(Request("GET", PATCH_PATH, fields, b"", "k", is_other_version=True))
        assert (theirs.status, len(theirs.body)) == (200, len(ours.body))
        assert theirs.fields["etag"] != ours.fields["etag"]
        assert theirs.body != ours.body


def test_an_object_is_sent_at_its_pace(tmp_path, certified):
    pace = replace(SMALL, patch_bytes=1_000_000, bytes_per_s=4_000_000)

    async def work():
        async with staged(tmp_path, certified, content=pace) as stage:
            check = ObjectCheck({each.path: each.expect for each in probed_objects(pace)}[PATCH_PATH])
            outcome = await stage.get(PATCH_PATH, check)
            assert outcome.reason is Reason.OK
            assert outcome.total_ms >= 125

    asyncio.run(work())
