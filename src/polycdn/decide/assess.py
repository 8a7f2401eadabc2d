"""What is thought of every provider in every region, after one more round of evidence.

fold -> agree -> attribute -> judge, for one service. Pure: the same state, observations and `now_ms` give the
same assessment everywhere.
"""

from dataclasses import dataclass, replace

from polycdn.decide.agree import Opinion, agree
from polycdn.decide.attribute import CLEAR, attribute
from polycdn.decide.fold import fold
from polycdn.decide.judge import stand, verdict_on
from polycdn.decide.layout import (
    Layout,
    Seat,
    aligned_standings,
    aligned_streams,
    layout_of,
)
from polycdn.decide.likelihood import NOTHING_MNAT
from polycdn.decide.quiet import good_looks, idled, is_calm
from polycdn.model.observation import Observation
from polycdn.model.plan import Note, Severity
from polycdn.model.state import Standing, State, Stream
from polycdn.model.verdict import Blame, Status, Verdict


@dataclass(frozen=True, slots=True)
class Assessment:
    """What one round of evidence leaves behind, in the fields of `State`, plus notes for the report.

    `verdicts` and `standings` hold one entry per (provider, region), sorted by these names. A verdict UNKNOWN
    stays where it was: its standing still says UP or DOWN, as last known. `next_due_ms` is the soonest moment
    at which the passing of time alone can change a verdict or a standing (0 = never).
    """

    streams: tuple[Stream, ...]
    standings: tuple[Standing, ...]
    verdicts: tuple[Verdict, ...]
    notes: tuple[Note, ...]
    next_due_ms: int


def assess(state: State, observations: tuple[Observation, ...], now_ms: int) -> Assessment:
    """The assessment after one round: everything reported since the round before, in any order.

    What does not change comes back as the very same object.
    """
    return _assessed(state, observations, now_ms, may_rest=True)


def _assessed(state: State, observations: tuple[Observation, ...], now_ms: int, may_rest: bool) -> Assessment:
    """`may_rest`: when nothing is new, the past verdicts are taken as they are."""
    layout = layout_of(state)
    before = aligned_streams(layout, state.streams)
    standings = aligned_standings(layout, state.standings, now_ms)
    streams = fold(layout, before, standings, observations, now_ms)
    due_ms = _stale_ms(layout, streams)
    if (
        may_rest
        and streams is state.streams
        and standings is state.standings
        and _is_settled(layout, state, due_ms, now_ms)
    ):
        return Assessment(streams, standings, state.verdicts, (), due_ms)
    return _judged(layout, state, streams, standings, now_ms)


def assess_quiet(state: State, rounds: int, now_ms: int) -> Assessment:
    """The assessment after `rounds` rounds one probe interval apart, the last at `now_ms`, in which every
    configured vantage found every provider and the origin good: equal to so many calls of `assess`.

    Rounds are taken one by one until all is calm, the rest in one step.
    """
    assert rounds > 0, f"a quiet time has rounds, not {rounds}"
    layout = layout_of(state)
    service, interval_ms = state.service, layout.policy.probe_interval_ms
    assert service is not None
    at_ms = now_ms - (rounds - 1) * interval_ms
    may_rest = True
    while True:
        found = _assessed(state, good_looks(service, at_ms), at_ms, may_rest)
        if at_ms >= now_ms:
            return found
        streams = found.streams
        left = (now_ms - at_ms) // interval_ms
        at_ms += interval_ms
        if left > 1 and is_calm(layout, service, streams, found.standings, found.verdicts, at_ms):
            streams = idled(layout, service, streams, left - 1, at_ms)
            at_ms, may_rest = now_ms, False
        state = replace(
            state,
            streams=streams,
            standings=found.standings,
            verdicts=found.verdicts,
            now_ms=at_ms - interval_ms,
        )


def _is_settled(layout: Layout, state: State, due_ms: int, now_ms: int) -> bool:
    """Whether nothing was in doubt, nothing is on its way, and no evidence has grown old: time changes
    nothing."""
    if 0 < due_ms <= now_ms or len(state.verdicts) != len(state.standings):
        return False
    for verdict in state.verdicts:
        if verdict.status is not Status.UP or verdict.alarm_bp or verdict.minority or verdict.left_out:
            return False
    for standing in state.standings:
        if standing.probation_since_ms:
            return False
    others = (*layout.origins, *layout.nameservers)
    return all(state.streams[at].down_mnat == NOTHING_MNAT for seat in others for at in seat.streams)


def _stale_ms(layout: Layout, streams: tuple[Stream, ...]) -> int:
    """When the stream heard of longest ago stops being fresh, in the past if it has; 0 if none was ever
    heard of."""
    oldest_ms = min([stream.seen_ms for stream in streams if stream.seen_ms], default=0)
    return oldest_ms + layout.age_ms + 1 if oldest_ms else 0


def _judged(
    layout: Layout, state: State, streams: tuple[Stream, ...], standings: tuple[Standing, ...], now_ms: int
) -> Assessment:
    strangers = _strangers_by_seat(layout, streams)
    opinions = [_opinion(layout, seat, streams, strangers, now_ms) for seat in layout.seats]
    origins = [_opinion(layout, seat, streams, strangers, now_ms) for seat in layout.origins]
    past = _past_verdicts(layout, state.verdicts)
    verdicts, after, notes = [], [], []
    for place, (seat, opinion) in enumerate(zip(layout.seats, opinions, strict=True)):
        finding = CLEAR
        if opinion.progress_bp or opinion.minority:
            finding = attribute(seat, opinion, origins[seat.origin], opinions, standings)
        standing = stand(standings[place], opinion, finding.is_held, layout.policy, now_ms)
        verdict = verdict_on(seat, opinion, standing, finding, past[place], layout.policy, now_ms)
        if finding.is_held and opinion.is_alarmed and standing.status is not Status.DOWN:
            notes.append(Note(Severity.WARNING, "fault_elsewhere", f"{verdict.region}: {verdict.why}"))
        if finding.blame is Blame.VANTAGE:
            notes.append(Note(Severity.WARNING, "minority", f"{verdict.region}: {verdict.why}"))
        verdicts.append(verdict)
        after.append(standing)
    notes += _origin_notes(layout, origins)
    for seat in layout.nameservers:
        notes += _nameserver_notes(seat, _opinion(layout, seat, streams, strangers, now_ms))
    new_standings = standings if _are_same(after, standings) else tuple(after)
    new_verdicts = state.verdicts if _are_same(verdicts, state.verdicts) else tuple(verdicts)
    if new_standings is not standings:
        streams = _begun_anew(streams, standings, new_standings)
    return Assessment(
        streams, new_standings, new_verdicts, tuple(notes), _due_ms(layout, streams, new_standings, now_ms)
    )


def _opinion(
    layout: Layout,
    seat: Seat,
    streams: tuple[Stream, ...],
    strangers: dict[tuple[str, str], list[Stream]],
    now_ms: int,
) -> Opinion:
    """The opinion of the streams of a seat that are fresh."""
    oldest_ms = max(1, now_ms - layout.age_ms)
    fresh = [streams[place] for place in seat.streams if streams[place].seen_ms >= oldest_ms]
    if strangers:
        fresh += [
            stream
            for stream in strangers.get((seat.provider, seat.region), ())
            if stream.seen_ms >= oldest_ms
        ]
    return agree(layout, seat, fresh)


def _strangers_by_seat(layout: Layout, streams: tuple[Stream, ...]) -> dict[tuple[str, str], list[Stream]]:
    found: dict[tuple[str, str], list[Stream]] = {}
    for stream in streams[len(layout.blank) :]:
        found.setdefault((stream.provider, stream.region), []).append(stream)
    return found


def _past_verdicts(layout: Layout, verdicts: tuple[Verdict, ...]) -> list[Verdict | None]:
    known = {(verdict.provider, verdict.region): verdict for verdict in verdicts}
    return [known.get((seat.provider, seat.region)) for seat in layout.seats]


def _are_same(new: list[Standing] | list[Verdict], old: tuple[Standing, ...] | tuple[Verdict, ...]) -> bool:
    return len(new) == len(old) and all(one is other for one, other in zip(new, old, strict=True))


def _begun_anew(
    streams: tuple[Stream, ...],
    before: tuple[Standing, ...],
    after: tuple[Standing, ...],
) -> tuple[Stream, ...]:
    """Streams of providers that went out start to gather evidence of health; of those let back in, of
    failure."""
    turned: dict[tuple[str, str], bool] = {}
    for old, new in zip(before, after, strict=True):
        if (old.status is Status.DOWN) is not (new.status is Status.DOWN):
            turned[new.provider, new.region] = new.status is Status.DOWN
    if not turned:
        return streams
    return tuple(
        _turned(stream, turned[stream.provider, stream.region])
        if (stream.provider, stream.region) in turned
        else stream
        for stream in streams
    )


def _turned(stream: Stream, is_out: bool) -> Stream:
    return Stream(
        stream.provider,
        stream.region,
        stream.vantage,
        down_mnat=stream.down_mnat if is_out else NOTHING_MNAT,
        up_mnat=(0,) if is_out else (),
        slow_mnat=stream.slow_mnat,
        latency_ms=stream.latency_ms,
        seen_ms=stream.seen_ms,
        attempts=stream.attempts,
        failures=stream.failures,
        blame=stream.blame if is_out else Blame.NOBODY,
        healthy_bp=stream.healthy_bp,
        excess_mnat=stream.excess_mnat if is_out else 0,
    )


def _origin_notes(layout: Layout, origins: list[Opinion]) -> list[Note]:
    return [
        Note(
            Severity.WARNING,
            "origin_failing",
            f"{seat.region}: the origin fails when asked directly, evidence {opinion.evidence_mnat} mnat, "
            f"limit {opinion.limits.down[opinion.way]} mnat; no provider is left because of it",
        )
        for seat, opinion in zip(layout.origins, origins, strict=True)
        if opinion.is_alarmed
    ]


def _nameserver_notes(seat: Seat, opinion: Opinion) -> list[Note]:
    if not opinion.is_alarmed:
        return []
    text = (
        f"{seat.region}: our nameserver fails when asked for the service's name, evidence "
        f"{opinion.evidence_mnat} mnat, limit {opinion.limits.down[opinion.way]} mnat: the fault is of: "
        f"{Blame.DNS.value}; no provider is left because of it"
    )
    return [Note(Severity.WARNING, "nameserver_failing", text)]


def _due_ms(layout: Layout, streams: tuple[Stream, ...], standings: tuple[Standing, ...], now_ms: int) -> int:
    """The soonest of: evidence growing old, a hold-down ending, a step of probation earned; 0 if none is
    ahead."""
    step_ms = max(1, layout.policy.probation_step_ms)
    moments = [stream.seen_ms + layout.age_ms + 1 for stream in streams if stream.seen_ms]
    for standing in standings:
        moments.append(standing.hold_until_ms if standing.status is Status.DOWN else 0)
        moments.append(standing.clean_since_ms + step_ms if standing.probation_since_ms else 0)
    return min((moment for moment in moments if moment > now_ms), default=0)
