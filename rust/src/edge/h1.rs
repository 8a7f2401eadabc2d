//! A client's HTTP/1 connection: requests one after the other, until one side wants no more.

use crate::access;
use crate::clock;
use crate::edge::answer::{Answer, Body, First, Flow};
use crate::edge::attempt::Interim;
use crate::edge::body::{BodyError, H1Body, Source};
use crate::edge::forward::{Incoming, respond};
use crate::edge::framing::{Decoder, Framing, Step, chunk_head};
use crate::edge::h2;
use crate::edge::head::{HeadScan, Refused, look, skip_empty_lines, slots};
use crate::edge::lent::write_lent;
use crate::edge::message::RequestHead;
use crate::edge::sheet::{Shape, framing_of, put_back, sheet, write_head};
use crate::edge::slow;
use crate::edge::stored::hit::{Hit, hit};
use crate::edge::trailer::last_chunk;
use crate::edge::wire::Wire;
use crate::edge::worker::Edge;
use crate::gate::limits::{BODY_TOO_LARGE, HEAD_TOO_LARGE, TOO_MANY_FIELDS, too_large};
use crate::gate::pace::Pace;
use crate::gate::why::Why;
use bytes::{Buf, Bytes};
use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::io::{IoSlice, Result};
use std::net::IpAddr;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;
use tokio::task::yield_now;
use tokio::time::timeout;

/// How long a connection may be idle between two requests.
const KEEP_ALIVE: Duration = Duration::from_secs(60);

/// How long what has come of a TLS record may be without its rest.
const LAST_LOOK: Duration = Duration::from_secs(1);

/// How long a client may take nothing of an answer, where no service's limits apply.
const WRITE_IDLE: Duration = Duration::from_secs(30);

/// A tunnel in which nothing moves for so long is closed.
const TUNNEL_IDLE: Duration = Duration::from_secs(3_600);

/// What is read of a body that nobody wanted, to keep the connection; a longer one ends it.
const UNWANTED_BYTES_MAX: usize = 64 * 1024;

/// What a client may send ahead while it waits for an answer.
const AHEAD_BYTES_MAX: usize = 64 * 1024;

/// So much of one body goes out before other connections have their turn.
const TURN_BYTES: usize = 2 * 1024 * 1024;

/// Up to this size a head and its body become one piece: the kernel has less to do for one than for two.
const JOINED_BYTES_MAX: usize = 4 * 1024;

const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\n";

/// What comes next on a connection.
enum Next {
    Request(Box<RequestHead>),
    /// Answered from memory.
    Hit(Hit),
    Http2,
    Refused(Refused),
    Over,
}

/// A request's body, as far as the connection needs to know.
struct Coming {
    decoder: Rc<RefCell<Decoder>>,
    owes_continue: Rc<Cell<bool>>,
}

struct Connection {
    edge: Rc<Edge>,
    wire: Rc<Wire>,
    client: IpAddr,
    scheme: &'static str,
    /// The request that was read last gets a line in the access log.
    is_drawn: Cell<bool>,
    /// Requests that may still come.
    left: Cell<u64>,
    /// How fast the client takes its answers.
    pace: Cell<Pace>,
}

/// Serves a connection to its end. A client without TLS may begin with HTTP/2 at once (RFC 9113 §3.3).
pub async fn serve(edge: Rc<Edge>, wire: Wire, client: IpAddr, scheme: &'static str) {
    let is_drawn = Cell::new(false);
    let limits = edge.gate_limits();
    let left = Cell::new(match limits.requests_per_connection_max {
        0 => u64::MAX,
        requests => requests,
    });
    let pace = Cell::new(Pace::new(limits.client_bytes_per_s_min, limits.client_rate_window_ms));
    let connection = Connection { edge, wire: Rc::new(wire), client, scheme, is_drawn, left, pace };
    let mut is_first = true;
    loop {
        let next = connection.next(is_first).await;
        is_first = false;
        match next {
            Next::Over => return,
            Next::Http2 => {
                let Connection { edge, wire, client, scheme, .. } = connection;
                let Ok(wire) = Rc::try_unwrap(wire) else { return };
                return Box::pin(h2::serve_begun(edge, wire, client, scheme)).await;
            }
            // In a box as all that is rare: thousands of idle connections would reserve the room for it.
            Next::Refused(refused) => return Box::pin(connection.refuse(refused)).await,
            Next::Hit(hit) => {
                if !connection.send_hit(hit).await {
                    return;
                }
            }
            Next::Request(head) => {
                let asker = connection.edge.asker(client, scheme, "h1");
                let is_drawn = connection.is_drawn.replace(false);
                let request = Box::pin(connection.request(head));
                if !connection.edge.sampler.traced(is_drawn, asker, request).await {
                    return;
                }
            }
        }
    }
}

impl Connection {
    /// The next head. The time for it begins with its first byte.
    async fn next(&self, is_first: bool) -> Next {
        let (patience, bytes_max) = self.edge.client_limits();
        if !self.has_more(if is_first { patience } else { KEEP_ALIVE }).await {
            return Next::Over;
        }
        if let Some(next) = self.head_at_once(&mut HeadScan::default(), bytes_max, is_first) {
            return next;
        }
        match timeout(patience, self.head(bytes_max, is_first)).await {
            Ok(next) => next,
            Err(_) if self.wire.with_unread(|unread| unread.is_empty()) => Next::Over,
            Err(_) => Next::Refused(Refused { status: 408, why: "the head took too long" }),
        }
    }

    /// Waits for the first byte of a request; false if none comes in time, or the worker is to finish.
    async fn has_more(&self, patience: Duration) -> bool {
        if self.wire.with_unread(|unread| !unread.is_empty()) {
            return true;
        }
        let mut drained = pin!(self.edge.idle_is_over());
        let first = poll_fn(|cx| match self.wire.poll_fill(cx) {
            Poll::Ready(filled) => Poll::Ready(Some(matches!(filled, Ok(1..)))),
            Poll::Pending => drained.as_mut().poll(cx).map(|()| None),
        });
        match self.wire.within(patience, first).await.flatten() {
            Some(has_more) => has_more,
            None => Box::pin(self.has_more_after_all()).await,
        }
    }

    /// A request that reached this machine before its connection was given up is answered.
    async fn has_more_after_all(&self) -> bool {
        if self.wire.has_arrived() && matches!(timeout(LAST_LOOK, self.wire.fill()).await, Ok(Ok(1..))) {
            return true;
        }
        self.wire.close_gently().await;
        false
    }

    async fn head(&self, bytes_max: usize, is_first: bool) -> Next {
        let mut scan = HeadScan::default();
        loop {
            if let Some(next) = self.head_at_once(&mut scan, bytes_max, is_first) {
                return next;
            }
            if !matches!(self.wire.fill().await, Ok(1..)) {
                return Next::Over;
            }
        }
    }

    /// What the bytes that are here make; None: more are needed.
    fn head_at_once(&self, scan: &mut HeadScan, bytes_max: usize, is_first: bool) -> Option<Next> {
        self.wire.with_unread(|unread| {
            skip_empty_lines(unread);
            if is_first && unread.starts_with(HTTP2_PREFACE) {
                return Some(Next::Http2);
            }
            match scan.end(unread) {
                Err(broken) => Some(Next::Refused(Refused { status: 400, why: broken.0 })),
                Ok(Some(end)) if end <= bytes_max => {
                    let next = self.hit_or_request(&unread[..end]);
                    unread.advance(end);
                    Some(next)
                }
                Ok(None) if unread.len() <= bytes_max => None,
                Ok(Some(_)) => Some(Next::Refused(HEAD_TOO_LARGE.into())),
                Ok(None) => Some(Next::Refused(too_large(unread).into())),
            }
        })
    }

    fn hit_or_request(&self, head: &[u8]) -> Next {
        let mut room = slots();
        let seen = match look(head, &mut room) {
            Ok(seen) => seen,
            Err(refused) => return Next::Refused(refused),
        };
        self.left.set(self.left.get().saturating_sub(1));
        let (asker, may_go_on) = ((self.client, self.scheme), self.left.get() > 0);
        self.is_drawn.set(self.edge.sampler.draw());
        if !self.is_drawn.get()
            && let Some(hit) = hit(&self.edge, &seen, head.len(), asker, may_go_on, sheet)
        {
            return Next::Hit(hit);
        }
        let limits = self.edge.site(seen.authority()).map(|site| site.service.settings.limits.head_bytes_max);
        match limits {
            Some(bytes_max) if head.len() as u64 > bytes_max => Next::Refused(HEAD_TOO_LARGE.into()),
            _ => Next::Request(Box::new(seen.owned(head))),
        }
    }

    /// Writes an answer from memory; whether another request may follow.
    async fn send_hit(&self, hit: Hit) -> bool {
        let Hit { mut head, body, is_persistent, idle } = hit;
        self.edge.traffic.waited(Duration::ZERO);
        let is_sent = if body.len() <= JOINED_BYTES_MAX {
            head.extend_from_slice(&body);
            self.write_slices(&mut [IoSlice::new(&head)], idle).await.is_ok()
        } else {
            self.write(&[&head, &body], idle).await.is_ok()
        };
        put_back(head);
        if is_sent && !is_persistent {
            self.wire.close_gently().await;
        }
        is_sent && is_persistent
    }

    /// Answers one request; whether another may follow.
    async fn request(&self, head: Box<RequestHead>) -> bool {
        let site = self.edge.site(&head.authority);
        let service = site.as_ref().map_or("", |site| &*site.service.name);
        access::note_request(service, &head.method, &head.target);
        let limits = site.map(|site| Duration::from_millis(site.service.settings.limits.idle_timeout_ms));
        let shape = Shape {
            is_head: head.is_head(),
            version: head.version,
            is_persistent: head.is_persistent && self.left.get() > 0,
            idle: limits.unwrap_or(WRITE_IDLE),
        };
        self.answer(head, shape).await
    }

    async fn answer(&self, head: Box<RequestHead>, mut shape: Shape) -> bool {
        let coming = (head.framing != Framing::None).then(|| Coming {
            decoder: Rc::new(RefCell::new(Decoder::new(head.framing))),
            owes_continue: Rc::new(Cell::new(head.expects_continue)),
        });
        let has_body = coming.is_some();
        let body = |coming: &Coming| {
            let (decoder, owes_continue) = (Rc::clone(&coming.decoder), Rc::clone(&coming.owes_continue));
            Source::H1(H1Body::new(Rc::clone(&self.wire), decoder, owes_continue))
        };
        let source = coming.as_ref().map(body);
        let interim = match shape.version {
            0 => Interim::Nowhere,
            _ => Interim::H1(Rc::clone(&self.wire)),
        };
        let (client, scheme, began) = (self.client, self.scheme, clock::moment());
        let incoming = Incoming { head: *head, source, client, scheme, interim, is_counted: true };
        let forwarded = tokio::select! {
            biased;
            forwarded = respond(&self.edge, incoming) => forwarded,
            () = self.left(), if !has_body => return false,
        };
        let answer = match forwarded {
            Ok(answer) => answer,
            Err(BodyError::Gone) => return false,
            Err(BodyError::Stalled) => {
                Box::pin(self.close_with(Answer::own(408, "the body took too long"))).await;
                return false;
            }
            Err(BodyError::TooLarge) => {
                Box::pin(self.close_with(Answer::own(BODY_TOO_LARGE.status, BODY_TOO_LARGE.text))).await;
                return false;
            }
            Err(BodyError::Broken(why)) => {
                Box::pin(self.refuse(Refused { status: 400, why })).await;
                return false;
            }
        };
        self.edge.traffic.waited(clock::moment().saturating_duration_since(began));
        // A client that still waits to be told to go on may send its body, or the next request: nobody can know.
        let is_settled =
            |coming: &Coming| coming.decoder.borrow().is_done() || !coming.owes_continue.replace(false);
        shape.is_persistent &= coming.as_ref().is_none_or(is_settled) && !self.edge.is_draining();
        if !self.send(answer, &shape).await || !shape.is_persistent {
            return false;
        }
        match coming {
            Some(coming) => self.skip_rest(&coming.decoder).await,
            None => true,
        }
    }

    /// Returns when the client is surely gone. One that only says that it sends no more may still want its answer.
    async fn left(&self) {
        while self.wire.with_unread(|unread| unread.len()) < AHEAD_BYTES_MAX {
            match self.wire.fill().await {
                Err(_) => return,
                Ok(0) => break,
                Ok(_) => {}
            }
        }
        std::future::pending::<()>().await;
    }

    /// Reads over what is left of a body that nobody wanted; false if it is too much.
    async fn skip_rest(&self, decoder: &RefCell<Decoder>) -> bool {
        let skip = async {
            let mut skipped = 0;
            while skipped <= UNWANTED_BYTES_MAX {
                match self.wire.with_unread(|unread| decoder.borrow_mut().decode(unread)) {
                    Ok(Step::End) => return true,
                    Ok(Step::Chunk(piece)) => skipped += piece.len(),
                    Ok(Step::NeedMore) if matches!(self.wire.fill().await, Ok(1..)) => {}
                    _ => return false,
                }
            }
            false
        };
        if decoder.borrow().is_done() {
            return true;
        }
        let is_clean = timeout(Duration::from_secs(1), skip).await.unwrap_or(false);
        if !is_clean {
            self.wire.close_gently().await;
        }
        is_clean
    }

    /// A refusal is the last answer of a connection: what follows in it could be anything.
    async fn refuse(&self, refused: Refused) {
        let is_by_fields = refused == TOO_MANY_FIELDS.into();
        let why = if is_by_fields { Why::HeadFields } else { Why::of_status(refused.status) };
        self.edge.refusals.add(why);
        self.close_with(Answer::own(refused.status, refused.why)).await;
    }

    async fn close_with(&self, answer: Answer) {
        let shape = Shape { is_head: false, version: 1, is_persistent: false, idle: WRITE_IDLE };
        self.send(answer, &shape).await;
    }

    /// Writes an answer; false if the connection is over: cut, tunnelled, or closed because the answer says so.
    async fn send(&self, mut answer: Answer, shape: &Shape) -> bool {
        let first = match answer.begin().await {
            Ok(first) => first,
            Err(Some(unsaid)) => return Box::pin(self.send(unsaid, shape)).await,
            Err(None) => return false,
        };
        access::note_answer(answer.status);
        let (framing, is_persistent) = framing_of(&answer, shape);
        let mut head = sheet();
        write_head(&answer, shape, framing, is_persistent, &self.edge.date(), &mut head);
        let is_whole = match answer.body {
            Body::None => self.write(&[&head], shape.idle).await.is_ok(),
            Body::Full(_) if shape.is_head => self.write(&[&head], shape.idle).await.is_ok(),
            Body::Full(bytes) => self.write(&[&head, &bytes], shape.idle).await.is_ok(),
            Body::Relay(relay) => self.relay(Flow::Relay(relay), first, &head, framing, shape.idle).await,
            Body::Stored(body) => self.relay(Flow::Stored(body), first, &head, framing, shape.idle).await,
            Body::Tunnel(upstream, _) => {
                if self.write(&[&head], shape.idle).await.is_ok() {
                    self.tunnel(&upstream).await;
                }
                return false;
            }
        };
        put_back(head);
        if is_whole && !is_persistent {
            self.wire.close_gently().await;
        }
        is_whole && is_persistent
    }

    /// Passes a body on as it comes. A body that breaks off ends the connection, so that it cannot look whole.
    async fn relay(
        &self,
        mut relay: Flow,
        first: First,
        head: &[u8],
        framing: Framing,
        idle: Duration,
    ) -> bool {
        let (mut head, mut first) = (head, first.map(Ok));
        if first.is_none() {
            if self.write(&[head], idle).await.is_err() {
                return false;
            }
            head = &[];
        }
        let mut turn_bytes = 0;
        loop {
            let piece = match first.take() {
                Some(piece) => piece,
                None => relay.next().await,
            };
            turn_bytes += piece.as_ref().map_or(0, |piece| piece.as_ref().map_or(0, Bytes::len));
            if turn_bytes > TURN_BYTES {
                // A client that takes all at once would keep the worker to itself.
                turn_bytes = 0;
                yield_now().await;
            }
            let piece = match piece {
                Ok(Some(piece)) if relay.is_lent() && framing != Framing::Chunked => {
                    let measure = (&self.pace, &*self.edge.refusals);
                    let written = write_lent(&self.wire, &mut relay, head, piece, idle, measure).await;
                    let Ok(rest) = written else { return false };
                    head = rest;
                    if relay.is_over() {
                        return true;
                    }
                    continue;
                }
                piece => piece,
            };
            let written = match &piece {
                Ok(Some(piece)) => self.write_piece(head, piece, framing, idle).await,
                Ok(None) if framing == Framing::Chunked => {
                    self.write(&[head, &last_chunk(&relay.trailers())], idle).await
                }
                Ok(None) => self.write(&[head], idle).await,
                Err(_) => {
                    if framing == Framing::UntilClose {
                        self.wire.reset_when_dropped();
                    }
                    return false;
                }
            };
            head = &[];
            if written.is_err() {
                return false;
            }
            if relay.is_over() && framing != Framing::Chunked {
                relay.finish();
                return true;
            }
            if matches!(piece, Ok(None)) {
                return true;
            }
        }
    }

    async fn write_piece(&self, head: &[u8], piece: &[u8], framing: Framing, idle: Duration) -> Result<()> {
        if framing != Framing::Chunked {
            return self.write(&[head, piece], idle).await;
        }
        let (size, length) = chunk_head(piece.len());
        self.write(&[head, &size[..length], piece, b"\r\n"], idle).await
    }

    /// Writes all parts; an error too if the client takes nothing for as long as `idle`. Little is joined first.
    async fn write(&self, parts: &[&[u8]], idle: Duration) -> Result<()> {
        let bytes = parts.iter().map(|part| part.len()).sum::<usize>();
        if bytes <= JOINED_BYTES_MAX && parts.len() > 1 {
            let mut joined = sheet();
            parts.iter().for_each(|part| joined.extend_from_slice(part));
            let written = self.write_slices(&mut [IoSlice::new(&joined)], idle).await;
            put_back(joined);
            return written;
        }
        let mut slices = [IoSlice::new(&[]); 4];
        for (slice, part) in slices.iter_mut().zip(parts) {
            *slice = IoSlice::new(part);
        }
        self.write_slices(&mut slices, idle).await
    }

    async fn write_slices(&self, slices: &mut [IoSlice<'_>], idle: Duration) -> Result<()> {
        let bytes = slices.iter().map(|slice| slice.len()).sum();
        let write = self.wire.write_all(slices);
        slow::finish(&self.wire, write, idle, &self.pace, &self.edge.refusals).await?;
        self.edge.traffic.sent(bytes);
        access::note_sent(bytes);
        Ok(())
    }

    /// Bytes both ways until either side ends or nothing moves.
    async fn tunnel(&self, upstream: &Wire) {
        tokio::select! {
            () = pass_on(&self.wire, upstream) => {}
            () = pass_on(upstream, &self.wire) => {}
        }
        let _ = timeout(Duration::from_secs(1), async {
            let _ = self.wire.shutdown().await;
            let _ = upstream.shutdown().await;
        })
        .await;
    }
}

async fn pass_on(from: &Wire, to: &Wire) {
    loop {
        let bytes = from.with_unread(|unread| unread.split().freeze());
        if !bytes.is_empty() {
            match timeout(TUNNEL_IDLE, to.write_all(&mut [IoSlice::new(&bytes)])).await {
                Ok(Ok(())) => {}
                _ => return,
            }
        }
        if !matches!(timeout(TUNNEL_IDLE, from.fill()).await, Ok(Ok(1..))) {
            return;
        }
    }
}
