"""The looks at one name, whatever its role asks for; what fails is told as unseen."""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from polycdn.audit.domains import registrable
from polycdn.audit.evidence import (
    DnsLook,
    DnsStatus,
    Fact,
    HttpLook,
    HttpStatus,
    PageLook,
    TlsLook,
    TlsStatus,
    Unseen,
)
from polycdn.audit.fetch import Fetched, Fetcher
from polycdn.audit.handshake import HTTPS_PORT, Handshaker
from polycdn.audit.names import host_of, parents_of
from polycdn.audit.networks import Networks
from polycdn.audit.purse import Purse, SpentError
from polycdn.audit.registration import registration_of, services_of
from polycdn.audit.remembered import Remembered
from polycdn.audit.request import absolute
from polycdn.audit.resolve import Resolver
from polycdn.model.units import Clock

ADDRESSES_MAX: Final = 16
"""So many addresses of a name are looked up in the table of networks."""

WHY_OF_DNS: Final = {
    DnsStatus.SERVFAIL: "bad: the name's servers fail",
    DnsStatus.REFUSED: "refused",
    DnsStatus.TIMEOUT: "timeout",
    DnsStatus.TOO_LARGE: "too large",
    DnsStatus.LOOP: "loop",
    DnsStatus.BAD: "bad: no DNS answer",
}
WHY_OF_TLS: Final = {TlsStatus.REFUSED: "refused", TlsStatus.TIMEOUT: "timeout", TlsStatus.BAD: "bad"}
WHY_OF_HTTP: Final = {
    HttpStatus.REFUSED: "refused",
    HttpStatus.TIMEOUT: "timeout",
    HttpStatus.UNTRUSTED: "bad: the certificate is not trusted",
    HttpStatus.BAD: "bad",
}


@dataclass(frozen=True, slots=True)
class Tools:
    """What looks are made with."""

    resolver: Resolver
    handshaker: Handshaker
    fetcher: Fetcher
    handshakes: Remembered[TlsLook]
    networks: Networks | None
    clock: Clock
    registries: Remembered[dict[str, str]]
    bootstrap: str


class Looking:
    """Makes the looks of one asked name: tells each to `emit`, pays with `purse`."""

    def __init__(self, tools: Tools, purse: Purse, emit: Callable[[Fact], None]) -> None:
        self._tools = tools
        self._purse = purse
        self._emit = emit

    async def dns(self, name: str, rtype: str) -> DnsLook | None:
        """A look-up; None when there was no budget for it."""
        try:
            look = await self._tools.resolver.look(name, rtype, self._purse)
        except SpentError as spent:
            self._emit(Unseen(name, f"dns {rtype}", spent.why))
            return None
        self._emit(look)
        if look.status in WHY_OF_DNS:
            self._emit(Unseen(name, f"dns {rtype}", WHY_OF_DNS[look.status]))
        return look

    async def zone(self, name: str) -> str | None:
        """The zone that a name lies in; None when nobody says."""
        for above in parents_of(name):
            look = await self.dns(above, "SOA")
            if look is None or look.status not in (DnsStatus.NOERROR, DnsStatus.NXDOMAIN):
                return None
            owners = [each.owner for each in (*look.records, *look.authority) if each.rtype == "SOA"]
            around = [
                owner for owner in owners if name == owner or name.endswith("." + owner) or owner == "."
            ]
            if around and not look.chain:
                return around[0]
        return None

    async def caa(self, name: str) -> None:
        """The CAA records that hold for a name: its own, or those of the nearest name above (RFC 8659 §3)."""
        for above in parents_of(name):
            look = await self.dns(above, "CAA")
            if look is None or look.values or look.status not in (DnsStatus.NOERROR, DnsStatus.NXDOMAIN):
                return

    async def addresses(self, name: str) -> tuple[tuple[str, ...], DnsLook | None]:
        """All addresses of a name, IPv4 first, and the look at A, which has the aliases."""
        four, six = await asyncio.gather(self.dns(name, "A"), self.dns(name, "AAAA"))
        found = tuple(value for look in (four, six) if look for value in look.values)
        for address in found[:ADDRESSES_MAX]:
            if self._tools.networks:
                self._emit(self._tools.networks.look(address))
            else:
                self._emit(Unseen(address, "network", "not configured: no table of networks was imported"))
        return found, four

    async def registration(self, name: str) -> None:
        """At which registrar the domain of a name is."""
        domain = f"{registrable(name)}."
        try:
            why = await self._registration(domain)
        except SpentError as spent:
            why = spent.why
        if why:
            self._emit(Unseen(name, "registrar", why))

    async def _registration(self, domain: str) -> str:
        """Tells the registration of a domain; gives why it cannot, "" = told."""
        tools = self._tools
        if not tools.bootstrap:
            return "not configured: registries are not asked"
        services = await tools.registries.get(tools.bootstrap, self._registries)
        base = services.get(domain.rstrip(".").rpartition(".")[2], "")
        if not base:
            return "bad: it is not known whom to ask about this top-level domain"
        content = await tools.fetcher.content(f"{base.rstrip('/')}/domain/{host_of(domain)}", self._purse)
        look = registration_of(domain, content, tools.clock.now_ms())
        if look is None:
            return "bad: the registry gives no answer"
        self._emit(look)
        return "" if look.registrar else "bad: the registry does not name the registrar"

    async def _registries(self) -> dict[str, str]:
        return services_of(await self._tools.fetcher.content(self._tools.bootstrap, self._purse))

    async def tls(self, name: str, addresses: Iterable[str], server_name: str = "") -> list[TlsLook]:
        """A handshake with each address, for `server_name` instead of the name when there is one."""
        looks = await asyncio.gather(*(self._handshake(name, each, server_name) for each in addresses))
        return [look for look in looks if look]

    async def _handshake(self, name: str, address: str, server_name: str) -> TlsLook | None:
        async def make() -> TlsLook:
            self._purse.spend()
            return await self._tools.handshaker.look(name, address, HTTPS_PORT, server_name)

        try:
            look = await self._tools.handshakes.get((name, address, HTTPS_PORT, server_name), make)
        except SpentError as spent:
            self._emit(Unseen(name, "tls", spent.why))
            return None
        self._emit(look)
        if look.status in WHY_OF_TLS:
            self._emit(Unseen(name, "tls", f"{WHY_OF_TLS[look.status]}: {look.why}"))
        return look

    async def page(self, name: str) -> Fetched | None:
        """The front page of a name over HTTPS, over HTTP when nobody speaks HTTPS there."""
        if not absolute("", f"https://{host_of(name)}/"):
            self._emit(Unseen(name, "http", "bad: no URL can have this name"))
            return None
        fetched = await self.get(name, f"https://{host_of(name)}/", follow=True)
        if fetched and len(fetched.looks) == 1 and fetched.looks[0].status is HttpStatus.REFUSED:
            fetched = await self.get(name, f"http://{host_of(name)}/", follow=True) or fetched
        return fetched

    async def get(self, name: str, url: str, *, follow: bool) -> Fetched | None:
        """What a URL brought, with all its redirects."""
        try:
            fetched = await self._tools.fetcher.fetch(url, self._purse, follow=follow)
        except SpentError as spent:
            self._emit(Unseen(name, "http", spent.why))
            return None
        for look in fetched.looks:
            self._emit(look)
        for each in fetched.unseen:
            self._emit(each)
        last = fetched.looks[-1]
        if last.status in WHY_OF_HTTP:
            self._emit(Unseen(name, "http", f"{WHY_OF_HTTP[last.status]}: {last.why}"))
        if follow:
            self._tell_page(name, last, fetched.page)
        return fetched

    def _tell_page(self, name: str, last: HttpLook, page: PageLook | None) -> None:
        if page is None:
            is_redirect = 300 <= last.code < 400
            if last.status is HttpStatus.OK and not is_redirect:
                self._emit(Unseen(name, "page", f"bad: status {last.code}, no HTML"))
            return
        self._emit(page)
        if page.truncated:
            self._emit(Unseen(name, "page", "too large: only its beginning was read"))


def networks_at(path: Path) -> Networks | None:
    """The table of networks; None when none was imported. Raises ConfigError when the file is damaged."""
    return Networks(path) if path.exists() else None
