//! A client's HTTP/2 connection: the `h2` crate keeps its frames, each stream is a task.

use crate::clock;
use crate::document::ClientLimits;
use crate::edge::answer::{Answer, Body, Flow};
use crate::edge::attempt::Interim;
use crate::edge::body::{BodyError, Source};
use crate::edge::door;
use crate::edge::forward::{self, Incoming};
use crate::edge::framing::Framing;
use crate::edge::message::{AnswerHead, Field, RequestHead, is_authority};
use crate::edge::slow;
use crate::edge::vigil::Vigil;
use crate::edge::wire::{Stream, Wire};
use crate::edge::worker::Edge;
use crate::gate::limits::{BODY_TOO_LARGE, HEAD_TOO_LARGE};
use crate::gate::pace::Pace;
use crate::gate::why::Why;
use bytes::{Buf, Bytes, BytesMut};
use h2::server::{Builder, Connection, SendResponse};
use h2::{Reason, RecvStream, SendStream};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io::{IoSlice, Result};
use std::net::IpAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{sleep, timeout};

/// What a client may send ahead on one connection.
const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;

/// Streams that a client reset before they were looked at, and our own resets of its mistakes: more at one time, and the
/// library ends the connection with ENHANCE_YOUR_CALM. It does the same for CONTINUATION frames beyond what the largest
/// head needs.
const RESET_UNSEEN_MAX: usize = 64;
const LOCAL_ERRORS_MAX: usize = 256;

/// How long a connection that is to end may take for its last word.
const LAST_WORD: Duration = Duration::from_secs(5);

/// What waits for the client's window, per stream.
const SEND_BUFFER_BYTES: usize = 256 * 1024;

const FRAME_BYTES_MAX: u32 = 16 * 1024;

/// How long a connection may be without a stream.
const KEEP_ALIVE: Duration = Duration::from_secs(60);

/// How long a client may grant no window for an answer.
const WRITE_IDLE: Duration = Duration::from_secs(30);

/// Turns given to the connection's task before a stream is reset.
const FLUSH_TURNS: usize = 4;

/// A connection of which some was read already; its frames are watched as they come.
struct Rewound {
    first: BytesMut,
    stream: Stream,
    vigil: Rc<Vigil>,
}

impl AsyncRead for Rewound {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        let this = self.get_mut();
        if this.vigil.has_caught() {
            return Poll::Pending;
        }
        if this.first.is_empty() {
            let before = buf.filled().len();
            let read = Pin::new(&mut this.stream).poll_read(cx, buf);
            this.vigil.see(&buf.filled()[before..]);
            return read;
        }
        let bytes = this.first.len().min(buf.remaining());
        this.vigil.see(&this.first[..bytes]);
        buf.put_slice(&this.first[..bytes]);
        this.first.advance(bytes);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Rewound {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Serves a connection on which HTTP/2 was agreed by TLS.
pub async fn serve(edge: Rc<Edge>, stream: Stream, client: IpAddr, scheme: &'static str) {
    run(edge, stream, BytesMut::new(), client, scheme).await;
}

/// Serves a connection whose beginning was read already.
pub async fn serve_begun(edge: Rc<Edge>, wire: Wire, client: IpAddr, scheme: &'static str) {
    let (stream, first) = wire.into_parts();
    run(edge, stream, first, client, scheme).await;
}

fn builder(limits: &ClientLimits, head_bytes_max: usize) -> Builder {
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(u32::try_from(limits.h2_streams_max).unwrap_or(u32::MAX))
        .initial_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(FRAME_BYTES_MAX)
        // Twice of what is let in, so that it is us who refuse, and count, what is a little too large.
        .max_header_list_size(u32::try_from(head_bytes_max.saturating_mul(2)).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(RESET_UNSEEN_MAX)
        .max_local_error_reset_streams(Some(LOCAL_ERRORS_MAX))
        .max_send_buffer_size(SEND_BUFFER_BYTES);
    builder
}

/// What happens next on a connection.
enum Next {
    Caught(Why),
    /// A stream began, and its task has it.
    Stream,
    Over,
    Drain,
    /// No new stream for a while.
    Quiet,
}

async fn run(edge: Rc<Edge>, stream: Stream, first: BytesMut, client: IpAddr, scheme: &'static str) {
    let (patience, head_bytes_max) = edge.client_limits();
    let limits = edge.gate_limits();
    let vigil = Rc::new(Vigil::new(&edge, limits.h2_resets_max));
    let io = Rewound { first, stream, vigil: Rc::clone(&vigil) };
    let handshake = builder(&limits, head_bytes_max).handshake::<_, Bytes>(io);
    let Ok(Ok(mut connection)) = timeout(patience, handshake).await else { return };
    let open = Rc::new(Cell::new(0_usize));
    let (mut left, mut is_ending, mut quiet_since) =
        (limits.requests_per_connection_max, false, clock::moment());
    loop {
        let next = tokio::select! {
            biased;
            why = vigil.caught() => Next::Caught(why),
            accepted = connection.accept() => match accepted {
                Some(Ok(stream)) => {
                    spawn(&edge, &open, stream, client, scheme);
                    Next::Stream
                }
                Some(Err(error)) => {
                    if error.is_library() && error.reason() == Some(Reason::ENHANCE_YOUR_CALM) {
                        edge.refusals.add(Why::Flood);
                    }
                    Next::Over
                }
                None => Next::Over,
            },
            () = edge.drained(), if !is_ending => Next::Drain,
            () = sleep(if is_ending { LAST_WORD } else { patience }) => Next::Quiet,
        };
        let is_old = clock::moment().saturating_duration_since(quiet_since) >= KEEP_ALIVE;
        match next {
            Next::Caught(why) => return calm(&edge, connection, why).await,
            Next::Quiet if vigil.is_head_overdue(patience) => {
                return calm(&edge, connection, Why::HeadTime).await;
            }
            Next::Over => return,
            Next::Quiet if open.get() == 0 && is_ending => return,
            Next::Quiet if open.get() > 0 || is_ending || !is_old => {}
            Next::Drain | Next::Quiet => {
                is_ending = true;
                connection.graceful_shutdown();
            }
            Next::Stream => {
                quiet_since = clock::moment();
                if left == 1 {
                    is_ending = true;
                    connection.graceful_shutdown();
                }
                left = left.saturating_sub(1);
            }
        }
    }
}

/// Answers a stream by a task of its own.
fn spawn(
    edge: &Rc<Edge>,
    open: &Rc<Cell<usize>>,
    (request, respond): (Request<RecvStream>, SendResponse<Bytes>),
    client: IpAddr,
    scheme: &'static str,
) {
    open.set(open.get() + 1);
    let (edge, open) = (Rc::clone(edge), Rc::clone(open));
    tokio::task::spawn_local(async move {
        exchange(&edge, request, respond, client, scheme).await;
        open.set(open.get().saturating_sub(1));
    });
}

/// Ends a connection whose client does too much of what only costs (RFC 9113 §7: ENHANCE_YOUR_CALM).
async fn calm(edge: &Edge, mut connection: Connection<Rewound, Bytes>, why: Why) {
    edge.refusals.add(why);
    connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
    let _ = timeout(LAST_WORD, poll_fn(|cx| connection.poll_closed(cx))).await;
}

async fn exchange(
    edge: &Rc<Edge>,
    request: Request<RecvStream>,
    respond: SendResponse<Bytes>,
    client: IpAddr,
    scheme: &'static str,
) {
    let respond = Rc::new(RefCell::new(respond));
    let (parts, body) = request.into_parts();
    let is_head = parts.method == http::Method::HEAD;
    let head = match request_head(&parts, body.is_end_stream()) {
        Ok(head) => head,
        Err(why) => {
            edge.refusals.add(Why::Malformed);
            return send(edge, &respond, Answer::own(400, why), is_head).await;
        }
    };
    if head_bytes(&parts) > head_bytes_max(edge, &head) {
        return send(edge, &respond, door::denied(edge, &HEAD_TOO_LARGE), is_head).await;
    }
    let source = (head.framing != Framing::None && !body.is_end_stream()).then(|| Source::H2(body));
    let interim = Interim::H2(Rc::clone(&respond));
    let incoming = Incoming { head, source, client, scheme, interim, is_counted: true };
    let forwarded = tokio::select! {
        biased;
        forwarded = forward::respond(edge, incoming) => forwarded,
        _ = poll_fn(|cx| respond.borrow_mut().poll_reset(cx)) => return,
    };
    match forwarded {
        Ok(answer) => send(edge, &respond, answer, is_head).await,
        Err(BodyError::Gone) => respond.borrow_mut().send_reset(Reason::CANCEL),
        Err(BodyError::Stalled) => {
            send(edge, &respond, Answer::own(408, "the body took too long"), is_head).await
        }
        Err(BodyError::TooLarge) => {
            send(edge, &respond, Answer::own(BODY_TOO_LARGE.status, BODY_TOO_LARGE.text), is_head).await
        }
        Err(BodyError::Broken(why)) => send(edge, &respond, Answer::own(400, why), is_head).await,
    }
}

/// The size of a head as RFC 9113 §6.5.2 counts it.
fn head_bytes(parts: &Parts) -> u64 {
    let of_fields: usize =
        parts.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum();
    let of_target = parts.uri.path_and_query().map_or(0, |target| target.as_str().len());
    (of_fields + of_target) as u64
}

/// What the service allows; where none is named, what the widest one does.
fn head_bytes_max(edge: &Edge, head: &RequestHead) -> u64 {
    let site = edge.site(&head.authority);
    site.map_or_else(|| edge.client_limits().1 as u64, |site| site.service.settings.limits.head_bytes_max)
}

/// The same request as HTTP/1 would have it. The `h2` crate has refused connection fields and a body that is not as long
/// as it says.
fn request_head(parts: &Parts, has_ended: bool) -> std::result::Result<RequestHead, &'static str> {
    let target = parts.uri.path_and_query().map_or("", |target| target.as_str());
    let is_target = target.starts_with('/') || target == "*" && parts.method == http::Method::OPTIONS;
    if !is_target || !target.bytes().all(|byte| (0x21..0x7f).contains(&byte)) {
        return Err("the path is not one");
    }
    Ok(RequestHead {
        method: Bytes::copy_from_slice(parts.method.as_str().as_bytes()),
        target: Bytes::copy_from_slice(target.as_bytes()),
        authority: authority(parts)?,
        fields: fields(parts),
        framing: framing(parts, has_ended)?,
        version: 2,
        is_persistent: true,
        expects_continue: false,
        upgrade: None,
    })
}

/// `:authority`, or Host; both must say the same (RFC 9113 §8.3.1).
fn authority(parts: &Parts) -> std::result::Result<Bytes, &'static str> {
    let mut hosts = parts.headers.get_all("host").iter();
    let (host, second) = (hosts.next(), hosts.next());
    let named = parts.uri.authority().map(|authority| authority.as_str().as_bytes());
    let authority = match (named, host.map(HeaderValue::as_bytes), second) {
        (_, _, Some(_)) => return Err("more than one Host"),
        (Some(named), Some(host), _) if !named.eq_ignore_ascii_case(host) => {
            return Err("Host is not :authority");
        }
        (Some(named), _, _) => named,
        (None, Some(host), _) => host,
        (None, None, _) => return Err("no :authority"),
    };
    if is_authority(authority) {
        Ok(Bytes::copy_from_slice(authority))
    } else {
        Err(":authority is not a host")
    }
}

/// All fields but those of the connection; several Cookie fields become one (RFC 9113 §8.2.3).
fn fields(parts: &Parts) -> Vec<Field> {
    let mut cookies: Vec<&[u8]> = Vec::new();
    let mut fields = Vec::with_capacity(parts.headers.len());
    for (name, value) in &parts.headers {
        match name.as_str() {
            "host" | "te" | "content-length" | "expect" | "trailer" | "connection" | "transfer-encoding"
            | "upgrade" => {}
            "cookie" => cookies.push(value.as_bytes()),
            name => fields.push(Field {
                name: Bytes::copy_from_slice(name.as_bytes()),
                value: Bytes::copy_from_slice(value.as_bytes()),
            }),
        }
    }
    if !cookies.is_empty() {
        fields.push(Field::new("cookie", cookies.join(&b"; "[..])));
    }
    fields
}

fn framing(parts: &Parts, has_ended: bool) -> std::result::Result<Framing, &'static str> {
    let mut lengths = parts.headers.get_all("content-length").iter();
    let (Some(length), None) = (lengths.next(), lengths.next()) else {
        let is_absent = parts.headers.get("content-length").is_none();
        let method = parts.method.as_str();
        return match (is_absent, has_ended, method) {
            (false, _, _) => Err("more than one Content-Length"),
            (_, true, "POST" | "PUT" | "PATCH") => Ok(Framing::Length(0)),
            (_, true, _) => Ok(Framing::None),
            _ => Ok(Framing::Chunked),
        };
    };
    let is_number =
        length.len() <= 19 && !length.is_empty() && length.as_bytes().iter().all(u8::is_ascii_digit);
    let number = length.to_str().ok().and_then(|text| text.parse().ok()).filter(|_| is_number);
    match number {
        Some(bytes) if bytes == 0 || !has_ended => Ok(Framing::Length(bytes)),
        Some(_) => Err("the body is shorter than its length"),
        None => Err("Content-Length is not a number"),
    }
}

async fn send(edge: &Edge, respond: &RefCell<SendResponse<Bytes>>, answer: Answer, is_head: bool) {
    let has_body = !is_head && matches!(answer.body, Body::Full(_) | Body::Relay(_) | Body::Stored(_));
    let Some(response) = response_head(&answer, edge.date()) else {
        return respond.borrow_mut().send_reset(Reason::INTERNAL_ERROR);
    };
    let Ok(mut stream) = respond.borrow_mut().send_response(response, !has_body) else { return };
    let limits = edge.gate_limits();
    let pace = Cell::new(Pace::new(limits.client_bytes_per_s_min, limits.client_rate_window_ms));
    match answer.body {
        Body::Full(bytes) if has_body => {
            let _ = send_piece(edge, &mut stream, bytes, true, &pace).await;
        }
        Body::Relay(relay) if has_body => relay_body(edge, &mut stream, Flow::Relay(relay), &pace).await,
        Body::Stored(body) if has_body => relay_body(edge, &mut stream, Flow::Stored(body), &pace).await,
        _ => {}
    }
}

fn response_head(answer: &Answer, date: Bytes) -> Option<Response<()>> {
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::from_u16(answer.status).ok()?;
    *response.headers_mut() = header_map(&answer.fields)?;
    let fields = response.headers_mut();
    if let Some(length) = answer.length.filter(|_| answer.status != 204) {
        fields.insert(http::header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    if !fields.contains_key(http::header::DATE) {
        fields.insert(http::header::DATE, HeaderValue::from_maybe_shared(date).ok()?);
    }
    Some(response)
}

/// An informational answer as HTTP/2 has it.
pub fn interim_head(head: &AnswerHead) -> Option<Response<()>> {
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::from_u16(head.status).ok()?;
    *response.headers_mut() = header_map(&head.fields)?;
    Some(response)
}

/// None if a field is none in HTTP/2.
fn header_map(fields: &[Field]) -> Option<HeaderMap> {
    let mut map = HeaderMap::with_capacity(fields.len());
    for field in fields {
        let name = HeaderName::from_bytes(&field.name).ok()?;
        map.append(name, HeaderValue::from_maybe_shared(field.value.clone()).ok()?);
    }
    Some(map)
}

/// Passes a body on as it comes. One that breaks off resets the stream, so that it cannot look whole.
async fn relay_body(edge: &Edge, stream: &mut SendStream<Bytes>, mut relay: Flow, pace: &Cell<Pace>) {
    loop {
        let piece = tokio::select! {
            biased;
            piece = relay.next() => piece,
            _ = poll_fn(|cx| stream.poll_reset(cx)) => return,
        };
        match piece {
            Ok(Some(piece)) => {
                if !send_piece(edge, stream, piece, false, pace).await {
                    return;
                }
            }
            Ok(None) => {
                let trailers = header_map(&relay.trailers()).filter(|trailers| !trailers.is_empty());
                let _ = match trailers {
                    Some(trailers) => stream.send_trailers(trailers),
                    None => stream.send_data(Bytes::new(), true),
                };
                return;
            }
            Err(_) => {
                // A reset drops what waits to be written: first the connection's task may write it.
                for _ in 0..FLUSH_TURNS {
                    tokio::task::yield_now().await;
                }
                return stream.send_reset(Reason::INTERNAL_ERROR);
            }
        }
    }
}

/// Sends as the client's window allows; false if the client wants no more, or grants nothing, or too little, for too long.
async fn send_piece(
    edge: &Edge,
    stream: &mut SendStream<Bytes>,
    mut piece: Bytes,
    is_last: bool,
    pace: &Cell<Pace>,
) -> bool {
    while !piece.is_empty() {
        stream.reserve_capacity(piece.len());
        let patience =
            pace.get().left_ms().map_or(WRITE_IDLE, |ms| WRITE_IDLE.min(Duration::from_millis(ms)));
        let began = clock::moment();
        let granted = timeout(patience, poll_fn(|cx| stream.poll_capacity(cx))).await;
        let waited = clock::moment().saturating_duration_since(began);
        let granted = match granted {
            Ok(Some(Ok(granted))) => granted.min(piece.len()),
            Ok(_) => return false,
            Err(_) => 0,
        };
        if granted == 0 || slow::wait(pace, waited, granted as u64) {
            edge.refusals.add(Why::SlowReader);
            stream.send_reset(Reason::CANCEL);
            return false;
        }
        let part = piece.split_to(granted);
        if stream.send_data(part, is_last && piece.is_empty()).is_err() {
            return false;
        }
    }
    true
}
