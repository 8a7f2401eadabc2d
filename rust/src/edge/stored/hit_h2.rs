//! The short cut for HTTP/2: a request whose answer lies whole in memory is answered by the connection's own task.

use crate::cache::semantics::conditional::{Served, is_in_304};
use crate::cache::semantics::fields::Fields;
use crate::cache::semantics::range::{Wanted, write_content_range};
use crate::edge::h2::head_bytes;
use crate::edge::stored::entry::Lines;
use crate::edge::stored::found::{Found, Plain, find};
use crate::edge::stored::serve::CACHE;
use crate::edge::worker::Edge;
use bytes::Bytes;
use http::header::{AGE, CONTENT_LENGTH, CONTENT_RANGE, COOKIE, EXPECT};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use std::net::IpAddr;

const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

/// Fields that this answer has beside the stored ones.
const OWN_FIELDS: usize = 4;

struct Map<'a>(&'a HeaderMap);

impl Fields for Map<'_> {
    fn lines(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.0.iter().map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes()))
    }
}

/// The answer to a request without a body, if it can be had so; None: the long way. `authority` is checked, `target`
/// begins with a slash.
pub fn hit(
    edge: &Edge,
    parts: &Parts,
    (authority, target): (&[u8], &[u8]),
    (client, scheme): (IpAddr, &str),
) -> Option<(Response<()>, Bytes)> {
    // A length is to be judged, and Cookie lines are to be joined before anything is compared with them.
    let mut cookies = 0;
    for name in parts.headers.keys() {
        if *name == CONTENT_LENGTH || *name == EXPECT {
            return None;
        }
        cookies += usize::from(*name == COOKIE);
    }
    if cookies > 0 && parts.headers.get_all(COOKIE).iter().nth(1).is_some() {
        return None;
    }
    let (method, fields) = (parts.method.as_str().as_bytes(), &Map(&parts.headers));
    let head_bytes = head_bytes(parts);
    let found = find(edge, &Plain { method, authority, target, fields, scheme, client, head_bytes })?;
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::from_u16(status_of(&found)).ok()?;
    *response.headers_mut() = fields_of(&found)?;
    found.count(edge, client);
    Some((response, found.body()))
}

fn status_of(found: &Found) -> u16 {
    match &found.served {
        Served::NotModified => 304,
        Served::Ranges(_) => 206,
        _ => found.object.head.meta.terms.status,
    }
}

/// None if one of them is none in HTTP/2.
fn fields_of(found: &Found) -> Option<HeaderMap> {
    let wire = &found.object.head.wire;
    let is_304 = found.served == Served::NotModified;
    let lines = Lines(wire);
    let mut map = HeaderMap::with_capacity(memchr::memchr_iter(b'\n', wire).count() + OWN_FIELDS);
    for (name, value) in lines.lines().filter(|(name, _)| !is_304 || is_in_304(name)) {
        let value = HeaderValue::from_maybe_shared(wire.slice_ref(value)).ok()?;
        map.append(HeaderName::from_bytes(name).ok()?, value);
    }
    if let Served::Ranges(Wanted::One(span)) = &found.served {
        let mut range = Vec::with_capacity(40);
        write_content_range(Some(*span), found.object.body.length().unwrap_or(0), &mut range);
        map.insert(CONTENT_RANGE, HeaderValue::from_maybe_shared(Bytes::from(range)).ok()?);
    }
    if !is_304 {
        map.insert(CONTENT_LENGTH, HeaderValue::from(found.part.len()));
    }
    let mut status = Vec::with_capacity(64);
    found.status.write(CACHE, &mut status);
    map.insert(AGE, HeaderValue::from(found.age_s));
    map.append(CACHE_STATUS, HeaderValue::from_maybe_shared(Bytes::from(status)).ok()?);
    Some(map)
}
