//! The start config of an engine, as docs/engine-protocol.md has it.

use crate::document::AccessDocument;
use crate::error::EngineError;
use crate::share::FULL_BP;
use crate::table::check_path_name;
use serde::Deserialize;
use std::net::SocketAddr;
use std::path::PathBuf;

pub const CONFIG_FORMAT: &str = "polycdn/engine/1";

const WORKERS_MAX: usize = 256;

/// What an engine is told when it starts.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct EngineConfig {
    pub format: String,
    pub engine: String,
    pub state_dir: PathBuf,
    pub socket: PathBuf,
    #[serde(default = "one")]
    pub workers: usize,
    #[serde(default)]
    pub http: Vec<SocketAddr>,
    #[serde(default)]
    pub https: Vec<SocketAddr>,
    #[serde(default)]
    pub dns: Vec<SocketAddr>,
    #[serde(default)]
    pub prefer_good: bool,
    /// End with an error if a plan cannot be loaded at start, instead of serving the others.
    #[serde(default)]
    pub must_load: bool,
    /// The memory tier of the edge's cache, all services together.
    #[serde(default = "memory_bytes")]
    pub memory_bytes: u64,
    #[serde(default)]
    pub disk: Option<DiskConfig>,
    #[serde(default)]
    pub admin: Option<SocketAddr>,
    /// Holds the secret that purging needs; without it nobody can.
    #[serde(default)]
    pub admin_token_file: Option<PathBuf>,
    #[serde(default)]
    pub access_log: Option<AccessLogConfig>,
    /// Which clients may connect to the edge at all.
    #[serde(default)]
    pub access: Option<AccessDocument>,
    /// The control socket of an engine whose listening sockets are taken over, if one answers there.
    #[serde(default)]
    pub take_over: Option<PathBuf>,
    /// How long what is under way may take after SIGTERM.
    #[serde(default = "drain_s")]
    pub drain_s: u64,
    /// The same after a hand-over, when nobody waits for this process to end.
    #[serde(default = "handover_drain_s")]
    pub handover_drain_s: u64,
}

/// The disk tier of the edge's cache.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct DiskConfig {
    pub folder: PathBuf,
    pub bytes: u64,
}

/// A line per request.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct AccessLogConfig {
    /// "-" is standard output.
    pub file: PathBuf,
    /// Which share of the requests has a line, in basis points.
    #[serde(default = "all_bp")]
    pub sample_bp: u32,
    /// With the client's network.
    #[serde(default)]
    pub has_prefix: bool,
    /// With the query.
    #[serde(default)]
    pub has_query: bool,
}

fn all_bp() -> u32 {
    FULL_BP
}

fn one() -> usize {
    1
}

fn memory_bytes() -> u64 {
    256_000_000
}

fn drain_s() -> u64 {
    30
}

fn handover_drain_s() -> u64 {
    3_600
}

/// The config in these bytes, checked for a role.
pub fn parse_config(bytes: &[u8], role: &str) -> Result<EngineConfig, EngineError> {
    let config: EngineConfig =
        serde_json::from_slice(bytes).map_err(|error| EngineError::Config(error.to_string()))?;
    let wrong = |text: String| Err(EngineError::Config(text));
    if config.format != CONFIG_FORMAT {
        return wrong(format!("format {:?} is not known here; known: {CONFIG_FORMAT:?}", config.format));
    }
    check_path_name("engine", &config.engine).map_err(|error| EngineError::Config(error.message))?;
    if !(1..=WORKERS_MAX).contains(&config.workers) {
        return wrong(format!("workers: {}; allowed: 1 to {WORKERS_MAX}", config.workers));
    }
    if let Some(log) = config.access_log.as_ref().filter(|log| !(1..=FULL_BP).contains(&log.sample_bp)) {
        return wrong(format!("access_log.sample_bp: {}; allowed: 1 to {FULL_BP}", log.sample_bp));
    }
    let (web, dns) = (config.http.len() + config.https.len(), config.dns.len());
    let (wanted, unwanted, names) = match role {
        "dns" => (dns, web, ("dns", "http and https")),
        _ => (web, dns, ("http or https", "dns")),
    };
    if wanted == 0 {
        return wrong(format!("{role}: no address to listen on; name one in {}", names.0));
    }
    if unwanted != 0 {
        return wrong(format!("{role}: this engine does not listen on {}", names.1));
    }
    Ok(config)
}
