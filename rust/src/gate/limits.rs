//! What one request may be, told before anything of its body is read.

use crate::document::ClientLimits;
use crate::gate::why::{Denial, Why};

/// The sizes of a request as its head tells them; `body_bytes` is 0 where there is no body, or its length is not told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    pub uri_bytes: usize,
    pub head_fields: usize,
    pub body_bytes: u64,
}

pub const BODY_TOO_LARGE: Denial = Denial::new(Why::BodyBytes, 413, "the body is too large");
pub const TOO_MANY_FIELDS: Denial = Denial::new(Why::HeadFields, 431, "too many fields");
pub const URI_TOO_LONG: Denial = Denial::new(Why::UriBytes, 414, "the URI is too long");
pub const HEAD_TOO_LARGE: Denial = Denial::new(Why::HeadBytes, 431, "the head is too large");

/// Refuses a request that is larger than its service allows.
pub fn check(limits: &ClientLimits, sizes: Sizes) -> Result<(), Denial> {
    if sizes.uri_bytes as u64 > limits.uri_bytes_max {
        return Err(URI_TOO_LONG);
    }
    if sizes.head_fields as u64 > limits.head_fields_max {
        return Err(TOO_MANY_FIELDS);
    }
    if sizes.body_bytes > limits.body_bytes_max {
        return Err(BODY_TOO_LARGE);
    }
    Ok(())
}

/// Why the beginning of a head that has no end yet is too large: its first line alone, or all of it.
pub fn too_large(begun: &[u8]) -> Denial {
    if memchr::memchr(b'\n', begun).is_none() { URI_TOO_LONG } else { HEAD_TOO_LARGE }
}

/// What holds for a connection, whose service is not known yet: the wider of two services' limits, field by field.
pub fn wider(one: &ClientLimits, other: &ClientLimits) -> ClientLimits {
    // 0 stands for no limit, which is the widest.
    let most = |one: u64, other: u64| if one == 0 || other == 0 { 0 } else { one.max(other) };
    let rate_of_neither = one.client_bytes_per_s_min == 0 || other.client_bytes_per_s_min == 0;
    ClientLimits {
        uri_bytes_max: one.uri_bytes_max.max(other.uri_bytes_max),
        head_fields_max: one.head_fields_max.max(other.head_fields_max),
        body_bytes_max: one.body_bytes_max.max(other.body_bytes_max),
        client_bytes_per_s_min: if rate_of_neither {
            0
        } else {
            one.client_bytes_per_s_min.min(other.client_bytes_per_s_min)
        },
        client_rate_window_ms: one.client_rate_window_ms.max(other.client_rate_window_ms),
        requests_per_connection_max: most(one.requests_per_connection_max, other.requests_per_connection_max),
        connections_max: most(one.connections_max, other.connections_max),
        connections_per_prefix_max: most(one.connections_per_prefix_max, other.connections_per_prefix_max),
        requests_per_prefix_rps: most(one.requests_per_prefix_rps, other.requests_per_prefix_rps),
        requests_per_prefix_burst: most(one.requests_per_prefix_burst, other.requests_per_prefix_burst),
        h2_streams_max: one.h2_streams_max.max(other.h2_streams_max),
        h2_resets_max: most(one.h2_resets_max, other.h2_resets_max),
        fills_max: most(one.fills_max, other.fills_max),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: Sizes = Sizes { uri_bytes: 10, head_fields: 10, body_bytes: 10 };

    fn limits() -> ClientLimits {
        ClientLimits { uri_bytes_max: 10, head_fields_max: 10, body_bytes_max: 10, ..ClientLimits::default() }
    }

    #[test]
    fn each_size_has_its_own_limit_and_status() {
        assert_eq!(check(&limits(), SMALL), Ok(()));
        let status = |sizes| check(&limits(), sizes).unwrap_err().status;
        assert_eq!(status(Sizes { uri_bytes: 11, ..SMALL }), 414);
        assert_eq!(status(Sizes { head_fields: 11, ..SMALL }), 431);
        assert_eq!(status(Sizes { body_bytes: 11, ..SMALL }), 413);
    }

    #[test]
    fn a_first_line_that_does_not_end_is_a_uri_that_is_too_long() {
        assert_eq!(too_large(b"GET /aaaa"), URI_TOO_LONG);
        assert_eq!(too_large(b"GET / HTTP/1.1\r\na: aaaa"), HEAD_TOO_LARGE);
    }

    #[test]
    fn the_wider_limit_holds_and_none_is_the_widest() {
        let (default, tight) = (ClientLimits::default(), limits());
        assert_eq!(wider(&default, &tight), default);
        assert_eq!(wider(&tight, &default), default);
        let one = ClientLimits { requests_per_connection_max: 5, h2_resets_max: 7, ..default };
        assert_eq!(wider(&one, &default), default);
        let other = ClientLimits { requests_per_connection_max: 9, h2_resets_max: 3, ..default };
        assert_eq!(wider(&one, &other).requests_per_connection_max, 9);
        assert_eq!(wider(&one, &other).h2_resets_max, 7);
        let no_rate = ClientLimits { client_bytes_per_s_min: 0, ..default };
        assert_eq!(wider(&no_rate, &default).client_bytes_per_s_min, 0);
    }
}
