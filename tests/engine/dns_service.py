"""A service as the nameserver gets it, and a client for its answers."""

from dataclasses import replace

import dns.flags
import dns.message
import dns.query
import dns.rdatatype

from polycdn.model.plan import Plan, RegionPlan
from polycdn.model.settings import NameServer, PublishedPlan, Settings, Upstream, Zone
from polycdn.model.topology import Endpoint, ProviderKind, Region
from polycdn.model.wire import digest

ENDPOINT = Endpoint("origin.test")

SETTINGS = Settings(
    service="www",
    hostnames=("www.example.test", "deep.er.example.test"),
    upstreams=(
        Upstream("alpha", ProviderKind.CDN, ENDPOINT, None, ("192.0.2.1", "192.0.2.2"), ("2001:db8::1",)),
        Upstream("beta", ProviderKind.CDN, ENDPOINT, None, ("198.51.100.1",)),
        Upstream("gamma", ProviderKind.CDN, ENDPOINT, "customer.cdn.test"),
    ),
    regions=(Region(), Region("eu", ("10.0.0.0/8",))),
    zone=Zone(
        "example.test",
        (NameServer("ns1.example.test", ("127.0.0.1",)), NameServer("ns2.other.test")),
        "hostmaster@example.test",
    ),
)


def published(
    generation: int,
    anywhere: dict[str, int] | None = None,
    eu: dict[str, int] | None = None,
    settings: Settings = SETTINGS,
    ttl_s: int = 60,
) -> PublishedPlan:
    """A plan with these shares; everything at alpha where none are named."""
    regions = tuple(
        _region(region.name, shares or {"alpha": 10_000}, settings, ttl_s)
        for region, shares in zip(settings.regions, (anywhere, eu or anywhere), strict=True)
    )
    plan = Plan(settings.service, generation, generation - 1, 1_700_000_000_000, regions)
    return PublishedPlan(plan, digest(settings))


def _region(name: str, shares: dict[str, int], settings: Settings, ttl_s: int) -> RegionPlan:
    others = tuple(one.name for one in settings.upstreams if one.name not in shares)
    return RegionPlan(name, tuple(shares.items()), (*shares, *others), ttl_s)


def named(service: str, hostname: str) -> Settings:
    """The same for another service."""
    return replace(SETTINGS, service=service, hostnames=(hostname,))


class Client:
    """Asks one nameserver."""

    def __init__(self, listener: str) -> None:
        address, port = listener.rsplit(":", 1)
        self.address, self.port = address.strip("[]"), int(port)

    def ask(self, name: str, kind: str = "A", tcp: bool = False, **query: object) -> dns.message.Message:
        """The reply, checked by dnspython to be well-formed and to this question."""
        message = dns.message.make_query(name, kind, **query)  # type: ignore[arg-type]
        send = dns.query.tcp if tcp else dns.query.udp
        return send(message, self.address, timeout=30, port=self.port)

    def addresses(self, name: str = "www.example.test", kind: str = "A", **query: object) -> list[str]:
        """The answer's data as text, sorted."""
        reply = self.ask(name, kind, **query)  # type: ignore[arg-type]
        return sorted(item.to_text() for rrset in reply.answer for item in rrset)
