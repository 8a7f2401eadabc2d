//! Whether two answers carry the same representation, so that the bytes of one can follow the bytes of the other.

use crate::cache::semantics::fields::Fields;
use crate::cache::semantics::range::content_range;
use crate::count::Reason;
use crate::edge::message::{AnswerHead, Field, value_of};
use bytes::Bytes;
use serde::Deserialize;

/// What two providers must agree on before their bytes may follow one another.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
pub enum Rule {
    /// The same strong ETag.
    #[default]
    #[serde(rename = "etag")]
    Etag,
    /// Or else the same complete length and Last-Modified: for CDNs that make an ETag of their own.
    #[serde(rename = "size+last-modified")]
    SizeAndDate,
    /// Or else the same Repr-Digest (RFC 9530).
    #[serde(rename = "digest")]
    Digest,
}

/// What an answer says of its representation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    strong_etag: Option<Bytes>,
    modified: Option<Bytes>,
    digest: Option<Bytes>,
    coding: Option<Bytes>,
    /// Of the whole, in bytes.
    pub complete_bytes: Option<u64>,
}

/// The bytes of the whole that an answer brings; `end` (not included) is None where it does not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stretch {
    pub first: u64,
    pub end: Option<u64>,
}

impl Stretch {
    /// How many of its bytes come before `at`; an error if it does not reach from there to `end`.
    fn skip_to(self, at: u64, end: Option<u64>) -> Result<u64, Reason> {
        let reaches_end = match (self.end, end) {
            (Some(theirs), Some(wanted)) => theirs >= wanted,
            _ => true,
        };
        at.checked_sub(self.first).filter(|_| reaches_end).ok_or(Reason::Protocol)
    }
}

impl Identity {
    /// None for a status that carries no representation of its target.
    pub fn of(head: &AnswerHead) -> Option<(Self, Stretch)> {
        let (complete_bytes, stretch) = match head.status {
            200 => (head.length, Stretch { first: 0, end: head.length }),
            206 => {
                let range = content_range(value_of(&head.fields, "content-range")?)?;
                (range.complete, Stretch { first: range.first, end: Some(range.last + 1) })
            }
            _ => return None,
        };
        Some((Self::of_fields(head.fields.as_slice(), complete_bytes), stretch))
    }

    /// By the fields of an answer and the length of the whole.
    pub fn of_fields<F: Fields + ?Sized>(fields: &F, complete_bytes: Option<u64>) -> Self {
        let value = |name| fields.value(name).map(Bytes::copy_from_slice);
        Self {
            strong_etag: value("etag").filter(|etag| etag.starts_with(b"\"")),
            modified: value("last-modified"),
            digest: value("repr-digest"),
            coding: value("content-encoding").filter(|coding| coding.as_ref() != b"identity"),
            complete_bytes,
        }
    }

    /// Whether there is anything by which another answer could be recognised.
    pub fn is_recognisable(&self, rule: Rule) -> bool {
        self.strong_etag.is_some()
            || match rule {
                Rule::Etag => false,
                Rule::SizeAndDate => self.modified.is_some() && self.complete_bytes.is_some(),
                Rule::Digest => self.digest.is_some(),
            }
    }

    /// Whether it is surely the same representation. An answer to a range request may leave Last-Modified out
    /// (RFC 9110 §15.3.7): then only the ETag can tell.
    pub fn is_same(&self, other: &Self, rule: Rule) -> bool {
        let is_equal = |one: &Option<Bytes>, other: &Option<Bytes>| one.is_some() && one == other;
        let fits_length = match (self.complete_bytes, other.complete_bytes) {
            (Some(one), Some(other)) => one == other,
            _ => true,
        };
        let is_agreed = is_equal(&self.strong_etag, &other.strong_etag)
            || match rule {
                Rule::Etag => false,
                Rule::SizeAndDate => {
                    is_equal(&self.modified, &other.modified)
                        && self.complete_bytes.is_some()
                        && other.complete_bytes.is_some()
                }
                Rule::Digest => is_equal(&self.digest, &other.digest),
            };
        self.coding == other.coding && fits_length && is_agreed
    }

    /// The fields that ask another upstream for the bytes from `at` on. If-Range only where the ETag is what counts:
    /// under the other rules an upstream with an ETag of its own would send the whole.
    pub fn ask_for(&self, at: u64, end: Option<u64>, rule: Rule) -> Vec<Field> {
        let last = end.map_or(String::new(), |end| end.saturating_sub(1).to_string());
        let range = Field::new("range", format!("bytes={at}-{last}"));
        let condition = self.strong_etag.clone().filter(|_| rule == Rule::Etag);
        [range].into_iter().chain(condition.map(|etag| Field::new("if-range", etag))).collect()
    }

    /// How many bytes of that answer's body come before `at`: they are to be read over. An error: it cannot go on here.
    pub fn go_on(&self, head: &AnswerHead, at: u64, end: Option<u64>, rule: Rule) -> Result<u64, Reason> {
        if head.status >= 500 {
            return Err(Reason::Http5xx);
        }
        let (other, stretch) = Self::of(head).ok_or(Reason::Status)?;
        if !self.is_same(&other, rule) {
            return Err(Reason::Parity);
        }
        stretch.skip_to(at, end.or(self.complete_bytes))
    }

    /// The same where digests of the bytes tell whether they are right, and only the length has to fit.
    pub fn go_on_checked(&self, head: &AnswerHead, at: u64, end: Option<u64>) -> Result<u64, Reason> {
        if head.status >= 500 {
            return Err(Reason::Http5xx);
        }
        let (other, stretch) = Self::of(head).ok_or(Reason::Status)?;
        if self.coding != other.coding || self.complete_bytes != other.complete_bytes {
            return Err(Reason::Parity);
        }
        stretch.skip_to(at, end.or(self.complete_bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::framing::Framing;

    fn head(status: u16, length: Option<u64>, fields: &[(&'static str, &'static str)]) -> AnswerHead {
        AnswerHead {
            status,
            fields: fields.iter().map(|(name, value)| Field::new(name, value.as_bytes())).collect(),
            framing: length.map_or(Framing::Chunked, Framing::Length),
            length,
            is_persistent: true,
            upgrade: None,
        }
    }

    fn identity(fields: &[(&'static str, &'static str)]) -> Identity {
        Identity::of(&head(200, Some(100), fields)).unwrap().0
    }

    #[test]
    fn the_same_strong_etag_goes_on_where_the_other_broke_off() {
        let first = identity(&[("etag", "\"a\"")]);
        let rest = head(206, Some(60), &[("etag", "\"a\""), ("content-range", "bytes 40-99/100")]);
        assert_eq!(first.go_on(&rest, 40, Some(100), Rule::Etag), Ok(0));
        assert_eq!(first.go_on(&rest, 50, Some(100), Rule::Etag), Ok(10));
        assert_eq!(first.go_on(&rest, 39, Some(100), Rule::Etag), Err(Reason::Protocol));
        let whole = head(200, Some(100), &[("etag", "\"a\"")]);
        assert_eq!(first.go_on(&whole, 40, Some(100), Rule::Etag), Ok(40));
    }

    #[test]
    fn another_version_or_another_coding_never_goes_on() {
        let first = identity(&[("etag", "\"a\"")]);
        for fields in [
            &[("etag", "\"b\""), ("content-range", "bytes 40-99/100")][..],
            &[("etag", "W/\"a\""), ("content-range", "bytes 40-99/100")],
            &[("content-range", "bytes 40-99/100")],
            &[("etag", "\"a\""), ("content-range", "bytes 40-100/101")],
            &[("etag", "\"a\""), ("content-range", "bytes 40-99/100"), ("content-encoding", "gzip")],
        ] {
            let rest = head(206, Some(60), fields);
            assert_eq!(first.go_on(&rest, 40, Some(100), Rule::Etag), Err(Reason::Parity), "{fields:?}");
        }
        let short = head(206, Some(10), &[("etag", "\"a\""), ("content-range", "bytes 40-49/100")]);
        assert_eq!(first.go_on(&short, 40, Some(100), Rule::Etag), Err(Reason::Protocol));
        assert_eq!(first.go_on(&head(404, None, &[]), 40, None, Rule::Etag), Err(Reason::Status));
        assert_eq!(first.go_on(&head(503, None, &[]), 40, None, Rule::Etag), Err(Reason::Http5xx));
    }

    #[test]
    fn weaker_rules_hold_only_where_they_were_chosen() {
        let date = ("last-modified", "Tue, 18 Nov 2025 11:20:00 GMT");
        let first = identity(&[("etag", "\"of-a\""), date, ("repr-digest", "sha-256=:AAA=:")]);
        let dated = head(206, Some(60), &[("etag", "\"of-b\""), date, ("content-range", "bytes 40-99/100")]);
        assert_eq!(first.go_on(&dated, 40, Some(100), Rule::SizeAndDate), Ok(0));
        assert_eq!(first.go_on(&dated, 40, Some(100), Rule::Etag), Err(Reason::Parity));
        let digested =
            head(206, Some(60), &[("repr-digest", "sha-256=:AAA=:"), ("content-range", "bytes 40-99/*")]);
        assert_eq!(first.go_on(&digested, 40, Some(100), Rule::Digest), Ok(0));
        assert_eq!(first.go_on(&digested, 40, Some(100), Rule::SizeAndDate), Err(Reason::Parity));
    }

    #[test]
    fn what_has_nothing_to_be_recognised_by_says_so() {
        assert!(!identity(&[("etag", "W/\"a\"")]).is_recognisable(Rule::Etag));
        assert!(identity(&[("etag", "\"a\"")]).is_recognisable(Rule::Digest));
        assert!(identity(&[("last-modified", "x")]).is_recognisable(Rule::SizeAndDate));
        assert!(!identity(&[("last-modified", "x")]).is_recognisable(Rule::Etag));
    }

    #[test]
    fn asking_names_the_etag_only_where_it_is_what_counts() {
        let first = identity(&[("etag", "\"a\"")]);
        let asked = first.ask_for(40, Some(100), Rule::Etag);
        assert_eq!(asked, [Field::new("range", "bytes=40-99"), Field::new("if-range", "\"a\"")]);
        assert_eq!(first.ask_for(40, None, Rule::SizeAndDate), [Field::new("range", "bytes=40-")]);
    }
}
