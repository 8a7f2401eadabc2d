"""How a service is to be steered: the operator's wishes and the bounds of every decision."""

from dataclasses import dataclass
from enum import StrEnum


class Rule(StrEnum):
    """How healthy providers share the traffic."""

    PRIORITY = "priority"
    WEIGHTED = "weighted"
    LATENCY = "latency"
    COST = "cost"


class OnTotalLoss(StrEnum):
    """Whom to serve when every provider looks DOWN."""

    LAST_GOOD = "last_good"
    ALL = "all"
    OWN_EDGE = "own_edge"


@dataclass(frozen=True, slots=True)
class Policy:
    """Bounds and wishes for one service.

    `probe_interval_ms` is the time between two looks of one vantage at one provider: the rate that alarm
    thresholds are calibrated for; `probe_deadline_ms` is how long one look may take, in real time whatever
    the clock. `false_alarm_days` is the mean time between false alarms of one (provider, region).
    `healthy_failure_bp` is the floor of the healthy failure share p0 (decision 0003).
    `slow_ms` is the first-byte time from which a look counts as slow; 0 = latency is not judged.
    """

    rule: Rule = Rule.PRIORITY
    on_total_loss: OnTotalLoss = OnTotalLoss.ALL
    probe_interval_ms: int = 1_000
    probe_deadline_ms: int = 5_000
    false_alarm_days: int = 30
    healthy_failure_bp: int = 50
    slow_ms: int = 0
    move_max_bp: int = 3_000
    dwell_ms: int = 60_000
    ttl_calm_s: int = 60
    ttl_doubt_s: int = 10
    probation_start_bp: int = 500
    probation_step_ms: int = 60_000
    hold_down_ms: int = 300_000
    hold_down_max_ms: int = 7_200_000
    relapse_window_ms: int = 3_600_000
    soak_ms: int = 300_000
    evidence_age_max_ms: int = 60_000
    require_parity: bool = False
