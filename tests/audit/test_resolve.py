"""Any answer of any server: the resolver ends, and says what it saw or why it saw nothing."""

import asyncio

import dns.exception
import dns.message
import dns.name
import dns.rrset
from hypothesis import given
from hypothesis import strategies as st

from polycdn.audit.ask import Said
from polycdn.audit.dns_records import CHAIN_MAX, RECORDS_MAX
from polycdn.audit.evidence import DnsStatus
from polycdn.audit.evidence_file import fact_of, line_of
from polycdn.audit.purse import Limits, Purse, SpentError
from polycdn.audit.resolve import Resolver
from polycdn.run.clock import Recorded

LABELS = ("a.test.", "b.a.test.", "test.", "c.test.", "ns.c.test.", "*.a.test.", ".", "x.other.")
names = st.sampled_from(LABELS)


def sets():
    """Any record set."""
    addresses = st.tuples(names, st.just("A"), st.sampled_from(("192.0.2.1", "192.0.2.2")))
    pointers = st.tuples(names, st.sampled_from(("NS", "CNAME")), names)
    soa = st.tuples(names, st.just("SOA"), st.just("ns.c.test. h.c.test. 1 2 3 4 5"))
    return st.one_of(addresses, pointers, soa).map(
        lambda row: dns.rrset.from_text(row[0], 60, "IN", row[1], row[2])
    )


sections = st.lists(sets(), max_size=3)
answers = st.tuples(sections, sections, sections, st.sampled_from((0, 0, 0, 2, 3, 5)), st.booleans())


class Servers:
    """Answers the n-th question with the n-th of some answers, over and over."""

    def __init__(self, said):
        self._said = said
        self.asked = 0

    def by_trust(self, addresses):
        return addresses

    async def ask(self, server, name, rtype, purse, *, recurse):
        purse.spend()
        self.asked += 1
        made = self._said[self.asked % len(self._said)]
        if made is None:
            return Said(None, DnsStatus.TIMEOUT)
        answer, authority, additional, rcode, is_own = made
        message = dns.message.make_response(dns.message.make_query(name, rtype))
        message.answer, message.authority, message.additional = (
            list(answer),
            list(authority),
            list(additional),
        )
        message.set_rcode(rcode)
        message.flags |= dns.flags.AA if is_own else 0
        return Said(message)


@given(
    st.lists(answers | st.none(), min_size=1, max_size=6),
    names.filter(lambda name: name != "."),
    st.sampled_from(("A", "NS", "SOA", "DS", "CAA")),
    st.sampled_from((None, ("192.0.2.9", 53))),
)
def test_any_answers_end_in_a_look_or_with_the_budget(said, name, rtype, forwarder):
    async def run():
        servers = Servers(said)
        clock = Recorded(0)
        resolver = Resolver(servers, clock, ("192.0.2.53",), forwarder)
        try:
            return await resolver.look(name, rtype, Purse(Limits(lookups=300), clock))
        except SpentError:
            return None
        finally:
            await resolver.close()

    look = asyncio.run(asyncio.wait_for(run(), 30))
    if look is not None:
        assert (look.name, look.rtype) == (name, rtype)
        assert len(look.records) <= RECORDS_MAX + 2 * CHAIN_MAX
        assert fact_of(line_of(look)) == look


def test_what_a_server_says_of_others_is_not_believed():
    lie = [dns.rrset.from_text("c.test.", 60, "IN", "A", "192.0.2.66")]
    down = [dns.rrset.from_text("a.test.", 60, "IN", "NS", "ns.c.test.")]
    soa = [dns.rrset.from_text("a.test.", 60, "IN", "SOA", "ns.c.test. h.c.test. 1 2 3 4 5")]
    glue = [dns.rrset.from_text("ns.c.test.", 60, "IN", "A", "192.0.2.2")]
    alias = [dns.rrset.from_text("a.test.", 60, "IN", "CNAME", "c.test."), *lie]
    truth = [dns.rrset.from_text("c.test.", 60, "IN", "A", "192.0.2.1")]

    class Zoned(Servers):
        async def ask(self, server, name, rtype, purse, *, recurse):
            self._said = [([], down, glue, 0, False)]
            if server[0] == "192.0.2.2":
                self._said = [(alias, [], [], 0, True)]
            elif name == dns.name.from_text("c.test."):
                self._said = [(truth, soa, [], 0, True)]
            return await super().ask(server, name, rtype, purse, recurse=recurse)

    async def run():
        clock = Recorded(0)
        resolver = Resolver(Zoned([]), clock, ("192.0.2.53",))
        return await resolver.look("a.test.", "A", Purse(Limits(), clock))

    look = asyncio.run(run())
    assert look.chain == ("c.test.",)
    assert look.values == ("192.0.2.1",), "a.test.'s server is not asked about c.test."
