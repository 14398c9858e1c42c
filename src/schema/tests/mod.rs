//! Plans against a control plane in memory: what is made, what is told, and that nothing is ever taken away.

mod every;
mod model;

use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::dynamo::Operation;
use crate::fault::Fault;
use model::Model;

const SOURCE: &str = "eu-west-1";
const REPLICA: &str = "us-east-1";

/// A source and a replica of it in another region.
struct World {
    source: Arc<Model>,
    replica: Arc<Model>,
    pair: Pair,
}

impl World {
    /// With a source table made by `calls`.
    async fn new(calls: &[(Operation, Value)], settings: Settings) -> Self {
        let (source, replica) = (Arc::new(Model::new(SOURCE)), Arc::new(Model::new(REPLICA)));
        for (operation, body) in calls {
            make(&source, *operation, body.clone()).await;
        }
        let pair = Pair {
            source: Arc::clone(&source) as Arc<dyn Schemas>,
            source_table: "Orders".to_owned(),
            replica: Arc::clone(&replica) as Arc<dyn Schemas>,
            replica_table: "OrdersCopy".to_owned(),
            settings,
            create: true,
        };
        Self { source, replica, pair }
    }

    async fn plan(&self) -> Plan {
        self.pair.plan().await.expect("both can be read")
    }

    async fn apply(&self, plan: &Plan) -> Vec<Refusal> {
        self.pair.apply(plan, &mut |_| ()).await.expect("it can be applied")
    }
}

/// Makes a call when the table can take it.
async fn make(model: &Model, operation: Operation, body: Value) {
    let table = json!({ "TableName": "Orders" });
    if operation != Operation::CreateTable {
        while model.call(Operation::DescribeTable, table.clone()).await.expect("it is there")["Table"]["TableStatus"]
            != "ACTIVE"
        {}
    }
    model.call(operation, body).await.expect("it is accepted");
}

fn all() -> Settings {
    let kms_keys = [(every::KEY.to_owned(), "arn:aws:kms:us-east-1:1:key/there".to_owned())];
    Settings { warm_throughput: true, resource_policy: true, kinesis: true, kms_keys: kms_keys.into() }
}

fn names(plan: &Plan) -> Vec<&'static str> {
    plan.calls.iter().map(|call| call.operation.name()).collect()
}

fn reason<'a>(plan: &'a Plan, attribute: &str) -> &'a str {
    let found = plan.recorded.iter().find(|recorded| recorded.attribute == attribute);
    &found.unwrap_or_else(|| panic!("{attribute} is not among {:#?}", plan.recorded)).reason
}

#[tokio::test(start_paused = true)]
async fn a_table_with_everything_is_made_anew_and_equal() {
    for is_provisioned in [false, true] {
        let world = World::new(&every::table(is_provisioned), all()).await;
        let plan = world.plan().await;
        assert!(plan.creates && !plan.is_equal());
        assert_eq!(names(&plan)[0], "CreateTable");
        assert_eq!(names(&plan)[names(&plan).len() - 2..], ["UpdateTimeToLive", "UpdateTable"]);
        let refusals = world.apply(&plan).await;
        assert!(refusals.is_empty(), "{refusals:#?}");
        let again = world.plan().await;
        assert!(again.is_equal() && again.calls.is_empty() && !again.creates, "{again:#?}");
        let changes = world.replica.changes();
        let policy = changes.iter().find(|(operation, _)| *operation == Operation::PutResourcePolicy);
        let (_, policy) = policy.expect("it has a policy");
        assert_eq!(policy["ResourceArn"], "arn:aws:dynamodb:us-east-1:123456789012:table/OrdersCopy");
        let text = policy["Policy"].as_str().expect("a text");
        assert!(text.contains("us-east-1:123456789012:table/OrdersCopy/index/*"), "{text}");
        assert!(text.contains("arn:aws:iam::1:role/app") && !text.contains("eu-west-1"), "{text}");
        let kinesis = changes.iter().find(|(it, _)| *it == Operation::EnableKinesisStreamingDestination);
        let (_, kinesis) = kinesis.expect("its changes go on");
        assert_eq!(kinesis["StreamArn"], "arn:aws:kinesis:us-east-1:123456789012:stream/orders");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_not_carried_over_is_told_with_its_reason() {
    let world = World::new(&every::table(false), Settings::default()).await;
    world.source.add_tag("Orders", "aws:cloudformation:stack-name", "shop");
    world.source.edit("Orders", |table| {
        table["Replicas"] = json!([{ "RegionName": "eu-west-2" }]);
        table["QuantumMode"] = "ON".into();
        table["GlobalSecondaryIndexes"][0]["Shade"] = "blue".into();
        table["RestoreSummary"] = json!({ "RestoreInProgress": false });
    });
    let plan = world.plan().await;
    for (attribute, words) in [
        ("QuantumMode", "does not know it"),
        ("GlobalSecondaryIndexes.Shade", "does not know it"),
        ("Replicas", "global tables"),
        ("RestoreSummary", "of the source table alone"),
        ("ItemCount", "of the source table alone"),
        ("WarmThroughput", "schema_warm_throughput"),
        ("ResourcePolicy", "schema_resource_policy"),
        ("KinesisStreamingDestination", "schema_kinesis"),
        ("SSEDescription.KMSMasterKeyArn", "schema_kms_keys"),
        ("Tags.aws:cloudformation:stack-name", "AWS alone"),
        ("ScalableTarget table/<table> ReadCapacityUnits", "on-demand"),
        ("IAM identity policies", "no part of the table"),
    ] {
        assert!(reason(&plan, attribute).contains(words), "{attribute}: {}", reason(&plan, attribute));
    }
    world.apply(&plan).await;
    let again = world.plan().await;
    assert!(again.is_equal(), "what is not wanted counts as drift: {:#?}", again.differences);
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_lacks_calls_is_told_and_gets_the_rest() {
    let optional: Vec<_> =
        Operation::ALL.iter().copied().filter(|operation| description::is_optional(*operation)).collect();
    let world = World::new(&every::table(true), all()).await;
    world.replica.lacks(&optional);
    let plan = world.plan().await;
    let refusals = world.apply(&plan).await;
    assert!(!refusals.is_empty() && refusals.iter().all(|refusal| refusal.is_lack), "{refusals:#?}");
    let again = world.plan().await;
    assert!(again.is_equal(), "{:#?}", again.differences);
    assert!(reason(&again, "TimeToLive").contains("DescribeTimeToLive"));

    world.source.lacks(&optional);
    let blind = world.plan().await;
    assert!(blind.calls.is_empty() && reason(&blind, "Tags").contains("ListTagsOfResource"), "{blind:#?}");
    // The source's capacity was not scaled, as far as anybody knows, and the replica's begins at the lower bound.
    assert!(matches!(&blind.differences[..], [only] if matches!(only.remedy, Remedy::Left(_))), "{blind:#?}");
}

#[tokio::test(start_paused = true)]
async fn differences_are_mended_or_told_and_nothing_is_taken_away() {
    let world = World::new(&every::table(false), all()).await;
    let plan = world.plan().await;
    world.apply(&plan).await;
    world.replica.add_tag("OrdersCopy", "own", "kept");
    world.replica.add_tag("OrdersCopy", "team", "other");
    world.replica.edit("OrdersCopy", |table| {
        table["OnDemandThroughput"] = json!({ "MaxReadRequestUnits": 9, "MaxWriteRequestUnits": 10 });
        table["DeletionProtectionEnabled"] = false.into();
        table["GlobalSecondaryIndexes"].as_array_mut().expect("a list").remove(0);
        table["AttributeDefinitions"]
            .as_array_mut()
            .expect("a list")
            .retain(|it| it["AttributeName"] != "status");
        table["LocalSecondaryIndexes"][0]["Projection"] = json!({ "ProjectionType": "KEYS_ONLY" });
        table["StreamSpecification"]["StreamViewType"] = "KEYS_ONLY".into();
    });
    let plan = world.plan().await;
    let remedy = |attribute: &str| {
        let found = plan.differences.iter().find(|difference| difference.attribute == attribute);
        found.unwrap_or_else(|| panic!("{attribute} is not among {:#?}", plan.differences)).remedy
    };
    for mended in [
        "Tags.team",
        "OnDemandThroughput",
        "DeletionProtectionEnabled",
        "GlobalSecondaryIndexes.by-status",
        "ContributorInsights of by-status",
    ] {
        assert_eq!(remedy(mended), Remedy::Mended, "{mended}");
    }
    assert!(matches!(remedy("Tags.own"), Remedy::Left(_)));
    assert!(matches!(remedy("LocalSecondaryIndexes.by-date"), Remedy::Immutable(_)));
    assert!(matches!(remedy("StreamSpecification"), Remedy::Immutable(_)));
    assert_eq!(plan.differences.len(), 8, "{:#?}", plan.differences);
    let refusals = world.apply(&plan).await;
    assert!(refusals.is_empty(), "{refusals:#?}");
    let rest = world.plan().await;
    assert!(rest.calls.is_empty() && rest.differences.len() == 3, "{rest:#?}");
}

#[tokio::test(start_paused = true)]
async fn a_table_of_another_key_is_left_alone() {
    let world = World::new(&every::table(false), all()).await;
    let other = json!({
        "TableName": "OrdersCopy",
        "KeySchema": [{ "AttributeName": "other", "KeyType": "HASH" }],
        "AttributeDefinitions": [{ "AttributeName": "other", "AttributeType": "N" }],
        "BillingMode": "PAY_PER_REQUEST",
    });
    world.replica.call(Operation::CreateTable, other).await.expect("it is made");
    let plan = world.plan().await;
    assert!(plan.calls.is_empty(), "{:#?}", plan.calls);
    assert!(plan.differences.iter().any(|it| it.attribute == "KeySchema"), "{plan:#?}");
}

#[tokio::test(start_paused = true)]
async fn a_new_tables_slowness_is_waited_for() {
    let world = World::new(&every::table(false), all()).await;
    let unavailable = "ContinuousBackupsUnavailableException";
    world.replica.fail_next(Operation::UpdateContinuousBackups, Fault::Invalid, unavailable);
    world.replica.fail_next(Operation::UpdateTimeToLive, Fault::Missing, "ResourceNotFoundException");
    world.replica.fail_next(Operation::CreateTable, Fault::Unanswered, "none");
    let plan = world.plan().await;
    let refusals = world.apply(&plan).await;
    assert!(refusals.is_empty(), "{refusals:#?}");
    assert!(world.plan().await.is_equal());
}

#[tokio::test(start_paused = true)]
async fn one_of_several_creates_and_the_others_wait() {
    let world = World::new(&every::table(false), all()).await;
    let (one, two) = (world.plan().await, world.plan().await);
    assert!(one.creates && two.creates);
    world.apply(&one).await;
    let before = world.replica.changes().len();
    assert!(world.apply(&two).await.is_empty());
    let after = world.replica.changes();
    assert_eq!(after.len(), before + 1, "only its CreateTable was refused");
    assert!(world.plan().await.is_equal());
}

#[tokio::test(start_paused = true)]
async fn a_setting_that_is_refused_keeps_no_other_from_being_made() {
    let world = World::new(&every::table(false), all()).await;
    world.replica.fail_next(Operation::UpdateContributorInsights, Fault::Invalid, "ValidationException");
    let plan = world.plan().await;
    let refusals = world.apply(&plan).await;
    assert!(matches!(&refusals[..], [only] if !only.is_lack), "{refusals:#?}");
    let rest = world.plan().await;
    assert_eq!(names(&rest), ["UpdateContributorInsights"]);

    world.replica.fail_next(Operation::UpdateContributorInsights, Fault::Denied, "AccessDeniedException");
    let denied = world.pair.apply(&rest, &mut |_| ()).await;
    assert!(matches!(denied, Err(Error::Call { .. })));
}

#[tokio::test(start_paused = true)]
async fn without_a_source_there_is_no_plan() {
    let world = World::new(&[], Settings::default()).await;
    assert!(matches!(world.pair.plan().await, Err(Error::NoSource(table)) if table == "Orders"));
}

/// Each billing mode at both sides, with and without indexes at each.
#[tokio::test(start_paused = true)]
async fn every_billing_mode_and_index_becomes_the_sources() {
    for case in 0..16_u32 {
        let is = |bit: u32| case & (1 << bit) != 0;
        let world = World::new(&[every::plain("Orders", is(0), is(1))], Settings::default()).await;
        let (operation, body) = every::plain("OrdersCopy", is(2), is(3));
        world.replica.call(operation, body).await.expect("it is made");
        let plan = world.plan().await;
        let refusals = world.apply(&plan).await;
        assert!(refusals.is_empty(), "{case}: {refusals:#?}");
        let rest = world.plan().await;
        assert!(rest.calls.is_empty(), "{case}: {rest:#?}");
        let only_there = is(3) && !is(1);
        assert_eq!(rest.is_equal(), !only_there, "{case}: {rest:#?}");
        if is(0) == is(2) && is(1) == is(3) {
            assert!(plan.is_equal() && plan.calls.is_empty(), "{case}: {plan:#?}");
        }
    }
}

fn parts() -> impl Strategy<Value = (bool, Vec<bool>, [bool; 3])> {
    (any::<bool>(), prop::collection::vec(any::<bool>(), every::PARTS), any::<[bool; 3]>())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Any table: what is planned for a missing one makes it equal, and for an equal one nothing is planned. From any
    /// other table it comes as far as it can at once, by calls that the service takes, none of which takes anything.
    #[test]
    fn a_plan_leads_to_its_source_and_stops_there((mode, some, choices) in parts(), (_, others, _) in parts()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.expect("a runtime").block_on(async {
            let settings = Settings {
                warm_throughput: choices[0],
                resource_policy: choices[1],
                kinesis: choices[2],
                ..all()
            };
            let calls = every::some(mode, &some);
            let world = World::new(&calls, settings.clone()).await;
            let plan = world.plan().await;
            assert!(world.apply(&plan).await.is_empty());
            let again = world.plan().await;
            assert!(again.is_equal() && again.calls.is_empty(), "{again:#?}");

            let mut world = World::new(&calls, settings).await;
            world.replica = Arc::new(Model::new(REPLICA));
            for (operation, body) in every::some(mode, &others) {
                make(&world.replica, operation, body).await;
            }
            world.pair.replica = Arc::clone(&world.replica) as Arc<dyn Schemas>;
            world.pair.replica_table = "Orders".to_owned();
            let plan = world.plan().await;
            let refusals = world.apply(&plan).await;
            assert!(refusals.is_empty(), "{refusals:#?}");
            let rest = world.plan().await;
            assert!(rest.calls.is_empty(), "{rest:#?}");
            assert!(rest.differences.iter().all(|it| it.remedy != Remedy::Mended), "{rest:#?}");
            for (_, body) in world.replica.changes() {
                assert!(!body.to_string().contains("Delete\""), "{body}");
            }
        });
    }
}

#[test]
fn nothing_that_can_be_called_deletes() {
    for operation in Operation::ALL {
        let name = operation.name();
        let takes = ["Delete", "Untag", "Disable", "Deregister"];
        assert!(!takes.iter().any(|verb| name.starts_with(verb)), "{name}");
    }
}
