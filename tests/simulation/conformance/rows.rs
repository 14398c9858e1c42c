//! Single rows under conditions, and a partition's rows in order.

use super::Outcome as Tried;
use super::subject::{Subject, row, row_key};
use crate::dynamo::{Condition, Outcome, Rows};
use crate::item::{Attributes, Item, Value};

fn counts(count: i64) -> Condition {
    Condition::Equals { attribute: "count", value: Value::integer(count) }
}

async fn put(subject: &Subject, table: &str, row: &Attributes, condition: &Condition) -> Outcome {
    subject.tables.put(table, row, condition).await.expect("an outcome")
}

async fn filled(subject: &Subject, sorts: &[&str]) -> String {
    let table = subject.table().await;
    for (index, sort) in sorts.iter().enumerate() {
        let done = put(subject, &table, &row(sort, index as i64), &Condition::Absent).await;
        assert_eq!(done, Outcome::Done);
    }
    table
}

/// All rows of partition `p`, page by page.
async fn all(subject: &Subject, table: &str, prefix: &str, mut after: Option<Item>) -> Vec<String> {
    let mut sorts = Vec::new();
    loop {
        let page: Rows = subject.tables.query(table, "p", prefix, after.as_ref()).await.expect("a page");
        sorts.extend(page.rows.iter().map(|row| {
            let row = row.attributes().expect("a row");
            row["sk"].as_str().expect("a text").to_owned()
        }));
        after = page.next;
        if after.is_none() {
            return sorts;
        }
    }
}

pub(super) async fn a_condition_that_fails_shows_the_row(subject: &Subject) -> Tried {
    let table = subject.table().await;
    let nothing = put(subject, &table, &row("a", 1), &counts(0)).await;
    assert_eq!(nothing, Outcome::Refused(None));
    assert_eq!(put(subject, &table, &row("a", 1), &Condition::Absent).await, Outcome::Done);
    let refused = put(subject, &table, &row("a", 2), &Condition::Absent).await;
    assert_eq!(refused, Outcome::Refused(Some(row("a", 1))));
    assert_eq!(put(subject, &table, &row("a", 2), &counts(1)).await, Outcome::Done);
    let refused = put(subject, &table, &row("a", 3), &counts(1)).await;
    assert_eq!(refused, Outcome::Refused(Some(row("a", 2))));
    assert_eq!(put(subject, &table, &row("a", 9), &Condition::Always).await, Outcome::Done);
    // A row without the attribute does not have the value.
    let without = row_key("b").attributes();
    assert_eq!(put(subject, &table, &without, &Condition::Always).await, Outcome::Done);
    assert_eq!(put(subject, &table, &row("b", 0), &counts(0)).await, Outcome::Refused(Some(without)));
    Ok(())
}

pub(super) async fn a_deletion_has_conditions_too(subject: &Subject) -> Tried {
    let table = filled(subject, &["a"]).await;
    let delete = async |condition: &Condition| {
        subject.tables.delete(&table, &row_key("a"), condition).await.expect("an outcome")
    };
    assert_eq!(delete(&counts(7)).await, Outcome::Refused(Some(row("a", 0))));
    assert_eq!(delete(&Condition::Absent).await, Outcome::Refused(Some(row("a", 0))));
    assert_eq!(delete(&counts(0)).await, Outcome::Done);
    assert_eq!(delete(&counts(0)).await, Outcome::Refused(None));
    assert_eq!(delete(&Condition::Always).await, Outcome::Done);
    assert!(all(subject, &table, "", None).await.is_empty());
    Ok(())
}

pub(super) async fn conditions_compare_values_and_not_spellings(subject: &Subject) -> Tried {
    let table = subject.table().await;
    let spelled = r#"{"pk":{"S":"p"},"sk":{"S":"a"},"count":{"N":"100"},"text":{"S":"\u00e9\n"}}"#;
    let change = crate::change::Change {
        key: super::subject::key("a"),
        op: crate::change::Op::Put(Item::from_json(spelled.into())),
        created_unix_ms: 0,
        order: None,
    };
    subject.write(&table, change).await;
    let text = Condition::Equals { attribute: "text", value: Value::from("é\n") };
    for condition in [counts(100), text] {
        let mut row = row("a", 100);
        row.insert("text".to_owned(), Value::from("é\n"));
        assert_eq!(put(subject, &table, &row, &condition).await, Outcome::Done);
    }
    // A number is no text.
    let other = Condition::Equals { attribute: "count", value: Value::from("100") };
    assert!(matches!(put(subject, &table, &row("a", 1), &other).await, Outcome::Refused(Some(_))));
    Ok(())
}

pub(super) async fn rows_come_in_the_order_of_their_sort_keys(subject: &Subject) -> Tried {
    // By the bytes of their UTF-8, whatever JSON makes of them.
    let mut sorts = ["a", "a!", "a\"", "a#b", "a\\", "aa", "A", "é", "z", "\u{1F980}", "0", "10", "9"];
    let table = filled(subject, &sorts).await;
    sorts.sort_unstable();
    assert_eq!(all(subject, &table, "", None).await, sorts);
    let other = subject.tables.query(&table, "another", "", None).await.expect("a page");
    assert!(other.rows.is_empty() && other.next.is_none());
    Ok(())
}

pub(super) async fn a_prefix_takes_what_starts_with_it(subject: &Subject) -> Tried {
    let table = filled(subject, &["shard/1", "shard/2", "shard", "shard0", "replica/a", "shard/"]).await;
    assert_eq!(all(subject, &table, "shard/", None).await, ["shard/", "shard/1", "shard/2"]);
    assert_eq!(all(subject, &table, "replica/", None).await, ["replica/a"]);
    assert!(all(subject, &table, "nothing", None).await.is_empty());
    Ok(())
}

pub(super) async fn a_page_goes_on_after_any_key(subject: &Subject) -> Tried {
    let names: Vec<String> = (0..40).map(|index| format!("k/{index:02}")).collect();
    let table = filled(subject, &names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    assert_eq!(all(subject, &table, "k/", None).await, names);
    // One that is there, one that is not, and the last.
    for (after, rest) in [("k/09", 10), ("k/09x", 10), ("k/39", 40)] {
        let after = Item::from_attributes(&row_key(after).attributes());
        assert_eq!(all(subject, &table, "k/", Some(after)).await, names[rest..]);
    }
    Ok(())
}
