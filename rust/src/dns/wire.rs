//! Numbers and names of DNS messages (RFC 1035 unless said otherwise), and the writing of records.

use crate::error::Refusal;
use crate::table::normal_name;

pub const HEADER_BYTES: usize = 12;
pub const NAME_BYTES_MAX: usize = 255;
pub const LABEL_BYTES_MAX: usize = 63;

/// The smallest size that every client takes over UDP (§4.2.1).
pub const UDP_BYTES_MIN: usize = 512;
/// What we advertise and never exceed over UDP: fits into every path without fragments (RFC 9715).
pub const UDP_BYTES_MAX: usize = 1_232;
pub const TCP_BYTES_MAX: usize = 65_535;

pub const CLASS_IN: u16 = 1;

pub mod kind {
    pub const A: u16 = 1;
    pub const NS: u16 = 2;
    pub const CNAME: u16 = 5;
    pub const SOA: u16 = 6;
    pub const HINFO: u16 = 13;
    pub const AAAA: u16 = 28;
    /// RFC 6891.
    pub const OPT: u16 = 41;
    /// RFC 2930 and RFC 8945.
    pub const TKEY: u16 = 249;
    pub const TSIG: u16 = 250;
    /// RFC 1995 and RFC 5936.
    pub const IXFR: u16 = 251;
    pub const AXFR: u16 = 252;
    pub const MAILB: u16 = 253;
    pub const MAILA: u16 = 254;
    pub const ANY: u16 = 255;
}

/// Bits of the header's second word.
pub mod flag {
    pub const QR: u16 = 0x8000;
    pub const OPCODE: u16 = 0x7800;
    pub const AA: u16 = 0x0400;
    pub const TC: u16 = 0x0200;
    pub const RD: u16 = 0x0100;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rcode {
    NoError = 0,
    FormErr = 1,
    NxDomain = 3,
    NotImp = 4,
    Refused = 5,
    /// RFC 6891 §9; does not fit into the header alone.
    BadVers = 16,
}

/// A pointer (§4.1.4) to the question's name, which always begins at this place.
pub const QUESTION_POINTER: [u8; 2] = [0xC0, HEADER_BYTES as u8];

pub fn push_u16(out: &mut Vec<u8>, value: u16) {
    out.extend_from_slice(&value.to_be_bytes());
}

pub fn push_u32(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_be_bytes());
}

/// What follows the owner's name of a record of class IN (§4.1.3).
pub fn push_record_tail(out: &mut Vec<u8>, kind: u16, ttl_s: u32, rdata: &[u8]) {
    push_u16(out, kind);
    push_u16(out, CLASS_IN);
    push_u32(out, ttl_s);
    push_u16(out, u16::try_from(rdata.len()).unwrap_or(u16::MAX));
    out.extend_from_slice(rdata);
}

/// A host name in wire form, lower case.
pub fn name_to_wire(name: &str) -> Result<Box<[u8]>, Refusal> {
    let name = normal_name(name)?;
    let mut wire = Vec::with_capacity(name.len() + 2);
    for label in name.split('.') {
        push_label(&mut wire, label.as_bytes());
    }
    wire.push(0);
    Ok(wire.into())
}

/// `hostmaster@example.com`, or the same with a dot, as a name (§8): the part before "@" is one label.
pub fn mailbox_to_wire(mailbox: &str) -> Result<Box<[u8]>, Refusal> {
    let Some((person, host)) = mailbox.split_once('@') else { return name_to_wire(mailbox) };
    let host = name_to_wire(host)?;
    let is_fine =
        (1..=LABEL_BYTES_MAX).contains(&person.len()) && person.bytes().all(|byte| byte.is_ascii_graphic());
    if !is_fine || person.len() + 1 + host.len() > NAME_BYTES_MAX {
        return Err(Refusal::never(format!("{mailbox:?} is not a mailbox")));
    }
    let mut wire = Vec::with_capacity(person.len() + 1 + host.len());
    push_label(&mut wire, person.as_bytes());
    wire.extend_from_slice(&host);
    Ok(wire.into())
}

fn push_label(wire: &mut Vec<u8>, label: &[u8]) {
    // `normal_name` and the caller keep labels within 63 bytes.
    wire.push(label.len().min(LABEL_BYTES_MAX) as u8);
    wire.extend_from_slice(label);
}

/// The name's parents in wire form, itself first, the root last: "a.b." gives "a.b.", "b.", ".".
pub fn suffixes(wire: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(wire);
    std::iter::from_fn(move || {
        let current = rest?;
        let length = usize::from(*current.first()?);
        rest = if length == 0 { None } else { current.get(length + 1..) };
        Some(current)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_labels_in_lower_case() {
        assert_eq!(&*name_to_wire("WWW.Example.").unwrap(), b"\x03www\x07example\0");
        assert!(
            name_to_wire("").is_err()
                && name_to_wire("a..b").is_err()
                && name_to_wire(&"a".repeat(64)).is_err()
        );
    }

    #[test]
    fn a_mailbox_keeps_the_dots_of_the_person_inside_one_label() {
        assert_eq!(&*mailbox_to_wire("a.b@c.d").unwrap(), b"\x03a.b\x01c\x01d\0");
        assert_eq!(&*mailbox_to_wire("a.c.d").unwrap(), b"\x01a\x01c\x01d\0");
        assert!(mailbox_to_wire("@c").is_err());
    }

    #[test]
    fn suffixes_end_with_the_root() {
        let found: Vec<&[u8]> = suffixes(b"\x01a\x01b\0").collect();
        assert_eq!(found, [&b"\x01a\x01b\0"[..], b"\x01b\0", b"\0"]);
    }
}
