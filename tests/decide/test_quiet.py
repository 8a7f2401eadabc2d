"""When a calm is a calm."""

from rounds import Play, failing, look, service

from polycdn.decide.layout import layout_of
from polycdn.decide.quiet import good_looks, is_calm
from polycdn.model.units import ORIGIN


def calm(play: Play) -> bool:
    found = play.found
    assert play.state.service is not None
    return is_calm(
        layout_of(play.state), play.state.service, found.streams, found.standings, found.verdicts, play.now_ms
    )


def test_good_rounds_are_calm():
    play = Play()
    play.watch(2)
    assert calm(play)


def test_doubt_a_provider_out_and_probation_are_not():
    play = Play()
    play.watch(1, failing("a", vantages=("v0",)))
    assert not calm(play)
    play.watch(5, failing("a"))
    play.watch(100)
    assert not calm(play)
    while play.moves[-1][2] == "down":
        play.watch(1)
    assert not calm(play)


def test_an_engine_still_fresh_is_not_a_calm_until_it_has_grown_old():
    play = Play()
    play.hear(look(play.now_ms, "a", "edge-1"), *good_looks(play.service, play.now_ms))
    assert not calm(play)
    play.watch(70)
    assert calm(play)


def test_the_origin_is_looked_at_only_where_there_is_one():
    assert {seen.provider for seen in good_looks(service("a"), 1)} == {"a", ORIGIN}
    assert {seen.provider for seen in good_looks(service("a", origin=False), 1)} == {"a"}
