"""How often companies fail and for how long: fitted from recorded outages, and drawn for many years."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import exp, log, sqrt
from random import Random
from statistics import fmean, stdev
from typing import Final

from polycdn.incidents import Incident, Kind

YEAR_S: Final = 31_557_600
Z95: Final = 1.959964


@dataclass(frozen=True, slots=True)
class Frequency:
    """Outages of one kind of company, as an estimate. Rates are per company and year, lengths in minutes.

    `rate_low` and `rate_high` bound the Poisson rate at 95 % (Garwood 1936, chi-square by Wilson and Hilferty
    1931); the lengths' geometric mean has a 95 % interval under a log-normal law. `companies` are those that
    failed at least once, so others that never did are not counted and the rate is rather too high; small
    outages that nobody recorded pull the other way.
    """

    kind: Kind
    outages: int
    companies: int
    years: float
    rate: float
    rate_low: float
    rate_high: float
    minutes: float
    minutes_low: float
    minutes_high: float


@dataclass(frozen=True, slots=True)
class Drawn:
    """One outage in the drawn years: which node fails, when (seconds from the start), like which incident."""

    node: str
    start_s: int
    incident: str


def fit(told: Sequence[Incident], kind: Kind) -> Frequency:
    """The estimate for one kind, over the span of all of `told`. Needs at least one outage of the kind."""
    mine = [one for one in told if kind in one.kinds]
    assert mine, f"no outage of kind {kind.value}"
    companies = len({one.provider for one in mine})
    span_ms = max(one.started_ms for one in told) - min(one.started_ms for one in told)
    years = max(1.0, span_ms / 1000 / YEAR_S)
    exposure = companies * years
    count = len(mine)
    logs = [log(max(1, one.duration_ms) / 60_000) for one in mine]
    spread = stdev(logs) / sqrt(count) * _t95(count - 1) if count > 1 else 0.0
    return Frequency(
        kind, count, companies, years, count / exposure,
        _chi_square(-Z95, 2 * count) / 2 / exposure, _chi_square(Z95, 2 * count + 2) / 2 / exposure,
        exp(fmean(logs)), exp(fmean(logs) - spread), exp(fmean(logs) + spread),
    )  # fmt: skip


def draw(
    seed: int, years: int, rates: Mapping[str, tuple[float, Sequence[str]]], scale: float = 1.0
) -> tuple[Drawn, ...]:
    """Outages of every node in so many years, in order of time; one random stream a node.

    `rates`: node -> (outages a year, the incidents that one of them may be like, each as likely).
    """
    found = []
    for node, (rate, like) in rates.items():
        stream = Random(f"{seed}/{node}")
        at_s = 0.0
        while rate > 0:
            at_s += stream.expovariate(rate * scale) * YEAR_S
            if at_s >= years * YEAR_S:
                break
            found.append(Drawn(node, int(at_s), stream.choice(like)))
    return tuple(sorted(found, key=lambda one: (one.start_s, one.node)))


def _chi_square(z: float, degrees: int) -> float:
    """The quantile at the normal quantile `z`."""
    part = 2 / (9 * degrees)
    return float(degrees * max(0.0, 1 - part + z * sqrt(part)) ** 3)


def _t95(degrees: int) -> float:
    """Student's t at 97.5 %, by the expansion of Cornish and Fisher."""
    z = Z95
    return z + (z**3 + z) / (4 * degrees) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * degrees**2)
