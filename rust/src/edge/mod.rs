//! The HTTP edge: a streaming reverse proxy that walks the plan's order until somebody answers well.
//!
//! | file | holds |
//! |---|---|
//! | `worker` | listeners, the worker's view of the table, drain |
//! | `h1`, `h2` | a client's connection; both make a `RequestHead` and get an `Answer` |
//! | `forward` | a request's way through the upstreams |
//! | `attempt`, `destination` | one try at one upstream; its connections and how it did of late |
//! | `answer`, `body` | bodies that flow: towards the client, and towards an upstream |
//! | `head`, `framing`, `message` | HTTP/1 as it is written: pure |
//! | `wire`, `tls` | bytes and keys |

pub mod answer;
pub mod attempt;
pub mod body;
pub mod destination;
pub mod forward;
pub mod framing;
pub mod h1;
pub mod h2;
pub mod head;
pub mod message;
pub mod role;
pub mod tls;
pub mod wire;
pub mod worker;

pub use role::EdgeRole;
