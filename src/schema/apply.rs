//! Makes the calls of a plan, one after the other, each when the table can take it.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::Error;
use super::description::{is_lack, is_optional};
use super::identity::Identity;
use super::plan::{Call, Plan};
use super::shape::list;
use crate::backoff::Backoff;
use crate::dynamo::{self, Operation, Schemas};
use crate::fault::Fault;

/// Is told in words of what is done, as it is done.
pub type Progress<'a> = dyn FnMut(&str) + Send + 'a;

/// A call that was not accepted; the others were made all the same.
#[derive(Debug)]
pub struct Refusal {
    /// The call.
    pub call: Call,
    /// Whether the endpoint does not do such things at all.
    pub is_lack: bool,
    /// Why.
    pub error: dynamo::Error,
}

/// How long a table may take to be ready where it does not fill an index. Seconds are usual.
const READY_WITHIN: Duration = Duration::from_secs(900);

/// How long a call is tried again that the table cannot take yet. A new table has no backups for some minutes.
const ACCEPTED_WITHIN: Duration = Duration::from_secs(600);

/// How long a call is tried again that the service does not answer, where the table can do without it.
const ANSWERED_WITHIN: Duration = Duration::from_secs(30);

/// Makes the calls.
///
/// # Errors
/// When the table cannot be created or described, or does not become ready, or a call is not allowed.
pub async fn apply(
    schemas: &dyn Schemas,
    plan: &Plan,
    progress: &mut Progress<'_>,
) -> Result<Vec<Refusal>, Error> {
    let mut table = Table { schemas, name: &plan.table, progress };
    let mut refusals = Vec::new();
    for call in &plan.calls {
        if call.operation == Operation::CreateTable {
            if !table.create(&call.body).await? {
                return Ok(refusals);
            }
            continue;
        }
        let identity = Identity::of(&table.ready().await?);
        (table.progress)(&format!("{} {}", call.operation.name(), identity.resolved(&call.body)));
        if let Err(error) = table.attempt(call.operation, &identity.resolved(&call.body)).await {
            let refused = matches!(error.fault, Fault::Invalid | Fault::Protocol);
            if !refused && !is_optional(call.operation) || error.fault == Fault::Denied {
                return Err(Error::call(table.name, error));
            }
            (table.progress)(&format!("not accepted: {error}"));
            refusals.push(Refusal { call: call.clone(), is_lack: is_lack(&error), error });
        }
    }
    if !plan.calls.is_empty() {
        table.ready().await?;
    }
    Ok(refusals)
}

struct Table<'a, 'p> {
    schemas: &'a dyn Schemas,
    name: &'a str,
    progress: &'a mut Progress<'p>,
}

// === impl Table ===

impl Table<'_, '_> {
    /// Creates it and waits until it is ready. Whether the rest is to be done here: somebody who was faster does it
    /// otherwise.
    async fn create(&mut self, body: &Value) -> Result<bool, Error> {
        (self.progress)(&format!("CreateTable {body}"));
        let began = Instant::now();
        let mut backoff = backoff();
        let mut may_be_ours = false;
        loop {
            match self.schemas.call(Operation::CreateTable, body.clone()).await {
                Ok(_) => break,
                Err(error) if error.fault == Fault::Conflict => {
                    self.ready().await?;
                    if !may_be_ours {
                        (self.progress)("it was created by somebody else meanwhile");
                    }
                    return Ok(may_be_ours);
                }
                Err(error) if is_passing(&error) && began.elapsed() < ACCEPTED_WITHIN => {
                    may_be_ours |= error.fault == Fault::Unanswered;
                    tokio::time::sleep(backoff.pause()).await;
                }
                Err(error) => return Err(Error::call(self.name, error)),
            }
        }
        self.ready().await?;
        Ok(true)
    }

    /// Waits until the table and its indexes take changes. An index may take hours to be filled.
    async fn ready(&mut self) -> Result<Value, Error> {
        let mut since = Instant::now();
        let mut backoff = backoff();
        let mut told = String::new();
        loop {
            let described =
                self.schemas.call(Operation::DescribeTable, json!({ "TableName": self.name })).await;
            let status = match described {
                Ok(mut described) => {
                    let table = described["Table"].take();
                    match busy(&table) {
                        None => return Ok(table),
                        Some(Busy { status, fills }) => {
                            since = if fills { Instant::now() } else { since };
                            status
                        }
                    }
                }
                // Descriptions are eventually consistent.
                Err(error) if error.fault == Fault::Missing => "not there yet".to_owned(),
                Err(error) if is_passing(&error) => error.to_string(),
                Err(error) => return Err(Error::call(self.name, error)),
            };
            if status != told {
                (self.progress)(&format!("waiting: {status}"));
                told.clone_from(&status);
            }
            if since.elapsed() > READY_WITHIN {
                let (table, waited_seconds) = (self.name.to_owned(), READY_WITHIN.as_secs());
                return Err(Error::NotReady { table, status, waited_seconds });
            }
            tokio::time::sleep(backoff.pause()).await;
        }
    }

    async fn attempt(&mut self, operation: Operation, body: &Value) -> Result<(), dynamo::Error> {
        let began = Instant::now();
        let mut backoff = backoff();
        loop {
            let error = match self.schemas.call(operation, body.clone()).await {
                Ok(_) => return Ok(()),
                Err(error) if is_done_already(&error) => return Ok(()),
                Err(error) => error,
            };
            let limit = match is_not_yet(&error) || !is_optional(operation) {
                true => ACCEPTED_WITHIN,
                false => ANSWERED_WITHIN,
            };
            let lacks = is_lack(&error);
            if lacks || !(is_passing(&error) || is_not_yet(&error)) || began.elapsed() > limit {
                return Err(error);
            }
            tokio::time::sleep(backoff.pause()).await;
        }
    }
}

/// Why a table takes no changes.
struct Busy {
    status: String,
    /// Whether an index is being filled, which takes as long as it takes.
    fills: bool,
}

fn busy(table: &Value) -> Option<Busy> {
    let indexes = list(&table["GlobalSecondaryIndexes"]).iter().chain(list(&table["VectorIndexes"]));
    let unready = indexes.filter(|index| {
        let status = index["IndexStatus"].as_str();
        status.is_some_and(|status| status != "ACTIVE") || index["Backfilling"] == true
    });
    let unready: Vec<&Value> = unready.collect();
    let status = table["TableStatus"].as_str().unwrap_or("ACTIVE");
    if let Some(index) = unready.first().filter(|_| status == "ACTIVE" || status == "UPDATING") {
        let name = index["IndexName"].as_str().unwrap_or_default();
        let what = index["IndexStatus"].as_str().unwrap_or("being filled");
        let fills = index["Backfilling"] == true || what == "CREATING";
        return Some(Busy { status: format!("index {name} is {what}"), fills });
    }
    (status != "ACTIVE").then(|| Busy { status: format!("it is {status}"), fills: false })
}

fn backoff() -> Backoff {
    Backoff::new(Duration::from_millis(100), Duration::from_secs(5))
}

/// It may go well the next time.
fn is_passing(error: &dynamo::Error) -> bool {
    matches!(error.fault, Fault::Throttled(_) | Fault::Transient | Fault::Unanswered)
}

/// The table is busy with another change, or too new.
fn is_not_yet(error: &dynamo::Error) -> bool {
    matches!(error.fault, Fault::Conflict | Fault::Missing | Fault::Throttled(_))
        || error.code.as_deref().is_some_and(|code| {
            matches!(
                code,
                "ContinuousBackupsUnavailableException"
                    | "ConcurrentUpdateException"
                    | "ObjectNotFoundException"
            )
        })
}

/// An earlier attempt, or another worker, did it.
fn is_done_already(error: &dynamo::Error) -> bool {
    error.fault == Fault::Invalid && error.message.contains("already enabled")
}
