//! Conditional requests answered from what is stored (RFC 9110 §13, RFC 9111 §4.3.2), in the order of §13.2.2.

use super::date;
use super::fields::{Fields, members};
use super::meta::StoredMeta;
use super::range::{Wanted, wanted};
use super::request::{Listed, Method, Request};

/// The stored validators, as the sender wrote them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Validators<'a> {
    pub etag: Option<&'a [u8]>,
    pub last_modified: Option<&'a [u8]>,
}

impl<'a> Validators<'a> {
    pub fn of<F: Fields + ?Sized>(fields: &'a F) -> Self {
        Self { etag: fields.single("etag"), last_modified: fields.single("last-modified") }
    }
}

/// What a request gets of a stored answer that may be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Served {
    /// The stored status with all fields and the whole body.
    Full,
    /// 304, with the fields of `is_in_304`.
    NotModified,
    /// 206 with that part, or multipart/byteranges (`Wanted::One` or `Wanted::Many`).
    Ranges(Wanted),
    /// 412. Only an If-Match or If-Unmodified-Since leads here.
    PreconditionFailed,
    /// 416 with `Content-Range: bytes */length`.
    NotSatisfiable,
}

/// `length`: of the whole body; None while it is not known, and then a range gets everything.
pub fn preconditions<F: Fields + ?Sized>(
    request: &Request<F>,
    meta: &StoredMeta,
    validators: &Validators,
    length: Option<u64>,
    ranges_max: usize,
) -> Served {
    // Conditions count only where the answer without them would be a success (§13.2.1).
    if !(200..300).contains(&meta.status) {
        return Served::Full;
    }
    if request.is_conditional() {
        if !may_go_on(request, meta, validators) {
            return Served::PreconditionFailed;
        }
        if is_unmodified(request, meta, validators) {
            return Served::NotModified;
        }
    }
    let Some((range, length)) = request.range.zip(length).filter(|_| may_cut(request, meta, validators))
    else {
        return Served::Full;
    };
    match wanted(range, length, ranges_max) {
        Wanted::Whole => Served::Full,
        Wanted::NotSatisfiable => Served::NotSatisfiable,
        ranges => Served::Ranges(ranges),
    }
}

/// Steps 1 and 2: If-Match, or else If-Unmodified-Since.
fn may_go_on<F: Fields + ?Sized>(request: &Request<F>, meta: &StoredMeta, validators: &Validators) -> bool {
    if request.if_match.first.is_some() {
        return is_listed(request, "if-match", request.if_match, validators.etag, is_strongly_equal);
    }
    let Some(text) = request.if_unmodified_since else { return true };
    let since_s = date::parse(text, meta.date_s);
    since_s.zip(meta.last_modified_s).is_none_or(|(since_s, modified_s)| modified_s <= since_s)
}

/// Steps 3 and 4: If-None-Match, or else If-Modified-Since.
fn is_unmodified<F: Fields + ?Sized>(
    request: &Request<F>,
    meta: &StoredMeta,
    validators: &Validators,
) -> bool {
    if request.if_none_match.first.is_some() {
        return is_listed(request, "if-none-match", request.if_none_match, validators.etag, is_weakly_equal);
    }
    let Some(text) = request.if_modified_since else { return false };
    if validators.last_modified == Some(text) {
        return true;
    }
    // Without Last-Modified the answer's own date stands in for it (RFC 9111 §4.3.2).
    let modified_s = meta.last_modified_s.unwrap_or(meta.date_s);
    date::parse(text, meta.date_s).is_some_and(|since_s| modified_s <= since_s)
}

/// Step 5: a range of a 200 to a GET, whose If-Range (if any) names exactly what is stored.
fn may_cut<F: Fields + ?Sized>(request: &Request<F>, meta: &StoredMeta, validators: &Validators) -> bool {
    if request.method != Method::Get || !matches!(meta.status, 200 | 206) {
        return false;
    }
    let Some(condition) = request.if_range else { return !request.fields.has("if-range") };
    if condition.starts_with(b"\"") || condition.starts_with(b"W/") {
        return validators.etag.is_some_and(|etag| is_strongly_equal(condition, etag));
    }
    let is_strong = meta.last_modified_s.is_some_and(|modified_s| is_strong_date(modified_s, meta.date_s));
    is_strong && validators.last_modified == Some(condition)
}

/// Whether nothing can have changed within the second that Last-Modified names (RFC 9110 §8.8.2.2).
fn is_strong_date(modified_s: i64, date_s: i64) -> bool {
    date_s.saturating_sub(modified_s) >= 1
}

fn is_listed<F: Fields + ?Sized>(
    request: &Request<F>,
    name: &str,
    listed: Listed,
    etag: Option<&[u8]>,
    is_equal: fn(&[u8], &[u8]) -> bool,
) -> bool {
    let holds = |line: &[u8]| {
        let mut tags = members(line);
        tags.any(|tag| tag == b"*" || etag.is_some_and(|etag| is_equal(tag, etag)))
    };
    if listed.is_repeated { request.fields.values(name).any(holds) } else { listed.first.is_some_and(holds) }
}

/// RFC 9110 §8.8.3.2. Tags that are not written as tags compare byte by byte.
pub fn is_weakly_equal(one: &[u8], other: &[u8]) -> bool {
    !one.is_empty() && opaque(one) == opaque(other)
}

fn opaque(tag: &[u8]) -> &[u8] {
    tag.strip_prefix(b"W/").unwrap_or(tag)
}

/// Equal, and neither of them weak.
pub fn is_strongly_equal(one: &[u8], other: &[u8]) -> bool {
    one == other && one.starts_with(b"\"")
}

/// Whether parts fetched by several requests may be put together (RFC 9111 §3.4, RFC 9110 §15.3.7.3): only where a
/// strong validator says that they are of one whole.
pub fn may_combine(stored: &Validators, meta: &StoredMeta, other: &Validators) -> bool {
    match (stored.etag, other.etag) {
        (Some(one), Some(other)) => is_strongly_equal(one, other),
        (None, None) => {
            let is_strong =
                meta.last_modified_s.is_some_and(|modified_s| is_strong_date(modified_s, meta.date_s));
            is_strong && stored.last_modified.is_some() && stored.last_modified == other.last_modified
        }
        _ => false,
    }
}

/// Whether all that is to be served is in the stored bytes; a stored part has no others.
pub fn is_held(meta: &StoredMeta, served: &Served) -> bool {
    let Some(part) = meta.part else { return true };
    match served {
        Served::Full => part.first == 0 && part.complete == part.last.checked_add(1),
        Served::Ranges(Wanted::One(span)) => part.covers(*span),
        Served::Ranges(Wanted::Many(spans)) => spans.iter().all(|span| part.covers(*span)),
        _ => true,
    }
}

/// Whether a request's field makes its answer depend on what one client has. A fetch that fills the cache leaves these
/// out, and `preconditions` answers them afterwards; what to do with Range is the edge's own matter.
pub fn is_condition(name: &[u8]) -> bool {
    const CONDITIONS: [&str; 5] =
        ["if-match", "if-none-match", "if-modified-since", "if-unmodified-since", "if-range"];
    CONDITIONS.iter().any(|other| name.eq_ignore_ascii_case(other.as_bytes()))
}

/// Whether a stored field goes along with a 304 (RFC 9110 §15.4.5): all but those that describe a body that is not sent.
pub fn is_in_304(name: &[u8]) -> bool {
    const LEFT_OUT: [&str; 5] =
        ["content-type", "content-encoding", "content-language", "content-length", "content-range"];
    !LEFT_OUT.iter().any(|other| name.eq_ignore_ascii_case(other.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::semantics::dice::Dice;
    use crate::cache::semantics::range::Span;
    use crate::cache::semantics::rules::Rules;
    use crate::cache::semantics::storable::{Answer, terms};

    type Head<'a> = [(&'a str, &'a str)];

    const MODIFIED: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const LATER: &str = "Sun, 06 Nov 1994 08:49:38 GMT";
    const EARLIER: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
    const STORED: [(&str, &str); 4] =
        [("etag", "\"a\""), ("last-modified", MODIFIED), ("date", LATER), ("cache-control", "max-age=9")];

    fn served_by(status: u16, stored: &Head, method: &str, asked: &Head) -> Served {
        let answer = Answer { status, fields: stored, length: None, asked_ms: 0, arrived_ms: 0 };
        let meta = terms(&answer, false, &Rules::default()).unwrap().0;
        let request = Request::read(method.as_bytes(), asked, false, true);
        preconditions(&request, &meta, &Validators::of(stored), Some(1_000), 16)
    }

    fn served(asked: &Head) -> Served {
        served_by(200, &STORED, "GET", asked)
    }

    fn part() -> Served {
        Served::Ranges(Wanted::One(Span { first: 0, last: 9 }))
    }

    #[test]
    fn if_none_match_goes_before_if_modified_since() {
        for tags in ["\"a\"", "W/\"a\"", "\"1\", \"a\"", "\"1\",\"2\" , W/\"a\"", "*"] {
            assert_eq!(
                served(&[("if-none-match", tags), ("if-modified-since", EARLIER)]),
                Served::NotModified
            );
        }
        assert_eq!(served(&[("if-none-match", "\"1\""), ("if-none-match", "\"a\"")]), Served::NotModified);
        for tags in ["\"b\"", "a", "\"A\"", "\"x, \"a", ""] {
            assert_eq!(
                served(&[("if-none-match", tags), ("if-modified-since", LATER)]),
                Served::Full,
                "{tags}"
            );
        }
    }

    #[test]
    fn dates_are_compared_as_moments() {
        let since = |text| served(&[("if-modified-since", text)]);
        for text in [MODIFIED, LATER, "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"] {
            assert_eq!(since(text), Served::NotModified, "{text}");
        }
        assert_eq!((since(EARLIER), since("0")), (Served::Full, Served::Full));
        let dateless = [("date", LATER), ("cache-control", "max-age=9")];
        let since = |text| served_by(200, &dateless, "GET", &[("if-modified-since", text)]);
        assert_eq!((since(LATER), since(MODIFIED)), (Served::NotModified, Served::Full));
    }

    #[test]
    fn conditions_for_changing_fail_with_412() {
        for asked in [("if-match", "\"b\""), ("if-match", "W/\"a\""), ("if-unmodified-since", EARLIER)] {
            assert_eq!(served(&[asked]), Served::PreconditionFailed, "{asked:?}");
        }
        for asked in [("if-match", "\"a\""), ("if-match", "*"), ("if-unmodified-since", MODIFIED)] {
            assert_eq!(served(&[asked]), Served::Full, "{asked:?}");
        }
        let both = [("if-match", "\"a\""), ("if-unmodified-since", EARLIER), ("if-none-match", "\"a\"")];
        assert_eq!(served(&both), Served::NotModified);
    }

    #[test]
    fn if_range_must_name_exactly_what_is_stored() {
        let cut = |condition| served(&[("range", "bytes=0-9"), ("if-range", condition)]);
        assert_eq!(served(&[("range", "bytes=0-9")]), part());
        assert_eq!((cut("\"a\""), cut(MODIFIED)), (part(), part()));
        for condition in ["\"b\"", "W/\"a\"", LATER, "Sunday, 06-Nov-94 08:49:37 GMT", "a", ""] {
            assert_eq!(cut(condition), Served::Full, "{condition}");
        }
        let same_second = [("last-modified", LATER), ("date", LATER), ("cache-control", "max-age=9")];
        let asked = [("range", "bytes=0-9"), ("if-range", LATER)];
        assert_eq!(served_by(200, &same_second, "GET", &asked), Served::Full);
    }

    #[test]
    fn only_a_success_is_cut_or_unmodified() {
        let asked = [("range", "bytes=0-9"), ("if-none-match", "\"a\"")];
        assert_eq!(served_by(404, &STORED, "GET", &asked), Served::Full);
        assert_eq!(served_by(203, &STORED, "GET", &[("range", "bytes=0-9")]), Served::Full);
        assert_eq!(served_by(200, &STORED, "HEAD", &[("range", "bytes=0-9")]), Served::Full);
        assert_eq!(served_by(200, &STORED, "HEAD", &asked), Served::NotModified);
        assert_eq!(served(&[("range", "bytes=1000-")]), Served::NotSatisfiable);
    }

    #[test]
    fn a_part_serves_what_it_holds() {
        let fields = [("cache-control", "max-age=9"), ("content-range", "bytes 0-99/1000")];
        let fields = fields.as_slice();
        let answer = Answer { status: 206, fields, length: Some(100), asked_ms: 0, arrived_ms: 0 };
        let meta = terms(&answer, false, &Rules::default()).unwrap().0;
        assert!(
            is_held(&meta, &part()) && is_held(&meta, &Served::NotModified) && !is_held(&meta, &Served::Full)
        );
        let beyond = vec![Span { first: 0, last: 9 }, Span { first: 99, last: 100 }];
        assert!(
            !is_held(&meta, &Served::Ranges(Wanted::Many(beyond))) && is_held(&meta.whole(), &Served::Full)
        );
    }

    #[test]
    fn a_304_describes_no_body_and_a_fetch_carries_no_condition() {
        assert!(is_in_304(b"ETag") && is_in_304(b"Vary") && !is_in_304(b"Content-Type"));
        assert!(is_condition(b"If-Range") && !is_condition(b"Range"));
    }

    #[test]
    fn only_what_is_surely_one_body_is_combined() {
        let meta = |head: &Head| {
            let answer = Answer { status: 200, fields: head, length: None, asked_ms: 0, arrived_ms: 0 };
            terms(&answer, false, &Rules::default()).unwrap().0
        };
        let may = |one: &Head, other: &Head| {
            may_combine(&Validators::of(one), &meta(&STORED), &Validators::of(other))
        };
        let (strong, weak, dated) =
            ([("etag", "\"a\"")], [("etag", "W/\"a\"")], [("last-modified", MODIFIED)]);
        assert!(may(&strong, &strong) && may(&dated, &dated));
        assert!(!may(&weak, &weak) && !may(&strong, &weak) && !may(&strong, &dated) && !may(&[], &[]));
        assert!(!may(&dated, &[("last-modified", LATER)]));
    }

    #[test]
    fn no_bytes_break_it() {
        let mut dice = Dice(19);
        let pieces = ["\"a\"", "W/", "*", ",", "\"", " ", MODIFIED, "bytes=", "0-", "-5"];
        for _ in 0..30_000 {
            let names =
                ["if-match", "if-none-match", "if-range", "range", "if-modified-since", "if-none-match"];
            let asked: Vec<_> = names.map(|name| (name.as_bytes().to_vec(), dice.text(&pieces))).into();
            let stored = STORED.as_slice();
            let answer = Answer { status: 200, fields: stored, length: None, asked_ms: 0, arrived_ms: 0 };
            let meta = terms(&answer, false, &Rules::default()).unwrap().0;
            let request = Request::read(b"GET", asked.as_slice(), false, true);
            let _ = preconditions(&request, &meta, &Validators::of(stored), Some(dice.below(100)), 4);
        }
    }
}
