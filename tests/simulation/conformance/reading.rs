//! What a shard's records are, and how they come.

use super::Outcome;
use super::subject::{Subject, delete, key, numbers, put, told};
use crate::record::Kind;
use crate::shard::Position;

pub(super) async fn records_come_in_order_with_whole_images(subject: &Subject) -> Outcome {
    let streamed = subject.streamed().await;
    for change in [put("a", 1), put("b", 1), put("a", 2), delete("a"), put("a", 3)] {
        subject.write(&streamed.table, change).await;
    }
    let records = subject.all(&streamed).await;
    let kinds: Vec<_> = records.iter().map(|record| record.kind).collect();
    assert_eq!(kinds, [Kind::Insert, Kind::Insert, Kind::Modify, Kind::Remove, Kind::Insert]);
    let told: Vec<_> = records.iter().map(told).collect();
    let expected = [("a", Some(1)), ("b", Some(1)), ("a", Some(2)), ("a", None), ("a", Some(3))];
    assert_eq!(told, expected.map(|(key, count)| (key.to_owned(), count)));
    assert_eq!(records[0].key, key("a"));
    assert!(records.iter().all(|record| !record.by_ttl));
    Ok(())
}

pub(super) async fn a_change_that_changes_nothing_makes_no_record(subject: &Subject) -> Outcome {
    let streamed = subject.streamed().await;
    for change in [put("a", 1), put("a", 1), delete("nothing"), put("a", 2), delete("a"), delete("a")] {
        subject.write(&streamed.table, change).await;
    }
    let told: Vec<_> = subject.all(&streamed).await.iter().map(told).collect();
    let expected = [("a", Some(1)), ("a", Some(2)), ("a", None)];
    assert_eq!(told, expected.map(|(key, count)| (key.to_owned(), count)));
    Ok(())
}

pub(super) async fn pages_keep_their_limit_and_lose_nothing(subject: &Subject) -> Outcome {
    let streamed = subject.streamed().await;
    for count in 0..30 {
        subject.write(&streamed.table, put("a", count)).await;
    }
    let shard = subject.only_shard(&streamed.arn).await;
    let start = Position::TrimHorizon;
    let drained = subject
        .drain_pages(&streamed.arn, &shard, &start, 7, |page| {
            assert!(page.records.len() <= 7, "a page of {} records", page.records.len());
            assert!(page.bytes > 0 || page.records.is_empty());
        })
        .await;
    let counts: Vec<_> = drained.records.iter().map(|record| told(record).1.expect("an image")).collect();
    assert_eq!(counts, (0..30).collect::<Vec<i64>>());
    Ok(())
}

pub(super) async fn numbers_grow_as_numbers(subject: &Subject) -> Outcome {
    let streamed = subject.streamed().await;
    for count in 0..100 {
        subject.write(&streamed.table, put(if count % 3 == 0 { "a" } else { "b" }, count)).await;
    }
    let numbers = numbers(&subject.all(&streamed).await);
    assert_eq!(numbers.len(), 100);
    assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]), "{numbers:?}");
    assert!(numbers.iter().all(|number| (21..=40).contains(&number.as_str().len())), "{numbers:?}");
    Ok(())
}

pub(super) async fn an_open_shard_never_ends(subject: &Subject) -> Outcome {
    let streamed = subject.streamed().await;
    subject.write(&streamed.table, put("a", 1)).await;
    let shard = subject.only_shard(&streamed.arn).await;
    assert!(!subject.drain(&streamed.arn, &shard, &Position::TrimHorizon).await.ended);
    let shards = subject.pass(&streamed.arn).await;
    assert!(shards.iter().all(|listed| !listed.closed && listed.parent.is_none()), "{shards:?}");
    Ok(())
}

pub(super) async fn times_are_whole_seconds_of_now(subject: &Subject) -> Outcome {
    let streamed = subject.streamed().await;
    for count in 0..3 {
        subject.write(&streamed.table, put("a", count)).await;
    }
    let times: Vec<_> = subject.all(&streamed).await.iter().map(|record| record.created_unix_ms).collect();
    assert!(times.is_sorted() && times.iter().all(|time| time % 1000 == 0 && *time > 0), "{times:?}");
    Ok(())
}
