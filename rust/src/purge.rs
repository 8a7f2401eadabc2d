//! What a purge is to forget, as the admin listener hears it. Pure.

use crate::error::Refusal;
use serde::{Deserialize, Serialize};

/// The longest URL, prefix or key, in bytes.
const TEXT_BYTES_MAX: usize = 8_192;

/// Exactly one of `url`, `prefix` and `key`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct PurgeDocument {
    url: Option<String>,
    prefix: Option<String>,
    key: Option<String>,
    /// Of a key: only this service's objects. All services' without it.
    service: Option<String>,
    #[serde(default)]
    soft: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// One object in all its variants: authority and target (path and query).
    Url { scheme: String, authority: String, target: String },
    /// All objects of a host whose target begins so.
    Prefix { scheme: String, authority: String, target: String },
    /// All objects with this surrogate key.
    Key { service: Option<String>, key: String },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PurgeOrder {
    pub target: Target,
    /// Mark as stale instead of forgetting.
    pub is_soft: bool,
}

/// What a purge did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Purged {
    /// How many services it concerned.
    pub services: usize,
}

impl PurgeOrder {
    /// Refuses all that is not one clear order.
    pub fn parse(bytes: &[u8]) -> Result<Self, Refusal> {
        let document: PurgeDocument = serde_json::from_slice(bytes)
            .map_err(|error| Refusal::never(format!("not a purge order: {error}")))?;
        let is_soft = document.soft;
        let service = document.service;
        let target = match (document.url, document.prefix, document.key) {
            (Some(url), None, None) if service.is_none() => {
                let (scheme, authority, target) = split(&url)?;
                Target::Url { scheme, authority, target }
            }
            (None, Some(prefix), None) if service.is_none() => {
                let (scheme, authority, target) = split(&prefix)?;
                Target::Prefix { scheme, authority, target }
            }
            (None, None, Some(key)) if !key.is_empty() && key.len() <= TEXT_BYTES_MAX => {
                Target::Key { service, key }
            }
            _ => return Err(Refusal::never("name one of url, prefix and key; service only with key")),
        };
        Ok(Self { target, is_soft })
    }
}

/// Scheme, authority and target of an http or https URL; a URL without a path means "/".
fn split(url: &str) -> Result<(String, String, String), Refusal> {
    let wrong = || Refusal::never(format!("{url:?} is not an http or https URL"));
    let (scheme, rest) = url.split_once("://").ok_or_else(wrong)?;
    let is_http = scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https");
    let (authority, target) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let is_visible = target.bytes().all(|byte| (0x21..0x7f).contains(&byte) && byte != b'#');
    if !is_http
        || !is_visible
        || url.len() > TEXT_BYTES_MAX
        || !crate::edge::message::is_authority(authority.as_bytes())
    {
        return Err(wrong());
    }
    let slash = if target.starts_with('/') { "" } else { "/" };
    Ok((scheme.to_ascii_lowercase(), authority.to_owned(), format!("{slash}{target}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_names_one_thing() {
        let url = |url: &str| PurgeOrder::parse(format!("{{\"url\":\"{url}\"}}").as_bytes());
        let order = url("http://a:80/x?y").unwrap();
        assert_eq!(
            order.target,
            Target::Url { scheme: "http".into(), authority: "a:80".into(), target: "/x?y".into() }
        );
        assert!(!order.is_soft);
        let bare = PurgeOrder::parse(b"{\"prefix\":\"HTTPS://a\",\"soft\":true}").unwrap();
        assert_eq!(
            bare.target,
            Target::Prefix { scheme: "https".into(), authority: "a".into(), target: "/".into() }
        );
        assert!(bare.is_soft);
        for wrong in ["a/b", "ftp://a/", "http://", "http://u@a/", "http://a/ b", "http://a/#f"] {
            assert!(url(wrong).is_err(), "{wrong}");
        }
        for wrong in [
            "{}",
            "[]",
            "{\"key\":\"\"}",
            "{\"key\":\"k\",\"url\":\"http://a/\"}",
            "{\"url\":\"http://a/\",\"service\":\"s\"}",
            "{\"key\":\"k\",\"hard\":true}",
        ] {
            assert!(PurgeOrder::parse(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }
}
