"""`Settings` of one service for one engine, from what the operator configured. Pure."""

from polycdn.model.settings import (
    CacheRules,
    Certificate,
    Forwarded,
    Gate,
    Limits,
    Reflexes,
    Settings,
    Upstream,
    Zone,
)
from polycdn.model.topology import Provider, Service

NO_LIMITS_SET = Limits()
NOTHING_SAID = Forwarded()
USUAL_REFLEXES = Reflexes()
OPEN_GATE = Gate()


def settings_for(
    service: Service,
    zone: Zone | None = None,
    certificates: tuple[Certificate, ...] = (),
    limits: Limits = NO_LIMITS_SET,
    *,
    cache: CacheRules | None = None,
    forwarded: Forwarded = NOTHING_SAID,
    reflexes: Reflexes = USUAL_REFLEXES,
    gate: Gate = OPEN_GATE,
) -> Settings:
    """What an engine needs to know of the service besides the plan."""
    return Settings(
        service=service.name,
        hostnames=(service.hostname, *service.aliases),
        upstreams=tuple(_upstream(provider) for provider in service.providers),
        origin=service.origin,
        regions=service.regions,
        objects=service.objects,
        certificates=certificates,
        zone=zone,
        limits=limits,
        cache=cache,
        forwarded=forwarded,
        reflexes=reflexes,
        gate=gate,
    )


def _upstream(provider: Provider) -> Upstream:
    addresses = provider.endpoint.addresses
    return Upstream(
        name=provider.name,
        kind=provider.kind,
        endpoint=provider.endpoint,
        cname=provider.cname,
        ipv4=tuple(address for address in addresses if ":" not in address),
        ipv6=tuple(address for address in addresses if ":" in address),
    )
