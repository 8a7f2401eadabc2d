//! What the edge makes of a service's settings when they are applied: everything that needs a file or can be refused.

use crate::document::{Expect, ProviderKind};
use crate::edge::tls::{UpstreamTls, read_key_pair};
use crate::edge::worker;
use crate::error::{EngineError, Refusal};
use crate::runtime::{Role, Worker};
use crate::table::{Served, Service, Snapshot, parse_addresses};
use rustc_hash::FxHashMap;
use rustls::sign::CertifiedKey;
use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;

/// The edge, as `runtime` knows it.
pub struct EdgeRole;

impl Role for EdgeRole {
    const WORD: &'static str = "edge";
    type Prepared = Prepared;
    type Table = Snapshot<Prepared>;

    fn prepare(&self, service: &Arc<Service>) -> Result<Prepared, Refusal> {
        Prepared::new(service)
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
}

impl Prepared {
    /// Refuses settings whose files cannot be read, and a share for ourselves without an origin to go to.
    pub fn new(service: &Service) -> Result<Self, Refusal> {
        let settings = &service.settings;
        let certificates = settings.certificates.iter().map(read_key_pair).collect::<Result<_, _>>()?;
        let objects = settings.objects.iter();
        let expected = objects.map(|object| (object.path.as_bytes().into(), object.expect.clone())).collect();
        Ok(Self { targets: targets(service)?, certificates, expected })
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
        // As probes do: a provider known by name is reached by its own name. The endpoint's host may be the
        // service's, which could lead back to us.
        let by_name = (upstream.kind != ProviderKind::Edge).then(|| upstream.cname.clone()).flatten();
        Ok(Target {
            host: by_name.unwrap_or_else(|| endpoint.host.as_str().into()),
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
