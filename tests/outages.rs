//! A replica or the control table is down for a while: memory stays bounded, nothing is lost, all is caught up.

use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;
use dynamirror::emulator::{Fault, Rule};
use dynamirror::supervisor::status::State;
use tokio::time::Instant;

use crate::support::{Load, Options, World, wait};

/// What one page may be larger than the room that was reserved for it.
const PAGE_BYTES: u64 = 2 << 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_is_down_costs_bounded_memory_and_loses_nothing() {
    let world = World::with(Options { buffer_bytes: 4 << 20, ..Options::default() }).await;
    let worker = world.worker().await;
    let mut load = world.load(300, 51);
    load.fill().await;
    world.settled(&worker).await;
    let outage = world.replica_region(0).faults().add(Rule::new(Fault::Down));
    let mut most = 0;
    let mut look = || {
        let replica = worker.replica(0);
        most = most.max(replica.buffer_bytes);
        assert!(
            replica.buffer_bytes <= replica.buffer_limit_bytes + PAGE_BYTES,
            "memory is not bounded\n{}",
            worker.tell()
        );
    };
    // 24 MB in both images, six times what may be in memory.
    for index in 0..600 {
        let mut item = world.shape().key(index % 300);
        item.insert("bulk".to_owned(), AttributeValue::S("x".repeat(20_000)));
        item.insert("version".to_owned(), AttributeValue::N(index.to_string()));
        load.put_item(item).await;
        look();
    }
    worker
        .until("the replica to be stalled and to say so", |status| {
            let replica = &status.replications[0].replicas[0];
            replica.state == State::Stalled && replica.error.is_some() && !status.ready
        })
        .await;
    look();
    let limit = worker.replica(0).buffer_limit_bytes;
    assert!(most > limit / 2, "{most} of {limit} bytes were used at most, so this shows nothing");
    let before = worker.replica(0).ledger.read;
    let held_back = world.records().await as u64;
    assert!(before < held_back, "everything was read although the replica is down");
    world.replica_region(0).faults().remove(outage);
    world.settled(&worker).await;
    worker.until("it to be ready again", |status| status.ready).await;
    worker.drain().await;
}

/// Writes changes that are seen in the first replica one after the other; says how long the slowest took.
async fn probe(world: &World, load: &mut Load, changes: u32) -> Duration {
    let mut slowest = Duration::ZERO;
    for index in 0..changes {
        let mut item = world.shape().key(0);
        item.insert("probe".to_owned(), AttributeValue::S(format!("{index} {}", "x".repeat(20_000))));
        let probe = item["probe"].clone();
        load.put_item(item).await;
        let since = Instant::now();
        wait::until("the change to be in the first replica", async || {
            let found = world.replica_item(0, &world.shape().key(0)).await?;
            (found.get("probe") == Some(&probe)).then_some(())
        })
        .await;
        slowest = slowest.max(since.elapsed());
    }
    slowest
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_is_down_delays_no_other_not_even_over_a_roll() {
    let world = World::with(Options { buffer_bytes: 4 << 20, ..Options::default() }).await;
    let worker = world.worker().await;
    let mut load = world.load(300, 56);
    load.fill().await;
    world.settled(&worker).await;
    let before = probe(&world, &mut load, 20).await;
    let outage = world.replica_region(1).faults().add(Rule::new(Fault::Down));
    for index in 0..600 {
        let mut item = world.shape().key(index % 300);
        item.insert("bulk".to_owned(), AttributeValue::S("x".repeat(20_000)));
        item.insert("version".to_owned(), AttributeValue::N(index.to_string()));
        load.put_item(item).await;
    }
    worker
        .until("the broken replica to be read for by itself", |status| {
            status.replications[0].replicas[1].detached_shards > 0
        })
        .await;
    assert_eq!(worker.replica(0).detached_shards, 0);
    let meanwhile = probe(&world, &mut load, 20).await;
    world.source_region().roll_all(&world.table()).await.expect("all shards are rolled over");
    let rolled = probe(&world, &mut load, 20).await;
    // A poll's pause, a listing of children and a busy machine, and nothing that lasts as long as the outage.
    let most = before + Duration::from_secs(5);
    assert!(
        meanwhile < most && rolled < most,
        "{before:?} before, {meanwhile:?} and {rolled:?} in the outage"
    );
    let replica = worker.replica(1);
    assert!(replica.buffer_bytes <= replica.buffer_limit_bytes + PAGE_BYTES, "memory is not bounded");
    world.replica_region(1).faults().remove(outage);
    world.settled(&worker).await;
    worker
        .until("one reader to be enough again", |status| {
            status.replications[0].replicas.iter().all(|replica| replica.detached_shards == 0)
        })
        .await;
    worker.drain().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_control_table_that_is_down_for_a_moment_stops_nothing() {
    let world = World::start().await;
    let worker = world.worker().await;
    let mut load = world.load(60, 52);
    load.run(100).await;
    world.settled(&worker).await;
    let faults = world.control_region().faults();
    let outage = faults.add(Rule::new(Fault::Down));
    load.run(200).await;
    let records = world.records().await as u64;
    worker
        .until("more to be read and applied meanwhile", |status| {
            let replica = &status.replications[0].replicas[0];
            replica.ledger.read == records && replica.pending_changes == 0
        })
        .await;
    faults.remove(outage);
    load.run(100).await;
    world.settled(&worker).await;
    worker.drain().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_control_table_that_is_down_for_longer_than_a_lease_stops_all_writes_until_it_is_back() {
    let mut options = Options { attempt_timeout: Duration::from_millis(500), ..Options::default() };
    options.lease.duration = Duration::from_secs(2);
    options.lease.longest_attempt = Duration::from_millis(500);
    let world = World::with(options).await;
    let worker = world.worker().await;
    let mut load = world.load(60, 53);
    load.run(100).await;
    world.settled(&worker).await;
    worker.until("the leases to be held", |status| status.replications[0].shards.active == 4).await;
    let faults = world.control_region().faults();
    let outage = faults.add(Rule::new(Fault::Down));
    worker.until("the leases to be given up", |status| status.replications[0].shards.active == 0).await;
    // Nobody knows who holds the leases now, so nothing may be written.
    let writes = world.replica_region(0).requests("BatchWriteItem");
    load.run(200).await;
    let failures = faults.fired(outage);
    wait::until("more calls to fail", async || (faults.fired(outage) > failures + 2).then_some(())).await;
    assert_eq!(
        world.replica_region(0).requests("BatchWriteItem"),
        writes,
        "something was written without a lease"
    );
    worker.until("it not to be ready", |status| !status.ready).await;
    faults.remove(outage);
    load.run(100).await;
    world.settled(&worker).await;
    worker.until("it to be ready again", |status| status.ready).await;
    worker.drain().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_that_is_down_for_a_while_is_read_on_afterwards() {
    let world = World::start().await;
    let worker = world.worker().await;
    let mut load = world.load(60, 54);
    load.run(100).await;
    world.settled(&worker).await;
    let faults = world.source_region().faults();
    let rules = ["GetRecords", "GetShardIterator", "DescribeStream", "DescribeTable"]
        .map(|operation| faults.add(Rule::new(Fault::Down).on(operation)));
    load.run(200).await;
    worker.until("the trouble to be told", |status| status.replications[0].error.is_some()).await;
    for rule in rules {
        faults.remove(rule);
    }
    world.settled(&worker).await;
    worker.until("it to be well again", |status| status.replications[0].error.is_none()).await;
    worker.drain().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_may_be_down_at_the_start() {
    let world = World::start().await;
    let mut load = world.load(60, 55);
    load.run(100).await;
    let regions = [world.source_region(), world.control_region(), world.replica_region(0)];
    let rules = regions.map(|region| (region, region.faults().add(Rule::new(Fault::Down))));
    let worker = world.worker().await;
    worker
        .until("the reason to be told", |status| !status.ready && status.replications[0].error.is_some())
        .await;
    for (region, rule) in rules {
        region.faults().remove(rule);
    }
    world.settled(&worker).await;
    worker.drain().await;
}
