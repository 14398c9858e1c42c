//! Writes that never replace a newer state of an item by an older one.
//!
//! An item remembers its newest change: each put carries the change's [mark](crate::change::Order::mark) in an attribute
//! of its own, and put and delete alike ask that the mark in the table is less, or of another source: marks of two tables
//! cannot be compared, and a replica that is given another source must take its changes. The attribute is spliced into the
//! item's text, which is not taken apart for it. `BatchWriteItem` knows no conditions, so each change is a request of
//! its own.
//!
//! A repair is no change: it is written while the item has the mark that was seen before its source was read, and leaves
//! it there. When the item has another one, or none any more, the stream came first, and the repair is stale.
//!
//! After a delete nothing is left that could remember it: an older put that is replayed then shows again until its
//! delete is replayed too.

use bytes::Bytes;

use super::answer::{self, Malformed};
use super::batch::push_text;
use crate::change::{Change, Op, Order};
use crate::item::Item;
use crate::item::scan::{Scanner, Unexpected};

/// How items of a replica remember their newest change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guard {
    /// The name of the attribute, which is the replicator's own: letters, digits and `. : _ -`.
    pub attribute: String,
}

/// What became of a guarded write that was answered.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Guarded {
    /// Whether nothing was done because the item has this change, or a newer one.
    pub is_stale: bool,
    /// Write capacity units that were consumed, where the server tells; it does not for a stale change, which
    /// costs what the write would have.
    pub consumed_units: f64,
}

// === impl Guard ===

impl Guard {
    /// The attribute's name where the configuration gives none.
    pub const DEFAULT_ATTRIBUTE: &str = "dynamirror:sequence";

    /// The item without the attribute, as its source has it.
    ///
    /// # Errors
    /// When the item is no JSON object.
    pub fn strip(&self, item: &Item) -> Result<Item, Unexpected> {
        let quoted = format!("\"{}\"", self.attribute);
        // Its name holds nothing that any writer escapes. Nearly always it is not there, and nothing is copied.
        if memchr::memmem::find(item.as_bytes(), quoted.as_bytes()).is_none() {
            return Ok(item.clone());
        }
        let mut text = Vec::with_capacity(item.as_bytes().len());
        text.push(b'{');
        Scanner::new(item.as_bytes()).object::<Unexpected>(|name, scanner| {
            let value = scanner.value()?;
            if name != self.attribute.as_bytes() {
                if text.len() > 1 {
                    text.push(b',');
                }
                text.push(b'"');
                text.extend_from_slice(name);
                text.extend_from_slice(b"\":");
                text.extend_from_slice(scanner.slice(value));
            }
            Ok(())
        })?;
        text.push(b'}');
        Ok(Item::from_json(text.into()))
    }

    /// The request that applies `change` to `table` unless the item has a newer one, or the same. A change whose
    /// order is not known counts as older than any that has a mark; one whose order was seen asks for just that mark.
    pub(super) fn write_body(&self, table: &str, change: &Change) -> Result<Vec<u8>, Unexpected> {
        let order = change.order.as_ref();
        let mark = order.map(Order::mark);
        let mut body = Vec::with_capacity(512 + change.request_bytes());
        body.extend_from_slice(br#"{"TableName":"#);
        push_text(table, &mut body);
        match &change.op {
            Op::Put(item) => {
                body.extend_from_slice(br#","Item":"#);
                self.push_marked(&self.strip(item)?, mark.as_deref(), &mut body)?;
            }
            Op::Delete => {
                body.extend_from_slice(br#","Key":"#);
                body.extend_from_slice(change.key.as_bytes());
            }
        }
        body.extend_from_slice(br##","ExpressionAttributeNames":{"#s":"##);
        push_text(&self.attribute, &mut body);
        body.extend_from_slice(br##"},"ConditionExpression":""##);
        push_condition(order, mark.as_deref(), &mut body);
        body.extend_from_slice(br#","ReturnConsumedCapacity":"TOTAL"}"#);
        Ok(body)
    }

    /// The order by which a repair of `item`, as the replica has it, is written; `None` when it has no mark.
    pub fn seen(&self, item: &Item) -> Option<Order> {
        // Rare as repairs are, the item may be taken apart.
        let attributes = item.attributes().ok()?;
        let order = Order::from_mark(attributes.get(&self.attribute)?.as_str()?)?;
        Some(Order { seen: true, ..order })
    }

    fn push_marked(&self, item: &Item, mark: Option<&str>, body: &mut Vec<u8>) -> Result<(), Unexpected> {
        let Some(mark) = mark else {
            body.extend_from_slice(item.as_bytes());
            return Ok(());
        };
        let mut rest = Scanner::new(item.as_bytes());
        rest.expect(b'{', "an item")?;
        let is_empty = rest.peek() == Some(b'}');
        body.push(b'{');
        push_text(&self.attribute, body);
        body.extend_from_slice(br#":{"S":"#);
        push_text(mark, body);
        body.extend_from_slice(if is_empty { b"}" } else { b"}," });
        body.extend_from_slice(&item.as_bytes()[rest.offset()..]);
        Ok(())
    }
}

/// What must hold of the mark `#s`, from within the quotes, with the values that it names.
fn push_condition(order: Option<&Order>, mark: Option<&str>, body: &mut Vec<u8>) {
    let (Some(order), Some(mark)) = (order, mark) else {
        return body.extend_from_slice(br##"attribute_not_exists(#s)""##);
    };
    let than: &[u8] = match order.seen {
        true => b"#s = :s",
        false => b"attribute_not_exists(#s) OR #s < :s OR NOT begins_with(#s, :t)",
    };
    body.extend_from_slice(than);
    body.extend_from_slice(br#"","ExpressionAttributeValues":{":s":{"S":"#);
    push_text(mark, body);
    if !order.seen {
        body.extend_from_slice(br#"},":t":{"S":"#);
        push_text(order.table_prefix(), body);
    }
    body.extend_from_slice(b"}}");
}

/// The answer to a write that was done.
pub(super) fn read_done(body: &Bytes) -> Result<Guarded, Malformed> {
    let mut consumed_units = 0.0;
    Scanner::new(body).object::<Malformed>(|name, scanner| {
        match name {
            b"ConsumedCapacity" => consumed_units = answer::consumed_units(scanner)?,
            _ => answer::skip(scanner)?,
        }
        Ok(())
    })?;
    Ok(Guarded { is_stale: false, consumed_units })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::key::Key;

    fn guard() -> Guard {
        Guard { attribute: Guard::DEFAULT_ATTRIBUTE.to_owned() }
    }

    fn change(item: Option<&str>, mark: Option<&str>) -> Change {
        let key = Bytes::from_static(br#"{"k":{"S":"a"}}"#);
        Change {
            key: Key::from_json(&key, 0..key.len()).expect("a key"),
            op: item.map_or(Op::Delete, |text| Op::Put(Item::from_json(text.to_owned().into()))),
            created_unix_ms: 0,
            order: mark.map(|mark| Order::from_mark(mark).expect("a mark")),
        }
    }

    fn body(change: &Change) -> serde_json::Value {
        let body = guard().write_body("t", change).expect("an item");
        serde_json::from_slice(&body).expect("the body is JSON")
    }

    const MARK: &str = "t/2026#0000000000000000000000000000000000000007";

    #[test]
    fn a_put_carries_its_mark_and_asks_for_a_lesser_one() {
        let expected = json!({
            "TableName": "t",
            "Item": {"k": {"S": "a"}, "v": {"N": "1"}, "dynamirror:sequence": {"S": MARK}},
            "ConditionExpression": "attribute_not_exists(#s) OR #s < :s OR NOT begins_with(#s, :t)",
            "ExpressionAttributeNames": {"#s": "dynamirror:sequence"},
            "ExpressionAttributeValues": {":s": {"S": MARK}, ":t": {"S": "t/"}},
            "ReturnConsumedCapacity": "TOTAL",
        });
        assert_eq!(body(&change(Some(r#" {"k":{"S":"a"},"v":{"N":"1"}}"#), Some("t/2026#7"))), expected);
    }

    #[test]
    fn the_item_is_spliced_in_byte_for_byte() {
        let odd = r#""n" : {"N":"1.50E+2"} , "u":{"S":"\u00e9\/é"}}"#;
        let text =
            guard().write_body("t", &change(Some(&format!("{{{odd}")), Some("t/2026#7"))).expect("an item");
        let wanted = format!(r#""Item":{{"dynamirror:sequence":{{"S":"{MARK}"}},{odd},"#);
        assert!(String::from_utf8_lossy(&text).contains(&wanted), "{}", String::from_utf8_lossy(&text));
    }

    #[test]
    fn a_delete_asks_the_same() {
        let body = body(&change(None, Some("t/2026#7")));
        assert_eq!(body["Key"], json!({"k": {"S": "a"}}));
        assert_eq!(
            body["ConditionExpression"],
            "attribute_not_exists(#s) OR #s < :s OR NOT begins_with(#s, :t)"
        );
        assert_eq!(body["ExpressionAttributeValues"], json!({":s": {"S": MARK}, ":t": {"S": "t/"}}));
    }

    #[test]
    fn a_repair_asks_for_the_mark_that_was_seen_and_keeps_it() {
        let seen = |item| {
            let change = change(item, Some("t/2026#7"));
            let order = change.order.clone().map(|order| Order { seen: true, ..order });
            body(&Change { order, ..change })
        };
        let put = seen(Some(r#"{"k":{"S":"a"}}"#));
        assert_eq!(put["Item"], json!({"k": {"S": "a"}, "dynamirror:sequence": {"S": MARK}}));
        for body in [put, seen(None)] {
            assert_eq!(body["ConditionExpression"], "#s = :s");
            assert_eq!(body["ExpressionAttributeValues"], json!({":s": {"S": MARK}}));
        }
        let item = |mark: &str| {
            let text = format!(r#"{{"k":{{"S":"a"}},"dynamirror:sequence":{{"S":"{mark}"}}}}"#);
            guard().seen(&Item::from_json(text.into()))
        };
        let order = item(MARK).expect("a mark");
        assert_eq!((order.mark().as_str(), order.seen), (MARK, true));
        assert_eq!(item("theirs"), None);
        assert_eq!(guard().seen(&Item::from_json(r#"{"k":{"S":"a"}}"#.into())), None);
    }

    #[test]
    fn a_change_without_an_order_replaces_nothing_that_has_a_mark() {
        let body = body(&change(Some(r#"{"k":{"S":"a"}}"#), None));
        assert_eq!(body["ConditionExpression"], "attribute_not_exists(#s)");
        assert_eq!(body["Item"], json!({"k": {"S": "a"}}));
        assert!(body.get("ExpressionAttributeValues").is_none(), "{body}");
    }

    #[test]
    fn a_mark_that_the_source_has_is_replaced_wherever_it_stands() {
        for item in [
            r#"{"dynamirror:sequence":{"S":"theirs"},"k":{"S":"a"},"m":{"M":{"dynamirror:sequence":{"S":"x"}}}}"#,
            r#"{"k":{"S":"a"},"m":{"M":{"dynamirror:sequence":{"S":"x"}}},"dynamirror:sequence":{"S":"theirs"}}"#,
        ] {
            let text = guard().write_body("t", &change(Some(item), Some("t/2026#7"))).expect("an item");
            assert!(!String::from_utf8_lossy(&text).contains("theirs"));
            let expected = json!({
                "k": {"S": "a"}, "m": {"M": {"dynamirror:sequence": {"S": "x"}}}, "dynamirror:sequence": {"S": MARK},
            });
            let parsed: serde_json::Value = serde_json::from_slice(&text).expect("JSON");
            assert_eq!(parsed["Item"], expected);
        }
        let only = Item::from_json(r#"{"dynamirror:sequence":{"S":"theirs"}}"#.into());
        assert_eq!(guard().strip(&only).expect("an item").as_bytes(), b"{}");
    }

    #[test]
    fn what_is_no_item_is_refused() {
        assert!(guard().write_body("t", &change(Some("[]"), Some("t/2026#7"))).is_err());
    }

    #[test]
    fn capacity_is_read_where_it_is_told() {
        let told = Bytes::from_static(br#"{"ConsumedCapacity":{"TableName":"t","CapacityUnits":2.5}}"#);
        assert_eq!(read_done(&told).expect("an answer").consumed_units, 2.5);
        assert_eq!(read_done(&Bytes::from_static(b"{}")).expect("an answer").consumed_units, 0.0);
        assert!(read_done(&Bytes::from_static(b"<html>")).is_err());
    }
}
