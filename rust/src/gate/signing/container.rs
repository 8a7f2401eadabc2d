//! The URIs that a token is for (`cdniuc`, RFC 9246 §2.1.11 and §2.1.15), and the form in which they are compared.

use crate::cache::semantics::invalidate::write_without_dots;
use crate::gate::signing::base64url::encode;
use regex::bytes::{Regex, RegexBuilder};
use ring::digest::{SHA256, digest};
use rustc_hash::FxHashMap;
use std::cell::RefCell;

/// Bounds of a pattern: its text, and what it is compiled to. Matching takes time linear in both and in the URI.
const PATTERN_BYTES_MAX: usize = 1_024;
const COMPILED_BYTES_MAX: usize = 64 * 1024;
const NEST_MAX: u32 = 32;

/// A session asks for hundreds of URIs with tokens of one pattern. Each takes up to a few hundred KiB.
const REMEMBERED_MAX: usize = 64;

thread_local! {
    /// Patterns of signed tokens, compiled.
    static REMEMBERED: RefCell<FxHashMap<Box<str>, Regex>> = RefCell::default();
}

/// Whether the container holds a URI in its normal form; else why not.
pub fn check(container: &str, uri: &[u8]) -> Result<(), &'static str> {
    let is_held = if let Some(pattern) = container.strip_prefix("regex:") {
        matches(pattern, uri)?
    } else if let Some(hash) = container.strip_prefix("hash:") {
        let hash = hash.strip_prefix("sha-256;").ok_or("the token's URI hash is not SHA-256")?;
        encode(digest(&SHA256, uri).as_ref()) == hash
    } else {
        return Err("the token's URI container has a form that is not known here");
    };
    if is_held { Ok(()) } else { Err("the token is for another URI") }
}

fn matches(pattern: &str, uri: &[u8]) -> Result<bool, &'static str> {
    REMEMBERED.with_borrow_mut(|remembered| {
        if let Some(compiled) = remembered.get(pattern) {
            return Ok(compiled.is_match(uri));
        }
        let compiled = whole(pattern)?;
        let is_match = compiled.is_match(uri);
        if remembered.len() >= REMEMBERED_MAX {
            remembered.clear();
        }
        remembered.insert(pattern.into(), compiled);
        Ok(is_match)
    })
}

/// A pattern that has to match a URI from its first to its last byte: one that could match somewhere inside would let in
/// URIs that only have the right one in their query.
fn whole(pattern: &str) -> Result<Regex, &'static str> {
    if pattern.len() > PATTERN_BYTES_MAX {
        return Err("the token's URI pattern is too long");
    }
    // First alone: in brackets a stray bracket of its own could end ours.
    compile(pattern)?;
    compile(&format!("^(?:{pattern})$"))
}

fn compile(pattern: &str) -> Result<Regex, &'static str> {
    let mut builder = RegexBuilder::new(pattern);
    builder
        .unicode(false)
        .size_limit(COMPILED_BYTES_MAX)
        .dfa_size_limit(COMPILED_BYTES_MAX)
        .nest_limit(NEST_MAX);
    builder.build().map_err(|_| "the token's URI pattern cannot be used")
}

/// The URI of a request, normalized (RFC 3986 §6.2.2 and §6.2.3): scheme and host in lower case without the default
/// port, escapes in capitals and only where they are needed, no dot segments.
pub fn normal_uri(scheme: &str, authority: &[u8], target: &[u8]) -> Vec<u8> {
    let default: &[u8] = if scheme == "https" { b":443" } else { b":80" };
    let authority = authority.to_ascii_lowercase();
    let host = authority.strip_suffix(default).or(authority.strip_suffix(b":")).unwrap_or(&authority);
    let (path, query) = match memchr::memchr(b'?', target) {
        Some(at) => target.split_at(at),
        None => (target, &[][..]),
    };
    let path = without_dots(&normal_escapes(path));
    [scheme.as_bytes(), b"://", host, &path, &normal_escapes(query)].concat()
}

fn normal_escapes(text: &[u8]) -> Vec<u8> {
    let mut normal = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, after @ ..] = rest {
        let escaped = match after {
            [high, low, ..] if *first == b'%' => hex(*high).zip(hex(*low)).map(|(high, low)| high * 16 + low),
            _ => None,
        };
        match escaped {
            Some(byte) if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) => normal.push(byte),
            Some(_) => normal.extend_from_slice(&rest[..3].to_ascii_uppercase()),
            None => normal.push(*first),
        }
        rest = &rest[if escaped.is_some() { 3 } else { 1 }..];
    }
    normal
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

fn without_dots(path: &[u8]) -> Vec<u8> {
    let mut normal = Vec::with_capacity(path.len() + 1);
    write_without_dots(&[path], &mut normal);
    if normal.is_empty() { b"/".to_vec() } else { normal }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normal(scheme: &str, authority: &str, target: &str) -> String {
        String::from_utf8(normal_uri(scheme, authority.as_bytes(), target.as_bytes())).unwrap()
    }

    #[test]
    fn one_uri_has_one_normal_form() {
        for target in ["/a/b%c3?q=%7ex", "/x/../a/./b%C3?q=~x", "/%61/b%c3?q=%7Ex", "/../a/b%C3?q=~x"] {
            assert_eq!(normal("http", "WWW.test:80", target), "http://www.test/a/b%C3?q=~x", "{target}");
        }
        assert_eq!(normal("https", "a.test:443", "/"), "https://a.test/");
        assert_eq!(normal("https", "a.test:80", "/"), "https://a.test:80/");
        assert_eq!(normal("http", "[::1]:8080", "/a/.."), "http://[::1]:8080/");
        assert_eq!(normal("http", "a", "/a/%2e%2E/b/."), "http://a/b/");
        assert_eq!(normal("http", "a", "/%2F%zz%4"), "http://a/%2F%zz%4");
        assert_eq!(normal("http", "a", "*"), "http://a/");
        assert_eq!(normal("http", "a", "//x//"), "http://a//x//");
    }

    #[test]
    fn patterns_that_were_forgotten_are_judged_as_before() {
        for _ in 0..2 {
            for number in 0..REMEMBERED_MAX * 2 {
                let pattern = format!("regex:http://a/{number}/[0-9]+");
                assert_eq!(check(&pattern, format!("http://a/{number}/7").as_bytes()), Ok(()));
                assert!(check(&pattern, b"http://a/x/7").is_err());
                assert!(REMEMBERED.with_borrow(FxHashMap::len) <= REMEMBERED_MAX);
            }
        }
    }

    #[test]
    fn a_pattern_holds_whole_uris_only() {
        let holds = |pattern: &str, uri: &str| check(&format!("regex:{pattern}"), uri.as_bytes()).is_ok();
        assert!(holds(r"http://cdn\.test/foo/[0-9]{3}\.png", "http://cdn.test/foo/123.png"));
        assert!(holds(r"^http://cdn\.test/.*$", "http://cdn.test/a?b"));
        assert!(holds("http://a/(b|c)", "http://a/c"));
        assert!(holds("http://a/b|http://a/c", "http://a/c"));
        assert!(holds("http://a/[[:alpha:]]+", "http://a/xyz"));
        assert!(!holds("http://a/b", "http://a/bc"));
        assert!(!holds("http://a/b", "http://evil/?http://a/b"));
        assert!(!holds("http://a/b|http://a/c", "http://evil/?http://a/c"));
        assert!(!holds("http://a/x)|(?:.*", "http://a/y"));
        assert!(!holds("(?x)http://a/.* #", "http://a/y"));
    }

    #[test]
    fn patterns_that_would_cost_too_much_are_refused() {
        let costly = [
            "a".repeat(PATTERN_BYTES_MAX + 1),
            "(".repeat(99) + &")".repeat(99),
            "(((a{99}){99}){99})".into(),
        ];
        for pattern in costly {
            assert!(check(&format!("regex:{pattern}"), b"a").is_err(), "{pattern:.40}");
        }
        let uri = format!("http://a/{}", "a".repeat(16_000));
        assert!(check("regex:http://a/(a*)*b", uri.as_bytes()).is_err());
    }

    #[test]
    fn a_hash_holds_one_uri() {
        let uri = b"http://a.test/b";
        let container = format!("hash:sha-256;{}", encode(digest(&SHA256, uri).as_ref()));
        assert_eq!(check(&container, uri), Ok(()));
        assert!(check(&container, b"http://a.test/c").is_err());
        for wrong in ["hash:sha-1;AAAA", "hash:", "", "http://a.test/b", "Regex:.*", "uri:x"] {
            assert!(check(wrong, uri).is_err(), "{wrong}");
        }
    }
}
