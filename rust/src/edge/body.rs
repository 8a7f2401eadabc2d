//! The body of a client's request on its way to an upstream, kept for another attempt while it is small.

use crate::edge::framing::{Decoder, Framing, Step, chunk_head};
use crate::edge::message::Field;
use crate::edge::meter::Meter;
use crate::edge::trailer::{last_chunk, passed_on};
use crate::edge::wire::Wire;
use bytes::{Buf, Bytes, BytesMut};
use std::cell::{Cell, RefCell};
use std::io;
use std::io::IoSlice;
use std::rc::Rc;
use std::time::Duration;
use tokio::time::timeout;

/// Why the rest of a request's body will not come; never an upstream's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyError {
    Broken(&'static str),
    Stalled,
    TooLarge,
    Gone,
}

/// Where a request's body comes from.
pub enum Source {
    H1(H1Body),
    H2(h2::RecvStream),
}

impl Source {
    /// The next piece, None at the end. Cancelling loses nothing.
    async fn next(&mut self) -> Result<Option<Bytes>, BodyError> {
        match self {
            Self::H1(body) => body.next().await,
            Self::H2(stream) => match stream.data().await {
                Some(Ok(piece)) => {
                    let _ = stream.flow_control().release_capacity(piece.len());
                    Ok(Some(piece))
                }
                Some(Err(_)) => Err(BodyError::Gone),
                None => Ok(None),
            },
        }
    }
}

impl Source {
    /// What came after the body and may be passed on; asked once `next` gave None.
    async fn trailers(&mut self) -> Vec<Field> {
        match self {
            Self::H1(body) => passed_on(body.decoder.borrow().trailers()),
            Self::H2(stream) => {
                let Ok(Some(trailers)) = stream.trailers().await else { return Vec::new() };
                let mut lines = Vec::new();
                for (name, value) in &trailers {
                    [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"]
                        .iter()
                        .for_each(|part| lines.extend_from_slice(part));
                }
                passed_on(&lines)
            }
        }
    }
}

/// A body that is read from an HTTP/1 connection, which asks for it with `100 Continue` if the client waits for that.
pub struct H1Body {
    wire: Rc<Wire>,
    decoder: Rc<RefCell<Decoder>>,
    /// True until the client has been told to go on, or answered.
    owes_continue: Rc<Cell<bool>>,
}

impl H1Body {
    /// `decoder` is shared with the connection, which needs to know whether the body was read to its end.
    pub fn new(wire: Rc<Wire>, decoder: Rc<RefCell<Decoder>>, owes_continue: Rc<Cell<bool>>) -> Self {
        Self { wire, decoder, owes_continue }
    }

    async fn next(&mut self) -> Result<Option<Bytes>, BodyError> {
        if self.owes_continue.replace(false) && self.wire.with_unread(|unread| unread.is_empty()) {
            let line = b"HTTP/1.1 100 Continue\r\n\r\n";
            self.wire.write_all(&mut [IoSlice::new(line)]).await.map_err(|_| BodyError::Gone)?;
        }
        loop {
            let step = self.wire.with_unread(|unread| self.decoder.borrow_mut().decode(unread));
            match step.map_err(|broken| BodyError::Broken(broken.0))? {
                Step::Chunk(piece) => return Ok(Some(piece)),
                Step::End => return Ok(None),
                Step::NeedMore => match self.wire.fill().await {
                    Ok(0) | Err(_) => return Err(BodyError::Gone),
                    Ok(_) => {}
                },
            }
        }
    }
}

/// Why a body did not get through.
#[derive(Debug)]
pub enum PumpError {
    Client(BodyError),
    Upstream(io::Error),
    /// The upstream took nothing for as long as `idle`.
    UpstreamStalled,
}

/// Sends a request's body to an upstream; can begin again from the start while all of it was kept.
pub struct Pump {
    source: Source,
    meter: Meter,
    framing: Framing,
    idle: Duration,
    /// What was read so far, if it is still all of it.
    kept: Option<Vec<Bytes>>,
    room_bytes: u64,
    /// How many of `kept` this attempt has sent, or has in `pending`.
    sent: usize,
    pending: BytesMut,
    /// Of a body with a length: what is still to come from the client.
    left: u64,
    has_ended: bool,
    is_done: bool,
    /// Of a chunked body that has ended.
    trailers: Option<Vec<Field>>,
}

impl Pump {
    /// `keep_bytes` is the most that is kept for another attempt; a body that says that it is longer is not kept at all.
    pub fn new(source: Source, meter: Meter, framing: Framing, keep_bytes: u64, idle: Duration) -> Self {
        let left = if let Framing::Length(bytes) = framing { bytes } else { 0 };
        Self {
            source,
            meter,
            framing,
            idle,
            kept: (left <= keep_bytes).then(Vec::new),
            room_bytes: keep_bytes,
            sent: 0,
            pending: BytesMut::new(),
            left,
            has_ended: false,
            is_done: false,
            trailers: None,
        }
    }

    /// All of the body, and its framing's end, was given to the upstream.
    pub fn is_done(&self) -> bool {
        self.is_done
    }

    /// Begins again for another upstream; false if something of the body is no longer here.
    pub fn rewind(&mut self) -> bool {
        self.sent = 0;
        self.pending.clear();
        self.is_done = false;
        self.kept.is_some()
    }

    /// Whether another attempt could have the whole body.
    pub fn is_replayable(&self) -> bool {
        self.kept.is_some()
    }

    /// Sends until the body has ended. Cancelling loses nothing: the next call goes on.
    pub async fn run(&mut self, wire: &Wire) -> Result<(), PumpError> {
        loop {
            while self.pending.has_remaining() {
                let write = timeout(self.idle, wire.write_some(&mut self.pending));
                write.await.map_err(|_| PumpError::UpstreamStalled)?.map_err(PumpError::Upstream)?;
            }
            if self.is_done {
                return wire.flush().await.map_err(PumpError::Upstream);
            }
            match self.piece().await.map_err(PumpError::Client)? {
                Some(piece) => self.frame(&piece),
                None => self.frame_end().await,
            }
        }
    }

    /// The next piece for this attempt: a kept one, or a new one from the client.
    async fn piece(&mut self) -> Result<Option<Bytes>, BodyError> {
        if let Some(piece) = self.kept.as_ref().and_then(|kept| kept.get(self.sent)).cloned() {
            self.sent += 1;
            return Ok(Some(piece));
        }
        if self.has_ended {
            return Ok(None);
        }
        let piece = self.meter.read(self.idle, self.source.next()).await?;
        let Some(piece) = piece else {
            self.has_ended = true;
            return if self.left == 0 {
                Ok(None)
            } else {
                Err(BodyError::Broken("the body is shorter than its length"))
            };
        };
        self.keep(&piece)?;
        Ok(Some(piece))
    }

    fn keep(&mut self, piece: &Bytes) -> Result<(), BodyError> {
        let bytes = piece.len() as u64;
        if let Framing::Length(_) = self.framing {
            self.left = self
                .left
                .checked_sub(bytes)
                .ok_or(BodyError::Broken("the body is longer than its length"))?;
        }
        match self.room_bytes.checked_sub(bytes) {
            Some(room) => self.room_bytes = room,
            None => self.kept = None,
        }
        if let Some(kept) = &mut self.kept {
            kept.push(piece.clone());
            self.sent = kept.len();
        }
        Ok(())
    }

    fn frame(&mut self, piece: &[u8]) {
        if self.framing != Framing::Chunked {
            return self.pending.extend_from_slice(piece);
        }
        if piece.is_empty() {
            return;
        }
        let (size, length) = chunk_head(piece.len());
        self.pending.extend_from_slice(&size[..length]);
        self.pending.extend_from_slice(piece);
        self.pending.extend_from_slice(b"\r\n");
    }

    async fn frame_end(&mut self) {
        if self.framing == Framing::Chunked {
            if self.trailers.is_none() {
                self.trailers = Some(self.source.trailers().await);
            }
            self.pending.extend_from_slice(&last_chunk(self.trailers.as_deref().unwrap_or_default()));
        }
        self.is_done = true;
    }
}
