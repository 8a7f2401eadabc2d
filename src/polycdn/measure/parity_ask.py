"""Asks providers what parity compares: the same requests, through each at the same moment."""

import asyncio
import hashlib
import socket
import ssl
from dataclasses import dataclass
from io import BytesIO
from typing import Final

import pycurl

from polycdn.measure.http import Prober
from polycdn.measure.look import Protocol, Question
from polycdn.measure.parity import HEADERS, NOT_ASKED, Answer, Ask
from polycdn.measure.tls import fetch_chain
from polycdn.measure.transfer import PROTOCOL_OF_VERSION, system_ca_file
from polycdn.model.observation import Reason
from polycdn.model.topology import Endpoint, Provider

BODY_BYTES_MAX: Final = 8 << 20
HEAD_BYTES_MAX: Final = 262_144
TLS_VERSIONS: Final = (("TLS 1.2", ssl.TLSVersion.TLSv1_2), ("TLS 1.3", ssl.TLSVersion.TLSv1_3))
HTTP_VERSIONS: Final = (("HTTP/1.1", Protocol.H1), ("HTTP/2", Protocol.H2), ("HTTP/3", Protocol.H3))
SILENCES: Final = (
    Reason.REFUSED, Reason.RESET, Reason.UNREACHABLE, Reason.TIMEOUT, Reason.STALLED, Reason.EMPTY,
    Reason.PROTOCOL,
)  # fmt: skip
"""How one ends who does not speak a version; any other end says why."""


@dataclass(frozen=True, slots=True)
class Call:
    """One request as it goes out. `connect_to` is a host and port in place of the URL's, "" = the URL's."""

    url: str
    method: str = "GET"
    headers: tuple[tuple[str, str], ...] = ()
    body: str | None = None
    connect_to: str = ""
    ca_file: str | None = None
    deadline_ms: int = 5_000


@dataclass(frozen=True, slots=True)
class Heard:
    """What came back. `status` 0 = nothing, with the reason in `detail`; names of headers in lower case."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    protocol: str = ""
    detail: str = ""


async def answer_of(provider: Provider, host: str, path: str, ask: Ask, deadline_ms: int) -> Answer:
    """What the provider says; an answer with status 0 when it says nothing."""
    joined = f"{path}{'&' if '?' in path else '?'}{ask.query}" if ask.query else path
    heard = await hear(call_of(provider, host, joined, ask.method, ask.headers, deadline_ms))
    if not heard.status:
        return Answer(provider.name, path, ask.aspect, 0, detail=heard.detail)
    digest = hashlib.sha256(heard.body).hexdigest()
    kept = tuple(sorted((name, value) for name, value in heard.headers if name in HEADERS))
    return Answer(
        provider.name, path, ask.aspect, heard.status, kept, len(heard.body), digest, heard.protocol
    )


def call_of(
    provider: Provider,
    host: str,
    path: str,
    method: str,
    headers: tuple[tuple[str, str], ...],
    deadline_ms: int,
) -> Call:
    """A request for the service's own object, sent to this very provider whatever the name resolves to."""
    end = provider.endpoint
    url = f"{'https' if end.tls else 'http'}://{_bracketed(end.host)}:{end.port}{path}"
    fields = (("Host", host), *headers)
    return Call(
        url, method, fields, None, f"{_bracketed(_where(provider))}:{end.port}", end.ca_file, deadline_ms
    )


async def hear(call: Call) -> Heard:
    """The answer to one call; never raises for what the world does. Redirects are not followed."""
    return await asyncio.to_thread(_perform, call)


def _perform(call: Call) -> Heard:
    body, heads, is_long = BytesIO(), BytesIO(), False

    def take(held: BytesIO, limit: int, chunk: bytes) -> int:
        nonlocal is_long
        is_long = is_long or held.tell() + len(chunk) > limit
        return 0 if is_long else held.write(chunk)

    curl = pycurl.Curl()
    try:
        _prepare(curl, call)
        curl.setopt(pycurl.WRITEFUNCTION, lambda chunk: take(body, BODY_BYTES_MAX, chunk))
        curl.setopt(pycurl.HEADERFUNCTION, lambda chunk: take(heads, HEAD_BYTES_MAX, chunk))
        curl.perform()
        status = int(curl.getinfo(pycurl.RESPONSE_CODE))
        version = PROTOCOL_OF_VERSION.get(curl.getinfo(pycurl.INFO_HTTP_VERSION), "")
    except pycurl.error as error:
        detail = f"over {BODY_BYTES_MAX} bytes" if is_long else str(error.args[1])
        return Heard(0, detail=detail)
    finally:
        curl.close()
    return Heard(status, _headers(heads.getvalue()), body.getvalue(), version)


def _prepare(curl: pycurl.Curl, call: Call) -> None:
    curl.setopt(pycurl.URL, call.url)
    curl.setopt(pycurl.PATH_AS_IS, 1)
    if call.connect_to:
        curl.setopt(pycurl.CONNECT_TO, [f"::{call.connect_to}"])
    curl.setopt(pycurl.HTTPHEADER, [f"{name}: {value}" for name, value in call.headers])
    curl.setopt(pycurl.CAINFO, call.ca_file or system_ca_file())
    curl.setopt(pycurl.TIMEOUT_MS, call.deadline_ms)
    curl.setopt(pycurl.NOSIGNAL, 1)
    curl.setopt(pycurl.PROXY, "")
    curl.setopt(pycurl.NOBODY, int(call.method == "HEAD"))
    if call.body is not None:
        curl.setopt(pycurl.POSTFIELDS, call.body)
    if call.method not in ("GET", "HEAD"):
        curl.setopt(pycurl.CUSTOMREQUEST, call.method)


def _headers(raw: bytes) -> tuple[tuple[str, str], ...]:
    """Of the last answer; lines of one name are joined, as RFC 9110 §5.3 has it."""
    last = raw.rsplit(b"HTTP/", 1)[-1]
    found: dict[str, str] = {}
    for line in last.split(b"\r\n")[1:]:
        name, colon, value = line.decode("latin-1").partition(":")
        if colon:
            key = name.strip().lower()
            found[key] = f"{found[key]}, {value.strip()}" if key in found else value.strip()
    return tuple(found.items())


async def versions_of(
    prober: Prober, provider: Provider, host: str, path: str, deadline_ms: int
) -> dict[str, str]:
    """Whether the provider answers by each version of HTTP, and with which status.

    What this machine cannot speak is `NOT_ASKED`, with the reason. Without TLS browsers speak HTTP/1.1 only.
    """
    end = provider.endpoint
    asked = [
        Question(
            provider.name, end, path, host, resolve_name=provider.cname, protocol=protocol,
            deadline_ms=deadline_ms,
        )
        for _, protocol in HTTP_VERSIONS
        if end.tls or protocol is Protocol.H1
    ]  # fmt: skip
    looks = await prober.looks(asked)
    found = {name: "no: no TLS" for name, _ in HTTP_VERSIONS}
    for (name, protocol), look in zip(HTTP_VERSIONS, looks, strict=False):
        if look.reason is Reason.BLIND:
            found[name] = f"{NOT_ASKED}: {look.detail}"
        elif look.status and look.protocol == protocol:
            found[name] = f"yes, {look.status}"
        else:
            found[name] = "no" if look.reason in SILENCES else f"no: {look.reason.value}"
    return found


async def handshake_of(provider: Provider, deadline_ms: int) -> dict[str, str]:
    """Which TLS versions and ALPN protocols the provider takes, and whether its certificate is trusted."""
    end, where = provider.endpoint, _where(provider)
    if not end.tls:
        return {"TLS": "none"}
    found = {
        name: await asyncio.to_thread(_takes, end, where, version, deadline_ms)
        for name, version in TLS_VERSIONS
    }
    chain = await fetch_chain(end, where, deadline_ms)
    found["certificate"] = "none" if chain is None else "trusted" if chain.is_valid else chain.why
    return found


def _takes(endpoint: Endpoint, where: str, version: ssl.TLSVersion, deadline_ms: int) -> str:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.minimum_version = context.maximum_version = version
    context.set_alpn_protocols(["h2", "http/1.1"])
    try:
        with (
            socket.create_connection((where, endpoint.port), deadline_ms / 1000) as plain,
            context.wrap_socket(plain, server_hostname=endpoint.host) as secured,
        ):
            return f"yes, {secured.selected_alpn_protocol() or 'no ALPN'}"
    except (OSError, TimeoutError):
        return "no"


def _where(provider: Provider) -> str:
    """The first address, else the provider's own name; the service's name may lead to somebody else."""
    end = provider.endpoint
    return end.addresses[0] if end.addresses else provider.cname or end.host


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
