//! The seam to Python; no other file knows PyO3.

use pyo3::prelude::*;

#[pymodule]
mod _native {
    use super::*;

    /// Version of the engine.
    #[pyfunction]
    fn version() -> &'static str {
        env!("CARGO_PKG_VERSION")
    }
}
