"""Where everything about one service stands: which stream an observation belongs to, which streams a
verdict hears.

Worked out once for each (service, policy) and kept, because a simulated year asks for it hundreds of
thousands of times.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from polycdn.decide.calibrate import limits, rounds_per_alarm
from polycdn.decide.likelihood import NOTHING_MNAT, healthy_levels_bp
from polycdn.model.policy import Policy
from polycdn.model.state import Standing, State, Stream
from polycdn.model.topology import Service
from polycdn.model.units import ANYWHERE, NAMESERVER, ORIGIN

STALE_INTERVALS: Final = 3
"""Evidence is fresh for three probe intervals at least, however short the policy's own limit is."""

KEPT_MAX: Final = 8
"""No more vantages than this are added up; of more than ten, more of the most alarming are left out."""

IDLE_PARTS: Final = 12
"""A good look at a stream without doubt need not be noted more often than each twelfth of the age limit."""


@dataclass(frozen=True, slots=True)
class Seat:
    """One provider (or the origin, or our nameserver) in one region: the places of its streams and of those
    that it is compared with.

    `known` is how many configured vantages look at it; `others` and `origin` are places in `Layout.seats` and
    `Layout.origins`.
    """

    provider: str
    region: str
    streams: tuple[int, ...]
    known: int
    up_max_mnat: int
    others: tuple[int, ...] = ()
    origin: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """The places of one service. `blank` are its streams before any evidence, sorted; streams of
    vantages that are not configured (engines, clients) come after these, sorted too. `aligned` remembers
    the tuple of streams last found to be in this order, so that a calm need not look again."""

    policy: Policy
    blank: tuple[Stream, ...]
    places: dict[tuple[str, str], tuple[int, ...]]
    reach: dict[str, tuple[str, ...]]
    seats: tuple[Seat, ...]
    origins: tuple[Seat, ...]
    nameservers: tuple[Seat, ...]
    seat_of: dict[tuple[str, str], int]
    levels_bp: tuple[int, ...]
    rounds: int
    age_ms: int
    idle_ms: int
    aligned: list[tuple[Stream, ...] | None]


class _Same:
    """A service and a policy as a cache key: the very same objects, not equal ones, so that no hashing is
    needed."""

    __slots__ = ("policy", "service")

    def __init__(self, service: Service, policy: Policy) -> None:
        self.service = service
        self.policy = policy

    def __hash__(self) -> int:
        return id(self.service) ^ id(self.policy)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.service is other.service and self.policy is other.policy


def layout_of(state: State) -> Layout:
    """The layout of the state's service under its policy."""
    assert state.service is not None and state.policy is not None, (
        "a service is configured before it is assessed"
    )
    return _layout(_Same(state.service, state.policy))


@lru_cache(maxsize=256)
def _layout(same: _Same) -> Layout:
    service, policy = same.service, same.policy
    regions = tuple(region.name for region in service.regions) or (ANYWHERE,)
    reach = {provider.name: _within(provider.regions, regions) for provider in service.providers}
    reach[ORIGIN] = regions
    if service.nameservers:
        reach[NAMESERVER] = regions
    watch = {vantage.name: _within(vantage.regions, regions) for vantage in service.vantages}
    keys = sorted(
        (provider, region, vantage)
        for provider, covered in reach.items()
        for vantage, watched in watch.items()
        for region in covered
        if region in watched
    )
    places: dict[tuple[str, str], tuple[int, ...]] = {}
    for place, (provider, _, vantage) in enumerate(keys):
        places[provider, vantage] = (*places.get((provider, vantage), ()), place)
    interval_ms = max(1, policy.probe_interval_ms)
    age_ms = max(policy.evidence_age_max_ms, STALE_INTERVALS * interval_ms)
    rounds = rounds_per_alarm(policy.false_alarm_days, interval_ms)
    levels = healthy_levels_bp(policy.healthy_failure_bp)
    seat_keys = sorted((each.name, region) for each in service.providers for region in reach[each.name])
    other_keys = [(name, region) for name in (ORIGIN, NAMESERVER) for region in sorted(reach.get(name, ()))]
    seats = _seats(seat_keys, other_keys, keys, levels[0], rounds)
    origins_end = len(seat_keys) + len(regions)
    return Layout(
        policy=policy,
        blank=tuple(Stream(*key, down_mnat=NOTHING_MNAT) for key in keys),
        places=places,
        reach=reach,
        seats=seats[: len(seat_keys)],
        origins=seats[len(seat_keys) : origins_end],
        nameservers=seats[origins_end:],
        seat_of={key: place for place, key in enumerate(seat_keys)},
        levels_bp=levels,
        rounds=rounds,
        age_ms=age_ms,
        idle_ms=age_ms // IDLE_PARTS if len(service.objects) <= 1 else 0,
        aligned=[None],
    )


def _within(wished: tuple[str, ...], regions: tuple[str, ...]) -> tuple[str, ...]:
    """The regions of the service among those wished for; none wished for means all."""
    return tuple(region for region in regions if region in wished) if wished else regions


def _seats(
    seat_keys: list[tuple[str, str]],
    other_keys: list[tuple[str, str]],
    keys: list[tuple[str, str, str]],
    healthy_bp: int,
    rounds: int,
) -> tuple[Seat, ...]:
    origin_at = {region: place for place, (name, region) in enumerate(other_keys) if name == ORIGIN}
    seats = []
    for provider, region in seat_keys + other_keys:
        streams = tuple(at for at, key in enumerate(keys) if key[:2] == (provider, region))
        others = tuple(
            at for at, (name, where) in enumerate(seat_keys) if where == region and name != provider
        )
        up_max = max(limits(healthy_bp, kept, True, rounds).up for kept in {2, max(1, kept_of(len(streams)))})
        seats.append(Seat(provider, region, streams, len(streams), up_max, others, origin_at[region]))
    return tuple(seats)


def liars_of(vantages: int) -> int:
    """How many vantages may lie or be blind without moving anybody: 1 of two to four, 2 from five on."""
    return 0 if vantages < 2 else 1 if vantages < 5 else 2


def kept_of(vantages: int) -> int:
    """How many vantages' evidence is added up, out of so many: all but the possible liars, eight at most."""
    return min(KEPT_MAX, vantages - liars_of(vantages))


def aligned_streams(layout: Layout, streams: tuple[Stream, ...]) -> tuple[Stream, ...]:
    """The streams in the layout's order: the same tuple if they are; else sorted in, blanks added,
    strangers dropped."""
    if streams is layout.aligned[0]:
        return streams
    blank = layout.blank
    if len(streams) >= len(blank) and all(
        stream.vantage == place.vantage
        and stream.provider == place.provider
        and stream.region == place.region
        for stream, place in zip(streams, blank, strict=False)
    ):
        layout.aligned[0] = streams
        return streams
    past = {(stream.provider, stream.region, stream.vantage): stream for stream in streams}
    configured = tuple(past.pop((place.provider, place.region, place.vantage), place) for place in blank)
    named = {vantage for _, vantage in layout.places}
    extra = sorted(
        (
            stream
            for stream in past.values()
            if stream.vantage not in named and stream.region in layout.reach.get(stream.provider, ())
        ),
        key=key_of,
    )
    return configured + tuple(extra)


def key_of(stream: Stream) -> tuple[str, str, str]:
    """The order of streams."""
    return (stream.provider, stream.region, stream.vantage)


def aligned_standings(layout: Layout, standings: tuple[Standing, ...], now_ms: int) -> tuple[Standing, ...]:
    """One standing per seat, in the seats' order: the same tuple if they are; else new ones for new seats."""
    if len(standings) == len(layout.seats) and _match(standings, layout.seats):
        return standings
    past = {(standing.provider, standing.region): standing for standing in standings}
    return tuple(
        past.get((seat.provider, seat.region)) or Standing(seat.provider, seat.region, since_ms=now_ms)
        for seat in layout.seats
    )


def _match(standings: tuple[Standing, ...], seats: Iterable[Seat]) -> bool:
    return all(
        standing.provider == seat.provider and standing.region == seat.region
        for standing, seat in zip(standings, seats, strict=True)
    )
