//! How long nothing is applied when a worker joins, leaves or dies under load.
//!
//! A metronome puts every key of a table several times a second, each time with a greater version. A key makes
//! progress in a replica when a version lands there that is greater than all before; a replay is none. The figure is
//! the longest time that any key of any replica went without progress around the event, and so includes the
//! metronome's own beat and the pause between two polls.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_sdk_dynamodb::types::{AttributeValue, PutRequest, WriteRequest};
use serde_json::Value;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::fleet::{self, Slot};
use crate::support::{Options, World, beside, wait};

/// Keys of the table: a few in each shard.
const KEYS: usize = 24;

/// Time between two versions of a key.
const BEAT: Duration = Duration::from_millis(100);

/// Every key has made progress within this time when all is well: a beat, a poll of an active shard, a write, and
/// what a busy machine adds.
const FRESH: Duration = Duration::from_millis(1_000);

/// After so long a worker that joined has got its share: leases move one after another, a few seconds apart.
const SHARED: Duration = Duration::from_secs(6);

/// What a planned change of the fleet may cost.
const PLANNED: Duration = Duration::from_secs(2);

/// The lease that is used where nothing else is said, with the daemon's defaults: nobody could wait for it to run out.
const LONG_LEASE: &str = "duration = \"20s\"\ncheckpoint_interval = \"5s\"";

/// When the keys of the replicas made progress.
#[derive(Clone, Default)]
struct Progress {
    keys: Arc<Mutex<BTreeMap<(usize, String), Advances>>>,
}

#[derive(Default)]
struct Advances {
    version: i64,
    at: Vec<Instant>,
}

/// A world with a metronome and some processes.
struct Stage {
    world: World,
    slots: Vec<Slot>,
    home: PathBuf,
    progress: Progress,
    stop: CancellationToken,
}

// === impl Progress ===

impl Progress {
    fn watch(&self, world: &World) {
        for index in 0..world.replicas.len() {
            let progress = self.clone();
            world.replica_region(index).on_write(Arc::new(move |operation, body| {
                if operation == "BatchWriteItem" {
                    progress.saw(index, &serde_json::from_slice(body).expect("what was done is JSON"));
                }
            }));
        }
    }

    fn saw(&self, replica: usize, body: &Value) {
        let now = Instant::now();
        let mut keys = self.keys.lock().expect("nothing panics while holding it");
        let requests = body["RequestItems"].as_object().expect("tables").values();
        for request in requests.flat_map(|requests| requests.as_array().expect("requests")) {
            let item = &request["PutRequest"]["Item"];
            let text = |name: &str, kind: &str| item[name][kind].as_str().expect("it is in every item");
            let (key, version) = (text("name", "S").to_owned(), text("version", "N"));
            let version: i64 = version.parse().expect("a number");
            let advances = keys.entry((replica, key)).or_default();
            if version > advances.version {
                advances.version = version;
                advances.at.push(now);
            }
        }
    }

    /// The longest time without progress of any key that ended after `since`, or has not ended.
    fn longest(&self, since: Instant) -> Duration {
        let keys = self.keys.lock().expect("nothing panics while holding it");
        let gaps = keys.values().flat_map(|advances| {
            let ends = advances.at.iter().skip(1).copied().chain([Instant::now()]);
            advances.at.iter().zip(ends).filter(|(_, end)| *end > since).map(|(begin, end)| end - *begin)
        });
        gaps.max().expect("something was written")
    }

    /// Whether every key of every replica has made progress lately.
    fn is_fresh(&self, replicas: usize) -> bool {
        let keys = self.keys.lock().expect("nothing panics while holding it");
        let fresh = |advances: &Advances| advances.at.last().is_some_and(|at| at.elapsed() < FRESH);
        keys.len() == KEYS * replicas && keys.values().all(fresh)
    }
}

// === impl Stage ===

impl Stage {
    async fn new(name: &str, lease: &str, processes: usize) -> Self {
        let options = Options { attempt_timeout: Duration::from_millis(500), ..Options::default() };
        let world = World::with(options).await;
        let home = super::home(name);
        let mut slots = Vec::new();
        for name in ["a", "b", "c"] {
            slots.push(Slot::new(&world, name, &home, lease).await);
        }
        let (progress, stop) = (Progress::default(), CancellationToken::new());
        progress.watch(&world);
        beside(metronome(world.source.client.clone(), world.table(), world.shape().clone(), stop.clone()));
        let mut stage = Self { world, slots, home, progress, stop };
        for index in 0..processes {
            stage.start(index).await;
        }
        stage.steady().await;
        stage
    }

    async fn start(&mut self, index: usize) {
        self.slots[index].start(false);
        self.slots[index].status().await;
    }

    /// Waits until every key makes progress.
    async fn steady(&self) {
        wait::until("every key to make progress", async || {
            self.progress.is_fresh(self.world.replicas.len()).then_some(())
        })
        .await;
    }

    /// As [`Stage::steady`], but not before `time` has passed: what comes in that time counts.
    async fn steady_after(&self, time: Duration) {
        sleep(time).await;
        self.steady().await;
    }

    /// The process with the most shards, once all shards are read.
    async fn busiest(&self, processes: usize) -> usize {
        let shards = self.world.open_shards().await.len() as u64;
        wait::until("every shard to be read", async || {
            let mut active = Vec::new();
            for slot in &self.slots[..processes] {
                active.push(slot.status().await.replications[0].shards.active);
            }
            let busiest = (0..processes).max_by_key(|index| active[*index]);
            busiest.filter(|_| active.iter().sum::<u64>() == shards)
        })
        .await
    }

    async fn end(mut self) {
        self.stop.cancel();
        for slot in self.slots.iter_mut().filter(|slot| slot.runs()) {
            slot.terminate();
            assert_eq!(slot.ended().await, Some(0));
        }
        std::fs::remove_dir_all(&self.home).expect("the logs are there");
    }
}

/// Puts all keys again and again, with versions that grow.
async fn metronome(
    client: aws_sdk_dynamodb::Client,
    table: String,
    shape: crate::support::Shape,
    stop: CancellationToken,
) {
    let mut beat = tokio::time::interval(BEAT);
    for version in 1_i64.. {
        beat.tick().await;
        if stop.is_cancelled() {
            return;
        }
        let put = |index: usize| {
            let mut item = shape.key(index);
            item.insert("name".to_owned(), AttributeValue::S(index.to_string()));
            item.insert("version".to_owned(), AttributeValue::N(version.to_string()));
            let put = PutRequest::builder().set_item(Some(item)).build().expect("an item");
            WriteRequest::builder().put_request(put).build()
        };
        let batch = client.batch_write_item().request_items(&table, (0..KEYS).map(put).collect());
        batch.send().await.unwrap_or_else(|error| panic!("write a batch: {error:?}"));
    }
}

/// With two and with three processes: the busiest is drained, and comes back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures time, and so wants the processor for itself; tests/run runs it alone"]
async fn a_worker_that_leaves_or_joins_under_load_costs_less_than_two_seconds_of_progress() {
    for processes in [2, 3] {
        let mut stage = Stage::new("soak-planned", LONG_LEASE, processes).await;
        for _ in 0..3 {
            let index = stage.busiest(processes).await;
            let began = Instant::now();
            stage.slots[index].terminate();
            assert_eq!(stage.slots[index].ended().await, Some(0));
            stage.steady_after(FRESH).await;
            let left = stage.progress.longest(began);
            let began = Instant::now();
            stage.start(index).await;
            stage.steady_after(SHARED).await;
            let joined = stage.progress.longest(began);
            println!("{processes} processes: one left, gap {left:.2?}; one joined, gap {joined:.2?}");
            assert!(left < PLANNED && joined < PLANNED, "{left:?}, {joined:?}");
        }
        stage.end().await;
    }
}

/// With two and with three processes: the busiest is killed, and another comes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures time, and so wants the processor for itself; tests/run runs it alone"]
async fn a_worker_that_dies_under_load_costs_a_lease_and_its_settling() {
    let lease_and_settle = Duration::from_millis(fleet::LEASE_AND_SETTLE_MS);
    for processes in [2, 3] {
        let mut stage = Stage::new("soak-killed", fleet::LEASE, processes).await;
        for _ in 0..3 {
            let index = stage.busiest(processes).await;
            let began = Instant::now();
            stage.slots[index].kill();
            // Until then all may look fresh still.
            stage.steady_after(2 * FRESH).await;
            let gap = stage.progress.longest(began);
            println!("{processes} processes: one killed, gap {gap:.2?}");
            // A renewal may have been sent a moment before the end, and others look at leases now and then.
            assert!(gap < lease_and_settle + PLANNED, "{gap:?}");
            stage.start(index).await;
            stage.steady_after(FRESH).await;
        }
        stage.end().await;
    }
}
