//! The threads of the disk tier. They end when the store is dropped and all work is done.

use crate::cache::store::disk::catalog::HeadAt;
use crate::cache::store::disk::log::Log;
use crate::cache::store::disk::notes::Notes;
use crate::cache::store::disk::record::{Header, Kind};
use crate::cache::store::disk::{Core, Job, Order, disown};
use crate::cache::store::locked;
use crate::cache::store::purge::Note;
use std::io;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex};
use std::thread::Builder;

/// The file of purges is written anew, with only what still counts, when it is longer than this.
const NOTES_BYTES_MAX: u64 = 16 << 20;

pub(super) fn start(
    core: &Arc<Core>,
    readers: usize,
    log: Log,
    notes: Notes,
    orders: Receiver<Order>,
    reads: Receiver<Job>,
) -> io::Result<()> {
    let writer = Writing { core: Arc::clone(core), log, notes };
    Builder::new().name("cache-write".into()).spawn(move || writer.run(&orders))?;
    let reads = Arc::new(Mutex::new(reads));
    for _ in 0..readers {
        let (core, reads) = (Arc::clone(core), Arc::clone(&reads));
        Builder::new().name("cache-read".into()).spawn(move || {
            loop {
                let Ok(job) = locked(&reads).recv() else { return };
                core.reads_queued.fetch_sub(1, Ordering::Relaxed);
                job();
            }
        })?;
    }
    Ok(())
}

struct Writing {
    core: Arc<Core>,
    log: Log,
    notes: Notes,
}

impl Writing {
    fn run(mut self, orders: &Receiver<Order>) {
        for order in orders {
            match order {
                Order::Put { header, head, body } => self.put(header, &head, &body),
                Order::Gone { header } => self.gone(header),
                Order::Note(note, done) => {
                    let _ = done.send(self.note(&note));
                }
                Order::Flush(done) => {
                    let _ = done.send(!self.core.writing.is_off());
                }
                Order::Close(done) => {
                    self.core.close();
                    let _ = done.send(true);
                }
            }
        }
    }

    fn put(&mut self, header: Header, head: &[u8], body: &[u8]) {
        let core = &self.core;
        core.queued_bytes.fetch_sub(header.record_bytes(), Ordering::Relaxed);
        if core.writing.is_off() {
            core.skipped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let appended = self.log.append(header, head, body);
        core.writing.record(appended.is_err());
        let Ok(place) = appended else { return };
        core.written_bytes.fetch_add(header.record_bytes(), Ordering::Relaxed);
        if header.kind == Kind::Block {
            core.catalog.put_block(header.body, header.place, place);
        } else {
            core.catalog.put_head(header.hash, HeadAt { body: header.body, place });
        }
    }

    fn gone(&mut self, header: Header) {
        // Its own record may have been written while this order waited.
        self.core.catalog.forget_head(header.hash, header.body);
        if self.core.is_closed() {
            return;
        }
        if self.core.writing.is_off() {
            disown(&self.core.folder);
            return;
        }
        let appended = self.log.append(header, &[], &[]);
        self.core.writing.record(appended.is_err());
        if appended.is_err() {
            disown(&self.core.folder);
        }
    }

    fn note(&mut self, note: &Note) -> bool {
        if self.core.is_closed() {
            return false;
        }
        if self.notes.bytes() > NOTES_BYTES_MAX {
            // The table has this purge already: it was changed before the note was ordered.
            match Notes::rewrite(&self.core.folder, &self.core.purges.notes()) {
                Ok(notes) => self.notes = notes,
                Err(_) => self.core.writing.record(true),
            }
        }
        let appended = self.notes.append(note);
        self.core.writing.record(appended.is_err());
        if appended.is_err() {
            disown(&self.core.folder);
        }
        appended.is_ok()
    }
}
