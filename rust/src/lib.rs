//! The data plane of polycdn, loaded by Python as `polycdn._native`.
//!
//! `document` is what lies on disk, `table` what a worker looks up in, `store` what goes from one to the other;
//! `listen` binds, `runtime` starts the threads, `control` hears orders, `count` tells what happened. `dns` and `edge`
//! are roles on top; `choose` and `gate` are the pure parts of the edge: who answers, and who gets in.
//! Only `py` knows Python and only `clock` the time.

#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod admin;
pub mod cache;
pub mod choose;
pub mod clock;
pub mod control;
pub mod count;
pub mod dns;
pub mod document;
pub mod edge;
pub mod error;
pub mod gate;
pub mod listen;
pub mod metrics;
pub mod purge;
pub mod region;
pub mod runtime;
pub mod share;
pub mod store;
pub mod table;
pub mod totals;

mod py;
