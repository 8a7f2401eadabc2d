//! What stands at a key for a request: an object, a fetch to wait for, or the right to fetch.

use crate::cache::store::fill::{Fill, FillGuard};
use crate::cache::store::index::Slot;
use crate::cache::store::object::{Key, Meta, Object, Select};
use crate::cache::store::purge::Depth;
use crate::cache::store::{Store, add};
use std::sync::Arc;

/// What a request does next.
pub enum Lookup<M: Meta> {
    /// Serve it, or validate it first: whether it is fresh is for the rules to say.
    Hit(Arc<Object<M>>),
    /// Another fetches it: wait.
    Filling(Arc<Fill<M>>),
    /// Fetch it, for everybody.
    Vacant(FillGuard<M>),
    /// Lately this key was not cacheable: fetch it for this request alone. The guard is there in case that changed.
    Alone(FillGuard<M>),
}

/// Who fetches, when what is stored will not do (stale, or asked for anew).
pub enum Begin<M: Meta> {
    Mine(FillGuard<M>),
    Theirs(Arc<Fill<M>>),
}

impl<M: Meta> Store<M> {
    /// What stands at `key`.
    pub fn lookup(self: &Arc<Self>, key: Key, select: &mut impl Select<M>, now_ms: u64) -> Lookup<M> {
        if let Some(object) = self.find(key, select) {
            add(&self.counters.hits, 1);
            return Lookup::Hit(object);
        }
        if self.markers.is_set(key.hash, now_ms) {
            add(&self.counters.misses, 1);
            return Lookup::Alone(FillGuard::new(self, key, None));
        }
        // Under the bucket's lock somebody may turn out to have been quicker.
        let entered = self.index.edit(key.hash, |bucket| {
            let matching = bucket.iter().find_map(|slot| match slot {
                Slot::Object(object) if object.is_of(key) && select.matches(&object.head.meta) => {
                    Some(Arc::clone(object))
                }
                _ => None,
            });
            match matching {
                Some(object) if !self.is_gone(&object) => Entered::Object(object),
                _ => Entered::fill(bucket, key, select.lane()),
            }
        });
        match entered {
            Some(Entered::Object(object)) => {
                add(&self.counters.hits, 1);
                Lookup::Hit(object)
            }
            Some(Entered::Theirs(fill)) => {
                add(&self.counters.joined, 1);
                Lookup::Filling(fill)
            }
            Some(Entered::Mine(fill)) => {
                add(&self.counters.misses, 1);
                let guard = FillGuard::new(self, key, Some(fill));
                match self.recall_heads(guard) {
                    Ok(fill) => Lookup::Filling(fill),
                    Err(guard) => Lookup::Vacant(guard),
                }
            }
            None => Lookup::Alone(FillGuard::new(self, key, None)),
        }
    }

    /// The object for a request, if there is one in memory; counts nothing but the read.
    pub fn find(&self, key: Key, select: &mut impl Select<M>) -> Option<Arc<Object<M>>> {
        let bucket = self.index.read(key.hash);
        for slot in bucket.as_deref()?.slots() {
            if let Slot::Object(object) = slot
                && object.is_of(key)
                && select.matches(&object.head.meta)
                && self.is_current(object)
            {
                object.read();
                return Some(Arc::clone(object));
            }
        }
        None
    }

    /// The right to fetch a key although something may be stored: a validation, or a request that wants it anew.
    pub fn begin(self: &Arc<Self>, key: Key, lane: u64) -> Begin<M> {
        match self.index.edit(key.hash, |bucket| Entered::fill(bucket, key, lane)) {
            Some(Entered::Theirs(fill)) => Begin::Theirs(fill),
            Some(Entered::Mine(fill)) => Begin::Mine(FillGuard::new(self, key, Some(fill))),
            Some(Entered::Object(_)) | None => Begin::Mine(FillGuard::new(self, key, None)),
        }
    }

    /// Whether it may be served: live, and not purged since it was last asked.
    #[inline]
    pub(super) fn is_current(&self, object: &Arc<Object<M>>) -> bool {
        if object.looked_at() >= self.purges.epoch() { object.is_live() } else { self.ask_purges(object) }
    }

    #[cold]
    fn ask_purges(&self, object: &Arc<Object<M>>) -> bool {
        let (epoch, key) = (self.purges.epoch(), object.key());
        match self.purges.verdict(key.octets, &object.head.tags, object.looked_at()) {
            Some(Depth::Hard) => {
                add(&self.counters.purged, 1);
                self.remove(object);
                return false;
            }
            Some(Depth::Soft) => {
                add(&self.counters.purged, 1);
                object.set_stale();
            }
            None => {}
        }
        object.look(epoch);
        object.is_live()
    }

    /// Like `is_current`, but without touching the index.
    fn is_gone(&self, object: &Object<M>) -> bool {
        let key = object.key();
        let since = object.looked_at();
        since < self.purges.epoch()
            && self.purges.verdict(key.octets, &object.head.tags, since) == Some(Depth::Hard)
            || !object.is_live()
    }
}

enum Entered<M> {
    Object(Arc<Object<M>>),
    Mine(Arc<Fill<M>>),
    Theirs(Arc<Fill<M>>),
}

impl<M: Meta> Entered<M> {
    fn fill(bucket: &mut Vec<Slot<M>>, key: Key, lane: u64) -> Self {
        let theirs = bucket.iter().find_map(|slot| match slot {
            Slot::Fill(fill) if fill.is_of(key, lane) => Some(Arc::clone(fill)),
            _ => None,
        });
        if let Some(fill) = theirs {
            return Self::Theirs(fill);
        }
        let fill = Arc::new(Fill::new(key, lane));
        bucket.push(Slot::Fill(Arc::clone(&fill)));
        Self::Mine(fill)
    }
}
