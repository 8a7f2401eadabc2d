//! How many requests an upstream is given at once: more while it does well, fewer as soon as it does not.
//!
//! Additive increase, multiplicative decrease: a limit that is used up grows by one for every limit's worth of good
//! answers, and is cut by a quarter at a failure that speaks of overload, once in a while. What does not fit waits, in
//! a queue with an end; so an origin that comes back is refilled at the pace that it can bear.

/// The limit is never below this.
const LEAST: u32 = 4;

/// One cut in this time: the failures of one moment are one piece of news.
const CUT_PAUSE_MS: u64 = 250;

/// One upstream's room, in one worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Room {
    most: u32,
    limit: u32,
    /// Good answers since the limit last grew.
    good: u32,
    taken: u32,
    cut_ms: u64,
}

impl Room {
    /// Begins as wide as it may ever be: nothing is known against the upstream.
    pub fn new(most: u32) -> Self {
        let most = most.max(LEAST);
        Self { most, limit: most, good: 0, taken: 0, cut_ms: 0 }
    }

    /// Takes a place if there is one.
    pub fn enter(&mut self) -> bool {
        let is_free = self.taken < self.limit;
        self.taken += u32::from(is_free);
        is_free
    }

    /// Gives a place back.
    pub fn leave(&mut self) {
        self.taken = self.taken.saturating_sub(1);
    }

    pub fn succeeded(&mut self) {
        self.good += 1;
        // A limit that nobody touches says nothing of what the upstream bears.
        if self.good >= self.limit && self.taken.saturating_mul(2) >= self.limit {
            (self.limit, self.good) = ((self.limit + 1).min(self.most), 0);
        }
    }

    /// A failure that may be overload: a timeout, a refused connection, 429 or 503.
    pub fn overloaded(&mut self, now_ms: u64) {
        if now_ms.saturating_sub(self.cut_ms) < CUT_PAUSE_MS {
            return;
        }
        // From what it was really given: a wide limit that was not used was never tried.
        let given = self.limit.min(self.taken.max(LEAST) * 2);
        (self.limit, self.good, self.cut_ms) = ((given - given / 4).max(LEAST), 0, now_ms);
    }

    pub fn limit(&self) -> u32 {
        self.limit
    }

    pub fn taken(&self) -> u32 {
        self.taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(mut room: Room) -> Room {
        while room.enter() {}
        room
    }

    #[test]
    fn never_more_are_inside_than_the_limit() {
        let mut room = filled(Room::new(10));
        assert_eq!((room.taken(), room.enter()), (10, false));
        room.leave();
        assert!(room.enter() && !room.enter());
    }

    #[test]
    fn failures_of_one_moment_cut_once() {
        let mut room = filled(Room::new(100));
        (1_000..1_200).for_each(|now_ms| room.overloaded(now_ms));
        assert_eq!(room.limit(), 75);
        room.overloaded(1_300);
        assert!(room.limit() < 75);
    }

    #[test]
    fn it_falls_to_the_least_and_grows_back_to_the_most_while_it_is_used() {
        let mut room = filled(Room::new(64));
        for cut in 1..100 {
            room.overloaded(cut * 1_000);
            (room.limit()..room.taken()).for_each(|_| room.leave());
        }
        assert_eq!(room.limit(), LEAST);
        for _ in 0..10_000 {
            while room.enter() {}
            room.succeeded();
        }
        assert_eq!(room.limit(), 64);
    }

    #[test]
    fn an_unused_limit_does_not_grow() {
        let mut room = filled(Room::new(64));
        room.overloaded(1_000);
        (0..64).for_each(|_| room.leave());
        let limit = room.limit();
        (0..10_000).for_each(|_| room.succeeded());
        assert_eq!(room.limit(), limit);
    }
}
