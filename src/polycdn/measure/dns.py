"""DNS looks: what a server answers for a name, over UDP, and over TCP when the answer was cut short."""

import os
from dataclasses import dataclass, replace

import dns.asyncquery
import dns.exception
import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.resolver

from polycdn.measure.look import Look
from polycdn.measure.reason import BLIND_ERRNOS, REASON_OF_ERRNO
from polycdn.model.observation import Reason
from polycdn.model.units import Clock

NODATA = "NODATA"
KINDS = (dns.rdatatype.A, dns.rdatatype.AAAA, dns.rdatatype.CNAME)


@dataclass(frozen=True, slots=True)
class NameQuestion:
    """A name to ask one server for. `provider` names who is looked at.

    `server` is an IP address, "" = the system's first resolver. `kind` is "A" or "AAAA". With `expected`,
    every address or CNAME of the answer must be one of these. `is_any_kind`: a name with addresses of the
    other kind only is good too.
    """

    provider: str
    name: str
    server: str = ""
    port: int = 53
    kind: str = "A"
    expected: tuple[str, ...] = ()
    is_any_kind: bool = False
    deadline_ms: int = 2_000
    source_address: str | None = None


async def look_up(question: NameQuestion, clock: Clock) -> Look:
    """What one question to a nameserver brought; its words are in `detail`, the name in `path`."""
    start_ms = clock.now_ms()
    reason, detail = await _ask(question)
    if question.is_any_kind and detail == NODATA:
        reason, detail = await _ask(replace(question, kind="AAAA" if question.kind == "A" else "A"))
    end_ms = clock.now_ms()
    return Look(
        at_ms=end_ms,
        provider=question.provider,
        path=question.name,
        reason=reason,
        detail=detail,
        first_byte_ms=max(1, end_ms - start_ms) if reason is Reason.OK else 0,
        address=question.server,
        protocol="dns",
    )


async def _ask(question: NameQuestion) -> tuple[Reason, str]:
    try:
        query = dns.message.make_query(question.name, question.kind, use_edns=0)
        response, _is_tcp = await dns.asyncquery.udp_with_fallback(
            query,
            question.server or system_server(),
            timeout=question.deadline_ms / 1000,
            port=question.port,
            source=question.source_address,
            ignore_unexpected=True,
        )
    except dns.exception.Timeout:
        return Reason.DNS_TIMEOUT, f"no answer within {question.deadline_ms} ms"
    except (dns.exception.DNSException, EOFError) as error:
        return Reason.PROTOCOL, f"not an answer: {error or type(error).__name__}"
    except OSError as error:
        if error.errno is None or error.errno in BLIND_ERRNOS:
            return Reason.BLIND, os.strerror(error.errno) if error.errno else str(error)
        return REASON_OF_ERRNO.get(error.errno or 0, Reason.DNS_TIMEOUT), str(error)
    return judge_response(response, question.expected)


def judge_response(response: dns.message.Message, expected: tuple[str, ...]) -> tuple[Reason, str]:
    """OK and the answers, or why this is none. NXDOMAIN and NODATA are empty; other codes are SERVFAIL."""
    code = response.rcode()
    if code not in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
        return Reason.DNS_SERVFAIL, dns.rcode.to_text(code)
    answers = answers_of(response)
    if code == dns.rcode.NXDOMAIN or not answers:
        return Reason.DNS_EMPTY, "NXDOMAIN" if code == dns.rcode.NXDOMAIN else NODATA
    wrong = [answer for answer in answers if expected and answer not in expected]
    if wrong:
        return Reason.CONTENT, f"answered {', '.join(wrong)}, expected {', '.join(expected)}"
    return Reason.OK, ", ".join(answers)


def answers_of(response: dns.message.Message) -> tuple[str, ...]:
    """Addresses and CNAME targets of an answer, in its order, names without the last dot."""
    return tuple(
        record.to_text().rstrip(".") for rrset in response.answer if rrset.rdtype in KINDS for record in rrset
    )


def system_server() -> str:
    """The first resolver of this machine. Raises OSError when there is none."""
    try:
        return str(dns.resolver.Resolver().nameservers[0])
    except (dns.resolver.NoResolverConfiguration, IndexError):
        raise OSError("this machine has no resolver configured") from None
