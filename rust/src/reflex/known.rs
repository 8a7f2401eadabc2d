//! What an object looked like when it was last seen: an answer that does not look like it is asked about elsewhere.
//!
//! A 200 that carries an error page, a login form or another object is the fault that no status shows. What is kept is
//! small and of a fixed size: a place per hash of host and target, the newer in place of the older.

use crate::edge::message::{AnswerHead, media_type, value_of};
use rustc_hash::FxHasher;
use std::hash::{Hash, Hasher};
use std::sync::OnceLock;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

/// Places, of 24 bytes each.
const PLACES: usize = 8_192;

/// In place of a length: answers of several kinds are at home at that path, or under names of that ending in a folder.
const MIXED: u64 = u64::MAX;

/// Longest ending of a name that says something of its kind.
const ENDING_BYTES_MAX: usize = 8;

/// How an answer looks: hashes of what it says of itself, 0 where it says nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Look {
    kind: u32,
    etag: u32,
    bytes: u64,
}

/// How an answer compares with what was seen before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Likeness {
    /// Never seen, or it looks alike.
    Fine,
    /// Another kind of content, or no validator where there was one.
    Strange,
}

/// What an object is known by: itself, its path whatever the query, and its folder with the ending of its name.
#[derive(Clone, Copy, Debug)]
pub struct Keys {
    own: u64,
    kin: [u64; 2],
}

/// Written by all workers without a lock: a place of which one wrote a half is at worst a reason for a second opinion.
#[derive(Debug, Default)]
struct Place {
    key: AtomicU64,
    marks: AtomicU64,
    bytes: AtomicU64,
}

/// All workers' memory of one service's objects; takes its place with the first.
#[derive(Debug, Default)]
pub struct KnownObjects {
    places: OnceLock<Box<[Place]>>,
}

impl Look {
    /// None where the answer says nothing of the object: another status than 200, or one that depends on more than the
    /// target.
    pub fn of(head: &AnswerHead) -> Option<Self> {
        let value = |name| value_of(&head.fields, name);
        let varies = value("vary").is_some_and(|names| !names.eq_ignore_ascii_case(b"accept-encoding"));
        if head.status != 200 || varies {
            return None;
        }
        Some(Self {
            kind: value("content-type").map_or(0, |kind| short(media_type(kind))),
            etag: value("etag").map_or(0, short),
            bytes: head.length.unwrap_or(0),
        })
    }

    /// Whether two answers, from two upstreams, tell of the same thing.
    pub fn agrees(&self, other: &Self) -> bool {
        let is_same_etag = self.etag != 0 && self.etag == other.etag;
        self.kind == other.kind
            && (self.etag != 0) == (other.etag != 0)
            && (is_same_etag || self.bytes == other.bytes)
    }

    /// Whether it is of the kind of others at its place; what has a validator may be among those that have none.
    fn is_kin(&self, other: &Self) -> bool {
        self.kind == other.kind && (self.etag != 0 || other.etag == 0)
    }

    fn likeness(&self, other: &Self) -> Likeness {
        let is_other_kind = self.kind != other.kind && self.kind != 0 && other.kind != 0;
        let lost_etag = other.etag != 0 && self.etag == 0;
        // Under one ETag there is one length (RFC 9110 §8.8.3).
        let is_other_length = self.etag != 0 && self.etag == other.etag && self.bytes != other.bytes;
        if is_other_kind || lost_etag || is_other_length { Likeness::Strange } else { Likeness::Fine }
    }
}

impl Place {
    fn read(&self, key: u64) -> Option<Look> {
        if self.key.load(Relaxed) != key {
            return None;
        }
        let marks = self.marks.load(Relaxed);
        Some(Look { kind: (marks >> 32) as u32, etag: marks as u32, bytes: self.bytes.load(Relaxed) })
    }

    /// Writes only what is news: most answers are none, and all workers read here.
    fn write(&self, key: u64, look: Look) {
        if self.read(key) == Some(look) {
            return;
        }
        self.marks.store(u64::from(look.kind) << 32 | u64::from(look.etag), Relaxed);
        self.bytes.store(look.bytes, Relaxed);
        self.key.store(key, Relaxed);
    }
}

impl KnownObjects {
    /// How this answer compares with the last one; where there was none, with those of its kin.
    pub fn likeness(&self, keys: &Keys, look: &Look) -> Likeness {
        if let Some(known) = self.place(keys.own).and_then(|place| place.read(keys.own)) {
            return look.likeness(&known);
        }
        let kin = keys.kin.iter().find_map(|key| self.place(*key).and_then(|place| place.read(*key)));
        match kin {
            Some(kin) if kin.bytes != MIXED && !look.is_kin(&kin) => Likeness::Strange,
            _ => Likeness::Fine,
        }
    }

    /// This is how it looks from now on.
    pub fn learn(&self, keys: &Keys, look: Look) {
        self.places.get_or_init(|| (0..PLACES).map(|_| Place::default()).collect());
        if let Some(place) = self.place(keys.own) {
            place.write(keys.own, look);
        }
        for key in keys.kin {
            let Some(place) = self.place(key) else { continue };
            let is_mixed = place.read(key).is_some_and(|kin| kin.bytes == MIXED || !look.is_kin(&kin));
            let bytes = if is_mixed { MIXED } else { 0 };
            place.write(key, Look { kind: look.kind, etag: u32::from(look.etag != 0), bytes });
        }
    }

    fn place(&self, key: u64) -> Option<&Place> {
        self.places.get()?.get(key as usize % PLACES)
    }
}

impl Keys {
    pub fn of(host: &[u8], target: &[u8]) -> Self {
        let path = target.split(|byte| *byte == b'?').next().unwrap_or_default();
        let name_at = path.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
        let (folder, name) = path.split_at(name_at);
        let ending = name.iter().rposition(|byte| *byte == b'.').map_or(&b""[..], |dot| &name[dot..]);
        let ending = if ending.len() > ENDING_BYTES_MAX { b"" } else { ending };
        Self {
            own: hash_of(&(host, target)),
            kin: [hash_of(&(host, path, 1)), hash_of(&(host, folder, ending, 2))],
        }
    }
}

/// Never 0.
fn hash_of(value: &impl Hash) -> u64 {
    let mut hasher = FxHasher::default();
    value.hash(&mut hasher);
    hasher.finish() | 1
}

fn short(bytes: impl AsRef<[u8]>) -> u32 {
    let mut hasher = FxHasher::default();
    bytes.as_ref().hash(&mut hasher);
    (hasher.finish() >> 32) as u32 | 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::framing::Framing;
    use crate::edge::message::Field;

    fn look(kind: &'static str, etag: &'static str, bytes: u64) -> Look {
        let named = [("content-type", kind), ("etag", etag)];
        let fields = named.iter().filter(|(_, value)| !value.is_empty());
        let head = AnswerHead {
            status: 200,
            fields: fields.map(|(name, value)| Field::new(name, value.as_bytes())).collect(),
            framing: Framing::Length(bytes),
            length: Some(bytes),
            is_persistent: true,
            upgrade: None,
        };
        Look::of(&head).unwrap()
    }

    #[test]
    fn an_error_page_in_place_of_a_known_object_is_strange() {
        let known = KnownObjects::default();
        let key = &Keys::of(b"www", b"/segment.ts");
        let segment = look("video/mp2t", "\"1\"", 1_000);
        assert_eq!(known.likeness(key, &look("text/html", "", 300)), Likeness::Fine, "never seen");
        known.learn(key, segment);
        assert_eq!(known.likeness(key, &look("text/html", "", 300)), Likeness::Strange);
        assert_eq!(known.likeness(key, &look("video/mp2t", "", 300)), Likeness::Strange);
        assert_eq!(known.likeness(key, &look("video/mp2t", "\"1\"", 999)), Likeness::Strange);
        assert_eq!(
            known.likeness(key, &look("video/MP2T; a=b", "\"2\"", 999)),
            Likeness::Fine,
            "a new version"
        );
        assert_eq!(known.likeness(&Keys::of(b"www", b"/other"), &look("text/html", "", 1)), Likeness::Fine);
    }

    #[test]
    fn an_error_page_in_place_of_an_object_never_seen_is_strange_among_its_kin() {
        let known = KnownObjects::default();
        let page = look("text/html", "", 300);
        for number in 0..3 {
            let keys = Keys::of(b"www", format!("/live/{number}.ts").as_bytes());
            known.learn(&keys, look("video/mp2t", "\"1\"", 1_000 + number));
        }
        for query in [b"/chat?reply=1", b"/chat?reply=2"] {
            known.learn(&Keys::of(b"www", query), look("text/event-stream", "", 0));
        }
        let likeness = |target: &[u8], look: &Look| known.likeness(&Keys::of(b"www", target), look);
        assert_eq!(likeness(b"/live/9.ts", &page), Likeness::Strange);
        assert_eq!(likeness(b"/live/9.ts", &look("video/mp2t", "\"7\"", 5)), Likeness::Fine);
        assert_eq!(likeness(b"/live/9.m3u8", &page), Likeness::Fine);
        assert_eq!(likeness(b"/chat?reply=3", &page), Likeness::Strange);
    }

    #[test]
    fn where_several_kinds_are_at_home_none_is_strange() {
        let known = KnownObjects::default();
        for (name, kind) in [("a", "text/html"), ("b", "text/html"), ("c", "image/png"), ("d", "text/html")] {
            known.learn(&Keys::of(b"www", format!("/{name}").as_bytes()), look(kind, "", 1));
        }
        for kind in ["text/html", "image/png", "text/css"] {
            assert_eq!(known.likeness(&Keys::of(b"www", b"/new"), &look(kind, "", 1)), Likeness::Fine);
        }
    }

    #[test]
    fn two_that_say_the_same_of_it_agree() {
        let page = look("text/html", "", 300);
        assert!(page.agrees(&look("text/html", "", 300)));
        assert!(!page.agrees(&look("text/html", "", 301)));
        assert!(!page.agrees(&look("video/mp2t", "\"1\"", 300)));
        assert!(look("a/b", "\"x\"", 5).agrees(&look("a/b", "\"x\"", 5)));
        assert!(look("a/b", "\"x\"", 5).agrees(&look("a/b", "\"of-b\"", 5)), "an ETag of its own");
        assert!(!look("a/b", "\"x\"", 5).agrees(&look("a/b", "\"y\"", 6)));
    }
}
