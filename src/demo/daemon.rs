//! The daemon that the demo shows: the worker that `run` builds, with the SDK's clients, on a thread and runtime of
//! its own, and its HTTP server.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::copies::Copies;
use super::world::{Site, TABLE, World};
use crate::clock::Clock;
use crate::control::Control;
use crate::dynamo::{self, AccessKey, Client, Endpoint, Tables};
use crate::supervisor::status::Status;
use crate::supervisor::{self, Board, Start, Worker};
use crate::telemetry::{Metrics, Outcome};
use crate::{copy, http, lease, replica, stream, telemetry};

/// The replication's name, as leases and metrics show it.
pub(super) const REPLICATION: &str = "orders";

/// The worker's name.
const WORKER: &str = "demo";

/// The table with leases and checkpoints, in the source's region.
const CONTROL_TABLE: &str = "dynamirror-control";

/// The longest write attempt. A batch to the emulator takes milliseconds; two busy cores may take seconds.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a drain may take.
const GRACE: Duration = Duration::from_secs(10);

/// A drain within its grace, and the last checkpoints after it, take no longer.
const DRAIN_MAX: Duration = Duration::from_secs(30);

/// It reads all shards a second after it was started.
const PLACED_MAX: Duration = Duration::from_secs(60);

/// Between two looks whether it does.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// A running daemon. When dropped it drains on its own.
pub(super) struct Daemon {
    board: Board,
    metrics: Metrics,
    drain: CancellationToken,
    thread: Option<JoinHandle<()>>,
    http: Option<http::Server>,
}

/// Why there is no daemon.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Its metrics cannot be made.
    #[error(transparent)]
    Metrics(#[from] telemetry::Error),
    /// It has no port for its status.
    #[error(transparent)]
    Http(#[from] http::Error),
    /// It has no thread or runtime.
    #[error("start the daemon's thread")]
    Thread(#[source] std::io::Error),
    /// Its control table cannot be made.
    #[error("make the control table: {0}")]
    Control(#[source] Box<dynamo::Error>),
    /// It cannot be built.
    #[error(transparent)]
    Worker(#[from] supervisor::Error),
    /// It ended before it was asked to.
    #[error("go on: the daemon ended early")]
    Ended,
    /// It does not read the stream.
    #[error("read all shards within {PLACED_MAX:?}: {0}")]
    Placed(String),
    /// It does not end although it was asked to.
    #[error("drain the daemon within {DRAIN_MAX:?}")]
    Drain,
    /// Its leases cannot be looked at.
    #[error(transparent)]
    Leases(#[from] crate::control::Error),
}

/// Where the parts of the daemon connect to.
struct Plan {
    source: Site,
    replicas: Vec<Site>,
    metrics: Metrics,
}

// === impl Daemon ===

impl Daemon {
    /// Starts to replicate.
    pub(super) async fn start(world: &World) -> Result<Self, Error> {
        let metrics = Metrics::new(WORKER, CONTROL_TABLE, Clock::System)?;
        let bound = http::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        let drain = CancellationToken::new();
        let plan =
            Plan { source: world.source.clone(), replicas: world.replicas.clone(), metrics: metrics.clone() };
        let (built, building) = oneshot::channel();
        let drained = drain.clone();
        let thread = thread::Builder::new()
            .name("daemon".to_owned())
            .spawn(move || live(plan, drained, built))
            .map_err(Error::Thread)?;
        let board = building.await.map_err(|_| Error::Ended)??;
        let (shown, watched) = (board.clone(), board.clone());
        let http = bound.serve(http::Source {
            status: Arc::new(move || shown.status()),
            liveness: Arc::new(move || watched.alive()),
            metrics: metrics.clone(),
        })?;
        Ok(Self { board, metrics, drain, thread: Some(thread), http: Some(http) })
    }

    /// Where its status is shown.
    pub(super) fn url(&self) -> String {
        self.http.as_ref().map_or_else(String::new, |http| format!("http://{}/", http.local_addr()))
    }

    /// What it does now.
    ///
    /// # Errors
    /// When it has ended.
    pub(super) fn status(&self) -> Result<Status, Error> {
        match &self.thread {
            Some(thread) if !thread.is_finished() => Ok(self.board.status()),
            _ => Err(Error::Ended),
        }
    }

    /// The copies that it does.
    pub(super) async fn copies(&self, world: &World) -> Copies {
        let replicas = world.replicas.iter().map(|site| site.region.name().to_owned());
        Copies::new(self.metrics.clone(), &control(world).await, REPLICATION, replicas)
    }

    /// Waits until nothing that is written from now on is missed: until it reads all shards of the source's stream.
    pub(super) async fn placed(&self, shards: u64) -> Result<(), Error> {
        let began = Instant::now();
        let mut all_since_unix_ms = None;
        loop {
            let status = self.status()?;
            let replication = status.replications.first();
            if all_since_unix_ms.is_none() && replication.is_some_and(|it| it.shards.active == shards) {
                all_since_unix_ms = Some(Clock::System.unix_ms());
            }
            let oldest_poll_unix_ms = replication.and_then(|it| it.oldest_poll_unix_ms);
            if all_since_unix_ms.is_some() && oldest_poll_unix_ms > all_since_unix_ms {
                return Ok(());
            }
            if began.elapsed() >= PLACED_MAX {
                return Err(Error::Placed(replication.and_then(|it| it.error.clone()).unwrap_or_default()));
            }
            sleep(LOOK_INTERVAL).await;
        }
    }

    /// Drains it and waits for its end. Tells how many leases it still held.
    pub(super) async fn drain(&mut self, world: &World) -> Result<usize, Error> {
        self.drain.cancel();
        let thread = self.thread.take().ok_or(Error::Ended)?;
        let joined = tokio::task::spawn_blocking(move || thread.join());
        match tokio::time::timeout(DRAIN_MAX, joined).await {
            Ok(Ok(Ok(()))) => {}
            Ok(_) => return Err(Error::Ended),
            Err(_) => return Err(Error::Drain),
        }
        let control = control(world).await;
        let rows = lease::Leases::new(control, REPLICATION, WORKER).load().await?;
        if let Some(http) = self.http.take() {
            http.shutdown();
        }
        Ok(rows.iter().filter(|row| row.owner.is_some()).count())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.drain.cancel();
    }
}

/// The daemon's thread, from its first to its last breath.
fn live(plan: Plan, drain: CancellationToken, built: oneshot::Sender<Result<Board, Error>>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return drop(built.send(Err(Error::Thread(error)))),
    };
    runtime.block_on(async {
        match build(plan).await {
            Ok(worker) => {
                drop(built.send(Ok(worker.board())));
                worker.run(drain).await;
            }
            Err(error) => drop(built.send(Err(error))),
        }
    });
}

async fn build(plan: Plan) -> Result<Worker, Error> {
    let source = connect(&plan.source, Some(&plan.metrics)).await;
    let tables: Arc<dyn Tables> = Arc::new(source.tables());
    let created = tables.create(CONTROL_TABLE).await;
    created.map_err(|error| Error::Control(Box::new(error)))?;
    let mut replicas = Vec::new();
    for site in &plan.replicas {
        replicas.push(replica(site, &plan.metrics).await);
    }
    let replication = supervisor::Replication {
        name: REPLICATION.to_owned(),
        // What the source holds already comes by the copy.
        start: Start::Latest,
        source: supervisor::Source {
            table: TABLE.to_owned(),
            tables: Arc::clone(&tables),
            streams: Arc::new(source.streams()),
            reader: stream::Config::default(),
            discovery: Duration::from_secs(5),
        },
        replicas,
        verify: None,
    };
    let worker = Worker::build(supervisor::Config {
        worker: WORKER.to_owned(),
        control: Control::new(tables, CONTROL_TABLE),
        lease: lease::Config {
            duration: Duration::from_secs(15),
            renew_interval: Duration::from_secs(1),
            longest_attempt: ATTEMPT_TIMEOUT,
        },
        grace: GRACE,
        clock: Clock::System,
        metrics: Arc::new(plan.metrics),
        replications: vec![replication],
        // The load goes on all the time.
        heartbeat: supervisor::heartbeat::Config::default(),
    });
    Ok(worker.await?)
}

async fn replica(site: &Site, metrics: &Metrics) -> supervisor::Replica {
    let client = connect(site, Some(metrics)).await;
    supervisor::Replica {
        name: site.region.name().to_owned(),
        tables: Arc::new(client.tables()),
        buffer_bytes: 32 << 20,
        window_keys_max: crate::lane::Window::KEYS_MAX,
        writer: replica::Config {
            table: TABLE.to_owned(),
            batches_in_flight: 8,
            attempt_timeout: ATTEMPT_TIMEOUT,
            settle: ATTEMPT_TIMEOUT,
            guard: None,
            park_limit: 1000,
        },
        copy: supervisor::FirstCopy::Auto(copy::Request::default()),
        schema: None,
    }
}

/// The daemon's control table, to be looked at.
async fn control(world: &World) -> Control {
    let client = connect(&world.source, None).await;
    Control::new(Arc::new(client.tables()), CONTROL_TABLE)
}

/// The SDK's clients for one region, counted in `metrics`.
pub(super) async fn connect(site: &Site, metrics: Option<&Metrics>) -> Client {
    let client = dynamo::connect(&Endpoint {
        endpoint_url: Some(site.region.endpoint()),
        access_key: Some(AccessKey { id: "demo".to_owned(), secret: "demo".to_owned() }),
        attempt_timeout: ATTEMPT_TIMEOUT,
        ..Endpoint::new(site.region.name())
    })
    .await;
    let Some(metrics) = metrics else { return client };
    let (tables, streams) =
        (metrics.calls("dynamodb", site.region.name()), metrics.calls("streams", site.region.name()));
    client.observed(Arc::new(move |call| {
        let calls = if call.service == "streams" { &streams } else { &tables };
        let outcome = call.fault.map_or(Outcome::Ok, Outcome::from);
        calls.record(call.operation, outcome, call.elapsed);
    }))
}
