//! What a table under test looks like: its keys, the view of its stream, and how it is created.

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType,
    StreamSpecification, StreamViewType, TableStatus,
};

use super::value::Item;
use super::wait;

/// The type of a key attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    String,
    Number,
    Binary,
}

/// A table's key schema and stream view.
#[derive(Debug, Clone)]
pub(crate) struct Shape {
    /// What the table is called, with the test's own prefix before it.
    pub(crate) name: &'static str,
    /// The partition key's type.
    pub(crate) hash: Kind,
    /// The sort key's type, if there is one.
    pub(crate) range: Option<Kind>,
    /// What the stream's records carry.
    pub(crate) view: StreamViewType,
}

/// Names with everything that JSON, expressions and UTF-8 can trip over.
pub(crate) const HASH: &str = "clé \"hash\"";
/// See [`HASH`].
pub(crate) const RANGE: &str = "tri\\'☃.#";

impl Shape {
    /// String partition key, number sort key, both images.
    pub(crate) fn orders() -> Self {
        Self {
            name: "orders",
            hash: Kind::String,
            range: Some(Kind::Number),
            view: StreamViewType::NewAndOldImages,
        }
    }

    /// The same table with another view.
    pub(crate) fn viewed(view: StreamViewType) -> Self {
        Self { view, ..Self::orders() }
    }

    /// The `index`th of many keys.
    pub(crate) fn key(&self, index: usize) -> Item {
        let mut key = Item::from([(HASH.to_owned(), value(self.hash, index / 2, "h"))]);
        match self.range {
            Some(kind) => drop(key.insert(RANGE.to_owned(), value(kind, index, "r"))),
            None => drop(key.insert(HASH.to_owned(), value(self.hash, index, "h"))),
        }
        key
    }

    /// The key of an item of this table.
    pub(crate) fn key_of(&self, item: &Item) -> Item {
        let names = [Some(HASH), self.range.map(|_| RANGE)];
        let part = |name: &str| (name.to_owned(), item[name].clone());
        names.into_iter().flatten().map(part).collect()
    }

    /// Creates it, and waits until it can be used.
    pub(crate) async fn create(&self, client: &Client, table: &str, streamed: bool) {
        let mut request = client.create_table().table_name(table).billing_mode(BillingMode::PayPerRequest);
        let hash = Some((HASH, self.hash, KeyType::Hash));
        let range = self.range.map(|kind| (RANGE, kind, KeyType::Range));
        for (name, kind, role) in hash.into_iter().chain(range) {
            let definition =
                AttributeDefinition::builder().attribute_name(name).attribute_type(kind.scalar());
            let element = KeySchemaElement::builder().attribute_name(name).key_type(role);
            request = request
                .attribute_definitions(definition.build().expect("a name and a type"))
                .key_schema(element.build().expect("a name and a role"));
        }
        if streamed {
            let stream =
                StreamSpecification::builder().stream_enabled(true).stream_view_type(self.view.clone());
            request = request.stream_specification(stream.build().expect("a switch"));
        }
        request.send().await.unwrap_or_else(|error| panic!("create table {table}: {error:?}"));
        wait::until(&format!("table {table} to be active"), async || {
            let described = client.describe_table().table_name(table).send().await.ok()?;
            let status = described.table()?.table_status()?.clone();
            (status == TableStatus::Active).then_some(())
        })
        .await;
    }
}

impl Kind {
    fn scalar(self) -> ScalarAttributeType {
        match self {
            Self::String => ScalarAttributeType::S,
            Self::Number => ScalarAttributeType::N,
            Self::Binary => ScalarAttributeType::B,
        }
    }
}

fn value(kind: Kind, index: usize, role: &str) -> AttributeValue {
    match kind {
        Kind::String => AttributeValue::S(match index % 4 {
            0 => format!("{role}-{index}"),
            1 => format!("{role} \"{index}\" \\ \u{1F980}\t'"),
            2 => format!("ключ/{role}/{index}\n\u{7f}"),
            _ => format!("{role}{{{index}}}\u{2028}"),
        }),
        Kind::Number => AttributeValue::N(match index % 4 {
            0 => index.to_string(),
            1 => format!("-{index}.5"),
            2 => format!("{:038}", 10_u128.pow(37) + index as u128),
            _ => format!("0.{index:020}1"),
        }),
        Kind::Binary => {
            let mut bytes = vec![0, 255, 10, 34];
            bytes.extend((index as u32).to_be_bytes());
            AttributeValue::B(Blob::new(bytes))
        }
    }
}
