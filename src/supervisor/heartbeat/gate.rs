//! Whether the tables of a dedicated heartbeat replication are there. Until they are, nothing is replicated between
//! them and nothing is written: a fleet that was never given such tables works as well as any.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;
use tracing::{info, warn};

use crate::dynamo::{self, Condition, KeyAttribute, StreamArn, Table, Tables};
use crate::fault::Fault;
use crate::item::Value;
use crate::lease::{Leases, Row, State};
use crate::supervisor::Replication;
use crate::supervisor::board::Board;
use crate::supervisor::replication::{self, Setup};
use crate::supervisor::watch;

/// Between two looks for tables that were missing: somebody runs `init` once, and a minute later heartbeats begin.
const LOOK_PAUSE: Duration = Duration::from_secs(60);

/// Opens when the tables of one replication are there.
#[derive(Clone)]
pub(in crate::supervisor) struct Gate {
    open: Arc<watch::Sender<bool>>,
}

// === impl Gate ===

impl Gate {
    pub(in crate::supervisor) fn closed() -> Self {
        Self { open: Arc::new(watch::Sender::new(false)) }
    }

    /// Waits until it is open.
    pub(super) async fn opened(&self) {
        let mut open = self.open.subscribe();
        // The sender lives as long as this.
        let _ = open.wait_for(|open| *open).await;
    }

    pub(in crate::supervisor) fn is_open(&self) -> bool {
        *self.open.borrow()
    }

    /// Runs a replication; behind a gate, once its tables are there. It is opened then.
    pub(in crate::supervisor) async fn pass(gate: Option<Self>, setup: Setup) {
        if let Some(Self { open }) = gate {
            tokio::select! {
                biased;
                () = setup.drain.cancelled() => return,
                stream = are_there(&setup.config, &setup.board) => forget_gaps(&setup, &stream).await,
            }
            info!("heartbeats are replicated");
            open.send_replace(true);
        }
        replication::run(setup).await;
    }
}

/// Looks until the tables are there. Why they are not is told once, and stays on the board.
async fn are_there(replication: &Replication, board: &Board) -> StreamArn {
    let mut told = None;
    loop {
        let absence = match look(replication).await {
            Ok(stream) => {
                board.set_note(&replication.name, None);
                return stream;
            }
            Err(absence) => absence,
        };
        if told.as_ref() != Some(&absence) {
            info!(reason = absence, "no heartbeats: an idle source's lag is not proven");
            board.set_note(&replication.name, Some(format!("no heartbeats: {absence}")));
            told = Some(absence);
        }
        sleep(LOOK_PAUSE).await;
    }
}

/// Lets rows go that a gap has stopped, or whose stream is no more: what such a row keeps a user from overlooking is data
/// that is missing in a replica, and of heartbeats nobody misses any. It is done at a worker's start, so that a fleet
/// that was down for longer than a stream keeps records has its heartbeats again.
async fn forget_gaps(setup: &Setup, stream: &StreamArn) {
    let name = &setup.config.name;
    // What fails here, the replication meets too, and tells.
    let leases = Leases::new(setup.control.clone(), name, &setup.worker);
    let Ok(rows) = leases.load().await else { return };
    let is_gap = |row: &Row| matches!(row.state, State::Gap { .. }) || !row.gaps.is_empty();
    let is_dead = |row: &&Row| row.stream != *stream || is_gap(row);
    for row in rows.iter().filter(is_dead) {
        info!(shard = %row.shard, "row of a heartbeat's shard that can no longer be read is removed");
        let unchanged = Condition::Equals { attribute: "counter", value: Value::integer(row.counter) };
        if let Err(error) = setup.control.delete(&Row::key(name, &row.shard), &unchanged).await {
            warn!(shard = %row.shard, %error, "row of a heartbeat's shard is not removed");
        }
    }
}

async fn look(replication: &Replication) -> Result<StreamArn, String> {
    let source = &replication.source;
    let found = source.tables.describe(&source.table).await;
    let found = found.map_err(|error| absence(&source.table, &error))?;
    check_key(&source.table, &found.key)?;
    let stream = found.stream.filter(|stream| stream.enabled);
    let off = || format!("the stream of table `{}` is off: `dynamirror init` switches it on", source.table);
    let stream = stream.ok_or_else(off)?;
    for replica in &replication.replicas {
        replica_is_there(&replica.writer.table, replica.tables.as_ref()).await?;
    }
    Ok(stream.arn)
}

/// A replica that cannot be looked at now counts as there: heartbeats are what shows that it is down.
async fn replica_is_there(table: &str, tables: &dyn Tables) -> Result<(), String> {
    match tables.describe(table).await {
        Ok(Table { key, .. }) => check_key(table, &key),
        Err(error) if matches!(error.fault, Fault::Missing | Fault::Denied) => Err(absence(table, &error)),
        Err(_) => Ok(()),
    }
}

fn absence(table: &str, error: &dynamo::Error) -> String {
    match error.fault {
        Fault::Missing => format!(
            "table `{table}` is not there: `dynamirror init` creates it, or set `heartbeat.mode` to \"off\""
        ),
        Fault::Denied => format!("table `{table}` may not be described with these credentials"),
        _ => format!("table `{table}` cannot be described: {error}"),
    }
}

fn check_key(table: &str, key: &[KeyAttribute]) -> Result<(), String> {
    match super::is_ours(key) {
        true => Ok(()),
        false => {
            Err(format!("table `{table}` has another key than `pk` (S), `sk` (S): it is not for heartbeats"))
        }
    }
}
