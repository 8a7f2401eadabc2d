"""The very requests that the lab's clients would send in a rehearsal, and which of them fail.

A rehearsal sends a few thousand requests, each with a fate that is a hash of its key. Counting the same keys
here takes the luck of the draw out of the comparison of the two.
"""

from bisect import bisect_right
from dataclasses import dataclass
from typing import Final

from polycdn.lab.spec import Rates
from polycdn.model.chance import MILLION_PPM, chance_ppm
from polycdn.model.units import FULL_BP
from polycdn.world.cohort import PARTS
from polycdn.world.fault import Injection
from polycdn.world.users import DNS, EDGE, SINGLE, THRESHOLD

CHAT: Final = "chat"
POST: Final = "feed-post"
MRPS_PER_RPS: Final = 1_000
LAB_RATES: Final = Rates()


@dataclass(frozen=True, slots=True)
class Stretch:
    """From `start_s` on, until the next stretch: the parts of each client that use the failing provider."""

    start_s: int
    threshold_parts: int
    dns_parts: int
    edge_parts: int

    def parts(self, client: str) -> int:
        """Of `PARTS` of one client kind."""
        told = {THRESHOLD: self.threshold_parts, DNS: self.dns_parts, EDGE: self.edge_parts, SINGLE: PARTS}
        return told[client]


@dataclass(frozen=True, slots=True)
class Load:
    """What is sent: the lab's rates in real time, on a timeline that is `speed` times as fast."""

    seed: int
    speed: int
    end_ms: int
    rates: Rates = LAB_RATES


def groups_of(rates: Rates) -> tuple[tuple[str, int], ...]:
    """(group, requests in 1 000 s) of the lab's load; the names are those of its keys (lab/load.py)."""
    return (
        (CHAT, rates.chat_mrps),
        ("feed-get", rates.feed_get_mrps),
        (POST, rates.feed_post_mrps),
        ("music", rates.music_mrps),
        ("patch", rates.patch_mrps),
    )


def failed_bp(client: str, load: Load, injection: Injection, stretches: list[Stretch]) -> int:
    """Expected failed share of one client's attempts, in basis points.

    An edge saves all requests but those that it must not repeat. A chat that connects is two attempts, as
    the log has two lines of it: the connection, and the stream.
    """
    starts = [stretch.start_s for stretch in stretches]
    attempts = failed = 0
    for group, rate_mrps in groups_of(load.rates):
        for number, at_ms in due_ms(client, group, rate_mrps, load):
            on_sick = stretches[max(0, bisect_right(starts, at_ms // 1000) - 1)].parts(client)
            fails = _fails(client, group, number, at_ms, load, injection)
            lost = on_sick if fails and (client != EDGE or group == POST) else 0
            failed += lost
            attempts += PARTS if group != CHAT else 2 * PARTS - lost
    return (failed * FULL_BP + attempts // 2) // attempts if attempts else 0


def due_ms(client: str, group: str, rate_mrps: int, load: Load) -> list[tuple[int, int]]:
    """(number, timeline milliseconds) of every request of a group, as the lab's clients schedule them."""
    interval_us = MILLION_PPM * MRPS_PER_RPS // rate_mrps
    offset_us = interval_us * chance_ppm(load.seed, client, group) // MILLION_PPM
    count = max(0, -(-(load.end_ms * 1000 // load.speed - offset_us) // interval_us))
    return [(number, (offset_us + number * interval_us) // 1000 * load.speed) for number in range(count)]


def _fails(client: str, group: str, number: int, at_ms: int, load: Load, injection: Injection) -> bool:
    share_ppm = injection.at(at_ms).failed_ppm
    if share_ppm == 0:
        return False
    return chance_ppm(load.seed, injection.provider, f"{client}/{group}/{number}") < share_ppm
