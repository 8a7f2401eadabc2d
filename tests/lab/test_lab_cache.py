"""The cache of an emulated CDN."""

import asyncio

import pytest
from lab_stage import Hand

from polycdn.lab.cache import Cache, lifetime_of
from polycdn.lab.exchange import Answer


class Counted:
    """Answers with a body that counts; holds back until it is released."""

    def __init__(self, control="max-age=10", **fields):
        self.fetched = 0
        self.fields = {"cache-control": control, **fields}
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self):
        self.fetched += 1
        body = b"%d" % self.fetched
        await self.gate.wait()
        return Answer(200, self.fields, body)


def test_an_answer_is_kept_for_its_max_age_and_not_longer():
    async def work():
        clock, fetch = Hand(0), Counted()
        cache = Cache(1_000, clock)
        seen = []
        for clock.at_ms in (0, 3_700, 9_999, 10_000, 19_999, 20_000):
            answer = await cache.get("/a", fetch)
            seen.append((bytes(answer.body), answer.fields.get("age")))
        assert seen == [(b"1", None), (b"1", "3"), (b"1", "9"), (b"2", None), (b"2", "9"), (b"3", None)]

    asyncio.run(work())


def test_concurrent_misses_are_one_fetch():
    async def work():
        fetch = Counted()
        fetch.gate.clear()
        cache = Cache(1_000, Hand())
        asked = [asyncio.create_task(cache.get("/a", fetch)) for _ in range(20)]
        await asyncio.sleep(0)
        fetch.gate.set()
        assert {bytes((await task).body) for task in asked} == {b"1"}
        assert fetch.fetched == 1

    asyncio.run(work())


def test_what_may_not_be_stored_is_shared_with_nobody():
    async def work():
        fetch = Counted("no-store")
        fetch.gate.clear()
        cache = Cache(1_000, Hand())
        asked = [asyncio.create_task(cache.get("/a", fetch)) for _ in range(3)]
        await asyncio.sleep(0)
        fetch.gate.set()
        assert sorted([bytes((await task).body) for task in asked]) == [b"1", b"2", b"3"]

    asyncio.run(work())


def test_a_failed_fetch_frees_those_who_wait():
    async def work():
        cache = Cache(1_000, Hand())
        gate = asyncio.Event()

        async def fail():
            await gate.wait()
            raise ConnectionResetError

        first = asyncio.create_task(cache.get("/a", fail))
        await asyncio.sleep(0)
        second = asyncio.create_task(cache.get("/a", Counted()))
        await asyncio.sleep(0)
        gate.set()
        with pytest.raises(ConnectionResetError):
            await first
        assert bytes((await second).body) == b"1"

    asyncio.run(work())


def test_the_least_recently_used_goes_first_when_bytes_run_out():
    async def work():
        cache = Cache(3, Hand())
        fetches = {path: Counted() for path in "abcd"}
        for path in "abcad":
            await cache.get(path, fetches[path])
        for path in "acd":
            await cache.get(path, fetches[path])
        await cache.get("b", fetches["b"])
        assert {path: fetch.fetched for path, fetch in fetches.items()} == {"a": 1, "b": 2, "c": 1, "d": 1}

    asyncio.run(work())


def test_what_is_larger_than_the_cache_is_not_kept():
    async def work():
        cache, fetch = Cache(0, Hand()), Counted()
        assert bytes((await cache.get("/a", fetch)).body) == b"1"
        assert bytes((await cache.get("/a", fetch)).body) == b"2"

    asyncio.run(work())


def test_an_age_from_before_counts():
    async def work():
        clock, fetch = Hand(0), Counted(age="8")
        cache = Cache(1_000, clock)
        for clock.at_ms in (0, 1_999, 2_000):
            await cache.get("/a", fetch)
        assert fetch.fetched == 2

    asyncio.run(work())


@pytest.mark.parametrize(
    ("control", "lifetime_ms"),
    [
        ("max-age=10", 10_000),
        ("public, max-age=10", 10_000),
        ("max-age=10, s-maxage=20", 20_000),
        ("no-store, max-age=10", 0),
        ("private, max-age=10", 0),
        ("no-cache", 0),
        ("max-age=ten", 0),
        ("x-max-age=10", 0),
        ("", 0),
    ],
)
def test_lifetimes(control, lifetime_ms):
    assert lifetime_of(Answer(200, {"cache-control": control})) == lifetime_ms


def test_only_good_answers_are_kept():
    assert lifetime_of(Answer(503, {"cache-control": "max-age=10"})) == 0
