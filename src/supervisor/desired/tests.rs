use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::checkpoint::Checkpoint;
use crate::control::Control;
use crate::dynamo::memory::Memory;
use crate::lease::{Row, State};
use crate::shard::Position;

/// Later than every epoch and gap of a test's rows.
const NOW: i64 = 1_900_000_000_000;

fn number(sequence: u64) -> SequenceNumber {
    sequence.to_string().parse().expect("a number")
}

fn checkpoint(position: Position, applied_through_unix_ms: Option<i64>) -> Checkpoint {
    Checkpoint { position, applied_through_unix_ms, read_through_unix_ms: 0, epoch: 0 }
}

fn row(shard: &str, parent: Option<&str>, at: Checkpoint) -> Row {
    Row {
        shard: shard.into(),
        stream: "arn".into(),
        parent: parent.map(ShardId::from),
        owner: None,
        handed_to: None,
        load: None,
        counter: 1,
        state: if at.position.is_end() { State::Ended } else { State::Open },
        checkpoints: [("us".to_owned(), at)].into(),
        gaps: BTreeMap::new(),
        expires_unix_s: at.position.is_end().then_some(7),
    }
}

fn rows(rows: impl IntoIterator<Item = Row>) -> BTreeMap<ShardId, Row> {
    rows.into_iter().map(|row| (row.shard.clone(), row)).collect()
}

fn seek(target: Target, may_skip: bool) -> Wish {
    Wish { seek: Some(Seek { epoch: NOW, target, may_skip }), ..Wish::default() }
}

fn after(shard: &str, sequence: u64) -> Target {
    Target::After { shard: shard.into(), sequence: number(sequence) }
}

/// All rows after `wish`, as far as workers that see every shard in the stream can take them.
fn obeyed(before: &BTreeMap<ShardId, Row>, wish: &Wish) -> BTreeMap<ShardId, Row> {
    let obeyed = before.values().map(|row| obey(row, [("us", wish)], before, true).unwrap_or(row.clone()));
    rows(obeyed)
}

fn positions(rows: &BTreeMap<ShardId, Row>) -> Vec<Position> {
    rows.values().map(|row| row.checkpoints["us"].position).collect()
}

fn family() -> BTreeMap<ShardId, Row> {
    rows([
        row("a", Some("trimmed"), checkpoint(Position::End, Some(NOW - 9_000))),
        row("b", Some("a"), checkpoint(Position::End, Some(NOW - 6_000))),
        row("c", Some("a"), checkpoint(Position::After(number(300)), Some(NOW - 3_000))),
        row("d", Some("b"), checkpoint(Position::After(number(400)), Some(NOW - 3_000))),
    ])
}

#[test]
fn the_trim_horizon_reopens_every_shard_that_is_listed() {
    let after = obeyed(&family(), &seek(Target::TrimHorizon, false));
    assert_eq!(positions(&after), [Position::TrimHorizon; 4]);
    for row in after.values() {
        assert_eq!((&row.state, row.expires_unix_s), (&State::Open, None), "{row:?}");
        assert_eq!(row.checkpoints["us"].applied_through_unix_ms, None, "nothing is proven any more");
    }
}

#[test]
fn a_time_leaves_shards_alone_that_ended_before_it() {
    let unix_ms = NOW - 4_000;
    let after = obeyed(&family(), &seek(Target::Time { unix_ms }, false));
    let at = Position::At { unix_ms };
    assert_eq!(positions(&after), [Position::End, Position::End, at, at]);
    let earlier = Target::Time { unix_ms: NOW - 5_500 };
    let after = obeyed(&family(), &seek(earlier, false));
    assert_eq!(positions(&after)[1], Position::At { unix_ms: NOW - 5_500 }, "times of records are rounded");
}

#[test]
fn a_sequence_moves_its_shard_and_those_that_came_from_it() {
    let after = obeyed(&family(), &seek(self::after("b", 150), false));
    let [a, b, c, d] = positions(&after)[..] else { panic!("four shards") };
    assert_eq!((a, c), (Position::End, Position::After(number(300))), "others stay");
    assert_eq!((b, d), (Position::After(number(150)), Position::TrimHorizon));
    assert_eq!(
        after[&"b".into()].checkpoints["us"].read_through_unix_ms,
        0,
        "a trimmed one would pass unseen"
    );
    assert!(after.values().all(|row| row.checkpoints["us"].epoch == NOW), "one has not followed");
}

#[test]
fn forward_needs_a_word() {
    let targets = [after("c", 301), Target::Time { unix_ms: NOW - 1_000 }];
    for target in targets {
        let here = Position::After(number(300));
        let (asked, unasked) = (seek(target.clone(), true), seek(target.clone(), false));
        assert_eq!(positions(&obeyed(&family(), &unasked))[2], here, "{target:?}");
        assert_ne!(positions(&obeyed(&family(), &asked))[2], here, "{target:?}");
        let seek = unasked.seek.expect("a seek");
        let change = Step { seek, relation: Relation::Meant }.change(&family()[&"c".into()], "us");
        assert_eq!(change.effect, Effect::Skips);
    }
}

#[test]
fn a_gap_is_left_behind_by_each_replica_for_itself() {
    let mut gap = row("a", None, checkpoint(Position::After(number(1)), Some(5)));
    gap.checkpoints.insert("eu".to_owned(), checkpoint(Position::After(number(2)), Some(5)));
    gap.state = State::Gap { reason: "trimmed".to_owned(), found_unix_ms: NOW - 1 };
    let (sought, still) = (seek(Target::TrimHorizon, false), Wish::default());
    let no_rows = BTreeMap::new();
    let one = obey(&gap, [("us", &sought), ("eu", &still)], &no_rows, true).expect("one was sought");
    assert_eq!((&one.state, one.gap_of("us")), (&State::Open, None));
    assert_eq!(one.gap_of("eu").map(|gap| gap.reason).as_deref(), Some("trimmed"));
    let both = obey(&one, [("us", &sought), ("eu", &sought)], &no_rows, true).expect("the other was sought");
    assert_eq!((&both.state, both.gaps.len()), (&State::Open, 0));
    let gone = obey(&gap, [("us", &sought), ("eu", &sought)], &no_rows, false).expect("both were sought");
    assert_eq!(gone.state, State::Ended, "a shard that vanished cannot be read by anybody");
}

#[test]
fn what_is_not_listed_keeps_its_end_and_is_not_given_up_before_it_is_a_gap() {
    let wish = seek(Target::TrimHorizon, false);
    let ended = row("a", None, checkpoint(Position::End, None));
    let after = obey(&ended, [("us", &wish)], &BTreeMap::new(), false).expect("it follows");
    assert_eq!((after.checkpoints["us"].position, after.state), (Position::End, State::Ended));
    let open = row("a", None, checkpoint(Position::After(number(1)), None));
    let after = obey(&open, [("us", &wish)], &BTreeMap::new(), false).expect("it follows");
    assert_eq!(after.checkpoints["us"].position, Position::After(number(1)));
}

#[test]
fn a_replica_waits_for_the_last_row_and_for_its_pause_to_end() {
    let wish = seek(Target::TrimHorizon, false);
    let before = family();
    let runs = |rows: &BTreeMap<ShardId, Row>, wish: &Wish| may_run(wish, "us", rows.values());
    assert!(runs(&before, &Wish::default()));
    assert!(!runs(&before, &wish));
    let after = obeyed(&before, &wish);
    assert!(runs(&after, &wish));
    assert!(runs(&after, &Wish::default()), "rows tell of a seek that this worker has not heard of");
    for behind in before.keys() {
        let mut mixed = after.clone();
        mixed.insert(behind.clone(), before[behind].clone());
        assert!(!runs(&mixed, &wish) && !runs(&mixed, &Wish::default()), "{behind} writes what is newer");
    }
    assert!(!runs(&after, &Wish { paused_unix_ms: Some(1), ..wish }));
}

fn all_targets() -> [Target; 3] {
    [Target::TrimHorizon, Target::Time { unix_ms: 5 }, after("s", 7)]
}

/// A fleet that was going back to the beginning is sent to a later time: shards that ended before that time and had not
/// heard of the first seek stayed ended, while their parents and children were replayed.
#[test]
fn a_shard_that_missed_a_seek_does_not_stay_ended_under_the_next() {
    let first = seek(Target::TrimHorizon, false);
    let next = Seek { epoch: NOW + 1, target: Target::Time { unix_ms: NOW - 4_000 }, may_skip: false };
    let mut mixed = obeyed(&family(), &first);
    mixed.insert("b".into(), family()[&"b".into()].clone());
    let after = obeyed(&mixed, &first.with_seek(next, 0));
    assert_eq!(positions(&after), [Position::TrimHorizon; 4]);
    assert!(after.values().all(|row| row.checkpoints["us"].epoch == NOW + 1), "one has not followed");
}

#[test]
fn a_wish_keeps_the_seeks_that_some_row_may_lack() {
    let to =
        |wish: Wish, epoch, target, obeyed| wish.with_seek(Seek { epoch, target, may_skip: false }, obeyed);
    let time = |unix_ms| Target::Time { unix_ms };
    let wish = to(to(to(Wish::default(), 1, time(10), 0), 2, time(20), 0), 3, time(30), 0);
    let epochs = |wish: &Wish, after| wish.seeks_after(after).map(|seek| seek.epoch).collect::<Vec<_>>();
    assert_eq!((epochs(&wish, 0), epochs(&wish, 2)), (vec![1, 2, 3], vec![3]));
    assert_eq!(epochs(&to(wish.clone(), 4, time(40), 2), 0), [3, 4], "all rows have obeyed the second");
    assert_eq!(epochs(&to(wish, 4, Target::TrimHorizon, 0), 0), [4], "nothing is left of the others");
    assert_eq!(obeyed_epoch("us", family().values()), 0);
    assert_eq!(obeyed_epoch("us", obeyed(&family(), &seek(time(1), true)).values()), NOW);
}

#[tokio::test]
async fn a_wish_is_kept_and_the_second_of_two_writers_learns_of_the_first() {
    let store = Store::new(Control::new(Arc::new(Memory::default()), "control"));
    assert_eq!(store.load().await.expect("none"), Wishes::default());
    let mut wishes = Wishes::default();
    for (index, target) in all_targets().into_iter().enumerate() {
        let wish = Wish { paused_unix_ms: (index > 0).then_some(3), ..seek(target, index == 1) };
        assert!(store.save("orders", &format!("r{index}"), &wish).await.expect("written"));
        assert!(!store.save("orders", &format!("r{index}"), &wish).await.expect("refused"));
        wishes.insert("orders", &format!("r{index}"), Wish { version: 1, ..wish });
    }
    let several = all_targets().into_iter().zip(1..).fold(Wish::default(), |wish, (target, epoch)| {
        wish.with_seek(Seek { epoch, target, may_skip: epoch == 2 }, 0)
    });
    assert_eq!(several.earlier.len(), 2);
    assert!(store.save("orders", "several", &several).await.expect("written"));
    wishes.insert("orders", "several", Wish { version: 1, ..several });
    assert_eq!(store.load().await.expect("three"), wishes);
    let again = wishes.of("orders", "r0");
    assert!(store.save("orders", "r0", &again).await.expect("written"));
    assert_eq!(store.load().await.expect("three").of("orders", "r0").version, 2);
}

/// A shard's records as their times, and how many of them are applied.
fn any_progress() -> impl Strategy<Value = (Vec<i64>, usize)> {
    prop::collection::vec(0i64..20, 0..12).prop_flat_map(|ages| {
        let mut times: Vec<_> = ages.into_iter().map(|age| NOW - age * 1_000).collect();
        times.sort_unstable();
        let applied = 0..=times.len();
        (Just(times), applied)
    })
}

fn any_target() -> impl Strategy<Value = Target> {
    prop_oneof![
        Just(Target::TrimHorizon),
        (0i64..22).prop_map(|age| Target::Time { unix_ms: NOW - age * 1_000 }),
        (0u64..14).prop_map(|sequence| after("s", sequence)),
        (0u64..14).prop_map(|sequence| after("parent", sequence)),
        (0u64..14).prop_map(|sequence| after("stranger", sequence)),
    ]
}

/// The records, by their numbers from one on, that are read from `position`.
fn read_from(position: Position, times: &[i64]) -> Vec<u64> {
    let numbered = times.iter().zip(1u64..);
    let read = numbered.filter(|(time, sequence)| match position {
        Position::TrimHorizon => true,
        Position::At { unix_ms } => **time >= unix_ms,
        Position::After(reached) => number(*sequence) > reached,
        Position::Latest { .. } | Position::End => false,
    });
    read.map(|(_, sequence)| sequence).collect()
}

proptest! {
    #[test]
    fn nothing_is_skipped_unasked(
        (times, applied) in any_progress(),
        ended in any::<bool>(),
        target in any_target(),
    ) {
        let ended = ended && applied == times.len();
        let now = match applied {
            _ if ended => Position::End,
            0 => Position::TrimHorizon,
            applied => Position::After(number(applied as u64)),
        };
        let through = times[..applied].last().map(|newest| newest - ROUNDING);
        let before = rows([row("s", Some("parent"), checkpoint(now, through))]);
        let wish = seek(target, false);
        let after = obeyed(&before, &wish);
        let read = read_from(positions(&after)[0], &times);
        for unapplied in applied as u64 + 1..=times.len() as u64 {
            prop_assert!(read.contains(&unapplied), "{unapplied} is lost from {now:?}");
        }
    }

    #[test]
    fn a_seek_back_replays_all_that_it_names((times, applied) in any_progress(), age in 0i64..22) {
        let unix_ms = NOW - age * 1_000;
        let through = times[..applied].last().map(|newest| newest - ROUNDING);
        for position in [Position::After(number(applied.max(1) as u64)), Position::End] {
            let before = rows([row("s", None, checkpoint(position, through))]);
            let after = obeyed(&before, &seek(Target::Time { unix_ms }, true));
            let read = read_from(positions(&after)[0], &times[..applied]);
            for (time, sequence) in times[..applied].iter().zip(1u64..) {
                let wanted = *time >= unix_ms;
                prop_assert!(!wanted || read.contains(&sequence), "{sequence} is not replayed from {position:?}");
            }
        }
    }

    #[test]
    fn seeks_in_a_row_end_where_they_do_one_by_one(
        targets in prop::collection::vec((any_target(), any::<bool>()), 1..5),
        (times, applied) in any_progress(),
        ended in any::<bool>(),
        gap in any::<bool>(),
        is_listed in any::<bool>(),
        missed in 0usize..5,
    ) {
        let now = if ended { Position::End } else { Position::After(number(applied as u64)) };
        let through = times[..applied].last().map(|newest| newest - ROUNDING);
        let mut before = row("s", Some("parent"), checkpoint(now, through));
        if gap && !ended {
            before.state = State::Gap { reason: "trimmed".to_owned(), found_unix_ms: 1 };
        }
        let none = BTreeMap::new();
        let (mut wish, mut each) = (Wish::default(), before.clone());
        let mut started = before;
        for (index, (target, may_skip)) in targets.into_iter().enumerate() {
            let seek = Seek { epoch: NOW + index as i64, target, may_skip };
            let alone = Wish::default().with_seek(seek.clone(), 0);
            each = obey(&each, [("us", &alone)], &none, is_listed).expect("it is new");
            wish = wish.with_seek(seek, 0);
            if index < missed {
                started = obey(&started, [("us", &wish)], &none, is_listed).expect("it is new");
            }
        }
        // Whether it followed the first of them at once, or heard of all at the end.
        let at_once = obey(&started, [("us", &wish)], &none, is_listed).unwrap_or(started);
        let place = |row: &Row| (row.checkpoints["us"].position, row.checkpoints["us"].epoch, row.state.clone());
        prop_assert_eq!(place(&at_once), place(&each));
        // One that vanished, and was given up as a gap, knows only that of the seeks that are kept.
        prop_assert!(!is_listed || at_once == each, "{:?} is not {:?}", at_once, each);
    }

    #[test]
    fn a_seek_is_obeyed_once_and_holds_until_then(
        epochs in prop::collection::vec(0i64..4, 1..6),
        wanted in 0i64..4,
        target in any_target(),
    ) {
        let before = rows(epochs.iter().enumerate().map(|(index, &epoch)| {
            let at = Checkpoint { epoch, ..checkpoint(Position::After(number(5)), Some(NOW)) };
            row(&format!("s{index}"), None, at)
        }));
        let wish = Wish { seek: Some(Seek { epoch: wanted, target, may_skip: true }), ..Wish::default() };
        let newest = epochs.iter().copied().fold(wanted, i64::max);
        let all_there = epochs.iter().all(|epoch| *epoch == newest);
        prop_assert_eq!(may_run(&wish, "us", before.values()), all_there);
        let after = obeyed(&before, &wish);
        for (row, epoch) in after.values().zip(&epochs) {
            prop_assert_eq!(row.checkpoints["us"].epoch, wanted.max(*epoch));
            prop_assert_eq!(obey(row, [("us", &wish)], &after, true), None);
        }
    }
}

/// Creation times are whole seconds.
const ROUNDING: i64 = 1_000;
