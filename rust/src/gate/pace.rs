//! Whether a client that is waited for sends, or takes, fast enough: a slow loris is slow on purpose.

use std::time::Duration;

/// Credit in thousandths of a byte. Waiting costs the least rate; every byte that moves earns it back, up to what the
/// least rate makes of one window. Only time in which the edge waits for the client counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    bytes_per_s: u64,
    credit: u64,
    credit_max: u64,
    is_spent: bool,
}

impl Pace {
    /// For a least rate, looked at over a window; a rate of 0 is no limit.
    pub fn new(bytes_per_s: u64, window_ms: u64) -> Self {
        let credit_max = bytes_per_s.saturating_mul(window_ms.max(1));
        Self { bytes_per_s, credit: credit_max, credit_max, is_spent: false }
    }

    /// How long it is waited for now, if `idle` is the longest.
    pub fn patience(&self, idle: Duration) -> Duration {
        self.left_ms().map_or(idle, |left_ms| idle.min(Duration::from_millis(left_ms)))
    }

    /// How much longer it may be silent, in milliseconds; None: as long as it likes.
    fn left_ms(&self) -> Option<u64> {
        self.credit.checked_div(self.bytes_per_s)
    }

    /// So long was it waited for, and so many bytes moved meanwhile; whether it used all of its credit up.
    pub fn is_too_slow_after(&mut self, waited: Duration, bytes: u64) -> bool {
        self.waited(u64::try_from(waited.as_millis()).unwrap_or(u64::MAX), bytes);
        self.is_too_slow()
    }

    fn waited(&mut self, waited_ms: u64, bytes: u64) {
        let cost = self.bytes_per_s.saturating_mul(waited_ms);
        let earned = self.credit.saturating_add(bytes.saturating_mul(1_000));
        self.is_spent = cost > 0 && cost >= earned;
        self.credit = earned.saturating_sub(cost).min(self.credit_max);
    }

    fn is_too_slow(&self) -> bool {
        self.is_spent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_borne_for_one_window() {
        let mut pace = Pace::new(100, 5_000);
        assert_eq!(pace.left_ms(), Some(5_000));
        pace.waited(4_999, 0);
        assert!(!pace.is_too_slow());
        assert_eq!(pace.left_ms(), Some(1));
        pace.waited(1, 0);
        assert!(pace.is_too_slow());
    }

    #[test]
    fn who_drips_is_too_slow_and_who_keeps_the_rate_never_is() {
        let seconds = |bytes_per_s: u64| {
            let mut pace = Pace::new(100, 5_000);
            (1..=1_000).find(|_| {
                pace.waited(1_000, bytes_per_s);
                pace.is_too_slow()
            })
        };
        assert_eq!(seconds(1), Some(6));
        assert_eq!(seconds(50), Some(10));
        assert_eq!(seconds(100), None);
        assert_eq!(seconds(1_000), None);
    }

    #[test]
    fn what_came_before_the_window_does_not_count() {
        let mut pace = Pace::new(100, 5_000);
        pace.waited(10, 1 << 40);
        pace.waited(5_000, 0);
        assert!(pace.is_too_slow());
    }

    #[test]
    fn a_rate_of_nothing_is_no_limit() {
        let mut pace = Pace::new(0, 5_000);
        pace.waited(u64::MAX, 0);
        assert!(!pace.is_too_slow());
        assert_eq!(pace.left_ms(), None);
    }

    #[test]
    fn bytes_without_waiting_cost_nothing() {
        let mut pace = Pace::new(u64::MAX, u64::MAX);
        pace.waited(0, 0);
        assert!(!pace.is_too_slow());
    }
}
