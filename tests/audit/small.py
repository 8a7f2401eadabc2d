"""Small evidence, written by hand: a service with what a test says of it."""

from polycdn.audit.evidence import (
    CertificateSeen,
    DnsLook,
    DnsRecord,
    DnsStatus,
    HttpLook,
    HttpStatus,
    NetworkLook,
    PageLook,
    PageSource,
    Resource,
    ResourceKind,
    Role,
    Target,
    TlsLook,
    TlsStatus,
    evidence_of,
)

NOW_MS = 1_764_000_000_000
DAY_MS = 86_400_000


def look(name, rtype, *values, ttl_s=60, chain=(), status=DnsStatus.NOERROR, authority=()):
    """A look-up: CNAME records through `chain`, then the values at its end."""
    owners = (name, *chain)
    aliases = tuple(DnsRecord(a, "CNAME", ttl_s, b) for a, b in zip(owners, chain, strict=False))
    records = tuple(DnsRecord(owners[-1], rtype, ttl_s, value) for value in values)
    return DnsLook(name, rtype, status, aliases + records, authority)


def zone(name, *servers, soa="", ttl_s=3_600):
    """The looks at a zone: its SOA and its nameservers."""
    said = soa or f"{servers[0]} host.{name} 1 7200 900 1209600 300"
    return [look(name, "SOA", said), look(name, "NS", *servers, ttl_s=ttl_s)]


def network(address, organisation, asn=64_512):
    """Whose an address is."""
    return NetworkLook(address, asn, organisation)


def leaf(issuer="Lab Trust", days=60, names=("shop.test",), ocsp=(), life_days=90, must_staple=False):
    """A certificate that ends in so many days."""
    end_ms = NOW_MS + days * DAY_MS
    return CertificateSeen(
        "CN=shop.test", issuer, f"{issuer} R1", names, end_ms - life_days * DAY_MS, end_ms,
        f"{issuer}{days}".ljust(64, "0"), ocsp, (), (), "", must_staple,
    )  # fmt: skip


def tls(host, address, certificate, stapled=True, verified=True, why=""):
    """A handshake."""
    status = TlsStatus.OK if verified else TlsStatus.UNTRUSTED
    return TlsLook(host, address, 443, status, "TLSv1.3", "h2", (certificate,), stapled, verified, why)


def page(host, *resources):
    """A page that loads things: (url, blocking, fallback)."""
    loads = tuple(
        Resource(url, ResourceKind.SCRIPT, blocking, False, fallback) for url, blocking, fallback in resources
    )
    return PageLook(f"https://{host}/", PageSource.HTML, loads)


def answer(host, *headers):
    """A response."""
    return HttpLook(f"https://{host}/", "192.0.2.1", HttpStatus.OK, 200, headers, "2")


def asked(name="shop.test.", role=Role.SERVICE, why="asked for"):
    """A name that was asked for."""
    return Target(name, role, why)


def sound():
    """The facts of a service without a fault: two operators, two networks, two CAs, all seen."""
    facts = [asked(), *zone("shop.test.", "ns1.first-dns.net.", "ns1.second-dns.org.")]
    facts += [*zone("first-dns.net.", "ns1.first-dns.net."), *zone("second-dns.org.", "ns1.second-dns.org.")]
    facts += [
        look("shop.test.", "A", "192.0.2.1", "198.51.100.1"),
        look("shop.test.", "AAAA"),
        look("shop.test.", "CAA"),
    ]
    facts += [
        look("test.", "CAA"),
        network("192.0.2.1", "First Net"),
        network("198.51.100.1", "Second Net", 64_513),
    ]
    facts += [
        look("ns1.first-dns.net.", "A", "203.0.113.1"),
        look("ns1.second-dns.org.", "A", "203.0.113.99"),
    ]
    facts += [network("203.0.113.1", "Third Net", 64_514), network("203.0.113.99", "Fourth Net", 64_515)]
    facts += [tls("shop.test.", "192.0.2.1", leaf()), tls("shop.test.", "198.51.100.1", leaf("Other Trust"))]
    return [*facts, page("shop.test"), answer("shop.test")]


def without(facts, *gone):
    """The facts but those that replace is about: the same kind, name and type."""
    keys = {key(each) for each in gone}
    return [each for each in facts if key(each) not in keys] + list(gone)


def key(fact):
    """What a fact is about."""
    about = [getattr(fact, field, None) for field in ("name", "rtype", "host", "address", "url")]
    return (type(fact), *about)


def evidence(facts):
    """The evidence of facts."""
    return evidence_of(facts, NOW_MS, "test")
