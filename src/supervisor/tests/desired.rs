//! Pauses and seeks, obeyed by whole workers.

mod leftover;

use super::*;
use crate::shard::SequenceNumber;
use crate::supervisor::desired::{Seek, Store, Target, Wish};

/// The two replicas.
const REPLICAS: [&str; 2] = ["us", "eu"];

impl World {
    /// A world with two replicas.
    fn pair(shards: &[&str]) -> Self {
        Self { replicas: REPLICAS.map(str::to_owned).to_vec(), ..Self::new(shards) }
    }

    fn store(&self) -> Store {
        Store::new(Control::new(Arc::clone(&self.tables) as _, "control"))
    }

    async fn wish(&self, replicas: &[&str], wanted: impl Fn(Wish) -> Wish) {
        let wishes = self.store().load().await.expect("wishes");
        for replica in replicas {
            let wish = wanted(wishes.of("orders", replica));
            assert!(self.store().save("orders", replica, &wish).await.expect("written"));
        }
    }

    async fn pause(&self, replicas: &[&str], paused: bool) {
        let since_unix_ms = paused.then(|| self.clock.unix_ms());
        self.wish(replicas, |wish| Wish { paused_unix_ms: since_unix_ms, ..wish }).await;
    }

    async fn seek(&self, replicas: &[&str], target: Target, may_skip: bool) {
        let epoch = self.clock.unix_ms();
        let seek = Seek { epoch, target, may_skip };
        self.wish(replicas, |wish| wish.with_seek(seek.clone(), 0)).await;
    }

    /// The versions of `key` that were written to a replica, in order.
    fn versions(&self, replica: &str, key: &str) -> Vec<u64> {
        let puts = self.tables.puts(replica).into_iter();
        let of_key = puts.filter(|item| item.contains(&format!(r#"{{"S":"{key}"}}"#)));
        of_key.map(|item| version(&item)).collect()
    }

    /// Waits until the newest write of `key` to a replica is `version`.
    async fn arrives(&self, replica: &str, key: &str, version: u64) {
        let begun = Instant::now();
        while self.versions(replica, key).last() != Some(&version) {
            let found = self.versions(replica, key);
            assert!(
                begun.elapsed() < Duration::from_secs(120),
                "{key} is {found:?} in {replica}, not {version}"
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits until `key` was written back to `first` after it had been `newest`, and to `newest` again; says what was
    /// written since, which must never go back a second time.
    async fn replayed(&self, replica: &str, key: &str, first: u64, newest: u64) -> Vec<u64> {
        let begun = Instant::now();
        loop {
            let all = self.versions(replica, key);
            let falls: Vec<_> = (1..all.len()).filter(|at| all[*at] < all[at - 1]).collect();
            assert!(falls.len() <= 1, "{key} went back more than once: {all:?}");
            if let Some(&at) = falls.first()
                && all.last() == Some(&newest)
            {
                assert_eq!(all[at], first, "it was replayed from elsewhere: {all:?}");
                return all[at..].to_vec();
            }
            assert!(begun.elapsed() < Duration::from_secs(240), "{key} was not replayed: {all:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

fn version(item: &str) -> u64 {
    let text = item.trim_end_matches("\"}}").rsplit('"').next().expect("a version");
    text.parse().expect("a number")
}

fn replica<'a>(status: &'a status::Status, name: &str) -> &'a status::Replica {
    let replicas = &status.replications[0].replicas;
    replicas.iter().find(|replica| replica.name == name).expect("one of the two")
}

fn state(name: &'static str, state: State) -> impl Fn(&status::Status) -> bool {
    move |status| replica(status, name).state == state
}

fn number(sequence: u64) -> SequenceNumber {
    sequence.to_string().parse().expect("a number")
}

#[tokio::test(start_paused = true)]
async fn a_paused_replica_stands_still_and_the_other_goes_on() {
    let world = World::pair(&["a"]);
    let worker = world.worker("w").await;
    world.source.put("a", "x", 1);
    for name in REPLICAS {
        world.arrives(name, "x", 1).await;
    }
    world.pause(&["us"], true).await;
    worker.until("us is paused", state("us", State::Paused)).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    for version in 2..=30 {
        world.source.put("a", "x", version);
    }
    world.source.close("a", &["b"]);
    world.source.put("b", "x", 31);
    world.arrives("eu", "x", 31).await;
    tokio::time::sleep(Duration::from_secs(90)).await;
    let status = worker.board.status();
    assert!(status.ready, "a pause is wanted, and no trouble: {:?}", status.not_ready);
    assert!(replica(&status, "us").lag_seconds > Some(80.0), "{status:#?}");
    assert!(replica(&status, "eu").lag_seconds < Some(30.0), "{status:#?}");
    assert_eq!(world.versions("us", "x"), [1]);
    world.pause(&["us"], false).await;
    world.arrives("us", "x", 31).await;
    let versions = world.versions("us", "x");
    assert!(versions.is_sorted(), "{versions:?}");
    worker.until("us keeps up", state("us", State::Streaming)).await;
}

#[tokio::test(start_paused = true)]
async fn a_pause_outlives_its_workers_and_ends_where_it_began() {
    let world = World::pair(&["a", "b"]);
    let first = world.worker("first").await;
    world.source.put("a", "x", 1);
    world.source.put("b", "y", 1);
    for name in REPLICAS {
        world.arrives(name, "x", 1).await;
        world.arrives(name, "y", 1).await;
    }
    world.pause(&["us", "eu"], true).await;
    first
        .until("both are paused", |status| {
            state("us", State::Paused)(status) && state("eu", State::Paused)(status)
        })
        .await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    world.source.put("a", "x", 2);
    world.source.put("b", "y", 2);
    first.drain().await;
    let _second = world.worker("second").await;
    let third = world.worker("third").await;
    third.until("it knows of the pause", state("eu", State::Paused)).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    for name in REPLICAS {
        assert_eq!((world.versions(name, "x"), world.versions(name, "y")), (vec![1], vec![1]), "{name}");
    }
    world.pause(&["us", "eu"], false).await;
    for name in REPLICAS {
        for key in ["x", "y"] {
            world.arrives(name, key, 2).await;
            assert_eq!(world.versions(name, key), [1, 2], "something was read again");
        }
    }
}

/// Shards that split and rolled, a key that went through all of them, and two workers that have applied it all.
async fn family(world: &World) -> (Running, Running) {
    for version in 1..=25 {
        world.source.put_at("a", "x", version, START_UNIX_MS + 1_000 * version as i64);
    }
    world.source.close("a", &["b", "c"]);
    for version in 26..=50 {
        world.source.put_at("b", "x", version, START_UNIX_MS + 1_000 * version as i64);
        world.source.put_at("c", "y", version, START_UNIX_MS + 1_000 * version as i64);
    }
    world.source.close("b", &["d"]);
    world.source.put_at("d", "x", 51, START_UNIX_MS + 51_000);
    let workers = (world.worker("one").await, world.worker("two").await);
    for name in REPLICAS {
        world.arrives(name, "x", 51).await;
        world.arrives(name, "y", 50).await;
    }
    // What was settled last is checkpointed by then.
    tokio::time::sleep(Duration::from_secs(100)).await;
    workers
}

#[tokio::test(start_paused = true)]
async fn a_seek_back_replays_in_order_and_ends_with_the_newest() {
    let world = World::pair(&["a"]);
    let (one, _two) = family(&world).await;
    let before = world.versions("eu", "x").len();
    world.seek(&["us"], Target::TrimHorizon, false).await;
    // Writes go on all the while.
    for version in 52..=80 {
        world.source.put_at("d", "x", version, world.clock.unix_ms());
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    world.replayed("us", "x", fallen_to(&world, "x"), 80).await;
    assert!(fallen_to(&world, "x") <= 10, "{:?}", world.versions("us", "x"));
    world.arrives("us", "y", 50).await;
    world.arrives("eu", "x", 80).await;
    let others = &world.versions("eu", "x")[before..];
    assert!(others.is_sorted() && others[0] > 51, "another replica was moved: {others:?}");
    one.until("us keeps up", state("us", State::Streaming)).await;
}

/// The version that a key went back to.
fn fallen_to(world: &World, key: &str) -> u64 {
    let all = world.versions("us", key);
    let at = (1..all.len()).find(|at| all[*at] < all[at - 1]);
    at.map_or(u64::MAX, |at| all[at])
}

#[tokio::test(start_paused = true)]
async fn a_seek_to_a_time_replays_from_then_on() {
    let world = World::pair(&["a"]);
    let (_one, _two) = family(&world).await;
    let unix_ms = START_UNIX_MS + 40_000;
    world.seek(&["us"], Target::Time { unix_ms }, false).await;
    let begun = Instant::now();
    while world.versions("us", "x").last() != Some(&51) || fallen_to(&world, "x") == u64::MAX {
        assert!(begun.elapsed() < Duration::from_secs(240), "{:?}", world.versions("us", "x"));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(fallen_to(&world, "x") >= 40, "{:?}", world.versions("us", "x"));
    world.replayed("us", "x", fallen_to(&world, "x"), 51).await;
}

#[tokio::test(start_paused = true)]
async fn a_seek_to_a_sequence_moves_one_shard_and_what_came_from_it() {
    let world = World::pair(&["a"]);
    let (_one, _two) = family(&world).await;
    let ys = world.versions("us", "y").len();
    // Numbers begin at 1001 with the first change, and `x` and `y` take turns from 1026 on: 1044 is `x` 35.
    let target = Target::After { shard: "b".into(), sequence: number(1_044) };
    world.seek(&["us"], target, false).await;
    let begun = Instant::now();
    while world.versions("us", "x").last() != Some(&51) || fallen_to(&world, "x") == u64::MAX {
        assert!(begun.elapsed() < Duration::from_secs(240), "{:?}", world.versions("us", "x"));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!((36..=45).contains(&fallen_to(&world, "x")), "{:?}", world.versions("us", "x"));
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(world.versions("us", "y").len(), ys, "another shard was moved");
}

#[tokio::test(start_paused = true)]
async fn a_seek_forward_passes_over_what_it_was_told_to_and_nothing_unasked() {
    for may_skip in [true, false] {
        let world = World::pair(&["a"]);
        let worker = world.worker("w").await;
        world.source.put("a", "x", 1);
        world.arrives("us", "x", 1).await;
        world.pause(&["us"], true).await;
        worker.until("us is paused", state("us", State::Paused)).await;
        tokio::time::sleep(Duration::from_secs(5)).await;
        for version in 2..=9 {
            world.source.put_at("a", "x", version, world.clock.unix_ms());
        }
        tokio::time::sleep(Duration::from_secs(20)).await;
        world.seek(&["us"], Target::Time { unix_ms: world.clock.unix_ms() - 5_000 }, may_skip).await;
        tokio::time::sleep(Duration::from_secs(20)).await;
        world.pause(&["us"], false).await;
        tokio::time::sleep(Duration::from_secs(20)).await;
        let expected = if may_skip { 1 } else { 9 };
        assert_eq!(world.versions("us", "x").last(), Some(&expected), "skipping allowed: {may_skip}");
        world.source.put_at("a", "x", 10, world.clock.unix_ms());
        world.arrives("us", "x", 10).await;
        world.arrives("eu", "x", 10).await;
    }
}

#[tokio::test(start_paused = true)]
async fn workers_that_die_in_the_middle_of_a_seek_are_followed_by_others_that_end_it() {
    for tenths in 0..24 {
        let world = World::pair(&["a"]);
        let (one, two) = family(&world).await;
        world.seek(&["us", "eu"], Target::TrimHorizon, false).await;
        tokio::time::sleep(Duration::from_millis(100 * tenths)).await;
        drop(one);
        if tenths % 2 == 0 {
            drop(two);
        }
        let _next = world.worker("next").await;
        world.source.put_at("d", "x", 99, world.clock.unix_ms());
        for name in REPLICAS {
            let begun = Instant::now();
            while world.versions(name, "x").last() != Some(&99)
                || world.versions(name, "y").last() != Some(&50)
                || !went_back(&world.versions(name, "x"))
                || !went_back(&world.versions(name, "y"))
            {
                let found = (world.versions(name, "x"), world.versions(name, "y"));
                assert!(begun.elapsed() < Duration::from_secs(240), "{name} after {tenths}: {found:?}");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

fn went_back(versions: &[u64]) -> bool {
    !versions.is_sorted()
}

#[tokio::test(start_paused = true)]
async fn a_seek_leaves_the_gap_of_a_vanished_shard_behind() {
    let world = World::pair(&["a", "b"]);
    let worker = world.worker("w").await;
    worker.until("both are read", |status| status.replications[0].shards.active == 2).await;
    world.source.forget("a");
    worker.until("a gap", |status| !status.replications[0].gaps.is_empty()).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    world.seek(&["us"], Target::TrimHorizon, false).await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(worker.board.status().replications[0].gaps.len(), 1, "it is one for the other replica still");
    world.seek(&["eu"], Target::TrimHorizon, false).await;
    let status = worker.until("no gap", |status| status.replications[0].gaps.is_empty()).await;
    assert!(status.ready, "{:?}", status.not_ready);
    world.source.put("b", "y", 1);
    for name in REPLICAS {
        world.arrives(name, "y", 1).await;
    }
    worker.drain().await;
    let again = world.worker("again").await;
    let status = again.until("it is ready", |status| status.ready).await;
    assert!(status.replications[0].gaps.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_pause_beyond_the_retention_is_a_gap_and_a_seek_reads_what_is_left() {
    let world = World::pair(&["a"]);
    world.pause(&["us"], true).await;
    let worker = world.worker("w").await;
    world.source.put("a", "x", 1);
    world.arrives("eu", "x", 1).await;
    worker.until("us is paused", state("us", State::Paused)).await;
    worker.drain().await;
    tokio::time::advance(Duration::from_secs(25 * 60 * 60)).await;
    world.pause(&["us"], false).await;
    let again = world.worker("again").await;
    let status = again.until("a gap", |status| !status.replications[0].gaps.is_empty()).await;
    assert!(status.replications[0].gaps[0].advice.contains("seek"), "{status:#?}");
    assert_eq!(world.versions("us", "x"), Vec::<u64>::new());
    tokio::time::sleep(Duration::from_secs(5)).await;
    world.seek(&["us"], Target::TrimHorizon, false).await;
    world.arrives("us", "x", 1).await;
    again.until("no gap", |status| status.replications[0].gaps.is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn a_parked_change_is_not_tried_again_while_its_replica_is_paused() {
    let world = World::pair(&["a"]);
    world.tables.refuse_items_with(r#""N":"13""#);
    let worker = world.worker("w").await;
    world.source.put("a", "x", 13);
    let parked = |status: &status::Status| REPLICAS.iter().all(|name| replica(status, name).parked_keys == 1);
    worker.until("it is parked", parked).await;
    world.pause(&["us"], true).await;
    worker.until("us is paused", state("us", State::Paused)).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    world.tables.accept_all();
    for name in REPLICAS {
        let control = Control::new(Arc::clone(&world.tables) as _, "control");
        let parked = crate::replica::parked::Parked::new(control, "orders", name, world.clock);
        for entry in parked.list().await.expect("listed") {
            assert!(parked.ask_retry(&entry).await.expect("asked"));
        }
    }
    world.arrives("eu", "x", 13).await;
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert_eq!(world.versions("us", "x"), Vec::<u64>::new(), "a paused replica was written to");
    world.pause(&["us"], false).await;
    world.arrives("us", "x", 13).await;
}

#[tokio::test(start_paused = true)]
async fn a_seek_leaves_a_replaced_stream_behind() {
    let world = World::pair(&["a"]);
    let worker = world.worker("w").await;
    world.source.put("a", "x", 1);
    for name in REPLICAS {
        world.arrives(name, "x", 1).await;
    }
    world.source.replace_stream();
    worker.until("a gap", |status| !status.replications[0].gaps.is_empty()).await;
    worker.drain().await;
    let again = world.worker("again").await;
    again.until("the gap again", |status| !status.replications[0].gaps.is_empty()).await;
    world.seek(&["us"], Target::TrimHorizon, false).await;
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert!(!again.board.status().ready, "it is a gap for the other replica still");
    world.seek(&["eu"], Target::TrimHorizon, false).await;
    again.until("no gap", |status| status.ready && status.replications[0].gaps.is_empty()).await;
    world.source.put("a", "x", 2);
    for name in REPLICAS {
        world.arrives(name, "x", 2).await;
    }
    again.drain().await;
    let third = world.worker("third").await;
    let status = third.until("it is ready", |status| status.ready).await;
    assert!(status.replications[0].gaps.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_seek_is_obeyed_during_a_pause_and_takes_effect_after_it() {
    let world = World::pair(&["a"]);
    let (one, two) = family(&world).await;
    world.pause(&["us"], true).await;
    one.until("us is paused", state("us", State::Paused)).await;
    world.seek(&["us"], Target::TrimHorizon, false).await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(fallen_to(&world, "x"), u64::MAX, "a paused replica was written to");
    two.drain().await;
    drop(one);
    let _next = world.worker("next").await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(fallen_to(&world, "x"), u64::MAX, "a paused replica was written to");
    world.pause(&["us"], false).await;
    let begun = Instant::now();
    while world.versions("us", "x").last() != Some(&51) || fallen_to(&world, "x") == u64::MAX {
        assert!(begun.elapsed() < Duration::from_secs(240), "{:?}", world.versions("us", "x"));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    world.replayed("us", "x", fallen_to(&world, "x"), 51).await;
    assert!(!world.versions("eu", "x").windows(2).any(|pair| pair[1] < pair[0]), "another replica was moved");
}
