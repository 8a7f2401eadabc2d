"""The default service of the false world: two CDNs and an own edge, two clouds as its origins."""

from dataclasses import replace
from typing import Final

from polycdn.incidents.regions import TRAFFIC_BP
from polycdn.model.policy import Policy
from polycdn.model.topology import Endpoint, Provider, ProviderKind, Region, Service, Vantage
from polycdn.model.units import ANYWHERE

PROBE_INTERVAL_MS: Final = 10_000
POLICY: Final = Policy(probe_interval_ms=PROBE_INTERVAL_MS)
WORLD: Final = tuple(TRAFFIC_BP)
DEMAND_RPS: Final = 10_000
"""Of the whole service; nobody in the default service has a capacity, so only its parts matter."""


def cdn_service(is_regional: bool = False) -> Service:
    """What users ask: carried by `cdn-a`, which the outage hits, `cdn-b` and the own edge, in this order."""
    return Service(
        name="www",
        hostname="www.example",
        providers=(
            _provider("cdn-a", ProviderKind.CDN),
            _provider("cdn-b", ProviderKind.CDN),
            _provider("own-edge", ProviderKind.EDGE),
        ),
        origin=Endpoint("origin.example"),
        regions=_regions(is_regional),
        vantages=_vantages(is_regional),
    )


def cloud_service(is_regional: bool = False) -> Service:
    """What CDNs and edge ask: the origin, carried by `cloud-a`, which the outage hits, and `cloud-b`."""
    return replace(
        cdn_service(is_regional),
        name="origin",
        hostname="origin.example",
        providers=(_provider("cloud-a", ProviderKind.CLOUD), _provider("cloud-b", ProviderKind.CLOUD)),
        origin=None,
    )


def _provider(name: str, kind: ProviderKind) -> Provider:
    return Provider(name, kind, Endpoint(f"{name}.example"))


def _regions(is_regional: bool) -> tuple[Region, ...]:
    if not is_regional:
        return (Region(ANYWHERE, demand_rps=DEMAND_RPS),)
    return tuple(Region(name, demand_rps=DEMAND_RPS * TRAFFIC_BP[name] // 10_000) for name in WORLD)


def _vantages(is_regional: bool) -> tuple[Vantage, ...]:
    if not is_regional:
        return tuple(Vantage(f"v{number}") for number in (1, 2, 3))
    return tuple(Vantage(f"{name}-v{number}", (name,)) for name in WORLD for number in (1, 2, 3))
