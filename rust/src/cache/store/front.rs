//! A worker's own view of its hottest objects: a hit here touches no memory that another worker writes to.
//!
//! A hit in `Store::find` raises the reference count of the object, which all workers would pull from each other for a
//! hot object. Here the count is the worker's own, and whether the object is still the right one is a flag inside it that
//! changes once in its life.

use crate::cache::store::object::{Key, Meta, Object, Select};
use crate::cache::store::{Store, locked};
use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const SLOTS: usize = 4_096;
/// Larger bodies cost more to copy than the index costs to ask.
const OBJECT_BYTES_MAX: u64 = 256 * 1_024;
/// What all fronts together may keep alive of what the store has let go, as a part of its budget.
const BUDGET_PART: u64 = 32;

/// An object for as long as it is held.
pub enum Held<M> {
    /// Counted by this worker alone.
    Own(Rc<Kept<M>>),
    Shared(Arc<Object<M>>),
}

/// An object that a front keeps.
pub struct Kept<M>(Arc<Object<M>>);

impl<M> Deref for Held<M> {
    type Target = Arc<Object<M>>;

    #[inline]
    fn deref(&self) -> &Self::Target {
        match self {
            Self::Own(kept) => &kept.0,
            Self::Shared(object) => object,
        }
    }
}

impl<M> Clone for Held<M> {
    fn clone(&self) -> Self {
        match self {
            Self::Own(kept) => Self::Own(Rc::clone(kept)),
            Self::Shared(object) => Self::Shared(Arc::clone(object)),
        }
    }
}

type FrontSlot<M> = Option<Rc<Kept<M>>>;

/// One per worker; not to be sent elsewhere.
pub struct Front<M: Meta> {
    store: Arc<Store<M>>,
    slots: Box<[FrontSlot<M>]>,
    held_bytes: u64,
    held_bytes_max: u64,
    hits: Arc<AtomicU64>,
}

impl<M: Meta> Front<M> {
    /// `workers` is how many fronts there are.
    pub fn new(store: &Arc<Store<M>>, workers: u64) -> Self {
        let hits = Arc::new(AtomicU64::new(0));
        locked(&store.front_hits).push(Arc::clone(&hits));
        Self {
            store: Arc::clone(store),
            slots: (0..SLOTS).map(|_| None).collect(),
            held_bytes: 0,
            held_bytes_max: store.limits().memory_bytes / BUDGET_PART / workers.max(1),
            hits,
        }
    }

    /// The object for a request, if there is one in memory. No lock, no allocation, and for an object that is kept here no
    /// write to shared memory; on None go to `Store::lookup`.
    #[inline]
    pub fn hit(&mut self, key: Key, select: &mut impl Select<M>) -> Option<Held<M>> {
        let at = key.hash as usize % SLOTS;
        if let Some(Some(kept)) = self.slots.get(at)
            && kept.0.is_of(key)
            && select.matches(&kept.0.head.meta)
            && self.store.is_current(&kept.0)
        {
            kept.0.read();
            let held = Held::Own(Rc::clone(kept));
            self.count();
            return Some(held);
        }
        let object = self.store.find(key, select)?;
        self.count();
        // A second read soon after the first is what makes an object hot.
        if object.is_read_often() { Some(self.keep(at, object)) } else { Some(Held::Shared(object)) }
    }

    fn keep(&mut self, at: usize, object: Arc<Object<M>>) -> Held<M> {
        // Of a body in blocks only the table is kept, its blocks come and go.
        let bytes = match object.body.whole() {
            Some(whole) => whole.len() as u64,
            None if object.body.is_divisible() => 0,
            None => u64::MAX,
        };
        if bytes > OBJECT_BYTES_MAX || bytes > self.held_bytes_max {
            return Held::Shared(object);
        }
        self.clear(at);
        if self.held_bytes + bytes > self.held_bytes_max {
            self.sweep(true);
        }
        let kept = Rc::new(Kept(object));
        if let Some(slot) = self.slots.get_mut(at) {
            self.held_bytes += bytes;
            *slot = Some(Rc::clone(&kept));
        }
        Held::Own(kept)
    }

    /// Lets go of what the store has let go; to be called about once a second, so that an idle worker holds no memory
    /// that is needed elsewhere.
    pub fn tick(&mut self) {
        self.sweep(false);
    }

    fn sweep(&mut self, all: bool) {
        for slot in &mut self.slots {
            if slot.as_ref().is_some_and(|kept| all || !kept.0.is_live()) {
                *slot = None;
            }
        }
        self.held_bytes = self.slots.iter().flatten().map(|kept| whole_bytes(kept)).sum();
    }

    fn clear(&mut self, at: usize) {
        let kept = self.slots.get_mut(at).and_then(Option::take);
        let bytes = kept.map_or(0, |kept| whole_bytes(&kept));
        self.held_bytes = self.held_bytes.saturating_sub(bytes);
    }

    #[inline]
    fn count(&self) {
        // Only this worker writes it.
        self.hits.store(self.hits.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }
}

fn whole_bytes<M: Meta>(kept: &Kept<M>) -> u64 {
    kept.0.body.whole().map_or(0, |whole| whole.len() as u64)
}
