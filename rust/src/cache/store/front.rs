#![allow(clippy::redundant_allocation, clippy::type_complexity)]
//! A worker's own view of its hottest objects: a hit here touches no memory that another worker writes to.
//!
//! A hit in `Store::find` raises the reference count of the object, which all workers would pull from each other for a
//! hot object. Here the count is the worker's own, and whether the object is still the right one is a flag inside it that
//! changes once in its life.

use crate::cache::store::object::{Key, Meta, Object, Select};
use crate::cache::store::{Store, locked};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const SLOTS: usize = 4_096;
/// Larger bodies cost more to copy than the index costs to ask.
const OBJECT_BYTES_MAX: u64 = 256 * 1_024;
/// What all fronts together may keep alive of what the store has let go, as a part of its budget.
const BUDGET_PART: u64 = 32;

/// One per worker; not to be sent elsewhere.
pub struct Front<M: Meta> {
    store: Arc<Store<M>>,
    slots: Box<[Option<Rc<Arc<Object<M>>>>]>,
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

    /// The object for a request, if there is one in memory. No allocation, no lock, no shared counter for an object that
    /// was found here before; otherwise the index is asked.
    #[inline]
    pub fn hit(&mut self, key: Key, select: &mut impl Select<M>) -> Option<Rc<Arc<Object<M>>>> {
        let at = key.hash as usize % SLOTS;
        if let Some(Some(held)) = self.slots.get(at)
            && held.is_of(key)
            && select.matches(&held.head.meta)
            && self.store.is_current(held)
        {
            held.read();
            let held = Rc::clone(held);
            self.count();
            return Some(held);
        }
        self.ask_index(at, key, select)
    }

    fn ask_index(&mut self, at: usize, key: Key, select: &mut impl Select<M>) -> Option<Rc<Arc<Object<M>>>> {
        let held = Rc::new(self.store.find(key, select)?);
        self.count();
        // Of a body in blocks only the table is held, its blocks come and go.
        let bytes = match held.body.whole() {
            Some(whole) => whole.len() as u64,
            None if held.body.is_divisible() => 0,
            None => u64::MAX,
        };
        if bytes <= OBJECT_BYTES_MAX {
            self.clear(at);
            if self.held_bytes + bytes > self.held_bytes_max {
                self.sweep(true);
            }
            if let Some(slot) = self.slots.get_mut(at) {
                self.held_bytes += bytes;
                *slot = Some(Rc::clone(&held));
            }
        }
        Some(held)
    }

    /// Lets go of what the store has let go; to be called about once a second, so that an idle worker holds no memory
    /// that is needed elsewhere.
    pub fn tick(&mut self) {
        self.sweep(false);
    }

    fn sweep(&mut self, all: bool) {
        for slot in &mut self.slots {
            if slot.as_ref().is_some_and(|held| all || !held.is_live()) {
                *slot = None;
            }
        }
        let held = self.slots.iter().flatten().filter_map(|held| held.body.whole());
        self.held_bytes = held.map(|whole| whole.len() as u64).sum();
    }

    fn clear(&mut self, at: usize) {
        let held = self.slots.get_mut(at).and_then(Option::take);
        let bytes = held.and_then(|held| held.body.whole().map(|whole| whole.len() as u64));
        self.held_bytes = self.held_bytes.saturating_sub(bytes.unwrap_or(0));
    }

    #[inline]
    fn count(&self) {
        // Only this worker writes it.
        self.hits.store(self.hits.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }
}
