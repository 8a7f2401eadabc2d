//! How long an answer is fresh, and how old it is (RFC 9111 §4.2).

use super::date;
use super::directives::{Directives, Lifetime};
use super::fields::{Fields, SECONDS_MAX, seconds};
use super::rules::Rules;

/// Where a lifetime comes from; what the sender said goes before what our rules say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    Sender,
    /// `lifetime_by_status`.
    Operator,
    Heuristic,
}

/// An answer as far as time is concerned. Moments are milliseconds (`_ms`) or seconds (`_s`) since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// Date, or the moment of arrival if it has none that can be read.
    pub date_s: i64,
    pub last_modified_s: Option<i64>,
    /// When it would have been made, from its age at arrival: it is `now_ms - born_ms` old. Before 1970 for absurd ages.
    pub born_ms: i64,
}

impl Times {
    /// `asked_ms`: the request went out; `arrived_ms`: the answer's head came in.
    pub fn read<F: Fields + ?Sized>(answer: &F, asked_ms: u64, arrived_ms: u64) -> Self {
        let arrived_s = signed(arrived_ms / 1_000);
        let date_s = answer.single("date").and_then(|text| date::parse(text, arrived_s)).unwrap_or(arrived_s);
        let last_modified = answer.single("last-modified");
        // §4.2.3. Age and Date count whole seconds, so only the delay is finer than that.
        let apparent_ms = arrived_s.saturating_sub(date_s).max(0).saturating_mul(1_000);
        let delay_ms = signed(arrived_ms.saturating_sub(asked_ms));
        let corrected_ms = (i64::from(age(answer)) * 1_000).saturating_add(delay_ms);
        Self {
            date_s,
            last_modified_s: last_modified.and_then(|text| date::parse(text, arrived_s)),
            born_ms: signed(arrived_ms).saturating_sub(apparent_ms.max(corrected_ms)),
        }
    }
}

pub(super) fn signed(moment: u64) -> i64 {
    i64::try_from(moment).unwrap_or(i64::MAX)
}

/// The Age field (§5.1). One that is not one number could stand for any age, and counts as the largest: the answer is
/// stale, which a cache may always take it for.
fn age<F: Fields + ?Sized>(answer: &F) -> u32 {
    let mut lines = answer.values("age");
    match (lines.next(), lines.next()) {
        (None, _) => 0,
        (Some(one), None) => seconds(one).unwrap_or(SECONDS_MAX),
        (Some(_), Some(_)) => SECONDS_MAX,
    }
}

/// The seconds for which the answer is fresh, counted from its birth; None if nobody said.
pub fn lifetime<F: Fields + ?Sized>(
    status: u16,
    answer: &F,
    directives: &Directives,
    times: &Times,
    rules: &Rules,
) -> Option<(u32, Source)> {
    let (found_s, source) = match explicit(answer, directives, times) {
        Some(found_s) => (found_s, Source::Sender),
        None => by_rule(status, directives, times, rules)?,
    };
    Some((found_s.min(rules.lifetime_max_s), source))
}

/// §4.2.1: s-maxage, max-age, Expires; the first that is there.
fn explicit<F: Fields + ?Sized>(answer: &F, directives: &Directives, times: &Times) -> Option<u32> {
    for lifetime in [directives.s_maxage, directives.max_age] {
        match lifetime {
            Lifetime::Absent => {}
            Lifetime::Unclear => return Some(0),
            Lifetime::Seconds(found_s) => return Some(found_s),
        }
    }
    if directives.is_targeted || !answer.has("expires") {
        return None;
    }
    // An Expires that cannot be read is in the past (§5.3), and so are two different ones.
    let expires_s = answer.single("expires").and_then(|text| date::parse(text, times.date_s));
    let found_s = expires_s.map_or(0, |expires_s| expires_s.saturating_sub(times.date_s).max(0));
    Some(u32::try_from(found_s).unwrap_or(super::fields::SECONDS_MAX))
}

fn by_rule(status: u16, directives: &Directives, times: &Times, rules: &Rules) -> Option<(u32, Source)> {
    let by_status = rules.lifetime_by_status.iter().find(|(listed, _)| *listed == status);
    if let Some((_, found_s)) = by_status {
        return Some((*found_s, Source::Operator));
    }
    let heuristic = rules.heuristic?;
    if !is_heuristically_cacheable(status) && !directives.public {
        return None;
    }
    let unmodified_s = times.date_s.saturating_sub(times.last_modified_s?).max(0);
    let found_s = unmodified_s / 100 * i64::from(heuristic.percent);
    Some((u32::try_from(found_s).unwrap_or(u32::MAX).min(heuristic.max_s), Source::Heuristic))
}

/// RFC 9110 §15.1.
pub fn is_heuristically_cacheable(status: u16) -> bool {
    matches!(status, 200 | 203 | 204 | 206 | 300 | 301 | 308 | 404 | 405 | 410 | 414 | 501)
}

/// Statuses whose caching behaviour is known here (RFC 9111 §3, for must-understand).
pub fn is_understood(status: u16) -> bool {
    matches!(status, 200..=206 | 300..=305 | 307 | 308 | 400..=417 | 421 | 422 | 426 | 500..=505)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::semantics::rules::Heuristic;

    const NOW_MS: u64 = 1_790_000_000_500;
    const NOW: i64 = 1_790_000_000_500;

    fn moment(offset_s: i64) -> String {
        String::from_utf8(date::format(1_790_000_000 + offset_s).to_vec()).unwrap()
    }

    /// (lifetime, age at arrival), both in seconds.
    fn read(head: &[(&str, String)], rules: &Rules) -> (Option<u32>, i64) {
        let times = Times::read(head, NOW_MS, NOW_MS);
        let directives = Directives::of_answer(head, &rules.targeted);
        let found = lifetime(200, head, &directives, &times, rules);
        (found.map(|(found_s, _)| found_s), (NOW - times.born_ms) / 1_000)
    }

    fn plain(head: &[(&str, String)]) -> (Option<u32>, i64) {
        read(head, &Rules::default())
    }

    fn aged(age: &[&str]) -> i64 {
        let mut head = vec![("date", moment(0))];
        head.extend(age.iter().map(|age| ("age", (*age).to_owned())));
        plain(&head).1
    }

    #[test]
    fn the_more_specific_lifetime_wins() {
        let control = |text: &str| ("cache-control", text.to_owned());
        let expires = || ("expires", moment(-7_200));
        assert_eq!(plain(&[control("max-age=3600"), expires()]).0, Some(3_600));
        assert_eq!(plain(&[control("max-age=0"), ("expires", moment(3_600))]).0, Some(0));
        assert_eq!(plain(&[control("max-age=1, s-maxage=3600"), expires()]).0, Some(3_600));
        assert_eq!(plain(&[control("s-maxage=1, max-age=3600")]).0, Some(1));
        assert_eq!(plain(&[control("max-age=-1"), ("expires", moment(3_600))]).0, Some(0));
        assert_eq!(plain(&[]).0, None);
        assert_eq!(plain(&[control("public, must-revalidate")]).0, None);
    }

    #[test]
    fn targeted_fields_beat_cache_control_and_expires() {
        let targeted = |text: &str| ("cdn-cache-control", text.to_owned());
        let rest = [("cache-control", "max-age=1".to_owned()), ("expires", moment(9))];
        let with = |text: &str| plain(&[targeted(text), rest[0].clone(), rest[1].clone()]).0;
        assert_eq!(with("max-age=3600"), Some(3_600));
        assert_eq!(with("foo"), None);
        assert_eq!(with("max-age=3600, &&&&&"), Some(1));
    }

    #[test]
    fn expires_is_counted_from_date() {
        let dated = |date: &str, expires: String| plain(&[("date", date.to_owned()), ("expires", expires)]).0;
        assert_eq!(dated(&moment(10), moment(20)), Some(10));
        assert_eq!(dated(&moment(400), moment(300)), Some(0));
        assert_eq!(dated("foo", moment(10)), Some(10));
        assert_eq!(dated(&moment(0), "0".to_owned()), Some(0));
        assert_eq!(plain(&[("expires", moment(5)), ("expires", moment(6))]).0, Some(0));
        assert_eq!(
            dated(&moment(0), "Sun, 21 Nov 2286 04:46:39 GMT".to_owned()),
            Some(super::super::fields::SECONDS_MAX)
        );
    }

    #[test]
    fn an_age_that_is_not_one_number_makes_it_stale() {
        let oldest = i64::from(super::super::fields::SECONDS_MAX);
        assert_eq!(aged(&["7200"]), 7_200);
        assert_eq!(aged(&["7200", "0"]), oldest);
        assert_eq!(aged(&["0", "0"]), oldest);
        for wrong in ["abc", "-7200", "7200.0", "7200;foo=bar", "", "7200, 0", "0, 7200", "0, 0"] {
            assert_eq!(aged(&[wrong]), oldest, "{wrong}");
        }
        assert_eq!(aged(&["2147483649"]), i64::from(super::super::fields::SECONDS_MAX));
    }

    #[test]
    fn a_slow_clock_or_a_slow_answer_makes_it_older() {
        let head = [("date", moment(-7_200))];
        assert_eq!(plain(&head).1, 7_200);
        let times = Times::read([("age", "10")].as_slice(), NOW_MS - 4_200, NOW_MS);
        assert_eq!(NOW - times.born_ms, 14_200);
        let times = Times::read([("date", moment(999))].as_slice(), NOW_MS, NOW_MS);
        assert_eq!(times.born_ms, NOW, "a date ahead of ours is no negative age");
    }

    #[test]
    fn heuristics_and_lifetimes_by_status_only_where_switched_on() {
        let head = [("date", moment(0)), ("last-modified", moment(-86_400))];
        assert_eq!(read(&head, &Rules::default()).0, None);
        let heuristic = Some(Heuristic { percent: 10, max_s: 3_600 });
        let rules = Rules { heuristic, ..Rules::default() };
        assert_eq!(read(&head, &rules).0, Some(3_600));
        let rules = Rules { heuristic: Some(Heuristic { percent: 10, max_s: u32::MAX }), ..Rules::default() };
        assert_eq!(read(&head, &rules).0, Some(8_640));
        let rules = Rules { lifetime_by_status: vec![(200, 7)], heuristic, ..Rules::default() };
        assert_eq!(read(&head, &rules).0, Some(7));
        let found = |status, text| {
            let head = [("last-modified", moment(-86_400)), ("cache-control", text)];
            let times = Times::read(head.as_slice(), NOW_MS, NOW_MS);
            let rules = Rules { heuristic, ..Rules::default() };
            let directives = Directives::of_answer(head.as_slice(), &rules.targeted);
            lifetime(status, head.as_slice(), &directives, &times, &rules).is_some()
        };
        let (none, public) = (String::new(), "public".to_owned());
        assert!(
            found(404, none.clone()) && !found(599, none.clone()) && !found(201, none) && found(599, public)
        );
    }
}
