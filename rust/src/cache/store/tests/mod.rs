//! Stories over the whole store.

mod budget;
mod disk;
mod model;
mod stories;
mod stress;

use crate::cache::store::*;
use bytes::Bytes;
use std::sync::Arc;

/// Enough of a response to tell variants and versions apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    pub variant: u8,
    pub version: u64,
}

impl Meta for Label {
    fn heap_bytes(&self) -> usize {
        0
    }
    fn is_same_variant(&self, other: &Self) -> bool {
        self.variant == other.variant
    }
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(self.variant);
        out.extend(self.version.to_le_bytes());
    }
    fn decode(bytes: &[u8]) -> Option<Self> {
        let (variant, version) = bytes.split_first()?;
        Some(Self { variant: *variant, version: u64::from_le_bytes(version.try_into().ok()?) })
    }
}

pub struct Dice(pub u64);

impl Dice {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}

pub const BLOCK_BYTES: u64 = 4_096;

pub fn limits(memory_bytes: u64) -> Limits {
    Limits { block_bytes: BLOCK_BYTES, read_ahead_blocks: 0, ..Limits::new(memory_bytes) }
}

pub fn small_store() -> Arc<Store<Label>> {
    Store::new(limits(8 << 20))
}

pub fn head(variant: u8, version: u64) -> Head<Label> {
    Head::new(
        Label { variant, version },
        format!("HTTP/1.1 200 OK\r\nversion: {version}\r\n\r\n").as_bytes(),
        &[],
    )
}

pub fn tagged(version: u64, tags: &[u64]) -> Head<Label> {
    Head { tags: tags.into(), ..head(0, version) }
}

/// The bytes from `from` on of the body of a version: each place and version has its own.
pub fn octets(version: u64, from: u64, length: u64) -> Bytes {
    let byte = |at: u64| {
        let word = (at / 8).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ version.wrapping_mul(0xd134_2543_de82_ef95);
        (word >> (at % 8 * 8)) as u8
    };
    (from..from + length).map(byte).collect::<Vec<u8>>().into()
}

pub fn any(_: &Label) -> bool {
    true
}

pub fn vacant(store: &Arc<Store<Label>>, name: &[u8]) -> FillGuard<Label> {
    match store.lookup(store.key(name), &mut any, 0) {
        Lookup::Vacant(guard) => guard,
        other => panic!("not vacant: {}", word(&other)),
    }
}

pub fn hit(store: &Arc<Store<Label>>, name: &[u8]) -> Option<Arc<Object<Label>>> {
    store.find(store.key(name), &mut any)
}

pub fn word(lookup: &Lookup<Label>) -> &'static str {
    match lookup {
        Lookup::Hit(_) => "hit",
        Lookup::Filling(_) => "filling",
        Lookup::Vacant(_) => "vacant",
        Lookup::Alone(_) => "alone",
    }
}

pub fn known(length: u64) -> Shape {
    Shape { length: Some(length), is_divisible: true }
}

pub const UNKNOWN: Shape = Shape { length: None, is_divisible: false };

pub fn put(store: &Arc<Store<Label>>, name: &[u8], version: u64, shape: Shape, length: u64) {
    let guard = match store.begin(store.key(name), 0) {
        Begin::Mine(guard) => guard,
        Begin::Theirs(_) => panic!("somebody fetches it"),
    };
    let mut writer = guard.start(head(0, version), shape, Span::default()).unwrap();
    writer.push(octets(version, 0, length)).unwrap();
    writer.finish().unwrap();
}

/// The whole body as a reader gets it, fetching what is missing from the "origin"; None when it broke.
pub async fn body_of(store: &Arc<Store<Label>>, object: &Arc<Object<Label>>) -> Option<Vec<u8>> {
    let mut reader = Reader::new(store, object, 0, None);
    let mut whole = Vec::new();
    loop {
        match reader.next().await {
            Next::Bytes(bytes) => {
                whole.extend_from_slice(&bytes);
                reader.advance(bytes.len() as u64);
            }
            Next::Fetch(mut writer) => {
                let (from, to) = writer.range();
                let bytes = octets(object.head.meta.version, from, to.unwrap() - from);
                if writer.push(bytes).is_ok() {
                    writer.finish().unwrap();
                }
            }
            Next::Bypass => {
                let at = reader.at();
                let length = object.body.length().unwrap();
                whole.extend_from_slice(&octets(object.head.meta.version, at, length - at));
                return Some(whole);
            }
            Next::End => return Some(whole),
            Next::Broken => return None,
        }
    }
}
