"""Services, verdicts and states for tests of steering, made with few words."""

from dataclasses import replace

from polycdn.decide.assess import Assessment
from polycdn.decide.step import decide_on
from polycdn.model.event import Forced, Stance
from polycdn.model.policy import Policy
from polycdn.model.state import Decision, Standing, State
from polycdn.model.topology import Endpoint, Provider, ProviderKind, Region, Service
from polycdn.model.verdict import Status, Verdict

START_MS = 1_763_466_480_000
"""2025-11-18 11:48:00 UTC."""

ENDPOINT = Endpoint("cdn.test")


def provider(name: str, **fields) -> Provider:
    """A CDN unless the fields say otherwise."""
    return Provider(name, fields.pop("kind", ProviderKind.CDN), ENDPOINT, **fields)


def service(*providers: Provider, regions: tuple[Region, ...] = (Region("eu"),)) -> Service:
    """A service named www."""
    return Service("www", "www.test", providers, regions=regions)


def start(of: Service, policy: Policy | None = None, **fields) -> State:
    """A state before the first decision; `fields` of State."""
    return State(service=of, policy=policy or Policy(), now_ms=START_MS, **fields)


def seen(state: State, statuses: dict[str, Status], since_ms: int = START_MS, **fields) -> Assessment:
    """An assessment with one verdict per allowed (provider, region), UP unless named; `fields` of Verdict.

    A key is a provider's name, or `provider/region` for one region only.
    """
    verdicts = []
    for one in state.service.providers:
        for region in state.service.regions:
            if not one.regions or region.name in one.regions:
                status = statuses.get(f"{one.name}/{region.name}", statuses.get(one.name, Status.UP))
                verdicts.append(Verdict(one.name, region.name, status, since_ms, **fields))
    standings = tuple(Standing(v.provider, v.region, v.status, since_ms) for v in verdicts)
    return Assessment((), standings, tuple(verdicts), (), 0)


def decided(state: State, statuses: dict[str, Status], now_ms: int, **fields) -> Decision:
    """The decision when the verdicts are these, and whatever else the state says is news."""
    return decide_on(state, seen(state, statuses, **fields), now_ms, is_changed=True)


def after(state: State, statuses: dict[str, Status], now_ms: int, **fields) -> dict[str, int]:
    """The shares of the first region after that decision."""
    return shares(decided(state, statuses, now_ms, **fields).state)


def shares(state: State, region: int = 0) -> dict[str, int]:
    """The shares in force."""
    return dict(state.plan.regions[region].shares)


def on_probation(found: Assessment, name: str, earned_bp: int, since_ms: int) -> Assessment:
    """The same with one provider on probation everywhere."""
    standings = tuple(
        replace(standing, probation_since_ms=since_ms, probation_bp=earned_bp)
        if standing.provider == name
        else standing
        for standing in found.standings
    )
    return replace(found, standings=standings)


def forcing(state: State, name: str, stance: Stance, until_ms: int, region: str | None = None) -> State:
    """The state with the operator's word in force."""
    return replace(state, forced=(*state.forced, Forced(START_MS, name, stance, until_ms, region)))
