"""A zone file (RFC 1035 §5) for a nameserver that is not ours: BIND, NSD, Knot, PowerDNS.

A zone file has no weights and no regions: it answers with the plan of the default region, from the first k
providers, for the k whose equal split is nearest to the shares. Each service is a block of lines; a TXT
record keeps its generation, so that a copy can be asked for it too:

    _polycdn.www.example.org. TXT "service=www" "generation=12" "digest=..."
"""

import re
from pathlib import Path
from typing import Final

import dns.exception
import dns.name
import dns.zone

from polycdn.errors import SurfaceError
from polycdn.model.plan import RegionPlan
from polycdn.model.settings import Upstream, Zone
from polycdn.model.units import FULL_BP
from polycdn.model.wire import digest
from polycdn.surface.base import Delete, Held, Order, Wanted, check_order
from polycdn.surface.files import read_whole, write_whole

BLOCK: Final = re.compile(r"^; begin service (\S+)\n(.*?)^; end service \1\n", re.MULTILINE | re.DOTALL)
SERIAL: Final = re.compile(r"^\S+ \d+ IN SOA \S+ \S+ (\d+) ", re.MULTILINE)
KEPT: Final = re.compile(r' IN TXT "service=\S+" "generation=(\d+)" "digest=([0-9a-f]{64})"')
SERIAL_SPAN: Final = 2**32


class ZoneFileSurface:
    """One zone in one file, which this surface alone writes."""

    def __init__(self, name: str, file: Path, zone: Zone) -> None:
        self._name = name
        self._file = file
        self._zone = zone

    @property
    def name(self) -> str:
        """What the operator calls it."""
        return self._name

    async def read(self) -> tuple[Held, ...]:
        """The generations that the file's TXT records keep."""
        return tuple(_held(service, block) for service, block in sorted(self._blocks().items()))

    async def apply(self, order: Order) -> None:
        """Writes the whole file anew, with a larger serial."""
        blocks = self._blocks()
        if isinstance(order, Delete):
            blocks.pop(order.service, None)
            self._write(blocks, made_ms=0)
            return
        held = (
            _held(order.wanted.service, blocks[order.wanted.service])
            if order.wanted.service in blocks
            else None
        )
        wanted = check_order(self._name, held, order)
        if wanted is not None:
            blocks[wanted.service] = block_text(self._name, wanted, self._zone)
            self._write(blocks, wanted.published.plan.made_ms)

    async def mark_good(self, service: str, generation: int) -> None:
        """Nothing: a zone file holds the plan in force only."""

    def _text(self) -> str:
        content = read_whole(self._file)
        try:
            return "" if content is None else content.decode()
        except UnicodeDecodeError:
            raise SurfaceError(
                f"{self._file}: not a zone file of ours; give another path", is_retryable=False
            ) from None

    def _blocks(self) -> dict[str, str]:
        text = self._text()
        if text and SERIAL.search(text) is None:
            raise SurfaceError(
                f"{self._file}: not a zone file of ours; give another path", is_retryable=False
            )
        return {found[1]: found[2] for found in BLOCK.finditer(text)}

    def _write(self, blocks: dict[str, str], made_ms: int) -> None:
        found = SERIAL.search(self._text())
        serial = next_serial(int(found[1]) if found else None, made_ms // 1000)
        text = zone_head(self._zone, serial) + "".join(
            f"; begin service {service}\n{block}; end service {service}\n"
            for service, block in sorted(blocks.items())
        )
        self._check(text)
        write_whole(self._file, text.encode(), mode=0o644)

    def _check(self, text: str) -> None:
        """Raises SurfaceError if another reader (dnspython) does not take the text for this zone."""
        try:
            dns.zone.from_text(text, origin=_absolute(self._zone.apex), check_origin=True)
        except dns.exception.DNSException as error:
            raise SurfaceError(f"{self._file}: would not be a zone: {error}", is_retryable=False) from None


def next_serial(serial: int | None, made_s: int) -> int:
    """A serial that every secondary takes for newer (RFC 1982 §3.2).

    Seconds UTC of the plan, so that a lost file does not start below what secondaries hold, and at least one
    more than before.
    """
    if serial is None:
        return made_s % SERIAL_SPAN
    ahead = (made_s - serial) % SERIAL_SPAN
    return (serial + (ahead if 0 < ahead < SERIAL_SPAN // 2 else 1)) % SERIAL_SPAN


def zone_head(zone: Zone, serial: int) -> str:
    """SOA, NS and glue. The SOA's TTL is the negative TTL too (RFC 2308 §4)."""
    apex, primary = _absolute(zone.apex), _absolute(zone.name_servers[0].name)
    timers = f"{zone.refresh_s} {zone.retry_s} {zone.expire_s} {zone.negative_ttl_s}"
    lines = ["; written by polycdn; changes made here are lost"]
    lines.append(f"{apex} 3600 IN SOA {primary} {_mailbox(zone.mailbox)} {serial} {timers}")
    for server in zone.name_servers:
        lines.append(f"{apex} 3600 IN NS {_absolute(server.name)}")
        lines += [
            f"{_absolute(server.name)} 3600 IN {_address_type(address)} {address}"
            for address in server.addresses
        ]
    return "\n".join(lines) + "\n"


def block_text(surface: str, wanted: Wanted, zone: Zone) -> str:
    """The records of one service: its answers under every hostname in the zone, and the TXT that keeps it."""
    plan, settings = wanted.published.plan, wanted.settings
    default = settings.regions[0].name if settings.regions else plan.regions[0].region
    region = next((one for one in plan.regions if one.region == default), plan.regions[0])
    apex = dns.name.from_text(zone.apex)
    names = [name for name in settings.hostnames if dns.name.from_text(name).is_subdomain(apex)]
    if not names:
        raise SurfaceError(
            f"surface {surface}, service {wanted.service}: no hostname lies in {zone.apex}",
            is_retryable=False,
        )
    lines = [f"; {region.region}: " + ", ".join(f"{name} {share_bp} bp" for name, share_bp in region.shares)]
    for name in names:
        lines += _answers(surface, name, region, settings.upstreams, zone)
    lines.append(
        f'{_absolute("_polycdn." + names[0])} 60 IN TXT "service={wanted.service}" '
        f'"generation={plan.generation}" "digest={digest(wanted.published)}"'
    )
    return "\n".join(lines) + "\n"


def _answers(
    surface: str, hostname: str, region: RegionPlan, upstreams: tuple[Upstream, ...], zone: Zone
) -> list[str]:
    by_name = {upstream.name: upstream for upstream in upstreams}
    shares = [(by_name[name], share_bp) for name, share_bp in region.shares if share_bp > 0]
    shares.sort(key=lambda one: -one[1])
    first = shares[0][0]
    if first.ipv4 or first.ipv6:
        chosen = nearest_equal_split([one for one in shares if one[0].ipv4 or one[0].ipv6])
        return [
            f"{_absolute(hostname)} {region.ttl_s} IN {_address_type(address)} {address}"
            for address in (*_even(chosen, "ipv4"), *_even(chosen, "ipv6"))
        ]
    target = first.cname or first.endpoint.host
    if dns.name.from_text(hostname) == dns.name.from_text(zone.apex):
        raise SurfaceError(
            f"surface {surface}: {hostname} is the zone's apex, where {first.name} cannot be a CNAME "
            "(RFC 1034 §3.6.2); give the provider addresses",
            is_retryable=False,
        )
    return [f"{_absolute(hostname)} {region.ttl_s} IN CNAME {_absolute(target)}"]


def nearest_equal_split(shares: list[tuple[Upstream, int]]) -> list[Upstream]:
    """The first k of `shares` (largest first), for the least k that misplaces the least traffic."""

    def misplaced_bp(count: int) -> int:
        each_bp = FULL_BP // count
        return sum(
            abs(share_bp - (each_bp if place < count else 0)) for place, (_, share_bp) in enumerate(shares)
        )

    best = min(range(1, len(shares) + 1), key=misplaced_bp)
    return [upstream for upstream, _ in shares[:best]]


def _even(chosen: list[Upstream], family: str) -> list[str]:
    """As many addresses of each as the one with the fewest has, so that none weighs more."""
    addresses: list[tuple[str, ...]] = [getattr(upstream, family) for upstream in chosen]
    held = [each for each in addresses if each]
    fewest = min((len(each) for each in held), default=0)
    return [address for each in held for address in each[:fewest]]


def _held(service: str, block: str) -> Held:
    found = KEPT.search(block)
    return Held(service, int(found[1]), found[2]) if found else Held(service, 0)


def _absolute(name: str) -> str:
    return dns.name.from_text(name).to_text()


def _mailbox(mailbox: str) -> str:
    """RFC 1035 §8: the local part is one label, its dots escaped."""
    local, at, domain = mailbox.partition("@")
    return _absolute(local.replace(".", "\\.") + "." + domain) if at else _absolute(mailbox)


def _address_type(address: str) -> str:
    return "AAAA" if ":" in address else "A"
