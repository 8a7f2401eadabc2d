//! The short cut for HTTP/1: a request whose answer lies whole in memory is answered from the buffer that it came in. No
//! allocation, no lock that another worker takes, one write.

use crate::cache::semantics::conditional::{Served, Validators, is_in_304, preconditions};
use crate::cache::semantics::fields::{Fields, put_number};
use crate::cache::semantics::key::write_key;
use crate::cache::semantics::range::{Wanted, write_content_range};
use crate::cache::semantics::request::{Method, Request};
use crate::cache::semantics::reuse::{Reuse, may_look_up, reuse};
use crate::cache::semantics::status::{CacheStatus, Outcome};
use crate::cache::store::Object;
use crate::count::Outcome as Ended;
use crate::edge::door;
use crate::edge::head::{Seen, look, slots};
use crate::edge::message::phrase;
use crate::edge::stored::entry::{Choice, Entry, Lines, put_line};
use crate::edge::stored::serve::CACHE;
use crate::edge::worker::Edge;
use bytes::Bytes;
use std::net::IpAddr;
use std::time::Duration;

/// An answer that is ready to be written, its head in the caller's buffer.
pub struct Hit {
    pub body: Bytes,
    pub is_persistent: bool,
    /// How long the client may take nothing of it.
    pub idle: Duration,
}

/// Fields as the parser found them.
struct Raw<'s, 'h>(&'s [httparse::Header<'h>]);

impl Fields for Raw<'_, '_> {
    fn lines(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.0.iter().map(|field| (field.name.as_bytes(), field.value))
    }
}

/// The answer to the request of a whole head, if it can be had so; its head is written to `out`. None: the long way.
/// `may_go_on`: the connection may carry another request.
pub fn hit(
    edge: &Edge,
    head: &[u8],
    client: IpAddr,
    scheme: &str,
    may_go_on: bool,
    out: &mut Vec<u8>,
) -> Option<Hit> {
    let mut room = slots();
    let seen = look(head, &mut room).ok()?;
    let (authority, path) = seen.plain()?;
    let site = edge.site(authority)?;
    if !door::is_short(&site, client, path.len(), seen.fields.len()) {
        return None;
    }
    let shelf = site.prepared.shelf.as_ref()?;
    let limits = &site.service.settings.limits;
    if head.len() as u64 > limits.head_bytes_max {
        return None;
    }
    let fields = Raw(seen.fields);
    let request = Request::read(seen.method, &fields, false, shelf.rules.obeys_clients);
    may_look_up(&request).ok()?;
    let object = edge.with_front(|front, key| {
        key.clear();
        write_key(scheme, authority, path.as_bytes(), &fields, &shelf.rules, key);
        front.hit(shelf.store.key(key), &mut Choice(&fields))
    })??;
    let now_ms = edge.now_ms();
    let terms = object.head.meta.terms;
    let age_s = match reuse(&terms, &request, now_ms) {
        Reuse::Fresh { age_s } if !object.is_purged_softly() => age_s,
        _ => return None,
    };
    let whole = object.body.whole().filter(|_| terms.part.is_none())?;
    let lines = Lines(&object.head.wire);
    let validators = if request.range.is_some() || request.is_conditional() {
        Validators::of(&lines)
    } else {
        Validators::default()
    };
    let length = whole.len() as u64;
    let served = preconditions(&request, &terms, &validators, Some(length), shelf.rules.ranges_max);
    let body = write_head(&served, &object, whole, out)?;
    // Last of all: who goes the long way takes a token there.
    door::take(edge, &site, client).ok()?;
    out.extend_from_slice(b"age: ");
    put_number(out, age_s);
    out.extend_from_slice(b"\r\ncache-status: ");
    let ttl_s = Some(terms.ttl_s(now_ms));
    CacheStatus { ttl_s, ..CacheStatus::new(Outcome::Hit) }.write(CACHE, out);
    let is_persistent = seen.is_persistent && may_go_on && !edge.is_draining();
    finish_head(&seen, is_persistent, &served, body.len(), out);
    edge.tally.add(Outcome::Hit);
    edge.counts.served(Some(&site.service), site.service.region_of(client), Ended::Ok);
    let body = if request.method == Method::Head { Bytes::new() } else { body };
    Some(Hit { body, is_persistent, idle: Duration::from_millis(limits.idle_timeout_ms) })
}

/// Status line and stored fields; None for what is better made elsewhere.
fn write_head(served: &Served, object: &Object<Entry>, whole: &Bytes, out: &mut Vec<u8>) -> Option<Bytes> {
    out.clear();
    let wire = &object.head.wire;
    match served {
        Served::Full => {
            write_status(object.head.meta.terms.status, out);
            out.extend_from_slice(wire);
            Some(whole.clone())
        }
        Served::NotModified => {
            write_status(304, out);
            let kept = Lines(wire);
            kept.lines()
                .filter(|(name, _)| is_in_304(name))
                .for_each(|(name, value)| put_line(name, value, out));
            Some(Bytes::new())
        }
        Served::Ranges(Wanted::One(span)) => {
            let (first, last) = (usize::try_from(span.first).ok()?, usize::try_from(span.last).ok()?);
            let part = (last < whole.len()).then(|| whole.slice(first..=last))?;
            write_status(206, out);
            out.extend_from_slice(wire);
            out.extend_from_slice(b"content-range: ");
            write_content_range(Some(*span), whole.len() as u64, out);
            out.extend_from_slice(b"\r\n");
            Some(part)
        }
        _ => None,
    }
}

fn write_status(status: u16, out: &mut Vec<u8>) {
    if status == 200 {
        return out.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
    }
    out.extend_from_slice(b"HTTP/1.1 ");
    put_number(out, u64::from(status));
    out.push(b' ');
    out.extend_from_slice(phrase(status).as_bytes());
    out.extend_from_slice(b"\r\n");
}

fn finish_head(
    seen: &Seen<'_, '_>,
    is_persistent: bool,
    served: &Served,
    body_bytes: usize,
    out: &mut Vec<u8>,
) {
    if *served != Served::NotModified {
        out.extend_from_slice(b"\r\ncontent-length: ");
        put_number(out, body_bytes as u64);
    }
    match (is_persistent, seen.version) {
        (false, _) => out.extend_from_slice(b"\r\nconnection: close"),
        (true, 0) => out.extend_from_slice(b"\r\nconnection: keep-alive"),
        _ => {}
    }
    out.extend_from_slice(b"\r\n\r\n");
}
