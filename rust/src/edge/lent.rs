//! Writing pieces of a body that can be had again: nobody's memory is held while a slow client takes nothing.

use crate::clock;
use crate::edge::answer::Flow;
use crate::edge::slow;
use crate::edge::wire::Wire;
use crate::gate::pace::Pace;
use crate::gate::why::{Refusals, Why};
use bytes::Bytes;
use std::cell::Cell;
use std::io::{ErrorKind, IoSlice, Result};
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
    (pace, refusals): (&Cell<Pace>, &Refusals),
) -> Result<&'h [u8]> {
    let written = wire.write_now(&[IoSlice::new(head), IoSlice::new(&piece)]).await?;
    let rest = (head.len() + piece.len()).saturating_sub(written);
    flow.give_back(rest.min(piece.len()));
    drop(piece);
    // Mostly the kernel takes all at once; then there is nothing to wait for.
    let wait = async { if rest > 0 { wire.writable().await } else { wire.flush().await } };
    let began = clock::moment();
    let ended = timeout(slow::patience(pace, idle), wait).await;
    let is_too_slow = slow::wait(pace, clock::moment().saturating_duration_since(began), written as u64);
    if ended.is_err() || is_too_slow {
        refusals.add(Why::SlowReader);
        return Err(ErrorKind::TimedOut.into());
    }
    ended??;
    Ok(head.get(written..).unwrap_or_default())
}
