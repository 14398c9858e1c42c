//! One region: its address, its tables, and the levers a test pulls.

use super::{
    Error,
    fault::Faults,
    lineage::{self, Lineage},
    pump::Extent,
    site::Site,
    table::{State, Table},
};
use std::sync::{Arc, PoisonError, atomic::Ordering};

/// Called with the operation and the request body of every write that succeeded.
pub type Observer = Arc<dyn Fn(&str, &[u8]) + Send + Sync>;

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
    /// The sequence number of the newest record it holds.
    pub newest: Option<String>,
}

/// A running region. Clones are handles to the same one.
#[derive(Debug, Clone)]
pub struct Region {
    site: Arc<Site>,
}

impl Region {
    pub(super) fn new(site: Arc<Site>) -> Self {
        Self { site }
    }

    /// The region's name.
    pub fn name(&self) -> &str {
        &self.site.name
    }

    /// Where it listens, for example `http://127.0.0.1:40001`; both services answer there.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.site.address)
    }

    /// The fault rules.
    pub fn faults(&self) -> &Faults {
        &self.site.faults
    }

    /// Splits an open shard, drawn by the seed, in two. Returns the id of the parent.
    ///
    /// # Errors
    ///
    /// [`Error::NoStream`], [`Error::Shard`] when none is open, or why the real stream could not be read.
    pub async fn split(&self, table: &str) -> Result<String, Error> {
        self.reshape(table, |lineage, now_ms| lineage.split(None, now_ms)).await
    }

    /// Splits this shard in two.
    ///
    /// # Errors
    ///
    /// As [`Region::split`], and [`Error::Shard`] when the shard is closed, unknown or a single position.
    pub async fn split_shard(&self, table: &str, shard_id: &str) -> Result<(), Error> {
        let id = shard_id.to_owned();
        self.reshape(table, move |lineage, now_ms| lineage.split(Some(&id), now_ms)).await.map(drop)
    }

    /// Rolls an open shard, drawn by the seed, over to one child. Returns the id of the parent.
    ///
    /// # Errors
    ///
    /// As [`Region::split`].
    pub async fn roll(&self, table: &str) -> Result<String, Error> {
        self.reshape(table, |lineage, now_ms| lineage.roll(None, now_ms)).await
    }

    /// Rolls this shard over to one child.
    ///
    /// # Errors
    ///
    /// As [`Region::split_shard`].
    pub async fn roll_shard(&self, table: &str, shard_id: &str) -> Result<(), Error> {
        let id = shard_id.to_owned();
        self.reshape(table, move |lineage, now_ms| lineage.roll(Some(&id), now_ms)).await.map(drop)
    }

    /// Rolls every open shard over.
    ///
    /// # Errors
    ///
    /// As [`Region::split`]; no open shard is no error.
    pub async fn roll_all(&self, table: &str) -> Result<(), Error> {
        self.reshape(table, |lineage, now_ms| {
            lineage.roll_all(now_ms);
            Ok(())
        })
        .await
    }

    /// Makes every record written so far unreadable, in closed shards and in open ones.
    ///
    /// # Errors
    ///
    /// [`Error::NoStream`], or why the real stream could not be read.
    pub async fn trim(&self, table: &str) -> Result<(), Error> {
        self.alter(table, |state, _, _| {
            state.streams.iter_mut().for_each(|stream| stream.lineage.trim());
            Ok(())
        })
        .await
    }

    /// Makes a shard of any of the table's streams vanish; an open one is rolled over first.
    ///
    /// # Errors
    ///
    /// As [`Region::trim`], and [`Error::NoShard`].
    pub async fn forget_shard(&self, table: &str, shard_id: &str) -> Result<(), Error> {
        let id = shard_id.to_owned();
        self.alter(table, move |state, region, _| {
            let now_ms = region.clock.now_ms();
            let holder =
                state.streams.iter_mut().find(|stream| stream.lineage.shards().any(|shard| shard.id == id));
            let Some(stream) = holder else {
                return Err(Error::NoShard { shard_id: id.clone() });
            };
            stream.lineage.forget(&id, now_ms).map_err(|source| Error::Shard { source: source.into() })
        })
        .await
    }

    /// Puts a new stream in the place of the table's, as disabling and enabling it does. The old one stays
    /// readable, all its shards closed. Returns the new ARN.
    ///
    /// # Errors
    ///
    /// As [`Region::trim`]; [`Error::NoStream`] also when the stream is disabled.
    pub async fn replace_stream(&self, table: &str) -> Result<String, Error> {
        self.alter(table, |state, region, name| {
            state.replace(region.birth()).ok_or_else(|| Error::NoStream { table: name.to_owned() })
        })
        .await
    }

    /// The shards of the table's newest stream, oldest first, with everything written so far.
    ///
    /// # Errors
    ///
    /// As [`Region::trim`].
    pub async fn shards(&self, table: &str) -> Result<Vec<ShardInfo>, Error> {
        self.alter(table, |state, _, _| {
            let lineage = state.current().map(|stream| &stream.lineage);
            Ok(lineage.into_iter().flat_map(Lineage::shards).map(ShardInfo::from).collect())
        })
        .await
    }

    /// ARNs of all streams the table has had, oldest first.
    ///
    /// # Errors
    ///
    /// As [`Region::trim`].
    pub async fn streams(&self, table: &str) -> Result<Vec<String>, Error> {
        self.alter(table, |state, _, _| Ok(state.streams.iter().map(|stream| stream.arn.clone()).collect()))
            .await
    }

    /// Makes every iterator handed out so far answer `ExpiredIteratorException`.
    pub fn expire_iterators(&self) {
        self.site.epoch.fetch_add(1, Ordering::Relaxed);
    }

    /// While on, a split or roll-over shows up late: for one to three listings the parent still looks open, and
    /// a child may be missing.
    pub fn inconsistent_describe(&self, on: bool) {
        self.site.inconsistent.store(on, Ordering::Relaxed);
        for table in self.site.tables() {
            for stream in &mut table.state().streams {
                stream.lineage.inconsistent = on;
            }
        }
    }

    /// Limits what is written to a table; the burst is one second's worth. What does not fit comes back as
    /// `UnprocessedItems`, or as `ProvisionedThroughputExceededException` when nothing fits.
    pub fn limit_writes(&self, table: &str, items_per_second: f64) {
        self.site.limits.set(table, items_per_second, self.site.clock.now_ms());
    }

    /// Takes the limit of a table away.
    pub fn unlimit_writes(&self, table: &str) {
        self.site.limits.remove(table);
    }

    /// Calls `observer` after every write that succeeded, also one whose answer the client never got.
    pub fn on_write(&self, observer: Observer) {
        self.site.observers.write().unwrap_or_else(PoisonError::into_inner).push(observer);
    }

    /// How many requests of an operation arrived, those that met a fault included.
    pub fn requests(&self, operation: &str) -> u64 {
        self.site.counts().get(operation).copied().unwrap_or(0)
    }

    /// The most readers any shard of the table had at once. A reader is a chain of iterators; two are there at
    /// once when their `GetRecords` calls interleave.
    pub fn max_readers(&self, table: &str) -> usize {
        let table = self.site.table(table);
        let most = |table: Arc<Table>| table.state().streams.iter().map(|stream| stream.most_readers()).max();
        table.and_then(most).unwrap_or(0)
    }

    /// Deletes every item whose time to live is over, with a stream record that names the service. Returns how
    /// many. Only the embedded server can be told to.
    ///
    /// # Errors
    ///
    /// [`Error::NotEmbedded`] and [`Error::Sweep`].
    pub async fn sweep_ttl(&self) -> Result<usize, Error> {
        let database = self.site.embedded.clone().ok_or(Error::NotEmbedded)?;
        let swept = self.site.runtime.spawn_blocking(move || database.sweep_ttl()).await;
        let swept = swept.map_err(|source| Error::Interrupted { source })?;
        self.site.tables().iter().for_each(|table| table.nudge.notify_one());
        swept.map_err(|source| Error::Sweep { source: source.into() })
    }

    async fn reshape<T: Send + 'static>(
        &self,
        table: &str,
        reshape: impl FnOnce(&mut Lineage, u64) -> Result<T, lineage::Error> + Send + 'static,
    ) -> Result<T, Error> {
        self.alter(table, move |state, region, name| {
            let stream = state.current().ok_or_else(|| Error::NoStream { table: name.to_owned() })?;
            let now_ms = region.clock.now_ms();
            reshape(&mut stream.lineage, now_ms).map_err(|source| Error::Shard { source: source.into() })
        })
        .await
    }

    /// Drains what is written, then alters the table's streams; on the emulator's own runtime.
    async fn alter<T: Send + 'static>(
        &self,
        table: &str,
        alter: impl FnOnce(&mut State, &Site, &str) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let (region, name) = (Arc::clone(&self.site), table.to_owned());
        let altered = self.site.runtime.spawn(async move {
            let table = match region.table(&name) {
                Some(table) => table,
                None => region.track(&name).await?,
            };
            let drained = region.pump(&table).drain(Extent::Everything).await;
            drained.map_err(|source| Error::Drain { table: name.clone(), source: source.into() })?;
            let mut state = table.state();
            alter(&mut state, &region, &name)
        });
        altered.await.map_err(|source| Error::Interrupted { source })?
    }
}

impl From<&lineage::Shard> for ShardInfo {
    fn from(shard: &lineage::Shard) -> Self {
        Self {
            id: shard.id.clone(),
            parent: shard.parent.clone(),
            open: shard.is_open(),
            records: shard.records.len(),
            newest: shard.records.back().map(|record| record.sequence.to_string()),
        }
    }
}
