"""An emulated DNS operator: a few A records over UDP, with faults, for drills and tests."""

import asyncio
from collections.abc import Callable
from typing import cast

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset

from polycdn.lab.fault import AT_QUERY, Fault, FaultKind
from polycdn.lab.injector import Injector
from polycdn.lab.logs import LineLog
from polycdn.lab.places import split_listen
from polycdn.lab.server import FOLLOW_INTERVAL_S
from polycdn.lab.spec import Answer, NameserverSpec
from polycdn.model.units import Clock


async def run_nameserver(spec: NameserverSpec, clock: Clock, _: Clock, ready: Callable[[str], None]) -> None:
    """A nameserver until cancelled."""
    log = LineLog(spec.fault_log) if spec.fault_log else None
    injector = Injector(spec.process.name, clock, spec.faults_file, log)
    loop = asyncio.get_running_loop()
    transport, _protocol = await loop.create_datagram_endpoint(
        lambda: Nameserver(spec.answers, injector), local_addr=split_listen(spec.listen)
    )
    address, port = transport.get_extra_info("sockname")
    try:
        ready(f"{address}:{port}")
        while True:
            await asyncio.sleep(FOLLOW_INTERVAL_S)
            injector.reload()
    finally:
        transport.close()
        if log is not None:
            log.close()


class Nameserver(asyncio.DatagramProtocol):
    """Answers each datagram, or not, as the injector says; the n-th query has the key `query/n`."""

    def __init__(self, answers: tuple[Answer, ...], injector: Injector) -> None:
        self._answers = {dns.name.from_text(answer.hostname): answer for answer in answers}
        self._injector = injector
        self._queries = 0
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keeps the socket to answer on."""
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, wire: bytes, addr: tuple[str, int]) -> None:
        """Answers one query; what is not a query is dropped."""
        assert self._transport is not None
        try:
            query = dns.message.from_wire(wire)
        except dns.exception.DNSException:
            return
        self._queries += 1
        fault = self._injector.at(f"query/{self._queries}", AT_QUERY)
        if (
            query.flags & dns.flags.QR
            or not query.question
            or (fault and fault.kind is FaultKind.DNS_TIMEOUT)
        ):
            return
        self._transport.sendto(self._response(query, fault).to_wire(), addr)

    def _response(self, query: dns.message.Message, fault: Fault | None) -> dns.message.Message:
        response = dns.message.make_response(query)
        response.flags |= dns.flags.AA
        answer = self._answers.get(query.question[0].name)
        if fault is not None and fault.kind is FaultKind.DNS_SERVFAIL:
            response.set_rcode(dns.rcode.SERVFAIL)
        elif answer is None:
            response.set_rcode(dns.rcode.NXDOMAIN)
        elif fault is None and query.question[0].rdtype == dns.rdatatype.A:
            name = query.question[0].name
            response.answer.append(dns.rrset.from_text(name, answer.ttl_s, "IN", "A", *answer.addresses))
        return response
