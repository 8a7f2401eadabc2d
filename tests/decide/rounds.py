"""Rounds of looks at three providers and their origin, in few words."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from polycdn.decide.assess import Assessment, assess
from polycdn.model.observation import Observation, Reason
from polycdn.model.policy import Policy
from polycdn.model.state import Standing, State
from polycdn.model.topology import Endpoint, Provider, ProviderKind, Region, Service, Vantage
from polycdn.model.units import ANYWHERE, ORIGIN
from polycdn.model.verdict import Status, Verdict

FIRST_MS = 1_763_464_800_000

Share = Callable[[str, str, int], float]
"""The share of looks that fail, of a provider, from a vantage, in a round."""


def service(
    *names: str, vantages: int = 3, origin: bool = True, regions: tuple[str, ...] = (), **fields
) -> Service:
    """A service with these providers; vantages v0, v1, ..."""
    return Service(
        "www",
        "www.test",
        tuple(Provider(name, ProviderKind.CDN, Endpoint(name)) for name in names or ("a", "b", "c")),
        origin=Endpoint("origin.test") if origin else None,
        vantages=tuple(Vantage(f"v{number}") for number in range(vantages)),
        regions=tuple(Region(name) for name in regions) or (Region(),),
        **fields,
    )


def look(at_ms: int, provider: str, vantage: str, is_good: bool = True, **fields) -> Observation:
    """One look; a failure is a 5xx unless the fields say otherwise."""
    reason = fields.pop("reason", Reason.OK if is_good else Reason.HTTP_5XX)
    region = fields.pop("region", ANYWHERE)
    attempts = fields.pop("attempts", 1)
    failures = fields.pop("failures", 0 if is_good else attempts)
    return Observation(at_ms, provider, region, vantage, reason, attempts, failures, **fields)


@dataclass
class Play:
    """A decider that hears one round after another, and remembers who moved when."""

    service: Service = field(default_factory=service)
    policy: Policy = field(default_factory=Policy)
    seed: int = 0
    state: State = field(init=False)
    found: Assessment = field(init=False)
    round: int = 0
    moves: list[tuple[int, str, Status]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.state = State(self.service, self.policy)
        self.dice = random.Random(self.seed)
        self.found = Assessment((), (), (), (), 0)

    @property
    def now_ms(self) -> int:
        return FIRST_MS + self.round * self.policy.probe_interval_ms

    def hear(self, *seen: Observation) -> Assessment:
        """One round of just these observations."""
        now_ms = self.now_ms
        before = {(old.provider, old.region): old.status for old in self.state.standings}
        self.found = assess(self.state, tuple(seen), now_ms)
        for new in self.found.standings:
            was = before.get((new.provider, new.region), Status.UNKNOWN)
            if (was is Status.DOWN) is not (new.status is Status.DOWN):
                self.moves.append((self.round, new.provider, new.status))
        self.state = after(self.state, self.found, now_ms)
        self.round += 1
        return self.found

    def watch(self, rounds: int, share: Share = lambda *_: 0.0) -> Assessment:
        """So many rounds in which every vantage looks at everything."""
        names = [provider.name for provider in self.service.providers]
        names += [ORIGIN] if self.service.origin else []
        for _ in range(rounds):
            self.hear(*[self._look(name, v.name, share) for name in names for v in self.service.vantages])
        return self.found

    def _look(self, provider: str, vantage: str, share: Share) -> Observation:
        is_good = self.dice.random() >= share(provider, vantage, self.round)
        return look(self.now_ms, provider, vantage, is_good)

    def verdict(self, provider: str = "a", region: str = ANYWHERE) -> Verdict:
        return next(v for v in self.found.verdicts if (v.provider, v.region) == (provider, region))

    def standing(self, provider: str = "a", region: str = ANYWHERE) -> Standing:
        return next(s for s in self.found.standings if (s.provider, s.region) == (provider, region))


def after(state: State, found: Assessment, now_ms: int) -> State:
    """The state with what was found in it."""
    return replace(
        state, streams=found.streams, standings=found.standings, verdicts=found.verdicts, now_ms=now_ms
    )


def failing(*names: str, share: float = 1.0, vantages: tuple[str, ...] = ()) -> Share:
    """These providers fail for this share, from these vantages (none named: from all)."""
    return lambda name, vantage, _: share if name in names and (not vantages or vantage in vantages) else 0.0
