//! What people order while workers run: pauses, and seeks that repair what somebody damaged, or leave a gap behind.

use dynamirror::clock::Clock;
use dynamirror::supervisor::desired::{Seek, Store, Target, Wish};
use dynamirror::supervisor::status::State;

use crate::support::{Options, World, compare, wait};

async fn wish(world: &World, replica: &str, wanted: impl FnOnce(Wish) -> Wish) {
    let store = Store::new(world.control_of().await);
    let replication = world.shape().name;
    let wish = wanted(store.load().await.expect("the wishes can be read").of(replication, replica));
    assert!(
        store.save(replication, replica, &wish).await.expect("the wish is written"),
        "somebody else wrote it"
    );
}

async fn pause(world: &World, replica: &str, paused: bool) {
    let paused_unix_ms = paused.then(|| Clock::System.unix_ms());
    wish(world, replica, |wish| Wish { paused_unix_ms, ..wish }).await;
}

/// Seeks, and waits until every shard that the table's rows know has obeyed.
async fn seek(world: &World, replica: &str, target: Target) {
    let epoch = Clock::System.unix_ms();
    wish(world, replica, |wish| Wish { seek: Some(Seek { epoch, target, may_skip: false }), ..wish }).await;
    let obeyed = wait::within(wait::PATIENCE, async || {
        let rows = world.rows(world.shape()).await;
        rows.iter().all(|row| row.checkpoints[replica].epoch == epoch).then_some(())
    });
    assert!(obeyed.await.is_some(), "the seek is not obeyed: {:#?}", world.rows(world.shape()).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_replica_stands_still_under_load_and_catches_up() {
    let world = World::start().await;
    let (first, second) = (world.worker().await, world.worker().await);
    let mut load = world.load(60, 91);
    load.run(200).await;
    world.equal(&|| first.tell()).await;
    pause(&world, "replica-1", true).await;
    for worker in [&first, &second] {
        let paused = |it: &State| *it == State::Paused;
        worker.until("the pause", |status| paused(&status.replications[0].replicas[1].state)).await;
    }
    // What was under way is written by then.
    first.assert_ledger().await;
    second.assert_ledger().await;
    let table = world.replica_table(world.shape(), 1);
    let before = compare::items(&world.replicas[1].client, &table, world.shape()).await;
    for _ in 0..4 {
        load.run(100).await;
        world.source_region().roll(&world.table()).await.expect("a shard is rolled over");
    }
    let goes_on = wait::within(wait::PATIENCE, async || {
        world.differences(world.shape(), 0, &[]).await.is_empty().then_some(())
    });
    assert!(goes_on.await.is_some(), "the other replica stands still too\n{}", first.tell());
    let after = compare::items(&world.replicas[1].client, &table, world.shape()).await;
    assert_eq!(compare::differences(&before, &after), Vec::<String>::new(), "it was written to");
    // Workers that come and go do not forget it.
    second.drain().await;
    let third = world.worker().await;
    load.run(50).await;
    third.until("the pause", |status| status.replications[0].replicas[1].state == State::Paused).await;
    pause(&world, "replica-1", false).await;
    world.settled(&first).await;
    world.settled(&third).await;
    first.drain().await;
    third.drain().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_seek_to_the_beginning_repairs_what_somebody_damaged_while_all_goes_on() {
    let world = World::start().await;
    let (first, second) = (world.worker().await, world.worker().await);
    let mut load = world.load(60, 92);
    for _ in 0..3 {
        load.run(150).await;
        world.source_region().split(&world.table()).await.expect("a shard is split");
    }
    world.equal(&|| first.tell()).await;
    let table = world.replica_table(world.shape(), 0);
    let client = &world.replicas[0].client;
    for item in compare::items(client, &table, world.shape()).await.into_values() {
        let key = world.shape().key_of(&item);
        client.delete_item().table_name(&table).set_key(Some(key)).send().await.expect("an item is deleted");
    }
    seek(&world, "replica-0", Target::TrimHorizon).await;
    for _ in 0..3 {
        load.run(100).await;
        world.source_region().roll(&world.table()).await.expect("a shard is rolled over");
    }
    world.settled(&first).await;
    world.settled(&second).await;
    first.drain().await;
    second.drain().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_seek_is_the_way_out_of_a_gap() {
    let mut options = Options { replicas: 1, ..Options::default() };
    options.emulator.initial_shards = 2;
    let world = World::with(options).await;
    let worker = world.worker().await;
    let mut load = world.load(60, 93);
    load.run(100).await;
    world.settled(&worker).await;
    let gone = world.open_shards().await.swap_remove(0).id;
    world.source_region().forget_shard(&world.table(), &gone).await.expect("the shard vanishes");
    worker.until("the gap", |status| !status.replications[0].gaps.is_empty()).await;
    seek(&world, "replica-0", Target::TrimHorizon).await;
    worker.until("all to be well", |status| status.ready && status.replications[0].gaps.is_empty()).await;
    worker.drain().await;
    let again = world.worker().await;
    again.until("all to be well, still", |status| status.ready).await;
    assert!(again.replication().gaps.is_empty(), "{}", again.tell());
    again.drain().await;
}
