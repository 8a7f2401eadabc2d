//! Cache-Status (RFC 9211): what the cache did with a request, and why not more.

use super::fields::put_number;
use super::reason::{Doubt, Reason};

/// What a request came to. Names are for counting; `Cache-Status` has its own words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    Hit,
    /// Stale, as the client allowed.
    HitStale,
    /// Stale, while it is fetched anew behind the client's back.
    HitWhileRevalidate,
    /// Stored, but asked about first; the answer's status tells whether it still held (304).
    Validated(Doubt),
    /// Stale, because the origin failed when asked.
    StaleOnError,
    Miss,
    /// Stored for other requests only.
    VaryMiss,
    /// Some of the bytes were stored.
    PartialMiss,
    /// Not looked up.
    Bypass(Reason),
    /// Caching is switched off here.
    Off,
    /// only-if-cached, and nothing that would do.
    GatewayTimeout,
}

impl Outcome {
    pub fn name(self) -> &'static str {
        match self {
            Outcome::Hit => "hit",
            Outcome::HitStale => "hit-stale",
            Outcome::HitWhileRevalidate => "hit-while-revalidate",
            Outcome::Validated(_) => "validated",
            Outcome::StaleOnError => "stale-on-error",
            Outcome::Miss => "miss",
            Outcome::VaryMiss => "vary-miss",
            Outcome::PartialMiss => "partial-miss",
            Outcome::Bypass(_) => "bypass",
            Outcome::Off => "off",
            Outcome::GatewayTimeout => "gateway-timeout",
        }
    }

    /// The value of `fwd`; None where nobody was asked.
    fn forwarded(self) -> Option<&'static str> {
        match self {
            Outcome::Hit | Outcome::HitStale | Outcome::HitWhileRevalidate | Outcome::GatewayTimeout => None,
            Outcome::Validated(doubt) if doubt.is_the_clients() => Some("request"),
            Outcome::Validated(_) | Outcome::StaleOnError => Some("stale"),
            Outcome::Miss => Some("uri-miss"),
            Outcome::VaryMiss => Some("vary-miss"),
            Outcome::PartialMiss => Some("partial"),
            Outcome::Bypass(Reason::Method) => Some("method"),
            Outcome::Bypass(_) | Outcome::Off => Some("bypass"),
        }
    }

    fn detail(self) -> Option<&'static str> {
        match self {
            Outcome::HitStale => Some("max-stale"),
            Outcome::HitWhileRevalidate => Some("stale-while-revalidate"),
            Outcome::Validated(Doubt::Stale) | Outcome::Bypass(Reason::Method) => None,
            Outcome::Validated(doubt) => Some(doubt.name()),
            Outcome::StaleOnError => Some("stale-if-error"),
            Outcome::Bypass(reason) => Some(reason.name()),
            Outcome::Off => Some("off"),
            Outcome::GatewayTimeout => Some("only-if-cached"),
            Outcome::Hit | Outcome::Miss | Outcome::VaryMiss | Outcome::PartialMiss => None,
        }
    }
}

/// One member of the Cache-Status list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheStatus {
    pub outcome: Outcome,
    /// What the origin answered, if it was asked.
    pub forwarded_status: Option<u16>,
    /// The answer was (or is being) stored.
    pub is_stored: bool,
    /// It waited for another request's answer.
    pub is_collapsed: bool,
    /// Seconds until the served answer is stale, negative if it is.
    pub ttl_s: Option<i64>,
    /// Why a fetched answer was not stored.
    pub not_stored: Option<Reason>,
}

impl CacheStatus {
    pub fn new(outcome: Outcome) -> Self {
        Self {
            outcome,
            forwarded_status: None,
            is_stored: false,
            is_collapsed: false,
            ttl_s: None,
            not_stored: None,
        }
    }

    /// Appends the member; caches nearer to the client come later in the list. `cache` is a token.
    pub fn write(&self, cache: &str, out: &mut Vec<u8>) {
        out.extend_from_slice(cache.as_bytes());
        match self.outcome.forwarded() {
            Some(why) => {
                [b"; fwd=".as_slice(), why.as_bytes()].iter().for_each(|text| out.extend_from_slice(text))
            }
            None if self.outcome != Outcome::GatewayTimeout => out.extend_from_slice(b"; hit"),
            None => {}
        }
        if let Some(status) = self.forwarded_status {
            out.extend_from_slice(b"; fwd-status=");
            put_number(out, u64::from(status));
        }
        if let Some(ttl_s) = self.ttl_s {
            out.extend_from_slice(if ttl_s < 0 { b"; ttl=-" } else { b"; ttl=" });
            put_number(out, ttl_s.unsigned_abs());
        }
        if self.is_stored {
            out.extend_from_slice(b"; stored");
        }
        if self.is_collapsed {
            out.extend_from_slice(b"; collapsed");
        }
        let detail = self.outcome.detail().or(self.not_stored.map(Reason::name));
        if let Some(detail) = detail {
            out.extend_from_slice(b"; detail=");
            out.extend_from_slice(detail.as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(status: CacheStatus) -> String {
        let mut out = Vec::new();
        status.write("polycdn", &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn every_outcome_says_what_happened_and_why() {
        let plain = |outcome| text(CacheStatus::new(outcome));
        let hit = CacheStatus { ttl_s: Some(30), ..CacheStatus::new(Outcome::Hit) };
        assert_eq!(text(hit), "polycdn; hit; ttl=30");
        let stale = CacheStatus { ttl_s: Some(-5), ..CacheStatus::new(Outcome::HitWhileRevalidate) };
        assert_eq!(text(stale), "polycdn; hit; ttl=-5; detail=stale-while-revalidate");
        let miss = CacheStatus {
            forwarded_status: Some(200),
            is_stored: true,
            is_collapsed: true,
            ..CacheStatus::new(Outcome::Miss)
        };
        assert_eq!(text(miss), "polycdn; fwd=uri-miss; fwd-status=200; stored; collapsed");
        let private =
            CacheStatus { not_stored: Some(Reason::Private), ..CacheStatus::new(Outcome::VaryMiss) };
        assert_eq!(text(private), "polycdn; fwd=vary-miss; detail=private");
        assert_eq!(plain(Outcome::Bypass(Reason::Method)), "polycdn; fwd=method");
        assert_eq!(plain(Outcome::Bypass(Reason::RequestBody)), "polycdn; fwd=bypass; detail=request-body");
        assert_eq!(
            plain(Outcome::Validated(Doubt::RequestNoCache)),
            "polycdn; fwd=request; detail=request-no-cache"
        );
        assert_eq!(plain(Outcome::Validated(Doubt::Stale)), "polycdn; fwd=stale");
        assert_eq!(plain(Outcome::StaleOnError), "polycdn; fwd=stale; detail=stale-if-error");
        assert_eq!(plain(Outcome::GatewayTimeout), "polycdn; detail=only-if-cached");
        assert_eq!(plain(Outcome::Off), "polycdn; fwd=bypass; detail=off");
    }
}
