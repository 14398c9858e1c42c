//! What is written of an item that was read: the item as it is, without what belongs to the service.
//!
//! Global tables of 2017 keep attributes of their own in each item (`aws:rep:updatetime` and others). Written to another
//! table they break its replication, so they are left out; an item that has none stays the slice of the answer that it is.
//!
//! An index of the replica refuses items whose key attribute is of another type than the index has. Such a *misfit* is
//! found before it is written, and goes on its way all the same: the writer parks it, as any item that is refused.

use crate::change::{Change, Op};
use crate::dynamo::IndexKey;
use crate::item::Item;
use crate::item::scan::{Scanner, Unexpected};
use crate::key::{self, Key};

/// Names of attributes that belong to the service begin with this.
const RESERVED: &[u8] = b"aws:rep:";

/// How changes are made of items.
#[derive(Debug, Clone)]
pub(super) struct Images {
    /// The attributes of the primary key.
    key: Vec<String>,
    /// The keys of the replica's indexes.
    indexes: Vec<IndexKey>,
}

/// An attribute that is not of the type that an index of the replica has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Misfit {
    pub(super) index: String,
    pub(super) attribute: String,
    /// The type letter of the index.
    pub(super) expected: String,
    /// The type letter of the item.
    pub(super) found: String,
}

// === impl Images ===

impl Images {
    pub(super) fn new(key: Vec<String>, indexes: Vec<IndexKey>) -> Self {
        Self { key, indexes }
    }

    /// The change that puts `item`, read at `read_unix_ms`.
    ///
    /// # Errors
    /// When the item has no key: then the answer is none.
    pub(super) fn put(&self, item: &Item, read_unix_ms: i64) -> Result<Change, key::Malformed> {
        let key = Key::of_item(item.as_bytes(), &self.key)?;
        Ok(Change { key, op: Op::Put(strip(item)?), created_unix_ms: read_unix_ms, order: None })
    }

    /// What keeps an index of the replica from holding `item`.
    pub(super) fn misfit(&self, item: &Item) -> Option<Misfit> {
        if self.indexes.is_empty() {
            return None;
        }
        let mut misfit = None;
        // A text that cannot be read is the writer's to refuse.
        let _ = Scanner::new(item.as_bytes()).object::<Unexpected>(|name, scanner| {
            let value = scanner.value()?;
            for index in &self.indexes {
                let part = index.key.iter().find(|part| part.name.as_bytes() == name);
                if let (Some(part), None) = (part, &misfit) {
                    let found = kind(scanner.slice(value.clone()));
                    if found != part.kind.as_bytes() {
                        misfit = Some(Misfit {
                            index: index.index.clone(),
                            attribute: part.name.clone(),
                            expected: part.kind.clone(),
                            found: String::from_utf8_lossy(found).into_owned(),
                        });
                    }
                }
            }
            Ok(())
        });
        misfit
    }
}

// === impl Misfit ===

impl Misfit {
    /// What is wrong with the item under `key`.
    pub(super) fn text(&self, key: &Key) -> String {
        let Self { index, attribute, expected, found } = self;
        format!(
            "the item {key} has `{attribute}` of type {found}, and index `{index}` of the replica wants {expected}: it is \
             parked; mend it at the source, or drop the index"
        )
    }
}

/// The item without attributes of the service.
pub(super) fn strip(item: &Item) -> Result<Item, Unexpected> {
    // Nearly always they are not there, and nothing is copied. Their names hold nothing that any writer escapes.
    if memchr::memmem::find(item.as_bytes(), b"\"aws:rep:").is_none() {
        return Ok(item.clone());
    }
    let mut text = Vec::with_capacity(item.as_bytes().len());
    text.push(b'{');
    Scanner::new(item.as_bytes()).object::<Unexpected>(|name, scanner| {
        let value = scanner.value()?;
        if !name.starts_with(RESERVED) {
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

/// The type of an attribute's value, as it is written.
fn kind(value: &[u8]) -> &[u8] {
    let mut scanner = Scanner::new(value);
    let inside = scanner.expect(b'{', "a value").and_then(|()| scanner.string());
    inside.map_or(b"?", |range| scanner.slice(range))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dynamo::KeyAttribute;

    fn item(text: &str) -> Item {
        Item::from_json(text.to_owned().into())
    }

    fn images() -> Images {
        let key = |name: &str, kind: &str| KeyAttribute { name: name.to_owned(), kind: kind.to_owned() };
        let index = IndexKey { index: "by-day".to_owned(), key: vec![key("day", "S"), key("at", "N")] };
        Images::new(vec!["k".to_owned()], vec![index])
    }

    #[test]
    fn an_item_is_a_slice_unless_the_service_keeps_something_in_it() {
        let plain = item(r#"{"k":{"S":"a"},"v":{"S":"see aws:rep:deleting"}}"#);
        let change = images().put(&plain, 7).expect("a key");
        let Op::Put(put) = &change.op else { panic!("a put") };
        assert_eq!(put.as_bytes().as_ptr(), plain.as_bytes().as_ptr());
        assert_eq!((change.created_unix_ms, change.order.is_none()), (7, true));
        assert_eq!(change.key.to_string(), r#"{"k":{"S":"a"}}"#);
        for (text, expected) in [
            (r#"{"aws:rep:updatetime":{"N":"1"},"k":{"S":"a"}}"#, r#"{"k":{"S":"a"}}"#),
            (
                r#"{ "k":{"S":"a"} , "aws:rep:deleting":{"BOOL":false},"m":{"M":{"aws:rep:x":{"N":"1"}}}}"#,
                r#"{"k":{"S":"a"},"m":{"M":{"aws:rep:x":{"N":"1"}}}}"#,
            ),
            (r#"{"aws:rep:updateregion":{"S":"x"}}"#, "{}"),
        ] {
            assert_eq!(strip(&item(text)).expect("an item"), item(expected), "{text}");
        }
    }

    #[test]
    fn an_attribute_of_another_type_than_an_index_has_is_found() {
        let images = images();
        for fits in [r#"{"k":{"S":"a"}}"#, r#"{"k":{"S":"a"},"day":{"S":"x"},"at":{"N":"1"}}"#] {
            assert_eq!(images.misfit(&item(fits)), None, "{fits}");
        }
        let change = item(r#"{"k":{"S":"a"},"at":{"S":"1"}}"#);
        let misfit = images.misfit(&change).expect("a string for a number");
        assert_eq!(
            (misfit.attribute.as_str(), misfit.found.as_str(), misfit.expected.as_str()),
            ("at", "S", "N")
        );
        let key = images.put(&change, 0).expect("a key").key;
        assert!(misfit.text(&key).contains(r#"{"k":{"S":"a"}}"#));
        assert!(images.misfit(&item(r#"{"day":{"NULL":true}}"#)).is_some());
    }

    #[test]
    fn an_item_without_its_key_is_none() {
        images().put(&item(r#"{"v":{"S":"a"}}"#), 0).expect_err("no key");
    }
}
