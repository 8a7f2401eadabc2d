//! A miss: the origin's answer, stored if the rules allow it, and passed on either way.

use crate::cache::semantics::conditional::{Validators, is_held, preconditions};
use crate::cache::semantics::fields::Fields;
use crate::cache::semantics::kept::Kept;
use crate::cache::semantics::meta::StoredMeta;
use crate::cache::semantics::range::content_range;
use crate::cache::semantics::reason::Reason;
use crate::cache::semantics::request::{Method, Request};
use crate::cache::semantics::status::{CacheStatus, Outcome};
use crate::cache::semantics::storable::{Answer as Told, Storing, store_decision};
use crate::cache::semantics::vary;
use crate::cache::store::{FillGuard, Head, Shape, Span, Writer, tag_hash};
use crate::edge::answer::{Answer, Body};
use crate::edge::attempt::Interim;
use crate::edge::door::{FillSeat, denied};
use crate::edge::message::Field;
use crate::edge::stored::asker::Asked;
use crate::edge::stored::blocks::{blocks_around, cut_out};
use crate::edge::stored::body::{Relief, StoredBody};
use crate::edge::stored::cut::Cut;
use crate::edge::stored::entry::{Entry, put_line};
use crate::edge::stored::serve::{Serving, answer_of, as_it_came, mark};
use crate::edge::stored::{Question, Shelf, fill};
use crate::reflex::identity::{Identity, Rule};
use bytes::Bytes;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

/// How long requests for an answer that may not be stored do not wait for each other.
const PASS_MS: u64 = 60_000;

/// The same after a failure, which may be over soon.
const PASS_AFTER_FAILURE_MS: u64 = 1_000;

/// The most that is kept of a part that does not lie on blocks.
const PART_BYTES_MAX: u64 = 1 << 20;

impl Question<'_> {
    /// Asks the origin for the whole or, with `wanted`, for a part of it.
    pub(super) async fn fetch(
        &self,
        guard: Option<FillGuard<Entry>>,
        wanted: Vec<Field>,
        outcome: Outcome,
    ) -> Answer {
        match FillSeat::take(self.asker.site()) {
            Ok(seat) => self.seat.set(Some(seat)),
            Err(denial) => return denied(self.asker.edge(), &denial),
        }
        let (guard, asked) = self.ask_for_all(guard, None, wanted, self.interim.take()).await;
        self.keep(guard, asked, outcome).await
    }

    /// What to ask for where the client wants a part: whole blocks around it.
    pub(super) fn wanted_blocks(&self) -> Vec<Field> {
        let (block_bytes, ranges_max) = (self.shelf.store.limits().block_bytes, self.shelf.rules.ranges_max);
        let range = self.request.range.and_then(|range| blocks_around(range, block_bytes, ranges_max));
        self.ranged(range.map(Bytes::from))
    }

    /// The part that the client wants, as it is.
    pub(super) fn wanted_range(&self) -> Vec<Field> {
        self.ranged(self.request.range.map(Bytes::copy_from_slice))
    }

    fn ranged(&self, range: Option<Bytes>) -> Vec<Field> {
        let Some(range) = range else { return Vec::new() };
        let condition = self.request.if_range.map(Bytes::copy_from_slice);
        let condition = condition.map(|value| Field::new("if-range", value));
        [Field::new("range", range)].into_iter().chain(condition).collect()
    }

    /// Stores the answer if that is allowed, and gives the client what it asked for.
    pub(super) async fn keep(
        &self,
        guard: Option<FillGuard<Entry>>,
        asked: Asked,
        outcome: Outcome,
    ) -> Answer {
        let range = asked.range.clone();
        match self.store_answer(guard, asked, outcome).await {
            Ok(answer) => answer,
            Err((answer, status)) => self.pass_on(answer, range, &status).await,
        }
    }

    /// The client's answer if the origin's could be stored, else the origin's.
    pub(super) async fn store_answer(
        &self,
        guard: Option<FillGuard<Entry>>,
        asked: Asked,
        outcome: Outcome,
    ) -> Result<Answer, (Answer, CacheStatus)> {
        let Asked { answer, asked_ms, arrived_ms, .. } = asked;
        let mut status = CacheStatus::new(outcome);
        status.forwarded_status = (!answer.is_ours).then_some(answer.status);
        let kept = match answer.is_ours {
            true => Err(Reason::Unusable),
            false => self.decide(&told(&answer, asked_ms, arrived_ms)),
        };
        let (guard, terms) = match (guard, kept) {
            (Some(guard), Ok(terms)) => (guard, terms),
            (guard, kept) => {
                status.not_stored = kept.err().filter(|_| !answer.is_ours);
                if let Some(guard) = guard {
                    let is_failure = answer.is_ours || answer.status >= 500;
                    let pass_ms = if is_failure { PASS_AFTER_FAILURE_MS } else { PASS_MS };
                    guard.release(arrived_ms + pass_ms);
                }
                return Err((answer, status));
            }
        };
        let place = Place::of(&answer, &terms, self.shelf.store.limits().block_bytes, self.asker.rule());
        let Some(place) = place else {
            guard.release(arrived_ms);
            return Err((answer, status));
        };
        let is_answered = self.is_answered_by(&answer, &place);
        let asked_with = self.head.fields.as_slice();
        let head = head_of(self.shelf, &told(&answer, asked_ms, arrived_ms), &place.terms, asked_with);
        match guard.start(head, place.shape, place.span) {
            Err(_) => Err((answer, status)),
            Ok(writer) => Ok(Box::pin(self.serve_new(writer, &place, answer, status, is_answered)).await),
        }
    }

    /// What the client wants of an answer that is being stored.
    async fn serve_new(
        &self,
        writer: Writer<Entry>,
        place: &Place,
        mut answer: Answer,
        mut status: CacheStatus,
        is_answered: bool,
    ) -> Answer {
        let object = Arc::clone(writer.object());
        let relief = Rc::new(Relief::default());
        let body = std::mem::replace(&mut answer.body, Body::None);
        status.is_stored = true;
        self.asker.edge().tally.add(status.outcome);
        let terms = place.terms;
        let age_s = terms.age_s(terms.arrived_ms);
        let is_cut = answer.status == 206 && is_answered;
        let fields = Some(own_fields(std::mem::take(&mut answer.fields), is_cut));
        let (request, asker) = (&self.request, &self.asker);
        // Blocks can be fetched again, and what is left over of a whole goes to this client.
        let is_whole = terms.part.is_none() && place.span == Span::default();
        let relief_of_client = is_whole.then(|| Rc::clone(&relief));
        let serving = Serving { request, asker, terms, status, age_s, fields, relief: relief_of_client };
        let seat = self.seat.take();
        fill::begin(body, place.skipped_bytes, writer, &relief, seat).await;
        if is_answered { answer_of(&object, serving) } else { as_it_came(&object, answer.status, serving) }
    }

    /// Whether the client gets all that it wants of what this answer brings; only an origin that gave another part than
    /// it was asked for can miss it. The client then gets that answer as it is.
    fn is_answered_by(&self, answer: &Answer, place: &Place) -> bool {
        let fields = answer.fields.as_slice();
        let length = place.terms.part.map_or(place.shape.length, |part| part.complete);
        let ranges_max = self.shelf.rules.ranges_max;
        let served = preconditions(&self.request, &place.terms, &Validators::of(fields), length, ranges_max);
        is_held(&place.terms, &served)
    }

    fn decide(&self, told: &Told<'_, [Field]>) -> Result<StoredMeta, Reason> {
        // The cache itself asked with GET, whatever the client wants of the answer.
        let request = Request { method: Method::Get, ..self.request };
        match store_decision(&request, told, false, &self.shelf.rules) {
            Storing::Store(terms) => Ok(terms),
            Storing::Pass(reason) => Err(reason),
        }
    }

    /// The origin's answer for this client alone. It was asked for `range`, which may be more than the client wants: then
    /// it gets its part of it, or is answered by an answer of its own.
    async fn pass_on(&self, answer: Answer, range: Option<Bytes>, status: &CacheStatus) -> Answer {
        let is_widened = answer.status == 206 && range.is_some() && range.as_deref() != self.request.range;
        let answer = if is_widened { self.narrowed(answer) } else { Some(answer) };
        let Some(mut answer) = answer else {
            return self.through(Interim::Nowhere, status.outcome).await.answer;
        };
        self.asker.edge().tally.add(status.outcome);
        mark(&mut answer, status);
        if self.request.method == Method::Head {
            answer.body = Body::None;
        }
        answer
    }

    /// Of a part that holds more than the client wants just that; None if it cannot be cut out.
    fn narrowed(&self, mut answer: Answer) -> Option<Answer> {
        let part = answer.fields.as_slice().single("content-range").and_then(content_range)?;
        let (span, before) = cut_out(self.request.range?, &part)?;
        let Body::Relay(relay) = answer.body else { return None };
        let cut = Cut::new(*relay, before, span.len());
        answer.body = Body::Stored(Box::new(StoredBody::Cut(cut)));
        let complete = part.complete.map_or("*".to_owned(), |complete| complete.to_string());
        let range = format!("bytes {}-{}/{complete}", span.first, span.last);
        answer.fields = own_fields(answer.fields, true);
        answer.fields.push(Field::new("content-range", range));
        answer.length = Some(span.len());
        Some(answer)
    }
}

/// The answer as the rules read it.
pub fn told(answer: &Answer, asked_ms: u64, arrived_ms: u64) -> Told<'_, [Field]> {
    Told {
        status: answer.status,
        fields: answer.fields.as_slice(),
        length: answer_length(answer),
        asked_ms,
        arrived_ms,
    }
}

/// The fields of an answer for the client who asked: all but those that are made anew for it.
fn own_fields(mut fields: Vec<Field>, is_part: bool) -> Vec<Field> {
    fields.retain(|field| !(field.is("age") || is_part && field.is("content-range")));
    fields
}

fn answer_length(answer: &Answer) -> Option<u64> {
    match &answer.body {
        Body::None => Some(0),
        Body::Full(whole) => Some(whole.len() as u64),
        _ => answer.length,
    }
}

/// Where an answer goes in the store, and as what.
struct Place {
    terms: StoredMeta,
    shape: Shape,
    span: Span,
    /// Of the answer's body, before the first that is stored.
    skipped_bytes: u64,
}

impl Place {
    /// A whole, blocks of a whole, or a small part by itself; None for a part that is none of these.
    fn of(answer: &Answer, terms: &StoredMeta, block_bytes: u64, rule: Rule) -> Option<Self> {
        let (span, skipped_bytes) = (Span::default(), 0);
        let Some(part) = terms.part else {
            let length = answer_length(answer);
            let shape = Shape { length, is_divisible: is_divisible(answer, terms, length, rule) };
            return Some(Self { terms: *terms, shape, span, skipped_bytes });
        };
        let is_divisible = is_divisible(answer, terms, part.complete, rule);
        let whole = Shape { length: part.complete, is_divisible };
        if part.first == 0 && part.complete == Some(part.len()) {
            // A part that lacks nothing is the whole (RFC 9110 §15.3.7.3).
            return Some(Self { terms: terms.whole(), shape: whole, span, skipped_bytes });
        }
        let from = part.first.next_multiple_of(block_bytes);
        if is_divisible && from <= part.last {
            let span = Span { from, to: Some(part.last + 1) };
            let skipped_bytes = from - part.first;
            return Some(Self { terms: terms.whole(), shape: whole, span, skipped_bytes });
        }
        let shape = Shape { length: Some(part.len()), is_divisible: false };
        let is_small = part.len() <= PART_BYTES_MAX && answer_length(answer) == Some(part.len());
        is_small.then_some(Self { terms: *terms, shape, span, skipped_bytes })
    }
}

/// Whether blocks can be fetched later by themselves: the length is known, and a strong validator, or what the service
/// says that upstreams agree on, holds them together.
fn is_divisible(answer: &Answer, terms: &StoredMeta, length: Option<u64>, rule: Rule) -> bool {
    let is_recognisable = Identity::of_fields(answer.fields.as_slice(), length).is_recognisable(rule);
    let is_whole = matches!(terms.status, 200 | 206);
    let takes_ranges = answer.status == 206
        || answer
            .fields
            .as_slice()
            .single("accept-ranges")
            .is_some_and(|unit| unit.eq_ignore_ascii_case(b"bytes"));
    is_whole && length.is_some() && is_recognisable && takes_ranges
}

/// The stored head: fields that may be kept, as lines, and what the rules need beside them.
fn head_of(shelf: &Shelf, told: &Told<'_, [Field]>, terms: &StoredMeta, asked_with: &[Field]) -> Head<Entry> {
    let mut variant = Vec::new();
    vary::write_variant(told.fields, asked_with, &mut variant);
    let (wire, tags) = (wire_of(shelf, told, terms), tags_of(shelf, told.fields));
    let entry = Entry { terms: *terms, variant: variant.into(), pace: Arc::default() };
    Head::new(entry, &wire, &tags)
}

/// The lines that are sent with every answer of the object.
pub fn wire_of<F: Fields + ?Sized>(shelf: &Shelf, told: &Told<'_, F>, terms: &StoredMeta) -> Vec<u8> {
    let kept = Kept::of(told, &shelf.rules);
    let mut wire = Vec::with_capacity(512);
    for (name, value) in told.fields.lines().filter(|(name, _)| kept.keeps(name)) {
        put_line(name, value, &mut wire);
    }
    if !told.fields.has("date") {
        let since = Duration::from_secs(terms.date_s.unsigned_abs());
        put_line(b"date", httpdate::fmt_http_date(UNIX_EPOCH + since).as_bytes(), &mut wire);
    }
    wire
}

/// Surrogate-Key is a list by spaces, Cache-Tag one by commas.
pub fn tags_of<F: Fields + ?Sized>(shelf: &Shelf, fields: &F) -> Vec<u64> {
    let keys = fields.values("surrogate-key").flat_map(|line| line.split(|byte| *byte == b' '));
    let tags = fields.values("cache-tag").flat_map(|line| line.split(|byte| *byte == b','));
    let all = keys.chain(tags).map(<[u8]>::trim_ascii).filter(|tag| !tag.is_empty());
    all.map(|tag| tag_hash(shelf.service.as_bytes(), tag)).collect()
}
