//! Making room, and what takes it: objects and blocks enter and leave here.

use crate::cache::store::body::{Body, Shape};
use crate::cache::store::fill::{Fill, bytes_max, can_fit};
use crate::cache::store::hash::mixed;
use crate::cache::store::index::{Bucket, Slot};
use crate::cache::store::ledger::Charge;
use crate::cache::store::object::{Head, Key, Meta, Object};
use crate::cache::store::policy;
use crate::cache::store::purge::Depth;
use crate::cache::store::writer::room_for;
use crate::cache::store::{Store, add, locked};
use bytes::Bytes;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use tokio::sync::oneshot;

/// What the policy keeps or evicts whole. Weak, so that the memory of what goes in another way comes back at once.
pub enum Unit<M> {
    Object(Weak<Object<M>>),
    Block(Weak<Body>, u64),
}

impl<M: Meta> policy::Unit for Unit<M> {
    fn frequency(&self) -> Option<u8> {
        match self {
            Self::Object(object) => object.upgrade()?.reads(),
            Self::Block(body, block) => body.upgrade()?.reads_of(*block),
        }
    }

    fn lower(&self) {
        match self {
            Self::Object(object) => object.upgrade().iter().for_each(|object| object.lower()),
            Self::Block(body, block) => body.upgrade().iter().for_each(|body| body.lower_reads_of(*block)),
        }
    }
}

/// What was evicted may be held by readers, so its bytes do not come back: then no more than this goes for one
/// reservation, or a few slow clients would empty the cache.
const EVICTED_BYTES_MAX: u64 = 4 << 20;

/// Evicted by one `make_fit`.
const FIT_BYTES_MAX: u64 = 64 << 20;

impl<M: Meta> Store<M> {
    /// Takes bytes of the budget, evicting what must go for them; None when that does not help.
    pub(super) fn reserve(&self, bytes: u64) -> Option<Charge> {
        if bytes > self.ledger.budget_bytes() / 2 {
            return None;
        }
        let mut evicted_bytes = 0;
        loop {
            if let Some(charge) = self.ledger.reserve(bytes) {
                return Some(charge);
            }
            if evicted_bytes > bytes * 2 + EVICTED_BYTES_MAX {
                return None;
            }
            let evicted = locked(&self.policy).evict();
            let (unit, unit_bytes) = evicted?;
            evicted_bytes += unit_bytes;
            self.let_go(unit, unit_bytes);
        }
    }

    /// Evicts what is above the budget, a part of it at a time.
    pub(super) fn make_fit(&self) {
        let mut evicted_bytes = 0;
        while self.ledger.used_bytes() > self.ledger.budget_bytes() && evicted_bytes < FIT_BYTES_MAX {
            let Some((unit, unit_bytes)) = locked(&self.policy).evict() else { return };
            evicted_bytes += unit_bytes;
            self.let_go(unit, unit_bytes);
        }
    }

    fn let_go(&self, unit: Unit<M>, bytes: u64) {
        let gone = match &unit {
            Unit::Object(object) => object.upgrade().is_some_and(|object| self.remove(&object)),
            Unit::Block(body, block) => body.upgrade().is_some_and(|body| body.evict(*block)),
        };
        if gone {
            add(&self.counters.evictions, 1);
            add(&self.counters.evicted_bytes, bytes);
        }
    }

    /// A new object with the room for its first block, not yet in the index.
    pub(super) fn open(
        &self,
        key: (Arc<[u8]>, u64),
        head: Head<M>,
        shape: Shape,
        born: u64,
    ) -> Option<(Arc<Object<M>>, Option<Charge>)> {
        let (budget_bytes, block_bytes) = (self.limits.memory_bytes, self.limits.block_bytes);
        if self.purges.verdict(&key.0, &head.tags, born) == Some(Depth::Hard) {
            return None;
        }
        let opened = can_fit(shape, budget_bytes, block_bytes).then(|| {
            let bytes_max = bytes_max(shape, budget_bytes);
            let place = self.reserve(Object::place_bytes(&key.0, &head))?;
            let table = self.reserve(Body::table_bytes(bytes_max, block_bytes))?;
            let room = self.reserve(room_for(shape.length.unwrap_or(block_bytes).min(block_bytes)))?;
            let id = self.next_body.fetch_add(1, Ordering::Relaxed);
            let body = Arc::new(Body::new(id, shape, bytes_max, block_bytes, table));
            Some((Arc::new(Object::new(key, head, body, born, place)), Some(room)))
        });
        if !matches!(opened, Some(Some(_))) {
            add(&self.counters.refused, 1);
        }
        opened.flatten()
    }

    /// An object with the body of `old` under a newer head, not yet in the index.
    pub(super) fn reopen(&self, old: &Arc<Object<M>>, head: Head<M>, born: u64) -> Option<Arc<Object<M>>> {
        let key = old.key();
        if self.purges.verdict(key.octets, &head.tags, born) == Some(Depth::Hard) {
            return None;
        }
        let place = self.reserve(Object::place_bytes(key.octets, &head))?;
        let object = Object::new((old.shared_key(), key.hash), head, Arc::clone(&old.body), born, place);
        object.inherit_reads(old);
        Some(Arc::new(object))
    }

    /// Puts an object into the index in place of the same variant, and takes the fetch that brought it out. One that was
    /// restored from disk gives way to a newer one that came meanwhile.
    pub(super) fn place(&self, object: &Arc<Object<M>>, fill: Option<&Arc<Fill<M>>>, is_restored: bool) {
        let placed = self.index.edit(object.key().hash, |bucket| {
            bucket.retain(
                |slot| !matches!((slot, fill), (Slot::Fill(other), Some(fill)) if Arc::ptr_eq(fill, other)),
            );
            let is_older = |slot: &Slot<M>| {
                let same = slot.same_variant(object);
                same.is_some_and(|other| other.body.id() > object.body.id())
            };
            let is_late = is_restored && bucket.iter().any(is_older);
            if !is_late {
                self.replace(bucket, object);
            }
            !is_late
        });
        // Any other is admitted when it is complete; until then it cannot be evicted.
        let body = &object.body;
        if placed == Some(true)
            && (body.is_divisible() || body.whole().is_some() || body.blocks_present() > 0)
        {
            self.admit_object(object);
        }
    }

    fn replace(&self, bucket: &mut Vec<Slot<M>>, object: &Arc<Object<M>>) {
        let (key, mut others) = (object.key(), 0);
        bucket.retain(|slot| {
            let Slot::Object(other) = slot else { return true };
            if !other.is_of(key) {
                return true;
            }
            others += 1;
            let stays = others < self.limits.variants_max && slot.same_variant(object).is_none();
            if !stays && self.retire(other) && other.body.id() != object.body.id() {
                self.forget_on_disk(other);
            }
            stays
        });
        bucket.insert(0, Slot::Object(Arc::clone(object)));
        add(&self.counters.objects, 1);
    }

    pub(super) fn unplace(&self, fill: &Arc<Fill<M>>) {
        let is_other = |slot: &Slot<M>| !matches!(slot, Slot::Fill(other) if Arc::ptr_eq(fill, other));
        self.index.edit(fill.hash(), |bucket| bucket.retain(is_other));
    }

    /// Takes an object out of the index; says whether it was there.
    pub fn remove(&self, object: &Arc<Object<M>>) -> bool {
        let is_other = |slot: &Slot<M>| !matches!(slot, Slot::Object(other) if Arc::ptr_eq(object, other));
        let was_live = self.retire(object);
        if was_live {
            self.index.edit(object.key().hash, |bucket| bucket.retain(is_other));
        }
        was_live
    }

    /// Takes an object out of memory and disk: it is not what the origin has.
    pub fn discard(&self, object: &Arc<Object<M>>) {
        self.remove(object);
        self.forget_on_disk(object);
    }

    /// Forgets a key that was changed at the origin through this cache (RFC 9111 §4.4): what is in memory and on disk, and
    /// what is on its way. It is in force when this returns; once the receiver says true, also after a SIGKILL. None:
    /// nothing of it is on disk.
    pub fn forget(&self, key: Key) -> Option<oneshot::Receiver<bool>> {
        self.changes.note(key.hash);
        let mut is_any = false;
        let bucket = self.index.read(key.hash);
        for slot in bucket.as_deref().into_iter().flat_map(Bucket::slots) {
            if let Slot::Object(object) = slot
                && object.is_of(key)
            {
                self.discard(object);
                is_any = true;
            }
        }
        self.forget_key_on_disk(key, is_any)
    }

    fn retire(&self, object: &Object<M>) -> bool {
        let was_live = object.retire();
        if was_live {
            self.counters.objects.fetch_sub(1, Ordering::Relaxed);
        }
        was_live
    }

    /// From now on the policy may evict it.
    pub(super) fn admit_object(&self, object: &Arc<Object<M>>) {
        let body = &object.body;
        let own = Object::place_bytes(object.key().octets, &object.head);
        let length = if body.is_divisible() { 0 } else { body.length().unwrap_or(0) };
        let unit = Unit::Object(Arc::downgrade(object));
        locked(&self.policy).insert(unit, object.key().hash, own + room_for(length));
    }

    /// A block has all its bytes.
    pub(super) fn keep_block(&self, object: &Arc<Object<M>>, block: u64, octets: Bytes) {
        let body = &object.body;
        if body.length().is_some_and(|length| length <= body.block_bytes()) {
            body.complete(octets);
            return;
        }
        let bytes = room_for(octets.len() as u64);
        if !body.is_divisible() {
            body.publish(block, octets);
        } else if body.publish(block, octets.clone()) {
            let unit = Unit::Block(Arc::downgrade(body), block);
            locked(&self.policy).insert(unit, mixed(object.key().hash, block), bytes);
            self.save_block(body, block, octets);
        }
    }

    /// Where a fetch that is needed up to `end` should end, for a body of `length`.
    pub(super) fn read_ahead(&self, end: u64, length: u64) -> u64 {
        let block_bytes = self.limits.block_bytes;
        let ahead = end.div_ceil(block_bytes).saturating_add(self.limits.read_ahead_blocks);
        ahead.saturating_mul(block_bytes).min(length)
    }
}
