//! What the rules remember of a stored answer, in memory and on disk.

use super::freshness::signed;
use super::range::ContentRange;

/// All that the rules need to know of a stored answer; small, and copied freely. Its fields are kept beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredMeta {
    pub status: u16,
    pub arrived_ms: u64,
    /// It is `now_ms - born_ms` old.
    pub born_ms: i64,
    pub lifetime_s: u32,
    pub stale_while_revalidate_s: u32,
    /// None if the sender said nothing.
    pub stale_if_error_s: Option<u32>,
    pub date_s: i64,
    pub last_modified_s: Option<i64>,
    /// The part that a 206 brought; None for a whole answer.
    pub part: Option<ContentRange>,
    /// no-cache: never without asking.
    pub always_validate: bool,
    /// must-revalidate, proxy-revalidate or s-maxage: never stale.
    pub never_stale: bool,
    pub immutable: bool,
    /// ETag or Last-Modified is there: it can be validated.
    pub has_validator: bool,
}

impl StoredMeta {
    pub fn age_ms(&self, now_ms: u64) -> i64 {
        signed(now_ms).saturating_sub(self.born_ms).max(0)
    }

    /// Whole seconds, for the Age field.
    pub fn age_s(&self, now_ms: u64) -> u64 {
        self.age_ms(now_ms).unsigned_abs() / 1_000
    }

    /// Seconds until it is stale; negative afterwards (Cache-Status `ttl`).
    pub fn ttl_s(&self, now_ms: u64) -> i64 {
        i64::from(self.lifetime_s) - self.age_ms(now_ms) / 1_000
    }

    /// How long it has been stale, in milliseconds; None while it is fresh.
    pub fn stale_ms(&self, now_ms: u64) -> Option<i64> {
        let over_ms = self.age_ms(now_ms).saturating_sub(i64::from(self.lifetime_s) * 1_000);
        (over_ms >= 0).then_some(over_ms)
    }

    /// The same, stale from now on (soft purge); its windows of staleness count from here.
    pub fn expired(mut self, now_ms: u64) -> Self {
        let age_s = u32::try_from(self.age_s(now_ms)).unwrap_or(u32::MAX);
        self.lifetime_s = self.lifetime_s.min(age_s);
        self
    }

    /// A part as what it is a part of: the terms of the whole, of which some bytes are here.
    pub fn whole(mut self) -> Self {
        if self.part.take().is_some() {
            self.status = 200;
        }
        self
    }

    /// Appends `ENCODED_LEN` bytes, for the disk; little-endian.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let part = self.part.unwrap_or(ContentRange { first: 0, last: 0, complete: None });
        let words = [
            self.arrived_ms.to_le_bytes(),
            self.born_ms.to_le_bytes(),
            self.date_s.to_le_bytes(),
            self.last_modified_s.unwrap_or(0).to_le_bytes(),
            part.first.to_le_bytes(),
            part.last.to_le_bytes(),
            part.complete.unwrap_or(0).to_le_bytes(),
        ];
        words.iter().for_each(|word| out.extend_from_slice(word));
        let seconds = [self.lifetime_s, self.stale_while_revalidate_s, self.stale_if_error_s.unwrap_or(0)];
        seconds.iter().for_each(|seconds| out.extend_from_slice(&seconds.to_le_bytes()));
        let flags = [
            self.last_modified_s.is_some(),
            self.part.is_some(),
            part.complete.is_some(),
            self.stale_if_error_s.is_some(),
            self.always_validate,
            self.never_stale,
            self.immutable,
            self.has_validator,
        ];
        out.extend_from_slice(&self.status.to_le_bytes());
        out.push(flags.iter().rev().fold(0, |bits, flag| bits << 1 | u8::from(*flag)));
        out.push(FORMAT);
    }

    /// The inverse of `encode`; None if the bytes are of another length or format.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let octets = |index: usize| bytes.get(index * 8..)?.first_chunk().copied();
        let word = |index: usize| octets(index).map(u64::from_le_bytes);
        let moment = |index: usize| octets(index).map(i64::from_le_bytes);
        let seconds = |index: usize| Some(u32::from_le_bytes(*bytes.get(56 + index * 4..)?.first_chunk()?));
        if bytes.len() != ENCODED_LEN || bytes.last() != Some(&FORMAT) {
            return None;
        }
        let bits = *bytes.get(ENCODED_LEN - 2)?;
        let flag = |index: u8| bits >> index & 1 == 1;
        let (first, last, complete) = (word(4)?, word(5)?, word(6)?);
        let part = ContentRange { first, last, complete: flag(2).then_some(complete) };
        let is_sound =
            first <= last && last < u64::MAX && part.complete.is_none_or(|complete| last < complete);
        if flag(1) && !is_sound {
            return None;
        }
        Some(Self {
            status: u16::from_le_bytes(*bytes.get(68..)?.first_chunk()?),
            arrived_ms: word(0)?,
            born_ms: moment(1)?,
            lifetime_s: seconds(0)?,
            stale_while_revalidate_s: seconds(1)?,
            stale_if_error_s: Some(seconds(2)?).filter(|_| flag(3)),
            date_s: moment(2)?,
            last_modified_s: Some(moment(3)?).filter(|_| flag(0)),
            part: Some(part).filter(|_| flag(1)),
            always_validate: flag(4),
            never_stale: flag(5),
            immutable: flag(6),
            has_validator: flag(7),
        })
    }
}

/// Length of an encoded one, in bytes.
pub const ENCODED_LEN: usize = 72;

/// Changes when the meaning of the bytes does.
const FORMAT: u8 = 1;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::semantics::dice::Dice;

    const META: StoredMeta = StoredMeta {
        status: 200,
        arrived_ms: 5_000,
        born_ms: 5_000,
        lifetime_s: 500,
        stale_while_revalidate_s: 7,
        stale_if_error_s: None,
        date_s: 5,
        last_modified_s: Some(-5),
        part: None,
        always_validate: false,
        never_stale: false,
        immutable: true,
        has_validator: false,
    };

    #[test]
    fn soft_purge_makes_it_stale_at_once() {
        assert_eq!(META.stale_ms(8_000), None);
        let stale = META.expired(8_000);
        assert_eq!((stale.stale_ms(8_000), stale.ttl_s(9_500)), (Some(0), -1));
        assert_eq!(stale.expired(9_999), stale, "once stale it stays so");
    }

    #[test]
    fn a_part_becomes_its_whole() {
        let part = ContentRange { first: 4, last: 9, complete: Some(10) };
        let whole = StoredMeta { status: 206, part: Some(part), ..META }.whole();
        assert_eq!(whole, META);
        assert_eq!(StoredMeta { status: 404, ..META }.whole().status, 404);
    }

    #[test]
    fn what_is_encoded_is_decoded_as_the_same() {
        let part = ContentRange { first: 4, last: 9, complete: Some(10) };
        for meta in [
            META,
            StoredMeta { part: Some(part), stale_if_error_s: Some(0), born_ms: -1, ..META },
            StoredMeta { part: Some(ContentRange { complete: None, ..part }), last_modified_s: None, ..META },
            StoredMeta {
                always_validate: true,
                has_validator: true,
                never_stale: true,
                immutable: false,
                ..META
            },
        ] {
            let mut bytes = Vec::new();
            meta.encode(&mut bytes);
            assert_eq!((bytes.len(), StoredMeta::decode(&bytes)), (ENCODED_LEN, Some(meta)));
            assert_eq!(StoredMeta::decode(&bytes[1..]), None);
        }
    }

    #[test]
    fn no_bytes_break_the_decoder() {
        let mut dice = Dice(23);
        for _ in 0..20_000 {
            let mut bytes: Vec<u8> = (0..ENCODED_LEN).map(|_| dice.byte()).collect();
            *bytes.last_mut().unwrap() = FORMAT;
            if let Some(meta) = StoredMeta::decode(&bytes) {
                let now_ms = dice.next();
                assert!(meta.age_ms(now_ms) >= 0);
                let _ = (meta.ttl_s(now_ms), meta.stale_ms(now_ms), meta.part.map(|part| part.len()));
            }
        }
    }
}
