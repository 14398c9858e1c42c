//! What a region is made of, and what its listener asks of it: which tables it follows, what it lets pass,
//! what it counts.

use super::{
    Config, Error, Observer, arn,
    clock::{Clock, millis},
    fault::{Faults, Reason},
    limit::Limits,
    pump::{Extent, Pump},
    reply::Reply,
    request::Request,
    table::{Birth, Description, Table},
    upstream::{self, Upstream},
};
use hyper::{HeaderMap, StatusCode};
use serde::Deserialize;
use std::{
    collections::HashMap,
    fmt,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Nobody writes past the emulator to an embedded server, so its poll is only a safety net.
const EMBEDDED_POLL: Duration = Duration::from_secs(1);

/// How soon a write that did not pass through here is seen.
const ENDPOINT_POLL: Duration = Duration::from_millis(200);

pub(super) struct Site {
    pub(super) name: Arc<str>,
    pub(super) address: SocketAddr,
    pub(super) config: Arc<Config>,
    pub(super) upstream: Upstream,
    pub(super) embedded: Option<dynoxide::Database>,
    pub(super) faults: Faults,
    pub(super) clock: Clock,
    pub(super) stop: CancellationToken,
    pub(super) tasks: TaskTracker,
    pub(super) runtime: tokio::runtime::Handle,
    tables: Mutex<HashMap<String, Arc<Table>>>,
    pub(super) limits: Limits,
    requests: Mutex<HashMap<String, u64>>,
    pub(super) observers: RwLock<Vec<Observer>>,
    pub(super) epoch: AtomicU32,
    chains: AtomicU64,
    pub(super) inconsistent: AtomicBool,
    rng: Mutex<fastrand::Rng>,
}

/// What a region is built from.
pub(super) struct Parts {
    pub(super) name: String,
    pub(super) address: SocketAddr,
    pub(super) config: Arc<Config>,
    pub(super) upstream: Upstream,
    pub(super) embedded: Option<dynoxide::Database>,
    pub(super) rng: fastrand::Rng,
    pub(super) stop: CancellationToken,
    pub(super) tasks: TaskTracker,
}

#[derive(Debug, Deserialize)]
struct Described {
    #[serde(rename = "Table", alias = "TableDescription")]
    table: Description,
}

impl fmt::Debug for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Site")
            .field("name", &self.name)
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl Site {
    pub(super) fn new(parts: Parts) -> Self {
        let Parts { name, address, config, upstream, embedded, mut rng, stop, tasks } = parts;
        Self {
            name: name.into(),
            address,
            config,
            upstream,
            embedded,
            faults: Faults::new(rng.fork()),
            clock: Clock::start(),
            stop,
            tasks,
            runtime: tokio::runtime::Handle::current(),
            tables: Mutex::default(),
            limits: Limits::default(),
            requests: Mutex::default(),
            observers: RwLock::default(),
            epoch: AtomicU32::new(0),
            chains: AtomicU64::new(0),
            inconsistent: AtomicBool::new(false),
            rng: Mutex::new(rng),
        }
    }

    pub(super) fn table(&self, name: &str) -> Option<Arc<Table>> {
        self.tracked().get(name).cloned()
    }

    pub(super) fn tables(&self) -> Vec<Arc<Table>> {
        self.tracked().values().cloned().collect()
    }

    pub(super) fn epoch(&self) -> u32 {
        self.epoch.load(Ordering::Relaxed)
    }

    pub(super) fn next_chain(&self) -> u64 {
        self.chains.fetch_add(1, Ordering::Relaxed)
    }

    /// Records that arrived before this are beyond the retention.
    pub(super) fn horizon_ms(&self) -> u64 {
        self.clock.now_ms().saturating_sub(millis(self.config.retention))
    }

    pub(super) fn chance(&self, probability: f64) -> bool {
        probability > 0.0 && self.rng().f64() < probability
    }

    pub(super) fn pump(&self, table: &Arc<Table>) -> Pump {
        Pump {
            table: Arc::clone(table),
            upstream: self.upstream.clone(),
            region: Arc::clone(&self.name),
            clock: self.clock,
        }
    }

    /// Counts a request and gives it an id.
    pub(super) fn count(&self, operation: &str) -> u128 {
        let mut counts = self.counts();
        match counts.get_mut(operation) {
            Some(count) => *count += 1,
            None => drop(counts.insert(operation.to_owned(), 1)),
        }
        drop(counts);
        self.rng().u128(..)
    }

    /// Whether one more item may be written to a table now.
    pub(super) fn admits(&self, table: &str) -> bool {
        self.limits.admit(arn::table_name(table), self.clock.now_ms())
    }

    pub(super) fn table_limit_reason(&self, table: &str) -> Reason {
        let resource = arn::in_region(&format!("arn:aws:dynamodb:x:000000000000:table/{table}"), &self.name);
        Reason { reason: "TableWriteProvisionedThroughputExceeded".to_owned(), resource }
    }

    /// Waits, but no longer than the region runs. Whether it waited to the end.
    pub(super) async fn pause(&self, duration: Duration) -> bool {
        tokio::select! {
            () = self.stop.cancelled() => false,
            () = tokio::time::sleep(duration) => true,
        }
    }

    /// Passes a request on as it is.
    pub(super) async fn forward(&self, request: Request) -> Reply {
        let Request { method, path, headers, body } = request;
        self.upstream.forward(method, &path, headers, body).await.unwrap_or_else(|error| {
            tracing::warn!(error = %error, region = %self.name, "request not passed on");
            let message = "The server behind the emulator cannot be reached";
            Reply::failure(StatusCode::INTERNAL_SERVER_ERROR, "InternalServerError", message)
        })
    }

    /// After a write succeeded: its records are about to be in the real stream.
    pub(super) fn wrote(&self, operation: &str, body: &[u8]) {
        self.tracked().values().for_each(|table| table.nudge.notify_one());
        for observer in self.observers.read().unwrap_or_else(PoisonError::into_inner).iter() {
            observer(operation, body);
        }
    }

    /// Passes an operation on a table on, follows what it does to the table's stream, and repairs the answer.
    pub(super) async fn table_operation(self: &Arc<Self>, operation: &str, request: Request) -> Reply {
        let identity =
            upstream::identity(&request.headers).unwrap_or_else(|| upstream::anonymous(&self.name));
        let table = request.tables().first().and_then(|name| self.table(name));
        if let Some(table) = table.as_ref().filter(|_| matches!(operation, "UpdateTable" | "DeleteTable")) {
            // What was written before must be taken over while the stream can still be read.
            if let Err(error) = self.pump(table).drain(Extent::Everything).await {
                tracing::warn!(table = %table.name, error = %error, "stream not drained");
            }
        }
        let reply = self.forward(request).await;
        if !reply.status.is_success() {
            return reply;
        }
        if operation == "DeleteTable" {
            if let Some(table) = table {
                table.state().disable(self.clock.now_ms());
            }
        } else if let Ok(described) = serde_json::from_slice::<Described>(&reply.body) {
            self.adopt(&described.table, identity);
        }
        self.repair(reply)
    }

    /// Takes up a table the emulator has not met, as the real server describes it.
    pub(super) async fn track(self: &Arc<Self>, name: &str) -> Result<Arc<Table>, Error> {
        let identity = upstream::anonymous(&self.name);
        let body = serde_json::json!({ "TableName": name }).to_string();
        let answer = self.upstream.call("DynamoDB_20120810", "DescribeTable", &identity, body).await;
        let answer =
            answer.map_err(|source| Error::Describe { table: name.to_owned(), source: source.into() })?;
        if let Ok(described) = serde_json::from_slice::<Described>(&answer) {
            self.adopt(&described.table, identity);
        }
        self.table(name).ok_or_else(|| Error::NoStream { table: name.to_owned() })
    }

    fn adopt(self: &Arc<Self>, description: &Description, identity: HeaderMap) {
        let name = &description.table_name;
        let mut tracked = self.tracked();
        let table = match tracked.get(name) {
            Some(table) => Arc::clone(table),
            None if !description.is_streamed() => return,
            None => {
                let table = Arc::new(Table::new(name));
                tracked.insert(name.clone(), Arc::clone(&table));
                let poll = if self.embedded.is_some() { EMBEDDED_POLL } else { ENDPOINT_POLL };
                self.tasks.spawn_on(self.pump(&table).run(poll, self.stop.clone()), &self.runtime);
                table
            }
        };
        drop(tracked);
        table.adopt(description, identity, self.birth());
    }

    /// Puts the region and the emulator's own stream into a table description.
    fn repair(&self, reply: Reply) -> Reply {
        let Ok(mut answer) = serde_json::from_slice::<serde_json::Value>(&reply.body) else {
            return reply;
        };
        arn::move_all(&mut answer, &self.name);
        for field in ["Table", "TableDescription"] {
            let Some(table) = answer.get_mut(field) else {
                continue;
            };
            let name = table.get("TableName").and_then(|name| name.as_str());
            let tracked = name.and_then(|name| self.table(name));
            if let Some(tracked) = tracked.filter(|_| table.get("LatestStreamArn").is_some())
                && let Some(stream) = tracked.state().current()
            {
                table["LatestStreamArn"] = stream.arn.as_str().into();
                table["LatestStreamLabel"] = stream.label.as_str().into();
            }
        }
        reply.with_body(answer.to_string())
    }

    pub(super) fn birth(&self) -> Birth<'_> {
        Birth {
            region: &self.name,
            now_ms: self.clock.now_ms(),
            shards: self.config.initial_shards,
            rng: self.rng().fork(),
            inconsistent: self.inconsistent.load(Ordering::Relaxed),
        }
    }

    fn tracked(&self) -> MutexGuard<'_, HashMap<String, Arc<Table>>> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn counts(&self) -> MutexGuard<'_, HashMap<String, u64>> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn rng(&self) -> MutexGuard<'_, fastrand::Rng> {
        self.rng.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
