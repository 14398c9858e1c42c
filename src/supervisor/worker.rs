//! All replications of one process.

use tokio_util::sync::CancellationToken;
use tracing::{info, info_span, warn};

use super::board::Board;
use super::replication::{self, Setup};
use super::{Config, desired, status};
use crate::control;
use crate::dynamo::{Condition, RowKey};
use crate::item::Value;
use crate::task::Tasks;

/// A worker that is built and does nothing yet.
pub struct Worker {
    config: Config,
    board: Board,
}

/// Why a worker cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The control table cannot be used by this program at all.
    #[error(transparent)]
    Control(#[from] control::Error),
}

/// How long the row of a worker stays after its last heartbeat.
const WORKER_ROW_SECONDS: i64 = 24 * 60 * 60;

// === impl Worker ===

impl Worker {
    /// Checks what no patience can mend. A control table that cannot be reached now is tried again while running.
    ///
    /// # Errors
    /// When the control table has another layout.
    pub async fn build(config: Config) -> Result<Self, Error> {
        match config.control.open().await {
            Ok(()) => {}
            Err(error @ control::Error::Call { .. }) => warn!(%error, "control table cannot be used yet"),
            Err(error) => return Err(error.into()),
        }
        let empty: Vec<status::Replication> = config.replications.iter().map(replication::empty).collect();
        let board = Board::new(&config.worker, config.clock, empty);
        Ok(Self { config, board })
    }

    /// What it shows while it runs.
    pub fn board(&self) -> Board {
        self.board.clone()
    }

    /// Replicates until `drain` is cancelled and all is drained.
    pub async fn run(self, drain: CancellationToken) {
        let Self { config, board } = self;
        let mut beside = Tasks::new();
        let wishes = desired::watch(desired::Store::new(config.control.clone()), &mut beside);
        let mut replications = Tasks::new();
        for (index, replication) in config.replications.iter().enumerate() {
            let setup = Setup {
                config: replication.clone(),
                worker: config.worker.clone(),
                control: config.control.clone(),
                lease: config.lease,
                grace: config.grace,
                clock: config.clock,
                metrics: std::sync::Arc::clone(&config.metrics),
                board: board.clone(),
                index,
                drain: drain.clone(),
                wishes: wishes.clone(),
            };
            replications.spawn(info_span!("replication", name = replication.name), replication::run(setup));
        }
        let mut heartbeat = tokio::time::interval(config.lease.renew_interval);
        heartbeat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                ended = replications.next() => if ended.is_none() { break },
                // They never end as long as anybody listens; a panic in one of them must not go unseen.
                Some(()) = beside.next() => {}
                _ = heartbeat.tick() => beat(&config).await,
            }
        }
        info!("all replications are drained");
    }
}

/// Tells the fleet that this worker lives.
async fn beat(config: &Config) {
    let key = RowKey { partition: "#workers".to_owned(), sort: config.worker.clone() };
    let now_unix_ms = config.clock.unix_ms();
    let mut row = key.attributes();
    row.insert("heartbeat_ms".to_owned(), Value::integer(now_unix_ms));
    row.insert("version".to_owned(), env!("CARGO_PKG_VERSION").into());
    let expires = now_unix_ms / 1_000 + WORKER_ROW_SECONDS;
    row.insert(control::EXPIRES_AT.to_owned(), Value::integer(expires));
    if let Err(error) = config.control.put(&row, &Condition::Always).await {
        warn!(%error, "heartbeat is not written");
    }
}
