"""Asks providers what parity compares: the same requests, through each at the same moment."""

import asyncio
import hashlib
import socket
import ssl
from io import BytesIO
from typing import Final

import pycurl

from polycdn.measure.parity import HEADERS, Answer, Ask
from polycdn.measure.tls import fetch_chain
from polycdn.measure.transfer import system_ca_file
from polycdn.model.topology import Endpoint

BODY_BYTES_MAX: Final = 8 << 20
VERSIONS: Final = (("TLS 1.2", ssl.TLSVersion.TLSv1_2), ("TLS 1.3", ssl.TLSVersion.TLSv1_3))
PROTOCOLS: Final = {pycurl.CURL_HTTP_VERSION_1_0: "1.0", pycurl.CURL_HTTP_VERSION_1_1: "1.1"}


async def answer_of(
    provider: str, endpoint: Endpoint, host: str, path: str, ask: Ask, deadline_ms: int
) -> Answer:
    """What the provider says; an answer with status 0 when it says nothing."""
    return await asyncio.to_thread(_answer, provider, endpoint, host, path, ask, deadline_ms)


def _answer(provider: str, endpoint: Endpoint, host: str, path: str, ask: Ask, deadline_ms: int) -> Answer:
    body, heads = BytesIO(), BytesIO()

    def take(chunk: bytes) -> int:
        if body.tell() + len(chunk) > BODY_BYTES_MAX:
            return 0
        return body.write(chunk)

    curl = pycurl.Curl()
    scheme = "https" if endpoint.tls else "http"
    joined = f"{path}{'&' if '?' in path else '?'}{ask.query}" if ask.query else path
    where = endpoint.addresses[0] if endpoint.addresses else endpoint.host
    curl.setopt(pycurl.URL, f"{scheme}://{endpoint.host}:{endpoint.port}{joined}")
    curl.setopt(pycurl.CONNECT_TO, [f"::{where if ':' not in where else f'[{where}]'}:{endpoint.port}"])
    curl.setopt(pycurl.HTTPHEADER, [f"Host: {host}", *(f"{name}: {value}" for name, value in ask.headers)])
    curl.setopt(pycurl.CAINFO, endpoint.ca_file or system_ca_file())
    curl.setopt(pycurl.TIMEOUT_MS, deadline_ms)
    curl.setopt(pycurl.NOSIGNAL, 1)
    curl.setopt(pycurl.PROXY, "")
    curl.setopt(pycurl.NOBODY, int(ask.method == "HEAD"))
    curl.setopt(pycurl.WRITEFUNCTION, take)
    curl.setopt(pycurl.HEADERFUNCTION, heads.write)
    try:
        curl.perform()
        status = int(curl.getinfo(pycurl.RESPONSE_CODE))
        version = PROTOCOLS.get(curl.getinfo(pycurl.INFO_HTTP_VERSION), "2 or later")
    except pycurl.error as error:
        return Answer(provider, path, ask.aspect, 0, detail=str(error.args[1]))
    finally:
        curl.close()
    held = body.getvalue()
    digest = hashlib.sha256(held).hexdigest()
    return Answer(provider, path, ask.aspect, status, _headers(heads.getvalue()), len(held), digest, version)


def _headers(raw: bytes) -> tuple[tuple[str, str], ...]:
    last = raw.rsplit(b"HTTP/", 1)[-1]
    found = {}
    for line in last.split(b"\r\n")[1:]:
        name, colon, value = line.decode("latin-1").partition(":")
        if colon and name.strip().lower() in HEADERS:
            found[name.strip().lower()] = value.strip()
    return tuple(sorted(found.items()))


async def handshake_of(endpoint: Endpoint, deadline_ms: int) -> dict[str, str]:
    """Which TLS versions and ALPN protocols the provider takes, and whether its certificate is trusted."""
    if not endpoint.tls:
        return {"TLS": "none"}
    where = endpoint.addresses[0] if endpoint.addresses else endpoint.host
    found = {
        name: await asyncio.to_thread(_takes, endpoint, where, version, deadline_ms)
        for name, version in VERSIONS
    }
    chain = await fetch_chain(endpoint, where, deadline_ms)
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
