//! The seam to Python; no other file knows PyO3. `src/polycdn/_native.pyi` is its contract.
#![cfg(feature = "pyo3")]

use crate::error::EngineError;
use crate::runtime::{self, Role};
use pyo3::exceptions::{PyOSError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use std::panic::{AssertUnwindSafe, catch_unwind};

#[pymodule]
mod _native {
    use super::*;

    #[pyfunction]
    fn version() -> &'static str {
        env!("CARGO_PKG_VERSION")
    }

    #[pyfunction]
    fn run_dns(py: Python<'_>, config: &[u8]) -> PyResult<i32> {
        run::<crate::dns::Dns>(py, config)
    }

    #[pyfunction]
    fn run_edge(py: Python<'_>, config: &[u8]) -> PyResult<i32> {
        run::<crate::edge::EdgeRole>(py, config)
    }
}

/// Runs an engine without the GIL. A panic becomes an error: it never crosses into the interpreter.
fn run<R: Role>(py: Python<'_>, config: &[u8]) -> PyResult<i32> {
    let result = py.detach(|| catch_unwind(AssertUnwindSafe(|| runtime::run::<R>(config))));
    let result =
        result.unwrap_or_else(|panic| Err(EngineError::Bug(runtime::panic_text(&*panic).to_owned())));
    result.map_err(|error| match error {
        EngineError::Config(text) => PyValueError::new_err(text),
        EngineError::System(text) => PyOSError::new_err(text),
        EngineError::Bug(text) => PyRuntimeError::new_err(text),
    })
}
