//! A client's HTTP/2 connection: the `h2` crate keeps its frames. What lies in memory is answered at once; every other
//! stream is a task.

use crate::access;
use crate::clock;
use crate::document::ClientLimits;
use crate::edge::answer::{Answer, Body, First, Flow};
use crate::edge::attempt::Interim;
use crate::edge::body::{BodyError, Source};
use crate::edge::door;
use crate::edge::forward::{self, Incoming};
use crate::edge::framing::Framing;
use crate::edge::gather::Gather;
use crate::edge::message::{AnswerHead, Field, RequestHead, is_authority};
use crate::edge::patience::{Patience, within};
use crate::edge::slow;
use crate::edge::stored::hit_h2::hit;
use crate::edge::vigil::Vigil;
use crate::edge::wire::{Stream, Wire};
use crate::edge::worker::Edge;
use crate::gate::limits::{BODY_TOO_LARGE, HEAD_TOO_LARGE};
use crate::gate::pace::Pace;
use crate::gate::why::Why;
use bytes::{Bytes, BytesMut};
use h2::server::{Builder, Connection, SendResponse};
use h2::{Reason, RecvStream, SendStream};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::net::IpAddr;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;
use tokio::time::timeout;

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

/// What comes instead of a request.
enum Quiet {
    Drain,
    /// Nothing, for a while.
    Idle,
    /// The client does too much of what only costs.
    Caught(Why),
    Over,
    /// The client is gone, or is not to be waited for.
    Cut,
}

/// What the tasks of a connection's streams share.
struct Session {
    edge: Rc<Edge>,
    client: IpAddr,
    scheme: &'static str,
    /// Streams that have a task of their own.
    open: Cell<usize>,
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

async fn run(edge: Rc<Edge>, stream: Stream, first: BytesMut, client: IpAddr, scheme: &'static str) {
    let limits = edge.gate_limits();
    let vigil = Rc::new(Vigil::new(&edge, limits.h2_resets_max));
    let io = Gather::new(stream, first, Rc::clone(&vigil));
    let Some(mut connection) = begin(&edge, &io, &limits).await else { return };
    let session = Rc::new(Session { edge: Rc::clone(&edge), client, scheme, open: Cell::new(0) });
    let mut drained = pin!(edge.drained());
    let timer = RefCell::new(Patience::default());
    let (mut left, mut is_ending) = (limits.requests_per_connection_max, false);
    let mut quiet_since = clock::moment();
    loop {
        let next = poll_fn(|cx| match (connection.poll_accept(cx), vigil.caught()) {
            (_, Some(why)) => Poll::Ready(Err(Quiet::Caught(why))),
            (Poll::Ready(Some(Ok(request))), None) => Poll::Ready(Ok(request)),
            (Poll::Ready(ended), None) => {
                let is_flood = note_end(&edge, ended.and_then(std::result::Result::err));
                Poll::Ready(Err(if is_flood { Quiet::Cut } else { Quiet::Over }))
            }
            (Poll::Pending, None) => match io.poll_send(cx) {
                Poll::Ready(Err(_)) => Poll::Ready(Err(Quiet::Cut)),
                _ if is_ending => Poll::Pending,
                _ => drained.as_mut().poll(cx).map(|()| Err(Quiet::Drain)),
            },
        });
        let patience = if is_ending { LAST_WORD } else { edge.client_limits().0 };
        let next = within(patience, next, |cx, until| timer.borrow_mut().poll(cx, until)).await;
        let is_old = || clock::moment().saturating_duration_since(quiet_since) >= KEEP_ALIVE;
        match next.unwrap_or(Err(Quiet::Idle)) {
            Ok((request, respond)) => {
                quiet_since = clock::moment();
                if left == 1 {
                    is_ending = true;
                    connection.graceful_shutdown();
                }
                left = left.saturating_sub(1);
                session.answer(request, respond);
            }
            Err(Quiet::Caught(why)) => return calm(&edge, connection, &io, why).await,
            Err(Quiet::Idle) if vigil.is_head_overdue(patience) => {
                return calm(&edge, connection, &io, Why::HeadTime).await;
            }
            Err(Quiet::Cut) => return,
            Err(Quiet::Over) => return io.linger().await,
            Err(Quiet::Idle) if session.open.get() == 0 && is_ending => return io.linger().await,
            Err(Quiet::Idle) if session.open.get() > 0 || is_ending || !is_old() => {}
            Err(Quiet::Drain | Quiet::Idle) => {
                is_ending = true;
                connection.graceful_shutdown();
            }
        }
    }
}

/// Counts an end that the library made because the client did too much; whether it was that.
fn note_end(edge: &Edge, error: Option<h2::Error>) -> bool {
    let is_flood =
        error.is_some_and(|error| error.is_library() && error.reason() == Some(Reason::ENHANCE_YOUR_CALM));
    if is_flood {
        edge.refusals.add(Why::Flood);
    }
    is_flood
}

/// Ends a connection whose client does too much of what only costs (RFC 9113 §7: ENHANCE_YOUR_CALM).
async fn calm(edge: &Edge, mut connection: Connection<Gather, Bytes>, io: &Gather, why: Why) {
    edge.refusals.add(why);
    connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
    let closed = poll_fn(|cx| {
        let closed = connection.poll_closed(cx);
        let _ = io.poll_send(cx);
        closed
    });
    let _ = timeout(LAST_WORD, closed).await;
}

/// The connection, once both sides have said how they want it.
async fn begin(edge: &Edge, io: &Gather, limits: &ClientLimits) -> Option<Connection<Gather, Bytes>> {
    let (patience, head_bytes_max) = edge.client_limits();
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
    let mut handshake = pin!(builder.handshake::<_, Bytes>(io.clone()));
    let begun = poll_fn(|cx| {
        let begun = handshake.as_mut().poll(cx);
        // An error shows again where the crate meets it.
        let _ = io.poll_send(cx);
        begun
    });
    timeout(patience, begun).await.ok()?.ok()
}

impl Session {
    /// Answers a request: at once from memory, or by a task of its own.
    fn answer(self: &Rc<Self>, request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
        let (parts, body) = request.into_parts();
        let is_drawn = self.edge.sampler.draw();
        let hit = if body.is_end_stream() && !is_drawn { self.hit(&parts) } else { None };
        let Some((head, body)) = hit else {
            return self.spawn(async move |session| {
                let (edge, asker) = (&session.edge, session.edge.asker(session.client, session.scheme, "h2"));
                edge.sampler.traced(is_drawn, asker, session.exchange(&parts, body, respond)).await;
            });
        };
        self.edge.traffic.waited(Duration::ZERO);
        let Ok(mut stream) = respond.send_response(head, body.is_empty()) else { return };
        if body.is_empty() {
            return;
        }
        stream.reserve_capacity(body.len());
        if stream.capacity() >= body.len() {
            self.edge.traffic.sent(body.len());
            let _ = stream.send_data(body, true);
        } else {
            self.spawn(async move |session| {
                send_piece(&session.edge, &mut stream, body, true, &pace(&session.edge)).await;
            });
        }
    }

    fn hit(&self, parts: &Parts) -> Option<(Response<()>, Bytes)> {
        let asked = (authority(parts).ok()?, target(parts).ok().filter(|target| target.starts_with('/'))?);
        hit(&self.edge, parts, (asked.0, asked.1.as_bytes()), (self.client, self.scheme))
    }

    fn spawn(self: &Rc<Self>, work: impl AsyncFnOnce(&Self) + 'static) {
        let session = Rc::clone(self);
        session.open.set(session.open.get() + 1);
        tokio::task::spawn_local(async move {
            work(&session).await;
            session.open.set(session.open.get().saturating_sub(1));
        });
    }

    async fn exchange(&self, parts: &Parts, mut body: RecvStream, mut respond: SendResponse<Bytes>) {
        if says_empty(parts) && !body.is_end_stream() && !ends_empty(&mut body).await {
            // Longer than it says is malformed, and is not passed on (RFC 9113 §8.1.1).
            return respond.send_reset(Reason::PROTOCOL_ERROR);
        }
        let (edge, respond) = (&self.edge, Rc::new(RefCell::new(respond)));
        let is_head = parts.method == http::Method::HEAD;
        let head = match request_head(parts, body.is_end_stream()) {
            Ok(head) => head,
            Err(why) => {
                edge.refusals.add(Why::Malformed);
                return send(edge, &respond, Answer::own(400, why), is_head).await;
            }
        };
        if !is_small(edge, parts) {
            return send(edge, &respond, door::denied(edge, &HEAD_TOO_LARGE), is_head).await;
        }
        let began = clock::moment();
        let site = edge.site(&head.authority);
        let service = site.as_ref().map_or("", |site| &*site.service.name);
        access::note_request(service, &head.method, &head.target);
        let source = (head.framing != Framing::None && !body.is_end_stream()).then(|| Source::H2(body));
        let interim = Interim::H2(Rc::clone(&respond));
        let (client, scheme) = (self.client, self.scheme);
        let incoming = Incoming { head, source, client, scheme, interim, is_counted: true };
        let forwarded = tokio::select! {
            biased;
            forwarded = forward::respond(edge, incoming) => forwarded,
            _ = poll_fn(|cx| respond.borrow_mut().poll_reset(cx)) => return,
        };
        edge.traffic.waited(clock::moment().saturating_duration_since(began));
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
}

/// The size of a head as RFC 9113 §6.5.2 counts it.
pub fn head_bytes(parts: &Parts) -> usize {
    let of_fields: usize =
        parts.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum();
    of_fields + parts.uri.path_and_query().map_or(0, |target| target.as_str().len())
}

/// Whether a head is within what its service, or else any service, allows.
fn is_small(edge: &Edge, parts: &Parts) -> bool {
    let site = authority(parts).ok().and_then(|authority| edge.site(authority));
    let bytes_max = site.map(|site| site.service.settings.limits.head_bytes_max);
    head_bytes(parts) as u64 <= bytes_max.unwrap_or_else(|| edge.client_limits().1 as u64)
}

/// How fast a client has to take an answer.
fn pace(edge: &Edge) -> Cell<Pace> {
    let limits = edge.gate_limits();
    Cell::new(Pace::new(limits.client_bytes_per_s_min, limits.client_rate_window_ms))
}

fn says_empty(parts: &Parts) -> bool {
    parts.headers.get("content-length").is_some_and(|length| length.as_bytes() == b"0")
}

/// Waits for the end of a body that says it is empty; false if it is not.
async fn ends_empty(body: &mut RecvStream) -> bool {
    let end = async {
        loop {
            match body.data().await {
                None => return true,
                Some(Ok(piece)) if piece.is_empty() => {}
                Some(_) => return false,
            }
        }
    };
    timeout(WRITE_IDLE, end).await.unwrap_or(false)
}

/// The same request as HTTP/1 would have it. The `h2` crate has refused connection fields and a body that is not as long
/// as it says.
fn request_head(parts: &Parts, has_ended: bool) -> std::result::Result<RequestHead, &'static str> {
    Ok(RequestHead {
        method: Bytes::copy_from_slice(parts.method.as_str().as_bytes()),
        target: Bytes::copy_from_slice(target(parts)?.as_bytes()),
        authority: Bytes::copy_from_slice(authority(parts)?),
        fields: fields(parts),
        framing: framing(parts, has_ended)?,
        version: 2,
        is_persistent: true,
        expects_continue: false,
        upgrade: None,
    })
}

fn target(parts: &Parts) -> std::result::Result<&str, &'static str> {
    let target = parts.uri.path_and_query().map_or("", |target| target.as_str());
    let is_target = target.starts_with('/') || target == "*" && parts.method == http::Method::OPTIONS;
    if is_target && target.bytes().all(|byte| (0x21..0x7f).contains(&byte)) {
        Ok(target)
    } else {
        Err("the path is not one")
    }
}

/// `:authority`, or Host; both must say the same (RFC 9113 §8.3.1).
fn authority(parts: &Parts) -> std::result::Result<&[u8], &'static str> {
    let mut hosts = parts.headers.get_all(http::header::HOST).iter();
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
    if is_authority(authority) { Ok(authority) } else { Err(":authority is not a host") }
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

async fn send(edge: &Edge, respond: &RefCell<SendResponse<Bytes>>, mut answer: Answer, is_head: bool) {
    let has_body = !is_head && matches!(answer.body, Body::Full(_) | Body::Relay(_) | Body::Stored(_));
    let first = tokio::select! {
        biased;
        first = answer.begin(), if has_body => first,
        _ = poll_fn(|cx| respond.borrow_mut().poll_reset(cx)), if has_body => return,
        else => Ok(None),
    };
    let first = match first {
        Ok(first) => first,
        Err(Some(unsaid)) => return Box::pin(send(edge, respond, unsaid, is_head)).await,
        Err(None) => return respond.borrow_mut().send_reset(Reason::INTERNAL_ERROR),
    };
    access::note_answer(answer.status);
    let Some(response) = response_head(&answer, edge.date()) else {
        return respond.borrow_mut().send_reset(Reason::INTERNAL_ERROR);
    };
    let Ok(mut stream) = respond.borrow_mut().send_response(response, !has_body) else { return };
    let pace = pace(edge);
    match answer.body {
        Body::Full(bytes) if has_body => {
            let _ = send_piece(edge, &mut stream, bytes, true, &pace).await;
        }
        Body::Relay(relay) if has_body => {
            relay_body(edge, &mut stream, Flow::Relay(relay), first, &pace).await;
        }
        Body::Stored(body) if has_body => {
            relay_body(edge, &mut stream, Flow::Stored(body), first, &pace).await;
        }
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
async fn relay_body(
    edge: &Edge,
    stream: &mut SendStream<Bytes>,
    mut relay: Flow,
    first: First,
    pace: &Cell<Pace>,
) {
    let mut first = first.map(Ok);
    loop {
        let piece = match first.take() {
            Some(piece) => piece,
            None => tokio::select! {
                biased;
                piece = relay.next() => piece,
                _ = poll_fn(|cx| stream.poll_reset(cx)) => return,
            },
        };
        match piece {
            Ok(Some(piece)) => {
                let is_sent = match relay.is_lent() {
                    true => send_lent(edge, stream, &mut relay, piece, pace).await,
                    false => send_piece(edge, stream, piece, false, pace).await,
                };
                if !is_sent {
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

/// Sends what the client's window allows of a piece that can be had again, and gives the rest back, so that nobody's
/// memory is held while a slow client grants nothing. False if it wants no more, or grants nothing for too long.
async fn send_lent(
    edge: &Edge,
    stream: &mut SendStream<Bytes>,
    relay: &mut Flow,
    mut piece: Bytes,
    pace: &Cell<Pace>,
) -> bool {
    stream.reserve_capacity(piece.len());
    let bytes = piece.len().min(stream.capacity());
    relay.give_back(piece.len() - bytes);
    piece.truncate(bytes);
    if bytes > 0 {
        edge.traffic.sent(bytes);
        access::note_sent(bytes);
        return stream.send_data(piece, false).is_ok();
    }
    drop(piece);
    granted(edge, stream, pace).await.is_some()
}

/// How many bytes the client grants, once there are any; None if it wants no more, or grants nothing, or too little, for
/// too long.
async fn granted(edge: &Edge, stream: &mut SendStream<Bytes>, pace: &Cell<Pace>) -> Option<usize> {
    let began = clock::moment();
    let granted = timeout(slow::patience(pace, WRITE_IDLE), poll_fn(|cx| stream.poll_capacity(cx))).await;
    let waited = clock::moment().saturating_duration_since(began);
    let granted = granted.ok().map(|granted| granted?.ok());
    match granted {
        Some(Some(bytes)) if !slow::wait(pace, waited, bytes as u64) => Some(bytes),
        Some(None) => None,
        _ => {
            edge.refusals.add(Why::SlowReader);
            stream.send_reset(Reason::CANCEL);
            None
        }
    }
}

/// Sends as the client's window allows; false if the client wants no more, or is too slow.
async fn send_piece(
    edge: &Edge,
    stream: &mut SendStream<Bytes>,
    mut piece: Bytes,
    is_last: bool,
    pace: &Cell<Pace>,
) -> bool {
    while !piece.is_empty() {
        stream.reserve_capacity(piece.len());
        let Some(granted) = granted(edge, stream, pace).await else { return false };
        let part = piece.split_to(granted.min(piece.len()));
        edge.traffic.sent(part.len());
        access::note_sent(part.len());
        if stream.send_data(part, is_last && piece.is_empty()).is_err() {
            return false;
        }
    }
    true
}
