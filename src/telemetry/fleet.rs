//! What the coordinator tells of the whole fleet: series that exist only while this worker is it.
//!
//! All of them hang on one [`Leading`]. When it is dropped they are gone at the next scrape, so a worker that lost the
//! office never shows a value that nobody renews.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Histogram, HistogramVec, IntCounter, IntCounterVec};

use super::catalogue as names;
use super::metrics::{Error, Families};
use super::progress::seconds;
use super::series::{Family, describe, family};
use crate::clock::Clock;

/// Counts of a stream's shards, by what the fleet does with them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FleetShards {
    /// Held by a worker that renews its lease.
    pub owned: u64,
    /// Waiting for their parents' end.
    pub waiting: u64,
    /// Read and applied to the end, everywhere.
    pub ended: u64,
    /// Ready to be read, and held by nobody who lives.
    pub unowned: u64,
    /// Stopped by a gap.
    pub gap: u64,
}

/// The office of the coordinator, as metrics show it. Its series go when it is dropped.
#[derive(Debug)]
pub struct Leading {
    fleet: Fleet,
    lost: Family<IntCounterVec, 3>,
    roundtrips: Family<HistogramVec, 1>,
    verify_items: Family<IntCounterVec, 3>,
    verify_differences: Family<IntCounterVec, 4>,
}

/// The heartbeats of one replica of a replication.
#[derive(Debug, Clone)]
pub struct Heartbeats {
    fleet: Fleet,
    route: [String; 3],
    lost: IntCounter,
    roundtrip: Histogram,
}

/// The rolling verification of one replica.
#[derive(Debug, Clone)]
pub struct Verification {
    fleet: Fleet,
    route: [String; 3],
    items: IntCounter,
    differences: Family<IntCounterVec, 4>,
}

/// All that the coordinator set; makes the metrics of it.
#[derive(Debug, Clone)]
pub(super) struct Fleet {
    clock: Clock,
    leads: Arc<AtomicBool>,
    descriptions: Vec<Desc>,
    told: Arc<Mutex<Told>>,
}

#[derive(Debug, Default)]
struct Told {
    /// By replication and table.
    shards: BTreeMap<[String; 2], FleetShards>,
    written_unix_ms: BTreeMap<[String; 2], i64>,
    /// By replication, table and replica.
    applied_through_unix_ms: BTreeMap<[String; 3], i64>,
    heartbeat_applied_unix_ms: BTreeMap<[String; 3], i64>,
    schema_drift: BTreeMap<[String; 3], u64>,
    verify_covered_unix_ms: BTreeMap<[String; 3], i64>,
}

// === impl FleetShards ===

impl FleetShards {
    const LABELS: [&str; 5] = ["owned", "waiting", "ended", "unowned", "gap"];

    /// In the order of the labels.
    const fn counts(self) -> [u64; 5] {
        [self.owned, self.waiting, self.ended, self.unowned, self.gap]
    }
}

// === impl Leading ===

impl Leading {
    pub(super) fn new(families: &Families) -> Self {
        let fleet = families.fleet.clone();
        fleet.leads.store(true, Ordering::Relaxed);
        Self {
            fleet,
            lost: families.heartbeats_lost.clone(),
            roundtrips: families.heartbeat_roundtrip.clone(),
            verify_items: families.verify_items.clone(),
            verify_differences: families.verify_differences.clone(),
        }
    }

    /// What the fleet does with the shards of a replication; `table` is the source's.
    pub fn set_shards(&self, replication: &str, table: &str, shards: FleetShards) {
        self.fleet.told().shards.insert([replication, table].map(str::to_owned), shards);
    }

    /// Every change of the source made up to this time, in milliseconds since 1970, is in the replica, whoever reads
    /// its shards; `None` when that is not known.
    pub fn set_applied_through(&self, replication: &str, table: &str, replica: &str, unix_ms: Option<i64>) {
        let route = [replication, table, replica].map(str::to_owned);
        let mut told = self.fleet.told();
        match unix_ms {
            Some(unix_ms) => drop(told.applied_through_unix_ms.insert(route, unix_ms)),
            None => drop(told.applied_through_unix_ms.remove(&route)),
        }
    }

    /// In so many settings the replica's table differs from its source; `None` when that is not known.
    pub fn set_schema_drift(&self, replication: &str, table: &str, replica: &str, settings: Option<u64>) {
        let route = [replication, table, replica].map(str::to_owned);
        let mut told = self.fleet.told();
        match settings {
            Some(settings) => drop(told.schema_drift.insert(route, settings)),
            None => drop(told.schema_drift.remove(&route)),
        }
    }

    /// The newest heartbeat was written to the source at this time, in milliseconds since 1970.
    pub fn heartbeat_written(&self, replication: &str, table: &str, unix_ms: i64) {
        self.fleet.told().written_unix_ms.insert([replication, table].map(str::to_owned), unix_ms);
    }

    /// The handle for the heartbeats of one replica of `replication`; `table` is the source's.
    pub fn heartbeats(&self, replication: &str, table: &str, replica: &str) -> Heartbeats {
        Heartbeats {
            fleet: self.fleet.clone(),
            route: [replication, table, replica].map(str::to_owned),
            lost: self.lost.with([replication, table, replica]),
            roundtrip: self.roundtrips.with([replica]),
        }
    }

    /// The handle for the rolling verification of one replica of `replication`, which can find differences of `classes`;
    /// `table` is the source's.
    pub fn verification(
        &self,
        replication: &str,
        table: &str,
        replica: &str,
        classes: &[&str],
    ) -> Verification {
        let differences = self.verify_differences.clone();
        for class in classes {
            // A counter that is there before it grows can be alarmed on.
            drop(differences.with([replication, table, replica, class]));
        }
        Verification {
            fleet: self.fleet.clone(),
            route: [replication, table, replica].map(str::to_owned),
            items: self.verify_items.with([replication, table, replica]),
            differences,
        }
    }
}

impl Drop for Leading {
    fn drop(&mut self) {
        self.fleet.leads.store(false, Ordering::Relaxed);
        *self.fleet.told() = Told::default();
    }
}

// === impl Heartbeats ===

impl Heartbeats {
    /// The newest heartbeat that is in the replica was written at this time, in milliseconds since 1970.
    pub fn set_applied(&self, unix_ms: i64) {
        // Whoever still holds a handle after the office is lost must not bring a series back.
        if self.fleet.leads.load(Ordering::Relaxed) {
            self.fleet.told().heartbeat_applied_unix_ms.insert(self.route.clone(), unix_ms);
        }
    }

    /// A heartbeat was found in the replica so long after it was sent.
    pub fn returned(&self, elapsed: Duration) {
        self.roundtrip.observe(elapsed.as_secs_f64());
    }

    /// So many heartbeats were given up.
    pub fn lost(&self, count: u64) {
        self.lost.inc_by(count);
    }
}

// === impl Verification ===

impl Verification {
    /// So many items were compared.
    pub fn compared(&self, items: u64) {
        self.items.inc_by(items);
    }

    /// A difference of `class` was found.
    pub fn found(&self, class: &str) {
        let [replication, table, replica] = &self.route;
        self.differences.with([replication, table, replica, class]).inc();
    }

    /// Every item was compared since this time, in milliseconds since 1970.
    pub fn covered(&self, unix_ms: i64) {
        // As with heartbeats.
        if self.fleet.leads.load(Ordering::Relaxed) {
            self.fleet.told().verify_covered_unix_ms.insert(self.route.clone(), unix_ms);
        }
    }
}

// === impl Fleet ===

impl Fleet {
    /// Nobody leads yet. Lags are measured by `clock`.
    pub(super) fn new(clock: Clock) -> Result<Self, Error> {
        let descriptions = describe(&[
            names::COORDINATOR,
            names::FLEET_APPLIED_THROUGH,
            names::FLEET_LAG,
            names::FLEET_SHARDS,
            names::HEARTBEAT_WRITTEN,
            names::HEARTBEAT_APPLIED,
            names::SCHEMA_DRIFT,
            names::VERIFY_COVERED,
        ])?;
        Ok(Self { clock, leads: Arc::default(), descriptions, told: Arc::default() })
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn labelled<const N: usize, V>(of: &BTreeMap<[String; N], V>) -> impl Iterator<Item = (Vec<&str>, &V)> {
    of.iter().map(|(names, value)| (names.iter().map(String::as_str).collect(), value))
}

impl Collector for Fleet {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let now = seconds(self.clock.unix_ms());
        let leads = if self.leads.load(Ordering::Relaxed) { 1.0 } else { 0.0 };
        let told = self.told();
        let lag = |through_unix_ms: i64| (now - seconds(through_unix_ms)).max(0.0);
        let through = || labelled(&told.applied_through_unix_ms);
        let shards = told.shards.iter().flat_map(|([replication, table], shards)| {
            let states = FleetShards::LABELS.into_iter().zip(shards.counts());
            states.map(move |(state, count)| (vec![replication.as_str(), table, state], count as f64))
        });
        vec![
            family(&names::COORDINATOR, std::iter::once((Vec::new(), leads))),
            family(&names::FLEET_APPLIED_THROUGH, through().map(|(labels, at)| (labels, seconds(*at)))),
            family(&names::FLEET_LAG, through().map(|(labels, at)| (labels, lag(*at)))),
            family(&names::FLEET_SHARDS, shards),
            family(
                &names::HEARTBEAT_WRITTEN,
                labelled(&told.written_unix_ms).map(|(labels, at)| (labels, seconds(*at))),
            ),
            family(
                &names::HEARTBEAT_APPLIED,
                labelled(&told.heartbeat_applied_unix_ms).map(|(labels, at)| (labels, seconds(*at))),
            ),
            family(
                &names::SCHEMA_DRIFT,
                labelled(&told.schema_drift).map(|(labels, count)| (labels, *count as f64)),
            ),
            family(
                &names::VERIFY_COVERED,
                labelled(&told.verify_covered_unix_ms).map(|(labels, at)| (labels, seconds(*at))),
            ),
        ]
    }
}
