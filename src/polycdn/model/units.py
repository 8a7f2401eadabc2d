"""Units that every room shares."""

from typing import Final, Protocol

FULL_BP: Final = 10_000
"""All of something, in basis points: shares of one region sum to this."""

ORIGIN: Final = "origin"
"""Reserved provider name in observations: the object was fetched from the origin directly."""

NAMESERVER: Final = "nameserver"
"""Reserved provider name in observations: our own nameserver was asked for the service's name."""

PARITY: Final = "(parity)"
"""In place of a vantage and of a path in observations of parity: no name and no path can be written so. They
say who answers otherwise, and are no evidence of health."""

ANYWHERE: Final = "anywhere"
"""Name of the default region, used where a config names none."""


class Clock(Protocol):
    """Tells the time and waits. Only `run/clock.py` implements it with a real clock."""

    def now_ms(self) -> int:
        """Milliseconds UTC; never smaller than the answer before."""
        ...

    async def sleep_until(self, at_ms: int) -> None:
        """Returns once `now_ms() >= at_ms`."""
        ...
