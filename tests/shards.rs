//! Streams are many shards that split, roll over, page and expire, and nothing is lost or reordered by it.

use std::time::Duration;

use dynamirror::emulator::{Fault, Rule};
use dynamirror::shard::Position;

use crate::support::shape::{HASH, RANGE};
use crate::support::{Options, Order, World, wait};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn splits_and_rolls_under_load_keep_every_key_in_order() {
    let world = World::start().await;
    let orders = [0, 1].map(|index| Order::watch(world.replica_region(index), &[HASH, RANGE]));
    let worker = world.worker().await;
    let mut load = world.load(40, 11);
    let (region, table) = (world.source_region(), world.table());
    for round in 0..16 {
        load.run(60).await;
        match round % 4 {
            0 => drop(region.split(&table).await.expect("a shard is split")),
            2 => region.roll_all(&table).await.expect("all shards are rolled over"),
            _ => drop(region.roll(&table).await.expect("a shard is rolled over")),
        }
    }
    load.run(60).await;
    world.settled(&worker).await;
    orders.iter().for_each(Order::assert);
    worker
        .until("all shards but the open ones to be ended", |status| {
            let shards = &status.replications[0].shards;
            shards.waiting == 0 && shards.active == 8 && shards.ended > 30
        })
        .await;
    world.assert_read_once(&worker).await;
    worker.drain().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_child_waits_until_its_parents_end_is_durable_in_the_replica() {
    let world = World::with(Options { replicas: 1, ..Options::default() }).await;
    let worker = world.worker().await;
    let mut load = world.load(40, 12);
    load.run(100).await;
    world.settled(&worker).await;
    let outage = world.replica_region(0).faults().add(Rule::new(Fault::Down));
    load.run(200).await;
    let (region, table) = (world.source_region(), world.table());
    let parents = world.open_shards().await;
    region.roll_all(&table).await.expect("all shards are rolled over");
    load.run(200).await;
    worker.until("the children to be known", |status| status.replications[0].shards.waiting >= 4).await;
    let read = worker.replica(0).ledger.read;
    worker
        .until("all that precedes the roll-over to be read", |status| {
            status.replications[0].replicas[0].ledger.read >= read
        })
        .await;
    for row in world.rows(world.shape()).await {
        let is_parent = parents.iter().any(|parent| parent.id == row.shard.as_str());
        let reached = row.checkpoints["replica-0"].position;
        if is_parent {
            assert!(!reached.is_end(), "the end of {row:?} was made durable in a replica that is down");
        } else {
            assert_eq!((&row.owner, reached), (&None, Position::TrimHorizon), "{row:?} was begun");
        }
    }
    world.replica_region(0).faults().remove(outage);
    world.settled(&worker).await;
    worker.drain().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_than_a_hundred_shards_are_listed_page_by_page() {
    let mut options = Options { replicas: 1, discovery: Duration::from_secs(2), ..Options::default() };
    options.emulator.initial_shards = 130;
    options.lease.renew_interval = Duration::from_secs(2);
    options.reader.idle_pause = Duration::from_secs(1);
    let world = World::with(options).await;
    let mut load = world.load(600, 13);
    load.fill().await;
    let worker = world.worker().await;
    load.run(600).await;
    for _ in 0..5 {
        world.source_region().split(&world.table()).await.expect("a shard is split");
    }
    load.run(600).await;
    world.settled(&worker).await;
    let active = |count| {
        move |status: &dynamirror::supervisor::status::Status| status.replications[0].shards.active == count
    };
    worker.until("135 shards to be read", active(135)).await;
    worker.drain().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_page_of_a_shard_is_not_lost() {
    let world = World::start().await;
    let mut load = world.load(100, 14);
    // Everything is in closed shards, so that every page with records comes without a next iterator.
    load.run(100).await;
    world.source_region().roll_all(&world.table()).await.expect("all shards are rolled over");
    load.run(100).await;
    world.source_region().roll_all(&world.table()).await.expect("all shards are rolled over");
    let worker = world.worker().await;
    world.settled(&worker).await;
    worker.until("eight shards to be ended", |status| status.replications[0].shards.ended == 8).await;
    worker.drain().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn empty_pages_before_data_end_nothing() {
    let mut options = Options::default();
    options.emulator.empty_pages = 0.6;
    options.emulator.page_records = 7;
    let world = World::with(options).await;
    let mut load = world.load(100, 15);
    load.run(300).await;
    let worker = world.worker().await;
    load.run(300).await;
    world.source_region().roll_all(&world.table()).await.expect("all shards are rolled over");
    load.run(100).await;
    world.settled(&worker).await;
    worker.drain().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn listings_that_lag_behind_lose_no_shard() {
    let world = World::start().await;
    world.source_region().inconsistent_describe(true);
    let worker = world.worker().await;
    let mut load = world.load(60, 16);
    for _ in 0..6 {
        load.run(60).await;
        world.source_region().split(&world.table()).await.expect("a shard is split");
        world.source_region().roll(&world.table()).await.expect("a shard is rolled over");
    }
    load.run(60).await;
    world.settled(&worker).await;
    worker.drain().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn children_are_found_where_their_filter_is_unknown() {
    let mut options = Options::default();
    options.emulator.child_shards_filter = false;
    let world = World::with(options).await;
    let worker = world.worker().await;
    let mut load = world.load(60, 17);
    for _ in 0..4 {
        load.run(60).await;
        world.source_region().roll_all(&world.table()).await.expect("all shards are rolled over");
    }
    load.run(60).await;
    world.settled(&worker).await;
    worker.drain().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn expired_iterators_are_replaced_without_loss_or_repetition() {
    let world = World::start().await;
    let worker = world.worker().await;
    let mut load = world.load(60, 18);
    for _ in 0..10 {
        load.run(60).await;
        let region = world.source_region();
        let before = region.requests("GetShardIterator");
        region.expire_iterators();
        wait::until("a new iterator", async || (region.requests("GetShardIterator") > before).then_some(()))
            .await;
    }
    world.settled(&worker).await;
    world.assert_read_once(&worker).await;
    worker.until("it to be ready", |status| status.ready).await;
    worker.drain().await;
}
