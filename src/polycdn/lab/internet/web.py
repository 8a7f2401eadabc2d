"""HTTPS for all sites on one port: the certificate by SNI, stapled when the site says so."""

import asyncio
from contextlib import suppress
from typing import Final

from OpenSSL import SSL

from polycdn.lab.http1 import ProtocolError, answer_head, parse_head
from polycdn.lab.internet.certificates import Issuer, Leaf
from polycdn.lab.internet.connections import Connections
from polycdn.lab.internet.plan import Site

READ_BYTES: Final = 65_536
HEAD_BYTES_MAX: Final = 32_768
CONTEXTS_KEPT: Final = 512


class Web:
    """Serves sites. Certificates are made when they are first asked for."""

    def __init__(self, sites: dict[str, Site], issuers: dict[str, Issuer], delay_s: float) -> None:
        self._sites = sites
        self._issuers = issuers
        self._delay_s = delay_s
        self._contexts: dict[str, SSL.Context] = {}
        self._front = SSL.Context(SSL.TLS_SERVER_METHOD)
        self._front.set_tlsext_servername_callback(self._choose)
        self._connections = Connections(self._connected)

    async def start(self) -> int:
        """The port that it listens on."""
        return await self._connections.listen(backlog=1_024)

    async def close(self) -> None:
        """Stops listening and lets go of every connection."""
        await self._connections.close()

    def _choose(self, connection: SSL.Connection) -> None:
        host = (connection.get_servername() or b"").decode("ascii", "replace")
        site = self._sites.get(host)
        if site is not None:
            connection.set_context(self._context(site))

    def _context(self, site: Site) -> SSL.Context:
        context = self._contexts.get(site.host)
        if context is None:
            leaf = self._issuers[site.authority].leaf(site)
            context = _context(leaf, self._issuers[site.authority])
            self._contexts[site.host] = context
            if len(self._contexts) > CONTEXTS_KEPT:
                del self._contexts[next(iter(self._contexts))]
        return context

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(self._delay_s)
        connection = SSL.Connection(self._front, None)
        connection.set_accept_state()
        try:
            await self._pump(connection, reader, writer)
            while await self._exchange(connection, reader, writer):
                pass
        except (OSError, EOFError, SSL.Error, ProtocolError):
            pass
        finally:
            writer.close()

    async def _pump(
        self, connection: SSL.Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """The handshake, each flight after the delay."""
        while True:
            try:
                connection.do_handshake()
                break
            except SSL.WantReadError:
                await _flush(connection, writer)
            connection.bio_write(await _some(reader))
            await asyncio.sleep(self._delay_s)
        await _flush(connection, writer)

    async def _exchange(
        self, connection: SSL.Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        raw = b""
        while b"\r\n\r\n" not in raw:
            try:
                raw += connection.recv(READ_BYTES)
            except SSL.WantReadError:
                connection.bio_write(await _some(reader))
            if len(raw) > HEAD_BYTES_MAX:
                return False
        head = parse_head(raw.partition(b"\r\n\r\n")[0] + b"\r\n\r\n")
        await asyncio.sleep(self._delay_s)
        site = self._sites.get(head.fields.get("host", "").partition(":")[0])
        for part in self._answer(site, head.first[1]):
            connection.sendall(part)
            await _flush(connection, writer)
            if site and site.drip_ms:
                await asyncio.sleep(site.drip_ms / 1000)
        return not head.is_last

    def _answer(self, site: Site | None, path: str) -> tuple[bytes, ...]:
        if site is None:
            return (answer_head(404, {"content-length": "0"}),)
        body = dict(site.paths).get(path, site.body)
        fields = {"content-length": str(len(body)), "content-type": site.content_type}
        fields |= dict(site.headers)
        if site.location:
            return (answer_head(301, fields | {"location": site.location, "content-length": "0"}),)
        size = 1 if site.drip_ms else READ_BYTES
        pieces = [body[at : at + size] for at in range(0, len(body), size)]
        return (answer_head(200, fields), *pieces)


def _context(leaf: Leaf, issuer: Issuer) -> SSL.Context:
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.use_certificate(leaf.certificate)
    context.use_privatekey(leaf.key)
    context.add_extra_chain_cert(issuer.certificate)
    context.set_ocsp_server_callback(lambda _connection, _data: leaf.staple)
    return context


async def _some(reader: asyncio.StreamReader) -> bytes:
    chunk = await reader.read(READ_BYTES)
    if not chunk:
        raise EOFError
    return chunk


async def _flush(connection: SSL.Connection, writer: asyncio.StreamWriter) -> None:
    with suppress(SSL.WantReadError):
        while True:
            writer.write(connection.bio_read(READ_BYTES))
    await writer.drain()
