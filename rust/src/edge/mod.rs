//! The HTTP edge: a streaming reverse proxy that walks the plan's order until somebody answers well.
//!
//! What a client can rely on:
//! - A Host (or `:authority`) that is no service's is answered 421. A server name in TLS that is no service's gets the
//!   first certificate of the first service, by name, that has one; without any, the handshake fails.
//! - Until the first byte of an answer was passed on, any failure of an upstream leads to the next in the plan's order:
//!   refused, reset, timeout, bad TLS, an empty or garbled head, 5xx, and for an object that the settings name another
//!   status, type or length than expected. A small body of known length is looked at whole before it is passed on.
//! - POST, PATCH and unknown methods are never carried out twice: they go on only if no connection came about.
//! - An answer that breaks off is a connection that is cut (a reset stream in HTTP/2), never a short body.
//! - When nobody answered well: the last upstream's 5xx (or unexpected status); else 503 (nobody could be reached), 504
//!   (nobody answered in time) or 502, with a Proxy-Status that names every attempt.
//! - Informational answers (1xx but 100 and 101) are passed on as they come, and trailers that may come late.
//!
//! | file | holds |
//! |---|---|
//! | `worker` | listeners, the worker's view of the table, drain |
//! | `h1`, `h2` | a client's connection; both make a `RequestHead` and get an `Answer` |
//! | `forward`, `walk`, `route` | a request's way through the upstreams, and whom it may try |
//! | `attempt`, `destination` | one try at one upstream; its connections and how it did of late |
//! | `relay`, `resume`, `report` | a body on its way, taken up again elsewhere when it breaks off, and how it ended |
//! | `sample` | a comparison of two providers now and then |
//! | `give_up` | what the client gets when nobody answered well |
//! | `door`, `meter`, `slow`, `vigil` | the gate (`crate::gate`) at connections, requests, bodies, answers and frames |
//! | `stored` | what is answered from the cache, and what of the upstreams' answers it keeps |
//! | `answer`, `body` | what a client gets; bodies that flow towards an upstream |
//! | `head`, `framing`, `message`, `trailer`, `sheet` | HTTP/1 as it is written: pure |
//! | `wire`, `gather`, `lent`, `tls` | bytes and keys |
//! | `patience` | time limits |

pub mod answer;
pub mod attempt;
pub mod body;
pub mod destination;
pub mod door;
pub mod forward;
pub mod forwarded;
pub mod framing;
pub mod gather;
pub mod give_up;
pub mod h1;
pub mod h2;
pub mod head;
pub mod lent;
pub mod message;
pub mod meter;
pub mod patience;
pub mod relay;
pub mod report;
pub mod resume;
pub mod role;
pub mod route;
pub mod sample;
pub mod sheet;
pub mod slow;
pub mod stored;
pub mod tls;
pub mod traffic;
pub mod trailer;
pub mod vigil;
pub mod walk;
pub mod wire;
pub mod worker;

pub use role::EdgeRole;
