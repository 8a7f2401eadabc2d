"""The dialect of `polycdn.toml`, table by table.

Keys that end in a unit hold whole numbers; `dialect.py` has made `dwell_ms = 60000` of `dwell = "1m"` before.
Descriptions appear in the JSON Schema that editors use.
"""

from typing import Annotated, ClassVar, Final, Literal

from pydantic import Field

from polycdn.config.schema_gate import AccessTable, ClientLimitsTable, SigningTable
from polycdn.config.schema_purge import PurgeTable
from polycdn.config.schema_reflexes import ReflexesTable
from polycdn.config.table import Table
from polycdn.config.texts import (
    Address,
    Country,
    Host,
    Hostname,
    ListenAddress,
    Name,
    Prefix,
    Sha256,
    Url,
    UrlPath,
)

DAY_MS: Final = 86_400_000
FilePath = Annotated[str, Field(min_length=1)]
Text = Annotated[str, Field(min_length=1)]


class PolicyTable(Table):
    """How to steer; in [policy] for all services, in [service.policy] for one."""

    rule: Literal["priority", "weighted", "latency", "cost"] | None = Field(
        default=None, description="How healthy providers share the traffic."
    )
    on_total_loss: Literal["last_good", "all", "own_edge"] | None = Field(
        default=None, description="Whom to serve when every provider looks down."
    )
    probe_interval_ms: int | None = Field(
        default=None, ge=100, le=3_600_000, description="Between two looks of one vantage at one provider."
    )
    probe_deadline_ms: int | None = Field(
        default=None, ge=50, le=60_000, description="How long one look may take."
    )
    false_alarm_days: int | None = Field(
        default=None,
        ge=1,
        le=3_650,
        description="At most one false alarm of a provider in a region in this time.",
    )
    healthy_failure_bp: int | None = Field(
        default=None, ge=1, le=2_000, description="Share of looks that may fail at a healthy provider."
    )
    slow_ms: int | None = Field(
        default=None,
        ge=0,
        le=60_000,
        description="First-byte time from which a look is slow; 0 s = not judged.",
    )
    move_max_bp: int | None = Field(
        default=None,
        ge=1,
        le=10_000,
        description="Most traffic to move in a minute, except away from a provider that is down.",
    )
    dwell_ms: int | None = Field(default=None, ge=0, le=DAY_MS, description="Least time between two moves.")
    ttl_calm_s: int | None = Field(
        default=None, ge=1, le=86_400, description="TTL of answers while all is calm."
    )
    ttl_doubt_s: int | None = Field(default=None, ge=1, le=86_400, description="TTL from the first doubt.")
    probation_start_bp: int | None = Field(
        default=None, ge=1, le=10_000, description="Share that a provider gets first when it comes back."
    )
    probation_step_ms: int | None = Field(
        default=None,
        ge=1_000,
        le=DAY_MS,
        description="After this much clean time the probation share doubles.",
    )
    hold_down_ms: int | None = Field(
        default=None, ge=0, le=DAY_MS, description="How long a provider stays out after it was down."
    )
    hold_down_max_ms: int | None = Field(
        default=None, ge=0, le=7 * DAY_MS, description="Relapses double the hold-down up to this."
    )
    relapse_window_ms: int | None = Field(
        default=None, ge=0, le=7 * DAY_MS, description="A failure this soon after coming back is a relapse."
    )
    soak_ms: int | None = Field(
        default=None, ge=0, le=DAY_MS, description="A plan is good once its traffic stayed healthy this long."
    )
    evidence_age_max_ms: int | None = Field(
        default=None, ge=1_000, le=DAY_MS, description="Older observations say nothing any more."
    )
    require_parity: bool | None = Field(
        default=None, description="Only send traffic to providers that serve the same content."
    )


class EndpointTable(Table):
    """Where to connect. As a text: a URL. Of `endpoint` and `addresses` (and `cname`) one must be there."""

    SHORT: ClassVar[str] = "endpoint"
    endpoint: Url | None = Field(default=None, description="https://host[:port] or http://host[:port].")
    addresses: list[Address] | None = Field(
        default=None, min_length=1, description="IP addresses to connect to."
    )
    host: Host | None = Field(
        default=None,
        description="Sent as SNI. Default: the endpoint's host, else the service's hostname.",
    )
    port: int | None = Field(
        default=None, ge=1, le=65_535, description="Default: the endpoint's, else 443, or 80 without TLS."
    )
    tls: bool | None = Field(default=None, description="Default: the endpoint's scheme, else true.")
    ca_file: FilePath | None = Field(
        default=None, description="PEM file of the authorities to trust here; default: the system's."
    )


class ProviderTable(EndpointTable):
    """A company, or an edge of yours, that can carry services."""

    SHORT: ClassVar[str] = ""
    name: Name = Field(description="What the provider is called in plans, reports and metrics.")
    kind: Literal["cdn", "cloud", "edge"] = Field(description="`edge` is an edge of your own.")
    company: Text | None = Field(
        default=None,
        description="Who runs it: providers of one company can fail together. Default: the name.",
    )
    cname: Hostname | None = Field(
        default=None,
        description="The name that DNS steering answers with; resolved for probes without addresses.",
    )
    capacity_mbps: int | None = Field(default=None, ge=1, description="What it can carry, Mbit/s.")
    capacity_rps: int | None = Field(default=None, ge=1, description="What it can carry, requests a second.")
    cost_micros_per_gib: int = Field(
        default=0, ge=0, description="Price of a GiB, millionths of your currency."
    )
    weight: int = Field(default=1, ge=1, le=1_000_000, description="For the rule `weighted`.")
    floor_bp: int = Field(default=0, ge=0, le=10_000, description="Least share while it is up.")
    ceiling_bp: int = Field(default=10_000, ge=1, le=10_000, description="Largest share.")
    regions: list[Name] | None = Field(
        default=None, min_length=1, description="Regions that it can serve; default: all."
    )
    purge: PurgeTable | None = Field(default=None, description="How it is told to forget an object.")


class ExpectTable(Table):
    """What a good answer looks like; what is left out is not checked, except the status."""

    status: int = Field(default=200, ge=100, le=599, description="HTTP status.")
    size_bytes: int | None = Field(default=None, ge=0, description="Exact size of the body.")
    sha256: Sha256 | None = Field(default=None, description="Digest of the body.")
    content_type: Text | None = Field(default=None, description="Media type; parameters are not compared.")
    headers: dict[str, str] = Field(default_factory=dict, description="Headers with their exact values.")
    contains: Text | None = Field(default=None, description="A text that the body must contain.")


class ObjectTable(Table):
    """An object that vantages fetch through every provider and from the origin. As a text: its path."""

    SHORT: ClassVar[str] = "path"
    path: UrlPath = Field(description="Path and query.")
    expect: ExpectTable = Field(default_factory=ExpectTable, description="What a good answer looks like.")


class NegativeTable(Table):
    """How long an error is kept that says nothing itself."""

    status: int = Field(ge=300, le=599, description="HTTP status, such as 404.")
    ttl_s: int = Field(ge=0, le=86_400, description="How long it is kept.")


class CacheTable(Table):
    """How edges keep answers of a service, beyond what RFC 9111 says of a shared cache."""

    enabled: bool = Field(default=True, description="false: everything is passed on.")
    heuristic: bool = Field(
        default=False,
        description="Keep answers without freshness information for a tenth of their age, a day at most.",
    )
    negative: list[NegativeTable] = Field(
        default_factory=list, max_length=64, description="Errors that are kept though they do not say so."
    )
    query: Literal["keep", "sort", "ignore", "allow"] = Field(
        default="keep",
        description="What of a query tells objects apart, and reaches the origin: all as it is, all in "
        "order, nothing, or only `query_names`.",
    )
    query_names: list[Text] = Field(
        default_factory=list, max_length=256, description='Parameters that count, with query = "allow".'
    )
    object_max_bytes: int | None = Field(
        default=None, ge=0, le=1_125_899_906_842_624, description="Larger bodies are passed on and not kept."
    )
    stale_while_revalidate_s: int = Field(
        default=0, ge=0, le=31_536_000, description="A stale answer may serve so long while it is fetched."
    )
    stale_if_error_s: int = Field(
        default=0, ge=0, le=31_536_000, description="... when the origin answers with an error."
    )
    stale_on_disconnect_s: int = Field(
        default=0, ge=0, le=31_536_000, description="... when no provider answers at all."
    )


class ForwardedTable(Table):
    """What edges tell upstreams of the client. As a text: the style."""

    SHORT: ClassVar[str] = "style"
    style: Literal["x-forwarded", "forwarded", "both", "none"] = Field(
        default="x-forwarded", description="X-Forwarded-For, -Proto and -Host, or Forwarded (RFC 7239)."
    )
    trust_client: bool = Field(
        default=False, description="Keep what the client says itself: it is a proxy of yours."
    )
    via: bool = Field(default=True, description="Add Via, towards upstreams and clients.")


class ServiceTable(Table):
    """One steered service."""

    name: Name = Field(description="What the service is called.")
    hostname: Hostname = Field(description="The name that users ask for.")
    aliases: list[Hostname] = Field(default_factory=list, description="Other names of the same service.")
    origin: EndpointTable | None = Field(default=None, description="Where the content comes from.")
    providers: list[Name] | None = Field(
        default=None, description="Names, the most preferred first; default: every [[provider]], as written."
    )
    provider: list[ProviderTable] = Field(
        default_factory=list, description="Providers of this service alone, [[service.provider]]."
    )
    object: list[ObjectTable] | None = Field(
        default=None,
        min_length=1,
        max_length=1_000,
        description='Objects to probe; default: "/" with status 200.',
    )
    regions: list[Name] | None = Field(
        default=None,
        min_length=1,
        description="Regions of this service, the default one first; default: every [[region]].",
    )
    policy: PolicyTable = Field(default_factory=PolicyTable, description="What differs from [policy].")
    cache: CacheTable = Field(default_factory=CacheTable, description="What edges keep of it.")
    forwarded: ForwardedTable = Field(
        default_factory=ForwardedTable, description="What edges tell upstreams of clients."
    )
    reflexes: ReflexesTable = Field(
        default_factory=ReflexesTable, description="What edges do when a provider fails in a request."
    )
    limits: ClientLimitsTable | None = Field(
        default=None, description="What a client may do, before [surface.limits]."
    )
    access: AccessTable | None = Field(default=None, description="Which clients are let in.")
    signing: SigningTable | None = Field(default=None, description="Which URIs are: those with a token.")


class RegionTable(Table):
    """A set of users. The first region is the default one: it takes whoever fits no other."""

    name: Name = Field(description="What the region is called.")
    prefixes: list[Prefix] = Field(default_factory=list, description="IP prefixes; the longest match wins.")
    countries: list[Country] = Field(default_factory=list, description="Country codes, ISO 3166-1.")
    asns: list[Annotated[int, Field(ge=1, le=4_294_967_295)]] = Field(
        default_factory=list, description="Numbers of autonomous systems."
    )
    demand_mbps: int = Field(default=0, ge=0, description="Expected traffic until it is measured, Mbit/s.")
    demand_rps: int = Field(
        default=0, ge=0, description="Expected requests a second until they are measured."
    )


class VantageTable(Table):
    """A place that looks at providers from outside."""

    name: Name = Field(description="What the vantage is called.")
    regions: list[Name] | None = Field(
        default=None, min_length=1, description="Regions that its word counts for; default: all."
    )
    source_address: Address | None = Field(
        default=None, description="Local IP address that its looks come from."
    )
    resolver: ListenAddress | None = Field(
        default=None, description="Resolver that is asked for providers' names; default: the machine's own."
    )
    key_file: FilePath | None = Field(
        default=None,
        description="Secret that its reports are signed with; default: made in the state directory.",
    )
    remote: bool = Field(
        default=False, description="Runs on another machine; `polycdn up` does not start it."
    )


class NameServerTable(Table):
    """One NS of a zone. As a text: its name."""

    SHORT: ClassVar[str] = "name"
    name: Hostname = Field(description="Name of the server.")
    addresses: list[Address] = Field(default_factory=list, description="Glue, if the name lies in the zone.")


class ZoneTable(Table):
    """What a nameserver is authoritative for."""

    apex: Hostname = Field(description="Name of the zone.")
    name_servers: list[NameServerTable] = Field(min_length=1, description="The zone's NS records.")
    mailbox: Text = Field(description="Who answers for the zone, as in hostmaster@example.net.")
    refresh_s: int = Field(default=3_600, ge=1, le=2_147_483_647, description="SOA REFRESH.")
    retry_s: int = Field(default=600, ge=1, le=2_147_483_647, description="SOA RETRY.")
    expire_s: int = Field(default=604_800, ge=1, le=2_147_483_647, description="SOA EXPIRE.")
    negative_ttl_s: int = Field(
        default=30, ge=0, le=86_400, description="SOA MINIMUM: how long a NODATA is kept."
    )


class CertificateTable(Table):
    """A certificate of an edge."""

    cert_file: FilePath = Field(description="PEM chain, the leaf first.")
    key_file: FilePath = Field(description="PEM private key.")


class LimitsTable(ClientLimitsTable):
    """Deadlines and bounds inside one request of an edge, and what one client may do to it."""

    connect_timeout_ms: int | None = Field(
        default=None, ge=10, le=60_000, description="To connect to an upstream."
    )
    first_byte_timeout_ms: int | None = Field(
        default=None, ge=10, le=600_000, description="To its first byte."
    )
    idle_timeout_ms: int | None = Field(default=None, ge=10, le=3_600_000, description="Between two bytes.")
    client_head_timeout_ms: int | None = Field(
        default=None, ge=100, le=600_000, description="For a request's head."
    )
    head_bytes_max: int | None = Field(default=None, ge=1_024, le=1_048_576, description="Largest head.")
    replay_bytes_max: int | None = Field(
        default=None, ge=0, le=1_073_741_824, description="Largest body kept to be sent again."
    )
    retry_budget_bp: int | None = Field(
        default=None, ge=0, le=10_000, description="Extra requests, share of the load."
    )
    retry_floor_rps: int | None = Field(
        default=None, ge=0, le=1_000_000, description="Extra requests always allowed."
    )


class DiskTable(Table):
    """The disk tier of an edge's cache."""

    path: FilePath = Field(description="The folder; it is made if it is not there.")
    size_bytes: int = Field(ge=16_777_216, le=1_125_899_906_842_624, description="What it may take.")


class AccessLogTable(Table):
    """A line of JSON per request of an edge."""

    path: FilePath = Field(description="The file, opened again at SIGHUP.")
    sample_bp: int = Field(
        default=10_000, ge=1, le=10_000, description="Share of the requests that it tells."
    )
    client_prefix: bool = Field(
        default=False, description="With the client's network, a /24 or a /48; else no line tells who asked."
    )


class AdminTable(Table):
    """/healthz, /readyz, /metrics and purge of an engine."""

    listen: ListenAddress = Field(description="Where; best on loopback.")
    token_file: FilePath | None = Field(
        default=None, description="Secret that purging needs; default: made in the state directory."
    )


class SurfaceTable(Table):
    """Somewhere that plans go. Which keys apply depends on the kind."""

    name: Name = Field(description="What the surface is called.")
    kind: Literal["memory", "zonefile", "feed", "edge", "dns"] = Field(
        description="`edge` and `dns` are engines: processes that `polycdn up` starts."
    )
    services: list[Name] | None = Field(
        default=None, min_length=1, description="Services it carries; default: all."
    )
    path: FilePath | None = Field(default=None, description="zonefile: the file to write.")
    listen: ListenAddress | None = Field(default=None, description="feed: where to listen.")
    http: list[ListenAddress] = Field(default_factory=list, description="edge: where to listen for HTTP.")
    https: list[ListenAddress] = Field(default_factory=list, description="edge: where to listen for HTTPS.")
    dns: list[ListenAddress] = Field(default_factory=list, description="dns: where to listen, UDP and TCP.")
    asked_at: list[ListenAddress] | None = Field(
        default=None, description="dns: where vantages ask it; default: `dns`, or the glue of the zone."
    )
    workers: int = Field(default=1, ge=1, le=1_024, description="edge, dns: threads.")
    zone: ZoneTable | None = Field(default=None, description="dns, zonefile: the zone.")
    certificates: list[CertificateTable] = Field(default_factory=list, description="edge: for HTTPS.")
    limits: LimitsTable | None = Field(default=None, description="edge: bounds inside one request.")
    memory_bytes: int | None = Field(
        default=None, ge=1_048_576, le=1_125_899_906_842_624, description="edge: the cache's memory tier."
    )
    disk: DiskTable | None = Field(default=None, description="edge: the cache's disk tier.")
    access_log: AccessLogTable | None = Field(default=None, description="edge: a line per request.")
    admin: AdminTable | None = Field(default=None, description="edge, dns: the admin listener.")
    drain_s: int | None = Field(
        default=None, ge=0, le=86_400, description="edge, dns: for what is under way at the end."
    )
    handover_drain_s: int | None = Field(
        default=None, ge=0, le=604_800, description="edge, dns: the same after another process took over."
    )
    access: AccessTable | None = Field(default=None, description="edge: who may connect.")


class ListenTable(Table):
    """Where the decider listens."""

    observations: ListenAddress = Field(
        default="127.0.0.1:8460", description="Where vantages post what they saw."
    )


class AuditTable(Table):
    """What the audit looks at besides the services."""

    login: list[Hostname] = Field(default_factory=list, description="Hosts where the operators log in.")
    status: list[Hostname] = Field(default_factory=list, description="Hosts of the status pages.")


class Root(Table):
    """polycdn.toml"""

    state_dir: FilePath | None = Field(
        default=None, description="Default: $XDG_STATE_HOME/polycdn, or /var/lib/polycdn for root."
    )
    listen: ListenTable = Field(default_factory=ListenTable, description="Where the decider listens.")
    audit: AuditTable = Field(default_factory=AuditTable, description="What the audit looks at too.")
    policy: PolicyTable = Field(default_factory=PolicyTable, description="How to steer.")
    provider: list[ProviderTable] = Field(default_factory=list, description="Providers, [[provider]].")
    region: list[RegionTable] = Field(default_factory=list, description="Regions, [[region]].")
    vantage: list[VantageTable] = Field(default_factory=list, description="Vantages, [[vantage]].")
    surface: list[SurfaceTable] = Field(default_factory=list, description="Surfaces, [[surface]].")
    service: list[ServiceTable] = Field(min_length=1, description="Services, [[service]].")
