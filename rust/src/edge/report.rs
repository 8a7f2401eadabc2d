//! Says once how an attempt, and the request with it, ended.

use crate::count::{Outcome, Reason};
use crate::edge::route::Route;

pub struct Report {
    pub route: Route,
    pub provider: u16,
    pub first_byte_ms: u32,
    /// What the answer's head was judged; a failure if it is passed on because there was no better one.
    pub verdict: Reason,
    pub began_ms: u64,
    pub is_attempt_counted: bool,
    pub is_request_counted: bool,
}

impl Report {
    pub fn attempt(&mut self, reason: Reason) {
        if !std::mem::replace(&mut self.is_attempt_counted, true) {
            self.route.count(self.provider, reason, self.first_byte_ms);
        }
    }

    /// The body came whole, or the client did not want more of it.
    pub fn finished(&mut self) {
        self.attempt(self.verdict);
        let outcome = if self.verdict == Reason::Ok { Outcome::Ok } else { Outcome::Failed };
        self.request(outcome);
    }

    /// The attempt failed; the request may still go on elsewhere.
    pub fn failed(&mut self, reason: Reason) {
        // Counted as good a while ago, it is counted once more: a failure must not be lost.
        self.is_attempt_counted = false;
        self.attempt(reason);
    }

    /// The request goes on with another provider.
    pub fn goes_on(&mut self, provider: u16, first_byte_ms: u32) {
        (self.provider, self.first_byte_ms) = (provider, first_byte_ms);
        (self.verdict, self.is_attempt_counted) = (Reason::Ok, false);
        self.began_ms = self.route.edge.now_ms();
    }

    /// The client's answer was cut.
    pub fn cut(&mut self) {
        self.is_attempt_counted = true;
        self.request(Outcome::Failed);
    }

    fn request(&mut self, outcome: Outcome) {
        if !std::mem::replace(&mut self.is_request_counted, true) {
            self.route.edge.counts.served(Some(&self.route.site.service), self.route.region, outcome);
        }
    }
}

impl Drop for Report {
    fn drop(&mut self) {
        self.finished();
    }
}
