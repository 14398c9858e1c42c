//! A replica that is slow or broken delays no other (I8), with never more than two readers (I9).

use super::*;

/// A page of the model has ten records, and a replica has room for two pages.
const TIGHT_BYTES: usize = 2 * stream::PAGE_RESERVE_BYTES;

impl World {
    /// A world with so many replicas `r0`, `r1`, … that have room for hardly more than a page.
    fn tight(shards: &[&str], replicas: usize) -> Self {
        let mut world = Self::new(shards);
        world.replicas = (0..replicas).map(|index| format!("r{index}")).collect();
        world.buffer_bytes = TIGHT_BYTES;
        world
    }

    fn has(&self, replica: &str, key: &str, version: u64) -> bool {
        self.version_in(replica, key) == Some(version.to_string())
    }

    async fn until_in(&self, replica: &str, key: &str, version: u64) -> Duration {
        let begun = Instant::now();
        while !self.has(replica, key, version) {
            assert!(begun.elapsed() < Duration::from_secs(600), "{replica} never got {key} {version}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        begun.elapsed()
    }

    /// Both replicas hold the same.
    fn same(&self, left: &str, right: &str) {
        for key in (0..50).map(|key| format!("k{key}")).chain(["x".to_owned()]) {
            assert_eq!(
                self.version_in(left, &key),
                self.version_in(right, &key),
                "{key} of {left} and {right}"
            );
        }
    }

    /// Writes changes in bulky records every 100 ms for so many turns; returns how long each took to come to
    /// `replica`, at the longest.
    async fn load(&self, shard: &str, turns: u64, replica: &str) -> Duration {
        let mut longest = Duration::ZERO;
        for turn in 0..turns {
            for key in 0..5 {
                self.source.put(shard, &format!("k{}", (turn * 5 + key) % 50), turn);
            }
            longest = longest.max(self.until_in(replica, &format!("k{}", (turn * 5 + 4) % 50), turn).await);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        longest
    }
}

fn replica<'a>(status: &'a status::Status, name: &str) -> &'a status::Replica {
    status.replications[0]
        .replicas
        .iter()
        .find(|replica| replica.name == name)
        .expect("a replica of the world")
}

fn all_attached(status: &status::Status) -> bool {
    status.replications[0].replicas.iter().all(|replica| replica.detached_shards == 0)
}

/// Polls of a shard in the next ten seconds by so many readers: a second one would show.
async fn readers_now(world: &World) -> usize {
    world.source.forget_readers();
    tokio::time::sleep(Duration::from_secs(10)).await;
    world.source.most_readers()
}

#[tokio::test(start_paused = true)]
async fn a_broken_replica_leaves_the_lag_of_the_other_as_it_is_and_loses_nothing() {
    let mut longest = Vec::new();
    for broken in [false, true] {
        let world = World::tight(&["a"], 2);
        world.source.make_records_bulky();
        let worker = world.worker("w").await;
        worker.until("it is read", |status| status.replications[0].shards.active == 1).await;
        world.tables.break_table("r1", broken);
        longest.push(world.load("a", 600, "r0").await);
        let status = worker.board.status();
        if broken {
            assert!(!world.has("r1", "k49", 599), "the replica was not broken");
            assert_eq!(replica(&status, "r1").detached_shards, 1);
            assert_eq!(replica(&status, "r1").state, State::Stalled);
            let used = replica(&status, "r1").buffer_bytes;
            assert!(used <= TIGHT_BYTES as u64 + 100_000 * 10, "{used} bytes are held");
        }
        assert_eq!(replica(&status, "r0").detached_shards, 0);
        world.tables.break_table("r1", false);
        world.until_in("r1", "k49", 599).await;
        worker.until("they are together again", all_attached).await;
        assert!(world.source.most_readers() <= 2);
        assert_eq!(readers_now(&world).await, 1);
        world.same("r0", "r1");
        let ledger = replica(&worker.board.status(), "r1").ledger;
        assert_eq!(ledger.read, 3_000, "something was handed over twice, or not at all");
        assert_eq!(ledger.read, ledger.applied + ledger.coalesced);
    }
    // It may be waited for once, for as long as patience lasts.
    assert!(longest[1] <= longest[0] + Duration::from_millis(600), "{longest:?}");
}

#[tokio::test(start_paused = true)]
async fn a_child_starts_for_one_replica_while_the_other_is_in_the_parent() {
    let world = World::tight(&["a"], 2);
    world.source.make_records_bulky();
    let worker = world.worker("w").await;
    world.tables.break_table("r1", true);
    world.load("a", 100, "r0").await;
    world.source.close("a", &["b", "c"]);
    world.source.put("b", "x", 1_000);
    let took = world.until_in("r0", "x", 1_000).await;
    assert!(took < Duration::from_secs(3), "it took {took:?}");
    world.source.close("b", &["d"]);
    world.source.put("d", "x", 1_001);
    let took = world.until_in("r0", "x", 1_001).await;
    assert!(took < Duration::from_secs(3), "it took {took:?}");
    assert!(!world.has("r1", "k49", 99));
    world.tables.break_table("r1", false);
    world.until_in("r1", "x", 1_001).await;
    let ended = |status: &status::Status| status.replications[0].shards.ended == 2;
    let status = worker.until("both ended shards are ended for all", ended).await;
    assert_eq!(status.replications[0].shards.active, 2);
    worker.until("they are together again", all_attached).await;
    assert!(world.source.most_readers() <= 2);
    assert_eq!(readers_now(&world).await, 1);
    world.same("r0", "r1");
}

#[tokio::test(start_paused = true)]
async fn a_restart_while_one_is_detached_and_shards_roll_loses_nothing() {
    let world = World::tight(&["a"], 2);
    world.source.make_records_bulky();
    let first = world.worker("first").await;
    world.tables.break_table("r1", true);
    world.load("a", 100, "r0").await;
    world.source.close("a", &["b"]);
    world.load("b", 50, "r0").await;
    drop(first);
    let second = world.worker("second").await;
    world.load("b", 300, "r0").await;
    world.source.close("b", &["c"]);
    world.load("c", 100, "r0").await;
    assert!(!world.has("r1", "k49", 99));
    world.tables.break_table("r1", false);
    world.until_in("r1", "k49", 99).await;
    second.until("they are together again", all_attached).await;
    let ended = |status: &status::Status| status.replications[0].shards.ended == 2;
    second.until("the parents are ended", ended).await;
    assert!(world.source.most_readers() <= 2);
    assert_eq!(readers_now(&world).await, 1);
    world.same("r0", "r1");
}

#[tokio::test(start_paused = true)]
async fn of_three_replicas_two_that_are_slow_take_turns_and_delay_neither_the_first_nor_each_other() {
    let world = World::tight(&["a"], 3);
    world.source.make_records_bulky();
    let worker = world.worker("w").await;
    worker.until("it is read", |status| status.replications[0].shards.active == 1).await;
    world.tables.slow_table("r1", Duration::from_secs(1));
    world.tables.slow_table("r2", Duration::from_secs(2));
    let longest = world.load("a", 600, "r0").await;
    assert!(longest < Duration::from_secs(2), "it took {longest:?}");
    let status = worker.board.status();
    let read = |name: &str| replica(&status, name).ledger.read;
    assert!(read("r1") > 200 && read("r2") > 100, "{} {}", read("r1"), read("r2"));
    assert!(read("r2") < read("r0"), "the slow replica was not slow");
    assert!(world.source.most_readers() <= 2);
    world.tables.slow_table("r1", Duration::ZERO);
    world.tables.slow_table("r2", Duration::ZERO);
    world.until_in("r1", "k49", 599).await;
    world.until_in("r2", "k49", 599).await;
    worker.until("they are together again", all_attached).await;
    assert_eq!(readers_now(&world).await, 1);
    world.same("r0", "r1");
    world.same("r0", "r2");
}

#[tokio::test(start_paused = true)]
async fn replicas_that_keep_up_share_one_reader_over_splits_and_restarts() {
    let world = World::tight(&["a"], 3);
    let first = world.worker("first").await;
    for name in ["r0", "r1", "r2"] {
        world.load("a", 20, name).await;
    }
    first.drain().await;
    let second = world.worker("second").await;
    world.load("a", 20, "r2").await;
    world.source.close("a", &["b", "c"]);
    world.load("c", 20, "r1").await;
    second.until("all are together", all_attached).await;
    assert_eq!(readers_now(&world).await, 1);
    assert_eq!(world.source.most_readers(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_comes_later_catches_up_beside_the_others() {
    let mut world = World::tight(&["a"], 2);
    world.source.make_records_bulky();
    world.replicas.truncate(1);
    let first = world.worker("first").await;
    world.load("a", 200, "r0").await;
    world.source.close("a", &["b"]);
    world.load("b", 20, "r0").await;
    first.drain().await;
    world.replicas.push("r1".to_owned());
    world.tables.slow_table("r1", Duration::from_secs(1));
    let second = world.worker("second").await;
    let longest = world.load("b", 50, "r0").await;
    assert!(longest < Duration::from_secs(3), "it took {longest:?}");
    assert!(!world.has("r1", "k49", 49));
    world.until_in("r1", "k49", 49).await;
    world.tables.slow_table("r1", Duration::ZERO);
    second.until("they are together", all_attached).await;
    assert_eq!(readers_now(&world).await, 1);
    world.same("r0", "r1");
}

#[tokio::test(start_paused = true)]
async fn a_gap_of_one_replica_is_no_gap_of_the_other() {
    let world = World::tight(&["a"], 2);
    world.source.make_records_bulky();
    let worker = world.worker("w").await;
    world.tables.break_table("r1", true);
    world.load("a", 100, "r0").await;
    // What is younger than the retention is never trimmed.
    tokio::time::sleep(stream::RETENTION).await;
    world.source.trim("a", 400);
    world.tables.break_table("r1", false);
    let gaps = |status: &status::Status| !status.replications[0].gaps.is_empty();
    let status = worker.until("the gap is told", gaps).await;
    let gap = &status.replications[0].gaps[0];
    assert!(gap.reason.starts_with("replica `r1`") && gap.shard.as_deref() == Some("a"), "{gap:?}");
    assert_eq!(status.replications[0].shards.active, 1);
    world.load("a", 20, "r0").await;
    world.source.close("a", &["b"]);
    world.source.put("b", "x", 1);
    world.until_in("r0", "x", 1).await;
    drop(worker);
    let again = world.worker("again").await;
    again.until("the gap is told again", gaps).await;
    world.source.put("b", "x", 2);
    world.until_in("r0", "x", 2).await;
    assert!(!world.has("r1", "x", 1), "the child was read for a replica that misses some of the parent");
}
