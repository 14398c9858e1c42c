//! Which records concern a replica, and what they mean for it. Plain and without state beyond its own start.

use std::sync::Arc;

use crate::change::{Change, Op, Order};
use crate::record::Record;

/// The rule of one replica for one shard.
#[derive(Debug, Clone, Default)]
pub struct Router {
    /// The label of the stream, where changes are to carry their order.
    stream: Option<Arc<str>>,
}

// === impl Router ===

impl Router {
    /// Lets changes carry their order in the stream with this label, for a replica that is written under a guard.
    #[must_use]
    pub fn ordered_by(stream: Option<Arc<str>>) -> Self {
        Self { stream }
    }

    /// The change that `record` means for the replica; `None` when it does not concern it.
    pub fn change(&self, record: &Record) -> Option<Change> {
        let op = match &record.image {
            Some(item) => Op::Put(item.clone()),
            None => Op::Delete,
        };
        let order = self.stream.as_ref().map(|stream| Order {
            stream: Arc::clone(stream),
            sequence: record.sequence,
            seen: false,
        });
        Some(Change { key: record.key.clone(), op, created_unix_ms: record.created_unix_ms, order })
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::item::Item;
    use crate::key::Key;
    use crate::record::Kind;

    fn record(sequence: &str, image: Option<&'static str>) -> Record {
        let key = Bytes::from_static(br#"{"k":{"S":"a"}}"#);
        Record {
            kind: if image.is_some() { Kind::Modify } else { Kind::Remove },
            key: Key::from_json(&key, 0..key.len()).expect("a key"),
            sequence: sequence.parse().expect("a number"),
            created_unix_ms: 1_000,
            image: image.map(|text| Item::from_json(Bytes::from_static(text.as_bytes()))),
            by_ttl: false,
        }
    }

    #[test]
    fn an_image_is_put_as_it_is_and_a_removal_deletes() {
        let router = Router::default();
        let image = r#"{"k":{"S":"a"},"n":{"N":"1.0"}}"#;
        let Some(Change { op: Op::Put(item), .. }) = router.change(&record("1", Some(image))) else {
            panic!("expected a put")
        };
        assert_eq!(item.as_bytes(), image.as_bytes());
        assert!(matches!(router.change(&record("2", None)), Some(Change { op: Op::Delete, .. })));
    }
}
