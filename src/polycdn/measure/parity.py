"""Whether providers answer alike: what is asked of each, and where one differs from the first. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from polycdn.model.observation import Observation, Reason
from polycdn.model.topology import Service
from polycdn.model.units import PARITY

HEADERS: Final = (
    "cache-control",
    "content-type",
    "content-encoding",
    "vary",
    "etag",
    "access-control-allow-origin",
    "access-control-allow-credentials",
    "access-control-expose-headers",
    "strict-transport-security",
    "content-security-policy",
    "x-content-type-options",
    "x-frame-options",
    "referrer-policy",
    "permissions-policy",
    "cross-origin-opener-policy",
    "cross-origin-embedder-policy",
    "cross-origin-resource-policy",
    "accept-ranges",
    "content-range",
    "location",
)
"""Headers that users' programs act on; others, such as Server or Date, may differ."""
BODILESS: Final = ("head", "compressed")
"""Asks whose bodies are not compared: there is none, or two encoders need not agree on its bytes."""
FAILED: Final = "no answer"
NOT_ASKED: Final = "not asked"
NOT_SEEN: Final = "not seen"
OPEN: Final = (NOT_ASKED, NOT_SEEN)
"""How a value begins that nobody knows: neither equal nor unequal."""
REACHED: Final = "reached"
NOT_REACHED: Final = "not reached"
NO_DOOR: Final = "no purge configured"


@dataclass(frozen=True, slots=True)
class Ask:
    """One request that every provider gets: `aspect` names it."""

    aspect: str
    method: str = "GET"
    headers: tuple[tuple[str, str], ...] = ()
    query: str = ""


ASKS: Final = (
    Ask("plain"),
    Ask("head", "HEAD"),
    Ask("range", headers=(("Range", "bytes=0-9"),)),
    Ask("cors", headers=(("Origin", "https://parity.example"),)),
    Ask("compressed", headers=(("Accept-Encoding", "gzip, br"),)),
    Ask("marker", query="polycdn-parity=%3Cscript%3E"),
)
"""The marker is a harmless word that firewalls of the web look for: a block there is a status of its own."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What one provider said to one ask. `status` 0 = nothing, with the reason in `detail`."""

    provider: str
    path: str
    aspect: str
    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body_bytes: int = 0
    sha256: str = ""
    protocol: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Line:
    """One row of the matrix: a value a provider, in their order.

    `unequal` = those not like the first of whom the value is known; `unknown` = those of whom it is not.
    """

    path: str
    aspect: str
    what: str
    values: tuple[str, ...]
    unequal: tuple[str, ...]
    unknown: tuple[str, ...] = ()


def purge_line(path: str, providers: Sequence[str], values: Sequence[str]) -> Line:
    """The row on the reach of a purge: everybody whom it reaches is equal, and all if nobody has any."""
    is_reaching = REACHED in values
    unequal = tuple(
        name for name, value in zip(providers, values, strict=True)
        if value.startswith(NOT_REACHED) or (is_reaching and value == NO_DOOR)
    )  # fmt: skip
    unknown = tuple(name for name, value in zip(providers, values, strict=True) if value.startswith(OPEN))
    return Line(path, "purge", "reach", tuple(values), unequal, unknown)


@dataclass(frozen=True, slots=True)
class Parity:
    """The matrix of one service. The first provider is what the others are compared with."""

    service: str
    at_ms: int
    providers: tuple[str, ...]
    lines: tuple[Line, ...]

    @property
    def not_ready(self) -> tuple[str, ...]:
        """Providers that differ somewhere, in order."""
        found = {name for line in self.lines for name in line.unequal}
        return tuple(name for name in self.providers if name in found)


def compared(
    service: str,
    at_ms: int,
    providers: Sequence[str],
    answers: Sequence[Answer],
    shown: Mapping[str, Mapping[str, Mapping[str, str]]],
) -> Parity:
    """The matrix, from all answers and from what else was shown (aspect -> provider -> what -> value)."""
    lines: list[Line] = []
    by_ask: dict[tuple[str, str], dict[str, Answer]] = {}
    for answer in answers:
        by_ask.setdefault((answer.path, answer.aspect), {})[answer.provider] = answer
    for (path, aspect), each in by_ask.items():
        facts = [_facts(each[name]) if name in each else {"status": FAILED} for name in providers]
        lines += [
            _line(path, aspect, what, providers, [fact.get(what, "-") for fact in facts])
            for what in dict.fromkeys(key for fact in facts for key in fact)
        ]
    for aspect, each_shown in shown.items():
        for what in dict.fromkeys(key for name in providers for key in each_shown.get(name, {})):
            values = [each_shown.get(name, {}).get(what, "-") for name in providers]
            lines.append(_line("", aspect, what, providers, values))
    return Parity(service, at_ms, tuple(providers), tuple(lines))


def observations_of(service: Service, not_ready: Sequence[str], at_ms: int) -> tuple[Observation, ...]:
    """One look a provider and region: PARITY and failed for those that are not ready, else good.

    No other look takes a finding back. With the policy `require_parity` a provider that carries nothing is
    not offered traffic until its next look of this kind is good.
    """
    return tuple(
        Observation(
            at_ms,
            provider.name,
            region.name,
            PARITY,
            Reason.PARITY if provider.name in not_ready else Reason.OK,
            failures=int(provider.name in not_ready),
            path=PARITY,
        )
        for provider in service.providers
        for region in service.regions
    )


def _facts(answer: Answer) -> dict[str, str]:
    if not answer.status:
        return {"status": f"{FAILED}: {answer.detail}"[:80]}
    named = dict(answer.headers)
    facts = {"status": str(answer.status), "protocol": answer.protocol, "body": answer.sha256[:16]}
    if answer.aspect in BODILESS:
        facts.pop("body")
    return facts | {name: named[name] for name in HEADERS if name in named}


def _line(path: str, aspect: str, what: str, providers: Sequence[str], values: Sequence[str]) -> Line:
    known = [value for value in values if not value.startswith(OPEN)]
    unequal = tuple(
        name for name, value in zip(providers, values, strict=True)
        if value in known and (value != known[0] or value.startswith(FAILED))
    )  # fmt: skip
    unknown = tuple(name for name, value in zip(providers, values, strict=True) if value not in known)
    return Line(path, aspect, what, tuple(values), unequal, unknown)
