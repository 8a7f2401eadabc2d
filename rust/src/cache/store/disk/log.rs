//! The writing end of the segments.

use crate::cache::store::disk::catalog::{Catalog, Place};
use crate::cache::store::disk::record::{HEADER_BYTES, Header};
use crate::cache::store::disk::segment::Segments;
use crate::cache::store::hash::checksum;
use std::fs;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// An entry of a segment's list: the offset, then the header.
pub const LIST_ENTRY_BYTES: usize = 8 + HEADER_BYTES;

/// Where the next record goes.
pub struct Log {
    segments: Arc<Segments>,
    catalog: Arc<Catalog>,
    session: u64,
    segment: u32,
    generation: u64,
    at: u64,
    /// The list of the segment that is being written.
    list: Vec<u8>,
}

impl Log {
    /// Goes on after the last record of an earlier session, or begins at the front of the first segment.
    pub fn new(segments: &Arc<Segments>, catalog: &Arc<Catalog>, session: u64, tail: Tail) -> Self {
        Self {
            segments: Arc::clone(segments),
            catalog: Arc::clone(catalog),
            session,
            segment: tail.segment,
            generation: tail.generation,
            at: tail.at,
            list: tail.list,
        }
    }

    /// Appends a record; returns where it lies. `head` is key, meta, wire and tags, its sums in the header already.
    pub fn append(&mut self, header: Header, head: &[u8], body: &[u8]) -> io::Result<Place> {
        let bytes = header.record_bytes();
        if bytes > self.segments.bytes() {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        if self.at + bytes > self.segments.bytes() {
            self.next_segment()?;
        }
        let header = Header { generation: self.generation, session: self.session, ..header };
        let sealed = header.encode(self.segments.seal());
        let mut record = Vec::with_capacity(bytes as usize);
        record.extend_from_slice(&sealed);
        record.extend_from_slice(head);
        record.extend_from_slice(body);
        record.resize(bytes as usize, 0);
        // A failed write leaves `at` where it was: what was half written is written over, or ends the scan.
        self.segments.open(self.segment, true)?.write_all_at(&record, self.at)?;
        let place = Place { segment: self.segment, offset: self.at, generation: self.generation };
        self.list.extend(self.at.to_le_bytes());
        self.list.extend(sealed);
        self.at += bytes;
        Ok(place)
    }

    fn next_segment(&mut self) -> io::Result<()> {
        let sum = checksum(&self.list, self.generation);
        self.list.extend(sum.to_le_bytes());
        // A list that was not written is made up for by a scan.
        let _ = fs::write(self.segments.list_path(self.segment), &self.list);
        self.list.clear();
        let next = (self.segment + 1) % self.segments.number();
        self.catalog.forget_segment(next);
        match fs::remove_file(self.segments.list_path(next)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        (self.segment, self.generation, self.at) = (next, self.generation + 1, 0);
        Ok(())
    }
}

/// The end of what is written.
#[derive(Debug, PartialEq, Eq)]
pub struct Tail {
    pub segment: u32,
    pub generation: u64,
    pub at: u64,
    pub list: Vec<u8>,
}

impl Default for Tail {
    fn default() -> Self {
        Self { segment: 0, generation: 1, at: 0, list: Vec::new() }
    }
}
