use proptest::prelude::*;

use super::*;
use crate::lease::State;
use crate::shard::{Position, Shard};
use crate::supervisor::Start;
use crate::supervisor::plan::Replicas;

fn checkpoint(position: Position, through: Option<i64>) -> Checkpoint {
    Checkpoint {
        position,
        applied_through_unix_ms: through,
        read_through_unix_ms: through.unwrap_or_default(),
        epoch: 0,
    }
}

fn open(through: Option<i64>) -> Checkpoint {
    checkpoint(Position::TrimHorizon, through)
}

fn row(shard: &str, parent: Option<&str>, owner: Option<&str>, checkpoints: &[(&str, Checkpoint)]) -> Row {
    let replicas = Replicas { names: Vec::new(), new: BTreeSet::new(), start: Start::TrimHorizon };
    let shard = Shard { id: shard.into(), parent: parent.map(ShardId::from), closed: false };
    let mut row = replicas.new_row(&shard, &"arn".into(), &BTreeMap::new(), 0);
    row.owner = owner.map(str::to_owned);
    row.counter = 1;
    row.state = State::Open;
    row.checkpoints = checkpoints.iter().map(|(name, it)| ((*name).to_owned(), *it)).collect();
    row.end_if_done();
    row
}

fn ended(shard: &str, parent: Option<&str>, through: Option<i64>) -> Row {
    row(shard, parent, None, &[("a", checkpoint(Position::End, through))])
}

fn through(rows: &[Row]) -> Option<i64> {
    Some(view(rows, &["a"], &BTreeSet::new()).watermarks[0]?.through_unix_ms)
}

#[test]
fn a_shard_that_nobody_holds_freezes_the_watermark() {
    let mut rows = [
        row("s", None, Some("w"), &[("a", open(Some(900)))]),
        row("t", None, None, &[("a", open(Some(100)))]),
    ];
    let seen = view(&rows, &["a"], &BTreeSet::new());
    assert_eq!(seen.shards, FleetShards { owned: 1, unowned: 1, ..FleetShards::default() });
    assert_eq!(through(&rows), Some(100));
    rows[1].checkpoints.get_mut("a").expect("there").applied_through_unix_ms = None;
    assert_eq!(through(&rows), None, "nothing is proven of one shard, so nothing of all");
}

#[test]
fn a_holder_that_does_not_renew_holds_nothing() {
    let rows = [row("s", None, Some("dead"), &[("a", open(Some(1)))])];
    let silent = BTreeSet::from(["s".into()]);
    assert_eq!(view(&rows, &["a"], &silent).shards.unowned, 1);
    assert_eq!(view(&rows, &["a"], &BTreeSet::new()).shards.owned, 1);
}

#[test]
fn what_waits_for_its_parent_counts_neither_as_unowned_nor_for_the_watermark() {
    let parent = row("p", None, Some("w"), &[("a", open(Some(500)))]);
    let child = row("c", Some("p"), None, &[("a", open(None))]);
    let seen = view(&[parent, child.clone()], &["a"], &BTreeSet::new());
    assert_eq!(seen.shards, FleetShards { owned: 1, waiting: 1, ..FleetShards::default() });
    assert_eq!(seen.watermarks[0].map(|it| it.through_unix_ms), Some(500));
    // The moment after the parent's end nobody holds the child yet; its parent proves what it has to.
    let rows = [ended("p", None, Some(700)), child];
    let seen = view(&rows, &["a"], &BTreeSet::new());
    assert_eq!(seen.shards, FleetShards { ended: 1, unowned: 1, ..FleetShards::default() });
    assert_eq!(through(&rows), Some(700));
}

#[test]
fn a_child_is_readable_as_soon_as_one_replica_has_its_parent() {
    let parent =
        row("p", None, Some("w"), &[("a", checkpoint(Position::End, Some(9))), ("b", open(Some(3)))]);
    let child = row("c", Some("p"), None, &[("a", open(None)), ("b", open(None))]);
    let seen = view(&[parent, child], &["a", "b"], &BTreeSet::new());
    assert_eq!(seen.shards, FleetShards { owned: 1, unowned: 1, ..FleetShards::default() });
    let through: Vec<_> = seen.watermarks.iter().map(|it| it.map(|it| it.through_unix_ms)).collect();
    assert_eq!(through, [Some(9), Some(3)]);
}

#[test]
fn a_gap_counts_and_freezes() {
    let mut gap = row("g", None, None, &[("a", open(Some(50)))]);
    gap.state = State::Gap { reason: "trimmed".to_owned(), found_unix_ms: 1 };
    let rows = [gap, row("s", None, Some("w"), &[("a", open(Some(900)))])];
    let seen = view(&rows, &["a"], &BTreeSet::new());
    assert_eq!(seen.shards, FleetShards { owned: 1, gap: 1, ..FleetShards::default() });
    assert_eq!(through(&rows), Some(50));
}

#[test]
fn a_few_empty_polls_are_told_from_a_record() {
    let mut polled = row("s", None, Some("w"), &[("a", open(Some(900)))]);
    let proof = |row: &Row| {
        view(std::slice::from_ref(row), &["a"], &BTreeSet::new()).watermarks[0].map(|it| it.proof)
    };
    assert_eq!(proof(&polled), Some(Proof::Records));
    polled.checkpoints.get_mut("a").expect("there").read_through_unix_ms = 100;
    assert_eq!(proof(&polled), Some(Proof::EmptyPolls));
}

#[tokio::test(start_paused = true)]
async fn a_holder_is_silent_when_its_counter_stood_still_for_longer_than_a_lease() {
    let lease = Duration::from_secs(12);
    let start = Instant::now();
    let at = |seconds: u64| start + Duration::from_secs(seconds);
    let mut held = row("s", None, Some("w"), &[("a", open(None))]);
    let mut pulse = Pulse::default();
    assert!(pulse.silent(std::slice::from_ref(&held), lease, at(0)).is_empty());
    assert!(pulse.silent(std::slice::from_ref(&held), lease, at(12)).is_empty());
    assert_eq!(pulse.silent(std::slice::from_ref(&held), lease, at(13)).len(), 1);
    held.counter += 1;
    assert!(pulse.silent(std::slice::from_ref(&held), lease, at(20)).is_empty());
    held.owner = None;
    assert!(pulse.silent(std::slice::from_ref(&held), lease, at(60)).is_empty(), "a free one is not silent");
}

prop_compose! {
    /// Rows of a forest: each one's parent is an earlier one, or never tracked.
    fn any_rows()(
        rows in prop::collection::vec(
            (any::<prop::sample::Index>(), any::<bool>(), any::<bool>(), prop::option::of(0..1_000_i64), any::<bool>(), any::<bool>()),
            0..12,
        ),
    ) -> Vec<Row> {
        let made = rows.into_iter().enumerate().map(|(number, (parent, has_parent, is_held, through, is_done, is_gap))| {
            let parent = has_parent.then(|| format!("s{}", parent.index(number + 1)));
            let parent = parent.filter(|parent| *parent != format!("s{number}"));
            let position = if is_done { Position::End } else { Position::TrimHorizon };
            let owner = is_held.then_some("w");
            let mut made = row(&format!("s{number}"), parent.as_deref(), owner, &[("a", checkpoint(position, through))]);
            if is_gap && !is_done {
                made.state = State::Gap { reason: String::new(), found_unix_ms: 0 };
            }
            made
        });
        made.collect()
    }
}

proptest! {
    #[test]
    fn every_shard_is_counted_once(rows in any_rows()) {
        let FleetShards { owned, waiting, ended, unowned, gap } = view(&rows, &["a"], &BTreeSet::new()).shards;
        prop_assert_eq!(owned + waiting + ended + unowned + gap, rows.len() as u64);
    }

    #[test]
    fn who_holds_a_shard_does_not_move_the_watermark(rows in any_rows()) {
        let all = rows.iter().map(|row| row.shard.clone()).collect();
        let nobody: Vec<_> = rows.iter().map(|row| Row { owner: None, ..row.clone() }).collect();
        let seen = view(&rows, &["a"], &BTreeSet::new()).watermarks;
        prop_assert_eq!(&seen, &view(&rows, &["a"], &all).watermarks);
        prop_assert_eq!(&seen, &view(&nobody, &["a"], &BTreeSet::new()).watermarks);
    }
}

#[test]
fn a_gap_of_a_replica_that_is_no_longer_configured_is_none() {
    let mut rows = [row("s", None, Some("w"), &[("a", open(Some(1))), ("b", open(Some(1)))])];
    let gap = crate::lease::Gap { reason: "trimmed".to_owned(), found_unix_ms: 1 };
    rows[0].gaps.insert("b".to_owned(), gap);
    assert_eq!(view(&rows, &["a", "b"], &BTreeSet::new()).shards.gap, 1);
    assert_eq!(view(&rows, &["a"], &BTreeSet::new()).shards.owned, 1);
}
