"""What a certificate authority's outage does to users: only certificates that expire in it fail."""

from collections.abc import Callable
from typing import Final

from polycdn.world.population import Population

DAY_S: Final = 86_400
STEP_S: Final = 60
MILLION_PPM: Final = 1_000_000
SCALE: Final = 10_000


def lost_ppm_seconds(population: Population, duration_s: int, failed_ppm: Callable[[int], int]) -> int:
    """Expected share of users without the service, in parts per million, summed over the seconds.

    `failed_ppm(s)` is the share of the authority's requests that fail s seconds into the outage. Certificates
    expire evenly over their lifetime. One that is renewed only then asks at once and every
    `certificate_retry_s`, and is expired until an answer is good or `duration_s` is over.
    """
    lifetime_s = population.certificate_days * DAY_S
    expired = 0  # in ppm of one step's certificates x SCALE, times seconds
    for start_s in range(0, duration_s, STEP_S):
        at_s, left = start_s, MILLION_PPM * SCALE
        while at_s < duration_s and left:
            left = left * failed_ppm(at_s) // MILLION_PPM
            expired += left * min(population.certificate_retry_s, duration_s - at_s)
            at_s += population.certificate_retry_s
    return expired * population.certificate_late_bp * STEP_S // (SCALE * 10_000 * lifetime_s)
