//! An answer made of what is stored: whole, a part, several parts, or only that it has not changed.

use crate::cache::semantics::conditional::{Served, Validators, is_held, is_in_304, preconditions};
use crate::cache::semantics::fields::Fields;
use crate::cache::semantics::meta::StoredMeta;
use crate::cache::semantics::range::{Multipart, Span, Wanted, write_content_range};
use crate::cache::semantics::request::{Method, Request};
use crate::cache::semantics::status::{CacheStatus, Outcome};
use crate::cache::store::Object;
use crate::edge::answer::{Answer, Body};
use crate::edge::message::{Field, phrase};
use crate::edge::stored::asker::Asker;
use crate::edge::stored::body::{KeptBody, Part, Relief, StoredBody};
use crate::edge::stored::entry::{Entry, Lines, fields_of};
use bytes::Bytes;
use std::rc::Rc;
use std::sync::Arc;

/// The edge's name in Cache-Status.
pub const CACHE: &str = "polycdn";

/// What is known of a request when a stored answer is to be served.
pub struct Serving<'a> {
    pub request: &'a Request<'a, [Field]>,
    pub asker: &'a Rc<Asker>,
    /// Of the object, unless a purge made it stale.
    pub terms: StoredMeta,
    pub status: CacheStatus,
    pub age_s: u64,
    /// What came with this very answer, where it goes to the client who asked for it; else what is stored.
    pub fields: Option<Vec<Field>>,
    /// Takes over when the fetch that fills the object cannot be kept.
    pub relief: Option<Rc<Relief>>,
}

/// The answer of an object.
pub fn answer_of(object: &Arc<Object<Entry>>, mut serving: Serving<'_>) -> Answer {
    let wire = &object.head.wire;
    let lines = Lines(wire);
    let terms = &serving.terms;
    let length = length_of(object, terms);
    let validators = Validators::of(&lines);
    let ranges_max = serving.asker.shelf().rules.ranges_max;
    let served = preconditions(serving.request, terms, &validators, length, ranges_max);
    let mut fields = serving.fields.take().unwrap_or_else(|| fields_of(wire));
    let answer = match served {
        Served::Full => whole(object, fields, object.body.length(), &serving),
        Served::NotModified => {
            fields.retain(|field| is_in_304(&field.name));
            bodiless(304, fields)
        }
        Served::PreconditionFailed => own(412, "a precondition of the request does not hold"),
        Served::NotSatisfiable => {
            let mut range = Vec::new();
            write_content_range(None, length.unwrap_or(0), &mut range);
            let mut answer = own(416, "the range is outside of what there is");
            answer.fields.push(Field::new("content-range", range));
            answer
        }
        Served::Ranges(Wanted::Many(spans)) => {
            many(object, fields, &spans, length.unwrap_or(0), lines.value("content-type"), &serving)
        }
        Served::Ranges(Wanted::One(span)) => one(object, fields, span, length.unwrap_or(0), &serving),
        Served::Ranges(Wanted::Whole | Wanted::NotSatisfiable) => {
            whole(object, fields, object.body.length(), &serving)
        }
    };
    finished(answer, &serving)
}

/// The bytes of an object as its origin sent them, whatever the request wanted.
pub fn as_it_came(object: &Arc<Object<Entry>>, status: u16, mut serving: Serving<'_>) -> Answer {
    let fields = serving.fields.take().unwrap_or_else(|| fields_of(&object.head.wire));
    let length = object.body.length();
    let body = stream(object, vec![Part::Span(0, length)], &serving);
    finished(Answer { status, fields, length, body, is_ours: false }, &serving)
}

fn finished(mut answer: Answer, serving: &Serving<'_>) -> Answer {
    let is_asked = matches!(
        serving.status.outcome,
        Outcome::Miss | Outcome::VaryMiss | Outcome::PartialMiss | Outcome::Bypass(_)
    );
    if serving.age_s > 0 || !is_asked {
        answer.fields.push(Field::new("age", serving.age_s.to_string()));
    }
    mark(&mut answer, &serving.status);
    if serving.request.method == Method::Head {
        answer.body = Body::None;
    }
    answer
}

/// Adds the Cache-Status member of this cache behind those of caches nearer to the origin.
pub fn mark(answer: &mut Answer, status: &CacheStatus) {
    let mut value = Vec::with_capacity(64);
    status.write(CACHE, &mut value);
    answer.fields.push(Field::new("cache-status", value));
}

fn bodiless(status: u16, fields: Vec<Field>) -> Answer {
    Answer { status, fields, length: None, body: Body::None, is_ours: false }
}

/// A short answer about the request, not the object.
fn own(status: u16, why: &str) -> Answer {
    let text = Bytes::from(format!("{status} {}: {why}\n", phrase(status)));
    let kind = Field::new("content-type", Bytes::from_static(b"text/plain; charset=utf-8"));
    let length = Some(text.len() as u64);
    Answer { status, fields: vec![kind], length, body: Body::Full(text), is_ours: false }
}

fn whole(
    object: &Arc<Object<Entry>>,
    fields: Vec<Field>,
    length: Option<u64>,
    serving: &Serving<'_>,
) -> Answer {
    let status = serving.terms.whole().status;
    let body = match object.body.whole() {
        Some(whole) => Body::Full(whole.clone()),
        None if length == Some(0) => Body::None,
        None => stream(object, vec![Part::Span(0, length)], serving),
    };
    Answer { status, fields, length, body, is_ours: false }
}

fn stream(object: &Arc<Object<Entry>>, parts: Vec<Part>, serving: &Serving<'_>) -> Body {
    let (asker, relief) = (Rc::clone(serving.asker), serving.relief.clone());
    Body::Stored(Box::new(StoredBody::Kept(KeptBody::new(object, parts, asker, relief))))
}

fn one(
    object: &Arc<Object<Entry>>,
    mut fields: Vec<Field>,
    span: Span,
    length: u64,
    serving: &Serving<'_>,
) -> Answer {
    let mut range = Vec::with_capacity(40);
    write_content_range(Some(span), length, &mut range);
    fields.push(Field::new("content-range", range));
    let stored = stored_span(span, serving);
    let slice = object.body.whole().and_then(|whole| cut(whole, stored));
    let body = match slice {
        Some(slice) => Body::Full(slice),
        None => stream(object, vec![Part::Span(stored.first, Some(stored.last + 1))], serving),
    };
    Answer { status: 206, fields, length: Some(span.len()), body, is_ours: false }
}

/// The length of what the object is, or is a part of.
fn length_of(object: &Object<Entry>, terms: &StoredMeta) -> Option<u64> {
    terms.part.map_or(object.body.length(), |part| part.complete)
}

/// Whether all that the request wants of the object is in it; only a part that is kept by itself can lack something.
pub fn has_all(
    object: &Object<Entry>,
    terms: &StoredMeta,
    serving: &Request<'_, [Field]>,
    ranges_max: usize,
) -> bool {
    if terms.part.is_none() {
        return true;
    }
    let lines = Lines(&object.head.wire);
    let length = length_of(object, terms);
    is_held(terms, &preconditions(serving, terms, &Validators::of(&lines), length, ranges_max))
}

/// Where these bytes of the whole lie in what is stored.
fn stored_span(span: Span, serving: &Serving<'_>) -> Span {
    let first = serving.terms.part.map_or(0, |part| part.first);
    Span { first: span.first.saturating_sub(first), last: span.last.saturating_sub(first) }
}

fn cut(whole: &Bytes, span: Span) -> Option<Bytes> {
    let (first, last) = (usize::try_from(span.first).ok()?, usize::try_from(span.last).ok()?);
    (last < whole.len()).then(|| whole.slice(first..=last))
}

fn many(
    object: &Arc<Object<Entry>>,
    mut fields: Vec<Field>,
    spans: &[Span],
    length: u64,
    content_type: Option<&[u8]>,
    serving: &Serving<'_>,
) -> Answer {
    let seed = object.body.id() ^ serving.terms.arrived_ms.rotate_left(32);
    let frame = Multipart::new(seed, content_type, length);
    let mut parts = Vec::with_capacity(spans.len() * 2 + 1);
    for (place, span) in spans.iter().enumerate() {
        let mut head = Vec::with_capacity(128);
        frame.write_part_head(*span, place == 0, &mut head);
        parts.push(Part::Text(Bytes::from(head)));
        let stored = stored_span(*span, serving);
        parts.push(Part::Span(stored.first, Some(stored.last + 1)));
    }
    let mut tail = Vec::new();
    frame.write_tail(&mut tail);
    parts.push(Part::Text(Bytes::from(tail)));
    fields.retain(|field| !field.is("content-type"));
    let mut kind = Vec::new();
    frame.write_content_type(&mut kind);
    fields.push(Field::new("content-type", kind));
    let body = stream(object, parts, serving);
    Answer { status: 206, fields, length: Some(frame.body_len(spans)), body, is_ours: false }
}
