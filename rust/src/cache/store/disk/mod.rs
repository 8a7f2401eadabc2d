//! The disk tier: what was kept is also written to a log of segments, and found again after a restart.
//!
//! It is a help and never a condition: whatever fails here is counted, and the object is fetched as if it had not been
//! there. All input and output happens on threads of its own.
//!
//! | file | holds | after a SIGKILL |
//! |---|---|---|
//! | `identity` | the folder's secret, the number of openings | replaced whole, so there is always a good one |
//! | `segment-NNNN` | records, appended | the last record may be torn; its checksums say so when it is read |
//! | `list-NNNN` | the headers of a full segment | written once; if its checksum is wrong the segment is walked |
//! | `purges` | purges, appended, each durable before it is confirmed | a torn last one was not confirmed |

pub mod catalog;
pub mod identity;
pub mod log;
pub mod notes;
pub mod record;
pub mod recover;
pub mod segment;
mod thread;

use crate::cache::store::hash::Secret;
use crate::cache::store::ledger::Ledger;
use crate::cache::store::locked;
use crate::cache::store::purge::{Note, Purges};
use bytes::Bytes;
use catalog::Catalog;
use identity::Identity;
use log::Log;
use notes::Notes;
use record::Header;
use recover::{Recovered, recover};
use segment::Segments;
use std::fs::{self, File};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use tokio::sync::oneshot;

/// Segments of a full tier: reuse takes the oldest one of these at a time.
const SEGMENTS: u64 = 32;
const SEGMENT_BYTES_MAX: u64 = 1 << 30;
const READERS: usize = 2;
/// Failures in a row after which a direction is left alone, and for how long.
const FAILURES_MAX: u32 = 3;
const PAUSE_MS: u64 = 30_000;
/// What may wait to be written before more is left out.
const QUEUED_BYTES_MAX: u64 = 32 << 20;
/// What may wait to be read before requests go to the origin instead.
const READS_QUEUED_MAX: u64 = 1_024;

/// Work for the reading threads.
pub(super) type Job = Box<dyn FnOnce() + Send>;

/// Work for the writing thread.
pub(super) enum Order {
    Put { header: Header, head: Vec<u8>, body: Bytes },
    Gone { header: Header },
    Note(Note, oneshot::Sender<bool>),
    Flush(oneshot::Sender<bool>),
    Close(oneshot::Sender<bool>),
}

/// One direction of the disk, read or write.
#[derive(Default)]
pub struct Health {
    failures: AtomicU32,
    is_off: AtomicBool,
    off_since_ms: AtomicU64,
    errors: AtomicU64,
}

impl Health {
    pub fn is_off(&self) -> bool {
        self.is_off.load(Ordering::Relaxed)
    }

    fn record(&self, is_failure: bool) {
        if !is_failure {
            self.failures.store(0, Ordering::Relaxed);
            return;
        }
        self.errors.fetch_add(1, Ordering::Relaxed);
        if self.failures.fetch_add(1, Ordering::Relaxed) + 1 >= FAILURES_MAX {
            self.is_off.store(true, Ordering::Relaxed);
        }
    }

    fn tick(&self, now_ms: u64) {
        if !self.is_off() {
            return;
        }
        let since_ms = self.off_since_ms.load(Ordering::Relaxed);
        if since_ms == 0 {
            self.off_since_ms.store(now_ms.max(1), Ordering::Relaxed);
        } else if now_ms >= since_ms + PAUSE_MS {
            self.off_since_ms.store(0, Ordering::Relaxed);
            // The next failure switches it off again at once.
            self.failures.store(FAILURES_MAX - 1, Ordering::Relaxed);
            self.is_off.store(false, Ordering::Relaxed);
        }
    }
}

/// Since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskCounts {
    pub heads: u64,
    pub blocks: u64,
    /// Records read and found right.
    pub hits: u64,
    /// Records found damaged or overwritten.
    pub damaged: u64,
    pub errors: u64,
    pub written_bytes: u64,
    /// Objects and blocks not written because the disk was too slow or switched off.
    pub skipped: u64,
    pub is_off: bool,
}

/// What the threads share.
pub(super) struct Core {
    pub catalog: Arc<Catalog>,
    pub segments: Arc<Segments>,
    pub purges: Arc<Purges>,
    pub writing: Health,
    pub reading: Health,
    pub queued_bytes: AtomicU64,
    pub reads_queued: AtomicU64,
    pub hits: AtomicU64,
    pub damaged: AtomicU64,
    pub written_bytes: AtomicU64,
    pub skipped: AtomicU64,
    pub folder: Box<Path>,
    /// Held while any thread may still write; None once the folder is another's.
    lock: Mutex<Option<File>>,
}

impl Core {
    /// Whether the folder is another process's by now.
    pub fn is_closed(&self) -> bool {
        locked(&self.lock).is_none()
    }

    /// Lets go of the folder.
    pub fn close(&self) {
        self.writing.is_off.store(true, Ordering::Relaxed);
        self.reading.is_off.store(true, Ordering::Relaxed);
        *locked(&self.lock) = None;
    }

    /// How a read went, for deciding whether to go on reading.
    pub fn note_read(&self, is_failure: bool) {
        self.reading.record(is_failure);
    }
}

/// The disk tier of one store.
pub struct Disk {
    pub(super) core: Arc<Core>,
    pub(super) secret: Secret,
    /// Bodies of this process have numbers from here on.
    pub(super) first_body: u64,
    orders: Sender<Order>,
    reads: Sender<Job>,
}

impl Disk {
    /// Opens a folder, reads what is in it and starts the threads. Fails when another process uses the folder. What does
    /// not belong to a store of these sizes, or may be missing a purge, is deleted.
    pub fn open(
        folder: &Path,
        bytes: u64,
        block_bytes: u64,
        ledger: &Arc<Ledger>,
        purges: &Arc<Purges>,
    ) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let lock = File::create(folder.join("lock"))?;
        rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive)?;
        let segment_bytes = segment_bytes(bytes, block_bytes)?;
        let number = (bytes / segment_bytes) as u32;
        let known = Identity::read(folder)
            .filter(|known| known.segment_bytes == segment_bytes && known.block_bytes == block_bytes);
        let noted = Notes::read(folder).ok();
        let (identity, kept) = match known.zip(noted) {
            Some((known, noted)) => (Identity { session: known.session + 1, ..known }, Some(noted)),
            None => (fresh(segment_bytes, block_bytes), None),
        };
        let segments = Arc::new(Segments::new(folder, number, segment_bytes, identity.secret.1));
        let catalog = Arc::new(Catalog::new(ledger));
        let recovered = Self::take_over(folder, &segments, &catalog, purges, kept)?;
        identity.write(folder)?;
        let notes = Notes::rewrite(folder, &purges.notes())?;
        let core = Arc::new(Core {
            catalog: Arc::clone(&catalog),
            segments: Arc::clone(&segments),
            purges: Arc::clone(purges),
            writing: Health::default(),
            reading: Health::default(),
            queued_bytes: AtomicU64::new(0),
            reads_queued: AtomicU64::new(0),
            hits: AtomicU64::new(0),
            damaged: AtomicU64::new(0),
            written_bytes: AtomicU64::new(0),
            skipped: AtomicU64::new(0),
            folder: folder.into(),
            lock: Mutex::new(Some(lock)),
        });
        let log = Log::new(&segments, &catalog, identity.session, recovered.tail);
        let (orders, orders_in) = channel();
        let (reads, reads_in) = channel();
        thread::start(&core, READERS, log, notes, orders_in, reads_in)?;
        let first_body = identity.session << 40;
        Ok(Self { core, secret: identity.secret, first_body, orders, reads })
    }

    /// Reads what earlier sessions left, or deletes it.
    fn take_over(
        folder: &Path,
        segments: &Segments,
        catalog: &Catalog,
        purges: &Purges,
        kept: Option<Vec<Note>>,
    ) -> io::Result<Recovered> {
        if let Some(notes) = kept {
            let recovered = recover(segments, catalog)?;
            let noted = notes.iter().map(|note| note.epoch).max().unwrap_or(0);
            let (born_first, born_last) = recovered.born.unwrap_or((noted, noted));
            // An object that began after the last purge that is noted: a purge is missing.
            if born_last <= noted {
                purges.restore(notes, noted);
                purges.forget(born_first);
                return Ok(recovered);
            }
            (0..segments.number()).for_each(|segment| catalog.forget_segment(segment));
        }
        Segments::wipe(folder)?;
        segments.close();
        purges.restore(Vec::new(), 0);
        Ok(Recovered::default())
    }

    pub(super) fn hash(&self, key: &[u8]) -> u64 {
        self.secret.hash(key)
    }

    /// Writes when there is time, or not at all.
    pub(super) fn put(&self, header: Header, head: Vec<u8>, body: Bytes) {
        let bytes = header.record_bytes();
        let queued_bytes = self.core.queued_bytes.fetch_add(bytes, Ordering::Relaxed);
        let order = Order::Put { header, head, body };
        if queued_bytes + bytes > QUEUED_BYTES_MAX
            || self.core.writing.is_off()
            || self.orders.send(order).is_err()
        {
            self.core.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
            self.core.skipped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// An object must not be found here again.
    pub(super) fn forget(&self, header: Header) {
        self.core.catalog.forget_head(header.hash, header.body);
        let _ = self.orders.send(Order::Gone { header });
    }

    pub(super) fn note(&self, note: Note) -> oneshot::Receiver<bool> {
        let (done, waits) = oneshot::channel();
        let _ = self.orders.send(Order::Note(note, done));
        waits
    }

    /// Says true when everything ordered so far is written.
    pub fn flush(&self) -> oneshot::Receiver<bool> {
        let (done, waits) = oneshot::channel();
        let _ = self.orders.send(Order::Flush(done));
        waits
    }

    /// Says true when everything ordered so far is written and another process may open the folder. From then on this
    /// tier writes nothing and finds nothing.
    pub fn close(&self) -> oneshot::Receiver<bool> {
        let (done, waits) = oneshot::channel();
        self.core.reading.is_off.store(true, Ordering::Relaxed);
        let _ = self.orders.send(Order::Close(done));
        waits
    }

    /// When there is nobody to do it, the job is dropped and the tier is asked no more.
    pub(super) fn read(&self, job: Job) {
        self.core.reads_queued.fetch_add(1, Ordering::Relaxed);
        if self.reads.send(job).is_err() {
            self.core.reading.is_off.store(true, Ordering::Relaxed);
        }
    }

    pub(super) fn can_read(&self) -> bool {
        !self.core.reading.is_off() && self.core.reads_queued.load(Ordering::Relaxed) < READS_QUEUED_MAX
    }

    pub(super) fn tick(&self, now_ms: u64) {
        if self.core.is_closed() {
            return;
        }
        self.core.writing.tick(now_ms);
        self.core.reading.tick(now_ms);
    }

    pub fn counts(&self) -> DiskCounts {
        let core = &self.core;
        let (heads, blocks) = core.catalog.counts();
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        DiskCounts {
            heads,
            blocks,
            hits: read(&core.hits),
            damaged: read(&core.damaged),
            errors: read(&core.writing.errors) + read(&core.reading.errors),
            written_bytes: read(&core.written_bytes),
            skipped: read(&core.skipped),
            is_off: core.writing.is_off() || core.reading.is_off(),
        }
    }
}

/// What a purge without a note on disk comes to: nothing there may be served after a restart.
pub(super) fn disown(folder: &Path) -> bool {
    fs::remove_file(folder.join("identity")).is_ok()
}

fn segment_bytes(bytes: u64, block_bytes: u64) -> io::Result<u64> {
    // The largest record is a block with the longest head.
    let least = (block_bytes + (2 << 20)).next_multiple_of(4_096);
    let segment_bytes = (bytes / SEGMENTS / 4_096 * 4_096).clamp(least, SEGMENT_BYTES_MAX.max(least));
    if bytes / segment_bytes < 2 {
        let why = format!(
            "{bytes} bytes of disk are too few for blocks of {block_bytes}: at least {} are needed",
            2 * least
        );
        return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    }
    Ok(segment_bytes)
}

fn fresh(segment_bytes: u64, block_bytes: u64) -> Identity {
    let random = RandomState::new();
    let secret = Secret(random.hash_one(2_u8), random.hash_one(3_u8));
    Identity { secret, session: 1, segment_bytes, block_bytes }
}
