//! The only file that reads the real time.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

static LATEST_MS: AtomicU64 = AtomicU64::new(0);

/// Milliseconds UTC, never smaller than an answer before in this process.
pub fn now_ms() -> u64 {
    let wall_ms = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX));
    LATEST_MS.fetch_max(wall_ms, Ordering::Relaxed).max(wall_ms)
}

/// A moment of the monotonic clock, for measuring how long something takes.
pub fn moment() -> Instant {
    Instant::now()
}

/// The same moment, for timers.
pub fn timer_moment() -> tokio::time::Instant {
    tokio::time::Instant::now()
}

/// Milliseconds UTC of a file's time stamp, 0 before 1970.
pub fn file_ms(stamp: SystemTime) -> u64 {
    stamp.duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// How long until the next whole second after `now_ms`; never zero.
pub fn until_next_second(now_ms: u64) -> Duration {
    Duration::from_millis(1_000 - now_ms % 1_000)
}
