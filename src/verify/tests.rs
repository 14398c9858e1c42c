//! Whole verifications of two tables in memory, on paused time.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep};

use super::*;
use crate::capacity::Bucket;
use crate::change::{Change, Op};
use crate::dynamo::Tables;
use crate::dynamo::memory::Memory;
use crate::item::Item;
use crate::task::Tasks;

const NAMES: [&str; 2] = ["source", "replica"];

fn item(number: u64, rest: &str) -> Item {
    Item::from_json(Bytes::from(format!(r#"{{"pk":{{"S":"{number}"}}{rest}}}"#)))
}

fn key(number: u64) -> Key {
    Key::of_item(item(number, "").as_bytes(), &["pk".to_owned()]).expect("a key")
}

async fn write(memory: &Memory, table: &str, number: u64, rest: Option<&str>) {
    let op = rest.map_or(Op::Delete, |rest| Op::Put(item(number, rest)));
    let change = Change { key: key(number), op, created_unix_ms: 0, order: None };
    memory.write(table, &[change]).await.expect("written");
}

async fn fill(memory: &Memory, numbers: std::ops::Range<u64>, rest: &str) {
    for number in numbers {
        for table in NAMES {
            write(memory, table, number, Some(rest)).await;
        }
    }
}

fn table(memory: &Arc<Memory>, name: &str) -> Table {
    Table {
        tables: Arc::clone(memory) as _,
        name: name.to_owned(),
        key: vec!["pk".to_owned()],
        segments: 4,
        pages: 3,
        units: Bucket::new(None),
    }
}

fn parts(memory: &Arc<Memory>, dir: &tempfile::TempDir, barrier: Barrier) -> Parts {
    let [source, replica] = NAMES.map(|name| table(memory, name));
    Parts {
        source,
        replica,
        digester: Digester::new::<&str>(&["mark"]),
        join: join::Config {
            memory_bytes: join::Config::MEMORY_BYTES_MIN,
            disk_bytes: 1 << 30,
            dir: dir.path().to_owned(),
            key_bytes_max: join::Config::KEY_BYTES_MAX,
        },
        pages: Budget::new(64 << 20),
        barrier,
        ttl_attribute: Some("ttl".to_owned()),
        differences_max: 1_000,
        details_max: 10,
        clock: Clock::Simulated { start_unix_ms: 1_700_000_000_000, start: Instant::now() },
        progress: watch::Sender::new(Progress::default()),
    }
}

fn found(findings: &Findings) -> BTreeMap<String, Class> {
    let of = |it: &Difference| (it.key.to_string(), it.class);
    findings.differences.iter().map(of).collect()
}

/// All kinds of differences, and what looks like one and is none.
async fn plant(memory: &Memory) -> BTreeMap<String, Class> {
    let both = |left: &'static str, right: &'static str| [Some(left), Some(right)];
    let cases = [
        (1, [Some(""), None], Some(Class::Missing)),
        (2, [None, Some("")], Some(Class::Extra)),
        (3, both(r#","a":{"S":"x"}"#, r#","a":{"S":"y"}"#), Some(Class::Different)),
        (4, both(r#","a":{"S":"1"}"#, r#","a":{"N":"1"}"#), Some(Class::Different)),
        (5, both(r#","a":{"SS":["x","y"]}"#, r#","a":{"L":[{"S":"x"},{"S":"y"}]}"#), Some(Class::Different)),
        (6, both(r#","a":{"N":"100"}"#, r#","a":{"N":"1.00E2"}"#), None),
        (7, both(r#","a":{"NS":["1","2"]}"#, r#","a":{"NS":["2.0","1"]}"#), None),
        (8, both("", r#","mark":{"S":"t#1"},"aws:rep:deleting":{"BOOL":false}"#), None),
        (9, [Some(r#","ttl":{"N":"1600000000"}"#), None], Some(Class::TtlExpired)),
        (10, [Some(r#","ttl":{"N":"1800000000"}"#), None], Some(Class::Missing)),
    ];
    let mut expected = BTreeMap::new();
    for (number, states, class) in cases {
        for (table, state) in NAMES.into_iter().zip(states) {
            write(memory, table, number, state).await;
        }
        expected.extend(class.map(|class| (key(number).to_string(), class)));
    }
    expected
}

#[tokio::test(start_paused = true)]
async fn planted_differences_are_found_and_none_invented() {
    let (memory, dir) = (Arc::new(Memory::default()), tempfile::tempdir().expect("a directory"));
    fill(&memory, 100..1_100, r#","a":{"S":"same"}"#).await;
    let expected = plant(&memory).await;
    let parts = parts(&memory, &dir, Barrier::Grace(Duration::from_secs(1)));
    let findings = verify(&parts).await.expect("verified");
    assert_eq!(found(&findings), expected);
    assert!(findings.complete);
    assert_eq!((findings.count(Class::Missing), findings.count(Class::Different)), (2, 3));
    assert_eq!(findings.confirmed().count(), 6);
    assert_eq!(findings.progress.source.items, 1_009);
    assert_eq!(findings.progress.suspects, 7);
    let different =
        findings.differences.iter().find(|it| it.class == Class::Different).expect("there is one");
    assert_eq!(different.paths.len(), 1);
    assert!(different.source.is_some() && different.replica.is_some());
}

#[tokio::test(start_paused = true)]
async fn keys_of_which_only_digests_are_kept_are_found_too() {
    let (memory, dir) = (Arc::new(Memory::default()), tempfile::tempdir().expect("a directory"));
    fill(&memory, 100..300, "").await;
    let expected = plant(&memory).await;
    let mut parts = parts(&memory, &dir, Barrier::Grace(Duration::from_secs(1)));
    parts.join.key_bytes_max = 0;
    let findings = verify(&parts).await.expect("verified");
    assert_eq!(found(&findings), expected);
    assert_eq!(findings.progress.source.items, 209, "the second scan was counted");
}

#[tokio::test(start_paused = true)]
async fn it_stops_at_as_many_as_wanted_and_says_so() {
    let (memory, dir) = (Arc::new(Memory::default()), tempfile::tempdir().expect("a directory"));
    for number in 0..500 {
        write(&memory, "source", number, Some("")).await;
    }
    let parts = Parts { differences_max: 20, ..parts(&memory, &dir, Barrier::Grace(Duration::ZERO)) };
    let findings = verify(&parts).await.expect("verified");
    assert!(!findings.complete);
    assert_eq!(findings.count(Class::Missing), 20);
    assert_eq!(
        findings.differences.iter().filter(|it| it.source.is_some()).count(),
        10,
        "details are bounded"
    );
}

#[tokio::test(start_paused = true)]
async fn signatures_tell_equal_tables_from_different_ones() {
    let (memory, dir) = (Arc::new(Memory::default()), tempfile::tempdir().expect("a directory"));
    fill(&memory, 100..200, "").await;
    let parts = parts(&memory, &dir, Barrier::Grace(Duration::ZERO));
    let [source, replica] = [
        sign(&parts, Side::Source).await.expect("signed"),
        sign(&parts, Side::Replica).await.expect("signed"),
    ];
    assert_eq!((source.items(), source.differing(&replica)), (100, vec![]));
    write(&memory, "replica", 7, Some("")).await;
    let replica = sign(&parts, Side::Replica).await.expect("signed");
    assert_eq!(source.differing(&replica), [signature::bucket(Digest::of_key(&key(7)))]);
}

#[tokio::test(start_paused = true)]
async fn a_table_that_is_gone_ends_it() {
    let (memory, dir) = (Arc::new(Memory::default()), tempfile::tempdir().expect("a directory"));
    write(&memory, "source", 1, Some("")).await;
    let mut parts = parts(&memory, &dir, Barrier::Grace(Duration::ZERO));
    parts.source.key = vec!["other".to_owned()];
    let error = verify(&parts).await.expect_err("its items have no such key");
    assert!(matches!(&error, Error::Key { table, .. } if table == "source"), "{error}");
}

/// Writes to the source, and to the replica what was written a while before, without end.
struct Traffic {
    memory: Arc<Memory>,
    /// Up to which time the replica has all.
    applied_unix_ms: Arc<Mutex<i64>>,
    clock: Clock,
    /// Keys that are written to.
    keys: std::ops::Range<u64>,
    lag: Duration,
    /// How many states an item goes through, again and again.
    states: u64,
}

impl Traffic {
    async fn run(self) {
        let mut pending: VecDeque<(Instant, i64, u64, Option<String>)> = VecDeque::new();
        let mut version = 0u64;
        loop {
            sleep(Duration::from_millis(fastrand::u64(1..40))).await;
            version += 1;
            let number = fastrand::u64(self.keys.clone());
            // Deletes too, and states that come again.
            let rest =
                (!version.is_multiple_of(7)).then(|| format!(r#","v":{{"N":"{}"}}"#, version % self.states));
            write(&self.memory, "source", number, rest.as_deref()).await;
            // The service dates by whole seconds.
            let created_unix_ms = self.clock.unix_ms() / 1_000 * 1_000;
            pending.push_back((Instant::now(), created_unix_ms, number, rest));
            while pending.front().is_some_and(|(at, ..)| at.elapsed() >= self.lag) {
                let (_, created_unix_ms, number, rest) = pending.pop_front().expect("it was seen");
                write(&self.memory, "replica", number, rest.as_deref()).await;
                // Others of the same second may follow.
                *locked(&self.applied_unix_ms) = created_unix_ms - 1;
            }
        }
    }
}

async fn under_load(seed: u64, lag: Duration, planted: bool) -> (Findings, BTreeMap<String, Class>) {
    under(seed, lag, planted, 100..400, 50).await
}

async fn under(
    seed: u64,
    lag: Duration,
    planted: bool,
    keys: std::ops::Range<u64>,
    states: u64,
) -> (Findings, BTreeMap<String, Class>) {
    fastrand::seed(seed);
    let (memory, dir) = (Arc::new(Memory::default()), tempfile::tempdir().expect("a directory"));
    fill(&memory, 100..400, r#","v":{"N":"0"}"#).await;
    let expected = if planted { plant(&memory).await } else { BTreeMap::new() };
    let applied_unix_ms = Arc::new(Mutex::new(0));
    let asked = Arc::clone(&applied_unix_ms);
    let barrier = Barrier::Applied {
        through_unix_ms: Box::new(move || {
            let through = *locked(&asked);
            Box::pin(async move { Ok(Some(through)) })
        }),
        patience: Duration::from_secs(300),
    };
    let parts = parts(&memory, &dir, barrier);
    let traffic =
        Traffic { memory: Arc::clone(&memory), applied_unix_ms, clock: parts.clock, keys, lag, states };
    let mut tasks = Tasks::new();
    tasks.spawn(tracing::Span::none(), traffic.run());
    // Some of it is on its way when the scans begin.
    sleep(lag * 2).await;
    (verify(&parts).await.expect("verified"), expected)
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_only_lags_gives_no_alarm() {
    let mut suspects = 0;
    for seed in 0..20 {
        let (findings, _) = under_load(seed, Duration::from_secs(1 + seed % 4), false).await;
        assert_eq!(findings.confirmed().count(), 0, "seed {seed}: {:?}", findings.differences);
        suspects += findings.progress.suspects;
    }
    assert!(suspects > 100, "only {suspects} keys were suspect: the writers did nothing");
}

#[tokio::test(start_paused = true)]
async fn items_that_go_to_and_fro_give_no_alarm() {
    let mut suspects = 0;
    for seed in 0..100 {
        // Each of a few keys changes several times within the time that it takes to look at it.
        let (findings, _) = under(seed, Duration::from_secs(2), false, 100..120, 2).await;
        assert_eq!(findings.confirmed().count(), 0, "seed {seed}: {:?}", findings.differences);
        suspects += findings.progress.suspects;
    }
    assert!(suspects > 100, "only {suspects} keys were suspect");
}

#[tokio::test(start_paused = true)]
async fn differences_are_found_under_load() {
    for seed in 0..5 {
        let (findings, expected) = under_load(seed, Duration::from_secs(2), true).await;
        let found = found(&findings).into_iter().filter(|(_, class)| *class != Class::Unstable);
        assert_eq!(found.collect::<BTreeMap<_, _>>(), expected, "seed {seed}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_told_because_the_replica_stands_still_is_unstable() {
    let (memory, dir) = (Arc::new(Memory::default()), tempfile::tempdir().expect("a directory"));
    write(&memory, "source", 1, Some("")).await;
    let barrier = Barrier::Applied {
        through_unix_ms: Box::new(|| Box::pin(async { Ok(Some(5)) })),
        patience: Duration::from_secs(30),
    };
    let findings = verify(&parts(&memory, &dir, barrier)).await.expect("verified");
    assert_eq!(findings.counts, BTreeMap::from([(Class::Unstable, 1)]));
}
