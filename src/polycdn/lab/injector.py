"""The faults file of one process: read again when it changes, asked for each request, every fault logged."""

from pathlib import Path

from polycdn.lab.fault import Fault, FaultKind, Schedule, fault_for, is_refusing, read_schedule
from polycdn.lab.logs import LineLog
from polycdn.model.units import Clock
from polycdn.model.wire import WireError, canonical


class Injector:
    """The faults of one provider. Without a file there are none."""

    def __init__(self, provider: str, clock: Clock, faults_file: str | None, log: LineLog | None) -> None:
        self.provider = provider
        self._clock = clock
        self._path = Path(faults_file) if faults_file else None
        self._log = log
        self._seen: tuple[int, int] | None = None
        self._schedule = Schedule()
        self.reload()

    def reload(self) -> None:
        """Takes over the file if it has changed; a broken one is logged, and the last one stays."""
        if self._path is None:
            return
        try:
            found = self._path.stat()
            if (found.st_mtime_ns, found.st_ino) == self._seen:
                return
            self._seen = (found.st_mtime_ns, found.st_ino)
            self._schedule = read_schedule(self._path.read_bytes())
        except FileNotFoundError:
            self._seen, self._schedule = None, Schedule()
        except (OSError, WireError) as error:
            if self._log is not None:
                text = f"{self._path}: {error}"
                self._log.write(at_ms=self._clock.now_ms(), provider=self.provider, error=text)

    def at(self, key: str, kinds: frozenset[FaultKind]) -> Fault | None:
        """The fate of one request or connection now, of these kinds; what is not None is logged."""
        if not self._schedule.windows:
            return None
        at_ms = self._clock.now_ms()
        fault = fault_for(self._schedule, self.provider, key, at_ms, kinds)
        if fault is not None and self._log is not None:
            self._log.write(at_ms=at_ms, provider=self.provider, key=key, kind=fault.kind.value)
        return fault

    def is_refusing(self) -> bool:
        """Whether nobody is to listen now."""
        return is_refusing(self._schedule, self.provider, self._clock.now_ms())


def write_faults(path: Path, schedule: Schedule) -> None:
    """Puts a schedule in place at once; processes that follow the file take it over within 50 ms."""
    fresh = path.with_suffix(path.suffix + ".new")
    fresh.write_bytes(canonical(schedule))
    fresh.replace(path)
