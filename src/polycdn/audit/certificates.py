"""A certificate off the wire, however odd, as evidence. Pure."""

import hashlib
from collections.abc import Callable
from typing import Final, TypeVar

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa
from cryptography.x509.oid import AuthorityInformationAccessOID, NameOID

from polycdn.audit.evidence import CertificateSeen

NAMES_MAX: Final = 1_000
URLS_MAX: Final = 16
TEXT_CHARACTERS_MAX: Final = 1_024
T = TypeVar("T")

UNREADABLE: Final = (ValueError, TypeError, UnsupportedAlgorithm, x509.ExtensionNotFound, OverflowError)
"""What a field of a strange certificate makes the parser raise."""


def certificate_of(der: bytes) -> CertificateSeen:
    """What a certificate says of itself; a field that cannot be read is empty. Never raises."""
    sha256 = hashlib.sha256(der).hexdigest()
    try:
        seen = x509.load_der_x509_certificate(der)
    except UNREADABLE:
        return CertificateSeen("", "", "", (), 0, 0, sha256)
    return CertificateSeen(
        subject=_text(_or(lambda: seen.subject.rfc4514_string(), "")),
        issuer_org=_field(seen, NameOID.ORGANIZATION_NAME),
        issuer_cn=_field(seen, NameOID.COMMON_NAME),
        names=_names(seen),
        not_before_ms=_or(lambda: int(seen.not_valid_before_utc.timestamp()) * 1000, 0),
        not_after_ms=_or(lambda: int(seen.not_valid_after_utc.timestamp()) * 1000, 0),
        sha256=sha256,
        ocsp_urls=_access(seen, AuthorityInformationAccessOID.OCSP),
        crl_urls=_or(lambda: _crls(seen), ()),
        aia_urls=_access(seen, AuthorityInformationAccessOID.CA_ISSUERS),
        key_kind=_or(lambda: _key_kind(seen), ""),
        must_staple=_or(lambda: _must_staple(seen), False),
    )


def covers(certificate: CertificateSeen, host: str) -> bool:
    """Whether a certificate is for a host (without its last dot): by name, or a wildcard of one label
    (RFC 9525 §6.3)."""
    host = host.lower()
    _, _, above = host.partition(".")
    return any(name == host or (above and name == f"*.{above}") for name in certificate.names)


def _or(read: Callable[[], T], otherwise: T) -> T:
    try:
        return read()
    except UNREADABLE:
        return otherwise


def _text(value: object) -> str:
    """Text that can be written: without lone surrogates, not endless."""
    return str(value)[:TEXT_CHARACTERS_MAX].encode("utf-8", "replace").decode()


def _field(seen: x509.Certificate, oid: x509.ObjectIdentifier) -> str:
    def read() -> str:
        found = seen.issuer.get_attributes_for_oid(oid)
        value = found[0].value if found else ""
        return _text(value if isinstance(value, str) else value.decode("utf-8", "replace"))

    return _or(read, "")


def _names(seen: x509.Certificate) -> tuple[str, ...]:
    def read() -> tuple[str, ...]:
        names = seen.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        hosts = [_text(name).lower() for name in names.get_values_for_type(x509.DNSName)[:NAMES_MAX]]
        return (*hosts, *(str(each) for each in names.get_values_for_type(x509.IPAddress)[:NAMES_MAX]))

    return _or(read, ())


def _access(seen: x509.Certificate, method: x509.ObjectIdentifier) -> tuple[str, ...]:
    def read() -> tuple[str, ...]:
        rows = seen.extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
        return _urls([row.access_location for row in rows if row.access_method == method])

    return _or(read, ())


def _crls(seen: x509.Certificate) -> tuple[str, ...]:
    points = seen.extensions.get_extension_for_class(x509.CRLDistributionPoints).value
    return _urls([name for point in points for name in point.full_name or ()])


def _urls(names: list[x509.GeneralName]) -> tuple[str, ...]:
    urls = [_text(name.value) for name in names if isinstance(name, x509.UniformResourceIdentifier)]
    return tuple(dict.fromkeys(urls[:URLS_MAX]))


def _must_staple(seen: x509.Certificate) -> bool:
    features = seen.extensions.get_extension_for_class(x509.TLSFeature).value
    return x509.TLSFeatureType.status_request in features


def _key_kind(seen: x509.Certificate) -> str:
    key = seen.public_key()
    match key:
        case rsa.RSAPublicKey():
            return f"rsa-{key.key_size}"
        case ec.EllipticCurvePublicKey():
            return f"ec-{key.curve.name}"
        case ed25519.Ed25519PublicKey():
            return "ed25519"
        case ed448.Ed448PublicKey():
            return "ed448"
        case dsa.DSAPublicKey():
            return f"dsa-{key.key_size}"
        case _:
            return ""
