//! What is shown of the worker while it runs: each replication hangs up its own sheet, and whoever asks gets all of
//! them with what depends on the time computed now.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use super::status::{self, State, Status};
use crate::clock::Clock;

/// How old a sheet may be before its replication counts as stuck. Sheets are hung up twice a second; a minute is far
/// beyond any call that a replication waits for.
const STUCK_AFTER_MS: i64 = 60_000;

/// How long a shard may go without a successful poll before the worker is not ready: a quiet shard is polled every few
/// seconds, and one throttled or failing call is retried within a minute.
const POLL_AGE_MS: i64 = 60_000;

/// The retention of a stream, in seconds.
const RETENTION_S: f64 = 86_400.0;

/// The sheets of all replications.
#[derive(Clone)]
pub struct Board {
    shared: Arc<Shared>,
}

struct Shared {
    worker: String,
    clock: Clock,
    started_unix_ms: i64,
    /// Those of the configuration, then those of heartbeats.
    sheets: Mutex<Vec<Sheet>>,
    /// How many are of the configuration.
    configured: usize,
    notes: Mutex<BTreeMap<String, String>>,
    fleet: Mutex<Option<status::Fleet>>,
}

#[derive(Clone)]
struct Sheet {
    hung_unix_ms: i64,
    replication: status::Replication,
}

// === impl Board ===

impl Board {
    pub(super) fn new(
        worker: &str,
        clock: Clock,
        empty: Vec<status::Replication>,
        heartbeats: Vec<status::Replication>,
    ) -> Self {
        let started_unix_ms = clock.unix_ms();
        let sheet = |replication| Sheet { hung_unix_ms: started_unix_ms, replication };
        let configured = empty.len();
        let sheets = Mutex::new(empty.into_iter().chain(heartbeats).map(sheet).collect());
        let shared = Shared {
            worker: worker.to_owned(),
            clock,
            started_unix_ms,
            sheets,
            configured,
            notes: Mutex::default(),
            fleet: Mutex::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    pub(super) fn hang(&self, index: usize, replication: status::Replication) {
        let hung_unix_ms = self.shared.clock.unix_ms();
        self.sheets()[index] = Sheet { hung_unix_ms, replication };
    }

    /// Says something of a replication that keeps nothing from working, or no longer says it.
    pub(super) fn set_note(&self, replication: &str, note: Option<String>) {
        let mut notes = held(&self.shared.notes);
        match note {
            Some(note) => drop(notes.insert(replication.to_owned(), note)),
            None => drop(notes.remove(replication)),
        }
    }

    /// Shows the whole fleet, or no longer shows it.
    pub(super) fn set_fleet(&self, fleet: Option<status::Fleet>) {
        *held(&self.shared.fleet) = fleet;
    }

    /// What the worker does, now.
    pub fn status(&self) -> Status {
        let now_unix_ms = self.shared.clock.unix_ms();
        let sheets = self.sheets().clone();
        let mut not_ready: Vec<_> = self.stuck(now_unix_ms);
        let mut replications: Vec<_> =
            sheets.into_iter().map(|sheet| at_time(sheet.replication, now_unix_ms)).collect();
        let heartbeats = replications.split_off(self.shared.configured);
        not_ready.extend(replications.iter().flat_map(|replication| reasons(replication, now_unix_ms)));
        Status {
            schema_version: 1,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            worker: self.shared.worker.clone(),
            started_unix_ms: self.shared.started_unix_ms,
            now_unix_ms,
            ready: not_ready.is_empty(),
            not_ready,
            replications,
            heartbeats,
            notes: held(&self.shared.notes).values().cloned().collect(),
            fleet: held(&self.shared.fleet).clone().map(|fleet| fleet_at_time(fleet, now_unix_ms)),
        }
    }

    /// Whether every replication's loop turns; if not, which do not.
    ///
    /// # Errors
    /// A sentence for each that is stuck.
    pub fn alive(&self) -> Result<(), Vec<String>> {
        let stuck = self.stuck(self.shared.clock.unix_ms());
        if stuck.is_empty() { Ok(()) } else { Err(stuck) }
    }

    fn stuck(&self, now_unix_ms: i64) -> Vec<String> {
        let is_stuck = |sheet: &&Sheet| now_unix_ms - sheet.hung_unix_ms > STUCK_AFTER_MS;
        let says = |sheet: &Sheet| {
            let seconds = (now_unix_ms - sheet.hung_unix_ms) / 1_000;
            format!("replication `{}` has made no turn for {seconds} s", sheet.replication.name)
        };
        self.sheets()[..self.shared.configured].iter().filter(is_stuck).map(says).collect()
    }

    fn sheets(&self) -> MutexGuard<'_, Vec<Sheet>> {
        held(&self.shared.sheets)
    }
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("nothing panics while holding it")
}

/// Adds what depends on the time.
fn at_time(mut replication: status::Replication, now_unix_ms: i64) -> status::Replication {
    for replica in &mut replication.replicas {
        let lag =
            replica.applied_through_unix_ms.map(|through| (now_unix_ms - through).max(0) as f64 / 1_000.0);
        replica.lag_seconds = lag;
        replica.headroom_seconds = lag.map(|lag| RETENTION_S - lag);
    }
    replication
}

fn fleet_at_time(mut fleet: status::Fleet, now_unix_ms: i64) -> status::Fleet {
    let since = |unix_ms: Option<i64>| unix_ms.map(|unix_ms| (now_unix_ms - unix_ms).max(0) as f64 / 1_000.0);
    for replica in fleet.replications.iter_mut().flat_map(|replication| &mut replication.replicas) {
        replica.lag_seconds = since(replica.applied_through_unix_ms);
        if let Some(heartbeat) = &mut replica.heartbeat {
            heartbeat.age_seconds = since(heartbeat.applied_unix_ms);
        }
    }
    fleet
}

/// Why a replication keeps its worker from being ready.
fn reasons(replication: &status::Replication, now_unix_ms: i64) -> Vec<String> {
    let name = &replication.name;
    let mut reasons = Vec::new();
    if let Some(error) = &replication.error {
        reasons.push(format!("replication `{name}`: {error}"));
    } else if replication.discovered_unix_ms.is_none() {
        reasons.push(format!("replication `{name}`: its shards are not listed yet"));
    }
    for gap in &replication.gaps {
        let shard = gap.shard.as_deref().unwrap_or("the stream");
        reasons.push(format!("replication `{name}`: {shard}: {}; {}", gap.reason, gap.advice));
    }
    if let Some(oldest) = replication.oldest_poll_unix_ms
        && now_unix_ms - oldest > POLL_AGE_MS
    {
        let seconds = (now_unix_ms - oldest) / 1_000;
        reasons.push(format!("replication `{name}`: a shard was not polled for {seconds} s"));
    }
    for replica in replication.replicas.iter().filter(|replica| replica.state == State::Stalled) {
        let why = replica.error.as_deref().unwrap_or("no change was settled for a minute");
        reasons.push(format!("replica `{name}/{}` is stalled: {why}", replica.name));
    }
    reasons
}
