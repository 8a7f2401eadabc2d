//! The store of the cache.
pub mod hash;
pub mod ledger;
pub mod policy;
