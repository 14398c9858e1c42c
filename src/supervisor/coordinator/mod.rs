//! What one worker of a fleet does for all: tells how far the whole fleet is and which shards nobody reads, and writes
//! heartbeats.
//!
//! A worker's own numbers vanish with it: when it dies, its lag is gone from the metrics, and nothing looks wrong. So
//! one worker, the coordinator, reads the rows of all shards and tells what they say, whoever holds them.
//!
//! ```text
//!  lease (a post) ── taken ──> office ───┬── every 10 s: rows ──> view ──> watermark, unowned shards
//!    ^                                   ├── every hour: tables ──> schema drift
//!    │                                   ├── heartbeats, one task per source
//!    │                                   └── rolling verifications, one per replica that is to be verified
//!    └── looked at once a second by everybody else; released in a drain, or left to run out
//! ```
//!
//! What holds:
//!
//! - At most one worker is in office, by the rules of every lease; its term ends by its own clock before another may
//!   begin. What it tells goes with it, at once ([`Office`]). No settle time precedes one: what a coordinator writes are
//!   heartbeats, of which a late one does no harm.
//! - The duties are polled by the task that renews, and dropped with the term. Neither waits for the other.
//! - It tells of the replications of its *own* configuration. In a fleet whose workers are configured differently, one
//!   that the coordinator does not know is told by nobody while it is in office.
//! - A watermark comes from the rows alone, so a shard that nobody reads freezes it.

mod office;
mod schema;
mod verification;
mod view;

use std::convert::Infallible;
use std::time::Duration;

use futures_util::future::{join, join_all};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::board::Board;
use super::heartbeat::{self, Gate, Route};
use super::{Config, Replication};
use crate::dynamo::RowKey;
use crate::lease::{Leases, Owner, Post, Term};
use verification::Verification;

pub(super) use office::Office;

/// How often a worker that does not coordinate looks whether it should. Takes one read unit, and bounds how long a
/// drained coordinator leaves the fleet without one.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// How often the rows of all shards are read: alerts look at minutes, and a large table has thousands of rows.
const VIEW_INTERVAL: Duration = Duration::from_secs(10);

/// What the duties are about.
struct Duties<'a> {
    config: &'a Config,
    /// The heartbeats' own replications, whose rows are read once their tables are there.
    gates: &'a [Gate],
    routes: Vec<Route>,
    board: &'a Board,
}

/// How a term ended.
enum End {
    Drained,
    Lost,
}

/// Coordinates whenever no other worker does, until it is drained. `gates` are those of `config`'s dedicated heartbeats.
pub(super) async fn run(
    config: Config,
    owner: Owner,
    gates: Vec<Gate>,
    board: Board,
    drain: CancellationToken,
) {
    let key = RowKey { partition: "#dynamirror".to_owned(), sort: "coordinator".to_owned() };
    let mut lease = Post::new(config.control.clone(), key, &owner, config.lease);
    let routes = Route::all(&config, &gates);
    let duties = Duties { config: &config, gates: &gates, routes, board: &board };
    let mut looks = interval(LOOK_INTERVAL);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut fails = false;
    loop {
        tokio::select! {
            biased;
            () = drain.cancelled() => return,
            _ = looks.tick() => {}
        }
        let taken = lease.try_take().await;
        if let (Err(error), false) = (&taken, fails) {
            warn!(%error, "the coordinator's lease cannot be looked at");
        }
        fails = taken.is_err();
        let Ok(Some(mut term)) = taken else { continue };
        if matches!(duties.serve(&lease, &mut term, &drain).await, End::Drained) {
            return lease.release(&term).await;
        }
    }
}

// === impl Duties ===

impl Duties<'_> {
    /// One term in office.
    async fn serve(&self, lease: &Post, term: &mut Term, drain: &CancellationToken) -> End {
        info!("this worker coordinates the fleet");
        let replications: Vec<_> = self.replications().map(|(replication, _)| replication).collect();
        let office = Office::new(self.config.metrics.lead(), self.board.clone(), &replications);
        tokio::select! {
            biased;
            () = drain.cancelled() => End::Drained,
            () = lease.keep(term) => {
                warn!("this worker coordinates the fleet no more: its lease was lost");
                End::Lost
            }
            never = self.run(&office) => match never {},
        }
    }

    async fn run(&self, office: &Office) -> Infallible {
        let (fleet, worker, clock) = (self.config.control.table(), &self.config.worker, self.config.clock);
        let beats = self.routes.iter().map(|route| heartbeat::beat(route, fleet, worker, clock, office));
        let verifications = Verification::all(self.config);
        let verified = join_all(verifications.iter().map(|it| it.run(office)));
        let watches = join(self.watch(office), schema::watch(&self.config.replications, office));
        let ((never, _), _) = join(watches, join(join_all(beats), verified)).await;
        never
    }

    /// Tells what the rows say, again and again.
    async fn watch(&self, office: &Office) -> Infallible {
        let mut pulses: Vec<_> = self.replications().map(|_| view::Pulse::default()).collect();
        let mut views = interval(VIEW_INTERVAL);
        views.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            views.tick().await;
            for ((replication, gate), pulse) in self.replications().zip(&mut pulses) {
                if gate.is_none_or(Gate::is_open) {
                    self.look(replication, pulse, office).await;
                }
            }
        }
    }

    /// What cannot be read stays as it was last seen; its time does not move, so its lag grows.
    async fn look(&self, replication: &Replication, pulse: &mut view::Pulse, office: &Office) {
        let Config { control, worker, lease, clock, .. } = self.config;
        match Leases::new(control.clone(), &replication.name, worker).load().await {
            Ok(rows) => {
                let silent = pulse.silent(&rows, lease.duration, Instant::now());
                let replicas: Vec<_> = replication.replicas.iter().map(|it| it.name.as_str()).collect();
                office.seen(replication, &view::view(&rows, &replicas, &silent), clock.unix_ms());
            }
            Err(error) => warn!(replication = replication.name, %error, "the fleet's rows cannot be read"),
        }
    }

    /// Those of the configuration, then those of heartbeats with their gates.
    fn replications(&self) -> impl Iterator<Item = (&Replication, Option<&Gate>)> {
        let configured = self.config.replications.iter().map(|replication| (replication, None));
        let heartbeats = self.config.heartbeat.dedicated.iter().zip(self.gates);
        configured.chain(heartbeats.map(|(replication, gate)| (replication, Some(gate))))
    }
}
