"""Whether a purge reaches a provider is seen from its answers, before and after, over real sockets."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from purgeable import Purgeable

from polycdn.measure import parity_purge
from polycdn.measure.parity import NO_DOOR, REACHED, purge_line
from polycdn.measure.parity_purge import Sign, is_forgotten, purge_call, reach_of, sign_of
from polycdn.model.purge import PurgeDoor
from polycdn.model.topology import Endpoint, Provider, ProviderKind
from polycdn.run.clock import Wall

PLACE = ("www.test", "/a/b.css?v=1")
PLAIN = ("www.test", "/health.txt")


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    """What is waited for in vain is given up early."""
    monkeypatch.setattr(parity_purge, "REACH_MS", 300)
    monkeypatch.setattr(parity_purge, "PAUSE_MS", 20)


def provider_at(port: int) -> Provider:
    return Provider("a", ProviderKind.CDN, Endpoint("www.test", port, False, ("127.0.0.1",)))


def reach(cache: Purgeable, door: PurgeDoor | None, secret: str = "") -> str:
    return asyncio.run(reach_of(provider_at(cache.port), door, secret, PLAIN, 10_000, Wall()))


@pytest.mark.parametrize("tells", ["x-cache", "age"])
def test_a_purge_that_takes_the_object_away_has_reached(tells):
    with Purgeable(tells) as cache:
        assert reach(cache, PurgeDoor()) == REACHED
        assert cache.purges == [("PURGE", "/health.txt", b"")]


@pytest.mark.parametrize("tells", ["x-cache", "age"])
def test_a_purge_that_is_taken_and_not_carried_out_has_not(tells):
    with Purgeable(tells, is_deaf=True) as cache:
        assert reach(cache, PurgeDoor()).startswith("not reached: still from the cache")


def test_a_door_of_its_own_is_told_the_object_and_the_secret():
    with Purgeable(token="s3cret") as cache:
        api = f"http://127.0.0.1:{cache.port}"
        key = "Api-Key: {token}"
        body = PurgeDoor(f"{api}/zones/1/purge", "POST", '{"files": ["{url}"]}', key)
        query = PurgeDoor(f"{api}/purge?url={{url}}", "POST", header=key)
        assert reach(cache, body, "s3cret") == reach(cache, query, "s3cret") == REACHED
        assert cache.purges[0][2] == b'{"files": ["http://www.test/health.txt"]}'
        assert cache.purges[1][1] == "/purge?url=http%3A%2F%2Fwww.test%2Fhealth.txt"
        assert reach(cache, body, "wrong") == "not reached: the purge was answered by 403"


def test_without_a_door_nothing_is_asked_and_without_a_word_of_a_cache_nothing_is_purged(monkeypatch):
    monkeypatch.setattr(parity_purge, "WARM_MS", 100)
    with Purgeable(tells="nothing") as cache:
        assert reach(cache, None) == NO_DOOR
        assert not cache.kept
        assert reach(cache, PurgeDoor()).startswith("not seen: its answers say nothing of a cache")
        assert cache.purges == []


def test_the_words_of_an_object_are_escaped_where_they_go():
    odd = ("www.test", '/a"b?c=1&d')
    door = PurgeDoor("http://api.test/{host}{path}?u={url}", "POST", '{"p": "{path}"}')
    call = purge_call(provider_at(80), door, "t", odd, 1_000)
    assert call.url == 'http://api.test/www.test/a"b?c=1&d?u=http%3A%2F%2Fwww.test%2Fa%22b%3Fc%3D1%26d'
    assert call.body == '{"p": "/a\\"b?c=1&d"}'
    assert ("Authorization", "Bearer t") in call.headers
    own = purge_call(provider_at(80), PurgeDoor(), "", PLACE, 1_000)
    assert (own.connect_to, own.headers) == ("127.0.0.1:80", (("Host", "www.test"),))


@pytest.mark.parametrize(
    ("headers", "sign"),
    [
        ({"cache-status": "polycdn; hit; ttl=5", "age": "3"}, Sign(True, 3)),
        ({"cache-status": "a; fwd=miss, b; hit"}, Sign(True, None)),
        ({"cache-status": "a; fwd=uri-miss; stored"}, Sign(False, None)),
        ({"x-cache": "HIT, MISS"}, Sign(True, None)),
        ({"x-cache": "Hit from cloudfront"}, Sign(True, None)),
        ({"x-cache": "TCP_MISS from a7 (AkamaiGHost)"}, Sign(False, None)),
        ({"x-cache": "hit-for-pass"}, Sign(False, None)),
        ({"cf-cache-status": "DYNAMIC"}, Sign(False, None)),
        ({"age": "x"}, Sign(None, None)),
        ({"age": "7, 9"}, Sign(None, 7)),
    ],
)
def test_what_answers_say_of_caches(headers, sign):
    assert sign_of(tuple(headers.items())) == sign


@given(st.integers(0, 1_000), st.floats(0, 1_000))
def test_an_object_that_only_grew_older_was_not_forgotten(age_s, elapsed_s):
    after = Sign(True, age_s + int(elapsed_s))
    assert not is_forgotten(Sign(True, age_s), after, elapsed_s)


def test_whom_a_purge_does_not_reach_is_unequal_once_it_reaches_anybody():
    def unequal(*values):
        return purge_line("/", "abc"[: len(values)], values).unequal

    assert unequal(NO_DOOR, REACHED, "not reached: 403") == ("a", "c")
    assert unequal(NO_DOOR, NO_DOOR) == ()
    assert unequal(REACHED, "not seen: x") == ()
    assert purge_line("/", "ab", (REACHED, "not seen: x")).unknown == ("b",)
