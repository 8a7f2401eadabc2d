"""One TLS handshake that shows everything: the chain as sent, the stapled OCSP response, what is wrong.

OpenSSL through pyOpenSSL, because Python's ssl shows no stapled response. The bytes go over asyncio.
"""

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Final

from cryptography.x509 import ocsp
from OpenSSL import SSL, crypto

from polycdn.audit.certificates import certificate_of, covers
from polycdn.audit.evidence import TlsLook, TlsStatus
from polycdn.audit.names import host_of
from polycdn.audit.places import Places
from polycdn.audit.purse import Limits
from polycdn.measure.transfer import system_ca_file
from polycdn.model.units import Clock

HTTPS_PORT: Final = 443
CHAIN_MAX: Final = 16
HANDSHAKE_BYTES_MAX: Final = 1_048_576
READ_BYTES: Final = 16_384
FAULTS: Final = {
    9: "not valid yet",
    10: "expired",
    18: "self-signed",
    19: "self-signed root that is not trusted",
    20: "issuer not found",
    21: "no way to a trusted root",
    23: "revoked",
    24: "an authority that may not issue",
}
"""Words for what X509_verify_cert says (OpenSSL, x509_vfy.h)."""


@dataclass(slots=True)
class _Shown:
    """What OpenSSL called back with, during one handshake."""

    stapled: bool | None = None
    faults: list[str] = field(default_factory=list)


class Handshaker:
    """Makes handshakes, with one list of trusted roots."""

    def __init__(self, places: Places, clock: Clock, limits: Limits, ca_file: str | None = None) -> None:
        self._places = places
        self._clock = clock
        self._deadline_s = limits.look_ms * 2 / 1000
        self._slots = asyncio.Semaphore(limits.looks_at_once)
        self._context = _context(ca_file or system_ca_file())

    async def look(self, host: str, address: str, port: int = HTTPS_PORT, server_name: str = "") -> TlsLook:
        """What a handshake with an address showed; `host` is a canonical name. Never raises for the world.

        `server_name` (canonical too) is asked for instead of the host, "" = the host.
        """
        start_ms = self._clock.now_ms()
        place = self._places.of(address, port)
        if place is None:
            why = "not a public address"
            return TlsLook(
                host, address, port, TlsStatus.REFUSED, why=why, at_ms=start_ms, server_name=server_name
            )
        shown = _Shown()
        status, why = TlsStatus.OK, ""
        connection = SSL.Connection(self._context, None)
        try:
            _prepare(connection, host_of(server_name or host), shown)
            async with self._slots, asyncio.timeout(self._deadline_s):
                await _shake(connection, place)
        except TimeoutError:
            status, why = TlsStatus.TIMEOUT, f"no handshake within {self._deadline_s:g} s"
        except SSL.Error as error:
            status, why = TlsStatus.BAD, _words(error)
        except OSError as error:
            status, why = TlsStatus.REFUSED, error.strerror or str(error)
        took_ms = self._clock.now_ms() - start_ms
        look = TlsLook(
            host, address, port, status, why=why, at_ms=start_ms, took_ms=took_ms, server_name=server_name
        )
        return _judged(look, connection, shown) if status is TlsStatus.OK else look


def _context(ca_file: str) -> SSL.Context:
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.load_verify_locations(ca_file)
    context.set_verify(SSL.VERIFY_PEER, _take_fault)
    context.set_ocsp_client_callback(_take_staple)
    context.set_alpn_protos([b"h2", b"http/1.1"])
    return context


def _prepare(connection: SSL.Connection, host: str, shown: _Shown) -> None:
    connection.set_app_data(shown)
    connection.set_tlsext_host_name(host.encode("ascii"))
    connection.request_ocsp()
    connection.set_connect_state()


def _take_fault(connection: SSL.Connection, _seen: crypto.X509, code: int, depth: int, is_good: int) -> bool:
    """Goes on whatever is wrong, so that an untrusted chain is seen too."""
    if not is_good:
        words = f"{FAULTS.get(code, f'OpenSSL code {code}')} (depth {depth})"
        connection.get_app_data().faults.append(words)
    return True


def _take_staple(connection: SSL.Connection, response: bytes, _data: Any) -> bool:
    connection.get_app_data().stapled = _is_good_staple(response)
    return True


def _is_good_staple(response: bytes) -> bool:
    """Whether it is a successful OCSP response that calls the certificate good."""
    if not response:
        return False
    try:
        read = ocsp.load_der_ocsp_response(response)
        return (
            read.response_status is ocsp.OCSPResponseStatus.SUCCESSFUL
            and read.certificate_status is ocsp.OCSPCertStatus.GOOD
        )
    except (ValueError, TypeError):
        return False


async def _shake(connection: SSL.Connection, place: tuple[str, int]) -> None:
    """Handshakes and says goodbye. Raises OSError, SSL.Error."""
    reader, writer = await asyncio.open_connection(*place)
    try:
        received = 0
        while True:
            try:
                connection.do_handshake()
                break
            except SSL.WantReadError:
                await _flush(connection, writer)
            chunk = await reader.read(READ_BYTES)
            received += len(chunk)
            if not chunk:
                raise ConnectionResetError("closed during the handshake")
            if received > HANDSHAKE_BYTES_MAX:
                raise ConnectionResetError("a handshake without end")
            connection.bio_write(chunk)
        await _flush(connection, writer)
    finally:
        writer.transport.abort()


async def _flush(connection: SSL.Connection, writer: asyncio.StreamWriter) -> None:
    with suppress(SSL.WantReadError):
        while True:
            writer.write(connection.bio_read(READ_BYTES))
    await writer.drain()


def _judged(look: TlsLook, connection: SSL.Connection, shown: _Shown) -> TlsLook:
    sent = (connection.get_peer_cert_chain() or [])[:CHAIN_MAX]
    chain = tuple(certificate_of(crypto.dump_certificate(crypto.FILETYPE_ASN1, each)) for each in sent)
    faults = list(dict.fromkeys(shown.faults))
    asked = host_of(look.server_name or look.host)
    if chain and not covers(chain[0], asked):
        faults.append(f"the certificate is not for {asked}")
    return replace(
        look,
        status=TlsStatus.UNTRUSTED if faults or not chain else TlsStatus.OK,
        version=connection.get_protocol_version_name(),
        alpn=connection.get_alpn_proto_negotiated().decode("latin-1"),
        chain=chain,
        stapled=shown.stapled,
        verified=bool(chain) and not faults,
        why="; ".join(faults),
    )


def _words(error: SSL.Error) -> str:
    """The innermost reason of OpenSSL's error queue."""
    queue = error.args[0] if error.args else ()
    return str(queue[-1][-1]) if isinstance(queue, list) and queue else type(error).__name__
