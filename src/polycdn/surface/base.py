"""What every surface can do: read what it holds, compare it with what is wanted, take orders. Pure.

`diff` is the only place that decides whether a plan may replace another:

| held | wanted | order |
|---|---|---|
| nothing | G | Create |
| older than G | G | Update |
| G, same content | G | none |
| G, other content | G | refused |
| newer than G | G | refused |
| a service not wanted | - | Delete |
"""

from dataclasses import dataclass
from typing import Protocol

from polycdn.errors import SurfaceError
from polycdn.model.plan import Plan
from polycdn.model.settings import PublishedPlan, Settings
from polycdn.model.units import FULL_BP
from polycdn.model.wire import digest


@dataclass(frozen=True, slots=True)
class Held:
    """What a surface holds of one service; `digest` is that of the PublishedPlan, "" if not known."""

    service: str
    generation: int
    digest: str = ""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A plan to carry out, with the settings that it was made for."""

    published: PublishedPlan
    settings: Settings

    @property
    def service(self) -> str:
        """The service that the plan is for."""
        return self.published.plan.service

    @property
    def generation(self) -> int:
        """The generation of the plan."""
        return self.published.plan.generation


@dataclass(frozen=True, slots=True)
class Create:
    """The surface does not know the service yet."""

    wanted: Wanted


@dataclass(frozen=True, slots=True)
class Update:
    """The surface holds an older generation, `parent`."""

    wanted: Wanted
    parent: int


@dataclass(frozen=True, slots=True)
class Delete:
    """The service is no longer wanted."""

    service: str


Order = Create | Update | Delete


class Surface(Protocol):
    """Somewhere that plans are carried out. Every call ends within a deadline or raises SurfaceError."""

    @property
    def name(self) -> str:
        """What the operator calls it; unique in a config."""
        ...

    async def read(self) -> tuple[Held, ...]:
        """What is in force, by service name. Raises SurfaceError when it cannot be known now."""
        ...

    async def apply(self, order: Order) -> None:
        """Carries out one order, whole or not at all. Raises SurfaceError otherwise."""
        ...

    async def mark_good(self, service: str, generation: int) -> None:
        """Keeps this generation as the last good one, if it is in force."""
        ...


def want(plan: Plan, settings: Settings) -> Wanted:
    """The pair as a surface takes it; asserts that plan and settings are of one service."""
    assert plan.service == settings.service, f"plan of {plan.service}, settings of {settings.service}"
    return Wanted(PublishedPlan(plan, digest(settings)), settings)


def unfit(wanted: Wanted) -> str:
    """Why no surface may take this plan, "" if it may: an empty answer cannot be represented.

    Read apart from `decide`, so that a fault there is not carried out.
    """
    known = {upstream.name for upstream in wanted.settings.upstreams}
    if not wanted.published.plan.regions:
        return "it has no region"
    for region in wanted.published.plan.regions:
        total_bp = sum(share_bp for _, share_bp in region.shares)
        if total_bp != FULL_BP or any(share_bp < 0 for _, share_bp in region.shares):
            return f"region {region.region}: shares sum to {total_bp} bp, needed {FULL_BP}"
        strangers = [name for name in (*dict(region.shares), *region.order) if name not in known]
        if strangers:
            return f"region {region.region}: provider {strangers[0]} is not in the settings"
    return ""


def diff_one(name: str, held: Held | None, wanted: Wanted) -> Order | None:
    """The order that brings one service from `held` to `wanted`; None = nothing to do.

    Raises SurfaceError, not retryable, when the surface holds a newer plan or another one of this
    generation, or when the plan is unfit.
    """
    if why := unfit(wanted):
        raise SurfaceError(
            f"surface {name}, service {wanted.service}: generation {wanted.generation} refused: {why}",
            is_retryable=False,
        )
    if held is None:
        return Create(wanted)
    if held.generation < wanted.generation:
        return Update(wanted, held.generation)
    if held.generation > wanted.generation:
        raise SurfaceError(
            f"surface {name}, service {wanted.service}: generation {wanted.generation} refused, "
            f"{held.generation} is in force",
            is_retryable=False,
        )
    if held.digest and held.digest != digest(wanted.published):
        raise SurfaceError(
            f"surface {name}, service {wanted.service}: generation {wanted.generation} is in force "
            "with other content",
            is_retryable=False,
        )
    return None


def diff(name: str, held: tuple[Held, ...], wanted: tuple[Wanted, ...]) -> tuple[Order, ...]:
    """Every order that makes `held` into `wanted`, deletions last. Raises SurfaceError as `diff_one`."""
    by_service = {one.service: one for one in held}
    orders = [diff_one(name, by_service.get(one.service), one) for one in wanted]
    services = {one.service for one in wanted}
    deletes = [Delete(one.service) for one in held if one.service not in services]
    return (*(order for order in orders if order is not None), *deletes)


def check_order(name: str, held: Held | None, order: Order) -> Wanted | None:
    """What `apply` has to write, None when it is there already; a surface calls it with what it holds now.

    An order that was made from what the surface held a moment ago may have been overtaken, so it is compared
    once more. Raises SurfaceError as `diff_one`.
    """
    assert not isinstance(order, Delete), "a deletion has nothing to compare"
    return order.wanted if diff_one(name, held, order.wanted) is not None else None
