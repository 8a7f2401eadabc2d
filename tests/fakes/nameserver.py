"""A nameserver whose answers a test can change while it runs; UDP on a free port of loopback."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import dns.message
import dns.rcode
import dns.rrset


class Nameserver(asyncio.DatagramProtocol):
    """Answers every A question with `address`, or with `rcode` when that is no NOERROR."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.rcode = dns.rcode.NOERROR
        self.asked: list[str] = []
        self.listen = ""

    def connection_made(self, transport) -> None:
        self._transport = transport

    def datagram_received(self, wire: bytes, sender) -> None:
        query = dns.message.from_wire(wire)
        name = query.question[0].name
        self.asked.append(name.to_text(omit_final_dot=True))
        response = dns.message.make_response(query)
        response.set_rcode(self.rcode)
        if self.rcode == dns.rcode.NOERROR and query.question[0].rdtype == dns.rdatatype.A:
            response.answer = [dns.rrset.from_text(name, 30, "IN", "A", self.address)]
        self._transport.sendto(response.to_wire(), sender)


@asynccontextmanager
async def nameserver(address: str) -> AsyncIterator[Nameserver]:
    """One that serves until the block is over."""
    transport, one = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: Nameserver(address), ("127.0.0.1", 0)
    )
    one.listen = f"127.0.0.1:{transport.get_extra_info('sockname')[1]}"
    try:
        yield one
    finally:
        transport.close()
