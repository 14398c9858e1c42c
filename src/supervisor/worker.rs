//! All replications of one process.

use std::collections::BTreeMap;

use tokio_util::sync::CancellationToken;
use tracing::{info, info_span, warn};

use super::affinity::Affinity;
use super::board::Board;
use super::fleet::{self, Fleet};
use super::heartbeat::Gate;
use super::replication::{self, Setup};
use super::{Config, coordinator, desired, status};
use crate::control;
use crate::lease::{self, Owner};
use crate::task::Tasks;

/// A worker that is built and does nothing yet.
pub struct Worker {
    config: Config,
    /// What this process writes into the rows that it holds.
    owner: Owner,
    board: Board,
    /// By the names of replications.
    affinities: BTreeMap<String, Affinity>,
}

/// Why a worker cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The control table cannot be used by this program at all.
    #[error(transparent)]
    Control(#[from] control::Error),
}

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
        let heartbeats = config.heartbeat.dedicated.iter().map(replication::empty).collect();
        let board = Board::new(&config.worker, config.clock, empty, heartbeats);
        let all = config.replications.iter().chain(&config.heartbeat.dedicated);
        let affinities = all.map(|it| (it.name.clone(), Affinity::default())).collect();
        Ok(Self { owner: lease::owner(&config.worker), config, board, affinities })
    }

    /// What it shows while it runs.
    pub fn board(&self) -> Board {
        self.board.clone()
    }

    /// The affinity of one of its replications, for who wants all its shards here.
    pub fn affinity(&self, replication: &str) -> Option<Affinity> {
        self.affinities.get(replication).cloned()
    }

    /// Replicates until `drain` is cancelled and all is drained.
    pub async fn run(self, drain: CancellationToken) {
        let Self { config, owner, board, affinities } = self;
        info!(%owner, "worker runs");
        let fleet = Fleet::new(&owner);
        // What a worker does beside replicating, until all replications have ended.
        let mut beside = Tasks::new();
        let (control, lease) = (&config.control, config.lease);
        beside.spawn(
            info_span!("announce"),
            fleet::announce(fleet.shared(), control.clone(), lease, config.clock),
        );
        beside.spawn(info_span!("watch"), fleet::watch(fleet.shared(), control.clone(), lease));
        let stop = CancellationToken::new();
        let wishes = desired::watch(desired::Store::new(control.clone()), &mut beside);
        let mut replications = Tasks::new();
        let gates: Vec<_> = config.heartbeat.dedicated.iter().map(|_| Gate::closed()).collect();
        let of_heartbeats = config.heartbeat.dedicated.iter().zip(&gates);
        let of_heartbeats = of_heartbeats.map(|(replication, gate)| (replication, Some(gate.clone())));
        let all = config.replications.iter().map(|replication| (replication, None)).chain(of_heartbeats);
        for (index, (replication, gate)) in all.enumerate() {
            let setup = Setup {
                config: replication.clone(),
                worker: owner.clone(),
                control: control.clone(),
                lease,
                grace: config.grace,
                clock: config.clock,
                metrics: std::sync::Arc::clone(&config.metrics),
                board: board.clone(),
                fleet: fleet.clone(),
                index,
                drain: stop.clone(),
                affinity: affinities[&replication.name].clone(),
                wishes: wishes.clone(),
            };
            let span = info_span!("replication", replication = replication.name);
            replications.spawn(span, Gate::pass(gate, setup));
        }
        let mut coordinator = Tasks::new();
        let coordinates = coordinator::run(config.clone(), owner.clone(), gates, board, drain.clone());
        coordinator.spawn(info_span!("coordinator"), coordinates);
        loop {
            tokio::select! {
                biased;
                // The others are told first, so that they look for the leases that are given up.
                () = drain.cancelled(), if !stop.is_cancelled() => {
                    fleet.drain().await;
                    stop.cancel();
                }
                ended = replications.next() => if ended.is_none() { break },
                // They never end; a panic in one of them must not go unseen.
                Some(()) = beside.next() => {}
                Some(()) = coordinator.next() => {}
            }
        }
        while coordinator.next().await.is_some() {}
        drop(beside);
        fleet::leave(&fleet.shared(), control).await;
        info!("all replications are drained");
    }
}
