"""What redundancy buys: many drawn years of a service, through the same decisions.

Only windows with an outage are lived through; all the calm between two of them is one event. A window depends
on the incident and on who fails, so each of these is stepped once and counted as often as it was drawn.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from polycdn import incidents
from polycdn.incidents import Incident, Kind
from polycdn.model.topology import ProviderKind
from polycdn.run.simulate import simulate_many
from polycdn.run.simulate_years_setup import Setup
from polycdn.run.simulation import Options, Plot
from polycdn.world.outages import YEAR_S, Drawn, Frequency, draw, fit

KINDS: Final = {ProviderKind.CDN: Kind.CDN, ProviderKind.CLOUD: Kind.CLOUD}
"""Own edges have no recorded outages; they are taken never to fail, and the table says so."""
PINNED: Final = "single"
STEERED: Final = "dns"
CERTIFICATES: Final = "(certificates)"
"""Who is hit when a CA fails: those whose certificate ends then."""


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


def simulate_years(
    ways: Sequence[Setup],
    years: int,
    options: Options,
    money: Money,
    on_progress: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """The table as `polycdn simulate --years --json` prints it. Raises BrokenPropertyError."""
    told = {name: incidents.load(name) for name in incidents.all_ids()}
    fitted = {kind: fit(tuple(told.values()), kind) for kind in Kind}
    plots: dict[Window, Plot] = {}
    plans = [(way, nodes_of(way, fitted, told)) for way in ways]
    for way, nodes in plans:
        for hit, name, kind, layer in _stepped(way, nodes):
            one = replace(told[name], kinds=(kind,))
            plots[way.name, hit, name] = Plot(one, ((way.service, way.policy, *layer),), hit)
    distinct = list(dict.fromkeys(plots.values()))  # two setups may differ in what is shared alone
    done = dict(zip(distinct, simulate_many(distinct, options, on_progress), strict=True))
    windows = {
        key: done[plot].loss(PINNED if key[1] == CERTIFICATES else STEERED).user_minutes_lost
        for key, plot in plots.items()
    }
    rows = [_lost(way, nodes, windows, told, years, options, money) for way, nodes in plans]
    used = {Kind.CDN, Kind.CLOUD, Kind.DNS, *(node.kind for way in ways for node in way.shared)}
    return {
        "years": years,
        "users": options.users,
        "seed": options.seed,
        "windows_stepped": len(distinct),
        "frequencies": [frequency_json(each) for each in fitted.values() if each.kind in used],
        "setups": [lost_json(row) | shared_json(way) for row, way in zip(rows, ways, strict=True)],
    }


Nodes = Mapping[str, tuple[Kind, Frequency, Sequence[str]]]
"""Node -> the kind that its outages are of, how often one comes, and the recorded ones that they are like."""
Window = tuple[str, str, str]
"""A setup, who is hit in it, and the incident that it is like."""


def nodes_of(way: Setup, fitted: Mapping[Kind, Frequency], told: Mapping[str, Incident]) -> Nodes:
    """Whatever may fail by itself: each provider, and each shared node, as often as a company of its role.

    How long and how hard is told by outages of its providers' kind: what users see is that those fail. A CA
    is different: it only takes those whose certificates end.
    """
    found = {}
    kinds = {provider.name: KINDS.get(provider.kind) for provider in way.service.providers}
    for name, kind in kinds.items():
        if kind is not None:
            found[name] = (kind, fitted[kind], _like(told, kind))
    for node in way.shared:
        theirs = next((kind for name in node.members if (kind := kinds.get(name))), Kind.CDN)
        kind = Kind.CA if node.kind is Kind.CA else theirs
        found[node.id] = (kind, fitted[node.kind], _like(told, kind))
    return found


def _stepped(way: Setup, nodes: Nodes) -> Iterator[tuple[str, str, Kind, tuple[Kind, str | None]]]:
    """(who is hit, the incident, its kind, the layer) for every window that is lived through.

    Certificates that expire hit nobody in particular: with one CA for all there is nobody to go to.
    """
    for node, (kind, _, like) in nodes.items():
        for name in like:
            if node in way.names:
                yield node, name, kind, (kind, node)
            elif kind is Kind.CA:
                yield CERTIFICATES, name, kind, (Kind.CDN, None)


def _like(told: Mapping[str, Incident], kind: Kind) -> list[str]:
    return [name for name, one in told.items() if kind in one.kinds]


def _lost(
    way: Setup,
    nodes: Nodes,
    windows: Mapping[Window, int],
    told: Mapping[str, Incident],
    years: int,
    options: Options,
    money: Money,
) -> Lost:
    """One row; the same draws at the low and the high end of the frequencies give its interval."""
    totals = []
    whole_of = {
        (kind, name): pinned_minutes(told[name], kind, options.users)
        for kind, _, like in nodes.values()
        for name in like
    }
    for pick in ("rate", "rate_low", "rate_high"):
        rates = {node: (getattr(frequency, pick), like) for node, (_, frequency, like) in nodes.items()}
        drawn = draw(options.seed, years, rates)
        together = overlaps(way, drawn, told)
        by_year: dict[int, float] = {}
        for index, one in enumerate(drawn):
            whole = whole_of[nodes[one.node][0], one.incident]
            share = together.get(index, 0.0)
            lost = share * whole + (1 - share) * _lost_once(way, nodes, windows, one, whole)
            year = one.start_s // YEAR_S
            by_year[year] = by_year.get(year, 0.0) + lost
        totals.append((sum(by_year.values()) / years, max(by_year.values(), default=0.0), drawn, together))
    (mean, worst, drawn, together), (low, *_), (high, *_) = totals
    return Lost(way.name, len(drawn), len(together), mean, low, high, worst, yearly_cost(way, money))


def _lost_once(way: Setup, nodes: Nodes, windows: Mapping[Window, int], one: Drawn, whole: float) -> float:
    """What one outage takes while others go on.

    With a node that several hang on their losses add up: each loses what it carries until traffic has moved.
    """
    falling = way.falling(one.node)
    if nodes[one.node][0] is Kind.CA:
        return windows[way.name, CERTIFICATES, one.incident] if falling == way.names else 0.0
    if one.node not in way.names and falling == way.names:
        return whole
    return min(whole, sum(windows.get((way.name, name, one.incident), 0) for name in falling))


def overlaps(way: Setup, drawn: Sequence[Drawn], told: Mapping[str, Incident]) -> dict[int, float]:
    """Outage -> part of its time in which every other provider is out as well."""
    ends = [one.start_s + told[one.incident].duration_ms // 1000 for one in drawn]
    found = {}
    longest_s = max((end - one.start_s for one, end in zip(drawn, ends, strict=True)), default=0)
    for index, one in enumerate(drawn):
        rest = way.names - way.falling(one.node)
        spans: dict[str, list[tuple[int, int]]] = {}
        for other in _near(drawn, index, longest_s) if rest else ():
            start, end = max(one.start_s, drawn[other].start_s), min(ends[index], ends[other])
            for name in way.falling(drawn[other].node) & rest if end > start else ():
                spans.setdefault(name, []).append((start, end))
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


def pinned_minutes(incident: Incident, kind: Kind, users: int) -> float:
    """User-minutes lost by users who have nowhere to go."""
    failed_bp = incidents.expected_failed_bp(incident, "resolved", kind)
    return users * incidents.until_ms(incident, "resolved") / 60_000 * failed_bp / 10_000


def yearly_cost(way: Setup, money: Money) -> float:
    """Fixed prices of all, and the volume at the price of the one that carries it in calm."""
    fixed = dict(money.fixed)
    providers = way.priced or way.service.providers
    volume = money.gib * providers[0].cost_micros_per_gib / 1_000_000
    return volume + sum(fixed.get(provider.name, 0.0) for provider in providers)


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


def shared_json(way: Setup) -> dict[str, Any]:
    """What the providers of one setup share, and who says so."""
    return {
        "shared": [
            {
                "node": node.name,
                "role": node.role or None,
                "providers": list(node.members),
                "from": node.origin or None,
                "ways": list(node.ways),
            }
            for node in way.shared
        ],
        "unseen": list(way.unseen),
        "vantages": len(way.service.vantages),
    }
