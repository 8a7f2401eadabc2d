"""Parity asks by HTTP/1.1, HTTP/2 and HTTP/3, and goes to the provider, not to whom the name leads to."""

import asyncio
from contextlib import AsyncExitStack

from h3_server import speaking_h3
from misbehaving import Misbehaving, answer

from polycdn.measure.http import Prober
from polycdn.measure.parity import Ask
from polycdn.measure.parity_ask import answer_of, versions_of
from polycdn.model.topology import Endpoint, Provider, ProviderKind
from polycdn.run.clock import Wall

DEADLINE_MS = 30_000


def provider_at(port: int, ca_file: str | None = None, **changes) -> Provider:
    endpoint = Endpoint("www.test", port, ca_file is not None, ("127.0.0.1",), ca_file)
    return Provider("a", ProviderKind.CDN, changes.pop("endpoint", endpoint), **changes)


def spoken(authority, alpn: str = "http/1.1", has_h3: bool = False) -> dict[str, str]:
    async def run():
        leaf = authority.leaf("www.test")
        async with AsyncExitStack() as stack:
            server = await stack.enter_async_context(Misbehaving(answer(), leaf, alpn))
            if has_h3:
                await stack.enter_async_context(speaking_h3(*leaf, server.port))
            prober = await stack.enter_async_context(Prober(Wall()))
            provider = provider_at(server.port, authority.ca_file)
            return await versions_of(prober, provider, "www.test", "/", DEADLINE_MS)

    return asyncio.run(run())


def test_each_version_is_asked_by_itself(authority):
    assert spoken(authority) == {"HTTP/1.1": "yes, 200", "HTTP/2": "no", "HTTP/3": "no"}
    assert spoken(authority, "h2")["HTTP/2"] == "yes, 200"
    assert spoken(authority, has_h3=True)["HTTP/3"] == "yes, 200"


def test_without_tls_there_is_http_1_only():
    async def run():
        async with Misbehaving(answer()) as server, Prober(Wall()) as prober:
            return await versions_of(prober, provider_at(server.port), "www.test", "/", DEADLINE_MS)

    assert asyncio.run(run()) == {"HTTP/1.1": "yes, 200", "HTTP/2": "no: no TLS", "HTTP/3": "no: no TLS"}


def test_a_libcurl_without_http_3_is_told_and_is_no_verdict(authority, monkeypatch):
    from polycdn.measure import transfer

    unknown = dict(transfer.VERSION_OF) | {"h3": 1 << 20}  # a version that no libcurl takes
    monkeypatch.setattr(transfer, "VERSION_OF", unknown)
    found = spoken(authority)
    assert found["HTTP/1.1"] == "yes, 200"
    assert found["HTTP/3"].startswith("not asked: libcurl refused")


def test_a_provider_with_a_name_of_its_own_is_asked_there():
    async def run():
        async with Misbehaving(answer(b"mine")) as server:
            nowhere = Endpoint("www.invalid", server.port, False)
            provider = provider_at(0, endpoint=nowhere, cname="localhost")
            return await answer_of(provider, "www.invalid", "/", Ask("plain"), DEADLINE_MS), server.heads

    answered, heads = asyncio.run(run())
    assert (answered.status, answered.body_bytes, answered.protocol) == (200, 4, "h1")
    assert b"Host: www.invalid\r\n" in heads[0]
