//! What the client gets, whichever protocol it speaks: an upstream's answer as it streams, or a short one of our own.

use crate::count::Reason;
use crate::edge::attempt::Response;
use crate::edge::framing::Framing;
use crate::edge::message::{Field, phrase};
use crate::edge::relay::Relay;
use crate::edge::stored::body::StoredBody;
use crate::edge::wire::Wire;
use bytes::Bytes;

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

/// The first piece of a body (None: its end), if the head goes out with it and not alone.
pub type First = Option<Option<Bytes>>;

impl Answer {
    /// What goes out with the head. An error if the body broke off before that: what goes out in its place, or None where
    /// nothing does, since the client itself broke off.
    pub async fn begin(&mut self) -> Result<First, Option<Answer>> {
        let mut flow = match std::mem::replace(&mut self.body, Body::None) {
            Body::Relay(relay) => Flow::Relay(relay),
            Body::Stored(stored) => Flow::Stored(stored),
            other => {
                self.body = other;
                return Ok(None);
            }
        };
        let first = flow.first().await.transpose().map_err(|reason| flow.unsaid(reason))?;
        self.body = match flow {
            Flow::Relay(relay) => Body::Relay(relay),
            Flow::Stored(stored) => Body::Stored(stored),
        };
        Ok(first)
    }
}

/// A body that flows, from wherever it comes.
pub enum Flow {
    Relay(Box<Relay>),
    Stored(Box<StoredBody>),
}

impl Flow {
    /// What is first, where the head can wait for it: it is here already, or nothing can go out before it is known whose
    /// it is. None: the head goes alone.
    async fn first(&mut self) -> Option<Result<Option<Bytes>, Reason>> {
        let here = tokio::select! {
            biased;
            piece = self.next() => Some(piece),
            () = std::future::ready(()) => None,
        };
        match here {
            None if self.is_undecided() => Some(self.next().await),
            here => here,
        }
    }

    fn is_undecided(&self) -> bool {
        match self {
            Self::Relay(relay) => relay.is_undecided(),
            Self::Stored(body) => body.is_undecided(),
        }
    }

    /// See `Answer::begin`.
    fn unsaid(&self, reason: Reason) -> Option<Answer> {
        match self {
            Self::Relay(relay) => relay.unsaid(reason),
            Self::Stored(body) => body.unsaid(reason),
        }
    }

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

    /// Whether what is not used of the last piece can be given back, to be had again later: then it is not to be held
    /// while the client takes nothing.
    pub fn is_lent(&self) -> bool {
        matches!(self, Self::Stored(body) if body.is_lent())
    }

    /// Takes back the last `bytes` of a lent piece.
    pub fn give_back(&mut self, bytes: usize) {
        if let Self::Stored(body) = self {
            body.give_back(bytes as u64);
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

/// An answer made of an upstream's.
pub fn relayed(
    mut response: Response,
    make: impl FnOnce(Response) -> Relay,
    is_head: bool,
    has_via: bool,
) -> Answer {
    let (status, length) = (response.head.status, response.head.length);
    let mut fields = std::mem::take(&mut response.head.fields);
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
