"""One look at a URL through everyone who carries its hostname, side by side."""

import re
from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import urlsplit

from polycdn.errors import ConfigError, Fault
from polycdn.measure.http import Prober
from polycdn.measure.look import Look, Question
from polycdn.measure.target import targets_of
from polycdn.measure.tls import fetch_chain
from polycdn.model.observation import Reason
from polycdn.model.policy import Policy
from polycdn.model.topology import Endpoint, Expect, ProbedObject, Service
from polycdn.model.units import Clock

PUBLIC: Final = "public"
"""Stands in place of a provider for a look by the hostname's own addresses."""

DEADLINE_MS: Final = 5_000


@dataclass(frozen=True, slots=True)
class ProbeReport:
    """Looks at one URL, one for each provider in the operator's order, then the origin.

    `service` is "" when no config carries the hostname; then there is one look, at `PUBLIC`.
    """

    url: str
    service: str
    looks: tuple[Look, ...]

    @property
    def is_good(self) -> bool:
        """Whether every look was."""
        return all(look.is_good for look in self.looks)

    @property
    def is_blind(self) -> bool:
        """Whether nothing could be looked at from here."""
        return all(look.reason is Reason.BLIND for look in self.looks)

    @property
    def has_same_body(self) -> bool | None:
        """Whether all good looks brought the same bytes; None with fewer than two."""
        bodies = [look.sha256 for look in self.looks if look.is_good and look.sha256]
        return len(set(bodies)) == 1 if len(bodies) >= 2 else None


async def probe(url: str, services: tuple[tuple[Service, Policy], ...], clock: Clock) -> ProbeReport:
    """One fresh look through each provider of the service that has the URL's hostname. Raises ConfigError."""
    endpoint, path = read_url(url)
    service, questions = _questions(endpoint, path, services)
    async with Prober(clock) as prober:
        looks = await prober.looks(questions)
    known = {probed.path for own, _policy in services if own.name == service for probed in own.objects}
    return ProbeReport(
        url=url,
        service=service,
        looks=tuple(
            [
                await _finished(look, question, is_known=path in known)
                for look, question in zip(looks, questions, strict=True)
            ]
        ),
    )


def read_url(url: str) -> tuple[Endpoint, str]:
    """Where a URL points to, and its path with the query. Raises ConfigError."""
    try:
        parts = urlsplit(url if "://" in url else f"https://{url}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port, parts = None, None, urlsplit("")
    is_plain = re.fullmatch(r"[!-~]+", url) is not None
    if parts.scheme not in ("http", "https") or not host or not is_plain or parts.username is not None:
        fault = Fault(
            place="URL",
            found=repr(url),
            allowed="http:// or https:// with a host; no user, no spaces",
            remedy="write it like https://www.example.com/health.txt",
        )
        raise ConfigError((fault,))
    tls = parts.scheme == "https"
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Endpoint(host, port or (443 if tls else 80), tls), path


def _questions(
    endpoint: Endpoint, path: str, services: tuple[tuple[Service, Policy], ...]
) -> tuple[str, list[Question]]:
    for service, policy in services:
        if endpoint.host in (service.hostname, *service.aliases):
            return service.name, [
                Question(
                    provider=target.provider,
                    endpoint=target.endpoint,
                    path=path,
                    host=endpoint.host,
                    expect=_expect(service.objects, path),
                    resolve_name=target.resolve_name,
                    deadline_ms=policy.probe_deadline_ms,
                    slow_ms=policy.slow_ms,
                )
                for target in targets_of(service, policy)
            ]
    return "", [Question(PUBLIC, endpoint, path, deadline_ms=DEADLINE_MS)]


def _expect(objects: tuple[ProbedObject, ...], path: str) -> Expect:
    return next((probed.expect for probed in objects if probed.path == path), Expect())


async def _finished(look: Look, question: Question, *, is_known: bool) -> Look:
    """With the certificate also where it was refused; a redirect of a path without expectations is fine."""
    if look.reason is Reason.STATUS and not is_known and look.status < 400:
        look = replace(look, reason=Reason.OK, detail=f"status {look.status}")
    if look.reason in (Reason.TLS, Reason.CERT_EXPIRED):
        chain = await fetch_chain(question.endpoint, question.connect_host, question.deadline_ms)
        return replace(look, chain=chain)
    return look
