"""What vantages see of the false world's providers: the same looks as the lab's, by the same chance."""

from dataclasses import dataclass
from typing import Final

from polycdn.model.chance import chance_ppm
from polycdn.model.observation import Observation, Reason
from polycdn.model.topology import Vantage
from polycdn.model.units import FULL_BP
from polycdn.world.fault import Injection

FIRST_BYTE_MS: Final = 40
SLOW_FIRST_BYTE_MS: Final = 3_000
MILLION_PPM: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class LookKey:
    """One look: who looked at whom, how often before, when (from the start of the outage)."""

    vantage: Vantage
    provider: str
    sequence: int
    offset_ms: int


def look(
    seed: int, zero_ms: int, key: LookKey, regions: tuple[str, ...], injection: Injection | None
) -> tuple[Observation, ...]:
    """One observation for each of `regions`, those that the vantage speaks for.

    A vantage in one region sees what its users meet, one that speaks for several sees the mean. The look
    fails when `chance_ppm(seed, provider, "<vantage>/<sequence>")` lies below the failing share, as in the
    lab. `zero_ms` is the start of the outage.
    """
    reason, first_byte_ms = Reason.OK, FIRST_BYTE_MS
    if injection is not None and injection.provider == key.provider:
        moment = injection.at(key.offset_ms, regions[0] if len(regions) == 1 else None)
        if _happens(seed, key, moment.failed_ppm):
            reason, first_byte_ms = moment.reason, 0
        elif _happens(seed, key, moment.failed_ppm + moment.slow_ppm):
            first_byte_ms = SLOW_FIRST_BYTE_MS
    failures = int(reason is not Reason.OK)
    at_ms = zero_ms + key.offset_ms
    return tuple(
        Observation(at_ms, key.provider, region, key.vantage.name, reason, 1, failures, first_byte_ms)
        for region in regions
    )


def _happens(seed: int, key: LookKey, share_ppm: int) -> bool:
    if share_ppm <= 0 or share_ppm >= MILLION_PPM:
        return share_ppm > 0
    return chance_ppm(seed, key.provider, f"{key.vantage.name}/{key.sequence}") < share_ppm


def spoken_for(vantage: Vantage, regions: tuple[str, ...], carried: tuple[str, ...]) -> tuple[str, ...]:
    """The service's regions that a look of this vantage at a provider that carries `carried` speaks for."""
    return tuple(
        region
        for region in regions
        if (not vantage.regions or region in vantage.regions) and (not carried or region in carried)
    )


def parts_bp(weights: tuple[int, ...]) -> tuple[int, ...]:
    """Weights as basis points that sum to 10 000; all alike if none is above 0."""
    if not any(weights):
        weights = tuple(1 for _ in weights)
    total = sum(weights)
    parts = [weight * FULL_BP // total for weight in weights]
    parts[0] += FULL_BP - sum(parts)
    return tuple(parts)
