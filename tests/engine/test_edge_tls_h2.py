"""The same edge over TLS and HTTP/2, towards clients and towards providers."""

import io
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pycurl
import pytest
from providers import (
    HOST,
    QUICK,
    Edge,
    Exchange,
    Hangup,
    Provider,
    answer,
    edge,
    published,
    settings,
    upstream,
)

from polycdn.model.settings import Certificate

sys.path.insert(0, str(Path(__file__).parent.parent / "fakes"))

from own_certs import OwnAuthority

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def authority(tmp_path_factory) -> OwnAuthority:
    return OwnAuthority(tmp_path_factory.mktemp("certs"))


@pytest.fixture(scope="module")
def shared_edge() -> Iterator[Edge]:
    with edge(workers=2) as one:
        yield one


@dataclass
class Seen:
    """What curl saw."""

    status: int
    version: int
    body: bytes
    fields: bytes
    error: int = 0


def curl(
    one: Edge, authority: OwnAuthority, protocol: str, path: str = "/", host: str = HOST, **options: object
) -> Seen:
    """One request over `protocol`: h1, h2c, h1s or h2."""
    is_tls = protocol in ("h1s", "h2")
    scheme, port = ("https", one.tls_port) if is_tls else ("http", one.port)
    versions = {"h1": pycurl.CURL_HTTP_VERSION_1_1, "h1s": pycurl.CURL_HTTP_VERSION_1_1}
    versions |= {"h2": pycurl.CURL_HTTP_VERSION_2TLS, "h2c": pycurl.CURL_HTTP_VERSION_2_PRIOR_KNOWLEDGE}
    body, fields = io.BytesIO(), io.BytesIO()
    handle = pycurl.Curl()
    handle.setopt(pycurl.URL, f"{scheme}://{host}:{port}{path}")
    handle.setopt(pycurl.CONNECT_TO, [f"::127.0.0.1:{port}"])
    handle.setopt(pycurl.HTTP_VERSION, versions[protocol])
    handle.setopt(pycurl.CAINFO, authority.ca_file)
    handle.setopt(pycurl.WRITEDATA, body)
    handle.setopt(pycurl.HEADERFUNCTION, fields.write)
    handle.setopt(pycurl.TIMEOUT, 15)
    for name, value in options.items():
        handle.setopt(getattr(pycurl, name), value)
    error = 0
    try:
        handle.perform()
    except pycurl.error as failed:
        error = failed.args[0]
    seen = Seen(
        handle.getinfo(pycurl.RESPONSE_CODE),
        handle.getinfo(pycurl.INFO_HTTP_VERSION),
        body.getvalue(),
        fields.getvalue(),
        error,
    )
    handle.close()
    return seen


ALL = ["h1", "h2c", "h1s", "h2"]


def own_pair(authority: OwnAuthority, hostname: str = HOST) -> Certificate:
    return Certificate(*authority.leaf(hostname))


@pytest.mark.parametrize("protocol", ALL)
def test_every_protocol_reaches_the_same_provider(shared_edge, authority, protocol):
    with Provider(answer(b"x" * 300_000)) as one:
        pair = (own_pair(authority),)
        shared_edge.serve(settings(upstream("cdn", one.port), certificates=pair))
        seen = curl(shared_edge, authority, protocol, "/a?b", HTTPHEADER=["cookie: a=1", "cookie: b=2"])
        assert (seen.status, len(seen.body), seen.error) == (200, 300_000, 0)
        assert seen.version == (3 if protocol in ("h2", "h2c") else 2)
        got = one.requests[-1]
        assert (got.target, got.value("host")) == ("/a?b", f"{HOST}:{port_of(shared_edge, protocol)}")
        assert got.value("x-forwarded-proto") == ("https" if protocol in ("h1s", "h2") else "http")
        assert got.value("via") == ("2 polycdn" if protocol in ("h2", "h2c") else "1.1 polycdn")


def port_of(one: Edge, protocol: str) -> int:
    return one.tls_port if protocol in ("h1s", "h2") else one.port


@pytest.mark.parametrize("protocol", ALL)
def test_failover_is_the_same_over_every_protocol(shared_edge, authority, protocol):
    with Provider(answer(b"no", "503 No")) as bad, Provider(answer()) as good:
        pair = (own_pair(authority),)
        shared_edge.serve(settings(upstream("a", bad.port), upstream("b", good.port), certificates=pair))
        seen = curl(shared_edge, authority, protocol)
        assert (seen.status, seen.body) == (200, b"good")


@pytest.mark.parametrize("protocol", ALL)
def test_a_body_that_breaks_off_is_an_error_over_every_protocol(shared_edge, authority, protocol):
    def dies(exchange: Exchange) -> None:
        exchange.send(
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n186a0\r\n" + b"x" * 100_000 + b"\r\n"
        )
        raise Hangup

    with Provider(dies) as bad:
        shared_edge.serve(settings(upstream("a", bad.port), certificates=(own_pair(authority),)))
        seen = curl(shared_edge, authority, protocol)
        assert seen.status == 200
        assert seen.error != 0


@pytest.mark.parametrize("protocol", ALL)
def test_bodies_go_up_over_every_protocol(shared_edge, authority, protocol):
    body = b"0123456789" * 60_000
    with Provider(answer()) as one:
        shared_edge.serve(settings(upstream("a", one.port), certificates=(own_pair(authority),)))
        seen = curl(shared_edge, authority, protocol, POST=1, POSTFIELDS=body)
        assert seen.status == 200
        assert one.requests[-1].body == body


def test_head_and_empty_answers_over_http2(shared_edge, authority):
    with Provider(answer(b"", "204 No Content", "")) as one:
        shared_edge.serve(settings(upstream("a", one.port), certificates=(own_pair(authority),)))
        assert (curl(shared_edge, authority, "h2").status, curl(shared_edge, authority, "h2").body) == (
            204,
            b"",
        )
        assert curl(shared_edge, authority, "h2", NOBODY=1).error == 0


def test_a_name_that_is_no_services_is_421_over_http2(shared_edge, authority):
    assert curl(shared_edge, authority, "h2c", host="other.test").status == 421


def test_the_name_asked_for_picks_the_certificate(shared_edge, authority):
    names = ("one.example.test", "two.example.test")
    with Provider(answer()) as cdn:
        for name in names:
            service = settings(
                upstream("a", cdn.port), hostnames=(name,), certificates=(own_pair(authority, name),)
            )
            service = type(service)(**{**fields_of(service), "service": name.split(".")[0]})
            shared_edge.serve(service)
        for name in names:
            assert curl(shared_edge, authority, "h2", host=name).status == 200
        stranger = curl(shared_edge, authority, "h2", host="stranger.test")
        assert stranger.error in (pycurl.E_SSL_CACERT, pycurl.E_PEER_FAILED_VERIFICATION)


def fields_of(service: object) -> dict[str, object]:
    return {name: getattr(service, name) for name in service.__dataclass_fields__}  # type: ignore[attr-defined]


def test_a_providers_certificate_is_verified(shared_edge, authority):
    good = authority.leaf(HOST)
    bad = {
        "tls": authority.leaf(HOST, self_signed=True),
        "cert_expired": authority.leaf(HOST, days_left=-3),
        "other name": authority.leaf("other.test"),
    }
    for reason, pair in bad.items():
        with Provider(answer(b"evil"), pair) as evil, Provider(answer(), good) as well:
            ca = {"tls": True, "ca_file": authority.ca_file}
            shared_edge.serve(
                settings(upstream("a", evil.port, **ca), upstream("b", well.port, **ca), limits=QUICK)
            )
            seen = curl(shared_edge, authority, "h1")
            assert (seen.status, seen.body) == (200, b"good"), reason
            assert not evil.requests
            assert well.requests[-1].value("host") == f"{HOST}:{shared_edge.port}"


def test_a_certificate_that_cannot_be_read_is_refused_and_the_old_plan_serves_on(
    shared_edge, authority, tmp_path
):
    with Provider(answer()) as one:
        shared_edge.serve(settings(upstream("a", one.port)))
        broken = tmp_path / "broken.pem"
        broken.write_text("no certificate")
        service = settings(upstream("a", one.port), certificates=(Certificate(str(broken), str(broken)),))
        refused = shared_edge.process.apply(service, published(service, shared_edge.generation + 1))
        assert refused["ok"] is False
        assert "broken.pem" in refused["error"]
        assert curl(shared_edge, authority, "h1").status == 200
