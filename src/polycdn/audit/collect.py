"""What services depend on, looked up: from the names that were asked for, level by level, to a set depth."""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from polycdn.audit.ask import Asker
from polycdn.audit.browser import Browser, BrowserError
from polycdn.audit.evidence import Evidence, Fact, PageLook, Role, Target, TlsLook, Unseen, evidence_of
from polycdn.audit.fetch import Fetched, Fetcher
from polycdn.audit.follow import (
    PAGE_ROLES,
    Lead,
    aliases,
    authorities,
    followed,
    is_web,
    loaded,
    mail_hosts,
    nameservers,
)
from polycdn.audit.handshake import Handshaker
from polycdn.audit.looking import Looking, Tools, networks_at
from polycdn.audit.names import name_of_host
from polycdn.audit.places import Place, Places
from polycdn.audit.purse import Limits, Purse, SpentError
from polycdn.audit.registration import BOOTSTRAP
from polycdn.audit.remembered import Remembered
from polycdn.audit.request import Getter
from polycdn.audit.resolve import ROOTS, Resolver
from polycdn.audit.zonefile import ZoneFile
from polycdn.measure.multi import Multi
from polycdn.model.units import Clock

ASKED_FOR: Final = "asked for"
KNOWN_MAX: Final = 8_192
"""So many facts and dependencies are remembered as told, so that they are not told again."""


FACTS_A_WORD: Final = 16
"""After so many facts the progress is told."""
CONNECTIONS_KEPT: Final = 64
HANDSHAKES_KEPT_MAX: Final = 256

LIMITS: Final = Limits()
NOWHERE_ELSE: Final = Places()


@dataclass(frozen=True, slots=True)
class Asked:
    """A name to audit, canonical; `why` tells where it comes from.

    `server_name` is asked for in handshakes with it instead of the name itself: a provider's end point shows
    the certificate of the service that it carries. "" = the name.
    """

    name: str
    role: Role = Role.SERVICE
    why: str = ASKED_FOR
    server_name: str = ""


@dataclass(frozen=True, slots=True)
class Means:
    """What is looked with. `forwarder`: ask this resolver instead of going down from the `roots`.

    `networks` is the table's file; `pages` were recorded elsewhere (HAR); `zones` stand for their servers.
    `browser` also loads the pages of the names that were asked for, None = HTML alone is read. `bootstrap`:
    where the registries to ask for registrars are listed, "" = none is asked.
    """

    clock: Clock
    limits: Limits = LIMITS
    places: Places = NOWHERE_ELSE
    roots: tuple[str, ...] = ROOTS
    forwarder: Place | None = None
    ca_file: str | None = None
    networks: Path | None = None
    zones: tuple[ZoneFile, ...] = ()
    pages: tuple[PageLook, ...] = ()
    browser: Browser | None = None
    bootstrap: str = BOOTSTRAP


@dataclass(frozen=True, slots=True)
class Progress:
    """How far it is: names done of all, and facts told so far."""

    done: int
    names: int
    facts: int


async def collect_evidence(
    asked: Sequence[Asked],
    means: Means,
    tool_version: str = "",
    progress: Callable[[Progress], None] | None = None,
) -> Evidence:
    """Everything about the names, in memory."""
    started_ms = means.clock.now_ms()
    facts: list[Fact] = []
    await collect(asked, means, facts.append, progress)
    return evidence_of(facts, started_ms, tool_version)


async def collect(
    asked: Sequence[Asked],
    means: Means,
    sink: Callable[[Fact], None],
    progress: Callable[[Progress], None] | None = None,
) -> None:
    """Tells every fact to `sink` as it comes, in any order; keeps a bounded number of them.

    Never raises for anything that the world does: what could not be seen is told as `Unseen`. Each name ends
    within its own budget.
    """
    done = 0

    def tell(facts: int) -> None:
        if progress:
            progress(Progress(done, len(asked), facts))

    told = _Told(sink, tell)
    slots = asyncio.Semaphore(means.limits.names_at_once)

    async def one(each: Asked) -> None:
        nonlocal done
        async with slots:
            await _Audit(each, means, tools, told).run()
        done += 1
        tell(told.facts)

    async with _tools(means) as tools, asyncio.TaskGroup() as group:
        for each in asked:
            group.create_task(one(each))
    for page in means.pages:
        if page.url not in told.pages:
            told.tell(Unseen(page.url, "page", "bad: recorded for a host that was not audited"))


@asynccontextmanager
async def _tools(means: Means) -> AsyncIterator[Tools]:
    limits, clock, places = means.limits, means.clock, means.places
    resolver = Resolver(Asker(places, limits), clock, means.roots, means.forwarder, means.zones)
    handshakes: Remembered[TlsLook] = Remembered(HANDSHAKES_KEPT_MAX)
    registries: Remembered[dict[str, str]] = Remembered()
    networks = networks_at(means.networks) if means.networks else None

    async def address_of(name: str, purse: Purse) -> str:
        for rtype in ("A", "AAAA"):
            look = await resolver.look(name, rtype, purse)
            if look.values:
                return look.values[0]
        return ""

    async with Multi(CONNECTIONS_KEPT) as multi:
        getter = Getter(multi, places, clock, limits, means.ca_file)
        fetcher = Fetcher(getter, address_of, limits.page_bytes)
        try:
            handshaker = Handshaker(places, clock, limits, means.ca_file)
            yield Tools(
                resolver, handshaker, fetcher, handshakes, networks, clock, registries, means.bootstrap
            )
        finally:
            await fetcher.close()
            await handshakes.close()
            await registries.close()
            await resolver.close()
            if networks:
                networks.close()


class _Told:
    """Tells facts, those of the latest past only once; remembers which dependencies were followed."""

    def __init__(self, sink: Callable[[Fact], None], progress: Callable[[int], None]) -> None:
        self._sink = sink
        self._progress = progress
        self._known: OrderedDict[int, None] = OrderedDict()
        self._followed: OrderedDict[tuple[str, bool, bool], int] = OrderedDict()
        self.facts = 0
        self.pages: set[str] = set()
        self.browsing = asyncio.Semaphore(1)

    def tell(self, fact: Fact) -> None:
        key = hash(fact)
        if key in self._known:
            self._known.move_to_end(key)
            return
        self._known[key] = None
        if len(self._known) > KNOWN_MAX:
            self._known.popitem(last=False)
        self.facts += 1
        self._sink(fact)
        if self.facts % FACTS_A_WORD == 0:
            self._progress(self.facts)

    def is_news(self, target: Target) -> bool:
        """Whether a target was not followed yet from a place as near as this."""
        key = (target.name, is_web(target), target.role in PAGE_ROLES)
        if self._followed.get(key, target.depth + 1) <= target.depth:
            return False
        self._followed[key] = target.depth
        if len(self._followed) > KNOWN_MAX:
            self._followed.popitem(last=False)
        return True


class _Audit:
    """One asked name, level by level."""

    def __init__(self, asked: Asked, means: Means, tools: Tools, told: _Told) -> None:
        self._asked = asked
        self._means = means
        self._limits = means.limits
        self._told = told
        self._purse = Purse(means.limits, means.clock)
        self._looking = Looking(tools, self._purse, told.tell)
        self._open: set[Target] = set()

    async def run(self) -> None:
        """Ends when there is nothing to follow any more, or with the budget."""
        first = Target(self._asked.name, self._asked.role, self._asked.why)
        self._told.tell(first)
        if self._means.forwarder:
            why = "not configured: a resolver was asked, which tells what is left of a TTL"
            self._told.tell(Unseen(first.name, "ttl", why))
        try:
            async with asyncio.timeout(self._purse.left_s):
                await self._levels([Lead(first)])
        except TimeoutError:
            for target in self._open:
                self._told.tell(Unseen(target.name, "dependencies", "deadline"))

    async def _levels(self, level: list[Lead]) -> None:
        while level:
            news = [lead for lead in level if self._told.is_news(lead.target)]
            self._open = {lead.target for lead in news}
            found = await asyncio.gather(*(self._expand(lead) for lead in news))
            level = [lead for leads in found for lead in leads]

    async def _expand(self, lead: Lead) -> list[Lead]:
        """Looks at a target; gives what it depends on, as far as the depth goes."""
        target = lead.target
        leads = await self._looks(lead)
        kept, unseen = followed(target, leads, self._limits.per_target_max)
        for each in unseen:
            self._told.tell(each)
        within = [each for each in kept if each.target.depth <= self._limits.depth]
        if len(within) < len(kept):
            why = f"depth: {len(kept) - len(within)} dependencies lie below depth {self._limits.depth}"
            self._told.tell(Unseen(target.name, "dependencies", why))
        for below in within:
            self._told.tell(below.target)
        self._open.discard(target)
        return within

    async def _looks(self, lead: Lead) -> list[Lead]:
        target = lead.target
        (addresses, four), below = await asyncio.gather(
            self._looking.addresses(target.name), self._zone_leads(target)
        )
        leads = [*aliases(target, four), *below]
        if not is_web(target):
            return leads
        is_page = target.role in PAGE_ROLES
        jobs = [self._tls_leads(target, addresses[: 2 if target.depth == 0 else 1])]
        if is_page:
            jobs += [self._page_leads(target), self._mail_leads(target), self._caa(target)]
        elif lead.url:
            jobs.append(self._resource(target, lead.url))
        for found in await asyncio.gather(*jobs):
            leads += found
        return leads

    async def _zone_leads(self, target: Target) -> list[Lead]:
        zone = await self._looking.zone(target.name)
        if zone is None:
            self._told.tell(Unseen(target.name, "zone", "bad: nobody tells which zone it lies in"))
            return []
        looks = await asyncio.gather(*(self._looking.dns(zone, rtype) for rtype in ("NS", "DS", "SOA")))
        leads = nameservers(target, looks[0])
        if zone == target.name and target.role is Role.SERVICE and not target.parent:
            leads += await self._www(target)
        return leads

    async def _www(self, target: Target) -> list[Lead]:
        """The www of an apex: the same service, when there is one."""
        name = f"www.{target.name}"
        look = await self._looking.dns(name, "A")
        if look is None or look.status == "NXDOMAIN" or not (look.records or look.status != "NOERROR"):
            return []
        return [Lead(Target(name, Role.SERVICE, f"www of {target.name}", target.depth, target.name))]

    async def _tls_leads(self, target: Target, addresses: tuple[str, ...]) -> list[Lead]:
        server_name = self._asked.server_name if not target.parent else ""
        return authorities(target, await self._looking.tls(target.name, addresses, server_name))

    async def _mail_leads(self, target: Target) -> list[Lead]:
        if target.parent:
            return []
        await self._looking.registration(target.name)
        return mail_hosts(target, await self._looking.dns(target.name, "MX"))

    async def _caa(self, target: Target) -> list[Lead]:
        await self._looking.caa(target.name)
        return []

    async def _resource(self, target: Target, url: str) -> list[Lead]:
        await self._looking.get(target.name, url, follow=False)
        return []

    async def _page_leads(self, target: Target) -> list[Lead]:
        fetched = await self._looking.page(target.name)
        leads = [] if fetched is None else self._hosts(target, fetched)
        if self._means.browser and fetched and fetched.page:
            leads += await self._browsed(target, self._means.browser, fetched.page.url)
        for page in self._means.pages:
            if name_of_host(urlsplit(page.url).hostname or "") == target.name:
                self._told.tell(page)
                self._told.pages.add(page.url)
                leads += loaded(target, page.url, page.resources)
        return leads

    async def _browsed(self, target: Target, browser: Browser, url: str) -> list[Lead]:
        """What a browser loads for a page that lies on this host, one page at a time on this machine."""
        if name_of_host(urlsplit(url).hostname or "") != target.name:
            return []
        try:
            async with self._told.browsing:
                self._purse.spend()
                page = await browser.load(url, self._limits.page_ms / 1000)
        except (BrowserError, SpentError) as error:
            self._told.tell(Unseen(target.name, "browser", str(error)))
            return []
        self._told.tell(page)
        return loaded(target, page.url, page.resources)

    def _hosts(self, target: Target, fetched: Fetched) -> list[Lead]:
        """Where a page redirects to, and what it loads when it lies on this host."""
        last = fetched.looks[-1]
        hosts = [name_of_host(urlsplit(look.url).hostname or "") for look in fetched.looks[1:]]
        leads = [
            Lead(Target(name, target.role, f"redirect of {target.name}", target.depth, target.name))
            for name in hosts
            if name and name != target.name
        ]
        is_here = name_of_host(urlsplit(last.url).hostname or "") == target.name
        return leads + (loaded(target, last.url, fetched.page.resources) if fetched.page and is_here else [])
