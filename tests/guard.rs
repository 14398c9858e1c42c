//! Replicas under a guard: whatever is replayed, and however late it lands, no reader sees an item go back.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;
use dynamirror::dynamo::Guard;
use dynamirror::emulator::{self, Fault, Rule};

use crate::support::{Item, Options, World, beside, compare, wait};

const VERSION: &str = "version";

/// One replica under a guard, pages of a few records and few checkpoints, so that a restart replays old versions.
fn options() -> Options {
    let mut options = Options {
        replicas: 1,
        guard: Some(Guard { attribute: Guard::DEFAULT_ATTRIBUTE.to_owned() }),
        emulator: emulator::Config { initial_shards: 2, page_records: 4, ..emulator::Config::default() },
        attempt_timeout: Duration::from_millis(800),
        ..Options::default()
    };
    options.lease.duration = Duration::from_secs(4);
    options.lease.renew_interval = Duration::from_millis(1_300);
    options.lease.longest_attempt = options.attempt_timeout;
    options
}

fn version(item: &Item) -> u64 {
    let number = item[VERSION].as_n().expect("a number");
    number.parse().expect("a version")
}

fn item(world: &World, key: usize, version: u64) -> Item {
    let mut item = world.shape().key(key);
    item.insert(VERSION.to_owned(), AttributeValue::N(version.to_string()));
    item
}

/// Looks at a whole replica again and again until it is told to stop, and gives what it saw go back.
async fn watch(world: Arc<World>, stop: Arc<AtomicBool>, looks: Arc<AtomicU64>) -> Vec<String> {
    let mut newest: BTreeMap<String, u64> = BTreeMap::new();
    let mut went_back = Vec::new();
    let table = world.replica_table(world.shape(), 0);
    while !stop.load(Ordering::Relaxed) {
        let seen = compare::items(&world.replicas[0].client, &table, world.shape()).await;
        for (key, known) in &mut newest {
            match seen.get(key).map(version) {
                Some(version) if version >= *known => *known = version,
                other => went_back.push(format!("{key}: {known} was followed by {other:?}")),
            }
        }
        for (key, item) in &seen {
            newest.entry(key.clone()).or_insert_with(|| version(item));
        }
        looks.fetch_add(1, Ordering::Relaxed);
    }
    went_back
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_of_a_guarded_replica_sees_no_value_go_back_while_workers_are_killed() {
    const KEYS: usize = 6;
    let world = Arc::new(World::with(options()).await);
    let (stop, looks) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
    let reader = beside(watch(Arc::clone(&world), Arc::clone(&stop), Arc::clone(&looks)));
    let mut load = world.load(KEYS, 91);
    let mut worker = world.worker().await;
    let (mut newest, mut stale) = (0, 0);
    for _ in 0..3 {
        worker.until("the shards to be read", |status| status.replications[0].shards.active == 2).await;
        let applied = worker.replica(0).ledger.applied;
        for _ in 0..40 {
            newest += 1;
            for key in 0..KEYS {
                load.put_item(item(&world, key, newest)).await;
            }
        }
        worker
            .until("much of it to be applied", |status| {
                status.replications[0].replicas[0].ledger.applied > applied + 20
            })
            .await;
        let next = world.worker().await;
        stale += worker.replica(0).ledger.stale;
        worker.die().await;
        worker = next;
    }
    world.settled(&worker).await;
    stale += worker.replica(0).ledger.stale;
    assert!(stale > 0, "nothing was replayed, so this shows nothing\n{}", worker.tell());
    let seen = looks.load(Ordering::Relaxed);
    wait::until("one more look", async || (looks.load(Ordering::Relaxed) > seen + 1).then_some(())).await;
    stop.store(true, Ordering::Relaxed);
    let went_back = reader.await.expect("the reader does not fail");
    assert!(went_back.is_empty(), "{} times a value went back:\n{}", went_back.len(), went_back.join("\n"));
    worker.drain().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_lands_after_a_newer_one_is_refused() {
    let world = World::with(options()).await;
    let worker = world.worker().await;
    let region = world.replica_region(0);
    let mut load = world.load(1, 92);
    load.put_item(item(&world, 0, 1)).await;
    world.settled(&worker).await;
    // Far later than an attempt and the settling after it: as from a worker that was stopped, or a network that was cut.
    const DELAY: Duration = Duration::from_secs(5);
    let rule = region.faults().add(Rule::new(Fault::Late(DELAY)).on("PutItem").times(1));
    load.put_item(item(&world, 0, 2)).await;
    wait::until("the write to be held back", async || (region.faults().fired(rule) > 0).then_some(())).await;
    // Held back from later on and for as long, so that it ends when the other has landed.
    region.faults().add(Rule::new(Fault::Slow(DELAY)).on("DeleteItem").times(1));
    let replica = world.replicas[0].client.delete_item().table_name(world.replica_table(world.shape(), 0));
    let clock = beside(replica.set_key(Some(world.shape().key(1))).send());
    load.put_item(item(&world, 0, 3)).await;
    world.settled(&worker).await;
    assert!(!clock.is_finished(), "it had landed before the newer one, so this shows nothing");
    clock.await.expect("it does not panic").expect("nothing is deleted");
    let stored = world.replica_item(0, &world.shape().key(0)).await.expect("an item");
    assert_eq!(version(&stored), 3, "the late write replaced a newer one");
    assert_eq!(world.differences(world.shape(), 0, &[]).await, Vec::<String>::new());
    worker.drain().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guarded_replica_takes_every_kind_of_change_through_splits_and_faults() {
    let world = World::with(options()).await;
    let worker = world.worker().await;
    let region = world.replica_region(0);
    let mut load = world.load(60, 93);
    load.run(150).await;
    for fault in [Fault::Status(500), Fault::ResetBefore, Fault::ResetAfter, Fault::TruncateBody] {
        for operation in ["PutItem", "DeleteItem"] {
            region.faults().add(Rule::new(fault.clone()).on(operation).times(3));
        }
        load.run(60).await;
        world.source_region().roll(&world.table()).await.expect("a shard is rolled over");
    }
    world.settled(&worker).await;
    assert_eq!(region.requests("BatchWriteItem"), 0, "something was written without a condition");
    worker.drain().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_item_that_has_no_room_for_its_mark_is_parked() {
    let world = World::with(options()).await;
    let worker = world.worker().await;
    let mut load = world.load(4, 94);
    // The service takes 400 KB; names count too.
    let mut full = item(&world, 0, 1);
    full.insert("bulk".to_owned(), AttributeValue::S("x".repeat(400 * 1024 - 60)));
    load.put_item(full).await;
    load.put_item(item(&world, 1, 1)).await;
    let parked = world.parked(0).await;
    let entries = wait::until("it to be parked", async || {
        let entries = parked.list().await.expect("listed");
        (!entries.is_empty()).then_some(entries)
    })
    .await;
    assert!(entries.len() == 1 && entries[0].item_bytes > 400_000, "{entries:?}");
    assert!(entries[0].shard.is_some() && entries[0].order.is_some(), "{entries:?}");
    // A smaller version takes its place.
    load.put_item(item(&world, 0, 2)).await;
    world.settled(&worker).await;
    assert!(parked.list().await.expect("listed").is_empty());
    worker.drain().await;
}
