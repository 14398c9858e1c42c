//! What can no longer be read is told loudly and never taken for finished (I6), and the rest goes on.

use std::time::Duration;

use dynamirror::clock::Clock;
use dynamirror::supervisor::status::Status;
use tokio::time::Instant;

use crate::support::{Item, Load, Options, Running, Shape, World};

/// A key of which changes go to this shard.
async fn key_in(world: &World, load: &mut Load, shard: &str) -> Item {
    for index in 0.. {
        let before = newest(world, shard).await;
        let key = world.shape().key(10_000 + index);
        load.put_item(key.clone()).await;
        if newest(world, shard).await != before {
            return key;
        }
    }
    unreachable!("there is always another key")
}

async fn newest(world: &World, shard: &str) -> Option<String> {
    let shards = world.source_region().shards(&world.table()).await.expect("the shards are known");
    shards.into_iter().find(|it| it.id == shard).and_then(|it| it.newest)
}

/// Some of the options' workers see the world a day later.
fn a_day_later(options: &Options) -> Options {
    let now = Clock::System.unix_ms();
    let clock = Clock::Simulated { start_unix_ms: now + 25 * 3_600_000, start: Instant::now() };
    Options { clock, ..options.clone() }
}

/// The status tells of a gap in `shard`, is not ready for it, and says what to do.
fn tells_gap(status: &Status, shard: Option<&str>) -> bool {
    let replication = &status.replications[0];
    let gap = replication.gaps.iter().find(|gap| gap.shard.as_deref() == shard);
    gap.is_some_and(|gap| {
        let told = |reason: &String| reason.contains(&gap.reason) && reason.contains(&gap.advice);
        !gap.reason.is_empty() && !gap.advice.is_empty() && !status.ready && status.not_ready.iter().any(told)
    })
}

/// Changes of the other shard's key still arrive in both replicas.
async fn assert_goes_on(world: &World, worker: &Running, load: &mut Load, key: &Item) {
    let mut item = key.clone();
    let mark = format!("{}", load.written);
    item.insert("mark".to_owned(), aws_sdk_dynamodb::types::AttributeValue::S(mark));
    load.put_item(item.clone()).await;
    for index in 0..world.replicas.len() {
        let arrived = crate::support::wait::within(Duration::from_secs(30), async || {
            (world.replica_item(index, key).await.as_ref() == Some(&item)).then_some(())
        });
        assert!(arrived.await.is_some(), "the other shard does not go on\n{}", worker.tell());
    }
}

/// A world with two shards whose worker was drained, and a key for each shard.
async fn drained_world() -> (World, Load, [(String, Item); 2]) {
    let mut options = Options::default();
    options.emulator.initial_shards = 2;
    let world = World::with(options).await;
    let worker = world.worker().await;
    let mut load = world.load(50, 21);
    load.run(200).await;
    let shards = world.open_shards().await;
    let mut keys = Vec::new();
    for shard in &shards {
        keys.push((shard.id.clone(), key_in(&world, &mut load, &shard.id).await));
    }
    world.settled(&worker).await;
    worker.drain().await;
    (world, load, keys.try_into().expect("two shards"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trimmed_position_is_a_gap_and_the_other_shard_goes_on() {
    let (world, mut load, [(gone, lost), (_, other)]) = drained_world().await;
    load.delete_item(lost.clone()).await;
    world.source_region().trim(&world.table()).await.expect("records are trimmed");
    let worker = world.worker_with(&a_day_later(&world.options)).await;
    worker.until("the gap", |status| tells_gap(status, Some(&gone))).await;
    assert_eq!(worker.replication().gaps.len(), 1, "{}", worker.tell());
    assert_eq!(worker.replication().shards.gap, 1, "{}", worker.tell());
    assert_goes_on(&world, &worker, &mut load, &other).await;
    for row in world.rows(world.shape()).await.iter().filter(|row| row.shard.as_str() == gone) {
        let ended = row.checkpoints.values().any(|checkpoint| checkpoint.position.is_end());
        assert!(!ended, "what cannot be read counts as finished: {row:?}");
    }
    worker.drain().await;
    // Nothing forgets a gap but a person.
    let again = world.worker().await;
    again.until("the gap, still", |status| tells_gap(status, Some(&gone))).await;
    assert_goes_on(&world, &again, &mut load, &other).await;
    again.drain().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unfinished_shard_that_vanished_while_nobody_read_is_a_gap() {
    let (world, mut load, [(gone, lost), (_, other)]) = drained_world().await;
    load.delete_item(lost.clone()).await;
    world.source_region().forget_shard(&world.table(), &gone).await.expect("the shard vanishes");
    let worker = world.worker().await;
    worker.until("the gap", |status| tells_gap(status, Some(&gone))).await;
    assert_goes_on(&world, &worker, &mut load, &other).await;
    worker.drain().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shard_that_vanishes_while_it_is_read_is_a_gap() {
    let (world, mut load, [(gone, _), (_, other)]) = drained_world().await;
    let worker = world.worker().await;
    worker.until("both shards to be read", |status| status.replications[0].shards.active == 2).await;
    world.source_region().forget_shard(&world.table(), &gone).await.expect("the shard vanishes");
    worker.until("the gap", |status| tells_gap(status, Some(&gone))).await;
    assert_goes_on(&world, &worker, &mut load, &other).await;
    worker.drain().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_is_replaced_while_it_is_read_is_a_gap() {
    let world = World::start().await;
    let worker = world.worker().await;
    let mut load = world.load(50, 22);
    load.run(200).await;
    world.settled(&worker).await;
    worker.until("it to be ready", |status| status.ready).await;
    world.source_region().replace_stream(&world.table()).await.expect("a new stream");
    worker.until("the gap", |status| tells_gap(status, None)).await;
    worker.drain().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_was_replaced_while_nobody_read_is_a_gap() {
    let (world, mut load, _) = drained_world().await;
    load.run(50).await;
    world.source_region().replace_stream(&world.table()).await.expect("a new stream");
    load.run(50).await;
    let worker = world.worker().await;
    worker.until("the gap", |status| tells_gap(status, None)).await;
    worker.drain().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gap_stops_no_other_replication() {
    let other = Shape { name: "other", ..Shape::orders() };
    let world =
        World::with(Options { shapes: vec![Shape::orders(), other.clone()], ..Options::default() }).await;
    let worker = world.worker().await;
    let mut loads = [world.load(50, 23), world.load_of(&other, 50, 24)];
    for load in &mut loads {
        load.run(100).await;
    }
    world.settled(&worker).await;
    world.source_region().replace_stream(&world.table()).await.expect("a new stream");
    worker.until("the gap", |status| tells_gap(status, None)).await;
    loads[1].run(200).await;
    world.durable(&other, &worker).await;
    for index in 0..2 {
        assert_eq!(world.differences(&other, index, &[]).await, Vec::<String>::new());
    }
    worker.drain().await;
}
