//! One try of a request at one upstream, up to the head of its answer.

use crate::cache::semantics::fields::put_number;
use crate::choose::{Reached, may_repeat};
use crate::count::Reason;
use crate::document::{Expect, ForwardedRules, Limits};
use crate::edge::body::{BodyError, Pump, PumpError};
use crate::edge::destination::{Destination, Failure};
use crate::edge::forwarded::{is_told_anew, put_lines};
use crate::edge::framing::{Framing, taken};
use crate::edge::h2;
use crate::edge::head::{HeadScan, parse_answer};
use crate::edge::message::{AnswerHead, RequestHead, media_type, phrase, value_of};
use crate::edge::wire::Wire;
use ::h2::server::SendResponse;
use bytes::Bytes;
use std::cell::RefCell;
use std::future::Future;
use std::io::{Error, ErrorKind, IoSlice};
use std::net::IpAddr;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;
use tokio::time::timeout;

/// Informational answers before the real one; more is a loop.
const INTERIM_MAX: usize = 16;

/// How long a client may take to accept one.
const INTERIM_WRITE: Duration = Duration::from_secs(5);

/// Room for a request's head; a longer one needs more.
const HEAD_BYTES: usize = 1_024;

/// Where informational answers go.
#[derive(Default)]
pub enum Interim {
    /// The client does not understand them (HTTP/1.0), or nobody waits.
    #[default]
    Nowhere,
    H1(Rc<Wire>),
    H2(Rc<RefCell<SendResponse<Bytes>>>),
}

impl Interim {
    /// Passes one on. That the client does not take it changes nothing: its real answer is still to come.
    async fn pass_on(&self, head: &AnswerHead) {
        match self {
            Self::Nowhere => {}
            Self::H1(wire) => {
                let mut bytes = Vec::with_capacity(256);
                let mut put = |parts: &[&[u8]]| parts.iter().for_each(|part| bytes.extend_from_slice(part));
                put(&[
                    b"HTTP/1.1 ",
                    head.status.to_string().as_bytes(),
                    b" ",
                    phrase(head.status).as_bytes(),
                ]);
                put(&[b"\r\n"]);
                head.fields.iter().for_each(|field| put(&[&field.name, b": ", &field.value, b"\r\n"]));
                put(&[b"\r\n"]);
                let _ = timeout(INTERIM_WRITE, wire.write_all(&mut [IoSlice::new(&bytes)])).await;
            }
            Self::H2(respond) => {
                let Some(response) = h2::interim_head(head) else { return };
                let _ = respond.borrow_mut().send_informational(response);
            }
        }
    }
}

/// What an attempt needs to know of its request.
#[derive(Clone, Copy)]
pub struct Order<'a> {
    pub head: &'a RequestHead,
    /// The head as it is sent, the same to every upstream.
    pub bytes: &'a [u8],
    pub limits: &'a Limits,
    pub expected: Option<&'a Expect>,
    pub interim: &'a Interim,
    /// For the first byte of the answer.
    pub patience: Duration,
}

/// An upstream's answer, its body not read yet.
pub struct Response {
    pub wire: Box<Wire>,
    pub head: AnswerHead,
    /// The body is small, and yet hardly comes.
    pub is_slow: bool,
    /// The body is here whole and has the digest that its head tells.
    pub is_verified: bool,
}

impl Response {
    /// Whether the body, of known length, has come already.
    pub fn is_whole_here(&self) -> bool {
        match self.head.framing {
            Framing::None => true,
            Framing::Length(bytes) => self.wire.with_unread(|unread| unread.len() as u64 >= bytes),
            Framing::Chunked | Framing::UntilClose => false,
        }
    }
}

/// How a try can end without an answer.
#[derive(Debug)]
pub enum Ended {
    Failed(Failure),
    /// The client's own body did not come; no other upstream can do better.
    Client(BodyError),
}

impl From<Failure> for Ended {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// The answer of `destination`, over a kept connection if there is one. A kept connection that the upstream closed
/// just then is no failure of the upstream: the request goes once more over a new one, if it may be repeated.
pub async fn attempt(
    order: &Order<'_>,
    destination: &Destination,
    pump: &mut Option<Box<Pump>>,
    now_ms: u64,
) -> Result<Response, Ended> {
    let is_repeatable = may_repeat(&order.head.method, Reached::Sent);
    if let Some(wire) = destination.take_idle(now_ms, is_repeatable) {
        match exchange(order, wire, pump).await {
            Err(Ended::Failed(failure))
                if is_repeatable && was_closed_before(failure.reason) && rewind(pump) => {}
            ended => return ended,
        }
    }
    let wire = Box::pin(destination.connect(order.limits, now_ms)).await?;
    exchange(order, wire, pump).await
}

/// Whether the connection ended without a byte of an answer.
fn was_closed_before(reason: Reason) -> bool {
    matches!(reason, Reason::Empty | Reason::Reset)
}

/// Makes the body ready to be sent from its start; false if it cannot.
pub fn rewind(pump: &mut Option<Box<Pump>>) -> bool {
    pump.as_mut().is_none_or(|pump| pump.rewind())
}

async fn exchange(
    order: &Order<'_>,
    wire: Box<Wire>,
    pump: &mut Option<Box<Pump>>,
) -> Result<Response, Ended> {
    let idle = Duration::from_millis(order.limits.idle_timeout_ms);
    match wire.within(idle, pin!(wire.write_all(&mut [IoSlice::new(order.bytes)]))).await {
        None => return Err(Failure::sent(Reason::Timeout).into()),
        // It may have answered before it closed: the answer decides.
        Some(Err(error)) if error.kind() != ErrorKind::BrokenPipe => {
            return Err(Failure::sent(lost(&error)).into());
        }
        Some(_) => {}
    }
    let head = first_answer(order, &wire, pump).await?;
    Ok(Response { wire, head, is_slow: false, is_verified: false })
}

/// The head of the answer, while the body goes out. The time to the first byte counts from when the upstream has the
/// whole request: a slow client is not its fault.
async fn first_answer(
    order: &Order<'_>,
    wire: &Wire,
    pump: &mut Option<Box<Pump>>,
) -> Result<AnswerHead, Ended> {
    let patience = order.patience;
    let mut answer = pin!(real_head(order, wire));
    let Some(pump) = pump.as_mut().filter(|pump| !pump.is_done()) else {
        return answer_within(wire, patience, answer).await;
    };
    let sent = tokio::select! {
        biased;
        head = &mut answer => return head.map_err(Ended::from),
        sent = Box::pin(pump.run(wire)) => sent,
    };
    match sent {
        Ok(()) => answer_within(wire, patience, answer).await,
        Err(PumpError::Client(error)) => Err(Ended::Client(error)),
        Err(PumpError::UpstreamStalled) => Err(Failure::sent(Reason::Timeout).into()),
        // It stopped reading; it may have said why.
        Err(PumpError::Upstream(error)) => {
            match answer_within(wire, patience.min(Duration::from_secs(1)), answer).await {
                Err(Ended::Failed(_)) => Err(Failure::sent(lost(&error)).into()),
                head => head,
            }
        }
    }
}

async fn answer_within(
    wire: &Wire,
    patience: Duration,
    answer: impl Future<Output = Result<AnswerHead, Failure>> + Unpin,
) -> Result<AnswerHead, Ended> {
    let head = wire.within(patience, answer).await;
    head.unwrap_or(Err(Failure::sent(Reason::Timeout))).map_err(Ended::from)
}

/// The head of the final answer; interim ones (RFC 9110 §15.2) are read over.
async fn real_head(order: &Order<'_>, wire: &Wire) -> Result<AnswerHead, Failure> {
    for _ in 0..INTERIM_MAX {
        let bytes = read_head(wire, order.limits.head_bytes_max).await?;
        let head = parse_answer(&bytes, &order.head.method).map_err(|_| Failure::sent(Reason::Protocol))?;
        match head.status {
            101 if order.head.upgrade.is_some() && head.upgrade.is_some() => return Ok(head),
            101 => break,
            100 => {}
            102..=199 => Box::pin(order.interim.pass_on(&head)).await,
            _ => return Ok(head),
        }
    }
    Err(Failure::sent(Reason::Protocol))
}

async fn read_head(wire: &Wire, bytes_max: u64) -> Result<Bytes, Failure> {
    let bytes_max = usize::try_from(bytes_max).unwrap_or(usize::MAX);
    let mut scan = HeadScan::default();
    loop {
        let found = wire.with_unread(|unread| match scan.end(unread) {
            Ok(Some(end)) if end <= bytes_max => Ok(Some(taken(unread, end))),
            Ok(None) if unread.len() <= bytes_max => Ok(None),
            _ => Err(Failure::sent(Reason::Protocol)),
        })?;
        if let Some(head) = found {
            return Ok(head);
        }
        let is_first = wire.with_unread(|unread| unread.is_empty());
        match wire.fill().await {
            Ok(0) if is_first => return Err(Failure::sent(Reason::Empty)),
            Ok(0) => return Err(Failure::sent(Reason::Truncated)),
            Ok(_) => wire.with_unread(|unread| looks_like_http(unread))?,
            Err(error) => return Err(Failure::sent(lost(&error))),
        }
    }
}

/// Garbage is told by its first bytes; its end may never come.
fn looks_like_http(unread: &[u8]) -> Result<(), Failure> {
    let begin = b"HTTP/1.";
    let length = unread.len().min(begin.len());
    if unread[..length] == begin[..length] { Ok(()) } else { Err(Failure::sent(Reason::Protocol)) }
}

/// What an error on an open connection is called.
pub fn lost(error: &Error) -> Reason {
    match error.kind() {
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::ConnectionAborted => Reason::Reset,
        ErrorKind::UnexpectedEof => Reason::Truncated,
        ErrorKind::TimedOut => Reason::Timeout,
        ErrorKind::InvalidData => Reason::Tls,
        _ => Reason::Reset,
    }
}

/// What an answer's head says about it: `Ok`, or why another upstream is to be asked.
pub fn judge(order: &Order<'_>, head: &AnswerHead) -> Reason {
    if head.status >= 500 {
        return Reason::Http5xx;
    }
    let Some(expect) = order.expected else { return Reason::Ok };
    let conditional =
        ["if-none-match", "if-modified-since", "if-match", "if-unmodified-since", "range", "if-range"];
    let method = order.head.method.as_ref();
    let is_plain = !conditional.iter().any(|name| value_of(&order.head.fields, name).is_some());
    if !is_plain || method != b"GET" && method != b"HEAD" {
        return Reason::Ok;
    }
    if head.status != expect.status {
        return Reason::Status;
    }
    let is_as_expected = fits_type(head, expect)
        && fits_length(head, expect)
        && expect.headers.iter().all(|(name, value)| fits_field(head, name, value));
    if is_as_expected { Reason::Ok } else { Reason::Content }
}

fn fits_type(head: &AnswerHead, expect: &Expect) -> bool {
    let Some(wanted) = &expect.content_type else { return true };
    let wanted = media_type(wanted.as_bytes());
    value_of(&head.fields, "content-type").is_some_and(|found| media_type(found) == wanted)
}

/// Only of what is sent as it is: a coded body has another length.
fn fits_length(head: &AnswerHead, expect: &Expect) -> bool {
    let Some(wanted) = expect.body_bytes else { return true };
    head.is_coded() || head.length.is_none_or(|found| found == wanted)
}

fn fits_field(head: &AnswerHead, name: &str, value: &str) -> bool {
    head.fields.iter().any(|field| field.is(name) && field.value.trim_ascii() == value.as_bytes())
}

/// The request's head for an upstream, with what a proxy adds (RFC 9110 §7.6.3).
pub fn head_bytes(
    head: &RequestHead,
    client: IpAddr,
    scheme: &str,
    loop_id: &str,
    rules: ForwardedRules,
) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEAD_BYTES);
    let mut put = |parts: &[&[u8]]| parts.iter().for_each(|part| bytes.extend_from_slice(part));
    put(&[&head.method, b" ", &head.target, b" HTTP/1.1\r\nhost: ", &head.authority, b"\r\n"]);
    for field in head.fields.iter().filter(|field| !field.is("cdn-loop") && !is_told_anew(field)) {
        put(&[&field.name, b": ", &field.value, b"\r\n"]);
    }
    put(&[b"cdn-loop: "]);
    values(head, "cdn-loop").for_each(|value| put(&[value, b", "]));
    put(&[loop_id.as_bytes(), b"\r\n"]);
    let version: &[u8] = match head.version {
        0 => b"1.0",
        1 => b"1.1",
        _ => b"2",
    };
    if rules.has_via {
        put(&[b"via: ", version, b" polycdn\r\n"]);
    }
    match head.framing {
        Framing::Length(length) => {
            put(&[b"content-length: "]);
            put_number(&mut bytes, length);
            bytes.extend_from_slice(b"\r\n");
        }
        Framing::Chunked => put(&[b"transfer-encoding: chunked\r\n"]),
        Framing::None | Framing::UntilClose => {}
    }
    if let Some(protocols) = &head.upgrade {
        [b"connection: upgrade\r\nupgrade: ", &protocols[..], b"\r\n"]
            .iter()
            .for_each(|part| bytes.extend_from_slice(part));
    }
    put_lines(rules, head, client, scheme, &mut bytes);
    bytes.extend_from_slice(b"\r\n");
    bytes
}

fn values<'a>(head: &'a RequestHead, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
    head.fields.iter().filter(|field| field.is(name)).map(|field| &*field.value)
}
