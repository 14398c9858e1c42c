//! Reads what the report is made of.

use std::time::Duration;

use crate::cli::exit::Failure;
use crate::clock::Clock;
use crate::config::{self, Config};
use crate::control::Control;
use crate::copy::{self, Run};
use crate::item::Value;
use crate::lease::{self, Leases, Owner, Row};
use crate::replica::parked::Parked;
use crate::supervisor::desired::{Store, Wish, Wishes};

/// Sort keys of the rows of replicas that were started begin with this (see `control`).
const STARTED: &str = "replica/";

/// A worker is silent when it has missed three heartbeats, and the clocks of two hosts may differ by this.
const CLOCKS_DIFFER: Duration = Duration::from_secs(10);

/// What the control table holds, as far as the configuration asks for it.
#[derive(Debug)]
pub(super) struct Observed {
    /// The control table's name.
    pub(super) control: String,
    /// When it was read.
    pub(super) now_unix_ms: i64,
    /// A worker whose heartbeat is older is silent.
    pub(super) silent_after: Duration,
    /// Workers that have run within the last day.
    pub(super) workers: Vec<Worker>,
    /// In order of the configuration.
    pub(super) replications: Vec<Replication>,
}

/// The row of a worker's process.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) id: String,
    /// What it writes into the rows that it holds.
    pub(super) owner: Owner,
    pub(super) version: Option<String>,
    pub(super) heartbeat_unix_ms: i64,
    pub(super) draining: bool,
}

/// The rows of a replication.
#[derive(Debug)]
pub(super) struct Replication {
    pub(super) name: String,
    pub(super) source: String,
    pub(super) rows: Vec<Row>,
    /// In order of the configuration.
    pub(super) replicas: Vec<Replica>,
}

/// The rows of a replica.
#[derive(Debug)]
pub(super) struct Replica {
    pub(super) name: String,
    pub(super) table: String,
    pub(super) started: bool,
    pub(super) parked_keys: u64,
    /// What people want of it.
    pub(super) wish: Wish,
    /// Its newest copy.
    pub(super) copy: Option<Run>,
}

/// Reads everything.
pub(super) async fn gather(config: &Config, control: &Control, clock: Clock) -> Result<Observed, Failure> {
    let mut replications = Vec::with_capacity(config.replications.len());
    let wishes = Store::new(control.clone()).load().await?;
    for settings in &config.replications {
        replications.push(replication(settings, control, &wishes, clock).await?);
    }
    Ok(Observed {
        control: control.table().to_owned(),
        workers: workers(control).await?,
        replications,
        now_unix_ms: clock.unix_ms(),
        silent_after: config.lease.checkpoint_interval * 3 + CLOCKS_DIFFER,
    })
}

async fn workers(control: &Control) -> Result<Vec<Worker>, Failure> {
    let mut workers = Vec::new();
    for row in control.rows("#workers", "").await? {
        let row = control.read(&row);
        let owner = row.text("sk")?;
        workers.push(Worker {
            id: lease::worker(owner).to_owned(),
            owner: owner.to_owned(),
            version: row.optional_text("version").map(str::to_owned),
            heartbeat_unix_ms: row.integer("heartbeat_ms")?,
            draining: matches!(row.get("draining"), Some(Value::Bool(true))),
        });
    }
    Ok(workers)
}

async fn replication(
    settings: &config::Replication,
    control: &Control,
    wishes: &Wishes,
    clock: Clock,
) -> Result<Replication, Failure> {
    // Nothing is written, so the worker's name does not matter.
    let rows = Leases::new(control.clone(), &settings.name, "").load().await?;
    let mut started = Vec::new();
    for row in control.rows(&settings.name, STARTED).await? {
        let key = control.read(&row).text("sk")?.to_owned();
        started.extend(key.strip_prefix(STARTED).map(str::to_owned));
    }
    let mut replicas = Vec::with_capacity(settings.replicas.len());
    for replica in &settings.replicas {
        let parked = Parked::new(control.clone(), &settings.name, &replica.name, clock);
        replicas.push(Replica {
            name: replica.name.clone(),
            table: replica.table.clone(),
            started: started.contains(&replica.name),
            parked_keys: parked.list().await?.len() as u64,
            wish: wishes.of(&settings.name, &replica.name),
            copy: copy::Store::new(control.clone(), &settings.name, &replica.name).load().await?,
        });
    }
    Ok(Replication { name: settings.name.clone(), source: settings.source.table.clone(), rows, replicas })
}
