//! Tables in several regions, and everything a test needs to know about them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::{BehaviorVersion, Credentials, Region as SdkRegion};
use aws_sdk_dynamodbstreams::types::ShardIteratorType;
use dynamirror::clock::Clock;
use dynamirror::control::Control;
use dynamirror::dynamo::{AccessKey, Endpoint, Guard, Tables, connect};
use dynamirror::emulator::{self, Emulator, Region, ShardInfo, Upstream};
use dynamirror::lease::{self, Leases, Row};
use dynamirror::replica::parked::Parked;
use dynamirror::shard::{Position, SequenceNumber};
use dynamirror::stream;
use dynamirror::supervisor::status::Status;
use dynamirror::supervisor::{FirstCopy, Start};
use tokio::runtime::Runtime;

use super::shape::Shape;
use super::value::{Item, spell_item};
use super::{Load, Running, compare, target, wait};

/// What a test wants its world to be.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// Tables at the source; each becomes a replication.
    pub(crate) shapes: Vec<Shape>,
    /// Replica tables of each.
    pub(crate) replicas: usize,
    /// The emulator, but for its regions and server.
    pub(crate) emulator: emulator::Config,
    /// Whether workers speak to the server itself; only with a server at an address.
    pub(crate) direct: bool,
    /// Where replicas start.
    pub(crate) start: Start,
    /// Times of leases.
    pub(crate) lease: lease::Config,
    /// Time a drain may take.
    pub(crate) grace: Duration,
    /// How often shards are polled.
    pub(crate) reader: stream::Config,
    /// Time between full listings of shards.
    pub(crate) discovery: Duration,
    /// Memory for each replica.
    pub(crate) buffer_bytes: usize,
    /// Requests under way to each replica.
    pub(crate) batches_in_flight: usize,
    /// Longest time of one write.
    pub(crate) attempt_timeout: Duration,
    /// How replicas are guarded against older states.
    pub(crate) guard: Option<Guard>,
    /// Keys that may be parked.
    pub(crate) park_limit: usize,
    /// How what the source holds already gets into the replicas.
    pub(crate) copy: FirstCopy,
    /// The time of day that workers see.
    pub(crate) clock: Clock,
    /// What heartbeats are written.
    pub(crate) heartbeats: Heartbeats,
}

/// Where heartbeats are written.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Heartbeats {
    /// Nowhere.
    Off,
    /// Under so many keys in the first table.
    InTable(usize),
    /// To tables of their own, which the test creates with [`World::create_heartbeat_tables`].
    Dedicated,
}

/// One region as a test sees it.
pub(crate) struct Place {
    /// Its name.
    pub(crate) region: String,
    /// Where it answers.
    pub(crate) endpoint: String,
    /// A client of its own that shares nothing with the daemon.
    pub(crate) client: Client,
}

/// Source, replicas and control table, each in a region of its own.
pub(crate) struct World {
    pub(crate) options: Options,
    /// Before all names of this test's tables and workers.
    pub(crate) prefix: String,
    /// Where the source tables are.
    pub(crate) source: Place,
    /// Where the control table is.
    pub(crate) control: Place,
    /// Where the replicas are, in order.
    pub(crate) replicas: Vec<Place>,
    /// The name of the control table.
    pub(crate) control_table: String,
    emulator: Option<Emulator>,
    runtime: Option<Runtime>,
    workers: AtomicU32,
}

impl Default for Options {
    /// One table, two replicas, four shards; everything as quick as a busy machine with two cores can bear.
    fn default() -> Self {
        Self {
            shapes: vec![Shape::orders()],
            replicas: 2,
            emulator: emulator::Config::default(),
            direct: false,
            start: Start::TrimHorizon,
            lease: lease::Config {
                duration: Duration::from_secs(8),
                renew_interval: Duration::from_millis(250),
                longest_attempt: Duration::from_secs(2),
            },
            grace: Duration::from_secs(20),
            reader: stream::Config {
                active_pause: Duration::from_millis(200),
                idle_pause: Duration::from_millis(250),
            },
            discovery: Duration::from_millis(500),
            buffer_bytes: 32 << 20,
            batches_in_flight: 8,
            attempt_timeout: Duration::from_secs(2),
            guard: None,
            park_limit: 100,
            copy: FirstCopy::OnDemand,
            clock: Clock::System,
            heartbeats: Heartbeats::Off,
        }
    }
}

impl World {
    /// One table with everything else as it is by default.
    pub(crate) async fn start() -> Self {
        Self::with(Options::default()).await
    }

    /// Starts the regions and creates all tables.
    pub(crate) async fn with(options: Options) -> Self {
        show_logs();
        target::server().tell();
        Box::pin(Self::build(options)).await
    }

    async fn build(options: Options) -> Self {
        let prefix = format!("t{:08x}", fastrand::u32(..));
        let mut regions = vec!["us-east-1".to_owned(), "eu-central-1".to_owned()];
        regions.extend((1..=options.replicas).map(|number| format!("eu-west-{number}")));
        let (runtime, emulator) = if options.direct {
            target::required_endpoint();
            (None, None)
        } else {
            let (runtime, emulator) = emulate(&options, &regions).await;
            (Some(runtime), Some(emulator))
        };
        let place = |region: &String| {
            let endpoint = match &emulator {
                Some(emulator) => emulator.region(region).endpoint(),
                None => target::required_endpoint(),
            };
            let client = client(region, &endpoint, &prefix);
            Place { region: region.clone(), endpoint, client }
        };
        let world = Self {
            source: place(&regions[0]),
            control: place(&regions[1]),
            replicas: regions[2..].iter().map(place).collect(),
            control_table: format!("{prefix}-control"),
            workers: AtomicU32::new(0),
            options,
            prefix,
            emulator,
            runtime,
        };
        world.create().await;
        world
    }

    async fn create(&self) {
        for shape in &self.options.shapes {
            shape.create(&self.source.client, &self.source_table(shape), true).await;
            for (index, place) in self.replicas.iter().enumerate() {
                shape.create(&place.client, &self.replica_table(shape, index), false).await;
            }
        }
        let tables = connect(&self.endpoint(&self.control)).await.tables();
        tables.create(&self.control_table).await.expect("the control table is created");
    }

    /// The only table, or the first.
    pub(crate) fn shape(&self) -> &Shape {
        &self.options.shapes[0]
    }

    /// The name of a table at the source.
    pub(crate) fn source_table(&self, shape: &Shape) -> String {
        format!("{}-{}", self.prefix, shape.name)
    }

    /// The name of a table in a replica. The numbers start with 0.
    pub(crate) fn replica_table(&self, shape: &Shape, index: usize) -> String {
        format!("{}-{}-replica-{index}", self.prefix, shape.name)
    }

    /// The name of the first source table.
    pub(crate) fn table(&self) -> String {
        self.source_table(self.shape())
    }

    /// The name of the heartbeat table at the source.
    pub(crate) fn heartbeat_table(&self) -> String {
        format!("{}-heartbeat", self.prefix)
    }

    /// The name of the heartbeat table in a replica.
    pub(crate) fn heartbeat_replica(&self, index: usize) -> String {
        format!("{}-heartbeat.replica-{index}", self.prefix)
    }

    /// Creates the tables of dedicated heartbeats.
    pub(crate) async fn create_heartbeat_tables(&self) {
        let tables = connect(&self.endpoint(&self.source)).await.tables();
        let table = self.heartbeat_table();
        tables.create(&table).await.expect("the heartbeat table is created");
        tables.enable_stream(&table).await.expect("its stream is on");
        for (index, place) in self.replicas.iter().enumerate() {
            let tables = connect(&self.endpoint(place)).await.tables();
            tables.create(&self.heartbeat_replica(index)).await.expect("its replica is created");
        }
    }

    /// The emulated region of the source.
    pub(crate) fn source_region(&self) -> &Region {
        self.region(&self.source)
    }

    /// The emulated region of a replica.
    pub(crate) fn replica_region(&self, index: usize) -> &Region {
        self.region(&self.replicas[index])
    }

    /// The emulated region of the control table.
    pub(crate) fn control_region(&self) -> &Region {
        self.region(&self.control)
    }

    fn region(&self, place: &Place) -> &Region {
        self.emulator.as_ref().expect("this world is emulated").region(&place.region)
    }

    /// A writer to the first table.
    pub(crate) fn load(&self, keys: usize, seed: u64) -> Load {
        self.load_of(self.shape(), keys, seed)
    }

    /// A writer to a table.
    pub(crate) fn load_of(&self, shape: &Shape, keys: usize, seed: u64) -> Load {
        Load::new(self.source.client.clone(), &self.source_table(shape), shape, keys, seed)
    }

    /// How the daemon's clients reach a place.
    pub(crate) fn endpoint(&self, place: &Place) -> Endpoint {
        Endpoint {
            endpoint_url: Some(place.endpoint.clone()),
            access_key: Some(AccessKey { id: self.prefix.clone(), secret: "secret".to_owned() }),
            attempt_timeout: self.options.attempt_timeout,
            read_timeout: Duration::from_secs(10),
            ..Endpoint::new(&place.region)
        }
    }

    /// The control table, through a client of its own.
    pub(crate) async fn control_of(&self) -> Control {
        let tables: Arc<dyn Tables> = Arc::new(connect(&self.endpoint(&self.control)).await.tables());
        Control::new(tables, &self.control_table)
    }

    /// The keys that a replica of the first table has parked.
    pub(crate) async fn parked(&self, index: usize) -> Parked {
        Parked::new(self.control_of().await, self.shape().name, &format!("replica-{index}"), Clock::System)
    }

    /// A worker that replicates everything.
    pub(crate) async fn worker(&self) -> Running {
        let number = self.workers.fetch_add(1, Ordering::Relaxed);
        Running::start(self, &format!("worker-{number}"), &self.options).await
    }

    /// A worker with other options, which may have more or fewer replicas than the world.
    pub(crate) async fn worker_with(&self, options: &Options) -> Running {
        let number = self.workers.fetch_add(1, Ordering::Relaxed);
        Running::start(self, &format!("worker-{number}"), options).await
    }

    /// The rows of all shards of a table.
    pub(crate) async fn rows(&self, shape: &Shape) -> Vec<Row> {
        let rows = Leases::new(self.control_of().await, shape.name, "a test").load().await;
        rows.expect("the rows can be read")
    }

    /// Waits until everything that was written is durable in all replicas by the control table's evidence, then
    /// compares all tables item by item, at once and only once.
    ///
    /// # Panics
    /// When that does not come about, or a table differs, or a shard had more readers than it may (I9).
    pub(crate) async fn settled(&self, worker: &Running) {
        self.settled_but(worker, &[]).await;
    }

    /// As [`World::settled`], but for keys of the first table whose changes are parked.
    pub(crate) async fn settled_but(&self, worker: &Running, parked: &[Item]) {
        self.equal_but(&|| worker.tell(), parked).await;
        worker.assert_ledger().await;
        self.assert_readers();
    }

    /// As [`World::settled`], whoever replicates; `tell` says what it tells of itself.
    pub(crate) async fn equal(&self, tell: &dyn Fn() -> String) {
        self.equal_but(tell, &[]).await;
    }

    async fn equal_but(&self, tell: &dyn Fn() -> String, parked: &[Item]) {
        for shape in &self.options.shapes {
            self.durable_for(shape, tell).await;
        }
        for shape in &self.options.shapes {
            for index in 0..self.replicas.len() {
                let differences = self.differences(shape, index, parked).await;
                assert!(
                    differences.is_empty(),
                    "replica {index} of {} is not equal to its source although all is checkpointed: {}\n{}",
                    shape.name,
                    compare::tell(&differences),
                    tell()
                );
            }
        }
    }

    /// Waits until the checkpoints of all shards say that everything written is durable everywhere.
    pub(crate) async fn durable(&self, shape: &Shape, worker: &Running) {
        self.durable_for(shape, &|| worker.tell()).await;
    }

    async fn durable_for(&self, shape: &Shape, tell: &dyn Fn() -> String) {
        let newest = self.newest(shape).await;
        let behind = async || -> Vec<String> {
            let rows: BTreeMap<_, _> =
                self.rows(shape).await.into_iter().map(|row| (row.shard.to_string(), row)).collect();
            let lacks = |(shard, number): (&String, &SequenceNumber)| match rows.get(shard) {
                None => Some(format!("shard {shard} has no row")),
                Some(row) => self.lacks(row, *number),
            };
            newest.iter().filter_map(lacks).collect()
        };
        let mut last = Vec::new();
        let done = wait::within(wait::PATIENCE, async || {
            last = behind().await;
            last.is_empty().then_some(())
        });
        if done.await.is_none() {
            panic!(
                "not everything written to {} became durable:\n{}\n{}",
                shape.name,
                last.join("\n"),
                tell()
            );
        }
    }

    fn lacks(&self, row: &Row, number: SequenceNumber) -> Option<String> {
        let names = (0..self.replicas.len()).map(|index| format!("replica-{index}"));
        let behind = names.filter(|name| {
            let reached = row.checkpoints.get(name).map(|checkpoint| checkpoint.position);
            !reached.is_some_and(|reached| reached >= Position::After(number))
        });
        let behind: Vec<_> = behind.collect();
        (!behind.is_empty()).then(|| format!("{behind:?} have not reached {number} of {row:?}"))
    }

    /// The newest sequence number of each shard that has any record.
    async fn newest(&self, shape: &Shape) -> BTreeMap<String, SequenceNumber> {
        let table = self.source_table(shape);
        let shards = match &self.emulator {
            Some(_) => {
                let shards = self.source_region().shards(&table).await.expect("the shards are known");
                let newest = |shard: ShardInfo| Some((shard.id, shard.newest?));
                shards.into_iter().filter_map(newest).collect()
            }
            None => self.read_newest(&table).await,
        };
        let parse = |(shard, number): (String, String)| (shard, number.parse().expect("a sequence number"));
        shards.into_iter().map(parse).collect()
    }

    /// Reads the one shard that a real server here has to its present end.
    async fn read_newest(&self, table: &str) -> Vec<(String, String)> {
        let described =
            self.source.client.describe_table().table_name(table).send().await.expect("described");
        let arn = described.table().and_then(|table| table.latest_stream_arn()).expect("a stream").to_owned();
        let streams = streams_client(&self.source.region, &self.source.endpoint, &self.prefix);
        let stream = streams.describe_stream().stream_arn(&arn).send().await.expect("described");
        let mut newest = Vec::new();
        for shard in stream.stream_description().expect("a description").shards() {
            let id = shard.shard_id().expect("an id").to_owned();
            let iterator = streams
                .get_shard_iterator()
                .stream_arn(&arn)
                .shard_id(&id)
                .shard_iterator_type(ShardIteratorType::TrimHorizon);
            let mut iterator = iterator.send().await.expect("an iterator").shard_iterator;
            while let Some(next) = iterator.take() {
                let page = streams.get_records().shard_iterator(next).send().await.expect("a page");
                if let Some(record) = page.records().last() {
                    let number = record.dynamodb().and_then(|record| record.sequence_number());
                    newest.retain(|(other, _)| *other != id);
                    newest.push((id.clone(), number.expect("a number").to_owned()));
                    iterator = page.next_shard_iterator;
                }
            }
        }
        newest
    }

    /// How a replica differs from its source, but for some keys.
    pub(crate) async fn differences(&self, shape: &Shape, index: usize, without: &[Item]) -> Vec<String> {
        let mut source = compare::items(&self.source.client, &self.source_table(shape), shape).await;
        let place = &self.replicas[index];
        let mut replica = compare::items(&place.client, &self.replica_table(shape, index), shape).await;
        if let Some(guard) = &self.options.guard {
            for (key, item) in &mut replica {
                assert!(item.remove(&guard.attribute).is_some(), "{key} has no mark");
            }
        }
        for key in without {
            source.remove(&spell_item(key));
            replica.remove(&spell_item(key));
        }
        compare::differences(&source, &replica)
    }

    /// One item of a replica of the first table.
    pub(crate) async fn replica_item(&self, index: usize, key: &Item) -> Option<Item> {
        let table = self.replica_table(self.shape(), index);
        let get = self.replicas[index].client.get_item().table_name(table).set_key(Some(key.clone()));
        get.consistent_read(true).send().await.expect("the item is read").item
    }

    /// No shard ever had more than two readers (I9).
    pub(crate) fn assert_readers(&self) {
        if self.emulator.is_none() {
            return;
        }
        for shape in &self.options.shapes {
            let most = self.source_region().max_readers(&self.source_table(shape));
            assert!(most <= 2, "a shard of {} had {most} readers at once", shape.name);
        }
    }

    /// Waits until a worker that has read alone since the beginning has read every record, and each once.
    pub(crate) async fn assert_read_once(&self, worker: &Running) {
        let records = self.records().await as u64;
        let reads = |status: &Status| {
            status.replications[0].replicas.iter().map(|it| it.ledger.read).collect::<Vec<_>>()
        };
        worker
            .until("every record to be read", |status| reads(status).iter().all(|read| *read >= records))
            .await;
        let read = reads(&worker.status());
        assert!(read.iter().all(|read| *read == records), "{read:?} records were read instead of {records}");
    }

    /// All records that the first table's stream holds.
    pub(crate) async fn records(&self) -> usize {
        let shards = self.source_region().shards(&self.table()).await.expect("the shards are known");
        shards.iter().map(|shard| shard.records).sum()
    }

    /// The shards of the first table that still take records.
    pub(crate) async fn open_shards(&self) -> Vec<ShardInfo> {
        let shards = self.source_region().shards(&self.table()).await.expect("the shards are known");
        shards.into_iter().filter(|shard| shard.open).collect()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        drop(self.emulator.take());
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Shows the daemon's logs beside a test's output when `RUST_LOG` asks for them.
fn show_logs() {
    if std::env::var_os("RUST_LOG").is_some() {
        let filter = tracing_subscriber::EnvFilter::from_default_env();
        // Only the first test of a process sets it up.
        let _ = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
    }
}

/// The emulator on threads of its own: the embedded server works on them without yielding.
async fn emulate(options: &Options, regions: &[String]) -> (Runtime, Emulator) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("emulator")
        .enable_all()
        .build()
        .expect("a runtime");
    let upstream = target::endpoint().map_or(Upstream::Embedded, Upstream::Endpoint);
    let config = emulator::Config { regions: regions.to_vec(), upstream, ..options.emulator.clone() };
    let started = runtime.spawn(Emulator::start(config)).await.expect("it does not panic");
    (runtime, started.expect("the emulator starts"))
}

fn client(region: &str, endpoint: &str, key: &str) -> Client {
    let config = aws_sdk_dynamodb::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(SdkRegion::new(region.to_owned()))
        .credentials_provider(Credentials::new(key, "secret", None, None, "test"))
        .endpoint_url(endpoint);
    Client::from_conf(config.build())
}

fn streams_client(region: &str, endpoint: &str, key: &str) -> aws_sdk_dynamodbstreams::Client {
    let config = aws_sdk_dynamodbstreams::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(SdkRegion::new(region.to_owned()))
        .credentials_provider(Credentials::new(key, "secret", None, None, "test"))
        .endpoint_url(endpoint);
    aws_sdk_dynamodbstreams::Client::from_conf(config.build())
}
