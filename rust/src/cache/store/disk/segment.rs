//! The files of the disk tier: segments of one size, written from front to back, the oldest written anew when all are full.
//! Nothing in a segment is ever changed in place while it may be served.

use crate::cache::store::disk::catalog::Place;
use crate::cache::store::disk::record::{HEADER_BYTES, Header, part_sum};
use rustix::fs::{FallocateFlags, fallocate};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// A record as it is read back, its sums right.
pub struct Found {
    pub header: Header,
    /// Key, meta, wire and tags.
    pub head: Box<[u8]>,
    pub body: Box<[u8]>,
}

/// What reading came to.
#[derive(Debug)]
pub enum Unread {
    /// Another record stands there now, or it is damaged.
    Other,
    Io(io::Error),
}

/// The open files of all segments.
pub struct Segments {
    folder: PathBuf,
    bytes: u64,
    seal: u64,
    files: Box<[Mutex<Option<Arc<File>>>]>,
}

impl Segments {
    pub fn new(folder: &Path, number: u32, bytes: u64, seal: u64) -> Self {
        let files = (0..number).map(|_| Mutex::default()).collect();
        Self { folder: folder.into(), bytes, seal, files }
    }

    /// How many there are.
    pub fn number(&self) -> u32 {
        self.files.len() as u32
    }

    /// The size of each.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What the headers are sealed with.
    pub fn seal(&self) -> u64 {
        self.seal
    }

    pub fn path(&self, segment: u32) -> PathBuf {
        self.folder.join(format!("segment-{segment:04}"))
    }

    /// The list of what a full segment holds.
    pub fn list_path(&self, segment: u32) -> PathBuf {
        self.folder.join(format!("list-{segment:04}"))
    }

    /// The file, created with all its room when `create`.
    pub fn open(&self, segment: u32, create: bool) -> io::Result<Arc<File>> {
        let slot = self.files.get(segment as usize).ok_or(io::ErrorKind::NotFound)?;
        let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = &*slot {
            return Ok(Arc::clone(file));
        }
        let options = OpenOptions::new().read(true).write(true).create(create).truncate(false).clone();
        let file = options.open(self.path(segment))?;
        if create && file.metadata()?.len() < self.bytes {
            match fallocate(&file, FallocateFlags::empty(), 0, self.bytes) {
                // Some file systems cannot; then the room is taken as it is written.
                Ok(()) | Err(rustix::io::Errno::NOTSUP) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let file = Arc::new(file);
        *slot = Some(Arc::clone(&file));
        Ok(file)
    }

    /// Closes all files, after they were deleted.
    pub fn close(&self) {
        for file in &self.files {
            *file.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
    }

    /// Deletes every segment and list, also those of another size or number.
    pub fn wipe(folder: &Path) -> io::Result<()> {
        for entry in fs::read_dir(folder)? {
            let name = entry?.file_name();
            let name = name.to_string_lossy();
            if name.starts_with("segment-") || name.starts_with("list-") {
                fs::remove_file(folder.join(&*name))?;
            }
        }
        Ok(())
    }

    /// The record at a place, every byte checked.
    pub fn read(&self, place: Place) -> Result<Found, Unread> {
        let file = self.open(place.segment, false).map_err(Unread::Io)?;
        let mut header = [0; HEADER_BYTES];
        read_at(&file, &mut header, place.offset)?;
        let header =
            Header::decode(&header, self.seal).filter(|header| header.generation == place.generation);
        let header = header.ok_or(Unread::Other)?;
        if place.offset + header.record_bytes() > self.bytes {
            return Err(Unread::Other);
        }
        let head_at = place.offset + HEADER_BYTES as u64;
        let mut head = vec![0; header.head_bytes() as usize].into_boxed_slice();
        let mut body = vec![0; header.body_bytes as usize].into_boxed_slice();
        read_at(&file, &mut head, head_at)?;
        read_at(&file, &mut body, head_at + header.head_bytes())?;
        let is_right =
            part_sum(&header, &head) == header.head_sum && part_sum(&header, &body) == header.body_sum;
        is_right.then_some(Found { header, head, body }).ok_or(Unread::Other)
    }
}

fn read_at(file: &File, bytes: &mut [u8], at: u64) -> Result<(), Unread> {
    if bytes.is_empty() {
        return Ok(());
    }
    file.read_exact_at(bytes, at).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => Unread::Other,
        _ => Unread::Io(error),
    })
}
