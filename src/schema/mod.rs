//! Makes a replica's table from its source: describes both, plans the calls that make the one like the other, and
//! makes them.
//!
//! ```text
//!  source  ── Description ── Shape ──┐ (mapped by Settings)
//!                                     ├── Plan ── calls ──> apply ──> replica
//!  replica ── Description ── Shape ──┘    ├── differences (drift)
//!                                          └── recorded, not applied, with the reason
//! ```
//!
//! What holds:
//!
//! - A table is never deleted, and nothing is ever taken from it: no index, no tag, no stream. What a replica has and
//!   its source has not is told and left as it is.
//! - Everything that the source has is copied, or mapped, or told with the reason why not, also what this program has
//!   never heard of.
//! - The plan is made before anything is done, of what was read alone; it is pure and can be shown.
//! - An endpoint may lack a call. What cannot be read is told, and nothing is concluded from it; what cannot be applied
//!   is told, and the rest goes on.
//! - Applying a plan once more, or by several at once, does no harm.

mod apply;
mod aspect;
mod change;
mod create;
mod description;
mod identity;
mod plan;
mod recorded;
mod shape;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

pub use apply::{Progress, Refusal, apply};
pub use description::Description;
pub use plan::{Call, Difference, Plan, Remedy};
pub use recorded::Recorded;

use crate::dynamo::{self, Schemas};

/// What is carried over only when somebody says so, because it costs, gives access, or names things of its own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// Warm throughput, which is paid for.
    pub warm_throughput: bool,
    /// Policies of the table and of its stream.
    pub resource_policy: bool,
    /// Kinesis streams that get the changes.
    pub kinesis: bool,
    /// For each encryption key of the source, by its ARN, the replica's.
    pub kms_keys: BTreeMap<String, String>,
}

/// A source and a replica of it, with what it takes to make the one like the other.
#[derive(Clone)]
pub struct Pair {
    /// Reaches the source.
    pub source: Arc<dyn Schemas>,
    /// The source's table, by name or ARN.
    pub source_table: String,
    /// Reaches the replica.
    pub replica: Arc<dyn Schemas>,
    /// The replica's table, by name or ARN.
    pub replica_table: String,
    /// What is carried over.
    pub settings: Settings,
    /// Whether a missing replica table is created when replication starts.
    pub create: bool,
}

/// Why a table cannot be described or made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A call failed.
    #[error("look at or change table `{table}`: {source}")]
    Call {
        /// The table.
        table: String,
        /// Why.
        source: Box<dynamo::Error>,
    },
    /// There is no source.
    #[error("copy the schema of table `{0}`: there is no such table")]
    NoSource(String),
    /// The table does not become ready.
    #[error("wait until table `{table}` is ready: it is {status} for {waited_seconds} s")]
    NotReady {
        /// The table.
        table: String,
        /// What it is instead.
        status: String,
        /// For how long it was waited.
        waited_seconds: u64,
    },
}

// === impl Error ===

impl Error {
    fn call(table: &str, source: dynamo::Error) -> Self {
        Self::Call { table: table.to_owned(), source: Box::new(source) }
    }
}

// === impl Pair ===

impl Pair {
    /// Reads both tables, and says what it takes to make the replica like its source. Changes nothing.
    ///
    /// # Errors
    /// When one of them cannot be read, or there is no source.
    pub async fn plan(&self) -> Result<Plan, Error> {
        let source = Description::read(&*self.source, &self.source_table).await?;
        let source = source.ok_or_else(|| Error::NoSource(self.source_table.clone()))?;
        let replica = Description::read(&*self.replica, &self.replica_table).await?;
        Ok(Plan::new(&source, replica.as_ref(), &self.replica_table, &self.settings))
    }

    /// Makes the calls of a plan.
    ///
    /// # Errors
    /// When the table cannot be created, or one of the calls cannot be made at all.
    pub async fn apply(&self, plan: &Plan, progress: &mut Progress<'_>) -> Result<Vec<Refusal>, Error> {
        apply(&*self.replica, plan, progress).await
    }
}
