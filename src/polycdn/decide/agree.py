"""What the vantages say together: their evidence added up, with the most extreme of them left out.

A sum without its f largest terms is never larger than the sum of the honest ones when f lie, whatever they
say: so a liar moves nobody, not even together with others' bad luck (decision 0004). Nobody has to be
waited for.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Final, NamedTuple

from polycdn.decide.calibrate import Limits, limits
from polycdn.decide.layout import KEPT_MAX, Layout, Seat, kept_of, liars_of
from polycdn.decide.likelihood import NOTHING_MNAT, TOTAL
from polycdn.model.state import Stream
from polycdn.model.units import FULL_BP
from polycdn.model.verdict import Blame

HINT_MAX_MNAT: Final = 6_000
"""What one vantage can add to a hint: about two failures, so that a liar cannot hold a provider in its
place for long."""

ALONE_MIN_MNAT: Final = 6_000
"""No vantage is alarmed alone by less; the lowest threshold there is lies above."""


class Opinion(NamedTuple):
    """What the vantages say together of one provider in one region.

    `progress_bp` is the evidence as a share of its limit, 10 000 = alarm, and goes on growing beyond.
    `way` is the sick alternative that leads. `hint_bp` is the same with nobody left out and nobody very
    loud. `kept` vantages' evidence is in every sum; 0 means that too few are fresh. `seen_ms` is the newest
    look in it, 0 when nothing is amiss.
    """

    fresh: int
    kept: int
    limits: Limits
    progress_bp: int = 0
    hint_bp: int = 0
    way: int = 0
    evidence_mnat: int = 0
    total_mnat: int = 0
    up_mnat: int = 0
    slow_mnat: int = 0
    excess_mnat: int = 0
    latency_ms: int = 0
    left_out: tuple[str, ...] = ()
    minority: tuple[str, ...] = ()
    blame: Blame = Blame.NOBODY
    seen_ms: int = 0

    @property
    def has_quorum(self) -> bool:
        """Whether enough vantages have fresh evidence for any verdict."""
        return self.kept > 0

    @property
    def is_alarmed(self) -> bool:
        return self.progress_bp >= FULL_BP


def kept_among(fresh: int, known: int) -> int:
    """How many of the fresh vantages are added up; 0 when too few are fresh to outvote a liar among all
    known.

    One vantage alone decides; of two both are needed, and one decides while the other is silent. From
    three on, as many must be fresh as there may be liars, and one more.
    """
    if fresh == 0:
        return 0
    everyone = max(fresh, known)
    if everyone < 3:
        return kept_of(fresh)
    return min(KEPT_MAX, max(0, fresh - liars_of(everyone)))


def agree(layout: Layout, seat: Seat, streams: Sequence[Stream]) -> Opinion:
    """The opinion of these fresh streams of one seat. Their order does not matter."""
    latency_ms = _middle_latency_ms(streams)
    is_plain = is_clear = True
    for stream in streams:
        if stream.down_mnat != NOTHING_MNAT:
            is_clear = is_plain = False
        elif stream.up_mnat or stream.slow_mnat or stream.healthy_bp:
            is_plain = False
    if is_plain:
        return _calm(layout, seat.known, len(streams), latency_ms)
    fresh, kept = len(streams), kept_among(len(streams), seat.known)
    marks = _marks(layout, streams, max(1, kept))
    if not kept:
        return Opinion(fresh, 0, marks, latency_ms=latency_ms)
    ups = [stream.up_mnat[0] for stream in streams if stream.up_mnat]
    up = _sum_of_lowest(ups, kept) if len(ups) == fresh else 0
    slow = _sum_of_lowest([stream.slow_mnat for stream in streams], kept)
    if is_clear:
        return Opinion(fresh, kept, marks, up_mnat=up, slow_mnat=slow, latency_ms=latency_ms)
    opinion = _doubtful(layout, streams, kept, marks, up, slow, latency_ms)
    return opinion._replace(seen_ms=max(stream.seen_ms for stream in streams))


@lru_cache(maxsize=4_096)
def _calm(layout: Layout, known: int, fresh: int, latency_ms: int) -> Opinion:
    kept = kept_among(fresh, known)
    marks = _limits(layout, layout.levels_bp[0], max(1, kept), kept < fresh)
    return Opinion(fresh, kept, marks, latency_ms=latency_ms)


def _marks(layout: Layout, streams: Sequence[Stream], kept: int) -> Limits:
    """Thresholds; for vantages that learned different healthy shares, the strictest of any of these
    shares."""
    floor_bp = layout.levels_bp[0]
    learned = sorted({stream.healthy_bp or floor_bp for stream in streams})
    if len(learned) == 1:
        return _limits(layout, learned[0], kept, kept < len(streams))
    marks = [_limits(layout, level, kept, kept < len(streams)) for level in learned or [floor_bp]]
    return Limits(
        down=tuple(max(limit) for limit in zip(*(mark.down for mark in marks), strict=True)),
        up=max(mark.up for mark in marks),
        slow=max(mark.slow for mark in marks),
        excess=max(mark.excess for mark in marks),
    )


def _doubtful(
    layout: Layout, streams: Sequence[Stream], kept: int, marks: Limits, up: int, slow: int, latency_ms: int
) -> Opinion:
    by_way = list(zip(*[stream.down_mnat for stream in streams], strict=True))
    sums = [_sum_of_lowest(scores, kept) for scores in by_way]
    progress = [total * FULL_BP // limit for total, limit in zip(sums, marks.down, strict=True)]
    leading = progress
    if not any(progress):
        leading = [max(scores) * FULL_BP // limit for scores, limit in zip(by_way, marks.down, strict=True)]
    way = leading.index(max(leading))
    excess = [stream.excess_mnat for stream in streams]
    return Opinion(
        len(streams),
        kept,
        marks,
        progress[way],
        _hint_bp(by_way, marks),
        way,
        sums[way],
        sums[TOTAL],
        up,
        slow,
        _sum_of_lowest(excess, kept),
        latency_ms,
        _left_out(streams, way, len(streams) - kept),
        () if progress[way] >= FULL_BP else _alarmed_alone(layout, streams),
        _shared_blame(streams),
    )


def _hint_bp(by_way: Sequence[tuple[int, ...]], marks: Limits) -> int:
    """Progress of everybody's evidence, nobody's counted beyond HINT_MAX_MNAT: for holding back, never for
    moving."""
    hint_bp = 0
    for scores, limit in zip(by_way, marks.down, strict=True):
        total = 0
        for score in scores:
            total += score if score < HINT_MAX_MNAT else HINT_MAX_MNAT
        if total * FULL_BP > hint_bp * limit:
            hint_bp = total * FULL_BP // limit
    return hint_bp


def _left_out(streams: Sequence[Stream], way: int, out: int) -> tuple[str, ...]:
    """The most alarming vantages, ties by name, sorted by name; those without any alarm are not named."""
    ranked = sorted([(-stream.down_mnat[way], stream.vantage) for stream in streams if stream.down_mnat[way]])
    return tuple(sorted([vantage for _, vantage in ranked[:out]]))


def _sum_of_lowest(scores: Sequence[int], kept: int) -> int:
    """The sum without the largest ones; on the way to DOWN the most alarming, on the way back the most
    reassuring."""
    out = len(scores) - kept
    if out == 0:
        return sum(scores)
    if out == 1:
        return sum(scores) - max(scores)
    return sum(sorted(scores)[:kept])


def _alarmed_alone(layout: Layout, streams: Sequence[Stream]) -> tuple[str, ...]:
    """Vantages whose own evidence would be an alarm if they were alone, by name."""
    alone = []
    for stream in streams:
        if max(stream.down_mnat) < ALONE_MIN_MNAT:
            continue
        marks = _limits(layout, stream.healthy_bp or layout.levels_bp[0], 1, False)
        if any(score >= limit for score, limit in zip(stream.down_mnat, marks.down, strict=True)):
            alone.append(stream.vantage)
    return tuple(sorted(alone))


def _shared_blame(streams: Sequence[Stream]) -> Blame:
    """DNS when every stream that counts and failed did so before any provider was asked."""
    blames = [stream.blame for stream in streams if stream.blame is not Blame.NOBODY]
    if not blames:
        return Blame.NOBODY
    return Blame.DNS if all(blame is Blame.DNS for blame in blames) else Blame.PROVIDER


def _middle_latency_ms(streams: Sequence[Stream]) -> int:
    """The lower median of the vantages' smoothed first-byte times; 0 if none is known."""
    known = sorted(stream.latency_ms for stream in streams if stream.latency_ms)
    return known[(len(known) - 1) // 2] if known else 0


def _limits(layout: Layout, healthy_bp: int, kept: int, is_robust: bool) -> Limits:
    return limits(healthy_bp, kept, is_robust, layout.rounds)
