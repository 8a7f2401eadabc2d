//! A query's bytes to a reply's bytes. Pure: the sockets are in `udp` and `tcp`, the clock nowhere.

use super::query::{Edns, Query, Question, Subnet, parse};
use super::wire::{
    CLASS_IN, HEADER_BYTES, Rcode, TCP_BYTES_MAX, UDP_BYTES_MAX, UDP_BYTES_MIN, flag, kind, push_u16,
};
use super::zone::{Answers, Node, ProviderAnswers, Records, ZoneTable, Zones};
use crate::count::Outcome;
use crate::share::client_key;
use crate::table::{Served, Service};
use std::net::IpAddr;
use std::sync::Arc;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Udp,
    Tcp,
}

/// What was answered, for counting.
pub struct Told<'z> {
    /// None when the question concerned none of our zones, or could not be read.
    pub service: Option<&'z Arc<Service>>,
    pub region: u16,
    pub outcome: Outcome,
}

/// Everything of a reply but its header and question.
struct Reply<'z> {
    rcode: Rcode,
    is_authoritative: bool,
    answer: Option<&'z Records>,
    negative: Option<&'z ZoneTable>,
    additional: Option<&'z Records>,
    /// Bits of the client's subnet that the answer depends on (RFC 7871 §7.2.1).
    scope_bits: u8,
    service: Option<&'z Arc<Service>>,
    region: u16,
}

impl Reply<'_> {
    const fn error(rcode: Rcode) -> Self {
        Self {
            rcode,
            is_authoritative: false,
            answer: None,
            negative: None,
            additional: None,
            scope_bits: 0,
            service: None,
            region: 0,
        }
    }
}

/// Writes the reply to `message` into `out`, which it empties first; None = no reply must be sent.
/// `client` is who sent it; a subnet in the query (RFC 7871) counts instead.
pub fn answer<'z>(
    zones: &'z Zones,
    message: &[u8],
    client: IpAddr,
    transport: Transport,
    out: &mut Vec<u8>,
) -> Option<Told<'z>> {
    let query = parse(message)?;
    let reply = match &query.question {
        Some(question) if query.rcode == Rcode::NoError => resolve(zones, question, query.edns, client),
        _ => Reply::error(query.rcode),
    };
    write(&query, &reply, transport, out);
    Some(Told { service: reply.service, region: reply.region, outcome: outcome(reply.rcode) })
}

fn outcome(rcode: Rcode) -> Outcome {
    match rcode {
        Rcode::NoError => Outcome::NoError,
        Rcode::FormErr => Outcome::FormErr,
        Rcode::NxDomain => Outcome::NxDomain,
        Rcode::NotImp => Outcome::NotImp,
        Rcode::Refused => Outcome::Refused,
        Rcode::BadVers => Outcome::BadVers,
    }
}

fn resolve<'z>(zones: &'z Zones, question: &Question<'_>, edns: Option<Edns>, client: IpAddr) -> Reply<'z> {
    if let Some(rcode) = refusal_of_kind(question) {
        return Reply::error(rcode);
    }
    let subnet = edns.and_then(|edns| edns.subnet).filter(|subnet| subnet.source_bits > 0);
    let client = subnet.map_or(client, |subnet| subnet.address);
    let node = zones.find(question.name());
    let zone_index = node.map(|node| node.zone).or_else(|| zones.zone_of(question.name()));
    let Some(zone) = zone_index.and_then(|index| zones.zones.get(index)) else {
        return Reply::error(Rcode::Refused);
    };
    let reply =
        Reply { is_authoritative: true, service: Some(&zone.service), ..Reply::error(Rcode::NoError) };
    let Some(node) = node else {
        let region = zone.service.region_of(client);
        return Reply { rcode: Rcode::NxDomain, negative: Some(zone), region, ..reply };
    };
    let own = if node.is_apex { of_the_zone(zone, question.kind) } else { None };
    match (own, &node.served) {
        (Some((answer, additional)), _) => {
            let region = zone.service.region_of(client);
            Reply { answer: Some(answer), additional, region, ..reply }
        }
        (None, Some(served)) => steered(served, zone, question.kind, client, subnet),
        (None, None) => {
            let region = zone.service.region_of(client);
            let answer = of_the_name_server(node, zone, question.kind);
            Reply { answer, negative: answer.is_none().then_some(zone), region, ..reply }
        }
    }
}

/// What is not answered whatever the name.
fn refusal_of_kind(question: &Question<'_>) -> Option<Rcode> {
    match (question.class, question.kind) {
        (_, kind::OPT) => Some(Rcode::FormErr),
        (CLASS_IN, kind::AXFR | kind::IXFR) => Some(Rcode::Refused),
        (CLASS_IN, kind::TKEY | kind::TSIG | kind::MAILA | kind::MAILB) => Some(Rcode::NotImp),
        (CLASS_IN, _) => None,
        _ => Some(Rcode::Refused),
    }
}

/// Answer and additional section for what an apex has besides a service.
fn of_the_zone(zone: &ZoneTable, asked: u16) -> Option<(&Records, Option<&Records>)> {
    match asked {
        kind::SOA => Some((&zone.soa, None)),
        kind::NS => Some((&zone.ns, Some(&zone.ns_addresses))),
        kind::ANY => Some((&zone.any, None)),
        _ => None,
    }
}

fn of_the_name_server<'z>(node: &'z Node, zone: &'z ZoneTable, asked: u16) -> Option<&'z Records> {
    let found = match asked {
        kind::A => &node.a,
        kind::AAAA => &node.aaaa,
        kind::ANY if node.a.count + node.aaaa.count > 0 => &zone.any,
        _ => return None,
    };
    (found.count > 0).then_some(found)
}

/// The addresses, or the name, of the one provider that the plan gives this client.
fn steered<'z>(
    served: &'z Served<Answers>,
    zone: &'z ZoneTable,
    asked: u16,
    client: IpAddr,
    subnet: Option<Subnet>,
) -> Reply<'z> {
    let (service, answers) = (&served.service, &served.prepared);
    let region = service.region_of(client);
    let upstream = service.region(region).shares.pick(client_key(client));
    let found = answers.provider(region, upstream).and_then(|provider| of_the_provider(provider, asked));
    Reply {
        is_authoritative: true,
        answer: found,
        negative: found.is_none().then_some(zone),
        scope_bits: subnet.map_or(0, |subnet| scope_bits(answers, subnet)),
        service: Some(service),
        region,
        ..Reply::error(Rcode::NoError)
    }
}

fn of_the_provider(provider: &ProviderAnswers, asked: u16) -> Option<&Records> {
    if provider.cname.is_some() {
        return provider.cname.as_ref();
    }
    let found = match asked {
        kind::A => &provider.a,
        kind::AAAA => &provider.aaaa,
        kind::ANY => &provider.any,
        _ => return None,
    };
    (found.count > 0).then_some(found)
}

/// What was told is used as far as it goes, but not beyond what the choice looks at.
fn scope_bits(answers: &Answers, subnet: Subnet) -> u8 {
    let used_bits = if subnet.address.is_ipv4() { answers.scope_v4_bits } else { answers.scope_v6_bits };
    used_bits.min(subnet.source_bits)
}

fn write(query: &Query<'_>, reply: &Reply<'_>, transport: Transport, out: &mut Vec<u8>) {
    out.clear();
    let limit = limit_bytes(query.edns, transport);
    let question = query.question.as_ref().map_or(&[][..], |question| question.bytes);
    let opt_bytes = query.edns.map_or(0, opt_bytes);
    let room = limit.saturating_sub(HEADER_BYTES + question.len() + opt_bytes);
    let answer_bytes = reply.answer.map_or(0, |records| records.bytes.len());
    let negative_bytes = reply.negative.map_or(0, |zone| zone.negative_soa_tail.len() + 2);
    let is_cut = answer_bytes + negative_bytes > room;
    let room = room.saturating_sub(answer_bytes + negative_bytes);
    // Addresses of name servers are only a favour: they are left out rather than cutting the reply (RFC 2181 §9).
    let additional = reply.additional.filter(|records| !is_cut && records.bytes.len() <= room);
    let answer = reply.answer.filter(|_| !is_cut);
    let negative = reply.negative.filter(|_| !is_cut);

    push_u16(out, query.id);
    push_u16(out, header_flags(query, reply, is_cut));
    push_u16(out, u16::from(query.question.is_some()));
    push_u16(out, answer.map_or(0, |records| records.count));
    push_u16(out, u16::from(negative.is_some()));
    push_u16(out, additional.map_or(0, |records| records.count) + u16::from(query.edns.is_some()));
    out.extend_from_slice(question);
    out.extend_from_slice(answer.map_or(&[], |records| &records.bytes));
    if let Some(zone) = negative {
        push_apex_pointer(out, question, zone.apex_bytes);
        out.extend_from_slice(&zone.negative_soa_tail);
    }
    out.extend_from_slice(additional.map_or(&[], |records| &records.bytes));
    if let Some(edns) = query.edns {
        push_opt(out, edns, reply);
    }
}

fn limit_bytes(edns: Option<Edns>, transport: Transport) -> usize {
    match transport {
        Transport::Tcp => TCP_BYTES_MAX,
        Transport::Udp => {
            let wanted = edns.map_or(UDP_BYTES_MIN, |edns| usize::from(edns.payload_bytes));
            wanted.clamp(UDP_BYTES_MIN, UDP_BYTES_MAX)
        }
    }
}

fn header_flags(query: &Query<'_>, reply: &Reply<'_>, is_cut: bool) -> u16 {
    let mut flags = flag::QR | query.flags & (flag::OPCODE | flag::RD) | reply.rcode as u16 & 0xF;
    if reply.is_authoritative {
        flags |= flag::AA;
    }
    if is_cut {
        flags |= flag::TC;
    }
    flags
}

/// A pointer to where the zone's name begins inside the question's name: the owner of the SOA, case kept.
fn push_apex_pointer(out: &mut Vec<u8>, question: &[u8], apex_bytes: usize) {
    let name_bytes = question.len().saturating_sub(4);
    let offset = HEADER_BYTES + name_bytes.saturating_sub(apex_bytes);
    push_u16(out, 0xC000 | offset as u16);
}

const OPT_BYTES: usize = 11;
const SUBNET_BYTES: usize = 8;

fn opt_bytes(edns: Edns) -> usize {
    OPT_BYTES + edns.subnet.map_or(0, |subnet| SUBNET_BYTES + usize::from(subnet.source_bits).div_ceil(8))
}

/// Our OPT record (RFC 6891 §6.1.2): version 0, the DO bit as asked (RFC 3225 §3), the subnet told back.
fn push_opt(out: &mut Vec<u8>, edns: Edns, reply: &Reply<'_>) {
    out.push(0);
    push_u16(out, kind::OPT);
    push_u16(out, UDP_BYTES_MAX as u16);
    out.push((reply.rcode as u16 >> 4) as u8);
    out.push(0);
    push_u16(out, if edns.is_dnssec_ok { 0x8000 } else { 0 });
    let Some(subnet) = edns.subnet else { return push_u16(out, 0) };
    let octets: &[u8] = match &subnet.address {
        IpAddr::V4(v4) => &v4.octets(),
        IpAddr::V6(v6) => &v6.octets(),
    };
    let address = octets.get(..usize::from(subnet.source_bits).div_ceil(8)).unwrap_or_default();
    push_u16(out, (SUBNET_BYTES + address.len()) as u16);
    push_u16(out, 8);
    push_u16(out, (4 + address.len()) as u16);
    push_u16(out, subnet.family);
    out.push(subnet.source_bits);
    out.push(reply.scope_bits);
    out.extend_from_slice(address);
}
