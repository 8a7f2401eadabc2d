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

/// What the process is measured by.
#[derive(Clone, Copy)]
struct Measure {
    budget_bytes: u64,
    /// Of what is resident.
    limit_bytes: u64,
    resident_bytes: u64,
    /// What is counted, without the room taken away.
    counted_bytes: u64,
}

impl Measure {
    /// How much room is to be taken away so that a full store is just within the limit, beside what is resident and not
    /// counted: connections, holes, the process itself. So it is taken before the store has filled up.
    fn surplus_bytes(self) -> u64 {
        let all = self.budget_bytes.saturating_add(self.resident_bytes);
        all.saturating_sub(self.counted_bytes.saturating_add(self.limit_bytes))
    }

    /// How much room is taken away next, from what is taken now: there in small steps, back in smaller ones.
    fn next_taken(self, taken_bytes: u64) -> u64 {
        let step = self.budget_bytes * STEP_PERCENT / 100;
        let most = self.budget_bytes * TAKEN_PERCENT_MAX / 100;
        let wanted = self.surplus_bytes().min(most);
        match wanted.checked_sub(taken_bytes) {
            Some(more) => taken_bytes + step.min(more),
            None => taken_bytes - (step / 4).min(taken_bytes - wanted),
        }
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
        let counted_bytes = self.ledger.used_bytes().saturating_sub(taken_bytes);
        let next =
            Measure { budget_bytes, limit_bytes, resident_bytes, counted_bytes }.next_taken(taken_bytes);
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

    fn measure(resident_bytes: u64, counted_bytes: u64) -> Measure {
        Measure { budget_bytes: 1_000, limit_bytes: 1_120, resident_bytes, counted_bytes }
    }

    #[test]
    fn room_shrinks_above_the_limit_grows_below_and_never_falls_under_a_quarter() {
        let (far, mut taken, mut steps) = (measure(2_000, 1_000), 0, 0);
        while taken < 750 {
            let next = far.next_taken(taken);
            assert!(next > taken && next - taken <= 80);
            (taken, steps) = (next, steps + 1);
        }
        assert_eq!((taken, far.next_taken(taken)), (750, 750));
        assert!(steps < 20);
        assert_eq!(measure(1_120, 1_000).next_taken(0), 0, "at the limit");
        assert_eq!(measure(1_121, 1_000).next_taken(0), 1);
        assert_eq!(measure(620, 500).next_taken(500), 480, "back slowly");
    }

    #[test]
    fn room_is_taken_for_what_is_not_counted_before_the_store_is_full() {
        assert_eq!(measure(120, 0).next_taken(0), 0);
        assert_eq!(measure(200, 0).next_taken(0), 80);
        assert_eq!(measure(700, 500).next_taken(80), 80);
    }
}
