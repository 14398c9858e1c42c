//! From rows to a report: what stands where, and what needs attention. Plain decisions, no I/O.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::gather::{self, Observed};
use crate::cli::output::{rfc3339, seconds_since};
use crate::lease::{self, Row};
use crate::shard::ShardId;

/// The fleet. Fields may be added; one whose meaning changes raises the version.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) schema_version: u32,
    pub(super) control_table: String,
    pub(super) now: Option<String>,
    /// Whether nothing needs attention.
    pub(super) ok: bool,
    /// What does, a sentence each.
    pub(super) problems: Vec<String>,
    pub(super) workers: Vec<Worker>,
    pub(super) replications: Vec<Replication>,
}

/// A worker that has run within the last day.
#[derive(Debug, Serialize)]
pub(super) struct Worker {
    pub(super) id: String,
    pub(super) version: Option<String>,
    /// Whether its last heartbeat is recent.
    pub(super) alive: bool,
    pub(super) last_heartbeat: Option<String>,
    pub(super) heartbeat_age_seconds: f64,
    /// Shards that it holds.
    pub(super) shards: u64,
}

/// A source and its replicas.
#[derive(Debug, Serialize)]
pub(super) struct Replication {
    pub(super) name: String,
    pub(super) source_table: String,
    pub(super) shards: Shards,
    pub(super) gaps: Vec<Gap>,
    pub(super) replicas: Vec<Replica>,
}

/// Counts of shards by what is done with them.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Shards {
    /// Read by a worker.
    pub(super) active: u64,
    /// Waiting for their parents' end.
    pub(super) waiting: u64,
    /// Ready to be read, and held by no worker.
    pub(super) unowned: u64,
    /// Read and applied to the end, everywhere.
    pub(super) ended: u64,
    /// Stopped by a gap.
    pub(super) gap: u64,
}

/// Changes that can no longer be read.
#[derive(Debug, Serialize)]
pub(super) struct Gap {
    pub(super) shard: String,
    pub(super) reason: String,
    pub(super) found: Option<String>,
}

/// A replica.
#[derive(Debug, Serialize)]
pub(super) struct Replica {
    pub(super) name: String,
    pub(super) table: String,
    /// Whether a worker has ever begun with it.
    pub(super) started: bool,
    /// Every change made at the source up to this time is in the replica; absent when nothing proves any time.
    pub(super) applied_through: Option<String>,
    /// `now - applied_through`.
    pub(super) lag_seconds: Option<f64>,
    /// Keys whose newest change the replica refused.
    pub(super) parked_keys: u64,
}

/// The rows of one replication, to ask about.
struct Rows<'a> {
    of: &'a gather::Replication,
    by_shard: BTreeMap<&'a ShardId, &'a Row>,
}

// === impl Report ===

impl Report {
    /// What `observed` means.
    pub(super) fn new(observed: &Observed) -> Self {
        let workers = workers(observed);
        let replications = observed.replications.iter();
        let replications: Vec<_> =
            replications.map(|it| Rows::new(it).report(observed.now_unix_ms)).collect();
        let mut problems = Vec::new();
        fleet_problems(observed, &mut problems);
        for replication in &replications {
            replication.problems(&mut problems);
        }
        Self {
            schema_version: 1,
            control_table: observed.control.clone(),
            now: rfc3339(observed.now_unix_ms),
            ok: problems.is_empty(),
            problems,
            workers,
            replications,
        }
    }
}

/// Each process, but for those that left nothing behind and whose worker was started anew since.
fn workers(observed: &Observed) -> Vec<Worker> {
    let is_newest = |it: &gather::Worker| {
        let same = observed.workers.iter().filter(|other| other.id == it.id);
        same.map(|other| other.heartbeat_unix_ms).max() == Some(it.heartbeat_unix_ms)
    };
    let all = observed.workers.iter().map(|it| (worker(it, observed), is_newest(it)));
    let shown = all.filter(|(worker, is_newest)| *is_newest || worker.alive || worker.shards > 0);
    shown.map(|(worker, _)| worker).collect()
}

fn is_alive(worker: &gather::Worker, observed: &Observed) -> bool {
    let age = seconds_since(worker.heartbeat_unix_ms, observed.now_unix_ms);
    age <= observed.silent_after.as_secs_f64()
}

fn worker(worker: &gather::Worker, observed: &Observed) -> Worker {
    let age = seconds_since(worker.heartbeat_unix_ms, observed.now_unix_ms);
    let rows = observed.replications.iter().flat_map(|it| &it.rows);
    let held = rows.filter(|row| row.owner.as_ref() == Some(&worker.owner));
    Worker {
        id: worker.id.clone(),
        version: worker.version.clone(),
        alive: is_alive(worker, observed),
        last_heartbeat: rfc3339(worker.heartbeat_unix_ms),
        heartbeat_age_seconds: age,
        shards: held.count() as u64,
    }
}

fn fleet_problems(observed: &Observed, problems: &mut Vec<String>) {
    let alive: Vec<_> = observed.workers.iter().filter(|worker| is_alive(worker, observed)).collect();
    if alive.is_empty() {
        problems.push("no worker runs: start one with `dynamirror run`".to_owned());
        return;
    }
    let mut silent: BTreeMap<&str, u64> = BTreeMap::new();
    for row in observed.replications.iter().flat_map(|it| &it.rows) {
        let Some(owner) = row.owner.as_deref() else {
            continue;
        };
        if !alive.iter().any(|worker| worker.owner == owner) {
            *silent.entry(lease::worker(owner)).or_default() += 1;
        }
    }
    for (owner, shards) in silent {
        problems.push(format!(
            "worker `{owner}` is silent and holds {shards} shards: another worker takes them over soon"
        ));
    }
}

// === impl Rows ===

impl<'a> Rows<'a> {
    fn new(of: &'a gather::Replication) -> Self {
        let by_shard = of.rows.iter().map(|row| (&row.shard, row)).collect();
        Self { of, by_shard }
    }

    fn report(&self, now_unix_ms: i64) -> Replication {
        let gap = |row: &Row, replica: Option<&str>, gap: lease::Gap| Gap {
            shard: row.shard.to_string(),
            reason: replica.map_or(gap.reason.clone(), |name| format!("replica `{name}`: {}", gap.reason)),
            found: rfc3339(gap.found_unix_ms),
        };
        let names: Vec<_> = self.of.replicas.iter().map(|replica| replica.name.clone()).collect();
        let gaps = self.of.rows.iter().flat_map(|row| {
            row.all_gaps(&names).into_iter().map(move |(replica, found)| gap(row, replica, found))
        });
        let replicas = self.of.replicas.iter().map(|replica| self.replica(replica, now_unix_ms));
        Replication {
            name: self.of.name.clone(),
            source_table: self.of.source.clone(),
            shards: self.shards(),
            gaps: gaps.collect(),
            replicas: replicas.collect(),
        }
    }

    fn shards(&self) -> Shards {
        let mut shards = Shards::default();
        for row in &self.of.rows {
            let count = if self.is_done(row) {
                &mut shards.ended
            } else if row.is_gap() {
                &mut shards.gap
            } else if row.owner.is_some() {
                &mut shards.active
            } else if self.waits(row) {
                &mut shards.waiting
            } else {
                &mut shards.unowned
            };
            *count += 1;
        }
        shards
    }

    fn replica(&self, replica: &gather::Replica, now_unix_ms: i64) -> Replica {
        let through = self.applied_through_unix_ms(&replica.name);
        Replica {
            name: replica.name.clone(),
            table: replica.table.clone(),
            started: replica.started,
            applied_through: through.and_then(rfc3339),
            lag_seconds: through.map(|through| seconds_since(through, now_unix_ms)),
            parked_keys: replica.parked_keys,
        }
    }

    /// The least of all shards that the replica does not have all of, but for those that wait for their parents. A shard
    /// that ended counts until its child has a row, because what the child holds comes after it; one whose row expires
    /// has had children. With none of all these, the newest that any shard has proven.
    fn applied_through_unix_ms(&self, replica: &str) -> Option<i64> {
        let through = |row: &Row| row.checkpoints.get(replica)?.applied_through_unix_ms;
        let with_children: BTreeSet<_> = self.of.rows.iter().filter_map(|row| row.parent.as_ref()).collect();
        let counts = |row: &&Row| match row.is_done_for(replica) {
            true => {
                let is_last = !with_children.contains(&row.shard) && row.expires_unix_s.is_none();
                is_last && through(row).is_some()
            }
            false => self.parent(row).is_none_or(|parent| parent.is_done_for(replica)),
        };
        // `None` is the least: one shard that proves nothing leaves nothing proven.
        let least = self.of.rows.iter().filter(counts).map(through).min();
        least.unwrap_or_else(|| self.of.rows.iter().filter_map(through).max())
    }

    fn is_done(&self, row: &Row) -> bool {
        self.of.replicas.iter().all(|replica| row.is_done_for(&replica.name))
    }

    fn waits(&self, row: &Row) -> bool {
        let lacks_parent =
            |replica: &gather::Replica| self.parent(row).is_some_and(|it| !it.is_done_for(&replica.name));
        let mut unfinished = self.of.replicas.iter().filter(|replica| !row.is_done_for(&replica.name));
        unfinished.all(lacks_parent)
    }

    fn parent(&self, row: &Row) -> Option<&Row> {
        self.by_shard.get(row.parent.as_ref()?).copied()
    }
}

// === impl Replication ===

impl Replication {
    fn problems(&self, problems: &mut Vec<String>) {
        let name = &self.name;
        for gap in &self.gaps {
            problems.push(format!(
                "replication `{name}`: shard {} cannot be read on ({}): replicas miss changes and must be copied anew",
                gap.shard, gap.reason
            ));
        }
        if self.shards.unowned > 0 {
            let count = self.shards.unowned;
            problems.push(format!("replication `{name}`: {count} shards are ready and held by no worker"));
        }
        for replica in &self.replicas {
            let full = format!("{name}/{}", replica.name);
            if !replica.started {
                problems.push(format!("replica `{full}` was never started: the worker's log says why"));
            }
            if replica.parked_keys > 0 {
                problems.push(format!(
                    "replica `{full}` refused {} keys: see `dynamirror dead-letters list --replication {name} --replica {}`",
                    replica.parked_keys, replica.name
                ));
            }
        }
    }
}

#[cfg(test)]
mod tests;
