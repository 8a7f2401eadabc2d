//! The gate at work: what all workers of an edge share of it, and what a connection and a request are asked.
//!
//! The rules are those of `gate`. Here they meet clocks, counters and answers.

use crate::document::AccessDocument;
use crate::edge::answer::Answer;
use crate::edge::forward::Incoming;
use crate::edge::framing::Framing;
use crate::edge::message::{Field, phrase};
use crate::edge::wire::{Stream, Wire};
use crate::edge::worker::{Edge, Site};
use crate::error::Refusal;
use crate::gate::access::Access;
use crate::gate::bucket::Buckets;
use crate::gate::crowd::{Crowd, Seat};
use crate::gate::limits::{Sizes, check};
use crate::gate::prefix::Prefix;
use crate::gate::signing::nonces::Nonces;
use crate::gate::signing::place::without_cookie;
use crate::gate::signing::{Signed, Signing};
use crate::gate::why::{Denial, Refusals, Why, tell};
use crate::metrics::MetricsText;
use bytes::Bytes;
use std::cell::Cell;
use std::io::IoSlice;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use tokio::net::TcpStream;

/// Connections of one worker that are told at once why they are not let in.
const TURNED_AWAY_MAX: usize = 128;

const LISTENER_DENIED: Denial = Denial::new(Why::ListenerDenied, 403, "this address may not connect");
const FULL: Denial =
    Denial { retry_after_s: 1, ..Denial::new(Why::Connections, 503, "too many connections") };
const CROWDED: Denial =
    Denial { retry_after_s: 1, ..Denial::new(Why::PrefixConnections, 429, "too many connections") };
const DENIED: Denial = Denial::new(Why::Denied, 403, "this address is not let in");
const TOO_MANY: Denial = Denial::new(Why::PrefixRequests, 429, "too many requests");
const FILLS: Denial =
    Denial { retry_after_s: 1, ..Denial::new(Why::Fills, 503, "too much is being fetched for this service") };

/// What all workers share.
pub struct Doors {
    /// Made when the first service limits requests.
    buckets: LazyLock<Buckets>,
    crowd: Arc<Crowd>,
    nonces: Nonces,
    /// Who may connect at all; None: everybody.
    access: Option<Access>,
    workers: Mutex<Vec<Arc<Refusals>>>,
}

impl Doors {
    pub fn new(access: Option<&AccessDocument>) -> Result<Self, Refusal> {
        Ok(Self {
            buckets: LazyLock::new(Buckets::default),
            crowd: Arc::default(),
            nonces: Nonces::default(),
            access: access.map(Access::new).transpose()?,
            workers: Mutex::default(),
        })
    }

    /// A place to count for one more worker.
    pub fn new_refusals(&self) -> Arc<Refusals> {
        let refusals = Arc::<Refusals>::default();
        self.workers.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&refusals));
        refusals
    }

    pub fn tell(&self, text: &mut MetricsText) {
        tell(&self.workers.lock().unwrap_or_else(PoisonError::into_inner), text);
    }
}

/// What a connection that was let in holds on to.
pub struct Ticket {
    _seat: Option<Seat>,
}

/// Lets a connection in; else why not, which is counted.
pub fn connect(edge: &Edge, client: IpAddr) -> Result<Ticket, Denial> {
    admit(edge, client).inspect_err(|denial| edge.refusals.add(denial.why))
}

/// Tells a client without TLS why it is not let in, and drops its connection. Of many at once, most are dropped without a
/// word: they are what the limit is there for.
pub fn turn_away(edge: &Rc<Edge>, stream: TcpStream, denial: &Denial) {
    if edge.turned_away.get() >= TURNED_AWAY_MAX {
        return;
    }
    edge.turned_away.set(edge.turned_away.get() + 1);
    let (edge, text) = (Rc::clone(edge), written(denial));
    tokio::task::spawn_local(async move {
        let wire = Wire::new(Stream::Plain(stream));
        let write = wire.write_all(&mut [IoSlice::new(text.as_bytes())]).await;
        if write.is_ok() {
            wire.close_gently().await;
        }
        edge.turned_away.set(edge.turned_away.get().saturating_sub(1));
    });
}

fn admit(edge: &Edge, client: IpAddr) -> Result<Ticket, Denial> {
    let doors = edge.doors();
    if doors.access.as_ref().is_some_and(|access| !access.lets_in(client)) {
        return Err(LISTENER_DENIED);
    }
    let limits = edge.gate_limits();
    if limits.connections_max > 0 && edge.open_connections() as u64 >= limits.connections_max {
        return Err(FULL);
    }
    let seats_max = limits.connections_per_prefix_max;
    if seats_max == 0 {
        return Ok(Ticket { _seat: None });
    }
    let seat = doors.crowd.enter(Prefix::of(client), seats_max).ok_or(CROWDED)?;
    Ok(Ticket { _seat: Some(seat) })
}

/// A whole HTTP/1 answer, for a connection that nobody reads.
fn written(denial: &Denial) -> String {
    let (status, phrase) = (denial.status, phrase(denial.status));
    let text = format!("{status} {phrase}: {}\n", denial.text);
    let retry = match denial.retry_after_s {
        0 => String::new(),
        seconds => format!("retry-after: {seconds}\r\n"),
    };
    let length = text.len();
    format!(
        "HTTP/1.1 {status} {phrase}\r\ncontent-type: text/plain; charset=utf-8\r\ncache-control: no-store\r\n\
         {retry}content-length: {length}\r\nconnection: close\r\n\r\n{text}"
    )
}

/// The answer that tells a client why it is not let in; counted.
pub fn denied(edge: &Edge, denial: &Denial) -> Answer {
    edge.refusals.add(denial.why);
    let mut answer = Answer::own(denial.status, denial.text);
    if denial.retry_after_s > 0 {
        answer.fields.push(Field::new("retry-after", denial.retry_after_s.to_string()));
    }
    answer
}

/// Whether a request without a body can be answered on the short way: nothing of it has to be judged at length.
pub fn is_short(site: &Site, client: IpAddr, uri_bytes: usize, head_fields: usize) -> bool {
    let gate = &site.prepared.gate;
    let is_let_in = gate.access.as_ref().is_none_or(|access| access.lets_in(client));
    gate.signing.is_none()
        && is_let_in
        && check(&gate.limits, Sizes { uri_bytes, head_fields, body_bytes: 0 }).is_ok()
}

/// Takes a token out of the client's bucket; where none is left, after how many seconds to come back.
pub fn take(edge: &Edge, site: &Site, client: IpAddr) -> Result<(), u64> {
    let Some(rate) = site.prepared.gate.rate else { return Ok(()) };
    let who = (Prefix::of(client), &site.service.name);
    let taken = edge.doors().buckets.take(&who, rate, edge.now_ms());
    taken.map_err(|wait_ms| wait_ms.div_ceil(1_000))
}

/// Lets a request in, before anything of its body is read: without its token, and with the cookie that its answer gets.
pub fn enter(edge: &Edge, site: &Site, incoming: &mut Incoming) -> Result<Option<String>, Denial> {
    let gate = &site.prepared.gate;
    if gate.access.as_ref().is_some_and(|access| !access.lets_in(incoming.client)) {
        return Err(DENIED);
    }
    let head = &incoming.head;
    let body_bytes = if let Framing::Length(bytes) = head.framing { bytes } else { 0 };
    let (uri_bytes, head_fields) = (head.target.len(), head.fields.len());
    check(&gate.limits, Sizes { uri_bytes, head_fields, body_bytes })?;
    take(edge, site, incoming.client).map_err(|retry_after_s| Denial { retry_after_s, ..TOO_MANY })?;
    match &gate.signing {
        Some(signing) => sign(edge, site, signing, incoming),
        None => Ok(None),
    }
}

fn sign(
    edge: &Edge,
    site: &Site,
    signing: &Signing,
    incoming: &mut Incoming,
) -> Result<Option<String>, Denial> {
    let head = &mut incoming.head;
    let cookies: Vec<&[u8]> =
        head.fields.iter().filter(|field| field.is("cookie")).map(|field| &field.value[..]).collect();
    let signed = Signed {
        service: &site.service.name,
        scheme: incoming.scheme,
        authority: &head.authority,
        target: &head.target,
        cookies: &cookies,
    };
    let pass = signing.judge(&signed, edge.now_ms() / 1_000, &edge.doors().nonces)?;
    head.target = Bytes::from(pass.target);
    head.fields.retain_mut(|field| {
        if !field.is("cookie") {
            return true;
        }
        let rest = without_cookie(&field.value, &signing.attribute);
        let is_left = rest.is_some();
        field.value = Bytes::from(rest.unwrap_or_default());
        is_left
    });
    Ok(pass.cookie)
}

/// One fetch for the cache, for as long as it is held.
pub struct FillSeat(Rc<Cell<u64>>);

impl FillSeat {
    /// None: the service fetches as much as it may.
    pub fn take(site: &Site) -> Result<Self, Denial> {
        let most = site.prepared.gate.limits.fills_max;
        if most > 0 && site.fills.get() >= most {
            return Err(FILLS);
        }
        Ok(Self::take_anyway(site))
    }

    /// For what is under way and cannot be refused any more: the blocks of a body whose head went out.
    pub fn take_anyway(site: &Site) -> Self {
        site.fills.set(site.fills.get() + 1);
        Self(Rc::clone(&site.fills))
    }
}

impl Drop for FillSeat {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}
