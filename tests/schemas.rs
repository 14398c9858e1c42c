//! A table with everything that the server knows is described, planned, made and described again.

use std::sync::Arc;

use dynamirror::dynamo::{Error, Operation, connect};
use dynamirror::fault::Fault;
use dynamirror::schema::{Pair, Plan, Settings};
use serde_json::{Value, json};

use crate::support::{Options, World};

/// Two regions without tables, but for the control table.
async fn world() -> World {
    World::with(Options { shapes: Vec::new(), replicas: 1, ..Options::default() }).await
}

/// A source table of this world and a replica of it that is not there yet.
async fn pair(world: &World) -> Pair {
    Pair {
        source: Arc::new(connect(&world.endpoint(&world.source)).await.schemas()),
        source_table: format!("{}-source", world.prefix),
        replica: Arc::new(connect(&world.endpoint(&world.replicas[0])).await.schemas()),
        replica_table: format!("{}-replica", world.prefix),
        settings: Settings { resource_policy: true, ..Settings::default() },
        create: true,
    }
}

/// Makes the source table; gives the calls that the server does not know.
async fn make_everything(pair: &Pair) -> Vec<&'static str> {
    let table = &pair.source_table;
    must(pair, Operation::CreateTable, everything(table)).await;
    let described = must(pair, Operation::DescribeTable, json!({ "TableName": table })).await;
    let arn = described["Table"]["TableArn"].clone();
    let expiry = json!({ "Enabled": true, "AttributeName": "expires" });
    let recovery = json!({ "PointInTimeRecoveryEnabled": true, "RecoveryPeriodInDays": 9 });
    let policy = json!({
        "Version": "2012-10-17",
        "Statement": [{
            "Effect": "Allow",
            "Principal": { "AWS": "arn:aws:iam::111122223333:root" },
            "Action": "dynamodb:GetItem",
            "Resource": arn,
        }],
    });
    let mut lacks = Vec::new();
    for (operation, body) in [
        (Operation::UpdateTimeToLive, json!({ "TableName": table, "TimeToLiveSpecification": expiry })),
        (
            Operation::UpdateContinuousBackups,
            json!({ "TableName": table, "PointInTimeRecoverySpecification": recovery }),
        ),
        (
            Operation::UpdateContributorInsights,
            json!({ "TableName": table, "ContributorInsightsAction": "ENABLE" }),
        ),
        (Operation::PutResourcePolicy, json!({ "ResourceArn": arn, "Policy": policy.to_string() })),
        (Operation::UpdateTable, json!({ "TableName": table, "DeletionProtectionEnabled": true })),
    ] {
        match pair.source.call(operation, body).await {
            Ok(_) => {}
            Err(error) if matches!(error.fault, Fault::Invalid | Fault::Protocol) => {
                println!("not tested against this server: {error}");
                lacks.push(operation.name());
            }
            Err(error) => panic!("{error}"),
        }
    }
    lacks
}

fn everything(table: &str) -> Value {
    let attribute = |name: &str, kind: &str| json!({ "AttributeName": name, "AttributeType": kind });
    let key = |hash: &str, range: &str| {
        json!([
            { "AttributeName": hash, "KeyType": "HASH" },
            { "AttributeName": range, "KeyType": "RANGE" },
        ])
    };
    let include = json!({ "ProjectionType": "INCLUDE", "NonKeyAttributes": ["total", "city"] });
    json!({
        "TableName": table,
        "AttributeDefinitions":
            [attribute("id", "S"), attribute("at", "N"), attribute("date", "S"), attribute("status", "S")],
        "KeySchema": key("id", "at"),
        "BillingMode": "PAY_PER_REQUEST",
        "OnDemandThroughput": { "MaxReadRequestUnits": 4000, "MaxWriteRequestUnits": 2000 },
        "LocalSecondaryIndexes": [{ "IndexName": "by-date", "KeySchema": key("id", "date"), "Projection": include }],
        "GlobalSecondaryIndexes": [{
            "IndexName": "by-status",
            "KeySchema": key("status", "at"),
            "Projection": { "ProjectionType": "ALL" },
        }],
        "StreamSpecification": { "StreamEnabled": true, "StreamViewType": "NEW_AND_OLD_IMAGES" },
        "Tags": [{ "Key": "team", "Value": "shop" }, { "Key": "stage", "Value": "test" }],
    })
}

async fn must(pair: &Pair, operation: Operation, body: Value) -> Value {
    let answer: Result<Value, Error> = pair.source.call(operation, body).await;
    answer.unwrap_or_else(|error| panic!("{error}"))
}

async fn plan(pair: &Pair) -> Plan {
    pair.plan().await.unwrap_or_else(|error| panic!("{error}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_with_everything_is_made_anew_and_equal() {
    let world = world().await;
    let pair = pair(&world).await;
    let lacks = make_everything(&pair).await;
    let first = plan(&pair).await;
    assert!(first.creates && first.calls[0].operation == Operation::CreateTable, "{first:#?}");
    println!("recorded: {:#?}", first.recorded);
    let refusals = pair.apply(&first, &mut |step| println!("{step}")).await.expect("it is made");
    assert!(refusals.is_empty(), "{refusals:#?}");
    let second = plan(&pair).await;
    assert!(second.is_equal() && second.calls.is_empty() && !second.creates, "{second:#?}");
    let body = json!({ "TableName": pair.replica_table });
    let made = pair.replica.call(Operation::DescribeTable, body.clone()).await.expect("it is there");
    let made = &made["Table"];
    assert_eq!(made["BillingModeSummary"]["BillingMode"], "PAY_PER_REQUEST", "{made:#}");
    assert_eq!(made["LocalSecondaryIndexes"][0]["IndexName"], "by-date", "{made:#}");
    assert_eq!(made["GlobalSecondaryIndexes"][0]["IndexName"], "by-status", "{made:#}");
    assert_eq!(made["StreamSpecification"]["StreamViewType"], "NEW_AND_OLD_IMAGES", "{made:#}");
    assert!(lacks.contains(&"UpdateTable") || made["DeletionProtectionEnabled"] == true, "{made:#}");
    if !lacks.contains(&"UpdateTimeToLive") {
        let told = pair.replica.call(Operation::DescribeTimeToLive, body).await.expect("it is known");
        assert_eq!(told["TimeToLiveDescription"]["AttributeName"], "expires", "{told:#}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_may_create_at_once() {
    let world = world().await;
    let pair = pair(&world).await;
    make_everything(&pair).await;
    let made = futures_util::future::join_all((0..4).map(|_| async {
        let planned = plan(&pair).await;
        pair.apply(&planned, &mut |_| ()).await
    }));
    for made in made.await {
        let refusals = made.unwrap_or_else(|error| panic!("{error}"));
        assert!(refusals.is_empty(), "{refusals:#?}");
    }
    let again = plan(&pair).await;
    assert!(again.is_equal(), "{again:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_index_that_was_added_to_the_source_is_added_to_the_replica() {
    let world = world().await;
    let pair = pair(&world).await;
    make_everything(&pair).await;
    let planned = plan(&pair).await;
    pair.apply(&planned, &mut |_| ()).await.expect("it is made");
    let mut body = json!({ "TableName": pair.source_table });
    let definitions = everything("")["AttributeDefinitions"].clone();
    body["AttributeDefinitions"] = definitions;
    body["AttributeDefinitions"]
        .as_array_mut()
        .expect("a list")
        .push(json!({ "AttributeName": "city", "AttributeType": "S" }));
    body["GlobalSecondaryIndexUpdates"] = json!([{ "Create": {
        "IndexName": "by-city",
        "KeySchema": [{ "AttributeName": "city", "KeyType": "HASH" }],
        "Projection": { "ProjectionType": "KEYS_ONLY" },
    } }]);
    must(&pair, Operation::UpdateTable, body).await;
    let planned = plan(&pair).await;
    assert_eq!(planned.differences.len(), 1, "{:#?}", planned.differences);
    assert_eq!(planned.differences[0].attribute, "GlobalSecondaryIndexes.by-city");
    assert!(pair.apply(&planned, &mut |_| ()).await.expect("it is made").is_empty());
    let again = plan(&pair).await;
    assert!(again.is_equal(), "{again:#?}");
}
