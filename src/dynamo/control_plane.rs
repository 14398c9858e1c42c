//! Calls about tables themselves, in the service's own JSON.
//!
//! A table's description has members that this program, or the SDK it was built with, has never heard of. Typed answers
//! drop them without a word, so here bodies pass as they are: the request's is sent by one operation of the SDK under the
//! name of another, and the answer's is kept (`raw`). The typed input only tells the endpoint rules which table it is
//! about. Errors are read by the SDK's own code, which keeps the code and the message of those it does not know.

use std::pin::pin;

use aws_sdk_applicationautoscaling::operation::describe_scalable_targets::DescribeScalableTargetsOutput;
use aws_sdk_applicationautoscaling::types::ServiceNamespace;
use aws_sdk_dynamodb::operation::describe_table::DescribeTableOutput;
use aws_smithy_runtime_api::client::interceptors::context::Output;
use serde_json::{Value, json};

use super::call::Caller;
use super::client::Limits;
use super::raw::Exchange;
use super::{Error, Future};
use crate::fault::Fault;

/// The service that a call goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// DynamoDB.
    DynamoDb,
    /// Application Auto Scaling, which changes the provisioned capacity of tables and indexes.
    Scaling,
}

/// Defines the operations with their services, so that none lacks its name.
macro_rules! operations {
    ($($(#[$meta:meta])* $name:ident => $service:ident,)*) => {
        /// What can be asked about a table, and done with it. There is nothing here that deletes or switches off.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Operation {
            $($(#[$meta])* $name,)*
        }

        impl Operation {
            /// Every operation.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// Its name in the API.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name)),* }
            }

            /// Which service does it.
            pub const fn service(self) -> Service {
                match self { $(Self::$name => Service::$service),* }
            }
        }
    };
}

operations! {
    /// Describes a table, its indexes and its stream.
    DescribeTable => DynamoDb,
    /// Creates a table.
    CreateTable => DynamoDb,
    /// Changes a table: one of its settings, or one index.
    UpdateTable => DynamoDb,
    /// Lists a page of its tags.
    ListTagsOfResource => DynamoDb,
    /// Adds tags, or gives them other values.
    TagResource => DynamoDb,
    /// Says by which attribute items expire.
    DescribeTimeToLive => DynamoDb,
    /// Lets items expire.
    UpdateTimeToLive => DynamoDb,
    /// Says whether it can be restored to any second.
    DescribeContinuousBackups => DynamoDb,
    /// Lets it be restored to any second.
    UpdateContinuousBackups => DynamoDb,
    /// Lists the Kinesis streams that get its changes.
    DescribeKinesisStreamingDestination => DynamoDb,
    /// Lets a Kinesis stream get its changes.
    EnableKinesisStreamingDestination => DynamoDb,
    /// Changes how precise the times in a Kinesis stream are.
    UpdateKinesisStreamingDestination => DynamoDb,
    /// Says whether its hottest keys, or those of an index, are watched.
    DescribeContributorInsights => DynamoDb,
    /// Lets its hottest keys be watched.
    UpdateContributorInsights => DynamoDb,
    /// Gets the policy of a table or a stream.
    GetResourcePolicy => DynamoDb,
    /// Gives a table or a stream a policy.
    PutResourcePolicy => DynamoDb,
    /// Lists a page of what is scaled.
    DescribeScalableTargets => Scaling,
    /// Lets capacity be scaled between two bounds.
    RegisterScalableTarget => Scaling,
    /// Lists a page of how it is scaled.
    DescribeScalingPolicies => Scaling,
    /// Says how it is scaled.
    PutScalingPolicy => Scaling,
    /// Lists a page of when its bounds change.
    DescribeScheduledActions => Scaling,
    /// Says when its bounds change.
    PutScheduledAction => Scaling,
}

/// Asks about tables and changes them. Descriptions are eventually consistent: what was changed may not show yet. A
/// change that was accepted goes on after the answer, and the table takes no other until it is done (`Conflict`).
pub trait Schemas: Send + Sync {
    /// Sends `body` as the request of `operation`, and gives the body of the answer.
    ///
    /// A call that the endpoint does not know is refused as `Invalid`, or as `Protocol` by one that does not speak the
    /// service's language at all.
    fn call(&self, operation: Operation, body: Value) -> Future<'_, Value>;
}

/// The attribute by which items of `table`, a name or an ARN, expire; `None` when none do.
///
/// # Errors
/// When the endpoint does not tell.
pub async fn ttl_attribute(schemas: &dyn Schemas, table: &str) -> Result<Option<String>, Error> {
    let answer = schemas.call(Operation::DescribeTimeToLive, json!({ "TableName": table })).await?;
    let told = &answer["TimeToLiveDescription"];
    // While it is being switched on or off, some items expire.
    let expire = matches!(told["TimeToLiveStatus"].as_str(), Some("ENABLED" | "ENABLING" | "DISABLING"));
    Ok(told["AttributeName"].as_str().filter(|_| expire).map(str::to_owned))
}

/// Asks about tables and changes them through the SDK.
#[derive(Debug, Clone)]
pub struct SdkSchemas {
    pub(super) tables: aws_sdk_dynamodb::Client,
    pub(super) scaling: aws_sdk_applicationautoscaling::Client,
    pub(super) tables_caller: Caller,
    pub(super) scaling_caller: Caller,
    pub(super) limits: Limits,
}

// === impl SdkSchemas ===

impl SdkSchemas {
    async fn ask(&self, operation: Operation, body: &Value) -> Result<Value, Error> {
        let name = operation.name();
        let answer = match operation.service() {
            Service::DynamoDb => {
                let empty = || Output::erase(DescribeTableOutput::builder().build());
                let exchange = Exchange::send(format!("DynamoDB_20120810.{name}"), bytes_of(body), empty);
                let call = pin!(self.tables.describe_table().table_name(table_of(body)).send());
                self.tables_caller.raw(name, self.limits.read, exchange, call).await?
            }
            Service::Scaling => {
                let empty = || Output::erase(DescribeScalableTargetsOutput::builder().build());
                let target = format!("AnyScaleFrontendService.{name}");
                let exchange = Exchange::send_as("application/x-amz-json-1.1", target, bytes_of(body), empty);
                let call = self.scaling.describe_scalable_targets();
                let call = pin!(call.service_namespace(ServiceNamespace::Dynamodb).send());
                self.scaling_caller.raw(name, self.limits.read, exchange, call).await?
            }
        };
        if answer.is_empty() {
            return Ok(Value::Object(serde_json::Map::new()));
        }
        serde_json::from_slice(&answer).map_err(|error| Error {
            source: Some(Box::new(error)),
            ..Error::new(name, Fault::Protocol, "the answer is no JSON")
        })
    }
}

impl Schemas for SdkSchemas {
    fn call(&self, operation: Operation, body: Value) -> Future<'_, Value> {
        Box::pin(async move { self.ask(operation, &body).await })
    }
}

fn bytes_of(body: &Value) -> Vec<u8> {
    body.to_string().into_bytes()
}

/// The table that a request is about, by name or ARN.
fn table_of(body: &Value) -> &str {
    ["TableName", "ResourceArn"].into_iter().find_map(|member| body.get(member)?.as_str()).unwrap_or_default()
}
