//! What was counted since the start, for `/metrics`: sums of the seconds that `count` closes.

use crate::count::{Outcome, Reason};
use crate::metrics::{Kind, MetricsText};
use std::collections::BTreeMap;

/// Services, providers and words: their number is bounded by the plans, never by what clients send.
#[derive(Debug, Default)]
pub struct Totals {
    attempts: BTreeMap<(String, String, Reason), u64>,
    served: BTreeMap<(String, Outcome), u64>,
}

impl Totals {
    pub fn add_attempts(&mut self, service: &str, provider: &str, reason: Reason, attempts: u64) {
        *self.attempts.entry((service.to_owned(), provider.to_owned(), reason)).or_default() += attempts;
    }

    pub fn add_served(&mut self, service: &str, outcome: Outcome, requests: u64) {
        *self.served.entry((service.to_owned(), outcome)).or_default() += requests;
    }

    /// The families of a role; seconds that are not closed yet are not in them.
    pub fn tell(&self, role: &str, text: &mut MetricsText) {
        if role == "dns" {
            text.family("polycdn_dns_queries_total", Kind::Counter, "Queries answered.");
            for ((service, outcome), requests) in &self.served {
                text.sample(&[("service", service), ("rcode", outcome.word())], requests);
            }
            return;
        }
        text.family("polycdn_edge_served_total", Kind::Counter, "Requests by how they ended.");
        for ((service, outcome), requests) in &self.served {
            text.sample(&[("service", service), ("outcome", outcome.word())], requests);
        }
        text.family(
            "polycdn_provider_attempts_total",
            Kind::Counter,
            "Attempts at providers by how they ended.",
        );
        for ((service, provider, reason), attempts) in &self.attempts {
            let labels = [("service", service.as_str()), ("provider", provider), ("reason", reason.word())];
            text.sample(&labels, attempts);
        }
    }
}
