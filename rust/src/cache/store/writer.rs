//! Appends to the body of an object, block by block. The bytes can be read as soon as they are pushed.

use crate::cache::store::Store;
use crate::cache::store::block::{BlockFill, End};
use crate::cache::store::body::{Body, Claim};
use crate::cache::store::fill::Span;
use crate::cache::store::ledger::{Charge, allocated, paid};
use crate::cache::store::object::{Meta, Object};
use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::Arc;

/// How far ahead of itself a writer claims blocks: who needs one of these waits for it, who needs one further on fetches
/// that one for itself.
const CLAIMED_AHEAD: u64 = 16;
/// The table of blocks, the block itself and its place in the policy.
const BLOCK_PLACE_BYTES: u64 = 200;

/// What a block of that length takes of the budget.
pub(super) fn room_for(block_bytes: u64) -> u64 {
    allocated(block_bytes as usize) + BLOCK_PLACE_BYTES
}

/// Why a writer takes no more. Drop it; what was complete stays if it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// No memory is left.
    NoRoom,
    /// More bytes than the length said.
    TooLong,
    /// Fewer bytes than the length said.
    TooShort,
}

struct Claimed {
    block: u64,
    fill: Arc<BlockFill>,
}

/// The filling side of a body. Dropped before `finish`, it fails: a body that can be divided keeps its complete blocks and
/// leaves the others to whoever needs them; another object is removed, and its readers find it broken.
pub struct Writer<M: Meta> {
    store: Arc<Store<M>>,
    object: Arc<Object<M>>,
    at: u64,
    end: Option<u64>,
    claimed: VecDeque<Claimed>,
    next_claim: u64,
    room: Option<Charge>,
    is_over: bool,
}

impl<M: Meta> Writer<M> {
    pub(super) fn new(
        store: &Arc<Store<M>>,
        object: &Arc<Object<M>>,
        span: Span,
        room: Option<Charge>,
    ) -> Self {
        let body = &object.body;
        let end = match (span.to, body.length()) {
            (Some(to), Some(length)) => Some(to.min(length)),
            (to, length) => to.or(length),
        };
        let mut writer = Self {
            store: Arc::clone(store),
            object: Arc::clone(object),
            at: span.from,
            end,
            claimed: VecDeque::new(),
            next_claim: span.from / body.block_bytes(),
            room,
            is_over: false,
        };
        writer.claim_ahead();
        writer
    }

    /// Claims a run of vacant blocks from `block` on, as far as `to` or the first that is not vacant. None when the first
    /// is not vacant.
    pub(super) fn of_run(
        store: &Arc<Store<M>>,
        object: &Arc<Object<M>>,
        block: u64,
        to: u64,
    ) -> Option<Self> {
        let body = &object.body;
        let block_bytes = body.block_bytes();
        // A run is wholly from the disk, and then one block, or wholly from the origin.
        let is_on_disk = store.is_on_disk(body, block);
        let last = if is_on_disk { block + 1 } else { to.div_ceil(block_bytes).min(block + CLAIMED_AHEAD) };
        let mut claimed = VecDeque::new();
        for next in block..last {
            match body.claim(next) {
                Claim::Ours(fill) => claimed.push_back(Claimed { block: next, fill }),
                Claim::Theirs(_) | Claim::Present => break,
            }
            if store.is_on_disk(body, next + 1) {
                break;
            }
        }
        let next_claim = claimed.back()?.block + 1;
        let end = body.length()?.min(next_claim * block_bytes);
        Some(Self {
            store: Arc::clone(store),
            object: Arc::clone(object),
            at: block * block_bytes,
            end: Some(end),
            claimed,
            next_claim,
            room: None,
            is_over: false,
        })
    }

    pub fn object(&self) -> &Arc<Object<M>> {
        &self.object
    }

    pub fn store(&self) -> &Arc<Store<M>> {
        &self.store
    }

    /// Where the next byte goes, and the end of what this writer is to bring; None while that is not known.
    pub fn range(&self) -> (u64, Option<u64>) {
        (self.at, self.end)
    }

    /// Whether somebody waits for what this writer is to bring.
    pub fn is_awaited(&self) -> bool {
        self.claimed.iter().any(|claimed| claimed.fill.is_awaited())
    }

    /// How far ahead of its place others wait for this writer.
    pub fn reach_bytes(&self) -> u64 {
        (CLAIMED_AHEAD + 1) * self.object.body.block_bytes()
    }

    /// Makes sure that there is room for the block that comes next.
    pub(super) fn make_room(&mut self) -> Result<(), Stop> {
        if self.room.is_none() {
            let body = &self.object.body;
            let bytes = room_for(body.bytes_of(self.at / body.block_bytes()));
            self.room = Some(self.store.reserve(bytes).ok_or(Stop::NoRoom)?);
        }
        Ok(())
    }

    /// Appends. Small pieces of large buffers should be copied first: the whole buffer lives until the block is complete.
    pub fn push(&mut self, mut piece: Bytes) -> Result<(), Stop> {
        while !piece.is_empty() {
            let block_bytes = self.object.body.block_bytes();
            let block = self.at / block_bytes;
            let block_end = (block + 1) * block_bytes;
            let until = self.end.map_or(block_end, |end| end.min(block_end));
            if until <= self.at {
                return Err(Stop::TooLong);
            }
            let taken = (until - self.at).min(piece.len() as u64);
            let part = piece.split_to(taken as usize);
            self.put(block, part)?;
            self.at += taken;
            if self.at == block_end {
                self.close_block(block, block_bytes);
            }
        }
        Ok(())
    }

    /// Says that all bytes were pushed.
    pub fn finish(mut self) -> Result<Arc<Object<M>>, Stop> {
        if self.end.is_some_and(|end| self.at < end) {
            return Err(Stop::TooShort);
        }
        let body = Arc::clone(&self.object.body);
        let block_bytes = body.block_bytes();
        let length = body.length().unwrap_or(self.at);
        if length != self.at && !body.is_divisible() {
            return Err(Stop::TooShort);
        }
        body.set_length(length);
        let (block, partial) = (self.at / block_bytes, self.at % block_bytes);
        if length == self.at && (partial > 0 || length == 0) {
            self.close_block(block, partial);
        } else if let Some(octets) = body.block(0).filter(|_| length == block_bytes) {
            body.complete(octets); // Its length was not known when its only block was complete.
        }
        self.is_over = true;
        self.let_go(End::Done);
        if !self.object.body.is_divisible() {
            self.store.admit_object(&self.object);
            self.store.save_all(&self.object);
        }
        Ok(Arc::clone(&self.object))
    }

    fn put(&mut self, block: u64, part: Bytes) -> Result<(), Stop> {
        if self.claimed.front().is_none_or(|first| first.block != block) {
            return Ok(()); // It is there already, or another brings it.
        }
        if self.end.is_none() && self.at >= self.store.ledger.budget_bytes() / 4 {
            return Err(Stop::NoRoom);
        }
        self.make_room()?;
        if let Some(first) = self.claimed.front() {
            first.fill.push(part);
        }
        Ok(())
    }

    /// The block has its last byte: it becomes one allocation.
    fn close_block(&mut self, block: u64, bytes: u64) {
        self.claim_ahead();
        if self.claimed.front().is_none_or(|first| first.block != block) {
            return;
        }
        let Some(done) = self.claimed.pop_front() else { return };
        let octets = done.fill.assembled();
        debug_assert_eq!(octets.len() as u64, bytes);
        let mut room = self.room.take().unwrap_or_else(|| self.store.ledger.count(0));
        room.shrink(room_for(octets.len() as u64));
        self.store.keep_block(&self.object, block, paid(octets, room));
        self.object.body.unclaim(block, &done.fill, End::Done);
    }

    /// Always at least one more than the block that is being filled, so that who reads along never finds a gap.
    fn claim_ahead(&mut self) {
        let body = &self.object.body;
        let first = self.at / body.block_bytes();
        let end = self.end.map_or(u64::MAX, |end| end.div_ceil(body.block_bytes()).max(1));
        let upto = end.min(first + CLAIMED_AHEAD + 1);
        while self.next_claim < upto {
            if let Claim::Ours(fill) = body.claim(self.next_claim) {
                self.claimed.push_back(Claimed { block: self.next_claim, fill });
            }
            self.next_claim += 1;
        }
    }

    fn let_go(&mut self, end: End) {
        for claimed in self.claimed.drain(..) {
            self.object.body.unclaim(claimed.block, &claimed.fill, end);
        }
    }
}

impl<M: Meta> Drop for Writer<M> {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        let body: &Body = &self.object.body;
        if !body.is_divisible() {
            body.break_off();
            self.store.remove(&self.object);
        }
        self.let_go(End::Failed);
    }
}
