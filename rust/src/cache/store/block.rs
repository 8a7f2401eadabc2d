//! One block on its way in: pieces are appended by one writer and read by any number of readers as they arrive.

use crate::cache::store::fill::Waiting;
use bytes::{Bytes, BytesMut};
use std::pin::pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// Neighbours are joined up to this size, so that a drip of small pieces does not become a long list.
const JOINED_BYTES_MAX: usize = 16 * 1_024;

/// How far a block is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Open,
    /// All is there; the pieces can still be read by who holds the fill.
    Done,
    Failed,
}

/// What a reader finds at its place in a block.
#[derive(Debug)]
pub enum Found {
    Bytes(Bytes),
    NotYet,
    Done,
    Failed,
}

struct Pieces {
    /// Each with the offset where it ends.
    parts: Vec<(u64, Bytes)>,
    end: End,
}

impl Pieces {
    fn length(&self) -> u64 {
        self.parts.last().map_or(0, |(end, _)| *end)
    }

    /// Joins the last two while they are small and about equal: each byte is copied at most a dozen times.
    fn join(&mut self) {
        while let [.., (_, before), (_, last)] = self.parts.as_slice() {
            if last.len() < before.len() || before.len() + last.len() > JOINED_BYTES_MAX {
                return;
            }
            let mut joined = BytesMut::with_capacity(before.len() + last.len());
            joined.extend_from_slice(before);
            joined.extend_from_slice(last);
            let end = self.length();
            self.parts.truncate(self.parts.len() - 2);
            self.parts.push((end, joined.freeze()));
        }
    }
}

/// A block on its way in.
pub struct BlockFill {
    pieces: Mutex<Pieces>,
    changed: Notify,
    waiting: AtomicU32,
}

impl Default for BlockFill {
    fn default() -> Self {
        let pieces = Mutex::new(Pieces { parts: Vec::new(), end: End::Open });
        Self { pieces, changed: Notify::new(), waiting: AtomicU32::new(0) }
    }
}

impl BlockFill {
    pub fn push(&self, piece: Bytes) {
        let mut pieces = self.lock();
        let end = pieces.length() + piece.len() as u64;
        pieces.parts.push((end, piece));
        pieces.join();
        drop(pieces);
        self.changed.notify_waiters();
    }

    /// What is there from `offset` on, as far as one piece goes.
    pub fn read(&self, offset: u64) -> Found {
        let pieces = self.lock();
        let at = pieces.parts.partition_point(|(end, _)| *end <= offset);
        if let Some((end, part)) = pieces.parts.get(at) {
            let skipped = part.len() as u64 - (end - offset);
            return Found::Bytes(part.slice(skipped as usize..));
        }
        match pieces.end {
            End::Open => Found::NotYet,
            End::Done => Found::Done,
            End::Failed => Found::Failed,
        }
    }

    /// All of it in one allocation.
    pub fn assembled(&self) -> Box<[u8]> {
        let pieces = self.lock();
        let mut whole = Vec::with_capacity(pieces.length() as usize);
        for (_, part) in &pieces.parts {
            whole.extend_from_slice(part);
        }
        whole.into()
    }

    /// Says how it ended and wakes everybody.
    pub fn finish(&self, end: End) {
        self.lock().end = end;
        self.changed.notify_waiters();
    }

    /// Whether somebody waits for it now.
    pub fn is_awaited(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    /// Returns when `offset` can be read, or the block has ended.
    pub async fn wait(&self, offset: u64) {
        let _counted = Waiting::new(&self.waiting);
        let mut changed = pin!(self.changed.notified());
        while matches!(self.read(offset), Found::NotYet) {
            // Whoever pushes between the look and the wait must find this waiter.
            changed.as_mut().enable();
            if matches!(self.read(offset), Found::NotYet) {
                changed.as_mut().await;
            }
            changed.set(self.changed.notified());
        }
    }

    fn lock(&self) -> MutexGuard<'_, Pieces> {
        self.pieces.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_of_any_size_are_read_back_from_any_offset() {
        let whole: Vec<u8> = (0..100_000_u32).map(|at| (at % 251) as u8).collect();
        for step in [1, 7, 1_000, 20_000, 100_000] {
            let fill = BlockFill::default();
            for piece in whole.chunks(step) {
                fill.push(Bytes::copy_from_slice(piece));
            }
            assert!(fill.lock().parts.len() <= 100_000 / JOINED_BYTES_MAX * 2 + 16, "step {step}");
            for offset in (0..whole.len()).step_by(997) {
                let Found::Bytes(bytes) = fill.read(offset as u64) else { panic!("nothing at {offset}") };
                assert_eq!(bytes, whole[offset..offset + bytes.len()]);
            }
            assert_eq!(*fill.assembled(), whole);
            assert!(matches!(fill.read(100_000), Found::NotYet));
            fill.finish(End::Done);
            assert!(matches!(fill.read(100_000), Found::Done));
        }
    }

    #[tokio::test]
    async fn waiters_wake_for_bytes_and_for_the_end() {
        let fill = std::sync::Arc::new(BlockFill::default());
        let reader = std::sync::Arc::clone(&fill);
        let reads = tokio::spawn(async move {
            reader.wait(0).await;
            assert!(matches!(reader.read(0), Found::Bytes(_)));
            reader.wait(1).await;
            matches!(reader.read(1), Found::Failed)
        });
        tokio::task::yield_now().await;
        fill.push(Bytes::from_static(b"x"));
        tokio::task::yield_now().await;
        fill.finish(End::Failed);
        assert!(reads.await.unwrap());
    }
}
