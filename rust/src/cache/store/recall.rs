//! Between memory and disk: what is written when, and how it comes back.

use crate::cache::store::Store;
use crate::cache::store::body::{Body, Shape};
use crate::cache::store::disk::catalog::HeadAt;
use crate::cache::store::disk::record::{Header, Kind, part_sum, parts};
use crate::cache::store::disk::segment::{Found, Unread};
use crate::cache::store::disk::{Core, Disk};
use crate::cache::store::fill::{Fill, FillGuard};
use crate::cache::store::index::{Bucket, Slot};
use crate::cache::store::ledger::paid;
use crate::cache::store::object::{Head, Key, Meta, Object};
use crate::cache::store::purge::Depth;
use crate::cache::store::writer::{Writer, room_for};
use bytes::Bytes;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::oneshot;

/// Bodies with smaller numbers were made before the store had a disk.
const FIRST_DISK_BODY: u64 = 1 << 40;

/// Why a head did not come back.
enum Lost {
    /// It is not there any more, or must not be served.
    Gone,
    NoRoom,
}

impl<M: Meta> Store<M> {
    /// Gives the store a disk tier of at most `bytes` in `folder`: reads the index of what is there and starts the threads.
    /// Blocks for up to a second. Fails when the folder is in use, cannot be written, or there is a tier already.
    pub fn attach_disk(&self, folder: &Path, bytes: u64) -> io::Result<()> {
        if self.disk.get().is_some() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let disk = Disk::open(folder, bytes, self.limits.block_bytes, &self.ledger, &self.purges)?;
        self.next_body.fetch_max(disk.first_body, Ordering::Relaxed);
        self.disk.set(disk).map_err(|_| io::ErrorKind::AlreadyExists.into())
    }

    pub fn disk(&self) -> Option<&Disk> {
        self.disk.get()
    }

    /// A new head in memory: for a body in blocks it goes to the disk now, for a refreshed one with its body.
    pub(super) fn save_head(&self, object: &Arc<Object<M>>) {
        let body = &object.body;
        if body.is_divisible() {
            self.put(object, Kind::Head, Bytes::new());
        } else if let Some(whole) = body.whole() {
            self.put(object, Kind::Whole, whole.clone());
        } else if body.blocks_present() > 0 {
            self.put(object, Kind::Head, Bytes::new());
        }
    }

    /// A body that came in one answer is complete: head and all go to the disk.
    pub(super) fn save_all(&self, object: &Arc<Object<M>>) {
        // What was replaced or changed while it came must not be found there later.
        if self.disk.get().is_none() || !object.is_live() {
            return;
        }
        self.put_all(object);
        if !object.is_live() {
            self.forget_on_disk(object);
        }
    }

    fn put_all(&self, object: &Arc<Object<M>>) {
        let body = &object.body;
        if let Some(whole) = body.whole() {
            return self.put(object, Kind::Whole, whole.clone());
        }
        let blocks = body.length().unwrap_or(0).div_ceil(body.block_bytes());
        for block in 0..blocks {
            body.block(block).into_iter().for_each(|octets| self.save_block(body, block, octets));
        }
        self.put(object, Kind::Head, Bytes::new());
    }

    pub(super) fn save_block(&self, body: &Body, block: u64, octets: Bytes) {
        let Some(disk) = self.disk.get().filter(|_| body.id() >= FIRST_DISK_BODY) else { return };
        if disk.core.catalog.block(body.id(), block).is_some() {
            return; // It came from there.
        }
        let mut header = Header { kind: Kind::Block, place: block, ..blank(body.id()) };
        header.body_bytes = octets.len() as u64;
        header.body_sum = part_sum(&header, &octets);
        header.head_sum = part_sum(&header, &[]);
        disk.put(header, Vec::new(), octets);
    }

    fn put(&self, object: &Object<M>, kind: Kind, octets: Bytes) {
        let body = &object.body;
        let Some(disk) = self.disk.get().filter(|_| body.id() >= FIRST_DISK_BODY) else { return };
        let (key, wire) = (object.key().octets, &object.head.wire);
        let mut head = key.to_vec();
        object.head.meta.encode(&mut head);
        let meta_bytes = head.len() - key.len();
        head.extend_from_slice(wire);
        object.head.tags.iter().for_each(|tag| head.extend(tag.to_le_bytes()));
        let mut header = Header {
            kind,
            is_divisible: body.is_divisible(),
            hash: disk.hash(key),
            place: body.length().unwrap_or(0),
            born: object.born(),
            key_bytes: key.len() as u32,
            meta_bytes: meta_bytes as u32,
            wire_bytes: wire.len() as u32,
            tags: object.head.tags.len() as u32,
            body_bytes: octets.len() as u64,
            ..blank(body.id())
        };
        header.head_sum = part_sum(&header, &head);
        header.body_sum = part_sum(&header, &octets);
        disk.put(header, head, octets);
    }

    /// An object was replaced: the disk must not bring it back.
    pub(super) fn forget_on_disk(&self, object: &Object<M>) {
        if let Some(disk) = self.disk.get().filter(|_| object.body.id() >= FIRST_DISK_BODY) {
            let hash = disk.hash(object.key().octets);
            disk.forget(Header { kind: Kind::Gone, hash, ..blank(object.body.id()) });
        }
    }

    /// Nothing of a key must come back from the disk. Tells when that is written; None when there is nothing to write,
    /// `is_any` saying whether something was ordered before.
    pub(super) fn forget_key_on_disk(&self, key: Key, is_any: bool) -> Option<oneshot::Receiver<bool>> {
        let disk = self.disk.get()?;
        let hash = disk.hash(key.octets);
        let heads = disk.core.catalog.heads(hash);
        for head in &heads {
            disk.forget(Header { kind: Kind::Gone, hash, ..blank(head.body) });
        }
        (is_any || !heads.is_empty()).then(|| disk.flush())
    }

    /// A new object came from the origin without asking the disk: whatever that has of the key and is not in memory could
    /// be an older one of the same variant, so it goes.
    pub(super) fn supersede_disk(&self, object: &Object<M>) {
        let Some(disk) = self.disk.get() else { return };
        let hash = disk.hash(object.key().octets);
        for head in self.unloaded(disk, object.key(), hash) {
            if head.body != object.body.id() {
                disk.forget(Header { kind: Kind::Gone, hash, ..blank(head.body) });
            }
        }
    }

    fn unloaded(&self, disk: &Disk, key: Key, disk_hash: u64) -> Vec<HeadAt> {
        let mut heads = disk.core.catalog.heads(disk_hash);
        if !heads.is_empty() {
            let bucket = self.index.read(key.hash);
            let in_memory =
                bucket.as_deref().into_iter().flat_map(Bucket::slots).filter_map(|slot| match slot {
                    Slot::Object(object) if object.is_of(key) => Some(object.body.id()),
                    _ => None,
                });
            let in_memory: Vec<u64> = in_memory.collect();
            heads.retain(|head| !in_memory.contains(&head.body));
        }
        heads
    }

    /// Lets the disk fetch a key when it has something of it that memory has not; otherwise gives the guard back.
    pub(super) fn recall_heads(self: &Arc<Self>, guard: FillGuard<M>) -> Result<Arc<Fill<M>>, FillGuard<M>> {
        let Some(disk) = self.disk.get().filter(|disk| disk.can_read()) else { return Err(guard) };
        let heads = self.unloaded(disk, guard.key(), disk.hash(guard.key().octets));
        let Some(fill) = guard.fill().filter(|_| !heads.is_empty()).cloned() else { return Err(guard) };
        let store = Arc::clone(self);
        disk.read(Box::new(move || store.load_heads(guard, &heads)));
        Ok(fill)
    }

    fn load_heads(self: &Arc<Self>, guard: FillGuard<M>, heads: &[HeadAt]) {
        let Some(disk) = self.disk.get() else { return };
        let (mut objects, mut has_room) = (Vec::new(), true);
        for head in heads {
            match self.load_head(&disk.core, guard.key(), *head) {
                Ok(object) => objects.push(Arc::new(object)),
                Err(Lost::NoRoom) => has_room = false,
                Err(Lost::Gone) => {
                    disk.core.catalog.forget_head(disk.hash(guard.key().octets), head.body);
                }
            }
        }
        guard.restore(&objects, has_room);
    }

    fn load_head(&self, core: &Core, key: Key, head: HeadAt) -> Result<Object<M>, Lost> {
        let found = read(core, core.segments.read(head.place)).ok_or(Lost::Gone)?;
        let header = found.header;
        let parts = parts(&header, &found.head).ok_or(Lost::Gone)?;
        // Two keys may share a hash.
        if parts.key != key.octets || header.body != head.body {
            return Err(Lost::Gone);
        }
        let meta = M::decode(parts.meta).ok_or(Lost::Gone)?;
        if self.purges.verdict(key.octets, &parts.tags, header.born) == Some(Depth::Hard) {
            return Err(Lost::Gone);
        }
        let is_whole = header.kind == Kind::Whole;
        let length = if is_whole { header.body_bytes } else { header.place };
        let block_bytes = self.limits.block_bytes;
        let shape = Shape { length: Some(length), is_divisible: header.is_divisible };
        let head = Head::new(meta, parts.wire, &parts.tags);
        let place = self.reserve(Object::place_bytes(key.octets, &head)).ok_or(Lost::NoRoom)?;
        let table = self.reserve(Body::table_bytes(length, block_bytes)).ok_or(Lost::NoRoom)?;
        let body = Arc::new(Body::new(header.body, shape, length, block_bytes, table));
        if is_whole {
            let room = self.reserve(room_for(length)).ok_or(Lost::NoRoom)?;
            body.complete(paid(found.body, room));
        } else if !body.is_divisible() {
            self.load_blocks(core, &body)?;
        }
        Ok(Object::new((key.octets.into(), key.hash), head, body, header.born, place))
    }

    /// All blocks of a body that cannot be divided.
    fn load_blocks(&self, core: &Core, body: &Body) -> Result<(), Lost> {
        let blocks = body.length().unwrap_or(0).div_ceil(body.block_bytes());
        for block in 0..blocks {
            let room = self.reserve(room_for(body.bytes_of(block))).ok_or(Lost::NoRoom)?;
            let octets = load_block(core, body, block).ok_or(Lost::Gone)?;
            body.publish(block, paid(octets, room));
        }
        Ok(())
    }

    pub(super) fn is_on_disk(&self, body: &Body, block: u64) -> bool {
        let disk = self.disk.get().filter(|disk| body.is_divisible() && disk.can_read());
        disk.is_some_and(|disk| disk.core.catalog.block(body.id(), block).is_some())
    }

    /// Lets the disk fill a block that it has; otherwise gives the writer back.
    pub(super) fn recall_block(self: &Arc<Self>, writer: Writer<M>, block: u64) -> Option<Writer<M>> {
        let body = Arc::clone(&writer.object().body);
        let Some(disk) = self.disk.get().filter(|_| self.is_on_disk(&body, block)) else {
            return Some(writer);
        };
        let core = Arc::clone(&disk.core);
        disk.read(Box::new(move || {
            let mut writer = writer;
            // When it fails the writer is dropped, and whoever waits looks again.
            if let Some(octets) = load_block(&core, &body, block)
                && writer.push(octets.into()).is_ok()
            {
                let _ = writer.finish();
            }
        }));
        None
    }
}

fn load_block(core: &Core, body: &Body, block: u64) -> Option<Box<[u8]>> {
    let place = core.catalog.block(body.id(), block)?;
    let found = read(core, core.segments.read(place)).filter(|found| {
        let header = found.header;
        header.kind == Kind::Block
            && (header.body, header.place) == (body.id(), block)
            && header.body_bytes == body.bytes_of(block)
    });
    if found.is_none() {
        core.catalog.forget_block(body.id(), block, place);
    }
    Some(found?.body)
}

/// Counts how reading went.
fn read(core: &Core, found: Result<Found, Unread>) -> Option<Found> {
    let counter = match &found {
        Ok(_) => &core.hits,
        Err(Unread::Other | Unread::Io(_)) => &core.damaged,
    };
    counter.fetch_add(1, Ordering::Relaxed);
    core.note_read(matches!(found, Err(Unread::Io(_))));
    found.ok()
}

fn blank(body: u64) -> Header {
    Header {
        kind: Kind::Gone,
        is_divisible: false,
        generation: 0,
        session: 0,
        hash: 0,
        body,
        place: 0,
        born: 0,
        key_bytes: 0,
        meta_bytes: 0,
        wire_bytes: 0,
        tags: 0,
        body_bytes: 0,
        head_sum: 0,
        body_sum: 0,
    }
}
