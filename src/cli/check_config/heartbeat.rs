//! The tables of heartbeats. Only what can never become one is an error: a fleet works without them.

use std::sync::Arc;

use super::Found;
use super::finding::{Finding, spell};
use crate::cli::connections::{Connections, Limits};
use crate::cli::heartbeat::dedicated;
use crate::cli::place::Place;
use crate::config::{self, Config, Endpoint, HeartbeatMode};
use crate::dynamo::{self, Error, Tables};
use crate::fault::Fault;
use crate::supervisor::heartbeat;

/// One heartbeat table.
pub(super) struct Table<'a> {
    name: String,
    endpoint: &'a Endpoint,
    tables: Arc<dyn Tables>,
    has_stream: bool,
}

/// All of them, at sources and at replicas.
pub(super) async fn connect<'a>(config: &'a Config, connections: &mut Connections) -> Vec<Table<'a>> {
    let mut found = Vec::new();
    for wanted in dedicated(config) {
        let at_source = (wanted.table.to_owned(), &wanted.source.endpoint, true);
        let at_replicas = wanted.replicas.into_iter().map(|replica| (replica.table, replica.endpoint, false));
        for (name, endpoint, has_stream) in std::iter::once(at_source).chain(at_replicas) {
            let client = connections.client(endpoint, Limits::COMMAND).await;
            found.push(Table { name, endpoint, tables: Arc::new(client.tables()), has_stream });
        }
    }
    found
}

/// Whether heartbeats fit into the source's own table, where they are wanted there.
pub(super) fn in_table(settings: &config::Replication, source: Option<&dynamo::Table>) -> Option<Found> {
    if settings.heartbeat != HeartbeatMode::InTable {
        return None;
    }
    Some(match heartbeat::check(&source?.key) {
        Ok(()) => Found::ok(format!("heartbeats are written to it, under keys with `{}`", heartbeat::PREFIX)),
        Err(unfit) => Found::wrong(
            format!("heartbeats cannot be written to it: {unfit}"),
            "set `heartbeat` to \"dedicated\" or \"off\" for this replication",
        ),
    })
}

// === impl Table ===

impl Table<'_> {
    /// Looks at it.
    pub(super) async fn probe(&self) -> Finding {
        let described = self.tables.describe(&self.name).await;
        Finding::new(
            "heartbeat",
            Place::new("heartbeat table", &self.name, self.endpoint),
            self.judge(described),
        )
    }

    fn judge(&self, described: Result<dynamo::Table, Error>) -> Found {
        let without = "until then an idle source's lag is not proven";
        match described {
            Ok(table) if !heartbeat::is_ours(&table.key) => Found::wrong(
                format!("its key is {}: it is not for heartbeats", spell(&table.key)),
                "set `heartbeat.table` to another name, and let `dynamirror init` create it",
            ),
            Ok(table) if self.has_stream && !table.stream.as_ref().is_some_and(|stream| stream.enabled) => {
                Found::ok(format!("its stream is off; `dynamirror init` switches it on, {without}"))
            }
            Ok(_) => Found::ok("is there"),
            Err(error) if error.fault == Fault::Missing => {
                Found::ok(format!("is not there; `dynamirror init` creates it, {without}"))
            }
            Err(error) => Found::ok(format!("is not known ({error}); {without}")),
        }
    }
}
