//! Purges without walking objects. A purge raises the epoch and notes it at a name (key, tag) or prefix; an object
//! remembers the epoch at which its fetch began, and is asked against the notes when it is next hit. Pure.
//!
//! An object fetched while the purge happened began before it, so it is purged too.

use crate::cache::store::hash::checksum;
use rustc_hash::FxHashMap;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};

/// What a purge does to the objects that it finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Depth {
    /// They are stale from now on.
    Soft,
    /// They are gone.
    Hard,
}

/// Which objects a purge finds. A key is named by `key_hash`, a tag by `tag_hash`: two that share a hash are purged
/// together, which is safe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    Key(u64),
    Tag(u64),
    Prefix(Box<[u8]>),
}

/// One purge as it is kept on disk. Without a target and hard: everything that began before this epoch is gone; without
/// a target and soft: this epoch was reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    pub target: Option<Target>,
    pub depth: Depth,
    pub epoch: u64,
}

/// The name of a key, the same in every process.
pub fn key_hash(key: &[u8]) -> u64 {
    checksum(key, 0x6b65_7973)
}

/// The name of a surrogate key inside its service.
pub fn tag_hash(service: &[u8], tag: &[u8]) -> u64 {
    checksum(tag, checksum(service, 0x7461_6773))
}

/// The epochs of the last purges of one name; 0 = never.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Marks {
    soft: u64,
    hard: u64,
}

impl Marks {
    fn raise(&mut self, depth: Depth, epoch: u64) {
        let mark = if depth == Depth::Hard { &mut self.hard } else { &mut self.soft };
        *mark = epoch.max(*mark);
    }

    fn verdict(self, since: u64) -> Option<Depth> {
        match () {
            () if self.hard > since => Some(Depth::Hard),
            () if self.soft > since => Some(Depth::Soft),
            () => None,
        }
    }

    fn latest(self) -> u64 {
        self.soft.max(self.hard)
    }
}

type ByPrefix = FxHashMap<Box<[u8]>, Marks>;

#[derive(Default)]
struct Table {
    keys: FxHashMap<u64, Marks>,
    tags: FxHashMap<u64, Marks>,
    /// By length, so that a key is asked once for each length that occurs.
    prefixes: BTreeMap<usize, ByPrefix>,
    /// Objects not looked at since this epoch count as purged: their marks may be forgotten.
    floor: u64,
}

impl Table {
    fn marks(&mut self, target: Target) -> &mut Marks {
        match target {
            Target::Key(hash) => self.keys.entry(hash).or_default(),
            Target::Tag(hash) => self.tags.entry(hash).or_default(),
            Target::Prefix(prefix) => {
                self.prefixes.entry(prefix.len()).or_default().entry(prefix).or_default()
            }
        }
    }

    fn len(&self) -> usize {
        self.keys.len() + self.tags.len() + self.prefixes.values().map(FxHashMap::len).sum::<usize>()
    }

    /// All marks anew, in that epoch.
    fn renew(&mut self, epoch: u64) {
        let prefixes = self.prefixes.values_mut().flat_map(FxHashMap::values_mut);
        for marks in self.keys.values_mut().chain(self.tags.values_mut()).chain(prefixes) {
            let renewed = |mark: u64| if mark > 0 { epoch } else { 0 };
            *marks = Marks { soft: renewed(marks.soft), hard: renewed(marks.hard) };
        }
    }

    fn forget(&mut self, upto: u64) {
        self.keys.retain(|_, marks| marks.latest() > upto);
        self.tags.retain(|_, marks| marks.latest() > upto);
        for by_prefix in self.prefixes.values_mut() {
            by_prefix.retain(|_, marks| marks.latest() > upto);
        }
        self.prefixes.retain(|_, by_prefix| !by_prefix.is_empty());
        self.floor = self.floor.max(upto);
    }

    /// The epoch that half of the marks are older than.
    fn middle(&self) -> u64 {
        let prefixes = self.prefixes.values().flat_map(FxHashMap::values);
        let marks = self.keys.values().chain(self.tags.values()).chain(prefixes);
        let mut epochs: Vec<u64> = marks.map(|marks| marks.latest()).collect();
        let half = epochs.len() / 2;
        if epochs.is_empty() { 0 } else { *epochs.select_nth_unstable(half).1 }
    }
}

/// Everything that was purged and is not yet known to be gone.
pub struct Purges {
    epoch: AtomicU64,
    names_max: usize,
    table: RwLock<Table>,
}

impl Purges {
    /// At most `names_max` names are kept. `floor` is the epoch before which everything counts as purged.
    pub fn new(names_max: usize, floor: u64) -> Self {
        let table = Table { floor, ..Table::default() };
        Self { epoch: AtomicU64::new(floor), names_max, table: RwLock::new(table) }
    }

    /// The number of the last purge. What was looked at in this epoch need not be looked at again.
    #[inline]
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// The epoch of this purge. Above the limit of names the older half is forgotten, and with it every object that
    /// was not looked at since.
    pub fn purge(&self, target: Target, depth: Depth) -> u64 {
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        let epoch = self.epoch.load(Ordering::Relaxed) + 1;
        table.marks(target).raise(depth, epoch);
        if table.len() > self.names_max {
            let upto = table.middle();
            table.forget(upto);
        }
        // After the table, so that who sees the epoch sees the marks.
        self.epoch.store(epoch, Ordering::Release);
        epoch
    }

    /// Adds the purges of earlier processes, of which the last epoch was `epoch`. What this process purged already is
    /// noted again in an epoch after all of these, so that it holds for what they left too.
    pub fn restore(&self, notes: Vec<Note>, epoch: u64) {
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        let epoch = epoch.max(self.epoch.load(Ordering::Relaxed)) + 1;
        table.renew(epoch);
        for note in notes {
            match note.target {
                Some(target) => table.marks(target).raise(note.depth, note.epoch),
                None if note.depth == Depth::Hard => table.floor = table.floor.max(note.epoch),
                None => {}
            }
        }
        while table.len() > self.names_max {
            let upto = table.middle();
            table.forget(upto);
        }
        self.epoch.store(epoch, Ordering::Release);
    }

    /// Everything that is kept, to be restored elsewhere.
    pub fn notes(&self) -> Vec<Note> {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        let mut notes = vec![
            Note { target: None, depth: Depth::Hard, epoch: table.floor },
            Note { target: None, depth: Depth::Soft, epoch: self.epoch() },
        ];
        let mut note = |target: Target, marks: &Marks| {
            for (depth, epoch) in [(Depth::Soft, marks.soft), (Depth::Hard, marks.hard)] {
                if epoch > 0 {
                    notes.push(Note { target: Some(target.clone()), depth, epoch });
                }
            }
        };
        table.keys.iter().for_each(|(key, marks)| note(Target::Key(*key), marks));
        table.tags.iter().for_each(|(tag, marks)| note(Target::Tag(*tag), marks));
        let prefixes = table.prefixes.values().flatten();
        prefixes.for_each(|(prefix, marks)| note(Target::Prefix(prefix.clone()), marks));
        notes
    }

    /// What the purges after `since` say about an object; None = nothing.
    pub fn verdict(&self, key: &[u8], tags: &[u64], since: u64) -> Option<Depth> {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        if since < table.floor {
            return Some(Depth::Hard);
        }
        let by_key = if table.keys.is_empty() { None } else { table.keys.get(&key_hash(key)) };
        let by_tag = tags.iter().filter_map(|tag| table.tags.get(tag));
        let by_prefix =
            table.prefixes.iter().filter_map(|(bytes, by_prefix)| by_prefix.get(key.get(..*bytes)?));
        by_key.into_iter().chain(by_tag).chain(by_prefix).filter_map(|marks| marks.verdict(since)).max()
    }

    /// Drops the marks upto that epoch, once every object that is kept was looked at in it or later.
    pub fn forget(&self, upto: u64) {
        self.table.write().unwrap_or_else(PoisonError::into_inner).forget(upto);
    }

    /// How many names are kept.
    pub fn names(&self) -> usize {
        self.table.read().unwrap_or_else(PoisonError::into_inner).len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(text: &str) -> Target {
        Target::Prefix(text.as_bytes().into())
    }

    #[test]
    fn a_purge_finds_what_began_before_it_and_nothing_after() {
        let purges = Purges::new(100, 0);
        let targets = [Target::Key(key_hash(b"www/a/b")), Target::Tag(2), prefix("www/a"), prefix("")];
        for (number, target) in targets.into_iter().enumerate() {
            let before = purges.epoch();
            assert_eq!(purges.verdict(b"www/a/b", &[9, 2], before), None, "target {number}");
            purges.purge(target, Depth::Hard);
            assert_eq!(purges.verdict(b"www/a/b", &[9, 2], before), Some(Depth::Hard), "target {number}");
            assert_eq!(purges.verdict(b"www/a/b", &[9, 2], purges.epoch()), None, "target {number}");
        }
    }

    #[test]
    fn names_keep_apart() {
        let purges = Purges::new(100, 0);
        purges.purge(Target::Key(key_hash(b"www/a")), Depth::Hard);
        purges.purge(Target::Tag(2), Depth::Hard);
        purges.purge(prefix("www/a"), Depth::Hard);
        assert_eq!(purges.verdict(b"www/b", &[1, 3], 0), None);
        assert_eq!(purges.verdict(b"www/", &[key_hash(b"www/a")], 0), None);
        assert_ne!(tag_hash(b"one", b"tag"), tag_hash(b"two", b"tag"));
    }

    #[test]
    fn hard_wins_over_soft_in_any_order() {
        for depths in [[Depth::Soft, Depth::Hard], [Depth::Hard, Depth::Soft]] {
            let purges = Purges::new(100, 0);
            purges.purge(Target::Key(key_hash(b"")), depths[0]);
            purges.purge(Target::Tag(2), depths[1]);
            assert_eq!(purges.verdict(b"", &[2], 0), Some(Depth::Hard));
            assert_eq!(purges.verdict(b"", &[2], 1), Some(depths[1]));
        }
    }

    #[test]
    fn too_many_names_forget_the_older_half_and_purge_whoever_was_not_looked_at() {
        let purges = Purges::new(1_000, 0);
        for tag in 0..10_000 {
            purges.purge(Target::Tag(tag), Depth::Hard);
            assert!(purges.names() <= 1_000);
        }
        assert_eq!(purges.verdict(b"", &[0], 0), Some(Depth::Hard));
        assert_eq!(purges.verdict(b"", &[77_777], 0), Some(Depth::Hard), "safe, if more than was asked for");
        assert_eq!(purges.verdict(b"", &[77_777], 9_990), None);
        assert_eq!(purges.verdict(b"", &[9_995], 9_990), Some(Depth::Hard));
    }

    #[test]
    fn restored_purges_hold_with_their_epochs_and_newer_ones_hold_for_older_objects() {
        let earlier = Purges::new(100, 0);
        for key in 0..40 {
            earlier.purge(Target::Key(key), Depth::Hard);
        }
        earlier.purge(Target::Tag(2), Depth::Soft);
        earlier.purge(prefix("b"), Depth::Hard);
        let purges = Purges::new(100, 0);
        purges.purge(Target::Tag(3), Depth::Hard);
        purges.restore(earlier.notes(), earlier.epoch());
        assert_eq!(purges.epoch(), 43);
        assert_eq!(purges.verdict(b"", &[2], 40), Some(Depth::Soft));
        assert_eq!(purges.verdict(b"", &[2], 41), None);
        assert_eq!(purges.verdict(b"bcd", &[], 41), Some(Depth::Hard));
        assert_eq!(purges.verdict(b"", &[3], 42), Some(Depth::Hard), "purged before the disk was there");
        assert_eq!(purges.verdict(b"", &[3], 43), None);
    }
}
