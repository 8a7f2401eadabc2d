"""From measures to figures: CPU per request or GiB, medians, spreads, the best peer, the ratio to it."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from rows import GIB, Unit


@dataclass(frozen=True)
class Measure:
    """One target in one round of one row. `figure` is in the row's unit. `extra` is, of a storm, how often
    the origin was asked; of memory, the MiB with the test set, where the figure is of the idle server."""

    figure: float
    rate: float | None = None
    p50_ms: float | None = None
    p99_ms: float | None = None
    extra: float | None = None
    faults: tuple[str, ...] = ()


@dataclass(frozen=True)
class Spread:
    """Median, least and most of some rounds."""

    median: float
    least: float
    most: float


Rounds = Sequence[Measure | None]
"""One target's measures of a row, a place a round; None where it was not measured."""


def cpu_figure(unit: Unit, cpu_ns: int, requests: int, body_bytes: int) -> float:
    """Server CPU in the unit: microseconds per request, or seconds per GiB."""
    if unit is Unit.REQUEST:
        return cpu_ns / 1e3 / max(requests, 1)
    return cpu_ns / 1e9 / max(body_bytes / GIB, 1e-9)


def spread(values: Sequence[float]) -> Spread | None:
    """None of nothing."""
    return Spread(median(values), min(values), max(values)) if values else None


def figures(rounds: Rounds) -> Spread | None:
    """Of the figures themselves."""
    return spread([measure.figure for measure in rounds if measure])


def faults(rounds: Rounds) -> tuple[str, ...]:
    """The different sentences of all rounds, in their order."""
    return tuple(dict.fromkeys(text for measure in rounds if measure for text in measure.faults))


def best(rows: dict[str, Rounds]) -> str | None:
    """Name of the target with the least median among those without a fault; None when there is none."""
    sound = {
        name: found.median
        for name, rounds in rows.items()
        if (found := figures(rounds)) and not faults(rounds)
    }
    return min(sound, key=lambda name: sound[name]) if sound else None


def ratio(ours: Rounds, theirs: Rounds) -> Spread | None:
    """Ours by theirs, round by round, so that only measures of the same moment are compared."""
    return spread(
        [
            mine.figure / other.figure
            for mine, other in zip(ours, theirs, strict=True)
            if mine and other and other.figure > 0
        ]
    )


def middle(rounds: Rounds, name: str) -> float | None:
    """Median of another field, such as p99_ms; None when no round has it."""
    found = spread([value for measure in rounds if measure and (value := getattr(measure, name)) is not None])
    return found.median if found else None
