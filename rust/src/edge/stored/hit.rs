//! The short cut for HTTP/1: a request whose answer lies whole in memory is answered from the buffer that it came in. No
//! allocation, no lock that another worker takes, one write.

use crate::cache::semantics::conditional::{Served, is_in_304};
use crate::cache::semantics::fields::{Fields, put_number};
use crate::cache::semantics::range::{Wanted, write_content_range};
use crate::edge::head::Seen;
use crate::edge::message::phrase;
use crate::edge::stored::entry::{Lines, put_line};
use crate::edge::stored::found::{Found, Plain, find};
use crate::edge::stored::serve::CACHE;
use crate::edge::worker::Edge;
use bytes::Bytes;
use std::net::IpAddr;
use std::time::Duration;

/// An answer that is ready to be written.
pub struct Hit {
    pub head: Vec<u8>,
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

/// The answer to a request, if it can be had so; its head is made in the buffer that `sheet` gives. None: the long way.
/// `may_go_on`: the connection may carry another request.
pub fn hit(
    edge: &Edge,
    seen: &Seen<'_, '_>,
    head_bytes: usize,
    (client, scheme): (IpAddr, &str),
    may_go_on: bool,
    sheet: impl FnOnce() -> Vec<u8>,
) -> Option<Hit> {
    let (authority, path) = seen.plain()?;
    let (target, fields) = (path.as_bytes(), &Raw(seen.fields));
    let plain = Plain { method: seen.method, authority, target, fields, scheme, client, head_bytes };
    let found = find(edge, &plain)?;
    let is_persistent = seen.is_persistent && may_go_on && !edge.is_draining();
    let mut head = sheet();
    write_head(&found, &mut head);
    finish_head(&found, seen, is_persistent, &mut head);
    found.count(edge, client);
    let idle = Duration::from_millis(found.site.service.settings.limits.idle_timeout_ms);
    Some(Hit { head, body: found.body(), is_persistent, idle })
}

/// Status line and stored fields.
fn write_head(found: &Found, out: &mut Vec<u8>) {
    let wire = &found.object.head.wire;
    match &found.served {
        Served::NotModified => {
            write_status(304, out);
            let kept = Lines(wire);
            kept.lines()
                .filter(|(name, _)| is_in_304(name))
                .for_each(|(name, value)| put_line(name, value, out));
        }
        Served::Ranges(Wanted::One(span)) => {
            write_status(206, out);
            out.extend_from_slice(wire);
            out.extend_from_slice(b"content-range: ");
            write_content_range(Some(*span), found.object.body.length().unwrap_or(0), out);
            out.extend_from_slice(b"\r\n");
        }
        _ => {
            write_status(found.object.head.meta.terms.status, out);
            out.extend_from_slice(wire);
        }
    }
}

/// A status line.
pub fn write_status(status: u16, out: &mut Vec<u8>) {
    if status == 200 {
        return out.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
    }
    out.extend_from_slice(b"HTTP/1.1 ");
    put_number(out, u64::from(status));
    out.push(b' ');
    out.extend_from_slice(phrase(status).as_bytes());
    out.extend_from_slice(b"\r\n");
}

fn finish_head(found: &Found, seen: &Seen<'_, '_>, is_persistent: bool, out: &mut Vec<u8>) {
    out.extend_from_slice(b"age: ");
    put_number(out, found.age_s);
    out.extend_from_slice(b"\r\ncache-status: ");
    found.status.write(CACHE, out);
    if found.served != Served::NotModified {
        out.extend_from_slice(b"\r\ncontent-length: ");
        put_number(out, found.part.len() as u64);
    }
    match (is_persistent, seen.version) {
        (false, _) => out.extend_from_slice(b"\r\nconnection: close"),
        (true, 0) => out.extend_from_slice(b"\r\nconnection: keep-alive"),
        _ => {}
    }
    out.extend_from_slice(b"\r\n\r\n");
}
