//! What a failed call proves, and what it does not.

use std::time::Duration;

use tokio::time::sleep;

use super::Outcome as Tried;
use super::means::Wanted;
use super::subject::{Subject, key, put, row};
use crate::dynamo::{Condition, Outcome};
use crate::fault::{Fault, Width};
use crate::item::Value;
use crate::simulation::model::Operation;

async fn count(subject: &Subject, table: &str, sort: &str) -> Option<i64> {
    let fetched = subject.tables.fetch(table, &[key(sort)]).await.expect("it is read");
    let item = fetched.items.into_iter().next().expect("an answer")?;
    item.attributes().expect("an item")["count"].as_i64()
}

async fn until(subject: &Subject, table: &str, sort: &str, expected: i64) {
    for _ in 0..400 {
        if count(subject, table, sort).await == Some(expected) {
            return;
        }
        sleep(Duration::from_millis(20)).await;
    }
    panic!("{sort} never became {expected}");
}

pub(super) async fn unprocessed_changes_are_not_applied_and_the_others_are(subject: &Subject) -> Tried {
    let table = subject.table().await;
    let batch: Vec<_> = (0..25).map(|index| put(&format!("k{index:02}"), index)).collect();
    subject.trouble(Operation::BatchWriteItem, Wanted::Unprocessed)?;
    let written = subject.tables.write(&table, &batch).await.expect("some of it is written");
    assert!(!written.unprocessed.is_empty() && written.unprocessed.len() < 25, "{written:?}");
    for index in 0..25 {
        let there = count(subject, &table, &format!("k{index:02}")).await;
        let left_out = written.unprocessed.contains(&index);
        assert_eq!(there, (!left_out).then_some(index as i64), "change {index}");
    }
    Ok(())
}

pub(super) async fn a_throttle_tells_its_width_and_applies_nothing(subject: &Subject) -> Tried {
    let table = subject.table().await;
    for width in [Width::KeyRange, Width::Table, Width::Index, Width::Account] {
        subject.trouble(Operation::BatchWriteItem, Wanted::Throttled(width))?;
        let refused = subject.tables.write(&table, &[put("a", 1)]).await;
        let error = refused.expect_err("it is throttled");
        assert_eq!(error.fault, Fault::Throttled(width));
        assert_eq!(error.reasons.len(), 1);
        assert_eq!(count(subject, &table, "a").await, None);
    }
    Ok(())
}

pub(super) async fn a_lost_answer_may_have_been_a_success(subject: &Subject) -> Tried {
    let table = subject.table().await;
    subject.trouble(Operation::BatchWriteItem, Wanted::AnswerLost)?;
    let lost = subject.tables.write(&table, &[put("a", 1)]).await;
    assert_eq!(lost.expect_err("the answer is lost").fault, Fault::Unanswered);
    until(subject, &table, "a", 1).await;
    Ok(())
}

pub(super) async fn a_lost_conditional_write_is_found_by_its_repetition(subject: &Subject) -> Tried {
    let table = subject.table().await;
    subject.trouble(Operation::PutItem, Wanted::AnswerLost)?;
    let lost = subject.tables.put(&table, &row("a", 1), &Condition::Absent).await;
    assert_eq!(lost.expect_err("the answer is lost").fault, Fault::Unanswered);
    until(subject, &table, "a", 1).await;
    let again = subject.tables.put(&table, &row("a", 1), &Condition::Absent).await.expect("an outcome");
    assert_eq!(again, Outcome::Refused(Some(row("a", 1))));
    let counter = Condition::Equals { attribute: "count", value: Value::integer(1) };
    let next = subject.tables.put(&table, &row("a", 2), &counter).await.expect("an outcome");
    assert_eq!(next, Outcome::Done);
    Ok(())
}

/// Longer than any caller of this suite waits.
const LATE: Duration = Duration::from_millis(2_500);

pub(super) async fn a_late_write_lands_over_a_newer_one(subject: &Subject) -> Tried {
    let table = subject.table().await;
    subject.trouble(Operation::BatchWriteItem, Wanted::Late(LATE))?;
    let late = subject.tables.write(&table, &[put("a", 1)]).await;
    assert_eq!(late.expect_err("no answer comes").fault, Fault::Unanswered);
    subject.write(&table, put("a", 2)).await;
    assert_eq!(count(subject, &table, "a").await, Some(2));
    until(subject, &table, "a", 1).await;
    Ok(())
}
