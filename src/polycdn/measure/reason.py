"""From what libcurl and the answer say to one word: why the look failed. Pure.

| seen | reason |
|---|---|
| connection refused; reset, also in mid-answer | refused; reset |
| no connection, no handshake or no first byte by the deadline | timeout |
| the body began and was not whole by the deadline | stalled |
| no route beyond this machine | unreachable |
| handshake or chain bad; chain expired | tls; cert_expired |
| closed without a byte; closed in mid-body | empty; truncated |
| not HTTP, or broken HTTP/2 or 3 | protocol |
| 5xx; another status than expected | http_5xx; status |
| right status, but other type, size, digest, header or text than expected | content |
| good, but the first byte came later than `slow_ms` | slow |
| this machine could not look: descriptors, memory, own address, own CA file, overslept | blind |
"""

import errno
from dataclasses import dataclass
from typing import Final

import pycurl

from polycdn.model.observation import Reason
from polycdn.model.topology import Expect

X509_EXPIRED: Final = 10
"""X509_V_ERR_CERT_HAS_EXPIRED (openssl x509_vfy.h)."""

E_QUIC_CONNECT: Final = 96
E_HTTP2_STREAM: Final = 92
E_HTTP3: Final = 95

BLIND_ERRNOS: Final = frozenset(
    {
        errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL, errno.EADDRINUSE,
        errno.EACCES, errno.EPERM, errno.EAGAIN,
    }
)  # fmt: skip

REASON_OF_ERRNO: Final = {
    errno.ECONNREFUSED: Reason.REFUSED,
    errno.ECONNRESET: Reason.RESET,
    errno.EPIPE: Reason.RESET,
    errno.ETIMEDOUT: Reason.TIMEOUT,
    errno.EHOSTUNREACH: Reason.UNREACHABLE,
    errno.ENETUNREACH: Reason.UNREACHABLE,
}

REASON_OF_CODE: Final = {
    pycurl.E_COULDNT_RESOLVE_HOST: Reason.DNS_SERVFAIL,
    pycurl.E_COULDNT_CONNECT: Reason.UNREACHABLE,
    pycurl.E_GOT_NOTHING: Reason.EMPTY,
    pycurl.E_PARTIAL_FILE: Reason.TRUNCATED,
    pycurl.E_SSL_CONNECT_ERROR: Reason.TLS,
    pycurl.E_PEER_FAILED_VERIFICATION: Reason.TLS,
    pycurl.E_SSL_CERTPROBLEM: Reason.TLS,
    pycurl.E_SSL_CIPHER: Reason.TLS,
    pycurl.E_SSL_ISSUER_ERROR: Reason.TLS,
    pycurl.E_BAD_CONTENT_ENCODING: Reason.CONTENT,
    pycurl.E_INTERFACE_FAILED: Reason.BLIND,
    pycurl.E_OUT_OF_MEMORY: Reason.BLIND,
    pycurl.E_FAILED_INIT: Reason.BLIND,
    pycurl.E_SSL_CACERT_BADFILE: Reason.BLIND,
    pycurl.E_SSL_ENGINE_INITFAILED: Reason.BLIND,
    pycurl.E_BAD_FUNCTION_ARGUMENT: Reason.BLIND,
    pycurl.E_URL_MALFORMAT: Reason.BLIND,
}

DIES_IN_TRANSFER: Final = frozenset({pycurl.E_RECV_ERROR, pycurl.E_SEND_ERROR})
OVERSLEPT_BP: Final = 2_500
"""A look that outlived its deadline by a quarter was not watched: this process was stopped or starved."""
OVERSLEPT_MS_MIN: Final = 250


@dataclass(frozen=True, slots=True)
class Wreck:
    """A transfer that did not end well, as libcurl tells it."""

    code: int
    message: str
    os_errno: int = 0
    verify_result: int = 0
    total_ms: int = 0
    deadline_ms: int = 0
    body_bytes: int = 0
    is_resolved: bool = True
    has_head: bool = False


def reason_of_wreck(wreck: Wreck) -> Reason:
    """Why a transfer died. What libcurl does not explain any further is the protocol's fault."""
    if wreck.code == pycurl.E_OPERATION_TIMEDOUT:
        return _reason_of_timeout(wreck)
    if wreck.code == pycurl.E_PEER_FAILED_VERIFICATION and wreck.verify_result == X509_EXPIRED:
        return Reason.CERT_EXPIRED
    if wreck.os_errno in BLIND_ERRNOS and wreck.code in (pycurl.E_COULDNT_CONNECT, pycurl.E_INTERFACE_FAILED):
        return Reason.BLIND
    if wreck.os_errno in REASON_OF_ERRNO and wreck.code not in (
        pycurl.E_GOT_NOTHING,
        pycurl.E_PARTIAL_FILE,
        pycurl.E_PEER_FAILED_VERIFICATION,
    ):
        return REASON_OF_ERRNO[wreck.os_errno]
    if wreck.code in DIES_IN_TRANSFER:
        return _reason_of_break(wreck)
    return REASON_OF_CODE.get(wreck.code, Reason.PROTOCOL)


def _reason_of_break(wreck: Wreck) -> Reason:
    # libcurl keeps the errno of a connect, not of a read; here only its words tell what happened.
    if wreck.message.startswith("Failed to connect"):
        return Reason.REFUSED  # a QUIC datagram met a closed port
    if "reset" in wreck.message.lower() or wreck.code == pycurl.E_SEND_ERROR:
        return Reason.RESET
    if "chunk" in wreck.message.lower():
        return Reason.PROTOCOL
    return Reason.TRUNCATED if wreck.has_head else Reason.EMPTY


def _reason_of_timeout(wreck: Wreck) -> Reason:
    overslept_ms = wreck.total_ms - wreck.deadline_ms
    if overslept_ms > max(OVERSLEPT_MS_MIN, wreck.deadline_ms * OVERSLEPT_BP // 10_000):
        return Reason.BLIND
    if not wreck.is_resolved:
        return Reason.DNS_TIMEOUT
    return Reason.STALLED if wreck.has_head else Reason.TIMEOUT


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer. `headers` have lower-case names; `body` is what was kept of it, for `contains`."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body_bytes: int
    sha256: str
    body: bytes = b""
    is_whole: bool = True


def judge_answer(answer: Answer, expect: Expect) -> tuple[Reason, str]:
    """OK and "", or why the answer is not the expected one, in words."""
    if answer.status != expect.status:
        reason = Reason.HTTP_5XX if answer.status >= 500 else Reason.STATUS
        return reason, f"status {answer.status}, expected {expect.status}"
    for complaint in (_wrong_head, _wrong_body):
        if text := complaint(answer, expect):
            return Reason.CONTENT, text
    return Reason.OK, ""


def _wrong_head(answer: Answer, expect: Expect) -> str:
    if expect.content_type is not None:
        found = _header(answer, "content-type").partition(";")[0].strip().lower()
        if found != expect.content_type.partition(";")[0].strip().lower():
            return f"content type {found or 'missing'}, expected {expect.content_type}"
    for name, value in expect.headers:
        if _header(answer, name) != value:
            return f"header {name}: {_header(answer, name) or 'missing'}, expected {value}"
    return ""


def _wrong_body(answer: Answer, expect: Expect) -> str:
    size = f"{answer.body_bytes} bytes" if answer.is_whole else f"more than {answer.body_bytes} bytes"
    if expect.body_bytes is not None and (answer.body_bytes != expect.body_bytes or not answer.is_whole):
        return f"{size}, expected {expect.body_bytes}"
    if expect.sha256 is not None and answer.sha256 != expect.sha256.lower():
        found = answer.sha256[:16] or "unknown (not read to its end)"
        return f"SHA-256 {found}, expected {expect.sha256[:16]}"
    if expect.contains is not None and expect.contains.encode() not in answer.body:
        return f"does not contain {expect.contains!r}"
    return ""


def _header(answer: Answer, name: str) -> str:
    return next((value for key, value in answer.headers if key == name.lower()), "")
