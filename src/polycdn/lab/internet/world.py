"""The small internet, running: opens its sockets and tells where they are."""

from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from polycdn.lab.internet.certificates import issuers
from polycdn.lab.internet.nameserver import Listener, Machine, Spoil
from polycdn.lab.internet.plan import (
    DELEGATION_TTL_S,
    ROOT_ADDRESS,
    TLD_ADDRESS,
    Plan,
    Zone,
)
from polycdn.lab.internet.web import Web
from polycdn.model.units import Clock

Place = tuple[str, int]
NOWHERE: Final = "nobody.invalid. nobody.invalid. 1 7200 900 1209600 300"


class Internet:
    """A plan as real sockets. Use as an async context manager.

    `places` maps each fictional (address, port) to a real one; `roots` are where a resolver begins;
    `ca_file` has the authorities' roots. `spoiled` replaces what single addresses say over DNS.
    """

    def __init__(
        self,
        plan: Plan,
        clock: Clock,
        directory: Path,
        *,
        delay_ms: int = 0,
        spoiled: dict[str, Spoil] | None = None,
    ) -> None:
        self._plan = plan
        self._delay_s = delay_ms / 1000
        self._spoiled = spoiled or {}
        self._issuers = issuers(plan.authorities, clock.now_ms())
        self._webs: dict[str, Web] = {"": Web(plan.sites, self._issuers, self._delay_s)}
        for authority in sorted(set(plan.authority_at.values())):
            sites = {host: replace(site, authority=authority) for host, site in plan.sites.items()}
            self._webs[authority] = Web(sites, self._issuers, self._delay_s)
        self._listeners: list[Listener] = []
        self.places: dict[Place, Place] = {}
        self.roots = (ROOT_ADDRESS,)
        self.ca_file = str(directory / "roots.pem")
        Path(self.ca_file).write_bytes(b"".join(issuer.pem for issuer in self._issuers.values()))

    async def __aenter__(self) -> Self:
        glue = {name: address for each in self._plan.operators.values() for name, address in each.servers}
        glue |= {f"a.nic.{top}": TLD_ADDRESS for top in _tops(self._plan)}
        for address, zones in _served(self._plan).items():
            listener = Listener(Machine(zones, glue), self._delay_s, self._spoiled.get(address))
            self.places[address, 53] = ("127.0.0.1", await listener.start())
            self._listeners.append(listener)
        webs = {authority: ("127.0.0.1", await web.start()) for authority, web in self._webs.items()}
        for zone in self._plan.zones.values():
            for each in zone.records:
                if each.rtype in ("A", "AAAA"):
                    self.places[each.value, 443] = webs[self._plan.authority_at.get(each.value, "")]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for web in self._webs.values():
            await web.close()
        for listener in self._listeners:
            await listener.close()


def _served(plan: Plan) -> dict[str, list[Zone]]:
    """The zones of each address, with a root and top-level domains that delegate to all of the plan."""
    served: dict[str, list[Zone]] = {}
    root = Zone(".", (ROOT_ADDRESS,))
    root.add(".", "SOA", NOWHERE)
    root.add(".", "NS", "a.root.invalid.")
    above = {}
    for top in _tops(plan):
        root.add(top, "NS", f"a.nic.{top}", DELEGATION_TTL_S)
        zone = Zone(top, (TLD_ADDRESS,))
        zone.add(top, "SOA", NOWHERE)
        zone.add(top, "NS", f"a.nic.{top}")
        zone.add(f"a.nic.{top}", "A", TLD_ADDRESS)
        above[top] = zone
    for zone in plan.zones.values():
        parent = _parent(zone.origin, plan, above)
        for record in zone.records:
            if record.rtype == "NS" and record.owner == zone.origin:
                parent.add(zone.origin, "NS", record.value, DELEGATION_TTL_S)
    for zone in (root, *above.values(), *plan.zones.values()):
        for address in zone.served_by:
            served.setdefault(address, []).append(zone)
    return served


def _tops(plan: Plan) -> list[str]:
    return sorted({origin.rstrip(".").rpartition(".")[2] + "." for origin in plan.zones})


def _parent(origin: str, plan: Plan, above: dict[str, Zone]) -> Zone:
    """The zone that delegates a zone: the nearest of the plan above it, or its top-level domain."""
    labels = origin.rstrip(".").split(".")
    for at in range(1, len(labels)):
        name = ".".join(labels[at:]) + "."
        if name in plan.zones:
            return plan.zones[name]
        if name in above:
            return above[name]
    raise AssertionError(f"{origin} has no top-level domain")
