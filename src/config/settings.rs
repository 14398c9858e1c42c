//! The checked configuration: plain data, every value already in the unit and range it promises.
//!
//! Each default is a constant beside the type it belongs to, with the reason for its value; ranges stand
//! there too, because a limit is part of what a setting means.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::{NonZeroU64, NonZeroUsize};
use std::ops::RangeInclusive;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const MIB: u64 = 1 << 20;

/// Everything one worker is told before it starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Where leases and checkpoints are kept.
    pub control: Control,
    /// This process.
    pub worker: Worker,
    /// The HTTP listener for metrics, probes and status.
    pub http: Http,
    /// What is logged and how it looks.
    pub log: Log,
    /// How long ownership of a shard lasts and how often progress is saved.
    pub lease: Lease,
    /// What is written to sources so that an idle one's lag is proven.
    pub heartbeat: Heartbeat,
    /// What is replicated; never empty.
    pub replications: Vec<Replication>,
}

/// How one DynamoDB endpoint is reached and with whose credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The region requests are signed for, for example `eu-west-1`.
    pub region: String,
    /// `http://` or `https://` address instead of the region's public one; never carries credentials.
    pub endpoint_url: Option<String>,
    /// Profile of the shared AWS configuration files the credentials start from.
    pub profile: Option<String>,
    /// Role to assume on top of the starting credentials.
    pub role_arn: Option<String>,
    /// Passed when the role is assumed; only ever set together with `role_arn`.
    pub external_id: Option<String>,
}

/// The control table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Control {
    /// Table name or table ARN.
    pub table: String,
    /// Where the table is.
    pub endpoint: Endpoint,
    /// Whether a missing table is created at start.
    pub create: bool,
}

impl Control {
    /// A name that says whose table it is in an account's list of tables.
    pub const DEFAULT_TABLE: &'static str = "dynamirror-control";
    /// A daemon in production should not need the right to create tables; `init` does it once.
    pub const DEFAULT_CREATE: bool = false;
}

/// This process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Worker {
    /// Name in the control table; `None` means host name and a random suffix.
    pub id: Option<String>,
    /// The longest drain after a termination signal.
    pub grace: Duration,
}

impl Worker {
    /// Five seconds below the 30 s after which ECS and Kubernetes kill by default.
    pub const DEFAULT_GRACE: Duration = Duration::from_secs(25);
    /// At least one write attempt must fit; nobody waits an hour for a shutdown.
    pub const GRACE: RangeInclusive<Duration> = SECOND..=Duration::from_secs(3600);
}

/// The HTTP listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Http {
    /// Address and port; port 0 takes any free port.
    pub listen: SocketAddr,
}

impl Http {
    /// Loopback, because status is nobody else's business until the operator says so; a fixed port,
    /// because Prometheus puts it into the `instance` label. 9464 is OpenTelemetry's exporter port.
    pub const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9464);
}

/// Logging.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// Text or JSON.
    pub format: LogFormat,
    /// A `tracing-subscriber` filter, for example `info,dynamirror::lease=debug`.
    pub filter: String,
}

impl Log {
    /// Every decision an operator can act on, and nothing per record.
    pub const DEFAULT_FILTER: &'static str = "info";
}

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// Text on a terminal, JSON otherwise.
    #[default]
    Auto,
    /// Human-readable lines.
    Text,
    /// One JSON object per line.
    Json,
}

impl LogFormat {
    /// Every format, in the order it is documented.
    pub const ALL: [LogFormat; 3] = [LogFormat::Auto, LogFormat::Text, LogFormat::Json];

    /// The word the configuration uses.
    pub const fn as_str(self) -> &'static str {
        match self {
            LogFormat::Auto => "auto",
            LogFormat::Text => "text",
            LogFormat::Json => "json",
        }
    }
}

/// Ownership of shards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// A dead worker's shards move to another one after this long.
    pub duration: Duration,
    /// How often progress is saved, which also renews the lease; at most `duration / 3`.
    pub checkpoint_interval: Duration,
}

impl Lease {
    /// Long enough for two lost renewals and a slow control table, short enough that a dead worker costs
    /// less than half a minute of lag.
    pub const DEFAULT_DURATION: Duration = Duration::from_secs(20);
    /// Below one second a single slow request loses the lease; beyond 15 minutes a dead worker's
    /// iterators would have expired and the lag would be somebody's incident.
    pub const DURATION: RangeInclusive<Duration> = SECOND..=Duration::from_secs(900);
    /// One control-table write per shard each 5 s: a restart repeats at most that much, for about
    /// 17,000 writes per shard and day.
    pub const DEFAULT_CHECKPOINT_INTERVAL: Duration = Duration::from_secs(5);
    /// Ten writes a second to one control row is already far more than anybody gains from.
    pub const CHECKPOINT_INTERVAL: RangeInclusive<Duration> =
        Duration::from_millis(100)..=Duration::from_secs(300);
    /// Checkpoints per lease: two may fail before the lease is in danger.
    pub const CHECKPOINTS_PER_DURATION: u32 = 3;
}

/// Heartbeats.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heartbeat {
    /// Where they are written, for replications that do not say it themselves.
    pub mode: HeartbeatMode,
    /// Time between two.
    pub interval: Duration,
    /// Name of the dedicated tables at sources; those at replicas carry the source's place behind it.
    pub table: String,
    /// Keys that are written to a table of the user's.
    pub keys: u64,
}

impl Heartbeat {
    /// Five of them, after which one counts as lost, fit into the minute that most alerts wait; three million writes a
    /// year and table cost a few dollars.
    pub const DEFAULT_INTERVAL: Duration = Duration::from_secs(10);
    /// Replicas are asked once a second; an hour between two is proof of nothing any more.
    pub const INTERVAL: RangeInclusive<Duration> = SECOND..=Duration::from_secs(3600);
    /// A name that says whose table it is in an account's list of tables.
    pub const DEFAULT_TABLE: &'static str = "dynamirror-heartbeat";
    /// Leaves room for a region's name and a digest within the 255 characters of a table's name.
    pub const TABLE_CHARS_MAX: usize = 180;
    /// Each is a write per interval, to the source and to every replica; few tables have more busy shards than this.
    pub const DEFAULT_KEYS: u64 = 4;
    /// What one BatchGetItem reads.
    pub const KEYS: RangeInclusive<u64> = 1..=100;
}

/// Where heartbeats are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HeartbeatMode {
    /// Nowhere.
    Off,
    /// To a table of their own, one per source endpoint.
    #[default]
    Dedicated,
    /// To the source table itself, under reserved keys.
    InTable,
}

impl HeartbeatMode {
    /// Every mode, in the order it is documented.
    pub const ALL: [HeartbeatMode; 3] =
        [HeartbeatMode::Off, HeartbeatMode::Dedicated, HeartbeatMode::InTable];

    /// The word the configuration uses.
    pub const fn as_str(self) -> &'static str {
        match self {
            HeartbeatMode::Off => "off",
            HeartbeatMode::Dedicated => "dedicated",
            HeartbeatMode::InTable => "in-table",
        }
    }
}

/// One source and the replicas that follow it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replication {
    /// Unique name; part of the control table's keys.
    pub name: String,
    /// Where reading begins when there is no checkpoint yet.
    pub start: Start,
    /// Where its heartbeats are written.
    pub heartbeat: HeartbeatMode,
    /// The table whose changes are read.
    pub source: Source,
    /// How often the stream is asked.
    pub poll: Poll,
    /// The tables that are written; never empty.
    pub replicas: Vec<Replica>,
    /// How they are verified all the time.
    pub verify: Verify,
}

/// The verification of replicas that never ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verify {
    /// The time in which all items are compared once; `None` is never.
    pub every: Option<Duration>,
    /// Read capacity units per second that it may take of each table.
    pub read_units: u64,
}

impl Verify {
    /// An hour is a pass of a small table at full speed; after a year nobody asks any more.
    pub const EVERY: RangeInclusive<Duration> =
        Duration::from_secs(3_600)..=Duration::from_secs(366 * 86_400);
    /// A thousand items of 1 kB in 20 seconds, which no table's users feel.
    pub const DEFAULT_READ_UNITS: u64 = 50;
    /// The default quota of a table on demand.
    pub const READ_UNITS: RangeInclusive<u64> = 1..=40_000;
}

/// Where reading begins when there is no checkpoint yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Start {
    /// The oldest change the stream still has (up to 24 hours).
    #[default]
    TrimHorizon,
    /// Only changes made after the start.
    Latest,
    /// Changes made at this time or later.
    At {
        /// Milliseconds since 1970-01-01T00:00:00Z.
        unix_ms: i64,
    },
}

/// The table whose changes are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Table name or table ARN.
    pub table: String,
    /// Where the table is.
    pub endpoint: Endpoint,
    /// Address of DynamoDB Streams where it differs from the table's `endpoint_url`, as with interface
    /// endpoints of a VPC; `None` means `endpoint.endpoint_url`.
    pub streams_endpoint_url: Option<String>,
}

/// How often the stream is asked. When a shard is behind there is no pause at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Poll {
    /// Pause between polls of a shard that had records lately.
    pub active: Duration,
    /// The slowest poll of an idle shard; never shorter than `active`.
    pub idle: Duration,
    /// Pause between full listings of the shards.
    pub discovery: Duration,
}

impl Poll {
    /// DynamoDB Streams serves five reads a second per shard.
    pub const DEFAULT_ACTIVE: Duration = Duration::from_millis(200);
    /// Zero would spin; ten seconds on a busy shard would be lag without reason.
    pub const ACTIVE: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(10);
    /// One read a second and shard: about 2.6 million requests per shard and month, half a dollar.
    pub const DEFAULT_IDLE: Duration = SECOND;
    /// A shard iterator lives 15 minutes; a third of that leaves room for retries.
    pub const IDLE: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(300);
    /// Children are found when their parent ends; this listing is the safety net, and DescribeStream is
    /// limited to ten calls a second per account.
    pub const DEFAULT_DISCOVERY: Duration = Duration::from_secs(30);
    /// Below, listings of a large stream overlap; above, a missed shard waits for minutes.
    pub const DISCOVERY: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(600);
}

/// A table that is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replica {
    /// Unique within its replication; part of the control table's keys and of metric labels.
    pub name: String,
    /// Table name or table ARN.
    pub table: String,
    /// Where the table is.
    pub endpoint: Endpoint,
    /// Memory that changes waiting for this replica may hold.
    pub buffer_bytes: NonZeroU64,
    /// Batch requests under way at the same time.
    pub batches_in_flight: NonZeroUsize,
    /// The longest one write attempt may take.
    pub attempt_timeout: Duration,
    /// Whether an item may go back to an older state.
    pub guard: Guard,
    /// Where an item under a guard keeps the mark of its newest change.
    pub guard_attribute: String,
    /// More refused keys than this stall the replica instead of being parked; 0 stalls at the first.
    pub park_limit: u64,
    /// How the items that the source holds already get into it.
    pub copy: FirstCopy,
    /// Whether a missing table is created like its source when replication starts.
    pub create: bool,
    /// What its table gets of the source's settings.
    pub schema: Schema,
}

/// The first copy of a replica.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FirstCopy {
    /// Whether it happens by itself.
    pub mode: CopyMode,
    /// Read units per second of the source that it may use; `None` for half of what the table has, or without a limit
    /// where it is billed on demand.
    pub read_units: Option<u64>,
    /// Whether reads are strongly consistent, which cost twice as much and need no window.
    pub consistent: bool,
    /// By how much other reads may be behind.
    pub window: Duration,
    /// Whether a replica that holds items may be copied to; those that the source does not have are deleted.
    pub reconcile: bool,
}

impl FirstCopy {
    /// A strongly consistent copy needs no window to be waited for, and most tables cost cents either way.
    pub const DEFAULT_CONSISTENT: bool = true;
    /// Whoever copies over a table that is not empty should have said so.
    pub const DEFAULT_RECONCILE: bool = false;
    /// The service gives no bound; a second is usual, and a minute is far above all that was ever seen.
    pub const DEFAULT_WINDOW: Duration = MINUTE;
    /// Below a second nothing is gained; an hour of remembered keys is memory for nothing.
    pub const WINDOW: RangeInclusive<Duration> = SECOND..=Duration::from_secs(3600);
    /// Nothing can be read for 0; above ten million no table goes.
    pub const READ_UNITS: RangeInclusive<u64> = 1..=10_000_000;
}

/// Whether a replica is copied by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CopyMode {
    /// Only by `dynamirror copy`.
    #[default]
    Off,
    /// When a worker begins with it for the first time.
    Auto,
}

impl CopyMode {
    /// All of them, in the order they are documented.
    pub const ALL: [Self; 2] = [Self::Off, Self::Auto];

    /// The word the configuration uses.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Auto => "auto",
        }
    }
}

/// What a replica's table gets of its source's settings beyond those that neither cost nor give access.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Schema {
    /// Warm throughput, which is paid for.
    pub warm_throughput: bool,
    /// Policies of the table and its stream.
    pub resource_policy: bool,
    /// Kinesis streams that get its changes.
    pub kinesis: bool,
    /// Encryption keys of the source with those that take their places.
    pub kms_keys: Vec<KmsKey>,
}

/// An encryption key of a source and the replica's instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KmsKey {
    /// The ARN of the source's key.
    pub source: String,
    /// The ARN, the ID or an alias of the replica's.
    pub replica: String,
}

/// What keeps a replay from replacing a newer state of an item by an older one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guard {
    /// Nothing but the lease: a replay may show older states until it is over.
    None,
    /// Conditional writes on a mark in each item.
    Sequence,
}

impl Guard {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::None, Self::Sequence];

    /// As it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Sequence => "sequence",
        }
    }
}

impl Replica {
    /// A daemon in production should not need the right to create tables; `schema apply` does it once.
    pub const DEFAULT_CREATE: bool = false;
    /// A name that no application has chosen for itself.
    pub const DEFAULT_GUARD_ATTRIBUTE: &str = "dynamirror:sequence";
    /// Thirty full GetRecords pages: seconds of a busy table, and ten replicas still fit a small container.
    pub const DEFAULT_BUFFER_BYTES: u64 = 32 * MIB;
    /// A page is up to 1 MB, and a record of two 400 KB images grows in JSON: 4 MiB always takes one
    /// page and one record more. Beyond 1 TiB it is a slip of the keyboard.
    pub const BUFFER_BYTES: RangeInclusive<u64> = 4 * MIB..=MIB * MIB;
    /// At 10 ms a batch this is some 80,000 writes a second, more than most replicas have capacity for.
    pub const DEFAULT_BATCHES_IN_FLIGHT: u64 = 32;
    /// Each one is a connection and may hold a 16 MB request.
    pub const BATCHES_IN_FLIGHT: RangeInclusive<u64> = 1..=1024;
    /// Far above a slow batch across an ocean; twice this must pass before a lost lease is safe to take.
    pub const DEFAULT_ATTEMPT_TIMEOUT: Duration = Duration::from_secs(4);
    /// Below, a distant region never answers in time; above, no sensible lease is long enough.
    pub const ATTEMPT_TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(100)..=MINUTE;
    /// A few bad items are parked and looked at; a thousand are a wrong schema, and waiting is cheaper.
    pub const DEFAULT_PARK_LIMIT: u64 = 1000;
    /// Every parked key is a row of the control table.
    pub const PARK_LIMIT: RangeInclusive<u64> = 0..=1_000_000;
}
