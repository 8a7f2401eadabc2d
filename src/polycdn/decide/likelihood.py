"""How much one look says: log-likelihood ratios between a healthy and a sick provider, in integer milli-nats.

A look is a coin: it fails with share p0 when the provider is healthy, p1 when it is sick in one of a few
ways. A failure adds ln(p1 / p0) to the score of that way, a success takes ln((1 - p0) / (1 - p1)) away
(decision 0003). What a failure adds is rounded to a whole multiple of what a success takes away, so that a
score lives on a small lattice and its Markov chain is exact.
"""

from dataclasses import dataclass
from functools import cache
from typing import Final

from polycdn.model.units import FULL_BP

SICK_BP: Final = (500, 2_000, FULL_BP)
"""Failure shares of a sick provider that are tested for, the mildest first."""

MILD: Final = 0
MIDDLE: Final = 1
TOTAL: Final = len(SICK_BP) - 1

NOTHING_MNAT: Final = (0,) * len(SICK_BP)
"""The scores of a stream without any doubt."""

SCORE_MAX_MNAT: Final = 40_000
"""Where a score stops growing: above every threshold, and low enough to be forgotten when a fault is over."""

EXCESS_RISE_MNAT: Final = 500
EXCESS_FALL_MNAT: Final = 1_050
"""For pairs of looks that differ, at the provider and at the origin, from one vantage at one time: failing
here and good there adds, the reverse takes away. With no fault of the provider both are equally likely, and
(exp 0.5 + exp -1.05) / 2 < 1 makes the score a CUSUM whose false alarms obey the same bound."""

_SCALE: Final = 10**18
_LN_2: Final = 693_147_180_559_945_309
HEALTHY_MAX_BP: Final = 2_000


@dataclass(frozen=True, slots=True)
class Steps:
    """Milli-nats that one look adds or takes, one per alternative, for one healthy failure share.

    `rise` is for a failure, `fall` for a success. The last alternative, "everything fails", is refuted by any
    success: its fall is the whole score.
    """

    rise: tuple[int, ...]
    fall: tuple[int, ...]


def ln_mnat(above: int, below: int) -> int:
    """1 000 x ln(above / below), rounded, for above >= below > 0; integers only, the same on every
    machine."""
    assert above >= below > 0, f"ln of {above}/{below}"
    doublings = 0
    while above >= 2 * below:
        below *= 2
        doublings += 1
    ratio = (above - below) * _SCALE // (above + below)
    square = ratio * ratio // _SCALE
    total, power, order = 0, ratio, 1
    while power:
        total += power // order
        power = power * square // _SCALE
        order += 2
    return (2 * total + doublings * _LN_2 + _SCALE // 2_000) * 1_000 // _SCALE


def sick_bp(healthy_bp: int) -> tuple[int, ...]:
    """The alternatives tested against this healthy share: never less than two and a half times as much."""
    return tuple(min(FULL_BP, max(share, healthy_bp * 5 // 2)) for share in SICK_BP)


def healthy_levels_bp(floor_bp: int) -> tuple[int, ...]:
    """The healthy failure shares that a stream can learn: the floor, twice and four times it, up to 2 %."""
    floor = min(max(floor_bp, 1), HEALTHY_MAX_BP)
    return (floor, *(level for level in (2 * floor, 4 * floor) if level <= 200))


@cache
def steps_of(healthy_bp: int) -> Steps:
    """The integer table for one healthy failure share (1 to 2 000 bp)."""
    rise, fall = [], []
    for share in sick_bp(healthy_bp):
        full = ln_mnat(share, healthy_bp)
        down = SCORE_MAX_MNAT if share == FULL_BP else max(1, ln_mnat(FULL_BP - healthy_bp, FULL_BP - share))
        fall.append(down)
        rise.append(full if share == FULL_BP else max(1, (full + down // 2) // down) * down)
    return Steps(tuple(rise), tuple(fall))
