"""A nameserver with zones, over UDP and TCP; made late by a given delay."""

import asyncio
from collections.abc import Callable
from typing import Any, Final, cast

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset
from dns.rdatatype import CNAME, DS, NS, SOA, RdataType

from polycdn.lab.internet.connections import Connections
from polycdn.lab.internet.plan import Record, Zone

Sets = dict[RdataType, dns.rrset.RRset]
Spoil = Callable[[dns.message.Message], bytes | None]
"""Instead of an answer: bytes to send, or None to keep silent."""

UDP_BYTES: Final = 1_232
CHAIN_MAX: Final = 20


class Machine:
    """Answers from its zones; knows where the zones below them are."""

    def __init__(self, zones: list[Zone], glue: dict[str, str]) -> None:
        self._zones = {dns.name.from_text(zone.origin): _sets(zone.records) for zone in zones}
        self._glue = {dns.name.from_text(name): address for name, address in glue.items()}

    def answer(self, query: dns.message.Message) -> dns.message.Message:
        """The response to a query."""
        response = dns.message.make_response(query)
        if not query.question:
            response.set_rcode(dns.rcode.FORMERR)
            return response
        name, rtype = query.question[0].name, query.question[0].rdtype
        for _ in range(CHAIN_MAX):
            target = self._take(response, name, rtype)
            if target is None or self._origin(target, rtype) is None:
                break
            name = target
        return response

    def _take(
        self, response: dns.message.Message, name: dns.name.Name, rtype: RdataType
    ) -> dns.name.Name | None:
        """Adds what is known of a name; gives the name to go on with."""
        origin = self._origin(name, rtype)
        if origin is None:
            response.set_rcode(dns.rcode.REFUSED)
            return None
        names = self._zones[origin]
        cut = _cut(names, name, origin, rtype)
        if cut is not None:
            response.authority.append(names[cut][NS])
            for rdata in names[cut][NS]:
                address = self._glue.get(rdata.target)
                if address and rdata.target.is_subdomain(origin):
                    response.additional.append(dns.rrset.from_text(rdata.target, 86_400, "IN", "A", address))
            return None
        response.flags |= dns.flags.AA
        here = names.get(name)
        if here and rtype in here:
            response.answer.append(here[rtype])
            return None
        if here and CNAME in here:
            response.answer.append(here[CNAME])
            return cast(dns.name.Name, here[CNAME][0].target)
        if here is None and not any(owner.is_subdomain(name) for owner in names):
            response.set_rcode(dns.rcode.NXDOMAIN)
        response.authority.append(names[origin][SOA])
        return None

    def _origin(self, name: dns.name.Name, rtype: RdataType) -> dns.name.Name | None:
        """The deepest zone here that has a name; a DS record lies above its own name."""
        at = name.parent() if rtype == DS and name != dns.name.root and name.parent() in self._zones else name
        while at not in self._zones:
            if at == dns.name.root:
                return None
            at = at.parent()
        return at


def _cut(
    names: dict[dns.name.Name, Sets], name: dns.name.Name, origin: dns.name.Name, rtype: RdataType
) -> dns.name.Name | None:
    """The delegation that a name lies under."""
    at, found = name, None
    while at != origin:
        if NS in names.get(at, {}) and not (rtype == DS and at == name):
            found = at
        at = at.parent()
    return found


def _sets(records: list[Record]) -> dict[dns.name.Name, Sets]:
    texts: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        texts.setdefault((record.owner, record.rtype), []).append(record)
    names: dict[dns.name.Name, Sets] = {}
    for (owner, rtype), rows in texts.items():
        made = dns.rrset.from_text(owner, rows[0].ttl_s, "IN", rtype, *(row.value for row in rows))
        names.setdefault(made.name, {})[made.rdtype] = made
    return names


class Listener:
    """One address's DNS on loopback: UDP and TCP on the same port."""

    def __init__(self, machine: Machine, delay_s: float, spoil: Spoil | None = None) -> None:
        self._machine = machine
        self._delay_s = delay_s
        self._spoil = spoil
        self._transport: asyncio.DatagramTransport | None = None
        self._connections = Connections(self._connected)

    async def start(self) -> int:
        """The port that it listens on."""
        loop = asyncio.get_running_loop()
        while True:
            port = await self._connections.listen()
            try:
                made, _ = await loop.create_datagram_endpoint(
                    lambda: _Datagrams(self), local_addr=("127.0.0.1", port)
                )
            except OSError:
                continue
            self._transport = made
            return port

    async def close(self) -> None:
        """Stops listening and lets go of every connection."""
        if self._transport:
            self._transport.close()
        await self._connections.close()

    def datagram(self, wire: bytes, sender: Any) -> None:
        """Answers a datagram, after the delay."""
        said = self._said(wire)
        if said is None:
            return
        if len(said) > UDP_BYTES:
            short = dns.message.make_response(dns.message.from_wire(wire))
            short.flags |= dns.flags.TC
            said = short.to_wire()
        asyncio.get_running_loop().call_later(self._delay_s, self._send, said, sender)

    def _send(self, said: bytes, sender: Any) -> None:
        if self._transport and not self._transport.is_closing():
            self._transport.sendto(said, sender)

    def _said(self, wire: bytes) -> bytes | None:
        try:
            query = dns.message.from_wire(wire)
        except dns.exception.DNSException:
            return None
        if self._spoil:
            return self._spoil(query)
        return self._machine.answer(query).to_wire(max_size=65_535)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                size = int.from_bytes(await reader.readexactly(2))
                said = self._said(await reader.readexactly(size))
                if said is None:
                    continue
                await asyncio.sleep(self._delay_s)
                writer.write(len(said).to_bytes(2) + said)
                await writer.drain()
        except (OSError, EOFError):
            pass
        finally:
            writer.close()


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, listener: Listener) -> None:
        self._listener = listener

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self._listener.datagram(data, addr)
