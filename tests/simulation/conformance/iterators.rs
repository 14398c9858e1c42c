//! Where reading can start, and where it cannot.

use super::Outcome;
use super::subject::{Streamed, Subject, numbers, put, told};
use crate::dynamo::{Describe, Page, StreamArn};
use crate::fault::Fault;
use crate::shard::{Position, ShardId};

async fn written(subject: &Subject, count: i64) -> (Streamed, ShardId) {
    let streamed = subject.streamed().await;
    for count in 0..count {
        subject.write(&streamed.table, put("a", count)).await;
    }
    let shard = subject.only_shard(&streamed.arn).await;
    (streamed, shard)
}

pub(super) async fn a_number_is_read_after_and_not_at(subject: &Subject) -> Outcome {
    let (streamed, shard) = written(subject, 6).await;
    let all = numbers(&subject.drain(&streamed.arn, &shard, &Position::TrimHorizon).await.records);
    assert_eq!(all.len(), 6);
    for (index, number) in all.iter().enumerate() {
        let behind = subject.drain(&streamed.arn, &shard, &Position::After(*number)).await.records;
        assert_eq!(numbers(&behind), all[index + 1..]);
    }
    Ok(())
}

pub(super) async fn the_latest_position_is_behind_what_is_there(subject: &Subject) -> Outcome {
    let (streamed, shard) = written(subject, 3).await;
    let latest = Position::Latest { since_unix_ms: 0 };
    let mut iterator = subject.streams.iterator(&streamed.arn, &shard, &latest).await.expect("an iterator");
    subject.write(&streamed.table, put("a", 10)).await;
    subject.write(&streamed.table, put("a", 11)).await;
    let mut counts = Vec::new();
    for _ in 0..100 {
        let page = subject.streams.records(&iterator, 1000).await.expect("a page");
        counts.extend(page.records.iter().filter_map(|record| told(record).1));
        iterator = page.next.expect("the shard is open");
        if counts.len() >= 2 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(counts, [10, 11]);
    Ok(())
}

pub(super) async fn a_time_is_read_from_or_refused(subject: &Subject) -> Outcome {
    let (streamed, shard) = written(subject, 3).await;
    let all = subject.drain(&streamed.arn, &shard, &Position::TrimHorizon).await.records;
    let first = all[0].created_unix_ms;
    let at = |unix_ms| Position::At { unix_ms };
    let long_ago = subject.streams.iterator(&streamed.arn, &shard, &at(first - 3_600_000)).await;
    match long_ago {
        Err(error) => {
            assert_eq!(error.fault, Fault::Invalid);
            Ok(())
        }
        Ok(_) => {
            // Times are whole seconds: the rest of a second has begun before its records say so.
            for unix_ms in [first - 3_600_000, first, first + 1] {
                let found = subject.drain(&streamed.arn, &shard, &at(unix_ms)).await.records;
                let expected = all.iter().filter(|record| record.created_unix_ms >= unix_ms).count();
                assert_eq!(found.len(), expected, "from {unix_ms}");
            }
            let future = at(first + 7 * 86_400_000);
            let refused = subject.streams.iterator(&streamed.arn, &shard, &future).await;
            assert_eq!(refused.expect_err("the future is refused").fault, Fault::Invalid);
            Ok(())
        }
    }
}

pub(super) async fn an_iterator_can_be_used_again(subject: &Subject) -> Outcome {
    let (streamed, shard) = written(subject, 5).await;
    let start = Position::TrimHorizon;
    let iterator = subject.streams.iterator(&streamed.arn, &shard, &start).await.expect("an iterator");
    let first = |page: Page| page.records.first().map(|record| record.sequence);
    let mut seen = Vec::new();
    for _ in 0..40 {
        let page = subject.streams.records(&iterator, 2).await.expect("a page");
        seen.extend(first(page));
    }
    assert!(seen.len() > 1, "hardly a page holds a record");
    assert!(seen.windows(2).all(|pair| pair[0] == pair[1]), "{seen:?}");
    Ok(())
}

pub(super) async fn what_is_not_there_is_missing(subject: &Subject) -> Outcome {
    let (streamed, shard) = written(subject, 1).await;
    let other = StreamArn::from(streamed.arn.as_str().replace("-table-", "-nothing-").as_str());
    let listed = subject.streams.describe(&other, &Describe::default()).await;
    assert_eq!(listed.expect_err("there is no such stream").fault, Fault::Missing);
    let start = Position::TrimHorizon;
    let unknown = ShardId::from("shardId-99999999999999999999-99999999");
    for (arn, shard) in [(&other, &shard), (&streamed.arn, &unknown)] {
        let found = subject.streams.iterator(arn, shard, &start).await;
        assert_eq!(found.expect_err("there is no such shard").fault, Fault::Missing);
    }
    Ok(())
}

pub(super) async fn a_position_behind_the_end_is_refused(subject: &Subject) -> Outcome {
    let (streamed, shard) = written(subject, 1).await;
    let found = subject.streams.iterator(&streamed.arn, &shard, &Position::End).await;
    assert_eq!(found.expect_err("nothing is there").fault, Fault::Invalid);
    Ok(())
}

pub(super) async fn an_expired_iterator_says_so(subject: &Subject) -> Outcome {
    let (streamed, shard) = written(subject, 2).await;
    let start = Position::TrimHorizon;
    let iterator = subject.streams.iterator(&streamed.arn, &shard, &start).await.expect("an iterator");
    subject.expire_iterators()?;
    let read = subject.streams.records(&iterator, 10).await;
    assert_eq!(read.expect_err("it expired").fault, Fault::ExpiredIterator);
    assert_eq!(subject.drain(&streamed.arn, &shard, &start).await.records.len(), 2);
    Ok(())
}

pub(super) async fn a_trimmed_position_is_refused_and_the_horizon_is_not(subject: &Subject) -> Outcome {
    let (streamed, shard) = written(subject, 4).await;
    let start = Position::TrimHorizon;
    let held = subject.streams.iterator(&streamed.arn, &shard, &start).await.expect("an iterator");
    let all = numbers(&subject.drain(&streamed.arn, &shard, &start).await.records);
    subject.trim(&streamed.table).await?;
    subject.write(&streamed.table, put("a", 100)).await;
    let read = subject.streams.records(&held, 10).await;
    assert_eq!(read.expect_err("it was trimmed meanwhile").fault, Fault::Trimmed);
    // Whether it is told when the iterator is asked for, or when it is read from, differs between servers.
    let found = subject.streams.iterator(&streamed.arn, &shard, &Position::After(all[1])).await;
    let fault = match found {
        Err(error) => error.fault,
        Ok(iterator) => subject.streams.records(&iterator, 10).await.expect_err("it is trimmed").fault,
    };
    assert_eq!(fault, Fault::Trimmed);
    let left = subject.drain(&streamed.arn, &shard, &start).await.records;
    assert_eq!(left.iter().map(told).collect::<Vec<_>>(), [("a".to_owned(), Some(100))]);
    Ok(())
}
