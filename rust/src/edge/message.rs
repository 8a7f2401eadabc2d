//! What both protocols on the client's side and the proxy between them speak of: requests, answers, fields.

use crate::edge::framing::Framing;
use bytes::Bytes;

/// One field line; names compare without case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    pub name: Bytes,
    pub value: Bytes,
}

impl Field {
    pub fn new(name: &'static str, value: impl Into<Bytes>) -> Self {
        Self { name: Bytes::from_static(name.as_bytes()), value: value.into() }
    }

    pub fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name.as_bytes())
    }
}

/// The first value of that name.
pub fn value_of<'a>(fields: &'a [Field], name: &str) -> Option<&'a Bytes> {
    fields.iter().find(|field| field.is(name)).map(|field| &field.value)
}

/// A request as it is to be understood: end-to-end fields only, framing and target decided.
#[derive(Clone, Debug)]
pub struct RequestHead {
    pub method: Bytes,
    /// Path and query, or `*`.
    pub target: Bytes,
    /// Host and port as the client named them; not in `fields`.
    pub authority: Bytes,
    pub fields: Vec<Field>,
    pub framing: Framing,
    /// HTTP/1.0 is 0, HTTP/1.1 is 1, HTTP/2 is 2.
    pub version: u8,
    /// The connection can carry another request afterwards, as far as the client is concerned.
    pub is_persistent: bool,
    pub expects_continue: bool,
    /// Protocols that the client wants to change to.
    pub upgrade: Option<Bytes>,
}

impl RequestHead {
    pub fn is_head(&self) -> bool {
        self.method.as_ref() == b"HEAD"
    }

    /// The path without the query.
    pub fn path(&self) -> &[u8] {
        self.target.split(|byte| *byte == b'?').next().unwrap_or_default()
    }
}

/// An answer's head, from an upstream: end-to-end fields without Content-Length.
#[derive(Clone, Debug)]
pub struct AnswerHead {
    pub status: u16,
    pub fields: Vec<Field>,
    pub framing: Framing,
    /// Content-Length as told, also where no body follows (HEAD, 304).
    pub length: Option<u64>,
    pub is_persistent: bool,
    /// The protocol that a 101 changes to.
    pub upgrade: Option<Bytes>,
}

impl AnswerHead {
    /// Whether the body is coded: its bytes and its length are not those of the object.
    pub fn is_coded(&self) -> bool {
        value_of(&self.fields, "content-encoding").is_some_and(|coding| coding.as_ref() != b"identity")
    }
}

/// What a Content-Type names, in lower case and without parameters (RFC 9110 §8.3.1).
pub fn media_type(content_type: &[u8]) -> Vec<u8> {
    let name = content_type.split(|byte| *byte == b';').next().unwrap_or_default();
    name.trim_ascii().to_ascii_lowercase()
}

/// The host of an authority: without port and trailing dot, in lower case. Empty if there is none.
pub fn host_of(authority: &[u8]) -> String {
    let host = match authority.iter().rposition(|byte| *byte == b':') {
        Some(at) if authority[at + 1..].iter().all(u8::is_ascii_digit) => &authority[..at],
        _ => authority,
    };
    let host = host.strip_suffix(b".").unwrap_or(host);
    String::from_utf8_lossy(host).to_ascii_lowercase()
}

/// Whether an authority is one host with an optional port, and nothing that another parser could read differently.
pub fn is_authority(authority: &[u8]) -> bool {
    let is_host_byte = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~".contains(byte);
    let (host, rest) = if authority.first() == Some(&b'[') {
        let Some(end) = authority.iter().position(|byte| *byte == b']') else { return false };
        let is_v6 = authority[1..end].iter().all(|byte| byte.is_ascii_hexdigit() || b":.".contains(byte));
        if !is_v6 {
            return false;
        }
        (&authority[1..end], &authority[end + 1..])
    } else {
        let end = authority.iter().position(|byte| *byte == b':').unwrap_or(authority.len());
        if !authority[..end].iter().all(is_host_byte) {
            return false;
        }
        authority.split_at(end)
    };
    let is_port =
        rest.is_empty() || rest[0] == b':' && rest.len() <= 6 && rest[1..].iter().all(u8::is_ascii_digit);
    !host.is_empty() && host.len() <= 255 && is_port
}

/// The canonical phrase of a status; empty if it has none (RFC 9110 §15).
pub fn phrase(status: u16) -> &'static str {
    http::StatusCode::from_u16(status).ok().and_then(|code| code.canonical_reason()).unwrap_or("")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_is_lower_case_without_port_and_dot() {
        for authority in
            ["WWW.Example.org", "www.example.org:8080", "www.example.org.", "www.example.org.:80"]
        {
            assert_eq!(host_of(authority.as_bytes()), "www.example.org");
        }
        assert_eq!(host_of(b"[::1]:80"), "[::1]");
        assert_eq!(host_of(b"[::1]"), "[::1]");
    }

    #[test]
    fn authority_is_one_host_with_an_optional_port() {
        for good in ["a", "a.b:80", "127.0.0.1", "[::1]", "[::1]:443", "a:"] {
            assert!(is_authority(good.as_bytes()), "{good}");
        }
        for bad in
            ["", ":80", "a b", "a,b", "a/b", "u@a", "a:b", "a:123456", "[::1", "[g]", "[::1]x", "a:1:2", "ä"]
        {
            assert!(!is_authority(bad.as_bytes()), "{bad}");
        }
    }
}
