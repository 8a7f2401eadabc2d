"""Reports of vantages, taken in: signature, replay window, limits, then the decider's inbox.

`POST /observations` answers 202 taken, 400 not a report, 401 not signed by that vantage, 409 had it before,
413 too large; all but the first as RFC 9457 problems.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from polycdn.measure.report import REPORT_FORMAT, VantageReport
from polycdn.measure.sign import STAMP_HEADER, VANTAGE_HEADER, WINDOW_MS, refusal
from polycdn.model.observation import Observation, Source
from polycdn.model.topology import Service
from polycdn.model.units import ANYWHERE, NAMESERVER, ORIGIN, Clock
from polycdn.model.wire import from_json
from polycdn.run.inbox import Inbox
from polycdn.surface.feed import problem

REPORT_BYTES_MAX: Final = 4 * 1024 * 1024
ATTEMPTS_MAX: Final = 1_000
"""Of one observation by a vantage; a probe is one look."""


@dataclass(slots=True)
class Sender:
    """One vantage as the decider knows it: its secret, and what its last report said."""

    key: bytes
    newest_ms: int = 0
    heard_ms: int = 0
    last: VantageReport | None = None
    refused: int = 0
    refused_why: str = ""


class Ingest:
    """Takes reports of known vantages about known services; everything else is refused and counted."""

    def __init__(
        self, keys: Mapping[str, bytes], services: tuple[Service, ...], inbox: Inbox, clock: Clock
    ) -> None:
        self.senders = {vantage: Sender(key) for vantage, key in keys.items()}
        self._places = {service.name: places_of(service) for service in services}
        self._inbox = inbox
        self._clock = clock

    def heard_before(self, newest_ms: Mapping[str, int]) -> None:
        """What a decider that ran before had from each vantage, so that nothing is taken twice."""
        for vantage, at_ms in newest_ms.items():
            if vantage in self.senders:
                self.senders[vantage].newest_ms = at_ms

    def take(self, headers: Mapping[str, str], body: bytes) -> tuple[int, str]:
        """HTTP status and, if refused, why. `headers` have lower-case names."""
        sender = self.senders.get(headers.get(VANTAGE_HEADER, ""))
        if sender is None:
            return 401, "no such vantage"
        status, why = self._take(sender, headers, body)
        if status in (400, 401):
            sender.refused += 1
            sender.refused_why = why
        return status, why

    def _take(self, sender: Sender, headers: Mapping[str, str], body: bytes) -> tuple[int, str]:
        now_ms = self._clock.now_ms()
        if why := refusal(sender.key, headers, body, now_ms, 0):
            return 401, why
        if int(headers[STAMP_HEADER]) <= sender.newest_ms:
            return 409, "this report, or a newer one, was taken before"
        try:
            report = from_json(VantageReport, json.loads(body))
        except (ValueError, RecursionError) as error:
            return 400, f"not a report: {error}"
        if why := self._unfit(report, headers):
            return 400, why
        sender.newest_ms, sender.heard_ms, sender.last = report.at_ms, now_ms, report
        for one in report.services:
            self._inbox.observe(one.service, one.observations)
        return 202, ""

    def app(self) -> Starlette:
        """The HTTP side."""
        return Starlette(routes=[Route("/observations", self._post, methods=["POST"])])

    def _unfit(self, report: VantageReport, headers: Mapping[str, str]) -> str:
        if report.format != REPORT_FORMAT:
            return f"format {report.format!r}, known is {REPORT_FORMAT}"
        if report.vantage != headers[VANTAGE_HEADER] or str(report.at_ms) != headers[STAMP_HEADER]:
            return "the report is not the one that its headers name"
        for one in report.services:
            places = self._places.get(one.service)
            if places is None:
                return f"service {one.service!r} is not steered here"
            for seen in one.observations:
                if why := _unbelievable(seen, report, places):
                    return why
        return ""

    async def _post(self, request: Request) -> Response:
        if request.headers.get(VANTAGE_HEADER, "") not in self.senders:
            return problem(401, "Report refused", "no such vantage")
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > REPORT_BYTES_MAX:
                return problem(413, "Report too large", f"limit {REPORT_BYTES_MAX} bytes")
        status, why = self.take(request.headers, bytes(body))
        return problem(status, "Report refused", why) if why else Response(status_code=status)


def places_of(service: Service) -> frozenset[tuple[str, str]]:
    """Every (provider, region) that an observation of this service can be about; ANYWHERE = all regions."""
    providers = [provider.name for provider in service.providers] + [ORIGIN, NAMESERVER]
    regions = [region.name for region in service.regions] + [ANYWHERE]
    return frozenset((provider, region) for provider in providers for region in regions)


def _unbelievable(seen: Observation, report: VantageReport, places: frozenset[tuple[str, str]]) -> str:
    if seen.vantage != report.vantage or seen.source is not Source.PROBE:
        return f"an observation says that {seen.vantage!r} made it, as {seen.source.value}"
    if (seen.provider, seen.region) not in places:
        return f"provider {seen.provider!r} in region {seen.region!r} is not steered here"
    if not 0 <= seen.failures <= seen.attempts <= ATTEMPTS_MAX or seen.attempts == 0:
        return f"{seen.failures} failures in {seen.attempts} attempts"
    if seen.first_byte_ms < 0 or abs(seen.at_ms - report.at_ms) > WINDOW_MS:
        return f"an observation {seen.at_ms - report.at_ms} ms from its report, limit {WINDOW_MS} ms"
    return ""
