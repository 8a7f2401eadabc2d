//! Every reason for which a cache does less than it could. Each has a name for Cache-Status and for counting.

/// Why an answer is not stored, or a request not answered from what is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Not GET or HEAD.
    Method,
    /// A body that is not part of the key.
    RequestBody,
    /// The client said no-store.
    RequestNoStore,
    NoStore,
    Private,
    /// The request carried credentials and the answer does not allow sharing (RFC 9111 §3.5).
    Authorization,
    SetCookie,
    /// Nobody said how long it is fresh.
    NoFreshness,
    /// It is stale already, and nothing could make it fresh again.
    Unusable,
    /// A status that never stands for the resource alone: 1xx, 304, 407, 412, 416.
    Status,
    /// must-understand with a status that is not understood here.
    NotUnderstood,
    VaryStar,
    VaryTooWide,
    /// A part that does not say which part, or of what.
    Partial,
    TooLarge,
}

impl Reason {
    pub fn name(self) -> &'static str {
        match self {
            Reason::Method => "method",
            Reason::RequestBody => "request-body",
            Reason::RequestNoStore => "request-no-store",
            Reason::NoStore => "no-store",
            Reason::Private => "private",
            Reason::Authorization => "authorization",
            Reason::SetCookie => "set-cookie",
            Reason::NoFreshness => "no-freshness",
            Reason::Unusable => "stale-without-validator",
            Reason::Status => "status",
            Reason::NotUnderstood => "not-understood",
            Reason::VaryStar => "vary-star",
            Reason::VaryTooWide => "vary-too-wide",
            Reason::Partial => "partial",
            Reason::TooLarge => "too-large",
        }
    }
}

/// Why a stored answer needs the origin's word first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Doubt {
    Stale,
    /// The answer said no-cache.
    NoCache,
    RequestNoCache,
    RequestMaxAge,
    RequestMinFresh,
}

impl Doubt {
    pub fn name(self) -> &'static str {
        match self {
            Doubt::Stale => "stale",
            Doubt::NoCache => "no-cache",
            Doubt::RequestNoCache => "request-no-cache",
            Doubt::RequestMaxAge => "request-max-age",
            Doubt::RequestMinFresh => "request-min-fresh",
        }
    }

    /// Whether the client asked for it, and not the answer's age.
    pub fn is_the_clients(self) -> bool {
        matches!(self, Doubt::RequestNoCache | Doubt::RequestMaxAge | Doubt::RequestMinFresh)
    }
}
