//! Waiting for a client that takes an answer: for as long as it takes something, and enough of it.

use crate::clock;
use crate::edge::wire::Wire;
use crate::gate::pace::Pace;
use crate::gate::why::{Refusals, Why};
use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::io::{ErrorKind, Result};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

/// The end of a write; an error too if the client takes nothing for as long as `idle`, or too little over its window.
pub async fn finish(
    wire: &Wire,
    write: impl Future<Output = Result<()>>,
    idle: Duration,
    pace: &Cell<Pace>,
    refusals: &Refusals,
) -> Result<()> {
    let mut write = pin!(write);
    // Mostly the kernel takes all at once, and nothing is to be measured.
    if let Poll::Ready(written) = poll_fn(|cx| Poll::Ready(write.as_mut().poll(cx))).await {
        return written;
    }
    loop {
        let (began, before) = (clock::moment(), wire.written_bytes());
        let ended = wire.within(patience(pace, idle), write.as_mut()).await;
        let taken = wire.written_bytes().wrapping_sub(before);
        let is_too_slow = wait(pace, clock::moment().saturating_duration_since(began), taken);
        match ended {
            Some(written) => return written,
            None if taken > 0 && !is_too_slow => {}
            None => {
                refusals.add(Why::SlowReader);
                return Err(ErrorKind::TimedOut.into());
            }
        }
    }
}

/// How long the client may take nothing.
pub fn patience(pace: &Cell<Pace>, idle: Duration) -> Duration {
    pace.get().patience(idle)
}

/// Adds a wait to the pace; whether the client is too slow by now.
pub fn wait(pace: &Cell<Pace>, waited: Duration, bytes: u64) -> bool {
    let mut newer = pace.get();
    let is_too_slow = newer.is_too_slow_after(waited, bytes);
    pace.set(newer);
    is_too_slow
}
