//! A part of what an upstream sends, for one client alone.

use crate::count::Reason;
use crate::edge::relay::Relay;
use bytes::{Buf, Bytes};

pub struct Cut {
    relay: Relay,
    skipped_bytes: u64,
    left_bytes: u64,
}

impl Cut {
    /// `bytes` of what the relay brings, after the first `skipped_bytes`.
    pub fn new(relay: Relay, skipped_bytes: u64, bytes: u64) -> Self {
        Self { relay, skipped_bytes, left_bytes: bytes }
    }

    pub fn relay(&self) -> &Relay {
        &self.relay
    }

    pub fn is_over(&self) -> bool {
        self.left_bytes == 0
    }

    /// The next piece as soon as there is one; None at the end. An error: the body is cut, and must not look whole.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Reason> {
        while self.left_bytes > 0 {
            let Some(mut piece) = self.relay.next().await? else { return Err(Reason::Truncated) };
            skip(&mut piece, &mut self.skipped_bytes);
            piece.truncate(usize::try_from(self.left_bytes).unwrap_or(usize::MAX));
            if piece.is_empty() {
                continue;
            }
            self.left_bytes -= piece.len() as u64;
            if self.is_over() && self.relay.is_over() {
                self.relay.finish();
            }
            return Ok(Some(piece));
        }
        Ok(None)
    }
}

/// Takes off the front of `piece` what is left to be skipped.
pub fn skip(piece: &mut Bytes, left_bytes: &mut u64) {
    let bytes = piece.len().min(usize::try_from(*left_bytes).unwrap_or(usize::MAX));
    piece.advance(bytes);
    *left_bytes -= bytes as u64;
}
