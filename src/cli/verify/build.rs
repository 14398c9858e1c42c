//! From a configuration and flags to the parts of a verification.

use std::sync::Arc;

use tokio::sync::watch;
use tracing::warn;

use super::Args;
use crate::budget::Budget;
use crate::capacity::Bucket;
use crate::cli::connections::{Connections, Limits};
use crate::cli::exit::Failure;
use crate::cli::place::Place;
use crate::clock::Clock;
use crate::config::{Endpoint, Guard, Replica, Replication};
use crate::control::Control;
use crate::dynamo::{self, SdkTables, Tables};
use crate::fault::{Fault, Stage};
use crate::lease::Leases;
use crate::verify::{Barrier, Digester, Parts, Progress, Table, join, segments};

/// Pages of each table that are read at once: they hide the way to another continent, and a page of 1 MB takes a
/// processor several milliseconds.
const PAGES: usize = 8;

/// The part of the memory that pages may take.
const PAGES_SHARE: usize = 4;

/// Makes parts.
pub(super) struct Build<'a> {
    args: &'a Args,
    connections: Connections,
    replication: &'a Replication,
    /// Absent where nobody asks it.
    control: Option<&'a Control>,
}

/// The parts, and what is known of the tables beforehand.
pub(super) struct Built {
    pub(super) parts: Parts,
    /// Items of both tables as the service last counted them.
    pub(super) expected_items: [u64; 2],
}

// === impl Build ===

impl<'a> Build<'a> {
    pub(super) fn new(args: &'a Args, replication: &'a Replication, control: Option<&'a Control>) -> Self {
        let connections = Connections::new("dynamirror-verify".to_owned(), None);
        Self { args, connections, replication, control }
    }

    pub(super) fn replication(&self) -> &'a Replication {
        self.replication
    }

    /// For one replica. Describes both tables.
    pub(super) async fn parts(&mut self, replica: &Replica) -> Result<Built, Failure> {
        let source = &self.replication.source;
        let ttl_attribute = self.ttl_attribute(&source.table, &source.endpoint).await;
        let (source, of_source) = self.table("source table", &source.table, &source.endpoint).await?;
        let (target, of_replica) = self.table("replica table", &replica.table, &replica.endpoint).await?;
        if of_source.key != of_replica.key {
            return Err(Failure::Usage(format!(
                "source table `{}` is keyed by {} and replica table `{}` by {}: they cannot be compared",
                source.name,
                keyed(&of_source),
                target.name,
                keyed(&of_replica)
            )));
        }
        let Args { limits, scope, .. } = self.args;
        if let Some(name) = scope.ignore.iter().find(|name| source.key.contains(name)) {
            return Err(Failure::Usage(format!("--ignore {name}: it is a key attribute")));
        }
        let mut ignored = scope.ignore.clone();
        if replica.guard == Guard::Sequence {
            ignored.push(replica.guard_attribute.clone());
        }
        let memory_bytes = usize::try_from(limits.memory).unwrap_or(usize::MAX);
        let parts = Parts {
            digester: Digester::new(&ignored),
            join: join::Config {
                memory_bytes: memory_bytes - memory_bytes / PAGES_SHARE,
                disk_bytes: limits.temp_size,
                dir: limits.temp_dir.clone().unwrap_or_else(std::env::temp_dir),
                key_bytes_max: join::Config::KEY_BYTES_MAX,
            },
            pages: Budget::new(memory_bytes / PAGES_SHARE),
            barrier: self.barrier(replica).await?,
            ttl_attribute,
            differences_max: scope.max_differences as usize,
            details_max: scope.show as usize,
            clock: Clock::System,
            progress: watch::Sender::new(Progress::default()),
            source,
            replica: target,
        };
        Ok(Built { parts, expected_items: [of_source.items, of_replica.items] })
    }

    /// The one that was named, or what the source tells; a server that does not know expires nothing.
    async fn ttl_attribute(&mut self, table: &str, endpoint: &Endpoint) -> Option<String> {
        if let Some(named) = &self.args.scope.ttl_attribute {
            return Some(named.clone());
        }
        let schemas = self.connections.client(endpoint, Limits::COMMAND).await.schemas();
        match dynamo::ttl_attribute(&schemas, table).await {
            Ok(told) => told,
            Err(error) if matches!(error.fault, Fault::Invalid | Fault::Protocol) => None,
            Err(error) => {
                warn!(table, %error, "expired items count as differences: name --ttl-attribute");
                None
            }
        }
    }

    async fn table(
        &mut self,
        role: &'static str,
        name: &str,
        endpoint: &Endpoint,
    ) -> Result<(Table, dynamo::Table), Failure> {
        // Pages take longer than what a person waits for.
        let limits = Limits::daemon(Limits::COMMAND.write);
        let tables: SdkTables = self.connections.client(endpoint, limits).await.tables();
        let described = tables.describe(name).await;
        let place = Place::new(role, name, endpoint);
        let described = described.map_err(|error| place.failure("describe", error, Stage::Discover))?;
        let table = Table {
            tables: Arc::new(tables),
            name: name.to_owned(),
            key: described.key.iter().map(|attribute| attribute.name.clone()).collect(),
            segments: segments(described.bytes),
            pages: PAGES,
            units: Bucket::new(self.units(name, &described)?),
        };
        Ok((table, described))
    }

    /// Units per second; `None` is as many as there are.
    fn units(&self, name: &str, table: &dynamo::Table) -> Result<Option<f64>, Failure> {
        let given = table.provisioned.map(|(read, _)| read).or(table.on_demand_max.0);
        match (self.args.limits.read_units, given) {
            (Some(wanted), Some(given)) if u64::from(wanted) > given => {
                Err(Failure::Usage(format!("--read-units {wanted}: table `{name}` gives {given} a second")))
            }
            (Some(wanted), _) => Ok(Some(f64::from(wanted))),
            (None, given) => Ok(given.filter(|given| *given > 0).map(|given| (given as f64 / 2.0).max(1.0))),
        }
    }

    async fn barrier(&self, replica: &Replica) -> Result<Barrier, Failure> {
        let (Some(control), None) = (self.control, self.args.scope.grace) else {
            return Ok(Barrier::Grace(self.args.scope.grace.unwrap_or_default()));
        };
        let Replication { name, .. } = self.replication;
        // Nothing is written, so the worker's name does not matter.
        let rows = Leases::new(control.clone(), name, "").load().await?;
        if !rows.iter().any(|row| row.checkpoints.contains_key(&replica.name)) {
            return Err(Failure::Usage(format!(
                "no worker has begun to replicate to `{name}/{}`: let one run, or say with --grace how long to wait",
                replica.name
            )));
        }
        Ok(Barrier::of_rows(control.clone(), name, &replica.name, self.args.scope.patience))
    }
}

fn keyed(table: &dynamo::Table) -> String {
    let attributes: Vec<_> = table.key.iter().map(|it| format!("`{}` ({})", it.name, it.kind)).collect();
    attributes.join(" and ")
}
