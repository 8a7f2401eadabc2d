//! A body on its way from upstreams to the client. Whoever pulls it sets the pace.
//!
//! When an upstream breaks off, stalls, drips or sends wrong bytes, the rest comes from another one, if that has the same
//! representation (`resume`); the client sees one body. Where nobody can go on, the body is cut.

use crate::count::Reason;
use crate::edge::answer::Answer;
use crate::edge::attempt::{Response, lost};
use crate::edge::body::{Pump, PumpError};
use crate::edge::destination::{Destination, Place};
use crate::edge::framing::{Decoder, Step};
use crate::edge::give_up::{Tried, unsaid};
use crate::edge::message::Field;
use crate::edge::report::Report;
use crate::edge::resume::{Coming, Course, From, Resumed};
use crate::edge::trailer::passed_on;
use crate::edge::wire::Wire;
use crate::reflex::beat::Beat;
use crate::reflex::check::{Check, Wrong};
use crate::reflex::events::Events;
use bytes::Bytes;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

/// A body that flows for so long is counted as good while it still flows.
const COUNT_EARLY_MS: u64 = 1_000;

/// So long an upstream must have been waited for, in sum, before its rate is judged.
const RATE_WINDOW_MS: u64 = 2_000;

/// How an upstream's body is waited for.
#[derive(Clone, Copy)]
pub struct Waits {
    /// Without a byte, when nobody else could go on.
    pub idle: Duration,
    /// Without a byte, when somebody could.
    pub stall: Duration,
    /// Below this rate another goes on; 0: never.
    pub rate_min_bytes_per_s: u64,
}

/// What a body is made of, when it begins.
pub struct Beginning {
    pub response: Response,
    pub destination: Rc<Destination>,
    pub place: Option<Place>,
    pub waits: Waits,
    pub pump: Option<Box<Pump>>,
    pub report: Report,
    pub course: Option<Box<Course>>,
    pub check: Option<Box<Check>>,
    /// Who was asked in vain before.
    pub tried: Vec<Tried>,
}

pub struct Relay {
    wire: Option<Box<Wire>>,
    decoder: Decoder,
    destination: Rc<Destination>,
    place: Option<Place>,
    is_persistent: bool,
    waits: Waits,
    /// The request's body, when the answer came before its end.
    pump: Option<Box<Pump>>,
    report: Report,
    /// Who was asked in vain before the first byte.
    tried: Vec<Tried>,
    /// Nobody's slowness keeps its pieces in memory: they may be large.
    is_for_store: bool,
    /// Nothing of what may go wrong in the middle of a body; most bodies need none of it.
    extra: Option<Box<Extra>>,
}

/// What a body needs that may go on elsewhere, or must be looked at.
struct Extra {
    course: Option<Box<Course>>,
    check: Option<Box<Check>>,
    events: Option<Events>,
    beat: Beat,
    coming: Option<Coming>,
    /// What has come and needs no look.
    plain: Option<Bytes>,
    /// The next byte that is to come, counted in the whole; of events, what went on.
    at: u64,
    /// So many bytes are to be read over first.
    skip_bytes: u64,
    /// Time waited and bytes come in this window, and how often a slow upstream may still be left.
    window: (u64, u64),
    slow_left: usize,
    has_ended: bool,
    /// The client has some of it.
    has_passed: bool,
}

impl Relay {
    pub fn new(beginning: Beginning) -> Self {
        let Beginning { response, destination, place, waits, pump, report, course, check, tried } = beginning;
        let pump = pump.filter(|pump| !pump.is_done());
        // A body that is here already cannot break off.
        let is_here = response.is_whole_here();
        let course = course.filter(|_| pump.is_none() && (!is_here || check.is_some()));
        let extra = (course.is_some() || check.is_some()).then(|| {
            let at = course.as_ref().map_or(0, |course| course.stretch.first);
            let events = course.as_deref().is_some_and(Course::is_events).then(Events::default);
            let slow_left = report.route.site.destinations.len().saturating_sub(1);
            Box::new(Extra {
                course,
                check,
                events,
                beat: Beat::default(),
                coming: None,
                at,
                skip_bytes: 0,
                window: (0, 0),
                slow_left,
                plain: None,
                has_ended: false,
                has_passed: false,
            })
        });
        Self {
            decoder: Decoder::new(response.head.framing),
            is_persistent: response.head.is_persistent && pump.is_none(),
            wire: Some(response.wire),
            destination,
            place,
            waits,
            pump,
            report,
            tried,
            is_for_store: false,
            extra,
        }
    }

    /// Reads much at once from now on if whoever pulls keeps what comes, and waits for no client.
    pub fn for_store(mut self, is_for_store: bool) -> Self {
        self.is_for_store = is_for_store;
        self
    }

    /// Whether nothing of it can go out yet, and all of it may still be another's.
    pub fn is_undecided(&self) -> bool {
        let is_undecided = |extra: &Extra| {
            let is_held = extra.check.is_some() && !extra.has_ended;
            !extra.has_passed && (extra.coming.is_some() || is_held)
        };
        self.extra.as_ref().is_some_and(|extra| is_undecided(extra))
    }

    pub fn tried(&self) -> &[Tried] {
        &self.tried
    }

    /// What the client gets where nothing of this has gone out. None: the client itself broke off.
    pub fn unsaid(&self, reason: Reason) -> Option<Answer> {
        // Only a GET has precautions, and only a GET is answered by the service's own fallback.
        let is_get = self.extra.is_some();
        (reason != Reason::Blind).then(|| unsaid(&self.report.route.site, &self.tried, reason, is_get))
    }

    pub fn is_over(&self) -> bool {
        self.decoder.is_done() && self.extra.as_ref().is_none_or(|extra| extra.is_over())
    }

    /// What came after the body and may be passed on; complete once `next` gave None.
    pub fn trailers(&self) -> Vec<Field> {
        passed_on(self.decoder.trailers())
    }

    /// The next piece as soon as there is one; None at the end. An error: the body is cut, and must not look whole.
    /// Cancelling loses nothing.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Reason> {
        loop {
            if let Some(coming) = self.extra.as_mut().and_then(|extra| extra.coming.as_mut()) {
                let (tried, resumed) = coming.await;
                self.note_tried(tried);
                match resumed {
                    Ok(resumed) => self.take_up(resumed),
                    Err(reason) => return Err(self.cut(reason)),
                }
            }
            if let Some(piece) = self.extra.as_mut().and_then(|extra| extra.ready()) {
                self.count_early();
                return Ok(Some(piece));
            }
            let came = match self.piece().await {
                Ok(Some(piece)) => match &mut self.extra {
                    None => {
                        self.count_early();
                        return Ok(Some(piece));
                    }
                    Some(extra) => extra.take(piece),
                },
                Ok(None) => match self.extra.as_mut().map_or(Ok(()), |extra| extra.end()) {
                    Ok(()) if self.extra.as_ref().is_none_or(|extra| extra.is_over()) => {
                        self.finish();
                        return Ok(None);
                    }
                    ended => ended,
                },
                Err(reason) => Err(reason),
            };
            match came {
                Ok(()) => {}
                // The client's own body broke off: nobody else is to blame.
                Err(Reason::Blind) => {
                    self.wire = None;
                    self.report.finished();
                    return Err(Reason::Blind);
                }
                Err(reason) => self.broke(reason)?,
            }
        }
    }

    /// The upstream failed: the rest comes from elsewhere, or the body is cut.
    fn broke(&mut self, reason: Reason) -> Result<(), Reason> {
        (self.wire, self.place) = (None, None);
        self.report.failed(reason);
        self.note_tried([Tried { provider: self.report.provider, reason, status: None }]);
        self.destination.failed(reason, self.report.route.edge.now_ms());
        let failed = (self.report.provider, Rc::clone(&self.destination));
        match self.extra.as_mut().and_then(|extra| extra.resume(reason, failed)) {
            Some(coming) => {
                if let Some(extra) = &mut self.extra {
                    extra.coming = Some(coming);
                }
                Ok(())
            }
            None => Err(self.cut(reason)),
        }
    }

    fn note_tried(&mut self, tried: impl IntoIterator<Item = Tried>) {
        if self.extra.as_ref().is_none_or(|extra| !extra.has_passed) {
            self.tried.extend(tried);
        }
    }

    fn cut(&mut self, reason: Reason) -> Reason {
        self.report.cut();
        reason
    }

    fn take_up(&mut self, resumed: Resumed) {
        let Resumed { response, destination, provider, first_byte_ms, skip_bytes, place } = resumed;
        self.decoder = Decoder::new(response.head.framing);
        self.is_persistent = response.head.is_persistent;
        (self.wire, self.destination, self.place) = (Some(response.wire), destination, place);
        self.report.goes_on(provider, first_byte_ms);
        if let Some(extra) = &mut self.extra {
            extra.coming = None;
            (extra.skip_bytes, extra.window) = (skip_bytes, (0, 0));
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
            let is_watched = self.extra.as_ref().is_some_and(|extra| extra.may_leave_a_slow_one());
            let beat = self.extra.as_ref().and_then(|extra| extra.beat_patience());
            let limit = match beat {
                Some(beat) => beat.min(self.waits.idle),
                None if is_watched => self.waits.stall,
                None => self.waits.idle,
            };
            let began_ms = self.report.route.edge.now_ms();
            wire.expect(if self.is_for_store { self.decoder.left_bytes() } else { 0 });
            let filled = wire.within(limit, pin!(fill_while_sending(wire, &mut self.pump))).await;
            match filled.ok_or(Reason::Stalled)? {
                Ok(0) if self.decoder.is_complete_at_close() => return Ok(None),
                Ok(0) => return Err(Reason::Truncated),
                Ok(bytes) if is_watched => self.watch(began_ms, bytes as u64)?,
                Ok(_) => self.note_beat(began_ms),
                Err(reason) => return Err(reason),
            }
        }
    }

    fn note_beat(&mut self, began_ms: u64) {
        if let Some(extra) = self.extra.as_mut().filter(|extra| extra.events.is_some()) {
            extra.beat.came_after(self.report.route.edge.now_ms().saturating_sub(began_ms));
        }
    }

    /// Only the time that the upstream was waited for counts: a slow client is not its fault.
    fn watch(&mut self, began_ms: u64, bytes: u64) -> Result<(), Reason> {
        let waited_ms = self.report.route.edge.now_ms().saturating_sub(began_ms);
        let Some(extra) = &mut self.extra else { return Ok(()) };
        extra.window = (extra.window.0 + waited_ms, extra.window.1 + bytes);
        let (all_ms, all_bytes) = extra.window;
        if all_ms < RATE_WINDOW_MS {
            return Ok(());
        }
        extra.window = (0, 0);
        let wanted = all_ms.saturating_mul(self.waits.rate_min_bytes_per_s) / 1_000;
        if all_bytes < wanted { Err(Reason::Stalled) } else { Ok(()) }
    }

    fn count_early(&mut self) {
        let is_early = !self.report.is_attempt_counted;
        if is_early && self.report.route.edge.now_ms().saturating_sub(self.report.began_ms) > COUNT_EARLY_MS {
            self.report.attempt(self.report.verdict);
            self.did_well();
        }
    }

    /// Well is an answer whose body came, not one whose head did: a provider whose bodies break off is sick.
    fn did_well(&self) {
        if self.report.verdict == Reason::Ok {
            self.destination.succeeded(self.report.route.edge.now_ms());
        }
    }

    /// Nothing more is wanted of the body: the connection is kept if it is clean.
    pub fn finish(&mut self) {
        if self.wire.is_some() && self.decoder.is_complete_at_close() {
            self.did_well();
        }
        if let Some(wire) = self.wire.take().filter(|_| self.decoder.is_done() && self.is_persistent) {
            self.destination.keep(wire, self.report.route.edge.now_ms());
        }
        self.place = None;
        self.report.finished();
    }
}

impl Extra {
    fn is_over(&self) -> bool {
        let is_empty = self.plain.is_none() && self.check.as_ref().is_none_or(|check| !check.is_ready());
        self.has_ended && self.coming.is_none() && is_empty
    }

    /// What may go on of what has come.
    fn ready(&mut self) -> Option<Bytes> {
        let piece = match (&mut self.check, &mut self.events) {
            (Some(check), _) => check.take(),
            (None, Some(events)) => {
                let piece = events.take();
                self.at += piece.as_ref().map_or(0, |piece| piece.len() as u64);
                piece
            }
            (None, None) => self.plain.take(),
        };
        self.has_passed |= piece.is_some();
        piece
    }

    fn take(&mut self, mut piece: Bytes) -> Result<(), Reason> {
        let over = usize::try_from(self.skip_bytes).unwrap_or(usize::MAX).min(piece.len());
        self.skip_bytes -= over as u64;
        drop(piece.split_to(over));
        if let Some(events) = &mut self.events {
            events.push(&piece);
            return Ok(());
        }
        let end = self.course.as_ref().and_then(|course| course.stretch.end);
        let at = self.at();
        if end.is_some_and(|end| at + piece.len() as u64 > end) {
            // What another upstream has behind the end of this stretch is not wanted.
            piece.truncate(usize::try_from(end.unwrap_or(at).saturating_sub(at)).unwrap_or(usize::MAX));
        }
        match &mut self.check {
            Some(check) => check.push(piece).map_err(|wrong| self.is_wrong(wrong)),
            None => {
                self.at += piece.len() as u64;
                self.plain = Some(piece).filter(|piece| !piece.is_empty());
                Ok(())
            }
        }
    }

    /// The upstream's body has ended; an error if that cannot be the end.
    fn end(&mut self) -> Result<(), Reason> {
        if self.has_ended {
            return Ok(());
        }
        let end = self.course.as_ref().and_then(|course| course.stretch.end);
        if self.events.is_none() && end.is_some_and(|end| self.at() < end) {
            return Err(Reason::Truncated);
        }
        if let Some(check) = &mut self.check {
            check.finish().map_err(|wrong| self.is_wrong(wrong))?;
        }
        if let Some(events) = &mut self.events {
            self.plain = Some(events.rest()).filter(|rest| !rest.is_empty());
            self.events = None;
        }
        self.has_ended = true;
        Ok(())
    }

    fn is_wrong(&mut self, wrong: Wrong) -> Reason {
        if wrong == Wrong::Cut {
            self.course = None;
        }
        Reason::Corrupt
    }

    fn at(&self) -> u64 {
        self.check.as_deref().map_or(self.at, Check::at)
    }

    /// How long a stream of events that can be taken up elsewhere may be silent, by its own rhythm.
    fn beat_patience(&self) -> Option<Duration> {
        let is_movable = self.events.as_ref().is_some_and(|events| events.last_id().is_some())
            && self.course.as_deref().is_some_and(Course::has_others);
        self.beat.patience_ms().filter(|_| is_movable).map(Duration::from_millis)
    }

    /// A slow upstream is left only if others may do better, and by no more requests than there are others.
    fn may_leave_a_slow_one(&self) -> bool {
        self.slow_left > 0 && self.events.is_none() && self.course.as_deref().is_some_and(Course::has_others)
    }

    fn resume(&mut self, reason: Reason, failed: (u16, Rc<Destination>)) -> Option<Coming> {
        if reason == Reason::Stalled {
            self.slow_left = self.slow_left.saturating_sub(1);
            self.beat.was_silent();
        }
        let at = self.at();
        let from = match &mut self.events {
            None => From::Byte(at),
            Some(events) => {
                events.resume();
                match events.last_id().cloned() {
                    Some(id) => From::Id(id),
                    None if self.has_passed => return None,
                    None => From::Start,
                }
            }
        };
        self.course.as_mut()?.resume(from, at, failed)
    }
}

/// Reads once, while the rest of the request's body goes out.
async fn fill_while_sending(wire: &Wire, pump: &mut Option<Box<Pump>>) -> Result<usize, Reason> {
    loop {
        let Some(sending) = pump.as_mut() else {
            return wire.fill().await.map_err(|error| lost(&error));
        };
        tokio::select! {
            biased;
            read = wire.fill() => return read.map_err(|error| lost(&error)),
            sent = Box::pin(sending.run(wire)) => match sent {
                // An upstream need not read what it does not want; its answer goes on.
                Ok(()) | Err(PumpError::Upstream(_) | PumpError::UpstreamStalled) => *pump = None,
                Err(PumpError::Client(_)) => return Err(Reason::Blind),
            },
        }
    }
}
