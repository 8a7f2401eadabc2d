//! Writing pieces of a body that can be had again: nobody's memory is held while a slow client takes nothing.

use crate::edge::answer::Flow;
use crate::edge::wire::Wire;
use bytes::Bytes;
use std::io::{IoSlice, Result};
use std::time::Duration;
use tokio::time::timeout;

/// Writes what the client takes at once of `head` and the piece that `flow` has lent, and gives the rest back before it
/// waits until the client takes more. Returns what is left of `head`.
pub async fn write_lent<'h>(
    wire: &Wire,
    flow: &mut Flow,
    head: &'h [u8],
    piece: Bytes,
    idle: Duration,
) -> Result<&'h [u8]> {
    let written = wire.write_now(&[IoSlice::new(head), IoSlice::new(&piece)]).await?;
    let rest = (head.len() + piece.len()).saturating_sub(written);
    flow.give_back(rest.min(piece.len()));
    drop(piece);
    // Mostly the kernel takes all at once; then there is nothing to wait for.
    let wait = async { if rest > 0 { wire.writable().await } else { wire.flush().await } };
    timeout(idle, wait).await??;
    Ok(head.get(written..).unwrap_or_default())
}
