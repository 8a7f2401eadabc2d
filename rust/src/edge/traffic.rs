//! Connections, bytes and waiting times of an edge's clients, counted by each worker for itself.

use crate::metrics::{Kind, MetricsText};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds of the buckets, and how they are told in seconds; one more is for whatever takes longer.
const BOUNDS_US: [u64; 13] = [
    1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000, 1_000_000, 2_000_000, 5_000_000,
    10_000_000,
];
const BOUNDS: [&str; BOUNDS_US.len()] =
    ["0.001", "0.002", "0.005", "0.01", "0.02", "0.05", "0.1", "0.2", "0.5", "1", "2", "5", "10"];

/// One worker's; nobody else writes it, so that a plain store does.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct Traffic {
    open: AtomicU64,
    connections: AtomicU64,
    handshakes: AtomicU64,
    handshakes_failed: AtomicU64,
    sent_bytes: AtomicU64,
    waited: [AtomicU64; BOUNDS_US.len() + 1],
    waited_us: AtomicU64,
}

fn add(cell: &AtomicU64, more: u64) {
    cell.store(cell.load(Ordering::Relaxed).wrapping_add(more), Ordering::Relaxed);
}

impl Traffic {
    /// A connection was taken; `open` are there now.
    pub fn opened(&self, open: usize) {
        add(&self.connections, 1);
        self.closed(open);
    }

    pub fn closed(&self, open: usize) {
        self.open.store(open as u64, Ordering::Relaxed);
    }

    pub fn handshake(&self, is_good: bool) {
        add(if is_good { &self.handshakes } else { &self.handshakes_failed }, 1);
    }

    pub fn sent(&self, bytes: usize) {
        add(&self.sent_bytes, bytes as u64);
    }

    /// An answer was ready to be written after this time. What came from memory at once took none worth measuring.
    pub fn waited(&self, time: Duration) {
        let time_us = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let place = BOUNDS_US.iter().position(|bound_us| time_us <= *bound_us).unwrap_or(BOUNDS_US.len());
        if let Some(cell) = self.waited.get(place) {
            add(cell, 1);
        }
        add(&self.waited_us, time_us);
    }
}

/// The sums over all workers.
pub fn tell(all: &[Arc<Traffic>], text: &mut MetricsText) {
    let sum = |cell: &dyn Fn(&Traffic) -> &AtomicU64| -> u64 {
        all.iter().map(|one| cell(one).load(Ordering::Relaxed)).sum()
    };
    text.family("polycdn_edge_connections_open", Kind::Gauge, "Connections of clients.")
        .sample(&[], sum(&|one| &one.open));
    text.family("polycdn_edge_connections_total", Kind::Counter, "Connections that clients opened.")
        .sample(&[], sum(&|one| &one.connections));
    text.family("polycdn_edge_tls_handshakes_total", Kind::Counter, "TLS handshakes with clients.")
        .sample(&[("result", "ok")], sum(&|one| &one.handshakes))
        .sample(&[("result", "failed")], sum(&|one| &one.handshakes_failed));
    text.family(
        "polycdn_edge_sent_bytes_total",
        Kind::Counter,
        "Bytes of answers that clients took; of HTTP/2 those of the bodies.",
    )
    .sample(&[], sum(&|one| &one.sent_bytes));
    let help = "From a request's head to the head of its answer.";
    text.family("polycdn_edge_first_byte_seconds", Kind::Histogram, help);
    let mut total = 0;
    for (place, bound) in BOUNDS.iter().copied().chain(["+Inf"]).enumerate() {
        total += all
            .iter()
            .filter_map(|one| one.waited.get(place))
            .map(|cell| cell.load(Ordering::Relaxed))
            .sum::<u64>();
        text.part("_bucket", &[("le", bound)], total);
    }
    text.part("_sum", &[], sum(&|one| &one.waited_us) as f64 / 1e6).part("_count", &[], total);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_counts_what_took_at_most_so_long() {
        let traffic = Arc::<Traffic>::default();
        for time_ms in [0, 1, 3, 10_000, 10_001] {
            traffic.waited(Duration::from_millis(time_ms));
        }
        let mut text = MetricsText::default();
        tell(&[traffic], &mut text);
        let text = text.into_text();
        let value = |bound: &str| {
            let line = format!("polycdn_edge_first_byte_seconds_bucket{{le=\"{bound}\"}} ");
            text.lines().find_map(|row| row.strip_prefix(&line)).unwrap().to_owned()
        };
        assert_eq!(["0.001", "0.005", "10", "+Inf"].map(value), ["2", "3", "4", "5"]);
        assert!(text.contains("# TYPE polycdn_edge_first_byte_seconds histogram\n"));
        assert!(text.ends_with("_sum 20.005\npolycdn_edge_first_byte_seconds_count 5\n"), "{text}");
    }

    #[test]
    fn bounds_are_told_as_they_are() {
        for (bound_us, told) in BOUNDS_US.iter().zip(BOUNDS) {
            assert_eq!(*bound_us as f64 / 1e6, told.parse::<f64>().unwrap());
        }
    }
}
