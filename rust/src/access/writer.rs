//! The file of the access log, and the thread that writes it.

use crate::error::EngineError;
use crate::metrics::{Kind, MetricsText};
use crate::runtime::AccessLogConfig;
use serde::Serialize;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread;
use tokio::sync::oneshot;

/// Lines that may wait to be written.
const QUEUED_MAX: usize = 8_192;
const BUFFER_BYTES: usize = 64 * 1024;

enum Order {
    Line(String),
    Reopen,
    Flush(oneshot::Sender<()>),
}

/// One log, shared by all workers.
pub struct AccessLog {
    pub config: AccessLogConfig,
    orders: SyncSender<Order>,
    tally: Arc<Tally>,
}

#[derive(Default)]
struct Tally {
    written: AtomicU64,
    dropped: AtomicU64,
}

impl AccessLog {
    /// Opens the file and starts the thread that writes.
    pub fn start(config: &AccessLogConfig) -> Result<Self, EngineError> {
        let failed = |error: io::Error| EngineError::system(config.file.display(), error);
        let out = open(&config.file).map_err(failed)?;
        let (orders, incoming) = sync_channel(QUEUED_MAX);
        let tally = Arc::<Tally>::default();
        let writer = Writer {
            path: config.file.clone(),
            out,
            waiting: Vec::with_capacity(BUFFER_BYTES),
            lines: 0,
            is_torn: false,
            tally: Arc::clone(&tally),
        };
        let thread = thread::Builder::new().name("access-log".to_owned());
        thread.spawn(move || writer.run(&incoming)).map_err(failed)?;
        Ok(Self { config: config.clone(), orders, tally })
    }

    /// After the file was moved away.
    pub fn reopen(&self) {
        let _ = self.orders.try_send(Order::Reopen);
    }

    /// Returns when what was queued before is written, or nobody writes.
    pub async fn flush(&self) {
        let (done, waits) = oneshot::channel();
        if self.orders.try_send(Order::Flush(done)).is_ok() {
            let _ = waits.await;
        }
    }

    pub fn tell(&self, text: &mut MetricsText) {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        text.family("polycdn_access_log_lines_total", Kind::Counter, "Lines of the access log written.")
            .sample(&[], read(&self.tally.written));
        text.family(
            "polycdn_access_log_dropped_total",
            Kind::Counter,
            "Lines left out, the queue being full or the file not writable.",
        )
        .sample(&[], read(&self.tally.dropped));
    }

    /// Queues a line, or drops it.
    pub fn put(&self, line: &impl Serialize) {
        let text = serde_json::to_string(line).map(|text| text + "\n");
        let is_queued = text.is_ok_and(|text| self.orders.try_send(Order::Line(text)).is_ok());
        if !is_queued {
            self.tally.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

struct Writer {
    path: PathBuf,
    out: Box<dyn Write + Send>,
    /// What is written with the next call, and how many lines that is.
    waiting: Vec<u8>,
    lines: u64,
    /// A write failed, and may have left half a line.
    is_torn: bool,
    tally: Arc<Tally>,
}

impl Writer {
    fn run(mut self, orders: &Receiver<Order>) {
        loop {
            let order = match orders.try_recv() {
                Ok(order) => order,
                Err(TryRecvError::Disconnected) => return self.flush(),
                Err(TryRecvError::Empty) => {
                    self.flush();
                    let Ok(order) = orders.recv() else { return };
                    order
                }
            };
            match order {
                Order::Line(line) => {
                    self.waiting.extend_from_slice(line.as_bytes());
                    self.lines += 1;
                    if self.waiting.len() >= BUFFER_BYTES {
                        self.flush();
                    }
                }
                Order::Reopen => {
                    self.flush();
                    // Where that fails, the old file is written on.
                    if let Ok(out) = open(&self.path) {
                        self.out = out;
                    }
                }
                Order::Flush(done) => {
                    self.flush();
                    let _ = done.send(());
                }
            }
        }
    }

    /// Writes what waits, or drops it.
    fn flush(&mut self) {
        if self.lines == 0 {
            return;
        }
        let end: &[u8] = if self.is_torn { b"\n" } else { b"" };
        let written = self.out.write_all(end).and_then(|()| self.out.write_all(&self.waiting));
        self.is_torn = written.and_then(|()| self.out.flush()).is_err();
        let counter = if self.is_torn { &self.tally.dropped } else { &self.tally.written };
        counter.fetch_add(self.lines, Ordering::Relaxed);
        self.waiting.clear();
        self.lines = 0;
    }
}

/// Appends, so that two processes can write to one file while one takes over from the other. "-" is standard output.
fn open(path: &Path) -> io::Result<Box<dyn Write + Send>> {
    if path.as_os_str() == "-" {
        return Ok(Box::new(io::stdout()));
    }
    Ok(Box::new(OpenOptions::new().create(true).append(true).open(path)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_find_the_queue_full_are_dropped_and_counted() {
        let folder = tempfile::tempdir().unwrap();
        let (orders, _never_read) = sync_channel(2);
        let tally = Arc::<Tally>::default();
        let file = folder.path().join("log");
        let config = AccessLogConfig { file, sample_bp: 10_000, has_prefix: false, has_query: false };
        let log = AccessLog { config, orders, tally: Arc::clone(&tally) };
        (0..5).for_each(|number| log.put(&number));
        assert_eq!(tally.dropped.load(Ordering::Relaxed), 3);
    }
}
