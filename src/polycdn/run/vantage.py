"""The vantage process: looks at every provider on schedule, posts signed reports, and never judges."""

import asyncio
import json
import signal
import sys
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from polycdn.errors import ConfigError, Fault
from polycdn.measure.dns import look_up
from polycdn.measure.http import Prober
from polycdn.measure.look import Look
from polycdn.measure.names import NameTarget, name_question_of, names_of
from polycdn.measure.post import Mailbox
from polycdn.measure.report import ServiceReport, VantageReport
from polycdn.measure.schedule import Due, Lags, Rhythm, Schedule
from polycdn.measure.sign import KEY_BYTES_MIN
from polycdn.measure.target import SUSPECT_LOOKS, Target, is_sampled_fresh, question_of, targets_of
from polycdn.model import wire
from polycdn.model.observation import Observation, Reason
from polycdn.model.policy import Policy
from polycdn.model.topology import Service
from polycdn.model.units import Clock

DEFAULT_POLICY: Final = Policy()
SPEC_FORMAT: Final = "polycdn/vantage/1"
SPEC_BYTES_MAX: Final = 16_777_216
KEY_BYTES_MAX: Final = 65_536
OBSERVATIONS_KEPT: Final = 100_000
"""Per service and round; only a clock that runs away could reach it."""


@dataclass(frozen=True, slots=True)
class Watched:
    """A service to look at: through each of its providers, at its origin, and at the names it is found by."""

    service: Service
    policy: Policy = DEFAULT_POLICY


@dataclass(frozen=True, slots=True)
class VantageSpec:
    """Everything that one vantage process is told, in a JSON file (`wire.canonical` of this).

    `report_url` is `http://host:port/path` or `unix:/path`. `regions` empty = its word counts for all
    regions. `start_ms` is when the schedule's look 0 is due, on the clock; 0 = when the process starts. With
    `lab_key_header` each look carries a header of that name, its value "<vantage>/<sequence>". `resolver`
    (`address:port`) is asked for the names of providers; None = the machine's own.
    """

    name: str
    services: tuple[Watched, ...]
    report_url: str
    key_file: str
    clock: str = "wall"
    regions: tuple[str, ...] = ()
    source_address: str | None = None
    resolver: str | None = None
    lab_key_header: str | None = None
    start_ms: int = 0
    seed: int = 0
    looks_per_s: int = 1_000
    concurrency: int = 256
    format: str = SPEC_FORMAT

    @property
    def interval_ms(self) -> int:
        """The shortest probe interval, and the time between two reports."""
        return min(watched.policy.probe_interval_ms for watched in self.services)


def read_spec(path: str) -> VantageSpec:
    """The spec in a file. Raises ConfigError when it is missing, too large or not a spec."""
    try:
        spec = wire.from_json(VantageSpec, json.loads(_read(path, SPEC_BYTES_MAX)))
    except (ValueError, RecursionError) as error:
        raise _mistake(path, str(error), f"a JSON object of the format {SPEC_FORMAT}") from None
    if spec.format != SPEC_FORMAT:
        raise _mistake(path, spec.format, SPEC_FORMAT)
    if not spec.services:
        raise _mistake(path, "no services", "at least one service to look at")
    return spec


def read_key(path: str) -> bytes:
    """The secret in a key file. Raises ConfigError when it is missing or too short to be one."""
    key = _read(path, KEY_BYTES_MAX).strip()
    if len(key) < KEY_BYTES_MIN:
        raise _mistake(path, f"a key of {len(key)} bytes", f"at least {KEY_BYTES_MIN} bytes")
    return key


async def run_vantage(spec: VantageSpec, clock: Clock) -> int:
    """Exit code, 0, once SIGTERM or SIGINT came. Raises ConfigError when the key cannot be read."""
    key = read_key(spec.key_file)
    watching = asyncio.create_task(_watch(spec, key, clock))
    stopped = asyncio.Event()

    def stop() -> None:
        stopped.set()
        watching.cancel()

    loop = asyncio.get_running_loop()
    with suppress(RuntimeError, ValueError):  # outside the main thread nobody sends us signals
        loop.add_signal_handler(signal.SIGTERM, stop)
        loop.add_signal_handler(signal.SIGINT, stop)
    try:
        await watching
    except asyncio.CancelledError:
        if not stopped.is_set():
            raise
    finally:
        watching.cancel()
    return 0


async def _watch(spec: VantageSpec, key: bytes, clock: Clock) -> None:
    start_ms = spec.start_ms or clock.now_ms()
    targets = {target.name: target for target in _targets(spec)}
    rhythms = tuple(
        Rhythm(f"{spec.name}/{name}", start_ms, target.policy.probe_interval_ms, spec.seed)
        for name, target in targets.items()
    )
    schedule = Schedule(rhythms, clock.now_ms(), spec.looks_per_s)
    async with (
        Prober(clock, spec.concurrency) as prober,
        Mailbox(spec.report_url, key, clock) as mailbox,
        asyncio.TaskGroup() as group,
    ):
        rounds = Rounds(spec, clock, prober)
        group.create_task(mailbox.deliver_forever(spec.interval_ms))
        group.create_task(_report_forever(rounds, schedule, mailbox, clock))
        while True:
            for due in schedule.take(clock.now_ms()):
                target = targets[due.target.removeprefix(f"{spec.name}/")]
                group.create_task(rounds.look(target, due))
            await clock.sleep_until(schedule.next_ms(clock.now_ms()))


def _targets(spec: VantageSpec) -> Iterator[Target | NameTarget]:
    for watched in spec.services:
        yield from targets_of(watched.service, watched.policy, spec.regions)
        yield from names_of(watched.service, watched.policy, spec.regions, spec.resolver)


async def _report_forever(rounds: "Rounds", schedule: Schedule, mailbox: Mailbox, clock: Clock) -> None:
    due_ms, told = clock.now_ms(), ""
    while True:
        due_ms = max(due_ms + rounds.interval_ms, clock.now_ms())
        await clock.sleep_until(due_ms)
        mailbox.put(rounds.report(schedule.skipped))
        if mailbox.last_error != told:
            told = mailbox.last_error
            words = f"reports do not arrive: {told}" if told else "reports arrive again"
            print(f"polycdn vantage: {words}", file=sys.stderr, flush=True)


class Rounds:
    """What one vantage remembers between looks: observations to post, lags, and who is suspect."""

    def __init__(self, spec: VantageSpec, clock: Clock, prober: Prober) -> None:
        self._spec = spec
        self._clock = clock
        self._prober = prober
        self._slots = asyncio.Semaphore(spec.concurrency)
        self._suspects: Counter[str] = Counter()  # by target: good looks that must still connect anew
        self._names_known: set[str] = set()
        self._lags = Lags()
        self._reports = 0
        self._observed: dict[str, deque[Observation]] = {
            watched.service.name: deque(maxlen=OBSERVATIONS_KEPT) for watched in spec.services
        }
        self.interval_ms = spec.interval_ms

    async def look(self, target: Target | NameTarget, due: Due) -> None:
        """Makes one look and keeps what it brought."""
        if isinstance(target, NameTarget):
            await self._look_up(target, due)
            return
        async with self._slots:
            look = await self._look(target, due)
        # Users who arrive now connect anew. After a failure looks do too: where every fifth new connection
        # fails, a connection that is kept would be good for ever.
        if look.is_good:
            self._suspects[target.name] = max(0, self._suspects[target.name] - 1)
        elif look.reason is not Reason.BLIND:
            self._suspects[target.name] = SUSPECT_LOOKS
        self._keep(target, look)

    async def _look_up(self, target: NameTarget, due: Due) -> None:
        """Looks a name up. A provider's is evidence only when it fails: a good answer says nothing of HTTP.

        A name that the resolver never knew is known from elsewhere, from a hosts file for one.
        """
        question = name_question_of(target, due.sequence, self._spec.source_address)
        async with self._slots:
            if self._clock.now_ms() - due.at_ms > target.policy.probe_interval_ms:
                return
            look = await look_up(question, self._clock)
        if target.is_ours:
            self._keep(target, look)
        elif look.is_good:
            self._names_known.add(target.name)
        elif look.reason is not Reason.BLIND and target.name in self._names_known:
            self._suspects[target.name.removesuffix("/name")] = SUSPECT_LOOKS
            self._keep(target, look)

    def _keep(self, target: Target | NameTarget, look: Look) -> None:
        self._observed[target.service.name].extend(
            look.observation(region, self._spec.name) for region in target.regions
        )

    async def _look(self, target: Target, due: Due) -> Look:
        started_ms = self._clock.now_ms()
        lag_ms = started_ms - due.at_ms
        self._lags.add(lag_ms)
        is_fresh = self._suspects[target.name] > 0 or is_sampled_fresh(
            self._spec.seed, due.target, due.sequence
        )
        lab_key = self._spec.lab_key_header
        question = question_of(
            target,
            due.sequence,
            is_fresh=is_fresh,
            source_address=self._spec.source_address,
            headers=((lab_key, f"{self._spec.name}/{due.sequence}"),) if lab_key else (),
        )
        if lag_ms > target.policy.probe_interval_ms:
            return Look(started_ms, target.provider, question.path, Reason.BLIND, f"started {lag_ms} ms late")
        return await self._prober.look(question)

    def report(self, skipped: int) -> VantageReport:
        """Everything that was seen since the report before."""
        self._reports += 1
        services = tuple(ServiceReport(name, tuple(kept)) for name, kept in self._observed.items() if kept)
        for kept in self._observed.values():
            kept.clear()
        return VantageReport(
            vantage=self._spec.name,
            at_ms=self._clock.now_ms(),
            sequence=self._reports,
            services=services,
            lag_ms_p99=self._lags.p99_ms(),
            interval_ms=self.interval_ms,
            skipped=skipped,
        )


def _read(path: str, bytes_max: int) -> bytes:
    try:
        with Path(path).open("rb") as file:
            content = file.read(bytes_max + 1)
    except OSError as error:
        raise _mistake(path, error.strerror or str(error), "a readable file") from None
    if len(content) > bytes_max:
        raise _mistake(path, "a larger file", f"at most {bytes_max} bytes")
    return content


def _mistake(place: str, found: str, allowed: str) -> ConfigError:
    return ConfigError((Fault(place, found, allowed, "name another file, or write it anew"),))
