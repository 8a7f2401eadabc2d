//! A query read from bytes: header, one question, EDNS. Pure; no input makes it panic or loop.
//!
//! No pointer is ever followed: a query's only name that matters is the question's, and that one comes first, where
//! there is nothing to point to.

use super::wire::{HEADER_BYTES, NAME_BYTES_MAX, Rcode, flag, kind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// RFC 7871 §6.
const OPTION_CLIENT_SUBNET: u16 = 8;
const FAMILY_IPV4: u16 = 1;
const FAMILY_IPV6: u16 = 2;
/// The highest bit of the OPT record's flags (RFC 3225).
const DNSSEC_OK: u8 = 0x80;

pub struct Query<'m> {
    pub id: u16,
    pub flags: u16,
    /// None when there is none that can be repeated in the reply.
    pub question: Option<Question<'m>>,
    pub edns: Option<Edns>,
    /// `NoError`, or what is wrong with it already.
    pub rcode: Rcode,
}

pub struct Question<'m> {
    /// As asked, case kept: name, type, class.
    pub bytes: &'m [u8],
    pub kind: u16,
    pub class: u16,
    name: [u8; NAME_BYTES_MAX],
    name_bytes: usize,
}

impl Question<'_> {
    /// The name in wire form, lower case.
    pub fn name(&self) -> &[u8] {
        self.name.get(..self.name_bytes).unwrap_or_default()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edns {
    pub payload_bytes: u16,
    pub is_dnssec_ok: bool,
    pub subnet: Option<Subnet>,
}

/// The client's network, as its resolver tells it (RFC 7871 §6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subnet {
    /// 1 or 2; 0 from a client that only says that it wants no subnet used.
    pub family: u16,
    pub address: IpAddr,
    pub source_bits: u8,
}

/// The query in `message`; None for what must not be answered (too short for an id, or itself a reply).
pub fn parse(message: &[u8]) -> Option<Query<'_>> {
    let mut reader = Reader { rest: message };
    let (id, flags) = (reader.u16()?, reader.u16()?);
    let counts = [reader.u16()?, reader.u16()?, reader.u16()?, reader.u16()?];
    if flags & flag::QR != 0 {
        return None;
    }
    let mut query = Query { id, flags, question: None, edns: None, rcode: Rcode::FormErr };
    if flags & flag::OPCODE != 0 {
        query.rcode = Rcode::NotImp;
        return Some(query);
    }
    // Exactly one question: RFC 9619.
    if counts[0] == 1 {
        query.question = read_question(&mut reader, message);
    }
    if query.question.is_some() {
        query.rcode = read_records(&mut reader, &mut query.edns, counts).unwrap_or(Rcode::FormErr);
    }
    Some(query)
}

fn read_question<'m>(reader: &mut Reader<'m>, message: &'m [u8]) -> Option<Question<'m>> {
    let mut name = [0; NAME_BYTES_MAX];
    let mut name_bytes = 0;
    loop {
        let length = *reader.rest.first()?;
        // 64 and more are pointers and label types that never came into use (RFC 6891 §5).
        if length > 63 {
            return None;
        }
        let label = reader.take(usize::from(length) + 1)?;
        name.get_mut(name_bytes..name_bytes + label.len())?.copy_from_slice(label);
        name_bytes += label.len();
        if length == 0 {
            break;
        }
    }
    // Lengths are below 64 and letters above: lower case leaves the lengths alone.
    name.make_ascii_lowercase();
    let (kind, class) = (reader.u16()?, reader.u16()?);
    let bytes = message.get(HEADER_BYTES..HEADER_BYTES + name_bytes + 4)?;
    Some(Question { bytes, kind, class, name, name_bytes })
}

/// `NoError`, or what is wrong with the rest of the message; None = it cannot be read.
fn read_records(reader: &mut Reader<'_>, edns: &mut Option<Edns>, counts: [u16; 4]) -> Option<Rcode> {
    for _ in 0..u32::from(counts[1]) + u32::from(counts[2]) {
        reader.record()?;
    }
    let mut rcode = Rcode::NoError;
    for _ in 0..counts[3] {
        let record = reader.record()?;
        if record.kind != kind::OPT {
            continue;
        }
        // One at most, and owned by the root: RFC 6891 §6.1.1.
        if edns.is_some() || !record.is_root {
            return None;
        }
        let [_, version, flags, _] = record.ttl;
        let is_dnssec_ok = flags & DNSSEC_OK != 0;
        *edns = Some(Edns { payload_bytes: record.class, is_dnssec_ok, subnet: None });
        if version != 0 {
            rcode = Rcode::BadVers;
        } else if let Some(edns) = edns {
            edns.subnet = read_options(record.rdata)?;
        }
    }
    if reader.rest.is_empty() { Some(rcode) } else { None }
}

/// The client subnet among the options, if any; None = an option is malformed.
fn read_options(rdata: &[u8]) -> Option<Option<Subnet>> {
    let mut reader = Reader { rest: rdata };
    let mut subnet = None;
    while !reader.rest.is_empty() {
        let (code, length) = (reader.u16()?, reader.u16()?);
        let value = reader.take(usize::from(length))?;
        if code == OPTION_CLIENT_SUBNET {
            if subnet.is_some() {
                return None;
            }
            subnet = Some(read_subnet(value)?);
        }
    }
    Some(subnet)
}

/// RFC 7871 §6: as many address bytes as the length needs, no bit set beyond it, scope zero in a query.
fn read_subnet(value: &[u8]) -> Option<Subnet> {
    let mut reader = Reader { rest: value };
    let family = reader.u16()?;
    let [source_bits, scope_bits] = *reader.take(2)?.first_chunk()?;
    let address = reader.rest;
    if scope_bits != 0 || address.len() != usize::from(source_bits).div_ceil(8) {
        return None;
    }
    let unused_bits = (8 - source_bits % 8) % 8;
    if address.last().is_some_and(|byte| byte.trailing_zeros() < u32::from(unused_bits)) {
        return None;
    }
    let address = match family {
        0 if source_bits == 0 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        FAMILY_IPV4 => IpAddr::V4(Ipv4Addr::from(padded(address)?)),
        FAMILY_IPV6 => IpAddr::V6(Ipv6Addr::from(padded::<16>(address)?)),
        _ => return None,
    };
    Some(Subnet { family, address, source_bits })
}

fn padded<const BYTES: usize>(address: &[u8]) -> Option<[u8; BYTES]> {
    let mut whole = [0; BYTES];
    whole.get_mut(..address.len())?.copy_from_slice(address);
    Some(whole)
}

struct Reader<'m> {
    rest: &'m [u8],
}

struct Record<'m> {
    is_root: bool,
    kind: u16,
    class: u16,
    ttl: [u8; 4],
    rdata: &'m [u8],
}

impl<'m> Reader<'m> {
    fn take(&mut self, bytes: usize) -> Option<&'m [u8]> {
        let (taken, rest) = self.rest.split_at_checked(bytes)?;
        self.rest = rest;
        Some(taken)
    }

    fn u16(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes(*self.take(2)?.first_chunk()?))
    }

    fn record(&mut self) -> Option<Record<'m>> {
        let is_root = self.rest.first() == Some(&0);
        self.skip_name()?;
        let (kind, class) = (self.u16()?, self.u16()?);
        let ttl = *self.take(4)?.first_chunk()?;
        let rdata_bytes = self.u16()?;
        let rdata = self.take(usize::from(rdata_bytes))?;
        Some(Record { is_root, kind, class, ttl, rdata })
    }

    /// A name ends with the root or with a pointer.
    fn skip_name(&mut self) -> Option<()> {
        loop {
            match *self.rest.first()? {
                0 => return self.take(1).map(|_| ()),
                length @ 1..=63 => self.take(usize::from(length) + 1)?,
                0xC0..=0xFF => return self.take(2).map(|_| ()),
                _ => return None,
            };
        }
    }
}
