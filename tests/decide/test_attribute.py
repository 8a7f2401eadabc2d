"""Whose fault it is, and that an origin's fault moves nobody."""

import pytest
from rounds import Play, failing, look, service

from polycdn.model.observation import Reason
from polycdn.model.units import ORIGIN
from polycdn.model.verdict import Blame, Status

EVERYTHING = ("a", "b", "c", ORIGIN)


def test_one_provider_failing_while_the_others_are_good_is_its_own_fault():
    play = Play(seed=1)
    play.watch(5, failing("a"))
    assert (play.verdict().status, play.verdict().blame) == (Status.DOWN, Blame.PROVIDER)
    assert [v.blame for v in play.found.verdicts[1:]] == [Blame.NOBODY, Blame.NOBODY]


def test_all_failing_with_the_origin_is_the_origins_fault():
    play = Play()
    play.watch(200, failing(*EVERYTHING))
    assert play.moves == []
    assert {v.status for v in play.found.verdicts} == {Status.DEGRADED}
    assert {v.blame for v in play.found.verdicts} == {Blame.ORIGIN}
    assert {"origin_failing", "fault_elsewhere"} == {note.code for note in play.found.notes}


@pytest.mark.parametrize("share", [0.05, 0.1, 0.2, 0.4, 0.6, 0.9])
@pytest.mark.parametrize("who", [EVERYTHING, ("a", ORIGIN)], ids=["all pass it on", "one passes it on"])
def test_an_origin_that_fails_in_part_moves_nobody(share, who):
    for seed in range(3):
        play = Play(seed=seed)
        play.watch(150, failing(*who, share=share))
        assert play.moves == []


def test_a_provider_that_serves_from_cache_stays_good_while_the_origin_is_gone():
    play = Play()
    play.watch(60, failing("a", "c", ORIGIN))
    assert play.moves == []
    assert play.verdict("a").blame is Blame.ORIGIN
    assert (play.verdict("b").status, play.verdict("b").blame) == (Status.UP, Blame.NOBODY)


def test_providers_seen_failing_a_round_before_the_origin_are_not_left():
    play = Play()
    play.watch(1, failing("a", "b", "c"))
    play.watch(50, failing(*EVERYTHING))
    assert play.moves == []


def test_a_provider_that_fails_far_beyond_a_troubled_origin_is_left():
    play = Play(seed=4)
    play.watch(300, lambda name, *_: 1.0 if name == "a" else 0.1 if name in ("b", ORIGIN) else 0.0)
    assert [move[1] for move in play.moves] == ["a"]
    assert play.verdict().blame is Blame.PROVIDER


def test_after_the_origins_fault_is_over_a_failing_provider_is_left_soon():
    play = Play()
    play.watch(200, failing(*EVERYTHING))
    play.watch(60)
    play.watch(60, failing("a"))
    assert [(move[1], move[2]) for move in play.moves] == [("a", Status.DOWN)]


def test_a_vantage_that_lies_about_the_origin_does_not_hide_a_failing_provider():
    play = Play()
    play.watch(
        15, lambda name, vantage, _: 1.0 if name == "a" or (name == ORIGIN and vantage == "v0") else 0.0
    )
    assert play.verdict().status is Status.DOWN


def test_a_provider_that_is_down_stays_down_when_the_origin_fails_too():
    play = Play()
    play.watch(10, failing("a"))
    play.watch(500, failing(*EVERYTHING))
    assert play.verdict("a").status is Status.DOWN
    assert [move[1] for move in play.moves] == ["a"]


def test_only_one_vantage_failing_for_all_is_the_vantages_fault():
    play = Play()
    play.watch(30, failing(*EVERYTHING, vantages=("v1",)))
    assert play.moves == []
    for verdict in play.found.verdicts:
        assert (verdict.status, verdict.blame) == (Status.UP, Blame.VANTAGE)
        assert verdict.minority == verdict.left_out == ("v1",)
    assert {note.code for note in play.found.notes} == {"minority"}


def test_one_vantage_failing_for_one_provider_is_not_decidable():
    play = Play()
    play.watch(30, failing("a", vantages=("v1",)))
    assert (play.verdict().status, play.verdict().blame) == (Status.UP, Blame.UNKNOWN)
    assert play.verdict().minority == ("v1",)
    assert "v1" in play.verdict().why


def test_names_that_do_not_resolve_are_dns_faults():
    play = Play()
    for _ in range(6):
        seen = [look(play.now_ms, name, v) for name in ("b", "c", ORIGIN) for v in ("v0", "v1", "v2")]
        seen += [look(play.now_ms, "a", v, False, reason=Reason.DNS_TIMEOUT) for v in ("v0", "v1", "v2")]
        play.hear(*seen)
    assert (play.verdict().status, play.verdict().blame) == (Status.DOWN, Blame.DNS)


def test_without_an_origin_to_compare_the_good_others_decide():
    play = Play(service("a", "b", origin=False))
    play.watch(5, failing("a"))
    assert (play.verdict().status, play.verdict().blame) == (Status.DOWN, Blame.PROVIDER)


def test_without_an_origin_all_failing_alike_are_all_down_and_nobody_knows_why():
    play = Play(service(origin=False))
    play.watch(10, failing("a", "b", "c"))
    assert {(v.status, v.blame) for v in play.found.verdicts} == {(Status.DOWN, Blame.UNKNOWN)}
    assert len({move[0] for move in play.moves}) == 1


def test_without_an_origin_nobody_is_left_before_all_who_share_the_doubt_are_alarmed():
    for seed in range(10):
        play = Play(service(origin=False), seed=seed)
        play.watch(100, failing("a", "b", "c", share=0.3))
        assert len({move[0] for move in play.moves}) == 1


def test_a_sole_provider_without_origin_goes_down_for_an_unknown_reason():
    play = Play(service("a", origin=False))
    play.watch(5, failing("a"))
    assert (play.verdict().status, play.verdict().blame) == (Status.DOWN, Blame.UNKNOWN)


def test_the_last_provider_left_may_go_down_too():
    play = Play(service("a", "b", origin=False))
    play.watch(5, failing("a"))
    play.watch(5, failing("a", "b"))
    assert {v.status for v in play.found.verdicts} == {Status.DOWN}
