//! Which records concern a replica, and what they mean for it. Plain and without state beyond its own start.

use std::sync::Arc;

use crate::change::{Change, Op, Order};
use crate::record::Record;
use crate::shard::Position;

/// The rule of one replica for one shard.
#[derive(Debug, Clone)]
pub struct Router {
    /// Records up to here are in the replica already.
    done: Position,
    /// The label of the stream, where changes are to carry their order.
    stream: Option<Arc<str>>,
}

// === impl Router ===

impl Router {
    /// Leaves out what `done`, the replica's checkpoint in the shard, says is applied already. Replicas of one
    /// shard stand at different records after a restart and are fed by one reader.
    pub fn new(done: Position) -> Self {
        Self { done, stream: None }
    }

    /// Lets changes carry their order in the stream with this label, for a replica that is written under a guard.
    #[must_use]
    pub fn ordered_by(self, stream: Option<Arc<str>>) -> Self {
        Self { stream, ..self }
    }

    /// For a shard that is read from this very start: the reader leaves out what is older, and knows better. Through
    /// an iterator at the latest record everything counts, whatever the clocks say.
    pub fn read_from(&mut self, start: Position) {
        if self.done == start && start.from_unix_ms().is_some() {
            self.done = Position::TrimHorizon;
        }
    }

    /// The change that `record` means for the replica; `None` when it does not concern it.
    pub fn change(&self, record: &Record) -> Option<Change> {
        if self.has(record) {
            return None;
        }
        let op = match &record.image {
            Some(item) => Op::Put(item.clone()),
            None => Op::Delete,
        };
        let order = self
            .stream
            .as_ref()
            .map(|stream| Order { stream: Arc::clone(stream), sequence: record.sequence });
        Some(Change { key: record.key.clone(), op, created_unix_ms: record.created_unix_ms, order })
    }

    fn has(&self, record: &Record) -> bool {
        match self.done {
            Position::TrimHorizon => false,
            Position::At { .. } | Position::Latest { .. } => {
                // The service rounds creation times down to the second.
                let second = |unix_ms: i64| unix_ms.div_euclid(1_000);
                self.done.from_unix_ms().is_some_and(|from| second(record.created_unix_ms) < second(from))
            }
            Position::After(sequence) => record.sequence <= sequence,
            Position::End => true,
        }
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
        let router = Router::new(Position::TrimHorizon);
        let image = r#"{"k":{"S":"a"},"n":{"N":"1.0"}}"#;
        let Some(Change { op: Op::Put(item), .. }) = router.change(&record("1", Some(image))) else {
            panic!("expected a put")
        };
        assert_eq!(item.as_bytes(), image.as_bytes());
        assert!(matches!(router.change(&record("2", None)), Some(Change { op: Op::Delete, .. })));
    }

    #[test]
    fn what_the_replica_has_is_left_out() {
        let router = Router::new(Position::After("100".parse().expect("a number")));
        assert!(router.change(&record("99", None)).is_none());
        assert!(router.change(&record("100", None)).is_none());
        assert!(router.change(&record("101", None)).is_some());
        assert!(Router::new(Position::At { unix_ms: 1_999 }).change(&record("1", None)).is_some());
        assert!(Router::new(Position::At { unix_ms: 2_000 }).change(&record("1", None)).is_none());
        assert!(Router::new(Position::End).change(&record("101", None)).is_none());
    }

    #[test]
    fn through_the_readers_own_start_everything_counts() {
        let start = Position::Latest { since_unix_ms: 60_000 };
        let mut router = Router::new(start);
        assert!(router.change(&record("1", None)).is_none());
        router.read_from(Position::TrimHorizon);
        assert!(router.change(&record("1", None)).is_none(), "read for another replica");
        router.read_from(start);
        assert!(router.change(&record("1", None)).is_some(), "a worker's clock is ahead");
    }
}
