//! A miss: the origin's answer, stored if the rules allow it, and passed on either way.

use crate::cache::semantics::conditional::{Validators, is_held, preconditions};
use crate::cache::semantics::fields::Fields;
use crate::cache::semantics::kept::Kept;
use crate::cache::semantics::meta::StoredMeta;
use crate::cache::semantics::range::{Wanted, wanted};
use crate::cache::semantics::reason::Reason;
use crate::cache::semantics::request::{Method, Request};
use crate::cache::semantics::status::{CacheStatus, Outcome};
use crate::cache::semantics::storable::{Answer as Told, Storing, store_decision};
use crate::cache::semantics::vary;
use crate::cache::store::{FillGuard, Head, Shape, Span, tag_hash};
use crate::edge::answer::{Answer, Body};
use crate::edge::attempt::Interim;
use crate::edge::door::{FillSeat, denied};
use crate::edge::message::Field;
use crate::edge::stored::asker::Asked;
use crate::edge::stored::body::Relief;
use crate::edge::stored::entry::{Entry, put_line};
use crate::edge::stored::serve::{Serving, answer_of, mark};
use crate::edge::stored::{Question, Shelf, fill};
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
    /// Asks the origin for the whole, or for the blocks that a range needs.
    pub(super) async fn fetch(mut self, guard: Option<FillGuard<Entry>>, outcome: Outcome) -> Answer {
        match FillSeat::take(self.asker.site()) {
            Ok(seat) => self.seat.set(Some(seat)),
            Err(denial) => return denied(self.asker.edge(), &denial),
        }
        let interim = std::mem::replace(&mut self.interim, Interim::Nowhere);
        let asked = self.asker.ask(self.wanted_blocks(), interim, true).await;
        self.keep(guard, asked, outcome).await
    }

    /// What to ask for where the client wants one range: whole blocks around it, so that seeking in a large object costs
    /// no more than that. Nothing for a range in the first block: there the whole may well be no longer. The end of an
    /// object whose length is not known can only be asked for as it is.
    fn wanted_blocks(&self) -> Vec<Field> {
        let Some(text) = self.request.range else { return Vec::new() };
        let Some(range) = blocks_around(text, self.shelf.store.limits().block_bytes) else {
            return Vec::new();
        };
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
        let Asked { mut answer, asked_ms, arrived_ms } = asked;
        let mut status = CacheStatus::new(outcome);
        status.forwarded_status = (!answer.is_ours).then_some(answer.status);
        let kept = {
            let told = told(&answer, asked_ms, arrived_ms);
            match answer.is_ours {
                true => Err(Reason::Unusable),
                false => self.decide(&told),
            }
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
                return self.pass_on(answer, &status);
            }
        };
        let place = Place::of(&answer, &terms, self.shelf.store.limits().block_bytes);
        let Some(Place { terms, shape, span }) = place.filter(|place| self.is_answered_by(&answer, place))
        else {
            guard.release(arrived_ms);
            return self.pass_on(answer, &status);
        };
        let asked_with = self.head.fields.as_slice();
        let head = head_of(self.shelf, &told(&answer, asked_ms, arrived_ms), &terms, asked_with);
        let is_part = answer.status == 206;
        match guard.start(head, shape, span) {
            Err(_) => self.pass_on(answer, &status),
            Ok(writer) => {
                let object = Arc::clone(writer.object());
                let relief = Rc::new(Relief::default());
                let body = std::mem::replace(&mut answer.body, Body::None);
                status.is_stored = true;
                self.asker.edge().tally.add(outcome);
                let age_s = terms.age_s(arrived_ms);
                let fields = Some(own_fields(std::mem::take(&mut answer.fields), is_part));
                let (request, asker) = (&self.request, &self.asker);
                let relief_of_client = (!is_part).then(|| Rc::clone(&relief));
                let serving =
                    Serving { request, asker, terms, status, age_s, fields, relief: relief_of_client };
                fill::begin(body, writer, &relief, self.seat.take()).await;
                answer_of(&object, serving)
            }
        }
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

    /// The origin's answer as it is, for this client alone.
    pub(super) fn pass_on(&self, mut answer: Answer, status: &CacheStatus) -> Answer {
        self.asker.edge().tally.add(status.outcome);
        mark(&mut answer, status);
        if self.request.method == Method::Head {
            answer.body = Body::None;
        }
        answer
    }
}

/// A Range of whole blocks; None: the whole is to be asked for.
fn blocks_around(text: &[u8], block_bytes: u64) -> Option<String> {
    let text = text.trim_ascii();
    if text.get(..6)?.eq_ignore_ascii_case(b"bytes=") && text.get(6) == Some(&b'-') {
        return std::str::from_utf8(text).ok().filter(|text| !text.contains(',')).map(str::to_owned);
    }
    let Wanted::One(span) = wanted(text, u64::MAX - 1, 1) else { return None };
    let first = span.first / block_bytes * block_bytes;
    if text.ends_with(b"-") {
        return (first > 0).then(|| format!("bytes={first}-"));
    }
    if span.last < block_bytes {
        return None;
    }
    let last = (span.last / block_bytes + 1).saturating_mul(block_bytes) - 1;
    Some(format!("bytes={first}-{last}"))
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
}

impl Place {
    /// A whole, blocks of a whole, or a small part by itself; None for a part that is none of these.
    fn of(answer: &Answer, terms: &StoredMeta, block_bytes: u64) -> Option<Self> {
        let Some(part) = terms.part else {
            let length = answer_length(answer);
            let is_divisible = is_divisible(answer, terms, length);
            return Some(Self {
                terms: *terms,
                shape: Shape { length, is_divisible },
                span: Span::default(),
            });
        };
        let is_on_blocks = part.first % block_bytes == 0;
        if is_on_blocks && is_divisible(answer, terms, part.complete) {
            let shape = Shape { length: part.complete, is_divisible: true };
            let span = Span { from: part.first, to: Some(part.last + 1) };
            return Some(Self { terms: terms.whole(), shape, span });
        }
        let shape = Shape { length: Some(part.len()), is_divisible: false };
        let is_small = part.len() <= PART_BYTES_MAX && answer_length(answer) == Some(part.len());
        is_small.then_some(Self { terms: *terms, shape, span: Span::default() })
    }
}

/// Whether blocks can be fetched later by themselves: the length is known and a strong validator holds them together.
fn is_divisible(answer: &Answer, terms: &StoredMeta, length: Option<u64>) -> bool {
    let is_strong = |etag: &[u8]| etag.starts_with(b"\"");
    let has_strong_etag = answer.fields.as_slice().single("etag").is_some_and(is_strong);
    let is_whole = matches!(terms.status, 200 | 206);
    let takes_ranges = answer.status == 206
        || answer
            .fields
            .as_slice()
            .single("accept-ranges")
            .is_some_and(|unit| unit.eq_ignore_ascii_case(b"bytes"));
    is_whole && length.is_some() && has_strong_etag && takes_ranges
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
