"""One HTTP transfer: libcurl's settings for a question, and the look that comes of how it ended."""

import hashlib
import socket
import ssl
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import pycurl

from polycdn.measure.look import Chain, Look, Phases, Protocol, Question
from polycdn.measure.multi import Ended
from polycdn.measure.reason import Answer, Wreck, judge_answer, reason_of_wreck
from polycdn.model.address import is_address
from polycdn.model.observation import Reason

BODY_BYTES_MAX: Final = 33_554_432
"""Largest body that is read to its end, unless a larger one is expected."""

HEAD_BYTES_MAX: Final = 262_144
USER_AGENT: Final = "polycdn-vantage"

VERSION_OF: Final = {
    Protocol.AUTO: pycurl.CURL_HTTP_VERSION_2TLS,
    Protocol.H1: pycurl.CURL_HTTP_VERSION_1_1,
    Protocol.H2: pycurl.CURL_HTTP_VERSION_2TLS,
    Protocol.H3: pycurl.CURL_HTTP_VERSION_3ONLY,
}

PROTOCOL_OF_VERSION: Final = {
    pycurl.CURL_HTTP_VERSION_1_0: "h1",
    pycurl.CURL_HTTP_VERSION_1_1: "h1",
    pycurl.CURL_HTTP_VERSION_2_0: "h2",
    pycurl.CURL_HTTP_VERSION_3: "h3",
}


MARKS: Final = (
    pycurl.NAMELOOKUP_TIME_T,
    pycurl.CONNECT_TIME_T,
    pycurl.APPCONNECT_TIME_T,
    pycurl.STARTTRANSFER_TIME_T,
    pycurl.TOTAL_TIME_T,
)
"""When each phase ended, in microseconds from the start; 0 for one that never did."""


class Transfer:
    """One libcurl handle from its settings to the look that comes of it."""

    def __init__(self, question: Question) -> None:
        self._question = question
        self._easy = pycurl.Curl()
        self._digest = hashlib.sha256()
        self._body = bytearray()
        self._body_bytes = 0
        self._head_bytes = 0
        self._headers: list[tuple[str, str]] = []
        self._is_cut = False
        self._is_head_whole = False
        self._body_bytes_max = max(BODY_BYTES_MAX, question.expect.body_bytes or 0)

    def prepare(self) -> Any:
        """The handle, ready to perform. Raises pycurl.error when libcurl does not take a setting."""
        easy, question, endpoint = self._easy, self._question, self._question.endpoint
        host = _bracketed(endpoint.host)
        easy.setopt(
            pycurl.URL, f"{'https' if endpoint.tls else 'http'}://{host}:{endpoint.port}{question.path}"
        )
        easy.setopt(pycurl.HTTPHEADER, _header_lines(question))
        easy.setopt(pycurl.PATH_AS_IS, 1)
        easy.setopt(pycurl.PROXY, "")
        easy.setopt(pycurl.NOSIGNAL, 1)
        easy.setopt(pycurl.USERAGENT, USER_AGENT)
        easy.setopt(pycurl.HTTP_VERSION, _version(question))
        easy.setopt(pycurl.TIMEOUT_MS, question.deadline_ms)
        easy.setopt(pycurl.CONNECTTIMEOUT_MS, question.deadline_ms)
        easy.setopt(pycurl.WRITEFUNCTION, self._take_body)
        easy.setopt(pycurl.HEADERFUNCTION, self._take_header)
        if question.connect_host != endpoint.host:
            easy.setopt(pycurl.CONNECT_TO, [f"::{_bracketed(question.connect_host)}:{endpoint.port}"])
        if question.source_address:
            easy.setopt(pycurl.INTERFACE, f"host!{question.source_address}")
        if endpoint.tls:
            easy.setopt(pycurl.OPT_CERTINFO, 1)
            easy.setopt(pycurl.CAINFO, endpoint.ca_file or system_ca_file())
        if question.is_fresh:
            easy.setopt(pycurl.FRESH_CONNECT, 1)
            easy.setopt(pycurl.FORBID_REUSE, 1)
            easy.setopt(pycurl.SSL_SESSIONID_CACHE, 0)
            easy.setopt(pycurl.DNS_CACHE_TIMEOUT, 0)
        return easy

    def close(self) -> None:
        """Frees the handle."""
        self._easy.close()

    def look(self, ended: Ended, at_ms: int) -> Look:
        """What the transfer brought, once it ended."""
        question, easy = self._question, self._easy
        reason, detail = self._outcome(ended)
        is_tls_seen = question.endpoint.tls and reason not in (Reason.TLS, Reason.CERT_EXPIRED)
        return Look(
            at_ms=at_ms,
            provider=question.provider,
            path=question.path,
            reason=reason,
            detail=detail,
            first_byte_ms=self._first_byte_ms(),
            status=easy.getinfo(pycurl.RESPONSE_CODE),
            body_bytes=self._body_bytes,
            sha256=self._sha256(ended),
            address=easy.getinfo(pycurl.PRIMARY_IP) or question.connect_host,
            protocol=self._protocol(),
            phases=self._phases(),
            chain=_chain(easy.getinfo(pycurl.INFO_CERTINFO)) if is_tls_seen else None,
            is_fresh=easy.getinfo(pycurl.NUM_CONNECTS) > 0,
        )

    def _outcome(self, ended: Ended) -> tuple[Reason, str]:
        question = self._question
        if ended.code and not self._is_cut:
            return self._wrecked(ended)
        if not self._is_head_whole:
            return (
                Reason.TRUNCATED,
                "closed in the middle of the head",
            )  # libcurl takes such an answer for whole
        asked, spoken = question.protocol, self._protocol()
        if asked is not Protocol.AUTO and spoken != asked:
            return Reason.PROTOCOL, f"speaks {spoken}, asked for {asked}"
        reason, detail = judge_answer(self._answer(ended), question.expect)
        first_byte_ms = self._first_byte_ms()
        if reason is Reason.OK and 0 < question.slow_ms <= first_byte_ms:
            return Reason.SLOW, f"first byte after {first_byte_ms} ms, slow from {question.slow_ms} ms"
        return reason, detail

    def _first_byte_ms(self) -> int:
        """Rounded up, so that 0 means that no byte came."""
        return -(-self._easy.getinfo(pycurl.STARTTRANSFER_TIME_T) // 1000) if self._headers else 0

    def _wrecked(self, ended: Ended) -> tuple[Reason, str]:
        easy = self._easy
        wreck = Wreck(
            code=ended.code,
            message=ended.message,
            os_errno=easy.getinfo(pycurl.OS_ERRNO),
            verify_result=easy.getinfo(pycurl.SSL_VERIFYRESULT),
            total_ms=easy.getinfo(pycurl.TOTAL_TIME_T) // 1000,
            deadline_ms=self._question.deadline_ms,
            body_bytes=self._body_bytes,
            is_resolved=easy.getinfo(pycurl.NAMELOOKUP_TIME_T) > 0 or is_address(self._question.connect_host),
            has_head=bool(self._headers),
        )
        reason = reason_of_wreck(wreck)
        if reason is Reason.UNREACHABLE and not _has_route(self._question.connect_host):
            return Reason.BLIND, f"this machine has no route: {ended.message}"
        return reason, ended.message

    def _answer(self, ended: Ended) -> Answer:
        return Answer(
            status=self._easy.getinfo(pycurl.RESPONSE_CODE),
            headers=tuple(self._headers),
            body_bytes=self._body_bytes,
            sha256=self._sha256(ended),
            body=bytes(self._body),
            is_whole=not self._is_cut,
        )

    def _sha256(self, ended: Ended) -> str:
        return "" if ended.code else self._digest.hexdigest()

    def _protocol(self) -> str:
        return PROTOCOL_OF_VERSION.get(self._easy.getinfo(pycurl.INFO_HTTP_VERSION), "")

    def _phases(self) -> Phases:
        resolve, connect, tls, first, total = (self._easy.getinfo(name) for name in MARKS)
        tls = tls if self._question.endpoint.tls else connect
        ends = [resolve, connect, tls, first, total]
        # A look that died never ended its phase: that phase lasts until the end, and none comes after it.
        died_in = next((phase for phase, end in enumerate(ends) if end == 0), len(ends))
        ends = [total if phase == died_in else end for phase, end in enumerate(ends)]
        marks = [0]
        for end in ends:
            marks.append(max(end, marks[-1]))
        return Phases(*(after - before for before, after in pairwise(marks)))

    def _take_header(self, line: bytes) -> int | None:
        self._head_bytes += len(line)
        if self._head_bytes > HEAD_BYTES_MAX:
            return -1
        text = line.decode("latin-1").strip()
        self._is_head_whole = not text
        if text.startswith("HTTP/") and not line.startswith(b" "):
            self._headers = [(":status", text)]
        elif ":" in text:
            name, _, value = text.partition(":")
            self._headers.append((name.strip().lower(), value.strip()))
        return None

    def _take_body(self, chunk: bytes) -> int | None:
        self._body_bytes += len(chunk)
        if self._body_bytes > self._body_bytes_max:
            self._is_cut = True
            return -1
        self._digest.update(chunk)
        if self._question.expect.contains is not None:
            self._body += chunk
        return None


@cache
def system_ca_file() -> str:
    """The machine's own bundle of trusted authorities."""
    paths = ssl.get_default_verify_paths()
    places = (
        paths.cafile,
        "/etc/ssl/certs/ca-certificates.crt",
        "/etc/pki/tls/certs/ca-bundle.crt",
        "/etc/ssl/cert.pem",
    )
    return next((place for place in places if place and Path(place).exists()), "/etc/ssl/cert.pem")


def _version(question: Question) -> int:
    if question.protocol is Protocol.H2 and not question.endpoint.tls:
        return int(pycurl.CURL_HTTP_VERSION_2_PRIOR_KNOWLEDGE)
    return int(VERSION_OF[question.protocol])


def _header_lines(question: Question) -> list[str]:
    # An empty value ("Accept:") would make libcurl leave the header out; ";" sends it empty.
    lines = [f"{name}: {value}" if value else f"{name};" for name, value in question.headers]
    is_own_host = question.host in ("", question.endpoint.host)
    return lines if is_own_host else [f"Host: {_authority(question)}", *lines]


def _authority(question: Question) -> str:
    endpoint = question.endpoint
    is_usual = endpoint.port == (443 if endpoint.tls else 80)
    return _bracketed(question.host) if is_usual else f"{_bracketed(question.host)}:{endpoint.port}"


def _chain(links: list[list[tuple[str, str]]]) -> Chain | None:
    if not links:
        return None
    fields = [dict(link) for link in links]
    ends_ms = [
        ssl.cert_time_to_seconds(link["Expire date"]) * 1000 for link in fields if "Expire date" in link
    ]
    if not ends_ms:
        return None
    return Chain(
        is_valid=True,
        not_after_ms=min(ends_ms),
        subject=fields[0].get("Subject", ""),
        issuer=fields[0].get("Issuer", ""),
    )


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _has_route(host: str) -> bool:
    """Whether this machine knows a way to an address. Connecting a datagram socket sends nothing."""
    if not is_address(host):
        return True
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((host, 9))
    except OSError:
        return False
    return True
