"""From measures to figures: CPU per request or GiB, medians, spreads, the best peer, the ratio to it."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from throughput.rows import GIB, Unit


@dataclass(frozen=True)
class Measure:
    """One target in one round of one row. `figure` is in the row's unit, None when the round failed.

    `extra` is, of a storm, how often the origin was asked; of memory, MiB with the test set. `figure` is then
    MiB when idle.
    """

    figure: float | None = None
    rate: float | None = None
    p50_ms: float | None = None
    p99_ms: float | None = None
    extra: float | None = None
    faults: tuple[str, ...] = ()

    def stored(self) -> dict[str, object]:
        """What it has, for a result file; `Measure.of` reads it back."""
        return {
            name: round(value, 4) if isinstance(value, float) else value
            for name, value in asdict(self).items()
            if value not in (None, ())
        }

    @staticmethod
    def of(stored: Mapping[str, Any]) -> "Measure":
        """What was stored."""
        return Measure(**{**stored, "faults": tuple(stored.get("faults", ()))})


@dataclass(frozen=True)
class Spread:
    """Median, least and most of `count` rounds."""

    median: float
    least: float
    most: float
    count: int


Rounds = Sequence[Measure]
"""One target's measures of a row, a place a round."""


def cpu_figure(unit: Unit, cpu_ns: int, requests: int, body_bytes: int) -> float | None:
    """Server CPU in the unit, microseconds per request or seconds per GiB; None of no requests."""
    if not requests or not body_bytes:
        return None
    return cpu_ns / 1e3 / requests if unit is Unit.REQUEST else cpu_ns / 1e9 / (body_bytes / GIB)


def spread(values: Sequence[float]) -> Spread | None:
    """None of nothing."""
    return Spread(median(values), min(values), max(values), len(values)) if values else None


def over(rounds: Rounds, name: str = "figure") -> Spread | None:
    """Of one field over the rounds that have it."""
    return spread([value for measure in rounds if (value := getattr(measure, name)) is not None])


def faults(rounds: Rounds) -> tuple[str, ...]:
    """The different sentences of all rounds, in their order."""
    return tuple(dict.fromkeys(text for measure in rounds for text in measure.faults))


def best(by_target: Mapping[str, Rounds]) -> str | None:
    """Name of the target with the least median among those without a fault; None when there is none."""
    medians = {
        name: found.median
        for name, rounds in by_target.items()
        if (found := over(rounds)) and not faults(rounds)
    }
    return min(medians, key=lambda name: medians[name]) if medians else None


def ratio(ours: Rounds, theirs: Rounds, name: str = "figure") -> Spread | None:
    """Ours by theirs, round by round, so that only measures of the same few seconds are compared."""
    pairs = [(getattr(mine, name), getattr(other, name)) for mine, other in zip(ours, theirs, strict=True)]
    return spread([mine / other for mine, other in pairs if mine is not None and other])
