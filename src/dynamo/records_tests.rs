use proptest::prelude::*;
use serde_json::value::RawValue;

use super::*;
use crate::item::any_value;
use crate::item::{Attributes, Value};

pub(in crate::dynamo) const IMAGE: &str = r#"{ "pk":{"S":"a"}, "n":{"N":"1.50E+2"},"u":{"S":"\u00e9\/}]"} }"#;

/// As the service writes it, with some liberties.
pub(in crate::dynamo) const PAGE: &str = r#"{"NextShardIterator":"token|2","Records":[
 {"awsRegion":"eu-west-1","dynamodb":{"ApproximateCreationDateTime":1.7000000015E9,"Keys":{"pk":{"S":"a"}},
  "NewImage":{ "pk":{"S":"a"}, "n":{"N":"1.50E+2"},"u":{"S":"\u00e9\/}]"} },"OldImage":{"pk":{"S":"a"}},
  "SequenceNumber":"000000000000000000042","SizeBytes":99,"StreamViewType":"NEW_AND_OLD_IMAGES"},
  "eventID":"1","eventName":"MODIFY","eventSource":"aws:dynamodb","eventVersion":"1.1"},
 {"eventName":"REMOVE","userIdentity":{"principalId":"dynamodb.amazonaws.com","type":"Service"},
  "dynamodb":{"ApproximateCreationDateTime":1700000001,"Keys":{"pk":{"S":"b"}},"SequenceNumber":"43"}}
]}"#;

fn parsed(text: &str) -> Result<(Vec<Record>, Option<Iterator>), Malformed> {
    parse(&Bytes::copy_from_slice(text.as_bytes()))
}

#[test]
fn a_page_is_read() {
    let (records, next) = parsed(PAGE).expect("a page");
    assert_eq!(next.expect("more").0, "token|2");
    let [first, second] = &records[..] else {
        panic!("{} records", records.len());
    };
    assert_eq!(first.kind, Kind::Modify);
    assert_eq!(first.created_unix_ms, 1_700_000_001_500);
    assert_eq!(first.sequence.as_str(), "000000000000000000042");
    assert_eq!(first.key.to_string(), r#"{"pk":{"S":"a"}}"#);
    assert_eq!(first.image.as_ref().expect("an image").as_bytes(), IMAGE.as_bytes());
    assert!(!first.by_ttl);
    assert_eq!(second.kind, Kind::Remove);
    assert_eq!(second.created_unix_ms, 1_700_000_001_000);
    assert!(second.by_ttl && second.image.is_none());
}

#[test]
fn the_end_of_a_shard_needs_its_records() {
    for text in [r#"{"Records":[]}"#, r#"{"Records":[],"NextShardIterator":null}"#] {
        let (records, next) = parsed(text).expect("a page");
        assert!(records.is_empty() && next.is_none());
    }
    for text in ["{}", "", "[]", "<html>", r#"{"Records":null}"#, r#"{"Records":[]"#] {
        assert!(parsed(text).is_err(), "{text} was accepted");
    }
}

#[test]
fn an_escaped_iterator_is_unescaped() {
    let (_, next) = parsed(r#"{"Records":[],"NextShardIterator":"a\/b\u002b"}"#).expect("a page");
    assert_eq!(next.expect("more").0, "a/b+");
}

#[test]
fn a_doubtful_record_fails_the_page_and_says_where() {
    let fine = r#"{"eventName":"INSERT","dynamodb":{"ApproximateCreationDateTime":1,"Keys":{"pk":{"S":"b"}},"SequenceNumber":"43"}}"#;
    for (from, to, complaint) in [
        ("INSERT", "UPSERT", "INSERT, MODIFY or REMOVE"),
        (r#""eventName":"INSERT","#, "", "eventName"),
        (r#""ApproximateCreationDateTime":1,"#, "", "ApproximateCreationDateTime"),
        ("Time\":1,", "Time\":\"now\",", "seconds since 1970"),
        ("Time\":1,", "Time\":1e300,", "seconds since 1970"),
        (r#","SequenceNumber":"43""#, "", "SequenceNumber"),
        (r#""43""#, r#""4x""#, "sequence number"),
        (r#""Keys":{"pk":{"S":"b"}},"#, "", "Keys"),
        (r#"{"pk":{"S":"b"}}"#, "{}", "key at byte"),
        (r#""Keys""#, r#""NewImage":[],"Keys""#, "an object"),
    ] {
        assert!(fine.contains(from), "{from}");
        let page = |record: &str| format!(r#"{{"Records":[{fine},{record}],"NextShardIterator":"x"}}"#);
        assert!(parsed(&page(fine)).is_ok());
        let error = parsed(&page(&fine.replace(from, to))).expect_err(to).to_string();
        assert!(error.contains(complaint), "{error} does not tell {complaint}");
    }
}

#[test]
fn a_local_servers_removal_by_ttl_is_a_removal() {
    let record = |more: &str| {
        format!(
            r#"{{"Records":[{{"eventName":"UNKNOWN_TO_SDK_VERSION","dynamodb":{{{more}
            "ApproximateCreationDateTime":1,"Keys":{{"pk":{{"S":"b"}}}},"SequenceNumber":"43"}}}}]}}"#
        )
    };
    let (records, _) = parsed(&record(r#""OldImage":{},"#)).expect("a page");
    assert_eq!(records[0].kind, Kind::Remove);
    assert!(parsed(&record("")).is_err());
    assert!(parsed(&record(r#""OldImage":{},"NewImage":{},"#)).is_err());
}

#[test]
fn only_the_service_itself_removes_by_ttl() {
    for (identity, by_ttl) in [
        (r#"{"Type":"Service","PrincipalId":"dynamodb.amazonaws.com"}"#, true),
        (r#"{"type":"User","principalId":"dynamodb.amazonaws.com"}"#, false),
        (r#"{"type":"Service","principalId":"other.amazonaws.com"}"#, false),
        ("{}", false),
        ("null", false),
    ] {
        let mut scanner = Scanner::new(identity.as_bytes());
        assert_eq!(parse_identity(&mut scanner).expect("JSON"), by_ttl, "{identity}");
    }
}

#[test]
fn times_are_read_to_the_millisecond() {
    for (text, ms) in [
        ("0", Some(0)),
        ("1700000000", Some(1_700_000_000_000)),
        ("1700000000.0", Some(1_700_000_000_000)),
        ("1700000000.123", Some(1_700_000_000_123)),
        ("1.7E9", Some(1_700_000_000_000)),
        ("17e+8", Some(1_700_000_000_000)),
        ("-1", None),
        ("9999999999999999", None),
        ("\"1\"", None),
        ("nan", None),
        ("inf", None),
    ] {
        assert_eq!(unix_ms(text.as_bytes()), ms, "{text}");
    }
}

#[test]
fn images_of_the_largest_items_are_not_copied() {
    let text = "x".repeat(399 * 1024);
    let image = format!(r#"{{"pk":{{"S":"a"}},"t":{{"S":"{text}"}}}}"#);
    let record = format!(
        r#"{{"eventName":"INSERT","dynamodb":{{"ApproximateCreationDateTime":1,"Keys":{{"pk":{{"S":"a"}}}},"NewImage":{image},"SequenceNumber":"1"}}}}"#
    );
    let body = Bytes::from(format!(r#"{{"Records":[{record},{record}]}}"#));
    let (records, _) = parse(&body).expect("a page");
    for record in records {
        let found = record.image.expect("an image");
        assert_eq!(found.as_bytes(), image.as_bytes());
        assert!(body.as_ptr_range().contains(&found.as_bytes().as_ptr()));
        assert!(body.as_ptr_range().contains(&record.key.as_bytes().as_ptr()));
    }
}

/// A record and how it is written down.
#[derive(Debug, Clone)]
struct Written {
    key: Attributes,
    image: Option<Attributes>,
    old: Option<Attributes>,
    kind: Kind,
    sequence: u128,
    seconds: u32,
    by_ttl: bool,
    /// Where each object's members are rotated to, and what else is in it.
    turn: usize,
    pretty: bool,
    ascii: bool,
}

fn any_written() -> impl Strategy<Value = Written> {
    let attributes = || prop::collection::btree_map(any::<String>(), any_value(), 0..5);
    let key = (any::<String>(), any::<String>(), any::<i64>()).prop_map(|(name, text, number)| {
        let sort = format!("{name}2");
        Attributes::from([(name, Value::String(text)), (sort, Value::integer(number))])
    });
    let kind = prop_oneof![Just(Kind::Insert), Just(Kind::Modify), Just(Kind::Remove)];
    (
        (key, prop::option::of(attributes()), prop::option::of(attributes()), kind),
        (any::<u128>(), any::<u32>(), any::<bool>()),
        (0usize..12, any::<bool>(), any::<bool>()),
    )
        .prop_map(|((key, image, old, kind), (sequence, seconds, by_ttl), (turn, pretty, ascii))| {
            Written { key, image, old, kind, sequence, seconds, by_ttl, turn, pretty, ascii }
        })
}

impl Written {
    fn name(&self) -> &'static str {
        match self.kind {
            Kind::Insert => "INSERT",
            Kind::Modify => "MODIFY",
            Kind::Remove => "REMOVE",
        }
    }

    /// An item's text: with white space and with every character beyond ASCII escaped, as wished.
    fn spell(&self, attributes: &Attributes) -> String {
        let text = String::from_utf8(Item::from_attributes(attributes).as_bytes().to_vec()).expect("text");
        let text = if self.pretty {
            let raw: serde_json::Value = serde_json::from_str(&text).expect("JSON");
            serde_json::to_string_pretty(&raw).expect("it serialises")
        } else {
            text
        };
        if !self.ascii {
            return text;
        }
        let mut units = [0; 2];
        text.chars()
            .map(|char| match char.is_ascii() {
                true => char.to_string(),
                false => char.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04x}")).collect(),
            })
            .collect()
    }

    fn object(&self, mut members: Vec<(&str, String)>) -> String {
        let turn = self.turn % members.len();
        members.rotate_left(turn);
        let space = if self.pretty { "\n \t" } else { "" };
        let members: Vec<String> = members
            .iter()
            .map(|(name, value)| format!("{space}\"{name}\"{space}:{space}{value}{space}"))
            .collect();
        format!("{{{}}}", members.join(","))
    }

    fn text(&self) -> String {
        let mut change = vec![
            ("Keys", self.spell(&self.key)),
            ("SequenceNumber", format!("\"{}\"", self.sequence)),
            ("ApproximateCreationDateTime", self.seconds.to_string()),
            ("Novelty", r#"[{"Keys":"no"},null,1e5,"\"}"]"#.to_owned()),
        ];
        change.extend(self.image.as_ref().map(|image| ("NewImage", self.spell(image))));
        change.extend(self.old.as_ref().map(|old| ("OldImage", self.spell(old))));
        let mut record = vec![
            ("eventName", format!("\"{}\"", self.name())),
            ("dynamodb", self.object(change)),
            ("eventNews", r#"{"dynamodb":{"Keys":{}}}"#.to_owned()),
        ];
        if self.by_ttl {
            let identity = r#"{"type":"Service","principalId":"dynamodb.amazonaws.com"}"#;
            record.push(("userIdentity", identity.to_owned()));
        }
        self.object(record)
    }
}

proptest! {
    #[test]
    fn what_is_written_down_is_read_back(page in prop::collection::vec(any_written(), 0..6), last in any::<bool>()) {
        let texts: Vec<String> = page.iter().map(Written::text).collect();
        let next = if last { "null" } else { "\"next\"" };
        let body = Bytes::from(format!(r#"{{"Records":[{}], "NextShardIterator":{next}}}"#, texts.join(" ,")));
        serde_json::from_slice::<&RawValue>(&body).expect("the page is JSON");
        let (records, next) = parse(&body).expect("a page");
        prop_assert_eq!(next.is_none(), last);
        prop_assert_eq!(records.len(), page.len());
        for (record, written) in records.iter().zip(&page) {
            prop_assert_eq!(record.kind, written.kind);
            prop_assert_eq!(record.by_ttl, written.by_ttl);
            prop_assert_eq!(record.sequence.to_string(), written.sequence.to_string());
            prop_assert_eq!(record.created_unix_ms, i64::from(written.seconds) * 1000);
            let key = Item::from_attributes(&written.key);
            let key = Key::from_json(key.bytes(), 0..key.as_bytes().len()).expect("a key");
            prop_assert_eq!(&record.key, &key);
            let spelled = written.image.as_ref().map(|image| written.spell(image));
            let found = record.image.as_ref().map(Item::as_bytes);
            prop_assert_eq!(found, spelled.as_deref().map(str::as_bytes));
            if let (Some(found), Some(written)) = (&record.image, &written.image) {
                prop_assert_eq!(&found.attributes().expect("an item"), written);
            }
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse(&bytes.into());
    }

    #[test]
    fn a_damaged_page_never_panics(written in any_written(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut text = format!(r#"{{"Records":[{}],"NextShardIterator":"x"}}"#, written.text()).into_bytes();
        let at = at.index(text.len());
        let _ = parse(&Bytes::copy_from_slice(&text[..at]));
        text[at] = byte;
        let _ = parse(&text.into());
    }
}
