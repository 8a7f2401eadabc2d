//! A stored body on its way to a client, also while it still comes from the origin.

use crate::cache::store::{Next, Object, Reader, Writer};
use crate::count::Reason;
use crate::edge::answer::Answer;
use crate::edge::give_up::{Tried, unsaid};
use crate::edge::relay::Relay;
use crate::edge::stored::asker::Asker;
use crate::edge::stored::cut::Cut;
use crate::edge::stored::entry::Entry;
use crate::edge::stored::fill::{self, Coming};
use crate::edge::stored::pace::Follower;
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
    /// Nothing has come that can go out, and all of it may still be another upstream's.
    is_undecided: Cell<bool>,
    failure: RefCell<Option<(Reason, Vec<Tried>)>>,
}

impl Relief {
    /// Leaves the rest of the body to the client, from the writer's place on; `piece` goes before what the relay brings.
    pub fn leave(&self, relay: Relay, writer: Writer<Entry>, piece: Bytes) {
        *self.left.borrow_mut() = Some((relay, writer, piece));
        self.is_there.set(true);
        self.came.notify_waiters();
    }

    /// Notes how the fetch is doing.
    pub fn note(&self, is_undecided: bool, failure: Option<(Reason, &[Tried])>) {
        self.is_undecided.set(is_undecided);
        if let Some((reason, tried)) = failure {
            *self.failure.borrow_mut() = Some((reason, tried.to_vec()));
        }
    }

    fn take_at(&self, at: u64) -> Option<(Relay, Bytes)> {
        let is_next = self.left.borrow().as_ref().is_some_and(|(_, writer, _)| writer.range().0 == at);
        let (relay, _, piece) = is_next.then(|| self.left.borrow_mut().take()).flatten()?;
        Some((relay, piece))
    }
}

/// A body that is not, or not only, one of an upstream's.
pub enum StoredBody {
    Kept(KeptBody),
    Cut(Cut),
}

impl StoredBody {
    pub fn is_over(&self) -> bool {
        match self {
            Self::Kept(body) => body.is_over,
            Self::Cut(cut) => cut.is_over(),
        }
    }

    /// The next piece as soon as there is one; None at the end. An error: the body is cut, and must not look whole.
    /// Cancelling loses nothing.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Reason> {
        match self {
            Self::Kept(body) => body.next().await,
            Self::Cut(cut) => cut.next().await,
        }
    }

    /// Whether nothing of it can go out yet, and all of it may still be another upstream's.
    pub fn is_undecided(&self) -> bool {
        match self {
            Self::Kept(body) => body.relief.as_ref().is_some_and(|relief| relief.is_undecided.get()),
            Self::Cut(cut) => cut.relay().is_undecided(),
        }
    }

    /// What the client gets where nothing of this has gone out. None: the client itself broke off.
    pub fn unsaid(&self, reason: Reason) -> Option<Answer> {
        let Self::Kept(body) = self else {
            return if let Self::Cut(cut) = self { cut.relay().unsaid(reason) } else { None };
        };
        let failure = body.relief.as_ref().and_then(|relief| relief.failure.borrow_mut().take());
        let (reason, tried) = failure.unwrap_or((reason, Vec::new()));
        Some(unsaid(body.asker.site(), &tried, reason, true))
    }

    /// Whether what is not used of the last piece can be given back, to be had again later.
    pub fn is_lent(&self) -> bool {
        matches!(self, Self::Kept(body) if body.is_lent)
    }

    /// Takes the last `bytes` of a lent piece back: whoever waits for a slow client holds no memory meanwhile.
    pub fn give_back(&mut self, bytes: u64) {
        if let Self::Kept(body) = self {
            body.give_back(bytes);
        }
    }
}

/// An object's body, or parts of it.
pub struct KeptBody {
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
    follower: Follower,
    is_lent: bool,
    is_over: bool,
}

impl KeptBody {
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
            follower: Follower::default(),
            is_lent: false,
            is_over: false,
        };
        // From now on the fetch knows that somebody reads.
        body.open();
        body
    }

    fn give_back(&mut self, bytes: u64) {
        if let Some(reader) = self.reader.as_mut().filter(|_| std::mem::take(&mut self.is_lent)) {
            reader.go_back(bytes);
            self.is_over &= bytes == 0;
        }
    }

    /// Takes the next part if it is one of the object; whether it was.
    fn open(&mut self) -> bool {
        let Some(Part::Span(from, to)) = self.parts.front() else { return false };
        self.reader = Some(Reader::new(self.asker.store(), &self.object, *from, *to));
        self.follower.read_to(&self.object.head.meta.pace, *from);
        self.reads_to = *to;
        self.parts.pop_front();
        true
    }

    async fn next(&mut self) -> Result<Option<Bytes>, Reason> {
        self.is_lent = false;
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
            let (follower, pace) = (&mut self.follower, &self.object.head.meta.pace);
            // The fetch that brings what is waited for may have paused, or begun after the last look.
            let tell = |at| follower.read_to(pace, at);
            match next_of(reader, self.relief.as_deref(), tell).await {
                Some(Next::Bytes(mut bytes)) => {
                    bytes.truncate(usize::try_from(PIECE_BYTES_MAX).unwrap_or(usize::MAX));
                    reader.advance(bytes.len() as u64);
                    self.follower.read_to(&self.object.head.meta.pace, reader.at());
                    self.is_lent = true;
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
async fn next_of(
    reader: &mut Reader<Entry>,
    relief: Option<&Relief>,
    mut tell: impl FnMut(u64),
) -> Option<Next<Entry>> {
    let Some(relief) = relief else { return Some(reader.next_telling(tell).await) };
    loop {
        if let Some(next) = reader.try_next() {
            return Some(next);
        }
        if relief.is_there.get() {
            return None;
        }
        tokio::select! {
            next = reader.next_telling(&mut tell) => return Some(next),
            () = relief.came.notified() => {}
        }
    }
}
