//! What is read of a client's body: not more than its service allows, and not slower.

use crate::clock;
use crate::document::ClientLimits;
use crate::edge::body::BodyError;
use crate::gate::pace::Pace;
use crate::gate::why::{Refusals, Why};
use bytes::Bytes;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use tokio::time::timeout;

pub struct Meter {
    left_bytes: u64,
    pace: Pace,
    refusals: Arc<Refusals>,
}

impl Meter {
    pub fn new(limits: &ClientLimits, refusals: &Arc<Refusals>) -> Self {
        let pace = Pace::new(limits.client_bytes_per_s_min, limits.client_rate_window_ms);
        Self { left_bytes: limits.body_bytes_max, pace, refusals: Arc::clone(refusals) }
    }

    /// The next piece of a body, which may not be waited for longer than `idle`.
    pub async fn read(
        &mut self,
        idle: Duration,
        next: impl Future<Output = Result<Option<Bytes>, BodyError>>,
    ) -> Result<Option<Bytes>, BodyError> {
        let mut next = pin!(next);
        // What is here already needs no timer.
        if let Poll::Ready(piece) = poll_fn(|cx| Poll::Ready(next.as_mut().poll(cx))).await {
            return self.took(piece?, Duration::ZERO);
        }
        let began = clock::moment();
        match timeout(self.pace.patience(idle), next).await {
            Ok(piece) => self.took(piece?, clock::moment().saturating_duration_since(began)),
            Err(_) => Err(self.refuse(Why::SlowBody, BodyError::Stalled)),
        }
    }

    fn took(&mut self, piece: Option<Bytes>, waited: Duration) -> Result<Option<Bytes>, BodyError> {
        let Some(piece) = piece else { return Ok(None) };
        let bytes = piece.len() as u64;
        if self.pace.is_too_slow_after(waited, bytes) {
            return Err(self.refuse(Why::SlowBody, BodyError::Stalled));
        }
        match self.left_bytes.checked_sub(bytes) {
            Some(left_bytes) => self.left_bytes = left_bytes,
            None => return Err(self.refuse(Why::BodyBytes, BodyError::TooLarge)),
        }
        Ok(Some(piece))
    }

    fn refuse(&self, why: Why, error: BodyError) -> BodyError {
        self.refusals.add(why);
        error
    }
}
