//! From rows to a report: what stands where, and what needs attention. Plain decisions, no I/O.

use std::collections::BTreeMap;

use serde::Serialize;

use super::gather::{self, Observed};
use super::rows::Rows;
use crate::cli::copy::Copied;
use crate::cli::desired::{headroom_seconds, target};
use crate::cli::output::{rfc3339, seconds_since};
use crate::lease::{self, Row};

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
    /// Whether it gives its shards up and takes none.
    pub(super) draining: bool,
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
    /// Those that it concerns: they do not have all of the shard, and were not sought since.
    pub(super) replicas: Vec<String>,
}

/// A replica.
#[derive(Debug, Serialize)]
pub(super) struct Replica {
    pub(super) name: String,
    pub(super) table: String,
    /// Whether a worker has ever begun with it.
    pub(super) started: bool,
    /// What it is doing, as far as rows tell.
    pub(super) state: ReplicaState,
    /// Since when it is paused; absent when it is not.
    pub(super) paused_since: Option<String>,
    /// The last seek.
    pub(super) seek: Option<Seek>,
    /// Every change made at the source up to this time is in the replica; absent when nothing proves any time.
    pub(super) applied_through: Option<String>,
    /// `now - applied_through`.
    pub(super) lag_seconds: Option<f64>,
    /// Time until the oldest change that is not applied may be trimmed from the stream; below zero it may be gone.
    pub(super) headroom_seconds: Option<f64>,
    /// Keys whose newest change the replica refused.
    pub(super) parked_keys: u64,
    /// Its newest copy; absent when there was none.
    pub(super) copy: Option<Copied>,
}

/// What a replica is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ReplicaState {
    /// No worker has ever begun with it.
    NotStarted,
    /// Nothing is written to it until it is resumed.
    Paused,
    /// Not all of its shards have obeyed the last seek yet; until then nothing is written to it.
    Seeking,
    /// A shard can no longer be read for it.
    Gap,
    /// Nothing was applied or proven yet.
    Starting,
    /// Its lag is above a minute.
    CatchingUp,
    /// It keeps up.
    Streaming,
}

/// That a replica goes on from elsewhere.
#[derive(Debug, Serialize)]
pub(super) struct Seek {
    /// Where to: `trim_horizon`, a time, or a shard and a sequence number.
    pub(super) target: String,
    pub(super) asked: Option<String>,
    /// Shards that have not obeyed it yet; zero when it is done.
    pub(super) shards_to_follow: u64,
}

/// A replica that is further behind than this is catching up, as in the status of a worker.
const CATCHING_UP_SECONDS: f64 = 60.0;

/// A paused replica with less time than this is a problem: a person may have gone home.
const PAUSED_HEADROOM_SECONDS: f64 = 4.0 * 3_600.0;

// === impl Report ===

impl Report {
    /// What `observed` means.
    pub(super) fn new(observed: &Observed) -> Self {
        let workers = workers(observed);
        let replications = observed.replications.iter();
        let replications: Vec<_> = replications.map(|it| replication(it, observed.now_unix_ms)).collect();
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
        draining: worker.draining,
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

fn replication(of: &gather::Replication, now_unix_ms: i64) -> Replication {
    let rows = Rows::new(&of.rows, of.replicas.iter().map(|replica| replica.name.as_str()));
    let gaps = of.rows.iter().flat_map(|row| gaps(row, of));
    Replication {
        name: of.name.clone(),
        source_table: of.source.clone(),
        shards: rows.shards(),
        gaps: gaps.collect(),
        replicas: of.replicas.iter().map(|it| replica(it, &rows, now_unix_ms)).collect(),
    }
}

/// The gaps of a shard, each with all replicas that it concerns.
fn gaps(row: &Row, of: &gather::Replication) -> Vec<Gap> {
    let mut gaps: Vec<Gap> = Vec::new();
    for replica in &of.replicas {
        let Some(found) = row.gap_of(&replica.name) else { continue };
        match gaps.iter_mut().find(|gap| gap.reason == found.reason) {
            Some(gap) => gap.replicas.push(replica.name.clone()),
            None => gaps.push(Gap {
                shard: row.shard.to_string(),
                reason: found.reason,
                found: rfc3339(found.found_unix_ms),
                replicas: vec![replica.name.clone()],
            }),
        }
    }
    gaps
}

fn replica(of: &gather::Replica, rows: &Rows<'_>, now_unix_ms: i64) -> Replica {
    let through = rows.applied_through_unix_ms(&of.name);
    let lag_seconds = through.map(|through| seconds_since(through, now_unix_ms));
    let followed = rows.followed(&of.name, &of.wish);
    let seek = of.wish.seek.as_ref().map(|seek| Seek {
        target: target(&seek.target),
        asked: rfc3339(seek.epoch),
        shards_to_follow: followed.behind,
    });
    let state = match lag_seconds {
        _ if !of.started => ReplicaState::NotStarted,
        _ if of.wish.is_paused() => ReplicaState::Paused,
        _ if followed.behind > 0 => ReplicaState::Seeking,
        _ if rows.has_gap(&of.name) => ReplicaState::Gap,
        None => ReplicaState::Starting,
        Some(lag) if lag > CATCHING_UP_SECONDS => ReplicaState::CatchingUp,
        Some(_) => ReplicaState::Streaming,
    };
    Replica {
        name: of.name.clone(),
        table: of.table.clone(),
        started: of.started,
        state,
        paused_since: of.wish.paused_unix_ms.and_then(rfc3339),
        seek,
        applied_through: through.and_then(rfc3339),
        lag_seconds,
        headroom_seconds: lag_seconds.map(headroom_seconds),
        parked_keys: of.parked_keys,
        copy: of.copy.as_ref().map(Copied::new),
    }
}

// === impl Replication ===

impl Replication {
    fn problems(&self, problems: &mut Vec<String>) {
        let name = &self.name;
        for gap in &self.gaps {
            problems.push(format!(
                "replication `{name}`: shard {} cannot be read on ({}): {} miss changes: verify or copy them, then \
                 `dynamirror seek {name} --to trim_horizon`",
                gap.shard,
                gap.reason,
                gap.replicas.join(", ")
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
            if let (Some(since), Some(headroom)) = (&replica.paused_since, replica.headroom_seconds)
                && headroom < PAUSED_HEADROOM_SECONDS
            {
                problems.push(format!(
                    "replica `{full}` is paused since {since}: changes that it misses are trimmed in {} s; \
                     `dynamirror resume {name} --replica {}`",
                    headroom.max(0.0) as u64,
                    replica.name
                ));
            }
            if let Some(copy) = &replica.copy {
                if copy.state == "refused" {
                    let reason = copy.reason.as_deref().unwrap_or("nobody said why");
                    problems.push(format!("replica `{full}`: its copy is refused: {reason}"));
                }
                if let Some(trouble) = &copy.trouble {
                    problems.push(format!("replica `{full}`: its copy cannot go on: {trouble}"));
                }
                if let Some(misfit) = &copy.misfit {
                    problems
                        .push(format!("replica `{full}`: its copy met {} misfits: {misfit}", copy.misfits));
                }
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
