//! Bodies from the origin into the store, at the pace of whoever reads them.

use crate::cache::semantics::conditional::{Validators, may_combine};
use crate::cache::semantics::fields::Fields;
use crate::cache::semantics::range::content_range;
use crate::cache::store::{Object, Stop, Writer};
use crate::count::Reason;
use crate::edge::answer::{Answer, Body};
use crate::edge::door::FillSeat;
use crate::edge::relay::Relay;
use crate::edge::stored::asker::Asker;
use crate::edge::stored::body::Relief;
use crate::edge::stored::cut::skip;
use crate::edge::stored::entry::{Entry, Lines};
use crate::edge::stored::pace::Running;
use crate::reflex::identity::{Identity, Rule};
use bytes::Bytes;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::sleep;

/// How far a fetch runs ahead of those who read along.
const AHEAD_BYTES: u64 = 8 << 20;

/// How often it looks whether somebody moved whom it did not hear, and how often in vain before it gives up on a body
/// that nobody reads and that can be fetched in parts again.
const LOOK: Duration = Duration::from_millis(100);
const LOOKS_MAX: u32 = 20;

/// A smaller piece is copied: it would keep a whole buffer alive.
const COPIED_BYTES_MAX: usize = 4_096;

/// Fills the object with the body of `answer`. What is here already goes in at once; the rest by a task of its own, that
/// goes on when the client leaves.
/// The first `skipped_bytes` are not for the object.
pub async fn begin(
    body: Body,
    mut skipped_bytes: u64,
    mut writer: Writer<Entry>,
    relief: &Rc<Relief>,
    seat: Option<FillSeat>,
) {
    let relay = match body {
        Body::Relay(relay) => relay,
        Body::Full(mut whole) => {
            skip(&mut whole, &mut skipped_bytes);
            if writer.push(whole).is_ok() {
                let _ = writer.finish();
            }
            return;
        }
        Body::None | Body::Stored(_) | Body::Tunnel(..) => {
            let _ = writer.finish();
            return;
        }
    };
    let (running, relief) = (running(&writer), Some(Rc::clone(relief)));
    let relay = relay.for_store(true);
    let mut filling = Filling { relay, skipped_bytes, writer, running, relief, _seat: seat };
    loop {
        let piece = tokio::select! {
            biased;
            piece = filling.relay.next() => piece,
            () = std::future::ready(()) => break,
        };
        filling = match filling.take(piece) {
            Some(filling) => filling,
            None => return,
        };
    }
    filling.tell(None);
    tokio::task::spawn_local(filling.run());
}

/// A body on its way into the store.
struct Filling {
    relay: Relay,
    skipped_bytes: u64,
    writer: Writer<Entry>,
    running: Running,
    relief: Option<Rc<Relief>>,
    _seat: Option<FillSeat>,
}

impl Filling {
    async fn run(mut self) {
        loop {
            if !self.may_go_on().await {
                return;
            }
            let piece = self.relay.next().await;
            self = match self.take(piece) {
                Some(filling) => filling,
                None => return,
            };
        }
    }

    /// Puts a piece into the store; None when there is nothing more to do.
    fn take(mut self, piece: Result<Option<Bytes>, Reason>) -> Option<Self> {
        let mut piece = match piece {
            Ok(Some(piece)) if piece.len() <= COPIED_BYTES_MAX => Bytes::copy_from_slice(&piece),
            Ok(Some(piece)) => piece,
            Ok(None) => {
                let _ = self.writer.finish();
                return None;
            }
            // The writer goes away unfinished: nobody takes the body for whole. Of a corrupt one no block may stay.
            Err(reason) => {
                self.tell(Some(reason));
                if reason == Reason::Corrupt {
                    self.writer.store().discard(self.writer.object());
                }
                return None;
            }
        };
        self.tell(None);
        skip(&mut piece, &mut self.skipped_bytes);
        let before = self.writer.range().0;
        let pushed = self.writer.push(piece.clone());
        self.running.wrote_to(self.writer.range().0);
        match pushed {
            Ok(()) if self.relay.is_over() => {
                self.relay.finish();
                let _ = self.writer.finish();
                None
            }
            Ok(()) => Some(self),
            Err(Stop::NoRoom) => {
                let pushed = usize::try_from(self.writer.range().0 - before).unwrap_or(0);
                let rest = piece.slice(pushed.min(piece.len())..);
                if let Some(relief) = self.relief.take().filter(|relief| Rc::strong_count(relief) > 1) {
                    relief.leave(self.relay.for_store(false), self.writer, rest);
                }
                None
            }
            Err(Stop::TooLong | Stop::TooShort) => None,
        }
    }

    /// Tells the client that began this what it needs to know before anything has gone out.
    fn tell(&self, failure: Option<Reason>) {
        if let Some(relief) = &self.relief {
            relief.note(self.relay.is_undecided(), failure.map(|reason| (reason, self.relay.tried())));
        }
    }

    /// Waits until the fetch is not too far ahead; false if nobody wants a body that can be had in parts later. Another
    /// body must be here whole or not at all, so it does not wait.
    async fn may_go_on(&self) -> bool {
        let mut looks = 0;
        let is_divisible = self.writer.object().body.is_divisible();
        while is_divisible && self.running.ahead_bytes() > AHEAD_BYTES && !self.writer.is_awaited() {
            looks = if self.running.has_readers() { 0 } else { looks + 1 };
            if looks > LOOKS_MAX {
                return false;
            }
            tokio::select! {
                () = self.running.moved() => {}
                () = sleep(LOOK) => {}
            }
        }
        true
    }
}

/// Fetches the blocks that a writer has claimed, by a task of its own. If that fails the blocks are vacant again.
pub fn run(asker: &Rc<Asker>, object: &Arc<Object<Entry>>, writer: Writer<Entry>) {
    let (asker, object) = (Rc::clone(asker), Arc::clone(object));
    // Before the answer is there: others may read along from now on.
    let running = running(&writer);
    let seat = Some(FillSeat::take_anyway(asker.site()));
    tokio::task::spawn_local(async move {
        let (from, to) = writer.range();
        if let Ok(relay) = ask(&asker, &object, from, to).await {
            let relay = relay.for_store(true);
            Filling { relay, skipped_bytes: 0, writer, running, relief: None, _seat: seat }.run().await;
        }
    });
}

fn running(writer: &Writer<Entry>) -> Running {
    writer.object().head.meta.pace.begin(writer.range().0, writer.reach_bytes())
}

/// An upstream's part of a body that is on its way.
pub type Coming = Pin<Box<dyn Future<Output = Result<Relay, Reason>>>>;

/// The same bytes for one client alone.
pub fn beside(asker: &Rc<Asker>, object: &Arc<Object<Entry>>, from: u64, to: Option<u64>) -> Coming {
    let (asker, object) = (Rc::clone(asker), Arc::clone(object));
    Box::pin(async move { ask(&asker, &object, from, to).await })
}

async fn ask(
    asker: &Rc<Asker>,
    object: &Arc<Object<Entry>>,
    from: u64,
    to: Option<u64>,
) -> Result<Relay, Reason> {
    let lines = Lines(&object.head.wire);
    let validators = Validators::of(&lines);
    let answer = asker.ask_range(from, to, &validators).await.answer;
    if answer.is_ours || answer.status >= 500 {
        return Err(Reason::Unreachable);
    }
    if !is_the_part(&answer, object, asker.rule(), from) {
        // Another body lies there now: what is stored of the old one is of no use.
        asker.store().discard(object);
        return Err(Reason::Content);
    }
    match answer.body {
        Body::Relay(relay) => Ok(*relay),
        _ => Err(Reason::Content),
    }
}

/// Whether the answer brings what comes next of the stored body: of the same whole, by its validators or by what the
/// service says that upstreams agree on.
fn is_the_part(answer: &Answer, object: &Object<Entry>, rule: Rule, from: u64) -> bool {
    let (stored, fields) = (Lines(&object.head.wire), answer.fields.as_slice());
    let range = fields.single("content-range").and_then(content_range);
    let fits = range.is_some_and(|range| range.first == from && range.complete == object.body.length());
    let length = object.body.length();
    let is_agreed = || {
        let theirs = Identity::of_fields(fields, range.and_then(|range| range.complete));
        rule != Rule::Etag && Identity::of_fields(&stored, length).is_same(&theirs, rule)
    };
    let is_one = may_combine(&Validators::of(&stored), &object.head.meta.terms, &Validators::of(fields));
    answer.status == 206 && fits && (is_one || is_agreed())
}
