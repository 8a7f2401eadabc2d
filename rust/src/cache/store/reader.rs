//! Reads a body from any place, also while it is still on its way.

use crate::cache::store::Store;
use crate::cache::store::block::{BlockFill, Found};
use crate::cache::store::object::{Meta, Object};
use crate::cache::store::writer::Writer;
use bytes::Bytes;
use std::sync::Arc;

/// What is next in a body.
pub enum Next<M: Meta> {
    /// Some bytes from the reader's place on. The place stays: `advance` by what was used. Holding them keeps their block
    /// in memory, so a writer that must wait drops them and asks again.
    Bytes(Bytes),
    /// These bytes are nowhere: let the writer have them (a range request for `Writer::range`), and ask again.
    Fetch(Writer<M>),
    /// These bytes are nowhere and there is no memory for them: get the rest for this reader alone.
    Bypass,
    End,
    /// The only fetch of this body failed; what is missing will never come.
    Broken,
}

/// A place in a body.
pub struct Reader<M: Meta> {
    store: Arc<Store<M>>,
    object: Arc<Object<M>>,
    at: u64,
    to: Option<u64>,
}

/// What to wait for.
enum Step<M: Meta> {
    Next(Next<M>),
    Wait(Arc<BlockFill>, u64),
}

impl<M: Meta> Reader<M> {
    /// Reads from `from` up to `to`; None = to the end.
    pub fn new(store: &Arc<Store<M>>, object: &Arc<Object<M>>, from: u64, to: Option<u64>) -> Self {
        Self { store: Arc::clone(store), object: Arc::clone(object), at: from, to }
    }

    pub fn object(&self) -> &Arc<Object<M>> {
        &self.object
    }

    /// The place of the next byte.
    pub fn at(&self) -> u64 {
        self.at
    }

    pub fn advance(&mut self, bytes: u64) {
        self.at += bytes;
    }

    /// Some of what was used was not: it is to be read again.
    pub fn go_back(&mut self, bytes: u64) {
        self.at = self.at.saturating_sub(bytes);
    }

    /// What is next, when that can be said at once; None = wait with `next`.
    pub fn try_next(&mut self) -> Option<Next<M>> {
        match self.step() {
            Step::Next(next) => Some(next),
            Step::Wait(..) => None,
        }
    }

    /// What is next; waits for bytes that are on their way. May be dropped at any time.
    pub async fn next(&mut self) -> Next<M> {
        self.next_telling(|_| {}).await
    }

    /// The same; `tell` is told the reader's place before each wait.
    pub async fn next_telling(&mut self, mut tell: impl FnMut(u64)) -> Next<M> {
        loop {
            match self.step() {
                Step::Next(next) => return next,
                Step::Wait(fill, offset) => {
                    tell(self.at);
                    fill.wait(offset).await;
                }
            }
        }
    }

    fn step(&mut self) -> Step<M> {
        loop {
            let body = Arc::clone(&self.object.body);
            let length = body.length();
            let end = match (self.to, length) {
                (Some(to), Some(length)) => to.min(length),
                (to, length) => to.or(length).unwrap_or(u64::MAX),
            };
            if self.at >= end {
                return Step::Next(Next::End);
            }
            if let Some(whole) = body.whole() {
                let slice = slice(whole, self.at, end - self.at);
                return Step::Next(slice.map_or(Next::End, Next::Bytes));
            }
            let (block, offset) = (self.at / body.block_bytes(), self.at % body.block_bytes());
            if let Some(octets) = body.block(block) {
                let slice = slice(&octets, offset, end - self.at);
                return Step::Next(slice.map_or(Next::Broken, Next::Bytes));
            }
            let Some(fill) = body.fill_of(block) else {
                match self.vacant(block, end) {
                    Some(next) => return Step::Next(next),
                    None => continue,
                }
            };
            match fill.read(offset) {
                Found::Bytes(octets) => {
                    let slice = slice(&octets, 0, end - self.at);
                    return Step::Next(slice.map_or(Next::Broken, Next::Bytes));
                }
                Found::NotYet => return Step::Wait(fill, offset),
                Found::Done | Found::Failed => {}
            }
        }
    }

    /// A block that is neither present nor on its way; None = look again.
    fn vacant(&self, block: u64, end: u64) -> Option<Next<M>> {
        let body = &self.object.body;
        if body.has_block(block)
            || body.whole().is_some()
            || body.length().is_some_and(|length| self.at >= length)
        {
            return None; // It came between two looks.
        }
        if body.is_broken() || !body.is_divisible() {
            return (body.fill_of(block).is_none() && !body.has_block(block)).then_some(Next::Broken);
        }
        let to = self.store.read_ahead(end, body.length()?);
        let mut writer = Writer::of_run(&self.store, &self.object, block, to)?;
        if writer.make_room().is_err() {
            return Some(Next::Bypass);
        }
        self.store.recall_block(writer, block).map(Next::Fetch)
    }
}

fn slice(octets: &Bytes, from: u64, bytes_max: u64) -> Option<Bytes> {
    let left = (octets.len() as u64).checked_sub(from).filter(|left| *left > 0)?;
    Some(octets.slice(from as usize..(from + left.min(bytes_max)) as usize))
}
