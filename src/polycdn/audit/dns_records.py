"""What a DNS message says, as records of evidence. Pure."""

from typing import Any, Final

import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset

from polycdn.audit.evidence import DnsRecord, DnsStatus
from polycdn.audit.names import name_text

RECORDS_MAX: Final = 256
"""So many records of one set are kept; of more the look is TOO_LARGE."""
CHAIN_MAX: Final = 16
"""A longer CNAME chain is a loop (resolvers give up between 8 and 16)."""
VALUE_CHARACTERS_MAX: Final = 4_096


def records_of(rrset: dns.rrset.RRset) -> tuple[DnsRecord, ...]:
    """The records of a set, at most RECORDS_MAX + 1 of them."""
    owner, rtype = name_text(rrset.name), dns.rdatatype.to_text(rrset.rdtype)
    rows = []
    for rdata in rrset:
        rows.append(DnsRecord(owner, rtype, int(rrset.ttl), value_of(rdata)))
        if len(rows) > RECORDS_MAX:
            break
    return tuple(rows)


def value_of(rdata: Any) -> str:
    """Presentation text with canonical names."""
    match rdata.rdtype:
        case dns.rdatatype.NS | dns.rdatatype.CNAME | dns.rdatatype.DNAME:
            return name_text(rdata.target)
        case dns.rdatatype.MX:
            return f"{rdata.preference} {name_text(rdata.exchange)}"
        case dns.rdatatype.SOA:
            numbers = f"{rdata.serial} {rdata.refresh} {rdata.retry} {rdata.expire} {rdata.minimum}"
            return f"{name_text(rdata.mname)} {name_text(rdata.rname)} {numbers}"
        case _:
            return str(rdata.to_text())[:VALUE_CHARACTERS_MAX]


def status_of(rcode: int) -> DnsStatus:
    """The status of a response code."""
    return {
        dns.rcode.NOERROR: DnsStatus.NOERROR,
        dns.rcode.NXDOMAIN: DnsStatus.NXDOMAIN,
        dns.rcode.SERVFAIL: DnsStatus.SERVFAIL,
        dns.rcode.REFUSED: DnsStatus.REFUSED,
    }.get(dns.rcode.Rcode(rcode), DnsStatus.BAD)


def set_of(
    section: list[dns.rrset.RRset], name: dns.name.Name, rtype: dns.rdatatype.RdataType
) -> dns.rrset.RRset | None:
    """The set of a name and type in a section; None when there is none."""
    return next((rrset for rrset in section if rrset.name == name and rrset.rdtype == rtype), None)
