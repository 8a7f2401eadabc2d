"""What redundancy buys: many drawn years of a service, through the same decisions.

Only windows with an outage are lived through; all the calm between two of them is one event. A window depends
on the incident and on who fails, so each of these is stepped once and counted as often as it was drawn.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from polycdn import incidents
from polycdn.errors import ConfigError, Fault
from polycdn.incidents import Incident, Kind
from polycdn.model.policy import Policy
from polycdn.model.topology import Provider, ProviderKind, Service
from polycdn.run.simulate import simulate_many
from polycdn.run.simulation import Options, Plot
from polycdn.world.outages import YEAR_S, Drawn, Frequency, draw, fit
from polycdn.world.provider import POLICY, cdn_service

KINDS: Final = {ProviderKind.CDN: Kind.CDN, ProviderKind.CLOUD: Kind.CLOUD}
"""Own edges have no recorded outages; they are taken never to fail, and the table says so."""
PINNED: Final = "single"
STEERED: Final = "dns"


@dataclass(frozen=True, slots=True)
class Setup:
    """A way to be carried: providers in order, and nodes that several of them share."""

    name: str
    service: Service
    policy: Policy
    shared: tuple[tuple[str, tuple[str, ...]], ...] = ()


@dataclass(frozen=True, slots=True)
class Lost:
    """One setup's expected loss a year, in user-minutes, with the interval of the frequencies."""

    setup: str
    outages: int
    together: int
    lost: float
    lost_low: float
    lost_high: float
    worst_year: float
    cost: float


@dataclass(frozen=True, slots=True)
class Money:
    """Yearly volume in GiB, and fixed yearly prices by provider, in the operator's currency."""

    gib: float = 0.0
    fixed: tuple[tuple[str, float], ...] = ()


def setups(own: tuple[Service, Policy] | None, shared: Sequence[tuple[str, ...]]) -> tuple[Setup, ...]:
    """One provider, two that share a node, two independent ones, and the operator's own service, if any.

    Providers of one company share it as a node; `shared` names further sets. Raises ConfigError.
    """
    whole = cdn_service()
    two = replace(whole, providers=whole.providers[:2])
    found = [
        Setup("one provider", replace(whole, providers=whole.providers[:1]), POLICY),
        Setup("two that share a node", two, POLICY, (("node", ("cdn-a", "cdn-b")),)),
        Setup("two independent", two, POLICY),
    ]
    if own is None:
        return tuple(found)
    service, policy = own
    names = [provider.name for provider in service.providers]
    unknown = [name for group in shared for name in group if name not in names]
    if unknown:
        allowed = ", ".join(names)
        raise ConfigError(
            tuple(Fault("--shared", repr(name), allowed, "name providers of it") for name in unknown)
        )
    groups: dict[str, list[str]] = {}
    for provider in service.providers:
        groups.setdefault(provider.company or provider.name, []).append(provider.name)
    nodes = [(company, tuple(members)) for company, members in groups.items() if len(members) > 1]
    nodes += [("+".join(group), group) for group in shared]
    return (*found, Setup(f"config: {service.name}", service, policy, tuple(nodes)))


def simulate_years(
    ways: Sequence[Setup],
    years: int,
    options: Options,
    money: Money,
    on_progress: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """The table as `polycdn simulate --years --json` prints it. Raises BrokenPropertyError."""
    told = {name: incidents.load(name) for name in incidents.all_ids()}
    fitted = {kind: fit(tuple(told.values()), kind) for kind in (Kind.CDN, Kind.CLOUD, Kind.DNS)}
    plots: dict[tuple[str, str, str], Plot] = {}
    plans = [(way, nodes_of(way, fitted, told)) for way in ways]
    for way, nodes in plans:
        for node, (kind, _, like) in nodes.items():
            hits = [node] if node in _names(way) else []
            for name in like:
                one = replace(told[name], kinds=(kind,))
                for hit in hits:
                    plots[way.name, hit, name] = Plot(one, ((way.service, way.policy, kind, hit),), way.name)
    keys = list(plots)
    done = simulate_many([plots[key] for key in keys], options, on_progress)
    windows = {key: result.loss(STEERED).user_minutes_lost for key, result in zip(keys, done, strict=True)}
    rows = [_lost(way, nodes, windows, told, years, options, money) for way, nodes in plans]
    return {
        "years": years,
        "users": options.users,
        "seed": options.seed,
        "windows_stepped": len(plots),
        "frequencies": [frequency_json(each) for each in fitted.values()],
        "setups": [lost_json(row) for row in rows],
    }


Nodes = Mapping[str, tuple[Kind, Frequency, Sequence[str]]]


def nodes_of(way: Setup, fitted: Mapping[Kind, Frequency], told: Mapping[str, Incident]) -> Nodes:
    """Whatever may fail by itself: each provider, and each shared node (as often as a DNS operator fails)."""
    found = {}
    for provider in way.service.providers:
        if provider.kind in KINDS:
            kind = KINDS[provider.kind]
            found[provider.name] = (kind, fitted[kind], _like(told, kind))
    for node, members in way.shared:
        kinds = [KINDS[p.kind] for p in way.service.providers if p.name in members and p.kind in KINDS]
        if kinds:
            found[f"shared {node}"] = (kinds[0], fitted[Kind.DNS], _like(told, kinds[0]))
    return found


def _like(told: Mapping[str, Incident], kind: Kind) -> list[str]:
    return [name for name, one in told.items() if kind in one.kinds]


def _names(way: Setup) -> set[str]:
    return {provider.name for provider in way.service.providers}


def _lost(
    way: Setup,
    nodes: Nodes,
    windows: Mapping[tuple[str, str, str], int],
    told: Mapping[str, Incident],
    years: int,
    options: Options,
    money: Money,
) -> Lost:
    """One row; the same draws at the low and the high end of the frequencies give its interval."""
    totals = []
    for pick in ("rate", "rate_low", "rate_high"):
        rates = {node: (getattr(frequency, pick), like) for node, (_, frequency, like) in nodes.items()}
        drawn = draw(options.seed, years, rates)
        together = overlaps(way, drawn, told)
        by_year: dict[int, float] = {}
        for index, one in enumerate(drawn):
            kind = nodes[one.node][0]
            whole = pinned_minutes(told[one.incident], kind, options.users)
            if one.node not in _names(way):
                lost = whole if _hits_all(way, one.node) else 0.0
            else:
                share = together.get(index, 0.0)
                lost = share * whole + (1 - share) * windows[way.name, one.node, one.incident]
            year = one.start_s // YEAR_S
            by_year[year] = by_year.get(year, 0.0) + lost
        totals.append((sum(by_year.values()) / years, max(by_year.values(), default=0.0), drawn, together))
    (mean, worst, drawn, together), (low, *_), (high, *_) = totals
    return Lost(way.name, len(drawn), len(together), mean, low, high, worst, yearly_cost(way, money))


def overlaps(way: Setup, drawn: Sequence[Drawn], told: Mapping[str, Incident]) -> dict[int, float]:
    """Outage -> part of its time in which every other provider is out as well."""
    ends = [one.start_s + told[one.incident].duration_ms // 1000 for one in drawn]
    others = _names(way)
    found = {}
    longest_s = max((end - one.start_s for one, end in zip(drawn, ends, strict=True)), default=0)
    for index, one in enumerate(drawn):
        if one.node not in others:
            continue
        spans: dict[str, list[tuple[int, int]]] = {}
        near = _near(drawn, index, longest_s)
        for other in near:
            start, end = max(one.start_s, drawn[other].start_s), min(ends[index], ends[other])
            if end > start and drawn[other].node != one.node:
                spans.setdefault(drawn[other].node, []).append((start, end))
        rest = others - {one.node}
        if rest and rest <= set(spans):
            start = max(min(s for s, _ in spans[name]) for name in rest)
            end = min(max(e for _, e in spans[name]) for name in rest)
            if end > start:
                found[index] = (end - start) / (ends[index] - one.start_s)
    return found


def _near(drawn: Sequence[Drawn], index: int, longest_s: int) -> list[int]:
    found = []
    for step in (-1, 1):
        other = index + step
        while 0 <= other < len(drawn) and abs(drawn[other].start_s - drawn[index].start_s) <= longest_s:
            found.append(other)
            other += step
    return found


def _hits_all(way: Setup, node: str) -> bool:
    """Whether nobody is left when the shared node fails; else traffic moves, and the move is not counted."""
    return any(f"shared {name}" == node and set(members) == _names(way) for name, members in way.shared)


def pinned_minutes(incident: Incident, kind: Kind, users: int) -> float:
    """User-minutes lost by users who have nowhere to go."""
    failed_bp = incidents.expected_failed_bp(incident, "resolved", kind)
    return users * incidents.until_ms(incident, "resolved") / 60_000 * failed_bp / 10_000


def yearly_cost(way: Setup, money: Money) -> float:
    """Fixed prices of all, and the volume at the price of the one that carries it in calm."""
    fixed = dict(money.fixed)
    first: Provider = way.service.providers[0]
    volume = money.gib * first.cost_micros_per_gib / 1_000_000
    return volume + sum(fixed.get(provider.name, 0.0) for provider in way.service.providers)


def frequency_json(each: Frequency) -> dict[str, Any]:
    """One estimate with its intervals."""
    return {
        "kind": each.kind.value,
        "outages": each.outages,
        "companies": each.companies,
        "observed_years": round(each.years, 2),
        "per_company_and_year": [round(x, 4) for x in (each.rate_low, each.rate, each.rate_high)],
        "minutes": [round(x, 1) for x in (each.minutes_low, each.minutes, each.minutes_high)],
    }


def lost_json(row: Lost) -> dict[str, Any]:
    """One setup."""
    return {
        "setup": row.setup,
        "outages": row.outages,
        "all_down_at_once": row.together,
        "user_minutes_a_year": [round(x) for x in (row.lost_low, row.lost, row.lost_high)],
        "worst_year": round(row.worst_year),
        "cost_a_year": round(row.cost, 2),
    }
