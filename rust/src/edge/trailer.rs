//! Trailer fields on their way through: those that may come after a body, and no others (RFC 9110 §6.5.1). Pure.

use crate::edge::message::Field;
use bytes::Bytes;

/// Most fields of one trailer section; one that has more is dropped whole.
const FIELDS_MAX: usize = 32;

/// Fields that frame, route, authenticate, or say how a body is to be read or kept: too late after it.
const NEVER: [&str; 27] = [
    "age",
    "authorization",
    "cache-control",
    "connection",
    "content-encoding",
    "content-length",
    "content-range",
    "content-type",
    "cookie",
    "date",
    "expect",
    "expires",
    "host",
    "keep-alive",
    "location",
    "max-forwards",
    "pragma",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "range",
    "set-cookie",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "vary",
];

/// The fields of a trailer section's lines that may be passed on. Lines that are no fields spoil all of them.
pub fn passed_on(lines: &[u8]) -> Vec<Field> {
    if lines.is_empty() {
        return Vec::new();
    }
    let whole = [lines, b"\r\n"].concat();
    let mut slots = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let Ok(httparse::Status::Complete((bytes, fields))) = httparse::parse_headers(&whole, &mut slots) else {
        return Vec::new();
    };
    if bytes != whole.len() {
        return Vec::new();
    }
    let is_late = |name: &str| NEVER.iter().any(|never| never.eq_ignore_ascii_case(name));
    let kept = fields.iter().filter(|field| !is_late(field.name));
    kept.map(|field| Field {
        name: Bytes::copy_from_slice(field.name.as_bytes()),
        value: Bytes::copy_from_slice(field.value),
    })
    .collect()
}

/// The end of a chunked body: the last chunk, the trailers, the empty line.
pub fn last_chunk(trailers: &[Field]) -> Vec<u8> {
    let mut bytes = b"0\r\n".to_vec();
    for field in trailers {
        [&field.name[..], b": ", &field.value, b"\r\n"].iter().for_each(|part| bytes.extend_from_slice(part));
    }
    bytes.extend_from_slice(b"\r\n");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_may_come_late_is_passed_on() {
        let fields = passed_on(b"Server-Timing: a\r\nContent-Length: 5\r\nHOST: x\r\nx-checksum: 1\r\n");
        assert_eq!(last_chunk(&fields), b"0\r\nServer-Timing: a\r\nx-checksum: 1\r\n\r\n");
        assert_eq!(last_chunk(&passed_on(b"")), b"0\r\n\r\n");
        assert_eq!(passed_on(b"not a field\r\na: b\r\n"), []);
        assert_eq!(passed_on(&b"a: b\r\n".repeat(FIELDS_MAX + 1)), []);
    }
}
