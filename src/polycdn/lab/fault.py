"""Which request meets which fault: a pure function of a schedule, who serves, which request, and when.

Chance is a hash (model/chance.py), so that the same request meets the same fate in lab and simulation.

| kind | decided | what the client meets |
|---|---|---|
| refuse | connection | share 1: nobody listens; less: reset at accept |
| hang | connection | accepted, then silence |
| tls | connection | the handshake is answered with something that is not TLS |
| expired-cert | connection | a certificate that expired yesterday |
| reset, empty-reply | request | reset, or closed, after the request was read |
| lost-answer | request | it is carried out, then the connection is closed without an answer |
| garbage, header-bomb | request | bytes that are no HTTP; fields without an end |
| http-5xx, error-page | request | status 503; status 200 with a page of HTML |
| slow-first-byte, slow-drip | request | nothing for `delay_ms`; one byte each `delay_ms` |
| die-mid-body, truncate, stall | request | half of the body, then reset; closed; silence |
| corrupt | request | some bytes of the body differ |
| wrong-type, wrong-length | request | 200, but as HTML; half of the body as if it were all |
| other-version | request | the object as another provider does not have it, with an ETag of its own |
| dns-servfail, dns-empty, dns-timeout | query | only nameservers do these |
"""

import json
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from polycdn.model.chance import MILLION_PPM, chance_ppm
from polycdn.model.wire import WireError, from_json

SCHEDULE_BYTES_MAX: Final = 4_194_304


class FaultKind(StrEnum):
    """What goes wrong; the table above says how."""

    REFUSE = "refuse"
    HANG = "hang"
    TLS = "tls"
    EXPIRED_CERT = "expired-cert"
    RESET = "reset"
    EMPTY_REPLY = "empty-reply"
    LOST_ANSWER = "lost-answer"
    GARBAGE = "garbage"
    HEADER_BOMB = "header-bomb"
    HTTP_5XX = "http-5xx"
    ERROR_PAGE = "error-page"
    SLOW_FIRST_BYTE = "slow-first-byte"
    SLOW_DRIP = "slow-drip"
    DIE_MID_BODY = "die-mid-body"
    TRUNCATE = "truncate"
    STALL = "stall"
    CORRUPT = "corrupt"
    WRONG_TYPE = "wrong-type"
    WRONG_LENGTH = "wrong-length"
    OTHER_VERSION = "other-version"
    DNS_SERVFAIL = "dns-servfail"
    DNS_EMPTY = "dns-empty"
    DNS_TIMEOUT = "dns-timeout"


AT_CONNECTION: Final = frozenset({FaultKind.REFUSE, FaultKind.HANG, FaultKind.TLS, FaultKind.EXPIRED_CERT})
AT_QUERY: Final = frozenset({FaultKind.DNS_SERVFAIL, FaultKind.DNS_EMPTY, FaultKind.DNS_TIMEOUT})
AT_REQUEST: Final = frozenset(FaultKind) - AT_CONNECTION - AT_QUERY

DELAY_MS: Final = {FaultKind.SLOW_FIRST_BYTE: 2_500, FaultKind.SLOW_DRIP: 250}
"""Real time. A slow first byte is slow, not lost: it comes inside the clients' deadline of 5 s."""


@dataclass(frozen=True, slots=True)
class Window:
    """A fault at one provider from `from_ms` until before `to_ms` of the timeline, for a share of requests.

    With `period_ms` it is a square wave around `share_ppm`: the first half of each period fails with twice
    the share (at most all), the second not at all. `delay_ms` is real time, None = that of DELAY_MS.
    `groups` narrows it to requests whose key has one of these as its middle part ("single/feed-get/7");
    empty = all.
    """

    provider: str
    from_ms: int
    to_ms: int
    kind: FaultKind
    share_ppm: int = MILLION_PPM
    period_ms: int | None = None
    delay_ms: int | None = None
    groups: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Schedule:
    """All faults of a lab, as it lies in a faults file. The order of windows matters where they overlap."""

    seed: int = 1
    windows: tuple[Window, ...] = ()


@dataclass(frozen=True, slots=True)
class Fault:
    """What one request meets. `delay_ms` is 0 where the kind knows no delay."""

    kind: FaultKind
    delay_ms: int = 0


EVERY_KIND: Final = frozenset(FaultKind)


def fault_for(
    schedule: Schedule,
    provider: str,
    key: str,
    at_ms: int,
    kinds: frozenset[FaultKind] = EVERY_KIND,
) -> Fault | None:
    """The fate of one request: a fault of one of `kinds`, or None.

    Windows that overlap are independent causes: each takes its share of what those before it left.
    """
    running = [window for window in schedule.windows if window.provider == provider]
    running = [
        window for window in running if window.kind in kinds and window.from_ms <= at_ms < window.to_ms
    ]
    if not running:
        return None
    draw_ppm = chance_ppm(schedule.seed, provider, key)
    taken_ppm = 0
    for window in running:
        if not _is_in_group(window, key):
            continue
        taken_ppm += (MILLION_PPM - taken_ppm) * share_ppm_at(window, at_ms) // MILLION_PPM
        if draw_ppm < taken_ppm:
            return Fault(window.kind, window.delay_ms or DELAY_MS.get(window.kind, 0))
    return None


def share_ppm_at(window: Window, at_ms: int) -> int:
    """The share of requests that a window takes at one moment, its square wave worked in."""
    if not window.from_ms <= at_ms < window.to_ms:
        return 0
    if not window.period_ms:
        return window.share_ppm
    if (at_ms - window.from_ms) % window.period_ms >= window.period_ms // 2:
        return 0
    return min(MILLION_PPM, 2 * window.share_ppm)


def is_refusing(schedule: Schedule, provider: str, at_ms: int) -> bool:
    """Whether nobody listens at all: a `refuse` of every connection."""
    return any(
        window.provider == provider
        and window.kind is FaultKind.REFUSE
        and not window.groups
        and share_ppm_at(window, at_ms) >= MILLION_PPM
        for window in schedule.windows
    )


def read_schedule(raw: bytes) -> Schedule:
    """The schedule in a faults file. Raises WireError when it is too large or has another shape."""
    if len(raw) > SCHEDULE_BYTES_MAX:
        raise WireError(f"{len(raw)} bytes, limit {SCHEDULE_BYTES_MAX}")
    try:
        found = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise WireError(str(error)) from None
    return from_json(Schedule, found)


def _is_in_group(window: Window, key: str) -> bool:
    return not window.groups or key.split("/")[1:2] in ([group] for group in window.groups)
