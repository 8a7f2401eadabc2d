//! What an upstream is told of the client: X-Forwarded-For and its kin, or Forwarded (RFC 7239). Pure.

use crate::document::{ForwardedRules, ForwardedStyle};
use crate::edge::message::{Field, RequestHead, value_of};
use std::net::IpAddr;

const FOR: &str = "x-forwarded-for";
const PROTO: &str = "x-forwarded-proto";
const HOST: &str = "x-forwarded-host";
const FORWARDED: &str = "forwarded";

/// Whether a client's field is not passed on as it is: it would be believed, or is told anew.
pub fn is_told_anew(field: &Field) -> bool {
    [FOR, PROTO, HOST, FORWARDED].iter().any(|name| field.is(name))
}

/// Appends the field lines for a request that came from `client` by `scheme`.
///
/// A client that is trusted is a proxy of ours: what it says goes on in front. Of any other nothing is taken over.
pub fn put_lines(rules: ForwardedRules, head: &RequestHead, client: IpAddr, scheme: &str, out: &mut Vec<u8>) {
    let client = client.to_canonical();
    let earlier = |name: &str| -> Vec<&[u8]> {
        let lines = head.fields.iter().filter(|field| rules.is_client_trusted && field.is(name));
        lines.map(|field| field.value.trim_ascii()).filter(|value| !value.is_empty()).collect()
    };
    let (tells_x, tells_standard) = match rules.style {
        ForwardedStyle::XForwarded => (true, false),
        ForwardedStyle::Forwarded => (false, true),
        ForwardedStyle::Both => (true, true),
        ForwardedStyle::None => (false, false),
    };
    if tells_x {
        put_list(FOR, earlier(FOR), client.to_string().as_bytes(), out);
        put_first(PROTO, rules, head, scheme.as_bytes(), out);
        put_first(HOST, rules, head, &head.authority, out);
    }
    if tells_standard {
        put_list(FORWARDED, earlier(FORWARDED), &element(client, &head.authority, scheme), out);
    }
}

/// One line: what was said before, and then ours.
fn put_list(name: &str, earlier: Vec<&[u8]>, own: &[u8], out: &mut Vec<u8>) {
    let mut values = earlier;
    values.push(own);
    put_line(name, &values.join(&b", "[..]), out);
}

/// One line: what the first proxy said, if it is trusted, else ours.
fn put_first(name: &str, rules: ForwardedRules, head: &RequestHead, own: &[u8], out: &mut Vec<u8>) {
    let earlier = value_of(&head.fields, name).filter(|value| rules.is_client_trusted && !value.is_empty());
    put_line(name, earlier.map_or(own, |value| value), out);
}

fn put_line(name: &str, value: &[u8], out: &mut Vec<u8>) {
    [name.as_bytes(), b": ", value, b"\r\n"].iter().for_each(|part| out.extend_from_slice(part));
}

/// The element of this hop. An IPv6 address and a host with a port must be quoted (RFC 7239 §6); neither has quotes.
fn element(client: IpAddr, authority: &[u8], scheme: &str) -> Vec<u8> {
    let node = match client {
        IpAddr::V4(v4) => format!("for={v4}"),
        IpAddr::V6(v6) => format!("for=\"[{v6}]\""),
    };
    [node.as_bytes(), b";host=\"", authority, b"\";proto=", scheme.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::framing::Framing;
    use bytes::Bytes;

    fn lines(
        style: ForwardedStyle,
        is_client_trusted: bool,
        fields: &[(&'static str, &'static str)],
    ) -> String {
        let head = RequestHead {
            method: Bytes::from_static(b"GET"),
            target: Bytes::from_static(b"/"),
            authority: Bytes::from_static(b"www.test:8080"),
            fields: fields.iter().map(|(name, value)| Field::new(name, *value)).collect(),
            framing: Framing::None,
            version: 1,
            is_persistent: true,
            expects_continue: false,
            upgrade: None,
        };
        let rules = ForwardedRules { style, is_client_trusted, has_via: true };
        let mut out = Vec::new();
        put_lines(rules, &head, "::ffff:192.0.2.1".parse().unwrap(), "https", &mut out);
        String::from_utf8(out).unwrap()
    }

    const CLAIMS: [(&str, &str); 5] = [
        ("X-Forwarded-For", "203.0.113.5"),
        ("x-forwarded-for", "203.0.113.6"),
        ("x-forwarded-proto", "http"),
        ("x-forwarded-host", "evil.test"),
        ("forwarded", "for=203.0.113.7"),
    ];

    #[test]
    fn a_client_that_is_not_trusted_is_told_of_but_not_believed() {
        let expected =
            "x-forwarded-for: 192.0.2.1\r\nx-forwarded-proto: https\r\nx-forwarded-host: www.test:8080\r\n";
        assert_eq!(lines(ForwardedStyle::XForwarded, false, &CLAIMS), expected);
        let standard = "forwarded: for=192.0.2.1;host=\"www.test:8080\";proto=https\r\n";
        assert_eq!(lines(ForwardedStyle::Forwarded, false, &CLAIMS), standard);
        assert_eq!(lines(ForwardedStyle::Both, false, &CLAIMS), format!("{expected}{standard}"));
        assert_eq!(lines(ForwardedStyle::None, false, &CLAIMS), "");
    }

    #[test]
    fn a_trusted_proxy_goes_in_front() {
        assert_eq!(
            lines(ForwardedStyle::Both, true, &CLAIMS),
            "x-forwarded-for: 203.0.113.5, 203.0.113.6, 192.0.2.1\r\nx-forwarded-proto: http\r\n\
             x-forwarded-host: evil.test\r\n\
             forwarded: for=203.0.113.7, for=192.0.2.1;host=\"www.test:8080\";proto=https\r\n"
        );
        let nothing_said = lines(ForwardedStyle::XForwarded, true, &[]);
        assert!(nothing_said.starts_with("x-forwarded-for: 192.0.2.1\r\nx-forwarded-proto: https\r\n"));
    }

    #[test]
    fn an_address_of_version_6_is_quoted() {
        let element = element("2001:db8::1".parse().unwrap(), b"a", "http");
        assert_eq!(element, b"for=\"[2001:db8::1]\";host=\"a\";proto=http");
    }

    #[test]
    fn names_are_known_in_any_case() {
        assert!(
            is_told_anew(&Field::new("X-Forwarded-Proto", "x")) && !is_told_anew(&Field::new("via", "x"))
        );
    }
}
