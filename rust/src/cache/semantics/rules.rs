//! What an operator decides about caching, per service. The default is RFC 9111 as a shared cache, without heuristics.

/// The rules of one service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    pub query: Query,
    /// Request fields that are part of the key, in lower case. They reach the origin.
    pub keyed: Vec<String>,
    pub forwarded: Forwarded,
    /// Fields that beat Cache-Control (RFC 9213), in lower case, the first valid one wins.
    pub targeted: Vec<String>,
    pub set_cookie: SetCookie,
    /// Whether clients' Cache-Control and Pragma count. They are advice (RFC 9111 §5.2.1): a service whose clients
    /// must not make work for its origin switches them off.
    pub obeys_clients: bool,
    /// A lifetime where the sender gave none; None: such answers are not stored.
    pub heuristic: Option<Heuristic>,
    /// Lifetimes in seconds by status, where the sender gave none ("negative caching": 404, 410, 502 ...). They go before
    /// the heuristic.
    pub lifetime_by_status: Vec<(u16, u32)>,
    /// No lifetime is longer, in seconds.
    pub lifetime_max_s: u32,
    /// As if the sender had said stale-while-revalidate, where it did not. In seconds.
    pub stale_while_revalidate_s: u32,
    /// As if the sender had said stale-if-error, where it did not. In seconds.
    pub stale_if_error_s: u32,
    /// How long after its lifetime an answer still serves while no upstream can be reached, where the sender said
    /// nothing (RFC 9111 §4.2.4 "disconnected"). In seconds.
    pub stale_on_disconnect_s: u32,
    /// An answer that varies by more fields is not stored.
    pub vary_names_max: usize,
    /// A request for more ranges gets the whole.
    pub ranges_max: usize,
    /// Answers longer than this are not stored. In bytes.
    pub body_bytes_max: u64,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            query: Query::Keep,
            keyed: Vec::new(),
            forwarded: Forwarded::AllButMisleading,
            targeted: vec!["cdn-cache-control".to_owned()],
            set_cookie: SetCookie::WhenExplicit,
            obeys_clients: true,
            heuristic: None,
            lifetime_by_status: Vec::new(),
            lifetime_max_s: super::fields::SECONDS_MAX,
            stale_while_revalidate_s: 0,
            stale_if_error_s: 0,
            stale_on_disconnect_s: 86_400,
            vary_names_max: 16,
            ranges_max: 16,
            body_bytes_max: u64::MAX,
        }
    }
}

/// What the query contributes to the key. The origin sees the same query as the key, never more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Query {
    Keep,
    Ignore,
    /// By parameter name; parameters of one name keep their order.
    Sort,
    /// Only these parameters, sorted by name.
    Only(Vec<String>),
}

/// Which request fields reach the origin where its answer may be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Forwarded {
    /// All but those by which a client could make the origin believe in another host, path, scheme, method or address.
    AllButMisleading,
    /// These, the keyed ones, and those that answers vary by or that steer connections and caches (lower case).
    Only(Vec<String>),
}

/// What becomes of an answer that sets cookies.
///
/// RFC 9111 §7.3 lets it be stored like any other. A cookie that was meant for one client is the worst thing that a
/// shared cache can hand to another, so by default the sender's own word is needed: a lifetime from Cache-Control,
/// Expires or a targeted field, not one from our rules or heuristics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetCookie {
    /// Stored with its cookies if the sender itself gave it a lifetime.
    WhenExplicit,
    /// Stored like any other, without the cookies.
    Strip,
    /// Never stored.
    Refuse,
}

/// Freshness guessed from Last-Modified (RFC 9111 §4.2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heuristic {
    /// This part of the time since the last modification, in percent; the RFC speaks of 10.
    pub percent: u8,
    pub max_s: u32,
}
