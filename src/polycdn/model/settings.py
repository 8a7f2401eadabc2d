"""What an engine needs to know of a service besides the plan; changes seldom, named by its content hash."""

from dataclasses import dataclass
from typing import Final

from polycdn.model.plan import Plan
from polycdn.model.topology import Endpoint, ProbedObject, ProviderKind, Region

PLAN_FORMAT: Final = "polycdn/plan/1"
SETTINGS_FORMAT: Final = "polycdn/settings/1"


@dataclass(frozen=True, slots=True)
class Upstream:
    """A provider as an engine sees it. One of kind `edge` is ourselves: the engine goes to the origin.

    `ipv4`/`ipv6` are what DNS answers with; when both are empty, `cname` is answered instead.
    """

    name: str
    kind: ProviderKind
    endpoint: Endpoint
    cname: str | None = None
    ipv4: tuple[str, ...] = ()
    ipv6: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class NameServer:
    """One NS of the zone, with the glue addresses if it lies inside the zone."""

    name: str
    addresses: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Zone:
    """The zone that the nameserver is authoritative for; seconds as in RFC 1035 §3.3.13."""

    apex: str
    name_servers: tuple[NameServer, ...]
    mailbox: str
    refresh_s: int = 3_600
    retry_s: int = 600
    expire_s: int = 604_800
    negative_ttl_s: int = 30


@dataclass(frozen=True, slots=True)
class Certificate:
    """Files in PEM; read by the engine, never copied."""

    cert_file: str
    key_file: str


@dataclass(frozen=True, slots=True)
class Limits:
    """Deadlines and bounds inside one request.

    Extra requests (retries, hedges) to one destination stay within `retry_budget_bp` of its own load, or
    `retry_floor_rps` where that is more; one second's floor may be spent ahead (decision 0013).
    """

    connect_timeout_ms: int = 1_000
    first_byte_timeout_ms: int = 5_000
    idle_timeout_ms: int = 30_000
    client_head_timeout_ms: int = 10_000
    head_bytes_max: int = 65_536
    replay_bytes_max: int = 1_048_576
    retry_budget_bp: int = 1_500
    retry_floor_rps: int = 10


@dataclass(frozen=True, slots=True)
class CacheRules:
    """How an edge keeps answers, beyond what RFC 9111 says of a shared cache.

    `heuristic` lets answers without freshness information be kept for a tenth of their age. `negative_ttls`
    are (status, seconds) for errors that say nothing themselves. `query`: "keep" (part of the key as it is),
    "sort" (by name), "ignore" or "allow" (only `query_names`, by name); the origin gets the same. Bodies of
    more than `object_bytes_max` are passed on and not kept. The `stale_` seconds are how long a stale answer
    may still serve where its sender did not say: while it is fetched anew, when the origin answers with an
    error, when no provider answers at all.
    """

    heuristic: bool = False
    negative_ttls: tuple[tuple[int, int], ...] = ()
    query: str = "keep"
    query_names: tuple[str, ...] = ()
    object_bytes_max: int = 107_374_182_400
    stale_while_revalidate_s: int = 0
    stale_if_error_s: int = 0
    stale_on_disconnect_s: int = 0


@dataclass(frozen=True, slots=True)
class Fallback:
    """What an edge answers to GET and HEAD when nobody answered well and nothing stored may serve."""

    status: int
    content_type: str
    file: str


@dataclass(frozen=True, slots=True)
class Reflexes:
    """What an edge may do inside one request besides trying the next upstream (decision 0013).

    `identity`: what two providers must agree on before the bytes of one follow those of the other: "etag"
    (strong), "size+last-modified" or "digest", each besides the ETag. `integrity`: "told" looks at digests
    that answers carry as they stream, "strict" before the first byte; digests of the settings always are.
    `idempotency_scope`: among whom an Idempotency-Key is known, "provider" or "service". An upstream that
    sends nothing for `stall_timeout_ms`, or less than `rate_min_bytes_per_s`, is left in mid-body if another
    can go on. Bodies up to `hold_bytes_max` wait whole for their digest. Hedges are at most `hedge_budget_bp`
    of requests. An upstream is given at most `concurrency_max` requests at once, `queue_max` more wait in
    each worker. `sample_bp` of answers that can be taken up elsewhere are compared with another provider's.
    """

    identity: str = "etag"
    integrity: str = "told"
    idempotency_scope: str = "provider"
    stall_timeout_ms: int = 2_000
    rate_min_bytes_per_s: int = 16_384
    hold_bytes_max: int = 4_194_304
    hedge_budget_bp: int = 500
    concurrency_max: int = 1_024
    queue_max: int = 4_096
    sample_bp: int = 10
    fallback: Fallback | None = None


@dataclass(frozen=True, slots=True)
class Forwarded:
    """What an edge tells an upstream of the client.

    `style`: "x-forwarded" (X-Forwarded-For, -Proto and -Host), "forwarded" (RFC 7239), "both" or "none".
    `is_client_trusted`: what the client's own request says of that goes on in front; for clients that are
    proxies of ours. `has_via`: RFC 9110 §7.6.3, to upstreams and to clients.
    """

    style: str = "x-forwarded"
    is_client_trusted: bool = False
    has_via: bool = True


@dataclass(frozen=True, slots=True)
class Digest:
    """What the body of a path is known to be: its hex SHA-256 as a whole, and perhaps of each block.

    All blocks have `block_bytes`, but the last.
    """

    path: str
    body_bytes: int
    sha256: str
    block_bytes: int | None = None
    block_sha256: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ClientLimits:
    """What one client may do to an edge. 0 is no limit, except for sizes and HTTP/2 streams.

    A client prefix is an IPv4 address, or the /64 of an IPv6 address. While the edge waits for a client, at
    least `client_bytes_per_s_min` have to move, in both directions, looked at over `client_rate_window_ms`.
    `connections_max` is of one worker, `fills_max` (fetches for the cache) of one worker and service; what
    is said of prefixes holds for all workers together. `requests_per_prefix_burst` 0 = that of two seconds.
    `h2_resets_max` are streams that a client itself resets, on one connection in a minute.
    """

    uri_bytes_max: int = 16_384
    head_fields_max: int = 128
    body_bytes_max: int = 107_374_182_400
    client_bytes_per_s_min: int = 250
    client_rate_window_ms: int = 30_000
    requests_per_connection_max: int = 0
    connections_max: int = 100_000
    connections_per_prefix_max: int = 0
    requests_per_prefix_rps: int = 0
    requests_per_prefix_burst: int = 0
    h2_streams_max: int = 256
    h2_resets_max: int = 500
    fills_max: int = 0


@dataclass(frozen=True, slots=True)
class Access:
    """Which client addresses are let in: the longest prefix that matches rules.

    Who matches nothing is let in, unless prefixes are allowed and none denied. Files have a prefix a line.
    """

    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()
    allow_file: str | None = None
    deny_file: str | None = None


@dataclass(frozen=True, slots=True)
class Issuer:
    """Who may sign URIs, with a file of keys (JWK Set, RFC 7517 §5); read by the engine, never copied."""

    name: str
    key_file: str


@dataclass(frozen=True, slots=True)
class Signing:
    """Signed URIs (RFC 9246). `audience` are the names that `aud` may have for us.

    `renew_kid` names the key that signs the next token of a chain; None = the one that signed the last.
    """

    issuers: tuple[Issuer, ...]
    audience: tuple[str, ...] = ()
    attribute: str = "URISigningPackage"
    leeway_s: int = 0
    renew_kid: str | None = None


@dataclass(frozen=True, slots=True)
class Gate:
    """Who gets in. Without `access` everybody does, without `signing` to every URI."""

    limits: ClientLimits = ClientLimits()
    access: Access | None = None
    signing: Signing | None = None


@dataclass(frozen=True, slots=True)
class Settings:
    """One service for one engine. `hostnames` are matched against Host, SNI and the DNS question.

    The hostname "*" is every one that no service of the edge has. Without `cache` an edge keeps nothing.
    """

    service: str
    hostnames: tuple[str, ...]
    upstreams: tuple[Upstream, ...]
    origin: Endpoint | None = None
    regions: tuple[Region, ...] = ()
    objects: tuple[ProbedObject, ...] = ()
    certificates: tuple[Certificate, ...] = ()
    zone: Zone | None = None
    limits: Limits = Limits()
    cache: CacheRules | None = None
    reflexes: Reflexes = Reflexes()
    forwarded: Forwarded = Forwarded()
    digests: tuple[Digest, ...] = ()
    gate: Gate = Gate()
    format: str = SETTINGS_FORMAT


@dataclass(frozen=True, slots=True)
class PublishedPlan:
    """A plan as it lies on disk and goes over wires: with the hash of the settings it was made for."""

    plan: Plan
    settings_hash: str
    format: str = PLAN_FORMAT
