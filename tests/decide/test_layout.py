"""Places of streams and seats."""

from dataclasses import replace

from rounds import service

from polycdn.decide.layout import aligned_streams, layout_of
from polycdn.model.policy import Policy
from polycdn.model.state import State, Stream

POLICY = Policy()


def test_a_layout_is_worked_out_once_for_the_same_service_and_policy():
    of = service("a")
    assert layout_of(State(of, POLICY)) is layout_of(State(of, POLICY))
    assert layout_of(State(replace(of), POLICY)) is not layout_of(State(of, POLICY))


def test_streams_are_sorted_in_and_strangers_to_the_service_dropped():
    layout = layout_of(State(service("a", "b", vantages=2), POLICY))
    kept = Stream("b", "anywhere", "v1", seen_ms=7)
    engine = Stream("a", "anywhere", "edge-1", seen_ms=8)
    gone = Stream("gone", "anywhere", "v1", seen_ms=9)
    found = aligned_streams(layout, (gone, engine, kept))
    assert kept in found
    assert found[-1] == engine
    assert gone not in found
    assert len(found) == len(layout.blank) + 1
    assert aligned_streams(layout, found) is found


def test_seats_know_their_others_in_the_same_region():
    layout = layout_of(State(service("a", "b", regions=("eu", "us")), POLICY))
    for seat in layout.seats:
        others = [layout.seats[at] for at in seat.others]
        assert {other.region for other in others} == {seat.region}
        assert seat.provider not in {other.provider for other in others}
        assert layout.origins[seat.origin].region == seat.region
