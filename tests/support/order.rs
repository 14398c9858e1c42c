//! Watches the writes of one replica: the versions of a key never go back (I3).

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use dynamirror::emulator::Region;
use serde_json::Value;

/// Sees every write that a region's server did.
pub(crate) struct Order {
    seen: Arc<Mutex<Seen>>,
}

#[derive(Default)]
struct Seen {
    /// The newest version of each key, by table and key attributes.
    versions: HashMap<String, i64>,
    writes: usize,
    violations: Vec<String>,
}

impl Order {
    /// Watches `region` from now on. `key` names the key attributes.
    pub(crate) fn watch(region: &Region, key: &'static [&'static str]) -> Self {
        let seen: Arc<Mutex<Seen>> = Arc::default();
        let observer = Arc::clone(&seen);
        region.on_write(Arc::new(move |operation, body| {
            if operation == "BatchWriteItem" {
                let body: Value = serde_json::from_slice(body).expect("a request that was done is JSON");
                observer.lock().expect("no test panics here").batch(&body, key);
            }
        }));
        Self { seen }
    }

    /// Nothing went back, and there was something to see.
    pub(crate) fn assert(&self) {
        let seen = self.seen.lock().expect("no test panics here");
        assert!(seen.writes > 0, "no write was seen at all");
        assert!(seen.violations.is_empty(), "versions went back: {:#?}", seen.violations);
    }
}

impl Seen {
    fn batch(&mut self, body: &Value, key: &[&str]) {
        let tables = body["RequestItems"].as_object().expect("tables");
        for (table, requests) in tables {
            for request in requests.as_array().expect("requests") {
                self.writes += 1;
                let item = &request["PutRequest"]["Item"];
                let Some(version) = item["version"]["N"].as_str() else {
                    continue;
                };
                let version: i64 = version.parse().expect("versions are whole numbers");
                let key: Vec<_> = key.iter().map(|name| item[*name].to_string()).collect();
                let key = format!("{table} {key:?}");
                let before = self.versions.insert(key.clone(), version);
                if let Some(before) = before.filter(|before| *before > version) {
                    self.violations.push(format!("{key}: {version} after {before}"));
                }
            }
        }
    }
}
