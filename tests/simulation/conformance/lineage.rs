//! How shards end, and what follows them.

use std::collections::BTreeSet;

use super::Outcome;
use super::subject::{Streamed, Subject, numbers, put, told};
use crate::dynamo::Describe;
use crate::fault::Fault;
use crate::record::Record;
use crate::shard::{Position, Shard, ShardId};

const START: Position = Position::TrimHorizon;

/// A stream with one shard that holds some records, after `shape` was done to it and everything is listed.
async fn ended(subject: &Subject, children: usize) -> Result<(Streamed, Vec<Shard>), super::Skipped> {
    let streamed = subject.streamed().await;
    let root = subject.only_shard(&streamed.arn).await;
    for count in 0..10 {
        subject.write(&streamed.table, put(&format!("k{}", count % 4), count)).await;
    }
    match children {
        1 => subject.roll(&streamed.table).await?,
        _ => subject.split(&streamed.table).await?,
    }
    let listed = |shards: &[Shard]| {
        shards.len() == 1 + children && shards.iter().any(|shard| shard.id == root && shard.closed)
    };
    let shards = subject.shards(&streamed.arn, listed).await;
    Ok((streamed, shards))
}

fn children_of(shards: &[Shard], parent: Option<&ShardId>) -> Vec<ShardId> {
    let of = shards.iter().filter(|shard| shard.parent.as_ref() == parent);
    of.map(|shard| shard.id.clone()).collect()
}

pub(super) async fn children_follow_their_parent(subject: &Subject) -> Outcome {
    let (streamed, shards) = ended(subject, 2).await?;
    for count in 10..30 {
        subject.write(&streamed.table, put(&format!("k{}", count % 4), count)).await;
    }
    let [root] = &children_of(&shards, None)[..] else { panic!("one root: {shards:?}") };
    let parent = subject.drain(&streamed.arn, root, &START).await;
    assert!(parent.ended && parent.records.len() == 10);
    let children = children_of(&shards, Some(root));
    assert_eq!(children.len(), 2);
    let mut owners = BTreeSet::new();
    let mut all: Vec<Record> = parent.records;
    for child in &children {
        let drained = subject.drain(&streamed.arn, child, &START).await;
        assert!(!drained.ended, "a child that is open ended");
        let keys: BTreeSet<_> = drained.records.iter().map(|record| told(record).0).collect();
        for key in keys {
            assert!(owners.insert(key.clone()), "{key} is in both children");
        }
        all.extend(drained.records);
    }
    for key in ["k0", "k1", "k2", "k3"] {
        let of_key: Vec<_> = all.iter().filter(|record| told(record).0 == key).cloned().collect();
        let counts: Vec<_> = of_key.iter().filter_map(|record| told(record).1).collect();
        assert!(counts.is_sorted() && counts.len() >= 7, "{key}: {counts:?}");
        assert!(numbers(&of_key).is_sorted(), "{key}: numbers grow from parent to child");
    }
    let mut all = numbers(&all);
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), 30, "no number is given twice, no record is lost");
    Ok(())
}

pub(super) async fn a_closed_shard_ends_with_its_last_record(subject: &Subject) -> Outcome {
    let (streamed, shards) = ended(subject, 1).await?;
    let root = &children_of(&shards, None)[0];
    let drained = subject.drain_pages(&streamed.arn, root, &START, 3, |_| {}).await;
    assert!(drained.ended, "a closed shard has an end");
    assert_eq!(drained.records.len(), 10);
    let last = drained.records[9].sequence;
    let behind = subject.drain(&streamed.arn, root, &Position::After(last)).await;
    assert!(behind.ended && behind.records.is_empty(), "behind the last record is the end alone");
    let one = subject.drain(&streamed.arn, root, &Position::After(drained.records[8].sequence)).await;
    assert!(one.ended);
    assert_eq!(numbers(&one.records), [last]);
    Ok(())
}

pub(super) async fn a_closed_empty_shard_ends_at_once(subject: &Subject) -> Outcome {
    let (streamed, shards) = ended(subject, 1).await?;
    let middle = shards.iter().find(|shard| shard.parent.is_some()).expect("a child").id.clone();
    subject.roll(&streamed.table).await?;
    let closed =
        |shards: &[Shard]| shards.len() == 3 && shards.iter().any(|shard| shard.id == middle && shard.closed);
    subject.shards(&streamed.arn, closed).await;
    let drained = subject.drain(&streamed.arn, &middle, &START).await;
    assert!(drained.ended && drained.records.is_empty());
    Ok(())
}

pub(super) async fn children_are_found_by_their_parent(subject: &Subject) -> Outcome {
    let (streamed, shards) = ended(subject, 2).await?;
    let root = children_of(&shards, None).remove(0);
    let expected: BTreeSet<_> = children_of(&shards, Some(&root)).into_iter().collect();
    let mut found = BTreeSet::new();
    for _ in 0..50 {
        let mut what = Describe { after: None, children_of: Some(root.clone()) };
        loop {
            let listing = subject.list(&streamed.arn, &what).await;
            // An endpoint that does not know the filter lists all.
            let children = listing.shards.into_iter().filter(|shard| shard.parent.as_ref() == Some(&root));
            found.extend(children.map(|shard| shard.id));
            let Some(next) = listing.next else { break };
            what.after = Some(next);
        }
        if found == expected {
            return Ok(());
        }
    }
    panic!("only {found:?} of {expected:?} were found");
}

pub(super) async fn long_listings_have_pages(subject: &Subject) -> Outcome {
    let streamed = subject.streamed().await;
    // 1 + 2 + 4 + … + 128 shards.
    for _ in 0..7 {
        subject.split(&streamed.table).await?;
    }
    let mut names: BTreeSet<ShardId> = BTreeSet::new();
    let mut longest = 0;
    let mut pages = 0;
    for _ in 0..50 {
        let mut what = Describe::default();
        loop {
            let listing = subject.list(&streamed.arn, &what).await;
            longest = longest.max(listing.shards.len());
            pages += 1;
            names.extend(listing.shards.into_iter().map(|shard| shard.id));
            let Some(next) = listing.next else { break };
            what.after = Some(next);
        }
        if names.len() == 255 {
            break;
        }
    }
    assert_eq!(names.len(), 255);
    assert!(longest <= 100 && pages >= 3, "{pages} pages with up to {longest} shards");
    Ok(())
}

pub(super) async fn a_vanished_shard_is_missing(subject: &Subject) -> Outcome {
    let (streamed, shards) = ended(subject, 1).await?;
    let root = children_of(&shards, None).remove(0);
    let held = subject.streams.iterator(&streamed.arn, &root, &START).await.expect("an iterator");
    subject.forget(&streamed.table, &root).await?;
    let found = subject.streams.iterator(&streamed.arn, &root, &START).await;
    assert_eq!(found.expect_err("it is gone").fault, Fault::Missing);
    let read = subject.streams.records(&held, 10).await;
    assert_eq!(read.expect_err("it is gone").fault, Fault::Missing);
    let left = subject.shards(&streamed.arn, |shards| shards.len() == 1).await;
    assert!(left[0].parent.as_ref() == Some(&root) && left[0].id != root, "{left:?}");
    Ok(())
}

pub(super) async fn a_replaced_stream_ends_and_stays_readable(subject: &Subject) -> Outcome {
    let streamed = subject.streamed().await;
    let shard = subject.only_shard(&streamed.arn).await;
    subject.write(&streamed.table, put("a", 1)).await;
    subject.replace_stream(&streamed.table).await?;
    subject.write(&streamed.table, put("a", 2)).await;
    let described = subject.tables.describe(&streamed.table).await.expect("a table");
    let new = described.stream.expect("a stream");
    assert!(new.enabled && new.arn != streamed.arn);
    let closed = |shards: &[Shard]| shards.len() == 1 && shards[0].closed;
    subject.shards(&streamed.arn, closed).await;
    assert!(!subject.list(&streamed.arn, &Describe::default()).await.enabled);
    let old = subject.drain(&streamed.arn, &shard, &START).await;
    assert!(old.ended, "its shards are closed");
    assert_eq!(old.records.iter().map(told).collect::<Vec<_>>(), [("a".to_owned(), Some(1))]);
    let new = Streamed { table: streamed.table, arn: new.arn };
    let records = subject.all(&new).await;
    assert_eq!(records.iter().map(told).collect::<Vec<_>>(), [("a".to_owned(), Some(2))]);
    Ok(())
}
