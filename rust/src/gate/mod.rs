//! Who gets in: the limits on what a client may do, who may come at all, and signed URIs. Pure: `now` comes in.
//!
//! | file | holds |
//! |---|---|
//! | `why` | the reasons for turning a client away, each with its status; counted by each worker |
//! | `prefix` | what stands for a client: its IPv4 address, or the /64 of its IPv6 address |
//! | `limits` | what one request may be, before anything of its body is read |
//! | `bucket` | requests of a prefix in time, for all workers, in a table of fixed size |
//! | `crowd` | open connections of a prefix, for all workers |
//! | `pace` | whether a client sends, or takes, fast enough |
//! | `flood` | frames of HTTP/2 that cost more than they are worth |
//! | `access` | allowing and denying by prefix |
//! | `secret` | comparing secrets |
//! | `signing` | URI Signing (RFC 9246) |
//!
//! A limit that is off costs a comparison; one that is on, but not near, a few nanoseconds and no lock.

pub mod access;
pub mod bucket;
pub mod crowd;
pub mod flood;
pub mod limits;
pub mod pace;
pub mod prefix;
pub mod secret;
pub mod signing;
pub mod why;

use crate::document::{ClientLimits, GateDocument};
use crate::error::Refusal;
use access::Access;
use bucket::Rate;
use signing::Signing;
use std::path::PathBuf;

/// The gate of one service, as its settings have it; shared by all workers.
#[derive(Debug)]
pub struct Gate {
    pub limits: ClientLimits,
    /// Requests of one client prefix; None: as many as it likes.
    pub rate: Option<Rate>,
    /// None: everybody.
    pub access: Option<Access>,
    /// None: URIs need no signature.
    pub signing: Option<Signing>,
}

impl Gate {
    /// Reads the files that the settings name; refuses what is wrong in them.
    pub fn new(document: &GateDocument) -> Result<Self, Refusal> {
        let limits = document.limits;
        Ok(Self {
            limits,
            rate: Rate::new(limits.requests_per_prefix_rps, limits.requests_per_prefix_burst),
            access: document.access.as_ref().map(Access::new).transpose()?,
            signing: document.signing.as_ref().map(Signing::new).transpose()?,
        })
    }

    /// The files that `new` reads.
    pub fn files(document: &GateDocument) -> Vec<PathBuf> {
        let access = document.access.iter().flat_map(|access| [&access.allow_file, &access.deny_file]);
        let keys =
            document.signing.iter().flat_map(|signing| &signing.issuers).map(|issuer| &issuer.key_file);
        access.flatten().chain(keys).map(PathBuf::from).collect()
    }
}
