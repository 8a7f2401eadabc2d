//! Whether an answer may be stored, and what must be known of it later (RFC 9111 §3).

use super::directives::Directives;
use super::fields::Fields;
use super::freshness::{Source, Times, is_understood, lifetime};
use super::meta::StoredMeta;
use super::range::{ContentRange, content_range};
use super::reason::Reason;
use super::request::{Method, Request};
use super::rules::{Rules, SetCookie};
use super::vary;

/// An answer's head as it came, with what stands outside of the fields.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a, F: ?Sized> {
    pub status: u16,
    pub fields: &'a F,
    /// Content-Length, if known.
    pub length: Option<u64>,
    pub asked_ms: u64,
    pub arrived_ms: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Storing {
    Store(StoredMeta),
    Pass(Reason),
}

/// Whether to store the answer, under which terms. A POST's answer is stored for GET if it names its own target
/// (RFC 9110 §9.3.3): `names_target` says that Content-Location is the request's own URL (`invalidate::resolve`).
pub fn store_decision<R: Fields + ?Sized, A: Fields + ?Sized>(
    request: &Request<R>,
    answer: &Answer<A>,
    names_target: bool,
    rules: &Rules,
) -> Storing {
    let asked = match request.method {
        Method::Get if request.has_body => Err(Reason::RequestBody),
        Method::Get => Ok(()),
        Method::Post if names_target && (200..300).contains(&answer.status) => Ok(()),
        _ => Err(Reason::Method),
    };
    let stored = asked.and_then(|()| {
        if request.wishes.no_store {
            return Err(Reason::RequestNoStore);
        }
        let (meta, source) = terms(answer, request.has_authorization, rules)?;
        let needs_sender = request.method == Method::Post;
        if needs_sender && source != Some(Source::Sender) { Err(Reason::NoFreshness) } else { Ok(meta) }
    });
    stored.map_or_else(Storing::Pass, Storing::Store)
}

/// The terms of an answer whoever asked for it; also for an answer put together from a stored one and a 304.
pub(super) fn terms<A: Fields + ?Sized>(
    answer: &Answer<A>,
    has_authorization: bool,
    rules: &Rules,
) -> Result<(StoredMeta, Option<Source>), Reason> {
    let directives = Directives::of_answer(answer.fields, &rules.targeted);
    may_share(answer, &directives, has_authorization)?;
    vary::check(answer.fields, rules.vary_names_max)?;
    let part = part_of(answer)?;
    if answer.length.is_some_and(|length| length > rules.body_bytes_max) {
        return Err(Reason::TooLarge);
    }
    let times = Times::read(answer.fields, answer.asked_ms, answer.arrived_ms);
    let found = lifetime(answer.status, answer.fields, &directives, &times, rules);
    let source = found.map(|(_, source)| source);
    may_keep_cookies(answer.fields, source, rules)?;
    let meta = meta(answer, &directives, &times, found.map_or(0, |(found_s, _)| found_s), part, rules);
    is_worth_it(&meta, source, &directives)?;
    Ok((meta, source))
}

/// §3 and §3.5: what no shared cache may store.
fn may_share<A: Fields + ?Sized>(
    answer: &Answer<A>,
    directives: &Directives,
    has_authorization: bool,
) -> Result<(), Reason> {
    // Answers about the conditions or the range of one request, or about one hop, would stand in for the resource.
    if matches!(answer.status, ..200 | 304 | 407 | 412 | 416 | 600..) {
        return Err(Reason::Status);
    }
    if directives.must_understand && !is_understood(answer.status) {
        return Err(Reason::NotUnderstood);
    }
    if directives.no_store && !directives.must_understand {
        return Err(Reason::NoStore);
    }
    if directives.private {
        return Err(Reason::Private);
    }
    let is_shareable = directives.public || directives.must_revalidate || directives.s_maxage.is_present();
    if has_authorization && !is_shareable { Err(Reason::Authorization) } else { Ok(()) }
}

/// §3.3: a part must say which part it is, of what.
fn part_of<A: Fields + ?Sized>(answer: &Answer<A>) -> Result<Option<ContentRange>, Reason> {
    if answer.status != 206 {
        return Ok(None);
    }
    let told = answer.fields.single("content-range").and_then(content_range).ok_or(Reason::Partial)?;
    // Fewer bytes than told are a part that was cut short; more are nonsense.
    let Some(length) = answer.length else { return Ok(Some(told)) };
    if length == 0 || length > told.len() {
        return Err(Reason::Partial);
    }
    Ok(Some(ContentRange { last: told.first.saturating_add(length - 1), ..told }))
}

fn may_keep_cookies<A: Fields + ?Sized>(
    fields: &A,
    source: Option<Source>,
    rules: &Rules,
) -> Result<(), Reason> {
    let is_fine = match rules.set_cookie {
        SetCookie::Strip => true,
        SetCookie::WhenExplicit => source == Some(Source::Sender) || !sets_cookie(fields),
        SetCookie::Refuse => !sets_cookie(fields),
    };
    if is_fine { Ok(()) } else { Err(Reason::SetCookie) }
}

fn sets_cookie<A: Fields + ?Sized>(fields: &A) -> bool {
    fields.has("set-cookie") || fields.has("set-cookie2")
}

fn meta<A: Fields + ?Sized>(
    answer: &Answer<A>,
    directives: &Directives,
    times: &Times,
    lifetime_s: u32,
    part: Option<ContentRange>,
    rules: &Rules,
) -> StoredMeta {
    let is_forbidden = directives.must_revalidate || directives.proxy_revalidate;
    // s-maxage implies proxy-revalidate (§5.2.2.10), but who writes a window of staleness beside it means that window.
    let has_window = directives.stale_while_revalidate_s.or(directives.stale_if_error_s).is_some();
    let while_s = directives.stale_while_revalidate_s.unwrap_or(rules.stale_while_revalidate_s);
    StoredMeta {
        status: answer.status,
        arrived_ms: answer.arrived_ms,
        born_ms: times.born_ms,
        lifetime_s,
        stale_while_revalidate_s: while_s,
        stale_if_error_s: directives.stale_if_error_s,
        date_s: times.date_s,
        last_modified_s: times.last_modified_s,
        part,
        always_validate: directives.no_cache,
        never_stale: is_forbidden || directives.s_maxage.is_present() && !has_window,
        immutable: directives.immutable,
        has_validator: answer.fields.has("etag") || answer.fields.has("last-modified"),
    }
}

/// Without freshness information nothing is stored; no-cache and public are information enough if it can be validated.
fn is_worth_it(meta: &StoredMeta, source: Option<Source>, directives: &Directives) -> Result<(), Reason> {
    if source.is_none() && !directives.no_cache && !directives.public {
        return Err(Reason::NoFreshness);
    }
    let is_fresh_at_arrival = meta.age_ms(meta.arrived_ms) < i64::from(meta.lifetime_s) * 1_000;
    let has_window =
        meta.stale_while_revalidate_s > 0 || meta.stale_if_error_s.is_some_and(|window_s| window_s > 0);
    let is_usable = !meta.always_validate && (is_fresh_at_arrival || has_window && !meta.never_stale);
    match (is_usable || meta.has_validator, source) {
        (true, _) => Ok(()),
        (false, None) => Err(Reason::NoFreshness),
        (false, Some(_)) => Err(Reason::Unusable),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Head<'a> = [(&'a str, &'a str)];

    fn decide_by(rules: &Rules, asked: &Head, status: u16, head: &Head, length: Option<u64>) -> Storing {
        let request = Request::read(b"GET", asked, false, true);
        let answer = Answer { status, fields: head, length, asked_ms: 5_000, arrived_ms: 5_000 };
        store_decision(&request, &answer, false, rules)
    }

    fn decide(asked: &Head, status: u16, head: &Head) -> Storing {
        decide_by(&Rules::default(), asked, status, head, None)
    }

    fn reason(asked: &Head, status: u16, head: &Head) -> Option<Reason> {
        match decide(asked, status, head) {
            Storing::Store(_) => None,
            Storing::Pass(reason) => Some(reason),
        }
    }

    fn control(status: u16, text: &str) -> Option<Reason> {
        reason(&[], status, &[("cache-control", text)])
    }

    #[test]
    fn nothing_is_stored_without_freshness_or_a_use() {
        assert_eq!(reason(&[], 200, &[]), Some(Reason::NoFreshness));
        assert_eq!(reason(&[], 200, &[("etag", "\"a\"")]), Some(Reason::NoFreshness));
        assert_eq!(reason(&[], 200, &[("etag", "\"a\""), ("cache-control", "no-cache")]), None);
        assert_eq!(control(200, "no-cache"), Some(Reason::NoFreshness));
        assert_eq!(control(200, "no-cache, max-age=5"), Some(Reason::Unusable));
        assert_eq!(control(200, "max-age=0"), Some(Reason::Unusable));
        assert_eq!(control(200, "max-age=0, stale-while-revalidate=5"), None);
        assert_eq!(
            control(200, "max-age=0, stale-while-revalidate=5, must-revalidate"),
            Some(Reason::Unusable)
        );
        assert_eq!(reason(&[], 200, &[("age", "9"), ("cache-control", "max-age=9")]), Some(Reason::Unusable));
        assert_eq!(control(200, "max-age=1"), None);
    }

    #[test]
    fn what_the_sender_forbids_is_not_stored() {
        assert_eq!(control(200, "max-age=5, no-store"), Some(Reason::NoStore));
        assert_eq!(control(200, "max-age=5, private"), Some(Reason::Private));
        assert_eq!(control(200, "max-age=5, private=\"a\""), None);
        assert_eq!(control(599, "max-age=5, no-store, must-understand"), Some(Reason::NotUnderstood));
        assert_eq!(control(200, "max-age=5, no-store, must-understand"), None);
        assert_eq!(
            reason(&[], 200, &[("cache-control", "max-age=5"), ("vary", "*")]),
            Some(Reason::VaryStar)
        );
        let both =
            |targeted| reason(&[], 200, &[("cache-control", "no-store"), ("cdn-cache-control", targeted)]);
        assert_eq!(both("max-age=5"), None);
        assert_eq!(both("max-age=\"5\""), Some(Reason::NoStore));
        let head = [("cache-control", "max-age=5"), ("cdn-cache-control", "no-store")];
        assert_eq!(reason(&[], 200, &head), Some(Reason::NoStore));
    }

    #[test]
    fn any_final_status_with_a_lifetime_is_stored_but_those_about_one_request() {
        for status in
            [200, 203, 204, 299, 301, 302, 303, 307, 308, 400, 404, 410, 499, 500, 502, 503, 504, 599]
        {
            assert_eq!(control(status, "max-age=5"), None, "{status}");
        }
        for status in [100, 103, 199, 304, 407, 412, 416, 600, 999] {
            assert_eq!(control(status, "max-age=5"), Some(Reason::Status), "{status}");
        }
    }

    #[test]
    fn credentials_need_the_senders_word() {
        let asked = [("authorization", "x")];
        let with = |text| reason(&asked, 200, &[("cache-control", text)]);
        assert_eq!(with("max-age=5"), Some(Reason::Authorization));
        for text in ["max-age=5, public", "max-age=5, must-revalidate", "s-maxage=5"] {
            assert_eq!(with(text), None, "{text}");
        }
    }

    #[test]
    fn only_get_is_stored_and_post_by_its_own_name() {
        let head = [("cache-control", "max-age=5")];
        let with = |method: &[u8], has_body, names_target| {
            let request = Request::read(method, [("a", "b")].as_slice(), has_body, true);
            let fields = head.as_slice();
            let answer = Answer { status: 200, fields, length: None, asked_ms: 0, arrived_ms: 0 };
            matches!(store_decision(&request, &answer, names_target, &Rules::default()), Storing::Store(_))
        };
        assert!(with(b"GET", false, false) && with(b"POST", true, true));
        assert!(!with(b"GET", true, false) && !with(b"POST", true, false) && !with(b"HEAD", false, false));
        assert!(!with(b"PUT", true, true) && !with(b"get", false, false));
        assert_eq!(reason(&[("cache-control", "no-store")], 200, &head), Some(Reason::RequestNoStore));
    }

    #[test]
    fn cookies_follow_the_rule() {
        let head = [("set-cookie", "a=b"), ("cache-control", "max-age=5")];
        let bare = [("set-cookie", "a=b")];
        let by = |set_cookie, head: &Head| {
            let rules = Rules { set_cookie, lifetime_by_status: vec![(200, 9)], ..Rules::default() };
            matches!(decide_by(&rules, &[], 200, head, None), Storing::Store(_))
        };
        assert!(by(SetCookie::WhenExplicit, &head) && !by(SetCookie::WhenExplicit, &bare));
        assert!(by(SetCookie::Strip, &bare) && !by(SetCookie::Refuse, &head));
    }

    #[test]
    fn a_part_must_say_what_it_is() {
        let part = |text, length| {
            let head = [("cache-control", "max-age=5"), ("content-range", text)];
            match decide_by(&Rules::default(), &[], 206, &head, length) {
                Storing::Store(meta) => meta.part.map(|part| (part.first, part.last, part.complete)),
                Storing::Pass(_) => None,
            }
        };
        assert_eq!(part("bytes 4-9/10", Some(6)), Some((4, 9, Some(10))));
        assert_eq!(part("bytes 4-9/10", Some(5)), Some((4, 8, Some(10))));
        assert_eq!(part("bytes 4-9/10", Some(7)), None);
        assert_eq!(part("bytes 4-19/10", None), None);
        assert_eq!(control(206, "max-age=5"), Some(Reason::Partial));
    }

    #[test]
    fn age_is_never_negative_whatever_the_clocks_say() {
        let mut dice = crate::cache::semantics::dice::Dice(21);
        let pieces = [
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "9",
            "-",
            "99999999999",
            "Thu Aug 18 02:01:18 2050",
            "max-age=",
        ];
        for _ in 0..50_000 {
            let head: Vec<_> = ["date", "age", "expires", "cache-control", "last-modified"]
                .map(|name| (name.as_bytes().to_vec(), dice.text(&pieces)))
                .into();
            let (asked_ms, arrived_ms) = (dice.next() >> dice.below(64), dice.next() >> dice.below(64));
            let request = Request::read(b"GET", head.as_slice(), false, true);
            let answer = Answer { status: 200, fields: head.as_slice(), length: None, asked_ms, arrived_ms };
            let rules = Rules { lifetime_by_status: vec![(200, 5)], ..Rules::default() };
            if let Storing::Store(meta) = store_decision(&request, &answer, false, &rules) {
                let now_ms = dice.next() >> dice.below(64);
                assert!(meta.age_ms(now_ms) >= 0);
                assert_eq!(meta.stale_ms(now_ms).is_none(), meta.ttl_s(now_ms) > 0);
                let _ = (meta.expired(now_ms), super::super::reuse::reuse(&meta, &request, now_ms));
            }
        }
    }
}
