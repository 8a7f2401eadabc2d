//! How far the fetches of a body run ahead of those who read it. There can be several at once, each at another place.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// The fetches of one body that are under way.
#[derive(Debug, Default)]
pub struct Pace {
    runs: Mutex<Vec<Arc<Run>>>,
    number: AtomicUsize,
}

/// One of them.
#[derive(Debug)]
struct Run {
    from: u64,
    /// Where its next byte goes.
    at: AtomicU64,
    /// Beyond `at`: what it has claimed, so that readers there wait for it.
    reach_bytes: u64,
    /// How far its readers are.
    furthest: AtomicU64,
    moved: Notify,
}

impl Run {
    fn concerns(&self, at: u64) -> bool {
        (self.from..=self.at.load(Ordering::Relaxed).saturating_add(self.reach_bytes)).contains(&at)
    }
}

/// A fetch under way, as its writer sees it; it has ended when this is dropped.
#[derive(Debug)]
pub struct Running {
    pace: Arc<Pace>,
    run: Arc<Run>,
}

/// A reader, as the fetch sees it that it reads along.
#[derive(Debug, Default)]
pub struct Follower {
    run: Option<Arc<Run>>,
}

impl Pace {
    /// A fetch that begins at `from` and claims `reach_bytes` ahead of itself.
    pub fn begin(self: &Arc<Self>, from: u64, reach_bytes: u64) -> Running {
        let (at, furthest) = (AtomicU64::new(from), AtomicU64::new(from));
        let run = Arc::new(Run { from, at, reach_bytes, furthest, moved: Notify::new() });
        self.lock().push(Arc::clone(&run));
        self.number.fetch_add(1, Ordering::Release);
        Running { pace: Arc::clone(self), run }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Run>>> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Running {
    pub fn wrote_to(&self, at: u64) {
        self.run.at.store(at, Ordering::Relaxed);
    }

    /// How far it is ahead of the furthest of its readers.
    pub fn ahead_bytes(&self) -> u64 {
        let furthest = self.run.furthest.load(Ordering::Relaxed);
        self.run.at.load(Ordering::Relaxed).saturating_sub(furthest)
    }

    /// Whether anybody reads along.
    pub fn has_readers(&self) -> bool {
        Arc::strong_count(&self.run) > 2 // Its own, and that in the list.
    }

    /// Returns when somebody has read on; it may have happened before the call, so look again now and then.
    pub async fn moved(&self) {
        self.run.moved.notified().await;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.pace.lock().retain(|run| !Arc::ptr_eq(run, &self.run));
        self.pace.number.fetch_sub(1, Ordering::Release);
    }
}

impl Follower {
    /// Says that a reader of that body is at `at`: the fetch that brings these bytes may go on.
    pub fn read_to(&mut self, pace: &Pace, at: u64) {
        if pace.number.load(Ordering::Acquire) == 0 {
            self.run = None;
            return;
        }
        // Of several that it could be the nearest, which leaves the others to their own readers.
        let runs = pace.lock();
        let run = runs.iter().filter(|run| run.concerns(at)).max_by_key(|run| run.from);
        if let Some(run) = run
            && run.furthest.fetch_max(at, Ordering::Relaxed) < at
        {
            run.moved.notify_waiters();
        }
        self.run = run.cloned();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fetch_follows_those_who_read_along_and_nobody_further_on() {
        let pace = Arc::new(Pace::default());
        let (first, far) = (pace.begin(0, 10), pace.begin(1_000, 10));
        let (mut reader, mut other) = (Follower::default(), Follower::default());
        reader.read_to(&pace, 0);
        other.read_to(&pace, 1_005);
        first.wrote_to(100);
        assert_eq!((first.ahead_bytes(), far.ahead_bytes()), (100, 0));
        reader.read_to(&pace, 60);
        assert_eq!((first.ahead_bytes(), first.has_readers()), (40, true));
        reader.read_to(&pace, 500);
        assert_eq!((first.ahead_bytes(), first.has_readers()), (40, false), "it went where nobody fetches");
        drop(other);
        assert!(!far.has_readers());
    }

    #[test]
    fn a_reader_goes_over_to_the_fetch_that_follows() {
        let pace = Arc::new(Pace::default());
        let first = pace.begin(0, 10);
        let mut reader = Follower::default();
        reader.read_to(&pace, 5);
        let next = pace.begin(8, 10);
        reader.read_to(&pace, 8);
        assert!(next.has_readers() && !first.has_readers());
        drop(next);
        reader.read_to(&pace, 9);
        assert!(first.has_readers());
        drop(first);
        reader.read_to(&pace, 9);
        assert!(reader.run.is_none());
    }
}
