//! Settings and plans exactly as `src/polycdn/model/{settings,plan,topology}.py` write them with `model/wire.py`.
//!
//! A field that equals its default is left out; an unknown field is refused. A default here must equal the one
//! there: `tests/engine/test_control.py` compares the two sides.

use crate::error::Refusal;
use crate::reflex::identity::Rule;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

pub const PLAN_FORMAT: &str = "polycdn/plan/1";
pub const SETTINGS_FORMAT: &str = "polycdn/settings/1";

/// The largest file that is read, in bytes; checked before parsing.
pub const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// The one region of a service that names none (`model/units.py`).
pub const ANYWHERE: &str = "anywhere";

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum ProviderKind {
    Cdn,
    Cloud,
    /// Ourselves: the engine goes to the origin.
    Edge,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Endpoint {
    pub host: String,
    #[serde(default = "https_port")]
    pub port: u16,
    #[serde(default = "yes")]
    pub tls: bool,
    #[serde(default)]
    pub addresses: Vec<String>,
    #[serde(default)]
    pub ca_file: Option<String>,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct Expect {
    pub status: u16,
    pub body_bytes: Option<u64>,
    pub sha256: Option<String>,
    pub content_type: Option<String>,
    pub headers: Vec<(String, String)>,
    pub contains: Option<String>,
}

impl Default for Expect {
    fn default() -> Self {
        Self {
            status: 200,
            body_bytes: None,
            sha256: None,
            content_type: None,
            headers: Vec::new(),
            contains: None,
        }
    }
}

#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct ProbedObject {
    pub path: String,
    #[serde(default)]
    pub expect: Expect,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct RegionDocument {
    pub name: String,
    pub prefixes: Vec<String>,
    pub countries: Vec<String>,
    pub asns: Vec<i64>,
    pub demand_rps: i64,
    pub demand_mbps: i64,
}

impl Default for RegionDocument {
    fn default() -> Self {
        Self {
            name: ANYWHERE.to_owned(),
            prefixes: Vec::new(),
            countries: Vec::new(),
            asns: Vec::new(),
            demand_rps: 0,
            demand_mbps: 0,
        }
    }
}

#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct UpstreamDocument {
    pub name: String,
    pub kind: ProviderKind,
    pub endpoint: Endpoint,
    #[serde(default)]
    pub cname: Option<String>,
    #[serde(default)]
    pub ipv4: Vec<String>,
    #[serde(default)]
    pub ipv6: Vec<String>,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct NameServer {
    pub name: String,
    #[serde(default)]
    pub addresses: Vec<String>,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Zone {
    pub apex: String,
    pub name_servers: Vec<NameServer>,
    pub mailbox: String,
    #[serde(default = "refresh_s")]
    pub refresh_s: u32,
    #[serde(default = "retry_s")]
    pub retry_s: u32,
    #[serde(default = "expire_s")]
    pub expire_s: u32,
    #[serde(default = "negative_ttl_s")]
    pub negative_ttl_s: u32,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Certificate {
    pub cert_file: String,
    pub key_file: String,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    pub connect_timeout_ms: u64,
    pub first_byte_timeout_ms: u64,
    pub idle_timeout_ms: u64,
    pub client_head_timeout_ms: u64,
    pub head_bytes_max: u64,
    pub replay_bytes_max: u64,
    pub retry_budget_bp: u64,
    pub retry_floor_rps: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect_timeout_ms: 1_000,
            first_byte_timeout_ms: 5_000,
            idle_timeout_ms: 30_000,
            client_head_timeout_ms: 10_000,
            head_bytes_max: 65_536,
            replay_bytes_max: 1_048_576,
            retry_budget_bp: 1_500,
            retry_floor_rps: 10,
        }
    }
}

/// What must agree before an edge believes an answer's bytes.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Integrity {
    /// Digests that the answer carries are looked at as it streams; those of the settings before its first byte.
    Told,
    /// All digests are looked at before the first byte, as far as `hold_bytes_max` goes.
    Strict,
}

/// Among whom an Idempotency-Key is known.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum IdempotencyScope {
    Provider,
    Service,
}

/// What an edge answers when nobody answered well and nothing stored may serve.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Fallback {
    pub status: u16,
    pub content_type: String,
    pub file: String,
}

/// What an edge may do inside one request besides trying the next upstream.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct Reflexes {
    pub identity: Rule,
    pub integrity: Integrity,
    pub idempotency_scope: IdempotencyScope,
    pub stall_timeout_ms: u64,
    pub rate_min_bytes_per_s: u64,
    pub hold_bytes_max: u64,
    pub hedge_budget_bp: u64,
    pub concurrency_max: u32,
    pub queue_max: u32,
    pub sample_bp: u32,
    pub fallback: Option<Fallback>,
}

impl Default for Reflexes {
    fn default() -> Self {
        Self {
            identity: Rule::Etag,
            integrity: Integrity::Told,
            idempotency_scope: IdempotencyScope::Provider,
            stall_timeout_ms: 2_000,
            rate_min_bytes_per_s: 16_384,
            hold_bytes_max: 4_194_304,
            hedge_budget_bp: 500,
            concurrency_max: 1_024,
            queue_max: 4_096,
            sample_bp: 10,
            fallback: None,
        }
    }
}

/// What one client may do to an edge; 0 = no limit where a field says so (`model/settings.py`).
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct ClientLimits {
    pub uri_bytes_max: u64,
    pub head_fields_max: u64,
    pub body_bytes_max: u64,
    pub client_bytes_per_s_min: u64,
    pub client_rate_window_ms: u64,
    pub requests_per_connection_max: u64,
    pub connections_max: u64,
    pub connections_per_prefix_max: u64,
    pub requests_per_prefix_rps: u64,
    pub requests_per_prefix_burst: u64,
    pub h2_streams_max: u64,
    pub h2_resets_max: u64,
    pub fills_max: u64,
}

impl Default for ClientLimits {
    fn default() -> Self {
        Self {
            uri_bytes_max: 16_384,
            head_fields_max: 128,
            body_bytes_max: 107_374_182_400,
            client_bytes_per_s_min: 250,
            client_rate_window_ms: 30_000,
            requests_per_connection_max: 0,
            connections_max: 100_000,
            connections_per_prefix_max: 0,
            requests_per_prefix_rps: 0,
            requests_per_prefix_burst: 0,
            h2_streams_max: 256,
            h2_resets_max: 500,
            fills_max: 0,
        }
    }
}

/// Which client addresses are let in, by prefix; the longest one that matches rules.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct AccessDocument {
    pub allow: Vec<String>,
    pub deny: Vec<String>,
    pub allow_file: Option<String>,
    pub deny_file: Option<String>,
}

/// Who may sign URIs, with a file of keys (JWK Set, RFC 7517 §5).
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct IssuerDocument {
    pub name: String,
    pub key_file: String,
}

/// How signed URIs are judged (RFC 9246).
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct SigningDocument {
    pub issuers: Vec<IssuerDocument>,
    #[serde(default)]
    pub audience: Vec<String>,
    #[serde(default = "signing_attribute")]
    pub attribute: String,
    #[serde(default)]
    pub leeway_s: u64,
    #[serde(default)]
    pub renew_kid: Option<String>,
}

/// Who gets in to a service.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct GateDocument {
    pub limits: ClientLimits,
    pub access: Option<AccessDocument>,
    pub signing: Option<SigningDocument>,
}

/// What part of a query belongs to an object's key.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum QueryRule {
    Keep,
    Sort,
    Ignore,
    Allow,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct CacheRules {
    pub heuristic: bool,
    pub negative_ttls: Vec<(u16, u32)>,
    pub query: QueryRule,
    pub query_names: Vec<String>,
    pub object_bytes_max: u64,
    pub stale_while_revalidate_s: u32,
    pub stale_if_error_s: u32,
    pub stale_on_disconnect_s: u32,
}

impl Default for CacheRules {
    fn default() -> Self {
        Self {
            heuristic: false,
            negative_ttls: Vec::new(),
            query: QueryRule::Keep,
            query_names: Vec::new(),
            object_bytes_max: 107_374_182_400,
            stale_while_revalidate_s: 0,
            stale_if_error_s: 0,
            stale_on_disconnect_s: 0,
        }
    }
}

#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum ForwardedStyle {
    #[default]
    XForwarded,
    Forwarded,
    Both,
    None,
}

/// What upstreams are told of clients.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct ForwardedRules {
    pub style: ForwardedStyle,
    pub is_client_trusted: bool,
    pub has_via: bool,
}

impl Default for ForwardedRules {
    fn default() -> Self {
        Self { style: ForwardedStyle::default(), is_client_trusted: false, has_via: true }
    }
}

/// What the body of a path is known to be; hex SHA-256, of the whole and perhaps of each block.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct DigestDocument {
    pub path: String,
    pub body_bytes: u64,
    pub sha256: String,
    #[serde(default)]
    pub block_bytes: Option<u64>,
    #[serde(default)]
    pub block_sha256: Vec<String>,
}

impl DigestDocument {
    /// Refuses what no body could be compared with.
    pub fn check(&self) -> Result<(), Refusal> {
        let is_sha256 = |text: &String| text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let at = |why: String| Err(Refusal::never(format!("digests, path {:?}: {why}", self.path)));
        if !self.path.starts_with('/') {
            return at("a path starts with /".to_owned());
        }
        if !is_sha256(&self.sha256) || !self.block_sha256.iter().all(is_sha256) {
            return at("a SHA-256 has 64 hexadecimal digits".to_owned());
        }
        let blocks = match self.block_bytes {
            Some(0) => return at("block_bytes is 0".to_owned()),
            Some(block_bytes) => self.body_bytes.div_ceil(block_bytes),
            None => 0,
        };
        if blocks != self.block_sha256.len() as u64 {
            let found = self.block_sha256.len();
            return at(format!("block_sha256 has {found} digests; its sizes make {blocks} blocks"));
        }
        Ok(())
    }
}

#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    pub service: String,
    pub hostnames: Vec<String>,
    pub upstreams: Vec<UpstreamDocument>,
    #[serde(default)]
    pub origin: Option<Endpoint>,
    #[serde(default)]
    pub regions: Vec<RegionDocument>,
    #[serde(default)]
    pub objects: Vec<ProbedObject>,
    #[serde(default)]
    pub certificates: Vec<Certificate>,
    #[serde(default)]
    pub zone: Option<Zone>,
    #[serde(default)]
    pub limits: Limits,
    #[serde(default)]
    pub cache: Option<CacheRules>,
    #[serde(default)]
    pub reflexes: Reflexes,
    #[serde(default)]
    pub forwarded: ForwardedRules,
    #[serde(default)]
    pub digests: Vec<DigestDocument>,
    #[serde(default)]
    pub gate: GateDocument,
    #[serde(default = "settings_format")]
    pub format: String,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Note {
    pub severity: Severity,
    pub code: String,
    pub text: String,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Info,
    Warning,
    Error,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct RegionPlan {
    pub region: String,
    pub shares: Vec<(String, u32)>,
    pub order: Vec<String>,
    pub ttl_s: u32,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    pub service: String,
    pub generation: u64,
    pub parent: u64,
    pub made_ms: u64,
    pub regions: Vec<RegionPlan>,
    #[serde(default)]
    pub notes: Vec<Note>,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct PublishedPlan {
    pub plan: Plan,
    pub settings_hash: String,
    #[serde(default = "plan_format")]
    pub format: String,
}

/// The plan in a file's bytes. Refuses more than 16 MiB before it parses, and an unknown format before its fields.
pub fn parse_plan(bytes: &[u8]) -> Result<PublishedPlan, Refusal> {
    parse(bytes, PLAN_FORMAT)
}

/// The settings in a file's bytes; same bounds as `parse_plan`.
pub fn parse_settings(bytes: &[u8]) -> Result<Settings, Refusal> {
    parse(bytes, SETTINGS_FORMAT)
}

fn parse<T: DeserializeOwned>(bytes: &[u8], format: &str) -> Result<T, Refusal> {
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(too_large(bytes.len() as u64));
    }
    refuse_other_formats(bytes, format)?;
    refuse_lists_for_objects(bytes)?;
    serde_json::from_slice(bytes).map_err(|error| Refusal::never(error.to_string()))
}

/// The refusal of a file of `found_bytes`.
pub fn too_large(found_bytes: u64) -> Refusal {
    Refusal::never(format!("{found_bytes} bytes, limit {FILE_BYTES_MAX} bytes"))
}

#[derive(Deserialize)]
struct FormatOnly {
    format: Option<String>,
}

/// Says "unknown format" rather than "unknown field" for what a newer polycdn wrote.
fn refuse_other_formats(bytes: &[u8], format: &str) -> Result<(), Refusal> {
    match serde_json::from_slice::<FormatOnly>(bytes) {
        Ok(FormatOnly { format: Some(found) }) if found != format => {
            Err(Refusal::never(format!("format {found:?} is not known here; known: {format:?}")))
        }
        _ => Ok(()),
    }
}

/// Fields that hold a list of objects.
const OBJECT_LISTS: [&str; 8] =
    ["upstreams", "regions", "objects", "certificates", "name_servers", "notes", "digests", "issuers"];
/// Fields that hold a list of anything else.
const PLAIN_LISTS: [&str; 16] = [
    "hostnames",
    "addresses",
    "headers",
    "prefixes",
    "countries",
    "asns",
    "ipv4",
    "ipv6",
    "shares",
    "order",
    "negative_ttls",
    "query_names",
    "block_sha256",
    "allow",
    "deny",
    "audience",
];

/// serde would take a list for an object, field by field; the model does not.
fn refuse_lists_for_objects(bytes: &[u8]) -> Result<(), Refusal> {
    let value: Value = serde_json::from_slice(bytes).map_err(|error| Refusal::never(error.to_string()))?;
    check_object(&value, "the whole")
}

fn check_object(value: &Value, place: &str) -> Result<(), Refusal> {
    let Some(object) = value.as_object() else {
        return Err(Refusal::never(format!("{place} is not an object")));
    };
    for (key, value) in object {
        match value {
            Value::Object(_) => check_object(value, key)?,
            Value::Array(items) if OBJECT_LISTS.contains(&key.as_str()) => {
                items.iter().try_for_each(|item| check_object(item, key))?;
            }
            Value::Array(_) if !PLAIN_LISTS.contains(&key.as_str()) => {
                return Err(Refusal::never(format!("{key} is a list")));
            }
            _ => {}
        }
    }
    Ok(())
}

/// The bytes that `model/wire.py` calls canonical: sorted keys, no spaces, UTF-8.
pub fn canonical(bytes: &[u8]) -> Result<Vec<u8>, Refusal> {
    let value: Value = serde_json::from_slice(bytes).map_err(|error| Refusal::never(error.to_string()))?;
    serde_json::to_vec(&value).map_err(|error| Refusal::never(error.to_string()))
}

/// Hex SHA-256.
pub fn sha256_hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    digest.as_ref().iter().fold(String::with_capacity(64), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn https_port() -> u16 {
    443
}
fn yes() -> bool {
    true
}
fn refresh_s() -> u32 {
    3_600
}
fn retry_s() -> u32 {
    600
}
fn expire_s() -> u32 {
    604_800
}
fn negative_ttl_s() -> u32 {
    30
}
fn signing_attribute() -> String {
    "URISigningPackage".to_owned()
}
fn settings_format() -> String {
    SETTINGS_FORMAT.to_owned()
}
fn plan_format() -> String {
    PLAN_FORMAT.to_owned()
}
