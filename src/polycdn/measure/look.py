"""One look: what to fetch and what came of it."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from polycdn.model.observation import Observation, Reason
from polycdn.model.topology import Endpoint, Expect

DAY_MS: Final = 86_400_000
FINGERPRINT_CHARS: Final = 16
"""Hex digits of the SHA-256 that an observation carries: enough to tell two bodies apart."""


JUST_200: Final = Expect()


class Protocol(StrEnum):
    """`AUTO` takes the best that both sides speak over TCP; the others insist on one."""

    AUTO = "auto"
    H1 = "h1"
    H2 = "h2"
    H3 = "h3"


@dataclass(frozen=True, slots=True)
class Question:
    """One thing to fetch, and what a good answer looks like.

    Connects to `endpoint.addresses[turn]` (modulo their number), with the endpoint's host as SNI. `host` is
    sent as Host, "" = the endpoint's. `resolve_name` is resolved when the endpoint has no addresses (None =
    the endpoint's host). `deadline_ms` is real time for everything. `slow_ms` is the first-byte time that is
    slow, 0 = none is. `is_fresh` forces a new connection.
    """

    provider: str
    endpoint: Endpoint
    path: str = "/"
    host: str = ""
    expect: Expect = JUST_200
    resolve_name: str | None = None
    protocol: Protocol = Protocol.AUTO
    deadline_ms: int = 5_000
    slow_ms: int = 0
    source_address: str | None = None
    headers: tuple[tuple[str, str], ...] = ()
    is_fresh: bool = True
    turn: int = 0

    @property
    def connect_host(self) -> str:
        """The address, or the name, to connect to."""
        addresses = self.endpoint.addresses
        if addresses:
            return addresses[self.turn % len(addresses)]
        return self.resolve_name or self.endpoint.host


@dataclass(frozen=True, slots=True)
class Phases:
    """Microseconds of each part of a look; 0 for what did not happen (a kept connection has no connect).

    `tls_us` of HTTP/3 is 0: QUIC does both handshakes at once, in `connect_us`.
    """

    resolve_us: int = 0
    connect_us: int = 0
    tls_us: int = 0
    processing_us: int = 0
    transfer_us: int = 0

    @property
    def total_us(self) -> int:
        """The whole look."""
        return self.resolve_us + self.connect_us + self.tls_us + self.processing_us + self.transfer_us


@dataclass(frozen=True, slots=True)
class Chain:
    """The certificate chain that a server showed. Times in milliseconds UTC, of the link that ends first."""

    is_valid: bool
    not_after_ms: int
    subject: str = ""
    issuer: str = ""
    why: str = ""

    def days_left(self, now_ms: int) -> int:
        """Whole days until the first link expires; negative when it has."""
        return (self.not_after_ms - now_ms) // DAY_MS


@dataclass(frozen=True, slots=True)
class Look:
    """What one look brought. `at_ms` is when it ended, by the vantage's clock.

    `first_byte_ms` counts from the start of the look, 0 if no byte came. `sha256` is "" unless the whole body
    was read. `chain` is None on plain HTTP and on kept connections whose handshake was not seen.
    """

    at_ms: int
    provider: str
    path: str
    reason: Reason
    detail: str = ""
    first_byte_ms: int = 0
    status: int = 0
    body_bytes: int = 0
    sha256: str = ""
    address: str = ""
    protocol: str = ""
    phases: Phases = Phases()
    chain: Chain | None = None
    is_fresh: bool = True

    @property
    def is_good(self) -> bool:
        """Whether the look speaks for the provider; a slow answer is still an answer."""
        return self.reason in (Reason.OK, Reason.SLOW)

    def observation(self, region: str, vantage: str) -> Observation:
        """The same as evidence. What a blind look failed at says nothing about the provider."""
        return Observation(
            at_ms=self.at_ms,
            provider=self.provider,
            region=region,
            vantage=vantage,
            reason=self.reason,
            attempts=1,
            failures=0 if self.is_good else 1,
            first_byte_ms=self.first_byte_ms if self.is_good else 0,
            path=self.path,
            fingerprint=self.sha256[:FINGERPRINT_CHARS],
        )
