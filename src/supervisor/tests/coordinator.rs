//! One worker of a fleet tells how far all of it is, and writes heartbeats.

use std::collections::BTreeMap;
use std::sync::Mutex;

use super::model;
use super::status::{Evidence, FleetReplica};
use super::*;
use crate::change::{Change, Op};
use crate::dynamo::{
    Condition, Error, Fetched, Future, Guard, Guarded, KeyAttribute, Outcome, RowKey, Rows, Scan, Scanned,
    Table, TableStream, Written,
};
use crate::fault::Fault;
use crate::item::{Attributes, Item};
use crate::key::Key;
use crate::record::View;

const SECOND: Duration = Duration::from_secs(1);

/// A worker with its metrics, which outlive it.
struct Member {
    running: Running,
    metrics: Arc<telemetry::Metrics>,
}

/// A table that takes heartbeats and makes records of them, in one shard of a stream.
struct Beaten {
    stream: Arc<Model>,
    shard: &'static str,
    clock: Clock,
    key: Vec<KeyAttribute>,
    is_there: Mutex<bool>,
    items: Mutex<BTreeMap<Vec<u8>, Item>>,
}

impl Member {
    async fn start(config: Config) -> Self {
        let metrics = Arc::clone(&config.metrics);
        Self { running: Running::start(config).await, metrics }
    }

    fn samples(&self) -> BTreeMap<String, f64> {
        samples(&self.metrics)
    }

    fn leads(&self) -> bool {
        self.samples()["dynamirror_coordinator_leader"] > 0.0
    }

    fn replica(&self) -> Option<FleetReplica> {
        Some(self.running.board.status().fleet?.replications.first()?.replicas[0].clone())
    }
}

fn samples(metrics: &telemetry::Metrics) -> BTreeMap<String, f64> {
    let text = metrics.render().expect("metrics can be rendered");
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let sample = |line: &str| {
        let (series, value) = line.rsplit_once(' ').expect("a sample has a value");
        (series.to_owned(), value.parse().expect("a value is a number"))
    };
    lines.map(sample).collect()
}

/// The only sample whose name and labels hold all of these.
fn one(samples: &BTreeMap<String, f64>, words: &[&str]) -> Option<f64> {
    let found: Vec<_> =
        samples.iter().filter(|(name, _)| words.iter().all(|word| name.contains(word))).collect();
    assert!(found.len() <= 1, "{words:?} are in {found:?}");
    found.first().map(|(_, value)| **value)
}

fn of_fleet(metrics: &telemetry::Metrics) -> Vec<String> {
    let only_leaders = ["dynamirror_fleet_", "dynamirror_heartbeat_last_"];
    samples(metrics)
        .into_keys()
        .filter(|name| only_leaders.iter().any(|start| name.starts_with(start)))
        .collect()
}

/// Waits until `holds`; says how long that took.
async fn until(what: &str, mut holds: impl FnMut() -> bool) -> Duration {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(300), "never {what}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    begun.elapsed()
}

impl Beaten {
    fn new(stream: &Arc<Model>, shard: &'static str, clock: Clock, key: &[(&str, &str)]) -> Arc<Self> {
        let part =
            |(name, kind): &(&str, &str)| KeyAttribute { name: (*name).to_owned(), kind: (*kind).to_owned() };
        Arc::new(Self {
            stream: Arc::clone(stream),
            shard,
            clock,
            key: key.iter().map(part).collect(),
            is_there: Mutex::new(true),
            items: Mutex::default(),
        })
    }

    fn table(&self) -> Table {
        let stream = TableStream { arn: "arn:stream/0".into(), view: View::NewAndOldImages, enabled: true };
        Table {
            arn: "arn:table".to_owned(),
            usable: true,
            key: self.key.clone(),
            stream: Some(stream),
            ..Table::default()
        }
    }
}

fn ready<'a, T: Send + 'a>(result: Result<T, Error>) -> Future<'a, T> {
    Box::pin(std::future::ready(result))
}

impl Tables for Beaten {
    fn describe<'a>(&'a self, _table: &'a str) -> Future<'a, Table> {
        match *self.is_there.lock().expect("no test panics while holding it") {
            true => ready(Ok(self.table())),
            false => ready(Err(Error::new("DescribeTable", Fault::Missing, "there is no such table"))),
        }
    }

    fn write<'a>(&'a self, _table: &'a str, changes: &'a [Change]) -> Future<'a, Written> {
        let mut items = self.items.lock().expect("no test panics while holding it");
        for change in changes {
            let Op::Put(item) = &change.op else { unreachable!("heartbeats are put") };
            items.insert(change.key.as_bytes().to_vec(), item.clone());
            // As the service does, in whole seconds.
            let created_unix_ms = self.clock.unix_ms() / 1_000 * 1_000;
            self.stream.push(self.shard, change.key.clone(), item.clone(), created_unix_ms);
        }
        ready(Ok(Written::default()))
    }

    fn write_guarded<'a>(
        &'a self,
        _table: &'a str,
        _change: &'a Change,
        _guard: &'a Guard,
    ) -> Future<'a, Guarded> {
        unreachable!("heartbeats need no guard")
    }

    fn fetch<'a>(&'a self, _table: &'a str, keys: &'a [Key]) -> Future<'a, Fetched> {
        let items = self.items.lock().expect("no test panics while holding it");
        let items = keys.iter().map(|key| items.get(key.as_bytes()).cloned()).collect();
        ready(Ok(Fetched { items, unprocessed: Vec::new() }))
    }

    fn scan<'a>(&'a self, _: &'a str, _: Scan<'a>) -> Future<'a, Scanned> {
        unreachable!("a source is not scanned")
    }

    fn put<'a>(&'a self, _: &'a str, _: &'a Attributes, _: &'a Condition) -> Future<'a, Outcome> {
        unreachable!("a source holds no rows")
    }

    fn delete<'a>(&'a self, _: &'a str, _: &'a RowKey, _: &'a Condition) -> Future<'a, Outcome> {
        unreachable!("a source holds no rows")
    }

    fn query<'a>(&'a self, _: &'a str, _: &'a str, _: &'a str, _: Option<&'a Item>) -> Future<'a, Rows> {
        unreachable!("a source holds no rows")
    }

    fn create<'a>(&'a self, _: &'a str) -> Future<'a, ()> {
        unreachable!("a source is not created")
    }

    fn enable_stream<'a>(&'a self, _: &'a str) -> Future<'a, ()> {
        unreachable!("its stream is on")
    }
}

/// A world whose source takes heartbeats in its own table.
fn in_table(world: &World, worker: &str) -> Config {
    let mut config = world.config(worker);
    let tables = Beaten::new(&world.source, "a", world.clock, &[("k", "S")]);
    config.replications[0].source.tables = tables;
    config.heartbeat.in_table = vec![heartbeat::InTable { replication: "orders".to_owned(), keys: 2 }];
    config
}

#[tokio::test(start_paused = true)]
async fn one_of_three_coordinates_and_another_when_it_drains_or_dies() {
    let world = World::new(&["a"]);
    let mut members = Vec::new();
    for id in ["a", "b", "c"] {
        members.push(Member::start(world.config(id)).await);
    }
    let leaders = |members: &[Member]| members.iter().filter(|member| member.leads()).count();
    until("one coordinates", || leaders(&members) == 1).await;
    for _ in 0..120 {
        tokio::time::sleep(SECOND).await;
        assert_eq!(leaders(&members), 1);
    }
    let others = members.iter().filter(|member| !member.leads());
    assert!(others.map(|member| of_fleet(&member.metrics)).all(|told| told.is_empty()));
    // A drain leaves the office at once.
    let drained = members.remove(members.iter().position(Member::leads).expect("one leads"));
    assert!(!of_fleet(&drained.metrics).is_empty());
    drained.running.drain().await;
    assert_eq!(of_fleet(&drained.metrics), Vec::<String>::new());
    let took = until("the next coordinates", || leaders(&members) == 1).await;
    assert!(took <= 2 * SECOND, "it took {took:?}");
    // A death leaves it when the lease is over, and not before.
    let dead = members.remove(members.iter().position(Member::leads).expect("one leads"));
    let Member { running, metrics } = dead;
    drop(running);
    let took = until("the last coordinates", || leaders(&members) == 1).await;
    assert!(took >= Duration::from_secs(12 - 3), "it took only {took:?}");
    assert!(took <= Duration::from_secs(12 + 3), "it took {took:?}");
    assert_eq!(of_fleet(&metrics), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a_coordinator_that_cannot_renew_is_none_before_another_may_be() {
    let world = World::new(&["a"]);
    let member = Member::start(world.config("a")).await;
    until("it coordinates and tells", || of_fleet(&member.metrics).len() > 2).await;
    world.tables.break_rows(true);
    let took = until("it coordinates no more", || !member.leads()).await;
    // The last renewal was up to an interval before.
    assert!(took <= Duration::from_secs(12 - 2) + SECOND, "it took {took:?}");
    assert_eq!(of_fleet(&member.metrics), Vec::<String>::new());
    assert!(member.running.board.status().fleet.is_none());
    world.tables.break_rows(false);
    until("it coordinates again", || member.leads()).await;
}

#[tokio::test(start_paused = true)]
async fn a_dead_workers_shards_are_unowned_and_freeze_the_watermark_when_nobody_takes_them() {
    let world = World::new(&["a", "b"]);
    let reader = Member::start(world.config("reader")).await;
    let through = |member: &Member| one(&member.samples(), &["fleet_applied_through"]);
    let shards = |member: &Member, state: &str| one(&member.samples(), &["fleet_shards", state]);
    until("the fleet is far", || through(&reader).is_some()).await;
    let before = through(&reader);
    until("the watermark moves", || through(&reader) > before).await;
    assert_eq!((shards(&reader, "\"owned\""), shards(&reader, "unowned")), (Some(2.0), Some(0.0)));
    // The other one cannot reach the source, so it takes no shard; the control table is all it sees.
    let mut config = world.config("witness");
    config.replications[0].source.tables = Arc::new(Memory::default());
    let witness = Member::start(config).await;
    drop(reader);
    until("the witness coordinates", || witness.leads()).await;
    until("the shards are unowned", || shards(&witness, "unowned") == Some(2.0)).await;
    let frozen = through(&witness).expect("the rows tell it");
    let lag = one(&witness.samples(), &["fleet_lag"]).expect("known");
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(through(&witness), Some(frozen));
    let grown = one(&witness.samples(), &["fleet_lag"]).expect("known") - lag;
    assert!((59.0..=61.0).contains(&grown), "the lag grew by {grown} s");
    let status = witness.running.board.status();
    assert_eq!(status.fleet.expect("it coordinates").replications[0].shards.unowned, 2);
}

#[tokio::test(start_paused = true)]
async fn a_heartbeat_in_the_table_proves_an_idle_source() {
    let world = World::new(&["a"]);
    let member = Member::start(in_table(&world, "w")).await;
    until("a heartbeat proves the lag", || {
        member
            .replica()
            .is_some_and(|it| it.evidence == Some(Evidence::Heartbeat) && it.lag_seconds < Some(25.0))
    })
    .await;
    let samples = member.samples();
    let now = world.clock.unix_ms() as f64 / 1_000.0;
    let applied = one(&samples, &["heartbeat_last_applied"]).expect("it was read back");
    assert!(now - applied < 15.0, "applied {applied} at {now}");
    assert!(one(&samples, &["heartbeat_last_written"]).is_some_and(|written| written >= applied));
    let roundtrips = one(&samples, &["heartbeat_roundtrip_seconds_count"]);
    assert!(roundtrips >= Some(2.0), "{roundtrips:?}");
    assert_eq!(one(&samples, &["heartbeats_lost"]), Some(0.0));
    // Two keys every ten seconds, and each once.
    tokio::time::sleep(Duration::from_secs(100)).await;
    let later = one(&member.samples(), &["heartbeat_roundtrip_seconds_count"]);
    assert_eq!(later.zip(roundtrips).map(|(later, before)| later - before), Some(20.0));
}

#[tokio::test(start_paused = true)]
async fn heartbeats_are_lost_while_a_replica_is_down_and_come_again() {
    let world = World::new(&["a"]);
    let member = Member::start(in_table(&world, "w")).await;
    let applied = || one(&member.samples(), &["heartbeat_last_applied"]);
    let lost = || one(&member.samples(), &["heartbeats_lost"]).unwrap_or_default();
    until("one is read back", || applied().is_some()).await;
    world.tables.break_table("us", true);
    tokio::time::sleep(Duration::from_secs(40)).await;
    assert_eq!(lost(), 0.0, "five intervals are not over");
    let before = applied();
    until("some are lost", || lost() >= 2.0).await;
    assert_eq!(applied(), before, "what was not read back is not applied");
    world.tables.break_table("us", false);
    until("they come again", || applied() > before).await;
    let after = lost();
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert_eq!(lost(), after);
}

#[tokio::test(start_paused = true)]
async fn the_next_coordinator_goes_on_where_the_last_one_was() {
    let world = World::new(&["a"]);
    let first_config = in_table(&world, "first");
    let tables = Arc::clone(&first_config.replications[0].source.tables);
    let first = Member::start(first_config).await;
    until("it writes", || one(&first.samples(), &["heartbeat_roundtrip_seconds_count"]) >= Some(6.0)).await;
    let mut config = in_table(&world, "second");
    config.replications[0].source.tables = tables;
    let second = Member::start(config).await;
    first.running.drain().await;
    until("its own are read back", || {
        one(&second.samples(), &["heartbeat_roundtrip_seconds_count"]) >= Some(2.0)
    })
    .await;
    assert_eq!(one(&second.samples(), &["heartbeats_lost"]), Some(0.0));
}

#[tokio::test(start_paused = true)]
async fn a_partition_key_that_is_a_number_is_told_and_does_no_harm() {
    let world = World::new(&["a"]);
    let mut config = in_table(&world, "w");
    let numbered = [("k", "N")];
    config.replications[0].source.tables = Beaten::new(&world.source, "a", world.clock, &numbered);
    let key = vec![KeyAttribute { name: "k".to_owned(), kind: "N".to_owned() }];
    world.tables.describe_as(Table { key, ..model::table(None) });
    let member = Member::start(config).await;
    let note = || {
        let fleet = member.running.board.status().fleet?;
        fleet.replications[0].note.clone()
    };
    until("it is told", || note().is_some_and(|note| note.contains("`k` is a number"))).await;
    member.running.until("ready", |status| status.ready).await;
}

/// A world and a heartbeat table beside its source, with a replica in tables of its own.
fn dedicated(world: &World, worker: &str) -> (Config, Arc<Beaten>, Arc<Memory>) {
    let mut config = world.config(worker);
    let stream = Model::new(&["beats"]);
    let table = Beaten::new(&stream, "beats", world.clock, &[("pk", "S"), ("sk", "S")]);
    let copies = Arc::new(Memory::default());
    copies.describe_as(table.table());
    let mut replication = config.replications[0].clone();
    replication.name = heartbeat::dedicated_name("eu-west-1");
    replication.source.table = "dynamirror-heartbeat".to_owned();
    replication.source.tables = Arc::clone(&table) as _;
    replication.source.streams = stream;
    replication.replicas[0].tables = Arc::clone(&copies) as _;
    replication.replicas[0].writer.table = "dynamirror-heartbeat.eu-west-1".to_owned();
    config.heartbeat.dedicated = vec![replication];
    (config, table, copies)
}

#[tokio::test(start_paused = true)]
async fn dedicated_heartbeats_go_through_tables_of_their_own() {
    let world = World::new(&["a"]);
    let (config, table, _copies) = dedicated(&world, "w");
    let member = Member::start(config).await;
    let beats = "#heartbeat/eu-west-1";
    until("one is read back", || one(&member.samples(), &["heartbeat_last_applied", beats]).is_some()).await;
    until("the fleet's view holds them", || one(&member.samples(), &["fleet_lag", beats]).is_some()).await;
    assert_eq!(one(&member.samples(), &["heartbeat_last_applied", "orders"]), None);
    let status = member.running.board.status();
    assert_eq!((status.replications.len(), status.heartbeats.len()), (1, 1));
    assert_eq!(status.notes, Vec::<String>::new());
    assert_eq!(table.items.lock().expect("nobody panicked").len(), 1);
    member.running.drain().await;
}

#[tokio::test(start_paused = true)]
async fn missing_heartbeat_tables_keep_nothing_from_working_and_are_looked_for_again() {
    let world = World::new(&["a"]);
    let (config, table, copies) = dedicated(&world, "w");
    *table.is_there.lock().expect("nobody panicked") = false;
    let member = Member::start(config).await;
    world.source.put("a", "x", 1);
    world.until("x", 1).await;
    let status = member.running.until("ready", |status| status.ready).await;
    assert_eq!(status.notes.len(), 1);
    assert!(status.notes[0].contains("`dynamirror init` creates it"), "{:?}", status.notes);
    // Longer than a replication may be stuck.
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert!(member.running.board.status().ready && member.running.board.alive().is_ok());
    assert_eq!(one(&member.samples(), &["heartbeat_last_written"]), None);
    *table.is_there.lock().expect("nobody panicked") = true;
    // A replica of them that is down makes the worker no less ready.
    copies.break_table("dynamirror-heartbeat.eu-west-1", true);
    until("they are written", || one(&member.samples(), &["heartbeat_last_written"]).is_some()).await;
    until("they are lost", || one(&member.samples(), &["heartbeats_lost"]) > Some(0.0)).await;
    let status = member.running.board.status();
    assert!(status.ready, "{:?}", status.not_ready);
    assert_eq!(status.notes, Vec::<String>::new());
    let Member { running, .. } = member;
    drop(running);
    // A drain waits for no table.
    let (config, table, _) = dedicated(&world, "again");
    *table.is_there.lock().expect("nobody panicked") = false;
    Member::start(config).await.running.drain().await;
}

#[tokio::test(start_paused = true)]
async fn heartbeats_begin_anew_after_a_gap() {
    let world = World::new(&["a"]);
    let (config, table, _copies) = dedicated(&world, "first");
    let beats = config.heartbeat.dedicated[0].clone();
    let first = Member::start(config).await;
    let applied = |member: &Member| one(&member.samples(), &["heartbeat_last_applied"]);
    until("one is read back", || applied(&first).is_some()).await;
    first.running.drain().await;
    // Longer than a stream keeps its records: the shard is gone, and its child is what there is.
    table.stream.close("beats", &["next"]);
    table.stream.forget("beats");
    let next = Beaten::new(&table.stream, "next", world.clock, &[("pk", "S"), ("sk", "S")]);
    let config = |id: &str| {
        let mut config = world.config(id);
        let mut beats = beats.clone();
        beats.source.tables = Arc::clone(&next) as _;
        config.heartbeat.dedicated = vec![beats];
        config
    };
    let second = Member::start(config("second")).await;
    second.running.until("a gap", |status| status.heartbeats[0].shards.gap == 1).await;
    until("heartbeats are lost", || one(&second.samples(), &["heartbeats_lost"]) > Some(0.0)).await;
    second.running.until("ready all the same", |status| status.ready).await;
    let before = applied(&second);
    second.running.drain().await;
    let third = Member::start(config("third")).await;
    until("one is read back again", || applied(&third) > before).await;
}

#[tokio::test(start_paused = true)]
async fn the_coordinator_verifies_what_it_is_told_to() {
    let world = World::new(&["shard-1"]);
    let key = model::key("k");
    let item = Item::from_json(key.as_bytes().to_vec().into());
    let extra = Change { key, op: Op::Put(item), created_unix_ms: 0, order: None };
    world.tables.write("us", &[extra]).await.expect("written");
    let mut config = world.config("a");
    config.replications[0].verify = Some(Verify { every: 3_600 * SECOND, read_units: 50.0 });
    let member = Member::start(config).await;
    let found = ["dynamirror_verify_differences_total", "class=\"extra\"", "replica=\"us\""];
    until("found what the source does not have", || one(&member.samples(), &found) == Some(1.0)).await;
    assert_eq!(one(&member.samples(), &["dynamirror_verify_items_total"]), Some(1.0));
    member.running.drain.cancel();
}
