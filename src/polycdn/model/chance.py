"""Repeatable chance: a hash of (seed, who, which), never dice.

The lab's faults, the simulated network's faults and the jitter of schedules all use it, so that the same
request of the same client fails in the lab and in the simulation alike.
"""

from hashlib import blake2b
from typing import Final

MILLION_PPM: Final = 1_000_000


def chance_ppm(seed: int, *keys: str | int) -> int:
    """A number from 0 to 999 999, uniform over keys: "happens" when it is below a share in ppm."""
    text = "\x1f".join([str(seed), *map(str, keys)])
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big") % MILLION_PPM
