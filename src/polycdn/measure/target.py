"""Whom a vantage looks at, and which question look number k asks. Pure."""

from dataclasses import dataclass
from typing import Final

from polycdn.measure.look import Question
from polycdn.model.chance import chance_ppm
from polycdn.model.policy import Policy
from polycdn.model.topology import Endpoint, Service
from polycdn.model.units import ANYWHERE, ORIGIN

FRESH_PPM: Final = 200_000
"""Share of looks that make a new connection although one is kept: every fifth, chosen by hash."""

SUSPECT_LOOKS: Final = 20
"""After a failure so many good looks in a row must connect anew before a connection is kept again."""


@dataclass(frozen=True, slots=True)
class Target:
    """One provider of one service, and the regions that looks at it speak for (`ANYWHERE` = all of them)."""

    service: Service
    policy: Policy
    provider: str
    endpoint: Endpoint
    resolve_name: str | None
    regions: tuple[str, ...]

    @property
    def name(self) -> str:
        """Unique in one vantage."""
        return f"{self.service.name}/{self.provider}"


def targets_of(service: Service, policy: Policy, regions: tuple[str, ...] = ()) -> tuple[Target, ...]:
    """The service's providers in the operator's order, then its origin.

    `regions` are the vantage's, empty = all. A provider that carries none of them is not looked at.
    """
    known = tuple(region.name for region in service.regions)
    mine = tuple(name for name in known if name in regions) if regions else (ANYWHERE,)
    targets = [
        Target(
            service,
            policy,
            provider.name,
            provider.endpoint,
            provider.cname,
            carried(mine, provider.regions),
        )
        for provider in service.providers
    ]
    if service.origin is not None:
        targets.append(Target(service, policy, ORIGIN, service.origin, None, mine))
    return tuple(target for target in targets if target.regions)


def carried(mine: tuple[str, ...], theirs: tuple[str, ...]) -> tuple[str, ...]:
    """The regions among `mine` that a provider carries; `theirs` empty = it carries all."""
    return tuple(name for name in mine if not theirs or name in theirs or name == ANYWHERE)


def question_of(
    target: Target,
    sequence: int,
    *,
    is_fresh: bool = True,
    source_address: str | None = None,
    headers: tuple[tuple[str, str], ...] = (),
) -> Question:
    """What look `sequence` asks: objects and addresses take turns, alike at every provider of a service."""
    objects = target.service.objects
    probed = objects[sequence % len(objects)]
    return Question(
        provider=target.provider,
        endpoint=target.endpoint,
        path=probed.path,
        host=target.service.hostname,
        expect=probed.expect,
        resolve_name=target.resolve_name,
        deadline_ms=target.policy.probe_deadline_ms,
        slow_ms=target.policy.slow_ms,
        source_address=source_address,
        headers=headers,
        is_fresh=is_fresh,
        turn=sequence // len(objects),
    )


def is_sampled_fresh(seed: int, target: str, sequence: int) -> bool:
    """Whether this look makes a new connection although a good one is kept."""
    return chance_ppm(seed, "fresh", target, sequence) < FRESH_PPM
