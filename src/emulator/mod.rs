//! An emulator of DynamoDB with streams as they really are: many shards that split, roll over and expire, and
//! an endpoint that throttles, resets and loses answers.
//!
//! Servers that speak the DynamoDB API outside AWS have one shard for each stream, never close it while the
//! stream is on, never throttle and never fail. This is a facade before such a server: an embedded one, or any
//! other at an address.
//!
//! ```text
//!            ┌─────────────── Region (one loopback listener) ───────────────┐
//!  client ──>│ serve ──> fault ──> limit ──> upstream ──────────────────────│──> real server
//!            │   │                                                          │        │ one shard
//!            │   └────> streams <── lineage (virtual shards) <── pump <─────│────────┘
//!            └──────────────────────────────────────────────────────────────┘
//! ```
//!
//! A write passes through as bytes and nudges the pump. The pump draws the table's one real shard into memory,
//! finds each record's place on a ring by its partition key, and appends it to the virtual shard that owns the
//! place. `DescribeStream`, `GetShardIterator`, `GetRecords` and `ListStreams` are answered from these shards.
//! Conditions, images and sequence numbers are the real server's.
//!
//! Invariants: a record is in exactly one shard; the records of one key are in order when parents are read
//! before children; what was written before a split was asked for is in the parent; the ARNs of a table, its
//! streams and their records agree.
//!
//! The emulator shares no code with the daemon it is used to judge.

mod arn;
mod batch;
mod clock;
mod embed;
mod fault;
mod iterator;
mod limit;
mod lineage;
mod pump;
mod readers;
mod record;
mod region;
mod reply;
mod request;
mod ring;
mod sequence;
mod serve;
mod site;
mod streams;
mod table;
#[cfg(test)]
mod tests;
mod upstream;

pub use fault::{Fault, Faults, Reason, Rule, RuleId, Throttle};
pub use region::{Observer, Region, ShardInfo};

use self::{
    embed::Template,
    site::{Parts, Site},
    upstream::Upstream as Client,
};
use std::{io, sync::Arc, time::Duration};
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// A source of any error below this module.
type Source = Box<dyn std::error::Error + Send + Sync>;

/// How long [`Emulator::stop`] waits for requests that are under way.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// The server behind the emulator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Upstream {
    /// One embedded server for each region, in memory.
    Embedded,
    /// The same server behind every region, for example `http://127.0.0.1:8000`.
    Endpoint(String),
}

/// What to emulate.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Regions to open, each with its own listener.
    pub regions: Vec<String>,
    /// The server behind them.
    pub upstream: Upstream,
    /// Shards a new stream begins with.
    pub initial_shards: u32,
    /// How long a record and a closed shard stay readable.
    pub retention: Duration,
    /// How long a shard iterator is good for.
    pub iterator_lifetime: Duration,
    /// Seed of every draw.
    pub seed: u64,
    /// Most shards in one `DescribeStream` answer.
    pub describe_page: usize,
    /// Most bytes of records in one `GetRecords` answer, unless the first record alone is larger.
    pub page_bytes: usize,
    /// Most records in one `GetRecords` answer.
    pub page_records: usize,
    /// Whether `DescribeStream` knows the `CHILD_SHARDS` filter; otherwise it ignores it.
    pub child_shards_filter: bool,
    /// Whether `GetShardIterator` knows `AT_TIMESTAMP`; otherwise it refuses it.
    pub at_timestamp: bool,
    /// Chance from 0 to 1 that a `GetRecords` answer is empty though records wait.
    pub empty_pages: f64,
}

impl Default for Config {
    /// One embedded region, and the limits of the API model.
    fn default() -> Self {
        Self {
            regions: vec!["us-east-1".to_owned()],
            upstream: Upstream::Embedded,
            initial_shards: 4,
            retention: Duration::from_hours(24),
            iterator_lifetime: Duration::from_mins(15),
            seed: 0,
            describe_page: 100,
            page_bytes: 1 << 20,
            page_records: 1000,
            child_shards_filter: true,
            at_timestamp: true,
            empty_pages: 0.0,
        }
    }
}

/// Why the emulator could not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No loopback port could be opened.
    #[error("listen on a loopback port")]
    Listen {
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// The embedded server could not be made.
    #[error("make the embedded server")]
    Embed {
        /// What failed.
        #[source]
        source: Source,
    },
    /// The real server did not describe a table.
    #[error("describe table `{table}`")]
    Describe {
        /// The table.
        table: String,
        /// What failed.
        #[source]
        source: Source,
    },
    /// The table has no stream, or none that grows.
    #[error("find a stream on table `{table}`")]
    NoStream {
        /// The table.
        table: String,
    },
    /// No stream of the table has this shard.
    #[error("find shard `{shard_id}`")]
    NoShard {
        /// The shard.
        shard_id: String,
    },
    /// The shard cannot be altered so.
    #[error("alter the shards")]
    Shard {
        /// What stands in the way.
        #[source]
        source: Source,
    },
    /// The real stream could not be read.
    #[error("drain the stream of table `{table}`")]
    Drain {
        /// The table.
        table: String,
        /// What failed.
        #[source]
        source: Source,
    },
    /// The server behind is not the embedded one.
    #[error("sweep a server that is not embedded")]
    NotEmbedded,
    /// The embedded server could not delete expired items.
    #[error("sweep expired items")]
    Sweep {
        /// What failed.
        #[source]
        source: Source,
    },
    /// The emulator's runtime went away meanwhile.
    #[error("finish before the emulator stopped")]
    Interrupted {
        /// The task's end.
        #[source]
        source: tokio::task::JoinError,
    },
}

/// What stands behind the regions.
enum Backing {
    Embedded(Template),
    Endpoint(Box<Client>),
}

/// A running emulator. It stops when dropped; [`Emulator::stop`] also waits.
#[derive(Debug)]
pub struct Emulator {
    regions: Vec<Region>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Emulator {
    /// Opens every region, on the runtime this is called on. The embedded server answers on the runtime's own
    /// threads without yielding, so give it a runtime with several, apart from the one under test.
    ///
    /// # Errors
    ///
    /// [`Error::Listen`] and [`Error::Embed`].
    pub async fn start(config: Config) -> Result<Self, Error> {
        let emulator =
            Self { regions: Vec::new(), stop: CancellationToken::new(), tasks: TaskTracker::new() };
        emulator.open(config).await
    }

    /// A region by name.
    ///
    /// # Panics
    ///
    /// When the configuration has no region of that name.
    pub fn region(&self, name: &str) -> &Region {
        let region = self.regions.iter().find(|region| region.name() == name);
        region.unwrap_or_else(|| panic!("no region `{name}` was configured"))
    }

    /// All regions, in the order of the configuration.
    pub fn regions(&self) -> &[Region] {
        &self.regions
    }

    /// Stops listening, lets requests under way end for a few seconds, and frees everything.
    pub async fn stop(self) {
        self.stop.cancel();
        self.tasks.close();
        if tokio::time::timeout(STOP_TIMEOUT, self.tasks.wait()).await.is_err() {
            tracing::debug!(tasks = self.tasks.len(), "emulator left tasks behind");
        }
    }

    async fn open(mut self, config: Config) -> Result<Self, Error> {
        let config = Arc::new(config);
        let backing = match &config.upstream {
            Upstream::Embedded => Backing::Embedded(
                Template::create().map_err(|source| Error::Embed { source: source.into() })?,
            ),
            Upstream::Endpoint(origin) => Backing::Endpoint(Box::new(Client::new(origin))),
        };
        let mut rng = fastrand::Rng::with_seed(config.seed);
        for name in &config.regions {
            let (upstream, embedded) = self.upstream(&backing).await?;
            let listener = listen().await?;
            let address = listener.local_addr().map_err(|source| Error::Listen { source })?;
            let site = Arc::new(Site::new(Parts {
                name: name.clone(),
                address,
                config: Arc::clone(&config),
                upstream,
                embedded,
                rng: rng.fork(),
                stop: self.stop.clone(),
                tasks: self.tasks.clone(),
            }));
            self.tasks.spawn(serve::listen(Arc::clone(&site), listener));
            self.regions.push(Region::new(site));
        }
        Ok(self)
    }

    /// The server behind one region, started if it is embedded.
    async fn upstream(&self, backing: &Backing) -> Result<(Client, Option<dynoxide::Database>), Error> {
        let template = match backing {
            Backing::Endpoint(client) => return Ok((Client::clone(client), None)),
            Backing::Embedded(template) => template,
        };
        let database = template.database().map_err(|source| Error::Embed { source: source.into() })?;
        let listener = listen().await?;
        let address = listener.local_addr().map_err(|source| Error::Listen { source })?;
        self.tasks.spawn(embed::serve(listener, database.clone(), self.stop.clone()));
        Ok((Client::new(&format!("http://{address}")), Some(database)))
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn listen() -> Result<TcpListener, Error> {
    TcpListener::bind(("127.0.0.1", 0)).await.map_err(|source| Error::Listen { source })
}
