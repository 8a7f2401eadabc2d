//! The data plane of polycdn, loaded by Python as `polycdn._native`.
//!
//! `document` is what lies on disk, `table` what a worker looks up in, `store` what goes from one to the other;
//! `listen` binds, `handover` passes sockets on, `runtime` starts the threads, `control` hears orders, `count` tells what happened. `dns` and `edge`
//! are roles on top; `choose` and `gate` are the pure parts of the edge: who answers, and who gets in.
//! Only `py` knows Python and only `clock` the time.

#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

/// Gives memory back to the kernel soon, for the cache's budget is meant for what the kernel counts
/// (docs/decisions/0009-allocator.md).
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

pub mod access;
pub mod admin;
pub mod cache;
pub mod choose;
pub mod clock;
pub mod control;
pub mod control_socket;
pub mod count;
pub mod dns;
pub mod document;
pub mod edge;
pub mod error;
#[cfg(any(test, feature = "fuzz"))]
pub mod fuzz;
pub mod gate;
pub mod handover;
pub mod listen;
pub mod metrics;
pub mod purge;
pub mod reflex;
pub mod region;
pub mod runtime;
pub mod share;
pub mod start;
pub mod store;
pub mod table;
pub mod totals;

mod py;
