//! The store of the cache: objects in memory within a hard budget, shared by all workers.
//!
//! `index` finds an object without a lock, `front` keeps a worker's hottest ones beside it; `fill` is one fetch for any
//! number of waiters, `writer` and `reader` are the two ends of a body on its way; `policy` says who goes, `ledger`
//! counts who stays, `purge` and `changes` say who must not be served. Time is an argument everywhere.

pub mod block;
pub mod body;
pub mod changes;
pub mod disk;
pub mod fill;
pub mod front;
pub mod hash;
pub mod index;
pub mod ledger;
pub mod lookup;
pub mod marker;
pub mod object;
pub mod policy;
pub mod pressure;
pub mod purge;
pub mod reader;
pub mod recall;
pub mod room;
pub mod writer;

#[cfg(test)]
mod tests;

pub use body::{Body, Shape};
pub use fill::{Fill, FillGuard, Filled, NotKept, Span};
pub use front::{Front, Held};
pub use lookup::{Begin, Lookup};
pub use object::{Head, Key, Meta, Object, Select};
pub use pressure::resident_bytes;
pub use purge::{Depth, Target, key_hash, tag_hash};
pub use reader::{Next, Reader};
pub use writer::{Stop, Writer};

use changes::Changes;
use disk::{Disk, DiskCounts};
use hash::Secret;
use index::{Bucket, Index, Slot};
use ledger::{Charge, Ledger};
use marker::Markers;
use policy::S3Fifo;
use pressure::Pressure;
use purge::{Note, Purges};
use room::Unit;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use tokio::sync::oneshot;

/// Limits of a store.
#[derive(Clone, Debug)]
pub struct Limits {
    /// All memory that the store may take.
    pub memory_bytes: u64,
    pub block_bytes: u64,
    /// Responses under one key that differ by Vary.
    pub variants_max: usize,
    /// Blocks fetched beyond the one that a reader needs.
    pub read_ahead_blocks: u64,
    /// Names of purges kept at once; above it the older half is forgotten, and what was not looked at since is dropped.
    pub purge_names_max: usize,
}

impl Limits {
    pub fn new(memory_bytes: u64) -> Self {
        Self {
            memory_bytes,
            block_bytes: 1 << 20,
            variants_max: 16,
            read_ahead_blocks: 4,
            purge_names_max: 65_536,
        }
    }
}

/// What happened since the start; sums over all workers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Of the memory tier, with everything that belongs to it.
    pub used_bytes: u64,
    pub budget_bytes: u64,
    pub objects: u64,
    pub hits: u64,
    pub misses: u64,
    /// Requests that waited for another's fetch.
    pub joined: u64,
    pub evictions: u64,
    pub evicted_bytes: u64,
    /// Answers not kept because there was no room.
    pub refused: u64,
    pub purges: u64,
    /// Objects found to be purged.
    pub purged: u64,
    pub disk: Option<DiskCounts>,
}

#[derive(Default)]
struct Counters {
    objects: AtomicU64,
    hits: AtomicU64,
    misses: AtomicU64,
    joined: AtomicU64,
    evictions: AtomicU64,
    evicted_bytes: AtomicU64,
    refused: AtomicU64,
    purged: AtomicU64,
}

fn add(counter: &AtomicU64, number: u64) {
    counter.fetch_add(number, Ordering::Relaxed);
}

/// The store.
pub struct Store<M: Meta> {
    limits: Limits,
    secret: Secret,
    ledger: Arc<Ledger>,
    index: Index<M>,
    markers: Markers,
    purges: Arc<Purges>,
    changes: Changes,
    disk: OnceLock<Disk>,
    policy: Mutex<S3Fifo<Unit<M>>>,
    counters: Counters,
    /// Hits counted by each worker for itself.
    front_hits: Mutex<Vec<Arc<AtomicU64>>>,
    next_body: AtomicU64,
    sweep: Mutex<Sweep>,
    pressure: Mutex<Pressure>,
    /// The empty index and the table of markers.
    _fixed: Charge,
}

/// The walk over the index that follows purges, a part at each tick.
#[derive(Default)]
struct Sweep {
    at: usize,
    /// The epoch when it began; everything before `at` was looked at in this one or later.
    epoch: u64,
    done: u64,
}

/// Buckets that one tick looks at: well under a millisecond.
const SWEEP_BUCKETS: usize = 4_096;

impl<M: Meta> Store<M> {
    /// A store in memory.
    pub fn new(limits: Limits) -> Arc<Self> {
        let random = RandomState::new();
        let secret = Secret(random.hash_one(0_u8), random.hash_one(1_u8));
        let (budget_bytes, purge_names_max) = (limits.memory_bytes, limits.purge_names_max);
        let ledger = Ledger::new(budget_bytes);
        let fixed = Index::<M>::bytes_for(budget_bytes) + Markers::bytes_for(budget_bytes) + Changes::BYTES;
        Arc::new(Self {
            secret,
            _fixed: ledger.count(fixed),
            ledger,
            index: Index::new(budget_bytes),
            markers: Markers::new(budget_bytes),
            purges: Arc::new(Purges::new(purge_names_max, 0)),
            changes: Changes::default(),
            disk: OnceLock::new(),
            policy: Mutex::new(S3Fifo::new(budget_bytes)),
            counters: Counters::default(),
            front_hits: Mutex::default(),
            next_body: AtomicU64::new(1),
            sweep: Mutex::default(),
            pressure: Mutex::default(),
            limits,
        })
    }

    /// The key of a request: scheme, host, path and whatever else the rules put into it, as bytes.
    #[inline]
    pub fn key<'k>(&self, octets: &'k [u8]) -> Key<'k> {
        Key { octets, hash: self.secret.hash(octets) }
    }

    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    pub fn counts(&self) -> Counts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let fronts: u64 = locked(&self.front_hits).iter().map(|hits| read(hits)).sum();
        Counts {
            used_bytes: self.ledger.used_bytes(),
            budget_bytes: self.ledger.budget_bytes(),
            objects: read(&self.counters.objects),
            hits: read(&self.counters.hits) + fronts,
            misses: read(&self.counters.misses),
            joined: read(&self.counters.joined),
            evictions: read(&self.counters.evictions),
            evicted_bytes: read(&self.counters.evicted_bytes),
            refused: read(&self.counters.refused),
            purges: self.purges.epoch(),
            purged: read(&self.counters.purged),
            disk: self.disk.get().map(Disk::counts),
        }
    }

    /// Purges all objects of a key, tag or prefix whose fetch began before now; takes microseconds, however many they are.
    /// It is in force when this returns. With a disk tier it also holds after a restart once the receiver says true; on
    /// false the disk could not take it, and what is on disk now will not be used after a restart.
    pub fn purge(&self, target: Target, depth: Depth) -> Option<oneshot::Receiver<bool>> {
        let epoch = self.purges.purge(target.clone(), depth);
        self.disk.get().map(|disk| disk.note(Note { target: Some(target), depth, epoch }))
    }

    /// Upkeep, to be called about ten times a second by one thread: looks at a part of the index for what was purged, so
    /// that its memory comes back and its marks can be forgotten; gives a failed disk another try.
    pub fn tick(&self, now_ms: u64) {
        if let Some(disk) = self.disk.get() {
            disk.tick(now_ms);
        }
        let mut sweep = locked(&self.sweep);
        let epoch = self.purges.epoch();
        if sweep.at == 0 {
            if sweep.done == epoch {
                return;
            }
            sweep.epoch = epoch;
        }
        let until = (sweep.at + SWEEP_BUCKETS).min(self.index.len());
        for at in sweep.at..until {
            self.sweep_bucket(at);
        }
        sweep.at = until;
        if until == self.index.len() {
            (sweep.at, sweep.done) = (0, sweep.epoch);
            // Forgetting also drops the fetches that began before, so it is done only when it must be.
            if self.purges.names() * 2 > self.limits.purge_names_max {
                self.purges.forget(sweep.epoch);
            }
        }
    }

    fn sweep_bucket(&self, at: usize) {
        let bucket = self.index.read_at(at);
        for slot in bucket.as_deref().into_iter().flat_map(Bucket::slots) {
            if let Slot::Object(object) = slot {
                self.is_current(object);
            }
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
