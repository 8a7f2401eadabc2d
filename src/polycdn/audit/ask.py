"""One question to one DNS server."""

import asyncio
from dataclasses import dataclass
from typing import Final

import dns.asyncquery
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype

from polycdn.audit.evidence import DnsStatus
from polycdn.audit.places import Place, Places
from polycdn.audit.purse import Limits, Purse

DNS_PORT = 53
TIMEOUTS_UNTIL_DEAD: Final = 3
"""A server that never said anything and kept silent so often is not asked again."""
TIMEOUTS_UNTIL_GONE: Final = 12
"""The same in a row for one that had answered before: many questions may be under way at once."""
FIRST_TRY: Final = 3
"""The first datagram has a third of the time; it may be lost, then the second has the rest."""


@dataclass(frozen=True, slots=True)
class Said:
    """A server's message, or why there is none."""

    message: dns.message.Message | None
    status: DnsStatus = DnsStatus.NOERROR


class Asker:
    """Asks servers, over UDP and over TCP when the answer was cut; remembers who keeps silent."""

    def __init__(self, places: Places, limits: Limits) -> None:
        self._places = places
        self._timeout_s = limits.look_ms / 1000
        self._slots = asyncio.Semaphore(limits.looks_at_once)
        self._silent: dict[Place, int] = {}
        self._known: set[Place] = set()

    def by_trust(self, addresses: list[str]) -> list[str]:
        """Those that answered before those that did not, each once."""
        return sorted(dict.fromkeys(addresses), key=lambda address: self._silent.get((address, DNS_PORT), 0))

    async def ask(
        self,
        server: Place,
        name: dns.name.Name,
        rtype: dns.rdatatype.RdataType,
        purse: Purse,
        *,
        recurse: bool,
    ) -> Said:
        """What a server says. Raises SpentError; never raises for anything that the server does."""
        place = self._places.of(*server)
        if place is None:
            return Said(None, DnsStatus.REFUSED)
        if self._silent.get(server, 0) >= (
            TIMEOUTS_UNTIL_GONE if server in self._known else TIMEOUTS_UNTIL_DEAD
        ):
            return Said(None, DnsStatus.TIMEOUT)
        purse.spend()
        async with self._slots:
            said = await self._tried(name, rtype, place, recurse=recurse)
        if said.status is DnsStatus.TIMEOUT:
            self._silent[server] = self._silent.get(server, 0) + 1
        else:
            self._silent.pop(server, None)
            self._known.add(server)
        return said

    async def _tried(
        self, name: dns.name.Name, rtype: dns.rdatatype.RdataType, place: Place, *, recurse: bool
    ) -> Said:
        """Twice, as a datagram may be lost; without EDNS for who does not know it (RFC 6891 §7)."""
        query = dns.message.make_query(name, rtype, use_edns=0, payload=1232)
        if not recurse:
            query.flags &= ~dns.flags.RD
        said = await self._sent(query, place, self._timeout_s / FIRST_TRY)
        if said.status is DnsStatus.TIMEOUT:
            said = await self._sent(query, place, self._timeout_s * (FIRST_TRY - 1) / FIRST_TRY)
        if said.message is not None and said.message.rcode() in (dns.rcode.FORMERR, dns.rcode.NOTIMP):
            query.use_edns(-1)
            said = await self._sent(query, place, self._timeout_s)
        return said

    async def _sent(self, query: dns.message.Message, place: Place, timeout_s: float) -> Said:
        address, port = place
        try:
            async with asyncio.timeout(timeout_s * 2):
                message, _is_tcp = await dns.asyncquery.udp_with_fallback(
                    query, address, timeout=timeout_s, port=port, ignore_unexpected=True
                )
        except (dns.exception.Timeout, TimeoutError):
            return Said(None, DnsStatus.TIMEOUT)
        except ConnectionRefusedError:
            return Said(None, DnsStatus.REFUSED)
        except (dns.exception.DNSException, EOFError, ValueError):
            return Said(None, DnsStatus.BAD)
        except OSError:
            return Said(None, DnsStatus.TIMEOUT)
        return Said(message)
