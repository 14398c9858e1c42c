//! When things last happened, and what follows from it at the moment of a scrape.

use std::collections::BTreeMap;
use std::iter;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;

use super::catalogue as names;
use super::catalogue::Metric;
use super::metrics::Error;
use super::series::{describe, family};
use crate::clock::Clock;

/// What a DynamoDB stream keeps, by the service's documentation.
const RETENTION_SECONDS: f64 = 24.0 * 3600.0;

/// A time, or that it is not known.
#[derive(Debug)]
pub(super) struct Moment {
    /// In milliseconds since 1970; [`Moment::UNKNOWN`] when not known.
    unix_ms: AtomicI64,
}

/// The moments of one replication's source.
#[derive(Debug)]
pub(super) struct SourceMoments {
    pub(super) discovered: Moment,
    pub(super) oldest_poll: Moment,
    pub(super) checkpointed: Moment,
}

/// The moments of one replica.
#[derive(Debug)]
pub(super) struct ReplicaMoments {
    pub(super) applied_through: Moment,
    pub(super) last_applied: Moment,
    pub(super) copy_started: Moment,
    pub(super) copy_consistent_since: Moment,
}

/// All moments; computes the metrics made of them. Reads nothing but atomics and the clock.
#[derive(Debug, Clone)]
pub(super) struct Progress {
    clock: Clock,
    /// Lags that came out below zero.
    skewed: Arc<AtomicU64>,
    descriptions: Vec<Desc>,
    shared: Arc<Mutex<Routes>>,
}

#[derive(Debug, Default)]
struct Routes {
    /// By replication and table.
    sources: BTreeMap<[String; 2], Arc<SourceMoments>>,
    /// By replication, table and replica.
    replicas: BTreeMap<[String; 3], Arc<ReplicaMoments>>,
}

// === impl Moment ===

impl Moment {
    /// Below every time that a service can tell.
    const UNKNOWN: i64 = i64::MIN;

    const fn unknown() -> Self {
        Self { unix_ms: AtomicI64::new(Self::UNKNOWN) }
    }

    pub(super) fn set(&self, unix_ms: Option<i64>) {
        self.unix_ms.store(unix_ms.unwrap_or(Self::UNKNOWN), Ordering::Relaxed);
    }

    /// Moves it forward, never back.
    pub(super) fn raise(&self, unix_ms: i64) {
        self.unix_ms.fetch_max(unix_ms, Ordering::Relaxed);
    }

    fn unix_seconds(&self) -> Option<f64> {
        let unix_ms = self.unix_ms.load(Ordering::Relaxed);
        (unix_ms != Self::UNKNOWN).then(|| seconds(unix_ms))
    }
}

/// Milliseconds fit a double exactly for 285,000 years.
pub(super) fn seconds(ms: i64) -> f64 {
    ms as f64 / 1000.0
}

// === impl Progress ===

impl Progress {
    /// No moment is known yet. Lags are measured by `clock`.
    pub(super) fn new(clock: Clock) -> Result<Self, Error> {
        let descriptions = describe(&[
            names::DISCOVERY,
            names::OLDEST_POLL,
            names::CHECKPOINTED,
            names::APPLIED_THROUGH,
            names::LAST_APPLIED,
            names::LAG,
            names::HEADROOM,
            names::COPY_STARTED,
            names::COPY_CONSISTENT_SINCE,
            names::CLOCK_SKEW,
        ])?;
        Ok(Self { clock, skewed: Arc::default(), descriptions, shared: Arc::default() })
    }

    /// The moments of a source, the same for the same names.
    pub(super) fn source(&self, names: [&str; 2]) -> Arc<SourceMoments> {
        let mut routes = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = routes.sources.entry(names.map(str::to_owned));
        let moments = entry.or_insert_with(|| {
            Arc::new(SourceMoments {
                discovered: Moment::unknown(),
                oldest_poll: Moment::unknown(),
                checkpointed: Moment::unknown(),
            })
        });
        Arc::clone(moments)
    }

    /// The moments of a replica, the same for the same names.
    pub(super) fn replica(&self, names: [&str; 3]) -> Arc<ReplicaMoments> {
        let mut routes = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = routes.replicas.entry(names.map(str::to_owned));
        let moments = entry.or_insert_with(|| {
            Arc::new(ReplicaMoments {
                applied_through: Moment::unknown(),
                last_applied: Moment::unknown(),
                copy_started: Moment::unknown(),
                copy_consistent_since: Moment::unknown(),
            })
        });
        Arc::clone(moments)
    }

    fn lag_seconds(&self, applied_through_seconds: f64, now_seconds: f64) -> f64 {
        let lag = now_seconds - applied_through_seconds;
        if lag < 0.0 {
            self.skewed.fetch_add(1, Ordering::Relaxed);
        }
        lag.max(0.0)
    }
}

impl Routes {
    fn sources(&self, metric: &Metric, moment: impl Fn(&SourceMoments) -> &Moment) -> MetricFamily {
        let known = self.sources.iter().filter_map(|(names, moments)| {
            let seconds = moment(moments).unix_seconds()?;
            Some((names.iter().map(String::as_str).collect(), seconds))
        });
        family(metric, known)
    }

    fn replicas(&self, metric: &Metric, value: impl Fn(&ReplicaMoments) -> Option<f64>) -> MetricFamily {
        let known = self.replicas.iter().filter_map(|(names, moments)| {
            Some((names.iter().map(String::as_str).collect(), value(moments)?))
        });
        family(metric, known)
    }
}

impl Collector for Progress {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let now = seconds(self.clock.unix_ms());
        let routes = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        let through = |moments: &ReplicaMoments| moments.applied_through.unix_seconds();
        let lag = |moments: &ReplicaMoments| through(moments).map(|through| self.lag_seconds(through, now));
        let headroom = |moments: &ReplicaMoments| {
            through(moments).map(|through| RETENTION_SECONDS - (now - through).max(0.0))
        };
        let lags = routes.replicas(&names::LAG, lag);
        let skewed = self.skewed.load(Ordering::Relaxed) as f64;
        vec![
            routes.sources(&names::DISCOVERY, |moments| &moments.discovered),
            routes.sources(&names::OLDEST_POLL, |moments| &moments.oldest_poll),
            routes.sources(&names::CHECKPOINTED, |moments| &moments.checkpointed),
            routes.replicas(&names::APPLIED_THROUGH, through),
            routes.replicas(&names::LAST_APPLIED, |moments| moments.last_applied.unix_seconds()),
            lags,
            routes.replicas(&names::HEADROOM, headroom),
            routes.replicas(&names::COPY_STARTED, |moments| moments.copy_started.unix_seconds()),
            routes.replicas(&names::COPY_CONSISTENT_SINCE, |moments| {
                moments.copy_consistent_since.unix_seconds()
            }),
            family(&names::CLOCK_SKEW, iter::once((Vec::new(), skewed))),
        ]
    }
}
