//! What the client gets, whichever protocol it speaks: an upstream's answer as it streams, or a short one of our own.

use crate::count::{Outcome, Reason};
use crate::edge::attempt::{Response, lost};
use crate::edge::body::{Pump, PumpError};
use crate::edge::destination::Destination;
use crate::edge::framing::{Decoder, Framing, Step};
use crate::edge::message::{Field, phrase};
use crate::edge::stored::body::StoredBody;
use crate::edge::trailer::passed_on;
use crate::edge::wire::Wire;
use crate::edge::worker::{Edge, Site};
use bytes::Bytes;
use std::rc::Rc;
use std::time::Duration;
use tokio::time::timeout;

/// A body that flows for so long is counted as good while it still flows.
const COUNT_EARLY_MS: u64 = 1_000;

pub struct Answer {
    pub status: u16,
    /// End-to-end fields, without Content-Length.
    pub fields: Vec<Field>,
    /// Content-Length, if known; also where no body follows.
    pub length: Option<u64>,
    pub body: Body,
    /// No upstream said this.
    pub is_ours: bool,
}

pub enum Body {
    None,
    Full(Bytes),
    Relay(Box<Relay>),
    Stored(Box<StoredBody>),
    /// After a 101: both sides speak another protocol from here on.
    Tunnel(Box<Wire>, Bytes),
}

impl Answer {
    /// A short answer of our own, in plain text.
    pub fn own(status: u16, why: &str) -> Self {
        let text = Bytes::from(format!("{status} {}: {why}\n", phrase(status)));
        Self {
            status,
            fields: vec![
                Field::new("content-type", Bytes::from_static(b"text/plain; charset=utf-8")),
                Field::new("cache-control", Bytes::from_static(b"no-store")),
            ],
            length: Some(text.len() as u64),
            body: Body::Full(text),
            is_ours: true,
        }
    }
}

/// A body that flows, from wherever it comes.
pub enum Flow {
    Relay(Box<Relay>),
    Stored(Box<StoredBody>),
}

impl Flow {
    /// The next piece as soon as there is one; None at the end. An error: the body is cut, and must not look whole.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Reason> {
        match self {
            Self::Relay(relay) => relay.next().await,
            Self::Stored(body) => body.next().await,
        }
    }

    /// Whether the last piece was the end.
    pub fn is_over(&self) -> bool {
        match self {
            Self::Relay(relay) => relay.is_over(),
            Self::Stored(body) => body.is_over(),
        }
    }

    /// Nothing more is wanted of it.
    pub fn finish(&mut self) {
        if let Self::Relay(relay) = self {
            relay.finish();
        }
    }

    /// What came after it and may be passed on; complete once `next` gave None.
    pub fn trailers(&self) -> Vec<Field> {
        match self {
            Self::Relay(relay) => relay.trailers(),
            Self::Stored(_) => Vec::new(),
        }
    }
}

/// Says once how an attempt, and the request with it, ended.
pub struct Report {
    pub edge: Rc<Edge>,
    pub site: Rc<Site>,
    pub provider: u16,
    pub region: u16,
    pub first_byte_ms: u32,
    /// What the answer's head was judged; a failure if it is passed on because there was no better one.
    pub verdict: Reason,
    pub began_ms: u64,
    pub is_attempt_counted: bool,
    pub is_request_counted: bool,
}

impl Report {
    fn attempt(&mut self, reason: Reason) {
        if !std::mem::replace(&mut self.is_attempt_counted, true) {
            self.edge.counts.attempt(
                &self.site.service,
                self.provider,
                self.region,
                reason,
                self.first_byte_ms,
            );
        }
    }

    /// The body came whole, or the client did not want more of it.
    fn finished(&mut self) {
        self.attempt(self.verdict);
        if !std::mem::replace(&mut self.is_request_counted, true) {
            let outcome = if self.verdict == Reason::Ok { Outcome::Ok } else { Outcome::Failed };
            self.edge.counts.served(Some(&self.site.service), self.region, outcome);
        }
    }

    fn cut(&mut self, reason: Reason) {
        // Counted as good a while ago, it is counted once more: a failure must not be lost.
        self.is_attempt_counted = false;
        self.attempt(reason);
        if !std::mem::replace(&mut self.is_request_counted, true) {
            self.edge.counts.served(Some(&self.site.service), self.region, Outcome::Failed);
        }
    }
}

impl Drop for Report {
    fn drop(&mut self) {
        self.finished();
    }
}

/// A body on its way from an upstream to the client. Whoever pulls it sets the pace.
pub struct Relay {
    wire: Option<Wire>,
    decoder: Decoder,
    destination: Rc<Destination>,
    is_persistent: bool,
    idle: Duration,
    /// The request's body, when the answer came before its end.
    pump: Option<Pump>,
    report: Report,
}

impl Relay {
    pub fn new(
        response: Response,
        destination: Rc<Destination>,
        idle: Duration,
        pump: Option<Pump>,
        report: Report,
    ) -> Self {
        let pump = pump.filter(|pump| !pump.is_done());
        Self {
            decoder: Decoder::new(response.head.framing),
            is_persistent: response.head.is_persistent && pump.is_none(),
            wire: Some(response.wire),
            destination,
            idle,
            pump,
            report,
        }
    }

    pub fn is_over(&self) -> bool {
        self.decoder.is_done()
    }

    /// What came after the body and may be passed on; complete once `next` gave None.
    pub fn trailers(&self) -> Vec<Field> {
        passed_on(self.decoder.trailers())
    }

    /// The next piece as soon as there is one; None at the end. An error: the body is cut, and must not look whole.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Reason> {
        match self.piece().await {
            Ok(Some(piece)) => {
                self.count_early();
                Ok(Some(piece))
            }
            Ok(None) => {
                self.finish();
                Ok(None)
            }
            // The client's own body broke off: nobody else is to blame.
            Err(Reason::Blind) => {
                self.wire = None;
                self.report.finished();
                Err(Reason::Blind)
            }
            Err(reason) => {
                self.wire = None;
                self.report.cut(reason);
                self.destination.health.borrow_mut().failed(self.report.edge.now_ms());
                Err(reason)
            }
        }
    }

    async fn piece(&mut self) -> Result<Option<Bytes>, Reason> {
        loop {
            let Some(wire) = &self.wire else { return Ok(None) };
            match wire.with_unread(|unread| self.decoder.decode(unread)).map_err(|_| Reason::Protocol)? {
                Step::Chunk(piece) => return Ok(Some(piece)),
                Step::End => return Ok(None),
                Step::NeedMore => {}
            }
            let filled = timeout(self.idle, fill_while_sending(wire, &mut self.pump)).await;
            match filled.map_err(|_| Reason::Stalled)? {
                Ok(0) if self.decoder.is_complete_at_close() => return Ok(None),
                Ok(0) => return Err(Reason::Truncated),
                Ok(_) => {}
                Err(reason) => return Err(reason),
            }
        }
    }

    fn count_early(&mut self) {
        let is_early = !self.report.is_attempt_counted;
        if is_early && self.report.edge.now_ms().saturating_sub(self.report.began_ms) > COUNT_EARLY_MS {
            self.report.attempt(self.report.verdict);
            self.did_well();
        }
    }

    /// Well is an answer whose body came, not one whose head did: a provider whose bodies break off is sick.
    fn did_well(&self) {
        if self.report.verdict == Reason::Ok {
            self.destination.health.borrow_mut().succeeded(self.report.edge.now_ms());
        }
    }

    /// Nothing more is wanted of the body: the connection is kept if it is clean.
    pub fn finish(&mut self) {
        if self.wire.is_some() && self.decoder.is_complete_at_close() {
            self.did_well();
        }
        if let Some(wire) = self.wire.take().filter(|_| self.decoder.is_done() && self.is_persistent) {
            self.destination.keep(wire, self.report.edge.now_ms());
        }
        self.report.finished();
    }
}

/// Reads once, while the rest of the request's body goes out.
async fn fill_while_sending(wire: &Wire, pump: &mut Option<Pump>) -> Result<usize, Reason> {
    loop {
        let Some(sending) = pump.as_mut() else {
            return wire.fill().await.map_err(|error| lost(&error));
        };
        tokio::select! {
            biased;
            read = wire.fill() => return read.map_err(|error| lost(&error)),
            sent = sending.run(wire) => match sent {
                // An upstream need not read what it does not want; its answer goes on.
                Ok(()) | Err(PumpError::Upstream(_) | PumpError::UpstreamStalled) => *pump = None,
                Err(PumpError::Client(_)) => return Err(Reason::Blind),
            },
        }
    }
}

/// An answer made of an upstream's.
pub fn relayed(
    response: Response,
    make: impl FnOnce(Response) -> Relay,
    is_head: bool,
    has_via: bool,
) -> Answer {
    let (status, length) = (response.head.status, response.head.length);
    let mut fields = response.head.fields.clone();
    if has_via {
        fields.push(Field::new("via", Bytes::from_static(b"1.1 polycdn")));
    }
    let framing = response.head.framing;
    let mut relay = make(response);
    let has_body = !relay.is_over();
    if !has_body {
        relay.finish();
    }
    let length = match framing {
        Framing::Length(bytes) => Some(bytes),
        _ if is_head || status == 304 => length,
        _ => None,
    };
    let body = if has_body { Body::Relay(Box::new(relay)) } else { Body::None };
    Answer { status, fields, length, body, is_ours: false }
}
