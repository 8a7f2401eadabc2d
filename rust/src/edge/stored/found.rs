//! What of the store answers a request at once: a fresh object whose bytes all lie in memory.

use crate::cache::semantics::conditional::{Served, Validators, preconditions};
use crate::cache::semantics::fields::Fields;
use crate::cache::semantics::key::write_key;
use crate::cache::semantics::range::Wanted;
use crate::cache::semantics::request::{Method, Request};
use crate::cache::semantics::reuse::{Reuse, may_look_up, reuse};
use crate::cache::semantics::status::{CacheStatus, Outcome};
use crate::cache::store::Held;
use crate::count::Outcome as Ended;
use crate::edge::door;
use crate::edge::stored::entry::{Choice, Entry, Lines};
use crate::edge::worker::{Edge, Site};
use bytes::Bytes;
use std::net::IpAddr;
use std::rc::Rc;

/// A request that wants nothing but an answer, whichever protocol brought it.
pub struct Plain<'a, F> {
    pub method: &'a [u8],
    pub authority: &'a [u8],
    /// Path and query.
    pub target: &'a [u8],
    pub fields: &'a F,
    pub scheme: &'a str,
    pub client: IpAddr,
    /// Of its head, as its protocol counts them.
    pub head_bytes: usize,
}

pub struct Found {
    pub site: Rc<Site>,
    pub object: Held<Entry>,
    /// Full, NotModified, or one range.
    pub served: Served,
    /// What a GET gets.
    pub part: Bytes,
    pub is_head: bool,
    pub age_s: u64,
    pub status: CacheStatus,
}

impl Found {
    /// What goes out after the head.
    pub fn body(self) -> Bytes {
        if self.is_head { Bytes::new() } else { self.part }
    }

    /// Counts the request as answered.
    pub fn count(&self, edge: &Edge, client: IpAddr) {
        edge.tally.add(Outcome::Hit);
        let service = &self.site.service;
        edge.counts.served(Some(service), service.region_of(client), Ended::Ok);
    }
}

/// None: the long way answers. No lock that another worker takes, no allocation.
pub fn find<F: Fields>(edge: &Edge, plain: &Plain<'_, F>) -> Option<Found> {
    let site = edge.site(plain.authority)?;
    if !door::is_short(&site, plain.client, plain.target.len(), plain.fields.lines().count()) {
        return None;
    }
    let shelf = site.prepared.shelf.as_ref()?;
    if plain.head_bytes as u64 > site.service.settings.limits.head_bytes_max {
        return None;
    }
    let request = Request::read(plain.method, plain.fields, false, shelf.rules.obeys_clients);
    may_look_up(&request).ok()?;
    let object = edge.with_front(|front, key| {
        key.clear();
        write_key(plain.scheme, plain.authority, plain.target, plain.fields, &shelf.rules, key);
        front.hit(shelf.store.key(key), &mut Choice(plain.fields))
    })??;
    let now_ms = edge.now_ms();
    let terms = object.head.meta.terms;
    let age_s = match reuse(&terms, &request, now_ms) {
        Reuse::Fresh { age_s } if !object.is_purged_softly() => age_s,
        _ => return None,
    };
    let whole = object.body.whole().filter(|_| terms.part.is_none())?;
    let lines = Lines(&object.head.wire);
    let validators = if request.range.is_some() || request.is_conditional() {
        Validators::of(&lines)
    } else {
        Validators::default()
    };
    let length = Some(whole.len() as u64);
    let served = preconditions(&request, &terms, &validators, length, shelf.rules.ranges_max);
    let part = part_of(&served, whole)?;
    // Last of all: who goes the long way takes a token there.
    door::take(edge, &site, plain.client).ok()?;
    let is_head = request.method == Method::Head;
    let status = CacheStatus { ttl_s: Some(terms.ttl_s(now_ms)), ..CacheStatus::new(Outcome::Hit) };
    Some(Found { site, object, served, part, is_head, age_s, status })
}

/// None for what is better made elsewhere.
fn part_of(served: &Served, whole: &Bytes) -> Option<Bytes> {
    match served {
        Served::Full => Some(whole.clone()),
        Served::NotModified => Some(Bytes::new()),
        Served::Ranges(Wanted::One(span)) => {
            let (first, last) = (usize::try_from(span.first).ok()?, usize::try_from(span.last).ok()?);
            (last < whole.len()).then(|| whole.slice(first..=last))
        }
        _ => None,
    }
}
