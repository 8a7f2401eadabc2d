"""The six places of users that shipped outages speak of, and their part of the world's traffic."""

from typing import Final

TRAFFIC_BP: Final = {
    "africa": 500,
    "asia-pacific": 3_700,
    "europe": 2_500,
    "middle-east": 400,
    "north-america": 2_000,
    "south-america": 900,
}
"""Part of the traffic of a service that is used everywhere, in basis points, summing to 10 000.

An estimate (docs/simulation.md): of the visits to the 100 largest sites 17.4 % came from the United States,
5.9 % from Japan, 5.8 % from India, 4.2 % from China and 3.6 % from the United Kingdom in 2023; the rest lies
between that and the parts of the world's internet users. South America stands for
Latin America and the Caribbean.
"""


def traffic_bp(regions: tuple[str, ...]) -> int:
    """The part of the world's traffic that comes from `regions`; 0 if one of them is not among the six."""
    if any(region not in TRAFFIC_BP for region in regions):
        return 0
    return sum(TRAFFIC_BP[region] for region in regions)
