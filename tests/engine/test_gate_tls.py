"""Which TLS an edge speaks: 1.2 and 1.3, with forward secrecy and authenticated encryption."""

import socket
import ssl
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from gated import Gated, gated
from providers import HOST, TIMEOUT_S, Provider, answer, settings, upstream

from polycdn.model.settings import Certificate

sys.path.insert(0, str(Path(__file__).parent.parent / "fakes"))

from own_certs import OwnAuthority

pytestmark = [
    pytest.mark.lab,
    pytest.mark.timeout(60),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


@pytest.fixture(scope="module")
def authority(tmp_path_factory) -> OwnAuthority:
    return OwnAuthority(tmp_path_factory.mktemp("certs"))


@pytest.fixture(scope="module")
def one(authority) -> Iterator[Gated]:
    with gated() as running, Provider(answer()) as provider:
        pair = Certificate(*authority.leaf(HOST))
        running.serve(settings(upstream("a", provider.port), certificates=(pair,)))
        yield running


def context(authority: OwnAuthority, ciphers: str = "ALL:@SECLEVEL=0") -> ssl.SSLContext:
    """A client that would take anything."""
    client = ssl.create_default_context(cafile=authority.ca_file)
    client.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    client.set_ciphers(ciphers)
    return client


def version_with(one: Gated, client: ssl.SSLContext) -> str | None:
    connection = socket.create_connection(("127.0.0.1", one.tls_port), timeout=TIMEOUT_S)
    with connection, client.wrap_socket(connection, server_hostname=HOST) as secure:
        return secure.version()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_current_versions_are_spoken(one, authority, version):
    client = context(authority)
    client.minimum_version = client.maximum_version = version
    assert version_with(one, client) == version.name.replace("_", ".")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
def test_old_versions_are_refused(one, authority, version):
    client = context(authority)
    client.minimum_version = client.maximum_version = version
    with pytest.raises(ssl.SSLError, match=r"(?i)protocol.version|unsupported|alert"):
        version_with(one, client)


WEAK = [
    "AES128-GCM-SHA256",
    "AES256-SHA",
    "ECDHE-ECDSA-AES128-SHA",
    "ECDHE-RSA-AES128-SHA",
    "ECDHE-ECDSA-AES256-SHA384",
    "ECDHE-RSA-AES256-SHA384",
    "AECDH-AES128-SHA",
    "NULL-SHA256",
]


@pytest.mark.parametrize("suite", WEAK)
def test_weak_suites_are_refused(one, authority, suite):
    try:
        client = context(authority, f"{suite}:@SECLEVEL=0")
    except ssl.SSLError:
        pytest.skip("this OpenSSL does not have it either")
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError, match=r"(?i)handshake.failure|no.shared|alert"):
        version_with(one, client)


STRONG = ["AES128-GCM-SHA256", "AES256-GCM-SHA384", "CHACHA20-POLY1305"]


@pytest.mark.parametrize("suite", STRONG)
def test_modern_suites_are_spoken(one, authority, suite):
    client = context(authority, f"ECDHE-ECDSA-{suite}:ECDHE-RSA-{suite}:@SECLEVEL=0")
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    assert version_with(one, client) == "TLSv1.2"
