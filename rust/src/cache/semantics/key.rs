//! The first part of a key, and what reaches the origin: one and the same, so that nobody can make the origin answer a
//! question that the key does not ask (cache poisoning).
//!
//! The key is `scheme://host/path?query` with the host in lower case, then a line for every keyed field. Nothing
//! else is normalised: two spellings of a path are two keys, as the origin may tell them apart.

use super::fields::Fields;
use super::rules::{Forwarded, Query, Rules};
use super::vary;

/// Appends the key of a request. `target` is path and query as they came.
pub fn write_key<F: Fields + ?Sized>(
    scheme: &str,
    authority: &[u8],
    target: &[u8],
    fields: &F,
    rules: &Rules,
    out: &mut Vec<u8>,
) {
    out.extend_from_slice(scheme.as_bytes());
    out.extend_from_slice(b"://");
    out.extend(authority.iter().map(u8::to_ascii_lowercase));
    write_target(target, &rules.query, out);
    for name in &rules.keyed {
        out.push(b'\n');
        out.extend_from_slice(name.as_bytes());
        vary::write_value(name, fields, &mut |byte| out.push(byte));
    }
}

/// The address in a key, without the keyed fields (for purging by prefix).
pub fn url_of(key: &[u8]) -> &[u8] {
    key.split(|byte| *byte == b'\n').next().unwrap_or_default()
}

/// Whether the target is forwarded as it came, and need not be written anew.
pub fn is_kept(target: &[u8], query: &Query) -> bool {
    *query == Query::Keep || !target.contains(&b'?')
}

/// Appends the target as the origin is to see it.
pub fn write_target(target: &[u8], query: &Query, out: &mut Vec<u8>) {
    let at = target.iter().position(|byte| *byte == b'?');
    let Some((path, parameters)) =
        at.and_then(|at| target.split_at_checked(at)).filter(|_| *query != Query::Keep)
    else {
        return out.extend_from_slice(target);
    };
    out.extend_from_slice(path);
    let parameters = parameters.get(1..).unwrap_or_default();
    match query {
        Query::Keep | Query::Ignore => {}
        Query::Sort => write_sorted(parameters, |_| true, out),
        Query::Only(names) => {
            write_sorted(parameters, |name| names.iter().any(|kept| kept.as_bytes() == name), out)
        }
    }
}

/// More parameters stay in the order in which they came.
const SORTED_MAX: usize = 64;

fn write_sorted(parameters: &[u8], is_kept: impl Fn(&[u8]) -> bool, out: &mut Vec<u8>) {
    let kept =
        || parameters.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty() && is_kept(name_of(pair)));
    let mut mark = b'?';
    let mut put = |pair: &[u8]| {
        out.push(std::mem::replace(&mut mark, b'&'));
        out.extend_from_slice(pair);
    };
    let mut slots: [&[u8]; SORTED_MAX] = [&[]; SORTED_MAX];
    let count = kept().count();
    let Some(sorted) = slots.get_mut(..count) else { return kept().for_each(put) };
    sorted.iter_mut().zip(kept()).for_each(|(slot, pair)| *slot = pair);
    // Stable: parameters of one name keep their order, which servers give a meaning.
    insertion_sort(sorted);
    sorted.iter().for_each(|pair| put(pair));
}

fn insertion_sort(pairs: &mut [&[u8]]) {
    for end in 1..pairs.len() {
        for at in (1..=end).rev() {
            let is_after =
                matches!(pairs.get(at - 1..=at), Some([one, other]) if name_of(one) > name_of(other));
            if !is_after {
                break;
            }
            pairs.swap(at - 1, at);
        }
    }
}

fn name_of(pair: &[u8]) -> &[u8] {
    pair.split(|byte| *byte == b'=').next().unwrap_or_default()
}

/// Fields by which a client could make the origin believe in another host, path, scheme, method or address than those
/// of the key. The edge may set some of them itself, after the client's are gone.
const MISLEADING: [&str; 24] = [
    "base-url",
    "cf-connecting-ip",
    "client-ip",
    "fastly-client-ip",
    "forwarded",
    "front-end-https",
    "http-host",
    "proxy",
    "proxy-host",
    "request-uri",
    "true-client-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-forwarded",
    "x-host",
    "x-http-host-override",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-proxy-url",
    "x-real-ip",
    "x-scheme",
    "x-url-scheme",
    "x-wap-profile",
];
const MISLEADING_PREFIXES: [&str; 4] = ["x-forwarded-", "x-original-", "x-rewrite-", "x-backend-"];

/// Fields that no allow-list has to name: they steer caches and connections, are judged by the rules here, or answers
/// that depend on them say so by Vary.
const NEUTRAL: [&str; 22] = [
    "accept",
    "accept-charset",
    "accept-encoding",
    "accept-language",
    "authorization",
    "cache-control",
    "cdn-loop",
    "content-encoding",
    "content-length",
    "content-type",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "origin",
    "pragma",
    "range",
    "te",
    "user-agent",
    "via",
];

/// Whether a client's field may reach the origin where the answer could be stored (GET and HEAD).
pub fn reaches_origin(name: &[u8], rules: &Rules) -> bool {
    let is = |other: &str| name.eq_ignore_ascii_case(other.as_bytes());
    if rules.keyed.iter().any(|keyed| is(keyed)) {
        return true;
    }
    match &rules.forwarded {
        Forwarded::AllButMisleading => !is_misleading(name),
        Forwarded::Only(names) => {
            names.iter().any(|named| is(named)) || NEUTRAL.iter().any(|neutral| is(neutral))
        }
    }
}

fn is_misleading(name: &[u8]) -> bool {
    let starts = |prefix: &&str| {
        name.get(..prefix.len()).is_some_and(|head| head.eq_ignore_ascii_case(prefix.as_bytes()))
    };
    MISLEADING.iter().any(|other| name.eq_ignore_ascii_case(other.as_bytes()))
        || MISLEADING_PREFIXES.iter().any(starts)
        // Gateways that hand fields to programs write "-" as "_": X_Forwarded_Host is X-Forwarded-Host there.
        || name.contains(&b'_')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::semantics::dice::Dice;

    fn target(text: &str, query: &Query) -> String {
        let mut out = Vec::new();
        write_target(text.as_bytes(), query, &mut out);
        String::from_utf8(out).unwrap()
    }

    fn key(authority: &str, fields: &[(&str, &str)], rules: &Rules) -> Vec<u8> {
        let mut out = Vec::new();
        write_key("https", authority.as_bytes(), b"/a?b=c", fields, rules, &mut out);
        out
    }

    #[test]
    fn the_host_has_no_case_and_everything_else_stays() {
        assert_eq!(
            key("WWW.Example.org:8443", &[], &Rules::default()),
            b"https://www.example.org:8443/a?b=c"
        );
        assert_eq!(target("/%2f/../A//b?X=%41", &Query::Keep), "/%2f/../A//b?X=%41");
    }

    #[test]
    fn queries_follow_the_rule() {
        let only = Query::Only(vec!["b".to_owned(), "a".to_owned()]);
        for (query, text, expected) in [
            (&Query::Ignore, "/p?a=1", "/p"),
            (&Query::Ignore, "/p", "/p"),
            (&Query::Sort, "/p?b=2&a=9&b=1&&c", "/p?a=9&b=2&b=1&c"),
            (&Query::Sort, "/p?", "/p"),
            (&only, "/p?utm=x&b=2&a=1&B=3", "/p?a=1&b=2"),
            (&only, "/p?utm=x", "/p"),
            (&Query::Keep, "/p?", "/p?"),
        ] {
            assert_eq!(target(text, query), expected, "{query:?}");
        }
        assert!(
            is_kept(b"/p", &Query::Sort) && is_kept(b"/p?a", &Query::Keep) && !is_kept(b"/p?a", &Query::Sort)
        );
    }

    #[test]
    fn sorting_is_stable_and_loses_nothing() {
        let mut dice = Dice(13);
        for _ in 0..5_000 {
            let text = dice.text(&["a", "b", "=", "&", "c=1", "&b=2", "?"]);
            let mut sorted = Vec::new();
            write_sorted(&text, |_| true, &mut sorted);
            let mut again = Vec::new();
            write_sorted(sorted.get(1..).unwrap_or_default(), |_| true, &mut again);
            assert_eq!(sorted, again);
            let bytes = |text: &[u8]| text.iter().filter(|byte| **byte != b'&').count();
            assert_eq!(bytes(&text), bytes(sorted.get(1..).unwrap_or_default()));
        }
    }

    #[test]
    fn keyed_fields_are_in_the_key_and_reach_the_origin() {
        let rules = Rules { keyed: vec!["x-forwarded-host".to_owned()], ..Rules::default() };
        let with = |value| key("a", &[("X-Forwarded-Host", value)], &rules);
        assert_ne!(with("b"), with("c"));
        assert_ne!(with(""), key("a", &[], &rules));
        assert_eq!(url_of(&with("b")), b"https://a/a?b=c");
        assert!(reaches_origin(b"X-Forwarded-Host", &rules) && !reaches_origin(b"x-forwarded-port", &rules));
    }

    #[test]
    fn misleading_fields_never_reach_the_origin() {
        let rules = Rules::default();
        for name in [
            "X-Forwarded-Host",
            "X-HOST",
            "x-original-url",
            "X-Rewrite-URL",
            "X-HTTP-Method-Override",
            "Forwarded",
            "x_forwarded_host",
        ] {
            assert!(!reaches_origin(name.as_bytes(), &rules), "{name}");
        }
        for name in ["Cookie", "Accept-Language", "Authorization", "Foo", "Range", "Origin"] {
            assert!(reaches_origin(name.as_bytes(), &rules), "{name}");
        }
        let rules = Rules { forwarded: Forwarded::Only(vec!["cookie".to_owned()]), ..Rules::default() };
        assert!(reaches_origin(b"Cookie", &rules) && reaches_origin(b"range", &rules));
        assert!(!reaches_origin(b"Foo", &rules));
    }
}
