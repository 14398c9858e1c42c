//! The world that the demo replicates in: an emulated source region, one emulated region per replica, their tables,
//! and a stream whose shards split and roll over.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::latency::Latency;
use super::load::{HASH_KEY, RANGE_KEY, STAMP};
use super::wire::{self, Wire};
use crate::clock::Clock;
use crate::emulator::{self, Emulator, Region};

/// The table's name, the same in every region.
pub(super) const TABLE: &str = "orders";

/// The source's region.
pub(super) const SOURCE_REGION: &str = "us-east-1";

/// Regions of replicas, in the order they are opened.
pub(super) const REPLICA_REGIONS: [&str; 8] = [
    "eu-central-1",
    "ap-northeast-1",
    "sa-east-1",
    "us-west-2",
    "ap-southeast-2",
    "eu-west-1",
    "ca-central-1",
    "cn-north-1",
];

/// How often a shard splits or rolls over while load runs.
const RESHAPE_INTERVAL: Duration = Duration::from_secs(2);

/// With this many open shards they only roll over: more of them show nothing new, and each is polled.
const OPEN_SHARDS_MAX: u64 = 16;

/// How often the backlog is renewed.
const WATCH_INTERVAL: Duration = Duration::from_millis(250);

/// All regions.
#[derive(Debug)]
pub(super) struct World {
    emulator: Emulator,
    pub(super) source: Site,
    pub(super) replicas: Vec<Site>,
}

/// One region, and how long changes take to get there.
#[derive(Debug, Clone)]
pub(super) struct Site {
    pub(super) region: Region,
    latency: Arc<Mutex<Latency>>,
}

/// What the source's stream is made of.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Stream {
    pub(super) records: u64,
    pub(super) open_shards: u64,
    pub(super) closed_shards: u64,
}

/// How often shards were reshaped.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Reshaped {
    pub(super) splits: u64,
    pub(super) rolls: u64,
}

/// Why there is no world.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A region cannot be opened, or its shards cannot be seen or altered.
    #[error(transparent)]
    Emulator(#[from] emulator::Error),
    /// A table cannot be made.
    #[error("make table `{TABLE}` in {region}")]
    Table {
        /// Where.
        region: String,
        /// Why.
        source: wire::Error,
    },
}

// === impl World ===

impl World {
    /// Opens the source region and `replicas` others, at most [`REPLICA_REGIONS`], with an empty table in each. The
    /// source's stream begins with `shards` shards.
    pub(super) async fn open(replicas: usize, shards: u32, seed: u64) -> Result<Self, Error> {
        let names = REPLICA_REGIONS.iter().take(replicas);
        let emulator = Emulator::start(emulator::Config {
            regions: [&SOURCE_REGION].into_iter().chain(names).map(ToString::to_string).collect(),
            initial_shards: shards,
            seed,
            ..emulator::Config::default()
        })
        .await?;
        let mut sites: Vec<_> = emulator.regions().iter().cloned().map(Site::new).collect();
        let source = sites.remove(0);
        source.create(true).await?;
        for replica in &sites {
            replica.create(false).await?;
            replica.measure();
        }
        Ok(Self { emulator, source, replicas: sites })
    }

    /// Stops all regions.
    pub(super) async fn close(self) {
        self.emulator.stop().await;
    }
}

/// Splits and rolls over shards of the source's stream in turn, and counts it, until `stop`.
pub(super) async fn reshape(source: Site, done: Arc<Mutex<Reshaped>>, stop: CancellationToken) {
    let mut ticks = tokio::time::interval(RESHAPE_INTERVAL);
    ticks.tick().await;
    for turn in 0u64.. {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let open = source.stream().await.map_or(0, |stream| stream.open_shards);
        let split = turn.is_multiple_of(2) && open < OPEN_SHARDS_MAX;
        let altered = if split { source.region.split(TABLE).await } else { source.region.roll(TABLE).await };
        let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
        match altered {
            Ok(_) if split => done.splits += 1,
            Ok(_) => done.rolls += 1,
            Err(error) => tracing::warn!(error = %error, "shard neither split nor rolled over"),
        }
    }
}

/// Looks at the source's stream again and again, until `stop`. A look waits until everything written is in the stream,
/// so whoever shows progress does not wait for it.
pub(super) async fn watch(source: Site, seen: watch::Sender<Stream>, stop: CancellationToken) {
    let mut ticks = tokio::time::interval(WATCH_INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        match source.stream().await {
            Ok(stream) => drop(seen.send_replace(stream)),
            Err(error) => tracing::warn!(error = %error, "source's stream cannot be seen"),
        }
    }
}

// === impl Site ===

impl Site {
    fn new(region: Region) -> Self {
        Self { region, latency: Arc::new(Mutex::new(Latency::new())) }
    }

    /// How long changes take from their write at the source to their write here.
    pub(super) fn latency(&self) -> MutexGuard<'_, Latency> {
        self.latency.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What has been written to the source's stream by now.
    pub(super) async fn stream(&self) -> Result<Stream, Error> {
        let mut stream = Stream::default();
        for shard in self.region.shards(TABLE).await? {
            stream.records += shard.records as u64;
            *if shard.open { &mut stream.open_shards } else { &mut stream.closed_shards } += 1;
        }
        Ok(stream)
    }

    /// A client of its own for this region.
    pub(super) fn wire(&self) -> Wire {
        Wire::new(&self.region.endpoint(), self.region.name())
    }

    async fn create(&self, streamed: bool) -> Result<(), Error> {
        let body = table(streamed).to_string().into_bytes();
        let created = self.wire().call("CreateTable", body).await;
        created.map(drop).map_err(|source| Error::Table { region: self.region.name().to_owned(), source })
    }

    /// From now on measures what is written here for the first time: a copy may bring once more what the stream brought
    /// long ago. Only items carry the time of their write, so deletions are not measured.
    fn measure(&self) {
        let latency = Arc::clone(&self.latency);
        let seen = Mutex::new(HashSet::new());
        self.region.on_write(Arc::new(move |_operation, body| {
            let now_unix_ms = Clock::System.unix_ms();
            let mut latency = latency.lock().unwrap_or_else(PoisonError::into_inner);
            let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            for (made_unix_ms, write) in stamps(body) {
                if seen.insert(write) {
                    latency.record(made_unix_ms, now_unix_ms);
                }
            }
        }));
    }
}

fn table(streamed: bool) -> Value {
    let mut table = json!({
        "TableName": TABLE,
        "KeySchema": [
            { "AttributeName": HASH_KEY, "KeyType": "HASH" },
            { "AttributeName": RANGE_KEY, "KeyType": "RANGE" },
        ],
        "AttributeDefinitions": [
            { "AttributeName": HASH_KEY, "AttributeType": "S" },
            { "AttributeName": RANGE_KEY, "AttributeType": "N" },
        ],
        "BillingMode": "PAY_PER_REQUEST",
    });
    if streamed {
        table["StreamSpecification"] = json!({
            "StreamEnabled": true,
            "StreamViewType": "NEW_AND_OLD_IMAGES",
        });
    }
    table
}

/// The times at which the items in a request were written at the source, and which writes these were.
fn stamps(body: &[u8]) -> impl Iterator<Item = (i64, u64)> {
    let attribute = format!("\"{STAMP}\":{{\"N\":\"");
    let starts: Vec<_> = memchr::memmem::find_iter(body, attribute.as_bytes()).collect();
    starts.into_iter().filter_map(move |start| {
        let digits = &body[start + attribute.len()..];
        let end = digits.iter().position(|byte| !byte.is_ascii_digit() && *byte != b'.')?;
        let (made_unix_ms, write) = std::str::from_utf8(&digits[..end]).ok()?.split_once('.')?;
        Some((made_unix_ms.parse().ok()?, write.parse().ok()?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_found_in_a_batch() {
        let body = br#"{"RequestItems":{"orders":[
            {"PutRequest":{"Item":{"written_at_ms":{"N":"1700000000001.0020000000000031"},"a":{"S":"x"}}}},
            {"DeleteRequest":{"Key":{"a":{"S":"written_at_ms"}}}},
            {"PutRequest":{"Item":{"a":{"S":"x"},"written_at_ms":{"N":"1700000000002.001"}}}}]}}"#;
        let found: Vec<_> = stamps(body).collect();
        assert_eq!(found, [(1_700_000_000_001, 20_000_000_000_031), (1_700_000_000_002, 1)]);
    }
}
