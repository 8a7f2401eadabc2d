//! Settings and plan of a service, checked and made ready for lookups. Pure.

use crate::document::{
    ANYWHERE, DigestDocument, Endpoint, ProviderKind, PublishedPlan, RegionPlan, Settings, UpstreamDocument,
};
use crate::error::Refusal;
use crate::region::Locator;
use crate::share::{FULL_BP, Shares};
use rustc_hash::FxHashMap;
use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;
use std::sync::Arc;

/// Name that observations use for the origin itself; no provider may have it (`model/units.py`).
pub const ORIGIN: &str = "origin";

/// The hostname that stands for every one that no service has.
pub const ANY_HOST: &str = "*";

const UPSTREAMS_MAX: usize = 256;
const REGIONS_MAX: usize = 4_096;

/// A provider as the engine uses it; its index in `Service::upstreams` stands for it everywhere.
#[derive(Clone, Debug)]
pub struct Upstream {
    pub name: Box<str>,
    pub kind: ProviderKind,
    pub endpoint: Endpoint,
    /// `endpoint.addresses`, parsed; empty = `endpoint.host` is resolved.
    pub addresses: Box<[IpAddr]>,
    pub ipv4: Box<[Ipv4Addr]>,
    pub ipv6: Box<[Ipv6Addr]>,
    /// Lower case without the last dot; answered when both address lists are empty.
    pub cname: Option<Box<str>>,
}

/// What the plan says for one region; indexes point into `Service::upstreams`.
#[derive(Clone, Debug)]
pub struct RegionTable {
    pub name: Box<str>,
    pub shares: Shares,
    /// Never empty, no index twice, the best first.
    pub order: Box<[u16]>,
    /// Seconds, at most 2^31 - 1 (RFC 2181 §8).
    pub ttl_s: u32,
}

/// One service: its settings and the plan made for them. Never changed; a new plan makes a new one.
#[derive(Debug)]
pub struct Service {
    pub name: Box<str>,
    pub generation: u64,
    pub made_ms: u64,
    pub settings_hash: Box<str>,
    /// Lower case without the last dot, no name twice, at least one.
    pub hostnames: Box<[Box<str>]>,
    pub upstreams: Box<[Upstream]>,
    /// The first is the default one.
    pub regions: Box<[RegionTable]>,
    pub locator: Locator,
    /// For what is not compiled: origin, objects, certificates, zone, limits.
    pub settings: Settings,
}

impl Service {
    /// The pair as one table. Refuses whatever could lead to an empty, ambiguous or unknown answer.
    pub fn compile(settings: Settings, published: &PublishedPlan) -> Result<Self, Refusal> {
        let plan = &published.plan;
        if settings.service != plan.service {
            let names = (&settings.service, &plan.service);
            return Err(Refusal::never(format!(
                "settings are of service {:?}, the plan of {:?}",
                names.0, names.1
            )));
        }
        check_path_name("service", &plan.service)?;
        if plan.generation == 0 {
            return Err(Refusal::never("generation 0; the first plan has generation 1"));
        }
        let upstreams = compile_upstreams(&settings.upstreams)?;
        settings.digests.iter().try_for_each(DigestDocument::check)?;
        let names = region_names(&settings)?;
        Ok(Self {
            name: plan.service.as_str().into(),
            generation: plan.generation,
            made_ms: plan.made_ms,
            settings_hash: published.settings_hash.as_str().into(),
            hostnames: compile_hostnames(&settings.hostnames)?,
            regions: compile_regions(&plan.service, &names, &upstreams, &plan.regions)?,
            locator: Locator::new(settings.regions.iter().map(|region| region.prefixes.as_slice()))?,
            upstreams,
            settings,
        })
    }

    /// Index of the client's region.
    pub fn region_of(&self, client: IpAddr) -> u16 {
        self.locator.region_of(client)
    }

    /// The plan of a region by index; of the default one for an index that is not ours.
    pub fn region(&self, index: u16) -> &RegionTable {
        self.regions.get(usize::from(index)).unwrap_or(&self.regions[0])
    }

    /// Name of an upstream by index; `ORIGIN` for an index that is no provider's.
    pub fn upstream_name(&self, index: u16) -> &str {
        self.upstreams.get(usize::from(index)).map_or(ORIGIN, |upstream| &upstream.name)
    }
}

/// A service with what a role made of it (certificates, precompiled answers).
#[derive(Debug)]
pub struct Served<P> {
    pub service: Arc<Service>,
    pub prepared: Arc<P>,
}

impl<P> Clone for Served<P> {
    fn clone(&self) -> Self {
        Self { service: Arc::clone(&self.service), prepared: Arc::clone(&self.prepared) }
    }
}

/// All services of an engine by hostname.
#[derive(Debug)]
pub struct Snapshot<P> {
    pub served: Vec<Served<P>>,
    hosts: FxHashMap<Box<[u8]>, usize>,
    any_host: Option<usize>,
}

const HOST_BYTES_MAX: usize = 253;

impl<P> Snapshot<P> {
    pub fn new(served: &[Served<P>]) -> Self {
        let mut hosts = FxHashMap::default();
        for (index, one) in served.iter().enumerate() {
            for hostname in &one.service.hostnames {
                hosts.entry(hostname.as_bytes().into()).or_insert(index);
            }
        }
        let any_host = hosts.get(ANY_HOST.as_bytes()).copied();
        Self { served: served.to_vec(), hosts, any_host }
    }

    /// The service of a Host header or a server name: any case, with or without last dot and port. One that is no
    /// service's own belongs to the service with the hostname `*`, if there is one.
    pub fn host(&self, host: &[u8]) -> Option<&Served<P>> {
        let is_any_alone = self.any_host.is_some() && self.hosts.len() == 1;
        let found = if is_any_alone { None } else { self.named(host) };
        found.or_else(|| self.served.get(self.any_host?))
    }

    fn named(&self, host: &[u8]) -> Option<&Served<P>> {
        let name = host.split(|byte| *byte == b':').next()?;
        let name = name.strip_suffix(b".").unwrap_or(name);
        let mut lower = [0_u8; HOST_BYTES_MAX];
        let lower = lower.get_mut(..name.len())?;
        lower.copy_from_slice(name);
        lower.make_ascii_lowercase();
        self.hosts.get(&*lower).and_then(|index| self.served.get(*index))
    }
}

/// Refuses a name that cannot be one folder of a path.
pub fn check_path_name(what: &str, name: &str) -> Result<(), Refusal> {
    let is_plain = |byte: u8| byte.is_ascii_graphic() && byte != b'/' && byte != b'\\';
    if name.is_empty() || name.len() > 128 || name.starts_with('.') || !name.bytes().all(is_plain) {
        return Err(Refusal::never(format!(
            "{what} {name:?}: a name is 1 to 128 visible ASCII characters, without slashes, not starting with a dot"
        )));
    }
    Ok(())
}

/// A host name in lower case without its last dot; labels of letters, digits, "-" and "_" (RFC 1035 §2.3.4).
pub fn normal_name(name: &str) -> Result<Box<str>, Refusal> {
    let lower = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    if lower.len() > HOST_BYTES_MAX || !lower.split('.').all(is_label) {
        return Err(Refusal::never(format!("{name:?} is not a host name")));
    }
    Ok(lower.into())
}

fn compile_hostnames(hostnames: &[String]) -> Result<Box<[Box<str>]>, Refusal> {
    if hostnames.is_empty() {
        return Err(Refusal::never("no hostnames; at least one is needed"));
    }
    let normal = |name: &String| if name == ANY_HOST { Ok(ANY_HOST.into()) } else { normal_name(name) };
    let names: Vec<Box<str>> = hostnames.iter().map(normal).collect::<Result<_, _>>()?;
    refuse_twice("hostname", names.iter().map(|name| &**name))?;
    Ok(names.into())
}

fn compile_upstreams(documents: &[UpstreamDocument]) -> Result<Box<[Upstream]>, Refusal> {
    if documents.is_empty() || documents.len() > UPSTREAMS_MAX {
        return Err(Refusal::never(format!("{} upstreams; allowed: 1 to {UPSTREAMS_MAX}", documents.len())));
    }
    refuse_twice("upstream", documents.iter().map(|upstream| upstream.name.as_str()))?;
    documents
        .iter()
        .map(|one| compile_upstream(one).map_err(|error| error.at(format!("upstream {}", one.name))))
        .collect()
}

fn compile_upstream(document: &UpstreamDocument) -> Result<Upstream, Refusal> {
    if document.name.is_empty() || document.name == ORIGIN {
        return Err(Refusal::never(format!("{:?} cannot be a provider's name", document.name)));
    }
    if document.endpoint.host.is_empty() || document.endpoint.port == 0 {
        return Err(Refusal::never("an endpoint needs a host and a port from 1 to 65535"));
    }
    Ok(Upstream {
        name: document.name.as_str().into(),
        kind: document.kind,
        endpoint: document.endpoint.clone(),
        addresses: parse_addresses(&document.endpoint.addresses, "endpoint.addresses")?,
        ipv4: parse_addresses(&document.ipv4, "ipv4")?,
        ipv6: parse_addresses(&document.ipv6, "ipv6")?,
        cname: document.cname.as_deref().map(normal_name).transpose()?,
    })
}

/// The addresses of a field, each once.
pub fn parse_addresses<T: FromStr + Eq + std::hash::Hash + Copy>(
    texts: &[String],
    field: &str,
) -> Result<Box<[T]>, Refusal> {
    let mut seen = HashSet::new();
    let mut addresses = Vec::with_capacity(texts.len());
    for text in texts {
        let address: T = text
            .parse()
            .map_err(|_| Refusal::never(format!("{field}: {text:?} is not an address of this kind")))?;
        if seen.insert(address) {
            addresses.push(address);
        }
    }
    Ok(addresses.into())
}

/// Names of the regions, the default one first.
fn region_names(settings: &Settings) -> Result<Vec<&str>, Refusal> {
    if settings.regions.is_empty() {
        return Ok(vec![ANYWHERE]);
    }
    if settings.regions.len() > REGIONS_MAX {
        return Err(Refusal::never(format!("{} regions, limit {REGIONS_MAX}", settings.regions.len())));
    }
    refuse_twice("region", settings.regions.iter().map(|region| region.name.as_str()))?;
    Ok(settings.regions.iter().map(|region| region.name.as_str()).collect())
}

fn compile_regions(
    service: &str,
    names: &[&str],
    upstreams: &[Upstream],
    plans: &[RegionPlan],
) -> Result<Box<[RegionTable]>, Refusal> {
    refuse_twice("the plan's region", plans.iter().map(|plan| plan.region.as_str()))?;
    if let Some(stranger) = plans.iter().find(|plan| !names.contains(&plan.region.as_str())) {
        return Err(Refusal::never(format!(
            "the plan's region {:?} is not in the settings",
            stranger.region
        )));
    }
    let compile_one = |name: &&str| {
        let plan = plans.iter().find(|plan| plan.region == **name);
        let plan = plan.ok_or_else(|| Refusal::never(format!("the plan has nothing for region {name:?}")))?;
        compile_region(service, upstreams, plan).map_err(|error| error.at(format!("region {name}")))
    };
    names.iter().map(compile_one).collect()
}

fn compile_region(service: &str, upstreams: &[Upstream], plan: &RegionPlan) -> Result<RegionTable, Refusal> {
    refuse_twice("order names provider", plan.order.iter().map(String::as_str))?;
    refuse_twice("shares name provider", plan.shares.iter().map(|(name, _)| name.as_str()))?;
    let index_of = |name: &str| {
        let found = upstreams.iter().position(|upstream| &*upstream.name == name);
        found
            .and_then(|index| u16::try_from(index).ok())
            .ok_or_else(|| Refusal::never(format!("provider {name:?} is not in the settings")))
    };
    let order: Box<[u16]> = plan.order.iter().map(|name| index_of(name)).collect::<Result<_, _>>()?;
    if order.is_empty() {
        return Err(Refusal::never("the order is empty; nothing could be served"));
    }
    if let Some((name, _)) = plan.shares.iter().find(|(name, _)| !plan.order.contains(name)) {
        return Err(Refusal::never(format!("provider {name:?} has a share but is not in the order")));
    }
    let sum_bp: u64 = plan.shares.iter().map(|(_, share_bp)| u64::from(*share_bp)).sum();
    if sum_bp != u64::from(FULL_BP) {
        return Err(Refusal::never(format!("shares sum to {sum_bp} basis points, not to {FULL_BP}")));
    }
    if plan.ttl_s > i32::MAX as u32 {
        return Err(Refusal::never(format!("ttl_s {} is more than 2147483647", plan.ttl_s)));
    }
    let parts: Vec<(u16, &str, u32)> = plan
        .shares
        .iter()
        .map(|(name, share_bp)| Ok((index_of(name)?, name.as_str(), *share_bp)))
        .collect::<Result<_, Refusal>>()?;
    let shares =
        Shares::new(service, parts.into_iter()).ok_or_else(|| Refusal::never("no provider has a share"))?;
    Ok(RegionTable { name: plan.region.as_str().into(), shares, order, ttl_s: plan.ttl_s })
}

fn refuse_twice<'a>(what: &str, names: impl Iterator<Item = &'a str>) -> Result<(), Refusal> {
    let mut seen = HashSet::new();
    for name in names {
        if !seen.insert(name) {
            return Err(Refusal::never(format!("{what} {name:?} twice")));
        }
    }
    Ok(())
}
