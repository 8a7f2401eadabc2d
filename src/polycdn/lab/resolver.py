"""How a client of the lab learns whom to ask: pinned, from a file, or by DNS; its cache obeys the TTL.

A TTL is timeline: under a compressed clock an answer is kept for TTL / speed of real time.
"""

import asyncio
from pathlib import Path
from typing import Final, Protocol, cast

import dns.edns
import dns.exception
import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype

from polycdn.lab.places import split_listen
from polycdn.lab.spec import Aim, LoadSpec
from polycdn.model.chance import chance_ppm
from polycdn.model.observation import Reason
from polycdn.model.units import Clock

QUERY_S_MAX: Final = 1
EDNS_PAYLOAD_BYTES: Final = 1_232


class Unresolved(Exception):
    """No address was learnt, for `reason`."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.value)
        self.reason = reason


class Source(Protocol):
    """Where an answer comes from: an address and for how many seconds of timeline it may be kept."""

    async def ask(self) -> tuple[str, int]:
        """Raises Unresolved."""
        ...


class Resolver:
    """One cache in front of one source. Those who ask while it asks wait for the same answer."""

    def __init__(self, source: Source, clock: Clock) -> None:
        self._source = source
        self._clock = clock
        self._address = ""
        self._until_ms = 0
        self._lock = asyncio.Lock()

    async def address(self) -> str:
        """The address that the service has now, as far as this cache knows. Raises Unresolved."""
        if self._clock.now_ms() < self._until_ms:
            return self._address
        async with self._lock:
            asked_ms = self._clock.now_ms()
            if asked_ms >= self._until_ms:
                self._address, ttl_s = await self._source.ask()
                self._until_ms = asked_ms + ttl_s * 1000
            return self._address


class Pinned:
    """Always the same address."""

    def __init__(self, address: str) -> None:
        self._address = address

    async def ask(self) -> tuple[str, int]:
        """That address, for a day."""
        return self._address, 86_400


class FromFile:
    """The address that somebody else writes into a small file, with `write_target`."""

    def __init__(self, path: Path, ttl_s: int) -> None:
        self._path = path
        self._ttl_s = ttl_s

    async def ask(self) -> tuple[str, int]:
        """The file's address. Raises Unresolved when there is none."""
        try:
            address = self._path.read_text().strip()
        except OSError:
            raise Unresolved(Reason.BLIND) from None
        if not address:
            raise Unresolved(Reason.DNS_EMPTY)
        return address, self._ttl_s


class FromDns:
    """What a nameserver answers to a real query over UDP, for one network of users (RFC 7871 subnet)."""

    def __init__(self, askers: tuple["Asker", ...], hostname: str, subnet: str | None) -> None:
        self._askers = askers
        query = dns.message.make_query(hostname, dns.rdatatype.A, use_edns=0, payload=EDNS_PAYLOAD_BYTES)
        query.flags &= ~dns.flags.RD
        if subnet is not None:
            network, _, bits = subnet.partition("/")
            query.use_edns(
                0, payload=EDNS_PAYLOAD_BYTES, options=[dns.edns.ECSOption(network, int(bits or 24))]
            )
        self._query = query.to_wire()
        self._lookups = 0
        self._seed = chance_ppm(0, hostname, subnet or "")

    async def ask(self) -> tuple[str, int]:
        """The first answer of the nameservers, who take turns at being asked first.

        Raises Unresolved when none answers, with the last one's reason, or when an answer is empty: that is
        an answer too, and nobody else is asked (RFC 2308 §2.2).
        """
        first = self._lookups % len(self._askers)
        self._lookups += 1
        reason = Reason.DNS_EMPTY
        for asker in self._askers[first:] + self._askers[:first]:
            try:
                return self._read(await asker.ask(self._query))
            except TimeoutError:
                reason = Reason.DNS_TIMEOUT
            except OSError:
                reason = Reason.UNREACHABLE
            except Unresolved as error:
                if error.reason is Reason.DNS_EMPTY:
                    raise
                reason = error.reason
        raise Unresolved(reason)

    def _read(self, wire: bytes) -> tuple[str, int]:
        try:
            answer = dns.message.from_wire(wire)
        except dns.exception.DNSException:
            raise Unresolved(Reason.PROTOCOL) from None
        if answer.rcode() != dns.rcode.NOERROR:
            is_absent = answer.rcode() == dns.rcode.NXDOMAIN
            raise Unresolved(Reason.DNS_EMPTY if is_absent else Reason.DNS_SERVFAIL)
        found = [rrset for rrset in answer.answer if rrset.rdtype == dns.rdatatype.A]
        addresses = [item.address for rrset in found for item in rrset]
        if not addresses:
            raise Unresolved(Reason.DNS_EMPTY)
        return addresses[self._seed % len(addresses)], min(rrset.ttl for rrset in answer.answer)


class Asker(asyncio.DatagramProtocol):
    """One UDP socket to one nameserver; queries are told apart by their id."""

    def __init__(self) -> None:
        self._transport: asyncio.DatagramTransport | None = None
        self._waiting: dict[int, asyncio.Future[bytes]] = {}
        self._last_id = 0

    async def ask(self, query: bytes) -> bytes:
        """The answer's wire form. Raises TimeoutError, or OSError when nobody listens there."""
        assert self._transport is not None
        self._last_id = (self._last_id + 1) % 65_536
        query_id = self._last_id
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._waiting[query_id] = future
        try:
            self._transport.sendto(query_id.to_bytes(2, "big") + query[2:])
            async with asyncio.timeout(QUERY_S_MAX):
                return await future
        finally:
            self._waiting.pop(query_id, None)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keeps the socket to ask on."""
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, wire: bytes, _: tuple[str, int]) -> None:
        """Gives an answer to whom it is for."""
        future = self._waiting.get(int.from_bytes(wire[:2], "big"))
        if future is not None and not future.done():
            future.set_result(wire)

    def error_received(self, exc: Exception) -> None:
        """Nobody listens there: all who wait are told."""
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(exc)

    def close(self) -> None:
        """Closes the socket."""
        if self._transport is not None:
            self._transport.close()


async def make_resolvers(spec: LoadSpec, clock: Clock) -> tuple[tuple[Resolver, ...], tuple[Asker, ...]]:
    """As many independent caches as the spec says, and the sockets that are to be closed afterwards."""
    askers = [await _asker(nameserver) for nameserver in spec.nameservers]
    sources = [_source(spec, tuple(askers), index) for index in range(max(1, spec.resolvers))]
    return tuple(Resolver(source, clock) for source in sources), tuple(askers)


def write_target(path: Path, address: str) -> None:
    """Tells the clients that follow this file a new address, in one step."""
    fresh = path.with_suffix(path.suffix + ".new")
    fresh.write_text(address + "\n")
    fresh.replace(path)


def _source(spec: LoadSpec, askers: tuple[Asker, ...], index: int) -> Source:
    if spec.aim is Aim.PINNED:
        assert spec.address is not None, "a pinned client has an address"
        return Pinned(spec.address)
    if spec.aim is Aim.FILE:
        assert spec.target_file is not None, "a client that follows a file has one"
        return FromFile(Path(spec.target_file), spec.target_ttl_s)
    assert askers, "a client that asks by DNS has a nameserver"
    subnet = (
        spec.subnets[index % len(spec.subnets)] if spec.subnets else f"10.{index // 256}.{index % 256}.0/24"
    )
    return FromDns(askers, spec.hostname, subnet)


async def _asker(nameserver: str) -> Asker:
    _, protocol = await asyncio.get_running_loop().create_datagram_endpoint(
        Asker, remote_addr=split_listen(nameserver)
    )
    return protocol
