"""What nameservers answer, well and badly, over UDP and TCP on loopback."""

import asyncio
import struct

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest

from polycdn.measure.dns import NameQuestion, look_up
from polycdn.model.observation import Reason
from polycdn.run.clock import Wall

NAME = "www.example."


def records(*lines: str) -> list[dns.rrset.RRset]:
    return [dns.rrset.from_text(NAME, 30, "IN", *line.split()) for line in lines]


class Nameserver(asyncio.DatagramProtocol):
    """Answers everything alike; with `is_cut` over UDP only that the answer is too long."""

    def __init__(self, answers=(), rcode=dns.rcode.NOERROR, is_cut=False, is_mute=False, raw=None) -> None:
        self.answers, self.rcode, self.is_cut, self.is_mute, self.raw = answers, rcode, is_cut, is_mute, raw
        self.by_tcp = 0

    def response(self, query: bytes) -> dns.message.Message:
        response = dns.message.make_response(dns.message.from_wire(query))
        response.set_rcode(self.rcode)
        response.answer = list(self.answers)
        return response

    def connection_made(self, transport) -> None:
        self.transport = transport

    def datagram_received(self, query: bytes, address) -> None:
        if self.is_mute:
            return
        response = self.response(query)
        if self.is_cut:
            response.flags |= dns.flags.TC
            response.answer = []
        self.transport.sendto(self.raw or response.to_wire(), address)

    async def serve_tcp(self, reader, writer) -> None:
        (length,) = struct.unpack("!H", await reader.readexactly(2))
        wire = self.response(await reader.readexactly(length)).to_wire()
        writer.write(struct.pack("!H", len(wire)) + wire)
        await writer.drain()
        writer.close()
        self.by_tcp += 1


def look_at(server: Nameserver, **changes):
    async def run():
        loop = asyncio.get_running_loop()
        tcp = await asyncio.start_server(server.serve_tcp, "127.0.0.1", 0)
        port = tcp.sockets[0].getsockname()[1]
        transport, _protocol = await loop.create_datagram_endpoint(lambda: server, ("127.0.0.1", port))
        try:
            asked = {"server": "127.0.0.1", "port": port, "deadline_ms": 300}
            return await look_up(NameQuestion("ns1", NAME, **asked | changes), Wall())
        finally:
            transport.close()
            tcp.close()
            await tcp.wait_closed()

    return asyncio.run(run())


def test_addresses_are_a_good_answer():
    look = look_at(Nameserver(records("A 192.0.2.1")), expected=("192.0.2.1", "192.0.2.2"))
    assert (look.reason, look.detail, look.path) == (Reason.OK, "192.0.2.1", NAME)
    assert look.first_byte_ms >= 1


def test_a_cname_is_an_answer_too():
    assert (
        look_at(Nameserver(records("CNAME a.cdn.example.")), expected=("a.cdn.example",)).reason is Reason.OK
    )


def test_a_long_answer_comes_over_tcp():
    server = Nameserver(records("A 192.0.2.1"), is_cut=True)
    assert look_at(server).reason is Reason.OK
    assert server.by_tcp == 1


BAD = {
    "servfail": (Nameserver(rcode=dns.rcode.SERVFAIL), Reason.DNS_SERVFAIL, "SERVFAIL"),
    "refused": (Nameserver(rcode=dns.rcode.REFUSED), Reason.DNS_SERVFAIL, "REFUSED"),
    "no such name": (Nameserver(rcode=dns.rcode.NXDOMAIN), Reason.DNS_EMPTY, "NXDOMAIN"),
    "no address": (Nameserver(), Reason.DNS_EMPTY, "NODATA"),
    "only text": (Nameserver(records("TXT hello")), Reason.DNS_EMPTY, "NODATA"),
    "mute": (Nameserver(is_mute=True), Reason.DNS_TIMEOUT, "300 ms"),
    "wrong address": (Nameserver(records("A 203.0.113.6")), Reason.CONTENT, "203.0.113.6"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_answer_has_its_reason(name):
    server, reason, words = BAD[name]
    look = look_at(server, expected=("192.0.2.1",))
    assert look.reason is reason
    assert words in look.detail
    assert look.first_byte_ms == 0


def test_garbage_is_no_answer():
    assert look_at(Nameserver(raw=b"\x00\x01garbage")).reason in (Reason.PROTOCOL, Reason.DNS_TIMEOUT)


def test_an_own_address_that_is_not_ours_blinds_the_vantage():
    assert look_at(Nameserver(), source_address="203.0.113.9").reason is Reason.BLIND
