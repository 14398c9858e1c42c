//! The registry: where metrics are made, handed out and rendered.

use std::fmt;
use std::sync::Arc;

use prometheus::{
    CounterVec, Encoder, HistogramVec, IntCounterVec, IntGaugeVec, Registry, TEXT_FORMAT, TextEncoder,
};

use super::call::Calls;
use super::catalogue as names;
use super::copy::Copies;
use super::fleet::{Fleet, Leading};
use super::process::Process;
use super::progress::{Progress, seconds};
use super::replica::Replica;
use super::series::Family;
use super::source::{LeaseChange, Source};
use crate::clock::Clock;

/// The media type of [`Metrics::render`]'s text. Prometheus refuses a scrape without it.
pub const CONTENT_TYPE: &str = TEXT_FORMAT;

/// All metrics of the program. Clones are the same.
#[derive(Clone)]
pub struct Metrics {
    families: Arc<Families>,
}

/// Why metrics cannot be offered.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A metric of the catalogue is not acceptable.
    #[error("register the metric {metric}")]
    Register {
        /// Its name.
        metric: &'static str,
        /// What is wrong with it.
        source: prometheus::Error,
    },
    /// A metric of the catalogue has other labels than the code that counts it.
    #[error("register the metric {metric}: it is counted with {expected} labels")]
    Labels {
        /// Its name.
        metric: &'static str,
        /// The number that the code gives.
        expected: usize,
    },
    /// They could not be written as text.
    #[error("render the metrics")]
    Render {
        /// Why.
        source: prometheus::Error,
    },
}

/// Every metric that is counted, as opposed to made up at a scrape.
pub(super) struct Families {
    registry: Registry,
    pub(super) progress: Progress,
    pub(super) fleet: Fleet,
    pub(super) heartbeat_roundtrip: Family<HistogramVec, 1>,
    pub(super) heartbeats_lost: Family<IntCounterVec, 3>,
    pub(super) verify_items: Family<IntCounterVec, 3>,
    pub(super) verify_differences: Family<IntCounterVec, 4>,
    pub(super) apply_latency: Family<HistogramVec, 1>,
    pub(super) route_state: Family<IntGaugeVec, 4>,
    pub(super) shards: Family<IntGaugeVec, 3>,
    pub(super) read: Family<IntCounterVec, 2>,
    pub(super) read_bytes: Family<IntCounterVec, 2>,
    pub(super) gaps_total: Family<IntCounterVec, 2>,
    pub(super) gaps: Family<IntGaugeVec, 2>,
    pub(super) leases: Family<IntGaugeVec, 2>,
    pub(super) lease_changes: Family<IntCounterVec, 1>,
    pub(super) lease_renew_failures: Family<IntCounterVec, 0>,
    pub(super) checkpoint_failures: Family<IntCounterVec, 0>,
    pub(super) checkpoint_duration: Family<HistogramVec, 0>,
    pub(super) applied: Family<IntCounterVec, 4>,
    pub(super) coalesced: Family<IntCounterVec, 3>,
    pub(super) skipped: Family<IntCounterVec, 4>,
    pub(super) copied: Family<IntCounterVec, 4>,
    pub(super) abandoned: Family<IntCounterVec, 3>,
    pub(super) parked_total: Family<IntCounterVec, 3>,
    pub(super) parked: Family<IntGaugeVec, 3>,
    pub(super) inflight: Family<IntGaugeVec, 3>,
    pub(super) buffer: Family<IntGaugeVec, 3>,
    pub(super) buffer_limit: Family<IntGaugeVec, 3>,
    pub(super) backpressure: Family<CounterVec, 1>,
    pub(super) throttles: Family<IntCounterVec, 4>,
    pub(super) capacity: Family<CounterVec, 4>,
    pub(super) copy_state: Family<IntGaugeVec, 4>,
    pub(super) copy_segments: Family<IntGaugeVec, 4>,
    pub(super) copy_items: Family<IntCounterVec, 3>,
    pub(super) copy_bytes: Family<IntCounterVec, 3>,
    pub(super) copy_units: Family<CounterVec, 3>,
    pub(super) repairs: Family<IntCounterVec, 4>,
    calls: Family<IntCounterVec, 4>,
    call_duration: Family<HistogramVec, 2>,
}

// === impl Metrics ===

impl Metrics {
    /// The metrics of the worker with this id, which shares the control table `fleet` with others. Lags are
    /// measured by `clock`.
    pub fn new(worker: &str, fleet: &str, clock: Clock) -> Result<Self, Error> {
        let registry = Registry::new();
        let progress = Progress::new(clock)?;
        let whole_fleet = Fleet::new(clock)?;
        let process = Process::new(seconds(clock.unix_ms()))?;
        for (metric, registered) in [
            (names::LAG, registry.register(Box::new(progress.clone()))),
            (names::COORDINATOR, registry.register(Box::new(whole_fleet.clone()))),
            (names::STARTED, registry.register(Box::new(process))),
        ] {
            registered.map_err(|source| Error::Register { metric: metric.name, source })?;
        }
        identify(&registry, worker, fleet)?;
        let families = Families::register(registry, progress, whole_fleet)?;
        families.create_global();
        Ok(Self { families: Arc::new(families) })
    }

    /// The handle for the source of `replication`, whose table is `table`. The same names give the same series.
    pub fn source(&self, replication: &str, table: &str) -> Source {
        Source::new(&self.families, replication, table)
    }

    /// The handle for one replica of `replication`; `table` is the source's. The same names give the same series.
    pub fn replica(&self, replication: &str, table: &str, replica: &str) -> Replica {
        Replica::new(&self.families, replication, table, replica)
    }

    /// The handle for the copies of one replica of `replication`; `table` is the source's. The same names give the same
    /// series.
    pub fn copies(&self, replication: &str, table: &str, replica: &str) -> Copies {
        Copies::new(&self.families, replication, table, replica)
    }

    /// This worker is the fleet's coordinator from now on, until the handle is dropped. Only one may be alive.
    pub fn lead(&self) -> Leading {
        Leading::new(&self.families)
    }

    /// The handle for calls to `service`, such as `dynamodb`, in `region`.
    pub fn calls(&self, service: &'static str, region: &str) -> Calls {
        let requests = self.families.calls.clone();
        Calls::new(service, region, requests, self.families.call_duration.clone())
    }

    /// All of them as text of the type [`CONTENT_TYPE`], with what depends on the time computed now.
    pub fn render(&self) -> Result<String, Error> {
        let mut text = Vec::new();
        TextEncoder::new()
            .encode(&self.families.registry.gather(), &mut text)
            .map_err(|source| Error::Render { source })?;
        String::from_utf8(text)
            .map_err(|error| Error::Render { source: prometheus::Error::Msg(error.to_string()) })
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

// === impl Families ===

impl Families {
    fn register(registry: Registry, progress: Progress, fleet: Fleet) -> Result<Self, Error> {
        Ok(Self {
            progress,
            fleet,
            heartbeat_roundtrip: Family::register(&registry, &names::HEARTBEAT_ROUNDTRIP)?,
            heartbeats_lost: Family::register(&registry, &names::HEARTBEATS_LOST)?,
            verify_items: Family::register(&registry, &names::VERIFY_ITEMS)?,
            verify_differences: Family::register(&registry, &names::VERIFY_DIFFERENCES)?,
            apply_latency: Family::register(&registry, &names::APPLY_LATENCY)?,
            route_state: Family::register(&registry, &names::ROUTE_STATE)?,
            shards: Family::register(&registry, &names::SHARDS)?,
            read: Family::register(&registry, &names::READ)?,
            read_bytes: Family::register(&registry, &names::READ_BYTES)?,
            gaps_total: Family::register(&registry, &names::GAPS_TOTAL)?,
            gaps: Family::register(&registry, &names::GAPS)?,
            leases: Family::register(&registry, &names::LEASES)?,
            lease_changes: Family::register(&registry, &names::LEASE_CHANGES)?,
            lease_renew_failures: Family::register(&registry, &names::LEASE_RENEW_FAILURES)?,
            checkpoint_failures: Family::register(&registry, &names::CHECKPOINT_FAILURES)?,
            checkpoint_duration: Family::register(&registry, &names::CHECKPOINT_DURATION)?,
            applied: Family::register(&registry, &names::APPLIED)?,
            coalesced: Family::register(&registry, &names::COALESCED)?,
            skipped: Family::register(&registry, &names::SKIPPED)?,
            abandoned: Family::register(&registry, &names::ABANDONED)?,
            copied: Family::register(&registry, &names::COPIED)?,
            parked_total: Family::register(&registry, &names::PARKED_TOTAL)?,
            parked: Family::register(&registry, &names::PARKED)?,
            inflight: Family::register(&registry, &names::INFLIGHT)?,
            buffer: Family::register(&registry, &names::BUFFER)?,
            buffer_limit: Family::register(&registry, &names::BUFFER_LIMIT)?,
            backpressure: Family::register(&registry, &names::BACKPRESSURE)?,
            throttles: Family::register(&registry, &names::THROTTLES)?,
            capacity: Family::register(&registry, &names::CAPACITY)?,
            copy_state: Family::register(&registry, &names::COPY_STATE)?,
            copy_segments: Family::register(&registry, &names::COPY_SEGMENTS)?,
            copy_items: Family::register(&registry, &names::COPY_ITEMS)?,
            copy_bytes: Family::register(&registry, &names::COPY_BYTES)?,
            copy_units: Family::register(&registry, &names::COPY_UNITS)?,
            repairs: Family::register(&registry, &names::REPAIRS)?,
            calls: Family::register(&registry, &names::CALLS)?,
            call_duration: Family::register(&registry, &names::CALL_DURATION)?,
            registry,
        })
    }

    /// Creates the series that belong to no replication.
    fn create_global(&self) {
        for reason in LeaseChange::LABELS {
            self.lease_changes.with([reason]);
        }
        self.lease_renew_failures.with([]);
        self.checkpoint_failures.with([]);
        self.checkpoint_duration.with([]);
        for stage in ["read", "apply"] {
            self.backpressure.with([stage]);
        }
    }
}

/// What runs here, and as whom. The build's revision and compiler are what the environment of the build said.
fn identify(registry: &Registry, worker: &str, fleet: &str) -> Result<(), Error> {
    let revision = option_env!("BUILD_REVISION").unwrap_or("unknown");
    let compiler = option_env!("BUILD_RUSTC").unwrap_or("unknown");
    let target = format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS);
    let build = Family::<IntGaugeVec, 4>::register(registry, &names::BUILD_INFO)?;
    build.with([env!("CARGO_PKG_VERSION"), revision, compiler, &target]).set(1);
    let own = Family::<IntGaugeVec, 2>::register(registry, &names::WORKER_INFO)?;
    own.with([worker, fleet]).set(1);
    Ok(())
}
