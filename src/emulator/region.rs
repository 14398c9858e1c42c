//! One region: its address, its tables, and the levers a test pulls.

use super::{
    Config, Error, arn,
    clock::{Clock, millis},
    fault::{Faults, Reason},
    limit::Bucket,
    lineage::Lineage,
    pump::{Extent, Pump},
    reply::Reply,
    request::Request,
    table::{Birth, Description, State, Table},
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

/// Called with the operation and the request body of every write that succeeded.
pub type Observer = Arc<dyn Fn(&str, &[u8]) + Send + Sync>;

/// Nobody writes past the emulator to an embedded server, so its poll is only a safety net.
const EMBEDDED_POLL: Duration = Duration::from_secs(1);

/// How soon a write that did not pass through here is seen.
const ENDPOINT_POLL: Duration = Duration::from_millis(200);

/// One virtual shard, as the emulator knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardInfo {
    /// The shard's id.
    pub id: String,
    /// The shard it came from by split or roll-over.
    pub parent: Option<String>,
    /// Whether records still arrive.
    pub open: bool,
    /// Records it holds, those trimmed not counted.
    pub records: usize,
}

/// A running region. Clones are handles to the same one.
#[derive(Debug, Clone)]
pub struct Region {
    inner: Arc<Inner>,
}

pub(super) struct Inner {
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
    limits: Mutex<HashMap<String, Bucket>>,
    limited: AtomicBool,
    requests: Mutex<HashMap<String, u64>>,
    observers: RwLock<Vec<Observer>>,
    epoch: AtomicU32,
    chains: AtomicU64,
    inconsistent: AtomicBool,
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

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inner")
            .field("name", &self.name)
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl Region {
    pub(super) fn new(inner: Arc<Inner>) -> Self {
        Self { inner }
    }

    /// The region's name.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// Where it listens, for example `http://127.0.0.1:40001`; both services answer there.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.inner.address)
    }

    /// The fault rules.
    pub fn faults(&self) -> &Faults {
        &self.inner.faults
    }

    /// Splits an open shard, drawn by the seed, in two. Returns the id of the parent.
    pub async fn split(&self, table: &str) -> Result<String, Error> {
        self.reshape(table, |lineage, now_ms| lineage.split(None, now_ms))
            .await
    }

    /// Splits this shard in two.
    pub async fn split_shard(&self, table: &str, shard_id: &str) -> Result<(), Error> {
        let id = shard_id.to_owned();
        self.reshape(table, move |lineage, now_ms| lineage.split(Some(&id), now_ms))
            .await
            .map(drop)
    }

    /// Rolls an open shard, drawn by the seed, over to one child. Returns the id of the parent.
    pub async fn roll(&self, table: &str) -> Result<String, Error> {
        self.reshape(table, |lineage, now_ms| lineage.roll(None, now_ms))
            .await
    }

    /// Rolls this shard over to one child.
    pub async fn roll_shard(&self, table: &str, shard_id: &str) -> Result<(), Error> {
        let id = shard_id.to_owned();
        self.reshape(table, move |lineage, now_ms| lineage.roll(Some(&id), now_ms))
            .await
            .map(drop)
    }

    /// Rolls every open shard over.
    pub async fn roll_all(&self, table: &str) -> Result<(), Error> {
        self.reshape(table, |lineage, now_ms| {
            lineage.roll_all(now_ms);
            Ok(())
        })
        .await
    }

    /// Makes every record written so far unreadable, in closed shards and in open ones.
    pub async fn trim(&self, table: &str) -> Result<(), Error> {
        self.alter(table, |state, _, _| {
            state.streams.iter_mut().for_each(|stream| stream.lineage.trim());
            Ok(())
        })
        .await
    }

    /// Makes a shard of any of the table's streams vanish; an open one is rolled over first.
    pub async fn forget_shard(&self, table: &str, shard_id: &str) -> Result<(), Error> {
        let id = shard_id.to_owned();
        self.alter(table, move |state, region, _| {
            let now_ms = region.clock.now_ms();
            let holder = state
                .streams
                .iter_mut()
                .find(|stream| stream.lineage.shards().any(|shard| shard.id == id));
            let Some(stream) = holder else {
                return Err(Error::NoShard { shard_id: id.clone() });
            };
            stream.lineage.forget(&id, now_ms).map_err(|source| Error::Shard {
                source: source.into(),
            })
        })
        .await
    }

    /// Puts a new stream in the place of the table's, as disabling and enabling it does. The old one stays
    /// readable, all its shards closed. Returns the new ARN.
    pub async fn replace_stream(&self, table: &str) -> Result<String, Error> {
        self.alter(table, |state, region, name| {
            state.replace(region.birth()).ok_or_else(|| Error::NoStream {
                table: name.to_owned(),
            })
        })
        .await
    }

    /// The shards of the table's newest stream, oldest first, with everything written so far.
    pub async fn shards(&self, table: &str) -> Result<Vec<ShardInfo>, Error> {
        self.alter(table, |state, _, _| {
            let lineage = state.current().map(|stream| &stream.lineage);
            Ok(lineage
                .into_iter()
                .flat_map(Lineage::shards)
                .map(ShardInfo::from)
                .collect())
        })
        .await
    }

    /// ARNs of all streams the table has had, oldest first.
    pub async fn streams(&self, table: &str) -> Result<Vec<String>, Error> {
        self.alter(table, |state, _, _| {
            Ok(state.streams.iter().map(|stream| stream.arn.clone()).collect())
        })
        .await
    }

    /// Makes every iterator handed out so far answer `ExpiredIteratorException`.
    pub fn expire_iterators(&self) {
        self.inner.epoch.fetch_add(1, Ordering::Relaxed);
    }

    /// While on, a split or roll-over shows up late: for one to three listings the parent still looks open, and
    /// a child may be missing.
    pub fn inconsistent_describe(&self, on: bool) {
        self.inner.inconsistent.store(on, Ordering::Relaxed);
        for table in self.inner.tables() {
            for stream in &mut table.state().streams {
                stream.lineage.inconsistent = on;
            }
        }
    }

    /// Limits what is written to a table; the burst is one second's worth. What does not fit comes back as
    /// `UnprocessedItems`, or as `ProvisionedThroughputExceededException` when nothing fits.
    pub fn limit_writes(&self, table: &str, items_per_second: f64) {
        let bucket = Bucket::new(items_per_second, self.inner.clock.now_ms());
        self.inner.limits().insert(table.to_owned(), bucket);
        self.inner.limited.store(true, Ordering::Relaxed);
    }

    /// Takes the limit of a table away.
    pub fn unlimit_writes(&self, table: &str) {
        let mut limits = self.inner.limits();
        limits.remove(table);
        self.inner.limited.store(!limits.is_empty(), Ordering::Relaxed);
    }

    /// Calls `observer` after every write that succeeded, also one whose answer the client never got.
    pub fn on_write(&self, observer: Observer) {
        self.inner
            .observers
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .push(observer);
    }

    /// How many requests of an operation arrived, those that met a fault included.
    pub fn requests(&self, operation: &str) -> u64 {
        self.inner.counts().get(operation).copied().unwrap_or(0)
    }

    /// The most readers any shard of the table had at once. A reader is a chain of iterators; two are there at
    /// once when their `GetRecords` calls interleave.
    pub fn max_readers(&self, table: &str) -> usize {
        let table = self.inner.table(table);
        let most = |table: Arc<Table>| {
            table
                .state()
                .streams
                .iter()
                .map(|stream| stream.most_readers())
                .max()
        };
        table.and_then(most).unwrap_or(0)
    }

    /// Deletes every item whose time to live is over, with a stream record that names the service. Returns how
    /// many. Only the embedded server can be told to.
    pub async fn sweep_ttl(&self) -> Result<usize, Error> {
        let database = self.inner.embedded.clone().ok_or(Error::NotEmbedded)?;
        let swept = self
            .inner
            .runtime
            .spawn_blocking(move || database.sweep_ttl())
            .await;
        let swept = swept.map_err(|source| Error::Interrupted { source })?;
        self.inner
            .tables()
            .iter()
            .for_each(|table| table.nudge.notify_one());
        swept.map_err(|source| Error::Sweep {
            source: source.into(),
        })
    }

    async fn reshape<T: Send + 'static>(
        &self,
        table: &str,
        reshape: impl FnOnce(&mut Lineage, u64) -> Result<T, super::lineage::Error> + Send + 'static,
    ) -> Result<T, Error> {
        self.alter(table, move |state, region, name| {
            let stream = state.current().ok_or_else(|| Error::NoStream {
                table: name.to_owned(),
            })?;
            let now_ms = region.clock.now_ms();
            reshape(&mut stream.lineage, now_ms).map_err(|source| Error::Shard {
                source: source.into(),
            })
        })
        .await
    }

    /// Drains what is written, then alters the table's streams; on the emulator's own runtime.
    async fn alter<T: Send + 'static>(
        &self,
        table: &str,
        alter: impl FnOnce(&mut State, &Inner, &str) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let (region, name) = (Arc::clone(&self.inner), table.to_owned());
        let altered = self.inner.runtime.spawn(async move {
            let table = match region.table(&name) {
                Some(table) => table,
                None => region.track(&name).await?,
            };
            let drained = region.pump(&table).drain(Extent::Everything).await;
            drained.map_err(|source| Error::Drain {
                table: name.clone(),
                source: source.into(),
            })?;
            let mut state = table.state();
            alter(&mut state, &region, &name)
        });
        altered.await.map_err(|source| Error::Interrupted { source })?
    }
}

impl From<&super::lineage::Shard> for ShardInfo {
    fn from(shard: &super::lineage::Shard) -> Self {
        Self {
            id: shard.id.clone(),
            parent: shard.parent.clone(),
            open: shard.is_open(),
            records: shard.records.len(),
        }
    }
}

impl Inner {
    pub(super) fn new(parts: Parts) -> Self {
        let Parts {
            name,
            address,
            config,
            upstream,
            embedded,
            mut rng,
            stop,
            tasks,
        } = parts;
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
            limits: Mutex::default(),
            limited: AtomicBool::new(false),
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

    pub(super) fn has_limits(&self) -> bool {
        self.limited.load(Ordering::Relaxed)
    }

    /// Whether one more item may be written to a table now.
    pub(super) fn admits(&self, table: &str) -> bool {
        let now_ms = self.clock.now_ms();
        self.limits()
            .get_mut(arn::table_name(table))
            .is_none_or(|bucket| bucket.take(now_ms))
    }

    pub(super) fn table_limit_reason(&self, table: &str) -> Reason {
        let resource = arn::in_region(
            &format!("arn:aws:dynamodb:x:000000000000:table/{table}"),
            &self.name,
        );
        Reason {
            reason: "TableWriteProvisionedThroughputExceeded".to_owned(),
            resource,
        }
    }

    /// Passes a request on as it is.
    pub(super) async fn forward(&self, request: Request) -> Reply {
        let Request {
            method,
            path,
            headers,
            body,
        } = request;
        self.upstream
            .forward(method, &path, headers, body)
            .await
            .unwrap_or_else(|error| {
                tracing::warn!(error = %error, region = %self.name, "request not passed on");
                let message = "The server behind the emulator cannot be reached";
                Reply::failure(StatusCode::INTERNAL_SERVER_ERROR, "InternalServerError", message)
            })
    }

    /// After a write succeeded: its records are about to be in the real stream.
    pub(super) fn wrote(&self, operation: &str, body: &[u8]) {
        self.tracked().values().for_each(|table| table.nudge.notify_one());
        for observer in self
            .observers
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
        {
            observer(operation, body);
        }
    }

    /// Passes an operation on a table on, follows what it does to the table's stream, and repairs the answer.
    pub(super) async fn table_operation(self: &Arc<Self>, operation: &str, request: Request) -> Reply {
        let identity =
            upstream::identity(&request.headers).unwrap_or_else(|| upstream::anonymous(&self.name));
        let table = request.tables().first().and_then(|name| self.table(name));
        if let Some(table) = table
            .as_ref()
            .filter(|_| matches!(operation, "UpdateTable" | "DeleteTable"))
        {
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
        let answer = self
            .upstream
            .call("DynamoDB_20120810", "DescribeTable", &identity, body)
            .await;
        let answer = answer.map_err(|source| Error::Describe {
            table: name.to_owned(),
            source: source.into(),
        })?;
        if let Ok(described) = serde_json::from_slice::<Described>(&answer) {
            self.adopt(&described.table, identity);
        }
        self.table(name).ok_or_else(|| Error::NoStream {
            table: name.to_owned(),
        })
    }

    fn adopt(self: &Arc<Self>, description: &Description, identity: HeaderMap) {
        let name = &description.table_name;
        let mut tracked = self.tracked();
        let table = match tracked.get(name) {
            Some(table) => Arc::clone(table),
            None if !description.is_streamed() => return,
            None => {
                let table = Arc::new(Table::new(name, identity));
                tracked.insert(name.clone(), Arc::clone(&table));
                let poll = if self.embedded.is_some() {
                    EMBEDDED_POLL
                } else {
                    ENDPOINT_POLL
                };
                self.tasks
                    .spawn_on(self.pump(&table).run(poll, self.stop.clone()), &self.runtime);
                table
            }
        };
        drop(tracked);
        table.adopt(description, self.birth());
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

    fn birth(&self) -> Birth<'_> {
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

    fn limits(&self) -> MutexGuard<'_, HashMap<String, Bucket>> {
        self.limits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn counts(&self) -> MutexGuard<'_, HashMap<String, u64>> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn rng(&self) -> MutexGuard<'_, fastrand::Rng> {
        self.rng.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
