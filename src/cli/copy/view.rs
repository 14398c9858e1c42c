//! A copy as people and programs see it. Plain text and data, no I/O.

use std::time::Duration;

use serde::Serialize;

use super::Target;
use crate::cli::output::rfc3339;
use crate::cli::status::seconds;
use crate::config::Replication;
use crate::copy::{Run, State};

/// The copies of a replication's replicas.
#[derive(Debug, Serialize)]
pub(in crate::cli) struct Shown {
    schema_version: u32,
    replication: String,
    replicas: Vec<Replica>,
}

#[derive(Debug, Serialize)]
struct Replica {
    name: String,
    #[serde(flatten)]
    copy: Option<Copied>,
}

/// A copy.
#[derive(Debug, Clone, Serialize)]
pub(in crate::cli) struct Copied {
    /// `wanted`, `refused`, `copying`, `reconciling`, `settling`, `done` or `cancelled`.
    pub(in crate::cli) state: &'static str,
    /// Why it was refused or cancelled.
    pub(in crate::cli) reason: Option<String>,
    /// What stands in its way.
    pub(in crate::cli) trouble: Option<String>,
    /// Which part of it is done, from 0 to 1; absent while that is not known.
    pub(in crate::cli) share: Option<f64>,
    /// Items that are durable in the replica.
    pub(in crate::cli) items: u64,
    /// Their bytes.
    pub(in crate::cli) bytes: u64,
    /// Segments that the source is cut into.
    pub(in crate::cli) segments: u32,
    /// Those that are done.
    pub(in crate::cli) segments_finished: u32,
    /// Read units of the source that were consumed.
    pub(in crate::cli) read_units: f64,
    /// Items that an index of the replica cannot hold; they are parked.
    pub(in crate::cli) misfits: u64,
    /// The first of them, and what is wrong with it.
    pub(in crate::cli) misfit: Option<String>,
    /// When it began.
    pub(in crate::cli) started: Option<String>,
    /// When all items were copied.
    pub(in crate::cli) scan_ended: Option<String>,
    /// Since when the replica is known to hold all that the source held.
    pub(in crate::cli) consistent_since: Option<String>,
}

// === impl Copied ===

impl Copied {
    /// What `run` shows.
    pub(in crate::cli) fn new(run: &Run) -> Self {
        Self {
            state: run.state.as_str(),
            reason: run.reason.clone(),
            trouble: run.trouble.clone(),
            share: run.share(),
            items: run.progress.items,
            bytes: run.progress.bytes,
            segments: run.segments,
            segments_finished: run.progress.segments_finished,
            read_units: run.progress.read_units,
            misfits: run.progress.misfits,
            misfit: run.progress.misfit.clone(),
            started: run.started_unix_ms.and_then(rfc3339),
            scan_ended: run.scan_ended_unix_ms.and_then(rfc3339),
            consistent_since: run.consistent_since_unix_ms.and_then(rfc3339),
        }
    }
}

// === impl Shown ===

impl Shown {
    pub(super) fn new(replication: &Replication, targets: &[Target<'_>]) -> Self {
        let replica = |target: &Target<'_>| Replica {
            name: target.replica.name.clone(),
            copy: target.run.as_ref().map(Copied::new),
        };
        Self {
            schema_version: 1,
            replication: replication.name.clone(),
            replicas: targets.iter().map(replica).collect(),
        }
    }

    /// Whether every copy is as it should be: not refused, nor given up unless that was asked for.
    pub(super) fn is_well(&self, cancelling: bool) -> bool {
        let states = self.replicas.iter().filter_map(|replica| replica.copy.as_ref());
        states.into_iter().all(|copy| copy.state != "refused" && (cancelling || copy.state != "cancelled"))
    }

    pub(super) fn text(&self) -> String {
        let line = |replica: &Replica| {
            let name = format!("{}/{}", self.replication, replica.name);
            match &replica.copy {
                None => format!("{name}: never copied"),
                Some(copy) => format!("{name}: {}", sentence(copy)),
            }
        };
        self.replicas.iter().map(line).collect::<Vec<_>>().join("\n")
    }
}

fn sentence(copy: &Copied) -> String {
    let reason = copy.reason.as_deref().unwrap_or("nobody said why");
    let mut text = match copy.state {
        "wanted" => "waits for a worker".to_owned(),
        "refused" => format!("refused: {reason}"),
        "cancelled" => format!("cancelled: {reason}"),
        "done" => {
            let since = copy.consistent_since.as_deref().unwrap_or("?");
            format!("done, {}; equals its source since {since}", amount(copy.items, copy.bytes))
        }
        state => format!("{state}, {}", amount(copy.items, copy.bytes)),
    };
    if let Some(trouble) = &copy.trouble {
        text.push_str(&format!("\n! {trouble}"));
    }
    if let Some(misfit) = &copy.misfit {
        text.push_str(&format!("\n! {} items do not fit an index, the first: {misfit}", copy.misfits));
    }
    text
}

/// How fast a run is, from two looks at it.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Pace {
    items_per_s: f64,
    units_per_s: f64,
    left: Option<Duration>,
}

// === impl Pace ===

impl Pace {
    /// Between `first` and `now`, which were so long apart.
    pub(super) fn new(first: &Run, now: &Run, elapsed: Duration) -> Self {
        let seconds = elapsed.as_secs_f64();
        if seconds < 1.0 || first.id != now.id {
            return Self::default();
        }
        let per_s = |before: f64, after: f64| (after - before).max(0.0) / seconds;
        let gained = now.share().unwrap_or(0.0) - first.share().unwrap_or(0.0);
        let left = 1.0 - now.share().unwrap_or(0.0);
        Self {
            items_per_s: per_s(first.progress.items as f64, now.progress.items as f64),
            units_per_s: per_s(first.progress.read_units, now.progress.read_units),
            left: (gained > 0.0).then(|| Duration::try_from_secs_f64(seconds * left / gained).ok()).flatten(),
        }
    }
}

/// How far a run is, in one line.
pub(super) fn line(run: &Run, pace: Pace) -> String {
    if let Some(trouble) = &run.trouble {
        return format!("{}: {trouble}", run.state.as_str());
    }
    match run.state {
        State::Wanted => "waits for a worker".to_owned(),
        State::Copying => {
            let progress = &run.progress;
            let left =
                pace.left.map_or_else(String::new, |left| format!(", {} left", seconds(left.as_secs_f64())));
            format!(
                "{} of {} segments, {}, {:.0} items/s, {:.0} read units/s{left}",
                progress.segments_finished,
                run.segments,
                amount(progress.items, progress.bytes),
                pace.items_per_s,
                pace.units_per_s
            )
        }
        State::Reconciling => "all items are copied; what the source does not have is looked for".to_owned(),
        State::Settling => "all items are copied; changes made meanwhile are being applied".to_owned(),
        State::Done | State::Refused | State::Cancelled => run.state.as_str().to_owned(),
    }
}

/// Items and bytes as a person says them.
pub(super) fn amount(items: u64, bytes: u64) -> String {
    format!("{items} items, {}", bytesize::ByteSize::b(bytes).display().si())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::copy::{Progress, Request};

    fn run(state: State, items: u64) -> Run {
        let run = Run::ask(None, &Request::default(), 5).expect("nothing stands in its way");
        let progress =
            Progress { items, bytes: 100 * items, read_units: items as f64, ..run.progress.clone() };
        Run { state, progress, segments: 64, expected: (1_000, 100_000), ..run }
    }

    #[test]
    fn a_line_tells_how_far_and_how_fast() {
        let (first, now) = (run(State::Copying, 100), run(State::Copying, 300));
        let pace = Pace::new(&first, &now, Duration::from_secs(10));
        let text = line(&now, pace);
        assert_eq!(text, "0 of 64 segments, 300 items, 30.0 kB, 20 items/s, 20 read units/s, 35 s left");
        let lazy = Pace::new(&now, &now, Duration::from_secs(10));
        assert!(!line(&now, lazy).contains("left"));
        let troubled = Run { trouble: Some("it is gone".to_owned()), ..now };
        assert_eq!(line(&troubled, pace), "copying: it is gone");
    }

    #[test]
    fn what_is_refused_is_not_well() {
        let shown = |state| Shown {
            schema_version: 1,
            replication: "orders".to_owned(),
            replicas: vec![Replica { name: "us".to_owned(), copy: Some(Copied::new(&run(state, 1))) }],
        };
        assert!(shown(State::Done).is_well(false) && shown(State::Wanted).is_well(false));
        assert!(!shown(State::Refused).is_well(false) && !shown(State::Cancelled).is_well(false));
        assert!(shown(State::Cancelled).is_well(true));
        assert!(shown(State::Wanted).text().contains("orders/us: waits for a worker"));
        let json = serde_json::to_value(shown(State::Copying)).expect("data");
        assert_eq!(json["replicas"][0]["state"], "copying");
        assert_eq!(json["replicas"][0]["items"], 1);
    }
}
