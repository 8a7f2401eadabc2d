//! The access log: a line of JSON per sampled request. No line tells who asked, but for the client's network if that is
//! switched on, and none tells a query unless that is.
//!
//! A request's `Trail` is known to the thread while the request is worked on (`Traced`), so that whoever learns
//! something of it can note it without being handed it. Lines go through a bounded queue to a thread that writes; when
//! it is full, a line is dropped and counted.

mod writer;

pub use writer::AccessLog;

use crate::clock;
use serde::Serialize;
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

const FULL_BP: u32 = 10_000;

/// What of a client's address a line may tell.
const V4_BITS: u32 = 24;
const V6_BITS: u32 = 48;

/// The longest path in a line; what is cut off ends in "...".
const PATH_BYTES_MAX: usize = 4_096;

/// One worker's use of the log.
pub struct Sampler {
    log: Option<Arc<AccessLog>>,
    due_bp: Cell<u32>,
}

impl Sampler {
    pub fn new(log: Option<Arc<AccessLog>>) -> Self {
        Self { log, due_bp: Cell::new(0) }
    }

    /// Whether the next request gets a line; every n-th does, evenly.
    pub fn draw(&self) -> bool {
        let Some(log) = &self.log else { return false };
        let due_bp = self.due_bp.get() + log.config.sample_bp;
        self.due_bp.set(if due_bp >= FULL_BP { due_bp - FULL_BP } else { due_bp });
        due_bp >= FULL_BP
    }

    /// The work of one request, with a line at its end if `is_drawn`.
    pub async fn traced<F: Future>(&self, is_drawn: bool, asker: Asker, work: F) -> F::Output {
        let Some(log) = self.log.as_ref().filter(|_| is_drawn) else { return work.await };
        Traced { trail: Some(Box::new(Trail::at(asker, log))), work: Box::pin(work) }.await
    }

    pub async fn flush(&self) {
        if let Some(log) = &self.log {
            log.flush().await;
        }
    }
}

/// How a request came.
#[derive(Clone, Copy)]
pub struct Asker {
    pub client: IpAddr,
    pub scheme: &'static str,
    /// "h1" or "h2".
    pub protocol: &'static str,
    pub at_ms: u64,
}

/// What is known of a request so far.
struct Trail {
    asker: Asker,
    log: Arc<AccessLog>,
    began: Instant,
    client: Option<String>,
    service: String,
    method: String,
    path: String,
    status: Option<u16>,
    cache: Option<&'static str>,
    provider: Option<String>,
    bytes: u64,
    first_byte: Option<Duration>,
}

#[derive(Serialize)]
struct Line<'a> {
    at_ms: u64,
    service: &'a str,
    method: &'a str,
    path: &'a str,
    /// null: the client left before there was one.
    status: Option<u16>,
    cache: Option<&'static str>,
    provider: Option<&'a str>,
    bytes: u64,
    first_byte_ms: Option<f64>,
    total_ms: f64,
    protocol: &'static str,
    scheme: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    client: Option<&'a str>,
}

impl Trail {
    fn at(asker: Asker, log: &Arc<AccessLog>) -> Self {
        Self {
            asker,
            log: Arc::clone(log),
            began: clock::moment(),
            client: log.config.has_prefix.then(|| prefix_of(asker.client)),
            service: String::new(),
            method: String::new(),
            path: String::new(),
            status: None,
            cache: None,
            provider: None,
            bytes: 0,
            first_byte: None,
        }
    }

    fn elapsed(&self) -> Duration {
        clock::moment().saturating_duration_since(self.began)
    }
}

impl Drop for Trail {
    fn drop(&mut self) {
        self.log.put(&Line {
            at_ms: self.asker.at_ms,
            service: &self.service,
            method: &self.method,
            path: &self.path,
            status: self.status,
            cache: self.cache,
            provider: self.provider.as_deref(),
            bytes: self.bytes,
            first_byte_ms: self.first_byte.map(millis),
            total_ms: millis(self.elapsed()),
            protocol: self.asker.protocol,
            scheme: self.asker.scheme,
            client: self.client.as_deref(),
        });
    }
}

/// Milliseconds with three digits after the point.
fn millis(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1_000.0
}

fn prefix_of(client: IpAddr) -> String {
    match client.to_canonical() {
        IpAddr::V4(v4) => {
            let cut = std::net::Ipv4Addr::from_bits(v4.to_bits() >> (32 - V4_BITS) << (32 - V4_BITS));
            format!("{cut}/{V4_BITS}")
        }
        IpAddr::V6(v6) => {
            let cut = std::net::Ipv6Addr::from_bits(v6.to_bits() >> (128 - V6_BITS) << (128 - V6_BITS));
            format!("{cut}/{V6_BITS}")
        }
    }
}

thread_local! {
    /// The trail of the request that this thread works on just now.
    static CURRENT: RefCell<Option<Box<Trail>>> = const { RefCell::new(None) };
}

/// The work of a request, whose trail is the thread's while it runs.
struct Traced<F> {
    trail: Option<Box<Trail>>,
    work: Pin<Box<F>>,
}

impl<F: Future> Future for Traced<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let trail = self.trail.take();
        let outer = CURRENT.with_borrow_mut(|current| std::mem::replace(current, trail));
        let polled = self.work.as_mut().poll(cx);
        self.trail = CURRENT.with_borrow_mut(|current| std::mem::replace(current, outer));
        polled
    }
}

fn note(tell: impl FnOnce(&mut Trail)) {
    CURRENT.with_borrow_mut(|current| {
        if let Some(trail) = current.as_deref_mut() {
            tell(trail);
        }
    });
}

/// The request's head was read.
pub fn note_request(service: &str, method: &[u8], target: &[u8]) {
    note(|trail| {
        let has_query = trail.log.config.has_query;
        let end = target.iter().position(|byte| *byte == b'?').filter(|_| !has_query);
        let path = target.get(..end.unwrap_or(target.len())).unwrap_or_default();
        trail.service = service.to_owned();
        trail.method = String::from_utf8_lossy(method).into_owned();
        trail.path = match path.get(..PATH_BYTES_MAX) {
            Some(begin) => format!("{}...", String::from_utf8_lossy(begin)),
            None => String::from_utf8_lossy(path).into_owned(),
        };
    });
}

/// A provider answered well, or worst of all: the last one stands.
pub fn note_provider(name: &str) {
    note(|trail| trail.provider = Some(name.to_owned()));
}

pub fn note_cache(word: &'static str) {
    note(|trail| trail.cache = Some(word));
}

/// The answer's head is about to be written.
pub fn note_answer(status: u16) {
    note(|trail| {
        trail.status = Some(status);
        trail.first_byte = Some(trail.elapsed());
    });
}

pub fn note_sent(bytes: usize) {
    note(|trail| trail.bytes += bytes as u64);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::AccessLogConfig;
    use std::path::Path;

    fn config(file: &Path, sample_bp: u32) -> AccessLogConfig {
        AccessLogConfig { file: file.to_owned(), sample_bp, has_prefix: true, has_query: false }
    }

    fn asker() -> Asker {
        Asker { client: "192.0.2.77".parse().unwrap(), scheme: "http", protocol: "h1", at_ms: 5 }
    }

    fn lines(path: &Path) -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[tokio::test]
    async fn a_line_tells_the_request_and_neither_query_nor_address() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let sampler = Sampler::new(Some(Arc::new(AccessLog::start(&config(&path, FULL_BP)).unwrap())));
        assert!(sampler.draw());
        let work = async {
            note_request("www", b"GET", b"/a\"b?secret=1");
            tokio::task::yield_now().await;
            note_cache("miss");
            note_provider("cdn");
            note_answer(200);
            note_sent(7);
            note_sent(3);
        };
        sampler.traced(true, asker(), work).await;
        note_sent(1_000);
        sampler.flush().await;
        let [line]: [serde_json::Value; 1] = lines(&path).try_into().unwrap();
        let words = ["at_ms", "service", "method", "path", "status", "cache", "provider", "bytes", "client"];
        let told: Vec<String> = words.iter().map(|word| line[word].to_string()).collect();
        let expected = [
            "5",
            "\"www\"",
            "\"GET\"",
            "\"/a\\\"b\"",
            "200",
            "\"miss\"",
            "\"cdn\"",
            "10",
            "\"192.0.2.0/24\"",
        ];
        assert_eq!(told, expected);
        assert!(line["total_ms"].as_f64() >= line["first_byte_ms"].as_f64());
    }

    #[tokio::test]
    async fn two_requests_at_once_do_not_mix_and_one_that_is_dropped_has_its_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let sampler = Sampler::new(Some(Arc::new(AccessLog::start(&config(&path, FULL_BP)).unwrap())));
        let work = |path: &'static [u8]| async move {
            note_request("www", b"GET", path);
            for _ in 0..3 {
                tokio::task::yield_now().await;
                note_sent(path.len());
            }
        };
        let left = async {
            note_request("www", b"GET", b"/left");
            std::future::pending::<()>().await;
        };
        tokio::select! {
            biased;
            () = sampler.traced(true, asker(), left) => {}
            _ = async { tokio::join!(sampler.traced(true, asker(), work(b"/1")), sampler.traced(true, asker(), work(b"/234"))) } => {}
        }
        sampler.flush().await;
        let mut told: Vec<_> = lines(&path)
            .into_iter()
            .map(|line| (line["path"].to_string(), line["bytes"].as_u64().unwrap(), line["status"].is_null()))
            .collect();
        told.sort();
        let expected = [("\"/1\"", 6, true), ("\"/234\"", 12, true), ("\"/left\"", 0, true)];
        assert_eq!(told, expected.map(|(path, bytes, left)| (path.to_owned(), bytes, left)));
    }

    #[tokio::test]
    async fn a_sample_is_even_and_a_file_that_was_moved_is_opened_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let log = Arc::new(AccessLog::start(&config(&path, 2_500)).unwrap());
        let sampler = Sampler::new(Some(Arc::clone(&log)));
        let drawn: Vec<bool> = (0..8).map(|_| sampler.draw()).collect();
        assert_eq!(drawn, [false, false, false, true, false, false, false, true]);
        assert!(!Sampler::new(None).draw());
        sampler.traced(true, asker(), async {}).await;
        sampler.flush().await;
        std::fs::rename(&path, folder.path().join("old")).unwrap();
        log.reopen();
        sampler.traced(true, asker(), async {}).await;
        sampler.flush().await;
        assert_eq!((lines(&path).len(), lines(&folder.path().join("old")).len()), (1, 1));
    }
}
