"""When looks are due: each once, evenly, never in a burst, never above the budget."""

from hypothesis import given
from hypothesis import strategies as st

from polycdn.measure.schedule import Budget, Lags, Rhythm, Schedule

START = 1_700_000_000_000


def rhythms(count: int, interval_ms: int = 1_000) -> tuple[Rhythm, ...]:
    return tuple(Rhythm(f"www/cdn-{index}", START, interval_ms, seed=7) for index in range(count))


def run(schedule: Schedule, start_ms: int, end_ms: int):
    """Every look that is handed out when the caller always comes back in time."""
    now_ms, taken = start_ms, []
    while now_ms < end_ms:
        taken += [(now_ms, due) for due in schedule.take(now_ms)]
        now_ms = max(now_ms + 1, schedule.next_ms(now_ms))
    return taken


def test_each_look_is_due_once_and_on_time():
    taken = run(Schedule(rhythms(5), START), START, START + 10_000)
    assert len(taken) == 50
    assert len({(due.target, due.sequence) for _now, due in taken}) == 50
    assert all(now_ms == due.at_ms for now_ms, due in taken)
    assert all(due.skipped == 0 for _now, due in taken)


def test_targets_spread_over_the_interval():
    phases = sorted(rhythm.first_ms - START for rhythm in rhythms(200))
    assert phases[0] >= 0 and phases[-1] < 1_000
    assert len(set(phases)) > 150
    assert 80 < sum(phase < 500 for phase in phases) < 120


def test_the_same_seed_looks_at_the_same_moments_and_another_does_not():
    assert Rhythm("a", START, 1_000, 1).first_ms == Rhythm("a", START, 1_000, 1).first_ms
    assert len({Rhythm("a", START, 1_000, seed).first_ms for seed in range(20)}) > 10


def test_after_a_pause_only_the_newest_look_is_due():
    schedule = Schedule(rhythms(3), START)
    assert len(run(schedule, START, START + 2_000)) == 6
    late = schedule.take(START + 60_000)
    assert len(late) == 3
    assert all(START + 59_000 < due.at_ms <= START + 60_000 for due in late)
    assert schedule.skipped == 3 * 57
    assert schedule.take(START + 60_000) == ()


def test_a_schedule_made_late_does_not_count_what_was_before_it():
    schedule = Schedule(rhythms(3), START + 3_600_000)
    assert schedule.take(START + 3_600_000) == ()
    assert len(run(schedule, START + 3_600_000, START + 3_601_000)) == 3
    assert schedule.skipped == 0


def test_the_budget_holds_and_nobody_starves():
    schedule = Schedule(rhythms(20), START, looks_per_s=5)
    taken = run(schedule, START, START + 40_000)
    for second in range(START // 1_000, START // 1_000 + 40):
        assert sum(now_ms // 1_000 == second for now_ms, _due in taken) <= 5
    counts = {
        target: sum(due.target == target for _now, due in taken) for target in {d.target for _n, d in taken}
    }
    assert len(counts) == 20
    assert min(counts.values()) >= max(counts.values()) - 2
    assert schedule.skipped > 0


@given(st.lists(st.integers(1, 5_000), min_size=1, max_size=60), st.integers(1, 6), st.integers(100, 3_000))
def test_whenever_the_caller_comes_looks_are_never_early_never_twice_and_all_accounted_for(
    pauses_ms, targets, interval_ms
):
    schedule = Schedule(rhythms(targets, interval_ms), START)
    seen: dict[str, int] = {}
    now_ms, handed = START, 0
    for pause_ms in pauses_ms:
        now_ms += pause_ms
        for due in schedule.take(now_ms):
            assert due.at_ms <= now_ms < due.at_ms + interval_ms
            assert due.sequence > seen.get(due.target, -1)
            seen[due.target] = due.sequence
            handed += 1
        assert schedule.next_ms(now_ms) > now_ms
    first = [rhythm.newest(START) + 1 for rhythm in rhythms(targets, interval_ms)]
    newest = [rhythm.newest(now_ms) + 1 for rhythm in rhythms(targets, interval_ms)]
    assert handed + schedule.skipped == sum(newest) - sum(first)


def test_a_budget_is_renewed_each_second():
    budget = Budget(3)
    assert budget.take(2, 10_000) == 2
    assert budget.take(2, 10_500) == 1
    assert budget.renewed_ms(10_500) == 11_000
    assert budget.take(5, 11_000) == 3


def test_p99_is_the_lag_that_99_of_100_stay_within():
    lags = Lags()
    assert lags.p99_ms() == 0
    for lag_ms in range(1, 101):
        lags.add(lag_ms)
    assert lags.p99_ms() == 99
    lags = Lags()
    for lag_ms in [0] * 99 + [5_000]:
        lags.add(lag_ms)
    assert lags.p99_ms() == 0
    lags.add(5_000)
    assert lags.p99_ms() == 5_000
