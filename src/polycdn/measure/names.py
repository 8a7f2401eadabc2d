"""Which names a vantage looks up, and what look number k asks. Pure.

Users find a provider that is known by name through DNS, and the service itself through our nameservers: both
can fail while every HTTP look over a kept connection is good.
"""

from dataclasses import dataclass
from typing import Final

from polycdn.measure.dns import NameQuestion
from polycdn.measure.target import carried
from polycdn.model.address import is_address
from polycdn.model.policy import Policy
from polycdn.model.topology import Provider, Service
from polycdn.model.units import ANYWHERE, NAMESERVER

SYSTEM_RESOLVER: Final = ""


@dataclass(frozen=True, slots=True)
class NameTarget:
    """A name to look up. A failure speaks against `provider`; `servers` (`address:port`) take turns."""

    service: Service
    policy: Policy
    provider: str
    hostname: str
    servers: tuple[str, ...]
    regions: tuple[str, ...]
    expected: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Unique in one vantage."""
        return f"{self.service.name}/{self.provider}/name"

    @property
    def is_ours(self) -> bool:
        """Whether our own nameserver is asked."""
        return self.provider == NAMESERVER


def names_of(
    service: Service, policy: Policy, regions: tuple[str, ...] = (), resolver: str | None = None
) -> tuple[NameTarget, ...]:
    """The names of the providers that have no address, then the service's own if a nameserver of ours has it.

    `regions` are the vantage's, empty = all. `resolver` is whom it asks, None = the machine's own.
    """
    known = tuple(region.name for region in service.regions)
    mine = tuple(name for name in known if name in regions) if regions else (ANYWHERE,)
    servers = (resolver or SYSTEM_RESOLVER,)
    targets = [
        NameTarget(service, policy, each.name, hostname, servers, carried(mine, each.regions))
        for each in service.providers
        if (hostname := _name_of(each))
    ]
    if service.nameservers:
        expected = _answers_of(service)
        own = NameTarget(service, policy, NAMESERVER, service.hostname, service.nameservers, mine, expected)
        targets.append(own)
    return tuple(target for target in targets if target.regions)


def name_question_of(target: NameTarget, sequence: int, source_address: str | None = None) -> NameQuestion:
    """What look `sequence` asks."""
    server, _, port = target.servers[sequence % len(target.servers)].rpartition(":")
    return NameQuestion(
        provider=target.provider,
        name=target.hostname,
        server=server.strip("[]"),
        port=int(port or 53),
        expected=target.expected,
        is_any_kind=True,
        deadline_ms=target.policy.probe_deadline_ms,
        source_address=source_address,
    )


def _name_of(provider: Provider) -> str:
    """The name that a provider is found by; "" when it is found by address."""
    name = provider.cname or provider.endpoint.host
    return "" if provider.endpoint.addresses or is_address(name) else name


def _answers_of(service: Service) -> tuple[str, ...]:
    """Everything that our nameserver may answer with; () when not all of it is known."""
    answers: list[str] = []
    for provider in service.providers:
        own = [*provider.endpoint.addresses, *([provider.cname.rstrip(".")] if provider.cname else [])]
        if not own:
            return ()
        answers += own
    return tuple(answers)
