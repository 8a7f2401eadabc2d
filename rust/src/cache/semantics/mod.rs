//! The rules of a shared HTTP cache (RFC 9111), and what RFCs 5861, 8246, 9110 §13 and §14, 9211 and 9213 add. Pure:
//! no I/O, no clock, no memory of anything; `now_ms` comes in, decisions go out, each with its reason.
//!
//! | when | door |
//! |---|---|
//! | a request comes | `Request::read`, `may_look_up`, `write_key` |
//! | something is stored under the key | `vary::matches`, then `reuse` |
//! | it may be used | `preconditions`: whole, 304, ranges, 412, 416 |
//! | nothing is stored | `is_refused_on_miss` (504), `reaches_origin`, `write_target` |
//! | an answer comes | `store_decision`, then `Kept` for its fields and `write_variant` for its place |
//! | a 304 comes, or an answer to HEAD | `by_not_modified`, `by_head` |
//! | the origin fails | `after_error` |
//! | something was changed | `invalidates`, `resolve` |
//! | always | `CacheStatus` |
//!
//! What was decided where the RFCs leave a choice, or practice differs from them:
//!
//! - A lifetime that cannot be read, or two that differ, mean stale (RFC 9111 §4.2.1 allows that or the first).
//! - Without a lifetime nothing is stored, unless no-cache or public asks for it and a validator makes it of use.
//! - Any final status with a lifetime of the sender's is stored, but for those about one request or one hop
//!   (304, 407, 412, 416).
//! - `no-cache="x"` and `private="x"` keep the named fields out and let the rest be reused (§5.2.2.4, §5.2.2.7).
//! - stale-while-revalidate or stale-if-error beside s-maxage mean what they say, although s-maxage alone forbids
//!   staleness (§5.2.2.10); must-revalidate and proxy-revalidate always forbid it.
//! - Set-Cookie: see `SetCookie`. Clients' directives: see `Rules::obeys_clients`.
//! - Where `Content-Language` is what a request wants most, and nothing else as much, a variant by Accept-Language
//!   serves it, whatever the request that fetched it had said.
//! - If-Match and If-Unmodified-Since are judged by what is stored (§4.3.2 says that they are not meant for caches,
//!   RFC 9110 §13.1.1 lets a cache choose): a client that names a version gets no other.
//! - Warning is not generated (§5.5).

pub mod conditional;
pub mod date;
pub mod directives;
pub mod fields;
pub mod freshness;
pub mod invalidate;
pub mod kept;
pub mod key;
pub mod meta;
pub mod range;
pub mod reason;
pub mod request;
pub mod reuse;
pub mod rules;
pub mod status;
pub mod storable;
pub mod targeted;
pub mod update;
pub mod vary;

pub use conditional::{Served, Validators, is_condition, is_held, is_in_304, may_combine, preconditions};
pub use fields::Fields;
pub use invalidate::{invalidates, resolve};
pub use kept::Kept;
pub use key::{reaches_origin, write_key, write_target};
pub use meta::StoredMeta;
pub use range::{ContentRange, Multipart, Span, Wanted};
pub use reason::{Doubt, Reason};
pub use request::{Method, Request};
pub use reuse::{Failure, Reuse, after_error, is_refused_on_miss, may_look_up, reuse};
pub use rules::{Forwarded, Heuristic, Query, Rules, SetCookie};
pub use status::{CacheStatus, Outcome};
pub use storable::{Answer, Storing, store_decision};
pub use update::{Merged, Updated, by_head, by_not_modified};

#[cfg(test)]
pub(crate) mod dice;
#[cfg(test)]
mod stories;
