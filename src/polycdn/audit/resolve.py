"""From the root down to the servers that own a name, as a resolver does, so that TTLs are whole.

A cache between would tell what is left of a TTL, and not who answers. What is learned on the way (which
servers have which zone) is kept for the names that follow. RFC 1034 §5.3.3; glue is believed only inside the
zone of whom it came from (RFC 5452 §6).
"""

from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import Final

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
from dns.rdatatype import AAAA, CNAME, DS, NS, SOA, A, RdataType

from polycdn.audit.ask import DNS_PORT, Asker, Said
from polycdn.audit.dns_records import CHAIN_MAX, RECORDS_MAX, records_of, set_of, status_of
from polycdn.audit.evidence import DnsLook, DnsRecord, DnsStatus
from polycdn.audit.places import Place
from polycdn.audit.purse import Purse
from polycdn.audit.remembered import Remembered
from polycdn.audit.zonefile import ZoneFile
from polycdn.model.units import Clock

ROOTS: Final = (
    "198.41.0.4", "170.247.170.2", "192.33.4.12", "199.7.91.13", "192.203.230.10", "192.5.5.241",
    "192.112.36.4", "198.97.190.53", "192.36.148.17", "192.58.128.30", "193.0.14.129", "199.7.83.42",
    "202.12.27.33",
)  # fmt: skip
"""Addresses of the root servers, as IANA's root hints have them (named.root, 2024)."""

REFERRALS_MAX: Final = 24
SERVERS_TRIED_MAX: Final = 3
GLUELESS_MAX: Final = 3
"""So many nameservers without an address are looked up for one zone (NXNSAttack, 2020)."""
NESTED_MAX: Final = 4
ZONES_KEPT_MAX: Final = 512


@dataclass(frozen=True, slots=True)
class Cut:
    """A zone, its servers by name, the addresses known, and the NS records of the referral to it."""

    zone: dns.name.Name
    servers: tuple[dns.name.Name, ...]
    addresses: tuple[str, ...]
    delegation: tuple[DnsRecord, ...] = ()


@dataclass(frozen=True, slots=True)
class _Step:
    """What one zone's servers brought: an answer, a cut below, or a failure."""

    status: DnsStatus
    message: dns.message.Message | None = None
    cut: Cut | None = None


class Resolver:
    """Looks names up: from the roots down, or through `forwarder` when there is one; `zones` come first."""

    def __init__(
        self,
        asker: Asker,
        clock: Clock,
        roots: tuple[str, ...] = ROOTS,
        forwarder: Place | None = None,
        zones: tuple[ZoneFile, ...] = (),
    ) -> None:
        self._asker = asker
        self._clock = clock
        self._forwarder = forwarder
        self._zones = zones
        self._root = Cut(dns.name.root, (), roots)
        self._cuts: OrderedDict[dns.name.Name, Cut] = OrderedDict()
        self._looks: Remembered[DnsLook] = Remembered()

    async def look(self, name: str, rtype: str, purse: Purse) -> DnsLook:
        """The look-up of a canonical name. Raises SpentError; never for anything that the world does."""
        return await self._looks.get((name, rtype), lambda: self._timed(name, rtype, purse))

    async def close(self) -> None:
        """Ends look-ups that nobody waits for any more."""
        await self._looks.close()

    async def _timed(self, name: str, rtype: str, purse: Purse) -> DnsLook:
        start_ms = self._clock.now_ms()
        asked, kind = dns.name.from_text(name), dns.rdatatype.from_text(rtype)
        look = await self._chase(asked, kind, purse, ())
        return replace(look, name=name, rtype=rtype, at_ms=start_ms, took_ms=self._clock.now_ms() - start_ms)

    async def _chase(
        self, name: dns.name.Name, rtype: RdataType, purse: Purse, trail: tuple[dns.name.Name, ...]
    ) -> DnsLook:
        """Follows aliases to an answer; `trail` are the nameservers whose addresses we are after."""
        records: list[DnsRecord] = []
        seen = {name}
        while True:
            step = await self._descend(name, rtype, purse, trail)
            found = _found(step, name, rtype)
            records += found.records
            if found.status is not DnsStatus.NOERROR or found.target is None:
                return DnsLook("", "", found.status, tuple(records), found.authority)
            if found.visited & seen or len(seen) > CHAIN_MAX:
                return DnsLook("", "", DnsStatus.LOOP, tuple(records))
            seen |= found.visited
            name = found.target

    async def _descend(
        self, name: dns.name.Name, rtype: RdataType, purse: Purse, trail: tuple[dns.name.Name, ...]
    ) -> _Step:
        for zone in self._zones:
            told = zone.answer(name, rtype)
            if told is not None:
                return _Step(DnsStatus.NOERROR, told)
        if self._forwarder:
            said = await self._asker.ask(self._forwarder, name, rtype, purse, recurse=True)
            return _Step(said.status, said.message)
        cut = self._closest(name, rtype)
        for _ in range(REFERRALS_MAX):
            step = await self._at(cut, name, rtype, purse, trail)
            if step.cut is None:
                return replace(step, cut=cut)
            cut = step.cut
            self._keep(cut)
        return _Step(DnsStatus.LOOP)

    def _closest(self, name: dns.name.Name, rtype: RdataType) -> Cut:
        """The deepest zone known that has the name; for DS, the one above it."""
        at = name.parent() if rtype == DS and name != dns.name.root else name
        while at != dns.name.root:
            cut = self._cuts.get(at)
            if cut:
                self._cuts.move_to_end(at)
                return cut
            at = at.parent()
        return self._root

    def _keep(self, cut: Cut) -> None:
        self._cuts[cut.zone] = cut
        while len(self._cuts) > ZONES_KEPT_MAX:
            self._cuts.popitem(last=False)

    async def _at(
        self, cut: Cut, name: dns.name.Name, rtype: RdataType, purse: Purse, trail: tuple[dns.name.Name, ...]
    ) -> _Step:
        """Asks the servers of a zone, one after another, until one says something."""
        status = DnsStatus.SERVFAIL
        addresses = cut.addresses or await self._addresses(cut, purse, trail)
        if addresses and not cut.addresses:
            self._keep(replace(cut, addresses=addresses))
        for address in self._asker.by_trust(list(addresses))[:SERVERS_TRIED_MAX]:
            said = await self._asker.ask((address, DNS_PORT), name, rtype, purse, recurse=False)
            step = _read(said, cut, name, rtype)
            if step is not None:
                return step
            status = said.status if said.message is None else status_of(said.message.rcode())
            status = DnsStatus.BAD if status is DnsStatus.NOERROR else status
        return _Step(status)

    async def _addresses(self, cut: Cut, purse: Purse, trail: tuple[dns.name.Name, ...]) -> tuple[str, ...]:
        """Addresses of servers that came without glue. () = none to be had, or only by going round."""
        found: list[str] = []
        if len(trail) >= NESTED_MAX:
            return ()
        for server in [each for each in cut.servers if each not in trail][:GLUELESS_MAX]:
            look = await self._chase(server, A, purse, (*trail, server))
            found += [record.value for record in look.records if record.rtype == "A"]
            if len(found) >= SERVERS_TRIED_MAX:
                break
        return tuple(found)


@dataclass(frozen=True, slots=True)
class _Found:
    """What an answer says of a name. `target`: where to go on; None = it ends here."""

    status: DnsStatus
    records: tuple[DnsRecord, ...] = ()
    authority: tuple[DnsRecord, ...] = ()
    target: dns.name.Name | None = None
    visited: frozenset[dns.name.Name] = frozenset()


def _read(said: Said, cut: Cut, name: dns.name.Name, rtype: RdataType) -> _Step | None:
    """What a server of this zone said; None when another one should be asked."""
    message = said.message
    if message is None or message.rcode() not in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
        return None
    is_answer = any(rrset.name == name and rrset.rdtype in (rtype, CNAME) for rrset in message.answer)
    if is_answer or message.rcode() == dns.rcode.NXDOMAIN:
        return _Step(DnsStatus.NOERROR, message)
    below = _referral(message, cut, name)
    if below is not None and not (rtype == DS and below.zone == name):
        return _Step(DnsStatus.NOERROR, message, below)
    has_soa = any(rrset.rdtype == SOA for rrset in message.authority)
    is_own = bool(message.flags & dns.flags.AA) or has_soa or below is not None
    return _Step(DnsStatus.NOERROR, message) if is_own else None


def _referral(message: dns.message.Message, cut: Cut, name: dns.name.Name) -> Cut | None:
    for rrset in message.authority:
        is_below = rrset.name != cut.zone and rrset.name.is_subdomain(cut.zone)
        if rrset.rdtype != NS or not is_below or not name.is_subdomain(rrset.name):
            continue
        servers = tuple(rdata.target for rdata in list(rrset)[:RECORDS_MAX])
        trusted = {server for server in servers if server.is_subdomain(cut.zone)}
        glue = [
            rdata.address
            for extra in message.additional
            if extra.rdtype in (A, AAAA) and extra.name in trusted
            for rdata in extra
        ]
        addresses = tuple(sorted(glue, key=lambda address: ":" in address))
        return Cut(rrset.name, servers, addresses, records_of(rrset)[:RECORDS_MAX])
    return None


def _found(step: _Step, name: dns.name.Name, rtype: RdataType) -> _Found:
    """Goes along the aliases inside one answer."""
    if step.message is None:
        return _Found(step.status)
    message = step.message
    records: list[DnsRecord] = []
    visited: set[dns.name.Name] = set()
    at = name
    while len(visited) <= CHAIN_MAX and _is_known_to(step.cut, at):
        wanted = set_of(message.answer, at, rtype)
        if wanted is not None:
            rows = records_of(wanted)
            status = DnsStatus.TOO_LARGE if len(rows) > RECORDS_MAX else DnsStatus.NOERROR
            return _Found(status, (*records, *rows[:RECORDS_MAX]), _authority(step, rtype))
        alias = set_of(message.answer, at, CNAME)
        if alias is None:
            break
        row = records_of(alias)[0]
        records.append(row)
        at = alias[0].target
        if at in visited or at == name:
            return _Found(DnsStatus.LOOP, tuple(records))
        visited.add(at)
    status = status_of(message.rcode())
    is_at_end = not visited or status is DnsStatus.NXDOMAIN or _is_told(message, at)
    if is_at_end:
        return _Found(status, tuple(records), _authority(step, rtype))
    return _Found(status, tuple(records), (), at, frozenset(visited))


def _is_told(message: dns.message.Message, at: dns.name.Name) -> bool:
    """Whether the message says that the last name of a chain has no such record."""
    return any(rrset.rdtype == SOA and at.is_subdomain(rrset.name) for rrset in message.authority)


def _is_known_to(cut: Cut | None, name: dns.name.Name) -> bool:
    """Whether a zone's servers may speak of a name; a forwarder (None) may of any."""
    return cut is None or name.is_subdomain(cut.zone)


def _authority(step: _Step, rtype: RdataType) -> tuple[DnsRecord, ...]:
    assert step.message is not None
    told = tuple(
        record
        for rrset in step.message.authority
        if rrset.rdtype in (SOA, DS)
        for record in records_of(rrset)[:RECORDS_MAX]
    )
    return (*told, *(step.cut.delegation if step.cut and rtype == NS else ()))
