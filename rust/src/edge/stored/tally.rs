//! How requests ended at the cache, counted by each worker for itself.

use crate::access;
use crate::cache::semantics::status::Outcome;
use crate::metrics::{Kind, MetricsText};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Words of the label `cache`, in the order of the cells.
const WORDS: [&str; 6] = ["hit", "stale", "revalidated", "miss", "pass", "refused"];

/// One worker's; nobody else writes it.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct Tally {
    cells: [AtomicU64; WORDS.len()],
}

impl Tally {
    pub fn add(&self, outcome: Outcome) {
        let place = match outcome {
            Outcome::Hit => 0,
            Outcome::HitStale | Outcome::HitWhileRevalidate | Outcome::StaleOnError => 1,
            Outcome::Validated(_) => 2,
            Outcome::Miss | Outcome::VaryMiss | Outcome::PartialMiss => 3,
            Outcome::Bypass(_) | Outcome::Off => 4,
            Outcome::GatewayTimeout => 5,
        };
        access::note_cache(WORDS[place]);
        if let Some(cell) = self.cells.get(place) {
            cell.store(cell.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        }
    }
}

/// The sums over all workers.
pub fn tell(tallies: &[Arc<Tally>], text: &mut MetricsText) {
    text.family("polycdn_edge_requests_total", Kind::Counter, "Requests by what the cache did with them.");
    for (place, word) in WORDS.iter().enumerate() {
        let cells = tallies.iter().filter_map(|tally| tally.cells.get(place));
        let sum: u64 = cells.map(|cell| cell.load(Ordering::Relaxed)).sum();
        text.sample(&[("cache", word)], sum);
    }
}
