//! Calls that make tables: one with everything, and ones with any part of it.

use serde_json::{Value, json};

use crate::dynamo::Operation;

/// An encryption key of the source.
pub(super) const KEY: &str = "arn:aws:kms:eu-west-1:1:key/here";

/// Parts of a table that may be there or not.
pub(super) const PARTS: usize = 14;

/// A table with everything there is.
pub(super) fn table(is_provisioned: bool) -> Vec<(Operation, Value)> {
    some(is_provisioned, &[true; PARTS])
}

/// A table with some parts.
pub(super) fn some(is_provisioned: bool, parts: &[bool]) -> Vec<(Operation, Value)> {
    let mut calls = vec![(Operation::CreateTable, create(is_provisioned, parts))];
    let table = "Orders";
    let arn = "arn:aws:dynamodb:eu-west-1:123456789012:table/Orders";
    let mut add = |is_there: bool, operation: Operation, body: Value| {
        if is_there {
            calls.push((operation, body));
        }
    };
    let recovery = json!({ "PointInTimeRecoveryEnabled": true, "RecoveryPeriodInDays": 7 });
    add(
        parts[5],
        Operation::UpdateContinuousBackups,
        json!({ "TableName": table, "PointInTimeRecoverySpecification": recovery }),
    );
    let expiry = json!({ "Enabled": true, "AttributeName": "expires" });
    add(
        parts[6],
        Operation::UpdateTimeToLive,
        json!({ "TableName": table, "TimeToLiveSpecification": expiry }),
    );
    let policy = json!({ "Statement": [{
        "Principal": { "AWS": "arn:aws:iam::1:role/app" },
        "Resource": [arn, format!("{arn}/index/*")],
    }] });
    let policy = json!({ "ResourceArn": arn, "Policy": policy.to_string() });
    add(parts[7], Operation::PutResourcePolicy, policy);
    let precision = json!({ "ApproximateCreationDateTimePrecision": "MICROSECOND" });
    add(
        parts[8],
        Operation::EnableKinesisStreamingDestination,
        json!({
            "TableName": table,
            "StreamArn": "arn:aws:kinesis:eu-west-1:123456789012:stream/orders",
            "EnableKinesisStreamingConfiguration": precision,
        }),
    );
    let insights = json!({ "TableName": table, "ContributorInsightsAction": "ENABLE" });
    let mut of_table = insights.clone();
    of_table["ContributorInsightsMode"] = "THROTTLED_KEYS".into();
    add(parts[9], Operation::UpdateContributorInsights, of_table);
    let mut of_index = insights;
    of_index["ContributorInsightsMode"] = "ACCESSED_AND_THROTTLED_KEYS".into();
    of_index["IndexName"] = "by-status".into();
    add(parts[9] && parts[1], Operation::UpdateContributorInsights, of_index);
    for (operation, body) in scaling() {
        add(parts[10], operation, body);
    }
    let protection = json!({ "TableName": table, "DeletionProtectionEnabled": true });
    add(parts[11], Operation::UpdateTable, protection);
    calls
}

/// A table with a key, and perhaps an index, which each billing mode has in its own way.
pub(super) fn plain(name: &str, is_provisioned: bool, has_index: bool) -> (Operation, Value) {
    let mut parts = [false; PARTS];
    parts[1] = has_index;
    let mut body = create(is_provisioned, &parts);
    body["TableName"] = name.into();
    (Operation::CreateTable, body)
}

fn create(is_provisioned: bool, parts: &[bool]) -> Value {
    let mut attributes = vec![attribute("id", "S"), attribute("at", "N")];
    let mut body = json!({
        "TableName": "Orders",
        "KeySchema": key("id", "at"),
        "BillingMode": if is_provisioned { "PROVISIONED" } else { "PAY_PER_REQUEST" },
    });
    let units = json!({ "ReadCapacityUnits": 20, "WriteCapacityUnits": 10 });
    if is_provisioned {
        body["ProvisionedThroughput"] = units.clone();
    } else if parts[12] {
        body["OnDemandThroughput"] = json!({ "MaxReadRequestUnits": 500 });
    }
    if parts[0] {
        attributes.push(attribute("date", "S"));
        let projection = json!({ "ProjectionType": "INCLUDE", "NonKeyAttributes": ["b", "a"] });
        body["LocalSecondaryIndexes"] =
            json!([{ "IndexName": "by-date", "KeySchema": key("id", "date"), "Projection": projection }]);
    }
    if parts[1] {
        attributes.push(attribute("status", "B"));
        let projection = json!({ "ProjectionType": "ALL" });
        let mut index =
            json!({ "IndexName": "by-status", "KeySchema": key("status", "at"), "Projection": projection });
        if is_provisioned {
            index["ProvisionedThroughput"] = units;
        } else if parts[12] {
            index["OnDemandThroughput"] = json!({ "MaxWriteRequestUnits": 50 });
        }
        body["GlobalSecondaryIndexes"] = json!([index]);
    }
    if parts[2] {
        body["StreamSpecification"] = json!({ "StreamEnabled": true, "StreamViewType": "NEW_IMAGE" });
    }
    if parts[3] {
        body["SSESpecification"] = json!({ "Enabled": true, "SSEType": "KMS", "KMSMasterKeyId": KEY });
        body["TableClass"] = "STANDARD_INFREQUENT_ACCESS".into();
    }
    if parts[4] {
        body["Tags"] = json!([{ "Key": "team", "Value": "shop" }, { "Key": "stage", "Value": "" }]);
    }
    if parts[13] {
        attributes.push(attribute("shelf", "S"));
        let search = json!([{ "AttributeName": "shelf", "SearchSchemaElementType": "HASH" }]);
        body["VectorIndexes"] = json!([{
            "IndexName": "alike",
            "VectorAttribute": { "AttributeName": "embedding" },
            "SearchSchema": search,
            "Dimensions": 256,
            "DistanceFunction": "COSINE",
            "Projection": { "ProjectionType": "KEYS_ONLY" },
        }]);
        body["WarmThroughput"] = json!({ "ReadUnitsPerSecond": 12000, "WriteUnitsPerSecond": 4000 });
    }
    body["AttributeDefinitions"] = attributes.into();
    body
}

fn attribute(name: &str, kind: &str) -> Value {
    json!({ "AttributeName": name, "AttributeType": kind })
}

fn key(hash: &str, range: &str) -> Value {
    json!([
        { "AttributeName": hash, "KeyType": "HASH" },
        { "AttributeName": range, "KeyType": "RANGE" },
    ])
}

fn scaling() -> [(Operation, Value); 3] {
    let on = json!({
        "ServiceNamespace": "dynamodb",
        "ResourceId": "table/Orders",
        "ScalableDimension": "dynamodb:table:ReadCapacityUnits",
    });
    let with = |more: Value| {
        let mut body = on.clone();
        body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        body
    };
    let tracking = json!({
        "TargetValue": 70.0,
        "PredefinedMetricSpecification": { "PredefinedMetricType": "DynamoDBReadCapacityUtilization" },
    });
    [
        (Operation::RegisterScalableTarget, with(json!({ "MinCapacity": 5, "MaxCapacity": 100 }))),
        (
            Operation::PutScalingPolicy,
            with(json!({
                "PolicyName": "DynamoDBReadCapacityUtilization:table/Orders",
                "PolicyType": "TargetTrackingScaling",
                "TargetTrackingScalingPolicyConfiguration": tracking,
            })),
        ),
        (
            Operation::PutScheduledAction,
            with(json!({
                "ScheduledActionName": "night",
                "Schedule": "cron(0 22 * * ? *)",
                "ScalableTargetAction": { "MinCapacity": 1, "MaxCapacity": 10 },
            })),
        ),
    ]
}
