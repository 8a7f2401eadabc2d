//! Zones and names, made ready so that an answer is a lookup and a copy. Pure.

use super::wire::{
    QUESTION_POINTER, kind, mailbox_to_wire, name_to_wire, push_record_tail, push_u32, suffixes,
};
use crate::document::Zone;
use crate::error::Refusal;
use crate::share::{V4_BITS, V6_BITS};
use crate::table::{Served, Service, Upstream, parse_addresses};
use rustc_hash::FxHashMap;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

/// How long the zone's own records (SOA, NS and their addresses) may be kept.
const ZONE_TTL_S: u32 = 3_600;

/// Records of one kind, whose owner is the name in the question.
#[derive(Clone, Debug, Default)]
pub struct Records {
    pub count: u16,
    pub bytes: Vec<u8>,
}

impl Records {
    fn push(&mut self, kind: u16, ttl_s: u32, rdata: &[u8]) {
        self.count += 1;
        self.bytes.extend_from_slice(&QUESTION_POINTER);
        push_record_tail(&mut self.bytes, kind, ttl_s, rdata);
    }

    fn push_named(&mut self, owner: &[u8], address: IpAddr) {
        self.count += 1;
        self.bytes.extend_from_slice(owner);
        push_address(&mut self.bytes, ZONE_TTL_S, address);
    }
}

fn push_address(out: &mut Vec<u8>, ttl_s: u32, address: IpAddr) {
    match address {
        IpAddr::V4(v4) => push_record_tail(out, kind::A, ttl_s, &v4.octets()),
        IpAddr::V6(v6) => push_record_tail(out, kind::AAAA, ttl_s, &v6.octets()),
    }
}

/// What one provider is answered with in one region.
#[derive(Clone, Debug, Default)]
pub struct ProviderAnswers {
    pub a: Records,
    pub aaaa: Records,
    /// Instead of both, for every type.
    pub cname: Option<Records>,
    /// For ANY (RFC 8482 §4.2).
    pub any: Records,
}

/// Everything that a service can be answered with, by region and upstream, the plan's TTL written in.
#[derive(Debug)]
pub struct Answers {
    /// `regions[region][upstream]`; None for an upstream without a share there.
    regions: Vec<Vec<Option<ProviderAnswers>>>,
    apex: Box<[u8]>,
    zone: ZoneRecords,
    /// Wire names inside the zone.
    names: Vec<Box<[u8]>>,
    pub scope_v4_bits: u8,
    pub scope_v6_bits: u8,
}

impl Answers {
    /// Refuses a service that could get an empty answer, or whose zone is not whole.
    pub fn new(service: &Service) -> Result<Self, Refusal> {
        let zone = service.settings.zone.as_ref();
        let zone = zone.ok_or_else(|| Refusal::never("no zone; a nameserver needs one for every service"))?;
        let apex = name_to_wire(&zone.apex).map_err(|error| error.at("zone.apex"))?;
        let records = ZoneRecords::new(zone, &apex)?;
        let wire_names: Vec<Box<[u8]>> =
            service.hostnames.iter().map(|name| name_to_wire(name)).collect::<Result<_, _>>()?;
        let names: Vec<Box<[u8]>> = wire_names.into_iter().filter(|name| is_inside(name, &apex)).collect();
        if names.is_empty() {
            return Err(Refusal::never(format!("no hostname lies in the zone {}", zone.apex)));
        }
        if let Some((taken, _)) = records.glue.iter().find(|(name, _)| names.contains(name)) {
            let text = String::from_utf8_lossy(taken).into_owned();
            return Err(Refusal::never(format!("{text:?} is a hostname and a name server of its own zone")));
        }
        Ok(Self {
            regions: compile_regions(service, names.contains(&apex))?,
            apex,
            zone: records,
            names,
            scope_v4_bits: V4_BITS.max(service.locator.v4_bits),
            scope_v6_bits: V6_BITS.max(service.locator.v6_bits),
        })
    }

    /// None only for an upstream that has no share in the region: `Shares::pick` gives no such one.
    pub fn provider(&self, region: u16, upstream: u16) -> Option<&ProviderAnswers> {
        self.regions.get(usize::from(region))?.get(usize::from(upstream))?.as_ref()
    }
}

fn compile_regions(
    service: &Service,
    is_at_apex: bool,
) -> Result<Vec<Vec<Option<ProviderAnswers>>>, Refusal> {
    let mut regions = Vec::with_capacity(service.regions.len());
    for region in &service.regions {
        let mut providers = vec![None; service.upstreams.len()];
        for (index, _) in region.shares.iter() {
            let index = usize::from(index);
            let upstream = &service.upstreams[index];
            let answers = compile_provider(upstream, region.ttl_s, is_at_apex);
            providers[index] =
                Some(answers.map_err(|error| error.at(format!("provider {}", upstream.name)))?);
        }
        regions.push(providers);
    }
    Ok(regions)
}

fn compile_provider(upstream: &Upstream, ttl_s: u32, is_at_apex: bool) -> Result<ProviderAnswers, Refusal> {
    let mut answers = ProviderAnswers::default();
    answers.any.push(kind::HINFO, ttl_s, b"\x07RFC8482\0");
    for address in &upstream.ipv4 {
        answers.a.push(kind::A, ttl_s, &address.octets());
    }
    for address in &upstream.ipv6 {
        answers.aaaa.push(kind::AAAA, ttl_s, &address.octets());
    }
    if answers.a.count + answers.aaaa.count > 0 {
        return Ok(answers);
    }
    let Some(cname) = &upstream.cname else {
        return Err(Refusal::never("neither ipv4 nor ipv6 nor cname; there is nothing to answer with"));
    };
    if is_at_apex {
        // RFC 1034 §3.6.2: where there is a CNAME there is nothing else, and an apex has SOA and NS.
        return Err(Refusal::never("only a cname, which the name of the zone itself cannot have"));
    }
    let mut records = Records::default();
    records.push(kind::CNAME, ttl_s, &name_to_wire(cname)?);
    answers.cname = Some(records);
    Ok(answers)
}

/// Whether a name lies in a zone, the apex included; both in wire form and lower case.
fn is_inside(name: &[u8], apex: &[u8]) -> bool {
    suffixes(name).any(|suffix| suffix == apex)
}

/// The records that a zone has of itself.
#[derive(Clone, Debug)]
struct ZoneRecords {
    ns: Records,
    /// Addresses of the name servers inside the zone, with their owners' names.
    ns_addresses: Records,
    /// Addresses by name server.
    glue: Vec<(Box<[u8]>, Vec<IpAddr>)>,
    /// RDATA of the SOA up to the serial, and after it.
    soa_names: Vec<u8>,
    soa_timers: Vec<u8>,
    negative_ttl_s: u32,
}

impl ZoneRecords {
    fn new(zone: &Zone, apex: &[u8]) -> Result<Self, Refusal> {
        let Some(primary) = zone.name_servers.first() else {
            return Err(Refusal::never("zone.name_servers is empty; at least one is needed"));
        };
        let mut records = Self {
            ns: Records::default(),
            ns_addresses: Records::default(),
            glue: Vec::new(),
            soa_names: name_to_wire(&primary.name)?.into_vec(),
            soa_timers: Vec::new(),
            negative_ttl_s: zone.negative_ttl_s,
        };
        records.soa_names.extend_from_slice(&mailbox_to_wire(&zone.mailbox)?);
        for timer_s in [zone.refresh_s, zone.retry_s, zone.expire_s, zone.negative_ttl_s] {
            push_u32(&mut records.soa_timers, timer_s);
        }
        for server in &zone.name_servers {
            let name = name_to_wire(&server.name).map_err(|error| error.at("zone.name_servers"))?;
            let addresses: Box<[IpAddr]> = parse_addresses(&server.addresses, "zone.name_servers")?;
            records.ns.push(kind::NS, ZONE_TTL_S, &name);
            if is_inside(&name, apex) {
                addresses.iter().for_each(|address| records.ns_addresses.push_named(&name, *address));
                records.glue.push((name, addresses.into_vec()));
            }
        }
        Ok(records)
    }

    /// The SOA after its owner's name, with this TTL.
    fn soa_tail(&self, serial: u32, ttl_s: u32) -> Vec<u8> {
        let mut rdata = self.soa_names.clone();
        push_u32(&mut rdata, serial);
        rdata.extend_from_slice(&self.soa_timers);
        let mut tail = Vec::with_capacity(rdata.len() + 10);
        push_record_tail(&mut tail, kind::SOA, ttl_s, &rdata);
        tail
    }
}

/// A zone that we are authoritative for.
#[derive(Debug)]
pub struct ZoneTable {
    pub apex_bytes: usize,
    /// The service that brought the zone, for counting what belongs to no service alone.
    pub service: Arc<Service>,
    pub ns: Records,
    pub ns_addresses: Records,
    pub soa: Records,
    /// For the authority section of negative answers (RFC 2308 §3), without the owner's name.
    pub negative_soa_tail: Vec<u8>,
    /// For ANY at the apex.
    pub any: Records,
}

/// What there is at a name. One without anything has names below it (RFC 8020 §2).
#[derive(Debug, Default)]
pub struct Node {
    pub zone: usize,
    pub is_apex: bool,
    pub served: Option<Served<Answers>>,
    /// Addresses of a name server, by the type asked for.
    pub a: Records,
    pub aaaa: Records,
}

/// All zones of a nameserver.
#[derive(Debug, Default)]
pub struct Zones {
    pub zones: Vec<ZoneTable>,
    nodes: FxHashMap<Box<[u8]>, Node>,
    apexes: FxHashMap<Box<[u8]>, usize>,
}

impl Zones {
    /// From all services, sorted by name; where two bring the same zone, the first one's records count.
    pub fn new(served: &[Served<Answers>]) -> Self {
        let mut zones = Self::default();
        let mut by_apex: BTreeMap<&[u8], Vec<&Served<Answers>>> = BTreeMap::new();
        for one in served {
            by_apex.entry(&one.prepared.apex).or_default().push(one);
        }
        for (apex, members) in &by_apex {
            zones.apexes.insert((*apex).into(), zones.zones.len());
            zones.zones.extend(zone_table(apex, members));
        }
        for (apex, members) in &by_apex {
            zones.node(apex).is_apex = true;
            for (name, addresses) in members.iter().flat_map(|one| &one.prepared.zone.glue) {
                zones.node(name).set_addresses(addresses);
            }
            for one in members {
                one.prepared.names.iter().for_each(|name| zones.node(name).served = Some((*one).clone()));
            }
        }
        zones
    }

    /// The node of a name, made if need be, with those between it and its zone's apex.
    fn node(&mut self, name: &[u8]) -> &mut Node {
        let zone = self.zone_of(name).unwrap_or(0);
        let apex_bytes = self.zones.get(zone).map_or(1, |zone| zone.apex_bytes);
        for parent in suffixes(name).take_while(|suffix| suffix.len() >= apex_bytes) {
            self.nodes.entry(parent.into()).or_insert_with(|| Node { zone, ..Node::default() });
        }
        self.nodes.entry(name.into()).or_default()
    }

    /// Index of the nearest zone above a name; None outside all of ours.
    pub fn zone_of(&self, name: &[u8]) -> Option<usize> {
        suffixes(name).find_map(|suffix| self.apexes.get(suffix)).copied()
    }

    pub fn find(&self, name: &[u8]) -> Option<&Node> {
        self.nodes.get(name)
    }
}

impl Node {
    fn set_addresses(&mut self, addresses: &[IpAddr]) {
        (self.a, self.aaaa) = (Records::default(), Records::default());
        for address in addresses {
            let records = if address.is_ipv4() { &mut self.a } else { &mut self.aaaa };
            records.count += 1;
            records.bytes.extend_from_slice(&QUESTION_POINTER);
            push_address(&mut records.bytes, ZONE_TTL_S, *address);
        }
    }
}

fn zone_table(apex: &[u8], members: &[&Served<Answers>]) -> Option<ZoneTable> {
    let first = members.first()?;
    let records = &first.prepared.zone;
    // Grows with every plan of every member, as a serial must (RFC 1982).
    let serial = members.iter().fold(0_u32, |sum, one| sum.wrapping_add(one.service.generation as u32));
    let mut soa = Records { count: 1, bytes: QUESTION_POINTER.to_vec() };
    soa.bytes.extend_from_slice(&records.soa_tail(serial, ZONE_TTL_S));
    let mut any = Records::default();
    any.push(kind::HINFO, ZONE_TTL_S, b"\x07RFC8482\0");
    Some(ZoneTable {
        apex_bytes: apex.len(),
        service: Arc::clone(&first.service),
        ns: records.ns.clone(),
        ns_addresses: records.ns_addresses.clone(),
        soa,
        negative_soa_tail: records.soa_tail(serial, records.negative_ttl_s.min(ZONE_TTL_S)),
        any,
    })
}
