//! Keys and variants: one form for one question, and none that says less than what reaches the origin.

use super::Input;
use crate::cache::semantics::fields::Fields;
use crate::cache::semantics::invalidate::resolve;
use crate::cache::semantics::key::{reaches_origin, url_of, write_key, write_target};
use crate::cache::semantics::rules::{Query, Rules};
use crate::cache::semantics::vary;
use crate::cache::store::Meta;
use crate::edge::message::{host_of, is_authority};
use crate::edge::stored::entry::Entry;
use crate::purge::PurgeOrder;
use crate::table::normal_name;

/// The rule, then lines: authority, target, a reference; then a request's fields.
pub fn keys(bytes: &[u8]) {
    let mut input = Input(bytes);
    let query = match input.below(4) {
        0 => Query::Keep,
        1 => Query::Ignore,
        2 => Query::Sort,
        _ => Query::Only(vec!["a".to_owned(), "b".to_owned()]),
    };
    let (authority, target, reference) = (input.line(), input.line(), input.line());
    let fields = input.fields();
    check_host(authority);
    let is_target =
        target.starts_with(b"/") && target.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'#');
    if !is_authority(authority) || !is_target {
        return;
    }
    let rules = Rules { query, keyed: vec!["x-kind".to_owned()], ..Rules::default() };
    let written = check_target(target, &rules.query);
    let key = key_of(authority, target, &fields, &rules);
    assert_eq!(key, key_of(&authority.to_ascii_uppercase(), &written, &fields, &rules));
    let url = [b"http://", authority.to_ascii_lowercase().as_slice(), &written].concat();
    assert_eq!(url_of(&key), url, "what reaches the origin is what the key names");
    check_reference(authority, target, reference);
    check_purge(&url);
    for (name, _) in fields {
        assert!(!reaches_origin(name, &rules) || !name.to_ascii_lowercase().starts_with(b"x-forwarded-"));
    }
}

fn key_of(authority: &[u8], target: &[u8], fields: &[(&[u8], &[u8])], rules: &Rules) -> Vec<u8> {
    let mut key = Vec::new();
    write_key("http", authority, target, fields, rules, &mut key);
    key
}

/// The target's one form; made of what was there, and again itself.
fn check_target(target: &[u8], query: &Query) -> Vec<u8> {
    let (mut once, mut twice) = (Vec::new(), Vec::new());
    write_target(target, query, &mut once);
    write_target(&once, query, &mut twice);
    assert_eq!(once, twice);
    assert!(once.len() <= target.len());
    let path = |text: &[u8]| text.split(|byte| *byte == b'?').next().map(<[u8]>::to_vec);
    assert_eq!(path(&once), path(target));
    once
}

fn check_host(authority: &[u8]) {
    if is_authority(authority) {
        let host = host_of(authority);
        assert!(!host.is_empty() || authority.starts_with(b"."));
        assert!(host.bytes().all(|byte| !byte.is_ascii_uppercase() && byte.is_ascii_graphic()));
    }
    let name = std::str::from_utf8(authority).ok().and_then(|text| normal_name(text).ok());
    if let Some(name) = name {
        assert_eq!(normal_name(&name).ok().as_deref(), Some(&*name));
    }
}

/// What a reference names on the same origin is a path without dots, which names itself.
fn check_reference(authority: &[u8], target: &[u8], reference: &[u8]) {
    let (mut named, mut again) = (Vec::new(), Vec::new());
    if !resolve("http", authority, target, reference, &mut named) {
        return;
    }
    assert!(named.starts_with(b"/"));
    let path = named.split(|byte| *byte == b'?').next().unwrap_or_default();
    let keeps_target = reference.first().is_none_or(|byte| b"?#".contains(byte));
    assert!(
        keeps_target || !path.split(|byte| *byte == b'/').any(|segment| segment == b".." || segment == b".")
    );
    // A path that begins with two slashes would be read as an authority.
    if !keeps_target && !named.starts_with(b"//") && resolve("http", authority, target, &named, &mut again) {
        assert_eq!(named, again);
    }
}

/// An address that a key names can be purged, and means the same there.
fn check_purge(url: &[u8]) {
    let Ok(text) = std::str::from_utf8(url) else { return };
    let order = serde_json::to_vec(&serde_json::json!({ "url": text })).unwrap_or_default();
    let Ok(order) = PurgeOrder::parse(&order) else { return assert!(url.len() > 8_192, "{text}") };
    let crate::purge::Target::Url { scheme, authority, target } = order.target else { return };
    assert_eq!(format!("{scheme}://{authority}{target}"), text);
}

/// Lines of an answer (their names begin with a capital) and of a request.
pub fn variant(bytes: &[u8]) {
    let mut input = Input(bytes);
    let other_at = usize::from(input.byte());
    let (answered, asked): (Vec<_>, Vec<_>) =
        input.fields().into_iter().partition(|(name, _)| name.first().is_some_and(u8::is_ascii_uppercase));
    let _ = vary::matches(bytes, asked.as_slice());
    let _ = <Entry as Meta>::decode(bytes);
    if vary::check(answered.as_slice(), 16).is_err() {
        return;
    }
    let mut variant = Vec::new();
    vary::write_variant(answered.as_slice(), asked.as_slice(), &mut variant);
    assert!(vary::matches(&variant, asked.as_slice()), "a request gets what it asked for");
    assert!(vary::is_same(&variant, &variant));
    assert_eq!(
        variant.is_empty(),
        !answered.as_slice().values("vary").any(|names| names.iter().any(|byte| !b", \t".contains(byte)))
    );
    check_other(&variant, &answered, &asked, other_at);
    let turned: Vec<_> = answered.iter().rev().copied().collect();
    let mut again = Vec::new();
    vary::write_variant(turned.as_slice(), asked.as_slice(), &mut again);
    assert!(vary::is_same(&variant, &again), "the order of Vary's names does not matter");
}

type Line<'a> = (&'a [u8], &'a [u8]);

/// Another request gets the variant exactly if it would have made the same one, but for the language that it wants most.
fn check_other(variant: &[u8], answered: &[Line], asked: &[Line], other_at: usize) {
    let other: Vec<Line> =
        asked.iter().enumerate().filter(|(at, _)| *at != other_at).map(|(_, line)| *line).collect();
    let (mut made, mut alike) = (Vec::new(), Vec::new());
    vary::write_variant(answered, other.as_slice(), &mut made);
    let is_same = vary::is_same(variant, &made);
    let by_language = answered.values("content-language").next().is_some();
    assert!(vary::matches(variant, other.as_slice()) == is_same || by_language);
    vary::write_alike(variant, other.as_slice(), &mut alike);
    assert_eq!(vary::is_same(variant, &alike), is_same);
}
