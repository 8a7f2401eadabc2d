"""What an audit may spend: look-ups and time, for each name that was asked for."""

from dataclasses import dataclass
from typing import Final

from polycdn.model.units import Clock

LOOKUPS_MAX: Final = 4_000
SECONDS_MAX: Final = 120
DEPTH_MAX: Final = 3


@dataclass(frozen=True, slots=True)
class Limits:
    """The budget of one name, and how much is done at once.

    `lookups` counts every question to a server, handshake and request. `per_target_max`: so many dependencies
    of one target are followed, the rest is told as unseen. `look_ms`: the deadline of one question to one
    server; `page_ms` and `page_bytes` those of a page. `names_at_once` names are audited at the same time,
    with `looks_at_once` open sockets of each kind (DNS, TLS, HTTP).
    """

    depth: int = DEPTH_MAX
    lookups: int = LOOKUPS_MAX
    seconds: int = SECONDS_MAX
    per_target_max: int = 24
    look_ms: int = 3_000
    page_ms: int = 15_000
    page_bytes: int = 2 * 1024 * 1024
    names_at_once: int = 32
    looks_at_once: int = 128


class SpentError(Exception):
    """The budget of this name is used up; `why` is "budget" or "deadline"."""

    def __init__(self, why: str) -> None:
        self.why = why
        super().__init__(why)


class Purse:
    """The budget of one name, while it lasts."""

    def __init__(self, limits: Limits, clock: Clock) -> None:
        self._clock = clock
        self._left = limits.lookups
        self._until_ms = clock.now_ms() + limits.seconds * 1000

    def spend(self) -> None:
        """Pays for one look. Raises SpentError."""
        if self._clock.now_ms() >= self._until_ms:
            raise SpentError("deadline")
        if self._left <= 0:
            raise SpentError("budget")
        self._left -= 1

    @property
    def left_s(self) -> float:
        """Seconds until the deadline, at least 0."""
        return max(0, self._until_ms - self._clock.now_ms()) / 1000
