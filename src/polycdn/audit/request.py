"""One GET over libcurl: headers, and a body up to a limit."""

import asyncio
import hashlib
from dataclasses import dataclass, replace
from typing import Any, Final
from urllib.parse import urljoin, urlsplit

import pycurl

from polycdn.audit.evidence import HttpLook, HttpStatus
from polycdn.audit.places import Places
from polycdn.audit.purse import Limits
from polycdn.measure.multi import Ended, Multi
from polycdn.measure.transfer import HEAD_BYTES_MAX, system_ca_file
from polycdn.model.units import Clock

USER_AGENT: Final = "Mozilla/5.0 (compatible; polycdn-audit)"
VERSIONS: Final = {
    pycurl.CURL_HTTP_VERSION_1_0: "1.0",
    pycurl.CURL_HTTP_VERSION_1_1: "1.1",
    pycurl.CURL_HTTP_VERSION_2_0: "2",
    pycurl.CURL_HTTP_VERSION_3: "3",
}
UNTRUSTED_CODES: Final = {pycurl.E_SSL_CACERT, pycurl.E_PEER_FAILED_VERIFICATION, pycurl.E_SSL_CERTPROBLEM}
REFUSED_CODES: Final = {pycurl.E_COULDNT_CONNECT, pycurl.E_COULDNT_RESOLVE_HOST}
VALUE_CHARACTERS_MAX: Final = 8_192
HEADERS_MAX: Final = 200


@dataclass(frozen=True, slots=True)
class Got:
    """A look and the body that came with it, at most as long as was asked for."""

    look: HttpLook
    body: bytes = b""


class Getter:
    """Makes requests over kept connections. Its Multi is opened and closed by its owner."""

    def __init__(
        self, multi: Multi, places: Places, clock: Clock, limits: Limits, ca_file: str | None = None
    ) -> None:
        self._multi = multi
        self._places = places
        self._clock = clock
        self._limits = limits
        self._ca_file = ca_file or system_ca_file()
        self._slots = asyncio.Semaphore(limits.looks_at_once)

    async def get(self, url: str, address: str, body_bytes_max: int) -> Got:
        """What a URL brought from an address. Never raises for anything that the world does."""
        start_ms = self._clock.now_ms()
        blank = HttpLook(url, address, HttpStatus.REFUSED, at_ms=start_ms)
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        place = self._places.of(address, port)
        if place is None:
            return Got(replace(blank, why="not a public address"))
        reading = _Reading(body_bytes_max)
        async with self._slots:
            easy = pycurl.Curl()
            try:
                self._prepare(easy, url, place, reading)
                ended = await self._multi.perform(easy)
                look = _look(blank, easy, ended, reading)
            except (pycurl.error, UnicodeError) as error:
                look = replace(blank, status=HttpStatus.BAD, why=str(error)[:200])
            finally:
                easy.close()
        return Got(replace(look, took_ms=self._clock.now_ms() - start_ms), bytes(reading.body))

    def _prepare(self, easy: Any, url: str, place: tuple[str, int], reading: "_Reading") -> None:
        address, port = place
        host = f"[{address}]" if ":" in address else address
        easy.setopt(pycurl.URL, url)
        easy.setopt(pycurl.PROTOCOLS, pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS)
        easy.setopt(pycurl.CONNECT_TO, [f"::{host}:{port}"])
        easy.setopt(pycurl.PROXY, "")
        easy.setopt(pycurl.NOSIGNAL, 1)
        easy.setopt(pycurl.USERAGENT, USER_AGENT)
        easy.setopt(pycurl.ACCEPT_ENCODING, "")
        easy.setopt(pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_2TLS)
        easy.setopt(pycurl.TIMEOUT_MS, self._limits.page_ms)
        easy.setopt(pycurl.CONNECTTIMEOUT_MS, min(self._limits.page_ms, self._limits.look_ms * 2))
        easy.setopt(pycurl.CAINFO, self._ca_file)
        easy.setopt(pycurl.WRITEFUNCTION, reading.take_body)
        easy.setopt(pycurl.HEADERFUNCTION, reading.take_header)


class _Reading:
    """Collects one answer; stops libcurl when there is enough."""

    def __init__(self, body_bytes_max: int) -> None:
        self.headers: list[tuple[str, str]] = []
        self.body = bytearray()
        self.is_cut = False
        self._head_bytes = 0
        self._body_bytes_max = body_bytes_max

    def take_header(self, line: bytes) -> int | None:
        self._head_bytes += len(line)
        if self._head_bytes > HEAD_BYTES_MAX:
            return -1
        text = line.decode("latin-1").strip()
        name, colon, value = text.partition(":")
        if line.startswith(b"HTTP/"):
            self.headers = []
        elif colon and len(self.headers) < HEADERS_MAX:
            self.headers.append((name.strip().lower(), value.strip()[:VALUE_CHARACTERS_MAX]))
        return None

    def take_body(self, chunk: bytes) -> int | None:
        room = self._body_bytes_max - len(self.body)
        self.body += chunk[:room]
        if len(chunk) > room:
            self.is_cut = True
            return -1
        return None


def _look(blank: HttpLook, easy: Any, ended: Ended, reading: _Reading) -> HttpLook:
    code = easy.getinfo(pycurl.RESPONSE_CODE)
    is_timed_out = ended.code == pycurl.E_OPERATION_TIMEDOUT
    is_partial = bool(code) and bool(reading.body) and (reading.is_cut or is_timed_out)
    if ended.code and not is_partial:
        return replace(blank, status=_status(ended.code), code=code, why=ended.message[:200])
    if not code:
        return replace(blank, status=HttpStatus.BAD, why="no HTTP answer")
    location = next((value for name, value in reading.headers if name == "location"), "")
    return replace(
        blank,
        status=HttpStatus.OK,
        code=code,
        headers=tuple(reading.headers),
        http_version=VERSIONS.get(easy.getinfo(pycurl.INFO_HTTP_VERSION), ""),
        location=absolute(blank.url, location),
        body_bytes=len(reading.body),
        body_sha256="" if is_partial else hashlib.sha256(reading.body).hexdigest(),
        truncated=is_partial,
        why=ended.message[:200] if is_timed_out else "",
    )


def absolute(base: str, reference: str) -> str:
    """An absolute http(s) URL without its fragment; "" when it is none."""
    try:
        url = urljoin(base, reference.strip()) if reference else ""
        parts = urlsplit(url)
        is_web = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        return ""
    cleaned = url.partition("#")[0].encode("utf-8", "replace").decode()
    return cleaned if is_web and len(cleaned) <= VALUE_CHARACTERS_MAX else ""


def _status(code: int) -> HttpStatus:
    if code in UNTRUSTED_CODES:
        return HttpStatus.UNTRUSTED
    if code in REFUSED_CODES:
        return HttpStatus.REFUSED
    return HttpStatus.TIMEOUT if code == pycurl.E_OPERATION_TIMEDOUT else HttpStatus.BAD
