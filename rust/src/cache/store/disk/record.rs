//! How things lie on disk. Pure.
//!
//! A record is a header of `HEADER_BYTES`, then the head of an object (key, meta, wire, tags), then bytes of a body; each
//! of the three has a checksum of its own, and the header names the generation of its segment and the session of the
//! process that wrote it. So what is left of an older use of the same place is never taken for what should be there.

use crate::cache::store::hash::checksum;

pub const HEADER_BYTES: usize = 112;
const MAGIC: u32 = 0x3143_5270;
/// Records start at multiples of this.
pub const ALIGN_BYTES: u64 = 8;
/// Longest head that is kept.
const HEAD_BYTES_MAX: u64 = 1 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A head with its body.
    Whole,
    /// A head; its body lies in `Block` records.
    Head,
    Block,
    /// The object with that body must not be served any more.
    Gone,
}

/// The fixed part of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub kind: Kind,
    pub is_divisible: bool,
    pub generation: u64,
    pub session: u64,
    /// Of the key; 0 for a block.
    pub hash: u64,
    pub body: u64,
    /// Index of a block; length of the body otherwise.
    pub place: u64,
    pub born: u64,
    pub key_bytes: u32,
    pub meta_bytes: u32,
    pub wire_bytes: u32,
    pub tags: u32,
    pub body_bytes: u64,
    pub head_sum: u64,
    pub body_sum: u64,
}

impl Header {
    pub fn head_bytes(&self) -> u64 {
        u64::from(self.key_bytes)
            + u64::from(self.meta_bytes)
            + u64::from(self.wire_bytes)
            + u64::from(self.tags) * 8
    }

    /// The whole record with its padding.
    pub fn record_bytes(&self) -> u64 {
        (HEADER_BYTES as u64 + self.head_bytes() + self.body_bytes).next_multiple_of(ALIGN_BYTES)
    }

    /// `seal` is a secret of the folder, so that no body can hold bytes that pass for a header of it.
    pub fn encode(&self, seal: u64) -> [u8; HEADER_BYTES] {
        let mut out = [0; HEADER_BYTES];
        let kind = match self.kind {
            Kind::Whole => 1,
            Kind::Head => 2,
            Kind::Block => 3,
            Kind::Gone => 4,
        };
        let first = u64::from(MAGIC) | kind << 32 | u64::from(self.is_divisible) << 40;
        let pair = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
        let words = [
            first,
            self.generation,
            self.session,
            self.hash,
            self.body,
            self.place,
            self.born,
            pair(self.key_bytes, self.meta_bytes),
            pair(self.wire_bytes, self.tags),
            self.body_bytes,
            self.head_sum,
            self.body_sum,
            0,
        ];
        for (place, word) in out.chunks_exact_mut(8).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        let sum = checksum(out.split_at(HEADER_BYTES - 8).0, seal);
        out.split_at_mut(HEADER_BYTES - 8).1.copy_from_slice(&sum.to_le_bytes());
        out
    }

    /// None for anything but what `encode` made with the same seal.
    pub fn decode(bytes: &[u8], seal: u64) -> Option<Self> {
        let bytes = bytes.get(..HEADER_BYTES)?;
        let (summed, sum) = bytes.split_at(HEADER_BYTES - 8);
        if word(sum) != checksum(summed, seal) {
            return None;
        }
        let mut words = summed.chunks_exact(8).map(word);
        let mut next = || words.next();
        let first = next()?;
        let kind = match first >> 32 & 0xff {
            1 => Kind::Whole,
            2 => Kind::Head,
            3 => Kind::Block,
            4 => Kind::Gone,
            _ => return None,
        };
        let (generation, session, hash, body, place, born) =
            (next()?, next()?, next()?, next()?, next()?, next()?);
        let (key_meta, wire_tags) = (next()?, next()?);
        let header = Self {
            kind,
            is_divisible: first >> 40 & 1 == 1,
            generation,
            session,
            hash,
            body,
            place,
            born,
            key_bytes: key_meta as u32,
            meta_bytes: (key_meta >> 32) as u32,
            wire_bytes: wire_tags as u32,
            tags: (wire_tags >> 32) as u32,
            body_bytes: next()?,
            head_sum: next()?,
            body_sum: next()?,
        };
        let is_sane = first as u32 == MAGIC && header.head_bytes() <= HEAD_BYTES_MAX;
        (is_sane && header.body_bytes < u64::from(u32::MAX)).then_some(header)
    }
}

fn word(bytes: &[u8]) -> u64 {
    bytes.try_into().map_or(0, u64::from_le_bytes)
}

/// Key, meta, wire and tags of an object, in the order in which they lie on disk.
#[derive(Debug, PartialEq, Eq)]
pub struct Parts<'b> {
    pub key: &'b [u8],
    pub meta: &'b [u8],
    pub wire: &'b [u8],
    pub tags: Box<[u64]>,
}

/// Splits what follows a header; None when it is not as long as the header says.
pub fn parts<'b>(header: &Header, bytes: &'b [u8]) -> Option<Parts<'b>> {
    let (key, rest) = bytes.split_at_checked(header.key_bytes as usize)?;
    let (meta, rest) = rest.split_at_checked(header.meta_bytes as usize)?;
    let (wire, tags) = rest.split_at_checked(header.wire_bytes as usize)?;
    let is_exact = tags.len() == header.tags as usize * 8;
    is_exact.then(|| Parts { key, meta, wire, tags: tags.chunks_exact(8).map(word).collect() })
}

/// The sum of a part, bound to what it belongs to: the same bytes of another object do not pass.
pub fn part_sum(header: &Header, bytes: &[u8]) -> u64 {
    let place = if header.kind == Kind::Block { header.place } else { u64::MAX };
    checksum(bytes, header.body.rotate_left(32) ^ place)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        Header {
            kind: Kind::Whole,
            is_divisible: true,
            generation: 2,
            session: 3,
            hash: 4,
            body: 5,
            place: 6,
            born: 7,
            key_bytes: 3,
            meta_bytes: 2,
            wire_bytes: 4,
            tags: 2,
            body_bytes: 1 << 20,
            head_sum: 8,
            body_sum: 9,
        }
    }

    #[test]
    fn headers_come_back_as_they_were() {
        for kind in [Kind::Whole, Kind::Head, Kind::Block, Kind::Gone] {
            let header = Header { kind, ..header() };
            assert_eq!(Header::decode(&header.encode(9), 9), Some(header));
        }
    }

    #[test]
    fn a_damaged_header_is_none() {
        let mut bytes = header().encode(9);
        for bit in 0..HEADER_BYTES * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Header::decode(&bytes, 9), None, "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        assert_eq!(Header::decode(&bytes[..HEADER_BYTES - 1], 9), None);
        assert_eq!(Header::decode(&bytes, 8), None, "the seal of another folder");
        assert_eq!(Header::decode(&[0; HEADER_BYTES], 9), None);
    }

    #[test]
    fn parts_are_split_where_they_were_joined() {
        let mut bytes = b"keymewire".to_vec();
        bytes.extend(1_u64.to_le_bytes());
        bytes.extend(2_u64.to_le_bytes());
        let split = parts(&header(), &bytes).unwrap();
        assert_eq!((split.key, split.meta, split.wire), (&b"key"[..], &b"me"[..], &b"wire"[..]));
        assert_eq!(*split.tags, [1, 2]);
        assert_eq!(parts(&header(), &bytes[1..]), None);
    }
}
