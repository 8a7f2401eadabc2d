"""A zone file (RFC 1035 §5) as the answers that its servers would give."""

from pathlib import Path
from typing import Final

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.node
import dns.rdataclass
import dns.rdatatype
import dns.rrset
import dns.zone
from dns.rdatatype import CNAME, DS, NS, SOA, RdataType

from polycdn.audit.bounded import read_bounded
from polycdn.errors import ConfigError, Fault

ZONE_BYTES_MAX: Final = 8 * 1024 * 1024
"""About 200,000 records, which take a minute or two to read."""
DIRECTIVES_REFUSED: Final = ("$GENERATE", "$INCLUDE")


class ZoneFile:
    """One zone, with the answers to any question about it."""

    def __init__(self, zone: dns.zone.Zone) -> None:
        assert zone.origin is not None, "parse_zone wants a SOA, so there is an origin"
        self.origin: dns.name.Name = zone.origin
        self._zone = zone

    def answer(self, name: dns.name.Name, rtype: RdataType) -> dns.message.Message | None:
        """What the zone's servers would say; None when the name or type is another zone's to tell."""
        is_parents = rtype == DS and name == self.origin
        if is_parents or not name.is_subdomain(self.origin) or self._is_delegated(name):
            return None
        message = dns.message.make_response(dns.message.make_query(name, rtype))
        message.flags |= dns.flags.AA
        node = self._node(name)
        for kind in dict.fromkeys((rtype, CNAME)):
            found = node.get_rdataset(dns.rdataclass.IN, kind) if node else None
            if found is not None:
                message.answer.append(dns.rrset.from_rdata_list(name, found.ttl, list(found)))
                return message
        if node is None and not self._has_below(name):
            message.set_rcode(dns.rcode.NXDOMAIN)
        soa = self._zone.find_rdataset(self.origin, SOA)
        message.authority.append(dns.rrset.from_rdata_list(self.origin, soa.ttl, list(soa)))
        return message

    def _is_delegated(self, name: dns.name.Name) -> bool:
        at = name
        while at != self.origin:
            node = self._zone.get_node(at)
            if node and node.get_rdataset(dns.rdataclass.IN, NS):
                return True
            at = at.parent()
        return False

    def _node(self, name: dns.name.Name) -> dns.node.Node | None:
        """The node of a name, or the wildcard that stands for it (RFC 4592)."""
        found = self._zone.get_node(name)
        if found is not None or self._has_below(name):
            return found
        at = name
        while at != self.origin:
            at = at.parent()
            if at == self.origin or self._zone.get_node(at) is not None or self._has_below(at):
                return self._zone.get_node(dns.name.Name((b"*", *at.labels)))
        return None

    def _has_below(self, name: dns.name.Name) -> bool:
        return any(owner != name and owner.is_subdomain(name) for owner in self._zone)


def read_zone(path: Path) -> ZoneFile:
    """The zone of a file. Raises ConfigError."""
    return parse_zone(read_bounded(path, ZONE_BYTES_MAX, _fault), str(path))


def parse_zone(content: bytes, place: str) -> ZoneFile:
    """The zone of a file's bytes; the owner of its SOA record is its name. Raises ConfigError."""
    try:
        text = content.decode("utf-8")
    except UnicodeError as error:
        raise ConfigError((_fault(place, f"bytes that are no UTF-8: {error}"),)) from None
    for number, line in enumerate(text.splitlines(), start=1):
        if line.lstrip().upper().startswith(DIRECTIVES_REFUSED):
            raise ConfigError((_fault(f"{place}:{number}", line.split()[0]),))
    origin = _origin(text)
    if origin is None:
        raise ConfigError((_fault(place, "neither $ORIGIN nor a SOA record with its full name"),))
    try:
        zone = dns.zone.from_text(text, origin=origin, relativize=False, check_origin=True)
    except (dns.exception.DNSException, ValueError, KeyError, OverflowError, AttributeError) as error:
        words = str(error)[:200].replace("<string>:", "near line ") or type(error).__name__
        words = words if words.isprintable() else repr(words)
        raise ConfigError((_fault(place, words),)) from None
    return ZoneFile(zone)


def _origin(text: str) -> str | None:
    """The owner of the SOA record when it stands there in full; else $ORIGIN must tell."""
    for line in text.splitlines():
        words = line.split(";")[0].split()
        if words[:1] == ["$ORIGIN"] and len(words) > 1:
            return words[1]
        if "SOA" in [word.upper() for word in words[1:5]] and words[0].endswith(".") and words[0] != ".":
            return words[0]
    return None


def _fault(place: str, found: str) -> Fault:
    allowed = f"a zone file with its SOA record, $ORIGIN or full names, at most {ZONE_BYTES_MAX} bytes"
    return Fault(place, found, allowed, "export the zone in full, without $GENERATE and $INCLUDE")
