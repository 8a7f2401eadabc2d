"""Quantities as people write them: "10s", "30%", "10 Gbit/s", "0.08/GiB", "20 MiB". Pure.

The unit at the end of a key's full name says what it is: `dwell_ms` may be written `dwell_ms = 60000` or
`dwell = "1m"`. Every quantity becomes a whole number of that unit, exactly, or is refused.
"""

import re
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Final

NUMBER: Final = re.compile(r"\s*([0-9]{1,18}(?:\.[0-9]{1,9})?)\s*([^\s0-9].*?)?\s*")
MS: Final = {"ms": 1, "s": 1_000, "m": 60_000, "min": 60_000, "h": 3_600_000, "d": 86_400_000}
BYTES: Final = {
    "B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
    "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40,
}  # fmt: skip
MBPS: Final = {"Mbit/s": 1, "Gbit/s": 10**3, "Tbit/s": 10**6, "Mbps": 1, "Gbps": 10**3, "Tbps": 10**6}
RPS: Final = {"rps": 1, "req/s": 1, "requests/s": 1, "krps": 1000}
GIB: Final = 2**30


class QuantityError(ValueError):
    """The text is not such a quantity; the message says what was found."""


@dataclass(frozen=True, slots=True)
class Unit:
    """The end of a key's name, and how its values are written."""

    suffix: str
    scale: tuple[tuple[str, Decimal], ...]
    example: str
    noun: str

    def parse(self, text: str) -> int:
        """A whole number of this unit. Raises QuantityError."""
        match = NUMBER.fullmatch(text)
        if not match:
            raise QuantityError(f'"{text}"')
        number, name = Decimal(match.group(1)), match.group(2) or ""
        factor = dict(self.scale).get(name)
        if factor is None:
            raise QuantityError(f'"{text}" (no unit)' if not name else f'"{text}" (unit "{name}")')
        exact = number * factor
        if self.suffix == "micros_per_gib":
            exact = exact.quantize(Decimal(1), ROUND_HALF_EVEN)  # a price per GB is never whole per GiB
        if exact != exact.to_integral_value():
            raise QuantityError(f'"{text}" ({exact.normalize():f}, not a whole number of {self.suffix})')
        return int(exact)

    def tell(self, value: int) -> str:
        """A value as one would write it, in the largest unit that leaves a short exact number."""
        for name, factor in sorted(self.scale, key=lambda pair: -pair[1]):
            number = Decimal(value) / factor
            is_last = factor == min(factor for _name, factor in self.scale)
            if is_last or (number >= 1 and number * 1000 % 1 == 0):
                return f"{number.normalize():f}{_spaced(name)}"
        raise AssertionError("a unit has a scale")

    @property
    def names(self) -> str:
        """The units that may be written."""
        return ", ".join(name for name, _factor in self.scale)


def _spaced(name: str) -> str:
    return name if name in MS or name in "%/GiB" else f" {name}"


def _scale(units: dict[str, int], per: int = 1) -> tuple[tuple[str, Decimal], ...]:
    return tuple((name, Decimal(factor) / per) for name, factor in units.items())


UNITS: Final = (
    Unit("ms", _scale(MS), "10s", "a duration"),
    Unit("s", _scale(MS, 1_000), "1m", "a duration"),
    Unit("days", _scale(MS, 86_400_000), "30d", "a duration"),
    Unit("bp", (("%", Decimal(100)),), "30%", "a share"),
    Unit("bytes", _scale(BYTES), "20 MiB", "a size"),
    Unit("mbps", _scale(MBPS), "10 Gbit/s", "a rate"),
    Unit("rps", _scale(RPS), "20000 rps", "a rate"),
    Unit(
        "micros_per_gib",
        (("/GiB", Decimal(10**6)), ("/GB", Decimal(10**6) * GIB / 10**9)),
        "0.08/GiB",
        "a price",
    ),
)

BY_SUFFIX: Final = {unit.suffix: unit for unit in UNITS}


def unit_of(key: str) -> tuple[str, Unit] | None:
    """The short key and the unit of a key with its unit in the name; None for any other key."""
    for unit in sorted(UNITS, key=lambda unit: -len(unit.suffix)):
        short = key.removesuffix(f"_{unit.suffix}")
        if short and short != key:
            return short, unit
    return None
