//! The typed form of an item's attributes, and the way between it and DynamoDB's JSON.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::number;

/// An item's attributes by name.
pub type Attributes = BTreeMap<String, Value>;

/// One attribute value. Equality is the service's: numbers by value whatever their spelling, sets without
/// order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Value {
    /// `S`
    String(String),
    /// `N`, in its canonical spelling (see [`number::canonical`]).
    Number(String),
    /// `B`
    Binary(Vec<u8>),
    /// `BOOL`
    Bool(bool),
    /// `NULL`
    Null,
    /// `L`
    List(Vec<Value>),
    /// `M`
    Map(Attributes),
    /// `SS`
    Strings(BTreeSet<String>),
    /// `NS`, in canonical spelling.
    Numbers(BTreeSet<String>),
    /// `BS`
    Binaries(BTreeSet<Vec<u8>>),
}

/// A text that is not an item in DynamoDB's JSON.
#[derive(Debug, thiserror::Error)]
pub enum Malformed {
    /// It is no JSON, or no object.
    #[error("read an item's JSON text")]
    Json(#[from] serde_json::Error),
    /// A value is not `{"TYPE":…}` with a known type.
    #[error("read the attribute value {0}")]
    Type(String),
    /// A binary value is not base64.
    #[error("read a binary value")]
    Binary(#[from] base64::DecodeError),
}

// === impl Value ===

impl Value {
    /// A number from an integer.
    pub fn integer(value: impl Into<i128>) -> Self {
        Self::Number(number::canonical(&value.into().to_string()).into_owned())
    }

    /// The text of a string value.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    /// The value of a whole number within `i64`.
    pub fn as_i64(&self) -> Option<i64> {
        let Self::Number(text) = self else { return None };
        let (mantissa, exponent) = text.split_once('e').unwrap_or((text, "0"));
        let power = 10i64.checked_pow(exponent.parse().ok()?)?;
        mantissa.parse::<i64>().ok()?.checked_mul(power)
    }

    /// The members of a map value.
    pub fn as_map(&self) -> Option<&Attributes> {
        match self {
            Self::Map(members) => Some(members),
            _ => None,
        }
    }

    /// Reads one value in DynamoDB's notation.
    ///
    /// # Errors
    /// When it is not `{"TYPE":…}` with a known type and fitting content.
    pub fn from_json(json: serde_json::Value) -> Result<Self, Malformed> {
        read(json)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::String(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::String(text)
    }
}

pub(super) fn read_attributes(text: &[u8]) -> Result<Attributes, Malformed> {
    let members: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(text)?;
    members.into_iter().map(|(name, value)| Ok((name, read(value)?))).collect()
}

fn read(json: serde_json::Value) -> Result<Value, Malformed> {
    use serde_json::Value as Json;
    let malformed = |json: &Json| Malformed::Type(json.to_string());
    let Json::Object(members) = &json else {
        return Err(malformed(&json));
    };
    if members.len() != 1 {
        return Err(malformed(&json));
    }
    let Json::Object(members) = json else { unreachable!("it was matched above") };
    let (kind, content) = members.into_iter().next().expect("it has one member");
    match (kind.as_str(), content) {
        ("S", Json::String(text)) => Ok(Value::String(text)),
        ("N", Json::String(text)) => Ok(Value::Number(number::canonical(&text).into_owned())),
        ("B", Json::String(text)) => Ok(Value::Binary(STANDARD.decode(text)?)),
        ("BOOL", Json::Bool(value)) => Ok(Value::Bool(value)),
        ("NULL", Json::Bool(true)) => Ok(Value::Null),
        ("L", Json::Array(elements)) => {
            Ok(Value::List(elements.into_iter().map(read).collect::<Result<_, _>>()?))
        }
        ("M", Json::Object(members)) => {
            let members = members.into_iter().map(|(name, value)| Ok((name, read(value)?)));
            Ok(Value::Map(members.collect::<Result<_, Malformed>>()?))
        }
        ("SS", content) => Ok(Value::Strings(texts(content)?.collect())),
        ("NS", content) => {
            Ok(Value::Numbers(texts(content)?.map(|text| number::canonical(&text).into_owned()).collect()))
        }
        ("BS", content) => {
            Ok(Value::Binaries(texts(content)?.map(|text| STANDARD.decode(text)).collect::<Result<_, _>>()?))
        }
        (kind, content) => Err(Malformed::Type(serde_json::json!({ kind: content }).to_string())),
    }
}

fn texts(json: serde_json::Value) -> Result<impl Iterator<Item = String>, Malformed> {
    let shown = json.to_string();
    serde_json::from_value::<Vec<String>>(json).map(Vec::into_iter).map_err(|_| Malformed::Type(shown))
}

pub(super) fn write_attributes(attributes: &Attributes, out: &mut Vec<u8>) {
    out.push(b'{');
    for (index, (name, value)) in attributes.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write_text(name, out);
        out.push(b':');
        write_value(value, out);
    }
    out.push(b'}');
}

fn write_value(value: &Value, out: &mut Vec<u8>) {
    let binary = |bytes: &Vec<u8>| STANDARD.encode(bytes);
    match value {
        Value::String(text) => write_member("S", out, |out| write_text(text, out)),
        Value::Number(text) => write_member("N", out, |out| write_text(text, out)),
        Value::Binary(bytes) => write_member("B", out, |out| write_text(&binary(bytes), out)),
        Value::Bool(value) => {
            write_member("BOOL", out, |out| out.extend_from_slice(if *value { b"true" } else { b"false" }));
        }
        Value::Null => write_member("NULL", out, |out| out.extend_from_slice(b"true")),
        Value::List(elements) => write_member("L", out, |out| write_array(elements, out, write_value)),
        Value::Map(members) => write_member("M", out, |out| write_attributes(members, out)),
        Value::Strings(set) => {
            write_member("SS", out, |out| write_array(set, out, |text, out| write_text(text, out)))
        }
        Value::Numbers(set) => {
            write_member("NS", out, |out| write_array(set, out, |text, out| write_text(text, out)))
        }
        Value::Binaries(set) => {
            write_member("BS", out, |out| {
                write_array(set, out, |bytes, out| write_text(&binary(bytes), out))
            });
        }
    }
}

fn write_member(kind: &str, out: &mut Vec<u8>, content: impl FnOnce(&mut Vec<u8>)) {
    out.push(b'{');
    write_text(kind, out);
    out.push(b':');
    content(out);
    out.push(b'}');
}

fn write_array<T>(
    elements: impl IntoIterator<Item = T>,
    out: &mut Vec<u8>,
    mut write: impl FnMut(T, &mut Vec<u8>),
) {
    out.push(b'[');
    for (index, element) in elements.into_iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write(element, out);
    }
    out.push(b']');
}

fn write_text(text: &str, out: &mut Vec<u8>) {
    serde_json::to_writer(out, text).expect("a string is always written to memory");
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::item::Item;

    /// Any value that DynamoDB can hold, nested up to three levels.
    pub(crate) fn any_value() -> impl Strategy<Value = Value> {
        let number = "-?[1-9][0-9]{0,37}".prop_map(|text| number::canonical(&text).into_owned());
        let bytes = prop::collection::vec(any::<u8>(), 0..24);
        let leaf = prop_oneof![
            any::<String>().prop_map(Value::String),
            number.clone().prop_map(Value::Number),
            bytes.clone().prop_map(Value::Binary),
            any::<bool>().prop_map(Value::Bool),
            Just(Value::Null),
            prop::collection::btree_set(any::<String>(), 1..4).prop_map(Value::Strings),
            prop::collection::btree_set(number, 1..4).prop_map(Value::Numbers),
            prop::collection::btree_set(bytes, 1..4).prop_map(Value::Binaries),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::List),
                prop::collection::btree_map(any::<String>(), inner, 0..4).prop_map(Value::Map),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(attributes in prop::collection::btree_map(any::<String>(), any_value(), 0..6)) {
            let item = Item::from_attributes(&attributes);
            prop_assert_eq!(item.attributes().expect("our own text is readable"), attributes);
        }
    }

    #[test]
    fn equality_is_that_of_the_service() {
        let read = |text: &'static str| Item::from_json(text.into()).attributes().expect("an item");
        assert_eq!(
            read(r#"{"a":{"N":"1.0"},"s":{"SS":["x","y"]}}"#),
            read(r#"{"s":{"SS":["y","x"]},"a":{"N":"1"}}"#)
        );
        assert_ne!(read(r#"{"a":{"N":"1"}}"#), read(r#"{"a":{"S":"1"}}"#));
        assert_ne!(read(r#"{"a":{"SS":["1"]}}"#), read(r#"{"a":{"L":[{"S":"1"}]}}"#));
    }

    #[test]
    fn what_is_no_item_is_refused() {
        for text in [
            "",
            "[]",
            r#"{"a":1}"#,
            r#"{"a":{"S":1}}"#,
            r#"{"a":{"X":"1"}}"#,
            r#"{"a":{"B":"?"}}"#,
            r#"{"a":{}}"#,
        ] {
            assert!(
                Item::from_json(text.as_bytes().to_vec().into()).attributes().is_err(),
                "{text} was accepted"
            );
        }
    }

    #[test]
    fn integers_are_read_whatever_their_spelling() {
        assert_eq!(Value::integer(1_200i64).as_i64(), Some(1_200));
        assert_eq!(Value::integer(-7i64).as_i64(), Some(-7));
        assert_eq!(Value::Number("15e-1".to_owned()).as_i64(), None);
    }
}
