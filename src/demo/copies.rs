//! How the first copies of the replicas go: their rows in the control table say what is done, the daemon's metrics how
//! many items are.

use std::fmt;
use std::time::{Duration, UNIX_EPOCH};

use serde::Serialize;

use super::summary::grouped;
use crate::control::{self, Control};
use crate::copy::{Run, State, Store};
use crate::telemetry::{self, Metrics};

/// The counter of copied items, as the daemon exports it.
const COUNTER: &str = "dynamirror_items_copied_total{";

/// The copies of all replicas.
pub(super) struct Copies {
    metrics: Metrics,
    replicas: Vec<Known>,
}

/// What is known of one replica's.
struct Known {
    name: String,
    store: Store,
    run: Option<Run>,
}

/// How far a copy is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub(super) struct Copied {
    /// Where it is; absent until somebody asked for it.
    #[serde(serialize_with = "named")]
    pub(super) state: Option<State>,
    /// Items that were written, or left to the stream because it had touched them.
    pub(super) items: u64,
    /// Bytes of all items that are durable.
    pub(super) bytes: u64,
    /// How long the source was read.
    pub(super) took_ms: Option<i64>,
    /// Since when the replica is known to hold all that the source held.
    pub(super) consistent_since_unix_ms: Option<i64>,
}

/// Why copies cannot be looked at.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Their rows cannot be read.
    #[error(transparent)]
    Rows(#[from] control::Error),
    /// The daemon's metrics cannot be read.
    #[error(transparent)]
    Metrics(#[from] telemetry::Error),
}

// === impl Copies ===

impl Copies {
    /// Of `replicas` in `replication`.
    pub(super) fn new(
        metrics: Metrics,
        control: &Control,
        replication: &str,
        replicas: impl Iterator<Item = String>,
    ) -> Self {
        let known = |name: String| {
            let store = Store::new(control.clone(), replication, &name);
            Known { name, store, run: None }
        };
        Self { metrics, replicas: replicas.map(known).collect() }
    }

    /// How far they are, in order of the replicas.
    pub(super) async fn look(&mut self) -> Result<Vec<Copied>, Error> {
        for known in &mut self.replicas {
            if known.run.as_ref().is_none_or(|run| run.state.is_active()) {
                known.run = known.store.load().await?;
            }
        }
        let exported = self.metrics.render()?;
        let copied = |known: &Known| Copied::new(known.run.as_ref(), counted(&exported, &known.name));
        Ok(self.replicas.iter().map(copied).collect())
    }

    /// Why a copy does not go on, a sentence each.
    pub(super) fn troubles(&self) -> Vec<String> {
        let told = |known: &Known| {
            let run = known.run.as_ref()?;
            let why = run.reason.as_ref().or(run.trouble.as_ref())?;
            Some(format!("copy of {}: {why}", known.name))
        };
        self.replicas.iter().filter_map(told).collect()
    }
}

// === impl Copied ===

impl Copied {
    fn new(run: Option<&Run>, items: u64) -> Self {
        let Some(run) = run else { return Self { items, ..Self::default() } };
        let took = run.scan_ended_unix_ms.zip(run.started_unix_ms).map(|(ended, started)| ended - started);
        Self {
            state: Some(run.state),
            items,
            bytes: run.progress.bytes,
            took_ms: took,
            consistent_since_unix_ms: run.consistent_since_unix_ms,
        }
    }

    /// Whether every item was read, and what was read is durable.
    pub(super) fn is_read(&self) -> bool {
        self.took_ms.is_some()
    }

    /// Whether the replica holds all that the source held.
    pub(super) fn is_done(&self) -> bool {
        self.state == Some(State::Done)
    }

    /// How long the source was read.
    pub(super) fn took(&self) -> Option<Duration> {
        Some(Duration::from_millis(self.took_ms?.try_into().ok()?))
    }
}

impl fmt::Display for Copied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} items", grouped(self.items))?;
        if let Some(took) = self.took() {
            write!(f, " ({:.1} MB) in {:.1} s", self.bytes as f64 / 1e6, took.as_secs_f64())?;
        }
        let since = self.consistent_since_unix_ms.and_then(|ms| u64::try_from(ms).ok());
        match since.map(|ms| UNIX_EPOCH + Duration::from_millis(ms)) {
            Some(since) => write!(f, ", consistent since {}", humantime::format_rfc3339_seconds(since)),
            None if self.is_done() => Ok(()),
            None => write!(f, ", not done ({})", self.state.map_or("not begun", State::as_str)),
        }
    }
}

/// Items copied to `replica`, whatever became of them, by metrics in the text format.
fn counted(exported: &str, replica: &str) -> u64 {
    let label = format!("replica=\"{replica}\"");
    let series = exported.lines().filter(|line| line.starts_with(COUNTER) && line.contains(&label));
    series.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
}

fn named<S: serde::Serializer>(state: &Option<State>, serializer: S) -> Result<S::Ok, S::Error> {
    state.map(State::as_str).serialize(serializer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;

    #[test]
    fn copied_items_are_counted_by_replica() {
        let metrics = Metrics::new("demo", "control", Clock::System).expect("metrics");
        let (first, second) =
            (metrics.replica("orders", "orders", "a"), metrics.replica("orders", "orders", "b"));
        first.copied_puts(7);
        first.superseded(2);
        second.copied_puts(1);
        let exported = metrics.render().expect("text");
        assert_eq!((counted(&exported, "a"), counted(&exported, "b")), (9, 1));
        assert_eq!(counted(&exported, "c"), 0);
    }
}
