//! Writes the heartbeats of one source, and looks for them in each replica.

use std::convert::Infallible;
use std::time::Duration;

use futures_util::future::{join, join_all};
use tokio::sync::mpsc;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep};
use tracing::{debug, info, warn};

use super::item::{self, Beat, Slot, Unfit};
use super::tracker::Tracker;
use super::{Config, Gate, LOST_AFTER};
use crate::change::{Change, Op};
use crate::clock::Clock;
use crate::dynamo::{self, FETCH_KEYS_MAX, Tables, WRITE_ITEMS_MAX};
use crate::fault::{Stage, advice};
use crate::key::Key;
use crate::supervisor::coordinator::Office;
use crate::supervisor::{self, Replica, Replication};
use crate::telemetry;

/// How often a replica is asked for a heartbeat that is under way.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Before another try to learn what must be known before the first heartbeat.
const LEARN_PAUSE: Duration = Duration::from_secs(15);

/// One source that heartbeats are written to.
#[derive(Clone)]
pub(in crate::supervisor) struct Route {
    pub(in crate::supervisor) replication: Replication,
    keys: usize,
    interval: Duration,
    /// Closed while the table is not there; none for a user's table.
    gate: Option<Gate>,
}

/// A heartbeat that was written.
#[derive(Clone, Copy)]
struct Sent {
    slot: usize,
    sequence: i64,
    at: Instant,
}

/// Why no heartbeat can be written yet.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Call(#[from] dynamo::Error),
    #[error(transparent)]
    Unfit(#[from] Unfit),
    #[error("read the last heartbeats: the service did not answer for all of them")]
    Unprocessed,
}

/// Who writes heartbeats, and by which clock.
struct Writer<'a> {
    route: &'a Route,
    fleet: &'a str,
    worker: &'a str,
    clock: Clock,
    office: &'a Office,
    slots: Vec<Slot>,
    sequence: i64,
    fails: bool,
}

/// Looks for the heartbeats in one replica.
struct Watch<'a> {
    replication: &'a str,
    replica: &'a Replica,
    slots: &'a [Slot],
    office: &'a Office,
    metrics: telemetry::Heartbeats,
    tracker: Tracker,
    /// What the last coordinator's heartbeats prove counts too, so there is a look before the first is sent.
    is_first: bool,
    fails: bool,
    lost: u64,
}

// === impl Route ===

impl Route {
    /// All routes of a worker. `gates` are those of its dedicated replications, in their order.
    pub(in crate::supervisor) fn all(config: &supervisor::Config, gates: &[Gate]) -> Vec<Self> {
        let Config { interval, dedicated, in_table } = &config.heartbeat;
        let dedicated = dedicated.iter().zip(gates).map(|(replication, gate)| Self {
            replication: replication.clone(),
            keys: 1,
            interval: *interval,
            gate: Some(gate.clone()),
        });
        let in_table = in_table.iter().filter_map(|wanted| {
            let replication = config.replications.iter().find(|it| it.name == wanted.replication)?;
            Some(Self {
                replication: replication.clone(),
                keys: wanted.keys,
                interval: *interval,
                gate: None,
            })
        });
        dedicated.chain(in_table).collect()
    }
}

/// Writes and looks until it is dropped, for `fleet` and as `worker`.
pub(in crate::supervisor) async fn beat(
    route: &Route,
    fleet: &str,
    worker: &str,
    clock: Clock,
    office: &Office,
) -> Infallible {
    if let Some(gate) = &route.gate {
        gate.opened().await;
    }
    let (slots, sequence) = known(route, fleet, office).await;
    let (mut sent, mut watches) = (Vec::new(), Vec::new());
    for replica in &route.replication.replicas {
        let (sender, receiver) = mpsc::unbounded_channel();
        sent.push(sender);
        watches.push(Watch::new(route, replica, &slots, office).run(receiver));
    }
    let writer = Writer { route, fleet, worker, clock, office, slots: slots.clone(), sequence, fails: false };
    let (never, _) = join(writer.run(&sent), join_all(watches)).await;
    never
}

/// Learns the table's key and the last heartbeats in it, however long that takes.
async fn known(route: &Route, fleet: &str, office: &Office) -> (Vec<Slot>, i64) {
    let name = &route.replication.name;
    let mut told = false;
    loop {
        match learn(route, fleet).await {
            Ok(known) => {
                office.note(name, None);
                return known;
            }
            Err(error) => {
                if !told {
                    warn!(replication = name, %error, "no heartbeats");
                    office.note(name, Some(format!("no heartbeats: {error}")));
                }
                told = true;
                sleep(LEARN_PAUSE).await;
            }
        }
    }
}

async fn learn(route: &Route, fleet: &str) -> Result<(Vec<Slot>, i64), Error> {
    let source = &route.replication.source;
    let table = source.tables.describe(&source.table).await?;
    let slots = item::slots(&table.key, fleet, route.keys)?;
    let last = fetch(source.tables.as_ref(), &source.table, &slots).await?;
    if last.len() < slots.len() {
        return Err(Error::Unprocessed);
    }
    let sequence = last.into_iter().filter_map(|(_, beat)| Some(beat?.sequence)).max();
    Ok((slots, sequence.unwrap_or(0)))
}

/// The heartbeats in the slots of a table, of those that were read.
async fn fetch(
    tables: &dyn Tables,
    table: &str,
    slots: &[Slot],
) -> Result<Vec<(usize, Option<Beat>)>, dynamo::Error> {
    let mut found = Vec::with_capacity(slots.len());
    for slots in slots.chunks(FETCH_KEYS_MAX) {
        let keys: Vec<Key> = slots.iter().map(|slot| slot.key.clone()).collect();
        let fetched = tables.fetch(table, &keys).await?;
        let read = slots.iter().zip(&fetched.items).enumerate();
        let read = read.filter(|(at, _)| !fetched.unprocessed.contains(at));
        found.extend(read.map(|(_, (slot, item))| (slot.index, item.as_ref().and_then(Beat::read))));
    }
    Ok(found)
}

// === impl Writer ===

impl Writer<'_> {
    async fn run(mut self, sent: &[mpsc::UnboundedSender<Sent>]) -> Infallible {
        let mut ticks = ticks(self.route.interval);
        loop {
            ticks.tick().await;
            self.sequence += 1;
            let at = Instant::now();
            let now_unix_ms = self.clock.unix_ms();
            let written = match self.write(now_unix_ms).await {
                Ok(written) => written,
                Err(error) => {
                    self.failed(&error);
                    continue;
                }
            };
            self.succeeded(&written, now_unix_ms);
            for slot in written {
                for replica in sent {
                    // It is read for as long as this writes.
                    let _ = replica.send(Sent { slot, sequence: self.sequence, at });
                }
            }
        }
    }

    /// Writes one heartbeat to each slot. Which slots were written.
    async fn write(&self, written_unix_ms: i64) -> Result<Vec<usize>, dynamo::Error> {
        let source = &self.route.replication.source;
        let beat = Beat { sequence: self.sequence, written_unix_ms };
        let mut written = Vec::with_capacity(self.slots.len());
        for slots in self.slots.chunks(WRITE_ITEMS_MAX) {
            let change = |slot: &Slot| Change {
                key: slot.key.clone(),
                op: Op::Put(slot.item(beat, self.fleet, self.worker)),
                created_unix_ms: written_unix_ms,
                order: None,
            };
            let changes: Vec<_> = slots.iter().map(change).collect();
            let answer = source.tables.write(&source.table, &changes).await?;
            let done = slots.iter().enumerate().filter(|(at, _)| !answer.unprocessed.contains(at));
            written.extend(done.map(|(_, slot)| slot.index));
        }
        Ok(written)
    }

    fn succeeded(&mut self, written: &[usize], written_unix_ms: i64) {
        let Replication { name, source, .. } = &self.route.replication;
        if written.len() == self.slots.len() {
            self.office.metrics().heartbeat_written(name, &source.table, written_unix_ms);
        }
        if std::mem::take(&mut self.fails) {
            info!(replication = name, "heartbeats are written again");
            self.office.note(name, None);
        }
    }

    fn failed(&mut self, error: &dynamo::Error) {
        let name = &self.route.replication.name;
        let advice = advice(error.fault, Stage::Discover);
        if self.fails {
            return debug!(replication = name, %error, "heartbeat is not written");
        }
        self.fails = true;
        warn!(replication = name, %error, advice, "heartbeats are not written");
        self.office.note(name, Some(format!("heartbeats are not written: {error}: {advice}")));
    }
}

// === impl Watch ===

impl<'a> Watch<'a> {
    fn new(route: &'a Route, replica: &'a Replica, slots: &'a [Slot], office: &'a Office) -> Self {
        let Replication { name, source, .. } = &route.replication;
        Self {
            replication: name,
            replica,
            slots,
            office,
            metrics: office.metrics().heartbeats(name, &source.table, &replica.name),
            tracker: Tracker::new(slots.len(), route.interval * LOST_AFTER),
            is_first: true,
            fails: false,
            lost: 0,
        }
    }

    async fn run(mut self, mut sent: mpsc::UnboundedReceiver<Sent>) {
        let mut looks = ticks(LOOK_INTERVAL);
        loop {
            tokio::select! {
                biased;
                Some(Sent { slot, sequence, at }) = sent.recv() => self.tracker.sent(slot, sequence, at),
                _ = looks.tick(), if self.is_first || self.tracker.waits() => self.look().await,
            }
        }
    }

    async fn look(&mut self) {
        let Self { replication, replica, .. } = *self;
        match fetch(replica.tables.as_ref(), &replica.writer.table, self.slots).await {
            Ok(found) => self.found(&found),
            Err(error) => {
                if !std::mem::replace(&mut self.fails, true) {
                    let advice = advice(error.fault, Stage::Discover);
                    warn!(replication, replica = replica.name, %error, advice, "heartbeats cannot be looked for");
                }
            }
        }
        let lost = self.tracker.give_up(Instant::now());
        if lost > 0 {
            warn!(replication, replica = replica.name, count = lost, "heartbeats are lost");
            self.lost += lost;
            self.metrics.lost(lost);
        }
        let applied = self.tracker.applied_unix_ms();
        if let Some(unix_ms) = applied {
            self.metrics.set_applied(unix_ms);
        }
        self.office.heartbeat(replication, &replica.name, applied, self.lost);
    }

    fn found(&mut self, found: &[(usize, Option<Beat>)]) {
        (self.is_first, self.fails) = (false, false);
        let now = Instant::now();
        for (slot, beat) in found {
            let took = beat.and_then(|beat| self.tracker.seen(*slot, beat, now));
            if let Some(took) = took {
                self.metrics.returned(took);
            }
        }
    }
}

fn ticks(period: Duration) -> Interval {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}
