"""A long calm in one step: what many rounds of good looks leave in the streams."""

from collections.abc import Iterable
from dataclasses import replace

from polycdn.decide.fold import LEARN_LOOKS, learned_bp
from polycdn.decide.layout import Layout
from polycdn.decide.likelihood import NOTHING_MNAT
from polycdn.model.observation import Observation
from polycdn.model.state import Standing, Stream
from polycdn.model.topology import Service
from polycdn.model.units import ANYWHERE, NAMESERVER, ORIGIN
from polycdn.model.verdict import Status, Verdict


def good_looks(service: Service, at_ms: int) -> tuple[Observation, ...]:
    """One good look of every configured vantage at every provider, the origin and our nameserver, if any."""
    names = [provider.name for provider in service.providers]
    if service.origin is not None:
        names.append(ORIGIN)
    if service.nameservers:
        names.append(NAMESERVER)
    return tuple(
        Observation(at_ms, name, ANYWHERE, vantage.name) for vantage in service.vantages for name in names
    )


def is_calm(
    layout: Layout,
    service: Service,
    streams: tuple[Stream, ...],
    standings: tuple[Standing, ...],
    verdicts: tuple[Verdict, ...],
    now_ms: int,
) -> bool:
    """Whether further rounds of good looks change nothing but the ages and counts of streams.

    Streams that good looks do not refresh (engines, clients) must have gone stale, so that none of them
    expires later.
    """
    oldest_ms = now_ms - layout.age_ms
    for stream in streams:
        if stream.seen_ms and stream.seen_ms >= oldest_ms and not _is_refreshed(layout, service, stream):
            return False
    return (
        all(_is_spotless(stream) for stream in streams)
        and all(s.status is not Status.DOWN and not s.probation_since_ms for s in standings)
        and all(v.status in (Status.UP, Status.UNKNOWN) and not v.alarm_bp for v in verdicts)
    )


def _is_refreshed(layout: Layout, service: Service, stream: Stream) -> bool:
    is_looked_at = stream.provider != ORIGIN or service.origin is not None
    return is_looked_at and (stream.provider, stream.vantage) in layout.places


def _is_spotless(stream: Stream) -> bool:
    return stream.down_mnat == NOTHING_MNAT and not stream.up_mnat and not stream.slow_mnat


def idled(
    layout: Layout, service: Service, streams: Iterable[Stream], rounds: int, first_ms: int
) -> tuple[Stream, ...]:
    """Calm streams after `rounds` good looks, the first at `first_ms`, one probe interval apart."""
    return tuple(
        _idled(layout, stream, rounds, first_ms) if _is_refreshed(layout, service, stream) else stream
        for stream in streams
    )


def _idled(layout: Layout, stream: Stream, rounds: int, first_ms: int) -> Stream:
    """As decide/fold.py does it look by look: noted when `idle_ms` old, and then once in `stride` rounds."""
    interval_ms = max(1, layout.policy.probe_interval_ms)
    stride = max(1, -(-layout.idle_ms // interval_ms))
    skipped = max(0, -(-(stream.seen_ms + layout.idle_ms - first_ms) // interval_ms))
    if skipped >= rounds:
        return stream
    noted_ms = first_ms + skipped * interval_ms
    first_looks = min(max(1, (noted_ms - stream.seen_ms) // interval_ms), layout.idle_ms // interval_ms + 1)
    stream = _learned(layout, stream, stream.attempts + first_looks)
    strides = (rounds - skipped - 1) // stride
    return replace(
        _strode(layout, stream, strides, stride), seen_ms=noted_ms + strides * stride * interval_ms
    )


def _strode(layout: Layout, stream: Stream, strides: int, stride: int) -> Stream:
    while strides:
        needed = -(-(LEARN_LOOKS - stream.attempts) // stride)
        if needed > strides:
            return replace(stream, attempts=stream.attempts + strides * stride)
        strides -= needed
        before = stream
        stream = _learned(layout, stream, stream.attempts + needed * stride)
        if stream == before:
            strides %= needed
    return stream


def _learned(layout: Layout, stream: Stream, attempts: int) -> Stream:
    if attempts < LEARN_LOOKS:
        return replace(stream, attempts=attempts)
    level = learned_bp(attempts, stream.failures, layout.levels_bp)
    return replace(stream, attempts=attempts // 2, failures=stream.failures // 2, healthy_bp=level)
