//! Several workers that share shards: they come, go, die, and ask each other for leases.

use std::collections::BTreeMap;

use super::*;
use crate::dynamo::{Condition, RowKey};
use crate::item::Value;
use crate::lease::{Leases, Owner, Row};
use crate::shard::ShardId;

const SHARDS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

/// Writes to shards all the time, and sees how long the replica stands still.
pub(super) struct Traffic<'a> {
    world: &'a World,
    shards: Vec<String>,
    version: u64,
    /// When each shard's key was last seen to change, and to what.
    moved: BTreeMap<String, (Instant, Option<String>)>,
    /// The longest that each stood still.
    longest: BTreeMap<String, Duration>,
}

impl<'a> Traffic<'a> {
    pub(super) fn new(world: &'a World, shards: &[&str]) -> Self {
        let shards = shards.iter().map(|shard| (*shard).to_owned()).collect();
        Self { world, shards, version: 0, moved: BTreeMap::new(), longest: BTreeMap::new() }
    }

    /// Writes until `enough`; says how long the shard that stood still the longest did.
    pub(super) async fn until(&mut self, what: &str, mut enough: impl FnMut() -> bool) -> Duration {
        let begun = Instant::now();
        self.moved.clear();
        self.longest.clear();
        while !enough() {
            assert!(begun.elapsed() < Duration::from_secs(300), "never {what}");
            self.step().await;
        }
        // What stands still now counts as well.
        for _ in 0..40 {
            self.step().await;
        }
        self.longest.values().max().copied().unwrap_or_default()
    }

    pub(super) async fn step(&mut self) {
        self.version += 1;
        for shard in &self.shards {
            self.world.source.put(shard, &format!("key of {shard}"), self.version);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        for shard in &self.shards {
            let seen = self.world.version(&format!("key of {shard}"));
            let now = Instant::now();
            let last = self.moved.entry(shard.clone()).or_insert((now, seen.clone()));
            let stood = now - last.0;
            if last.1 != seen {
                *last = (now, seen);
            }
            let longest = self.longest.entry(shard.clone()).or_default();
            *longest = stood.max(*longest);
        }
    }

    /// All that was written is in the replica, and none of it was read twice.
    pub(super) async fn assert_read_once(&self) {
        for shard in &self.shards {
            self.world.until(&format!("key of {shard}"), self.version).await;
        }
        let written = self.version as usize * self.shards.len();
        assert_eq!(self.world.source.reads(), written, "records were read again");
    }
}

impl World {
    pub(super) async fn rows(&self) -> Vec<Row> {
        Leases::new(self.control(), "orders", "").load().await.expect("rows")
    }

    pub(super) async fn owners(&self) -> BTreeMap<ShardId, Option<Owner>> {
        self.rows().await.into_iter().map(|row| (row.shard, row.owner)).collect()
    }

    pub(super) fn control(&self) -> Control {
        Control::new(Arc::clone(&self.tables) as _, "control")
    }

    /// Whether a worker of this id asks for a lease.
    async fn asks(&self, id: &str) -> bool {
        let rows = self.control().rows("#workers", "").await.expect("rows");
        rows.iter().any(|row| {
            let owner = row.get("sk").and_then(Value::as_str).unwrap_or_default();
            lease::worker(owner) == id && row.contains_key("want_shard")
        })
    }

    /// The row of a worker that is dead already.
    async fn leave_behind(&self, owner: &str) {
        let key = RowKey { partition: "#workers".to_owned(), sort: owner.to_owned() };
        let mut row = key.attributes();
        row.insert("counter".to_owned(), Value::integer(7));
        row.insert("heartbeat_ms".to_owned(), Value::integer(START_UNIX_MS));
        self.control().put(&row, &Condition::Always).await.expect("written");
    }
}

impl Running {
    pub(super) fn active(&self) -> u64 {
        self.board.status().replications[0].shards.active
    }
}

pub(super) async fn all_read(workers: &[&Running], counts: &[u64]) {
    let begun = Instant::now();
    loop {
        let mut active: Vec<_> = workers.iter().map(|worker| worker.active()).collect();
        active.sort_unstable();
        if active == counts {
            return;
        }
        assert!(begun.elapsed() < Duration::from_secs(120), "{active:?} instead of {counts:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn shards_are_spread_over_all_workers_and_stay_where_they_are() {
    let world = World::new(&["a", "b", "c", "d", "e", "f", "g"]);
    let (one, two, three) =
        (world.worker("one").await, world.worker("two").await, world.worker("three").await);
    let all = [&one, &two, &three];
    all_read(&all, &[2, 2, 3]).await;
    let owners = world.owners().await;
    for version in 1..=600 {
        world.source.put("a", "x", version);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    world.until("x", 600).await;
    assert_eq!(world.owners().await, owners, "leases moved although nothing changed");
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_joins_gets_its_share_and_no_shard_stands_still_for_long() {
    let world = World::new(&SHARDS);
    let one = world.worker("one").await;
    all_read(&[&one], &[6]).await;
    let mut traffic = Traffic::new(&world, &SHARDS);
    traffic.until("some traffic", || true).await;
    let two = world.worker("two").await;
    let stood = traffic.until("even", || one.active() == 3 && two.active() == 3).await;
    assert!(stood < Duration::from_secs(2), "a shard stood still for {stood:?}");
    let three = world.worker("three").await;
    let stood = traffic.until("even", || [&one, &two, &three].iter().all(|it| it.active() == 2)).await;
    assert!(stood < Duration::from_secs(2), "a shard stood still for {stood:?}");
    traffic.assert_read_once().await;
}

#[tokio::test(start_paused = true)]
async fn when_a_worker_drains_the_others_take_over_within_two_seconds() {
    let world = World::new(&SHARDS);
    let (one, two, three) =
        (world.worker("one").await, world.worker("two").await, world.worker("three").await);
    all_read(&[&one, &two, &three], &[2, 2, 2]).await;
    let mut traffic = Traffic::new(&world, &SHARDS);
    traffic.until("some traffic", || true).await;
    one.drain.cancel();
    let stood = traffic.until("taken over", || two.active() + three.active() == 6).await;
    assert!(stood < Duration::from_secs(2), "a shard stood still for {stood:?}");
    all_read(&[&two, &three], &[3, 3]).await;
    one.drain().await;
    let rows = world.control().rows("#workers", "").await.expect("rows");
    assert_eq!(rows.len(), 2, "a worker that ended has left its row behind");
    traffic.assert_read_once().await;
}

#[tokio::test(start_paused = true)]
async fn when_a_worker_dies_its_shards_alone_wait_for_its_leases() {
    let world = World::new(&SHARDS);
    let (one, two, three) =
        (world.worker("one").await, world.worker("two").await, world.worker("three").await);
    all_read(&[&one, &two, &three], &[2, 2, 2]).await;
    let mut traffic = Traffic::new(&world, &SHARDS);
    traffic.until("some traffic", || true).await;
    let owners = world.owners().await;
    drop(one);
    traffic.until("taken over", || two.active() + three.active() == 6).await;
    for (shard, owner) in owners {
        let stood = traffic.longest[&shard.to_string()];
        if lease::worker(&owner.expect("all were held")) == "one" {
            assert!(stood >= Duration::from_secs(12 - 3 + 2), "{shard} was written already after {stood:?}");
            assert!(stood <= Duration::from_secs(12 + 2 + 2), "{shard} stood still for {stood:?}");
        } else {
            assert!(stood < Duration::from_secs(2), "{shard} stood still for {stood:?}");
        }
    }
    all_read(&[&two, &three], &[3, 3]).await;
}

#[tokio::test(start_paused = true)]
async fn children_follow_their_parents_from_worker_to_worker() {
    let world = World::new(&["0", "1"]);
    let mut workers = vec![world.worker("w0").await, world.worker("w1").await];
    let mut open = ["0".to_owned(), "1".to_owned()];
    for round in 1..=6_u64 {
        for (index, shard) in open.iter_mut().enumerate() {
            for version in 1..=20 {
                world.source.put(shard, &format!("x{index}"), 20 * (round - 1) + version);
            }
            let child = format!("{index}{round}");
            world.source.close(shard, &[&child]);
            *shard = child;
        }
        // Who reads the parents leaves, or dies, in the middle of it.
        workers.push(world.worker(&format!("w{}", round + 1)).await);
        tokio::time::sleep(Duration::from_millis(300 * round)).await;
        let leaves = workers.remove(0);
        if round % 2 == 0 {
            drop(leaves)
        } else {
            leaves.drain().await
        }
        for index in 0..2 {
            world.until(&format!("x{index}"), 20 * round).await;
        }
    }
    // A parent is read again after a death, but never once its child was begun.
    let order = world.source.read_order();
    for (at, shard) in order.iter().enumerate() {
        let later = order[at..].iter().filter(|it| it[..1] == shard[..1]);
        let round = |shard: &str| shard[1..].parse::<u64>().unwrap_or(0);
        assert!(later.map(|it| round(it)).all(|it| it >= round(shard)), "{order:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_planned_for_a_dead_worker_is_taken_by_the_living() {
    let world = World::new(&SHARDS);
    world.leave_behind("an earlier one/000000").await;
    let begun = Instant::now();
    let one = world.worker("one").await;
    all_read(&[&one], &[6]).await;
    let took = begun.elapsed();
    assert!(took >= Duration::from_secs(1), "the dead one's part was not left to it: {took:?}");
    assert!(took < Duration::from_secs(4), "it took {took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_was_asked_of_a_worker_that_died_runs_out_first() {
    let world = World::new(&SHARDS);
    let one = world.worker("one").await;
    all_read(&[&one], &[6]).await;
    let two = world.worker("two").await;
    while !world.asks("two").await {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    drop(one);
    let died = Instant::now();
    let mut traffic = Traffic::new(&world, &SHARDS);
    let before: BTreeMap<_, _> = world.rows().await.into_iter().map(|row| (row.shard, row.counter)).collect();
    traffic.until("taken over", || two.active() == 6).await;
    let took = died.elapsed();
    assert!(took >= Duration::from_secs(12 - 3), "leases were taken already after {took:?}");
    assert!(took <= Duration::from_secs(12 + 2 + 6), "it took {took:?}");
    assert!(world.rows().await.iter().all(|row| row.counter > before[&row.shard]));
    assert!(!world.asks("two").await);
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_was_handed_to_a_worker_that_died_comes_back() {
    let world = World::new(&SHARDS);
    let one = world.worker("one").await;
    all_read(&[&one], &[6]).await;
    let mut traffic = Traffic::new(&world, &SHARDS);
    traffic.until("some traffic", || true).await;
    let two = world.worker("two").await;
    while !world.asks("two").await {
        traffic.step().await;
    }
    drop(two);
    let stood = traffic.until("it came back", || one.active() == 6).await;
    assert!(stood < Duration::from_millis(2_500), "a shard stood still for {stood:?}");
    traffic.assert_read_once().await;
}

#[tokio::test(start_paused = true)]
async fn two_processes_of_one_id_are_two_workers() {
    let world = World::new(&SHARDS);
    let (one, two) = (world.worker("same").await, world.worker("same").await);
    all_read(&[&one, &two], &[3, 3]).await;
    let mut traffic = Traffic::new(&world, &SHARDS);
    let stood = traffic.until("a while", {
        let begun = Instant::now();
        move || begun.elapsed() > Duration::from_secs(40)
    });
    let stood = stood.await;
    assert!(stood < Duration::from_secs(2), "a shard stood still for {stood:?}");
    traffic.assert_read_once().await;
    assert_eq!(one.board.status().worker, "same");
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_still_settles_is_not_given_up_before_it_has() {
    let world = World::new(&["a"]);
    let first = world.worker("first").await;
    world.source.put("a", "x", 1);
    world.until("x", 1).await;
    drop(first);
    let second = world.worker("second").await;
    second.until("it is taken", |status| status.replications[0].shards.active == 1).await;
    let taken = Instant::now();
    world.source.put("a", "x", 2);
    // By its name the lease is planned for it, and not for the dead one.
    let _third = world.worker("a third").await;
    second.drain().await;
    world.until("x", 2).await;
    // The look at the status is up to a tenth of a second late, and the show half a second.
    let waited = taken.elapsed();
    assert!(waited >= Duration::from_millis(2_000 - 600), "written after {waited:?}");
    assert!(waited < Duration::from_secs(5), "written after {waited:?}");
}

#[tokio::test(start_paused = true)]
async fn no_lease_moves_while_its_replica_refuses_writes() {
    let world = World::new(&SHARDS);
    let one = world.worker("one").await;
    all_read(&[&one], &[6]).await;
    world.tables.break_table("us", true);
    let mut traffic = Traffic::new(&world, &SHARDS);
    traffic.until("some traffic", || true).await;
    let two = world.worker("two").await;
    let begun = Instant::now();
    traffic.until("a while", || begun.elapsed() > Duration::from_secs(60)).await;
    assert_eq!((one.active(), two.active()), (6, 0));
    world.tables.break_table("us", false);
    all_read(&[&one, &two], &[3, 3]).await;
    traffic.assert_read_once().await;
}

#[tokio::test(start_paused = true)]
async fn a_shard_with_much_traffic_weighs_more_than_the_others() {
    let world = World::new(&SHARDS);
    let (one, two) = (world.worker("one").await, world.worker("two").await);
    all_read(&[&one, &two], &[3, 3]).await;
    // As the model counts, a record has 100 bytes.
    let mut version = 0;
    for _ in 0..1_200 {
        for _ in 0..100 {
            version += 1;
            world.source.put("a", "x", version);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    world.until("x", version).await;
    let loads: BTreeMap<_, _> = world.rows().await.into_iter().map(|row| (row.shard, row.load)).collect();
    let load = |shard: &str| loads[&ShardId::from(shard)].unwrap_or_default();
    assert!(load("a") > 3 * load("b"), "{loads:?}");
    let counts = [one.active(), two.active()];
    assert!(counts.contains(&2) && counts.contains(&4) || counts.contains(&1), "{counts:?}");
}

#[tokio::test(start_paused = true)]
async fn replications_of_one_shard_each_are_spread_as_well() {
    let world = World::new(&["a"]);
    let start = async |id: &str| {
        let mut config = world.config(id);
        let one = config.replications.remove(0);
        let named = |index| Replication { name: format!("orders-{index}"), ..one.clone() };
        config.replications = (0..6).map(named).collect();
        Running::start(config).await
    };
    let held = |worker: &Running| {
        let replications = worker.board.status().replications;
        replications.iter().map(|replication| replication.shards.active).sum::<u64>()
    };
    let one = start("one").await;
    one.until("it reads all", |_| held(&one) == 6).await;
    let two = start("two").await;
    two.until("half each", |_| held(&one) == 3 && held(&two) == 3).await;
    let three = start("three").await;
    three.until("a third each", |_| [&one, &two, &three].iter().all(|it| held(it) == 2)).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!([held(&one), held(&two), held(&three)], [2, 2, 2]);
}
