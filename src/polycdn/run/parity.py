"""Parity of one service of the config: every provider is asked the same at the same moment."""

import asyncio

from polycdn.errors import ConfigError, Fault
from polycdn.measure.parity import ASKS, Parity, compared
from polycdn.measure.parity_ask import answer_of, handshake_of
from polycdn.model.policy import Policy
from polycdn.model.topology import Service
from polycdn.model.units import Clock


async def parity(service: Service, policy: Policy, clock: Clock) -> Parity:
    """The matrix of the service; all providers of one ask are asked at once. Needs two providers."""
    providers = service.providers
    if len(providers) < 2:
        found = f"{len(providers)} provider"
        raise ConfigError((Fault(f"service {service.name}", found, "two or more", "add a provider"),))
    deadline_ms = policy.probe_deadline_ms
    answers = []
    for probed in service.objects:
        for ask in ASKS:
            answers += await asyncio.gather(
                *(
                    answer_of(each.name, each.endpoint, service.hostname, probed.path, ask, deadline_ms)
                    for each in providers
                )
            )
    shown = await asyncio.gather(*(handshake_of(each.endpoint, deadline_ms) for each in providers))
    names = [each.name for each in providers]
    handshakes = dict(zip(names, shown, strict=True))
    return compared(service.name, clock.now_ms(), names, answers, handshakes)
