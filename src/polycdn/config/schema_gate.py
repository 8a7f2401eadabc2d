"""Who gets in: limits on clients, access by prefix, signed URIs."""

from typing import Annotated

from pydantic import Field

from polycdn.config.table import Table
from polycdn.config.texts import Prefix

FilePath = Annotated[str, Field(min_length=1)]
Text = Annotated[str, Field(min_length=1)]


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
