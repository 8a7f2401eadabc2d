//! Lets bytes go on only once they are known to be right: block by block where blocks have digests, else all of a small
//! body at once, and of a large one all but its end.
//!
//! | digests | what waits | when it is wrong |
//! |---|---|---|
//! | of blocks | the block that is coming | that block is asked for elsewhere |
//! | of the whole, short | all of it | all of it is asked for elsewhere |
//! | of the whole, long or of unknown length | the last `TAIL_BYTES` | the body is cut, so that it cannot look whole |

use crate::reflex::digest::{Digest, Pinned};
use crate::reflex::identity::Stretch;
use bytes::Bytes;
use ring::digest::{Context, SHA256};
use std::collections::VecDeque;
use std::sync::Arc;

/// What is held back of a body that is too long to be held whole.
const TAIL_BYTES: u64 = 64 * 1024;

/// The bytes are not the right ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// None of the wrong ones went on: from `at` on they can be asked for elsewhere.
    Again,
    /// Some did.
    Cut,
}

/// What is known of the bytes.
enum Known {
    Blocks { pinned: Pinned, context: Context },
    Whole { wanted: Digest, context: Context, holds_all: bool },
}

/// One body on its way, its wrong bytes kept from going on.
pub struct Check {
    known: Known,
    stretch: Stretch,
    /// The next byte that is to come, counted in the whole.
    at: u64,
    /// The first byte that is held.
    held_from: u64,
    held: VecDeque<Bytes>,
    ready: VecDeque<Bytes>,
}

impl Check {
    /// None when nothing is known of these bytes. `hold_bytes` is the longest body that waits for its digest whole.
    pub fn new(
        pinned: Option<&Pinned>,
        told: Option<Digest>,
        stretch: Stretch,
        hold_bytes: u64,
    ) -> Option<Self> {
        let is_whole = stretch.first == 0 && stretch.end == pinned.and_then(|pinned| pinned.bytes);
        let of_blocks = pinned.filter(|pinned| !pinned.blocks.is_empty() && pinned.block_bytes > 0);
        let of_whole = pinned.and_then(|pinned| pinned.whole).filter(|_| is_whole || stretch.first == 0);
        let known = if let Some(pinned) = of_blocks {
            Known::Blocks { pinned: pinned.clone(), context: Context::new(&SHA256) }
        } else {
            let wanted = of_whole.map(Digest::Sha256).or(told)?;
            let holds_all = stretch.end.is_some_and(|end| end - stretch.first <= hold_bytes);
            Known::Whole { wanted, context: wanted.context(), holds_all }
        };
        let (at, held_from) = (stretch.first, stretch.first);
        Some(Self { known, stretch, at, held_from, held: VecDeque::new(), ready: VecDeque::new() })
    }

    /// Where the next byte is to come from, counted in the whole.
    pub fn at(&self) -> u64 {
        self.at
    }

    /// What may go on.
    pub fn take(&mut self) -> Option<Bytes> {
        self.ready.pop_front()
    }

    /// Whether something may go on.
    pub fn is_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    pub fn push(&mut self, mut piece: Bytes) -> Result<(), Wrong> {
        while !piece.is_empty() {
            let part = self.part_of(&mut piece);
            self.at += part.len() as u64;
            match &mut self.known {
                Known::Blocks { context, .. } | Known::Whole { context, .. } => context.update(&part),
            }
            self.held.push_back(part);
            match self.known {
                Known::Blocks { .. } => self.end_block()?,
                Known::Whole { holds_all: false, .. } => self.let_go_of_all_but_the_tail(),
                Known::Whole { .. } => {}
            }
        }
        Ok(())
    }

    /// The body has ended.
    pub fn finish(&mut self) -> Result<(), Wrong> {
        if let Known::Whole { wanted, context, holds_all } = &mut self.known {
            let context = std::mem::replace(context, wanted.context());
            if !wanted.is(context) {
                let is_kept = *holds_all;
                return if is_kept { self.again(self.stretch.first) } else { Err(Wrong::Cut) };
            }
        }
        // A last block that is only a part of one cannot be told right from wrong.
        self.let_go();
        Ok(())
    }

    /// The front of the piece, as far as the block goes.
    fn part_of(&self, piece: &mut Bytes) -> Bytes {
        let Known::Blocks { pinned, .. } = &self.known else { return std::mem::take(piece) };
        let left = pinned.block_bytes - self.at % pinned.block_bytes;
        let length = usize::try_from(left).unwrap_or(usize::MAX).min(piece.len());
        piece.split_to(length)
    }

    /// At the end of a block: right, and it goes on; or wrong.
    fn end_block(&mut self) -> Result<(), Wrong> {
        let Known::Blocks { pinned, context } = &mut self.known else { return Ok(()) };
        let is_last = pinned.bytes == Some(self.at);
        if self.at % pinned.block_bytes != 0 && !is_last {
            return Ok(());
        }
        let block = (self.at - 1) / pinned.block_bytes;
        let context = std::mem::replace(context, Context::new(&SHA256));
        let is_from_its_start = self.held_from == block * pinned.block_bytes;
        let wanted = usize::try_from(block).ok().and_then(|block| pinned.blocks.get(block)).copied();
        match wanted {
            Some(wanted) if is_from_its_start && !Digest::Sha256(wanted).is(context) => {
                self.again(self.held_from)
            }
            // More than the manifest knows of is not the object.
            None => self.again(self.held_from),
            // Of a block that began before this stretch nothing can be said.
            Some(_) => {
                self.let_go();
                Ok(())
            }
        }
    }

    fn let_go(&mut self) {
        self.ready.append(&mut self.held);
        self.held_from = self.at;
    }

    fn let_go_of_all_but_the_tail(&mut self) {
        while let Some(first) = self.held.front() {
            let rest = self.at - self.held_from - first.len() as u64;
            if rest < TAIL_BYTES {
                return;
            }
            self.held_from += first.len() as u64;
            self.ready.extend(self.held.pop_front());
        }
    }

    fn again(&mut self, from: u64) -> Result<(), Wrong> {
        self.held.clear();
        (self.at, self.held_from) = (from, from);
        Err(Wrong::Again)
    }
}

/// Digests of the blocks of a body, as a manifest has them.
pub fn blocks_of(body: &[u8], block_bytes: usize) -> Arc<[[u8; 32]]> {
    let digest = |block: &[u8]| {
        let mut octets = [0; 32];
        octets.copy_from_slice(ring::digest::digest(&SHA256, block).as_ref());
        octets
    };
    body.chunks(block_bytes.max(1)).map(digest).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: u64 = 1_000;

    fn body(length: usize) -> Vec<u8> {
        (0..length).map(|at| (at * 7 + at / 251) as u8).collect()
    }

    fn whole(length: u64) -> Stretch {
        Stretch { first: 0, end: Some(length) }
    }

    fn pinned_blocks(body: &[u8]) -> Pinned {
        let blocks = blocks_of(body, BLOCK as usize);
        Pinned { bytes: Some(body.len() as u64), whole: None, blocks, block_bytes: BLOCK }
    }

    fn pinned_whole(body: &[u8]) -> Pinned {
        Pinned {
            bytes: Some(body.len() as u64),
            whole: Some(blocks_of(body, body.len())[0]),
            ..Pinned::default()
        }
    }

    fn taken(check: &mut Check) -> Vec<u8> {
        std::iter::from_fn(|| check.take()).flatten().collect()
    }

    #[test]
    fn every_right_byte_goes_on_whatever_the_pieces() {
        let body = body(4_321);
        for pinned in [pinned_blocks(&body), pinned_whole(&body)] {
            for size in [1, 7, 999, 1_000, 1_001, 5_000] {
                let mut check = Check::new(Some(&pinned), None, whole(4_321), 10_000).unwrap();
                let mut out = Vec::new();
                for piece in body.chunks(size) {
                    check.push(Bytes::copy_from_slice(piece)).unwrap();
                    out.extend(taken(&mut check));
                }
                check.finish().unwrap();
                out.extend(taken(&mut check));
                assert!(out == body, "pieces of {size}");
            }
        }
    }

    #[test]
    fn a_wrong_block_stays_here_and_is_asked_for_from_its_start() {
        let right = body(4_321);
        for at in [0, 999, 1_000, 2_500, 4_320] {
            let mut wrong = right.clone();
            wrong[at] ^= 1;
            let mut check = Check::new(Some(&pinned_blocks(&right)), None, whole(4_321), 0).unwrap();
            let block = at as u64 / BLOCK * BLOCK;
            let pushed = wrong.chunks(300).try_for_each(|piece| check.push(Bytes::copy_from_slice(piece)));
            assert_eq!((pushed, check.at()), (Err(Wrong::Again), block), "byte {at}");
            let mut out = taken(&mut check);
            assert_eq!(out.len() as u64, block);
            check.push(Bytes::copy_from_slice(&right[check.at() as usize..])).unwrap();
            check.finish().unwrap();
            out.extend(taken(&mut check));
            assert!(out == right);
        }
    }

    #[test]
    fn a_body_longer_than_its_manifest_does_not_go_on() {
        let right = body(2_000);
        let mut check =
            Check::new(Some(&pinned_blocks(&right)), None, Stretch { first: 0, end: None }, 0).unwrap();
        check.push(Bytes::from(right)).unwrap();
        assert_eq!(check.push(Bytes::from(vec![0; 1_000])), Err(Wrong::Again));
        assert_eq!(taken(&mut check).len(), 2_000);
    }

    #[test]
    fn a_stretch_passes_its_partial_blocks_and_checks_the_whole_ones() {
        let right = body(4_321);
        let stretch = Stretch { first: 500, end: Some(3_500) };
        let mut check = Check::new(Some(&pinned_blocks(&right)), None, stretch, 0).unwrap();
        check.push(Bytes::copy_from_slice(&right[500..3_500])).unwrap();
        check.finish().unwrap();
        assert!(taken(&mut check) == right[500..3_500]);
        let mut wrong = right.clone();
        wrong[1_500] ^= 1;
        let mut check = Check::new(Some(&pinned_blocks(&right)), None, stretch, 0).unwrap();
        assert_eq!(check.push(Bytes::copy_from_slice(&wrong[500..3_500])), Err(Wrong::Again));
        assert_eq!((check.at(), taken(&mut check).len()), (1_000, 500));
    }

    #[test]
    fn a_short_body_with_a_wrong_digest_is_asked_for_again_whole() {
        let right = body(4_321);
        let mut wrong = right.clone();
        wrong[4_320] ^= 1;
        let mut check = Check::new(Some(&pinned_whole(&right)), None, whole(4_321), 4_321).unwrap();
        check.push(Bytes::from(wrong)).unwrap();
        assert_eq!((check.finish(), check.at(), check.take()), (Err(Wrong::Again), 0, None));
        check.push(Bytes::from(right.clone())).unwrap();
        check.finish().unwrap();
        assert!(taken(&mut check) == right);
    }

    #[test]
    fn a_long_body_keeps_its_end_until_the_digest_is_right() {
        let right = body(300_000);
        let pinned = pinned_whole(&right);
        let mut wrong = right.clone();
        wrong[5] ^= 1;
        for (sent, ended) in [(&right, Ok(())), (&wrong, Err(Wrong::Cut))] {
            let mut check = Check::new(Some(&pinned), None, whole(300_000), 4_000).unwrap();
            let mut out = Vec::new();
            for piece in sent.chunks(10_000) {
                check.push(Bytes::copy_from_slice(piece)).unwrap();
                out.extend(taken(&mut check));
            }
            assert!(out.len() as u64 <= 300_000 - TAIL_BYTES && !out.is_empty());
            assert_eq!(check.finish(), ended);
            out.extend(taken(&mut check));
            assert_eq!(out.len() == right.len(), ended.is_ok());
        }
    }

    #[test]
    fn bytes_of_which_nothing_is_known_need_no_check() {
        assert!(Check::new(None, None, whole(10), 100).is_none());
        let later = Stretch { first: 5, end: Some(10) };
        assert!(Check::new(Some(&pinned_whole(&body(10))), None, later, 100).is_none());
    }
}
