"""What is out of the ordinary in a plan, as notes that go with it."""

from collections.abc import Iterator, Sequence

from polycdn.decide.fill import Matrix
from polycdn.decide.lane import Footing, Lane, Scene
from polycdn.decide.words import percent
from polycdn.model.plan import Note, Severity
from polycdn.model.policy import OnTotalLoss, Policy
from polycdn.model.topology import Service
from polycdn.model.units import FULL_BP


def remarks(
    scenes: tuple[Scene, ...], service: Service, policy: Policy, shares: Matrix, is_ramping: Sequence[bool]
) -> tuple[Note, ...]:
    """Everything that an operator should know of the finished shares; empty for an ordinary plan."""
    notes: list[Note] = []
    for scene, row, is_moving in zip(scenes, shares, is_ramping, strict=True):
        place = f"service {service.name}, region {scene.region}"
        if scene.is_lost:
            notes.append(_on_total_loss(place, scene, policy.on_total_loss, row))
        for lane, share_bp in zip(scene.lanes, row, strict=True):
            notes += _on_lane(place, lane, share_bp, scene.is_lost, is_moving)
    notes += _on_capacity(scenes, service, shares)
    return tuple(notes)


def _on_total_loss(place: str, scene: Scene, wish: OnTotalLoss, row: Sequence[int]) -> Note:
    served = [lane.provider.name for lane, bp in zip(scene.lanes, row, strict=True) if bp]
    text = f"{place}: every provider looks DOWN or is forced down; serving {', '.join(served)}"
    return Note(Severity.WARNING, "total_loss", f"{text} (policy.on_total_loss = {wish})")


def _on_lane(place: str, lane: Lane, share_bp: int, is_lost: bool, is_ramping: bool) -> Iterator[Note]:
    provider = lane.provider
    if lane.footing is Footing.READY and provider.floor_bp <= share_bp <= provider.ceiling_bp:
        return
    subject = f"{place}: {provider.name} carries {percent(share_bp)}"
    if share_bp > provider.ceiling_bp:
        why = "until the ramp has taken it down" if is_ramping else "nobody else has room"
        text = f"{subject}, above its ceiling {percent(provider.ceiling_bp)}: {why}"
        yield Note(Severity.WARNING, "ceiling", text)
    elif share_bp > lane.earned_bp:
        text = f"{subject}, above the {percent(lane.earned_bp)} that it has earned on probation"
        yield Note(Severity.WARNING, "probation", f"{text}: nobody better has room")
    if share_bp < provider.floor_bp:
        why = lane.footing.name if lane.footing is not Footing.READY else "ramp or capacity"
        text = f"{subject}, below its floor {percent(provider.floor_bp)}: {why}"
        yield Note(Severity.INFO, "floor", text)
    if share_bp and not is_lost:
        if lane.footing is Footing.DOWN:
            text = f"{subject} though it is DOWN: the others have no room for more"
            yield Note(Severity.WARNING, "down_carries", text)
        elif lane.footing is Footing.MISMATCHED and lane.share_bp == 0:
            text = f"{subject} though its answers differ from its peers': nobody else is left"
            yield Note(Severity.WARNING, "parity", text)


def _on_capacity(scenes: tuple[Scene, ...], service: Service, shares: Matrix) -> Iterator[Note]:
    for index, provider in enumerate(service.providers):
        for capacity, unit, demands in (
            (provider.capacity_rps, "requests/s", [scene.demand_rps for scene in scenes]),
            (provider.capacity_mbps, "Mbit/s", [scene.demand_mbps for scene in scenes]),
        ):
            if capacity is None:
                continue
            load = sum(
                share_bp * demand
                for scene, row, demand in zip(scenes, shares, demands, strict=True)
                for lane, share_bp in zip(scene.lanes, row, strict=True)
                if lane.index == index
            )
            if load > capacity * FULL_BP:
                text = (
                    f"service {service.name}: {provider.name} is given {-(-load // FULL_BP)} {unit}, "
                    f"capacity {capacity}: all capacity is used up"
                )
                yield Note(Severity.WARNING, "capacity", text)
