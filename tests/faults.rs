//! Endpoints that throttle, reset, lose answers, answer late or not at all: everything arrives all the same.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use dynamirror::emulator::{Fault, Reason, Region, Rule, RuleId, Throttle};
use dynamirror::supervisor::status::State;

use crate::support::shape::{HASH, RANGE};
use crate::support::{Item, Options, Order, World, wait};

/// Waits until a rule has struck this often.
async fn fired(region: &Region, rule: RuleId, times: u64) {
    wait::until(&format!("a fault to strike {times} times"), async || {
        (region.faults().fired(rule) >= times).then_some(())
    })
    .await;
}

fn throttle(exception: Throttle, reason: Option<&str>, resource: &str) -> Fault {
    let reason = reason.map(|reason| Reason { reason: reason.to_owned(), resource: resource.to_owned() });
    Fault::Throttle { exception, reasons: reason.into_iter().collect() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn throttled_writes_of_every_kind_arrive_in_the_end() {
    let world = World::start().await;
    let worker = world.worker().await;
    let mut load = world.load(60, 31);
    let region = world.replica_region(0);
    let reasons = [
        None,
        Some("TableWriteProvisionedThroughputExceeded"),
        Some("TableWriteAccountLimitExceeded"),
        Some("TableWriteKeyRangeThroughputExceeded"),
        Some("TableWriteMaxOnDemandThroughputExceeded"),
        Some("IndexWriteProvisionedThroughputExceeded"),
        Some("IndexWriteKeyRangeThroughputExceeded"),
    ];
    for reason in reasons {
        for exception in [Throttle::ProvisionedThroughputExceeded, Throttle::Throttling] {
            let fault = throttle(exception, reason, "arn:aws:dynamodb:eu-west-1:0:table/t");
            let rule = region.faults().add(Rule::new(fault).on("BatchWriteItem").times(3));
            load.run(30).await;
            fired(region, rule, 3).await;
        }
    }
    load.run(100).await;
    world.settled(&worker).await;
    let throttled = worker
        .metrics
        .render()
        .expect("metrics")
        .lines()
        .filter(|line| {
            line.starts_with("dynamirror_write_throttles_total")
                && line.contains("replica-0")
                && !line.ends_with(" 0")
        })
        .map(str::to_owned)
        .collect::<Vec<_>>();
    for reason in ["key_range", "table", "index", "account", "unknown"] {
        let told = throttled.iter().any(|line| line.contains(&format!("\"{reason}\"")));
        assert!(told, "no metric tells of throttling by {reason}: {throttled:#?}");
    }
    worker.drain().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn throttled_reads_and_control_writes_lose_nothing() {
    let world = World::start().await;
    let worker = world.worker().await;
    let mut load = world.load(60, 32);
    let mut rules = Vec::new();
    for operation in ["GetRecords", "GetShardIterator", "DescribeStream", "DescribeTable"] {
        for exception in [Throttle::ProvisionedThroughputExceeded, Throttle::Throttling] {
            let rule = Rule::new(throttle(exception, None, "")).on(operation).with_probability(0.3);
            rules.push((world.source_region(), world.source_region().faults().add(rule)));
        }
    }
    for operation in ["PutItem", "Query"] {
        let rule = Rule::new(throttle(Throttle::Throttling, None, "")).on(operation).with_probability(0.2);
        rules.push((world.control_region(), world.control_region().faults().add(rule)));
    }
    for _ in 0..5 {
        load.run(60).await;
        let (region, rule) = rules[0];
        fired(region, rule, region.faults().fired(rule) + 3).await;
    }
    for (region, rule) in rules {
        region.faults().remove(rule);
    }
    // What was throttled while it was asked for is found by the next one who asks.
    world.source_region().roll_all(&world.table()).await.expect("all shards are rolled over");
    load.run(60).await;
    world.settled(&worker).await;
    worker.drain().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_that_are_applied_in_part_keep_hot_keys_in_order() {
    let world = World::start().await;
    let worker = world.worker().await;
    let order = Order::watch(world.replica_region(0), &[HASH, RANGE]);
    let rule = Rule::new(Fault::Unprocessed { share: 0.5 }).with_probability(0.7);
    let rule = world.replica_region(0).faults().add(rule);
    world.load(6, 33).run(1_000).await;
    world.settled(&worker).await;
    assert!(world.replica_region(0).faults().fired(rule) > 0, "no batch was applied in part");
    order.assert();
    worker.drain().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_takes_few_writes_is_slow_and_exact_and_delays_no_other() {
    let world = World::start().await;
    let worker = world.worker().await;
    let table = world.replica_table(world.shape(), 0);
    world.replica_region(0).limit_writes(&table, 40.0);
    let mut load = world.load(400, 34);
    load.fill().await;
    load.run(600).await;
    wait::until("the other replica to have everything", async || {
        world.differences(world.shape(), 1, &[]).await.is_empty().then_some(())
    })
    .await;
    assert!(
        !world.differences(world.shape(), 0, &[]).await.is_empty(),
        "the slow replica is not slow, so this shows nothing"
    );
    worker
        .until("the status to tell of the throttling", |status| {
            let replica = &status.replications[0].replicas[0];
            replica.pending_changes > 0
        })
        .await;
    world.replica_region(0).unlimit_writes(&table);
    world.settled(&worker).await;
    worker.drain().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_break_before_and_after_the_commit_lose_and_repeat_nothing_visible() {
    let world = World::start().await;
    let worker = world.worker().await;
    let mut load = world.load(60, 35);
    let mut rules = Vec::new();
    for fault in
        [Fault::ResetBefore, Fault::ResetAfter, Fault::TruncateBody, Fault::Status(500), Fault::Status(503)]
    {
        for (region, operation) in [
            (world.replica_region(0), "BatchWriteItem"),
            (world.control_region(), "PutItem"),
            (world.source_region(), "GetRecords"),
            (world.source_region(), "GetShardIterator"),
            (world.source_region(), "DescribeStream"),
        ] {
            let rule = Rule::new(fault.clone()).on(operation).with_probability(0.05);
            rules.push((region, region.faults().add(rule)));
        }
    }
    for _ in 0..8 {
        load.run(50).await;
        world.source_region().roll(&world.table()).await.expect("a shard is rolled over");
    }
    let (region, reset_after) = rules[5];
    fired(region, reset_after, 1).await;
    for (region, rule) in rules {
        region.faults().remove(rule);
    }
    world.settled(&worker).await;
    worker.drain().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_lands_late_leaves_no_stale_item() {
    let world = World::with(Options { replicas: 1, ..Options::default() }).await;
    let worker = world.worker().await;
    let order = Order::watch(world.replica_region(0), &[HASH, RANGE]);
    let region = world.replica_region(0);
    let mut load = world.load(8, 36);
    load.fill().await;
    world.settled(&worker).await;
    let landed = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&landed);
    region.on_write(Arc::new(move |operation, _| {
        counter.fetch_add(usize::from(operation == "BatchWriteItem"), Ordering::Relaxed);
    }));
    for _ in 0..3 {
        let before = region.requests("BatchWriteItem") as usize - landed.load(Ordering::Relaxed);
        // It lands within the time that an attempt may take, when newer changes of its keys are waiting already.
        let late = Rule::new(Fault::Late(Duration::from_millis(1_200))).on("BatchWriteItem").times(1);
        let rule = region.faults().add(late);
        load.run(20).await;
        fired(region, rule, 1).await;
        load.run(60).await;
        world.settled(&worker).await;
        wait::until("the late write to land", async || {
            let under_way = region.requests("BatchWriteItem") as usize - landed.load(Ordering::Relaxed);
            (under_way <= before).then_some(())
        })
        .await;
        assert_eq!(world.differences(world.shape(), 0, &[]).await, Vec::<String>::new());
    }
    order.assert();
    worker.drain().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_that_are_never_answered_are_given_up_and_made_again() {
    let world = World::start().await;
    let worker = world.worker().await;
    let mut load = world.load(60, 37);
    load.run(60).await;
    let hang = |operation: &str| Rule::new(Fault::Hang(Duration::from_secs(600))).on(operation).times(2);
    let rules = [
        (world.replica_region(0), "BatchWriteItem"),
        (world.source_region(), "GetRecords"),
        (world.source_region(), "DescribeStream"),
        (world.control_region(), "PutItem"),
    ]
    .map(|(region, operation)| (region, region.faults().add(hang(operation))));
    load.run(200).await;
    for (region, rule) in rules {
        fired(region, rule, 1).await;
    }
    load.run(60).await;
    world.settled(&worker).await;
    worker.drain().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_denies_access_stalls_alone_and_says_why() {
    let world = World::start().await;
    let worker = world.worker().await;
    let mut load = world.load(60, 38);
    load.run(60).await;
    world.settled(&worker).await;
    let denied = Fault::Refuse {
        code: "AccessDeniedException".to_owned(),
        message: "not authorized to perform: dynamodb:BatchWriteItem".to_owned(),
    };
    let rule = world.replica_region(0).faults().add(Rule::new(denied).on("BatchWriteItem"));
    load.run(200).await;
    worker
        .until("the replica to be stalled, with the reason and advice", |status| {
            let replica = &status.replications[0].replicas[0];
            let error = replica.error.as_deref().unwrap_or_default();
            let told = error.contains("AccessDeniedException") && error.contains("check-config");
            let shown = status.not_ready.iter().any(|reason| reason.contains("replica-0"));
            told && shown && replica.state == State::Stalled
        })
        .await;
    let other = wait::within(Duration::from_secs(30), async || {
        world.differences(world.shape(), 1, &[]).await.is_empty().then_some(())
    });
    assert!(other.await.is_some(), "the other replica is held up\n{}", worker.tell());
    world.replica_region(0).faults().remove(rule);
    world.settled(&worker).await;
    worker.until("it to be ready again", |status| status.ready).await;
    worker.drain().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_item_fetched_under_throttling_is_whole() {
    let world = World::with(Options {
        shapes: vec![crate::support::Shape::viewed(aws_sdk_dynamodb::types::StreamViewType::KeysOnly)],
        ..Options::default()
    })
    .await;
    let worker = world.worker().await;
    let fault = throttle(Throttle::ProvisionedThroughputExceeded, None, "");
    let rule = Rule::new(fault).on("BatchGetItem").with_probability(0.5);
    let rule = world.source_region().faults().add(rule);
    let mut load = world.load(60, 39);
    load.run(400).await;
    fired(world.source_region(), rule, 1).await;
    let gone: Item = world.shape().key(0);
    load.delete_item(gone.clone()).await;
    world.settled(&worker).await;
    assert!(world.replica_item(0, &gone).await.is_none());
    worker.drain().await;
}
