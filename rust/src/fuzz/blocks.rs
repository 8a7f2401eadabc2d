//! The index of blocks of a body: every byte of it lies in exactly one block, and a reader of any span gets that span.

use super::Input;
use crate::cache::store::block::{BlockFill, End, Found};
use crate::cache::store::body::{Body, Claim, Shape};
use crate::cache::store::ledger::Ledger;
use bytes::Bytes;
use std::sync::OnceLock;

/// What every body here is cut out of.
fn whole() -> &'static Bytes {
    static WHOLE: OnceLock<Bytes> = OnceLock::new();
    WHOLE.get_or_init(|| (0..8_192_u32).map(|at| (at * 7 + at / 251) as u8).collect())
}

/// The sizes of a block and of a body, then orders: publish, give up, take out, read.
pub fn blocks(bytes: &[u8]) {
    let mut input = Input(bytes);
    let block_bytes = input.below(64) + 1;
    let length = (input.word() >> 51).min(whole().len() as u64);
    check_pieces(input.0);
    if length <= block_bytes {
        return;
    }
    let shape = Shape { length: Some(length), is_divisible: true };
    let body = Body::new(1, shape, length, block_bytes, Ledger::new(1 << 20).count(0));
    let blocks = length.div_ceil(block_bytes);
    assert_eq!((0..blocks).map(|block| body.bytes_of(block)).sum::<u64>(), length);
    assert!((0..blocks).all(|block| body.bytes_of(block) > 0) && body.bytes_of(blocks) == 0);
    let mut is_there = vec![false; blocks as usize];
    for _ in 0..input.0.len().min(64) {
        let (order, block) = (input.below(4), input.word() >> 48);
        let block = if order == 3 { block } else { block % blocks };
        obey(&body, order, block, &mut is_there);
    }
    assert_eq!(body.blocks_present() as usize, is_there.iter().filter(|there| **there).count());
}

fn obey(body: &Body, order: u64, block: u64, is_there: &mut [bool]) {
    let known = is_there.get(block as usize).copied();
    assert_eq!(body.has_block(block), known.unwrap_or(false));
    match (order, known) {
        (0 | 1, Some(was_there)) => match body.claim(block) {
            Claim::Present => {
                assert!(was_there && body.evict(block) && !body.evict(block));
                is_there.iter_mut().skip(block as usize).take(1).for_each(|there| *there = false);
            }
            Claim::Theirs(_) => assert!(!was_there),
            Claim::Ours(fill) => {
                assert!(!was_there);
                if order == 0 {
                    assert!(body.publish(block, octets(body, block)));
                    is_there.iter_mut().skip(block as usize).take(1).for_each(|there| *there = true);
                }
                body.unclaim(block, &fill, if order == 0 { End::Done } else { End::Failed });
                assert!(matches!(fill.read(0), Found::Done | Found::Failed));
            }
        },
        (_, Some(true)) => assert_eq!(body.block(block), Some(octets(body, block))),
        _ => assert_eq!(body.block(block), None),
    }
}

/// The bytes of that block and of no other.
fn octets(body: &Body, block: u64) -> Bytes {
    let from = (block * body.block_bytes()) as usize;
    whole().slice(from..from + body.bytes_of(block) as usize)
}

/// Pieces that were pushed are read back from any place, and together.
fn check_pieces(bytes: &[u8]) {
    let (fill, mut pushed) = (BlockFill::default(), Vec::new());
    let mut input = Input(bytes);
    for _ in 0..32 {
        let wanted = usize::from(input.byte());
        let piece = input.take(wanted);
        if piece.is_empty() {
            break;
        }
        fill.push(Bytes::copy_from_slice(piece));
        pushed.extend_from_slice(piece);
        let at = wanted * 7 % pushed.len();
        let Found::Bytes(found) = fill.read(at as u64) else { return assert!(pushed.is_empty()) };
        assert!(!found.is_empty() && pushed.get(at..).is_some_and(|rest| rest.starts_with(&found)));
    }
    assert_eq!(*fill.assembled(), *pushed);
    assert!(matches!(fill.read(pushed.len() as u64), Found::NotYet));
}
