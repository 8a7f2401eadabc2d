//! From a key's hash to its objects and the fetch under way. Reading takes no lock and writes to no shared memory: a
//! bucket is a list that is never changed, only exchanged as a whole.

use crate::cache::store::fill::Fill;
use crate::cache::store::object::{Meta, Object};
use arc_swap::{ArcSwapOption, Guard};
use std::sync::{Arc, Mutex, PoisonError};

const STRIPES: usize = 256;
const BUCKETS_MIN: u64 = 1_024;
const BUCKETS_MAX: u64 = 1 << 24;
/// One bucket for so much budget: the list stays short also when all objects are small.
const BUDGET_BYTES_PER_BUCKET: u64 = 4_096;

/// What stands at a key.
pub enum Slot<M> {
    Object(Arc<Object<M>>),
    Fill(Arc<Fill<M>>),
}

impl<M: Meta> Slot<M> {
    /// The object here, when `newer` replaces it.
    pub fn same_variant(&self, newer: &Object<M>) -> Option<&Arc<Object<M>>> {
        match self {
            Self::Object(object) => Some(object)
                .filter(|object| object.is_of(newer.key()))
                .filter(|object| object.head.meta.is_same_variant(&newer.head.meta)),
            Self::Fill(_) => None,
        }
    }
}

impl<M> Clone for Slot<M> {
    fn clone(&self) -> Self {
        match self {
            Self::Object(object) => Self::Object(Arc::clone(object)),
            Self::Fill(fill) => Self::Fill(Arc::clone(fill)),
        }
    }
}

/// The slots of a bucket, newest first; the first one lies in the bucket itself, for most have no other.
pub struct Bucket<M> {
    first: Slot<M>,
    rest: Box<[Slot<M>]>,
}

impl<M> Bucket<M> {
    #[inline]
    pub fn slots(&self) -> impl Iterator<Item = &Slot<M>> {
        std::iter::once(&self.first).chain(&self.rest)
    }
}

pub struct Index<M> {
    buckets: Box<[ArcSwapOption<Bucket<M>>]>,
    stripes: Box<[Mutex<()>]>,
}

impl<M> Index<M> {
    pub fn new(budget_bytes: u64) -> Self {
        let buckets = Self::buckets_for(budget_bytes);
        Self {
            buckets: (0..buckets).map(|_| ArcSwapOption::empty()).collect(),
            stripes: (0..STRIPES).map(|_| Mutex::default()).collect(),
        }
    }

    /// The memory of an empty index.
    pub fn bytes_for(budget_bytes: u64) -> u64 {
        Self::buckets_for(budget_bytes) * size_of::<ArcSwapOption<Bucket<M>>>() as u64
    }

    fn buckets_for(budget_bytes: u64) -> u64 {
        let buckets = (budget_bytes / BUDGET_BYTES_PER_BUCKET).next_power_of_two();
        buckets.clamp(BUCKETS_MIN, BUCKETS_MAX)
    }

    /// The bucket of that hash, None when empty. It may hold other keys too.
    #[inline]
    pub fn read(&self, hash: u64) -> Guard<Option<Arc<Bucket<M>>>> {
        self.read_at(hash as usize & (self.buckets.len() - 1))
    }

    /// The bucket at that place; None also beyond the last.
    #[inline]
    pub fn read_at(&self, at: usize) -> Guard<Option<Arc<Bucket<M>>>> {
        self.buckets.get(at).map_or_else(|| Guard::from_inner(None), ArcSwapOption::load)
    }

    pub fn len(&self) -> usize {
        self.buckets.len()
    }

    pub fn is_empty(&self) -> bool {
        self.buckets.is_empty()
    }

    /// Exchanges a bucket for a changed copy. `change` must not come back to the index.
    pub fn edit<R>(&self, hash: u64, change: impl FnOnce(&mut Vec<Slot<M>>) -> R) -> Option<R> {
        let at = hash as usize & (self.buckets.len() - 1);
        let (bucket, stripe) = (self.buckets.get(at)?, self.stripes.get(at % STRIPES)?);
        let _alone = stripe.lock().unwrap_or_else(PoisonError::into_inner);
        let mut list = bucket.load().as_ref().map_or_else(Vec::new, |old| old.slots().cloned().collect());
        let result = change(&mut list);
        let mut list = list.into_iter();
        bucket.store(list.next().map(|first| Arc::new(Bucket { first, rest: list.collect() })));
        Some(result)
    }
}
