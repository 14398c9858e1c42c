//! One replication: keeps lineage and rows current, takes leases, runs shards.

mod sheet;
mod start;

pub(super) use sheet::empty;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self as futures, StreamExt};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, info_span, warn};

use super::board::Board;
use super::feed::Channel;
use super::plan::{Replicas, Standing};
use super::shard::{Built, Exit, Live, Parts};
use super::status;
use super::sync::{self, Found};
use crate::backoff::Backoff;
use crate::clock::Clock;
use crate::control::Control;
use crate::dynamo::Table;
use crate::fault::{Fault, Stage, advice};
use crate::lease::{self, Claim, Fence, Leases, Observer, Row, State};
use crate::shard::{Position, Shard, ShardId};
use crate::stream::{Describer, Lineage, Source};
use crate::task::Tasks;
use crate::telemetry;

/// Control-table calls under way at the same time while many leases are taken.
const CONTROL_CALLS: usize = 16;

/// Full listings in a row that a tracked shard must be missing from before its iterator is tried: one may be
/// inconsistent.
const ABSENT_LISTINGS: u32 = 2;

/// Full listings in a row that show a shard without its parent, before a parent that can be read is read although
/// nothing is known of its own parents. An inconsistent listing is right again by the next one or the one after.
const HIDDEN_LISTINGS: u32 = 5;

/// How often the sheet is renewed.
const SHOW_INTERVAL: Duration = Duration::from_millis(500);

/// What a replication is built from.
pub(super) struct Setup {
    pub(super) config: super::Replication,
    pub(super) worker: String,
    pub(super) control: Control,
    pub(super) lease: lease::Config,
    pub(super) grace: Duration,
    pub(super) clock: Clock,
    pub(super) metrics: Arc<telemetry::Metrics>,
    pub(super) board: Board,
    /// Its place on the board.
    pub(super) index: usize,
    pub(super) drain: CancellationToken,
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
    /// Open while this worker holds every shard that can be read: only then no other writes to the replicas, and a
    /// parked change can be tried again without overtaking a newer one that another worker has read.
    fence: Fence,
    lineage: Lineage,
    rows: BTreeMap<ShardId, Row>,
    observer: Observer,
    shards: Tasks<(ShardId, Exit)>,
    live: HashMap<ShardId, Live>,
    /// Shards whose start was decided by this process.
    decided: HashSet<ShardId>,
    /// Parents that can be read and are not listed, with the listings they were missing from.
    hidden: BTreeMap<ShardId, u32>,
    discovered_unix_ms: Option<i64>,
    stream_gap: Option<status::Gap>,
    error: Option<String>,
    /// Why leases cannot be taken at present, so that shards are left unread.
    control_error: Option<String>,
    metrics: telemetry::Source,
    replica_metrics: Vec<telemetry::Replica>,
    applied_through: Vec<Option<i64>>,
    /// A lease that others hold may run out then.
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
                setup
                    .board
                    .hang(setup.index, sheet::not_started(&setup.config, text));
            }
        }
        tokio::select! {
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
        Self {
            describer,
            metrics,
            replica_metrics,
            leases: started.leases,
            source: started.source,
            replicas: started.replicas,
            channels: started.channels,
            writers: started.writers,
            fence: started.fence,
            rows: started.rows,
            stream_gap: started.stream_gap,
            lineage: Lineage::new(),
            observer: Observer::default(),
            shards: Tasks::new(),
            live: HashMap::new(),
            decided: HashSet::new(),
            hidden: BTreeMap::new(),
            discovered_unix_ms: None,
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
        let mut sync = None;
        loop {
            let look_again = self.look_again;
            tokio::select! {
                biased;
                // 1. A drain goes before everything.
                () = drain.cancelled() => break,
                // 2. An ended shard lets its children start.
                Some((shard, exit)) = self.shards.next() => self.ended(&shard, exit).await,
                // 3. What is found of the source.
                Some(found) = looks.recv() => match found {
                    Found::Page(page) => self.listed(&page.shards).await,
                    Found::Complete(table) => if let Some(sync) = sync.take() { self.complete(sync, &table).await },
                    Found::Failed(error) => self.look_failed(&error),
                },
                // 4. Leases of others may have run out.
                () = tokio::time::sleep_until(look_again.unwrap_or_else(Instant::now)), if look_again.is_some() => {
                    self.look_again = None;
                    self.look_at_rows().await;
                }
                // 5. Look at the source, one look at a time.
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
                // 6. Show what is.
                _ = show.tick() => self.show(),
            }
        }
        self.drain().await;
    }

    /// Shards stop reading and end by themselves; then nothing more comes to the writers, and they end too.
    async fn drain(mut self) {
        info!(shards = self.shards.len(), "draining");
        while let Some((shard, exit)) = self.shards.next().await {
            if matches!(exit, Exit::Lost) {
                warn!(%shard, "lease is left to run out");
            }
            self.live.remove(&shard);
        }
        self.channels.clear();
        while self.writers.next().await.is_some() {}
        info!("drained");
    }

    /// Some shards were listed. Their rows are made when their parents are known; a listing may show a child before
    /// its parent, whose page is still to come.
    async fn listed(&mut self, shards: &[Shard]) {
        self.lineage.merge(shards);
        if self.discovered_unix_ms.is_some() {
            let listed = shards.iter().map(|shard| shard.id.clone());
            let ready: Vec<_> = listed
                .filter(|shard| self.hidden_ancestor(shard).is_none())
                .collect();
            self.track(ready).await;
            self.advance().await;
        }
    }

    /// All shards were listed.
    async fn complete(&mut self, sync: crate::stream::Sync, table: &Table) {
        let absent = self.lineage.complete(sync);
        self.check_stream(table);
        self.find_hidden_parents().await;
        let listed = self.lineage.parents_first().into_iter();
        let all: Vec<_> = listed
            .map(|shard| shard.id.clone())
            .filter(|shard| {
                let hidden = self.hidden_ancestor(shard);
                hidden.is_none_or(|hidden| !self.hidden.contains_key(&hidden))
            })
            .collect();
        if !self.track(all).await {
            return;
        }
        for shard in absent {
            self.absent(&shard).await;
        }
        // A new replica's place in a shard is decided when all shards are known.
        let all_known = self.hidden.is_empty() || self.replicas.new.is_empty();
        if all_known && self.register().await {
            self.error = None;
            self.discovered_unix_ms = Some(self.setup.clock.unix_ms());
        }
        self.advance().await;
        self.expire().await;
    }

    fn look_failed(&mut self, error: &crate::dynamo::Error) {
        let advice = advice(error.fault, Stage::Discover);
        warn!(%error, advice, "shards cannot be listed");
        self.error = Some(format!("{error}: {advice}"));
    }

    /// A stream that is not the table's newest any more ends, and what is written to the new one is not read.
    fn check_stream(&mut self, table: &Table) {
        let current = table
            .stream
            .as_ref()
            .filter(|stream| stream.enabled)
            .map(|stream| &stream.arn);
        if current == Some(&self.source.stream) || self.stream_gap.is_some() {
            return;
        }
        let gap = start::stream_gap(&self.source.stream, current, self.setup.clock.unix_ms());
        error!(reason = gap.reason, advice = gap.advice, "stream was replaced");
        self.metrics.gap_found();
        self.stream_gap = Some(gap);
    }

    /// A shard whose parent is neither listed nor tracked: the parent was trimmed, or the listing is incomplete. An
    /// iterator tells, because a child must never start before a parent that can still be read (I3). Such a parent
    /// is waited for, since only its own line in a listing tells what must be read before it; one that no listing
    /// shows any more is read as it is.
    async fn find_hidden_parents(&mut self) {
        let untracked = self
            .lineage
            .parents_first()
            .into_iter()
            .filter(|shard| !self.rows.contains_key(&shard.id));
        let parents: BTreeSet<_> = untracked
            .filter_map(|shard| self.hidden_ancestor(&shard.id))
            .collect();
        let before = std::mem::take(&mut self.hidden);
        for parent in parents {
            if !self.can_be_read(&parent).await {
                continue;
            }
            let listings = before.get(&parent).map_or(1, |listings| listings + 1);
            if listings < HIDDEN_LISTINGS {
                info!(shard = %parent, "parent is missing from the listing and can be read: its children wait");
                self.hidden.insert(parent, listings);
            } else {
                info!(shard = %parent, "parent is no longer listed and can be read");
                self.lineage.merge(&[Shard {
                    id: parent,
                    parent: None,
                    closed: true,
                }]);
            }
        }
    }

    /// The nearest ancestor of a shard that is neither listed nor tracked, unless a tracked one is nearer.
    fn hidden_ancestor(&self, shard: &ShardId) -> Option<ShardId> {
        let mut at = self.lineage.get(shard)?.parent.clone()?;
        while !self.rows.contains_key(&at) {
            match self.lineage.get(&at) {
                None => return Some(at),
                Some(listed) => at = listed.parent.clone()?,
            }
        }
        None
    }

    async fn can_be_read(&self, shard: &ShardId) -> bool {
        let iterator = self
            .source
            .streams
            .iterator(&self.source.stream, shard, &Position::TrimHorizon)
            .await;
        !matches!(iterator, Err(error) if matches!(error.fault, Fault::Missing | Fault::Trimmed))
    }

    /// Makes rows for shards that have none, parents before their children: whoever sees the row of a child sees that
    /// of its parent. Says whether all have one now.
    async fn track(&mut self, shards: Vec<ShardId>) -> bool {
        let now_unix_ms = self.setup.clock.unix_ms();
        let mut missing: Vec<_> = shards
            .iter()
            .filter(|shard| !self.rows.contains_key(*shard))
            .filter_map(|shard| self.lineage.get(shard))
            .map(|shard| {
                self.replicas
                    .new_row(shard, &self.source.stream, &self.rows, now_unix_ms)
            })
            .collect();
        while !missing.is_empty() {
            let open: HashSet<_> = missing.iter().map(|row| row.shard.clone()).collect();
            let waits = |row: &Row| row.parent.as_ref().is_some_and(|parent| open.contains(parent));
            let (later, next): (Vec<_>, Vec<_>) = missing.into_iter().partition(waits);
            if !self.create(next).await {
                return false;
            }
            missing = later;
        }
        true
    }

    /// Writes new rows, and keeps those that were there already. Says whether all are there now.
    async fn create(&mut self, rows: Vec<Row>) -> bool {
        let leases = &self.leases;
        let made: Vec<_> = futures::iter(rows)
            .map(|row| leases.create(row))
            .buffer_unordered(CONTROL_CALLS)
            .collect()
            .await;
        let mut all = true;
        for row in made {
            match row {
                Ok((row, _)) if row.stream != self.source.stream => {
                    all = false;
                    let (shard, stream) = (&row.shard, &row.stream);
                    let text = format!(
                        "shard {shard} has a row of another stream, {stream}: start the replication under a new name"
                    );
                    error!(%shard, %stream, "a row of another stream is in the way");
                    self.error = Some(text);
                }
                Ok((row, created)) => {
                    if created {
                        self.decided.insert(row.shard.clone());
                    }
                    self.rows.insert(row.shard.clone(), row);
                }
                Err(error) => {
                    all = false;
                    warn!(%error, "row of a shard cannot be made");
                    self.error = Some(error.to_string());
                }
            }
        }
        all
    }

    /// Remembers that the replicas were started, once every shard has a row of theirs.
    async fn register(&mut self) -> bool {
        if self.replicas.new.is_empty() {
            return true;
        }
        match start::register(&self.setup, &self.replicas.new).await {
            Ok(()) => {
                // Rows that are not held get the new replicas' checkpoints when they are taken.
                let now_unix_ms = self.setup.clock.unix_ms();
                for row in self.rows.values_mut() {
                    let closed = self.lineage.get(&row.shard).is_none_or(|shard| shard.closed);
                    if self.replicas.complete(row, closed, now_unix_ms) {
                        self.decided.insert(row.shard.clone());
                    }
                }
                self.replicas.new.clear();
                true
            }
            Err(error) => {
                warn!(%error, "new replicas cannot be remembered");
                self.error = Some(error.to_string());
                false
            }
        }
    }

    /// A tracked shard is missing from a full listing.
    async fn absent(&mut self, shard: &ShardId) {
        let Some(row) = self.rows.get(shard) else {
            return self.lineage.forget(shard);
        };
        if self.replicas.standing(row, &self.rows, &self.lineage) == Standing::Done {
            self.lineage.forget(shard);
            if row.expires_unix_s.is_some() {
                self.rows.remove(shard);
            }
            return;
        }
        let is_running = self.live.contains_key(shard);
        let is_gap = matches!(row.state, State::Gap { .. });
        let is_elsewhere = row
            .owner
            .as_ref()
            .is_some_and(|owner| *owner != self.setup.worker);
        if is_running
            || is_gap
            || is_elsewhere
            || self.lineage.absences(shard) < ABSENT_LISTINGS
            || self.can_be_read(shard).await
        {
            return;
        }
        let reason = "it vanished from the stream before it was read to its end".to_owned();
        error!(%shard, reason, "shard cannot be read: replicas miss changes and must be copied anew");
        self.metrics.gap_found();
        let mut row = self.rows[shard].clone();
        row.state = State::Gap {
            reason,
            found_unix_ms: self.setup.clock.unix_ms(),
        };
        match self.leases.release(&mut row).await {
            Ok(lease::Renewal::Done) => drop(self.rows.insert(shard.clone(), row)),
            Ok(lease::Renewal::Lost) => {}
            Err(error) => warn!(%error, "gap cannot be written"),
        }
    }

    /// Takes every lease that is free to take and starts its shard.
    async fn advance(&mut self) {
        if self.discovered_unix_ms.is_none() {
            return;
        }
        let now = Instant::now();
        // A look that is due soon stays due, however often this is called before it.
        self.look_again = self.look_again.filter(|at| *at > now);
        let mut claims = Vec::new();
        for row in self.rows.values() {
            if self.live.contains_key(&row.shard)
                || self.replicas.standing(row, &self.rows, &self.lineage) != Standing::Ready
            {
                continue;
            }
            match self
                .observer
                .claim(row, &self.setup.worker, self.setup.lease.duration, now)
            {
                Claim::Held(left) => {
                    // Seen again before it runs out, in case it was renewed, and as often as it is renewed, because
                    // a released lease waits for nothing.
                    let wait = (left / 2).min(self.setup.lease.renew_interval);
                    let look = now + wait.max(Duration::from_millis(50));
                    self.look_again = Some(self.look_again.map_or(look, |at| at.min(look)));
                }
                claim => {
                    let mut wanted = row.clone();
                    let closed = self.lineage.get(&row.shard).is_none_or(|shard| shard.closed);
                    self.replicas
                        .complete(&mut wanted, closed, self.setup.clock.unix_ms());
                    self.replicas.inherit(&mut wanted, &self.rows);
                    claims.push((wanted, claim == Claim::Expired));
                }
            }
        }
        self.take(claims).await;
    }

    async fn take(&mut self, claims: Vec<(Row, bool)>) {
        let leases = &self.leases;
        let taken: Vec<_> = futures::iter(claims)
            .map(|(row, settles)| async move {
                let sent = Instant::now();
                (leases.take(&row).await, row, settles, sent)
            })
            .buffer_unordered(CONTROL_CALLS)
            .collect()
            .await;
        for (outcome, seen, settles, sent) in taken {
            match outcome {
                Ok(Some(row)) => {
                    self.control_error = None;
                    self.start(row, settles, sent);
                }
                Ok(None) => {
                    info!(shard = %seen.shard, "another worker was faster to take the lease");
                    self.look_again = Some(Instant::now() + Duration::from_millis(50));
                }
                Err(error) => {
                    warn!(shard = %seen.shard, %error, "lease cannot be taken");
                    self.control_error = Some(error.to_string());
                    self.look_again = Some(Instant::now() + Duration::from_secs(1));
                }
            }
        }
    }

    fn start(&mut self, row: Row, settles: bool, sent: Instant) {
        let shard = row.shard.clone();
        let fence = Fence::closed();
        let closes_at = sent + self.setup.lease.fence_span();
        fence.open_until(closes_at);
        self.observer.forget(&shard);
        self.rows.insert(shard.clone(), row.clone());
        let is_fresh = self.decided.remove(&shard);
        info!(%shard, settles, "lease taken");
        self.metrics.lease_changed(telemetry::LeaseChange::Acquired);
        let unfinished = |channel: &&Channel| !row.is_done_for(&channel.replica);
        let channels = self.channels.iter().filter(unfinished).cloned().collect();
        let (built, live) = Built::new(Parts {
            row,
            leases: self.leases.clone(),
            lease: self.setup.lease,
            fence,
            settles,
            is_fresh,
            reader: self.setup.config.source.reader,
            source: self.source.clone(),
            describer: Arc::clone(&self.describer),
            channels,
            clock: self.setup.clock,
            metrics: self.metrics.clone(),
            drain: self.setup.drain.clone(),
            grace: self.setup.grace,
        });
        self.live.insert(shard.clone(), live);
        let span = info_span!("shard", replication = self.setup.config.name, %shard);
        self.shards.spawn(span, async move { (shard, built.run().await) });
    }

    /// A shard's task ended.
    async fn ended(&mut self, shard: &ShardId, exit: Exit) {
        self.live.remove(shard);
        match exit {
            Exit::Ended(row, children) => {
                self.rows.insert(shard.clone(), row);
                self.lineage.merge(&children);
                self.track(children.into_iter().map(|child| child.id).collect())
                    .await;
                self.advance().await;
            }
            Exit::Gap(row) | Exit::Released(row) => drop(self.rows.insert(shard.clone(), row)),
            Exit::Lost => self.look_at_rows().await,
        }
    }

    /// Reads the rows again, to see what other workers did with them.
    async fn look_at_rows(&mut self) {
        match self.leases.load().await {
            Ok(rows) => {
                self.control_error = None;
                for row in rows.into_iter().filter(|row| row.stream == self.source.stream) {
                    if !self.live.contains_key(&row.shard) {
                        self.rows.insert(row.shard.clone(), row);
                    }
                }
                self.advance().await;
            }
            Err(error) => {
                warn!(%error, "rows of shards cannot be read");
                self.control_error = Some(error.to_string());
                self.look_again = Some(Instant::now() + Duration::from_secs(1));
            }
        }
    }

    /// Lets rows of ended shards go whose children are being read.
    async fn expire(&mut self) {
        let now_unix_ms = self.setup.clock.unix_ms();
        let expiring: Vec<_> = self
            .rows
            .values()
            .filter(|row| !self.live.contains_key(&row.shard))
            .filter_map(|row| {
                let expires = self
                    .replicas
                    .expiry(row, &self.rows, &self.lineage, now_unix_ms)?;
                Some(Row {
                    expires_unix_s: Some(expires),
                    ..row.clone()
                })
            })
            .collect();
        for mut row in expiring {
            match self.leases.release(&mut row).await {
                Ok(lease::Renewal::Done) => drop(self.rows.insert(row.shard.clone(), row)),
                Ok(lease::Renewal::Lost) => {}
                Err(error) => return warn!(%error, "row of an ended shard cannot be marked"),
            }
        }
    }
}
