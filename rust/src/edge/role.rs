//! What the edge makes of a service's settings when they are applied: everything that needs a file or can be refused.

use crate::access::AccessLog;
use crate::cache::semantics::rules::{Heuristic, Query, Rules};
use crate::cache::store::disk::DiskCounts;
use crate::cache::store::{Limits, Store};
use crate::choose::Health;
use crate::clock;
use crate::count::WorkerCounts;
use crate::document::{
    CacheRules, DigestDocument, Expect, Fallback, ProbedObject, ProviderKind, QueryRule, Settings,
};
use crate::edge::door::Doors;
use crate::edge::give_up::OwnWord;
use crate::edge::message::RequestHead;
use crate::edge::stored::entry::Entry;
use crate::edge::stored::tally::{self, Tally};
use crate::edge::stored::{Shelf, purge};
use crate::edge::tls::{UpstreamTls, read_key_pair};
use crate::edge::traffic::{self, Traffic};
use crate::edge::worker;
use crate::error::{EngineError, Refusal};
use crate::gate::Gate;
use crate::metrics::{Kind, MetricsText};
use crate::purge::{PurgeOrder, Purged};
use crate::reflex::digest::Pinned;
use crate::reflex::known::KnownObjects;
use crate::runtime::{EngineConfig, Role, Worker};
use crate::table::{Served, Service, Snapshot, parse_addresses};
use rustc_hash::FxHashMap;
use rustls::sign::CertifiedKey;
use std::future::Future;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// The edge, as `runtime` knows it.
pub struct EdgeRole {
    memory_bytes: u64,
    /// Made when the first service wants it: an edge that keeps nothing needs no memory for it.
    store: OnceLock<Arc<Store<Entry>>>,
    tallies: Mutex<Vec<Arc<Tally>>>,
    traffic: Mutex<Vec<Arc<Traffic>>>,
    access_log: Option<Arc<AccessLog>>,
    /// Who gets in, as far as workers share it.
    pub doors: Doors,
}

impl EdgeRole {
    /// The cache's store, if any service ever wanted it.
    pub fn store(&self) -> Option<&Arc<Store<Entry>>> {
        self.store.get()
    }

    /// A place to count for one more worker.
    pub fn new_tally(&self) -> Arc<Tally> {
        let tally = Arc::<Tally>::default();
        self.tallies.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&tally));
        tally
    }

    /// The same for connections and bytes.
    pub fn new_traffic(&self) -> Arc<Traffic> {
        let traffic = Arc::<Traffic>::default();
        self.traffic.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&traffic));
        traffic
    }

    pub fn access_log(&self) -> Option<Arc<AccessLog>> {
        self.access_log.clone()
    }

    fn shelf(&self, service: &Service) -> Option<Arc<Shelf>> {
        let rules = rules_of(service.settings.cache.as_ref()?);
        let store = self.store.get_or_init(|| Store::new(Limits::new(self.memory_bytes)));
        Some(Arc::new(Shelf { rules, store: Arc::clone(store), service: service.name.clone() }))
    }
}

fn tell_disk(counts: &DiskCounts, text: &mut MetricsText) {
    text.family("polycdn_cache_disk_off", Kind::Gauge, "Whether the disk tier is bypassed since it failed.")
        .sample(&[], u8::from(counts.is_off));
    text.family("polycdn_cache_disk_records", Kind::Gauge, "What lies on the disk.")
        .sample(&[("kind", "head")], counts.heads)
        .sample(&[("kind", "block")], counts.blocks);
    let mut counter = |name, help: &str, value: u64| {
        text.family(name, Kind::Counter, help).sample(&[], value);
    };
    counter("polycdn_cache_disk_hits_total", "Records read and found right.", counts.hits);
    counter("polycdn_cache_disk_damaged_total", "Records found damaged or overwritten.", counts.damaged);
    counter("polycdn_cache_disk_errors_total", "Reads and writes that failed.", counts.errors);
    counter("polycdn_cache_disk_written_bytes_total", "Bytes written.", counts.written_bytes);
    counter(
        "polycdn_cache_disk_skipped_total",
        "Records not written, the disk being too slow.",
        counts.skipped,
    );
}

fn rules_of(told: &CacheRules) -> Rules {
    let default = Rules::default();
    Rules {
        query: match told.query {
            QueryRule::Keep => Query::Keep,
            QueryRule::Sort => Query::Sort,
            QueryRule::Ignore => Query::Ignore,
            QueryRule::Allow => Query::Only(told.query_names.clone()),
        },
        heuristic: told.heuristic.then_some(Heuristic { percent: 10, max_s: 86_400 }),
        lifetime_by_status: told.negative_ttls.clone(),
        body_bytes_max: told.object_bytes_max,
        stale_while_revalidate_s: told.stale_while_revalidate_s,
        stale_if_error_s: told.stale_if_error_s,
        stale_on_disconnect_s: told.stale_on_disconnect_s,
        ..default
    }
}

impl Role for EdgeRole {
    const WORD: &'static str = "edge";
    type Prepared = Prepared;
    type Table = Snapshot<Prepared>;

    fn new(config: &EngineConfig) -> Result<Self, EngineError> {
        Ok(Self {
            memory_bytes: config.memory_bytes,
            store: OnceLock::new(),
            tallies: Mutex::default(),
            traffic: Mutex::default(),
            access_log: config.access_log.as_ref().map(AccessLog::start).transpose()?.map(Arc::new),
            doors: Doors::new(config.access.as_ref())
                .map_err(|refusal| EngineError::Config(refusal.at("access").message))?,
        })
    }

    fn open(&self, config: &EngineConfig) -> Result<(), EngineError> {
        let Some(disk) = &config.disk else { return Ok(()) };
        let store = self.store.get_or_init(|| Store::new(Limits::new(self.memory_bytes)));
        let attached =
            std::fs::create_dir_all(&disk.folder).and_then(|()| store.attach_disk(&disk.folder, disk.bytes));
        attached.map_err(|error| EngineError::system(disk.folder.display(), error))
    }

    async fn let_go(&self) {
        if let Some(disk) = self.store().and_then(|store| store.disk()) {
            // An error means that nobody writes any more.
            let _ = disk.close().await;
        }
    }

    fn prepare(&self, service: &Arc<Service>) -> Result<Prepared, Refusal> {
        Ok(Prepared { shelf: self.shelf(service), ..Prepared::new(service)? })
    }

    fn is_outdated(&self, prepared: &Prepared) -> bool {
        prepared.stamps.iter().any(|(path, stamp)| Stamp::of(path) != *stamp)
    }

    fn table(&self, served: &[Served<Prepared>]) -> Snapshot<Prepared> {
        Snapshot::new(served)
    }

    fn tell(&self, _counts: &[Arc<WorkerCounts>], text: &mut MetricsText) {
        self.doors.tell(text);
        tally::tell(&self.tallies.lock().unwrap_or_else(PoisonError::into_inner), text);
        traffic::tell(&self.traffic.lock().unwrap_or_else(PoisonError::into_inner), text);
        if let Some(log) = &self.access_log {
            log.tell(text);
        }
        let Some(store) = self.store() else { return };
        let counts = store.counts();
        let mut gauge = |name, help: &str, value: u64| {
            text.family(name, Kind::Gauge, help).sample(&[], value);
        };
        gauge("polycdn_cache_memory_bytes", "Memory that the cache takes.", counts.used_bytes);
        gauge("polycdn_cache_memory_budget_bytes", "Memory that it may take.", counts.budget_bytes);
        gauge("polycdn_cache_objects", "Objects in memory.", counts.objects);
        let mut counter = |name, help: &str, value: u64| {
            text.family(name, Kind::Counter, help).sample(&[], value);
        };
        counter("polycdn_cache_collapsed_total", "Requests that waited for another's fetch.", counts.joined);
        counter("polycdn_cache_evictions_total", "Objects and blocks that made room.", counts.evictions);
        counter("polycdn_cache_evicted_bytes_total", "Their bytes.", counts.evicted_bytes);
        counter("polycdn_cache_refused_total", "Answers for which there was no room.", counts.refused);
        counter("polycdn_cache_purges_total", "Orders to purge.", counts.purges);
        counter("polycdn_cache_purged_total", "Objects found to be purged.", counts.purged);
        if let Some(disk) = store.disk() {
            tell_disk(&disk.counts(), text);
        }
    }

    fn reopen(&self) {
        if let Some(log) = &self.access_log {
            log.reopen();
        }
    }

    fn purge(&self, served: &[Served<Prepared>], order: &PurgeOrder) -> Result<Purged, Refusal> {
        purge::carry_out(served, order)
    }

    fn work(worker: Worker<Self>) -> impl Future<Output = Result<(), EngineError>> {
        worker::work(worker)
    }
}

/// Where one upstream really is, and how it is spoken to.
#[derive(Clone, Debug)]
pub struct Target {
    pub host: Box<str>,
    pub port: u16,
    /// Empty: the host is resolved.
    pub addresses: Box<[IpAddr]>,
    pub tls: Option<UpstreamTls>,
    /// How it did of late; what one worker saw the others know.
    pub health: Arc<Mutex<Health>>,
}

/// A service made ready for the edge; shared by all workers, never changed.
#[derive(Debug)]
pub struct Prepared {
    /// One per upstream of the service, in its order. An upstream of kind `edge` is ourselves: its target is the origin.
    pub targets: Box<[Target]>,
    pub certificates: Vec<Arc<CertifiedKey>>,
    /// What a good answer for a path looks like.
    pub expected: FxHashMap<Box<[u8]>, Expect>,
    /// Digests of bodies, by path or by path and query.
    pinned: FxHashMap<Box<[u8]>, Pinned>,
    /// What it says by itself when nobody answers well.
    pub fallback: Option<OwnWord>,
    /// None: nothing is kept of this service.
    pub shelf: Option<Arc<Shelf>>,
    /// What its objects look like.
    pub known: Arc<KnownObjects>,
    /// Who gets in.
    pub gate: Gate,
    /// Of the files of certificates and of the gate, as they were when they were read.
    stamps: Vec<(PathBuf, Stamp)>,
}

/// What tells a file from the one that lay there before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    changed_ms: u64,
    inode: u64,
    bytes: u64,
}

impl Stamp {
    /// All zero for a file that cannot be looked at.
    fn of(path: &Path) -> Self {
        let Ok(found) = std::fs::metadata(path) else { return Self { changed_ms: 0, inode: 0, bytes: 0 } };
        let changed_ms = found.modified().map_or(0, clock::file_ms);
        Self { changed_ms, inode: found.ino(), bytes: found.len() }
    }
}

impl Prepared {
    /// Refuses settings whose files cannot be read, and a share for ourselves without an origin to go to.
    pub fn new(service: &Service) -> Result<Self, Refusal> {
        let settings = &service.settings;
        // Looked at before reading: a change in between is then read once more, not missed.
        let files = settings.certificates.iter().flat_map(|pair| [&pair.cert_file, &pair.key_file]);
        let files = files.map(PathBuf::from).chain(Gate::files(&settings.gate));
        let stamps = files.map(|path| (path.clone(), Stamp::of(&path))).collect();
        let gate = Gate::new(&settings.gate)?;
        let certificates = settings.certificates.iter().map(read_key_pair).collect::<Result<_, _>>()?;
        let objects = settings.objects.iter();
        let expected = objects.map(|object| (object.path.as_bytes().into(), object.expect.clone())).collect();
        let pinned = pinned(settings);
        let fallback = settings.reflexes.fallback.as_ref().map(own_word).transpose()?;
        let targets = targets(service)?;
        let known = Arc::default();
        Ok(Self { targets, certificates, expected, pinned, fallback, shelf: None, known, gate, stamps })
    }

    /// What is known of the bytes that a request asks for.
    pub fn pinned(&self, head: &RequestHead) -> Option<&Pinned> {
        if self.pinned.is_empty() {
            return None;
        }
        self.pinned.get(&*head.target).or_else(|| self.pinned.get(head.path()))
    }
}

/// Digests that the settings name: of probed objects, and of a manifest, which may know the blocks too.
fn pinned(settings: &Settings) -> FxHashMap<Box<[u8]>, Pinned> {
    let of_manifest = |digest: &DigestDocument| {
        let pinned = Pinned {
            bytes: Some(digest.body_bytes),
            whole: octets_of_hex(&digest.sha256),
            blocks: digest.block_sha256.iter().filter_map(|text| octets_of_hex(text)).collect(),
            block_bytes: digest.block_bytes.unwrap_or(0),
        };
        (digest.path.as_bytes().into(), pinned)
    };
    let of_object = |object: &ProbedObject| {
        let whole = object.expect.sha256.as_deref().and_then(octets_of_hex)?;
        let pinned = Pinned { bytes: object.expect.body_bytes, whole: Some(whole), ..Pinned::default() };
        Some((object.path.as_bytes().into(), pinned))
    };
    let objects = settings.objects.iter().filter_map(of_object);
    objects.chain(settings.digests.iter().map(of_manifest)).collect()
}

/// 32 octets written as 64 hexadecimal digits.
pub fn octets_of_hex(text: &str) -> Option<[u8; 32]> {
    let mut octets = [0; 32];
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    for (place, octet) in octets.iter_mut().enumerate() {
        *octet = u8::from_str_radix(text.get(place * 2..place * 2 + 2)?, 16).ok()?;
    }
    Some(octets)
}

/// The largest fallback, in bytes; it is kept in memory.
const FALLBACK_BYTES_MAX: u64 = 1 << 20;

fn own_word(fallback: &Fallback) -> Result<OwnWord, Refusal> {
    let path = Path::new(&fallback.file);
    let at = |what: String| Refusal::never(what).at(format!("reflexes.fallback.file {}", path.display()));
    let bytes = path.metadata().map_err(|error| at(error.to_string()))?.len();
    if bytes > FALLBACK_BYTES_MAX {
        return Err(at(format!("{bytes} bytes, limit {FALLBACK_BYTES_MAX} bytes")));
    }
    let body = std::fs::read(path).map_err(|error| at(error.to_string()))?.into();
    let content_type = fallback.content_type.clone().into();
    Ok(OwnWord { status: fallback.status, content_type, body })
}

fn targets(service: &Service) -> Result<Box<[Target]>, Refusal> {
    let origin = service.settings.origin.as_ref();
    let target = |upstream: &crate::table::Upstream| {
        let (endpoint, addresses) = if upstream.kind == ProviderKind::Edge {
            let origin =
                origin.ok_or_else(|| Refusal::never("is ourselves, but the settings have no origin"))?;
            (origin, parse_addresses(&origin.addresses, "origin.addresses")?)
        } else {
            (&upstream.endpoint, upstream.addresses.clone())
        };
        // As probes do: a provider known by name is reached by its own name. The endpoint's host may be the
        // service's, which could lead back to us.
        let by_name = (upstream.kind != ProviderKind::Edge).then(|| upstream.cname.clone()).flatten();
        Ok(Target {
            host: by_name.unwrap_or_else(|| endpoint.host.as_str().into()),
            port: endpoint.port,
            addresses,
            tls: UpstreamTls::new(endpoint)?,
            health: Arc::default(),
        })
    };
    let named = |upstream| {
        target(upstream).map_err(|refusal: Refusal| refusal.at(format!("upstream {}", upstream.name)))
    };
    service.upstreams.iter().map(named).collect()
}
