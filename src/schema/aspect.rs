//! The settings of a table, each with a name and one spelling, so that those of two tables can be compared.

use std::fmt;

/// What can be set about a table. In the order in which it is set.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Aspect {
    /// `KeySchema`.
    Key,
    /// The type letter of a key attribute of the table or an index, by its name.
    Attribute(String),
    /// A local secondary index's key and projection.
    LocalIndex(String),
    /// `PROVISIONED` or `PAY_PER_REQUEST`.
    Billing,
    /// The table's provisioned capacity.
    Throughput,
    /// The most that an on-demand table serves.
    OnDemand,
    /// What the table can serve at once.
    Warm,
    /// `STANDARD` or `STANDARD_INFREQUENT_ACCESS`.
    Class,
    /// How it is encrypted, when not with the service's own key.
    Encryption,
    /// What its stream carries.
    Stream,
    /// A global secondary index's key and projection.
    GlobalIndex(String),
    /// An index's provisioned capacity.
    IndexThroughput(String),
    /// The most that an on-demand table's index serves.
    IndexOnDemand(String),
    /// What an index can serve at once.
    IndexWarm(String),
    /// A vector index.
    VectorIndex(String),
    /// A tag's value.
    Tag(String),
    /// The table's policy.
    Policy,
    /// Its stream's policy.
    StreamPolicy,
    /// Restoring to any second.
    Recovery,
    /// A Kinesis stream that gets its changes, by its ARN.
    Kinesis(String),
    /// Watching the hottest keys of the table, or of an index.
    Insights(Option<String>),
    /// The bounds of a capacity.
    Scaled(Dimension),
    /// How a capacity is scaled, by the policy's name.
    ScalingPolicy(Dimension, String),
    /// When the bounds of a capacity change, by the action's name.
    ScheduledAction(Dimension, String),
    /// The attribute by which items expire. Late, because what was written before would be gone at once.
    TimeToLive,
    /// Whether it can be deleted. Last, so that what is made by mistake can be.
    Protection,
}

/// A capacity that is scaled.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Dimension {
    /// Neutral, such as `table/<table>/index/by-date`.
    pub(super) resource: String,
    /// Such as `dynamodb:table:ReadCapacityUnits`.
    pub(super) dimension: String,
}

/// What is known or unknown together, because one call reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Group {
    Table,
    Tags,
    TimeToLive,
    Recovery,
    Kinesis,
    Insights,
    Policy,
    StreamPolicy,
    Scaling,
}

// === impl Aspect ===

impl Aspect {
    /// The call that reads it.
    pub(super) const fn group(&self) -> Group {
        match self {
            Self::Tag(_) => Group::Tags,
            Self::Policy => Group::Policy,
            Self::StreamPolicy => Group::StreamPolicy,
            Self::Recovery => Group::Recovery,
            Self::Kinesis(_) => Group::Kinesis,
            Self::Insights(_) => Group::Insights,
            Self::Scaled(_) | Self::ScalingPolicy(..) | Self::ScheduledAction(..) => Group::Scaling,
            Self::TimeToLive => Group::TimeToLive,
            _ => Group::Table,
        }
    }

    /// The global secondary index that it is about.
    pub(super) fn global_index(&self) -> Option<&str> {
        match self {
            Self::GlobalIndex(index)
            | Self::IndexThroughput(index)
            | Self::IndexOnDemand(index)
            | Self::IndexWarm(index) => Some(index),
            _ => None,
        }
    }
}

impl fmt::Display for Aspect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key => f.write_str("KeySchema"),
            Self::Attribute(name) => write!(f, "AttributeDefinitions.{name}"),
            Self::LocalIndex(name) => write!(f, "LocalSecondaryIndexes.{name}"),
            Self::Billing => f.write_str("BillingMode"),
            Self::Throughput => f.write_str("ProvisionedThroughput"),
            Self::OnDemand => f.write_str("OnDemandThroughput"),
            Self::Warm => f.write_str("WarmThroughput"),
            Self::Class => f.write_str("TableClass"),
            Self::Encryption => f.write_str("SSESpecification"),
            Self::Stream => f.write_str("StreamSpecification"),
            Self::GlobalIndex(name) => write!(f, "GlobalSecondaryIndexes.{name}"),
            Self::IndexThroughput(name) => write!(f, "GlobalSecondaryIndexes.{name}.ProvisionedThroughput"),
            Self::IndexOnDemand(name) => write!(f, "GlobalSecondaryIndexes.{name}.OnDemandThroughput"),
            Self::IndexWarm(name) => write!(f, "GlobalSecondaryIndexes.{name}.WarmThroughput"),
            Self::VectorIndex(name) => write!(f, "VectorIndexes.{name}"),
            Self::Tag(name) => write!(f, "Tags.{name}"),
            Self::Policy => f.write_str("ResourcePolicy"),
            Self::StreamPolicy => f.write_str("ResourcePolicy of the stream"),
            Self::Recovery => f.write_str("PointInTimeRecovery"),
            Self::Kinesis(arn) => write!(f, "KinesisStreamingDestination {arn}"),
            Self::Insights(None) => f.write_str("ContributorInsights"),
            Self::Insights(Some(index)) => write!(f, "ContributorInsights of {index}"),
            Self::Scaled(at) => write!(f, "ScalableTarget {at}"),
            Self::ScalingPolicy(at, name) => write!(f, "ScalingPolicy {name} of {at}"),
            Self::ScheduledAction(at, name) => write!(f, "ScheduledAction {name} of {at}"),
            Self::TimeToLive => f.write_str("TimeToLive"),
            Self::Protection => f.write_str("DeletionProtectionEnabled"),
        }
    }
}

impl fmt::Display for Dimension {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = self.dimension.rsplit(':').next().unwrap_or_default();
        write!(f, "{} {kind}", self.resource)
    }
}
