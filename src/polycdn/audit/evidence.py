"""What was looked up, and what came of it: the only thing that collecting and judging share.

Names (`name`, `owner`, `host`, `parent`) are canonical: lower case, IDNA A-labels, with the last dot; see
`polycdn.audit.names`. Addresses are canonical text of `ipaddress`. Moments are milliseconds UTC.
What is not here was not looked at; what was tried in vain is here with its status, or as `Unseen`.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import TypeVar


class Role(StrEnum):
    """What a name does for whoever depends on it."""

    SERVICE = "service"
    DNS = "dns"
    CDN = "cdn"
    CA = "ca"
    CLOUD = "cloud"
    THIRD_PARTY = "third-party"
    MAIL = "mail"
    IDENTITY = "identity"
    STATUS = "status"


class DnsStatus(StrEnum):
    """How a question ended. Only NOERROR and NXDOMAIN say something about the name."""

    NOERROR = "NOERROR"
    NXDOMAIN = "NXDOMAIN"
    SERVFAIL = "SERVFAIL"
    REFUSED = "REFUSED"
    TIMEOUT = "TIMEOUT"
    TOO_LARGE = "TOO_LARGE"
    LOOP = "LOOP"
    BAD = "BAD"


class TlsStatus(StrEnum):
    """How a handshake ended. OK and UNTRUSTED have a chain."""

    OK = "OK"
    UNTRUSTED = "UNTRUSTED"
    REFUSED = "REFUSED"
    TIMEOUT = "TIMEOUT"
    BAD = "BAD"


class HttpStatus(StrEnum):
    """How a request ended. Only OK has a code, headers and a body."""

    OK = "OK"
    REFUSED = "REFUSED"
    TIMEOUT = "TIMEOUT"
    UNTRUSTED = "UNTRUSTED"
    BAD = "BAD"


class PageSource(StrEnum):
    """How the resources of a page were found. `html` sees nothing that a script loads."""

    HTML = "html"
    HAR = "har"
    BROWSER = "browser"


class ResourceKind(StrEnum):
    """What a page wants a resource for."""

    SCRIPT = "script"
    STYLE = "style"
    FONT = "font"
    IMAGE = "image"
    FRAME = "frame"
    FETCH = "fetch"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Target:
    """A name that is audited: asked for (`parent` ""), or met as a dependency of `parent`.

    A name has one Target for each (parent, role) that it was met under; its look-ups are shared.
    `depth` is the shortest way from any name that was asked for; a host of the same service (role SERVICE:
    its www, where it redirects to) has the depth of its parent, 0. `why` says how it was met: "asked for",
    "www of example.com.", "redirect of example.com.", "nameserver of example.com.",
    "CNAME of www.example.com.", "OCSP host of ...", "resource of https://...".
    """

    name: str
    role: Role
    why: str
    depth: int = 0
    parent: str = ""


@dataclass(frozen=True, slots=True)
class DnsRecord:
    """One record as it came. `value` is presentation text (RFC 1035 §5.1); names in it are canonical.

    A, AAAA: the address. NS, CNAME: the name. MX: "10 mx.example.com." SOA: "mname rname serial refresh
    retry expire minimum". CAA: '0 issue "ca.example"'. DS: "tag algorithm digest-type digest".
    """

    owner: str
    rtype: str
    ttl_s: int
    value: str


@dataclass(frozen=True, slots=True)
class DnsLook:
    """What one question brought.

    `records` is the answer section in order, CNAME chain first. `authority` has the NS, SOA and DS records
    that came beside it (a referral's, or the SOA of an empty answer). NOERROR without a record of `rtype`
    means that the name has none. With TOO_LARGE and LOOP `records` holds what was seen until then.
    """

    name: str
    rtype: str
    status: DnsStatus
    records: tuple[DnsRecord, ...] = ()
    authority: tuple[DnsRecord, ...] = ()
    at_ms: int = 0
    took_ms: int = 0

    @property
    def values(self) -> tuple[str, ...]:
        """The values of the type that was asked for."""
        return tuple(record.value for record in self.records if record.rtype == self.rtype)

    @property
    def chain(self) -> tuple[str, ...]:
        """The names that CNAME records lead through, after `name` itself."""
        return tuple(record.value for record in self.records if record.rtype == "CNAME")


@dataclass(frozen=True, slots=True)
class CertificateSeen:
    """One certificate of a chain. `names` are its DNS names and addresses, lower case, as it has them.

    `sha256` is of the DER, hex. Text fields are "" when the certificate has none or they cannot be read.
    `key_kind`: "rsa-2048", "ec-secp256r1", "ed25519", or "" = not known.
    `must_staple`: it carries the TLS feature status_request (RFC 7633).
    """

    subject: str
    issuer_org: str
    issuer_cn: str
    names: tuple[str, ...]
    not_before_ms: int
    not_after_ms: int
    sha256: str
    ocsp_urls: tuple[str, ...] = ()
    crl_urls: tuple[str, ...] = ()
    aia_urls: tuple[str, ...] = ()
    key_kind: str = ""
    must_staple: bool = False


@dataclass(frozen=True, slots=True)
class TlsLook:
    """What one handshake showed. `chain` is as sent, leaf first.

    `verified`: the chain leads to a trusted root and the leaf has the host's name; `why` says what is wrong.
    `stapled`: whether an OCSP response came with it; None = could not see.
    `version`: "TLSv1.3"; `alpn`: "h2", "http/1.1" or "" = none chosen. `server_name`: the name that was asked
    for in the handshake when it is not the host's (an end point of a provider, asked for the service).
    """

    host: str
    address: str
    port: int
    status: TlsStatus
    version: str = ""
    alpn: str = ""
    chain: tuple[CertificateSeen, ...] = ()
    stapled: bool | None = None
    verified: bool = False
    why: str = ""
    at_ms: int = 0
    took_ms: int = 0
    server_name: str = ""


@dataclass(frozen=True, slots=True)
class HttpLook:
    """What one GET brought. Header names are lower case, in the order that they came.

    `code` 0 = none. `location` is absolute, "" = none. `body_sha256` is "" when the body was cut short
    (`truncated`) or never came. `http_version`: "1.1", "2", "3".
    """

    url: str
    address: str
    status: HttpStatus
    code: int = 0
    headers: tuple[tuple[str, str], ...] = ()
    http_version: str = ""
    location: str = ""
    body_bytes: int = 0
    body_sha256: str = ""
    truncated: bool = False
    why: str = ""
    at_ms: int = 0
    took_ms: int = 0

    def header(self, name: str) -> str | None:
        """The first value of a header, None when it did not come."""
        return next((value for each, value in self.headers if each == name), None)


@dataclass(frozen=True, slots=True)
class Resource:
    """Something that a page loads, with an absolute URL.

    `blocking`: nothing is drawn until it is there or given up. `integrity`: its content is pinned (SRI).
    `fallback`: the page has another way when it fails (an onerror handler, a second source, a local copy).
    """

    url: str
    kind: ResourceKind
    blocking: bool = False
    integrity: bool = False
    fallback: bool = False


@dataclass(frozen=True, slots=True)
class PageLook:
    """What a page loads, in the order met, each URL once for each kind. `truncated`: the page went on."""

    url: str
    source: PageSource
    resources: tuple[Resource, ...] = ()
    truncated: bool = False


@dataclass(frozen=True, slots=True)
class NetworkLook:
    """Whose an address is. `asn` 0 = the table has no row. `prefix`: "first-last" of the row, or ""."""

    address: str
    asn: int
    organisation: str = ""
    prefix: str = ""


@dataclass(frozen=True, slots=True)
class RegistrationLook:
    """At which registrar a domain is, "" = the registry does not say. `registrar_id`: IANA's number.

    `expires_ms` 0 = not said. `statuses` as RDAP has them ("client transfer prohibited").
    """

    domain: str
    registrar: str = ""
    registrar_id: str = ""
    expires_ms: int = 0
    statuses: tuple[str, ...] = ()
    at_ms: int = 0


@dataclass(frozen=True, slots=True)
class Unseen:
    """Something that could not be looked at. `subject` is the canonical name, address or URL.

    `what`: "dns NS", "zone", "tls", "http", "page", "network", "dependencies", "browser", "ttl", "registrar".
    `why` begins with "budget", "deadline", "depth" (it goes on below the depth that was asked for),
    "refused", "timeout", "loop", "too large", "bad" or "not configured"; words may follow after ": ".
    Becomes UNKNOWN in findings, never fine.
    """

    subject: str
    what: str
    why: str


Fact = Target | DnsLook | TlsLook | HttpLook | PageLook | NetworkLook | RegistrationLook | Unseen
"""What an evidence file has a line for."""

FACT_TYPES: tuple[type, ...] = (
    Target,
    DnsLook,
    TlsLook,
    HttpLook,
    PageLook,
    NetworkLook,
    RegistrationLook,
    Unseen,
)

_Key = TypeVar("_Key")
_Kind = TypeVar("_Kind", Target, DnsLook, TlsLook, HttpLook, PageLook, NetworkLook, RegistrationLook, Unseen)


@dataclass(frozen=True)
class Evidence:
    """Everything that an audit goes by. `evidence_of` makes it, in canonical order."""

    facts: tuple[Fact, ...]
    started_ms: int
    tool_version: str = ""

    @cached_property
    def targets(self) -> tuple[Target, ...]:
        """All targets, those asked for first."""
        return self._of(Target)

    @cached_property
    def asked(self) -> tuple[Target, ...]:
        """The targets that were asked for."""
        return tuple(target for target in self.targets if not target.parent)

    @cached_property
    def unseen(self) -> tuple[Unseen, ...]:
        """All that could not be looked at."""
        return self._of(Unseen)

    @cached_property
    def networks(self) -> dict[str, NetworkLook]:
        """By address."""
        return {look.address: look for look in self._of(NetworkLook)}

    @cached_property
    def registrations(self) -> dict[str, RegistrationLook]:
        """By domain."""
        return {look.domain: look for look in self._of(RegistrationLook)}

    def children(self, name: str) -> tuple[Target, ...]:
        """The direct dependencies of a name that were followed."""
        return self._children.get(name, ())

    def dns(self, name: str, rtype: str) -> DnsLook | None:
        """The look-up of a type at a name; None when it was not made."""
        return self._dns.get((name, rtype))

    def tls(self, host: str) -> tuple[TlsLook, ...]:
        """The handshakes made with a host, one for each address and port."""
        return self._tls.get(host, ())

    def http(self, url: str) -> HttpLook | None:
        """The request of exactly this URL."""
        return self._http.get(url)

    def pages(self, url: str) -> tuple[PageLook, ...]:
        """What is known of a page, one for each source."""
        return self._pages.get(url, ())

    def unseen_of(self, subject: str) -> tuple[Unseen, ...]:
        """What could not be seen of a name, address or URL."""
        return self._unseen.get(subject, ())

    def all_of(self, kind: type[_Kind]) -> tuple[_Kind, ...]:
        """All facts of one kind, in canonical order."""
        return self._of(kind)

    def _of(self, kind: type[_Kind]) -> tuple[_Kind, ...]:
        return tuple(fact for fact in self.facts if isinstance(fact, kind))

    @cached_property
    def _children(self) -> dict[str, tuple[Target, ...]]:
        return _grouped((target.parent, target) for target in self.targets if target.parent)

    @cached_property
    def _dns(self) -> dict[tuple[str, str], DnsLook]:
        return {(look.name, look.rtype): look for look in self._of(DnsLook)}

    @cached_property
    def _tls(self) -> dict[str, tuple[TlsLook, ...]]:
        return _grouped((look.host, look) for look in self._of(TlsLook))

    @cached_property
    def _http(self) -> dict[str, HttpLook]:
        return {look.url: look for look in self._of(HttpLook)}

    @cached_property
    def _pages(self) -> dict[str, tuple[PageLook, ...]]:
        return _grouped((look.url, look) for look in self._of(PageLook))

    @cached_property
    def _unseen(self) -> dict[str, tuple[Unseen, ...]]:
        return _grouped((each.subject, each) for each in self.unseen)


def evidence_of(facts: Iterable[Fact], started_ms: int, tool_version: str = "") -> Evidence:
    """The facts in canonical order, each once: any order of the same facts makes the same evidence.

    Of two look-ups of the same thing the later one counts (the greater one when made in the same moment),
    of two ways to the same dependency the shorter.
    """
    kept: dict[tuple[object, ...], Fact] = {}
    for fact in facts:
        key = _identity(fact)
        if key not in kept or _rank(fact) > _rank(kept[key]):
            kept[key] = fact
    return Evidence(tuple(kept[key] for key in sorted(kept)), started_ms, tool_version)


def _identity(fact: Fact) -> tuple[object, ...]:
    match fact:
        case Target():
            # What was asked for is told apart by why: two providers may be behind one name.
            return (0, fact.parent, 0, fact.name, fact.role, "" if fact.parent else fact.why)
        case DnsLook():
            return (1, fact.name, 0, fact.rtype)
        case TlsLook():
            return (2, fact.host, fact.port, fact.address)
        case HttpLook():
            return (3, fact.url)
        case PageLook():
            return (4, fact.url, 0, fact.source)
        case NetworkLook():
            return (5, fact.address)
        case RegistrationLook():
            return (6, fact.domain)
        case Unseen():
            return (7, fact.subject, 0, fact.what, fact.why)


def _rank(fact: Fact) -> tuple[int, str]:
    if isinstance(fact, Target):
        return (-fact.depth, fact.why)
    return (getattr(fact, "at_ms", 0), repr(fact))


def _grouped(pairs: Iterable[tuple[_Key, _Kind]]) -> dict[_Key, tuple[_Kind, ...]]:
    groups: dict[_Key, list[_Kind]] = defaultdict(list)
    for key, value in pairs:
        groups[key].append(value)
    return {key: tuple(values) for key, values in groups.items()}
