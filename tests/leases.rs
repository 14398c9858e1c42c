//! Workers on one control table: they share the shards, and take over from each other when one joins, drains or dies.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_dynamodb::types::{AttributeValue, KeysAndAttributes, PutRequest, WriteRequest};
use dynamirror::lease::{self, Owner};
use dynamirror::telemetry::Metrics;
use tokio::time::Instant;

use crate::support::{Item, Options, Running, World, wait};

/// So many keys are in all of four shards.
const KEYS: usize = 16;

/// Keys that are written all the time, to see how long the replica stands still.
struct Probe<'a> {
    world: &'a World,
    keys: Vec<Item>,
    version: u64,
    moved: Vec<(Instant, Option<AttributeValue>)>,
    longest: Duration,
}

impl<'a> Probe<'a> {
    fn new(world: &'a World) -> Self {
        let keys: Vec<_> = (0..KEYS).map(|index| world.shape().key(1_000 + index)).collect();
        let moved = vec![(Instant::now(), None); KEYS];
        Self { world, keys, version: 0, moved, longest: Duration::ZERO }
    }

    /// Writes until `enough`, and until every key has moved since; says how long the key that stood still the longest
    /// did.
    async fn until(&mut self, what: &str, mut enough: impl FnMut() -> bool) -> Duration {
        let begun = Instant::now();
        self.moved.iter_mut().for_each(|(at, _)| *at = begun);
        self.longest = Duration::ZERO;
        let mut done = None;
        while !done.is_some_and(|done| self.moved.iter().all(|(at, _)| *at > done)) {
            self.step().await;
            if done.is_none() && enough() {
                done = Some(Instant::now());
            }
            assert!(begun.elapsed() < wait::PATIENCE, "waited in vain for {what}");
        }
        self.longest
    }

    async fn step(&mut self) {
        self.version += 1;
        let (source, replica) = (&self.world.source.client, &self.world.replicas[0].client);
        let puts = self.keys.iter().map(|key| {
            let probe = AttributeValue::N(self.version.to_string());
            let item = key.iter().map(|(name, value)| (name.clone(), value.clone()));
            let put =
                PutRequest::builder().set_item(Some(item.chain([("probe".to_owned(), probe)]).collect()));
            WriteRequest::builder().put_request(put.build().expect("an item")).build()
        });
        let puts = source.batch_write_item().request_items(self.world.table(), puts.collect());
        puts.send().await.expect("the keys are put");
        let table = self.world.replica_table(self.world.shape(), 0);
        let keys = KeysAndAttributes::builder().set_keys(Some(self.keys.clone())).build().expect("keys");
        let found =
            replica.batch_get_item().request_items(&table, keys).send().await.expect("the keys are read");
        let found = found.responses.and_then(|mut tables| tables.remove(&table)).unwrap_or_default();
        let now = Instant::now();
        for (key, moved) in self.keys.iter().zip(&mut self.moved) {
            let item =
                found.iter().find(|item| key.iter().all(|(name, value)| item.get(name) == Some(value)));
            let seen = item.and_then(|item| item.get("probe")).cloned();
            self.longest = self.longest.max(now - moved.0);
            if moved.1 != seen {
                *moved = (now, seen);
            }
        }
    }
}

fn active(worker: &Running) -> u64 {
    worker.replication().shards.active
}

async fn owners(world: &World) -> BTreeMap<String, Option<Owner>> {
    let rows = world.rows(world.shape()).await;
    rows.into_iter().map(|row| (row.shard.to_string(), row.owner)).collect()
}

/// A world with two workers that have half of the shards each.
async fn two(options: Options) -> (World, Running, Running) {
    let world = World::with(options).await;
    let (first, second) = (world.worker().await, world.worker().await);
    share(&first, &second).await;
    (world, first, second)
}

async fn share(first: &Running, second: &Running) {
    for worker in [first, second] {
        worker.until("two shards each", |status| status.replications[0].shards.active == 2).await;
    }
}

/// What a worker has counted; unlike its status it is exact after its end too.
fn records_read(metrics: &Metrics) -> u64 {
    let text = metrics.render().expect("metrics are text");
    let samples = text.lines().filter(|line| line.starts_with("dynamirror_records_read_total{"));
    let values = samples.map(|line| line.rsplit(' ').next().and_then(|value| value.parse().ok()));
    values.map(|value: Option<u64>| value.expect("a count")).sum()
}

async fn takes_over(second: &Running) {
    second.until("the second to read all", |status| status.replications[0].shards.active == 4).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_joins_under_load_gets_half_and_one_that_drains_leaves_it() {
    let mut options = Options::default();
    options.lease.duration = Duration::from_secs(30);
    let world = World::with(options).await;
    let first = world.worker().await;
    takes_over(&first).await;
    let mut probe = Probe::new(&world);
    probe.until("some load", || true).await;
    let second = world.worker().await;
    let stood = probe.until("half each", || active(&first) == 2 && active(&second) == 2).await;
    assert!(stood <= Duration::from_secs(2), "a key stood still for {stood:?} while leases moved");
    let before = [first.replica(0).ledger.read, second.replica(0).ledger.read];
    assert!(before.iter().all(|read| *read > 0), "{before:?}");
    first.drain_begins();
    let stood = probe.until("all with the second", || active(&second) == 4).await;
    assert!(stood <= Duration::from_secs(2), "a key stood still for {stood:?} in a drain");
    let metrics = [&first, &second].map(|worker| Arc::clone(&worker.metrics));
    first.drain().await;
    world.settled(&second).await;
    let read = metrics.iter().map(|metrics| records_read(metrics)).sum::<u64>();
    assert_eq!(read, world.records().await as u64, "records were read again, or by nobody");
    assert!(world.source_region().max_readers(&world.table()) <= 1, "a shard had two readers");
    second.drain().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_one_of_two_dies_the_other_takes_over_and_not_before_its_leases_are_over() {
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
async fn leases_that_are_renewed_stay_where_they_are() {
    let mut options = Options::default();
    options.lease.duration = Duration::from_secs(3);
    let (world, first, second) = two(options).await;
    let names = [&first.name, &second.name].map(Clone::clone);
    let before = owners(&world).await;
    for owner in before.values() {
        let owner = owner.as_deref().expect("every shard is held");
        assert!(names.iter().any(|name| name == lease::worker(owner)), "{owner} is none of {names:?}");
    }
    let mut load = world.load(60, 63);
    let start = Instant::now();
    // Three times as long as a lease lasts.
    while start.elapsed() < Duration::from_secs(9) {
        load.run(20).await;
        assert_eq!(owners(&world).await, before);
    }
    let read = || first.replica(0).ledger.read + second.replica(0).ledger.read;
    let all = world.records().await as u64;
    second.until("all to be read", |_| read() == all).await;
    assert!(world.source_region().max_readers(&world.table()) <= 1, "a shard had two readers");
    second.drain().await;
    takes_over(&first).await;
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
