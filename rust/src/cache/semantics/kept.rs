//! Which fields of an answer are stored with it.

use super::directives::{Directives, is_withheld};
use super::fields::Fields;
use super::rules::{Rules, SetCookie};
use super::storable::Answer;

/// Fields that no cache stores: of one connection or one hop (RFC 9111 §3.1), and those that the edge makes anew.
/// Connection-nominated ones are gone before this.
const NEVER_KEPT: [&str; 13] = [
    "age",
    "connection",
    "content-length",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authentication-info",
    "proxy-authorization",
    "proxy-connection",
    "proxy-status",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Says which fields of one answer are stored with it.
#[derive(Clone, Copy, Debug)]
pub struct Kept<'a, F: ?Sized> {
    fields: &'a F,
    /// The field whose no-cache or private names others; None if there is none.
    withholding: Option<&'a str>,
    is_part: bool,
    drops_cookies: bool,
}

impl<'a, F: Fields + ?Sized> Kept<'a, F> {
    pub fn of(answer: &Answer<'a, F>, rules: &'a Rules) -> Self {
        let directives = Directives::of_answer(answer.fields, &rules.targeted);
        let governing = match rules.targeted.iter().find(|name| answer.fields.has(name)) {
            Some(name) if directives.is_targeted => name,
            _ => "cache-control",
        };
        Self {
            fields: answer.fields,
            withholding: directives.withholds_fields.then_some(governing),
            is_part: answer.status == 206,
            drops_cookies: rules.set_cookie == SetCookie::Strip,
        }
    }

    pub fn keeps(&self, name: &[u8]) -> bool {
        let is = |other: &str| name.eq_ignore_ascii_case(other.as_bytes());
        let is_dropped = NEVER_KEPT.iter().any(|never| is(never))
            || self.drops_cookies && (is("set-cookie") || is("set-cookie2"))
            || self.is_part && is("content-range");
        !is_dropped && !self.withholding.is_some_and(|governing| is_withheld(self.fields, governing, name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_one_hop_and_those_withheld_are_not_kept() {
        let head = [("cache-control", "max-age=5, no-cache=\"a, b\"")];
        let answer =
            Answer { status: 206, fields: head.as_slice(), length: None, asked_ms: 0, arrived_ms: 0 };
        let rules = Rules::default();
        let kept = Kept::of(&answer, &rules);
        for name in
            ["Proxy-Authenticate", "TE", "Age", "Content-Range", "A", "b", "Upgrade", "Content-Length"]
        {
            assert!(!kept.keeps(name.as_bytes()), "{name}");
        }
        for name in ["c", "Set-Cookie", "Content-Encoding", "Content-Type", "ETag", "Date", "Expires"] {
            assert!(kept.keeps(name.as_bytes()), "{name}");
        }
    }
}
