//! Whether a stored answer may be used for a request now (RFC 9111 §4, RFC 5861, RFC 8246).
//!
//! Whoever calls has found it by key and by what it varies on.

use super::fields::{Fields, SECONDS_MAX};
use super::meta::StoredMeta;
use super::reason::{Doubt, Reason};
use super::request::{Method, Request};
use super::rules::Rules;

/// What to do with a stored answer. Ages are in seconds, for the Age field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reuse {
    Fresh {
        age_s: u64,
    },
    /// Stale, and the client takes it so (max-stale).
    Stale {
        age_s: u64,
    },
    /// Stale, but in the window in which it serves while one request fetches it anew.
    StaleWhileRevalidate {
        age_s: u64,
    },
    /// Ask the origin first; conditionally, if it has a validator.
    MustValidate {
        doubt: Doubt,
    },
    /// The client takes only what is stored, and this does not do: 504 (§5.2.1.7).
    GatewayTimeout {
        doubt: Doubt,
    },
    /// Requests like this one are not answered from what is stored.
    Pass(Reason),
}

/// Whether requests like this are answered from what is stored at all; if not, nothing needs to be looked up.
pub fn may_look_up<F: Fields + ?Sized>(request: &Request<F>) -> Result<(), Reason> {
    match request.method {
        Method::Get | Method::Head if request.has_body => Err(Reason::RequestBody),
        Method::Get | Method::Head => Ok(()),
        Method::Post | Method::Other => Err(Reason::Method),
    }
}

/// Nothing is stored: whether the client wants to know it by a 504 instead of by an answer.
pub fn is_refused_on_miss<F: Fields + ?Sized>(request: &Request<F>) -> bool {
    request.wishes.only_if_cached && may_look_up(request).is_ok()
}

pub fn reuse<F: Fields + ?Sized>(meta: &StoredMeta, request: &Request<F>, now_ms: u64) -> Reuse {
    if let Err(reason) = may_look_up(request) {
        return Reuse::Pass(reason);
    }
    match without_asking(meta, request, now_ms) {
        Ok(found) => found,
        Err(doubt) if request.wishes.only_if_cached => Reuse::GatewayTimeout { doubt },
        Err(doubt) => Reuse::MustValidate { doubt },
    }
}

fn without_asking<F: Fields + ?Sized>(
    meta: &StoredMeta,
    request: &Request<F>,
    now_ms: u64,
) -> Result<Reuse, Doubt> {
    let wishes = &request.wishes;
    if meta.always_validate {
        return Err(Doubt::NoCache);
    }
    if wishes.no_cache {
        return Err(Doubt::RequestNoCache);
    }
    let (age_ms, age_s) = (meta.age_ms(now_ms), meta.age_s(now_ms));
    let stale_ms = meta.stale_ms(now_ms);
    // A reload's max-age=0 is nothing to an answer that will not change while it is fresh (RFC 8246 §2).
    let is_immutable = meta.immutable && stale_ms.is_none();
    if wishes.max_age_s.is_some_and(|max_s| age_ms > millis(max_s) || max_s == 0) && !is_immutable {
        return Err(Doubt::RequestMaxAge);
    }
    let left_ms = millis(meta.lifetime_s).saturating_sub(age_ms);
    if wishes.min_fresh_s.is_some_and(|min_s| left_ms < millis(min_s)) {
        return Err(Doubt::RequestMinFresh);
    }
    let Some(stale_ms) = stale_ms else { return Ok(Reuse::Fresh { age_s }) };
    if meta.never_stale {
        return Err(Doubt::Stale);
    }
    if wishes.max_stale_s.is_some_and(|max_s| max_s == SECONDS_MAX || stale_ms <= millis(max_s)) {
        return Ok(Reuse::Stale { age_s });
    }
    if stale_ms < millis(meta.stale_while_revalidate_s) {
        return Ok(Reuse::StaleWhileRevalidate { age_s });
    }
    Err(Doubt::Stale)
}

fn millis(seconds: u32) -> i64 {
    i64::from(seconds) * 1_000
}

/// How the origin failed to give its word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// No answer: nobody reached, cut off, too late.
    Disconnected,
    /// An answer with this status.
    Status(u16),
}

/// The age with which a stored answer may serve after the origin failed; None if the failure is the answer.
///
/// A 500, 502, 503 or 504 is such a failure where the sender, the client (stale-if-error, RFC 5861 §4) or the operator
/// says so. With nobody to ask the cache is disconnected (RFC 9111 §4.2.4), and the operator's own limit holds unless
/// the sender gave one.
pub fn after_error<F: Fields + ?Sized>(
    meta: &StoredMeta,
    request: &Request<F>,
    failure: Failure,
    rules: &Rules,
    now_ms: u64,
) -> Option<u64> {
    let is_failure = matches!(failure, Failure::Disconnected | Failure::Status(500 | 502 | 503 | 504));
    if !is_failure || meta.always_validate || request.wishes.no_cache || may_look_up(request).is_err() {
        return None;
    }
    let age_s = meta.age_s(now_ms);
    // It is fresh: only the client wanted to know better.
    let Some(stale_ms) = meta.stale_ms(now_ms) else { return Some(age_s) };
    if meta.never_stale {
        return None;
    }
    let told_s = meta.stale_if_error_s.max(request.wishes.stale_if_error_s);
    let ours_s = match failure {
        Failure::Disconnected => rules.stale_if_error_s.max(rules.stale_on_disconnect_s),
        Failure::Status(_) => rules.stale_if_error_s,
    };
    let window_s = told_s.unwrap_or(ours_s);
    (stale_ms < millis(window_s)).then_some(age_s)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::semantics::storable::{Answer, terms};

    fn meta(control: &str) -> StoredMeta {
        let head = [("cache-control", control), ("etag", "\"a\"")];
        let answer =
            Answer { status: 200, fields: head.as_slice(), length: None, asked_ms: 0, arrived_ms: 0 };
        terms(&answer, false, &Rules::default()).unwrap().0
    }

    /// An answer stored at 0 s, asked for at `now_s`.
    fn after(control: &str, wish: &str, now_s: u64) -> Reuse {
        let asked = [("cache-control", wish)];
        reuse(&meta(control), &Request::read(b"GET", asked.as_slice(), false, true), now_s * 1_000)
    }

    fn failed(control: &str, wish: &str, failure: Failure, now_s: u64) -> bool {
        let asked = [("cache-control", wish)];
        let request = Request::read(b"GET", asked.as_slice(), false, true);
        after_error(&meta(control), &request, failure, &Rules::default(), now_s * 1_000).is_some()
    }

    fn doubt(doubt: Doubt) -> Reuse {
        Reuse::MustValidate { doubt }
    }

    #[test]
    fn fresh_until_the_lifetime_is_over() {
        assert_eq!(after("max-age=10", "", 9), Reuse::Fresh { age_s: 9 });
        assert_eq!(after("max-age=10", "", 10), doubt(Doubt::Stale));
        assert_eq!(after("max-age=10, no-cache", "", 0), doubt(Doubt::NoCache));
        assert_eq!(after("max-age=10, must-revalidate", "", 9), Reuse::Fresh { age_s: 9 });
    }

    #[test]
    fn clients_may_be_stricter_or_more_lenient() {
        assert_eq!(after("max-age=10", "no-cache", 1), doubt(Doubt::RequestNoCache));
        assert_eq!(after("max-age=10", "max-age=0", 0), doubt(Doubt::RequestMaxAge));
        assert_eq!(after("max-age=10", "max-age=3", 4), doubt(Doubt::RequestMaxAge));
        assert_eq!(after("max-age=10", "max-age=3", 3), Reuse::Fresh { age_s: 3 });
        assert_eq!(after("max-age=10", "min-fresh=8", 3), doubt(Doubt::RequestMinFresh));
        assert_eq!(after("max-age=10", "min-fresh=7", 3), Reuse::Fresh { age_s: 3 });
        assert_eq!(after("max-age=10", "no-store", 3), Reuse::Fresh { age_s: 3 });
        assert_eq!(after("max-age=10", "max-stale=5", 15), Reuse::Stale { age_s: 15 });
        assert_eq!(after("max-age=10", "max-stale", 999), Reuse::Stale { age_s: 999 });
        assert_eq!(after("max-age=10", "max-stale=5", 16), doubt(Doubt::Stale));
        assert_eq!(after("max-age=10, must-revalidate", "max-stale", 11), doubt(Doubt::Stale));
        assert_eq!(after("max-age=10", "only-if-cached", 11), Reuse::GatewayTimeout { doubt: Doubt::Stale });
    }

    #[test]
    fn a_reload_does_not_doubt_the_immutable() {
        assert_eq!(after("max-age=10, immutable", "max-age=0", 5), Reuse::Fresh { age_s: 5 });
        assert_eq!(after("max-age=10, immutable", "no-cache", 5), doubt(Doubt::RequestNoCache));
        assert_eq!(after("max-age=10, immutable", "max-age=0", 11), doubt(Doubt::RequestMaxAge));
    }

    #[test]
    fn the_window_of_stale_while_revalidate_ends() {
        let control = "max-age=1, stale-while-revalidate=4";
        assert_eq!(after(control, "", 4), Reuse::StaleWhileRevalidate { age_s: 4 });
        assert_eq!(after(control, "", 5), doubt(Doubt::Stale));
        assert_eq!(
            after("max-age=1, stale-while-revalidate=4, proxy-revalidate", "", 2),
            doubt(Doubt::Stale)
        );
        let beside = "s-maxage=1, stale-while-revalidate=4";
        assert_eq!(after(beside, "", 4), Reuse::StaleWhileRevalidate { age_s: 4 });
    }

    #[test]
    fn stale_serves_on_errors_as_far_as_somebody_allows() {
        let (cut, sick) = (Failure::Disconnected, Failure::Status(503));
        assert!(failed("max-age=2", "", cut, 5) && !failed("max-age=2", "", sick, 5));
        assert!(!failed("max-age=2", "", cut, 3 + 86_400));
        assert!(
            failed("max-age=2, stale-if-error=9", "", sick, 5)
                && failed("max-age=2", "stale-if-error=9", sick, 5)
        );
        assert!(
            !failed("max-age=2, stale-if-error=1", "", sick, 5)
                && !failed("max-age=2, stale-if-error=1", "", cut, 5)
        );
        assert!(!failed("max-age=2, stale-if-error=9", "", Failure::Status(404), 5));
        for control in ["must-revalidate", "proxy-revalidate", "no-cache", "s-maxage=2"] {
            assert!(!failed(&format!("max-age=2, {control}"), "", cut, 5), "{control}");
        }
        assert!(failed("max-age=10, must-revalidate", "max-age=0", cut, 5), "still fresh");
        assert!(!failed("max-age=10", "no-cache", cut, 5));
    }

    #[test]
    fn other_methods_and_bodies_are_passed() {
        let read = |method: &[u8], has_body| {
            let request = Request::read(method, [("a", "b")].as_slice(), has_body, true);
            reuse(&meta("max-age=5"), &request, 0)
        };
        assert_eq!(read(b"HEAD", false), Reuse::Fresh { age_s: 0 });
        assert_eq!(read(b"GET", true), Reuse::Pass(Reason::RequestBody));
        assert_eq!(read(b"POST", false), Reuse::Pass(Reason::Method));
    }
}
