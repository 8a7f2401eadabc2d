"""The certificate that a server shows, also one not to be trusted: whose, until when, what is wrong."""

import asyncio
import ssl
from contextlib import suppress

from cryptography import x509

from polycdn.measure.look import Chain
from polycdn.measure.transfer import system_ca_file
from polycdn.model.topology import Endpoint


async def fetch_chain(
    endpoint: Endpoint, connect_host: str, deadline_ms: int = 5_000, source_address: str | None = None
) -> Chain | None:
    """The leaf as the server shows it, with OpenSSL's verdict on its chain; None without a handshake."""
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    der, why = await _handshake(endpoint, connect_host, trusting, deadline_ms, source_address)
    if not der:
        return None
    strict = ssl.create_default_context(cafile=endpoint.ca_file or system_ca_file())
    _der, why = await _handshake(endpoint, connect_host, strict, deadline_ms, source_address)
    return chain_of(der, why)


def chain_of(der: bytes, why: str) -> Chain | None:
    """What a leaf says of itself; `why` is what is wrong with its chain, "" = nothing."""
    try:
        leaf = x509.load_der_x509_certificate(der)
    except ValueError:
        return None
    return Chain(
        is_valid=not why,
        not_after_ms=int(leaf.not_valid_after_utc.timestamp()) * 1000,
        subject=leaf.subject.rfc4514_string(),
        issuer=leaf.issuer.rfc4514_string(),
        why=why,
    )


async def _handshake(
    endpoint: Endpoint,
    connect_host: str,
    context: ssl.SSLContext,
    deadline_ms: int,
    source_address: str | None,
) -> tuple[bytes, str]:
    """The leaf in DER and "", or no bytes and what went wrong."""
    local = (source_address, 0) if source_address else None
    writer = None
    try:
        async with asyncio.timeout(deadline_ms / 1000):
            _reader, writer = await asyncio.open_connection(
                connect_host, endpoint.port, ssl=context, server_hostname=endpoint.host, local_addr=local
            )
        return writer.get_extra_info("ssl_object").getpeercert(binary_form=True) or b"", ""
    except ssl.SSLCertVerificationError as error:
        return b"", error.verify_message
    except (OSError, TimeoutError) as error:
        return b"", str(error) or type(error).__name__
    finally:
        if writer:
            writer.close()
            with suppress(OSError, TimeoutError):
                async with asyncio.timeout(deadline_ms / 1000):
                    await writer.wait_closed()
