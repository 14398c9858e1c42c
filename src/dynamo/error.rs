//! What a failed call tells.

use std::fmt;

use crate::fault::{Fault, Width};

/// One of the reasons that the service gives for throttling a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ThrottleReason {
    /// How far it reaches.
    pub width: Width,
    /// The reason as the service spells it, such as `TableWriteKeyRangeThroughputExceeded`.
    pub reason: String,
    /// The table or index it is about.
    pub resource: String,
}

/// A failed call: which, what it means, and all that the service or the network said.
#[derive(Debug, thiserror::Error)]
pub struct Error {
    /// What it means.
    pub fault: Fault,
    /// The API operation, such as `GetRecords`.
    pub operation: &'static str,
    /// The service's error code, such as `ValidationException`.
    pub code: Option<String>,
    /// The service's message, or a description of what failed before it was reached.
    pub message: String,
    /// Why it was throttled, if the service says so.
    pub reasons: Vec<ThrottleReason>,
    /// The SDK's own error.
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error without a service's answer.
    pub fn new(operation: &'static str, fault: Fault, message: impl Into<String>) -> Self {
        Self { fault, operation, code: None, message: message.into(), reasons: Vec::new(), source: None }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.operation)?;
        if let Some(code) = &self.code {
            write!(f, "{code}: ")?;
        }
        f.write_str(&self.message)?;
        for reason in &self.reasons {
            write!(f, " [{} {}]", reason.reason, reason.resource)?;
        }
        Ok(())
    }
}
