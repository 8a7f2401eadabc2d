//! What senders say about caching: whatever forbids wins, however it is written, and what is remembered comes back.

use super::Input;
use crate::cache::semantics::conditional::{Served, Validators, preconditions};
use crate::cache::semantics::date;
use crate::cache::semantics::directives::Directives;
use crate::cache::semantics::fields::is_closed;
use crate::cache::semantics::kept::Kept;
use crate::cache::semantics::meta::{ENCODED_LEN, StoredMeta};
use crate::cache::semantics::range::Wanted;
use crate::cache::semantics::request::Request;
use crate::cache::semantics::reuse::{Reuse, reuse};
use crate::cache::semantics::rules::Rules;
use crate::cache::semantics::storable::{Answer, Storing, store_decision};

type Line<'a> = (&'a [u8], &'a [u8]);

const CONTROL: &[u8] = b"cache-control";
const START_MS: u64 = 1_790_000_000_000;

/// A status, how much later a second request comes, then the lines of both heads: the request's begin with a space.
pub fn directives(bytes: &[u8]) {
    let mut input = Input(bytes);
    let status = 100 + u16::from(input.byte()) * 2;
    let later_s = input.word() >> 40;
    let has_secret = input.byte() % 2 == 0;
    let lines = input.fields();
    let (asked, answered): (Vec<Line>, Vec<Line>) =
        lines.into_iter().partition(|(name, _)| name.first().is_some_and(u8::is_ascii_uppercase));
    check_reading(&answered);
    check_storing(&asked, &answered, status, later_s * 1_000, has_secret);
    answered.iter().for_each(|(_, value)| check_date(value));
}

fn read(lines: &[Line]) -> Directives {
    Directives::of_answer(lines, &[] as &[&str])
}

/// Lines mean the same as one list of them (RFC 9110 §5.3), and another word never takes back what forbids.
fn check_reading(answered: &[Line]) {
    let controls: Vec<Line> =
        answered.iter().filter(|(name, _)| name.eq_ignore_ascii_case(CONTROL)).copied().collect();
    let plain = read(&controls);
    if controls.iter().all(|(_, value)| is_closed(value)) {
        let values: Vec<&[u8]> = controls.iter().map(|(_, value)| *value).collect();
        assert_eq!(read(&[(CONTROL, &values.join(&b", "[..]))]), plain);
        let turned: Vec<Line> = controls.iter().rev().copied().collect();
        assert_eq!(read(&turned), plain);
    }
    for word in ["no-store", "private", "no-cache", "must-revalidate"] {
        let more: Vec<Line> = controls.iter().copied().chain([(CONTROL, word.as_bytes())]).collect();
        let found = read(&more);
        let is_there = found.no_store || found.private || found.no_cache || found.must_revalidate;
        assert!(is_there, "{word} is lost");
        assert!(found.no_store >= plain.no_store && found.private >= plain.private);
    }
}

/// What is stored may be, keeps its terms through the disk, and is never called fresh beyond its lifetime.
fn check_storing(asked: &[Line], answered: &[Line], status: u16, later_ms: u64, has_secret: bool) {
    let rules = Rules::default();
    let secret: Line = (b"authorization", b"x");
    let asked: Vec<Line> = asked.iter().copied().chain(has_secret.then_some(secret)).collect();
    let request = Request::read(b"GET", asked.as_slice(), false, true);
    let answer =
        Answer { status, fields: answered, length: Some(1_000), asked_ms: START_MS, arrived_ms: START_MS };
    let Storing::Store(terms) = store_decision(&request, &answer, false, &rules) else { return };
    let found = Directives::of_answer(answered, &rules.targeted);
    assert!(!found.private && (!found.no_store || found.must_understand) && !request.wishes.no_store);
    assert!(!has_secret || found.public || found.must_revalidate || found.s_maxage.is_present());
    assert!(!matches!(status, ..200 | 304 | 407 | 412 | 416 | 600..));
    check_terms(&terms);
    let kept = Kept::of(&answer, &rules);
    assert!(!kept.keeps(b"connection") && !kept.keeps(b"transfer-encoding"));
    let now_ms = START_MS + later_ms;
    let is_fresh = terms.age_ms(now_ms) < i64::from(terms.lifetime_s) * 1_000;
    match reuse(&terms, &request, now_ms) {
        Reuse::Fresh { age_s } => {
            assert!(is_fresh && !terms.always_validate && !request.wishes.no_cache);
            assert!(age_s >= later_ms / 1_000);
        }
        Reuse::Stale { .. } | Reuse::StaleWhileRevalidate { .. } => assert!(!is_fresh && !terms.never_stale),
        Reuse::MustValidate { .. } | Reuse::GatewayTimeout { .. } | Reuse::Pass(_) => {}
    }
    let served = preconditions(&request, &terms, &Validators::of(answered), Some(1_000), rules.ranges_max);
    if let Served::Ranges(Wanted::One(span)) = served {
        assert!(span.last < 1_000 && request.range.is_some());
    }
    assert!(served != Served::NotModified || request.is_conditional());
}

fn check_terms(terms: &StoredMeta) {
    let mut bytes = Vec::new();
    terms.encode(&mut bytes);
    assert_eq!((bytes.len(), StoredMeta::decode(&bytes)), (ENCODED_LEN, Some(*terms)));
}

/// A moment that is read is written as the same moment.
fn check_date(text: &[u8]) {
    let Some(moment_s) = date::parse(text, 1_790_000_000) else { return };
    assert_eq!(date::parse(&date::format(moment_s), 1_790_000_000), Some(moment_s));
}
