//! An item that a replica refuses is kept with its payload; everything else flows, and a later change settles it.

use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;
use dynamirror::change::Op;
use dynamirror::emulator::{Fault, Rule, RuleId};
use dynamirror::replica::parked::Entry;
use dynamirror::supervisor::status::State;

use crate::support::value::{self, spell_item};
use crate::support::{Item, Options, Running, World, wait};

const POISON: &str = "poison-7f3a";

/// Replica 0 refuses whatever contains the poison.
fn poison(world: &World) -> RuleId {
    let fault = Fault::Poison { marker: POISON.to_owned() };
    world.replica_region(0).faults().add(Rule::new(fault))
}

fn poisoned(world: &World, index: usize) -> Item {
    let mut item = world.shape().key(index);
    item.insert("note".to_owned(), AttributeValue::S(POISON.to_owned()));
    item
}

async fn until_parked(worker: &Running, count: u64) {
    worker
        .until(&format!("{count} keys to be parked"), |status| {
            status.replications[0].replicas[0].parked_keys == count
        })
        .await;
}

async fn entries(world: &World) -> Vec<Entry> {
    world.parked(0).await.list().await.expect("parked keys can be listed")
}

/// The parked payload is the item, byte by byte as its value goes.
async fn assert_payload(world: &World, entry: &Entry, item: &Item) {
    let change = world.parked(0).await.change(entry).await.expect("the payload is whole");
    let Op::Put(parked) = change.op else { panic!("expected a put: {entry:?}") };
    let table = world.table();
    let stored = world.source.client.get_item().table_name(&table).set_key(Some(world.shape().key_of(item)));
    let stored =
        stored.consistent_read(true).send().await.expect("the item is read").item.expect("it is there");
    assert_eq!(spell_item(&stored), spell_item(item), "the source does not hold what was written");
    // Written to a table of its own and read back, the payload is the item as the SDK knows it.
    let attributes = parked.attributes().expect("the payload is an item");
    assert_eq!(attributes.len(), item.len());
    for (name, expected) in item {
        if let AttributeValue::S(expected) = expected {
            assert_eq!(attributes[name].as_str(), Some(expected.as_str()));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_poison_item_is_parked_whole_and_the_others_of_its_batch_flow() {
    let world = World::start().await;
    poison(&world);
    let mut load = world.load(100, 41);
    load.fill().await;
    load.put_item(poisoned(&world, 13)).await;
    load.put_item(poisoned(&world, 57)).await;
    let worker = world.worker().await;
    until_parked(&worker, 2).await;
    load.run(100).await;
    for index in [13, 57] {
        load.put_item(poisoned(&world, index)).await;
    }
    let parked = [world.shape().key(13), world.shape().key(57)];
    world.settled_but(&worker, &parked).await;
    until_parked(&worker, 2).await;
    assert_eq!(
        world.differences(world.shape(), 1, &[]).await,
        Vec::<String>::new(),
        "the healthy replica differs"
    );
    let entries = entries(&world).await;
    assert_eq!(entries.len(), 2, "{entries:?}");
    for entry in &entries {
        assert!(!entry.reason.is_empty() && !entry.is_delete && entry.parked_unix_ms > 0, "{entry:?}");
    }
    for index in [13, 57] {
        let item = poisoned(&world, index);
        let mut whole = Vec::new();
        for entry in &entries {
            let change = world.parked(0).await.change(entry).await.expect("the payload is whole");
            let Op::Put(put) = change.op else { panic!("expected a put") };
            whole.push(put.attributes().expect("an item"));
        }
        let text = format!("{:?}", world.shape().key(index));
        assert!(whole.iter().any(|it| it.len() == item.len()), "no payload for {text}");
    }
    // A later change takes the place of the parked one and settles it.
    load.put_item(world.shape().key(13)).await;
    until_parked(&worker, 1).await;
    load.delete_item(world.shape().key(57)).await;
    until_parked(&worker, 0).await;
    world.settled(&worker).await;
    assert_eq!(self::entries(&world).await, Vec::new());
    worker.until("it to be ready", |status| status.ready).await;
    worker.drain().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_largest_item_is_parked_whole_and_applies_when_asked_for_after_mending() {
    let world = World::start().await;
    let rule = poison(&world);
    let worker = world.worker().await;
    let mut load = world.load(20, 42);
    load.fill().await;
    let mut item = poisoned(&world, 3);
    item.insert("huge".to_owned(), value::huge(&mut fastrand::Rng::with_seed(42)));
    load.put_item(item.clone()).await;
    until_parked(&worker, 1).await;
    world.settled_but(&worker, &[world.shape().key(3)]).await;
    let entry = entries(&world).await.swap_remove(0);
    assert!(entry.item_bytes > 399 * 1024, "{entry:?}");
    assert_payload(&world, &entry, &item).await;
    // Asked for while nothing is mended: it stays.
    let parked = world.parked(0).await;
    assert!(parked.ask_retry(&entry).await.expect("it is asked for"), "{entry:?}");
    let tries = world.replica_region(0).faults().fired(rule);
    wait::until("another try", async || (world.replica_region(0).faults().fired(rule) > tries).then_some(()))
        .await;
    wait::until("it to be parked anew", async || {
        let entries = entries(&world).await;
        (entries.len() == 1 && entries[0].version != entry.version).then_some(())
    })
    .await;
    world.replica_region(0).faults().remove(rule);
    let entry = entries(&world).await.swap_remove(0);
    assert_payload(&world, &entry, &item).await;
    assert!(parked.ask_retry(&entry).await.expect("it is asked for"), "{entry:?}");
    until_parked(&worker, 0).await;
    world.settled(&worker).await;
    assert_eq!(entries(&world).await, Vec::new());
    worker.drain().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_parked_key_is_known_after_a_restart_and_nothing_older_is_applied_over_newer() {
    let world = World::start().await;
    let rule = poison(&world);
    let mut load = world.load(20, 43);
    load.fill().await;
    load.put_item(poisoned(&world, 3)).await;
    load.put_item(poisoned(&world, 5)).await;
    let worker = world.worker().await;
    until_parked(&worker, 2).await;
    world.settled_but(&worker, &[world.shape().key(3), world.shape().key(5)]).await;
    worker.drain().await;
    let old = entries(&world).await;
    // The newer change is applied by a worker that did not park the older one.
    load.put_item(world.shape().key(3)).await;
    let worker = world.worker().await;
    until_parked(&worker, 1).await;
    world.replica_region(0).faults().remove(rule);
    let parked = world.parked(0).await;
    let mut asked = 0;
    for entry in &old {
        asked += usize::from(parked.ask_retry(entry).await.expect("a call"));
    }
    assert_eq!(asked, 1, "an entry that was settled can still be asked for");
    until_parked(&worker, 0).await;
    world.settled(&worker).await;
    worker.drain().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_that_takes_over_settles_what_the_other_parked() {
    let world = World::start().await;
    let rule = poison(&world);
    let first = world.worker().await;
    let mut load = world.load(20, 44);
    load.fill().await;
    world.settled(&first).await;
    // It starts before anything is parked.
    let standby = world.worker().await;
    standby.until("the standby to wait", |status| status.replications[0].shards.elsewhere > 0).await;
    load.put_item(poisoned(&world, 3)).await;
    // The standby takes its share of the shards meanwhile, and the key's may be among them.
    let old = wait::until("a key to be parked", async || entries(&world).await.pop()).await;
    world.settled_but(&first, &[world.shape().key(3)]).await;
    first.drain().await;
    standby.until("the standby to take over", |status| status.replications[0].shards.active == 4).await;
    load.put_item(world.shape().key(3)).await;
    world.settled(&standby).await;
    world.replica_region(0).faults().remove(rule);
    let asked = world.parked(0).await.ask_retry(&old).await.expect("a call");
    assert!(!asked, "the older payload can still be applied over the newer change");
    assert_eq!(entries(&world).await, Vec::new());
    standby.drain().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_parked_delete_settles_too() {
    let world = World::start().await;
    let worker = world.worker().await;
    let mut load = world.load(20, 45);
    load.fill().await;
    world.settled(&worker).await;
    // Everything about this key is refused, deletes included.
    let marker = "h \\\"1\\\"".to_owned();
    let key =
        (0..20).map(|index| world.shape().key(index)).find(|key| format!("{key:?}").contains("h \\\"1\\\""));
    let key = key.expect("one of the keys has this text");
    let rule = world.replica_region(0).faults().add(Rule::new(Fault::Poison { marker }));
    load.delete_item(key.clone()).await;
    until_parked(&worker, 1).await;
    world.settled_but(&worker, std::slice::from_ref(&key)).await;
    let entry = entries(&world).await.swap_remove(0);
    assert!(entry.is_delete, "{entry:?}");
    assert!(world.replica_item(0, &key).await.is_some());
    world.replica_region(0).faults().remove(rule);
    assert!(world.parked(0).await.ask_retry(&entry).await.expect("a call"));
    until_parked(&worker, 0).await;
    world.settled(&worker).await;
    worker.drain().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_refused_keys_than_allowed_stall_the_replica_and_lose_nothing() {
    let world = World::with(Options { park_limit: 5, ..Options::default() }).await;
    let rule = poison(&world);
    let worker = world.worker().await;
    let mut load = world.load(40, 46);
    load.fill().await;
    world.settled(&worker).await;
    for index in 0..12 {
        load.put_item(poisoned(&world, index)).await;
    }
    worker
        .until_within(Duration::from_secs(60), "the replica to be stalled", |status| {
            let replica = &status.replications[0].replicas[0];
            replica.parked_keys == 5 && replica.state == State::Stalled && !status.ready
        })
        .await;
    assert_eq!(worker.replica(0).pending_changes, 7, "{}", worker.tell());
    assert_eq!(entries(&world).await.len(), 5);
    world.replica_region(0).faults().remove(rule);
    for index in 0..12 {
        load.put_item(world.shape().key(index)).await;
    }
    until_parked(&worker, 0).await;
    world.settled(&worker).await;
    worker.drain().await;
}
