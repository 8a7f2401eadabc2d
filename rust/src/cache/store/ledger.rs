//! Who pays for memory. A `Charge` is bytes taken from the budget; they come back when it is dropped, and it lives
//! inside what it paid for. So memory counts until it is really free, also while a slow reader holds what was evicted.

use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Up to here the allocator's sizes are multiples of the step; above, there are four to a doubling (jemalloc's size classes,
/// docs/decisions/0009-allocator.md).
const SMALL_BYTES: u64 = 128;
const SMALL_STEP_BYTES: u64 = 16;

/// The memory that an allocation of `bytes` takes.
pub fn allocated(bytes: usize) -> u64 {
    let bytes = bytes as u64;
    if bytes <= SMALL_BYTES {
        return bytes.next_multiple_of(SMALL_STEP_BYTES);
    }
    let doubling = (bytes - 1).ilog2();
    bytes.checked_next_multiple_of(1 << (doubling - 2)).unwrap_or(u64::MAX)
}

/// A budget of memory.
#[derive(Debug)]
pub struct Ledger {
    budget_bytes: u64,
    used_bytes: AtomicU64,
}

impl Ledger {
    pub fn new(budget_bytes: u64) -> Arc<Self> {
        Arc::new(Self { budget_bytes, used_bytes: AtomicU64::new(0) })
    }

    pub fn budget_bytes(&self) -> u64 {
        self.budget_bytes
    }

    pub fn used_bytes(&self) -> u64 {
        self.used_bytes.load(Ordering::Relaxed)
    }

    /// None when that many bytes would pass the budget.
    pub fn reserve(self: &Arc<Self>, bytes: u64) -> Option<Charge> {
        let grown = |used: u64| used.checked_add(bytes).filter(|used| *used <= self.budget_bytes);
        self.used_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, grown).ok()?;
        Some(Charge { ledger: Arc::clone(self), bytes })
    }

    /// A charge that is taken whatever the budget says: for what exists already.
    pub fn count(self: &Arc<Self>, bytes: u64) -> Charge {
        self.used_bytes.fetch_add(bytes, Ordering::Relaxed);
        Charge { ledger: Arc::clone(self), bytes }
    }
}

/// Bytes of a ledger, given back on drop.
#[derive(Debug)]
pub struct Charge {
    ledger: Arc<Ledger>,
    bytes: u64,
}

impl Charge {
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Gives back what is above `bytes`.
    pub fn shrink(&mut self, bytes: u64) {
        let surplus = self.bytes.saturating_sub(bytes);
        self.ledger.used_bytes.fetch_sub(surplus, Ordering::Relaxed);
        self.bytes -= surplus;
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.ledger.used_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

struct Paid {
    octets: Box<[u8]>,
    _charge: Charge,
}

impl AsRef<[u8]> for Paid {
    fn as_ref(&self) -> &[u8] {
        &self.octets
    }
}

/// `octets` as shared bytes that carry their charge with them.
pub fn paid(octets: Box<[u8]>, charge: Charge) -> Bytes {
    Bytes::from_owner(Paid { octets, _charge: charge })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_allocation_takes_its_size_class() {
        for (bytes, taken) in [(0, 0), (1, 16), (128, 128), (129, 160), (1_024, 1_024), (1_025, 1_280)] {
            assert_eq!(allocated(bytes), taken, "{bytes}");
        }
        assert_eq!((allocated(300_000), allocated(1 << 20)), (327_680, 1 << 20));
        assert_eq!(allocated(usize::MAX), u64::MAX);
    }

    #[test]
    fn a_charge_comes_back_when_the_last_holder_lets_go() {
        let ledger = Ledger::new(100);
        let bytes = paid(vec![7; 60].into(), ledger.reserve(60).unwrap());
        let slice = bytes.slice(10..20);
        drop(bytes);
        assert_eq!((ledger.used_bytes(), &slice[..]), (60, &[7; 10][..]));
        assert!(ledger.reserve(41).is_none());
        drop(slice);
        assert_eq!(ledger.used_bytes(), 0);
    }

    #[test]
    fn a_charge_shrinks_and_never_grows() {
        let ledger = Ledger::new(100);
        let mut charge = ledger.count(120);
        assert!(ledger.reserve(0).is_none());
        charge.shrink(30);
        charge.shrink(90);
        assert_eq!((charge.bytes(), ledger.used_bytes()), (30, 30));
    }

    #[test]
    fn threads_together_never_pass_the_budget() {
        let ledger = Ledger::new(1_000);
        std::thread::scope(|scope| {
            for seed in 1..5_u64 {
                let ledger = &ledger;
                scope.spawn(move || {
                    let mut held = Vec::new();
                    for turn in 0..20_000_u64 {
                        held.extend(ledger.reserve(turn * seed % 97));
                        assert!(ledger.used_bytes() <= 1_000);
                        if turn % 3 == 0 {
                            held.clear();
                        }
                    }
                });
            }
        });
        assert_eq!(ledger.used_bytes(), 0);
    }
}
