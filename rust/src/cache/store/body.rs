//! The body of an object: whole when it fits into one block, else in blocks that may be present or not.
//!
//! | a block is | `block` | `fills` | then |
//! |---|---|---|---|
//! | vacant | None | absent | who needs it claims it |
//! | on its way | None | present | read the pieces, wait |
//! | present | Some | absent | read it, without a lock |

use crate::cache::store::block::{BlockFill, End};
use crate::cache::store::ledger::{Charge, allocated};
use crate::cache::store::policy::FREQUENCY_MAX;
use arc_swap::ArcSwapOption;
use bytes::Bytes;
use rustc_hash::FxHashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// Blocks of one page of the table of blocks; a page exists once one of its blocks does.
const PAGE_BLOCKS: u64 = 64;
const LENGTH_UNKNOWN: u64 = u64::MAX;

/// A block that is present.
pub struct Block {
    pub octets: Bytes,
    pub reads: AtomicU8,
}

type Page = Box<[ArcSwapOption<Block>]>;

/// Size and kind of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// None = not known before its end.
    pub length: Option<u64>,
    /// Whether a block can be fetched by itself later: the length is known and a strong validator says that it is still
    /// the same body. If not, all blocks come from one answer and go together.
    pub is_divisible: bool,
}

/// Whose a block became when it was asked for.
pub enum Claim {
    Ours(Arc<BlockFill>),
    Theirs(Arc<BlockFill>),
    Present,
}

/// The body.
pub struct Body {
    id: u64,
    block_bytes: u64,
    length: AtomicU64,
    is_divisible: bool,
    is_broken: AtomicBool,
    whole: OnceLock<Bytes>,
    pages: Box<[OnceLock<Page>]>,
    fills: Mutex<FxHashMap<u64, Arc<BlockFill>>>,
    present: AtomicU32,
    _charge: Charge,
}

impl Body {
    /// The bytes that the table of blocks takes for a body of at most `bytes_max`.
    pub fn table_bytes(bytes_max: u64, block_bytes: u64) -> u64 {
        let pages = if bytes_max <= block_bytes { 0 } else { pages_of(bytes_max, block_bytes) };
        allocated(pages as usize * size_of::<OnceLock<Page>>())
    }

    /// `bytes_max` is the length, or where a body without one is given up.
    pub fn new(id: u64, shape: Shape, bytes_max: u64, block_bytes: u64, charge: Charge) -> Self {
        let pages = if bytes_max <= block_bytes { 0 } else { pages_of(bytes_max, block_bytes) };
        Self {
            id,
            block_bytes,
            length: AtomicU64::new(shape.length.unwrap_or(LENGTH_UNKNOWN)),
            is_divisible: shape.is_divisible && shape.length.is_some_and(|length| length > block_bytes),
            is_broken: AtomicBool::new(false),
            whole: OnceLock::new(),
            pages: (0..pages).map(|_| OnceLock::new()).collect(),
            fills: Mutex::default(),
            present: AtomicU32::new(0),
            _charge: charge,
        }
    }

    /// Names this body on disk, over restarts.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// None while it is not known.
    pub fn length(&self) -> Option<u64> {
        Some(self.length.load(Ordering::Acquire)).filter(|length| *length != LENGTH_UNKNOWN)
    }

    pub fn block_bytes(&self) -> u64 {
        self.block_bytes
    }

    pub fn is_divisible(&self) -> bool {
        self.is_divisible
    }

    /// True when its only fetch failed: what is missing will never come.
    pub fn is_broken(&self) -> bool {
        self.is_broken.load(Ordering::Acquire)
    }

    /// The body in one piece, when it is complete and fits into one block.
    #[inline]
    pub fn whole(&self) -> Option<&Bytes> {
        self.whole.get()
    }

    /// How many bytes the block at that index has, as far as the length is known.
    pub fn bytes_of(&self, block: u64) -> u64 {
        let start = block.saturating_mul(self.block_bytes);
        self.length.load(Ordering::Acquire).saturating_sub(start).min(self.block_bytes)
    }

    /// A block that is present; counts as a read.
    pub fn block(&self, block: u64) -> Option<Bytes> {
        let present = self.slot(block)?.load();
        let present = present.as_ref()?;
        raise(&present.reads);
        Some(present.octets.clone())
    }

    pub fn has_block(&self, block: u64) -> bool {
        self.slot(block).is_some_and(|slot| slot.load().is_some())
    }

    /// Blocks that are present, for a body of several.
    pub fn blocks_present(&self) -> u32 {
        self.present.load(Ordering::Relaxed)
    }

    pub fn fill_of(&self, block: u64) -> Option<Arc<BlockFill>> {
        self.lock().get(&block).cloned()
    }

    /// Takes a vacant block for the caller to fill.
    pub fn claim(&self, block: u64) -> Claim {
        let mut fills = self.lock();
        // Under the lock: `publish` stores a block before it takes its fill out.
        if self.has_block(block) || self.whole.get().is_some() {
            return Claim::Present;
        }
        match fills.entry(block) {
            Entry::Occupied(theirs) => Claim::Theirs(Arc::clone(theirs.get())),
            Entry::Vacant(vacant) => Claim::Ours(Arc::clone(vacant.insert(Arc::default()))),
        }
    }

    /// Ends a fill that was claimed.
    pub fn unclaim(&self, block: u64, fill: &BlockFill, end: End) {
        let mut fills = self.lock();
        fills.remove(&block);
        if fills.is_empty() {
            // A body that is complete keeps no room for what it waited for.
            *fills = FxHashMap::default();
        }
        drop(fills);
        fill.finish(end);
    }

    /// A body of one block has all its bytes.
    pub fn complete(&self, octets: Bytes) {
        self.length.store(octets.len() as u64, Ordering::Release);
        let _ = self.whole.set(octets);
    }

    /// The end of a body whose length was not known.
    pub fn set_length(&self, length: u64) {
        self.length.store(length, Ordering::Release);
    }

    /// False when that block cannot be kept, or is there already.
    pub fn publish(&self, block: u64, octets: Bytes) -> bool {
        let Some(page) = self.pages.get((block / PAGE_BLOCKS) as usize) else { return false };
        let page = page.get_or_init(|| (0..PAGE_BLOCKS).map(|_| ArcSwapOption::empty()).collect());
        let Some(slot) = page.get((block % PAGE_BLOCKS) as usize) else { return false };
        let present = Arc::new(Block { octets, reads: AtomicU8::new(0) });
        let before = slot.swap(Some(present));
        if before.is_none() {
            self.present.fetch_add(1, Ordering::Relaxed);
        }
        before.is_none()
    }

    /// Takes a block out; it stays readable for who holds its bytes.
    pub fn evict(&self, block: u64) -> bool {
        let gone = self.slot(block).is_some_and(|slot| slot.swap(None).is_some());
        if gone {
            self.present.fetch_sub(1, Ordering::Relaxed);
        }
        gone
    }

    /// Gives up what is not there.
    pub fn break_off(&self) {
        self.is_broken.store(true, Ordering::Release);
    }

    /// Reads of a block since the last look; None = it is not present.
    pub fn reads_of(&self, block: u64) -> Option<u8> {
        self.slot(block)?.load().as_ref().map(|present| present.reads.load(Ordering::Relaxed))
    }

    pub fn lower_reads_of(&self, block: u64) {
        if let Some(present) = self.slot(block).and_then(|slot| slot.load_full()) {
            lower(&present.reads);
        }
    }

    fn slot(&self, block: u64) -> Option<&ArcSwapOption<Block>> {
        self.pages.get((block / PAGE_BLOCKS) as usize)?.get()?.get((block % PAGE_BLOCKS) as usize)
    }

    fn lock(&self) -> MutexGuard<'_, FxHashMap<u64, Arc<BlockFill>>> {
        self.fills.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn pages_of(bytes: u64, block_bytes: u64) -> u64 {
    bytes.div_ceil(block_bytes).div_ceil(PAGE_BLOCKS)
}

/// One read more. Above the limit nothing is written, so what everybody reads is shared by all cores' caches.
#[inline]
pub fn raise(reads: &AtomicU8) {
    let before = reads.load(Ordering::Relaxed);
    if before < FREQUENCY_MAX {
        reads.store(before + 1, Ordering::Relaxed);
    }
}

pub fn lower(reads: &AtomicU8) {
    let before = reads.load(Ordering::Relaxed);
    reads.store(before.saturating_sub(1), Ordering::Relaxed);
}
