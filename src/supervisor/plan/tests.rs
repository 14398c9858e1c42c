use super::*;
use crate::supervisor::desired::{Seek, Target, Wish};

fn shard(id: &str, parent: Option<&str>, closed: bool) -> Shard {
    Shard { id: id.into(), parent: parent.map(ShardId::from), closed }
}

fn replicas(names: &[&str], new: &[&str], start: Start) -> Replicas {
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    Replicas { names: owned(names), new: owned(new).into_iter().collect(), start }
}

fn row(replicas: &Replicas, shard: &Shard) -> Row {
    replicas.new_row(shard, &"arn".into(), &BTreeMap::new(), 5_000)
}

/// Nobody wants anything of any replica but that it runs.
fn free(replicas: &Replicas) -> Wanted {
    let wishes = replicas.names.iter().map(|name| (name.clone(), Wish::default()));
    Wanted::new(wishes.collect(), &BTreeMap::new())
}

fn end(row: &mut Row, replica: &str) {
    row.checkpoints.insert(
        replica.to_owned(),
        Checkpoint {
            position: Position::End,
            applied_through_unix_ms: Some(4_000),
            read_through_unix_ms: 3_000,
            epoch: 0,
        },
    );
}

#[test]
fn a_child_starts_for_each_replica_at_its_parents_end_there() {
    let replicas = replicas(&["a", "b"], &["a", "b"], Start::TrimHorizon);
    let mut rows = BTreeMap::new();
    let (mut parent, mut child) =
        (row(&replicas, &shard("p", Some("long gone"), true)), row(&replicas, &shard("c", Some("p"), false)));
    assert_eq!(
        replicas.standing(&parent, &rows, &Lineage::new()),
        Standing::Ready,
        "an untracked parent must not block"
    );
    let mut lineage = Lineage::new();
    lineage.merge(&[shard("p", None, true)]);
    assert_eq!(
        replicas.standing(&child, &rows, &lineage),
        Standing::Waiting,
        "a parent that is listed has no row yet"
    );
    for (replica, expected) in [("a", [true, false]), ("b", [true, true])] {
        rows.insert(parent.shard.clone(), parent.clone());
        end(&mut parent, replica);
        rows.insert(parent.shard.clone(), parent.clone());
        assert_eq!(replicas.standing(&child, &rows, &Lineage::new()), Standing::Ready);
        let orders = replicas.orders(&free(&replicas), &child, &rows, &Lineage::new());
        assert_eq!(["a", "b"].map(|replica| orders[replica].runs()), expected);
        assert_eq!(orders["a"], Order::Run { parent: Some(parent.checkpoints["a"]) });
    }
    replicas.inherit(&mut child, &rows);
    assert_eq!(child.checkpoints["a"].applied_through_unix_ms, Some(4_000));
    assert_eq!(child.checkpoints["a"].read_through_unix_ms, 3_000);
    assert_eq!(replicas.standing(&parent, &rows, &Lineage::new()), Standing::Done);
}

#[test]
fn latest_leaves_out_closed_shards_and_starts_later_ones_at_their_first_record() {
    let mut replicas = replicas(&["a"], &["a"], Start::Latest);
    assert_eq!(row(&replicas, &shard("old", None, true)).state, State::Ended);
    let open = row(&replicas, &shard("open", None, false));
    assert_eq!(open.checkpoints["a"].position, Position::Latest { since_unix_ms: 5_000 });
    let rows = BTreeMap::from([(open.shard.clone(), open)]);
    let child = shard("child", Some("open"), true);
    let child = replicas.new_row(&child, &"arn".into(), &rows, 9_000);
    assert_eq!(
        child.checkpoints["a"].position,
        Position::TrimHorizon,
        "what was written to it since the start was decided is skipped"
    );
    let old = row(&replicas, &shard("old", None, true));
    let rows = BTreeMap::from([(old.shard.clone(), old)]);
    let younger = shard("younger", Some("old"), false);
    let at_once = replicas.new_row(&younger, &"arn".into(), &rows, 5_000);
    assert_eq!(at_once.checkpoints["a"].position, Position::Latest { since_unix_ms: 5_000 });
    let later = replicas.new_row(&younger, &"arn".into(), &rows, 5_001);
    assert_eq!(later.checkpoints["a"].position, Position::TrimHorizon, "it may be younger than the start");
    let mut taken = row(&replicas, &shard("taken", None, false));
    taken.counter = 1;
    let rows = BTreeMap::from([(taken.shard.clone(), taken)]);
    let missed = replicas.new_row(&shard("missed", None, true), &"arn".into(), &rows, 9_000);
    assert_eq!(missed.checkpoints["a"].position, Position::TrimHorizon, "another worker has begun long ago");
    replicas.new.clear();
    let later = row(&replicas, &shard("later", Some("open"), false));
    assert_eq!(later.checkpoints["a"].position, Position::TrimHorizon);
}

#[test]
fn a_replica_that_joins_reopens_what_others_have_ended() {
    let first = replicas(&["a"], &[], Start::TrimHorizon);
    let mut row = row(&first, &shard("s", None, true));
    end(&mut row, "a");
    row.end_if_done();
    assert_eq!(row.state, State::Ended);
    let both = replicas(&["a", "b"], &["b"], Start::TrimHorizon);
    assert!(both.complete(&mut row, true, 6_000));
    assert_eq!(row.state, State::Open);
    assert_eq!(both.standing(&row, &BTreeMap::new(), &Lineage::new()), Standing::Ready);
    assert!(!both.complete(&mut row, true, 6_000));
}

#[test]
fn a_gap_blocks_its_children() {
    let replicas = replicas(&["a"], &["a"], Start::TrimHorizon);
    let mut parent = row(&replicas, &shard("p", None, true));
    parent.state = State::Gap { reason: "trimmed".to_owned(), found_unix_ms: 1 };
    assert_eq!(replicas.standing(&parent, &BTreeMap::new(), &Lineage::new()), Standing::Gap);
    let rows = BTreeMap::from([(parent.shard.clone(), parent)]);
    assert_eq!(
        replicas.standing(&row(&replicas, &shard("c", Some("p"), false)), &rows, &Lineage::new()),
        Standing::Waiting
    );
}

#[test]
fn a_gap_of_one_replica_is_its_own() {
    let replicas = replicas(&["a", "b"], &[], Start::TrimHorizon);
    let mut parent = row(&replicas, &shard("p", None, true));
    let gap = crate::lease::Gap { reason: "trimmed".to_owned(), found_unix_ms: 1 };
    parent.gaps.insert("b".to_owned(), gap);
    assert_eq!(replicas.standing(&parent, &BTreeMap::new(), &Lineage::new()), Standing::Ready);
    let runs = |row: &Row, rows: &BTreeMap<ShardId, Row>| {
        let orders = replicas.orders(&free(&replicas), row, rows, &Lineage::new());
        ["a", "b"].map(|replica| orders[replica].runs())
    };
    assert_eq!(runs(&parent, &BTreeMap::new()), [true, false]);
    end(&mut parent, "a");
    assert_eq!(replicas.standing(&parent, &BTreeMap::new(), &Lineage::new()), Standing::Gap);
    let rows = BTreeMap::from([(parent.shard.clone(), parent)]);
    let child = row(&replicas, &shard("c", Some("p"), false));
    assert_eq!(runs(&child, &rows), [true, false]);
}

#[test]
fn a_replica_that_comes_later_holds_no_child_back_for_the_others() {
    let both = replicas(&["a", "b"], &["b"], Start::TrimHorizon);
    let mut parent = row(&both, &shard("p", None, true));
    end(&mut parent, "a");
    let rows = BTreeMap::from([(parent.shard.clone(), parent)]);
    let child = row(&both, &shard("c", Some("p"), false));
    let orders = both.orders(&free(&both), &child, &rows, &Lineage::new());
    assert!(orders["a"].runs() && !orders["b"].runs());
}

#[test]
fn a_row_expires_only_when_all_children_are_read() {
    let replicas = replicas(&["a"], &["a"], Start::TrimHorizon);
    let mut lineage = Lineage::new();
    lineage.merge(&[shard("p", None, true), shard("c1", Some("p"), false), shard("c2", Some("p"), false)]);
    let mut parent = row(&replicas, &shard("p", None, true));
    end(&mut parent, "a");
    parent.end_if_done();
    let mut rows = BTreeMap::new();
    for child in ["c1", "c2"] {
        assert_eq!(replicas.expiry(&parent, &rows, &lineage, 1_000, false), None);
        let child = row(&replicas, &shard(child, Some("p"), false));
        rows.insert(child.shard.clone(), Row { owner: Some("w".to_owned()), ..child });
    }
    let expires = Some(1 + ENDED_ROW_SECONDS);
    assert_eq!(replicas.expiry(&parent, &rows, &lineage, 1_000, false), expires);
    parent.owner = Some("w".to_owned());
    assert_eq!(
        replicas.expiry(&parent, &rows, &lineage, 1_000, false),
        None,
        "its holder may give it up yet"
    );
    assert_eq!(replicas.expiry(&parent, &rows, &lineage, 1_000, true), expires, "its holder died");
    parent.state = State::Open;
    assert_eq!(replicas.expiry(&parent, &rows, &lineage, 1_000, true), None, "another replica needs it");
}

#[test]
fn a_seek_leaves_no_shard_where_it_is_only_because_no_listing_has_shown_it_yet() {
    let replicas = replicas(&["a"], &[], Start::TrimHorizon);
    let mut row = row(&replicas, &shard("s", None, false));
    let reached = Position::After("7".parse().expect("a number"));
    row.checkpoints.insert("a".to_owned(), Checkpoint::starting(reached, 0));
    let rows = BTreeMap::from([(row.shard.clone(), row.clone())]);
    let seek = Seek { epoch: 9, target: Target::TrimHorizon, may_skip: false };
    let wish = Wish::default().with_seek(seek, 0);
    let sought = |lineage: &Lineage, vanished: &[&str]| {
        let vanished = vanished.iter().map(|shard| (*shard).into()).collect();
        let wanted = Wanted::new([("a".to_owned(), wish.clone())].into(), &rows).without(&vanished);
        match &replicas.orders(&wanted, &row, &rows, lineage)["a"] {
            Order::Seek(sought) => Some(sought.put(&mut row.clone(), "a").position),
            other => {
                assert_eq!(*other, Order::Pause, "nothing is read before it is known");
                None
            }
        }
    };
    let mut lineage = Lineage::new();
    assert_eq!(sought(&lineage, &[]), None);
    assert_eq!(sought(&lineage, &["s"]), Some(reached), "it is gone, and its reader meets the gap");
    lineage.merge(&[shard("s", None, false)]);
    assert_eq!(sought(&lineage, &["s"]), Some(Position::TrimHorizon), "it is back");
}

#[test]
fn a_child_whose_parents_row_was_missed_is_an_orphan_until_it_is_known() {
    let replicas = replicas(&["a"], &[], Start::TrimHorizon);
    let (parent, child) =
        (row(&replicas, &shard("p", None, true)), row(&replicas, &shard("c", Some("p"), false)));
    let none = BTreeMap::new();
    assert_eq!(orphans(std::slice::from_ref(&child), &none), BTreeSet::from(["c".into()]));
    assert!(orphans(&[parent.clone(), child.clone()], &none).is_empty());
    let known = BTreeMap::from([(parent.shard.clone(), parent)]);
    assert!(orphans(std::slice::from_ref(&child), &known).is_empty());
    let known = BTreeMap::from([(child.shard.clone(), child.clone())]);
    assert!(orphans(&[child], &known).is_empty());
}
