"""Where a provider stands, and the verdict on it.

| stands | and | becomes |
|---|---|---|
| UNKNOWN (never seen) | enough vantages are fresh | UP |
| UP | evidence at its limit, not held back by `attribute` | DOWN, for the hold-down at least |
| DOWN | hold-down over, evidence of health at its limit, last looks good | UP on probation |
| UP on probation | clean for a step | its ceiling doubles, until it is 100 % |

Without enough fresh evidence nothing here changes, and the verdict shown is UNKNOWN.
"""

from dataclasses import replace
from functools import lru_cache
from typing import Final

from polycdn.decide.agree import Opinion
from polycdn.decide.attribute import DOUBT_BP, Finding
from polycdn.decide.layout import Seat
from polycdn.decide.likelihood import MILD, TOTAL, steps_of
from polycdn.decide.words import utc
from polycdn.model.policy import Policy
from polycdn.model.state import Standing
from polycdn.model.units import FULL_BP
from polycdn.model.verdict import Blame, Status, Verdict

_WAYS: Final = ("some requests fail", "many requests fail", "everything fails")

LATENCY_SLACK_PARTS: Final = 8
"""The first-byte time of a verdict stays as it is until it is more than an eighth off."""


def stand(standing: Standing, opinion: Opinion, is_held: bool, policy: Policy, now_ms: int) -> Standing:
    """Where the provider stands after this opinion; the same object if nothing changes."""
    if not opinion.has_quorum:
        return standing
    if standing.status is Status.DOWN:
        if opinion.up_mnat <= 0:
            return _held_anew(standing, opinion.seen_ms, policy)
        if now_ms >= standing.hold_until_ms and _is_well(opinion):
            return _let_back_in(standing, policy, now_ms)
        return standing
    if opinion.is_alarmed and not is_held:
        return _put_out(standing, policy, now_ms)
    if standing.status is not Status.UP:
        return replace(standing, status=Status.UP, since_ms=now_ms)
    if standing.probation_since_ms:
        return _earned(standing, opinion, policy, now_ms)
    return standing


def _is_well(opinion: Opinion) -> bool:
    return opinion.up_mnat >= opinion.limits.up and 4 * opinion.total_mnat < opinion.limits.down[TOTAL]


def _put_out(standing: Standing, policy: Policy, now_ms: int) -> Standing:
    """DOWN. A relapse, on probation or soon after the way back, doubles the hold-down."""
    is_relapse = standing.down_since_ms > 0 and (
        standing.probation_since_ms > 0 or now_ms - standing.since_ms <= policy.relapse_window_ms
    )
    relapses = standing.relapses + 1 if is_relapse else 0
    return Standing(
        standing.provider,
        standing.region,
        status=Status.DOWN,
        since_ms=now_ms,
        hold_until_ms=now_ms + _hold_ms(relapses, policy),
        relapses=relapses,
        down_since_ms=now_ms,
    )


def _hold_ms(relapses: int, policy: Policy) -> int:
    longest_ms = max(policy.hold_down_ms, policy.hold_down_max_ms)
    return min(policy.hold_down_ms << min(relapses, 32), longest_ms)


def _held_anew(standing: Standing, seen_ms: int, policy: Policy) -> Standing:
    """The hold-down runs from the last look at which nothing spoke for health, not from the verdict: who
    fails for as long as the hold-down lasts would otherwise be let in the moment that it turns good."""
    until_ms = seen_ms + _hold_ms(standing.relapses, policy)
    return replace(standing, hold_until_ms=until_ms) if until_ms > standing.hold_until_ms else standing


def _let_back_in(standing: Standing, policy: Policy, now_ms: int) -> Standing:
    is_short = policy.probation_start_bp >= FULL_BP
    return replace(
        standing,
        status=Status.UP,
        since_ms=now_ms,
        probation_since_ms=0 if is_short else now_ms,
        probation_bp=FULL_BP if is_short else max(1, policy.probation_start_bp),
        clean_since_ms=now_ms,
    )


def _earned(standing: Standing, opinion: Opinion, policy: Policy, now_ms: int) -> Standing:
    """A step of probation ends after a whole step without doubt; doubt starts it anew."""
    if opinion.progress_bp >= DOUBT_BP:
        return standing if standing.clean_since_ms == now_ms else replace(standing, clean_since_ms=now_ms)
    steps = (now_ms - standing.clean_since_ms) // max(1, policy.probation_step_ms)
    if steps < 1:
        return standing
    ceiling = min(FULL_BP, standing.probation_bp << 1)
    if ceiling == FULL_BP:
        return replace(standing, probation_since_ms=0, probation_bp=FULL_BP, clean_since_ms=0)
    return replace(standing, probation_bp=ceiling, clean_since_ms=now_ms)


def verdict_on(
    seat: Seat,
    opinion: Opinion,
    standing: Standing,
    finding: Finding,
    past: Verdict | None,
    policy: Policy,
    now_ms: int,
) -> Verdict:
    """The verdict, the very same object as `past` if nothing of it changes."""
    if past is not None and _is_uneventful(opinion, standing, past):
        return past
    status = _shown(standing, opinion)
    blame = finding.blame
    if (
        standing.status is Status.DOWN
        and standing.since_ms != now_ms
        and past
        and past.blame is not Blame.NOBODY
    ):
        blame = past.blame
    verdict = Verdict(
        provider=seat.provider,
        region=seat.region,
        status=status,
        since_ms=past.since_ms if past and past.status is status else now_ms,
        alarm_bp=FULL_BP if standing.status is Status.DOWN else min(FULL_BP, opinion.progress_bp),
        blame=blame,
        latency_ms=_steady_latency_ms(opinion.latency_ms, past.latency_ms if past else 0),
        left_out=opinion.left_out,
        minority=opinion.minority,
        earliest_change_ms=_earliest_change_ms(standing, opinion, policy, now_ms),
        why=_why(seat, opinion, standing, finding, now_ms),
    )
    return past if past == verdict and past is not None else verdict


def _is_uneventful(opinion: Opinion, standing: Standing, past: Verdict) -> bool:
    """Whether all is well and was so: good before, no evidence of anything now, as fast as before."""
    return (
        past.status is Status.UP
        and standing.status is Status.UP
        and opinion.kept > 0
        and not (past.alarm_bp or past.minority or past.left_out or past.earliest_change_ms)
        and not (opinion.evidence_mnat or opinion.minority or opinion.left_out or opinion.slow_mnat)
        and past.blame is Blame.NOBODY
        and _steady_latency_ms(opinion.latency_ms, past.latency_ms) == past.latency_ms
        and past.why == _calm(past.provider, opinion.limits.down[opinion.way], ())
    )


def _shown(standing: Standing, opinion: Opinion) -> Status:
    if not opinion.has_quorum or standing.status is Status.UNKNOWN:
        return Status.UNKNOWN
    if standing.status is Status.DOWN:
        return Status.DOWN
    is_doubtful = opinion.progress_bp >= DOUBT_BP or opinion.slow_mnat >= opinion.limits.slow
    return Status.DEGRADED if is_doubtful else Status.UP


def _steady_latency_ms(latency_ms: int, past_ms: int) -> int:
    if not latency_ms or LATENCY_SLACK_PARTS * abs(latency_ms - past_ms) <= past_ms:
        return past_ms
    return latency_ms


def _earliest_change_ms(standing: Standing, opinion: Opinion, policy: Policy, now_ms: int) -> int:
    """While out: when hold-down is over and good looks alone have been enough. 0: with the next look, or
    one step on."""
    if standing.status is not Status.DOWN or not opinion.has_quorum:
        return 0
    missing = max(0, opinion.limits.up - opinion.up_mnat)
    looks = -(-missing // (opinion.kept * steps_of(policy.healthy_failure_bp).fall[MILD]))
    return max(standing.hold_until_ms, now_ms + looks * policy.probe_interval_ms)


def _why(seat: Seat, opinion: Opinion, standing: Standing, finding: Finding, now_ms: int) -> str:
    if not opinion.has_quorum:
        return _too_few(seat.provider, opinion.fresh, seat.known)
    if standing.status is Status.DOWN and standing.since_ms < now_ms:
        return _out(seat.provider, opinion, standing)
    if opinion.slow_mnat >= opinion.limits.slow and opinion.progress_bp < DOUBT_BP:
        slow, limit = _nats(opinion.slow_mnat), _nats(opinion.limits.slow)
        return f"{seat.provider} answers slowly: evidence {slow} nats, limit {limit}"
    if not opinion.evidence_mnat:
        return _calm(seat.provider, opinion.limits.down[opinion.way], opinion.minority)
    held = f"; it stays, the fault is of: {finding.blame.value}" if finding.is_held else ""
    return (
        f"{seat.provider}: evidence that {_WAYS[opinion.way]} {_nats(opinion.evidence_mnat)} nats, "
        f"alarm at {_nats(opinion.limits.down[opinion.way])}{held}"
    )


def _out(provider: str, opinion: Opinion, standing: Standing) -> str:
    if opinion.up_mnat <= 0:
        return f"{provider} stays out: it still fails, nothing speaks for its health yet"
    return (
        f"{provider} stays out: evidence of health {_nats(opinion.up_mnat)} nats of "
        f"{_nats(opinion.limits.up)} that let it back in, hold-down until {utc(standing.hold_until_ms)}"
    )


@lru_cache(maxsize=1_024)
def _calm(provider: str, limit_mnat: int, minority: tuple[str, ...]) -> str:
    alone = f"; only {', '.join(minority)} says that it is down" if minority else ""
    return f"{provider} is good: evidence of failure 0.0 nats, alarm at {_nats(limit_mnat)}{alone}"


@lru_cache(maxsize=1_024)
def _too_few(provider: str, fresh: int, known: int) -> str:
    return f"{provider} is not known: {fresh} of {known} vantages have fresh evidence, too few to judge by"


def _nats(mnat: int) -> str:
    return f"{mnat // 1_000}.{mnat % 1_000 // 100}"
