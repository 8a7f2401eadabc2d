//! Keys whose origin was changed through this cache (RFC 9111 §4.4): what was being fetched at that moment may be from
//! before the change, so it is not kept.
//!
//! A table of fixed size, so that a stranger who changes endless addresses cannot make it grow. Two keys that share a cell
//! lose what is on its way together, which is safe.

use std::sync::atomic::{AtomicU64, Ordering};

const CELLS: usize = 8_192;

pub struct Changes {
    last: AtomicU64,
    /// The number of the last change of a key in this cell; 0 = never.
    cells: Box<[AtomicU64]>,
}

impl Default for Changes {
    fn default() -> Self {
        Self { last: AtomicU64::new(0), cells: (0..CELLS).map(|_| AtomicU64::new(0)).collect() }
    }
}

impl Changes {
    pub const BYTES: u64 = (CELLS * size_of::<AtomicU64>()) as u64;

    /// How many there were: a fetch notes this when it begins.
    pub fn number(&self) -> u64 {
        self.last.load(Ordering::Acquire)
    }

    pub fn note(&self, hash: u64) {
        if let Some(cell) = self.cell(hash) {
            // The cell first, so that whoever begins with the new number is not taken for older.
            cell.fetch_max(self.last.load(Ordering::Acquire) + 1, Ordering::AcqRel);
            self.last.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// Whether the key may have changed since a fetch that noted `number`.
    pub fn is_since(&self, hash: u64, number: u64) -> bool {
        self.cell(hash).is_some_and(|cell| cell.load(Ordering::Acquire) > number)
    }

    fn cell(&self, hash: u64) -> Option<&AtomicU64> {
        self.cells.get(hash as usize % CELLS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_seen_by_fetches_that_began_before_it_and_by_no_later_one() {
        let changes = Changes::default();
        let before = changes.number();
        changes.note(7);
        assert!(changes.is_since(7, before));
        assert!(!changes.is_since(8, before), "another key");
        assert!(!changes.is_since(7, changes.number()));
        changes.note(7 + CELLS as u64);
        assert!(changes.is_since(7, before + 1), "they share a cell");
    }
}
