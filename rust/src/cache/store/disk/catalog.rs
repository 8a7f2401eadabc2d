//! What lies on disk and where, in memory: heads by the hash of their key, blocks by body and index. It names places only;
//! what is there is believed when its checksums are.

use crate::cache::store::ledger::{Charge, Ledger};
use crate::cache::store::locked;
use rustc_hash::FxHashMap;
use std::sync::{Arc, Mutex};

const SHARDS: usize = 32;
/// An entry in a map that is half full, and its list.
const ENTRY_BYTES: u64 = 160;

/// Where a record lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub segment: u32,
    pub offset: u64,
    pub generation: u64,
}

/// A head on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadAt {
    pub body: u64,
    pub place: Place,
}

/// Of the catalog's own limit, and of the store's budget.
type Charges = (Charge, Charge);

#[derive(Default)]
struct Shard {
    heads: FxHashMap<u64, Vec<(HeadAt, Charges)>>,
    blocks: FxHashMap<(u64, u64), (Place, Charges)>,
}

/// The catalog takes at most this part of the memory's budget: a disk that is too large for the memory is not used whole.
const BUDGET_PART: u64 = 4;

pub struct Catalog {
    shards: Box<[Mutex<Shard>]>,
    own: Arc<Ledger>,
    ledger: Arc<Ledger>,
}

impl Catalog {
    pub fn new(ledger: &Arc<Ledger>) -> Self {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        let own = Ledger::new(ledger.budget_bytes() / BUDGET_PART);
        Self { shards, own, ledger: Arc::clone(ledger) }
    }

    /// A head, in place of an older one of the same body. False when there is no memory to remember it.
    pub fn put_head(&self, hash: u64, head: HeadAt) -> bool {
        let Some(charge) = self.charge() else {
            // An older head of the same body must not come back in its place.
            self.forget_head(hash, head.body);
            return false;
        };
        self.with(hash, |shard| {
            let heads = shard.heads.entry(hash).or_default();
            heads.retain(|(other, _)| other.body != head.body);
            heads.push((head, charge));
        });
        true
    }

    pub fn put_block(&self, body: u64, block: u64, place: Place) -> bool {
        let Some(charge) = self.charge() else { return false };
        self.with(body, |shard| shard.blocks.insert((body, block), (place, charge)));
        true
    }

    /// The heads of that hash, newest last.
    pub fn heads(&self, hash: u64) -> Vec<HeadAt> {
        let list = self.with(hash, |shard| {
            let heads = shard.heads.get(&hash);
            heads.map(|heads| heads.iter().map(|(head, _)| *head).collect())
        });
        list.flatten().unwrap_or_default()
    }

    pub fn block(&self, body: u64, block: u64) -> Option<Place> {
        self.with(body, |shard| shard.blocks.get(&(body, block)).map(|(place, _)| *place)).flatten()
    }

    /// Says whether it was there.
    pub fn forget_head(&self, hash: u64, body: u64) -> bool {
        let gone = self.with(hash, |shard| {
            let heads = shard.heads.get_mut(&hash)?;
            let before = heads.len();
            heads.retain(|(head, _)| head.body != body);
            let is_gone = heads.len() < before;
            if heads.is_empty() {
                shard.heads.remove(&hash);
            }
            Some(is_gone)
        });
        gone.flatten().unwrap_or(false)
    }

    /// Forgets a block, but not one that was written elsewhere since.
    pub fn forget_block(&self, body: u64, block: u64, place: Place) {
        self.with(body, |shard| {
            if shard.blocks.get(&(body, block)).is_some_and(|(other, _)| *other == place) {
                shard.blocks.remove(&(body, block));
            }
        });
    }

    /// Forgets everything in a segment, before it is written anew.
    pub fn forget_segment(&self, segment: u32) {
        for shard in &self.shards {
            let mut shard = locked(shard);
            shard.blocks.retain(|_, (place, _)| place.segment != segment);
            shard.heads.retain(|_, heads| {
                heads.retain(|(head, _)| head.place.segment != segment);
                !heads.is_empty()
            });
        }
    }

    /// Heads and blocks.
    pub fn counts(&self) -> (u64, u64) {
        self.shards.iter().fold((0, 0), |(heads, blocks), shard| {
            let shard = locked(shard);
            (heads + shard.heads.len() as u64, blocks + shard.blocks.len() as u64)
        })
    }

    fn charge(&self) -> Option<Charges> {
        // A full budget is the rule: objects make room for the entry at the next reservation.
        Some((self.own.reserve(ENTRY_BYTES)?, self.ledger.count(ENTRY_BYTES)))
    }

    fn with<R>(&self, number: u64, change: impl FnOnce(&mut Shard) -> R) -> Option<R> {
        self.shards.get(number as usize % SHARDS).map(|shard| change(&mut locked(shard)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(segment: u32, offset: u64) -> Place {
        Place { segment, offset, generation: 1 }
    }

    #[test]
    fn newer_heads_of_a_body_replace_older_and_segments_are_forgotten_whole() {
        let ledger = Ledger::new(1_000_000);
        let catalog = Catalog::new(&ledger);
        catalog.put_head(1, HeadAt { body: 10, place: place(0, 0) });
        catalog.put_head(1, HeadAt { body: 11, place: place(0, 8) });
        catalog.put_head(1, HeadAt { body: 10, place: place(1, 0) });
        catalog.put_block(10, 3, place(0, 16));
        let bodies = |hash: u64| catalog.heads(hash).iter().map(|head| head.body).collect::<Vec<u64>>();
        assert_eq!(bodies(1), [11, 10]);
        catalog.forget_segment(0);
        assert_eq!((bodies(1), catalog.block(10, 3)), (vec![10], None));
        assert!(catalog.forget_head(1, 10) && !catalog.forget_head(1, 10));
        assert_eq!((catalog.counts(), ledger.used_bytes()), ((0, 0), 0));
    }
}
