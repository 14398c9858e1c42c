//! A table in words: what it is there for, its name, and where it is.

use std::fmt;

use super::advice::advice;
use super::exit::Failure;
use crate::config::Endpoint;
use crate::dynamo;
use crate::fault::Stage;

/// A table that the configuration names.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    role: &'static str,
    table: &'a str,
    endpoint: &'a Endpoint,
}

// === impl Place ===

impl<'a> Place<'a> {
    /// `role` is such as `source table`.
    pub(super) const fn new(role: &'static str, table: &'a str, endpoint: &'a Endpoint) -> Self {
        Self { role, table, endpoint }
    }

    /// Failed to `verb` it.
    pub(super) fn failure(&self, verb: &str, error: dynamo::Error, stage: Stage) -> Failure {
        Failure::Call {
            action: format!("{verb} {self}"),
            advice: advice(&error, stage),
            source: Box::new(error),
        }
    }
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} `{}` in {}", self.role, self.table, self.endpoint.region)?;
        match &self.endpoint.endpoint_url {
            Some(url) => write!(f, " at {url}"),
            None => Ok(()),
        }
    }
}
