"""Authorities of the small internet: leaves with OCSP and CRL hosts, and OCSP responses to staple."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID, NameOID

from polycdn.lab.certs import begun, key_usage
from polycdn.lab.internet.plan import Authority, Site

LIFE_DAYS: Final = 90
BACKDATED_DAYS: Final = 200


@dataclass(frozen=True)
class Leaf:
    """A certificate with its key, and the OCSP response that says it is good (DER)."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey
    staple: bytes


@dataclass
class Issuer:
    """An authority with its key. All leaves share one key, as making keys takes the longest."""

    plan: Authority
    now: datetime
    leaf_key: ec.EllipticCurvePrivateKey
    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))

    def __post_init__(self) -> None:
        self.name = _name(self.plan.name, f"{self.plan.name} R1")
        self.certificate = (
            begun(self.name, self.name, self.key.public_key(), *_life(self.now, 3_650))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(key_usage(is_authority=True, is_signing=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self.key.public_key()), critical=False)
            .sign(self.key, SHA256())
        )

    @property
    def pem(self) -> bytes:
        """The root that clients trust."""
        return self.certificate.public_bytes(Encoding.PEM)

    def leaf(self, site: Site) -> Leaf:
        """The certificate of a site."""
        names = [x509.DNSName(name) for name in dict.fromkeys((site.host, *site.names))]
        builder = begun(
            _name("", site.host), self.name, self.leaf_key.public_key(), *_life(self.now, site.days)
        )
        builder = (
            builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False
            )
        )
        if self.plan.ocsp_host:
            url = x509.UniformResourceIdentifier(f"http://{self.plan.ocsp_host}/")
            access = x509.AccessDescription(AuthorityInformationAccessOID.OCSP, url)
            builder = builder.add_extension(x509.AuthorityInformationAccess([access]), critical=False)
        if self.plan.crl_host:
            url = x509.UniformResourceIdentifier(f"http://{self.plan.crl_host}/root.crl")
            point = x509.DistributionPoint([url], None, None, None)
            builder = builder.add_extension(x509.CRLDistributionPoints([point]), critical=False)
        made = builder.sign(self.key, SHA256())
        return Leaf(made, self.leaf_key, self._staple(made) if site.is_stapling else b"")

    def _staple(self, certificate: x509.Certificate) -> bytes:
        response = (
            ocsp.OCSPResponseBuilder()
            .add_response(
                cert=certificate,
                issuer=self.certificate,
                algorithm=SHA256(),
                cert_status=ocsp.OCSPCertStatus.GOOD,
                this_update=self.now - timedelta(hours=1),
                next_update=self.now + timedelta(days=4),
                revocation_time=None,
                revocation_reason=None,
            )
            .responder_id(ocsp.OCSPResponderEncoding.HASH, self.certificate)
            .sign(self.key, SHA256())
        )
        return response.public_bytes(Encoding.DER)


def issuers(authorities: dict[str, Authority], now_ms: int) -> dict[str, Issuer]:
    """An issuer for each authority, by name."""
    now = datetime.fromtimestamp(now_ms / 1000, UTC)
    leaf_key = ec.generate_private_key(ec.SECP256R1())
    return {name: Issuer(plan, now, leaf_key) for name, plan in authorities.items()}


def _life(now: datetime, days: int) -> tuple[datetime, datetime]:
    return now - timedelta(days=BACKDATED_DAYS), now + timedelta(days=days)


def _name(organisation: str, text: str) -> x509.Name:
    parts = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, organisation)] if organisation else []
    return x509.Name([*parts, x509.NameAttribute(NameOID.COMMON_NAME, text[:64])])
