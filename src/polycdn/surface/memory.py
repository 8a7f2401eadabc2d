"""A surface without an outside: for shadow runs, replay, simulation and tests."""

from polycdn.model.wire import digest
from polycdn.surface.base import Delete, Held, Order, Wanted, check_order


class MemorySurface:
    """Holds plans in a dictionary, under the same rules as every other surface."""

    def __init__(self, name: str = "memory") -> None:
        self._name = name
        self.plans: dict[str, Wanted] = {}
        self.good: dict[str, int] = {}

    @property
    def name(self) -> str:
        """What the operator calls it."""
        return self._name

    async def read(self) -> tuple[Held, ...]:
        """What was applied, by service name."""
        return tuple(
            Held(service, wanted.generation, digest(wanted.published))
            for service, wanted in sorted(self.plans.items())
        )

    async def apply(self, order: Order) -> None:
        """Carries out one order."""
        if isinstance(order, Delete):
            self.plans.pop(order.service, None)
            self.good.pop(order.service, None)
            return
        before = self.plans.get(order.wanted.service)
        held = None
        if before is not None:
            held = Held(before.service, before.generation, digest(before.published))
        if wanted := check_order(self._name, held, order):
            self.plans[wanted.service] = wanted

    async def mark_good(self, service: str, generation: int) -> None:
        """Notes the generation if it is in force."""
        held = self.plans.get(service)
        if held is not None and held.generation == generation:
            self.good[service] = generation
