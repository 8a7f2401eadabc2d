//! A time limit that is set for every wait and hardly ever reached.

use crate::clock::timer_moment;
use std::future::Future;
use std::pin::Pin;
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

/// What `future` gives; None if it has nothing after `limit`. `timer` is polled with the end of the wait. The future is
/// one that its owner has pinned: an `async fn` would hold it twice, and every future around that as well.
pub fn within<F, T>(limit: Duration, future: F, timer: T) -> Within<F, T>
where
    F: Future + Unpin,
    T: FnMut(&mut Context<'_>, Instant) -> Poll<()> + Unpin,
{
    Within { limit, until: None, future, timer }
}

/// See `within`.
pub struct Within<F, T> {
    limit: Duration,
    until: Option<Instant>,
    future: F,
    timer: T,
}

impl<F, T> Future for Within<F, T>
where
    F: Future + Unpin,
    T: FnMut(&mut Context<'_>, Instant) -> Poll<()> + Unpin,
{
    type Output = Option<F::Output>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if let Poll::Ready(value) = Pin::new(&mut this.future).poll(cx) {
            return Poll::Ready(Some(value));
        }
        let until = *this.until.get_or_insert_with(|| timer_moment() + this.limit);
        (this.timer)(cx, until).map(|()| None)
    }
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
