//! All that can be read of a table, as the service tells it.
//!
//! What is needed is its description; everything else is optional. An endpoint may lack a call, or the credentials may
//! not allow it: then that part is unknown, with the reason, and nothing is concluded from it.

use serde_json::{Value, json};

use super::Error;
use crate::dynamo::{Error as CallError, Operation, Schemas, Service};
use crate::fault::Fault;

/// Pages that are followed at most: far more than a table can have of anything.
const PAGES_MAX: usize = 100;

/// A part of what is known of a table.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Part {
    /// What the service told.
    Known(Value),
    /// Why it is not known.
    Unknown(String),
}

/// A table as the service describes it.
#[derive(Debug, Clone, PartialEq)]
pub struct Description {
    /// The member `Table` of `DescribeTable`.
    pub(super) table: Value,
    /// A list of `Tag`.
    pub(super) tags: Part,
    /// `TimeToLiveDescription`.
    pub(super) time_to_live: Part,
    /// `ContinuousBackupsDescription`.
    pub(super) backups: Part,
    /// A list of `KinesisDataStreamDestination`.
    pub(super) kinesis: Part,
    /// A list of answers of `DescribeContributorInsights`.
    pub(super) insights: Part,
    /// The answer of `GetResourcePolicy` for the table; empty when it has none.
    pub(super) policy: Part,
    /// The same for its stream.
    pub(super) stream_policy: Part,
    /// Three lists, `ScalableTargets`, `ScalingPolicies` and `ScheduledActions`.
    pub(super) scaling: Part,
}

// === impl Part ===

impl Part {
    pub(super) fn known(&self) -> Option<&Value> {
        match self {
            Self::Known(value) => Some(value),
            Self::Unknown(_) => None,
        }
    }

    /// An optional call that failed: a lack is a fact about the endpoint, and anything else is a failure.
    fn of(result: Result<Value, CallError>, member: Option<&str>) -> Result<Self, CallError> {
        match result {
            Ok(mut answer) => Ok(Self::Known(match member {
                Some(member) => answer[member].take(),
                None => answer,
            })),
            Err(error) if is_lack(&error) || error.fault == Fault::Denied => {
                Ok(Self::Unknown(reason(&error)))
            }
            Err(error) => Err(error),
        }
    }
}

/// Whether an endpoint says that it does not do this at all.
pub(super) fn is_lack(error: &CallError) -> bool {
    let message = error.message.to_ascii_lowercase();
    match error.fault {
        Fault::Protocol => true,
        Fault::Invalid => {
            matches!(error.code.as_deref(), Some("UnknownOperationException" | "InvalidAction"))
                || message.contains("not currently supported")
                || message.contains("unknown operation")
                || message.contains("not implemented")
        }
        // Such as `NotImplemented`.
        Fault::Transient => error.code.as_deref().is_some_and(|code| code.contains("NotImplemented")),
        _ => false,
    }
}

fn reason(error: &CallError) -> String {
    match error.fault {
        Fault::Denied => format!("{} is not allowed: {}", error.operation, error.message),
        _ => format!("the endpoint has no {}", error.operation),
    }
}

// === impl Description ===

impl Description {
    /// Reads all of `table`, a name or an ARN; `None` when there is no such table.
    ///
    /// # Errors
    /// When the table cannot be described, or another call fails that the endpoint has.
    pub async fn read(schemas: &dyn Schemas, table: &str) -> Result<Option<Self>, Error> {
        let described = schemas.call(Operation::DescribeTable, json!({ "TableName": table })).await;
        let mut described = match described {
            Ok(described) => described,
            Err(error) if error.fault == Fault::Missing => return Ok(None),
            Err(error) => return Err(Error::call(table, error)),
        };
        let reader = Reader { schemas, table: described["Table"].take() };
        reader.rest().await.map(Some).map_err(|error| Error::call(table, error))
    }

    /// Its name.
    pub(super) fn name(&self) -> &str {
        self.table["TableName"].as_str().unwrap_or_default()
    }

    /// Every part but the table itself, by the name of the call that reads it.
    pub(super) fn parts(&self) -> [(&'static str, &Part); 8] {
        [
            ("Tags", &self.tags),
            ("TimeToLive", &self.time_to_live),
            ("ContinuousBackups", &self.backups),
            ("KinesisStreamingDestination", &self.kinesis),
            ("ContributorInsights", &self.insights),
            ("ResourcePolicy", &self.policy),
            ("ResourcePolicy of the stream", &self.stream_policy),
            ("ApplicationAutoScaling", &self.scaling),
        ]
    }
}

struct Reader<'a> {
    schemas: &'a dyn Schemas,
    table: Value,
}

// === impl Reader ===

impl Reader<'_> {
    async fn rest(self) -> Result<Description, CallError> {
        let name = json!({ "TableName": self.table["TableName"] });
        let once = |operation| self.schemas.call(operation, name.clone());
        let time_to_live =
            Part::of(once(Operation::DescribeTimeToLive).await, Some("TimeToLiveDescription"))?;
        let backups = once(Operation::DescribeContinuousBackups).await;
        let backups = Part::of(backups, Some("ContinuousBackupsDescription"))?;
        let kinesis = once(Operation::DescribeKinesisStreamingDestination).await;
        let kinesis = Part::of(kinesis, Some("KinesisDataStreamDestinations"))?;
        Ok(Description {
            tags: Part::of(self.tags().await, None)?,
            insights: Part::of(self.insights().await, None)?,
            policy: self.policy("TableArn").await?,
            stream_policy: self.policy("LatestStreamArn").await?,
            scaling: self.scaling().await,
            time_to_live,
            backups,
            kinesis,
            table: self.table,
        })
    }

    async fn tags(&self) -> Result<Value, CallError> {
        let body = json!({ "ResourceArn": self.table["TableArn"] });
        self.pages(Operation::ListTagsOfResource, body, "Tags").await
    }

    /// Those of the table and of each index.
    async fn insights(&self) -> Result<Value, CallError> {
        let indexes = self.table["GlobalSecondaryIndexes"].as_array().into_iter().flatten();
        let indexes = indexes.map(|index| index["IndexName"].clone());
        let mut all = Vec::new();
        for index in std::iter::once(Value::Null).chain(indexes) {
            let mut body = json!({ "TableName": self.table["TableName"] });
            if !index.is_null() {
                body["IndexName"] = index;
            }
            match self.schemas.call(Operation::DescribeContributorInsights, body).await {
                Ok(answer) => all.push(answer),
                // It was never switched on.
                Err(error) if error.fault == Fault::Missing => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Value::Array(all))
    }

    async fn policy(&self, arn: &str) -> Result<Part, CallError> {
        let Some(arn) = self.table[arn].as_str() else {
            return Ok(Part::Known(json!({})));
        };
        match self.schemas.call(Operation::GetResourcePolicy, json!({ "ResourceArn": arn })).await {
            Err(error) if has_no_policy(&error) => Ok(Part::Known(json!({}))),
            other => Part::of(other, None),
        }
    }

    /// Another service, at another address, that a private network may not reach: whatever fails here is a lack.
    async fn scaling(&self) -> Part {
        let asked = async {
            let name = self.table["TableName"].as_str().unwrap_or_default();
            let indexes = self.table["GlobalSecondaryIndexes"].as_array().into_iter().flatten();
            let mut resources = vec![format!("table/{name}")];
            resources
                .extend(indexes.filter_map(|index| {
                    Some(format!("table/{name}/index/{}", index["IndexName"].as_str()?))
                }));
            let targets = json!({ "ServiceNamespace": "dynamodb", "ResourceIds": resources });
            let targets = self.pages(Operation::DescribeScalableTargets, targets, "ScalableTargets").await?;
            let (mut policies, mut actions) = (Vec::new(), Vec::new());
            let is_scaled = |id: &&String| {
                let targets = targets.as_array().into_iter().flatten();
                targets.into_iter().any(|target| target["ResourceId"].as_str() == Some(id))
            };
            for resource in resources.iter().filter(is_scaled) {
                let body = json!({ "ServiceNamespace": "dynamodb", "ResourceId": resource });
                let found = self.pages(Operation::DescribeScalingPolicies, body.clone(), "ScalingPolicies");
                policies.extend(found.await?.as_array().cloned().unwrap_or_default());
                let found = self.pages(Operation::DescribeScheduledActions, body, "ScheduledActions");
                actions.extend(found.await?.as_array().cloned().unwrap_or_default());
            }
            Ok(json!({
                "ScalableTargets": targets,
                "ScalingPolicies": policies,
                "ScheduledActions": actions,
            }))
        };
        match asked.await {
            Ok(scaling) => Part::Known(scaling),
            Err(error) if is_lack(&error) => Part::Unknown(reason(&error)),
            Err::<_, CallError>(error) => Part::Unknown(error.to_string()),
        }
    }

    /// All elements of `member`, whichever page they are on.
    async fn pages(&self, operation: Operation, mut body: Value, member: &str) -> Result<Value, CallError> {
        let mut all = Vec::new();
        for _ in 0..PAGES_MAX {
            let mut answer = self.schemas.call(operation, body.clone()).await?;
            if let Value::Array(elements) = answer[member].take() {
                all.extend(elements);
            }
            match answer["NextToken"].take() {
                Value::String(next) if !next.is_empty() => body["NextToken"] = next.into(),
                _ => return Ok(Value::Array(all)),
            }
        }
        let message = format!("more than {PAGES_MAX} pages");
        Err(CallError::new(operation.name(), Fault::Protocol, message))
    }
}

fn has_no_policy(error: &CallError) -> bool {
    error.code.as_deref() == Some("PolicyNotFoundException") || error.fault == Fault::Missing
}

/// Whether a table can do without this call.
pub(super) fn is_optional(operation: Operation) -> bool {
    operation.service() == Service::Scaling
        || !matches!(operation, Operation::CreateTable | Operation::UpdateTable | Operation::DescribeTable)
}
