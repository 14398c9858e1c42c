//! Two workers on one control table: one reads, the other waits, and takes over when the first drains or dies.

use std::time::Duration;

use tokio::time::Instant;

use crate::support::{Options, Running, World};

/// A world with a worker that reads and one that waits.
async fn two(options: Options) -> (World, Running, Running) {
    let world = World::with(options).await;
    let first = world.worker().await;
    first.until("the first to read", |status| status.replications[0].shards.active == 4).await;
    let second = world.worker().await;
    second
        .until("the second to wait", |status| {
            let shards = &status.replications[0].shards;
            shards.elsewhere == 4 && shards.active == 0
        })
        .await;
    (world, first, second)
}

async fn takes_over(second: &Running) -> Duration {
    let start = Instant::now();
    second.until("the second to read", |status| status.replications[0].shards.active == 4).await;
    start.elapsed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_worker_waits_and_takes_over_at_once_when_the_first_drains() {
    let mut options = Options::default();
    options.lease.duration = Duration::from_secs(20);
    let lease = options.lease.duration;
    let (world, first, second) = two(options).await;
    let mut load = world.load(60, 61);
    load.run(300).await;
    first.drain().await;
    let took = takes_over(&second).await;
    assert!(took < lease / 2, "released leases were taken only after {took:?}");
    load.run(300).await;
    world.settled(&second).await;
    let ledger = second.replica(0).ledger;
    assert!(ledger.read as usize <= world.records().await, "{ledger:?}");
    second.drain().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_worker_takes_over_when_the_first_dies_and_not_before_its_lease_is_over() {
    let mut options = Options::default();
    options.lease.duration = Duration::from_secs(5);
    let lease = options.lease;
    let (world, first, second) = two(options).await;
    let mut load = world.load(60, 62);
    load.run(300).await;
    let died = Instant::now();
    first.die().await;
    load.run(100).await;
    takes_over(&second).await;
    let took = died.elapsed();
    // Its last renewal was at most one interval before it died, and one may have been late.
    assert!(took >= lease.duration - 2 * lease.renew_interval, "leases were taken already after {took:?}");
    assert!(took < 2 * lease.duration + lease.settle(), "leases were taken only after {took:?}");
    world.settled(&second).await;
    second.drain().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_that_is_renewed_is_never_taken() {
    let mut options = Options::default();
    options.lease.duration = Duration::from_secs(3);
    let (world, first, second) = two(options).await;
    let mut load = world.load(60, 63);
    let start = Instant::now();
    // Three times as long as a lease lasts.
    while start.elapsed() < Duration::from_secs(9) {
        load.run(20).await;
        assert_eq!(second.replication().shards.active, 0, "{}", second.tell());
    }
    world.settled(&first).await;
    assert_eq!(second.replica(0).ledger.read, 0, "{}", second.tell());
    assert!(world.source_region().max_readers(&world.table()) <= 1, "a shard had two readers");
    second.drain().await;
    world.settled(&first).await;
    first.drain().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_that_come_and_go_under_load_leave_no_difference() {
    let mut options = Options { attempt_timeout: Duration::from_millis(500), ..Options::default() };
    options.lease.duration = Duration::from_secs(2);
    options.lease.longest_attempt = Duration::from_millis(500);
    let world = World::with(options).await;
    let mut load = world.load(60, 64);
    let mut worker = world.worker().await;
    for round in 0..8 {
        let next = world.worker().await;
        load.run(150).await;
        world.source_region().roll(&world.table()).await.expect("a shard is rolled over");
        if round % 2 == 0 {
            worker.die().await;
        } else {
            worker.drain().await;
        }
        worker = next;
        worker.until("the next to read", |status| status.replications[0].shards.active > 0).await;
    }
    load.run(100).await;
    world.settled(&worker).await;
    worker.drain().await;
}
