"""The rules that people use now, measured: looks to the alarm, and false alarms among good looks."""

import random
from dataclasses import dataclass
from math import ceil, log, log1p

from polycdn.decide.threshold import (
    FIVE_ERRORS,
    GDNSD,
    POWERGSLB,
    THREE_IN_A_ROW,
    Average,
    Tally,
    Threshold,
    Window,
    five_minute_average,
)

EVERY_S = 10

RULES: dict[str, Threshold | Average] = {
    "3 in a row, every 10 s": THREE_IN_A_ROW,
    "gdnsd's counters (10 / 10 / 20), every 10 s": GDNSD,
    "PowerGSLB, fall 3 / rise 5, every 10 s": POWERGSLB,
    "5 consecutive 5xx, every 10 s": FIVE_ERRORS,
    "5-minute average under 90 %, every 10 s": five_minute_average(EVERY_S * 1_000),
}


@dataclass(frozen=True)
class Delay:
    """Looks from the start of a fault to the alarm."""

    mean: float
    p99: int


def delay_of(rule: Threshold | Average, share: float, seed: int, runs: int) -> Delay:
    """Exact, by the Markov chain, for a counting rule; measured over `runs` for an average."""
    if isinstance(rule, Threshold):
        return _exact(rule, share)
    dice = random.Random(seed)
    taken = sorted(_looks_to_alarm(rule, share, dice) for _ in range(runs))
    return Delay(sum(taken) / runs, taken[runs * 99 // 100])


def looks_between_false_alarms(rule: Threshold | Average, share: float, seed: int, failures: int) -> float:
    """Good looks from one false alarm to the next; for an average, over so many failures drawn with their
    gaps."""
    if isinstance(rule, Threshold):
        return _exact(rule, share).mean
    dice = random.Random(seed)
    needed = int(rule.looks * (10_000 - rule.good_bp) // 10_000) + 1
    at, alarms, recent = 0, 0, []
    for _ in range(failures):
        at += 1
        while dice.random() >= share:
            at += 1
        recent = [*(look for look in recent if at - look < rule.looks), at]
        if len(recent) >= needed:
            alarms, recent = alarms + 1, []
    return at / max(1, alarms)


def _looks_to_alarm(rule: Average, share: float, dice: random.Random) -> int:
    window, looks = Window(False, (True,) * rule.looks), 0
    while not window.is_down:
        window = rule.after(window, dice.random() >= share)
        looks += 1
    return looks


def _exact(rule: Threshold, share: float) -> Delay:
    """Mean and 99th percentile by the chain of tallies; once the loss per look is steady, the rest is
    geometric."""
    now, alive, mean, p99, looks, last = {Tally(): 1.0}, 1.0, 0.0, 0, 0, -1.0
    while True:
        mean += alive
        looks += 1
        after: dict[Tally, float] = {}
        lost = 0.0
        for tally, mass in now.items():
            for is_good, chance in ((True, 1 - share), (False, share)):
                to = rule.after(tally, is_good)
                if to.is_down:
                    lost += mass * chance
                elif chance:
                    after[to] = after.get(to, 0.0) + mass * chance
        rate = lost / alive
        alive -= lost
        now = after
        if not p99 and alive <= 0.01:
            p99 = looks
        if alive < 1e-12:
            return Delay(mean, p99)
        if looks > 500 and abs(rate - last) <= 1e-9 * rate:
            return Delay(mean + alive / rate, p99 or looks + _more(alive, rate))
        last = rate


def _more(alive: float, rate: float) -> int:
    """Looks until no more than 1 % are left, at a steady loss."""
    return ceil(log(0.01 / alive) / log1p(-rate))
