//! Open connections by client prefix, for all workers together. Asked once per connection, and only where there is a limit.

use crate::gate::prefix::Prefix;
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Parts with a lock each, so that workers rarely meet.
const PARTS: usize = 64;

/// Never larger than there are open connections.
pub struct Crowd {
    key: RandomState,
    parts: [Mutex<HashMap<Prefix, u64>>; PARTS],
}

impl Default for Crowd {
    fn default() -> Self {
        Self { key: RandomState::new(), parts: std::array::from_fn(|_| Mutex::default()) }
    }
}

impl Crowd {
    /// A seat for one more connection of the prefix; None if it has `seats_max` already.
    pub fn enter(self: &Arc<Self>, prefix: Prefix, seats_max: u64) -> Option<Seat> {
        let mut part = self.part(prefix);
        let seats = part.entry(prefix).or_default();
        if *seats >= seats_max {
            return None;
        }
        *seats += 1;
        drop(part);
        Some(Seat { crowd: Arc::clone(self), prefix })
    }

    fn part(&self, prefix: Prefix) -> MutexGuard<'_, HashMap<Prefix, u64>> {
        let place = self.key.hash_one(prefix) as usize % PARTS;
        self.parts[place].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Given back when it is dropped.
pub struct Seat {
    crowd: Arc<Crowd>,
    prefix: Prefix,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut part = self.crowd.part(self.prefix);
        if let Some(seats) = part.get_mut(&self.prefix) {
            *seats = seats.saturating_sub(1);
            if *seats == 0 {
                part.remove(&self.prefix);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seat_is_free_again_when_its_connection_ends() {
        let crowd = Arc::new(Crowd::default());
        let (one, other) = (Prefix::V4(1), Prefix::V6(1));
        let first = crowd.enter(one, 2).unwrap();
        let _second = crowd.enter(one, 2).unwrap();
        assert!(crowd.enter(one, 2).is_none());
        assert!(crowd.enter(other, 2).is_some());
        drop(first);
        assert!(crowd.enter(one, 2).is_some());
    }

    #[test]
    fn who_has_left_takes_no_memory() {
        let crowd = Arc::new(Crowd::default());
        let seats: Vec<Seat> = (0..1_000).filter_map(|one| crowd.enter(Prefix::V4(one), 1)).collect();
        assert_eq!(seats.len(), 1_000);
        drop(seats);
        assert!(crowd.parts.iter().all(|part| part.lock().unwrap().is_empty()));
    }

    #[test]
    fn a_refused_connection_leaves_nothing_behind() {
        let crowd = Arc::new(Crowd::default());
        let seat = crowd.enter(Prefix::V4(1), 1).unwrap();
        assert!((0..10).all(|_| crowd.enter(Prefix::V4(1), 1).is_none()));
        drop(seat);
        assert!(crowd.parts.iter().all(|part| part.lock().unwrap().is_empty()));
    }
}
