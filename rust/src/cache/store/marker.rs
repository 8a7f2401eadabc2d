//! Keys that lately turned out not to be cacheable ("hit for miss"): their requests do not wait for each other.
//!
//! A table of fixed size, so that a stranger who asks for endless new addresses cannot make it grow. A newer key takes
//! the place of an older one; a key is taken for another once in 2^32 looks, and then goes to the origin alone.

use std::sync::atomic::{AtomicU64, Ordering};

const CELLS_MIN: u64 = 1_024;
const CELLS_MAX: u64 = 1 << 20;
const BUDGET_BYTES_PER_CELL: u64 = 8_192;

pub struct Markers {
    /// Upper half of the hash, and the second (UTC) until which it holds.
    cells: Box<[AtomicU64]>,
}

impl Markers {
    pub fn new(budget_bytes: u64) -> Self {
        Self { cells: (0..Self::cells_for(budget_bytes)).map(|_| AtomicU64::new(0)).collect() }
    }

    pub fn bytes_for(budget_bytes: u64) -> u64 {
        Self::cells_for(budget_bytes) * size_of::<AtomicU64>() as u64
    }

    fn cells_for(budget_bytes: u64) -> u64 {
        (budget_bytes / BUDGET_BYTES_PER_CELL).next_power_of_two().clamp(CELLS_MIN, CELLS_MAX)
    }

    pub fn set(&self, hash: u64, until_ms: u64) {
        if let Some(cell) = self.cell(hash) {
            cell.store(name(hash) | (until_ms.div_ceil(1_000) & 0xffff_ffff), Ordering::Relaxed);
        }
    }

    pub fn clear(&self, hash: u64) {
        if let Some(cell) = self.cell(hash).filter(|cell| is_named(cell, hash)) {
            cell.store(0, Ordering::Relaxed);
        }
    }

    pub fn is_set(&self, hash: u64, now_ms: u64) -> bool {
        let cell = self.cell(hash).filter(|cell| is_named(cell, hash));
        cell.is_some_and(|cell| (cell.load(Ordering::Relaxed) & 0xffff_ffff) * 1_000 > now_ms)
    }

    fn cell(&self, hash: u64) -> Option<&AtomicU64> {
        self.cells.get(hash as usize & (self.cells.len() - 1))
    }
}

fn name(hash: u64) -> u64 {
    hash & !0xffff_ffff
}

fn is_named(cell: &AtomicU64, hash: u64) -> bool {
    name(cell.load(Ordering::Relaxed)) == name(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_holds_for_its_key_until_its_time() {
        let markers = Markers::new(0);
        let now_ms = 1_763_900_000_500;
        let hash = 0x1234_5678_9abc_def0;
        markers.set(hash, now_ms + 2_000);
        assert!(markers.is_set(hash, now_ms) && markers.is_set(hash, now_ms + 1_999));
        assert!(!markers.is_set(hash, now_ms + 3_000));
        assert!(!markers.is_set(hash ^ 1 << 40, now_ms), "another key in the same cell");
        markers.clear(hash ^ 1 << 40);
        assert!(markers.is_set(hash, now_ms));
        markers.clear(hash);
        assert!(!markers.is_set(hash, now_ms));
    }
}
