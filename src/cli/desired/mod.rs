//! What people want of replicas while workers run: `pause`, `resume` and `seek`. Each writes rows of the control table
//! that all workers obey, and needs nothing else: no worker must run, and no other table is asked.

pub(super) mod pause;
pub(super) mod seek;

use super::choose::pick;
use super::exit::Failure;
use super::fleet;
use super::output::rfc3339;
use crate::config::{Config, Replication};
use crate::control::Control;
use crate::lease::{Leases, Row};
use crate::stream::RETENTION;
use crate::supervisor::desired::{Store, Target, Wish, Wishes};

/// The replicas that are meant.
#[derive(Debug, clap::Args)]
pub(super) struct Which {
    /// The replication.
    replication: String,

    /// One of its replicas; without it, all of them.
    #[arg(long, value_name = "NAME")]
    replica: Option<String>,
}

/// The meant replicas of one replication, and what the control table has of it.
struct Chosen<'a> {
    replication: &'a Replication,
    replicas: Vec<&'a str>,
    store: Store,
    wishes: Wishes,
    rows: Vec<Row>,
}

// === impl Chosen ===

impl<'a> Chosen<'a> {
    async fn load(config: &'a Config, which: &Which) -> Result<Self, Failure> {
        let replication = pick(&config.replications, Some(&which.replication), |it| &it.name, "replication")?;
        let replicas = match &which.replica {
            Some(name) => vec![pick(&replication.replicas, Some(name), |it| &it.name, "--replica")?],
            None => replication.replicas.iter().collect(),
        };
        let control: Control = fleet::control(config).await?;
        let store = Store::new(control.clone());
        Ok(Self {
            replication,
            replicas: replicas.into_iter().map(|replica| replica.name.as_str()).collect(),
            wishes: store.load().await?,
            store,
            // Nothing is written, so the worker's name does not matter.
            rows: Leases::new(control, &replication.name, "").load().await?,
        })
    }

    fn wish(&self, replica: &str) -> Wish {
        self.wishes.of(&self.replication.name, replica)
    }

    fn full_name(&self, replica: &str) -> String {
        format!("{}/{replica}", self.replication.name)
    }

    async fn save(&self, replica: &str, wish: &Wish) -> Result<(), Failure> {
        if self.store.save(&self.replication.name, replica, wish).await? {
            return Ok(());
        }
        Err(Failure::Changed(format!("write what is wanted of replica `{}`", self.full_name(replica))))
    }
}

/// Time until the oldest change that a replica with this lag has not applied may be trimmed; below zero it may be gone.
pub(super) fn headroom_seconds(lag_seconds: f64) -> f64 {
    RETENTION.as_secs_f64() - lag_seconds
}

/// Where a seek goes, in words.
pub(super) fn target(target: &Target) -> String {
    match target {
        Target::TrimHorizon => "trim_horizon".to_owned(),
        Target::Time { unix_ms } => time(*unix_ms),
        Target::After { shard, sequence } => format!("after {sequence} in shard {shard}"),
    }
}

fn time(unix_ms: i64) -> String {
    rfc3339(unix_ms).unwrap_or_else(|| format!("{unix_ms} ms since 1970"))
}
