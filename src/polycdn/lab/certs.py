"""Certificates of the lab: its own authority, good leaves and expired ones, as PEM files."""

import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from polycdn.model.settings import Certificate

AUTHORITY_DAYS: Final = 365
LEAF_DAYS: Final = 90
EXPIRED_SINCE_DAYS: Final = 1
BACKDATED_DAYS: Final = 120
"""Authority and leaves begin this long ago, so that an expired leaf lies inside its authority's life."""


@dataclass(frozen=True)
class Authority:
    """The lab's certificate authority. `ca_file` is what clients trust; the key stays in memory."""

    ca_file: str
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey
    made: datetime


def make_authority(directory: Path, now_ms: int) -> Authority:
    """A new authority; writes `ca.pem` into `directory`."""
    made = datetime.fromtimestamp(now_ms / 1000, UTC)
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name("polycdn lab authority")
    certificate = (
        begun(name, name, key.public_key(), *_life(made, AUTHORITY_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(key_usage(is_authority=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, SHA256())
    )
    ca_file = directory / "ca.pem"
    ca_file.write_bytes(certificate.public_bytes(Encoding.PEM))
    return Authority(str(ca_file), certificate, key, made)


def issue(
    authority: Authority, directory: Path, stem: str, names: tuple[str, ...], *, is_expired: bool = False
) -> Certificate:
    """Files `<stem>.crt` and `<stem>.key` for host names or IP literals; its issuer is the root."""
    key = ec.generate_private_key(ec.SECP256R1())
    end_days = -EXPIRED_SINCE_DAYS if is_expired else LEAF_DAYS
    signer = authority.key
    certificate = (
        begun(
            _name(names[0]),
            authority.certificate.subject,
            key.public_key(),
            *_life(authority.made, end_days),
        )
        .add_extension(x509.SubjectAlternativeName([_general_name(name) for name in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(key_usage(is_authority=False, is_signing=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False
        )
        .sign(signer, SHA256())
    )
    cert_file, key_file = directory / f"{stem}.crt", directory / f"{stem}.key"
    cert_file.write_bytes(certificate.public_bytes(Encoding.PEM))
    key_file.touch(mode=0o600)
    key_file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return Certificate(str(cert_file), str(key_file))


def begun(
    subject: x509.Name,
    issuer: x509.Name,
    public_key: ec.EllipticCurvePublicKey,
    begin: datetime,
    end: datetime,
) -> x509.CertificateBuilder:
    """What every certificate of the lab begins with; extensions and signature are still to come."""
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(end)
    )


def _life(made: datetime, end_days: int) -> tuple[datetime, datetime]:
    return made - timedelta(days=BACKDATED_DAYS), made + timedelta(days=end_days)


def key_usage(*, is_authority: bool, is_signing: bool = False) -> x509.KeyUsage:
    """An authority signs certificates; who `is_signing` signs what is said in a handshake or by OCSP too."""
    return x509.KeyUsage(
        digital_signature=is_signing,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=is_authority,
        crl_sign=is_authority,
        encipher_only=False,
        decipher_only=False,
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
