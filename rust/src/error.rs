//! Three kinds of failure: the operator's config, the system's refusal, and an order that is not carried out.

use std::fmt;

/// An order, or a file, that was not accepted. What was served before is served on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// A sentence for the operator.
    pub message: String,
    /// Whether the same order can succeed later without being changed.
    pub is_retryable: bool,
}

impl Refusal {
    /// The order itself is wrong: it can never succeed.
    pub fn never(message: impl Into<String>) -> Self {
        Self { message: message.into(), is_retryable: false }
    }

    /// Something around the order failed (a disk, a file not there yet): it may succeed later.
    pub fn later(message: impl Into<String>) -> Self {
        Self { message: message.into(), is_retryable: true }
    }

    /// The same refusal, with the place where it was found in front.
    pub fn at(self, place: impl fmt::Display) -> Self {
        Self { message: format!("{place}: {}", self.message), ..self }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.message)
    }
}

/// Why an engine did not start, or stopped.
#[derive(Debug)]
pub enum EngineError {
    /// The start config is wrong; Python sees ValueError.
    Config(String),
    /// The system refused something (an address in use, a directory not writable); Python sees OSError.
    System(String),
    /// A claim of ours was broken; Python sees RuntimeError.
    Bug(String),
}

impl EngineError {
    /// A system's refusal, told with what was tried.
    pub fn system(tried: impl fmt::Display, error: impl fmt::Display) -> Self {
        Self::System(format!("{tried}: {error}"))
    }
}

impl fmt::Display for EngineError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(text) | Self::System(text) | Self::Bug(text) => out.write_str(text),
        }
    }
}

impl std::error::Error for EngineError {}
