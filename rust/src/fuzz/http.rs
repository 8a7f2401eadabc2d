//! HTTP/1 as two parsers could read it: what is taken has exactly one reading.

use super::Input;
use crate::cache::semantics::fields::{Fields, is_token};
use crate::document::ForwardedRules;
use crate::edge::attempt::head_bytes;
use crate::edge::framing::{Broken, Decoder, Framing, Step, chunk_head};
use crate::edge::head::{HeadScan, parse_answer, parse_request};
use crate::edge::message::{Field, RequestHead, is_authority};
use crate::edge::stored::entry::{Lines, put_line};
use crate::edge::trailer::{last_chunk, passed_on};
use bytes::{Bytes, BytesMut};
use std::net::IpAddr;

pub fn request_head(bytes: &[u8]) {
    let Some(head) = head_of(bytes) else { return };
    let Ok(request) = parse_request(&head) else { return };
    check_lines(&head);
    check_framing(&head, request.framing);
    check_end_to_end(&request.fields);
    assert!(is_token(&request.method) && is_authority(&request.authority));
    assert!(request.target.starts_with(b"/") || &request.target[..] == b"*");
    assert!(request.target.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'#'));
    check_passed_on(&request);
}

pub fn answer_head(bytes: &[u8]) {
    let mut input = Input(bytes);
    let method: &[u8] = if input.byte() % 2 == 0 { b"GET" } else { b"HEAD" };
    let Some(head) = head_of(input.0) else { return };
    let Ok(answer) = parse_answer(&head, method) else { return };
    check_lines(&head);
    check_end_to_end(&answer.fields);
    assert!((100..=599).contains(&answer.status));
    let is_bodiless = method == b"HEAD" || matches!(answer.status, 100..=199 | 204 | 304);
    match answer.framing {
        Framing::None => assert!(is_bodiless),
        Framing::UntilClose => {
            assert!(!answer.is_persistent && values(&head, "transfer-encoding").is_empty());
            assert!(values(&head, "content-length").is_empty());
        }
        framing => check_framing(&head, framing),
    }
    check_stored_lines(&answer.fields);
}

pub fn chunked(bytes: &[u8]) {
    let mut input = Input(bytes);
    let step = usize::from(input.byte()).max(1);
    let wire = input.0;
    let whole = decode(wire, wire.len().max(1));
    assert_eq!(decode(wire, step), whole, "how it arrives must not matter");
    let Ok(Decoded { body, trailers, left, is_done }) = whole else { return };
    assert!(wire.ends_with(&left) && body.len() + left.len() <= wire.len());
    assert!(is_done || left.len() <= wire.len());
    if is_done {
        let fields = passed_on(&trailers);
        check_end_to_end(&fields);
        let again = decode(&encode(&body, step, &fields), step);
        assert_eq!(again.map(|again| (again.body, again.left, again.is_done)), Ok((body, Vec::new(), true)));
    }
}

/// The first head in the bytes, found the same however it arrives.
fn head_of(bytes: &[u8]) -> Option<Bytes> {
    let found = scan(bytes, bytes.len().max(1));
    for step in [1, 7] {
        assert_eq!(scan(bytes, step), found, "how it arrives must not matter");
    }
    Some(Bytes::copy_from_slice(bytes.get(..found.ok()??)?))
}

fn scan(bytes: &[u8], step: usize) -> Result<Option<usize>, Broken> {
    let mut scan = HeadScan::default();
    for end in (0..bytes.len()).step_by(step).skip(1).chain([bytes.len()]) {
        if let Some(found) = scan.end(bytes.get(..end).unwrap_or_default())? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// The lines of a head by the simplest reading that there is.
fn lines(head: &[u8]) -> Vec<&[u8]> {
    let text = head.strip_suffix(b"\r\n\r\n").unwrap_or(head);
    let mut lines: Vec<&[u8]> = text.split(|byte| *byte == b'\n').collect();
    let last = lines.len() - 1;
    for line in lines.iter_mut().take(last) {
        *line = line.strip_suffix(b"\r").unwrap_or(line);
    }
    lines
}

fn values<'h>(head: &'h [u8], name: &str) -> Vec<&'h [u8]> {
    let fields = lines(head).into_iter().skip(1).filter_map(super::split_field);
    let named = fields.filter(|(found, _)| found.eq_ignore_ascii_case(name.as_bytes()));
    named.map(|(_, value)| value).collect()
}

/// No line is folded, ends in anything but CRLF, or hides a control byte; every one of them is a field.
fn check_lines(head: &[u8]) {
    for line in lines(head).iter().skip(1) {
        assert!(super::split_field(line).is_some(), "{:?}", line.escape_ascii().to_string());
        assert!(line.iter().all(|byte| *byte == b'\t' || *byte >= b' ' && *byte != 0x7f));
    }
}

/// One framing, and every field that speaks of it says the same.
fn check_framing(head: &[u8], framing: Framing) {
    let (lengths, encodings) = (values(head, "content-length"), values(head, "transfer-encoding"));
    match framing {
        Framing::Chunked => {
            assert!(lengths.is_empty() && encodings.len() == 1);
            assert!(encodings.iter().all(|value| value.eq_ignore_ascii_case(b"chunked")));
        }
        Framing::Length(bytes) => {
            assert!(encodings.is_empty() && !lengths.is_empty());
            let means =
                |text: &[u8]| std::str::from_utf8(text).ok().and_then(|text| text.parse::<u64>().ok());
            assert!(lengths.iter().all(|text| means(text) == Some(bytes)));
        }
        Framing::None | Framing::UntilClose => assert!(lengths.is_empty() && encodings.is_empty()),
    }
}

fn check_end_to_end(fields: &[Field]) {
    for field in fields {
        for hop in ["connection", "content-length", "keep-alive", "te", "transfer-encoding", "upgrade"] {
            assert!(!field.is(hop), "{hop} goes on to the other side");
        }
    }
}

/// What is sent on is read there as what was read here.
fn check_passed_on(request: &RequestHead) {
    const ADDED: [&str; 6] =
        ["cdn-loop", "forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto"];
    let own = |fields: &[Field]| -> Vec<Field> {
        fields.iter().filter(|field| !ADDED.iter().any(|added| field.is(added))).cloned().collect()
    };
    if request.fields.len() > 100 {
        return;
    }
    let client = IpAddr::from([192, 0, 2, 1]);
    let again = parse_request(&head_bytes(request, client, "http", "polycdn-x", ForwardedRules::default()));
    let Ok(again) = again else { return assert!(again.is_ok(), "{again:?} of {request:?}") };
    assert_eq!((&again.method, &again.target), (&request.method, &request.target));
    assert_eq!((&again.authority, again.framing), (&request.authority, request.framing));
    assert_eq!((own(&again.fields), again.upgrade), (own(&request.fields), request.upgrade.clone()));
}

/// Fields that are stored as lines come out as they went in.
fn check_stored_lines(fields: &[Field]) {
    let mut wire = Vec::new();
    fields.iter().for_each(|field| put_line(&field.name, &field.value, &mut wire));
    let stored = Lines(&wire);
    assert!(stored.lines().eq(fields.lines()));
}

#[derive(Debug, PartialEq, Eq)]
struct Decoded {
    body: Vec<u8>,
    trailers: Vec<u8>,
    left: Vec<u8>,
    is_done: bool,
}

/// A chunked body whose wire arrives in pieces of `step` bytes. An error is one wherever it is found.
fn decode(wire: &[u8], step: usize) -> Result<Decoded, ()> {
    let (mut decoder, mut unread, mut body) = (Decoder::new(Framing::Chunked), BytesMut::new(), Vec::new());
    for piece in wire.chunks(step) {
        unread.extend_from_slice(piece);
        while let Step::Chunk(chunk) = decoder.decode(&mut unread).map_err(|_| ())? {
            assert!(!chunk.is_empty());
            body.extend_from_slice(&chunk);
        }
    }
    let (left, is_done) = (unread.to_vec(), decoder.is_done());
    Ok(Decoded { body, trailers: decoder.trailers().to_vec(), left, is_done })
}

fn encode(body: &[u8], step: usize, trailers: &[Field]) -> Vec<u8> {
    let mut wire = Vec::new();
    for chunk in body.chunks(step) {
        let (head, bytes) = chunk_head(chunk.len());
        [head.get(..bytes).unwrap_or_default(), chunk, b"\r\n"]
            .iter()
            .for_each(|part| wire.extend_from_slice(part));
    }
    wire.extend_from_slice(&last_chunk(trailers));
    wire
}
