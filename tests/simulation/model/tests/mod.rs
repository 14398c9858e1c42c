//! What the conformance suite cannot see: time, trouble, and the record of what happened.

mod calls;
mod streams;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::*;
use crate::change::{Change, Op};
use crate::clock::Clock;
use crate::item::Item;
use crate::key::Key;
use crate::record::View;

/// A model with one site and one table in it.
struct Bench {
    model: Model,
    site: Site,
    table: TableId,
}

const NODE: Node = Node(7);

impl Bench {
    fn new(seed: u64, quirks: Quirks) -> Self {
        let clock = Clock::Simulated { start_unix_ms: 1_900_000_000_000, start: Instant::now() };
        let model = Model::new(Settings::new(seed, clock));
        let site = model.add_site("eu-west-1", quirks);
        let table = model.add_table(site, "t", &[("k", "S")]);
        Self { model, site, table }
    }

    fn plain(seed: u64) -> Self {
        Self::new(seed, Quirks::plain())
    }

    fn handle(&self) -> Arc<Handle> {
        self.model.handle(NODE, self.site)
    }

    fn put(&self, name: &str, version: u32) {
        self.model.put(self.table, item(name, version));
    }

    /// The versions that landed, with the time from sending to landing.
    fn landed(&self) -> Vec<(String, Duration)> {
        self.model.history(|history| {
            let landed = history.of_table(self.table);
            landed.map(|write| (format!("{:?}", write.item), write.landed - write.sent)).collect()
        })
    }
}

fn key(name: &str) -> Key {
    let text = Bytes::from(format!(r#"{{"k":{{"S":"{name}"}}}}"#));
    Key::from_json(&text, 0..text.len()).expect("a key")
}

fn item(name: &str, version: u32) -> Item {
    Item::from_json(format!(r#"{{"k":{{"S":"{name}"}},"v":{{"N":"{version}"}}}}"#).into())
}

fn change(name: &str, version: u32) -> Change {
    Change { key: key(name), op: Op::Put(item(name, version)), created_unix_ms: 0, order: None }
}

async fn pass(duration: Duration) {
    tokio::time::sleep(duration).await;
}
