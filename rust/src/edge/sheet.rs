//! An answer's head as HTTP/1 writes it, and the buffers that heads are written in.

use crate::cache::semantics::fields::put_number;
use crate::edge::answer::{Answer, Body};
use crate::edge::framing::Framing;
use crate::edge::message::value_of;
use crate::edge::stored::entry::put_line;
use crate::edge::stored::hit::write_status;
use std::cell::RefCell;
use std::time::Duration;

/// Buffers for heads that a thread keeps when nobody uses them, and how large they may have become.
const SHEETS_MAX: usize = 64;
const SHEET_BYTES_MAX: usize = 16 * 1024;

thread_local! {
    static SHEETS: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// What of a request shapes its answer on the wire.
pub struct Shape {
    pub is_head: bool,
    pub version: u8,
    /// The connection goes on afterwards.
    pub is_persistent: bool,
    pub idle: Duration,
}

/// How the answer's end is told to this client, and whether the connection outlives it.
pub fn framing_of(answer: &Answer, shape: &Shape) -> (Framing, bool) {
    match (&answer.body, answer.length) {
        (Body::None | Body::Full(_) | Body::Tunnel(..), _) => (Framing::None, shape.is_persistent),
        (Body::Relay(_) | Body::Stored(_), Some(bytes)) => (Framing::Length(bytes), shape.is_persistent),
        (Body::Relay(_) | Body::Stored(_), None) if shape.version >= 1 => {
            (Framing::Chunked, shape.is_persistent)
        }
        (Body::Relay(_) | Body::Stored(_), None) => (Framing::UntilClose, false),
    }
}

/// Appends the answer's head.
pub fn write_head(
    answer: &Answer,
    shape: &Shape,
    framing: Framing,
    is_persistent: bool,
    date: &[u8],
    out: &mut Vec<u8>,
) {
    write_status(answer.status, out);
    answer.fields.iter().for_each(|field| put_line(&field.name, &field.value, out));
    if value_of(&answer.fields, "date").is_none() && answer.status >= 200 {
        put_line(b"date", date, out);
    }
    if let Body::Tunnel(_, protocol) = &answer.body {
        put_line(b"connection", b"upgrade", out);
        put_line(b"upgrade", protocol, out);
        return out.extend_from_slice(b"\r\n");
    }
    match answer.length {
        Some(length) if answer.status != 204 => {
            out.extend_from_slice(b"content-length: ");
            put_number(out, length);
            out.extend_from_slice(b"\r\n");
        }
        _ if framing == Framing::Chunked => put_line(b"transfer-encoding", b"chunked", out),
        _ => {}
    }
    match (is_persistent, shape.version) {
        (false, _) => put_line(b"connection", b"close", out),
        (true, 0) => put_line(b"connection", b"keep-alive", out),
        _ => {}
    }
    out.extend_from_slice(b"\r\n");
}

/// An empty buffer for a head, mostly one that was used before.
pub fn sheet() -> Vec<u8> {
    SHEETS.with_borrow_mut(Vec::pop).unwrap_or_default()
}

/// Keeps it for the next head.
pub fn put_back(mut sheet: Vec<u8>) {
    SHEETS.with_borrow_mut(|sheets| {
        if sheets.len() < SHEETS_MAX && sheet.capacity() <= SHEET_BYTES_MAX {
            sheet.clear();
            sheets.push(sheet);
        }
    });
}
