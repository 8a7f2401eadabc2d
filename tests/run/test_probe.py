"""One look through everyone: side by side, honest about each."""

import asyncio
import io
import json
import sys
from contextlib import redirect_stdout
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "fakes"))

from misbehaving import Misbehaving, answer
from own_certs import OwnAuthority

from polycdn.cli.probe_command import as_object, print_table
from polycdn.errors import ConfigError
from polycdn.model.observation import Reason
from polycdn.model.policy import Policy
from polycdn.model.topology import Endpoint, Expect, ProbedObject, Provider, ProviderKind, Service
from polycdn.model.units import ORIGIN
from polycdn.run.clock import Wall
from polycdn.run.probe import PUBLIC, ProbeReport, probe, read_url

LOCAL = ("127.0.0.1",)


def probe_at(url: str, behaviours: dict, tls=None, ca_file=None, objects=(ProbedObject("/"),)) -> ProbeReport:
    """A probe of a service whose providers (and origin) behave so."""

    async def run():
        servers = {name: Misbehaving(behave, tls) for name, behave in behaviours.items()}
        for server in servers.values():
            await server.__aenter__()
        endpoints = {
            name: Endpoint("www.test", server.port, tls is not None, LOCAL, ca_file)
            for name, server in servers.items()
        }
        origin = endpoints.pop(ORIGIN, None)
        providers = tuple(Provider(name, ProviderKind.CDN, endpoint) for name, endpoint in endpoints.items())
        service = Service("shop", "www.test", providers, origin, objects, aliases=("alias.test",))
        try:
            return await probe(url, ((service, Policy(probe_deadline_ms=1_000)),), Wall())
        finally:
            for server in servers.values():
                await server.__aexit__()

    return asyncio.run(run())


def test_every_provider_and_the_origin_are_looked_at():
    report = probe_at("http://www.test/x", {"a": answer(), "b": answer(), ORIGIN: answer()})
    assert [look.provider for look in report.looks] == ["a", "b", ORIGIN]
    assert report.is_good
    assert report.service == "shop"
    assert report.has_same_body is True


def test_one_bad_provider_makes_the_probe_bad_and_is_named():
    report = probe_at("alias.test/x", {"a": answer(), "b": answer(status="503 Sorry")})
    assert not report.is_good
    assert [look.reason for look in report.looks] == [Reason.OK, Reason.HTTP_5XX]
    assert report.has_same_body is None


def test_bodies_that_differ_are_noticed():
    assert probe_at("http://www.test/", {"a": answer(b"one"), "b": answer(b"two")}).has_same_body is False


def test_expectations_hold_for_objects_of_the_config_only():
    objects = (ProbedObject("/known", Expect(contains="welcome")),)
    found = {"a": answer(status="302 Found")}
    (look,) = probe_at("http://www.test/known", {"a": answer()}, objects=objects).looks
    assert look.reason is Reason.CONTENT
    assert probe_at("http://www.test/other", {"a": answer()}, objects=objects).is_good
    assert probe_at("http://www.test/other", found, objects=objects).is_good
    assert not probe_at("http://www.test/known", found, objects=objects).is_good


def test_an_expired_certificate_is_shown_with_its_days(tmp_path):
    authority = OwnAuthority(tmp_path)
    leaf = authority.leaf("www.test", days_left=-3)
    report = probe_at("https://www.test/", {"a": answer()}, leaf, authority.ca_file)
    (look,) = report.looks
    assert look.reason is Reason.CERT_EXPIRED
    assert look.chain is not None
    assert not look.chain.is_valid
    assert look.chain.days_left(look.at_ms) == -3
    assert "expired" in look.chain.why
    assert as_object(report, look.at_ms)["looks"][0]["certificate"]["days_left"] == -3


def test_an_unknown_hostname_is_looked_at_by_its_public_name():
    async def run():
        async with Misbehaving(answer()) as server:
            return await probe(f"http://localhost:{server.port}/", (), Wall())

    report = asyncio.run(run())
    assert [look.provider for look in report.looks] == [PUBLIC]
    assert report.service == ""
    assert report.is_good


BAD_URLS = ["", "ftp://x/", "http://", "http://a b/", "http://x:99999/", "http://u:p@x/", "http://[::1/"]


@pytest.mark.parametrize("url", BAD_URLS)
def test_a_bad_url_is_the_operators_mistake(url):
    with pytest.raises(ConfigError, match="URL"):
        read_url(url)


def test_a_url_says_where_and_what():
    assert read_url("https://www.test") == (Endpoint("www.test"), "/")
    assert read_url("http://www.test:81/a/b?c=d#e") == (Endpoint("www.test", 81, False), "/a/b?c=d")
    assert read_url("www.test/x") == (Endpoint("www.test"), "/x")


def test_the_object_and_the_table_show_every_look():
    report = probe_at("http://www.test/", {"a": answer(), "b": answer(status="503 Sorry")})
    shown = json.loads(json.dumps(as_object(report, 0)))
    assert shown["ok"] is False
    assert [look["provider"] for look in shown["looks"]] == ["a", "b"]
    phases = {"resolve", "connect", "tls", "processing", "transfer", "total"}
    assert set(shown["looks"][0]["phases_us"]) == phases
    with redirect_stdout(io.StringIO()) as text:
        print_table(report, 0)
    assert "http_5xx" in text.getvalue()
    assert "status 503, expected 200" in text.getvalue()
