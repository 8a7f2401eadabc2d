//! Waiting for a client that takes an answer: for as long as it takes something, and enough of it.

use crate::clock;
use crate::edge::wire::Wire;
use crate::gate::pace::Pace;
use crate::gate::why::{Refusals, Why};
use std::cell::Cell;
use std::future::Future;
use std::io::{ErrorKind, Result};
use std::pin::pin;
use std::time::Duration;
use tokio::time::timeout;

/// The end of a write that did not end at once; an error too if the client takes nothing for as long as `idle`, or too
/// little over its window.
pub async fn finish(
    wire: &Wire,
    write: impl Future<Output = Result<()>>,
    idle: Duration,
    pace: &Cell<Pace>,
    refusals: &Refusals,
) -> Result<()> {
    let mut write = pin!(write);
    loop {
        let patience = pace.get().left_ms().map_or(idle, |left_ms| idle.min(Duration::from_millis(left_ms)));
        let (began, before) = (clock::moment(), wire.written_bytes());
        let ended = timeout(patience, write.as_mut()).await;
        let taken = wire.written_bytes().wrapping_sub(before);
        let is_too_slow = wait(pace, clock::moment().saturating_duration_since(began), taken);
        match ended {
            Ok(written) => return written,
            Err(_) if taken > 0 && !is_too_slow => {}
            Err(_) => {
                refusals.add(Why::SlowReader);
                return Err(ErrorKind::TimedOut.into());
            }
        }
    }
}

/// Adds a wait to the pace; whether the client is too slow by now.
pub fn wait(pace: &Cell<Pace>, waited: Duration, bytes: u64) -> bool {
    let mut newer = pace.get();
    newer.waited(u64::try_from(waited.as_millis()).unwrap_or(u64::MAX), bytes);
    pace.set(newer);
    newer.is_too_slow()
}
