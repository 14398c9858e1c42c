//! Where replicas start: from the oldest record, from now on, from a time, from their checkpoints.

use std::time::Duration;

use dynamirror::clock::Clock;
use dynamirror::supervisor::Start;

use crate::support::{Load, Options, World, target, wait};

/// Puts the keys from `first` on, `count` of them.
async fn put(world: &World, load: &mut Load, first: usize, count: usize) {
    for index in first..first + count {
        load.put_item(world.shape().key(index)).await;
    }
}

/// Every second of `first` on is in every replica, or in none.
async fn assert_there(world: &World, first: usize, count: usize, there: bool) {
    for replica in 0..world.replicas.len() {
        for index in first..first + count {
            let found = world.replica_item(replica, &world.shape().key(index)).await.is_some();
            assert_eq!(found, there, "key {index} in replica {replica}");
        }
    }
}

/// Waits until every shard was polled at least twice.
async fn polled(world: &World, shards: u64) {
    let before = world.source_region().requests("GetRecords");
    wait::until("every shard to be polled", async || {
        (world.source_region().requests("GetRecords") >= before + 2 * shards).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_now_on_leaves_out_what_was_written_before() {
    let world = World::with(Options { start: Start::Latest, ..Options::default() }).await;
    let mut load = world.load(1, 71);
    put(&world, &mut load, 0, 20).await;
    world.source_region().roll_all(&world.table()).await.expect("all shards are rolled over");
    put(&world, &mut load, 20, 20).await;
    let worker = world.worker().await;
    worker.until("all shards to be read", |status| status.replications[0].shards.active == 4).await;
    polled(&world, 4).await;
    put(&world, &mut load, 40, 20).await;
    world.source_region().roll_all(&world.table()).await.expect("all shards are rolled over");
    put(&world, &mut load, 60, 20).await;
    world.durable(world.shape(), &worker).await;
    assert_there(&world, 0, 40, false).await;
    assert_there(&world, 40, 40, true).await;
    worker.assert_ledger().await;
    worker.drain().await;
    // A second start goes on from the checkpoints and not from now.
    put(&world, &mut load, 80, 20).await;
    let worker = world.worker().await;
    world.durable(world.shape(), &worker).await;
    assert_there(&world, 80, 20, true).await;
    worker.drain().await;
}

async fn starts_at_a_time(knows_time: bool) {
    if target::server().tells_seconds().is_err() {
        return target::server().tell();
    }
    let mut options = Options::default();
    options.emulator.at_timestamp = knows_time;
    let world = World::with(options.clone()).await;
    let mut load = world.load(1, 72);
    put(&world, &mut load, 0, 20).await;
    // Records carry whole seconds: the start is the second after the one in which all of these were made.
    let start_unix_ms = (Clock::System.unix_ms() / 1_000 + 2) * 1_000;
    wait::until("that second", async || (Clock::System.unix_ms() > start_unix_ms + 50).then_some(())).await;
    put(&world, &mut load, 20, 20).await;
    let worker = world.worker_with(&Options { start: Start::At { unix_ms: start_unix_ms }, ..options }).await;
    put(&world, &mut load, 40, 20).await;
    world.durable(world.shape(), &worker).await;
    assert_there(&world, 0, 20, false).await;
    assert_there(&world, 20, 40, true).await;
    worker.assert_ledger().await;
    worker.drain().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_a_time_on_where_the_endpoint_can_start_at_it() {
    starts_at_a_time(true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_a_time_on_where_the_endpoint_cannot_start_at_it() {
    starts_at_a_time(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_after_a_drain_repeats_nothing() {
    let world = World::start().await;
    let mut load = world.load(60, 73);
    let worker = world.worker().await;
    load.run(400).await;
    world.source_region().split(&world.table()).await.expect("a shard is split");
    load.run(100).await;
    world.settled(&worker).await;
    worker.drain().await;
    for row in world.rows(world.shape()).await {
        assert_eq!(row.owner, None, "a drained worker kept a lease");
    }
    let before = world.records().await;
    load.run(200).await;
    let written = world.records().await - before;
    let worker = world.worker().await;
    world.settled(&worker).await;
    worker
        .until("the new records to be read", |status| {
            status.replications[0].replicas[0].ledger.read as usize >= written
        })
        .await;
    let ledger = worker.replica(0).ledger;
    assert_eq!(ledger.read as usize, written, "{ledger:?}");
    worker.drain().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_after_a_death_repeats_only_what_was_not_checkpointed() {
    let mut options = Options { attempt_timeout: Duration::from_millis(500), ..Options::default() };
    options.lease.duration = Duration::from_secs(2);
    options.lease.longest_attempt = Duration::from_millis(500);
    let world = World::with(options).await;
    let mut load = world.load(60, 74);
    let worker = world.worker().await;
    load.run(400).await;
    world.settled(&worker).await;
    let before = world.records().await;
    load.run(200).await;
    let written = world.records().await - before;
    worker.die().await;
    let worker = world.worker().await;
    world.settled(&worker).await;
    let ledger = worker.replica(0).ledger;
    assert!(ledger.read as usize <= written, "{written} were not checkpointed: {ledger:?}");
    worker.drain().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_in_the_middle_of_a_load_ends_soon_and_loses_nothing() {
    let world = World::start().await;
    let mut load = world.load(60, 75);
    for _ in 0..4 {
        let worker = world.worker().await;
        load.run(300).await;
        worker.drain().await;
    }
    let worker = world.worker().await;
    world.settled(&worker).await;
    worker.drain().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_is_added_later_gets_all_that_the_stream_holds() {
    let world = World::start().await;
    let mut load = world.load(60, 76);
    let one = Options { replicas: 1, ..world.options.clone() };
    let worker = world.worker_with(&one).await;
    load.run(300).await;
    world.source_region().roll_all(&world.table()).await.expect("all shards are rolled over");
    load.run(100).await;
    world.source_region().split(&world.table()).await.expect("a shard is split");
    load.run(100).await;
    wait::until("the first replica to have everything", async || {
        world.differences(world.shape(), 0, &[]).await.is_empty().then_some(())
    })
    .await;
    worker.until("old shards to be ended", |status| status.replications[0].shards.ended >= 5).await;
    worker.drain().await;
    let worker = world.worker().await;
    load.run(100).await;
    world.settled(&worker).await;
    let records = world.records().await as u64;
    worker
        .until("the new replica to have had every record", |status| {
            let ledger = &status.replications[0].replicas[1].ledger;
            ledger.applied + ledger.coalesced == records
        })
        .await;
    let first = worker.replica(0).ledger;
    assert!(first.applied + first.coalesced < 300, "the first replica got everything once more: {first:?}");
    worker.drain().await;
}
