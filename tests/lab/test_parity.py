"""Parity through the lab's own CDNs: equal ones are equal, a sick or absent one is named."""

import asyncio
from dataclasses import replace

import pytest
from lab_stage import HOSTNAME, SMALL, staged

from polycdn.errors import ConfigError
from polycdn.lab.content import probed_objects
from polycdn.measure.parity import ASKS, FAILED, NOT_ASKED, Answer, compared
from polycdn.model.policy import Policy
from polycdn.model.topology import Endpoint, ProbedObject, Provider, ProviderKind, Service
from polycdn.run.clock import Wall
from polycdn.run.parity import parity

pytestmark = pytest.mark.lab


def service_of(*endpoints: Endpoint, path: str) -> Service:
    providers = tuple(
        Provider(f"cdn-{index}", ProviderKind.CDN, endpoint) for index, endpoint in enumerate(endpoints)
    )
    return Service("www", HOSTNAME, providers, objects=(ProbedObject(path),))


def test_two_cdns_before_one_origin_are_equal_and_an_absent_one_is_named(tmp_path, certified):
    path = probed_objects(SMALL)[0].path

    async def look():
        (tmp_path / "a").mkdir(), (tmp_path / "b").mkdir()
        async with staged(tmp_path / "a", certified) as one, staged(tmp_path / "b", certified) as two:
            ends = [
                Endpoint(HOSTNAME, each.site.port, True, (each.address,), certified.ca_file)
                for each in (one, two)
            ]
            equal = await parity(service_of(*ends, path=path), Policy(), Wall())
            absent = replace(ends[1], port=1)
            unequal = await parity(service_of(ends[0], absent, path=path), Policy(), Wall())
            plain = Endpoint(HOSTNAME, one.origin_port, False, (one.address,))
            other = await parity(service_of(ends[0], plain, path=path), Policy(), Wall())
            return equal, unequal, other

    equal, unequal, other = asyncio.run(look())
    assert equal.not_ready == ()
    assert {line.aspect for line in equal.lines} == {*(ask.aspect for ask in ASKS), "http", "tls"}
    assert next(line.values for line in equal.lines if line.what == "certificate") == ("trusted", "trusted")
    assert unequal.not_ready == ("cdn-1",)
    assert all(line.values[1].startswith(FAILED) for line in unequal.lines if line.what == "status")
    assert "tls" in {line.aspect for line in other.lines if line.unequal}


def test_what_differs_is_what_is_named():
    same = Answer("a", "/", "plain", 200, (("cache-control", "max-age=5"),), 3, "f" * 64, "1.1")
    stricter = replace(same, provider="b", headers=(("cache-control", "no-store"),))
    found = compared("www", 7, ("a", "b"), (same, stricter), {})
    assert [(line.what, line.values) for line in found.lines if line.unequal] == [
        ("cache-control", ("max-age=5", "no-store"))
    ]
    assert found.not_ready == ("b",)


def test_one_provider_alone_has_nothing_to_be_equal_to():
    with pytest.raises(ConfigError, match="two or more"):
        asyncio.run(parity(service_of(Endpoint("a.test"), path="/"), Policy(), Wall()))


def test_what_nobody_could_ask_is_neither_equal_nor_unequal():
    silent = f"{NOT_ASKED}: no HTTP/3 here"
    shown = {"http": {"a": {"HTTP/3": silent}, "b": {"HTTP/3": "yes, 200"}, "c": {"HTTP/3": "no"}}}
    (line,) = compared("www", 7, ("a", "b", "c"), (), shown).lines
    assert (line.unequal, line.unknown) == (("c",), ("a",))
    found = compared("www", 7, ("a", "b"), (), {"http": {name: {"HTTP/3": silent} for name in "ab"}})
    assert found.not_ready == ()
    assert found.lines[0].unknown == ("a", "b")
