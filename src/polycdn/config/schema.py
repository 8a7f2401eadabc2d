"""The dialect of `polycdn.toml`, table by table.

Keys that end in a unit hold whole numbers; `dialect.py` has made `dwell_ms = 60000` of `dwell = "1m"` before.
Descriptions appear in the JSON Schema that editors use.
"""

from typing import Annotated, ClassVar, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

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


class Table(BaseModel):
    """A TOML table. `SHORT` names the key that a plain text in place of the table stands for."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)
    SHORT: ClassVar[str] = ""


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


class ClientLimitsTable(Table):
    """What one client may do to an edge; [surface.limits] for an edge, [service.limits] for a service."""

    uri_bytes_max: int | None = Field(
        default=None, ge=128, le=1_048_576, description="Longest path and query; 414 beyond."
    )
    head_fields_max: int | None = Field(
        default=None, ge=1, le=128, description="Most fields of a head; 431 beyond."
    )
    body_bytes_max: int | None = Field(
        default=None, ge=0, le=1_099_511_627_776, description="Largest body of a request; 413 beyond."
    )
    client_bytes_per_s_min: int | None = Field(
        default=None,
        ge=0,
        le=1_000_000_000,
        description="Least that a client has to send or take while it is waited for; 0: nothing.",
    )
    client_rate_window_ms: int | None = Field(
        default=None, ge=100, le=3_600_000, description="Over what time that is looked at."
    )
    requests_per_connection_max: int | None = Field(
        default=None, ge=0, le=1_000_000_000, description="Then the connection ends; 0: never."
    )
    connections_max: int | None = Field(
        default=None,
        ge=0,
        le=100_000_000,
        description="Open connections of one worker; 503 beyond; 0: any number.",
    )
    connections_per_prefix_max: int | None = Field(
        default=None,
        ge=0,
        le=100_000_000,
        description="Open connections of one client; 429 beyond; 0: any number.",
    )
    requests_per_prefix_rps: int | None = Field(
        default=None, ge=0, le=1_000_000, description="Requests of one client; 429 beyond; 0: any number."
    )
    requests_per_prefix_burst: int | None = Field(
        default=None, ge=0, le=1_000_000, description="How many at once; 0: those of two seconds."
    )
    h2_streams_max: int | None = Field(
        default=None, ge=1, le=100_000, description="Streams that a client may have open on one connection."
    )
    h2_resets_max: int | None = Field(
        default=None,
        ge=0,
        le=1_000_000,
        description="Streams that a client may reset on one connection in a minute; 0: any number.",
    )
    fills_max: int | None = Field(
        default=None,
        ge=0,
        le=1_000_000,
        description="Fetches for the cache at once, of one worker and service; 503 beyond; 0: any number.",
    )


class AccessTable(Table):
    """Who is let in, by prefix; the longest one that matches rules."""

    allow: list[Prefix] = Field(default_factory=list, description="Prefixes that are let in.")
    deny: list[Prefix] = Field(default_factory=list, description="Prefixes that are not.")
    allow_file: FilePath | None = Field(default=None, description="File with more of them, one a line.")
    deny_file: FilePath | None = Field(default=None, description="The same for those that are not.")


class IssuerTable(Table):
    """Who may sign URIs."""

    name: Text = Field(description="What `iss` says.")
    key_file: FilePath = Field(description="Its keys, a JWK Set.")


class SigningTable(Table):
    """Signed URIs, as RFC 9246 has them."""

    issuers: list[IssuerTable] = Field(min_length=1, max_length=16, description="Who may sign.")
    audience: list[Text] = Field(default_factory=list, description="Names of ours that `aud` may say.")
    attribute: Annotated[str, Field(pattern=r"^[A-Za-z0-9._~-]{1,64}$")] = Field(
        default="URISigningPackage", description="What the parameter and the cookie are called."
    )
    leeway_s: int = Field(default=0, ge=0, le=3_600, description="How far clocks may differ.")
    renew_kid: Text | None = Field(
        default=None,
        description="Key that signs the next token of a chain; default: the one that signed the last.",
    )


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
    workers: int = Field(default=1, ge=1, le=1_024, description="edge, dns: threads.")
    zone: ZoneTable | None = Field(default=None, description="dns, zonefile: the zone.")
    certificates: list[CertificateTable] = Field(default_factory=list, description="edge: for HTTPS.")
    limits: LimitsTable | None = Field(default=None, description="edge: bounds inside one request.")
    access: AccessTable | None = Field(default=None, description="edge: who may connect.")


class ListenTable(Table):
    """Where the decider listens."""

    observations: ListenAddress = Field(
        default="127.0.0.1:8460", description="Where vantages post what they saw."
    )


class Root(Table):
    """polycdn.toml"""

    state_dir: FilePath | None = Field(
        default=None, description="Default: $XDG_STATE_HOME/polycdn, or /var/lib/polycdn for root."
    )
    listen: ListenTable = Field(default_factory=ListenTable, description="Where the decider listens.")
    policy: PolicyTable = Field(default_factory=PolicyTable, description="How to steer.")
    provider: list[ProviderTable] = Field(default_factory=list, description="Providers, [[provider]].")
    region: list[RegionTable] = Field(default_factory=list, description="Regions, [[region]].")
    vantage: list[VantageTable] = Field(default_factory=list, description="Vantages, [[vantage]].")
    surface: list[SurfaceTable] = Field(default_factory=list, description="Surfaces, [[surface]].")
    service: list[ServiceTable] = Field(min_length=1, description="Services, [[service]].")
