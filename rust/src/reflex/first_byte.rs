//! How long a first byte is waited for: learned from how long it took of late, per upstream and kind of path.
//!
//! First-byte times are counted in buckets that grow by about a fifth, and all counts are halved whenever there are
//! many, so that the last few thousand say most. No floats: a share is in basis points.

/// Enough for two minutes; `edge_ms` has their edges.
const BUCKETS: usize = 64;

/// Counts are halved when there are so many.
const COUNTS_MAX: u32 = 4_096;

/// Below so many nothing is known.
const COUNTS_MIN: u32 = 50;

/// An upstream is waited for at least so long: a pause of a machine is no failure.
const PATIENCE_MS_MIN: u64 = 500;

/// While nothing is known, a first byte counts as missing after so long: a user is still there then.
const PATIENCE_MS_UNKNOWN: u64 = 3_000;

/// Another is not asked beside it before so long.
const HEDGE_MS_MIN: u64 = 20;

/// While nothing is known another is asked after so long.
const HEDGE_MS_UNKNOWN: u64 = 300;

/// First-byte times of late.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FirstBytes {
    counts: [u32; BUCKETS],
    total: u32,
}

impl Default for FirstBytes {
    fn default() -> Self {
        Self { counts: [0; BUCKETS], total: 0 }
    }
}

impl FirstBytes {
    pub fn note(&mut self, first_byte_ms: u64) {
        if self.total >= COUNTS_MAX {
            self.counts.iter_mut().for_each(|count| *count /= 2);
            self.total = self.counts.iter().sum();
        }
        if let Some(count) = self.counts.get_mut(bucket_of(first_byte_ms)) {
            *count += 1;
            self.total += 1;
        }
    }

    /// No more than that share of the answers took longer; None while too little is known.
    pub fn within_ms(&self, share_bp: u32) -> Option<u64> {
        if self.total < COUNTS_MIN {
            return None;
        }
        let wanted = u64::from(self.total) * u64::from(share_bp);
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += u64::from(*count);
            if seen * 10_000 >= wanted {
                return Some(edge_ms(bucket));
            }
        }
        Some(edge_ms(BUCKETS - 1))
    }

    /// How long to wait for a first byte before it counts as a failure: three times what 99 % took, at most `most_ms`.
    pub fn give_up_after_ms(&self, most_ms: u64) -> u64 {
        let learned = self.within_ms(9_900).map(|ms| ms.saturating_mul(3).max(PATIENCE_MS_MIN));
        learned.unwrap_or(PATIENCE_MS_UNKNOWN).min(most_ms)
    }

    /// How long to wait before another upstream is asked beside it: what 95 % took.
    pub fn hedge_after_ms(&self, most_ms: u64) -> u64 {
        self.within_ms(9_500).map_or(HEDGE_MS_UNKNOWN, |ms| ms.max(HEDGE_MS_MIN)).min(most_ms)
    }
}

/// The upper edge of a bucket, in ms: 0, 1, 2, … then each about a fifth above the one before.
fn edge_ms(bucket: usize) -> u64 {
    let mut edge = 0;
    for _ in 0..bucket {
        edge += (edge / 5).max(1);
    }
    edge
}

fn bucket_of(first_byte_ms: u64) -> usize {
    let (mut edge, mut bucket) = (0_u64, 0);
    while edge < first_byte_ms && bucket < BUCKETS - 1 {
        edge += (edge / 5).max(1);
        bucket += 1;
    }
    bucket
}

/// Kinds of path whose times are kept apart.
pub const KINDS: usize = 8;

/// The kind of a path: its extension, hashed to one of `KINDS`; manifests and segments differ, and so do pages.
pub fn kind_of(path: &[u8]) -> usize {
    let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    let Some(dot) = name.iter().rposition(|byte| *byte == b'.') else { return 0 };
    let extension = name.get(dot + 1..).unwrap_or_default();
    let sum = extension.iter().fold(7_usize, |sum, byte| (sum * 31) ^ usize::from(byte.to_ascii_lowercase()));
    1 + sum % (KINDS - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(taken: &[(u64, u32)]) -> FirstBytes {
        let mut times = FirstBytes::default();
        for (ms, number) in taken {
            (0..*number).for_each(|_| times.note(*ms));
        }
        times
    }

    #[test]
    fn nothing_is_known_at_first() {
        let times = of(&[(10, COUNTS_MIN - 1)]);
        assert_eq!(times.within_ms(9_500), None);
        assert_eq!(
            (times.give_up_after_ms(5_000), times.hedge_after_ms(5_000)),
            (PATIENCE_MS_UNKNOWN, HEDGE_MS_UNKNOWN)
        );
    }

    #[test]
    fn a_quantile_is_at_most_a_fifth_too_large() {
        for ms in [1_u64, 3, 10, 47, 300, 1_000] {
            let found = of(&[(ms, 100)]).within_ms(9_500).unwrap();
            assert!(found >= ms && found <= ms + ms / 5 + 1, "{ms} became {found}");
        }
    }

    #[test]
    fn the_slow_twentieth_does_not_move_the_hedge() {
        let times = of(&[(30, 960), (900, 40)]);
        let hedge_ms = times.hedge_after_ms(5_000);
        assert!((30..=36).contains(&hedge_ms), "{hedge_ms}");
        assert!(times.give_up_after_ms(5_000) >= 2_700);
    }

    #[test]
    fn patience_has_bounds() {
        let quick = of(&[(0, 1_000)]);
        assert_eq!(
            (quick.give_up_after_ms(5_000), quick.hedge_after_ms(5_000)),
            (PATIENCE_MS_MIN, HEDGE_MS_MIN)
        );
        let slow = of(&[(60_000, 1_000)]);
        assert_eq!((slow.give_up_after_ms(5_000), slow.hedge_after_ms(5_000)), (5_000, 5_000));
    }

    #[test]
    fn what_was_long_ago_is_forgotten() {
        let mut times = of(&[(1_000, 4_000)]);
        (0..40_000).for_each(|_| times.note(10));
        assert!(times.within_ms(9_900).unwrap() <= 12);
    }

    #[test]
    fn paths_of_one_extension_are_one_kind() {
        assert_eq!(kind_of(b"/a/b.ts"), kind_of(b"/c.TS"));
        assert_ne!(kind_of(b"/a/b.ts"), kind_of(b"/a/b.m3u8"));
        assert_eq!((kind_of(b"/"), kind_of(b"/v1.2/feed")), (0, 0));
        assert!((0..256).all(|byte| kind_of(&[b'.', byte as u8]) < KINDS));
    }
}
