"""Down, the way back, hold-down and probation; and the same rule in C, look for look."""

import random
import shutil
import sys
from pathlib import Path

import pytest
from rounds import Play, failing, service

from polycdn.decide.judge import stand
from polycdn.model.policy import Policy
from polycdn.model.state import Standing
from polycdn.model.verdict import Status

BENCH = Path(__file__).parent.parent.parent / "bench" / "detect"
SHORT = Policy(
    hold_down_ms=60_000, hold_down_max_ms=400_000, relapse_window_ms=600_000, probation_step_ms=10_000
)


def one(policy: Policy = SHORT, seed: int = 0) -> Play:
    return Play(service("a", "b", origin=False), policy, seed)


def moves(play: Play) -> list[Status]:
    return [status for _, _, status in play.moves]


def test_a_full_outage_shows_in_two_rounds():
    play = one()
    play.watch(50)
    play.watch(2, failing("a"))
    assert play.verdict().status is Status.DOWN
    assert play.standing().hold_until_ms == play.now_ms - 1_000 + 60_000


def test_a_single_failure_everywhere_is_a_doubt_and_no_more():
    play = one()
    play.watch(10)
    play.watch(1, failing("a"))
    assert play.verdict().status is Status.DEGRADED
    assert 2_500 <= play.verdict().alarm_bp < 10_000
    play.watch(60)
    assert (play.verdict().status, play.moves) == (Status.UP, [])


def test_it_comes_back_when_hold_down_is_over_and_health_is_proven():
    play = one(Policy(hold_down_ms=600_000))
    play.watch(5, failing("a"))
    play.watch(590)
    assert play.verdict().status is Status.DOWN
    assert play.verdict().earliest_change_ms == play.standing().hold_until_ms
    play.watch(15)
    assert play.verdict().status is Status.UP
    assert play.standing().probation_bp == 500


def test_it_does_not_come_back_on_hold_down_alone():
    play = one()
    play.watch(5, failing("a"))
    play.watch(150)
    assert play.now_ms > play.standing().hold_until_ms
    assert play.verdict().status is Status.DOWN
    assert "evidence of health" in play.verdict().why


def test_it_does_not_come_back_while_a_twentieth_fails():
    play = one(seed=5)
    play.watch(5, failing("a"))
    play.watch(2_000, failing("a", share=0.05))
    assert moves(play) == [Status.DOWN]


def test_it_does_not_come_back_at_the_moment_it_fails_again():
    play = one(Policy(hold_down_ms=300_000))
    play.watch(5, failing("a"))
    play.watch(293)
    play.watch(20, failing("a"))
    assert moves(play) == [Status.DOWN]


def test_the_ceiling_doubles_with_each_clean_step_until_it_is_whole():
    play = one()
    play.watch(5, failing("a"))
    seen = []
    while play.standing().status is Status.DOWN:
        play.watch(1)
    while play.standing().probation_since_ms:
        seen.append(play.standing().probation_bp)
        play.watch(1)
    assert sorted(set(seen)) == [500, 1_000, 2_000, 4_000, 8_000]
    assert [seen.count(ceiling) for ceiling in sorted(set(seen))] == [10] * 5
    assert play.standing().probation_bp == 10_000


def test_doubt_on_probation_starts_the_step_anew():
    play = one()
    play.watch(5, failing("a"))
    while play.standing().status is Status.DOWN:
        play.watch(1)
    play.watch(9)
    play.watch(1, failing("a"))
    play.watch(9)
    assert play.standing().probation_bp == 500
    play.watch(30)
    assert play.standing().probation_bp > 500


def test_every_relapse_doubles_the_hold_down_up_to_its_limit():
    play = one()
    holds = []
    for _ in range(5):
        while play.round == 0 or play.standing().status is not Status.DOWN:
            play.watch(1, failing("a"))
        holds.append(play.standing().hold_until_ms - play.standing().since_ms)
        while play.standing().status is Status.DOWN:
            play.watch(1)
    assert holds == [60_000, 120_000, 240_000, 400_000, 400_000]
    assert play.standing().relapses == 4


def test_a_fault_long_after_the_last_one_is_no_relapse():
    play = one()
    play.watch(5, failing("a"))
    play.watch(300)
    assert moves(play) == [Status.DOWN, Status.UP]
    play.watch(700)
    play.watch(5, failing("a"))
    assert play.standing().relapses == 0


def test_a_relapse_in_the_window_counts_even_after_probation():
    play = one()
    play.watch(5, failing("a"))
    play.watch(400)
    assert play.standing().probation_since_ms == 0
    play.watch(5, failing("a"))
    assert play.standing().relapses == 1


def test_slow_answers_degrade_and_do_not_remove():
    from rounds import look

    play = one(Policy(slow_ms=300))
    for _ in range(20):
        play.hear(*(look(play.now_ms, "a", vantage, first_byte_ms=900) for vantage in ("v0", "v1", "v2")))
    assert play.verdict().status is Status.DEGRADED
    assert "slowly" in play.verdict().why
    assert play.verdict().latency_ms == 900
    assert play.moves == []


def test_without_quorum_a_standing_stays_as_it_is():
    play = one()
    play.watch(5, failing("a"))
    standing = play.standing()
    play.round += 500
    play.hear()
    assert play.standing() is standing
    assert play.verdict().status is Status.UNKNOWN


def test_a_policy_without_probation_lets_back_in_at_once():
    play = one(Policy(hold_down_ms=1_000, probation_start_bp=10_000))
    play.watch(5, failing("a"))
    while play.standing().status is Status.DOWN:
        play.watch(1)
    assert (play.standing().probation_since_ms, play.standing().probation_bp) == (0, 10_000)


def test_standing_is_the_same_object_when_nothing_changes():
    play = one()
    play.watch(3)
    before = play.standing()
    play.watch(100)
    assert play.standing() is before
    assert isinstance(before, Standing)
    assert callable(stand)


@pytest.mark.parametrize("vantages", [1, 2, 3, 5])
@pytest.mark.skipif(not any(map(shutil.which, ("cc", "gcc", "clang"))), reason="no C compiler")
def test_the_c_program_of_the_benchmark_follows_the_same_rule(vantages, tmp_path):
    """bench/detect/detect.c states the rule a second time; here both hear the same looks."""
    sys.path.insert(0, str(BENCH))
    try:
        from table import compiled, program_of, rule_of
    finally:
        sys.path.remove(str(BENCH))
    program = program_of(compiled(tmp_path), rule_of(SHORT, vantages), "rule")
    dice = random.Random(vantages)
    shares = [share for share in (0.0, 0.3, 0.0, 1.0, 0.0, 0.1, 0.005, 0.6) for _ in range(400)]
    rounds = [[dice.random() < share for _ in range(vantages)] for share in shares]
    answers = program.ask("trace", stdin="".join("".join("01"[f] for f in found) + "\n" for found in rounds))
    play = Play(service("cdn", vantages=vantages, origin=False), SHORT)
    width = len(answers) // len(rounds)
    for at, found in enumerate(rounds):
        play.watch(1, lambda _name, vantage, _round, found=found: float(found[int(vantage[1:])]))
        told = list(map(int, answers[width * at : width * (at + 1)]))
        standing, scores = play.found.standings[0], play.found.streams[0].down_mnat
        bp = standing.probation_bp if standing.probation_since_ms else 0
        assert told[0] == (standing.status is Status.DOWN)
        assert (*told[2:5], told[5], told[6]) == (*scores, bp, standing.relapses), f"round {at}"
    assert {move[2] for move in play.moves} == {Status.DOWN, Status.UP}
