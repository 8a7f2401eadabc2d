//! Keeps the memory that the kernel counts within the budget, whatever the allocator makes of it.
//!
//! What is evicted leaves holes between what stays, and an allocator cannot give a page with a hole back: after a change
//! from small objects to large ones a third of the heap may be holes. So the room is made smaller while the process is
//! above its limit and larger again when it is well below, by small steps; never by more than three quarters, so that memory
//! which is not the store's cannot empty it.

use crate::cache::store::ledger::Charge;
use crate::cache::store::object::Meta;
use crate::cache::store::{Store, locked};

/// Percent of the budget that the process may take in all; the rest up to 115 is left to the time between two looks.
const RESIDENT_PERCENT: u64 = 106;
/// A process whose own memory is large against the budget: that memory, and this part of the budget.
const SMALL_BUDGET_PERCENT: u64 = 90;
const STEP_PERCENT: u64 = 8;
const TAKEN_PERCENT_MAX: u64 = 75;

/// The room taken away.
#[derive(Default)]
pub(super) struct Pressure {
    taken: Option<Charge>,
    /// Resident at the first look.
    base_bytes: Option<u64>,
}

/// How much room is to be taken away next, from what is taken now and how far above the limit the process is.
fn next_taken(budget_bytes: u64, limit_bytes: u64, resident_bytes: u64, taken_bytes: u64) -> u64 {
    let step = budget_bytes * STEP_PERCENT / 100;
    let most = budget_bytes * TAKEN_PERCENT_MAX / 100;
    if resident_bytes > limit_bytes {
        (taken_bytes + step.min(resident_bytes - limit_bytes).max(1)).min(most)
    } else if resident_bytes + 2 * step < limit_bytes {
        taken_bytes.saturating_sub(step / 4)
    } else {
        taken_bytes
    }
}

impl<M: Meta> Store<M> {
    /// Tells the store what the kernel counts for the process, after each `tick`; None = unknown.
    pub fn press(&self, resident_bytes: Option<u64>) {
        let Some(resident_bytes) = resident_bytes else { return };
        let budget_bytes = self.limits.memory_bytes;
        let mut pressure = locked(&self.pressure);
        let base_bytes = *pressure.base_bytes.get_or_insert(resident_bytes);
        let limit_bytes = (budget_bytes / 100 * RESIDENT_PERCENT)
            .max(base_bytes + budget_bytes / 100 * SMALL_BUDGET_PERCENT);
        let taken_bytes = pressure.taken.as_ref().map_or(0, Charge::bytes);
        let next = next_taken(budget_bytes, limit_bytes, resident_bytes, taken_bytes);
        match &mut pressure.taken {
            Some(taken) if next < taken.bytes() => taken.shrink(next),
            taken if next > taken_bytes => *taken = Some(self.ledger.count(next)),
            _ => {}
        }
        drop(pressure);
        self.make_fit();
    }

    /// Room taken away from objects, in bytes.
    pub fn pressed_bytes(&self) -> u64 {
        locked(&self.pressure).taken.as_ref().map_or(0, Charge::bytes)
    }
}

/// What the kernel counts for this process; None where there is no `/proc`.
pub fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1_024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_shrinks_above_the_limit_grows_below_and_never_falls_under_a_quarter() {
        let (budget, limit, mut taken) = (1_000, 1_120, 0);
        let mut steps = 0;
        while taken < 750 {
            let next = next_taken(budget, limit, 2_000, taken);
            assert!(next > taken && next - taken <= 80);
            (taken, steps) = (next, steps + 1);
        }
        assert_eq!((taken, next_taken(budget, limit, 2_000, taken)), (750, 750));
        assert!(steps < 20);
        assert_eq!(next_taken(budget, limit, 1_100, 500), 500, "near the limit nothing changes");
        assert_eq!(next_taken(budget, limit, 900, 500), 480);
        assert_eq!(next_taken(budget, limit, 900, 0), 0);
        assert_eq!(next_taken(budget, limit, 1_121, 0), 1);
    }
}
