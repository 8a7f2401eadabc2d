//! The cache in front of the origin: what can be answered from the store is, and what the origin answers is stored.
//!
//! | a request finds | and then |
//! |---|---|
//! | a fresh answer | gets it, or its part of it |
//! | a stale one that may serve meanwhile | gets it, while one fetch brings it up to date |
//! | a stale one | waits for the origin's word on it, with others that want the same |
//! | a fetch under way | waits for its head, then reads along |
//! | nothing | fetches it, for everybody |
//! | that it is not cacheable | is passed on alone |
//!
//! `respond` is the door; `hit` is its short cut for HTTP/1, `hit_h2` the one for HTTP/2.

pub mod asker;
pub mod blocks;
pub mod body;
pub mod cut;
pub mod entry;
pub mod fill;
pub mod found;
pub mod hit;
pub mod hit_h2;
pub mod keep;
pub mod pace;
mod posted;
pub mod purge;
pub mod serve;
mod shared;
pub mod tally;
pub mod validate;

use crate::cache::semantics::invalidate::{invalidates, resolve};
use crate::cache::semantics::key::write_key;
use crate::cache::semantics::meta::StoredMeta;
use crate::cache::semantics::reason::Reason;
use crate::cache::semantics::request::{Method, Request};
use crate::cache::semantics::reuse::{Reuse, is_refused_on_miss, may_look_up, reuse};
use crate::cache::semantics::rules::Rules;
use crate::cache::semantics::status::{CacheStatus, Outcome};
use crate::cache::store::{Begin, Filled, Lookup, Object, Store};
use crate::count::Outcome as Ended;
use crate::edge::answer::Answer;
use crate::edge::attempt::Interim;
use crate::edge::body::BodyError;
use crate::edge::door::FillSeat;
use crate::edge::forward::{Incoming, forward};
use crate::edge::message::{Field, RequestHead};
use crate::edge::worker::{Edge, Site};
use asker::{Asked, Asker};
use entry::{Choice, Entry};
use serve::{Serving, answer_of, mark};
use std::cell::Cell;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// How long a change waits for the disk to know of it.
const WRITTEN: Duration = Duration::from_secs(1);

/// How often a request looks again after others' fetches failed, before it goes alone.
const TURNS_MAX: usize = 3;

/// A service's rules, and where its answers lie.
#[derive(Clone)]
pub struct Shelf {
    pub rules: Rules,
    pub store: Arc<Store<Entry>>,
    /// The name of the service, in front of its surrogate keys.
    pub service: Box<str>,
}

impl std::fmt::Debug for Shelf {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Shelf").field("rules", &self.rules).finish_non_exhaustive()
    }
}

/// A request that may be answered from the store.
struct Question<'a> {
    shelf: &'a Arc<Shelf>,
    head: &'a RequestHead,
    request: Request<'a, [Field]>,
    key: Vec<u8>,
    asker: Rc<Asker>,
    client: IpAddr,
    /// Where informational answers go; taken by the first fetch.
    interim: Cell<Interim>,
    /// Held while the object is filled.
    seat: Cell<Option<FillSeat>>,
}

/// The answer to a request, from the store or from the origin; an error if the client's own body did not come.
pub async fn respond(edge: &Rc<Edge>, site: &Rc<Site>, incoming: Incoming) -> Result<Answer, BodyError> {
    let shelf = site.prepared.shelf.as_ref().filter(|_| incoming.head.upgrade.is_none());
    let Some(shelf) = shelf else { return Box::pin(forward(edge, incoming)).await };
    let has_body = incoming.source.is_some();
    let fields = incoming.head.fields.as_slice();
    let request = Request::read(&incoming.head.method, fields, has_body, shelf.rules.obeys_clients);
    if let Err(reason) = may_look_up(&request) {
        return Box::pin(pass_through(edge, site, shelf, incoming, reason)).await;
    }
    let Incoming { head, client, scheme, interim, .. } = incoming;
    let interim = Cell::new(interim);
    let request = Request::read(&head.method, head.fields.as_slice(), false, shelf.rules.obeys_clients);
    let mut key = Vec::with_capacity(128);
    write_key(scheme, &head.authority, &head.target, head.fields.as_slice(), &shelf.rules, &mut key);
    let asker = Rc::new(Asker::new(edge, site, shelf, &head, client, scheme));
    let question =
        Question { shelf, head: &head, request, key, asker, client, interim, seat: Cell::default() };
    Ok(question.answer().await)
}

/// A request that no cache answers; if it changed something, what is stored of it goes.
async fn pass_through(
    edge: &Rc<Edge>,
    site: &Rc<Site>,
    shelf: &Arc<Shelf>,
    incoming: Incoming,
    reason: Reason,
) -> Result<Answer, BodyError> {
    let head = incoming.head.clone();
    let (client, scheme, asked_ms) = (incoming.client, incoming.scheme, edge.now_ms());
    let answer = Box::pin(forward(edge, incoming)).await?;
    if !answer.is_ours && invalidates(&head.method, answer.status) {
        invalidate(shelf, &head, scheme, &answer).await;
    }
    let asked = Asked { answer, range: None, asked_ms, arrived_ms: edge.now_ms() };
    if posted::is_for_get(shelf, &head, scheme, &asked) {
        let asker = Rc::new(Asker::new(edge, site, shelf, &head, client, scheme));
        return Ok(Box::pin(posted::keep(shelf, &head, asker, client, asked)).await);
    }
    let mut answer = asked.answer;
    edge.tally.add(Outcome::Bypass(reason));
    if answer.status != 101 {
        let forwarded_status = (!answer.is_ours).then_some(answer.status);
        mark(&mut answer, &CacheStatus { forwarded_status, ..CacheStatus::new(Outcome::Bypass(reason)) });
    }
    Ok(answer)
}

/// RFC 9111 §4.4: the target, and what the answer names on the same origin.
async fn invalidate(shelf: &Shelf, head: &RequestHead, scheme: &str, answer: &Answer) {
    let named = answer.fields.iter().filter(|field| field.is("location") || field.is("content-location"));
    let local = named.filter_map(|field| {
        let mut target = Vec::new();
        resolve(scheme, &head.authority, &head.target, &field.value, &mut target).then_some(target)
    });
    for target in local.chain([head.target.to_vec()]) {
        let mut key = Vec::with_capacity(128);
        write_key(scheme, &head.authority, &target, head.fields.as_slice(), &shelf.rules, &mut key);
        if let Some(written) = shelf.store.forget(shelf.store.key(&key)) {
            // Before the client hears of its change, so that no restart brings the older answer back.
            let _ = timeout(WRITTEN, written).await;
        }
    }
}

/// An answer that goes to its client as it came, with what the cache did.
fn passed(mut answer: Answer, outcome: Outcome) -> Answer {
    let forwarded_status = (!answer.is_ours).then_some(answer.status);
    mark(&mut answer, &CacheStatus { forwarded_status, ..CacheStatus::new(outcome) });
    answer
}

/// The terms of an object, stale if a purge said so.
fn terms_of(object: &Object<Entry>, now_ms: u64) -> StoredMeta {
    let terms = object.head.meta.terms;
    if object.is_purged_softly() { terms.expired(now_ms) } else { terms }
}

impl Question<'_> {
    async fn answer(&self) -> Answer {
        let (store, mut is_collapsed) = (Arc::clone(&self.shelf.store), false);
        let key = store.key(&self.key);
        // What this request may not store, or only asks about, needs no fetch that others wait for.
        let is_for_all = self.request.method == Method::Get && !self.request.wishes.no_store;
        for _ in 0..TURNS_MAX {
            let now_ms = self.asker.edge().now_ms();
            let mut choice = Choice(self.head.fields.as_slice());
            if !is_for_all || is_refused_on_miss(&self.request) {
                return match store.find(key, &mut choice) {
                    Some(object) => Box::pin(self.use_stored(object, is_collapsed)).await,
                    None if self.request.wishes.only_if_cached => self.gateway_timeout(),
                    None => self.alone(Outcome::Miss).await,
                };
            }
            match store.lookup(key, &mut choice, now_ms) {
                // In boxes as what is not a plain miss: every request would reserve the room for it.
                Lookup::Hit(object) => return Box::pin(self.use_stored(object, is_collapsed)).await,
                Lookup::Vacant(guard) => {
                    let wanted = self.wanted_blocks();
                    return self.fetch(Some(guard), wanted, Outcome::Miss).await;
                }
                // What is not kept is asked for as the client wants it.
                Lookup::Alone(guard) => {
                    let wanted = self.wanted_range();
                    return self.fetch(Some(guard), wanted, Outcome::Miss).await;
                }
                Lookup::Filling(fill) => match fill.wait().await {
                    Filled::Object(_) => is_collapsed = true,
                    Filled::Failed => {}
                    Filled::Alone => return self.alone(Outcome::Miss).await,
                },
            }
        }
        self.alone(Outcome::Miss).await
    }

    async fn use_stored(&self, object: Arc<Object<Entry>>, is_collapsed: bool) -> Answer {
        let now_ms = self.asker.edge().now_ms();
        let terms = terms_of(&object, now_ms);
        if !serve::has_all(&object, &terms, &self.request, self.shelf.rules.ranges_max) {
            return match self.shelf.store.begin(self.shelf.store.key(&self.key), 0) {
                Begin::Mine(guard) => {
                    let wanted = self.wanted_blocks();
                    self.fetch(Some(guard), wanted, Outcome::PartialMiss).await
                }
                Begin::Theirs(_) => self.alone(Outcome::PartialMiss).await,
            };
        }
        let (outcome, age_s) = match reuse(&terms, &self.request, now_ms) {
            Reuse::Fresh { age_s } => (Outcome::Hit, age_s),
            Reuse::Stale { age_s } => (Outcome::HitStale, age_s),
            Reuse::StaleWhileRevalidate { age_s } => {
                self.revalidate_behind(&object);
                (Outcome::HitWhileRevalidate, age_s)
            }
            Reuse::MustValidate { doubt } if self.request.method == Method::Head => {
                return self.head_through(object, doubt).await;
            }
            Reuse::MustValidate { doubt } => return Box::pin(self.validate(object, doubt)).await,
            Reuse::GatewayTimeout { .. } => return self.gateway_timeout(),
            Reuse::Pass(_) => return self.alone(Outcome::Miss).await,
        };
        let ttl_s = Some(terms.ttl_s(now_ms));
        self.serve(&object, CacheStatus { ttl_s, is_collapsed, ..CacheStatus::new(outcome) }, age_s)
    }

    /// The answer of a stored object, counted.
    fn serve(&self, object: &Arc<Object<Entry>>, status: CacheStatus, age_s: u64) -> Answer {
        let edge = self.asker.edge();
        edge.tally.add(status.outcome);
        if status.forwarded_status.is_none() {
            // Else the attempt's own report counts the request.
            let service = &self.asker.site().service;
            edge.counts.served(Some(service), service.region_of(self.client), Ended::Ok);
        }
        let terms = terms_of(object, edge.now_ms());
        let (request, asker) = (&self.request, &self.asker);
        answer_of(object, Serving { request, asker, terms, status, age_s, fields: None, relief: None })
    }

    fn gateway_timeout(&self) -> Answer {
        self.asker.edge().tally.add(Outcome::GatewayTimeout);
        let mut answer = Answer::own(504, "nothing is stored, and the request wants nothing else");
        mark(&mut answer, &CacheStatus::new(Outcome::GatewayTimeout));
        answer
    }

    /// The client's own request, conditions and all; its answer is for nobody else.
    async fn alone(&self, outcome: Outcome) -> Answer {
        passed(self.through(self.interim.take(), outcome).await.answer, outcome)
    }

    /// The origin's own answer to the client's own request; nothing of ours is in it yet.
    async fn through(&self, interim: Interim, outcome: Outcome) -> Asked {
        let edge = Rc::clone(self.asker.edge());
        edge.tally.add(outcome);
        let head = RequestHead { target: self.asker.target(), ..self.head.clone() };
        let head = RequestHead { fields: self.reaching(), ..head };
        let scheme = self.asker.scheme();
        let incoming =
            Incoming { head, source: None, client: self.client, scheme, interim, is_counted: true };
        let asked_ms = edge.now_ms();
        let answer = Box::pin(forward(&edge, incoming)).await;
        let answer = answer.unwrap_or_else(|_| Answer::own(502, "the request broke off"));
        Asked { answer, range: None, asked_ms, arrived_ms: edge.now_ms() }
    }

    /// The client's fields that may reach the origin.
    fn reaching(&self) -> Vec<Field> {
        let rules = &self.shelf.rules;
        let reaches = |field: &&Field| crate::cache::semantics::key::reaches_origin(&field.name, rules);
        self.head.fields.iter().filter(reaches).cloned().collect()
    }
}
