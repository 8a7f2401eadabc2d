//! Tokens for one use (`jti`, RFC 9246 §2.1.7): which were used already, until they have expired.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::{Mutex, PoisonError};

/// The most that are remembered; more at one time are refused, since a forgotten one could be used again.
const NONCES_MAX: usize = 262_144;

/// How far an end may lie ahead: one that is remembered for ever would take its place for ever.
const LIFE_S_MAX: u64 = 7 * 86_400;

/// Shared by all workers; locked only for such tokens, after their signature was found right.
#[derive(Default)]
pub struct Nonces {
    key: RandomState,
    /// Until when, in seconds UTC.
    used: Mutex<HashMap<u64, u64>>,
}

impl Nonces {
    /// Uses `what` up, for as long as its token lasts; else why it may not be used.
    pub fn take(&self, what: &impl Hash, until_s: u64, now_s: u64) -> Result<(), &'static str> {
        if until_s > now_s.saturating_add(LIFE_S_MAX) {
            return Err("a token for one use may last a week");
        }
        let what = self.key.hash_one(what);
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        if used.len() >= NONCES_MAX {
            used.retain(|_, until_s| *until_s > now_s);
        }
        if used.len() >= NONCES_MAX {
            return Err("too many tokens for one use are in use");
        }
        match used.insert(what, until_s) {
            Some(before_s) if before_s > now_s => {
                used.insert(what, before_s.max(until_s));
                Err("the token was used already")
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_use_is_one_use_until_the_end() {
        let nonces = Nonces::default();
        assert_eq!(nonces.take(&"a", 100, 50), Ok(()));
        assert_eq!(nonces.take(&"b", 100, 50), Ok(()));
        assert_eq!(nonces.take(&"a", 100, 50), Err("the token was used already"));
        assert_eq!(nonces.take(&"a", 100, 99), Err("the token was used already"));
        assert_eq!(nonces.take(&"a", 200, 100), Ok(()));
    }

    #[test]
    fn memory_is_bounded_and_what_has_expired_makes_room() {
        let nonces = Nonces::default();
        assert!((0..NONCES_MAX).all(|one| nonces.take(&one, 100, 50).is_ok()));
        assert!(nonces.take(&"more", 100, 50).is_err());
        assert_eq!(nonces.take(&"more", 200, 100), Ok(()));
        assert!(nonces.take(&"long", u64::MAX, 100).is_err());
    }
}
