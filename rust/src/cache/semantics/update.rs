//! Bringing a stored answer up to date with a 304 (RFC 9111 §4.3.4) or with an answer to HEAD (§4.3.5).

use super::conditional::{Validators, is_weakly_equal};
use super::fields::Fields;
use super::meta::StoredMeta;
use super::reason::Reason;
use super::rules::Rules;
use super::storable::{Answer, terms};

/// What becomes of the stored answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Updated {
    /// Keep its body; its fields are those of `Merged` now (as far as `Kept` keeps them), its terms these.
    Fresh(StoredMeta),
    /// Serve `Merged` this once, then forget it: it may not be stored any longer.
    Forget(Reason),
    /// The other speaks of another body: after a 304 ask again without conditions; after a HEAD mark it stale
    /// (`StoredMeta::expired`).
    Different,
    /// The other says nothing about the stored one.
    Unrelated,
}

/// The stored fields with the newer ones in their place (§3.2). Age and Date are always the newer one's: without a Date
/// the edge adds one, as for any answer that comes without (RFC 9110 §6.6.1).
#[derive(Clone, Copy, Debug)]
pub struct Merged<'a, S: ?Sized, N: ?Sized> {
    pub stored: &'a S,
    pub newer: &'a N,
}

impl<S: Fields + ?Sized, N: Fields + ?Sized> Fields for Merged<'_, S, N> {
    fn lines(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let is_newer = |name: &[u8]| self.newer.lines().any(|(newer, _)| newer.eq_ignore_ascii_case(name));
        let is_moment = |name: &[u8]| name.eq_ignore_ascii_case(b"date") || name.eq_ignore_ascii_case(b"age");
        let is_replaced = move |name: &[u8]| is_update(name) && (is_moment(name) || is_newer(name));
        let kept = self.stored.lines().filter(move |(name, _)| !is_replaced(name));
        kept.chain(self.newer.lines().filter(|(name, _)| is_update(name)))
    }
}

/// All but what describes the stored bytes, which do not change.
fn is_update(name: &[u8]) -> bool {
    const OF_THE_BYTES: [&str; 5] =
        ["content-length", "content-encoding", "content-md5", "content-range", "transfer-encoding"];
    !OF_THE_BYTES.iter().any(|other| name.eq_ignore_ascii_case(other.as_bytes()))
}

/// After a 304 to a request that the edge made conditional with the stored validators.
pub fn by_not_modified<S: Fields + ?Sized, N: Fields + ?Sized>(
    stored: &S,
    meta: &StoredMeta,
    newer: &Answer<N>,
    rules: &Rules,
) -> Updated {
    if !is_about(&Validators::of(stored), &Validators::of(newer.fields)) {
        return Updated::Different;
    }
    merge(stored, meta, newer, rules)
}

/// A strong tag must be ours; a weak one, or a date, must not be another. Nothing at all is our own question answered.
fn is_about(stored: &Validators, newer: &Validators) -> bool {
    match (newer.etag, newer.last_modified) {
        (Some(etag), _) if etag.starts_with(b"\"") => {
            stored.etag.is_some_and(|ours| is_weakly_equal(ours, etag))
        }
        (Some(etag), _) => stored.etag.is_none_or(|ours| is_weakly_equal(ours, etag)),
        (None, Some(date)) => stored.last_modified.is_none_or(|ours| ours == date),
        (None, None) => true,
    }
}

/// After an answer to HEAD for what a GET's answer is stored of. `length`: of the stored body, if known.
pub fn by_head<S: Fields + ?Sized, N: Fields + ?Sized>(
    stored: &S,
    meta: &StoredMeta,
    length: Option<u64>,
    newer: &Answer<N>,
    rules: &Rules,
) -> Updated {
    if newer.status != 200 {
        return Updated::Unrelated;
    }
    let (ours, theirs) = (Validators::of(stored), Validators::of(newer.fields));
    let is_same = |ours: Option<&[u8]>, theirs: Option<&[u8]>| theirs.is_none() || ours == theirs;
    let is_same_length = newer.length.is_none_or(|newer| length.is_none_or(|length| length == newer));
    let is_same_body = is_same(ours.etag, theirs.etag) && is_same(ours.last_modified, theirs.last_modified);
    if !is_same_body || !is_same_length || meta.whole().status != 200 {
        return Updated::Different;
    }
    merge(stored, meta, newer, rules)
}

fn merge<S: Fields + ?Sized, N: Fields + ?Sized>(
    stored: &S,
    meta: &StoredMeta,
    newer: &Answer<N>,
    rules: &Rules,
) -> Updated {
    let merged = Merged { stored, newer: newer.fields };
    let (asked_ms, arrived_ms) = (newer.asked_ms, newer.arrived_ms);
    let answer = Answer { status: meta.whole().status, fields: &merged, length: None, asked_ms, arrived_ms };
    // Whether it may be shared was settled when it was stored; the asking client's credentials change nothing.
    match terms(&answer, false, rules) {
        Ok((terms, _)) => Updated::Fresh(StoredMeta { status: meta.status, part: meta.part, ..terms }),
        Err(reason) => Updated::Forget(reason),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Head<'a> = [(&'a str, &'a str)];

    const AT_MS: u64 = 50_000;

    fn stored_meta(stored: &Head) -> StoredMeta {
        let answer = Answer { status: 200, fields: stored, length: None, asked_ms: 0, arrived_ms: 0 };
        terms(&answer, false, &Rules::default()).unwrap().0
    }

    fn after_304(stored: &Head, newer: &Head) -> Updated {
        let answer = Answer { status: 304, fields: newer, length: None, asked_ms: AT_MS, arrived_ms: AT_MS };
        by_not_modified(stored, &stored_meta(stored), &answer, &Rules::default())
    }

    fn after_head(stored: &Head, status: u16, newer: &Head, length: Option<u64>) -> Updated {
        let answer = Answer { status, fields: newer, length, asked_ms: AT_MS, arrived_ms: AT_MS };
        by_head(stored, &stored_meta(stored), Some(10), &answer, &Rules::default())
    }

    const STORED: [(&str, &str); 6] = [
        ("cache-control", "max-age=2"),
        ("etag", "\"a\""),
        ("x", "1"),
        ("content-length", "10"),
        ("content-encoding", "br"),
        ("date", "Thu, 01 Jan 1970 00:00:00 GMT"),
    ];

    #[test]
    fn newer_fields_replace_stored_ones_but_those_of_the_bytes() {
        let newer =
            [("X", "2"), ("x", "3"), ("Content-Length", "5"), ("content-encoding", "gzip"), ("y", "4")];
        let merged = Merged { stored: STORED.as_slice(), newer: newer.as_slice() };
        let lines: Vec<_> = merged.lines().map(|(name, value)| (name.to_ascii_lowercase(), value)).collect();
        let values = |name: &str| -> Vec<_> {
            let found = lines.iter().filter(|line| line.0 == name.as_bytes());
            found.map(|line| std::str::from_utf8(line.1).unwrap()).collect()
        };
        assert_eq!(values("x"), ["2", "3"]);
        assert_eq!((values("y"), values("etag")), (vec!["4"], vec!["\"a\""]));
        assert_eq!((values("content-length"), values("content-encoding")), (vec!["10"], vec!["br"]));
        assert!(values("date").is_empty());
    }

    #[test]
    fn a_304_makes_it_fresh_again() {
        for newer in [
            vec![],
            vec![("etag", "\"a\"")],
            vec![("etag", "W/\"a\"")],
            vec![("last-modified", "Wed, 01 Jan 1969 00:00:00 GMT")],
        ] {
            let Updated::Fresh(meta) = after_304(&STORED, &newer) else { panic!("{newer:?}") };
            assert_eq!((meta.status, meta.stale_ms(AT_MS), meta.lifetime_s), (200, None, 2), "{newer:?}");
        }
        let Updated::Fresh(meta) = after_304(&STORED, &[("cache-control", "max-age=600"), ("age", "5")])
        else {
            panic!()
        };
        assert_eq!((meta.lifetime_s, meta.age_s(AT_MS)), (600, 5));
    }

    #[test]
    fn a_304_about_another_body_is_not_believed() {
        assert_eq!(after_304(&STORED, &[("etag", "\"b\"")]), Updated::Different);
        assert_eq!(after_304(&STORED, &[("etag", "W/\"b\"")]), Updated::Different);
        let dated = [("cache-control", "max-age=2"), ("last-modified", "a")];
        assert_eq!(after_304(&dated, &[("last-modified", "b")]), Updated::Different);
        assert_eq!(after_304(&dated, &[("etag", "\"b\"")]), Updated::Different);
        assert_eq!(after_304(&STORED, &[("cache-control", "no-store")]), Updated::Forget(Reason::NoStore));
    }

    #[test]
    fn an_answer_to_head_updates_or_contradicts() {
        let fresh =
            |newer: &Head, length| matches!(after_head(&STORED, 200, newer, length), Updated::Fresh(_));
        assert!(fresh(&[("cache-control", "max-age=1000")], None) && fresh(&[("etag", "\"a\"")], Some(10)));
        assert_eq!(after_head(&STORED, 200, &[("etag", "\"b\"")], None), Updated::Different);
        assert_eq!(after_head(&STORED, 200, &[], Some(11)), Updated::Different);
        assert_eq!(after_head(&STORED, 410, &[], Some(10)), Updated::Unrelated);
        let gone = StoredMeta { status: 404, ..stored_meta(&STORED) };
        let fields: &Head = &[("cache-control", "max-age=9")];
        let answer = Answer { status: 200, fields, length: None, asked_ms: AT_MS, arrived_ms: AT_MS };
        assert_eq!(by_head(STORED.as_slice(), &gone, None, &answer, &Rules::default()), Updated::Different);
    }
}
