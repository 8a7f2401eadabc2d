//! A token bucket for every client prefix, shared by all workers without a lock.
//!
//! A bucket is one number: when it would be full again (GCRA, ITU-T I.371). It lies in a table of fixed size, in sets of
//! four; a newcomer takes the place of whoever in its set is fullest, which is mostly somebody whose bucket is full and
//! who loses nothing. Which set a prefix falls into is decided by a key drawn at start, so that nobody can choose whom to
//! push out. Two workers that take a place at the same moment can give one client a token too much.

use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

/// Places of the table; with 16 bytes each it takes a MiB.
const PLACES: usize = 65_536;
const PLACES_OF_SET: usize = 4;

const SECOND_US: u64 = 1_000_000;

/// So many tokens come in a second, and so many can be there at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    interval_us: u64,
    full_us: u64,
}

impl Rate {
    /// None for 0 tokens a second: no limit. A burst of 0 is that of two seconds. More than a million a second is one.
    pub fn new(per_s: u64, burst: u64) -> Option<Self> {
        let interval_us = SECOND_US.checked_div(per_s)?.max(1);
        let burst = if burst == 0 { per_s.saturating_mul(2) } else { burst };
        Some(Self { interval_us, full_us: interval_us.saturating_mul(burst) })
    }
}

#[derive(Default)]
struct Place {
    /// Of a prefix; 0: nobody's.
    mark: AtomicU64,
    /// When the bucket would be full again, in microseconds.
    full_at_us: AtomicU64,
}

#[derive(Default)]
#[repr(align(64))]
struct Set([Place; PLACES_OF_SET]);

pub struct Buckets {
    key: RandomState,
    sets: Box<[Set]>,
}

impl Default for Buckets {
    fn default() -> Self {
        Self::new(PLACES)
    }
}

impl Buckets {
    fn new(places: usize) -> Self {
        let sets = (0..places.div_ceil(PLACES_OF_SET).max(1)).map(|_| Set::default()).collect();
        Self { key: RandomState::new(), sets }
    }

    /// Takes a token out of the bucket of `who`. An error: after how many milliseconds there is one again.
    pub fn take(&self, who: &impl Hash, rate: Rate, now_ms: u64) -> Result<(), u64> {
        let hash = self.key.hash_one(who);
        let set = usize::try_from(hash >> 32).unwrap_or(0) % self.sets.len();
        let Some(Set(places)) = self.sets.get(set) else { return Ok(()) };
        let now_us = now_ms.saturating_mul(1_000);
        let cell = &place_of(places, hash | 1).full_at_us;
        let mut before_us = cell.load(Ordering::Relaxed);
        loop {
            let full_at_us = before_us.max(now_us).saturating_add(rate.interval_us);
            let over_us = (full_at_us - now_us).saturating_sub(rate.full_us);
            if over_us > 0 {
                return Err(over_us.div_ceil(1_000));
            }
            match cell.compare_exchange_weak(before_us, full_at_us, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Ok(()),
                Err(newer_us) => before_us = newer_us,
            }
        }
    }
}

fn place_of(places: &[Place; PLACES_OF_SET], mark: u64) -> &Place {
    let [first, rest @ ..] = places;
    let mut fullest = first;
    for place in [first].into_iter().chain(rest) {
        if place.mark.load(Ordering::Relaxed) == mark {
            return place;
        }
        if place.full_at_us.load(Ordering::Relaxed) < fullest.full_at_us.load(Ordering::Relaxed) {
            fullest = place;
        }
    }
    fullest.mark.store(mark, Ordering::Relaxed);
    fullest.full_at_us.store(0, Ordering::Relaxed);
    fullest
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    const NOW_MS: u64 = 1_700_000_000_000;

    fn taken(buckets: &Buckets, who: u32, rate: Rate, now_ms: u64, tries: usize) -> usize {
        (0..tries).filter(|_| buckets.take(&who, rate, now_ms).is_ok()).count()
    }

    #[test]
    fn a_burst_is_let_in_and_then_the_rate() {
        let (buckets, rate) = (Buckets::default(), Rate::new(10, 5).unwrap());
        assert_eq!(taken(&buckets, 1, rate, NOW_MS, 50), 5);
        assert_eq!(buckets.take(&1_u32, rate, NOW_MS), Err(100));
        assert_eq!(taken(&buckets, 1, rate, NOW_MS + 99, 50), 0);
        assert_eq!(taken(&buckets, 1, rate, NOW_MS + 100, 50), 1);
        assert_eq!(taken(&buckets, 1, rate, NOW_MS + 1_100, 50), 5);
        let seconds = (0..1_000).map(|turn| taken(&buckets, 2, rate, NOW_MS + turn * 10, 1)).sum::<usize>();
        assert!((100..=105).contains(&seconds), "{seconds} in ten seconds at 10/s");
    }

    #[test]
    fn one_prefix_does_not_take_from_another() {
        let (buckets, rate) = (Buckets::default(), Rate::new(1, 1).unwrap());
        assert_eq!(taken(&buckets, 1, rate, NOW_MS, 9), 1);
        assert_eq!(taken(&buckets, 2, rate, NOW_MS, 9), 1);
    }

    #[test]
    fn a_rate_of_nothing_is_no_limit_and_a_huge_one_is_one() {
        assert_eq!(Rate::new(0, 9), None);
        assert_eq!(Rate::new(u64::MAX, u64::MAX).unwrap().interval_us, 1);
        assert_eq!(Rate::new(10, 0), Rate::new(10, 20));
    }

    #[test]
    fn strangers_push_out_whoever_is_fullest_and_not_who_floods() {
        let (buckets, rate) = (Buckets::new(PLACES_OF_SET), Rate::new(1, 100).unwrap());
        assert_eq!(taken(&buckets, 0, rate, NOW_MS, 1_000), 100);
        for stranger in 1..1_000 {
            assert_eq!(taken(&buckets, stranger, rate, NOW_MS, 1), 1);
        }
        assert_eq!(taken(&buckets, 0, rate, NOW_MS, 1_000), 0);
    }

    #[test]
    fn a_clock_that_steps_back_takes_nothing_away() {
        let (buckets, rate) = (Buckets::default(), Rate::new(10, 5).unwrap());
        assert_eq!(taken(&buckets, 1, rate, NOW_MS, 50), 5);
        assert_eq!(taken(&buckets, 1, rate, NOW_MS - 1_000, 50), 0);
        assert_eq!(taken(&buckets, 1, rate, NOW_MS + 500, 50), 5);
    }

    #[test]
    fn workers_share_one_bucket() {
        let (buckets, rate) = (Arc::new(Buckets::default()), Rate::new(1, 1_000).unwrap());
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let buckets = Arc::clone(&buckets);
                std::thread::spawn(move || taken(&buckets, 7, rate, NOW_MS, 1_000))
            })
            .collect();
        let sum: usize = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
        // The first arrivals may take the place at the same moment.
        assert!((1_000..=1_003).contains(&sum), "{sum}");
    }
}
