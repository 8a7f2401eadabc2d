"""What was seen, folded into streams of evidence: one per (provider, region, vantage).

A score is a CUSUM (Page 1954): it adds the log-likelihood ratio of each look and never falls below zero.
Looks are weighed so that a vantage never says more than one look per probe interval, the rate that
thresholds are made for.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

from polycdn.decide.layout import Layout, key_of
from polycdn.decide.likelihood import (
    EXCESS_FALL_MNAT,
    EXCESS_RISE_MNAT,
    MILD,
    NOTHING_MNAT,
    SCORE_MAX_MNAT,
    TOTAL,
    Steps,
    steps_of,
)
from polycdn.model.observation import Observation, Reason
from polycdn.model.policy import Policy
from polycdn.model.state import Standing, Stream
from polycdn.model.units import ANYWHERE, FULL_BP, ORIGIN, PARITY
from polycdn.model.verdict import Blame, Status

LEARN_LOOKS: Final = 8_192
"""After so many looks the healthy failure share is learned anew and half of them are forgotten: 2.3 hours
at one a second."""

LEARN_BELOW_MNAT: Final = 9_000
"""Looks under a doubt of several failures teach nothing about health."""

STRANGERS_MAX: Final = 64
STRANGER_AGE_MS: Final = 3_600_000
"""Limits for streams of vantages that are not configured: so many, and forgotten after an hour of silence."""

_FULL_WEIGHT: Final = 1_000
_DNS: Final = frozenset({Reason.DNS_SERVFAIL, Reason.DNS_EMPTY, Reason.DNS_TIMEOUT})


class Look(NamedTuple):
    """What one vantage saw of one provider within one probe interval: a share of failures is a fraction of
    a look.

    `excess_bp` is how much more failed than at the origin, seen from the same place at the same time.
    """

    at_ms: int
    attempts: int
    failures: int
    is_slow: bool
    first_byte_ms: int
    is_dns: bool
    excess_bp: int = 0


def fold(
    layout: Layout,
    streams: tuple[Stream, ...],
    standings: Sequence[Standing],
    observations: tuple[Observation, ...],
    now_ms: int,
) -> tuple[Stream, ...]:
    """The streams after these observations; the same tuple when they add nothing.

    A good look at a stream without doubt adds nothing until the stream is `Layout.idle_ms` old.
    """
    streams, news = _sorted_in(layout, streams, observations, now_ms)
    if not news:
        return streams
    folded = list(streams)
    origin_bp: dict[str, int] | None = None
    for place, batch in news.items():
        stream = streams[place]
        seat = layout.seat_of.get((stream.provider, stream.region), -1)
        is_out = seat >= 0 and standings[seat].status is Status.DOWN
        excess_bp = 0
        if seat >= 0 and (stream.excess_mnat or batch[0].failures or len(batch) > 1):
            if origin_bp is None:
                origin_bp = _origin_failing_bp(layout.policy, observations)
            if stream.vantage in origin_bp:
                excess_bp = _failing_bp(layout.policy, batch) - origin_bp[stream.vantage]
        looks = looks_of(batch, layout.policy, now_ms, excess_bp)
        up_max = layout.seats[seat].up_max_mnat if is_out else -1
        folded[place] = after_looks(stream, looks, layout, up_max)
    return tuple(folded)


def _sorted_in(
    layout: Layout, streams: tuple[Stream, ...], observations: tuple[Observation, ...], now_ms: int
) -> tuple[tuple[Stream, ...], dict[int, list[Observation]]]:
    """Streams, with new ones for strangers, and what is news to which of them."""
    news: dict[int, list[Observation]] = {}
    strange: list[Observation] = []
    places, idle_ms, slow_ms = layout.places, layout.idle_ms, layout.policy.slow_ms
    oldest_ms = now_ms - layout.age_ms
    apart = _speaking_apart(observations) if len(layout.origins) > 1 else ()
    for seen in observations:
        found = places.get((seen.provider, seen.vantage))
        if found is None:
            if seen.vantage != PARITY:
                strange.append(seen)
            continue
        at_ms = seen.at_ms
        if seen.reason is Reason.BLIND or at_ms < oldest_ms:
            continue
        is_good = not seen.failures and (not slow_ms or seen.first_byte_ms < slow_ms)
        for place in found:
            stream = streams[place]
            if apart and stream.region != seen.region and (seen.provider, seen.vantage) in apart:
                continue
            if (
                is_good
                and at_ms - stream.seen_ms < idle_ms
                and stream.down_mnat == NOTHING_MNAT
                and not stream.up_mnat
                and not stream.slow_mnat
            ):
                continue
            if place in news:
                news[place].append(seen)
            else:
                news[place] = [seen]
    if strange:
        streams = _with_strangers(layout, streams, strange, news, now_ms)
    return streams, news


def _speaking_apart(observations: tuple[Observation, ...]) -> set[tuple[str, str]]:
    """(provider, vantage) where the vantage names several regions this round: then each word counts in its
    own.

    A vantage that names one region only, or none, speaks for all that it watches.
    """
    named: dict[tuple[str, str], str] = {}
    apart: set[tuple[str, str]] = set()
    for seen in observations:
        if (
            seen.region != ANYWHERE
            and named.setdefault((seen.provider, seen.vantage), seen.region) != seen.region
        ):
            apart.add((seen.provider, seen.vantage))
    return apart


def _with_strangers(
    layout: Layout,
    streams: tuple[Stream, ...],
    strange: list[Observation],
    news: dict[int, list[Observation]],
    now_ms: int,
) -> tuple[Stream, ...]:
    """Streams with those of vantages that are not configured, whose observations are added to `news`."""
    base = len(layout.blank)
    batches: dict[tuple[str, str, str], list[Observation]] = {}
    for seen in strange:
        if seen.reason is Reason.BLIND or seen.at_ms < now_ms - layout.age_ms:
            continue
        for region in _regions_meant(layout, seen):
            batches.setdefault((seen.provider, region, seen.vantage), []).append(seen)
    extra = {key_of(stream): stream for stream in streams[base:]}
    wanted = sorted(key for key in batches if key not in extra)
    if wanted:
        extra = {key: old for key, old in extra.items() if now_ms - old.seen_ms <= STRANGER_AGE_MS}
        for key in wanted[: max(0, STRANGERS_MAX - len(extra))]:
            extra[key] = Stream(*key, down_mnat=NOTHING_MNAT)
    keys = sorted(extra)
    for place, key in enumerate(keys, base):
        if key in batches:
            news[place] = batches[key]
    return streams[:base] + tuple(extra[key] for key in keys)


def _regions_meant(layout: Layout, seen: Observation) -> tuple[str, ...]:
    covered = layout.reach.get(seen.provider, ())
    if seen.region in covered:
        return (seen.region,)
    return covered if seen.region in (ANYWHERE, "") else ()


def _counts(policy: Policy, seen: Observation) -> int:
    """Failures that speak against the provider: being slow, or unlike the others where that is allowed,
    does not."""
    if seen.reason is Reason.SLOW or (seen.reason is Reason.PARITY and not policy.require_parity):
        return 0
    return min(max(seen.failures, 0), max(seen.attempts, 1))


def _failing_bp(policy: Policy, batch: Sequence[Observation]) -> int:
    attempts = failures = 0
    for seen in batch:
        attempts += max(seen.attempts, 1)
        if seen.failures:
            failures += _counts(policy, seen)
    return failures * FULL_BP // attempts


def _origin_failing_bp(policy: Policy, observations: tuple[Observation, ...]) -> dict[str, int]:
    """By vantage: the share of this round's looks at the origin that failed."""
    batches: dict[str, list[Observation]] = {}
    for seen in observations:
        if seen.provider == ORIGIN and seen.reason is not Reason.BLIND:
            batches.setdefault(seen.vantage, []).append(seen)
    return {
        vantage: _failing_bp(policy, batch) if len(batch) > 1 or batch[0].failures else 0
        for vantage, batch in batches.items()
    }


def looks_of(batch: list[Observation], policy: Policy, now_ms: int, excess_bp: int) -> list[Look]:
    """The batch of one stream as looks in order of time, those within three quarters of an interval taken
    as one.

    A stamp in the future is taken as now: a vantage whose clock is ahead must not look fresh for ever.
    """
    if len(batch) == 1:
        return [_look_alone(batch[0], policy, now_ms, excess_bp)]
    batch = sorted(batch, key=lambda seen: seen.at_ms)
    near_ms = policy.probe_interval_ms * 3 // 4
    looks: list[Look] = []
    start = 0
    for at in range(1, len(batch) + 1):
        if at == len(batch) or batch[at].at_ms - batch[start].at_ms >= near_ms:
            looks.append(_look(batch[start:at], policy, now_ms, excess_bp))
            start = at
    return looks


def _look_alone(seen: Observation, policy: Policy, now_ms: int, excess_bp: int) -> Look:
    failures = _counts(policy, seen) if seen.failures else 0
    at_ms, first_byte_ms = seen.at_ms, seen.first_byte_ms
    is_slow = seen.reason is Reason.SLOW or 0 < policy.slow_ms <= first_byte_ms
    return Look(
        at_ms if 0 < at_ms <= now_ms else max(1, min(at_ms, now_ms)),
        max(seen.attempts, 1), failures, is_slow, first_byte_ms,
        failures > 0 and seen.reason in _DNS, excess_bp,
    )  # fmt: skip


def _look(batch: list[Observation], policy: Policy, now_ms: int, excess_bp: int) -> Look:
    failures = sum(_counts(policy, seen) for seen in batch)
    first_byte_ms = max(seen.first_byte_ms for seen in batch)
    return Look(
        at_ms=max(1, min(batch[-1].at_ms, now_ms)),
        attempts=sum(max(seen.attempts, 1) for seen in batch),
        failures=failures,
        is_slow=any(seen.reason is Reason.SLOW for seen in batch) or 0 < policy.slow_ms <= first_byte_ms,
        first_byte_ms=first_byte_ms,
        is_dns=failures > 0 and all(seen.reason in _DNS for seen in batch if _counts(policy, seen)),
        excess_bp=excess_bp,
    )


def after_looks(stream: Stream, looks: list[Look], layout: Layout, up_max_mnat: int) -> Stream:
    """The stream after these looks; `up_max_mnat` is -1 unless its provider is out and on its way back."""
    interval_ms = max(1, layout.policy.probe_interval_ms)
    idle_looks = layout.idle_ms // interval_ms + 1
    if (
        up_max_mnat < 0
        and len(looks) == 1
        and not looks[0].failures
        and _is_idle(stream, looks[0], interval_ms)
    ):
        return _after_idle_look(stream, looks[0], layout, interval_ms, idle_looks)
    healthy_bp = stream.healthy_bp or layout.levels_bp[0]
    steps = steps_of(healthy_bp)
    down = stream.down_mnat or NOTHING_MNAT
    up = (stream.up_mnat or (0,))[0]
    slow, excess, seen_ms, latency = stream.slow_mnat, stream.excess_mnat, stream.seen_ms, stream.latency_ms
    attempts, failures, blame = stream.attempts, stream.failures, stream.blame
    for look in looks:
        elapsed_ms = look.at_ms - seen_ms
        weight = _weight(elapsed_ms, interval_ms)
        if max(down) <= LEARN_BELOW_MNAT and up_max_mnat < 0 and weight == _FULL_WEIGHT:
            attempts += 1 if look.failures else min(max(1, elapsed_ms // interval_ms), idle_looks)
            failures += 2 * look.failures >= look.attempts
        down = down_after(down, look, steps, weight)
        if up_max_mnat >= 0:
            up = min(up_max_mnat, up_after(up, look, steps, weight))
        if slow or look.is_slow:
            slow = _bounded(
                slow + (steps.rise[1] if look.is_slow else -steps.fall[1]) * weight // _FULL_WEIGHT
            )
        if down == NOTHING_MNAT:
            excess, blame = 0, Blame.NOBODY
        elif look.failures:
            blame = Blame.DNS if look.is_dns else Blame.PROVIDER
        if look.excess_bp:
            excess = _bounded(excess + _excess_step(look.excess_bp) * weight // _FULL_WEIGHT)
        latency = _smoothed_ms(latency, look.first_byte_ms)
        seen_ms = max(seen_ms, look.at_ms)
    level = stream.healthy_bp
    if attempts >= LEARN_LOOKS:
        level = learned_bp(attempts, failures, layout.levels_bp)
        attempts, failures = attempts // 2, failures // 2
    return Stream(
        stream.provider, stream.region, stream.vantage, down, (up,) if up_max_mnat >= 0 else (), slow,
        latency, seen_ms, attempts, failures, blame, level, excess,
    )  # fmt: skip


def _is_idle(stream: Stream, look: Look, interval_ms: int) -> bool:
    return (
        stream.down_mnat == NOTHING_MNAT
        and not (look.is_slow or stream.slow_mnat or stream.up_mnat)
        and 4 * (look.at_ms - stream.seen_ms) >= 3 * interval_ms
    )


def _after_idle_look(stream: Stream, look: Look, layout: Layout, interval_ms: int, idle_looks: int) -> Stream:
    """As `after_looks`, for the commonest case: a good look at a stream without any doubt."""
    attempts = stream.attempts + min(max(1, (look.at_ms - stream.seen_ms) // interval_ms), idle_looks)
    failures, level = stream.failures, stream.healthy_bp
    if attempts >= LEARN_LOOKS:
        level = learned_bp(attempts, failures, layout.levels_bp)
        attempts, failures = attempts // 2, failures // 2
    return Stream(
        stream.provider, stream.region, stream.vantage, NOTHING_MNAT, (), 0,
        _smoothed_ms(stream.latency_ms, look.first_byte_ms), look.at_ms, attempts, failures,
        Blame.NOBODY, level, 0,
    )  # fmt: skip


def _smoothed_ms(latency_ms: int, first_byte_ms: int) -> int:
    if not first_byte_ms:
        return latency_ms
    return latency_ms + (first_byte_ms - latency_ms) // 8 if latency_ms else first_byte_ms


def _weight(elapsed_ms: int, interval_ms: int) -> int:
    """Thousandths of a look that one look is worth: all of it when three quarters of an interval have
    passed."""
    if 4 * elapsed_ms >= 3 * interval_ms:
        return _FULL_WEIGHT
    return max(0, elapsed_ms) * _FULL_WEIGHT // interval_ms


def down_after(down: tuple[int, ...], look: Look, steps: Steps, weight: int) -> tuple[int, ...]:
    """The scores towards DOWN after one look. Any success refutes "everything fails"."""
    good = look.attempts - look.failures
    if not look.failures:
        if down == NOTHING_MNAT:
            return down
        if weight == _FULL_WEIGHT:
            return tuple([s - f if s > f else 0 for s, f in zip(down, steps.fall, strict=True)])
        return tuple(
            [_bounded(s - f * weight // _FULL_WEIGHT) for s, f in zip(down, steps.fall, strict=True)]
        )
    if not good and weight == _FULL_WEIGHT:
        return tuple([min(s + r, SCORE_MAX_MNAT) for s, r in zip(down, steps.rise, strict=True)])
    scale = look.attempts * _FULL_WEIGHT
    scores = [
        _bounded(score + (rise * look.failures - fall * good) * weight // scale)
        for score, rise, fall in zip(down, steps.rise, steps.fall, strict=True)
    ]
    if good and weight:
        scores[TOTAL] = 0
    return tuple(scores)


def up_after(up_mnat: int, look: Look, steps: Steps, weight: int) -> int:
    """The score of the way back: the mirrored test against the mildest sick alternative."""
    good = look.attempts - look.failures
    step = (steps.fall[MILD] * good - steps.rise[MILD] * look.failures) * weight
    return max(0, up_mnat + step // (look.attempts * _FULL_WEIGHT))


def _excess_step(excess_bp: int) -> int:
    return excess_bp * (EXCESS_RISE_MNAT if excess_bp > 0 else EXCESS_FALL_MNAT) // FULL_BP


def _bounded(score: int) -> int:
    return 0 if score < 0 else SCORE_MAX_MNAT if score > SCORE_MAX_MNAT else score


def learned_bp(attempts: int, failures: int, levels_bp: tuple[int, ...]) -> int:
    """The lowest level that explains the failures, half as many again allowed for chance; 0 for the floor."""
    for level in levels_bp:
        if failures * 2 * FULL_BP <= 3 * level * attempts:
            return level if level != levels_bp[0] else 0
    return levels_bp[-1] if len(levels_bp) > 1 else 0
