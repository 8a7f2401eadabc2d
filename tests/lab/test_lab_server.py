"""Every fault, as a real client over real sockets sees it."""

import asyncio
import json
from contextlib import suppress

import pytest
from lab_stage import FOREVER_MS, SMALL, check_for, staged, until

from polycdn.lab.checks import ChatCheck
from polycdn.lab.content import statics
from polycdn.lab.exchange import LAB_KEY
from polycdn.lab.fault import FaultKind, Window
from polycdn.lab.fetch import Call, fetch
from polycdn.model.observation import Reason
from polycdn.run.clock import Wall

SEEN = {
    FaultKind.REFUSE: Reason.REFUSED,
    FaultKind.HANG: Reason.TIMEOUT,
    FaultKind.TLS: Reason.TLS,
    FaultKind.EXPIRED_CERT: Reason.CERT_EXPIRED,
    FaultKind.RESET: Reason.RESET,
    FaultKind.EMPTY_REPLY: Reason.EMPTY,
    FaultKind.HTTP_5XX: Reason.HTTP_5XX,
    FaultKind.ERROR_PAGE: Reason.CONTENT,
    FaultKind.SLOW_FIRST_BYTE: Reason.TIMEOUT,
    FaultKind.SLOW_DRIP: Reason.STALLED,
    FaultKind.DIE_MID_BODY: Reason.RESET,
    FaultKind.TRUNCATE: Reason.TRUNCATED,
    FaultKind.STALL: Reason.STALLED,
    FaultKind.CORRUPT: Reason.CORRUPT,
    FaultKind.LOST_ANSWER: Reason.EMPTY,
    FaultKind.GARBAGE: Reason.PROTOCOL,
    FaultKind.HEADER_BOMB: Reason.PROTOCOL,
    FaultKind.WRONG_TYPE: Reason.CONTENT,
}


def always(kind, **more):
    return Window("alpha", 0, FOREVER_MS, kind, **more)


@pytest.mark.parametrize("path", ["/feed/7", "/probe", "/patch.bin"])
@pytest.mark.parametrize("kind", SEEN, ids=str)
def test_a_client_sees_the_fault_for_what_it_is(tmp_path, certified, kind, path):
    async def work():
        async with staged(tmp_path, certified, always(kind)) as stage:
            assert (await stage.get(path)).reason is SEEN[kind]

    asyncio.run(work())


@pytest.mark.parametrize(
    "path", ["/feed/7", "/probe", "/patch.bin", "/music/playlist.m3u8", "/music/seg3.ts"]
)
def test_without_a_fault_a_client_gets_what_it_asked_for(tmp_path, certified, path):
    async def work():
        async with staged(tmp_path, certified) as stage:
            outcome = await stage.get(path)
            assert outcome.reason is Reason.OK
            assert outcome.body_bytes > 0
            assert 0 < outcome.first_byte_ms <= outcome.total_ms

    asyncio.run(work())


CHAT_SEEN = {
    None: Reason.OK,
    FaultKind.HTTP_5XX: Reason.HTTP_5XX,
    FaultKind.TRUNCATE: Reason.TRUNCATED,
    FaultKind.CORRUPT: Reason.CORRUPT,
    FaultKind.DIE_MID_BODY: Reason.RESET,
    FaultKind.SLOW_DRIP: Reason.STALLED,
    FaultKind.STALL: Reason.STALLED,
    FaultKind.WRONG_LENGTH: Reason.TRUNCATED,
    FaultKind.WRONG_TYPE: Reason.CONTENT,
}


@pytest.mark.parametrize("kind", CHAT_SEEN, ids=str)
def test_a_chat_stream_shows_the_fault_too(tmp_path, certified, kind):
    async def work():
        windows = (always(kind),) if kind else ()
        async with staged(tmp_path, certified, *windows) as stage:
            check = ChatCheck(SMALL, "r", Wall())
            outcome = await stage.get("/chat?reply=r", check)
            assert outcome.reason is CHAT_SEEN[kind]
            if kind in (FaultKind.TRUNCATE, FaultKind.DIE_MID_BODY, FaultKind.SLOW_DRIP):
                assert check.first_event_ms > 0

    asyncio.run(work())


def test_the_same_requests_fail_again_and_each_fault_is_logged(tmp_path, certified):
    keys = [f"single/feed-get/{number}" for number in range(60)]

    async def round_of(stage):
        outcomes = [await stage.get("/feed/7", key=key) for key in keys]
        return [key for key, outcome in zip(keys, outcomes, strict=True) if outcome.reason is Reason.HTTP_5XX]

    async def work():
        async with staged(tmp_path, certified, always(FaultKind.HTTP_5XX, share_ppm=400_000)) as stage:
            failed = await round_of(stage)
            assert failed == await round_of(stage)
            assert 10 < len(failed) < 40
            await until(lambda: stage.fault_log.read_text().count("\n") == 2 * len(failed))
            logged = [json.loads(line) for line in stage.fault_log.read_text().splitlines()]
            assert [line["key"] for line in logged] == failed * 2

    asyncio.run(work())


def test_a_share_of_connections_is_refused_by_a_reset(tmp_path, certified):
    async def work():
        async with staged(tmp_path, certified, always(FaultKind.REFUSE, share_ppm=500_000)) as stage:
            reasons = [(await stage.get("/probe")).reason for _ in range(40)]
            assert set(reasons) == {Reason.OK, Reason.RESET}
            assert 8 < reasons.count(Reason.RESET) < 32

    asyncio.run(work())


def test_faults_come_and_go_while_it_runs(tmp_path, certified):
    async def work():
        async with staged(tmp_path, certified) as stage:
            for windows, reason in [((), Reason.OK), ((always(FaultKind.REFUSE),), Reason.REFUSED)] * 2:
                stage.inject(*windows)
                async with asyncio.timeout(60):
                    while (await stage.get("/probe")).reason is not reason:
                        await asyncio.sleep(0.01)

    asyncio.run(work())


def test_a_broken_faults_file_leaves_the_last_good_one(tmp_path, certified):
    async def work():
        async with staged(tmp_path, certified, always(FaultKind.HTTP_5XX)) as stage:
            stage.faults_file.write_text("{")
            await until(lambda: "error" in stage.fault_log.read_text())
            assert (await stage.get("/probe")).reason is Reason.HTTP_5XX

    asyncio.run(work())


@pytest.mark.parametrize("kind", [FaultKind.REFUSE, FaultKind.HANG], ids=str)
def test_a_connection_that_was_kept_dies_with_the_rest(tmp_path, certified, kind):
    async def work():
        async with staged(tmp_path, certified) as stage:
            site = stage.site
            reader, writer = await asyncio.open_connection(
                stage.address, site.port, ssl=site.context, server_hostname=site.hostname
            )
            ask = b"GET /probe HTTP/1.1\r\nhost: service.test\r\n\r\n"

            async def ask_again() -> None:
                writer.write(ask)
                async with asyncio.timeout(2):
                    assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 200")
                    await reader.readuntil(b"\r\n\r\n")
                    await reader.readexactly(SMALL.probe_bytes)

            await ask_again()
            stage.inject(always(kind))
            with pytest.raises((ConnectionError, TimeoutError, asyncio.IncompleteReadError)):
                while True:  # until the process has read its faults
                    await ask_again()
            writer.transport.abort()

    asyncio.run(work())


def test_the_name_must_be_that_of_the_certificate(tmp_path, certified):
    async def work():
        async with staged(tmp_path, certified) as stage:
            site = type(stage.site)("other.test", stage.site.port, stage.site.context)
            call = Call("GET", "/probe", {LAB_KEY: "k"})
            outcome = await fetch(site, stage.address, call, check_for("/probe"), Wall())
            assert outcome.reason is Reason.TLS

    asyncio.run(work())


async def raw(stage, request):
    """What comes back, byte for byte, until the server closes."""
    site = stage.site
    reader, writer = await asyncio.open_connection(
        stage.address, site.port, ssl=site.context, server_hostname=site.hostname
    )
    writer.write(request)
    try:
        return await reader.read()
    finally:
        writer.transport.abort()


def test_a_head_request_gets_the_fields_of_a_get_and_no_body(tmp_path, certified):
    async def work():
        async with staged(tmp_path, certified) as stage:
            ask = b"HEAD /patch.bin HTTP/1.1\r\nhost: service.test\r\nconnection: close\r\n\r\n"
            head, _, body = (await raw(stage, ask)).partition(b"\r\n\r\n")
            assert b"content-length: %d" % SMALL.patch_bytes in head
            assert body == b""

    asyncio.run(work())


def test_a_range_of_the_patch_comes_out_of_the_cache(tmp_path, certified):
    async def work():
        async with staged(tmp_path, certified) as stage:
            fields = b"host: service.test\r\nrange: bytes=5-9\r\nconnection: close"
            ask = b"GET /patch.bin HTTP/1.1\r\n%b\r\n\r\n" % fields
            for _ in range(2):
                head, _, body = (await raw(stage, ask)).partition(b"\r\n\r\n")
                assert head.startswith(b"HTTP/1.1 206")
                assert body == statics(SMALL)["/patch.bin"].body[5:10]
            await until(lambda: stage.origin_log.read_text())
            assert stage.origin_log.read_text().count("\n") == 1

    asyncio.run(work())


@pytest.mark.parametrize(
    "request_bytes", [b"nonsense\r\n\r\n", b"GET / HTTP/1.1\r\nhost\r\n\r\n", b"\x00" * 300_000]
)
def test_what_is_not_http_is_not_answered(tmp_path, certified, request_bytes):
    async def work():
        async with staged(tmp_path, certified) as stage:
            with suppress(ConnectionError):
                assert await raw(stage, request_bytes) == b""
            assert (await stage.get("/probe")).reason is Reason.OK

    asyncio.run(work())
