//! Writes that never replace a newer state by an older one.

use super::Outcome;
use super::subject::{Subject, delete, key, put, row};
use crate::change::{Change, Order};
use crate::dynamo::{Guard, Guarded};
use crate::fault::Fault;
use crate::item::{Attributes, Item};

fn guard() -> Guard {
    Guard { attribute: Guard::DEFAULT_ATTRIBUTE.to_owned() }
}

/// The change as the `sequence`th of a table's `stream`th stream.
fn ordered(change: Change, stream: u32, sequence: &str) -> Change {
    of_table("0badcafe", change, stream, sequence)
}

fn of_table(table: &str, change: Change, stream: u32, sequence: &str) -> Change {
    let stream = format!("{table}/2026-11-{stream:02}T00:00:00.000").into();
    Change {
        order: Some(Order { stream, sequence: sequence.parse().expect("a number"), seen: false }),
        ..change
    }
}

async fn write(subject: &Subject, table: &str, change: Change) -> bool {
    let written: Guarded =
        subject.tables.write_guarded(table, &change, &guard()).await.expect("it is answered");
    written.is_stale
}

/// The item under `a` without its mark, and whether it has one.
async fn there(subject: &Subject, table: &str) -> Option<(Attributes, bool)> {
    let fetched = subject.tables.fetch(table, &[key("a")]).await.expect("it is read");
    let item: Item = fetched.items.into_iter().next().expect("an answer")?;
    let mut attributes = item.attributes().expect("an item");
    let has_mark = attributes.remove(Guard::DEFAULT_ATTRIBUTE).is_some();
    Some((attributes, has_mark))
}

pub(super) async fn a_guarded_item_never_goes_back(subject: &Subject) -> Outcome {
    let table = subject.table().await;
    // As text, `9` would be the greatest.
    for (version, stream, sequence, stale) in [
        (1, 1, "9", false),
        (2, 1, "10", false),
        (3, 1, "9", true),
        (4, 1, "10", true),
        (5, 2, "1", false),
        (6, 1, "11", true),
    ] {
        let change = ordered(put("a", version), stream, sequence);
        assert_eq!(write(subject, &table, change).await, stale, "version {version}");
    }
    assert_eq!(there(subject, &table).await, Some((row("a", 5), true)));
    Ok(())
}

pub(super) async fn a_guarded_delete_is_ordered_too_and_leaves_nothing_behind(subject: &Subject) -> Outcome {
    let table = subject.table().await;
    assert!(!write(subject, &table, ordered(delete("a"), 1, "4")).await, "nothing is there to be newer");
    assert!(!write(subject, &table, ordered(put("a", 1), 1, "5")).await);
    assert!(write(subject, &table, ordered(delete("a"), 1, "4")).await);
    assert!(write(subject, &table, ordered(delete("a"), 1, "5")).await);
    assert!(!write(subject, &table, ordered(delete("a"), 1, "6")).await);
    assert_eq!(there(subject, &table).await, None);
    // Nothing remembers the delete.
    assert!(!write(subject, &table, ordered(put("a", 1), 1, "5")).await);
    assert_eq!(there(subject, &table).await, Some((row("a", 1), true)));
    Ok(())
}

pub(super) async fn what_has_no_mark_is_older_than_anything(subject: &Subject) -> Outcome {
    let table = subject.table().await;
    subject.write(&table, put("a", 1)).await;
    assert!(!write(subject, &table, put("a", 2)).await, "neither has a mark");
    assert_eq!(there(subject, &table).await, Some((row("a", 2), false)));
    assert!(!write(subject, &table, ordered(put("a", 3), 1, "1")).await);
    assert!(write(subject, &table, put("a", 4)).await);
    assert!(write(subject, &table, delete("a")).await);
    assert_eq!(there(subject, &table).await, Some((row("a", 3), true)));
    let bad = Change { op: crate::change::Op::Put(Item::from_json("{}".into())), ..put("a", 1) };
    let refused = subject.tables.write_guarded(&table, &ordered(bad, 1, "7"), &guard()).await;
    assert_eq!(refused.expect_err("it has no key").fault, Fault::Invalid);
    Ok(())
}

pub(super) async fn a_repair_is_written_while_the_mark_that_was_seen_is_there(subject: &Subject) -> Outcome {
    let table = subject.table().await;
    let seen = |change: Change, sequence: &str| {
        let change = ordered(change, 1, sequence);
        Change { order: change.order.map(|order| Order { seen: true, ..order }), ..change }
    };
    assert!(write(subject, &table, seen(put("a", 1), "5")).await, "nothing is there any more");
    assert!(!write(subject, &table, ordered(put("a", 2), 1, "5")).await);
    for other in ["4", "6"] {
        assert!(write(subject, &table, seen(put("a", 3), other)).await, "another mark is there than {other}");
        assert!(write(subject, &table, seen(delete("a"), other)).await);
    }
    assert!(!write(subject, &table, seen(put("a", 4), "5")).await);
    assert_eq!(there(subject, &table).await, Some((row("a", 4), true)));
    assert!(write(subject, &table, ordered(put("a", 5), 1, "5")).await, "the mark is kept");
    assert!(!write(subject, &table, seen(delete("a"), "5")).await);
    assert_eq!(there(subject, &table).await, None);
    Ok(())
}

pub(super) async fn marks_of_another_source_do_not_count(subject: &Subject) -> Outcome {
    let table = subject.table().await;
    for (source, version) in [("bbbbbbbb", 1), ("aaaaaaaa", 2), ("bbbbbbbb", 3)] {
        let change = of_table(source, put("a", version), 1, "5");
        assert!(!write(subject, &table, change).await, "the mark of version {version} was compared");
    }
    assert!(!write(subject, &table, of_table("aaaaaaaa", delete("a"), 1, "1")).await);
    assert_eq!(there(subject, &table).await, None);
    Ok(())
}
