//! A stream record as the real server gives it, made into one as the service would give it.
//!
//! Keys, images and the sequence number are kept as the very text that arrived. Repaired: the region, a
//! creation time that is not whole seconds, the identity of a time-to-live deletion (wrong casing, or a
//! server that knows none), and the record of a write that changed nothing, which the service never makes.
//! That last repair needs both images, so with another view type such a record stays.

use super::{lineage, ring, sequence::Sequence};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::{borrow::Cow, collections::HashMap, io::Write as _};

/// One answer of the real server's `GetRecords`.
#[derive(Debug, Deserialize)]
pub(super) struct Page<'a> {
    #[serde(borrow, rename = "Records", default)]
    pub(super) records: Vec<Incoming<'a>>,
    #[serde(borrow, rename = "NextShardIterator")]
    pub(super) next_shard_iterator: Option<Cow<'a, str>>,
}

/// A record as it arrives.
#[derive(Debug, Deserialize)]
pub(super) struct Incoming<'a> {
    #[serde(borrow, rename = "eventID")]
    event_id: &'a RawValue,
    #[serde(borrow, rename = "eventName")]
    event_name: Cow<'a, str>,
    #[serde(borrow)]
    dynamodb: Change<'a>,
    #[serde(borrow, rename = "userIdentity")]
    user_identity: Option<&'a RawValue>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Change<'a> {
    approximate_creation_date_time: f64,
    #[serde(borrow)]
    keys: &'a RawValue,
    #[serde(borrow)]
    new_image: Option<&'a RawValue>,
    #[serde(borrow)]
    old_image: Option<&'a RawValue>,
    #[serde(borrow)]
    sequence_number: Cow<'a, str>,
    size_bytes: Option<i64>,
    #[serde(borrow)]
    stream_view_type: Cow<'a, str>,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("read the keys of a stream record")]
    Keys(#[source] serde_json::Error),
    #[error("read the sequence number `{0}`")]
    Sequence(String),
}

const TIME_TO_LIVE: &str = r#"{"Type":"Service","PrincipalId":"dynamodb.amazonaws.com"}"#;

/// What one server writes instead of `REMOVE` for a time-to-live deletion, without any identity.
const UNNAMED_EVENT: &str = "UNKNOWN_TO_SDK_VERSION";

impl Incoming<'_> {
    pub(super) fn sequence(&self) -> Result<Sequence, Error> {
        let text = self.dynamodb.sequence_number.as_ref();
        Sequence::parse(text).ok_or_else(|| Error::Sequence(text.to_owned()))
    }

    /// Whether the service would have made no record at all of this write.
    pub(super) fn changes_nothing(&self) -> bool {
        match (self.event_name.as_ref(), self.dynamodb.new_image, self.dynamodb.old_image) {
            ("MODIFY", Some(new), Some(old)) => same_item(new.get(), old.get()),
            _ => false,
        }
    }

    /// The record to serve. `hash_key` names the table's partition key.
    pub(super) fn repair(
        &self,
        region: &str,
        hash_key: &str,
        arrived_ms: u64,
    ) -> Result<lineage::Record, Error> {
        let change = &self.dynamodb;
        let keys: HashMap<Cow<'_, str>, &RawValue> =
            serde_json::from_str(change.keys.get()).map_err(Error::Keys)?;
        let key = keys.get(hash_key).map_or(change.keys.get(), |value| value.get());
        let created_s = change.approximate_creation_date_time.max(0.0).floor() as u64;
        Ok(lineage::Record {
            sequence: self.sequence()?,
            position: ring::position(key.as_bytes()),
            created_s,
            arrived_ms,
            body: self.render(region, created_s),
        })
    }

    fn render(&self, region: &str, created_s: u64) -> Bytes {
        let change = &self.dynamodb;
        let images = change.new_image.map_or(0, |image| image.get().len())
            + change.old_image.map_or(0, |image| image.get().len());
        let mut text = Vec::with_capacity(512 + change.keys.get().len() + images);
        let unnamed = self.event_name == UNNAMED_EVENT;
        let event_name = if unnamed { "REMOVE" } else { self.event_name.as_ref() };
        let event_id = self.event_id.get();
        write!(
            text,
            r#"{{"eventID":{event_id},"eventName":"{event_name}","eventVersion":"1.1","eventSource":"aws:dynamodb","awsRegion":"{region}","dynamodb":{{"ApproximateCreationDateTime":{created_s},"Keys":{}"#,
            change.keys.get(),
        )
        .expect("a vector takes any write");
        for (name, image) in [("NewImage", change.new_image), ("OldImage", change.old_image)] {
            if let Some(image) = image {
                write!(text, r#","{name}":{}"#, image.get()).expect("a vector takes any write");
            }
        }
        write!(
            text,
            r#","SequenceNumber":"{}","SizeBytes":{},"StreamViewType":"{}"}}"#,
            change.sequence_number,
            change.size_bytes.unwrap_or_default(),
            change.stream_view_type,
        )
        .expect("a vector takes any write");
        if unnamed || self.user_identity.is_some_and(|identity| identity.get() != "null") {
            write!(text, r#","userIdentity":{TIME_TO_LIVE}"#).expect("a vector takes any write");
        }
        text.push(b'}');
        // Records are kept for the whole retention, so no slack is kept with them.
        text.into_boxed_slice().into()
    }
}

/// Whether two items are equal, whatever the order of their attributes. Cheap when they are not.
fn same_item(new: &str, old: &str) -> bool {
    if new == old {
        return true;
    }
    if new.len() != old.len() {
        return false;
    }
    let shallow = |text| serde_json::from_str::<HashMap<Cow<'_, str>, &RawValue>>(text).ok();
    let (Some(new), Some(old)) = (shallow(new), shallow(old)) else {
        return false;
    };
    new.len() == old.len()
        && new
            .iter()
            .all(|(name, value)| old.get(name).is_some_and(|other| same_value(value.get(), other.get())))
}

fn same_value(new: &str, old: &str) -> bool {
    let nested = |text: &str| text.contains(r#""M""#);
    if new == old {
        return true;
    }
    if new.len() != old.len() || !nested(new) || !nested(old) {
        return false;
    }
    let parse = |text| serde_json::from_str::<serde_json::Value>(text).ok();
    parse(new).is_some_and(|value| Some(value) == parse(old))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn page(record: &Value) -> String {
        json!({ "Records": [record], "NextShardIterator": "next" }).to_string()
    }

    fn raw(event_name: &str) -> Value {
        json!({
            "eventID": "e", "eventName": event_name, "eventVersion": "1.1", "eventSource": "aws:dynamodb",
            "awsRegion": "elsewhere",
            "dynamodb": {
                "ApproximateCreationDateTime": 1_700_000_000.75, "Keys": {"pk": {"S": "a"}, "sk": {"N": "1"}},
                "NewImage": {"pk": {"S": "a"}, "m": {"M": {"x": {"N": "1"}, "y": {"N": "2"}}}},
                "OldImage": {"pk": {"S": "a"}, "m": {"M": {"x": {"N": "1"}, "y": {"N": "2"}}}},
                "SequenceNumber": "100000000000000000001", "SizeBytes": 7, "StreamViewType": "NEW_AND_OLD_IMAGES",
            },
        })
    }

    fn repaired(record: &Value) -> Value {
        let text = page(record);
        let page: Page<'_> = serde_json::from_str(&text).expect("a page");
        let record = page.records[0].repair("eu-west-1", "pk", 5).expect("well formed");
        serde_json::from_slice(&record.body).expect("rendered as JSON")
    }

    #[test]
    fn region_and_time_are_repaired_and_the_rest_is_kept() {
        let source = raw("INSERT");
        let record = repaired(&source);
        assert_eq!(record["awsRegion"], "eu-west-1");
        assert_eq!(record["dynamodb"]["ApproximateCreationDateTime"], json!(1_700_000_000));
        for field in ["Keys", "NewImage", "OldImage", "SequenceNumber", "SizeBytes", "StreamViewType"] {
            assert_eq!(record["dynamodb"][field], source["dynamodb"][field], "{field}");
        }
        assert!(record.get("userIdentity").is_none());
    }

    #[test]
    fn a_time_to_live_deletion_names_the_service() {
        let mut lower = raw("REMOVE");
        lower["userIdentity"] = json!({"type": "Service", "principalId": "dynamodb.amazonaws.com"});
        for source in [lower, raw(UNNAMED_EVENT)] {
            let record = repaired(&source);
            assert_eq!(record["eventName"], "REMOVE");
            assert_eq!(
                record["userIdentity"],
                json!({"Type": "Service", "PrincipalId": "dynamodb.amazonaws.com"})
            );
        }
    }

    #[test]
    fn equal_images_are_no_change_whatever_their_order() {
        let changes_nothing = |new: &str, old: &str| {
            let text = page(&raw("MODIFY"));
            let mut page: Page<'_> = serde_json::from_str(&text).expect("a page");
            let (new, old): (&RawValue, &RawValue) =
                (serde_json::from_str(new).expect("JSON"), serde_json::from_str(old).expect("JSON"));
            let mut record = page.records.remove(0);
            record.dynamodb.new_image = Some(new);
            record.dynamodb.old_image = Some(old);
            record.changes_nothing()
        };
        assert!(changes_nothing(r#"{"a":{"S":"1"},"b":{"N":"2"}}"#, r#"{"b":{"N":"2"},"a":{"S":"1"}}"#));
        assert!(changes_nothing(
            r#"{"m":{"M":{"x":{"N":"1"},"y":{"N":"2"}}}}"#,
            r#"{"m":{"M":{"y":{"N":"2"},"x":{"N":"1"}}}}"#
        ));
        assert!(!changes_nothing(r#"{"a":{"S":"1"},"b":{"N":"2"}}"#, r#"{"a":{"S":"1"},"b":{"N":"3"}}"#));
        assert!(!changes_nothing(r#"{"a":{"S":"1"}}"#, r#"{"a":{"S":"10"}}"#));
    }
}
