//! One replication: keeps lineage and rows current, takes its part of the leases, runs shards.
//!
//! The rows are read every renewal interval and whenever something may have changed, because other workers end parents,
//! release leases and make gaps. Calls that read or take are tasks of their own (`calls`), whose results are events like
//! all others: a slow control table never keeps the loop from its shards.

mod affinity;
mod calls;
mod copying;
mod desired;
mod leases;
mod lineage;
mod orders;
mod sheet;
mod start;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{info, info_span, warn};

use super::affinity::Affinity;
use super::board::Board;
use super::desired::Known;
use super::feed::Channel;
use super::fleet::Fleet;
use super::hold::Hold;
use super::plan::Replicas;
use super::shard::{Exit, Live, Report};
use super::status;
use super::sync::{self, Found};
use super::watch;
use crate::backoff::Backoff;
use crate::clock::Clock;
use crate::control::Control;
use crate::lease::load::Meter;
use crate::lease::{self, Claims, Leases, Owner, Row};
use crate::shard::ShardId;
use crate::stream::{Describer, Lineage, Source};
use crate::task::Tasks;
use crate::telemetry;

use affinity::Keeper;
use calls::{Called, Looking};
use copying::Copying;
pub(super) use sheet::empty;

/// Control-table calls under way at the same time while many leases are taken.
const CONTROL_CALLS: usize = 16;

/// How often rows are looked at that are about to be given up: by who drains, or for this worker. It is a good part of
/// the time that a shard is read by nobody then; both are rare, and over within seconds.
const HURRIED_LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// How often the sheet is renewed.
const SHOW_INTERVAL: Duration = Duration::from_millis(500);

/// What a replication is built from.
pub(super) struct Setup {
    pub(super) config: super::Replication,
    /// The process as rows name it.
    pub(super) worker: Owner,
    pub(super) control: Control,
    pub(super) lease: lease::Config,
    pub(super) grace: Duration,
    pub(super) clock: Clock,
    pub(super) metrics: Arc<telemetry::Metrics>,
    pub(super) board: Board,
    pub(super) fleet: Fleet,
    /// Its place on the board.
    pub(super) index: usize,
    pub(super) drain: CancellationToken,
    /// Whether all its shards are wanted here.
    pub(super) affinity: Affinity,
    /// What people want of the replicas.
    pub(super) wishes: watch::Receiver<Known>,
}

/// A replication whose source is known and whose writers run.
struct Running {
    setup: Setup,
    leases: Leases,
    source: Source,
    describer: Arc<Describer>,
    replicas: Replicas,
    channels: Vec<Channel>,
    writers: Tasks<()>,
    lineage: Lineage,
    rows: BTreeMap<ShardId, Row>,
    claims: Claims,
    /// Whose all its shards are while something is copied.
    affinity: Keeper,
    shards: Tasks<(ShardId, Exit)>,
    live: BTreeMap<ShardId, Live>,
    /// What the tasks of shards tell while they run.
    reports: (mpsc::UnboundedSender<Report>, mpsc::UnboundedReceiver<Report>),
    /// The leases of the shards that are live, and what reading each of them costs.
    holds: BTreeMap<ShardId, (Hold, Meter)>,
    calls: Tasks<Called>,
    /// So many takes are under way at once.
    take_permits: Arc<Semaphore>,
    /// Leases that are being taken.
    taking: BTreeSet<ShardId>,
    looking: Looking,
    /// Shards whose parents ended here: their rows are known here first.
    near: BTreeSet<ShardId>,
    /// Who lived at the last look, and whether it drained.
    roster: BTreeMap<Owner, bool>,
    /// Whether a replica may be remembered as started although that failed.
    is_start_unsure: bool,
    /// Shards whose start was decided by this process.
    decided: BTreeSet<ShardId>,
    /// Parents that can be read and are not listed, with the listings they were missing from.
    hidden: BTreeMap<ShardId, u32>,
    /// Shards that are to obey a seek, that no listing shows, and that cannot be read.
    vanished: BTreeSet<ShardId>,
    discovered_unix_ms: Option<i64>,
    /// A shard ended while it was given up for another worker, and did not look for its children any more.
    children_unknown: bool,
    stream_gap: Option<status::Gap>,
    /// The table has another stream by now, which is not read here.
    is_outdated: bool,
    /// Rows of the table's earlier streams, which nobody can read any more.
    others: Vec<Row>,
    copying: Copying,
    error: Option<String>,
    /// Why leases cannot be taken at present, so that shards are left unread.
    control_error: Option<String>,
    metrics: telemetry::Source,
    replica_metrics: Vec<telemetry::Replica>,
    applied_through: Vec<Option<i64>>,
    /// A lease that others hold may run out then, or one that others should take is still there.
    look_again: Option<Instant>,
}

/// Runs a replication until it is drained.
pub(super) async fn run(setup: Setup) {
    let drain = setup.drain.clone();
    let mut pauses = Backoff::new(Duration::from_millis(200), Duration::from_secs(15));
    loop {
        let attempt = async {
            tokio::select! {
                biased;
                () = drain.cancelled() => None,
                started = start::start(&setup) => Some(started),
            }
        };
        match attempt.await {
            None => return,
            Some(Ok(started)) => return Running::new(setup, started).run().await,
            Some(Err(failure)) => {
                warn!(error = %failure, advice = failure.advice(), "replication cannot start yet");
                let text = format!("{failure}: {}", failure.advice());
                setup.board.hang(setup.index, sheet::not_started(&setup.config, text));
            }
        }
        tokio::select! {
            biased;
            () = drain.cancelled() => return,
            () = tokio::time::sleep(pauses.pause()) => {}
        }
    }
}

// === impl Running ===

impl Running {
    fn new(setup: Setup, started: start::Started) -> Self {
        let describer = Arc::new(Describer::new(Arc::clone(&setup.config.source.streams)));
        let (name, table) = (&setup.config.name, &setup.config.source.table);
        let metrics = setup.metrics.source(name, table);
        let replica_metrics = setup
            .config
            .replicas
            .iter()
            .map(|replica| setup.metrics.replica(name, table, &replica.name))
            .collect();
        let copying = Copying::start(&setup, &started.channels);
        Self {
            copying,
            describer,
            metrics,
            replica_metrics,
            leases: started.leases,
            source: started.source,
            replicas: started.replicas,
            channels: started.channels,
            writers: started.writers,
            rows: started.rows,
            stream_gap: started.stream_gap,
            others: started.others,
            lineage: Lineage::new(),
            claims: Claims::default(),
            affinity: Keeper::new(
                lease::affinity::Lease::new(setup.control.clone(), &setup.config.name, &setup.worker),
                setup.lease,
                setup.affinity.clone(),
            ),
            is_outdated: false,
            shards: Tasks::new(),
            live: BTreeMap::new(),
            reports: mpsc::unbounded_channel(),
            holds: BTreeMap::new(),
            calls: Tasks::new(),
            take_permits: Arc::new(Semaphore::new(CONTROL_CALLS)),
            taking: BTreeSet::new(),
            looking: Looking::default(),
            near: BTreeSet::new(),
            roster: BTreeMap::new(),
            is_start_unsure: false,
            decided: BTreeSet::new(),
            hidden: BTreeMap::new(),
            vanished: BTreeSet::new(),
            discovered_unix_ms: None,
            children_unknown: false,
            error: None,
            control_error: None,
            applied_through: vec![None; setup.config.replicas.len()],
            look_again: None,
            setup,
        }
    }

    async fn run(mut self) {
        let drain = self.setup.drain.clone();
        let (found, mut looks) = mpsc::unbounded_channel();
        let mut looking = Tasks::new();
        let mut discovery = interval(self.setup.config.source.discovery);
        discovery.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut show = interval(SHOW_INTERVAL);
        show.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut wishes = self.setup.wishes.clone();
        let mut round = interval(self.setup.lease.renew_interval);
        round.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut hurried = interval(HURRIED_LOOK_INTERVAL);
        hurried.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut fleet = self.setup.fleet.clone();
        let mut sync = None;
        loop {
            let look_again = self.look_again;
            tokio::select! {
                biased;
                // 1. A drain goes before everything.
                () = drain.cancelled() => break,
                // 2. An ended shard lets its children start.
                Some((shard, exit)) = self.shards.next() => {
                    self.ended(&shard, exit).await;
                    if std::mem::take(&mut self.children_unknown) {
                        discovery.reset_immediately();
                    }
                }
                Some(report) = self.reports.1.recv() => self.reported(report).await,
                // 3. What the control table answered, and what other workers do and want.
                Some(called) = self.calls.next() => self.called(called),
                () = fleet.changed() => self.fleet_changed(),
                // 4. What is found of the source.
                Some(found) = looks.recv() => match found {
                    Found::Page(page) => self.listed(&page.shards).await,
                    Found::Complete(table) => if let Some(sync) = sync.take() { self.complete(sync, &table).await },
                    Found::Failed(error) => self.look_failed(&error),
                },
                // 5. People want something else.
                Ok(()) = wishes.changed() => self.obey().await,
                // 6. Rows may have changed.
                () = tokio::time::sleep_until(look_again.unwrap_or_else(Instant::now)), if look_again.is_some() => {
                    self.look_again = None;
                    self.look();
                }
                _ = hurried.tick(), if self.hurries() => self.look_hurried(),
                _ = round.tick() => self.look(),
                // 6. Look at the source, one look at a time.
                _ = discovery.tick(), if looking.is_empty() => {
                    sync = Some(self.lineage.begin());
                    let (tables, table) =
                        (Arc::clone(&self.setup.config.source.tables), self.setup.config.source.table.clone());
                    let (describer, stream) = (Arc::clone(&self.describer), self.source.stream.clone());
                    looking.spawn(info_span!("look"), sync::look(tables, table, describer, stream, found.clone()));
                }
                Some(()) = looking.next() => {}
                // They end only in a drain; a panic in one of them must not go unseen until then.
                Some(()) = self.writers.next() => {}
                Some(()) = self.copying.ended() => {}
                // 7. Show what is.
                _ = show.tick() => {
                    self.obey_rest().await;
                    self.keep_affinity();
                    self.measure();
                    self.show();
                }
            }
        }
        self.drain().await;
    }

    /// Shards stop reading and end by themselves; then nothing more comes to the writers, and they end too.
    async fn drain(mut self) {
        info!(shards = self.shards.len(), "draining");
        self.revoke_retries();
        self.copying.stop().await;
        self.affinity.end(Instant::now());
        self.give_back_taken().await;
        while let Some((shard, exit)) = self.shards.next().await {
            if matches!(exit, Exit::Lost) {
                warn!(%shard, "lease is left to run out");
            }
            self.live.remove(&shard);
        }
        self.channels.clear();
        while self.writers.next().await.is_some() {}
        self.affinity.give_back().await;
        info!("drained");
    }
}
