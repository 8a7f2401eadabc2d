//! Purges on disk: appended and made durable one by one, read back at the start.
//!
//! A note that is cut off at the end of the file was never confirmed, and is left out. Damage anywhere else may hide a
//! purge, so then nothing that is on disk may be served.

use crate::cache::store::disk::identity::replace;
use crate::cache::store::hash::checksum;
use crate::cache::store::purge::{Depth, Note, Target};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

const FILE: &str = "purges";
/// Length and its complement, epoch, kind and depth, and checksum.
const FIXED_BYTES: usize = 8 + 8 + 2 + 8;
const TARGET_BYTES_MAX: usize = 1 << 16;

/// The notes could not all be read.
#[derive(Debug, PartialEq, Eq)]
pub struct Damaged;

pub fn encode(note: &Note, out: &mut Vec<u8>) {
    let start = out.len();
    let (kind, target) = match &note.target {
        None => (0, Vec::new()),
        Some(Target::Key(key)) => (1, key.to_le_bytes().to_vec()),
        Some(Target::Tag(tag)) => (2, tag.to_le_bytes().to_vec()),
        // A longer one is cut, which purges more than was asked for.
        Some(Target::Prefix(prefix)) => (3, prefix.iter().copied().take(TARGET_BYTES_MAX).collect()),
    };
    let length = target.len() as u64;
    out.extend((length | !length << 32).to_le_bytes());
    out.extend(note.epoch.to_le_bytes());
    out.extend([kind, u8::from(note.depth == Depth::Hard)]);
    out.extend(target);
    let sum = checksum(out.split_at(start).1, 1);
    out.extend(sum.to_le_bytes());
}

/// The first note of `bytes` and how long it is; None when it is cut off.
pub fn decode(bytes: &[u8]) -> Result<Option<(Note, usize)>, Damaged> {
    let word = |bytes: &[u8]| bytes.try_into().map(u64::from_le_bytes).map_err(|_| Damaged);
    let Some((length, _)) = bytes.split_at_checked(8) else { return Ok(None) };
    let (length, complement) = (word(length)? as u32, (word(length)? >> 32) as u32);
    let target_bytes = length as usize;
    if complement != !length || target_bytes > TARGET_BYTES_MAX {
        return Err(Damaged);
    }
    let bytes_all = FIXED_BYTES + target_bytes;
    let Some((note, _)) = bytes.split_at_checked(bytes_all) else { return Ok(None) };
    let (summed, sum) = note.split_at_checked(bytes_all - 8).ok_or(Damaged)?;
    if word(sum)? != checksum(summed, 1) {
        return Err(Damaged);
    }
    let epoch = word(summed.get(8..16).ok_or(Damaged)?)?;
    let (marks, target) = summed.get(16..).and_then(|rest| rest.split_at_checked(2)).ok_or(Damaged)?;
    let target = match marks.first() {
        Some(0) => None,
        Some(1) => Some(Target::Key(word(target)?)),
        Some(2) => Some(Target::Tag(word(target)?)),
        Some(3) => Some(Target::Prefix(target.into())),
        _ => return Err(Damaged),
    };
    let depth = if marks.last() == Some(&1) { Depth::Hard } else { Depth::Soft };
    Ok(Some((Note { target, depth, epoch }, bytes_all)))
}

/// The file of notes, open for more.
pub struct Notes {
    file: File,
    bytes: u64,
    is_torn: bool,
}

impl Notes {
    /// What was noted in `folder`; nothing when nothing ever was.
    pub fn read(folder: &Path) -> Result<Vec<Note>, Damaged> {
        let bytes = match fs::read(folder.join(FILE)) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(_) => return Err(Damaged),
        };
        let (mut notes, mut rest) = (Vec::new(), bytes.as_slice());
        while let Some((note, length)) = decode(rest)? {
            notes.push(note);
            rest = rest.get(length..).unwrap_or_default();
        }
        Ok(notes)
    }

    /// Replaces the file by these notes.
    pub fn rewrite(folder: &Path, notes: &[Note]) -> io::Result<Self> {
        let mut bytes = Vec::new();
        notes.iter().for_each(|note| encode(note, &mut bytes));
        replace(folder, FILE, &bytes)?;
        let file = OpenOptions::new().append(true).open(folder.join(FILE))?;
        Ok(Self { file, bytes: bytes.len() as u64, is_torn: false })
    }

    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Returns when the note is durable. After a failure the end of the file may be torn: then it takes no more until it
    /// is written anew.
    pub fn append(&mut self, note: &Note) -> io::Result<()> {
        if self.is_torn {
            return Err(io::Error::other("the file of purges ends in a torn note"));
        }
        let mut bytes = Vec::new();
        encode(note, &mut bytes);
        let written = self.file.write_all(&bytes).and_then(|()| self.file.sync_data());
        self.is_torn = written.is_err();
        self.bytes += bytes.len() as u64;
        written
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notes() -> Vec<Note> {
        let targets = [
            None,
            Some(Target::Key(1 << 60)),
            Some(Target::Tag(7)),
            Some(Target::Prefix([].into())),
            Some(Target::Prefix(b"www/a".as_slice().into())),
        ];
        let depth = |epoch: usize| if epoch % 2 == 0 { Depth::Hard } else { Depth::Soft };
        let noted = targets.into_iter().enumerate();
        noted.map(|(epoch, target)| Note { target, depth: depth(epoch), epoch: epoch as u64 }).collect()
    }

    #[test]
    fn notes_come_back_in_order_and_a_cut_off_one_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Notes::read(folder.path()), Ok(Vec::new()));
        let mut file = Notes::rewrite(folder.path(), &notes()[..2]).unwrap();
        notes()[2..].iter().for_each(|note| file.append(note).unwrap());
        assert_eq!(Notes::read(folder.path()), Ok(notes()));
        let whole = fs::read(folder.path().join(FILE)).unwrap();
        for length in 0..whole.len() {
            fs::write(folder.path().join(FILE), &whole[..length]).unwrap();
            let read = Notes::read(folder.path()).unwrap();
            assert_eq!(read, notes()[..read.len()], "{length} bytes");
        }
    }

    #[test]
    fn damage_never_hides_a_purge() {
        let folder = tempfile::tempdir().unwrap();
        Notes::rewrite(folder.path(), &notes()).unwrap();
        let whole = fs::read(folder.path().join(FILE)).unwrap();
        for bit in 0..whole.len() * 8 {
            let mut damaged = whole.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            fs::write(folder.path().join(FILE), &damaged).unwrap();
            assert_eq!(Notes::read(folder.path()), Err(Damaged), "bit {bit}");
        }
    }
}
