//! What lies on disk: nothing that was not written comes back, and what was written comes back as it was.

use super::Input;
use crate::cache::store::disk::notes::{decode, encode};
use crate::cache::store::disk::record::{ALIGN_BYTES, HEADER_BYTES, Header, Kind, parts};
use crate::cache::store::hash::checksum;
use crate::cache::store::purge::Note;
use crate::cache::store::{Depth, Meta, Target};
use crate::edge::stored::entry::Entry;

const SEAL: u64 = 9;

pub fn record(bytes: &[u8]) {
    check_sealed(bytes);
    check_written(bytes);
    let _ = <Entry as Meta>::decode(bytes);
    check_note(bytes);
}

/// The bytes as a header whose checksum holds: whatever they say, what is taken of it can be walked over.
fn check_sealed(bytes: &[u8]) {
    let mut sealed = [0; HEADER_BYTES];
    let (summed, sum) = sealed.split_at_mut(HEADER_BYTES - 8);
    summed.iter_mut().zip(bytes).for_each(|(slot, byte)| *slot = *byte);
    sum.copy_from_slice(&checksum(summed, SEAL).to_le_bytes());
    let Some(header) = Header::decode(&sealed, SEAL) else { return };
    assert!(header.record_bytes() >= HEADER_BYTES as u64 + header.head_bytes() + header.body_bytes);
    assert!(header.record_bytes() % ALIGN_BYTES == 0);
    let rest = bytes.get(HEADER_BYTES..).unwrap_or_default();
    if let Some(found) = parts(&header, rest) {
        let sum = found.key.len() + found.meta.len() + found.wire.len() + found.tags.len() * 8;
        assert_eq!((sum, sum as u64), (rest.len(), header.head_bytes()));
    }
    assert_eq!(Header::decode(&header.encode(SEAL), SEAL), Some(header));
    assert_eq!(Header::decode(&sealed, SEAL + 1), None, "the seal of another folder");
}

fn check_written(bytes: &[u8]) {
    let mut input = Input(bytes);
    let kind = match input.below(4) {
        0 => Kind::Whole,
        1 => Kind::Head,
        2 => Kind::Block,
        _ => Kind::Gone,
    };
    let header = Header {
        kind,
        is_divisible: input.byte() % 2 == 0,
        generation: input.word(),
        session: input.word(),
        hash: input.word(),
        body: input.word(),
        place: input.word(),
        born: input.word(),
        key_bytes: input.byte().into(),
        meta_bytes: input.byte().into(),
        wire_bytes: input.byte().into(),
        tags: input.byte().into(),
        body_bytes: input.word() >> 33,
        head_sum: input.word(),
        body_sum: input.word(),
    };
    let mut written = header.encode(SEAL);
    assert_eq!(Header::decode(&written, SEAL), Some(header));
    let at = input.word() as usize % HEADER_BYTES;
    if let Some(byte) = written.get_mut(at) {
        *byte ^= input.byte().max(1);
    }
    assert_eq!(Header::decode(&written, SEAL), None, "damaged at {at}");
}

/// A purge that was noted comes back; one that is cut off never does, and never as another.
fn check_note(bytes: &[u8]) {
    assert!(decode(bytes).is_ok_and(|found| found.is_none()) || bytes.len() >= 8);
    let mut input = Input(bytes);
    let target = match input.below(4) {
        0 => None,
        1 => Some(Target::Key(input.word())),
        2 => Some(Target::Tag(input.word())),
        _ => Some(Target::Prefix(input.0.into())),
    };
    let depth = if input.byte() % 2 == 0 { Depth::Hard } else { Depth::Soft };
    let note = Note { target, depth, epoch: input.word() };
    let mut written = Vec::new();
    encode(&note, &mut written);
    let cut_at = input.word() as usize % written.len();
    assert!(decode(written.get(..cut_at).unwrap_or_default()).is_ok_and(|found| found.is_none()));
    assert_eq!(decode(&written), Ok(Some((note, written.len()))));
}
