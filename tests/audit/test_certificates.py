"""Certificates with odd encodings: what can be read is, the rest is empty."""

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.name import _ASN1Type
from cryptography.x509.oid import NameOID

from polycdn.audit.certificates import NAMES_MAX, certificate_of, covers
from polycdn.audit.evidence import CertificateSeen

NOW = datetime(2026, 11, 27, tzinfo=UTC)
KEY = ec.generate_private_key(ec.SECP256R1())


def der(organisation="Ä 株式会社", kind=_ASN1Type.UTF8String, names=("a.test",), key=KEY, more=()):
    name = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, organisation, _type=kind)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(NOW)
        .not_valid_after(NOW + timedelta(days=3))
    )
    if names:
        sans = x509.SubjectAlternativeName([x509.DNSName(each) for each in names])
        builder = builder.add_extension(sans, critical=False)
    for extension in more:
        builder = builder.add_extension(extension, critical=False)
    algorithm = None if isinstance(key, ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey) else SHA256()
    return builder.sign(key, algorithm).public_bytes(Encoding.DER)


@pytest.mark.parametrize("kind", [_ASN1Type.UTF8String, _ASN1Type.BMPString, _ASN1Type.UniversalString])
def test_an_organisation_in_any_script_is_read_or_empty(kind):
    seen = certificate_of(der(kind=kind))
    assert seen.issuer_org in ("Ä 株式会社", "")
    assert seen.names == ("a.test",)


def test_a_name_that_is_not_what_it_says_is_no_reason_to_fail():
    good = der("aaaa")
    for instead in (b"\xff\xfe\xff\xfe", b"\x00\x00\x00\x00", b"\xed\xa0\x80a"):
        seen = certificate_of(good.replace(b"aaaa", instead))
        assert len(seen.sha256) == 64
        seen.issuer_org.encode()


def test_no_certificate_at_all_has_a_digest_only():
    seen = certificate_of(b"tea")
    assert (seen.names, seen.not_after_ms, seen.key_kind) == ((), 0, "")


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        (KEY, "ec-secp256r1"),
        (rsa.generate_private_key(65537, 2048), "rsa-2048"),
        (ed25519.Ed25519PrivateKey.generate(), "ed25519"),
        (ed448.Ed448PrivateKey.generate(), "ed448"),
    ],
)
def test_the_key_is_told(key, kind):
    assert certificate_of(der(key=key)).key_kind == kind


def test_thousands_of_names_are_cut():
    assert len(certificate_of(der(names=tuple(f"n{at}.test" for at in range(5_000)))).names) == NAMES_MAX


def test_what_clients_must_ask_for_is_told():
    feature = x509.TLSFeature([x509.TLSFeatureType.status_request])
    assert certificate_of(der(more=(feature,))).must_staple
    assert not certificate_of(der()).must_staple


@pytest.mark.parametrize(
    ("name", "host", "is_for"),
    [
        ("a.test", "a.test", True),
        ("*.a.test", "b.a.test", True),
        ("*.a.test", "c.b.a.test", False),
        ("*.a.test", "a.test", False),
        ("*", "test", False),
        ("a.test", "b.test", False),
    ],
)
def test_a_wildcard_stands_for_one_label(name, host, is_for):
    assert covers(CertificateSeen("", "", "", (name,), 0, 0, ""), host) is is_for
