//! The cache of the edge: what may be kept and served (`semantics`), and where it is kept (`store`).

pub mod semantics;
pub mod store;
