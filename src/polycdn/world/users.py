"""Users of four client kinds in one region, and what they lose, in expected values."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from polycdn.model.units import FULL_BP
from polycdn.world.cohort import PARTS
from polycdn.world.fault import Moment
from polycdn.world.population import Population

MILLION_PPM: Final = 1_000_000
SINGLE: Final = "single"
THRESHOLD: Final = "threshold"
DNS: Final = "dns"
EDGE: Final = "edge"
CLIENTS: Final = (SINGLE, THRESHOLD, DNS, EDGE)


@dataclass(frozen=True, slots=True)
class Exposure:
    """One layer (CDN or cloud) at one moment, and the parts of each client kind on its sick side.

    `edge_parts` is what the plan gives to the failing provider: an edge follows a plan at once.
    """

    moment: Moment
    threshold_parts: int
    dns_parts: int
    edge_parts: int
    has_other: bool = True
    """Whether a request that fails can be sent to a provider without the fault."""


@dataclass(frozen=True, slots=True)
class Lookups:
    """What happens to name lookups at one moment, in parts per million.

    `failed_ppm` of those to the operator that is hit fail, `empty_ppm` among them with an answer that is no
    error; `resolver_ppm` of those through the one public resolver fail.
    """

    failed_ppm: int = 0
    slow_ppm: int = 0
    empty_ppm: int = 0
    resolver_ppm: int = 0


NO_LOOKUPS_FAIL: Final = Lookups()


def lost_ppm(
    population: Population, exposures: Iterable[Exposure], lookups: Lookups = NO_LOOKUPS_FAIL
) -> dict[str, int]:
    """Failing share of each client kind's requests at one moment, in parts per million.

    `single` has everything at the company that fails. The others have two DNS operators: a resolver that gets
    an error or no answer asks the other one (RFC 1035 §7.2), but an empty answer is an answer, and half of
    the lookups go to the sick operator first.
    """
    layers = list(exposures)
    by_resolver = (PARTS * population.resolver_users_bp // FULL_BP, lookups.resolver_ppm)
    by_name = [(PARTS // 2, lookups.empty_ppm), by_resolver]
    return {
        SINGLE: together(
            [(PARTS, each.moment.failed_ppm) for each in layers] + [(PARTS, lookups.failed_ppm), by_resolver]
        ),
        THRESHOLD: together([(each.threshold_parts, each.moment.failed_ppm) for each in layers] + by_name),
        DNS: together([(each.dns_parts, each.moment.failed_ppm) for each in layers] + by_name),
        EDGE: together([(each.edge_parts, _not_saved_ppm(population, each)) for each in layers] + by_name),
    }


def slow_ppm(exposures: Iterable[Exposure], lookups: Lookups = NO_LOOKUPS_FAIL) -> dict[str, int]:
    """Share of each kind's requests that are answered late: by a slow provider, or after a deadline."""
    layers = list(exposures)
    late = [each.moment.failed_ppm if each.moment.is_late else 0 for each in layers]
    return {
        SINGLE: together([(PARTS, each.moment.slow_ppm) for each in layers] + [(PARTS, lookups.slow_ppm)]),
        THRESHOLD: together([(each.threshold_parts, each.moment.slow_ppm) for each in layers]),
        DNS: together([(each.dns_parts, each.moment.slow_ppm) for each in layers]),
        EDGE: together(
            [
                (each.edge_parts, min(MILLION_PPM, each.moment.slow_ppm + waited))
                for each, waited in zip(layers, late, strict=True)
            ]
        ),
    }


def together(parts: list[tuple[int, int]]) -> int:
    """Share of requests that are hit when several layers of one outage are in the way.

    Each layer hits `ppm` of those who are on its sick side. The outage takes a request once: somebody with
    two sick layers loses the larger share, not both, as a share tells how many requests it hit in all.
    """
    left, hit = PARTS, 0
    for on_it, ppm in sorted(parts, key=lambda part: -part[1]):
        taken = left * on_it // PARTS
        hit += taken * ppm
        left -= taken
    return hit // PARTS


def _not_saved_ppm(population: Population, exposure: Exposure) -> int:
    """What the reflex cannot save: there is no other provider, or the request must not be repeated."""
    if not exposure.has_other:
        return exposure.moment.failed_ppm
    return exposure.moment.failed_ppm * population.unrepeatable_bp // FULL_BP


class Ledger:
    """Sums of what clients lose, as parts per million times seconds times basis points of the users."""

    def __init__(self) -> None:
        self.lost = dict.fromkeys(CLIENTS, 0)
        self.slow = dict.fromkeys(CLIENTS, 0)

    def add(self, part_bp: int, seconds: int, lost: Mapping[str, int], slow: Mapping[str, int]) -> None:
        """`part_bp` of the users lose these shares for so many seconds."""
        for client in CLIENTS:
            self.lost[client] += part_bp * seconds * lost[client]
            self.slow[client] += part_bp * seconds * min(slow[client], MILLION_PPM - lost[client])


def user_minutes(users: int, sum_ppm_bp_s: int) -> int:
    """A ledger's sum as whole minutes of so many users."""
    scale = MILLION_PPM * FULL_BP * 60
    return (users * sum_ppm_bp_s + scale // 2) // scale


def mean_ppm(sum_ppm_bp_s: int, duration_s: int) -> int:
    """A ledger's sum as the mean share over the duration, in parts per million."""
    whole = FULL_BP * duration_s
    return (sum_ppm_bp_s + whole // 2) // whole if whole else 0
