//! What an object looked like when it was last seen: an answer that does not look like it is asked about elsewhere.
//!
//! A 200 that carries an error page, a login form or another object is the fault that no status shows. What is kept is
//! small and of a fixed size: a place per hash of host and target, the newer in place of the older.

use crate::edge::message::{AnswerHead, value_of};
use rustc_hash::FxHasher;
use std::hash::{Hash, Hasher};

/// Places, of 32 bytes each.
const PLACES: usize = 4_096;

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

#[derive(Clone, Copy, Default)]
struct Place {
    key: u64,
    look: Look,
}

/// One worker's memory of one service's objects; takes its place with the first.
#[derive(Clone, Default)]
pub struct KnownObjects {
    places: Vec<Place>,
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
        let essence = value("content-type").map(|kind| {
            let essence = kind.split(|byte| *byte == b';').next().unwrap_or_default();
            essence.trim_ascii().to_ascii_lowercase()
        });
        Some(Self {
            kind: essence.map_or(0, short),
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

    fn likeness(&self, other: &Self) -> Likeness {
        let is_other_kind = self.kind != other.kind && self.kind != 0 && other.kind != 0;
        let lost_etag = other.etag != 0 && self.etag == 0;
        // Under one ETag there is one length (RFC 9110 §8.8.3).
        let is_other_length = self.etag != 0 && self.etag == other.etag && self.bytes != other.bytes;
        if is_other_kind || lost_etag || is_other_length { Likeness::Strange } else { Likeness::Fine }
    }
}

impl KnownObjects {
    /// How this answer to `key` compares with the last one.
    pub fn likeness(&self, key: u64, look: &Look) -> Likeness {
        match self.places.get(key as usize % PLACES) {
            Some(place) if place.key == key => look.likeness(&place.look),
            _ => Likeness::Fine,
        }
    }

    /// This is how it looks from now on.
    pub fn learn(&mut self, key: u64, look: Look) {
        self.places.resize(PLACES, Place::default());
        if let Some(place) = self.places.get_mut(key as usize % PLACES) {
            *place = Place { key, look };
        }
    }
}

/// What objects are known by; never 0.
pub fn key_of(host: &[u8], target: &[u8]) -> u64 {
    let mut hasher = FxHasher::default();
    (host, target).hash(&mut hasher);
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
        let mut known = KnownObjects::default();
        let key = key_of(b"www", b"/segment.ts");
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
        assert_eq!(known.likeness(key_of(b"www", b"/other"), &look("text/html", "", 1)), Likeness::Fine);
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
