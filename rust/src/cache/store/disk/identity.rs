//! Which store a folder belongs to, and how often it was opened: one small file, replaced whole.

use crate::cache::store::hash::{Secret, checksum};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

const FILE: &str = "identity";
const MAGIC: &[u8; 8] = b"polycdn1";
const BYTES: usize = 56;

/// What must stay the same for the folder's contents to mean anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Of the hashes of keys in this folder.
    pub secret: Secret,
    /// Grows by one with every opening.
    pub session: u64,
    pub segment_bytes: u64,
    pub block_bytes: u64,
}

impl Identity {
    /// None when there is none or it is damaged.
    pub fn read(folder: &Path) -> Option<Self> {
        let bytes = fs::read(folder.join(FILE)).ok()?;
        let (summed, sum) = bytes.split_at_checked(BYTES - 8)?;
        let (magic, rest) = summed.split_at_checked(8)?;
        let word = |bytes: &[u8]| bytes.try_into().map(u64::from_le_bytes).ok();
        if magic != MAGIC || word(sum)? != checksum(summed, 0) {
            return None;
        }
        let mut words = rest.chunks_exact(8).map(word);
        let mut next = || words.next().flatten();
        Some(Self {
            secret: Secret(next()?, next()?),
            session: next()?,
            segment_bytes: next()?,
            block_bytes: next()?,
        })
    }

    /// Replaces the file; returns when it is durable.
    pub fn write(&self, folder: &Path) -> io::Result<()> {
        let mut bytes = MAGIC.to_vec();
        for word in [self.secret.0, self.secret.1, self.session, self.segment_bytes, self.block_bytes] {
            bytes.extend(word.to_le_bytes());
        }
        let sum = checksum(&bytes, 0);
        bytes.extend(sum.to_le_bytes());
        replace(folder, FILE, &bytes)
    }
}

/// Writes a file beside the old one, makes it durable, and puts it in its place.
pub fn replace(folder: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let temporary = folder.join(format!("{name}.new"));
    let mut file = File::create(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, folder.join(name))?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_comes_back_and_a_damaged_one_is_none() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Identity::read(folder.path()), None);
        let identity = Identity { secret: Secret(1, 2), session: 3, segment_bytes: 4, block_bytes: 5 };
        identity.write(folder.path()).unwrap();
        assert_eq!(Identity::read(folder.path()), Some(identity));
        let bytes = fs::read(folder.path().join(FILE)).unwrap();
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x10;
            fs::write(folder.path().join(FILE), &damaged).unwrap();
            assert_eq!(Identity::read(folder.path()), None, "byte {at}");
        }
    }
}
