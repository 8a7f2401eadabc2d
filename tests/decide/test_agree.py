"""What the vantages say together: sums without the extremes, whoever lies."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rounds import FIRST_MS, Play, failing, look, service

from polycdn.decide.agree import agree, kept_among
from polycdn.decide.layout import Layout, layout_of, liars_of
from polycdn.decide.likelihood import SCORE_MAX_MNAT
from polycdn.model.policy import Policy
from polycdn.model.state import State, Stream
from polycdn.model.verdict import Status

SCORES = st.tuples(*[st.integers(0, SCORE_MAX_MNAT)] * 3)


def layout(vantages: int) -> Layout:
    return layout_of(State(service("a", vantages=vantages), POLICY))


POLICY = Policy()


def streams(*scores: tuple[int, ...], up: bool = False) -> list[Stream]:
    return [
        Stream("a", "anywhere", f"v{n}", score, (score[0],) if up else (), seen_ms=FIRST_MS)
        for n, score in enumerate(scores)
    ]


def opinion(*scores, up=False):
    found = layout(len(scores))
    return agree(found, found.seats[0], streams(*scores, up=up))


@pytest.mark.parametrize(("vantages", "liars"), [(1, 0), (2, 1), (3, 1), (4, 1), (5, 2), (9, 2)])
def test_this_many_may_lie(vantages, liars):
    assert liars_of(vantages) == liars


@pytest.mark.parametrize(
    ("fresh", "known", "kept"),
    [
        (0, 3, 0), (1, 1, 1), (1, 2, 1), (2, 2, 1), (1, 3, 0), (2, 3, 1), (3, 3, 2), (2, 5, 0), (3, 5, 1),
        (5, 5, 3), (3, 0, 2), (40, 40, 8),
    ],
)  # fmt: skip
def test_this_many_are_added_up(fresh, known, kept):
    assert kept_among(fresh, known) == kept


@settings(deadline=None)
@given(st.lists(SCORES, min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_order_of_vantages_does_not_matter(scores, dice):
    found = layout(len(scores))
    heard = streams(*scores)
    shuffled = heard[:]
    dice.shuffle(shuffled)
    assert agree(found, found.seats[0], heard) == agree(found, found.seats[0], shuffled)


@settings(deadline=None)
@given(st.lists(SCORES, min_size=3, max_size=6), st.data())
def test_whatever_liars_say_the_sum_is_no_more_than_the_honest_ones(scores, data):
    liars = liars_of(len(scores))
    honest = scores[liars:]
    lies = data.draw(st.lists(SCORES, min_size=liars, max_size=liars))
    told = opinion(*lies, *honest)
    for way, limit in enumerate(told.limits.down):
        if sum(score[way] for score in honest) < limit:
            assert not (told.way == way and told.is_alarmed)
    assert told.total_mnat <= sum(score[2] for score in honest)


@settings(deadline=None)
@given(st.lists(SCORES, min_size=3, max_size=6), st.data())
def test_a_liar_cannot_bring_anybody_back(scores, data):
    liars = liars_of(len(scores))
    lies = data.draw(st.lists(SCORES, min_size=liars, max_size=liars))
    told = opinion(*lies, *scores[liars:], up=True)
    assert told.up_mnat <= sum(score[0] for score in scores[liars:])


def test_the_most_alarming_is_left_out_and_named_ties_by_name():
    told = opinion((9_000, 0, 0), (9_000, 0, 0), (100, 0, 0))
    assert told.left_out == ("v0",)
    assert told.evidence_mnat == 9_100


def test_nobody_is_named_when_nobody_is_alarming():
    assert opinion((0, 0, 0), (0, 0, 0), (0, 0, 0)).left_out == ()


def test_one_that_alone_says_down_is_named_as_a_minority():
    told = opinion((40_000,) * 3, (0, 0, 0), (0, 0, 0))
    assert told.minority == ("v0",)
    assert told.progress_bp == 0


def test_one_vantage_alone_decides():
    play = Play(service("a", vantages=1, origin=False))
    play.watch(3, failing("a"))
    assert play.verdict().status is Status.DOWN


def test_of_two_vantages_both_are_needed():
    play = Play(service("a", vantages=2, origin=False))
    play.watch(30, failing("a", vantages=("v0",)))
    assert play.verdict().status is Status.UP
    assert play.verdict().minority == ("v0",)
    play.watch(4, failing("a"))
    assert play.verdict().status is Status.DOWN


def test_of_two_vantages_one_decides_while_the_other_is_silent():
    play = Play(service("a", vantages=2, origin=False))
    for _ in range(4):
        play.hear(look(play.now_ms, "a", "v1", False))
    assert play.verdict().status is Status.DOWN


def test_two_of_three_are_enough_to_move():
    play = Play(service("a", origin=False))
    play.watch(10, failing("a", vantages=("v0", "v2")))
    assert play.verdict().status is Status.DOWN


def test_one_of_three_is_never_enough():
    play = Play(service("a", origin=False))
    for _ in range(50):
        play.hear(look(play.now_ms, "a", "v0", False))
    assert play.verdict().status is Status.UNKNOWN


@pytest.mark.parametrize("liar", ["v0", "v1", "v2"])
def test_a_vantage_that_says_all_is_well_hides_no_outage(liar):
    play = Play(service("a", "b", origin=False))
    honest = tuple({"v0", "v1", "v2"} - {liar})
    play.watch(5, failing("a", vantages=honest))
    assert play.verdict().status is Status.DOWN


def test_a_vantage_that_says_all_is_lost_keeps_nobody_out():
    play = Play(service("a", "b", origin=False), Policy(hold_down_ms=60_000))
    play.watch(5, failing("a"))
    play.watch(700, failing("a", vantages=("v1",)))
    assert play.verdict().status is Status.UP
    assert [move[1] for move in play.moves] == ["a", "a"]


def test_vantages_that_learned_different_shares_take_the_strictest_threshold():
    found = layout(3)
    heard = streams((100, 0, 0), (100, 0, 0), (100, 0, 0))
    heard[1] = replace(heard[1], healthy_bp=200)
    mixed = agree(found, found.seats[0], heard).limits
    plain = opinion((100, 0, 0), (100, 0, 0), (100, 0, 0)).limits
    assert all(one >= other for one, other in zip(mixed.down, plain.down, strict=True))
    assert mixed.down[0] > plain.down[0]
