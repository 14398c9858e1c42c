//! Reads and writes of many items.

use std::collections::BTreeMap;

use super::Outcome;
use super::subject::{Subject, delete, key, put, row};
use crate::change::Op;
use crate::dynamo::{Scan, WRITE_ITEMS_MAX};
use crate::fault::Fault;
use crate::item::{Attributes, Item, Value};

async fn rows(subject: &Subject, table: &str) -> BTreeMap<String, Attributes> {
    segment(subject, table, (0, 1)).await
}

async fn segment(subject: &Subject, table: &str, segment: (u32, u32)) -> BTreeMap<String, Attributes> {
    let mut found = BTreeMap::new();
    let mut after = None;
    loop {
        let (segment, segments) = segment;
        let scan = Scan { segment, segments, after: after.as_ref(), ..Scan::whole() };
        let page = subject.tables.scan(table, scan).await.expect("a page");
        for row in page.items {
            let row = row.attributes().expect("a row");
            let sort = row["sk"].as_str().expect("a text").to_owned();
            assert!(found.insert(sort.clone(), row).is_none(), "{sort} was found twice");
        }
        after = page.next;
        if after.is_none() {
            return found;
        }
    }
}

pub(super) async fn a_batch_takes_twenty_five_and_not_one_more(subject: &Subject) -> Outcome {
    let table = subject.table().await;
    let batch: Vec<_> = (0..=WRITE_ITEMS_MAX).map(|index| put(&format!("k{index:02}"), 1)).collect();
    let refused = subject.tables.write(&table, &batch).await;
    assert_eq!(refused.expect_err("there are 26").fault, Fault::Invalid);
    assert!(rows(subject, &table).await.is_empty());
    let written = subject.tables.write(&table, &batch[..WRITE_ITEMS_MAX]).await.expect("there are 25");
    assert!(written.unprocessed.is_empty());
    assert_eq!(rows(subject, &table).await.len(), WRITE_ITEMS_MAX);
    let nothing = subject.tables.write(&table, &[]).await.expect("nothing is done");
    assert!(nothing.unprocessed.is_empty());
    Ok(())
}

pub(super) async fn a_key_stands_in_a_batch_once(subject: &Subject) -> Outcome {
    let table = subject.table().await;
    for pair in [[put("a", 1), put("a", 2)], [put("a", 1), delete("a")]] {
        let [first, second] = pair;
        let refused = subject.tables.write(&table, &[first, put("b", 1), second]).await;
        assert_eq!(refused.expect_err("a key stands there twice").fault, Fault::Invalid);
    }
    assert!(rows(subject, &table).await.is_empty());
    Ok(())
}

pub(super) async fn one_bad_item_refuses_all(subject: &Subject) -> Outcome {
    let table = subject.table().await;
    let mut keyless = put("bad", 1);
    keyless.op = Op::Put(Item::from_json(r#"{"pk":{"S":"p"}}"#.into()));
    let mut large = put("bad", 1);
    let mut attributes = row("bad", 1);
    attributes.insert("text".to_owned(), Value::from("x".repeat(401 * 1024)));
    large.op = Op::Put(Item::from_attributes(&attributes));
    for bad in [keyless, large] {
        let refused = subject.tables.write(&table, &[put("a", 1), bad, put("b", 1)]).await;
        assert_eq!(refused.expect_err("one is bad").fault, Fault::Invalid);
    }
    assert!(rows(subject, &table).await.is_empty());
    Ok(())
}

pub(super) async fn deleting_what_is_not_there_is_done(subject: &Subject) -> Outcome {
    let table = subject.table().await;
    subject.write(&table, put("a", 1)).await;
    let batch = [delete("a"), delete("b"), put("c", 1)];
    let written = subject.tables.write(&table, &batch).await.expect("it is written");
    assert!(written.unprocessed.is_empty());
    assert_eq!(rows(subject, &table).await.into_keys().collect::<Vec<_>>(), ["c"]);
    Ok(())
}

pub(super) async fn fetched_items_stand_in_the_order_asked_for(subject: &Subject) -> Outcome {
    let table = subject.table().await;
    for (sort, count) in [("a", 1), ("b", 2), ("c", 3)] {
        subject.write(&table, put(sort, count)).await;
    }
    let keys = ["c", "nothing", "a"].map(key);
    let fetched = subject.tables.fetch(&table, &keys).await.expect("they are read");
    assert!(fetched.unprocessed.is_empty());
    let counts = fetched.items.iter().map(|item| {
        let attributes = item.as_ref()?.attributes().expect("an item");
        attributes["count"].as_i64()
    });
    assert_eq!(counts.collect::<Vec<_>>(), [Some(3), None, Some(1)]);
    let nothing = subject.tables.fetch(&table, &[]).await.expect("nothing is read");
    assert!(nothing.items.is_empty() && nothing.unprocessed.is_empty());
    Ok(())
}

pub(super) async fn scanned_segments_hold_every_item_once(subject: &Subject) -> Outcome {
    let table = subject.table().await;
    for start in [0, 25] {
        let batch: Vec<_> = (start..start + 25).map(|index| put(&format!("k{index:02}"), index)).collect();
        subject.tables.write(&table, &batch).await.expect("it is written");
    }
    assert_eq!(rows(subject, &table).await.len(), 50);
    let mut found = BTreeMap::new();
    for index in 0..4 {
        for (sort, row) in segment(subject, &table, (index, 4)).await {
            assert!(found.insert(sort.clone(), row).is_none(), "{sort} is in two segments");
        }
    }
    assert_eq!(found.len(), 50);
    assert_eq!(found["k07"], row("k07", 7));
    Ok(())
}

pub(super) async fn a_missing_table_is_missing(subject: &Subject) -> Outcome {
    let table = format!("{}-nothing", subject.prefix);
    let always = crate::dynamo::Condition::Always;
    let tables = &subject.tables;
    let faults = [
        tables.describe(&table).await.map(drop).expect_err("nothing is there").fault,
        tables.write(&table, &[put("a", 1)]).await.map(drop).expect_err("nothing is there").fault,
        tables.fetch(&table, &[key("a")]).await.map(drop).expect_err("nothing is there").fault,
        tables.scan(&table, Scan::whole()).await.map(drop).expect_err("nothing is there").fault,
        tables.put(&table, &row("a", 1), &always).await.map(drop).expect_err("nothing is there").fault,
        tables.query(&table, "p", "", None).await.map(drop).expect_err("nothing is there").fault,
    ];
    assert_eq!(faults, [Fault::Missing; 6]);
    Ok(())
}

pub(super) async fn a_table_tells_its_keys_and_its_stream(subject: &Subject) -> Outcome {
    let table = subject.table().await;
    subject.tables.create(&table).await.expect("it is left as it is");
    let described = subject.tables.describe(&table).await.expect("a table");
    let names: Vec<_> = described.key.iter().map(|key| (&*key.name, &*key.kind)).collect();
    assert_eq!(names, [("pk", "S"), ("sk", "S")]);
    assert!(described.usable && described.stream.is_none());
    subject.tables.enable_stream(&table).await.expect("it has a stream");
    let first = subject.tables.describe(&table).await.expect("a table").stream.expect("a stream");
    assert!(first.enabled && first.view == crate::record::View::NewAndOldImages);
    subject.tables.enable_stream(&table).await.expect("it still has");
    let again = subject.tables.describe(&table).await.expect("a table").stream.expect("a stream");
    assert_eq!(again, first);
    Ok(())
}

pub(super) async fn an_arn_is_as_good_as_a_name(subject: &Subject) -> Outcome {
    let table = subject.table().await;
    let arn = subject.tables.describe(&table).await.expect("a table").arn;
    subject.write(&arn, put("a", 1)).await;
    assert_eq!(rows(subject, &table).await.into_keys().collect::<Vec<_>>(), ["a"]);
    assert_eq!(subject.tables.describe(&arn).await.expect("a table").arn, arn);
    Ok(())
}
