//! A stored body on its way to a client, also while it still comes from the origin.

use crate::cache::store::{Next, Object, Reader, Writer};
use crate::count::Reason;
use crate::edge::relay::Relay;
use crate::edge::stored::asker::Asker;
use crate::edge::stored::entry::Entry;
use crate::edge::stored::fill::{self, Coming};
use bytes::Bytes;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use tokio::sync::Notify;

/// Bytes handed on at once: enough that a call costs little beside its bytes.
const PIECE_BYTES_MAX: u64 = 1 << 20;

/// What a body is put together of.
pub enum Part {
    Text(Bytes),
    /// From, and up to (None: the end).
    Span(u64, Option<u64>),
}

/// A fetch that cannot be kept any longer, for the one client that began it: what the store still holds first, then the
/// rest from the upstream itself.
#[derive(Default)]
pub struct Relief {
    left: RefCell<Option<(Relay, Writer<Entry>, Bytes)>>,
    is_there: Cell<bool>,
    came: Notify,
}

impl Relief {
    /// Leaves the rest of the body to the client, from the writer's place on; `piece` goes before what the relay brings.
    pub fn leave(&self, relay: Relay, writer: Writer<Entry>, piece: Bytes) {
        *self.left.borrow_mut() = Some((relay, writer, piece));
        self.is_there.set(true);
        self.came.notify_waiters();
    }

    fn take_at(&self, at: u64) -> Option<(Relay, Bytes)> {
        let is_next = self.left.borrow().as_ref().is_some_and(|(_, writer, _)| writer.range().0 == at);
        let (relay, _, piece) = is_next.then(|| self.left.borrow_mut().take()).flatten()?;
        Some((relay, piece))
    }
}

pub struct StoredBody {
    object: Arc<Object<Entry>>,
    parts: VecDeque<Part>,
    reader: Option<Reader<Entry>>,
    /// The end of what it reads; None: the body's.
    reads_to: Option<u64>,
    asker: Rc<Asker>,
    relief: Option<Rc<Relief>>,
    /// The rest comes straight from an upstream.
    beside: Option<Relay>,
    coming: Option<Coming>,
    /// Where a fetch of a block was tried last; the second time at one place the rest comes straight from an upstream.
    asked_at: Option<u64>,
    is_over: bool,
}

impl StoredBody {
    pub fn new(
        object: &Arc<Object<Entry>>,
        parts: Vec<Part>,
        asker: Rc<Asker>,
        relief: Option<Rc<Relief>>,
    ) -> Self {
        let mut body = Self {
            object: Arc::clone(object),
            parts: parts.into(),
            reader: None,
            reads_to: None,
            asker,
            relief,
            beside: None,
            coming: None,
            asked_at: None,
            is_over: false,
        };
        // From now on the fetch knows that somebody reads.
        body.open();
        body
    }

    pub fn is_over(&self) -> bool {
        self.is_over
    }

    /// Takes the next part if it is one of the object; whether it was.
    fn open(&mut self) -> bool {
        let Some(Part::Span(from, to)) = self.parts.front() else { return false };
        self.reader = Some(Reader::new(self.asker.store(), &self.object, *from, *to));
        self.reads_to = *to;
        self.parts.pop_front();
        true
    }

    /// The next piece as soon as there is one; None at the end. An error: the body is cut, and must not look whole.
    /// Cancelling loses nothing.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Reason> {
        loop {
            if let Some(coming) = &mut self.coming {
                self.beside = Some(coming.await?);
                self.coming = None;
            }
            if let Some(beside) = &mut self.beside {
                if let Some(piece) = beside.next().await? {
                    return Ok(Some(piece));
                }
                (self.beside, self.reader) = (None, None);
                continue;
            }
            let Some(reader) = &mut self.reader else {
                match self.parts.front() {
                    None => {
                        self.is_over = true;
                        return Ok(None);
                    }
                    Some(Part::Text(_)) => {
                        let Some(Part::Text(text)) = self.parts.pop_front() else { continue };
                        return Ok(Some(text));
                    }
                    Some(Part::Span(..)) => {
                        self.open();
                        continue;
                    }
                }
            };
            match next_of(reader, self.relief.as_deref()).await {
                Some(Next::Bytes(mut bytes)) => {
                    bytes.truncate(usize::try_from(PIECE_BYTES_MAX).unwrap_or(usize::MAX));
                    reader.advance(bytes.len() as u64);
                    self.object.head.meta.pace.read_to(reader.at());
                    self.is_over = self.parts.is_empty() && self.object.body.length() == Some(reader.at());
                    return Ok(Some(bytes));
                }
                Some(Next::End) => self.reader = None,
                Some(Next::Fetch(writer)) => {
                    let at = reader.at();
                    if self.asked_at.replace(at) == Some(at) {
                        // The fetch failed, or what it brought was pushed out before it was read.
                        let to = self.reads_to.or(self.object.body.length());
                        self.coming = Some(fill::beside(&self.asker, &self.object, at, to));
                        continue;
                    }
                    fill::run(&self.asker, &self.object, writer);
                }
                Some(Next::Bypass) => {
                    let (from, to) = (reader.at(), self.reads_to.or(self.object.body.length()));
                    self.coming = Some(fill::beside(&self.asker, &self.object, from, to));
                }
                Some(Next::Broken) => return Err(Reason::Truncated),
                None => {
                    let taken = self.relief.as_ref().and_then(|relief| relief.take_at(reader.at()));
                    let (relay, piece) = taken.ok_or(Reason::Truncated)?;
                    self.beside = Some(relay);
                    if !piece.is_empty() {
                        return Ok(Some(piece));
                    }
                }
            }
        }
    }
}

/// What is next, or None once the fetch has left the rest to this client and all that it stored was read.
async fn next_of(reader: &mut Reader<Entry>, relief: Option<&Relief>) -> Option<Next<Entry>> {
    let Some(relief) = relief else { return Some(reader.next().await) };
    loop {
        if let Some(next) = reader.try_next() {
            return Some(next);
        }
        if relief.is_there.get() {
            return None;
        }
        tokio::select! {
            next = reader.next() => return Some(next),
            () = relief.came.notified() => {}
        }
    }
}
