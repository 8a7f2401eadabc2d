//! What the edge makes of a service's settings when they are applied: everything that needs a file or can be refused.

use crate::clock;
use crate::document::{Expect, ProviderKind};
use crate::edge::tls::{UpstreamTls, read_key_pair};
use crate::edge::worker;
use crate::error::{EngineError, Refusal};
use crate::runtime::{EngineConfig, Role, Worker};
use crate::table::{Served, Service, Snapshot, parse_addresses};
use rustc_hash::FxHashMap;
use rustls::sign::CertifiedKey;
use std::future::Future;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The edge, as `runtime` knows it.
pub struct EdgeRole;

impl Role for EdgeRole {
    const WORD: &'static str = "edge";
    type Prepared = Prepared;
    type Table = Snapshot<Prepared>;

    fn new(_config: &EngineConfig) -> Result<Self, EngineError> {
        Ok(Self)
    }

    fn prepare(&self, service: &Arc<Service>) -> Result<Prepared, Refusal> {
        Prepared::new(service)
    }

    fn is_outdated(&self, prepared: &Prepared) -> bool {
        prepared.stamps.iter().any(|(path, stamp)| Stamp::of(path) != *stamp)
    }

    fn table(&self, served: &[Served<Prepared>]) -> Snapshot<Prepared> {
        Snapshot::new(served)
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
}

/// A service made ready for the edge; shared by all workers, never changed.
#[derive(Debug)]
pub struct Prepared {
    /// One per upstream of the service, in its order. An upstream of kind `edge` is ourselves: its target is the origin.
    pub targets: Box<[Target]>,
    pub certificates: Vec<Arc<CertifiedKey>>,
    /// What a good answer for a path looks like.
    pub expected: FxHashMap<Box<[u8]>, Expect>,
    /// Of the files of the certificates, as they were when they were read.
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
        let stamps = files.map(|path| (PathBuf::from(path), Stamp::of(Path::new(path)))).collect();
        let certificates = settings.certificates.iter().map(read_key_pair).collect::<Result<_, _>>()?;
        let objects = settings.objects.iter();
        let expected = objects.map(|object| (object.path.as_bytes().into(), object.expect.clone())).collect();
        Ok(Self { targets: targets(service)?, certificates, expected, stamps })
    }
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
        Ok(Target {
            host: endpoint.host.as_str().into(),
            port: endpoint.port,
            addresses,
            tls: UpstreamTls::new(endpoint)?,
        })
    };
    let named = |upstream| {
        target(upstream).map_err(|refusal: Refusal| refusal.at(format!("upstream {}", upstream.name)))
    };
    service.upstreams.iter().map(named).collect()
}
