//! Which unit goes when room is needed: S3-FIFO (Yang et al., "FIFO queues are all you need for cache eviction",
//! SOSP 2023), counted in bytes. Pure.
//!
//! | queue | who enters | who leaves at its head |
//! |---|---|---|
//! | small, a tenth of the room | who is new | read more than once: to main; else evicted, its hash to the ghosts |
//! | main | from small; who is new but still a ghost | read since: again to the tail, one read less; else evicted |
//! | ghosts | hashes of those evicted from small | the oldest, when there are more ghosts than units |
//!
//! A hit only raises a number inside the unit, so the queues are touched by fills and evictions alone.

use rustc_hash::FxHashSet;
use std::collections::VecDeque;

/// Reads above this count no more.
pub const FREQUENCY_MAX: u8 = 3;
/// Share of the small queue in percent of the capacity.
const SMALL_PERCENT: u64 = 10;
const GHOSTS_MIN: usize = 256;
const COMPACT_MIN: usize = 1_024;

/// Something that is kept or evicted whole.
pub trait Unit {
    /// Reads since the last look, at most `FREQUENCY_MAX`; None when it is gone already.
    fn frequency(&self) -> Option<u8>;
    /// One read less.
    fn lower(&self);
}

struct Entry<U> {
    unit: U,
    hash: u64,
    bytes: u64,
}

struct Queue<U> {
    entries: VecDeque<Entry<U>>,
    bytes: u64,
}

impl<U: Unit> Queue<U> {
    fn push(&mut self, entry: Entry<U>) {
        self.bytes += entry.bytes;
        self.entries.push_back(entry);
    }

    fn pop(&mut self) -> Option<Entry<U>> {
        let entry = self.entries.pop_front()?;
        self.bytes -= entry.bytes;
        Some(entry)
    }

    fn drop_gone(&mut self) {
        self.entries.retain(|entry| entry.unit.frequency().is_some());
        self.bytes = self.entries.iter().map(|entry| entry.bytes).sum();
    }
}

/// The queues.
pub struct S3Fifo<U> {
    capacity_bytes: u64,
    small: Queue<U>,
    main: Queue<U>,
    ghosts: VecDeque<u64>,
    ghost_set: FxHashSet<u64>,
    compact_at: usize,
}

impl<U: Unit> S3Fifo<U> {
    pub fn new(capacity_bytes: u64) -> Self {
        Self {
            capacity_bytes,
            small: Queue { entries: VecDeque::new(), bytes: 0 },
            main: Queue { entries: VecDeque::new(), bytes: 0 },
            ghosts: VecDeque::new(),
            ghost_set: FxHashSet::default(),
            compact_at: COMPACT_MIN,
        }
    }

    /// `hash` names the unit when it comes back after an eviction.
    pub fn insert(&mut self, unit: U, hash: u64, bytes: u64) {
        if self.len() >= self.compact_at {
            self.small.drop_gone();
            self.main.drop_gone();
            self.compact_at = COMPACT_MIN.max(self.len() * 2);
        }
        let entry = Entry { unit, hash, bytes };
        if self.ghost_set.remove(&hash) { self.main.push(entry) } else { self.small.push(entry) }
    }

    /// Takes out the unit that is worth least, with its bytes; None when there is none.
    pub fn evict(&mut self) -> Option<(U, u64)> {
        // Every turn lowers a frequency or takes an entry out of a queue, but a unit may refuse to be lowered.
        for _ in 0..self.len() * (usize::from(FREQUENCY_MAX) + 2) {
            let is_small_full = self.small.bytes * 100 >= self.capacity_bytes * SMALL_PERCENT;
            let from_small = is_small_full || self.main.entries.is_empty();
            let found = if from_small { self.evict_small() } else { self.evict_main() };
            if found.is_some() {
                return found;
            }
        }
        let entry = self.main.pop().or_else(|| self.small.pop())?;
        Some((entry.unit, entry.bytes))
    }

    pub fn len(&self) -> usize {
        self.small.entries.len() + self.main.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn evict_small(&mut self) -> Option<(U, u64)> {
        let entry = self.small.pop()?;
        match entry.unit.frequency() {
            None => None,
            Some(0 | 1) => {
                self.remember(entry.hash);
                Some((entry.unit, entry.bytes))
            }
            Some(_) => {
                self.main.push(entry);
                None
            }
        }
    }

    fn evict_main(&mut self) -> Option<(U, u64)> {
        let entry = self.main.pop()?;
        match entry.unit.frequency() {
            None => None,
            Some(0) => Some((entry.unit, entry.bytes)),
            Some(_) => {
                entry.unit.lower();
                self.main.push(entry);
                None
            }
        }
    }

    fn remember(&mut self, hash: u64) {
        if self.ghost_set.insert(hash) {
            self.ghosts.push_back(hash);
        }
        // Ghosts that came back stay in the queue until their turn, so the queue is what is limited.
        while self.ghosts.len() > self.len().max(GHOSTS_MIN) {
            if let Some(oldest) = self.ghosts.pop_front() {
                self.ghost_set.remove(&oldest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::store::hash::mixed;
    use std::cell::Cell;
    use std::collections::{BTreeMap, HashMap};
    use std::rc::Rc;

    #[derive(Clone)]
    struct Counted(u64, Rc<Cell<Option<u8>>>);

    impl Unit for Counted {
        fn frequency(&self) -> Option<u8> {
            self.1.get()
        }
        fn lower(&self) {
            self.1.set(self.1.get().map(|reads| reads.saturating_sub(1)));
        }
    }

    /// A cache of `capacity_bytes` that is asked for (name, bytes) and says whether it had it.
    trait Cache {
        fn ask(&mut self, name: u64, bytes: u64) -> bool;
    }

    struct Ours {
        capacity_bytes: u64,
        used_bytes: u64,
        queues: S3Fifo<Counted>,
        index: HashMap<u64, Rc<Cell<Option<u8>>>>,
    }

    impl Ours {
        fn new(capacity_bytes: u64) -> Self {
            Self { capacity_bytes, used_bytes: 0, queues: S3Fifo::new(capacity_bytes), index: HashMap::new() }
        }
    }

    impl Cache for Ours {
        fn ask(&mut self, name: u64, bytes: u64) -> bool {
            if let Some(reads) = self.index.get(&name) {
                reads.set(reads.get().map(|reads| (reads + 1).min(FREQUENCY_MAX)));
                return true;
            }
            while self.used_bytes + bytes > self.capacity_bytes {
                let (gone, bytes) = self.queues.evict().unwrap();
                self.used_bytes -= bytes;
                self.index.remove(&gone.0);
            }
            let unit = Counted(name, Rc::new(Cell::new(Some(0))));
            self.index.insert(name, Rc::clone(&unit.1));
            self.queues.insert(unit, name, bytes);
            self.used_bytes += bytes;
            false
        }
    }

    #[derive(Default)]
    struct Lru {
        capacity_bytes: u64,
        used_bytes: u64,
        turn: u64,
        by_turn: BTreeMap<u64, (u64, u64)>,
        turns: HashMap<u64, u64>,
    }

    impl Cache for Lru {
        fn ask(&mut self, name: u64, bytes: u64) -> bool {
            self.turn += 1;
            let before = self.turns.insert(name, self.turn);
            if let Some(before) = before {
                let entry = self.by_turn.remove(&before).unwrap();
                self.by_turn.insert(self.turn, entry);
                return true;
            }
            while self.used_bytes + bytes > self.capacity_bytes {
                let (_, (gone, bytes)) = self.by_turn.pop_first().unwrap();
                self.turns.remove(&gone);
                self.used_bytes -= bytes;
            }
            self.by_turn.insert(self.turn, (name, bytes));
            self.used_bytes += bytes;
            false
        }
    }

    struct Dice(u64);

    impl Dice {
        fn next(&mut self) -> u64 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            self.0
        }
        fn unit(&mut self) -> f64 {
            (self.next() >> 11) as f64 / (1_u64 << 53) as f64
        }
    }

    /// Object names by Zipf's law with exponent `alpha`, and every 20 000 requests a scan over 2 000 names that
    /// nobody asked for before, as a crawler or a patch day makes.
    fn trace(seed: u64, alpha: f64, scans: bool) -> Vec<(u64, u64)> {
        const NAMES: usize = 50_000;
        let mut sums = Vec::with_capacity(NAMES);
        let mut sum = 0.0;
        for rank in 1..=NAMES {
            sum += (rank as f64).powf(-alpha);
            sums.push(sum);
        }
        let (mut dice, mut asked, mut scanned) = (Dice(seed), Vec::new(), NAMES as u64);
        for turn in 1..=400_000 {
            let at = dice.unit() * sum;
            let name = sums.partition_point(|below| *below < at) as u64;
            asked.push((name, size_of_name(name)));
            if scans && turn % 20_000 == 0 {
                asked.extend((scanned..scanned + 2_000).map(|name| (name, size_of_name(name))));
                scanned += 2_000;
            }
        }
        asked
    }

    /// 1 to 64 KiB, by name.
    fn size_of_name(name: u64) -> u64 {
        1_024 << (mixed(name, 3) % 7)
    }

    /// Hits in basis points.
    fn hits_bp(cache: &mut dyn Cache, trace: &[(u64, u64)]) -> u64 {
        let hits = trace.iter().filter(|(name, bytes)| cache.ask(*name, *bytes)).count();
        hits as u64 * 10_000 / trace.len() as u64
    }

    #[test]
    fn hit_ratio_is_above_lru_on_zipf_with_and_without_scans() {
        println!("alpha  scans  room of all   S3-FIFO      LRU   (hits, seed 2463534242)");
        let total: u64 = (0..50_000).map(size_of_name).sum();
        for (alpha, scans) in [(0.8, true), (0.8, false), (1.0, true), (1.0, false), (1.2, true)] {
            let trace = trace(2_463_534_242, alpha, scans);
            for percent in [1, 5, 20] {
                let capacity_bytes = total * percent / 100;
                let ours = hits_bp(&mut Ours::new(capacity_bytes), &trace);
                let lru = hits_bp(&mut Lru { capacity_bytes, ..Lru::default() }, &trace);
                let (ours_percent, lru_percent) = (ours as f64 / 100.0, lru as f64 / 100.0);
                println!("{alpha:5}  {scans:5}  {percent:9} %  {ours_percent:6.2} %  {lru_percent:6.2} %");
                assert!(ours > lru, "alpha {alpha}, scans {scans}, room {percent} %: {ours} against {lru}");
            }
        }
    }

    #[test]
    fn queues_hold_exactly_what_was_not_evicted() {
        let mut cache = Ours::new(1_000);
        let mut dice = Dice(9);
        for _ in 0..20_000 {
            let name = dice.next() % 100;
            cache.ask(name, 1 + name % 37);
            let queued = cache.queues.small.bytes + cache.queues.main.bytes;
            assert_eq!((queued, cache.queues.len()), (cache.used_bytes, cache.index.len()));
            assert!(cache.queues.ghosts.len() <= GHOSTS_MIN.max(cache.queues.len()));
        }
    }

    #[test]
    fn units_that_went_by_themselves_do_not_pile_up() {
        let mut queues = S3Fifo::new(1_000_000);
        for name in 0..100_000 {
            let reads = Rc::new(Cell::new(Some(0)));
            queues.insert(Counted(name, Rc::clone(&reads)), name, 1);
            reads.set(None);
            assert!(queues.len() <= 2 * COMPACT_MIN);
        }
        assert!(queues.evict().is_none());
    }

    #[test]
    fn a_unit_that_refuses_to_be_lowered_is_evicted_when_nothing_else_is_left() {
        struct Stubborn;
        impl Unit for Stubborn {
            fn frequency(&self) -> Option<u8> {
                Some(FREQUENCY_MAX)
            }
            fn lower(&self) {}
        }
        let mut queues = S3Fifo::new(10);
        queues.insert(Stubborn, 1, 10);
        assert!(queues.evict().is_some() && queues.evict().is_none());
    }
}
