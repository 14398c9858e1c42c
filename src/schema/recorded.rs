//! What a table has that is not carried over, and why: nothing is left out without a word.
//!
//! Every member of a description is in the table below, or it is told as unknown.

use serde::Serialize;
use serde_json::Value;

use super::Settings;
use super::description::{Description, Part};
use super::shape::list;

/// Something that is known of the source table and not applied to the replica.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Recorded {
    /// What it is, as the API spells it.
    pub attribute: String,
    /// Why it is not applied.
    pub reason: String,
    /// What it is at the source, where that is known.
    #[serde(skip_serializing_if = "Value::is_null")]
    pub value: Value,
}

/// What becomes of a member of a description.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It is a setting, or says how far one is.
    Copied,
    /// It is of the source table alone.
    Own,
    /// It makes the table one of several that AWS itself keeps equal.
    Global,
}

const OWN: &str = "it is of the source table alone";
const GLOBAL: &str = "global tables are made on purpose: add replicas with UpdateTable if they are wanted";

/// Members of `TableDescription`.
const TABLE: &[(&str, Fate)] = &[
    ("ArchivalSummary", Fate::Own),
    ("AttributeDefinitions", Fate::Copied),
    ("BillingModeSummary", Fate::Copied),
    ("CreationDateTime", Fate::Own),
    ("DeletionProtectionEnabled", Fate::Copied),
    ("DisassociationProtectionEnabled", Fate::Global),
    ("GlobalSecondaryIndexes", Fate::Copied),
    ("GlobalTableSettingsReplicationMode", Fate::Global),
    ("GlobalTableVersion", Fate::Global),
    ("GlobalTableWitnesses", Fate::Global),
    ("ItemCount", Fate::Own),
    ("KeySchema", Fate::Copied),
    ("LatestStreamArn", Fate::Own),
    ("LatestStreamLabel", Fate::Own),
    ("LocalSecondaryIndexes", Fate::Copied),
    ("MultiRegionConsistency", Fate::Global),
    ("OnDemandThroughput", Fate::Copied),
    ("ProvisionedThroughput", Fate::Copied),
    ("Replicas", Fate::Global),
    ("RestoreSummary", Fate::Own),
    ("SSEDescription", Fate::Copied),
    ("StreamSpecification", Fate::Copied),
    ("TableArn", Fate::Own),
    ("TableClassSummary", Fate::Copied),
    ("TableId", Fate::Own),
    ("TableName", Fate::Copied),
    ("TableSizeBytes", Fate::Own),
    ("TableStatus", Fate::Own),
    // Says the same as `BillingModeSummary`; in no API model.
    ("TableThroughputModeSummary", Fate::Copied),
    ("VectorIndexes", Fate::Copied),
    ("WarmThroughput", Fate::Copied),
];

/// Members of the objects within a description, by where they stand.
const WITHIN: &[(&str, &[&str])] = &[
    ("AttributeDefinitions", &["AttributeName", "AttributeType"]),
    ("BillingModeSummary", &["BillingMode", "LastUpdateToPayPerRequestDateTime"]),
    (
        "GlobalSecondaryIndexes",
        &[
            "Backfilling",
            "IndexArn",
            "IndexName",
            "IndexSizeBytes",
            "IndexStatus",
            "ItemCount",
            "KeySchema",
            "OnDemandThroughput",
            "Projection",
            "ProvisionedThroughput",
            "WarmThroughput",
        ],
    ),
    ("KeySchema", &["AttributeName", "KeyType"]),
    (
        "LocalSecondaryIndexes",
        &["IndexArn", "IndexName", "IndexSizeBytes", "ItemCount", "KeySchema", "Projection"],
    ),
    ("OnDemandThroughput", &["MaxReadRequestUnits", "MaxWriteRequestUnits"]),
    ("Projection", &["NonKeyAttributes", "ProjectionType"]),
    (
        "ProvisionedThroughput",
        &[
            "LastDecreaseDateTime",
            "LastIncreaseDateTime",
            "NumberOfDecreasesToday",
            "ReadCapacityUnits",
            "WriteCapacityUnits",
        ],
    ),
    ("SSEDescription", &["InaccessibleEncryptionDateTime", "KMSMasterKeyArn", "SSEType", "Status"]),
    ("SearchSchema", &["AttributeName", "SearchSchemaElementType"]),
    ("StreamSpecification", &["StreamEnabled", "StreamViewType"]),
    ("TableClassSummary", &["LastUpdateDateTime", "TableClass"]),
    (
        "VectorIndexes",
        &[
            "Backfilling",
            "Dimensions",
            "DistanceFunction",
            "IndexArn",
            "IndexName",
            "IndexSizeBytes",
            "IndexStatus",
            "ItemCount",
            "Projection",
            "SearchSchema",
            "VectorAttribute",
        ],
    ),
    ("WarmThroughput", &["ReadUnitsPerSecond", "Status", "WriteUnitsPerSecond"]),
    ("TimeToLiveDescription", &["AttributeName", "TimeToLiveStatus"]),
    ("ContinuousBackupsDescription", &["ContinuousBackupsStatus", "PointInTimeRecoveryDescription"]),
    (
        "PointInTimeRecoveryDescription",
        &[
            "EarliestRestorableDateTime",
            "LatestRestorableDateTime",
            "PointInTimeRecoveryStatus",
            "RecoveryPeriodInDays",
        ],
    ),
    ("Tags", &["Key", "Value"]),
    (
        "KinesisDataStreamDestinations",
        &[
            "ApproximateCreationDateTimePrecision",
            "DestinationStatus",
            "DestinationStatusDescription",
            "StreamArn",
        ],
    ),
    (
        "ContributorInsights",
        &[
            "ContributorInsightsMode",
            "ContributorInsightsRuleList",
            "ContributorInsightsStatus",
            "FailureException",
            "IndexName",
            "LastUpdateDateTime",
            "TableName",
        ],
    ),
    ("ResourcePolicy", &["Policy", "RevisionId"]),
    (
        "ScalableTargets",
        &[
            "CreationTime",
            "MaxCapacity",
            "MinCapacity",
            "PredictedCapacity",
            "ResourceId",
            "RoleARN",
            "ScalableDimension",
            "ScalableTargetARN",
            "ServiceNamespace",
            "SuspendedState",
        ],
    ),
    (
        "ScalingPolicies",
        &[
            "Alarms",
            "CreationTime",
            "PolicyARN",
            "PolicyName",
            "PolicyType",
            "PredictiveScalingPolicyConfiguration",
            "ResourceId",
            "ScalableDimension",
            "ServiceNamespace",
            "StepScalingPolicyConfiguration",
            "TargetTrackingScalingPolicyConfiguration",
        ],
    ),
    (
        "ScheduledActions",
        &[
            "CreationTime",
            "EndTime",
            "ResourceId",
            "ScalableDimension",
            "ScalableTargetAction",
            "Schedule",
            "ScheduledActionARN",
            "ScheduledActionName",
            "ServiceNamespace",
            "StartTime",
            "Timezone",
        ],
    ),
];

/// What is about a table, and in other services.
const ELSEWHERE: &[&str] = &[
    "Backups",
    "CloudWatch alarms",
    "DAX clusters",
    "IAM identity policies",
    "Lambda event source mappings",
];

/// All of the source that is not applied, whatever the replica has.
pub(super) fn of(source: &Description, settings: &Settings) -> Vec<Recorded> {
    let mut recorded = Vec::new();
    members(source, &mut recorded);
    parts(source, &mut recorded);
    choices(source, settings, &mut recorded);
    let elsewhere = |attribute: &&str| Recorded {
        attribute: (*attribute).to_owned(),
        reason: "it is no part of the table, and was not looked at".to_owned(),
        value: Value::Null,
    };
    recorded.extend(ELSEWHERE.iter().map(elsewhere));
    recorded
}

/// Members of the descriptions that are not settings, and unknown ones.
fn members(source: &Description, recorded: &mut Vec<Recorded>) {
    for (name, value) in source.table.as_object().into_iter().flatten() {
        let fate = TABLE.iter().find(|(known, _)| known == name).map(|(_, fate)| *fate);
        let reason = match fate {
            Some(Fate::Copied) => {
                unknown_within(name, name, value, recorded);
                continue;
            }
            Some(Fate::Own) => OWN,
            Some(Fate::Global) if is_nothing(value) => continue,
            Some(Fate::Global) => GLOBAL,
            None => UNKNOWN,
        };
        recorded.push(Recorded { attribute: name.clone(), reason: reason.to_owned(), value: value.clone() });
    }
    for (name, part) in [
        ("Tags", &source.tags),
        ("TimeToLiveDescription", &source.time_to_live),
        ("ContinuousBackupsDescription", &source.backups),
        ("KinesisDataStreamDestinations", &source.kinesis),
        ("ContributorInsights", &source.insights),
        ("ResourcePolicy", &source.policy),
        ("ResourcePolicy", &source.stream_policy),
    ] {
        if let Some(value) = part.known() {
            unknown_within(name, name, value, recorded);
        }
    }
    for (name, value) in source.scaling.known().and_then(Value::as_object).into_iter().flatten() {
        unknown_within(name, name, value, recorded);
    }
}

const UNKNOWN: &str = "this program does not know it: it is not carried over";

fn is_nothing(value: &Value) -> bool {
    value.is_null() || value == false || value.as_array().is_some_and(Vec::is_empty)
}

/// Members of `value`, which is called `name` and stands at `path`, that nobody here knows.
fn unknown_within(name: &str, path: &str, value: &Value, recorded: &mut Vec<Recorded>) {
    let Some((_, known)) = WITHIN.iter().find(|(within, _)| *within == name) else {
        return;
    };
    let elements = match value {
        Value::Array(elements) => elements.as_slice(),
        Value::Object(_) => std::slice::from_ref(value),
        _ => return,
    };
    for (member, value) in elements.iter().filter_map(Value::as_object).flatten() {
        let path = format!("{path}.{member}");
        if known.contains(&member.as_str()) {
            unknown_within(member, &path, value, recorded);
        } else if !recorded.iter().any(|it| it.attribute == path) {
            let (reason, value) = (UNKNOWN.to_owned(), value.clone());
            recorded.push(Recorded { attribute: path, reason, value });
        }
    }
}

/// Parts of which nothing is known.
fn parts(source: &Description, recorded: &mut Vec<Recorded>) {
    for (name, part) in source.parts() {
        if let Part::Unknown(reason) = part {
            let reason = format!("it is not known at the source: {reason}");
            recorded.push(Recorded { attribute: name.to_owned(), reason, value: Value::Null });
        }
    }
}

/// What the settings, or this program, leave out.
fn choices(source: &Description, settings: &Settings, recorded: &mut Vec<Recorded>) {
    let mut tell = |attribute: &str, reason: &str, value: &Value| {
        let (attribute, reason) = (attribute.to_owned(), reason.to_owned());
        recorded.push(Recorded { attribute, reason, value: value.clone() });
    };
    let warm = &source.table["WarmThroughput"];
    if !settings.warm_throughput && !warm.is_null() {
        tell("WarmThroughput", "it is paid for: set schema_warm_throughput to carry it over", warm);
    }
    for (name, part) in
        [("ResourcePolicy", &source.policy), ("ResourcePolicy of the stream", &source.stream_policy)]
    {
        let policy = part.known().map(|told| &told["Policy"]).filter(|policy| !policy.is_null());
        if let Some(policy) = policy.filter(|_| !settings.resource_policy) {
            tell(name, "it gives access: set schema_resource_policy to carry it over", policy);
        }
    }
    let kinesis = source.kinesis.known().filter(|told| !list(told).is_empty() && !settings.kinesis);
    if let Some(kinesis) = kinesis {
        let reason = "its streams must be there at the replica: set schema_kinesis to carry it over";
        tell("KinesisStreamingDestination", reason, kinesis);
    }
    if let Some(key) = source.table["SSEDescription"]["KMSMasterKeyArn"].as_str()
        && !settings.kms_keys.contains_key(key)
    {
        let reason =
            "schema_kms_keys does not say which key takes its place: it is the replica's own aws/dynamodb";
        tell("SSEDescription.KMSMasterKeyArn", reason, &key.into());
    }
    for tag in source.tags.known().map(list).unwrap_or_default() {
        if tag["Key"].as_str().is_some_and(|key| key.starts_with("aws:")) {
            tell(
                &format!("Tags.{}", tag["Key"].as_str().unwrap_or_default()),
                "AWS alone sets it",
                &tag["Value"],
            );
        }
    }
    for policy in source.scaling.known().map(|told| list(&told["ScalingPolicies"])).unwrap_or_default() {
        if policy["PolicyType"] != "TargetTrackingScaling" {
            let name = format!("ScalingPolicies.{}", policy["PolicyName"].as_str().unwrap_or_default());
            tell(&name, "it follows alarms, which are not carried over", policy);
        }
    }
}
