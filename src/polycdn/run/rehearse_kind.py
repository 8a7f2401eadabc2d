"""What an outage of each kind does to the service in the lab: who carries it, and who of them fails.

| kind | carried by | fails |
|---|---|---|
| cdn | two CDNs and the own edge | the first CDN |
| cloud | two clouds, each with an origin of its own | the first cloud's origin |
| dns | two CDNs and the own edge, found through two DNS operators | the first operator's nameservers |
| ca | two CDNs and the own edge | the first CDN's certificate, which expires half-way and is not renewed |
"""

from dataclasses import dataclass, replace
from typing import Final

from polycdn.errors import ConfigError, Fault
from polycdn.incidents import Effect, Incident, Kind, Phase
from polycdn.incidents import FaultKind as Told
from polycdn.lab.fault import FaultKind
from polycdn.model.units import FULL_BP

OWN_EDGE: Final = "own-edge"
OPERATORS: Final = ("operator-a", "operator-b")
EDGE_OPERATORS: Final = ("edge-operator-a", "edge-operator-b")
"""Those that answer for the edge client's name; they fail when OPERATORS do."""

ORDER: Final = (Kind.CDN, Kind.CLOUD, Kind.DNS, Kind.CA)
"""Of an outage with several kinds the first of these that it touches is shown."""

AT_SERVER: Final = {
    Told.HTTP_5XX: FaultKind.HTTP_5XX,
    Told.FLAP: FaultKind.HTTP_5XX,
    Told.CONNECT_REFUSED: FaultKind.REFUSE,
    Told.TIMEOUT: FaultKind.HANG,
    Told.TLS_FAILURE: FaultKind.TLS,
    Told.DNS_SERVFAIL: FaultKind.REFUSE,
    Told.DNS_EMPTY: FaultKind.REFUSE,
    Told.SLOW: FaultKind.SLOW_FIRST_BYTE,
}
"""How the lab shows each fault at a server; a name that does not resolve is an address not reached."""

AT_NAMESERVER: Final = {
    Told.DNS_SERVFAIL: FaultKind.DNS_SERVFAIL,
    Told.DNS_EMPTY: FaultKind.DNS_EMPTY,
}
"""Every other fault of a nameserver is silence."""


@dataclass(frozen=True, slots=True)
class Cast:
    """Who plays in the rehearsal of one kind of outage. `sick` fails, `clouds` are origins under their names.

    `providers` are what is steered over, the preferred first. `pinned` is where the client goes that has
    nobody else.
    """

    kind: Kind
    providers: tuple[str, ...]
    sick: tuple[str, ...]
    pinned: str
    cdns: tuple[str, ...] = ()
    clouds: tuple[str, ...] = ()
    operators: tuple[str, ...] = ()

    @property
    def steered_sick(self) -> str:
        """The provider that fails; "" when the fault is with none of them."""
        return self.sick[0] if self.sick[0] in self.providers else ""

    def injected(self, told: Told) -> FaultKind:
        """How the lab shows a fault that the timeline tells."""
        if self.kind is Kind.DNS:
            return AT_NAMESERVER.get(told, FaultKind.DNS_TIMEOUT)
        return FaultKind.EXPIRED_CERT if self.kind is Kind.CA else AT_SERVER[told]


CDNS: Final = ("cdn-a", "cdn-b")
CASTS: Final = {
    Kind.CDN: Cast(Kind.CDN, (*CDNS, OWN_EDGE), ("cdn-a",), "cdn-a", CDNS),
    Kind.CLOUD: Cast(
        Kind.CLOUD, ("cloud-a", "cloud-b"), ("cloud-a",), "cloud-a", clouds=("cloud-a", "cloud-b")
    ),
    Kind.DNS: Cast(
        Kind.DNS,
        (*CDNS, OWN_EDGE),
        (OPERATORS[0], EDGE_OPERATORS[0]),
        "cdn-a",
        CDNS,
        operators=(*OPERATORS, *EDGE_OPERATORS),
    ),
    Kind.CA: Cast(Kind.CA, (*CDNS, OWN_EDGE), ("cdn-a",), "cdn-a", CDNS),
}

SHOWN: Final = {
    Kind.CDN: "the CDN that is asked first fails",
    Kind.CLOUD: "the origin on the cloud that is asked first fails",
    Kind.DNS: "the nameserver of the DNS operator that is asked first fails, for clients that look names up",
    Kind.CA: "the first CDN's certificate expires half-way and cannot be renewed: the worst case of one site",
}


def cast_of(incident: Incident) -> Cast:
    """Who plays. Raises ConfigError for an outage that no service of the lab can have."""
    if incident.effect is Effect.RESOLVER:
        found = f"{incident.id}: an outage of a resolver, which users of every service have alike"
        remedy = f"polycdn simulate {incident.id} tells what it cost"
        raise ConfigError(
            (Fault("incident", found, "an outage of a CDN, cloud, DNS operator or CA", remedy),)
        )
    return CASTS[next(kind for kind in ORDER if kind in incident.kinds and lived(incident, kind).phases)]


def told_by(incident: Incident, kind: Kind) -> str:
    """What the rehearsal shows, and what of the outage it leaves out."""
    others = [each.value for each in incident.kinds if each is not kind]
    rest = f"; not shown: the same company as {' and '.join(others)}" if others else ""
    return f"{kind.value}: {SHOWN[kind]}{rest}"


def lived(incident: Incident, kind: Kind) -> Incident:
    """The outage as a service meets it in that one kind of company."""
    if kind is Kind.CA:
        middle_ms = (incident.mitigated_ms - incident.started_ms) // 2
        expired = Phase(middle_ms, incident.duration_ms - middle_ms, Told.TLS_FAILURE, 1_000_000, FULL_BP)
        return replace(incident, kinds=(Kind.CA,), phases=(expired,))
    phases = tuple(replace(phase, kinds=()) for phase in incident.phases if phase.hits(kind))
    return replace(incident, kinds=(kind,), phases=phases)
