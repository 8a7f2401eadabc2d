//! What is in the segments of earlier sessions: from the list of each full one, by a walk over the headers of the others.

use crate::cache::store::disk::catalog::{Catalog, HeadAt, Place};
use crate::cache::store::disk::log::{LIST_ENTRY_BYTES, Tail};
use crate::cache::store::disk::record::{HEADER_BYTES, Header, Kind};
use crate::cache::store::disk::segment::Segments;
use crate::cache::store::hash::checksum;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;

/// Headers are read through a window: one read for many small records.
const WINDOW_BYTES: usize = 256 * 1_024;

/// What was found.
#[derive(Debug, Default)]
pub struct Recovered {
    pub tail: Tail,
    /// The first and the latest epoch in which a fetch began; None when there is nothing.
    pub born: Option<(u64, u64)>,
    pub records: u64,
}

/// Fills `catalog` from the segments, oldest first, so that what came later wins.
pub fn recover(segments: &Segments, catalog: &Catalog) -> io::Result<Recovered> {
    let mut found = Vec::new();
    for segment in 0..segments.number() {
        match segments.open(segment, false) {
            Ok(file) => found.extend(Lying::read(segments, segment, &file)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    found.sort_by_key(|lying| lying.generation);
    let mut recovered = Recovered::default();
    for lying in found {
        for (offset, header) in lying.records(segments.seal()) {
            let place = Place { segment: lying.segment, offset, generation: lying.generation };
            enter(catalog, place, &header);
            if matches!(header.kind, Kind::Whole | Kind::Head) {
                let (first, last) = recovered.born.unwrap_or((header.born, header.born));
                recovered.born = Some((first.min(header.born), last.max(header.born)));
            }
            recovered.records += 1;
        }
        recovered.tail = lying.tail(segments.bytes());
    }
    Ok(recovered)
}

fn enter(catalog: &Catalog, place: Place, header: &Header) {
    match header.kind {
        Kind::Whole | Kind::Head => {
            catalog.put_head(header.hash, HeadAt { body: header.body, place });
        }
        Kind::Block => {
            catalog.put_block(header.body, header.place, place);
        }
        Kind::Gone => {
            catalog.forget_head(header.hash, header.body);
        }
    }
}

/// What lies in one segment, as a list.
struct Lying {
    segment: u32,
    generation: u64,
    list: Vec<u8>,
    /// Where the last record ends; None when it was full.
    at: Option<u64>,
}

impl Lying {
    /// None when the segment holds nothing.
    fn read(segments: &Segments, segment: u32, file: &File) -> io::Result<Option<Self>> {
        let mut window = Window { file, seal: segments.seal(), start: 0, octets: Vec::new() };
        let Some(first) = window.header(0)? else { return Ok(None) };
        let generation = first.generation;
        if let Some(list) =
            fs::read(segments.list_path(segment)).ok().and_then(|list| whole(list, generation))
        {
            return Ok(Some(Self { segment, generation, list, at: None }));
        }
        let (mut list, mut at, mut session) = (Vec::new(), 0, 0);
        // A later session never wrote before an earlier one, so an earlier header is what is left of an older tail.
        while let Some(header) = window.header(at)? {
            let end = at + header.record_bytes();
            if header.generation != generation || header.session < session || end > segments.bytes() {
                break;
            }
            list.extend(at.to_le_bytes());
            list.extend(header.encode(segments.seal()));
            (at, session) = (end, header.session);
        }
        Ok(Some(Self { segment, generation, list, at: Some(at) }))
    }

    fn records(&self, seal: u64) -> impl Iterator<Item = (u64, Header)> + '_ {
        self.list.chunks_exact(LIST_ENTRY_BYTES).filter_map(move |entry| {
            let (offset, header) = entry.split_at_checked(8)?;
            let header = Header::decode(header, seal)?;
            (header.generation == self.generation).then_some(())?;
            Some((u64::from_le_bytes(offset.try_into().ok()?), header))
        })
    }

    fn tail(self, segment_bytes: u64) -> Tail {
        let at = self.at.unwrap_or(segment_bytes);
        Tail { segment: self.segment, generation: self.generation, at, list: self.list }
    }
}

/// A list without its sum; None when that is wrong.
fn whole(mut list: Vec<u8>, generation: u64) -> Option<Vec<u8>> {
    let entries_bytes = list.len().checked_sub(8).filter(|bytes| bytes % LIST_ENTRY_BYTES == 0)?;
    let sum = list.split_off(entries_bytes);
    (u64::from_le_bytes(sum.try_into().ok()?) == checksum(&list, generation)).then_some(list)
}

struct Window<'f> {
    file: &'f File,
    seal: u64,
    start: u64,
    octets: Vec<u8>,
}

impl Window<'_> {
    /// The header at an offset; None when there is none.
    fn header(&mut self, at: u64) -> io::Result<Option<Header>> {
        let inside = at.checked_sub(self.start).map(|from| from as usize);
        let is_inside = inside.is_some_and(|from| from + HEADER_BYTES <= self.octets.len());
        if !is_inside {
            self.octets.resize(WINDOW_BYTES, 0);
            let read = self.file.read_at(&mut self.octets, at)?;
            self.octets.truncate(read);
            self.start = at;
        }
        let from = (at - self.start) as usize;
        Ok(self.octets.get(from..).and_then(|bytes| Header::decode(bytes, self.seal)))
    }
}
