//! What each worker counted, per whole second, kept for 300 seconds.
//!
//! A worker counts into its own map; the lock around it is taken by nobody else but the control thread, once a
//! second, so that a worker practically never waits.

use crate::table::Service;
use crate::totals::Totals;
use rustc_hash::FxHashMap;
use serde::Serialize;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Seconds that can still be asked for.
pub const RING_S: usize = 300;

/// The most JSON that one second can leave; rows beyond are left out and counted in `dropped`.
const SECOND_BYTES_MAX: usize = 256 * 1024;

/// Index that stands for the origin where a provider's index is wanted.
pub const ORIGIN_INDEX: u16 = u16::MAX;

/// Why an attempt failed; the words of `model/observation.py`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    Ok,
    Slow,
    Refused,
    Reset,
    Timeout,
    Unreachable,
    Tls,
    CertExpired,
    Protocol,
    Empty,
    Http5xx,
    Status,
    Content,
    Corrupt,
    Truncated,
    Stalled,
    DnsServfail,
    DnsEmpty,
    DnsTimeout,
    Parity,
    Blind,
}

impl Reason {
    pub fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Slow => "slow",
            Self::Refused => "refused",
            Self::Reset => "reset",
            Self::Timeout => "timeout",
            Self::Unreachable => "unreachable",
            Self::Tls => "tls",
            Self::CertExpired => "cert_expired",
            Self::Protocol => "protocol",
            Self::Empty => "empty",
            Self::Http5xx => "http_5xx",
            Self::Status => "status",
            Self::Content => "content",
            Self::Corrupt => "corrupt",
            Self::Truncated => "truncated",
            Self::Stalled => "stalled",
            Self::DnsServfail => "dns_servfail",
            Self::DnsEmpty => "dns_empty",
            Self::DnsTimeout => "dns_timeout",
            Self::Parity => "parity",
            Self::Blind => "blind",
        }
    }

    /// Whether an attempt that ended so counts against the provider.
    pub fn is_failure(self) -> bool {
        !matches!(self, Self::Ok | Self::Blind)
    }
}

/// How a request of a client ended: `Ok` and `Failed` at the edge, an RCODE at the nameserver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Outcome {
    Ok,
    Failed,
    NoError,
    FormErr,
    ServFail,
    NxDomain,
    NotImp,
    Refused,
    BadVers,
}

impl Outcome {
    pub fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Failed => "failed",
            Self::NoError => "NOERROR",
            Self::FormErr => "FORMERR",
            Self::ServFail => "SERVFAIL",
            Self::NxDomain => "NXDOMAIN",
            Self::NotImp => "NOTIMP",
            Self::Refused => "REFUSED",
            Self::BadVers => "BADVERS",
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Key<T> {
    /// Address of the service's table, which `Pending::services` keeps alive; 0 = no service.
    service: usize,
    region: u16,
    provider: u16,
    end: T,
}

#[derive(Clone, Copy, Default)]
struct Cell {
    attempts: u64,
    failures: u64,
    first_byte_ms: u32,
}

#[derive(Default)]
struct Pending {
    services: FxHashMap<usize, Arc<Service>>,
    attempts: FxHashMap<Key<Reason>, Cell>,
    served: FxHashMap<Key<Outcome>, u64>,
}

/// The counters of one worker.
#[derive(Default)]
pub struct WorkerCounts(Mutex<Pending>);

impl WorkerCounts {
    /// One attempt at a provider (its index, or `ORIGIN_INDEX`); `first_byte_ms` 0 = there was none.
    pub fn attempt(
        &self,
        service: &Arc<Service>,
        provider: u16,
        region: u16,
        reason: Reason,
        first_byte_ms: u32,
    ) {
        let mut pending = self.lock();
        let key = Key { service: Arc::as_ptr(service) as usize, region, provider, end: reason };
        let cell = match pending.attempts.get_mut(&key) {
            Some(cell) => cell,
            None => {
                pending.services.entry(key.service).or_insert_with(|| Arc::clone(service));
                pending.attempts.entry(key).or_default()
            }
        };
        cell.attempts += 1;
        cell.failures += u64::from(reason.is_failure());
        cell.first_byte_ms = cell.first_byte_ms.max(first_byte_ms);
    }

    /// One request answered; `service` None when it concerned none of ours.
    pub fn served(&self, service: Option<&Arc<Service>>, region: u16, outcome: Outcome) {
        let mut pending = self.lock();
        let address = service.map_or(0, |service| Arc::as_ptr(service) as usize);
        let key = Key { service: address, region, provider: 0, end: outcome };
        if let Some(requests) = pending.served.get_mut(&key) {
            *requests += 1;
            return;
        }
        if let Some(service) = service {
            pending.services.entry(address).or_insert_with(|| Arc::clone(service));
        }
        pending.served.insert(key, 1);
    }

    fn take(&self) -> Pending {
        std::mem::take(&mut *self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, Pending> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Serialize)]
struct CountRow<'a> {
    at_ms: u64,
    service: &'a str,
    provider: &'a str,
    region: &'a str,
    reason: &'static str,
    attempts: u64,
    failures: u64,
    first_byte_ms: u32,
}

#[derive(Serialize)]
struct ServedRow<'a> {
    at_ms: u64,
    service: &'a str,
    region: &'a str,
    outcome: &'static str,
    requests: u64,
}

/// One closed second, its rows as JSON already, so that an answer is a joining of strings.
struct Second {
    at_ms: u64,
    counts: String,
    served: String,
    dropped: u64,
}

/// The last `RING_S` closed seconds, oldest first.
#[derive(Default)]
pub struct Ring {
    seconds: VecDeque<Second>,
    upto_ms: u64,
    pub totals: Totals,
}

impl Ring {
    /// Closes the second that ended at or before `now_ms` with everything counted since the last call.
    /// A clock that stands still does not stop the counting: the ring then runs ahead of it.
    pub fn close_second<'a>(&mut self, now_ms: u64, workers: impl Iterator<Item = &'a WorkerCounts>) {
        let ended_ms = now_ms - now_ms % 1_000;
        self.upto_ms = ended_ms.max(self.upto_ms + 1_000);
        let pending: Vec<Pending> = workers.map(WorkerCounts::take).collect();
        if pending.iter().any(|one| !one.attempts.is_empty() || !one.served.is_empty()) {
            self.seconds.push_back(Second::new(self.upto_ms - 1_000, &pending, &mut self.totals));
        }
        let oldest_ms = self.upto_ms.saturating_sub(RING_S as u64 * 1_000);
        while self.seconds.front().is_some_and(|second| second.at_ms < oldest_ms) {
            self.seconds.pop_front();
        }
    }

    /// The fields `counts`, `served`, `upto_ms` (and `dropped`, if not 0) of the seconds from `since_ms` on, without
    /// braces, as many whole seconds as fit into `bytes_max`. `upto_ms` is what to ask from next.
    pub fn since(&self, since_ms: u64, bytes_max: usize) -> String {
        let (mut counts, mut served, mut dropped) = (String::new(), String::new(), 0);
        let mut upto_ms = self.upto_ms.max(since_ms);
        for second in self.seconds.iter().filter(|second| second.at_ms >= since_ms) {
            let grown = counts.len() + served.len() + second.counts.len() + second.served.len();
            if grown > bytes_max && !(counts.is_empty() && served.is_empty()) {
                upto_ms = second.at_ms;
                break;
            }
            join(&mut counts, &second.counts);
            join(&mut served, &second.served);
            dropped += second.dropped;
        }
        let dropped = if dropped == 0 { String::new() } else { format!(",\"dropped\":{dropped}") };
        format!("\"counts\":[{counts}],\"served\":[{served}],\"upto_ms\":{upto_ms}{dropped}")
    }
}

impl Second {
    fn new(at_ms: u64, workers: &[Pending], totals: &mut Totals) -> Self {
        let mut second = Self { at_ms, counts: String::new(), served: String::new(), dropped: 0 };
        for ((service, provider, region, reason), cell) in merged_attempts(workers) {
            let Cell { attempts, failures, first_byte_ms } = cell;
            totals.add_attempts(service, provider, reason, attempts);
            let reason = reason.word();
            let row =
                CountRow { at_ms, service, provider, region, reason, attempts, failures, first_byte_ms };
            second.dropped += push_row(&mut second.counts, &row);
        }
        for ((service, region, outcome), requests) in merged_served(workers) {
            totals.add_served(service, outcome, requests);
            let row = ServedRow { at_ms, service, region, outcome: outcome.word(), requests };
            second.dropped += push_row(&mut second.served, &row);
        }
        second
    }
}

type AttemptRows<'a> = BTreeMap<(&'a str, &'a str, &'a str, Reason), Cell>;
type ServedRows<'a> = BTreeMap<(&'a str, &'a str, Outcome), u64>;

/// Summed over workers, and over two plans of one service that were in force in the same second.
fn merged_attempts(workers: &[Pending]) -> AttemptRows<'_> {
    let mut rows = AttemptRows::new();
    for pending in workers {
        for (key, cell) in &pending.attempts {
            let Some(service) = pending.services.get(&key.service) else { continue };
            let (provider, region) = (service.upstream_name(key.provider), &*service.region(key.region).name);
            let row = rows.entry((&*service.name, provider, region, key.end)).or_default();
            row.attempts += cell.attempts;
            row.failures += cell.failures;
            row.first_byte_ms = row.first_byte_ms.max(cell.first_byte_ms);
        }
    }
    rows
}

fn merged_served(workers: &[Pending]) -> ServedRows<'_> {
    let mut rows = ServedRows::new();
    for pending in workers {
        for (key, requests) in &pending.served {
            let names = pending.services.get(&key.service);
            let names = names.map_or(("", ""), |service| (&*service.name, &*service.region(key.region).name));
            *rows.entry((names.0, names.1, key.end)).or_default() += requests;
        }
    }
    rows
}

/// How many rows were dropped: 0 or 1.
fn push_row(rows: &mut String, row: &impl Serialize) -> u64 {
    match serde_json::to_string(row) {
        Ok(text) if rows.len() + text.len() < SECOND_BYTES_MAX => {
            join(rows, &text);
            0
        }
        _ => 1,
    }
}

fn join(rows: &mut String, more: &str) {
    if !rows.is_empty() && !more.is_empty() {
        rows.push(',');
    }
    rows.push_str(more);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::{parse_plan, parse_settings};
    use serde_json::{Value, json};

    fn service() -> Arc<Service> {
        let endpoint = json!({"host": "h.test"});
        let settings = json!({
            "service": "www", "hostnames": ["www.test"],
            "upstreams": [{"name": "cdn", "kind": "cdn", "endpoint": endpoint}],
        });
        let region = json!({"region": "anywhere", "shares": [["cdn", 10_000]], "order": ["cdn"], "ttl_s": 1});
        let plan = json!({
            "plan": {"service": "www", "generation": 1, "parent": 0, "made_ms": 0, "regions": [region]},
            "settings_hash": "",
        });
        let settings = parse_settings(settings.to_string().as_bytes()).unwrap();
        let plan = parse_plan(plan.to_string().as_bytes()).unwrap();
        Arc::new(Service::compile(settings, &plan).unwrap())
    }

    fn read(ring: &Ring, since_ms: u64, bytes_max: usize) -> Value {
        serde_json::from_str(&format!("{{{}}}", ring.since(since_ms, bytes_max))).unwrap()
    }

    #[test]
    fn workers_and_tables_of_one_service_are_summed_by_second_and_name() {
        let (workers, mut ring) = ([WorkerCounts::default(), WorkerCounts::default()], Ring::default());
        for (worker, first_byte_ms) in [(0, 7), (1, 9), (1, 3)] {
            workers[worker].attempt(&service(), 0, 0, Reason::Ok, first_byte_ms);
        }
        workers[0].attempt(&service(), 0, 0, Reason::Http5xx, 1);
        workers[0].attempt(&service(), ORIGIN_INDEX, 0, Reason::Blind, 0);
        workers[1].served(Some(&service()), 0, Outcome::Failed);
        workers[1].served(None, 0, Outcome::Refused);
        ring.close_second(5_004, workers.iter());
        let row = |provider: &str, reason: &str, numbers: [u64; 3]| {
            json!({
                "at_ms": 4_000, "service": "www", "provider": provider, "region": "anywhere", "reason": reason,
                "attempts": numbers[0], "failures": numbers[1], "first_byte_ms": numbers[2],
            })
        };
        let served = |service: &str, region: &str, outcome: &str| json!({"at_ms": 4_000, "service": service, "region": region, "outcome": outcome, "requests": 1});
        let expected = json!({
            "counts": [
                row("cdn", "ok", [3, 0, 9]), row("cdn", "http_5xx", [1, 1, 1]), row("origin", "blind", [1, 0, 0]),
            ],
            "served": [served("", "", "REFUSED"), served("www", "anywhere", "failed")],
            "upto_ms": 5_000,
        });
        assert_eq!(read(&ring, 0, 10_000), expected);
        assert_eq!(read(&ring, 5_000, 10_000), json!({"counts": [], "served": [], "upto_ms": 5_000}));
    }

    /// Seconds 1 to `seconds`, each with one query.
    fn filled(seconds: u64) -> Ring {
        let (worker, mut ring) = (WorkerCounts::default(), Ring::default());
        for second in 1..=seconds {
            worker.served(None, 0, Outcome::NoError);
            ring.close_second((second + 1) * 1_000 + 3, [&worker].into_iter());
        }
        ring
    }

    #[test]
    fn what_does_not_fit_into_a_line_comes_with_the_next_question() {
        let (ring, mut since_ms, mut seen) = (filled(100), 0, Vec::new());
        while since_ms < 101_000 {
            let answer = read(&ring, since_ms, 1_000);
            assert!(answer.to_string().len() < 1_100);
            seen.extend(
                answer["served"].as_array().unwrap().iter().map(|row| row["at_ms"].as_u64().unwrap()),
            );
            since_ms = answer["upto_ms"].as_u64().unwrap();
        }
        assert_eq!(seen, (1..=100).map(|second| second * 1_000).collect::<Vec<u64>>());
    }

    #[test]
    fn seconds_are_kept_for_five_minutes() {
        let answer = read(&filled(1_000), 0, 1_000_000);
        assert_eq!(answer["served"].as_array().unwrap().len(), RING_S);
        assert_eq!(answer["served"][0]["at_ms"], 701_000);
    }

    #[test]
    fn a_clock_that_stands_still_does_not_stop_the_counting() {
        let (worker, mut ring) = (WorkerCounts::default(), Ring::default());
        for _ in 0..3 {
            worker.served(None, 0, Outcome::NoError);
            ring.close_second(9_999, [&worker].into_iter());
        }
        let answer = read(&ring, 9_000, 1_000_000);
        assert_eq!((answer["served"].as_array().unwrap().len(), &answer["upto_ms"]), (2, &json!(11_000)));
    }

    #[test]
    fn a_second_with_too_many_rows_says_how_many_it_dropped() {
        let mut second = Second { at_ms: 0, counts: String::new(), served: String::new(), dropped: 0 };
        for _ in 0..10 {
            second.dropped += push_row(&mut second.counts, &json!("x".repeat(SECOND_BYTES_MAX / 4)));
        }
        let mut ring = Ring::default();
        ring.seconds.push_back(second);
        assert_eq!(read(&ring, 0, 10_000_000)["dropped"], 7);
    }
}
