"""Parity of one service of the config: every provider is asked the same at the same moment."""

import asyncio
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace

from polycdn.errors import ConfigError, Fault
from polycdn.measure.http import Prober
from polycdn.measure.parity import ASKS, Line, Parity, compared, purge_line
from polycdn.measure.parity_ask import answer_of, handshake_of, versions_of
from polycdn.measure.parity_purge import reach_of
from polycdn.model.policy import Policy
from polycdn.model.purge import PurgeDoor
from polycdn.model.topology import Service
from polycdn.model.units import Clock
from polycdn.run.purge import read_token


@dataclass(frozen=True, slots=True)
class PurgeLook:
    """Purge this object of the service, through the doors of those providers that have one."""

    path: str
    doors: Mapping[str, PurgeDoor]


async def parity(service: Service, policy: Policy, clock: Clock, purge: PurgeLook | None = None) -> Parity:
    """The matrix of the service; all providers of one ask are asked at once. Needs two providers.

    `purge` changes the providers' caches. Raises ConfigError, before anything is asked.
    """
    providers = service.providers
    if len(providers) < 2:
        alone = f"{len(providers)} provider"
        raise ConfigError((Fault(f"service {service.name}", alone, "two or more", "add a provider"),))
    secrets = _secrets(service, purge) if purge else {}
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
    found = compared(service.name, clock.now_ms(), names, answers, shown)
    if purge is None:
        return found
    return replace(found, lines=(*found.lines, await _reach(service, deadline_ms, clock, purge, secrets)))


async def _reach(
    service: Service, deadline_ms: int, clock: Clock, purge: PurgeLook, secrets: Mapping[str, str]
) -> Line:
    place = (service.hostname, purge.path)
    values = await asyncio.gather(
        *(
            reach_of(each, purge.doors.get(each.name), secrets.get(each.name, ""), place, deadline_ms, clock)
            for each in service.providers
        )
    )
    return purge_line(purge.path, [each.name for each in service.providers], values)


def _secrets(service: Service, purge: PurgeLook) -> dict[str, str]:
    """Provider -> what it wants to hear. Raises ConfigError with every fault there is."""
    paths = [probed.path for probed in service.objects]
    faults = []
    if purge.path not in paths:
        remedy = "name an object of the service; add [[service.object]] for another"
        faults.append(Fault("--purge", repr(purge.path), ", ".join(paths), remedy))
    if not purge.doors:
        faults.append(
            Fault("--purge", "no provider that can be told", "[provider.purge]", "see docs/parity.md")
        )
    secrets = {}
    for name, door in purge.doors.items():
        try:
            secrets[name] = _secret(name, door)
        except ConfigError as error:
            faults += error.faults
    if faults:
        raise ConfigError(tuple(faults))
    return secrets


def _secret(provider: str, door: PurgeDoor) -> str:
    place = door.token_file or f"${door.token_variable}"
    if door.token_file is not None:
        secret = read_token(door.token_file)
    elif door.token_variable is not None:
        secret = os.environ.get(door.token_variable, "").strip()
    else:
        return ""
    if not secret or not secret.isascii() or not secret.isprintable():
        found = "has characters that no header takes" if secret else "is not set"
        remedy = "put the secret there, or name another place"
        raise ConfigError((Fault(f"{place}, for {provider}", found, "one line of ASCII", remedy),))
    return secret
