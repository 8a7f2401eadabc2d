//! A stored answer that needs the origin's word before, or while, it is used.

use crate::cache::semantics::conditional::Validators;
use crate::cache::semantics::fields::Fields;
use crate::cache::semantics::meta::StoredMeta;
use crate::cache::semantics::reason::Doubt;
use crate::cache::semantics::reuse::{Failure, Reuse, after_error, reuse};
use crate::cache::semantics::status::{CacheStatus, Outcome};
use crate::cache::semantics::storable::Answer as Told;
use crate::cache::semantics::update::{Merged, Updated, by_head, by_not_modified};
use crate::cache::store::{Begin, Depth, FillGuard, Filled, Head, Object, Select, Target, key_hash};
use crate::edge::answer::Answer;
use crate::edge::attempt::Interim;
use crate::edge::door::{FillSeat, denied};
use crate::edge::message::{Field, media_type};
use crate::edge::stored::asker::{Asked, Asker};
use crate::edge::stored::entry::{Choice, Entry, Lines};
use crate::edge::stored::keep::{tags_of, told, wire_of};
use crate::edge::stored::shared::settle;
use crate::edge::stored::{Question, passed, terms_of};
use bytes::Bytes;
use std::rc::Rc;
use std::sync::Arc;

impl Question<'_> {
    /// The origin's word on an object, alone or together with whoever asks already.
    pub(super) async fn validate(&self, object: Arc<Object<Entry>>, doubt: Doubt) -> Answer {
        let store = Arc::clone(&self.shelf.store);
        let guard = match store.begin(store.key(&self.key), 0) {
            Begin::Mine(guard) => Some(guard),
            // A client that wants it anew wants no answer to a question that was asked before.
            Begin::Theirs(_) if doubt.is_the_clients() => None,
            Begin::Theirs(fill) => {
                let ended = fill.wait().await;
                if let Some(answer) = self.after_others(&object, ended) {
                    return answer;
                }
                None
            }
        };
        self.ask_about(guard, object, doubt).await
    }

    /// A HEAD that what is stored cannot answer: the origin's answer, which says something of what is stored too.
    pub(super) async fn head_through(&self, object: Arc<Object<Entry>>, doubt: Doubt) -> Answer {
        let outcome = Outcome::Validated(doubt);
        let asked = self.through(self.interim.take(), outcome).await;
        if asked.answer.is_ours {
            return passed(asked.answer, outcome);
        }
        let (store, rules) = (&self.shelf.store, &self.shelf.rules);
        let newer = told(&asked.answer, asked.asked_ms, asked.arrived_ms);
        let newer = Told { length: asked.answer.length, ..newer };
        let stored = Lines(&object.head.wire);
        let entry = &object.head.meta;
        match by_head(&stored, &entry.terms, object.body.length(), &newer, rules) {
            Updated::Fresh(terms) => {
                if let Begin::Mine(guard) = store.begin(store.key(&self.key), 0) {
                    guard.refresh(&object, merged_head(&self.asker, &object, &newer, terms));
                }
            }
            Updated::Forget(_) | Updated::Different => {
                store.purge(Target::Key(key_hash(&self.key)), Depth::Hard);
            }
            Updated::Unrelated => {}
        }
        passed(asked.answer, outcome)
    }

    /// What another's fetch means for this request; None: nothing.
    fn after_others(&self, object: &Arc<Object<Entry>>, ended: Filled<Entry>) -> Option<Answer> {
        let now_ms = self.asker.edge().now_ms();
        let collapsed = |outcome| CacheStatus { is_collapsed: true, ..CacheStatus::new(outcome) };
        match ended {
            Filled::Object(newer) => {
                let fits = Choice(self.head.fields.as_slice()).matches(&newer.head.meta);
                let terms = terms_of(&newer, now_ms);
                match reuse(&terms, &self.request, now_ms) {
                    Reuse::Fresh { age_s } if fits => {
                        Some(self.serve(&newer, collapsed(Outcome::Hit), age_s))
                    }
                    _ => None,
                }
            }
            Filled::Failed => {
                self.stale_after(object, Failure::Disconnected, collapsed(Outcome::StaleOnError))
            }
            Filled::Alone => None,
        }
    }

    async fn ask_about(
        &self,
        guard: Option<FillGuard<Entry>>,
        object: Arc<Object<Entry>>,
        doubt: Doubt,
    ) -> Answer {
        match FillSeat::take(self.asker.site()) {
            Ok(seat) => self.seat.set(Some(seat)),
            Err(denial) => {
                let stale = CacheStatus::new(Outcome::StaleOnError);
                let answer = self.stale_after(&object, Failure::Disconnected, stale);
                return answer.unwrap_or_else(|| denied(self.asker.edge(), &denial));
            }
        }
        let interim = self.interim.take();
        let (guard, asked) = self.ask_for_all(guard, Some(&object), conditions(&object), interim).await;
        let answer = &asked.answer;
        if answer.status == 304 {
            return self.not_modified(guard, object, asked, doubt).await;
        }
        let failure = if answer.is_ours { Failure::Disconnected } else { Failure::Status(answer.status) };
        let forwarded_status = (!answer.is_ours).then_some(answer.status);
        let stale = CacheStatus { forwarded_status, ..CacheStatus::new(Outcome::StaleOnError) };
        match self.stale_after(&object, failure, stale) {
            // The guard goes away: those who wait see that it failed, and decide as this one did.
            Some(answer) => answer,
            None => self.keep(guard, asked, Outcome::Validated(doubt)).await,
        }
    }

    /// The stale form of an object, where it may serve after that failure.
    fn stale_after(
        &self,
        object: &Arc<Object<Entry>>,
        failure: Failure,
        status: CacheStatus,
    ) -> Option<Answer> {
        let now_ms = self.asker.edge().now_ms();
        let terms = terms_of(object, now_ms);
        let age_s = after_error(&terms, &self.request, failure, &self.shelf.rules, now_ms)?;
        Some(self.serve(object, status, age_s))
    }

    async fn not_modified(
        &self,
        guard: Option<FillGuard<Entry>>,
        object: Arc<Object<Entry>>,
        asked: Asked,
        doubt: Doubt,
    ) -> Answer {
        let now_ms = self.asker.edge().now_ms();
        let mut status = CacheStatus::new(Outcome::Validated(doubt));
        status.forwarded_status = Some(304);
        match freshen(&self.asker, &object, &asked) {
            Freshened::Head(head) => {
                let fresh = match guard {
                    Some(guard) => guard.refresh(&object, *head),
                    None => None,
                };
                status.is_stored = fresh.is_some();
                let object = fresh.unwrap_or(object);
                let age_s = terms_of(&object, now_ms).age_s(now_ms);
                self.serve(&object, status, age_s)
            }
            Freshened::Forget => {
                drop(guard);
                self.shelf.store.purge(Target::Key(key_hash(object.key().octets)), Depth::Hard);
                self.serve(&object, status, terms_of(&object, now_ms).age_s(now_ms))
            }
            Freshened::Different => {
                let asked = self.asker.ask(Vec::new(), Interim::Nowhere, true).await;
                self.keep(guard, asked, Outcome::Validated(doubt)).await
            }
        }
    }

    /// Brings an object up to date while its stale form serves; nothing happens if another does it already.
    pub(super) fn revalidate_behind(&self, object: &Arc<Object<Entry>>) {
        let store = &self.shelf.store;
        let Begin::Mine(guard) = store.begin(store.key(&self.key), 0) else { return };
        let Ok(seat) = FillSeat::take(self.asker.site()) else { return };
        let (asker, object, head) = (Rc::clone(&self.asker), Arc::clone(object), self.head.clone());
        tokio::task::spawn_local(async move {
            let asked = asker.ask(conditions(&object), Interim::Nowhere, false).await;
            settle(&asker, &head, Some(&object), guard, asked, seat).await;
        });
    }
}

/// The stored validators as conditions.
fn conditions(object: &Object<Entry>) -> Vec<Field> {
    let lines = Lines(&object.head.wire);
    let Validators { etag, last_modified } = Validators::of(&lines);
    let field = |name, value: &[u8]| Field::new(name, Bytes::copy_from_slice(value));
    let etag = etag.map(|etag| field("if-none-match", etag));
    etag.into_iter().chain(last_modified.map(|date| field("if-modified-since", date))).collect()
}

/// What a 304 makes of an object.
pub(super) enum Freshened {
    Head(Box<Head<Entry>>),
    /// It may not be stored any longer.
    Forget,
    /// It speaks of another body.
    Different,
}

pub(super) fn freshen(asker: &Asker, object: &Object<Entry>, asked: &Asked) -> Freshened {
    let stored = Lines(&object.head.wire);
    let newer = told(&asked.answer, asked.asked_ms, asked.arrived_ms);
    let entry = &object.head.meta;
    // What becomes another kind of thing under the same validator is asked for whole: others have a word on that.
    if asker.site().destinations.len() > 1 && is_of_another_kind(&stored, newer.fields) {
        return Freshened::Different;
    }
    match by_not_modified(&stored, &entry.terms, &newer, &asker.shelf().rules) {
        Updated::Fresh(terms) => Freshened::Head(Box::new(merged_head(asker, object, &newer, terms))),
        Updated::Forget(_) => Freshened::Forget,
        Updated::Different | Updated::Unrelated => Freshened::Different,
    }
}

fn is_of_another_kind(stored: &impl Fields, newer: &[Field]) -> bool {
    match (stored.value("content-type"), newer.value("content-type")) {
        (Some(ours), Some(theirs)) => media_type(ours) != media_type(theirs),
        _ => false,
    }
}

/// The stored head with the newer fields in their place.
fn merged_head(
    asker: &Asker,
    object: &Object<Entry>,
    newer: &Told<'_, [Field]>,
    terms: StoredMeta,
) -> Head<Entry> {
    let stored = Lines(&object.head.wire);
    let merged = Merged { stored: &stored, newer: newer.fields };
    let (asked_ms, arrived_ms) = (newer.asked_ms, newer.arrived_ms);
    let as_one = Told { status: terms.status, fields: &merged, length: None, asked_ms, arrived_ms };
    let (wire, tags) = (wire_of(asker.shelf(), &as_one, &terms), tags_of(asker.shelf(), &merged));
    let (variant, pace) = (object.head.meta.variant.clone(), Arc::clone(&object.head.meta.pace));
    Head::new(Entry { terms, variant, pace }, &wire, &tags)
}
