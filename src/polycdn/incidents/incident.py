"""One outage as it is told by its file: when, whom, how much, and what of it is estimated."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from polycdn.model.units import FULL_BP

MILLION_PPM: Final = 1_000_000
FLAP_PERIOD_MS: Final = 300_000
"""The period of a flap that states none: that of 2025-11-18."""


class Kind(StrEnum):
    """What the company was to those whom its outage hit."""

    CDN = "cdn"
    DNS = "dns"
    CLOUD = "cloud"
    CA = "ca"


class FaultKind(StrEnum):
    """How requests failed in one phase; a flap fails like `http-5xx`, by turns."""

    HTTP_5XX = "http-5xx"
    CONNECT_REFUSED = "connect-refused"
    TIMEOUT = "timeout"
    DNS_SERVFAIL = "dns-servfail"
    DNS_EMPTY = "dns-empty"
    TLS_FAILURE = "tls-failure"
    SLOW = "slow"
    FLAP = "flap"


class Effect(StrEnum):
    """OPERATOR: customers of the company are hit. RESOLVER: users who look names up through it are."""

    OPERATOR = "operator"
    RESOLVER = "resolver"


class Until(StrEnum):
    """How far an outage is told: to where most traffic flowed again, or to the all-clear."""

    MITIGATED = "mitigated"
    RESOLVED = "resolved"


HTTP_FAULTS: Final = frozenset({FaultKind.HTTP_5XX, FaultKind.TLS_FAILURE})
"""Faults that a name server cannot have: they do not touch a DNS operator."""


@dataclass(frozen=True, slots=True)
class Phase:
    """A stretch of an outage with one fault.

    `share_ppm` is the share of the requests in scope that are hit, as the source tells it; `reach_bp` is the
    share of the provider's traffic that is in scope. `regions` are the users' places, empty = everywhere.
    `kinds` empty = every kind of the incident that the fault can touch. `period_ms` is 0 but for a flap.
    """

    offset_ms: int
    duration_ms: int
    fault: FaultKind
    share_ppm: int
    reach_bp: int = FULL_BP
    regions: tuple[str, ...] = ()
    period_ms: int = 0
    estimated: bool = True
    note: str = ""
    kinds: tuple[Kind, ...] = ()
    scope: tuple[str, ...] = ("global",)
    reach_estimated: bool = True
    reach_note: str = ""

    @property
    def end_ms(self) -> int:
        """The first millisecond after this phase."""
        return self.offset_ms + self.duration_ms

    def hits(self, kind: Kind) -> bool:
        """Whether a company of `kind` shows this phase to its customers."""
        if self.kinds:
            return kind in self.kinds
        return not (kind is Kind.DNS and self.fault in HTTP_FAULTS)


@dataclass(frozen=True, slots=True)
class Source:
    """Where the facts come from."""

    title: str
    url: str


@dataclass(frozen=True, slots=True)
class Incident:
    """An outage. Times are milliseconds UTC; phases are told from `started_ms` and may overlap."""

    id: str
    provider: str
    title: str
    started_ms: int
    detected_ms: int
    mitigated_ms: int
    resolved_ms: int
    kinds: tuple[Kind, ...]
    phases: tuple[Phase, ...]
    effect: Effect = Effect.OPERATOR
    date: str = ""
    summary: str = ""
    root_cause: str = ""
    slow_recovery: str = ""
    services_hit: tuple[str, ...] = ()
    control_plane_available: bool = True
    control_plane_note: str = ""
    lessons: tuple[str, ...] = ()
    sources: tuple[Source, ...] = ()
    confidence: str = ""

    @property
    def duration_ms(self) -> int:
        """From the start to the all-clear."""
        return self.resolved_ms - self.started_ms
