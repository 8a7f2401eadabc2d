"""What to simulate, and what comes of it. Nouns only."""

from dataclasses import dataclass, field
from typing import Final

from polycdn.incidents import Incident, Kind
from polycdn.model.policy import Policy
from polycdn.model.topology import Service
from polycdn.world.population import Population
from polycdn.world.provider import PROBE_INTERVAL_MS

USERS: Final = 1_000_000
TAIL_S: Final = 1_800
"""After the end: traffic finds its way home."""
LEAD_S: Final = 600
"""Before the outage: evidence gathers, and the first plan is made."""
PUBLIC: Final = Population.default()

HitService = tuple[Service, Policy, Kind, str | None]
"""A service, its policy, the kind of company it is steered over, and who fails (None = nobody)."""


@dataclass(frozen=True, slots=True)
class Plot:
    """One thing to simulate: an outage and what it hits.

    `services` are its layers, empty = those of the default service; `name` is that of an operator's own.
    """

    incident: Incident
    services: tuple[HitService, ...] = ()
    name: str = ""


@dataclass(frozen=True, slots=True)
class Options:
    """How to simulate. `probe_interval_ms` is that of the default service; one's own has it in its policy.

    `is_recorded` keeps where the clients were, second by second.
    """

    users: int = USERS
    seed: int = 1
    until: str = "resolved"
    probe_interval_ms: int = PROBE_INTERVAL_MS
    population: Population = PUBLIC
    tail_s: int = TAIL_S
    lead_s: int = LEAD_S
    is_recorded: bool = False


@dataclass(frozen=True, slots=True)
class ClientLoss:
    """What one client kind lost from the start to the end. `failed_ppm` of its requests failed."""

    client: str
    user_minutes_lost: int
    availability_bp: int
    slow_user_minutes: int
    failed_ppm: int

    @property
    def failed_bp(self) -> int:
        """Failed share in basis points."""
        return (self.failed_ppm + 50) // 100


@dataclass(frozen=True, slots=True)
class Simulation:
    """One outage, simulated. Times are milliseconds from the first failure, in the region where the outage
    was found first; None = it never came to that.

    `plan_changes` and `false_moves` count until `Options.tail_s` after the end.
    """

    incident: str
    service: str
    users: int
    seed: int
    until: str
    outage_s: int
    clients: tuple[ClientLoss, ...]
    plan_changes: int
    false_moves: int
    threshold_changes: int
    detect_ms: int | None
    evacuated_ms: int | None
    wall_ms: int
    assumptions: dict[str, int] = field(default_factory=dict)

    def loss(self, client: str) -> ClientLoss:
        """The loss of one client kind. Raises KeyError if there is none of that name."""
        for loss in self.clients:
            if loss.client == client:
                return loss
        raise KeyError(client)


@dataclass(frozen=True, slots=True)
class LikeRehearsal:
    """What a rehearsal of the same span should show. Pairs are (client, failed share in basis points).

    `clients` counts the very requests that the lab sends, `expected` is the mean over all that could be.
    """

    clients: tuple[tuple[str, int], ...]
    expected: tuple[tuple[str, int], ...]
    detect_ms: int | None
    evacuated_ms: int | None
    plan_changes: int
    false_moves: int
    threshold_changes: int
