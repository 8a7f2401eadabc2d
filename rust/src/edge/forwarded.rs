//! What an upstream is told of the client: X-Forwarded-For and its kin, or Forwarded (RFC 7239). Pure.

use crate::cache::semantics::fields::put_number;
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
    let (tells_x, tells_standard) = match rules.style {
        ForwardedStyle::XForwarded => (true, false),
        ForwardedStyle::Forwarded => (false, true),
        ForwardedStyle::Both => (true, true),
        ForwardedStyle::None => (false, false),
    };
    if tells_x {
        begin_list(FOR, rules, head, out);
        put_address(client, out);
        out.extend_from_slice(b"\r\n");
        put_first(PROTO, rules, head, scheme.as_bytes(), out);
        put_first(HOST, rules, head, &head.authority, out);
    }
    if tells_standard {
        begin_list(FORWARDED, rules, head, out);
        put_element(client, &head.authority, scheme, out);
        out.extend_from_slice(b"\r\n");
    }
}

/// The beginning of a line: what was said before, if it is trusted; ours is to follow.
fn begin_list(name: &str, rules: ForwardedRules, head: &RequestHead, out: &mut Vec<u8>) {
    [name.as_bytes(), b": "].iter().for_each(|part| out.extend_from_slice(part));
    let lines = head.fields.iter().filter(|field| rules.is_client_trusted && field.is(name));
    for value in lines.map(|field| field.value.trim_ascii()).filter(|value| !value.is_empty()) {
        [value, b", "].iter().for_each(|part| out.extend_from_slice(part));
    }
}

/// Most are of version 4, and the general formatter costs more than all of the rest.
fn put_address(address: IpAddr, out: &mut Vec<u8>) {
    match address {
        IpAddr::V4(v4) => {
            for (place, octet) in v4.octets().into_iter().enumerate() {
                out.extend_from_slice(if place > 0 { b"." } else { b"" });
                put_number(out, u64::from(octet));
            }
        }
        IpAddr::V6(v6) => out.extend_from_slice(v6.to_string().as_bytes()),
    }
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
fn put_element(client: IpAddr, authority: &[u8], scheme: &str, out: &mut Vec<u8>) {
    let quotes: [&[u8]; 2] = if client.is_ipv4() { [b"", b""] } else { [b"\"[", b"]\""] };
    [b"for=", quotes[0]].iter().for_each(|part| out.extend_from_slice(part));
    put_address(client, out);
    let rest = [quotes[1], &b";host=\""[..], authority, b"\";proto=", scheme.as_bytes()];
    rest.iter().for_each(|part| out.extend_from_slice(part));
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
        let mut element = Vec::new();
        put_element("2001:db8::1".parse().unwrap(), b"a", "http", &mut element);
        assert_eq!(element, b"for=\"[2001:db8::1]\";host=\"a\";proto=http");
    }

    #[test]
    fn names_are_known_in_any_case() {
        assert!(
            is_told_anew(&Field::new("X-Forwarded-Proto", "x")) && !is_told_anew(&Field::new("via", "x"))
        );
    }
}
