"""Thresholds from the wished rate of false alarms, by the exact Markov chain over the integer table.

The score of a healthy stream is a walk on a lattice that cannot go below zero. Its stationary distribution is
solved exactly, the distribution of the sum over several vantages is its convolution, and the threshold is
the lowest lattice point that is crossed from below at most as often as allowed. Started at zero, a walk is
never ahead of the stationary one, so the bound holds from the first look on (decision 0003; over vantages,
decision 0004).

Integers only: probabilities are fixed-point numbers, so that every machine finds the same threshold.
"""

from dataclasses import dataclass
from functools import cache
from math import comb
from typing import Final

from polycdn.decide.likelihood import MILD, SCORE_MAX_MNAT, TOTAL, sick_bp, steps_of
from polycdn.model.units import FULL_BP

DAY_MS: Final = 86_400_000

LIAR_MARGIN: Final = 50
"""Where vantages are left out, false alarms are held this many times rarer than asked for even while every
vantage left out lies: a lie may last for months (decision 0004)."""

TOTAL_BUDGET_BP: Final = 4_500
MILD_BUDGET_BP: Final = 1_500
"""How the allowed rate is shared out: "everything fails" comes first and takes the coarse step that it
needs, up to 45 %; of what is left, 15 % go to the mildest alternative and the rest to the others alike."""

_BITS: Final = 96
_ONE: Final = 1 << _BITS
_SLOT_BYTES: Final = (2 * _BITS + 32) // 8
_REACH_MNAT: Final = SCORE_MAX_MNAT * 3 // 2


@dataclass(frozen=True, slots=True)
class Limits:
    """Thresholds in milli-nats for a sum over some vantages: one per sick alternative, and the way back.

    `slow` is for slow looks, `excess` for failing where the origin does not (decide/attribute.py).
    """

    down: tuple[int, ...]
    up: int
    slow: int
    excess: int


@cache
def limits(healthy_bp: int, vantages: int, is_robust: bool, rounds: int) -> Limits:
    """Thresholds for the sum over `vantages` that holds one false alarm in `rounds` looks of each of them.

    `is_robust`: others were left out, so that liars cannot add to the sum but may lie for long (LIAR_MARGIN).
    """
    wanted = rounds * (LIAR_MARGIN if is_robust else 1)
    allowed = _ONE // max(1, wanted)
    down = [0] * (TOTAL + 1)
    down[TOTAL], spent = _down_limit(healthy_bp, TOTAL, vantages, allowed * TOTAL_BUDGET_BP // FULL_BP)
    mild = (allowed - spent) * MILD_BUDGET_BP // FULL_BP
    rest = (allowed - spent - mild) // (TOTAL - 1)
    for way in range(TOTAL):
        down[way], _ = _down_limit(healthy_bp, way, vantages, mild if way == MILD else rest)
    middle = down[TOTAL - 1]
    return Limits(tuple(down), _up_limit(healthy_bp, vantages, allowed), middle, middle + 3_000)


def rounds_per_alarm(false_alarm_days: int, probe_interval_ms: int) -> int:
    """Looks of one vantage between two false alarms, as the policy wishes it."""
    return max(1_000, false_alarm_days * DAY_MS // max(1, probe_interval_ms))


def crossing_rate(healthy_bp: int, way: int, vantages: int, limit_mnat: int) -> tuple[int, int]:
    """(numerator, denominator) of the rate, per round, at which the sum passes `limit_mnat` from below."""
    unit, rise = _lattice(healthy_bp, way)
    return _crossed(_tails(healthy_bp, way, vantages), healthy_bp, rise, vantages, limit_mnat // unit), _ONE


def _lattice(healthy_bp: int, way: int) -> tuple[int, int]:
    """Milli-nats of one lattice step, and the steps that one failure climbs."""
    steps = steps_of(healthy_bp)
    if sick_bp(healthy_bp)[way] == FULL_BP:
        return steps.rise[way], 1
    return steps.fall[way], steps.rise[way] // steps.fall[way]


def _down_limit(healthy_bp: int, way: int, vantages: int, allowed: int) -> tuple[int, int]:
    """The lowest limit passed at most `allowed` (of _ONE) a round, in milli-nats, and its true rate."""
    unit, rise = _lattice(healthy_bp, way)
    tails = _tails(healthy_bp, way, vantages)
    low, high = 1, len(tails) - 1
    while low < high:
        middle = (low + high) // 2
        if _crossed(tails, healthy_bp, rise, vantages, middle) <= allowed:
            high = middle
        else:
            low = middle + 1
    return low * unit, _crossed(tails, healthy_bp, rise, vantages, low)


def _crossed(tails: list[int], healthy_bp: int, rise: int, vantages: int, level: int) -> int:
    """Rate (of _ONE) of passing `level`, from above by two exact shares, whichever is the smaller.

    To pass, some of the vantages fail at once and the sum was within their climb; and afterwards it is there.
    """
    if level >= len(tails):
        return 0
    rate = 0
    for failing in range(1, vantages + 1):
        chance = (
            comb(vantages, failing) * healthy_bp**failing * (FULL_BP - healthy_bp) ** (vantages - failing)
        )
        near = tails[max(0, level - failing * rise)] - tails[level]
        rate += chance * near // FULL_BP**vantages + 1
    return min(rate, tails[level])


@cache
def _tails(healthy_bp: int, way: int, vantages: int) -> list[int]:
    """P(sum of the vantages' scores >= i lattice steps), of _ONE, for healthy streams."""
    return _tails_of(_masses(healthy_bp, way, vantages))


@cache
def _masses(healthy_bp: int, way: int, vantages: int) -> list[int]:
    """P(sum of the vantages' scores = i lattice steps), of _ONE, for healthy streams."""
    if vantages > 1:
        return _convolved(_masses(healthy_bp, way, vantages - 1), _masses(healthy_bp, way, 1))
    unit, rise = _lattice(healthy_bp, way)
    size = _REACH_MNAT // unit + 2
    if sick_bp(healthy_bp)[way] == FULL_BP:
        return _runs(healthy_bp, size)
    return _climbs(healthy_bp, rise, size)


def _runs(healthy_bp: int, size: int) -> list[int]:
    """Stationary distribution of "failures in a row"."""
    masses = [_ONE * (FULL_BP - healthy_bp) // FULL_BP]
    while len(masses) < size:
        masses.append(masses[-1] * healthy_bp // FULL_BP)
    return masses


def _climbs(healthy_bp: int, rise: int, size: int) -> list[int]:
    """Stationary distribution of a walk that climbs `rise` on a failure and falls 1 on a success, never
    below 0.

    As much goes up across any cut as comes down: q x[s + 1] = p (x[s] + ... + x[s - rise + 1]).
    """
    masses = [_ONE]
    window = _ONE
    while len(masses) < size:
        masses.append(window * healthy_bp // (FULL_BP - healthy_bp))
        window += masses[-1] - (masses[-1 - rise] if len(masses) > rise else 0)
    total = sum(masses)
    return [mass * _ONE // total for mass in masses]


def _up_limit(healthy_bp: int, vantages: int, allowed: int) -> int:
    """The threshold of the way back: passed at most `allowed` (of _ONE) a round by a mildly sick provider.

    Each success climbs one step, each failure falls `rise`; such a walk is geometric: mass ~ root ** step
    with root = q + p root ** (rise + 1), q and p being the shares of successes and failures of the sick one.
    """
    unit, rise = _lattice(healthy_bp, MILD)
    sick = sick_bp(healthy_bp)[MILD]
    root = _root(sick, rise)
    single = [_ONE - root]
    for _ in range(_REACH_MNAT // unit + 1):
        single.append(single[-1] * root // _ONE)
    masses = single
    for _ in range(vantages - 1):
        masses = _convolved(masses, single)
    tails = _tails_of(masses)
    low, high = vantages, len(tails) - 1
    while low < high:
        middle = (low + high) // 2
        if tails[middle - vantages] - tails[middle] <= allowed:
            high = middle
        else:
            low = middle + 1
    return low * unit


def _root(sick_share_bp: int, rise: int) -> int:
    low, high = _ONE // 2, _ONE - (_ONE >> 24)
    for _ in range(_BITS):
        middle = (low + high) // 2
        power = _ONE
        for _ in range(rise + 1):
            power = power * middle // _ONE
        if (FULL_BP - sick_share_bp) * _ONE + sick_share_bp * power < middle * FULL_BP:
            high = middle
        else:
            low = middle
    return high


def _tails_of(masses: list[int]) -> list[int]:
    tails = [0]
    for mass in reversed(masses):
        tails.append(tails[-1] + mass)
    tails.reverse()
    return tails


def _convolved(left: list[int], right: list[int]) -> list[int]:
    """The distribution of a sum, cut to the length of `left`: one product of two long integers
    (Kronecker)."""
    product = (_packed(left) * _packed(right)).to_bytes(2 * len(left) * _SLOT_BYTES, "little")
    return [
        int.from_bytes(product[at * _SLOT_BYTES : (at + 1) * _SLOT_BYTES], "little") >> _BITS
        for at in range(len(left))
    ]


def _packed(masses: list[int]) -> int:
    return int.from_bytes(b"".join(mass.to_bytes(_SLOT_BYTES, "little") for mass in masses), "little")
