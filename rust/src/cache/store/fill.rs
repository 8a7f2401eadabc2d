//! One fetch for a key, from the decision to fetch until the head of the answer is known. From then on the object is in
//! the index, and whoever reads its body gets the bytes as they arrive.
//!
//! | the fetch | how | those who wait |
//! |---|---|---|
//! | found something to keep | `FillGuard::start`, `refresh` | get the object |
//! | found that nothing may be kept | `FillGuard::release` | go on their own, and so do others for a while |
//! | failed, or its task went away | the guard is dropped | look up again; one of them takes over |

use crate::cache::store::Store;
use crate::cache::store::body::{Body, Shape};
use crate::cache::store::object::{Head, Key, Meta, Object};
use crate::cache::store::writer::Writer;
use std::pin::pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// How a fetch ended for those who waited.
pub enum Filled<M> {
    Object(Arc<Object<M>>),
    /// Not to be kept: each goes to the origin for itself.
    Alone,
    /// Look up again.
    Failed,
}

impl<M> Clone for Filled<M> {
    fn clone(&self) -> Self {
        match self {
            Self::Object(object) => Self::Object(Arc::clone(object)),
            Self::Alone => Self::Alone,
            Self::Failed => Self::Failed,
        }
    }
}

/// A fetch under way.
pub struct Fill<M> {
    hash: u64,
    key: Arc<[u8]>,
    lane: u64,
    end: Mutex<Option<Filled<M>>>,
    ended: Notify,
    waiting: AtomicU32,
}

impl<M> Fill<M> {
    pub(super) fn new(key: Key, lane: u64) -> Self {
        Self {
            hash: key.hash,
            key: key.octets.into(),
            lane,
            end: Mutex::new(None),
            ended: Notify::new(),
            waiting: AtomicU32::new(0),
        }
    }

    pub(super) fn hash(&self) -> u64 {
        self.hash
    }

    pub(super) fn is_of(&self, key: Key, lane: u64) -> bool {
        self.hash == key.hash && self.lane == lane && *self.key == *key.octets
    }

    /// How many wait now.
    pub fn waiting(&self) -> u32 {
        self.waiting.load(Ordering::Relaxed)
    }

    /// How it ended; returns when it has. May be dropped at any time.
    pub async fn wait(&self) -> Filled<M> {
        let _counted = Waiting::new(&self.waiting);
        let mut ended = pin!(self.ended.notified());
        loop {
            ended.as_mut().enable();
            if let Some(end) = self.lock().clone() {
                return end;
            }
            ended.as_mut().await;
            ended.set(self.ended.notified());
        }
    }

    fn finish(&self, end: Filled<M>) {
        *self.lock() = Some(end);
        self.ended.notify_waiters();
    }

    fn lock(&self) -> MutexGuard<'_, Option<Filled<M>>> {
        self.end.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One who waits, counted until it is dropped.
pub(super) struct Waiting<'f>(&'f AtomicU32);

impl<'f> Waiting<'f> {
    pub(super) fn new(waiting: &'f AtomicU32) -> Self {
        waiting.fetch_add(1, Ordering::Relaxed);
        Self(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The bytes of the body that a fetch will bring.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    pub from: u64,
    /// None = to the end.
    pub to: Option<u64>,
}

/// Nothing is kept: there is no room, or the object was purged or changed while its head was on the way. The answer is
/// passed on as it comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotKept;

/// The right and the duty to fetch. Send it to where the fetch runs.
pub struct FillGuard<M: Meta> {
    store: Arc<Store<M>>,
    /// None when others do not wait for it.
    fill: Option<Arc<Fill<M>>>,
    key: Arc<[u8]>,
    hash: u64,
    born: u64,
    /// Of the store's `changes`, when it began.
    changes: u64,
    is_over: bool,
}

impl<M: Meta> FillGuard<M> {
    pub(super) fn new(store: &Arc<Store<M>>, key: Key, fill: Option<Arc<Fill<M>>>) -> Self {
        let octets = fill.as_ref().map_or_else(|| key.octets.into(), |fill| Arc::clone(&fill.key));
        let (born, changes) = (store.purges.epoch(), store.changes.number());
        Self { store: Arc::clone(store), fill, key: octets, hash: key.hash, born, changes, is_over: false }
    }

    pub fn key(&self) -> Key<'_> {
        Key { octets: &self.key, hash: self.hash }
    }

    pub(super) fn fill(&self) -> Option<&Arc<Fill<M>>> {
        self.fill.as_ref()
    }

    /// How many wait for this fetch.
    pub fn waiting(&self) -> u32 {
        self.fill.as_ref().map_or(0, |fill| fill.waiting())
    }

    /// Puts the object into the index, its body still to come through the writer. `span` is the part of the body that
    /// this answer holds: from 0 to the end for a 200, the range of a 206, whose `from` must be a whole number of blocks.
    pub fn start(mut self, head: Head<M>, shape: Shape, span: Span) -> Result<Writer<M>, NotKept> {
        let opened = || self.store.open(self.shared_key(), head, shape, self.born);
        let Some((object, room)) = (!self.is_outdated()).then(opened).flatten() else {
            self.close(Filled::Alone);
            return Err(NotKept);
        };
        // Before the object can be found, so that nobody else takes the blocks that are about to come.
        let writer = Writer::new(&self.store, &object, span, room);
        self.keep(&object);
        Ok(writer)
    }

    /// The same body under a newer head (304 to a validation). None when it cannot be kept any more.
    pub fn refresh(mut self, old: &Arc<Object<M>>, head: Head<M>) -> Option<Arc<Object<M>>> {
        let reopened = || self.store.reopen(old, head, self.born);
        let fresh = (!self.is_outdated()).then(reopened).flatten();
        match &fresh {
            Some(object) => self.keep(object),
            None => self.close(Filled::Alone),
        }
        fresh
    }

    /// Nothing of this answer may be kept. Those who wait go on their own, and until `until_ms` nobody waits for a fetch
    /// of this key.
    pub fn release(mut self, until_ms: u64) {
        self.store.markers.set(self.hash, until_ms);
        self.close(Filled::Alone);
    }

    /// What the disk brought back, oldest first. Who waits looks up again, for which variant fits is for each to say; or
    /// goes alone, when there is no room for what is on disk.
    pub(super) fn restore(mut self, objects: &[Arc<Object<M>>], has_room: bool) {
        for object in objects.iter().filter(|_| !self.is_outdated()) {
            self.store.place(object, None, true);
            self.check(object);
        }
        let is_any = has_room || !objects.is_empty();
        self.close(if is_any { Filled::Failed } else { Filled::Alone });
    }

    fn keep(&mut self, object: &Arc<Object<M>>) {
        self.store.markers.clear(self.hash);
        self.store.supersede_disk(object);
        self.store.place(object, self.fill.as_ref(), false);
        self.store.save_head(object);
        self.check(object);
        self.is_over = true;
        if let Some(fill) = self.fill.take() {
            fill.finish(Filled::Object(Arc::clone(object)));
        }
    }

    /// Whether the key was changed at the origin since this fetch began.
    fn is_outdated(&self) -> bool {
        self.store.changes.is_since(self.hash, self.changes)
    }

    /// The change may have come while the object was put into its place.
    fn check(&self, object: &Arc<Object<M>>) {
        if self.is_outdated() {
            self.store.discard(object);
        }
    }

    fn close(&mut self, end: Filled<M>) {
        self.is_over = true;
        if let Some(fill) = self.fill.take() {
            self.store.unplace(&fill);
            fill.finish(end);
        }
    }

    fn shared_key(&self) -> (Arc<[u8]>, u64) {
        (Arc::clone(&self.key), self.hash)
    }
}

impl<M: Meta> Drop for FillGuard<M> {
    fn drop(&mut self) {
        if !self.is_over {
            self.close(Filled::Failed);
        }
    }
}

/// The largest body whose length is not known ahead that is kept: a quarter of the budget.
pub(super) fn bytes_max(shape: Shape, budget_bytes: u64) -> u64 {
    shape.length.unwrap_or(budget_bytes / 4)
}

/// Whether a body of that shape can be kept at all: what cannot be divided must fit with room for others.
pub(super) fn can_fit(shape: Shape, budget_bytes: u64, block_bytes: u64) -> bool {
    let must_fit = match shape.length {
        Some(length) if shape.is_divisible && length > block_bytes => {
            Body::table_bytes(length, block_bytes) + block_bytes
        }
        Some(length) => length,
        None => 0,
    };
    must_fit <= budget_bytes / 2
}
