use std::time::Duration;

use super::*;
use crate::checkpoint::Checkpoint;
use crate::lease::State;
use crate::shard::{Position, ShardId};
use crate::supervisor::desired::{self, Target, Wish};

const NOW: i64 = 1_000_000;

fn row(shard: &str, parent: Option<&str>, owner: Option<&str>, through: Option<i64>, ended: bool) -> Row {
    let position = if ended { Position::End } else { Position::TrimHorizon };
    let checkpoint =
        Checkpoint { position, applied_through_unix_ms: through, read_through_unix_ms: 0, epoch: 0 };
    Row {
        shard: shard.into(),
        stream: "arn:aws:dynamodb:eu-west-1:1:table/T/stream/x".into(),
        parent: parent.map(ShardId::from),
        owner: owner.map(|worker| format!("{worker}/1")),
        handed_to: None,
        load: None,
        counter: 1,
        state: if ended { State::Ended } else { State::Open },
        checkpoints: [("us".to_owned(), checkpoint)].into(),
        gaps: Default::default(),
        expires_unix_s: None,
    }
}

fn worker(owner: &str, heartbeat_unix_ms: i64) -> gather::Worker {
    let (id, owner) = (crate::lease::worker(owner).to_owned(), owner.to_owned());
    gather::Worker { id, owner, version: None, heartbeat_unix_ms, draining: false }
}

fn observed(rows: Vec<Row>) -> Observed {
    Observed {
        control: "control".to_owned(),
        now_unix_ms: NOW,
        silent_after: Duration::from_secs(25),
        workers: vec![worker("a/1", NOW - 2_000)],
        replications: vec![gather::Replication {
            name: "orders".to_owned(),
            source: "Orders".to_owned(),
            rows,
            replicas: vec![gather::Replica {
                name: "us".to_owned(),
                table: "OrdersCopy".to_owned(),
                started: true,
                parked_keys: 0,
                wish: Wish::default(),
                copy: None,
            }],
        }],
    }
}

#[test]
fn shards_are_counted_and_all_is_well() {
    let report = Report::new(&observed(vec![
        row("s1", None, None, Some(NOW - 9_000), true),
        row("s2", Some("s1"), Some("a"), Some(NOW - 3_000), false),
        row("s3", Some("s2"), None, None, false),
    ]));
    assert_eq!(report.problems, Vec::<String>::new());
    assert!(report.ok);
    let orders = &report.replications[0];
    let expected = Shards { active: 1, waiting: 1, ended: 1, ..Shards::default() };
    assert_eq!(orders.shards, expected);
    assert_eq!(orders.replicas[0].lag_seconds, Some(3.0));
    assert_eq!(report.workers[0].shards, 1);
}

#[test]
fn an_earlier_process_of_a_worker_is_told_of_while_it_holds_something() {
    let mut observed = observed(vec![row("s1", None, Some("a"), Some(NOW), false)]);
    observed.workers = vec![worker("a/1", NOW - 50_000), worker("a/2", NOW - 1_000)];
    let report = Report::new(&observed);
    let told: Vec<_> = report.workers.iter().map(|it| (it.id.as_str(), it.alive, it.shards)).collect();
    assert_eq!(told, [("a", false, 1), ("a", true, 0)]);
    assert!(report.problems[0].contains("`a` is silent"), "{:?}", report.problems);
    observed.replications[0].rows.clear();
    assert_eq!(Report::new(&observed).workers.len(), 1);
}

#[test]
fn a_shard_that_proves_nothing_leaves_the_lag_unknown() {
    let report = Report::new(&observed(vec![
        row("s1", None, Some("a"), Some(NOW - 3_000), false),
        row("s2", None, Some("a"), None, false),
    ]));
    assert_eq!(report.replications[0].replicas[0].lag_seconds, None);
    assert_eq!(report.replications[0].replicas[0].applied_through, None);
}

#[test]
fn an_ended_shard_counts_until_its_child_is_there() {
    let lag = |rows: Vec<Row>| Report::new(&observed(rows)).replications[0].replicas[0].lag_seconds;
    let mut ended = row("s1", None, None, Some(NOW - 9_000), true);
    let other = row("s2", None, Some("a"), Some(NOW - 5_000), false);
    assert_eq!(lag(vec![ended.clone(), other.clone()]), Some(9.0));
    let child = row("s3", Some("s1"), Some("a"), Some(NOW - 7_000), false);
    assert_eq!(lag(vec![ended.clone(), other.clone(), child]), Some(7.0));
    ended.expires_unix_s = Some(1);
    assert_eq!(lag(vec![ended, other]), Some(5.0), "its child ended too, and its row is gone");
}

#[test]
fn a_replica_that_is_in_the_child_is_as_far_as_that_whatever_another_lacks_of_the_parent() {
    let mut parent = row("s1", None, None, Some(NOW - 9_000), true);
    let mut child = row("s2", Some("s1"), None, Some(NOW - 8_000), false);
    let behind = Checkpoint { position: Position::TrimHorizon, ..parent.checkpoints["us"] };
    for row in [&mut parent, &mut child] {
        row.state = State::Open;
        row.checkpoints.insert("eu".to_owned(), behind);
    }
    parent.owner = Some("a/1".to_owned());
    let other = row("s3", None, Some("a"), Some(NOW - 1_000), true);
    let mut observed = observed(vec![parent, child, other]);
    let eu = gather::Replica {
        name: "eu".to_owned(),
        table: "eu".to_owned(),
        started: true,
        parked_keys: 0,
        wish: Wish::default(),
        copy: None,
    };
    observed.replications[0].replicas.push(eu);
    let report = Report::new(&observed);
    assert_eq!(report.replications[0].replicas[0].lag_seconds, Some(8.0));
    assert_eq!(report.replications[0].shards.unowned, 1, "nobody reads it, although it may be");
}

#[test]
fn each_trouble_is_a_problem() {
    let is_told = |observed: &Observed, words: &str| {
        let report = Report::new(observed);
        assert!(!report.ok, "{words}");
        assert!(
            report.problems.iter().any(|problem| problem.contains(words)),
            "{words}: {:?}",
            report.problems
        );
    };
    let mut gap = observed(vec![row("s1", None, None, None, false)]);
    gap.replications[0].rows[0].state = State::Gap { reason: "trimmed".to_owned(), found_unix_ms: NOW };
    is_told(&gap, "shard s1 cannot be read on (trimmed)");
    is_told(&observed(vec![row("s1", None, None, None, false)]), "held by no worker");
    is_told(&observed(vec![row("s1", None, Some("b"), None, false)]), "`b` is silent");
    let mut nobody = observed(Vec::new());
    nobody.workers[0].heartbeat_unix_ms = NOW - 26_000;
    is_told(&nobody, "no worker runs");
    let mut parked = observed(Vec::new());
    parked.replications[0].replicas[0].parked_keys = 3;
    is_told(&parked, "refused 3 keys");
    let mut new = observed(Vec::new());
    new.replications[0].replicas[0].started = false;
    is_told(&new, "never started");
}

#[test]
fn the_report_is_json_with_a_version_and_seconds() {
    let report = Report::new(&observed(vec![row("s1", None, Some("a"), Some(NOW - 3_000), false)]));
    let json = serde_json::to_value(&report).expect("plain data");
    assert_eq!(json["schema_version"], 1);
    assert_eq!(json["now"], "1970-01-01T00:16:40Z");
    assert_eq!(json["replications"][0]["replicas"][0]["lag_seconds"], 3.0);
    assert_eq!(json["workers"][0]["heartbeat_age_seconds"], 2.0);
}

#[test]
fn a_pause_shows_until_when_it_may_last() {
    let row = row("s1", None, Some("a"), Some(NOW - 3_000), false);
    let mut paused = observed(vec![row]);
    let wish = Wish { paused_unix_ms: Some(NOW - 2_000), ..Wish::default() };
    paused.replications[0].replicas[0].wish = wish;
    let report = Report::new(&paused);
    assert!(report.ok, "{:?}", report.problems);
    let replica = &report.replications[0].replicas[0];
    assert_eq!(replica.state, ReplicaState::Paused);
    assert_eq!(replica.headroom_seconds, Some(86_400.0 - 3.0));
    paused.now_unix_ms += 21 * 3_600_000;
    paused.workers[0].heartbeat_unix_ms = paused.now_unix_ms;
    let report = Report::new(&paused);
    assert!(report.problems[0].contains("resume orders --replica us"), "{:?}", report.problems);
}

#[test]
fn a_seek_is_under_way_until_every_shard_has_obeyed_it() {
    let mut rows = vec![
        row("s1", None, Some("a"), Some(NOW - 3_000), false),
        row("s2", None, Some("a"), Some(NOW - 3_000), false),
    ];
    let target = Target::Time { unix_ms: NOW - 900_000 };
    let seek = desired::Seek { epoch: NOW - 1_000, target, may_skip: false };
    let wish = Wish { seek: Some(seek), ..Wish::default() };
    for (followed, state) in
        [ReplicaState::Seeking, ReplicaState::Seeking, ReplicaState::Streaming].into_iter().enumerate()
    {
        for row in &mut rows[..followed] {
            row.checkpoints.get_mut("us").expect("its checkpoint").epoch = NOW - 1_000;
        }
        let mut seeking = observed(rows.clone());
        seeking.replications[0].replicas[0].wish = wish.clone();
        let report = Report::new(&seeking);
        let replica = &report.replications[0].replicas[0];
        assert_eq!(replica.state, state);
        let seek = replica.seek.as_ref().expect("a seek");
        assert_eq!(seek.shards_to_follow, 2 - followed as u64);
        assert_eq!(seek.target, "1970-01-01T00:01:40Z");
    }
}
