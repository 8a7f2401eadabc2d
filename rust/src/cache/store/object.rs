//! A stored response: what the cache's rules need to know of it, its head as it is sent, and its body.

use crate::cache::store::body::{Body, lower, raise};
use crate::cache::store::ledger::{Charge, allocated};
use crate::cache::store::policy::FREQUENCY_MAX;
use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};

/// What the store keeps for the cache's rules without reading it.
pub trait Meta: Send + Sync + Sized + 'static {
    /// Bytes on the heap, beside its own size.
    fn heap_bytes(&self) -> usize;
    /// Whether a newer response with `other` replaces this one under the same key (RFC 9111 §4.1).
    fn is_same_variant(&self, other: &Self) -> bool;
    /// For the disk.
    fn encode(&self, out: &mut Vec<u8>);
    fn decode(bytes: &[u8]) -> Option<Self>;
}

/// Which variant of a key a request is for.
pub trait Select<M> {
    fn matches(&mut self, meta: &M) -> bool;

    /// Fetches of one key that differ in this number do not wait for each other. Asked after all stored variants were
    /// shown to `matches`, so it can be a hash of the request's fields that their Vary names; 0 when nothing is known.
    fn lane(&self) -> u64 {
        0
    }
}

impl<M, F: FnMut(&M) -> bool> Select<M> for F {
    fn matches(&mut self, meta: &M) -> bool {
        self(meta)
    }
}

/// A key with the store's hash of it, made once per request by `Store::key`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key<'a> {
    pub octets: &'a [u8],
    pub hash: u64,
}

/// Everything but the body.
#[derive(Clone, Debug)]
pub struct Head<M> {
    pub meta: M,
    /// The head as it is sent, in an allocation of its own.
    pub wire: Bytes,
    /// `purge::tag_hash` of each surrogate key.
    pub tags: Box<[u64]>,
}

impl<M: Meta> Head<M> {
    /// Copies `wire`, so that no larger buffer stays alive behind it.
    pub fn new(meta: M, wire: &[u8], tags: &[u64]) -> Self {
        Self { meta, wire: Bytes::copy_from_slice(wire), tags: tags.into() }
    }

    fn heap_bytes(&self) -> u64 {
        allocated(self.meta.heap_bytes())
            + allocated(self.wire.len())
            + allocated(self.tags.len() * size_of::<u64>())
    }
}

/// The index's slot and its vectors, the policy's entry and ghost, the owner of the body's bytes, per object. Measured:
/// `tests::resident_memory_stays_within_the_budget`.
const PLACE_BYTES: u64 = 300;

/// A stored response. Shared and never changed but for its marks: a newer head makes a new object with the same body.
pub struct Object<M> {
    key: Arc<[u8]>,
    hash: u64,
    pub head: Head<M>,
    pub body: Arc<Body>,
    /// Epoch of purges in which its fetch began.
    born: u64,
    looked_at: AtomicU64,
    is_live: AtomicBool,
    is_stale: AtomicBool,
    reads: AtomicU8,
    _charge: Charge,
}

impl<M: Meta> Object<M> {
    /// The memory of an object without its body's bytes.
    pub fn place_bytes(key: &[u8], head: &Head<M>) -> u64 {
        let own = allocated(size_of::<Self>()) + allocated(size_of::<Body>());
        PLACE_BYTES + own + allocated(key.len()) + head.heap_bytes()
    }

    pub(super) fn new(
        key: (Arc<[u8]>, u64),
        head: Head<M>,
        body: Arc<Body>,
        born: u64,
        charge: Charge,
    ) -> Self {
        Self {
            key: key.0,
            hash: key.1,
            head,
            body,
            born,
            looked_at: AtomicU64::new(born),
            is_live: AtomicBool::new(true),
            is_stale: AtomicBool::new(false),
            reads: AtomicU8::new(0),
            _charge: charge,
        }
    }

    pub fn key(&self) -> Key<'_> {
        Key { octets: &self.key, hash: self.hash }
    }

    pub(super) fn shared_key(&self) -> Arc<[u8]> {
        Arc::clone(&self.key)
    }

    #[inline]
    pub fn is_of(&self, key: Key) -> bool {
        self.hash == key.hash && *self.key == *key.octets
    }

    /// False once it was evicted, replaced or removed: then it serves whom it serves already, and nobody else.
    #[inline]
    pub fn is_live(&self) -> bool {
        self.is_live.load(Ordering::Acquire)
    }

    /// Says whether it was live until now.
    pub(super) fn retire(&self) -> bool {
        self.is_live.swap(false, Ordering::AcqRel)
    }

    /// True after a soft purge: stale whatever its freshness says.
    #[inline]
    pub fn is_purged_softly(&self) -> bool {
        self.is_stale.load(Ordering::Relaxed)
    }

    pub(super) fn set_stale(&self) {
        self.is_stale.store(true, Ordering::Relaxed);
    }

    pub fn born(&self) -> u64 {
        self.born
    }

    /// The last epoch in which it was asked against the purges.
    #[inline]
    pub(super) fn looked_at(&self) -> u64 {
        self.looked_at.load(Ordering::Acquire)
    }

    pub(super) fn look(&self, epoch: u64) {
        self.looked_at.fetch_max(epoch, Ordering::AcqRel);
    }

    #[inline]
    pub(super) fn read(&self) {
        raise(&self.reads);
    }

    pub(super) fn is_read_often(&self) -> bool {
        self.reads.load(Ordering::Relaxed) > 1
    }

    pub(super) fn lower(&self) {
        lower(&self.reads);
    }

    pub(super) fn inherit_reads(&self, older: &Self) {
        self.reads.store(older.reads.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// For the policy: None once it is not live; as good as read while it still has blocks, which go first.
    pub(super) fn reads(&self) -> Option<u8> {
        if !self.is_live() {
            return None;
        }
        let has_blocks = self.body.is_divisible() && self.body.blocks_present() > 0;
        Some(if has_blocks { FREQUENCY_MAX } else { self.reads.load(Ordering::Relaxed) })
    }
}
