//! A real worker in the test's own process.

use std::sync::Arc;
use std::time::Duration;

use dynamirror::control::Control;
use dynamirror::dynamo::connect;
use dynamirror::supervisor::status::{self, Status};
use dynamirror::supervisor::{self, Board, Worker, heartbeat};
use dynamirror::{replica, telemetry};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::shape::Shape;
use super::wait;
use super::world::{Heartbeats, Options, World};

/// A worker that runs.
pub(crate) struct Running {
    /// Its id.
    pub(crate) name: String,
    /// What it shows.
    pub(crate) board: Board,
    /// Its metrics.
    pub(crate) metrics: Arc<telemetry::Metrics>,
    drain: CancellationToken,
    task: JoinHandle<()>,
}

impl Running {
    /// Builds and starts it.
    pub(crate) async fn start(world: &World, name: &str, options: &Options) -> Self {
        let control = Control::new(
            Arc::new(connect(&world.endpoint(&world.control)).await.tables()),
            &world.control_table,
        );
        let metrics = telemetry::Metrics::new(name, &world.control_table, options.clock);
        let metrics = Arc::new(metrics.expect("the metrics are acceptable"));
        let mut replications = Vec::new();
        for shape in &options.shapes {
            replications.push(replication(world, options, shape).await);
        }
        let worker = Worker::build(supervisor::Config {
            worker: name.to_owned(),
            control,
            lease: options.lease,
            grace: options.grace,
            clock: options.clock,
            metrics: Arc::clone(&metrics),
            replications,
            heartbeat: heartbeats(world, options).await,
        });
        let worker = worker.await.expect("the worker is built");
        let (board, drain) = (worker.board(), CancellationToken::new());
        let task = super::beside(worker.run(drain.clone()));
        Self { name: name.to_owned(), board, metrics, drain, task }
    }

    /// What it tells now.
    pub(crate) fn status(&self) -> Status {
        self.board.status()
    }

    /// The first replication's status.
    pub(crate) fn replication(&self) -> status::Replication {
        self.status().replications.swap_remove(0)
    }

    /// A replica of the first replication.
    pub(crate) fn replica(&self, index: usize) -> status::Replica {
        self.replication().replicas.swap_remove(index)
    }

    /// All that it tells, as text.
    pub(crate) fn tell(&self) -> String {
        let status = serde_json::to_string_pretty(&self.status()).expect("a status can be spelt");
        format!("status of {}: {status}", self.name)
    }

    /// Waits until its status is as wanted.
    ///
    /// # Panics
    /// When it does not become so, with the whole status, or when the worker ended.
    pub(crate) async fn until(&self, what: &str, wanted: impl Fn(&Status) -> bool) {
        self.until_within(wait::PATIENCE, what, wanted).await;
    }

    /// As [`Running::until`] with another patience.
    pub(crate) async fn until_within(
        &self,
        patience: Duration,
        what: &str,
        wanted: impl Fn(&Status) -> bool,
    ) {
        let seen = wait::within(patience, async || {
            assert!(!self.task.is_finished(), "{} ended while waiting for {what}", self.name);
            wanted(&self.status()).then_some(())
        });
        if seen.await.is_none() {
            panic!("waited in vain for {what}\n{}", self.tell());
        }
    }

    /// Every record that was read is accounted for, once nothing is under way any more (I1).
    pub(crate) async fn assert_ledger(&self) {
        let balanced = |replica: &status::Replica| {
            let ledger = &replica.ledger;
            let settled = ledger.applied
                + ledger.stale
                + ledger.superseded
                + ledger.coalesced
                + ledger.filtered
                + ledger.parked
                + ledger.abandoned;
            replica.pending_changes == 0 && replica.buffer_bytes == 0 && ledger.read == settled
        };
        self.until("the ledger of every replica to balance with nothing pending", |status| {
            status.replications.iter().flat_map(|it| &it.replicas).all(balanced)
        })
        .await;
    }

    /// Lets its drain begin, and does not wait for it.
    pub(crate) fn drain_begins(&self) {
        self.drain.cancel();
    }

    /// Drains it, and waits until it has ended.
    ///
    /// # Panics
    /// When it does not end, or ends with a panic.
    pub(crate) async fn drain(self) {
        self.drain.cancel();
        let told = self.tell();
        match tokio::time::timeout(wait::PATIENCE, self.task).await {
            Ok(ended) => ended.expect("the worker does not panic"),
            Err(_) => panic!("the worker is not drained\n{told}"),
        }
    }

    /// Stops it as if its process had died: nothing is finished and nothing released.
    pub(crate) async fn die(self) {
        self.task.abort();
        let ended = self.task.await;
        assert!(ended.is_err_and(|error| error.is_cancelled()), "the worker had ended before it was killed");
    }
}

/// The heartbeats that a test asks for, one a second.
async fn heartbeats(world: &World, options: &Options) -> heartbeat::Config {
    let shape = world.shape();
    let mut config = heartbeat::Config { interval: Duration::from_secs(1), ..heartbeat::Config::default() };
    match options.heartbeats {
        Heartbeats::Off => {}
        Heartbeats::InTable(keys) => {
            config.in_table = vec![heartbeat::InTable { replication: shape.name.to_owned(), keys }];
        }
        Heartbeats::Dedicated => {
            let mut replication = replication(world, options, shape).await;
            replication.name = heartbeat::dedicated_name("source");
            replication.source.table = world.heartbeat_table();
            for (index, replica) in replication.replicas.iter_mut().enumerate() {
                replica.writer.table = world.heartbeat_replica(index);
            }
            config.dedicated = vec![replication];
        }
    }
    config
}

async fn replication(world: &World, options: &Options, shape: &Shape) -> supervisor::Replication {
    let source = connect(&world.endpoint(&world.source)).await;
    let mut replicas = Vec::new();
    for index in 0..options.replicas {
        let client = connect(&world.endpoint(&world.replicas[index])).await;
        replicas.push(supervisor::Replica {
            window_keys_max: dynamirror::lane::Window::KEYS_MAX,
            name: format!("replica-{index}"),
            tables: Arc::new(client.tables()),
            buffer_bytes: options.buffer_bytes,
            writer: replica::Config {
                table: world.replica_table(shape, index),
                batches_in_flight: options.batches_in_flight,
                attempt_timeout: options.attempt_timeout,
                settle: options.attempt_timeout,
                guard: options.guard.clone(),
                park_limit: options.park_limit,
            },
            copy: options.copy.clone(),
            schema: None,
        });
    }
    supervisor::Replication {
        name: shape.name.to_owned(),
        start: options.start,
        source: supervisor::Source {
            table: world.source_table(shape),
            tables: Arc::new(source.tables()),
            streams: Arc::new(source.streams()),
            reader: options.reader,
            discovery: options.discovery,
        },
        replicas,
        verify: None,
    }
}
