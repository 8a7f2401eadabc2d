//! Why a client was turned away, and how often.

use crate::metrics::{Kind, MetricsText};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// One reason each. The words are those of the label `reason`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    Malformed,
    HeadBytes,
    HeadFields,
    HeadTime,
    UriBytes,
    BodyBytes,
    SlowBody,
    SlowReader,
    Connections,
    PrefixConnections,
    PrefixRequests,
    Resets,
    Flood,
    Fills,
    ListenerDenied,
    Denied,
    Unsigned,
    Token,
}

const ALL: [Why; 18] = [
    Why::Malformed,
    Why::HeadBytes,
    Why::HeadFields,
    Why::HeadTime,
    Why::UriBytes,
    Why::BodyBytes,
    Why::SlowBody,
    Why::SlowReader,
    Why::Connections,
    Why::PrefixConnections,
    Why::PrefixRequests,
    Why::Resets,
    Why::Flood,
    Why::Fills,
    Why::ListenerDenied,
    Why::Denied,
    Why::Unsigned,
    Why::Token,
];

impl Why {
    pub fn word(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::HeadBytes => "head_bytes",
            Self::HeadFields => "head_fields",
            Self::HeadTime => "head_time",
            Self::UriBytes => "uri_bytes",
            Self::BodyBytes => "body_bytes",
            Self::SlowBody => "slow_body",
            Self::SlowReader => "slow_reader",
            Self::Connections => "connections",
            Self::PrefixConnections => "prefix_connections",
            Self::PrefixRequests => "prefix_requests",
            Self::Resets => "h2_resets",
            Self::Flood => "h2_flood",
            Self::Fills => "fills",
            Self::ListenerDenied => "listener_denied",
            Self::Denied => "denied",
            Self::Unsigned => "unsigned",
            Self::Token => "token",
        }
    }

    /// The reason that stands behind a status of the parser's own.
    pub fn of_status(status: u16) -> Self {
        match status {
            408 => Self::HeadTime,
            414 => Self::UriBytes,
            431 => Self::HeadBytes,
            _ => Self::Malformed,
        }
    }
}

/// A request that is not let in, and what its client is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Denial {
    pub why: Why,
    pub status: u16,
    pub text: &'static str,
    /// 0: it would not help to ask again later.
    pub retry_after_s: u64,
}

impl Denial {
    pub const fn new(why: Why, status: u16, text: &'static str) -> Self {
        Self { why, status, text, retry_after_s: 0 }
    }
}

/// What one worker turned away; nobody else writes it.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct Refusals {
    cells: [AtomicU64; ALL.len()],
}

impl Refusals {
    pub fn add(&self, why: Why) {
        if let Some(cell) = self.cells.get(why as usize) {
            cell.store(cell.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        }
    }
}

/// The sums over all workers. No address of a client is in them.
pub fn tell(workers: &[Arc<Refusals>], text: &mut MetricsText) {
    text.family("polycdn_edge_refused_total", Kind::Counter, "Clients turned away, by reason.");
    for why in ALL {
        let cells = workers.iter().filter_map(|worker| worker.cells.get(why as usize));
        let sum: u64 = cells.map(|cell| cell.load(Ordering::Relaxed)).sum();
        text.sample(&[("reason", why.word())], sum);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_own_cell_and_word() {
        for (place, why) in ALL.iter().enumerate() {
            assert_eq!(*why as usize, place);
        }
        let mut words: Vec<&str> = ALL.iter().map(|why| why.word()).collect();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), ALL.len());
    }

    #[test]
    fn workers_are_summed() {
        let workers = [Arc::<Refusals>::default(), Arc::default()];
        workers[0].add(Why::Token);
        workers[1].add(Why::Token);
        workers[1].add(Why::Malformed);
        let mut text = MetricsText::default();
        tell(&workers, &mut text);
        let text = text.into_text();
        assert!(text.contains("refused_total{reason=\"token\"} 2\n"), "{text}");
        assert!(text.contains("refused_total{reason=\"malformed\"} 1\n"), "{text}");
        assert!(text.contains("refused_total{reason=\"denied\"} 0\n"), "{text}");
    }
}
