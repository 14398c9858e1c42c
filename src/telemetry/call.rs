//! Calls to a service, counted by what came of them.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use prometheus::{Histogram, HistogramVec, IntCounter, IntCounterVec};

use super::series::Family;
use crate::fault::Fault;

/// What came of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It succeeded.
    Ok,
    /// Refused because of load.
    Throttled,
    /// A condition did not hold, or another request was in the way.
    Conflict,
    /// Credentials are absent, expired, or do not allow it.
    AccessDenied,
    /// No answer came.
    Timeout,
    /// Anything else.
    Error,
}

/// Counts the calls to one service in one region. Clones count together.
#[derive(Clone)]
pub struct Calls {
    shared: Arc<Shared>,
}

struct Shared {
    service: &'static str,
    region: String,
    requests: Family<IntCounterVec, 4>,
    durations: Family<HistogramVec, 2>,
    /// A dozen at most, so that a search is faster than a hash; written when an operation is first called.
    operations: RwLock<Vec<(&'static str, Operation)>>,
}

/// The series of one operation.
#[derive(Clone)]
struct Operation {
    outcomes: [IntCounter; Outcome::ALL.len()],
    duration: Histogram,
}

// === impl Outcome ===

impl Outcome {
    /// All, in the order of their discriminants.
    const ALL: [Self; 6] =
        [Self::Ok, Self::Throttled, Self::Conflict, Self::AccessDenied, Self::Timeout, Self::Error];

    const fn label(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Throttled => "throttled",
            Self::Conflict => "conflict",
            Self::AccessDenied => "access_denied",
            Self::Timeout => "timeout",
            Self::Error => "error",
        }
    }
}

impl From<Fault> for Outcome {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Throttled(_) => Self::Throttled,
            Fault::Conflict => Self::Conflict,
            Fault::Denied => Self::AccessDenied,
            Fault::Unanswered => Self::Timeout,
            Fault::Transient
            | Fault::ExpiredIterator
            | Fault::Trimmed
            | Fault::Missing
            | Fault::Invalid
            | Fault::Protocol => Self::Error,
        }
    }
}

// === impl Calls ===

impl Calls {
    pub(super) fn new(
        service: &'static str,
        region: &str,
        requests: Family<IntCounterVec, 4>,
        durations: Family<HistogramVec, 2>,
    ) -> Self {
        let shared =
            Shared { service, region: region.to_owned(), requests, durations, operations: RwLock::default() };
        Self { shared: Arc::new(shared) }
    }

    /// Counts one attempt of `operation`, such as `GetRecords`. Allocates only at an operation's first call.
    pub fn record(&self, operation: &'static str, outcome: Outcome, elapsed: Duration) {
        let count = |series: &Operation| {
            series.outcomes[outcome as usize].inc();
            series.duration.observe(elapsed.as_secs_f64());
        };
        let known = self.shared.operations.read().unwrap_or_else(PoisonError::into_inner);
        match known.iter().find(|(name, _)| *name == operation) {
            Some((_, series)) => count(series),
            None => {
                drop(known);
                count(&self.add(operation));
            }
        }
    }

    fn add(&self, operation: &'static str) -> Operation {
        let Shared { service, region, .. } = &*self.shared;
        let count = |outcome: Outcome| {
            let labels = [service, operation, region, outcome.label()];
            self.shared.requests.with(labels)
        };
        let series = Operation {
            outcomes: Outcome::ALL.map(count),
            duration: self.shared.durations.with([service, operation]),
        };
        let mut operations = self.shared.operations.write().unwrap_or_else(PoisonError::into_inner);
        // Two may come here at once: the series are the same, and the first entry is the one found.
        operations.push((operation, series.clone()));
        series
    }
}

impl fmt::Debug for Calls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Shared { service, region, .. } = &*self.shared;
        write!(f, "Calls({service} {region})")
    }
}
