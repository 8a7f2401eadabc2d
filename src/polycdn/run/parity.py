"""Parity of one service of the config: every provider is asked the same at the same moment."""

import asyncio

from polycdn.errors import ConfigError, Fault
from polycdn.measure.http import Prober
from polycdn.measure.parity import ASKS, Parity, compared
from polycdn.measure.parity_ask import answer_of, handshake_of, versions_of
from polycdn.model.policy import Policy
from polycdn.model.topology import Service
from polycdn.model.units import Clock


async def parity(service: Service, policy: Policy, clock: Clock) -> Parity:
    """The matrix of the service; all providers of one ask are asked at once. Needs two providers."""
    providers = service.providers
    if len(providers) < 2:
        found = f"{len(providers)} provider"
        raise ConfigError((Fault(f"service {service.name}", found, "two or more", "add a provider"),))
    deadline_ms, host = policy.probe_deadline_ms, service.hostname
    answers = []
    for probed in service.objects:
        for ask in ASKS:
            answers += await asyncio.gather(
                *(answer_of(each, host, probed.path, ask, deadline_ms) for each in providers)
            )
    path = service.objects[0].path
    async with Prober(clock) as prober:
        spoken = await asyncio.gather(
            *(versions_of(prober, each, host, path, deadline_ms) for each in providers)
        )
    secured = await asyncio.gather(*(handshake_of(each, deadline_ms) for each in providers))
    names = [each.name for each in providers]
    shown = {
        "http": dict(zip(names, spoken, strict=True)),
        "tls": dict(zip(names, secured, strict=True)),
    }
    return compared(service.name, clock.now_ms(), names, answers, shown)
