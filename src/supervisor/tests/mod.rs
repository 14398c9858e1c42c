//! Whole workers on paused time, between a stream and tables in memory.

mod affinity;
mod coordinator;
mod copying;
mod desired;
mod fleet;
mod isolation;
mod lineage;
mod model;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::model::Model;
use super::status::State;
use super::*;
use crate::dynamo;
use crate::dynamo::memory::Memory;
use crate::task::{self, Tasks};

const START_UNIX_MS: i64 = 1_900_000_000_000;

/// A source, tables that outlive workers, and the clock that all share.
struct World {
    source: Arc<Model>,
    tables: Arc<Memory>,
    clock: Clock,
    begun: Instant,
    start: Start,
    /// Names of the replicas' tables; each replica is called like its table.
    replicas: Vec<String>,
    buffer_bytes: usize,
    copy: FirstCopy,
    guard: Option<dynamo::Guard>,
}

/// A worker that runs. Dropping it is its sudden death.
struct Running {
    board: Board,
    drain: CancellationToken,
    tasks: Tasks<()>,
    /// Its machine.
    node: task::node::Node,
    /// Of its first replication.
    affinity: Affinity,
}

impl World {
    fn new(shards: &[&str]) -> Self {
        let clock = Clock::Simulated { start_unix_ms: START_UNIX_MS, start: Instant::now() };
        let tables = Arc::new(Memory::default());
        tables.describe_as(model::table(None));
        Self {
            source: Model::new(shards),
            tables,
            clock,
            begun: Instant::now(),
            start: Start::TrimHorizon,
            replicas: vec!["us".to_owned()],
            buffer_bytes: 8 << 20,
            copy: FirstCopy::Never,
            guard: None,
        }
    }

    fn config(&self, worker: &str) -> Config {
        let tables = || Arc::clone(&self.tables) as Arc<dyn Tables>;
        let attempt = Duration::from_secs(2);
        let replica = |name: &String| Replica {
            name: name.clone(),
            tables: tables(),
            buffer_bytes: self.buffer_bytes,
            writer: crate::replica::Config {
                table: name.clone(),
                batches_in_flight: 4,
                attempt_timeout: attempt,
                settle: attempt,
                guard: self.guard.clone(),
                park_limit: 10,
            },
            copy: self.copy.clone(),
            window_keys_max: crate::lane::Window::KEYS_MAX,
            schema: None,
        };
        let source = Source {
            table: "source".to_owned(),
            tables: Arc::clone(&self.source) as _,
            streams: Arc::clone(&self.source) as _,
            reader: stream::Config::default(),
            discovery: Duration::from_secs(10),
        };
        Config {
            worker: worker.to_owned(),
            control: Control::new(tables(), "control"),
            lease: lease::Config {
                duration: Duration::from_secs(12),
                renew_interval: Duration::from_secs(3),
                longest_attempt: attempt,
            },
            grace: Duration::from_secs(20),
            clock: self.clock,
            metrics: Arc::new(telemetry::Metrics::new(worker, "control", self.clock).expect("metrics")),
            replications: vec![Replication {
                name: "orders".to_owned(),
                start: self.start,
                source,
                replicas: self.replicas.iter().map(replica).collect(),
                verify: None,
            }],
            heartbeat: heartbeat::Config::default(),
        }
    }

    async fn worker(&self, id: &str) -> Running {
        Running::start(self.config(id)).await
    }

    fn version(&self, key: &str) -> Option<String> {
        self.version_in("us", key)
    }

    fn version_in(&self, replica: &str, key: &str) -> Option<String> {
        let item = self.tables.item(replica, &model::key(key))?;
        Some(item.trim_end_matches("\"}}").rsplit('"').next().expect("a version").to_owned())
    }

    /// Waits until `key` has `version` in the replica; says how long that took.
    async fn until(&self, key: &str, version: u64) -> Duration {
        let begun = Instant::now();
        while self.version(key) != Some(version.to_string()) {
            assert!(
                begun.elapsed() < Duration::from_secs(120),
                "{key} is {:?}, not {version}",
                self.version(key)
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        begun.elapsed()
    }
}

impl Running {
    async fn start(config: Config) -> Self {
        let name = config.replications[0].name.clone();
        let worker = Worker::build(config).await.expect("the control table is ours");
        let (board, drain) = (worker.board(), CancellationToken::new());
        let affinity = worker.affinity(&name).expect("a replication of its own");
        let (mut tasks, node) = (Tasks::new(), task::node::Node::default());
        tasks.spawn(tracing::Span::none(), node.place(worker.run(drain.clone())));
        Self { board, drain, tasks, node, affinity }
    }

    async fn drain(mut self) {
        self.drain.cancel();
        while self.tasks.next().await.is_some() {}
    }

    async fn until(&self, what: &str, holds: impl Fn(&status::Status) -> bool) -> status::Status {
        let begun = Instant::now();
        loop {
            let status = self.board.status();
            if holds(&status) {
                return status;
            }
            assert!(begun.elapsed() < Duration::from_secs(300), "never {what}: {status:#?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn children_follow_their_parents_over_splits_and_rolls() {
    let world = World::new(&["a"]);
    for version in 1..=25 {
        world.source.put("a", "x", version);
    }
    world.source.close("a", &["b", "c"]);
    world.source.put("b", "x", 26);
    world.source.put("c", "y", 1);
    let worker = world.worker("w").await;
    world.until("x", 26).await;
    world.until("y", 1).await;
    world.source.put("b", "x", 27);
    world.source.close("b", &["d"]);
    world.source.put("d", "x", 28);
    world.until("x", 28).await;
    assert_eq!(world.source.read_order().first().map(String::as_str), Some("a"));
    let status = worker.until("two shards ended", |status| status.replications[0].shards.ended == 2).await;
    assert_eq!(status.replications[0].shards.active, 2);
    assert!(status.ready, "{:?}", status.not_ready);
    let ledger = status.replications[0].replicas[0].ledger;
    assert_eq!(ledger.read, 29);
    assert_eq!(ledger.read, ledger.applied + ledger.coalesced + ledger.filtered);
}

#[tokio::test(start_paused = true)]
async fn a_drained_worker_leaves_nothing_to_wait_for_and_nothing_to_read_again() {
    let world = World::new(&["a"]);
    world.source.put("a", "x", 1);
    let first = world.worker("first").await;
    world.until("x", 1).await;
    first.drain().await;
    world.source.put("a", "x", 2);
    let _second = world.worker("second").await;
    let took = world.until("x", 2).await;
    assert!(took < Duration::from_secs(2), "it took {took:?}");
    assert_eq!(world.source.reads(), 2, "a record was read again");
}

#[tokio::test(start_paused = true)]
async fn a_dead_workers_shard_is_taken_when_its_lease_is_over_and_not_before() {
    let world = World::new(&["a"]);
    world.source.put("a", "x", 1);
    let first = world.worker("first").await;
    world.until("x", 1).await;
    let second = world.worker("second").await;
    second.until("the shard is seen elsewhere", |status| status.replications[0].shards.elsewhere == 1).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(second.board.status().replications[0].shards.active, 0, "a lease that was renewed was taken");
    drop(first);
    world.source.put("a", "x", 2);
    let took = world.until("x", 2).await;
    // The last renewal was up to an interval ago, the lease runs for its duration, and the settle time follows.
    assert!(took >= Duration::from_secs(12 - 3 + 2), "it took only {took:?}");
    assert!(took <= Duration::from_secs(12 + 6 + 2 + 2), "it took {took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_shard_that_vanishes_unread_is_a_gap_and_the_others_go_on() {
    let world = World::new(&["a", "b"]);
    let worker = world.worker("w").await;
    worker.until("both are read", |status| status.replications[0].shards.active == 2).await;
    world.source.forget("a");
    let status = worker.until("a gap", |status| !status.replications[0].gaps.is_empty()).await;
    assert!(!status.ready);
    assert_eq!(status.replications[0].gaps[0].shard.as_deref(), Some("a"));
    world.source.put("b", "y", 1);
    world.until("y", 1).await;
    worker.drain().await;
    // It stays one after a restart.
    let again = world.worker("again").await;
    again.until("the gap again", |status| status.replications[0].shards.gap == 1).await;
}

#[tokio::test(start_paused = true)]
async fn a_shard_that_vanished_while_nobody_looked_is_a_gap() {
    let world = World::new(&["a", "b"]);
    let worker = world.worker("w").await;
    worker.until("both are read", |status| status.replications[0].shards.active == 2).await;
    worker.drain().await;
    world.source.forget("a");
    let again = world.worker("again").await;
    let status = again.until("a gap", |status| !status.replications[0].gaps.is_empty()).await;
    assert_eq!(status.replications[0].gaps[0].shard.as_deref(), Some("a"));
}

#[tokio::test(start_paused = true)]
async fn a_replaced_stream_is_a_gap_now_and_after_a_restart() {
    let world = World::new(&["a"]);
    let worker = world.worker("w").await;
    worker.until("it is read", |status| status.replications[0].shards.active == 1).await;
    world.source.replace_stream();
    let status = worker.until("a gap", |status| !status.replications[0].gaps.is_empty()).await;
    assert!(!status.ready && status.replications[0].gaps[0].shard.is_none());
    worker.drain().await;
    let again = world.worker("again").await;
    again.until("the gap again", |status| !status.replications[0].gaps.is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn latest_leaves_out_what_was_there_and_keeps_its_start_over_a_restart() {
    let mut world = World::new(&["a"]);
    world.start = Start::Latest;
    world.source.put("a", "old", 1);
    let worker = world.worker("w").await;
    worker.until("it is read", |status| status.replications[0].shards.active == 1).await;
    world.source.put("a", "new", 1);
    world.until("new", 1).await;
    assert_eq!(world.version("old"), None);
    world.source.close("a", &["b"]);
    world.source.put("b", "later", 1);
    world.until("later", 1).await;
    drop(worker);
}

#[tokio::test(start_paused = true)]
async fn lag_grows_while_a_replica_is_down_and_ends_when_it_is_back() {
    let world = World::new(&["a"]);
    let worker = world.worker("w").await;
    world.source.put("a", "x", 1);
    world.until("x", 1).await;
    let lag = |status: &status::Status| status.replications[0].replicas[0].lag_seconds;
    worker.until("idle time is proven", |status| lag(status).is_some_and(|lag| lag < 15.0)).await;
    world.tables.break_table("us", true);
    world.source.put("a", "x", 2);
    let down =
        worker.until("stalled", |status| status.replications[0].replicas[0].state == State::Stalled).await;
    assert!(!down.ready && lag(&down) > Some(30.0), "{down:?}");
    assert!(down.replications[0].replicas[0].error.is_some());
    world.tables.break_table("us", false);
    world.until("x", 2).await;
    worker.until("streaming again", |status| status.ready && lag(status).is_some_and(|lag| lag < 15.0)).await;
}

#[tokio::test(start_paused = true)]
async fn a_shard_that_ended_holds_the_lag_until_its_child_is_found() {
    let world = World::new(&["a", "c"]);
    let worker = world.worker("w").await;
    let lag = |status: &status::Status| status.replications[0].replicas[0].lag_seconds;
    worker.until("idle time is proven", |status| lag(status).is_some_and(|lag| lag < 15.0)).await;
    // Its child is not listed yet, and what is written to it meanwhile is not known to be applied.
    world.source.close("a", &[]);
    worker.until("it ended", |status| status.replications[0].shards.ended == 1).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    let status = worker.board.status();
    assert!(lag(&status) > Some(50.0), "{:?}", lag(&status));
    world.source.close("a", &["b"]);
    worker.until("the child proves it", |status| lag(status).is_some_and(|lag| lag < 15.0)).await;
}

#[tokio::test(start_paused = true)]
async fn what_was_given_up_is_read_again_although_the_lease_was_kept() {
    let world = World::new(&["a"]);
    let _worker = world.worker("w").await;
    world.source.put("a", "x", 1);
    world.until("x", 1).await;
    let at = |ms: u64| tokio::time::sleep_until(world.begun + Duration::from_millis(ms));
    // Renewed at 3 s for the last time in a while, so that the fence closes at 13 s.
    at(3_500).await;
    world.tables.break_rows(true);
    at(11_000).await;
    world.tables.break_rows(false);
    // Changes wait, and the renewal of 12 s is answered at 13.9 s: the lease was held all the time, the right to write was not.
    world.tables.slow_rows(Duration::from_millis(1_900));
    at(11_100).await;
    world.tables.break_table("us", true);
    for step in 0..150 {
        world.source.put("a", &format!("k{step}"), 1);
    }
    at(15_000).await;
    world.tables.break_table("us", false);
    world.tables.slow_rows(Duration::ZERO);
    for step in 0..150 {
        world.until(&format!("k{step}"), 1).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_worker_is_not_ready_while_the_control_table_is_down() {
    let world = World::new(&["a"]);
    let worker = world.worker("w").await;
    worker.until("ready", |status| status.ready).await;
    world.tables.break_rows(true);
    tokio::time::sleep(Duration::from_secs(30)).await;
    let status = worker.board.status();
    assert_eq!(status.replications[0].shards.active, 0, "its lease is over");
    for _ in 0..60 {
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert!(!worker.board.status().ready, "nothing is replicated");
    }
    world.tables.break_rows(false);
    worker.until("ready again", |status| status.ready).await;
    world.source.put("a", "x", 1);
    world.until("x", 1).await;
}

#[tokio::test(start_paused = true)]
async fn a_key_that_another_worker_parked_is_cleared_by_its_next_change() {
    let world = World::new(&["a"]);
    world.tables.refuse_items_with(r#""N":"13""#);
    let first = world.worker("first").await;
    world.source.put("a", "x", 12);
    world.until("x", 12).await;
    let second = world.worker("second").await;
    second.until("the shard is seen elsewhere", |status| status.replications[0].shards.elsewhere == 1).await;
    world.source.put("a", "x", 13);
    first.until("it is parked", |status| status.replications[0].replicas[0].parked_keys == 1).await;
    first.drain().await;
    world.source.put("a", "x", 14);
    world.until("x", 14).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let control = Control::new(Arc::clone(&world.tables) as _, "control");
    let parked = crate::replica::parked::Parked::new(control, "orders", "us", world.clock);
    let left = parked.list().await.expect("listed");
    assert!(left.is_empty(), "an older change may still be tried again: {left:?}");
}

#[tokio::test(start_paused = true)]
async fn a_row_that_has_expired_is_forgotten() {
    let world = World::new(&["a"]);
    let worker = world.worker("w").await;
    world.source.close("a", &["b"]);
    world.source.put("b", "x", 1);
    world.until("x", 1).await;
    // By then it is marked.
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(worker.board.status().replications[0].shards.ended, 1);
    let control = world.config("w").control;
    let key = lease::Row::key("orders", &"a".into());
    control.delete(&key, &dynamo::Condition::Always).await.expect("deleted");
    worker.until("it is forgotten", |status| status.replications[0].shards.ended == 0).await;
    world.source.put("b", "x", 2);
    world.until("x", 2).await;
}

#[tokio::test(start_paused = true)]
async fn a_parked_change_is_not_tried_again_while_another_may_read_newer_ones_of_its_key() {
    let world = World::new(&["a", "b"]);
    world.tables.refuse_items_with(r#""N":"13""#);
    let worker = world.worker("w").await;
    world.source.put("a", "x", 12);
    world.until("x", 12).await;
    world.source.put("a", "x", 13);
    worker.until("it is parked", |status| status.replications[0].replicas[0].parked_keys == 1).await;
    // What follows is in a child that is not listed yet, and another worker may know it before.
    world.source.close("a", &[]);
    worker.until("it ended", |status| status.replications[0].shards.ended == 1).await;
    world.tables.accept_all();
    let control = Control::new(Arc::clone(&world.tables) as _, "control");
    let parked = crate::replica::parked::Parked::new(control, "orders", "us", world.clock);
    let entry = parked.list().await.expect("listed").remove(0);
    assert!(parked.ask_retry(&entry).await.expect("a call"));
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(world.version("x").as_deref(), Some("12"), "it may be older than what another has written");
    world.source.close("a", &["c"]);
    world.until("x", 13).await;
}
