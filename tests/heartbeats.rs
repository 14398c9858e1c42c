//! Heartbeats: the lag of an idle source is proven, not guessed.

use std::time::Duration;

use dynamirror::emulator::{Fault, Rule};
use dynamirror::supervisor::status::{Evidence, FleetReplica, Status};

use crate::support::{Heartbeats, Options, Running, World};

/// Heartbeats come every second, the fleet is looked at every ten, and machines are slow.
const RECENT: Duration = Duration::from_secs(25);

fn replicas(status: &Status, replication: &str) -> Vec<FleetReplica> {
    let fleet = status.fleet.iter().flat_map(|fleet| &fleet.replications);
    fleet.filter(|it| it.name == replication).flat_map(|it| it.replicas.clone()).collect()
}

/// Whether a heartbeat came to the replica lately.
fn beats(replica: &FleetReplica) -> bool {
    let age = replica.heartbeat.as_ref().and_then(|heartbeat| heartbeat.age_seconds);
    age.is_some_and(|age| age < RECENT.as_secs_f64())
}

/// Whether a heartbeat proves how far the replica is, and that it is not far behind.
fn is_proven(replica: &FleetReplica) -> bool {
    let is_near = replica.lag_seconds.is_some_and(|lag| lag < RECENT.as_secs_f64());
    beats(replica) && is_near && replica.evidence == Some(Evidence::Heartbeat)
}

/// The value of the only series with these words.
fn metric(worker: &Running, words: &[&str]) -> Option<f64> {
    let text = worker.metrics.render().expect("metrics can be rendered");
    let mut found =
        text.lines().filter(|line| !line.starts_with('#') && words.iter().all(|word| line.contains(word)));
    let line = found.next()?;
    assert_eq!(found.next(), None, "{words:?} are not in {line} alone");
    line.rsplit_once(' ')?.1.parse().ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heartbeats_in_the_table_prove_each_shard_of_an_idle_source() {
    let mut options = Options { heartbeats: Heartbeats::InTable(40), ..Options::default() };
    options.emulator.initial_shards = 2;
    let world = World::with(options.clone()).await;
    let mut load = world.load(60, 91);
    load.run(100).await;
    let worker = world.worker().await;
    let table = world.shape().name;
    worker
        .until("heartbeats to prove both replicas", |status| {
            let replicas = replicas(status, table);
            replicas.len() == 2 && replicas.iter().all(is_proven)
        })
        .await;
    // Nobody writes anything else, and the proof goes on.
    let through = |status: &Status| replicas(status, table)[0].applied_through_unix_ms;
    let before = through(&worker.status());
    worker
        .until("the proof to move on", |status| {
            through(status) > before && replicas(status, table).iter().all(is_proven)
        })
        .await;
    assert_eq!(metric(&worker, &["heartbeats_lost_total", "replica-0"]), Some(0.0));
    assert!(metric(&worker, &["heartbeat_roundtrip_seconds_count", "replica-1"]) >= Some(40.0));
    worker.drain().await;
    // The heartbeats are items like any other; without new ones all tables become equal.
    let quiet = Options { heartbeats: Heartbeats::Off, ..options };
    let last = world.worker_with(&quiet).await;
    world.settled(&last).await;
    last.drain().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dedicated_heartbeats_prove_each_replica_by_itself() {
    let world = World::with(Options { heartbeats: Heartbeats::Dedicated, ..Options::default() }).await;
    world.create_heartbeat_tables().await;
    let worker = world.worker().await;
    const BEATS: &str = "#heartbeat/source";
    worker
        .until("heartbeats in both replicas", |status| {
            let replicas = replicas(status, BEATS);
            replicas.len() == 2 && replicas.iter().all(beats)
        })
        .await;
    let status = worker.status();
    assert!(status.ready && status.notes.is_empty(), "{}", worker.tell());
    assert!(replicas(&status, world.shape().name).iter().all(|replica| replica.heartbeat.is_none()));
    let outage = world.replica_region(0).faults().add(Rule::new(Fault::Down));
    let lost = |replica: &str| metric(&worker, &["heartbeats_lost_total", replica]).unwrap_or_default();
    worker.until("heartbeats of the one that is down to be lost", |_| lost("replica-0") >= 3.0).await;
    let applied = |replica: &str| metric(&worker, &["heartbeat_last_applied", replica]);
    let (down, up) = (applied("replica-0"), applied("replica-1"));
    worker.until("those of the other to go on", |_| applied("replica-1") > up).await;
    assert_eq!(applied("replica-0"), down);
    assert_eq!(lost("replica-1"), 0.0);
    world.replica_region(0).faults().remove(outage);
    worker.until("both to have them again", |_| applied("replica-0") > down).await;
    worker.drain().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_worker_writes_them_when_the_first_is_drained() {
    let options = Options { heartbeats: Heartbeats::Dedicated, ..Options::default() };
    let world = World::with(options).await;
    world.create_heartbeat_tables().await;
    let first = world.worker().await;
    first.until("it to coordinate", |status| status.fleet.is_some()).await;
    let second = world.worker().await;
    assert!(second.status().fleet.is_none());
    let applied = |worker: &Running| metric(worker, &["heartbeat_last_applied", "replica-0"]);
    first.until("a heartbeat to be read back", |_| applied(&first).is_some()).await;
    let before = applied(&first);
    assert_eq!(applied(&second), None);
    first.drain().await;
    second.until("it to go on", |_| applied(&second) > before).await;
    second.drain().await;
}
