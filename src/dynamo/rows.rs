//! Bodies of the calls about single rows and pages of them: `PutItem`, `DeleteItem`, `Query` and `Scan`.

use bytes::Bytes;

use super::answer::{self, Malformed, optional};
use super::batch::push_text;
use super::{Condition, RowKey, Rows, Scan, Scanned};
use crate::item::scan::Scanner;
use crate::item::{Attributes, Item, Value};

/// The request that writes `row`.
pub(super) fn put_body(table: &str, row: &Attributes, condition: &Condition) -> Vec<u8> {
    write_body(table, "Item", row, condition)
}

/// The request that deletes the row under `key`.
pub(super) fn delete_body(table: &str, key: &RowKey, condition: &Condition) -> Vec<u8> {
    write_body(table, "Key", &key.attributes(), condition)
}

/// The request for one page of a partition's rows.
pub(super) fn query_body(table: &str, partition: &str, prefix: &str, after: Option<&Item>) -> Vec<u8> {
    let mut values = Attributes::from([(":pk".to_owned(), Value::from(partition))]);
    let mut expression = "pk = :pk".to_owned();
    // The service refuses an empty prefix.
    if !prefix.is_empty() {
        values.insert(":sk".to_owned(), Value::from(prefix));
        expression.push_str(" AND begins_with(sk, :sk)");
    }
    let mut body = open(table);
    member("KeyConditionExpression", &mut body);
    push_text(&expression, &mut body);
    member("ExpressionAttributeValues", &mut body);
    body.extend_from_slice(Item::from_attributes(&values).as_bytes());
    close_read(body, after, true)
}

/// The request for one page of a table's items.
pub(super) fn scan_body(table: &str, scan: Scan<'_>) -> Vec<u8> {
    let mut body = open(table);
    let Scan { segment, segments, after, items_max, consistent } = scan;
    if segments > 1 {
        body.extend_from_slice(format!(r#","Segment":{segment},"TotalSegments":{segments}"#).as_bytes());
    }
    if let Some(items_max) = items_max {
        body.extend_from_slice(format!(r#","Limit":{items_max}"#).as_bytes());
    }
    body.extend_from_slice(br#","ReturnConsumedCapacity":"TOTAL""#);
    close_read(body, after, consistent)
}

/// The rows of a `Query` answer.
pub(super) fn read_rows(body: &Bytes) -> Result<Rows, Malformed> {
    let Scanned { items, next, .. } = read_scanned(body)?;
    Ok(Rows { rows: items, next })
}

/// The items of a `Scan` answer.
pub(super) fn read_scanned(body: &Bytes) -> Result<Scanned, Malformed> {
    let mut items = None;
    let mut next = None;
    let mut consumed_units = 0.0;
    Scanner::new(body).object::<Malformed>(|name, scanner| {
        match name {
            b"Items" => items = Some(answer::items(body, scanner)?),
            b"LastEvaluatedKey" => next = answer::item(body, scanner)?,
            b"ConsumedCapacity" => consumed_units = answer::consumed_units(scanner)?,
            _ => answer::skip(scanner)?,
        }
        Ok(())
    })?;
    // Without this an empty object would look like the end of the table.
    let items = items.ok_or(Malformed::Absent { at: 0, member: "Items" })?;
    let next = next.map(|range| Item::from_json(body.slice(range)));
    Ok(Scanned { items, next, bytes: body.len(), consumed_units })
}

/// The row that stood in the way, from the error that a failed condition is answered with.
pub(super) fn read_refused(body: &[u8]) -> Result<Option<Item>, Malformed> {
    let mut item = None;
    Scanner::new(body).object::<Malformed>(|name, scanner| {
        let range = optional(scanner)?;
        if name == b"Item" {
            item = range.map(|range| Item::from_json(Bytes::copy_from_slice(scanner.slice(range))));
        }
        Ok(())
    })?;
    Ok(item)
}

fn write_body(table: &str, what: &str, row: &Attributes, condition: &Condition) -> Vec<u8> {
    let mut body = open(table);
    member(what, &mut body);
    body.extend_from_slice(Item::from_attributes(row).as_bytes());
    match condition {
        Condition::Always => {}
        Condition::Absent => {
            member("ConditionExpression", &mut body);
            body.extend_from_slice(br#""attribute_not_exists(pk)""#);
        }
        Condition::Equals { attribute, value } => {
            member("ConditionExpression", &mut body);
            body.extend_from_slice(br##""#a = :v","ExpressionAttributeNames":{"#a":"##);
            push_text(attribute, &mut body);
            body.push(b'}');
            member("ExpressionAttributeValues", &mut body);
            let values = Attributes::from([(":v".to_owned(), value.clone())]);
            body.extend_from_slice(Item::from_attributes(&values).as_bytes());
        }
    }
    if *condition != Condition::Always {
        body.extend_from_slice(br#","ReturnValuesOnConditionCheckFailure":"ALL_OLD""#);
    }
    body.push(b'}');
    body
}

fn open(table: &str) -> Vec<u8> {
    let mut body = Vec::with_capacity(512);
    body.extend_from_slice(br#"{"TableName":"#);
    push_text(table, &mut body);
    body
}

fn member(name: &str, body: &mut Vec<u8>) {
    body.push(b',');
    push_text(name, body);
    body.push(b':');
}

fn close_read(mut body: Vec<u8>, after: Option<&Item>, consistent: bool) -> Vec<u8> {
    if let Some(after) = after {
        member("ExclusiveStartKey", &mut body);
        body.extend_from_slice(after.as_bytes());
    }
    body.extend_from_slice(format!(r#","ConsistentRead":{consistent}}}"#).as_bytes());
    body
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parsed(body: &[u8]) -> serde_json::Value {
        serde_json::from_slice(body).expect("the body is JSON")
    }

    fn row() -> Attributes {
        Attributes::from([("pk".to_owned(), Value::from("a\"b")), ("n".to_owned(), Value::integer(12))])
    }

    #[test]
    fn a_put_without_a_condition_is_just_the_row() {
        let body = put_body("t", &row(), &Condition::Always);
        let expected = json!({"TableName": "t", "Item": {"pk": {"S": "a\"b"}, "n": {"N": "12"}}});
        assert_eq!(parsed(&body), expected);
    }

    #[test]
    fn conditions_ask_for_the_row_in_the_way() {
        let body = put_body("t", &row(), &Condition::Absent);
        assert_eq!(parsed(&body)["ConditionExpression"], "attribute_not_exists(pk)");
        let condition = Condition::Equals { attribute: "counter", value: Value::integer(7) };
        let key = RowKey { partition: "p".to_owned(), sort: "s".to_owned() };
        let expected = json!({
            "TableName": "t",
            "Key": {"pk": {"S": "p"}, "sk": {"S": "s"}},
            "ConditionExpression": "#a = :v",
            "ExpressionAttributeNames": {"#a": "counter"},
            "ExpressionAttributeValues": {":v": {"N": "7"}},
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        });
        assert_eq!(parsed(&delete_body("t", &key, &condition)), expected);
    }

    #[test]
    fn reads_are_as_consistent_as_asked_and_go_on_where_they_stopped() {
        let after = Item::from_json(r#"{"pk":{"S":"x"}}"#.into());
        let expected = json!({
            "TableName": "t", "Segment": 1, "TotalSegments": 4, "Limit": 7,
            "ExclusiveStartKey": {"pk": {"S": "x"}}, "ConsistentRead": false, "ReturnConsumedCapacity": "TOTAL",
        });
        let scan =
            Scan { segment: 1, segments: 4, after: Some(&after), items_max: Some(7), consistent: false };
        assert_eq!(parsed(&scan_body("t", scan)), expected);
        let expected = json!({"TableName": "t", "ConsistentRead": true, "ReturnConsumedCapacity": "TOTAL"});
        assert_eq!(parsed(&scan_body("t", Scan::whole())), expected);
        let body = parsed(&query_body("t", "p", "lease#", None));
        assert_eq!(body["KeyConditionExpression"], "pk = :pk AND begins_with(sk, :sk)");
        assert_eq!(body["ExpressionAttributeValues"], json!({":pk": {"S": "p"}, ":sk": {"S": "lease#"}}));
        let body = parsed(&query_body("t", "p", "", None));
        assert_eq!(body["KeyConditionExpression"], "pk = :pk");
    }

    #[test]
    fn rows_are_slices_of_the_answer() {
        let body = Bytes::from_static(
            br#"{"Count":1,"Items":[ {"pk":{"S":"x"}} ],"LastEvaluatedKey":{"pk":{"S":"x"}}}"#,
        );
        let rows = read_rows(&body).expect("an answer");
        assert_eq!(rows.rows[0].as_bytes(), br#"{"pk":{"S":"x"}}"#);
        assert!(body.as_ptr_range().contains(&rows.rows[0].as_bytes().as_ptr()));
        assert_eq!(rows.next.expect("more").as_bytes(), br#"{"pk":{"S":"x"}}"#);
        let last = Bytes::from_static(br#"{"Items":[],"LastEvaluatedKey":null}"#);
        assert!(read_rows(&last).expect("an answer").next.is_none());
        for text in ["{}", r#"{"Items":null}"#, r#"{"Items":[1]}"#, "<html>"] {
            assert!(read_rows(&Bytes::from_static(text.as_bytes())).is_err(), "{text}");
        }
    }

    #[test]
    fn a_page_tells_what_it_cost_where_the_server_does() {
        let told = |consumed: &str| {
            let text = format!(r#"{{"Items":[],"ConsumedCapacity":{consumed}}}"#);
            read_scanned(&Bytes::from(text)).expect("an answer").consumed_units
        };
        assert_eq!(told(r#"{"TableName":"t","CapacityUnits":128.5}"#), 128.5);
        assert_eq!(told("null"), 0.0);
        let silent = Bytes::from_static(br#"{"Items":[{"pk":{"S":"x"}}]}"#);
        let page = read_scanned(&silent).expect("an answer");
        assert_eq!((page.consumed_units, page.bytes), (0.0, silent.len()));
    }

    #[test]
    fn the_row_in_the_way_is_in_the_error() {
        let body = br#"{"__type":"x#ConditionalCheckFailedException","Item":{"pk":{"S":"p"}},"message":"m"}"#;
        let item = read_refused(body).expect("an answer").expect("a row");
        assert_eq!(item.as_bytes(), br#"{"pk":{"S":"p"}}"#);
        assert!(read_refused(br#"{"message":"m"}"#).expect("an answer").is_none());
    }
}
