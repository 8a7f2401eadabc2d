"""The false world as a source of rounds: users live through the time between one round and the next."""

from collections.abc import Sequence
from typing import Final

from polycdn import incidents
from polycdn.incidents import Effect, FaultKind, Incident, Kind
from polycdn.journal.memory import MemoryJournal
from polycdn.model.settings import Settings, Upstream
from polycdn.model.topology import Service
from polycdn.run.clock import Virtual
from polycdn.run.loop import Addressed, Loop, Step
from polycdn.run.publish import Outlet, Publisher
from polycdn.run.simulate_layer import BrokenPropertyError, Layer, Setting
from polycdn.run.simulate_requests import Stretch
from polycdn.run.simulation import ClientLoss, HitService, Options, Simulation
from polycdn.surface.memory import MemorySurface
from polycdn.world.certificate import lost_ppm_seconds
from polycdn.world.fault import Injection, only
from polycdn.world.network import parts_bp
from polycdn.world.users import (
    CLIENTS,
    SINGLE,
    Exposure,
    Ledger,
    Lookups,
    lost_ppm,
    mean_ppm,
    slow_ppm,
    user_minutes,
)

FULL_BP: Final = 10_000


class World:
    """One outage, its layers and their users, driven by the loop that every run has.

    A source of rounds for `Loop`: it is asked for the next one when the last was decided and published.
    """

    def __init__(
        self, incident: Incident, services: tuple[HitService, ...], options: Options, step: Step
    ) -> None:
        self.incident = incident
        self.options = options
        self.end_s = incidents.until_ms(incident, options.until) // 1000
        self.horizon_s = self.end_s + options.tail_s
        self.ledger = Ledger()
        setting = Setting(incident.started_ms, options.lead_s, options.seed, options.population)
        self.layers = [
            Layer(service, policy, injection_of(incident, service, kind, hit), setting)
            for service, policy, kind, hit in services
        ]
        regions = self.layers[0].service.regions
        parts = parts_bp(tuple(region.demand_rps for region in regions))
        self._regions = tuple(zip((region.name for region in regions), parts, strict=True))
        self._lookups = Injection(incident, Kind.DNS, "", ())
        self._empty = Injection(only(incident, FaultKind.DNS_EMPTY), Kind.DNS, "", ())
        self._now_s = -options.lead_s
        self._dues: list[int] = []
        self.stretches: list[Stretch] = []
        self._clock = Virtual(self._ms(self._now_s))
        self._surface = MemorySurface()
        settings = {layer.service.name: settings_of(layer.service) for layer in self.layers}
        self._outlet = Outlet(self._surface, settings, self._clock)
        publisher = Publisher((self._outlet,))
        journal = MemoryJournal(is_kept=False)
        self._loop = Loop(self, self._clock, journal, publisher, step)

    async def run(self) -> None:
        """From the lead to the horizon. Raises BrokenPropertyError."""
        await self._loop.run()

    async def next_round(self) -> Sequence[Addressed] | None:
        """What is due next, once the users have lived until then; None at the horizon."""
        if not self._dues:
            self._dues = [self._now_s] * len(self.layers)
            return [Addressed(layer.service.name, layer.first_event()) for layer in self.layers]
        self._follow()
        while self._now_s < self.horizon_s:
            next_s = min(*self._dues, self._edge_s(), self.horizon_s)
            self._spend(next_s)
            self._now_s = next_s
            due = [index for index, due_s in enumerate(self._dues) if due_s <= next_s]
            if due:
                await self._clock.sleep_until(self._ms(next_s))
                return [
                    Addressed(self.layers[index].service.name, self.layers[index].round(next_s))
                    for index in due
                ]
        return None

    def _follow(self) -> None:
        """Takes what came of the last round: reports, and the plans that the surface holds now."""
        refused = {name: line.why for name, line in self._outlet.lines.items() if line.is_refused}
        for service, why in (refused | self._loop.failures).items():
            at_s, seed = self._now_s, self.options.seed
            raise BrokenPropertyError(f"service {service}, {at_s} s into the outage, seed {seed}: {why}")
        for index, layer in enumerate(self.layers):
            if self._dues[index] <= self._now_s:
                held = self._surface.plans.get(layer.service.name)
                plan = held.published.plan if held is not None else None
                layer.follow(self._now_s, self._loop.reports[layer.service.name], plan)
                self._dues[index] = layer.next_round_s(self._now_s, self.horizon_s)

    def _edge_s(self) -> int:
        """The next second from which something else fails, or from which losses count, or no longer."""
        marks = [mark for mark in (0, self.end_s, self.horizon_s) if mark > self._now_s]
        now_ms, last_ms = self._now_s * 1000, self.horizon_s * 1000
        marks += [
            -(-injection.next_edge_ms(now_ms, last_ms) // 1000)
            for injection in (self._lookups, *(layer.injection for layer in self.layers))
            if injection is not None
        ]
        return max(self._now_s + 1, min(marks))

    def _spend(self, next_s: int) -> None:
        """Users ask until `next_s`; before it nobody decides and no fault changes."""
        counts = 0 <= self._now_s < self.end_s
        lookups = self._lookups_now() if counts else Lookups()
        for name, part_bp in self._regions:
            self._spend_in(name, part_bp, next_s, lookups, counts)

    def _spend_in(self, name: str, part_bp: int, next_s: int, lookups: Lookups, counts: bool) -> None:
        places = [layer.regions[name] for layer in self.layers]
        moments = [layer.moment(self._now_s, name) for layer in self.layers]
        fails = lookups != Lookups() or any(moment.failed_ppm or moment.slow_ppm for moment in moments)
        at_s = self._now_s
        while at_s < next_s:
            step_s = next_s - at_s if all(place.is_settled for place in places) else 1
            if counts and self.options.is_recorded:
                self._record(at_s, places[0].exposure(moments[0]))
            if counts and fails:
                shown = [place.exposure(moment) for place, moment in zip(places, moments, strict=True)]
                lost = lost_ppm(self.options.population, shown, lookups)
                self.ledger.add(part_bp, step_s, lost, slow_ppm(shown, lookups))
            for place in places:
                place.pass_time(at_s, at_s + step_s)
            at_s += step_s

    def _record(self, at_s: int, shown: Exposure) -> None:
        """Keeps where the clients of the first layer are, if that has changed."""
        parts = (shown.threshold_parts, shown.dns_parts, shown.edge_parts)
        last = self.stretches[-1] if self.stretches else None
        if last is None or parts != (last.threshold_parts, last.dns_parts, last.edge_parts):
            self.stretches.append(Stretch(at_s, *parts))

    def _lookups_now(self) -> Lookups:
        moment = self._lookups.at(self._now_s * 1000)
        if self.incident.effect is Effect.RESOLVER:
            return Lookups(resolver_ppm=moment.failed_ppm)
        return Lookups(moment.failed_ppm, moment.slow_ppm, self._empty.at(self._now_s * 1000).failed_ppm)

    def result(self, name: str, wall_ms: int) -> Simulation:
        """What came of it, for the service of that name ("" = the default one)."""
        layers = [layer for layer in self.layers if layer.injection]
        places = [place for layer in layers for place in layer.regions.values()]
        first_ms = min(
            (start for layer in layers if (start := layer.first_fault_ms()) is not None), default=0
        )
        # Of several regions, the one that was found first tells both times.
        found = min(
            (place for place in places if place.detected_s is not None),
            key=lambda place: (place.detected_s or 0, place.name),
            default=None,
        )
        return Simulation(
            incident=self.incident.id,
            service=name,
            users=self.options.users,
            seed=self.options.seed,
            until=self.options.until,
            outage_s=self.end_s,
            clients=tuple(self._loss(client) for client in CLIENTS),
            plan_changes=sum(layer.plan_changes() for layer in self.layers),
            false_moves=sum(layer.false_moves() for layer in self.layers),
            threshold_changes=sum(place.threshold_changes for place in places),
            detect_ms=_since_ms(first_ms, found.detected_s if found else None),
            evacuated_ms=_since_ms(first_ms, found.evacuated_s if found else None),
            wall_ms=wall_ms,
            assumptions=self.options.population.assumptions(),
        )

    def _loss(self, client: str) -> ClientLoss:
        lost = self.ledger.lost[client]
        if client == SINGLE and Kind.CA in self.incident.kinds:
            lost += FULL_BP * self._lost_by_certificates()
        failed_ppm = mean_ppm(lost, self.end_s)
        return ClientLoss(
            client,
            user_minutes(self.options.users, lost),
            FULL_BP - (failed_ppm + 50) // 100,
            user_minutes(self.options.users, self.ledger.slow[client]),
            failed_ppm,
        )

    def _lost_by_certificates(self) -> int:
        authority = Injection(self.incident, Kind.CA, "", ())
        return lost_ppm_seconds(
            self.options.population, self.end_s, lambda at_s: authority.at(at_s * 1000).failed_ppm
        )

    def _ms(self, at_s: int) -> int:
        return self.incident.started_ms + at_s * 1000


def _since_ms(first_ms: int, at_s: int | None) -> int | None:
    return None if at_s is None else at_s * 1000 - first_ms


def settings_of(service: Service) -> Settings:
    """What a surface has to know of the service to take plans for it."""
    upstreams = tuple(Upstream(each.name, each.kind, each.endpoint) for each in service.providers)
    return Settings(service.name, (service.hostname,), upstreams)


def injection_of(incident: Incident, service: Service, kind: Kind, hit: str | None) -> Injection | None:
    """What the outage does to `hit`, as a company of `kind`; None when it does nothing."""
    if hit is None or kind not in incident.kinds:
        return None
    return Injection(incident, kind, hit, tuple(region.name for region in service.regions))
