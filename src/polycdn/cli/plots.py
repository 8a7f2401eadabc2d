"""Plots as SVG text: small, without scripts, readable in light and dark, with a title on every mark."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

WIDTH: Final = 920
LEFT: Final = 120
RIGHT: Final = 16
COLOURS: Final = ("#2f6fde", "#e0812b", "#2a9d62", "#8b5cc7", "#c2405a", "#5b8a9a")
STATUS_COLOURS: Final = {"up": "#2a9d62", "degraded": "#e0a92b", "down": "#c2405a", "unknown": "#9aa3ad"}


@dataclass(frozen=True)
class Axis:
    """Timeline seconds from `start_s` to `end_s`, drawn from LEFT to WIDTH - RIGHT."""

    start_s: float
    end_s: float

    def x(self, at_s: float) -> float:
        """Horizontal position of a moment."""
        span = max(self.end_s - self.start_s, 1e-9)
        inside = min(max(at_s, self.start_s), self.end_s)
        return LEFT + (inside - self.start_s) / span * (WIDTH - LEFT - RIGHT)


def failure_lanes(axis: Axis, lanes: Sequence[tuple[str, Sequence[tuple[float, int, int]]]]) -> str:
    """One lane a client; a point is (second, attempts, failed) of one bucket. Height = share failed."""
    height, parts = 64, []
    for row, (name, points) in enumerate(lanes):
        top = 12 + row * height
        parts.append(_label(name, top + 26) + _label(_percent_failed(points), top + 42, "dim"))
        parts.append(f'<rect class="lane" x="{LEFT}" y="{top}" width="{WIDTH - LEFT - RIGHT}" height="48"/>')
        parts.append(_area(axis, points, top, 48))
    return _svg(12 + height * len(lanes) + 20, "".join(parts) + _ticks(axis, 12 + height * len(lanes)))


def _area(axis: Axis, points: Sequence[tuple[float, int, int]], top: int, height: int) -> str:
    if not points:
        return ""
    width_s = points[1][0] - points[0][0] if len(points) > 1 else axis.end_s - axis.start_s
    bars = []
    for at_s, attempts, failed in points:
        if not failed:
            continue
        share = failed / attempts
        bar = max(share * height, 1.0)
        left, right = axis.x(at_s), axis.x(at_s + width_s)
        bars.append(
            f'<rect class="bad" x="{left:.1f}" y="{top + height - bar:.1f}" '
            f'width="{max(right - left, 0.8):.1f}" height="{bar:.1f}"><title>'
            f"{clock(at_s)}: {failed} of {attempts} failed</title></rect>"
        )
    return "".join(bars)


def share_bands(
    axis: Axis, changes: Sequence[tuple[float, Sequence[tuple[str, int]]]], providers: Sequence[str]
) -> str:
    """Stacked shares over time; (second, ((provider, share_bp), ...)) holds until the next."""
    top, height, parts = 12, 120, []
    ends = [at_s for at_s, _ in changes[1:]] + [axis.end_s]
    for (at_s, shares), until_s in zip(changes, ends, strict=True):
        if until_s <= axis.start_s or at_s >= axis.end_s:
            continue
        by_name, base = dict(shares), float(top + height)
        left, right = axis.x(at_s), axis.x(until_s)
        for index, name in enumerate(providers):
            part = by_name.get(name, 0) / 10_000 * height
            base -= part
            if part:
                parts.append(
                    f'<rect fill="{COLOURS[index % len(COLOURS)]}" x="{left:.1f}" y="{base:.1f}" '
                    f'width="{max(right - left, 0.8):.1f}" height="{part:.1f}"><title>{escape(name)}: '
                    f"{by_name[name] / 100:.1f} % from {clock(at_s)} to {clock(until_s)}</title></rect>"
                )
    legend = "".join(
        _swatch(COLOURS[i % len(COLOURS)], 4, top + 6 + i * 20) + _label(name, top + 15 + i * 20, x=20)
        for i, name in enumerate(providers)
    )
    return _svg(top + height + 20, "".join(parts) + legend + _ticks(axis, top + height))


def verdict_strips(axis: Axis, strips: Sequence[tuple[str, Sequence[tuple[float, str]]]]) -> str:
    """One strip a provider: (second, status) holds until the next change."""
    parts, step = [], 26
    for row, (name, changes) in enumerate(strips):
        top = 8 + row * step
        parts.append(_label(name, top + 13))
        ends = [at_s for at_s, _ in changes[1:]] + [axis.end_s]
        for (at_s, status), until_s in zip(changes, ends, strict=True):
            left, right = axis.x(at_s), axis.x(until_s)
            parts.append(
                f'<rect fill="{STATUS_COLOURS.get(status, "#999")}" x="{left:.1f}" y="{top}" '
                f'width="{max(right - left, 0.8):.1f}" height="18"><title>'
                f"{escape(name)} {status.upper()} from {clock(at_s)} to {clock(until_s)}</title></rect>"
            )
    legend = "".join(
        _swatch(colour, LEFT + i * 110, 32 + step * len(strips))
        + _label(status.upper(), 21 + step * len(strips) + 20, "dim", x=LEFT + 16 + i * 110)
        for i, (status, colour) in enumerate(STATUS_COLOURS.items())
    )
    bottom = 8 + step * len(strips)
    return _svg(bottom + 48, "".join(parts) + _ticks(axis, bottom) + legend)


def clock(seconds: float) -> str:
    """`T+1:05:00` for seconds from the start of the timeline."""
    sign, whole = ("-", -int(seconds)) if seconds < 0 else ("+", int(seconds))
    return f"T{sign}{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"


def _ticks(axis: Axis, top: float) -> str:
    span = axis.end_s - axis.start_s
    step = next((s for s in (60, 300, 600, 1800, 3600, 7200, 14400) if span / s <= 10), 28_800)
    first = int(axis.start_s // step + (1 if axis.start_s % step else 0)) * step
    return "".join(
        f'<text class="dim" text-anchor="middle" x="{axis.x(s):.1f}" y="{top + 14}">{clock(s)}</text>'
        for s in range(first, int(axis.end_s) + 1, step)
    )


def _percent_failed(points: Sequence[tuple[float, int, int]]) -> str:
    attempts, failed = sum(point[1] for point in points), sum(point[2] for point in points)
    return f"{failed / attempts * 100:.2f} % failed" if attempts else "no attempts"


def _label(text: str, y: float, kind: str = "name", x: float = 4) -> str:
    return f'<text class="{kind}" x="{x}" y="{y}">{escape(text)}</text>'


def _swatch(colour: str, x: float, y: float) -> str:
    return f'<rect fill="{colour}" x="{x}" y="{y}" width="10" height="10" rx="2"/>'


def _svg(height: float, body: str) -> str:
    return f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img">{body}</svg>'
