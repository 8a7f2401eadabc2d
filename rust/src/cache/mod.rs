//! The cache: `semantics` says what may be kept and used (pure), `store` keeps it.

pub mod semantics;
pub mod store;
