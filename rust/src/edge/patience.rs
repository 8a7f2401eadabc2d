//! A time limit that is set for every wait and hardly ever reached.

use crate::clock::timer_moment;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::{Instant, Sleep, sleep_until};

/// The timer of waits that follow each other. It is not moved when a wait ends in time, as nearly all do, but when it
/// goes off too early: setting and dropping a timer costs more than a request's other waiting together.
#[derive(Default)]
pub struct Patience {
    timer: Option<Pin<Box<Sleep>>>,
}

impl Patience {
    /// Ready from `until` on.
    pub fn poll(&mut self, cx: &mut Context<'_>, until: Instant) -> Poll<()> {
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(until)));
        if timer.deadline() > until {
            timer.as_mut().reset(until);
        }
        loop {
            ready!(timer.as_mut().poll(cx));
            if timer.deadline() >= until {
                return Poll::Ready(());
            }
            timer.as_mut().reset(until);
        }
    }
}

/// What `future` gives; None if it has nothing after `limit`. `timer` is polled with the end of the wait.
pub async fn within<T>(
    limit: Duration,
    future: impl Future<Output = T>,
    timer: impl Fn(&mut Context<'_>, Instant) -> Poll<()>,
) -> Option<T> {
    let mut future = pin!(future);
    let mut until = None;
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(value) => Poll::Ready(Some(value)),
        Poll::Pending => timer(cx, *until.get_or_insert_with(|| timer_moment() + limit)).map(|()| None),
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use std::future::pending;

    #[tokio::test]
    async fn every_wait_has_its_own_limit_whatever_the_one_before_it_left() {
        let patience = RefCell::new(Patience::default());
        let timer = |cx: &mut Context<'_>, until| patience.borrow_mut().poll(cx, until);
        let (hour, moment) = (Duration::from_secs(3_600), Duration::from_millis(1));
        // The long wait has set the timer when the short one within it needs it.
        assert_eq!(within(hour, within(moment, pending::<()>(), timer), timer).await, Some(None));
        for limit_ms in [20, 1, 7, 7, 30] {
            let (began, limit) = (timer_moment(), Duration::from_millis(limit_ms));
            assert_eq!(within(limit, pending::<()>(), timer).await, None);
            assert!(began.elapsed() >= limit);
        }
    }
}
