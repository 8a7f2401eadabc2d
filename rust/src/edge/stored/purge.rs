//! Purge orders, carried out on every service that they concern.

use crate::cache::semantics::key::write_key;
use crate::cache::store::{Depth, Target, key_hash, tag_hash};
use crate::edge::message::{Field, host_of};
use crate::edge::role::Prepared;
use crate::edge::stored::Shelf;
use crate::error::Refusal;
use crate::purge::{self, PurgeOrder, Purged};
use crate::table::{ANY_HOST, Served};
use std::sync::Arc;

/// Refused if no service keeps anything that the order could mean.
pub fn carry_out(served: &[Served<Prepared>], order: &PurgeOrder) -> Result<Purged, Refusal> {
    let depth = if order.is_soft { Depth::Soft } else { Depth::Hard };
    let mut services = 0;
    for (one, shelf) in served.iter().filter_map(|one| Some((one, one.prepared.shelf.as_ref()?))) {
        if concerns(one, served, &order.target) {
            services += 1;
            forget(shelf, &order.target, depth);
        }
    }
    if services == 0 {
        return Err(Refusal::never("no service that keeps anything is meant by this"));
    }
    Ok(Purged { services })
}

/// A host belongs to the service that names it, else to the one that takes any.
fn concerns(one: &Served<Prepared>, all: &[Served<Prepared>], target: &purge::Target) -> bool {
    let has = |one: &Served<Prepared>, name: &str| one.service.hostnames.iter().any(|host| **host == *name);
    match target {
        purge::Target::Key { service, .. } => service.as_ref().is_none_or(|name| *name == *one.service.name),
        purge::Target::Url { authority, .. } | purge::Target::Prefix { authority, .. } => {
            let host = host_of(authority.as_bytes());
            has(one, &host) || has(one, ANY_HOST) && !all.iter().any(|other| has(other, &host))
        }
    }
}

fn forget(shelf: &Arc<Shelf>, target: &purge::Target, depth: Depth) {
    let store = &shelf.store;
    match target {
        purge::Target::Key { key, .. } => {
            let tag = tag_hash(shelf.service.as_bytes(), key.as_bytes());
            store.purge(Target::Tag(tag), depth);
        }
        purge::Target::Prefix { scheme, authority, target } => {
            let prefix = format!("{scheme}://{}{target}", authority.to_ascii_lowercase());
            store.purge(Target::Prefix(prefix.as_bytes().into()), depth);
        }
        purge::Target::Url { scheme, authority, target } => {
            let mut key = Vec::new();
            let fields: [Field; 0] = [];
            let rules = crate::cache::semantics::rules::Rules { keyed: Vec::new(), ..shelf.rules.clone() };
            write_key(scheme, authority.as_bytes(), target.as_bytes(), fields.as_slice(), &rules, &mut key);
            if !shelf.rules.keyed.is_empty() {
                // Whatever the keyed fields were.
                key.push(b'\n');
                store.purge(Target::Prefix(key.as_slice().into()), depth);
                return;
            }
            store.purge(Target::Key(key_hash(&key)), depth);
        }
    }
}
