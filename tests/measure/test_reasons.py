"""What libcurl's words mean, without sockets."""

import errno

import pycurl
import pytest

from polycdn.measure.reason import Wreck, reason_of_wreck
from polycdn.model.observation import Reason

LATE = pycurl.E_OPERATION_TIMEDOUT
CASES = [
    (Wreck(pycurl.E_COULDNT_CONNECT, "", errno.ECONNREFUSED), Reason.REFUSED),
    (Wreck(pycurl.E_COULDNT_CONNECT, "", errno.EHOSTUNREACH), Reason.UNREACHABLE),
    (Wreck(pycurl.E_COULDNT_CONNECT, "", errno.ENETUNREACH), Reason.UNREACHABLE),
    (Wreck(pycurl.E_COULDNT_CONNECT, "", errno.ETIMEDOUT), Reason.TIMEOUT),
    (Wreck(pycurl.E_COULDNT_CONNECT, "", errno.ECONNRESET), Reason.RESET),
    (Wreck(pycurl.E_COULDNT_CONNECT, "", errno.EADDRNOTAVAIL), Reason.BLIND),
    (Wreck(pycurl.E_COULDNT_CONNECT, "", errno.EMFILE), Reason.BLIND),
    (Wreck(pycurl.E_INTERFACE_FAILED, ""), Reason.BLIND),
    (Wreck(pycurl.E_OUT_OF_MEMORY, ""), Reason.BLIND),
    (Wreck(pycurl.E_SSL_CONNECT_ERROR, "", errno.ECONNRESET), Reason.RESET),
    (Wreck(pycurl.E_SSL_CONNECT_ERROR, "handshake failure"), Reason.TLS),
    (Wreck(pycurl.E_PEER_FAILED_VERIFICATION, "", verify_result=10), Reason.CERT_EXPIRED),
    (Wreck(pycurl.E_PEER_FAILED_VERIFICATION, "", verify_result=18), Reason.TLS),
    (Wreck(pycurl.E_RECV_ERROR, "Recv failure: Connection reset by peer"), Reason.RESET),
    (Wreck(pycurl.E_RECV_ERROR, "unexpected eof", has_head=True), Reason.TRUNCATED),
    (Wreck(pycurl.E_RECV_ERROR, "unexpected eof"), Reason.EMPTY),
    (Wreck(pycurl.E_GOT_NOTHING, ""), Reason.EMPTY),
    (Wreck(pycurl.E_PARTIAL_FILE, ""), Reason.TRUNCATED),
    (Wreck(LATE, "", deadline_ms=1_000, total_ms=1_001), Reason.TIMEOUT),
    (
        Wreck(pycurl.E_OPERATION_TIMEDOUT, "", total_ms=1_000, deadline_ms=1_000, has_head=True),
        Reason.STALLED,
    ),
    (
        Wreck(pycurl.E_OPERATION_TIMEDOUT, "", total_ms=1, deadline_ms=1, is_resolved=False),
        Reason.DNS_TIMEOUT,
    ),
    (Wreck(pycurl.E_UNSUPPORTED_PROTOCOL, "Received HTTP/0.9 when not allowed"), Reason.PROTOCOL),
    (Wreck(92, "HTTP/2 stream was not closed cleanly"), Reason.PROTOCOL),
    (Wreck(9_999, "a code of a future libcurl"), Reason.PROTOCOL),
]


@pytest.mark.parametrize(("wreck", "reason"), CASES, ids=[f"{w.code}-{w.os_errno}-{r}" for w, r in CASES])
def test_a_wreck_has_its_reason(wreck, reason):
    assert reason_of_wreck(wreck) is reason


def test_a_look_that_outlived_its_deadline_was_not_watched_and_is_blind():
    slept = Wreck(pycurl.E_OPERATION_TIMEDOUT, "", deadline_ms=5_000, total_ms=6_300)
    assert reason_of_wreck(slept) is Reason.BLIND
    late = Wreck(pycurl.E_OPERATION_TIMEDOUT, "", deadline_ms=5_000, total_ms=5_900)
    assert reason_of_wreck(late) is Reason.TIMEOUT
