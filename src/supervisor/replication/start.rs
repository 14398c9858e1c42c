//! What must be known before a shard is read: the stream, the rows, which replicas are new; and the writers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures_util::future::join_all;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::{error, info, info_span, warn};

use super::Setup;
use crate::budget::Budget;
use crate::control;
use crate::dynamo::{self, Condition, RowKey, StreamArn};
use crate::fault::{Fault, Stage, advice};
use crate::item::Value;
use crate::lane::{Lot, Window};
use crate::lease::{Fence, Leases, Row};
use crate::mutation::{self, Mutation};
use crate::replica::parked::{self, Parked};
use crate::replica::{self, Gauges, Writer};
use crate::schema;
use crate::shard::ShardId;
use crate::stream::Source;
use crate::supervisor::feed::Channel;
use crate::supervisor::plan::Replicas;
use crate::supervisor::status;
use crate::task::Tasks;

/// What a replication has when it begins to run.
pub(super) struct Started {
    pub(super) leases: Leases,
    pub(super) source: Source,
    pub(super) replicas: Replicas,
    pub(super) channels: Vec<Channel>,
    pub(super) writers: Tasks<()>,
    pub(super) rows: BTreeMap<ShardId, Row>,
    pub(super) stream_gap: Option<status::Gap>,
    /// Rows of earlier streams.
    pub(super) others: Vec<Row>,
}

/// Why a replication cannot start.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("describe source table `{table}`: {source}")]
    Source { table: String, source: Box<dynamo::Error> },
    #[error("read source table `{0}`: it has no stream")]
    NoStream(String),
    #[error("write to replica table `{table}`: its key is {found}, the source's is {expected}")]
    Key { table: String, expected: String, found: String },
    #[error("guard replica table `{table}` by its attribute `{attribute}`: it is part of the key")]
    Guard { table: String, attribute: String },
    #[error(transparent)]
    Control(#[from] control::Error),
    #[error(transparent)]
    Parked(#[from] parked::Error),
}

// === impl Failure ===

impl Failure {
    /// What a person should do about it.
    pub(super) fn advice(&self) -> &'static str {
        match self {
            Self::Source { source, .. } => advice(source.fault, Stage::Discover),
            Self::NoStream(_) => "switch it on with both images: `dynamirror init --enable-streams`",
            Self::Key { .. } => "a replica needs the source's key schema: name another table",
            Self::Guard { .. } => "give the replica another guard_attribute",
            Self::Control(control::Error::Call { source, .. }) => advice(source.fault, Stage::Control),
            Self::Control(_) | Self::Parked(_) => "check that the control table is this fleet's own",
        }
    }
}

/// Looks at everything and builds the writers.
pub(super) async fn start(setup: &Setup) -> Result<Started, Failure> {
    let config = &setup.config;
    let described = config.source.tables.describe(&config.source.table).await;
    let table = described
        .map_err(|source| Failure::Source { table: config.source.table.clone(), source: Box::new(source) })?;
    let stream = table.stream.clone().ok_or_else(|| Failure::NoStream(config.source.table.clone()))?;
    join_all(config.replicas.iter().map(create_replica)).await;
    for replica in &config.replicas {
        check_replica(replica, &table.key).await?;
    }
    setup.control.open().await?;
    let leases = Leases::new(setup.control.clone(), &config.name, &setup.worker);
    let (rows, others): (Vec<_>, Vec<_>) =
        leases.load().await?.into_iter().partition(|row| row.stream == stream.arn);
    let stream_gap = left_behind(setup, &others, &stream.arn);
    let stream_gap = stream_gap.filter(|_| !mutation::is_on(Mutation::NewStreamIsNoGap));
    let replicas = Replicas {
        names: config.replicas.iter().map(|replica| replica.name.clone()).collect(),
        new: new_replicas(setup).await?,
        start: config.start,
    };
    let (channels, writers) = writers(setup, &stream.arn).await?;
    let source = Source {
        streams: Arc::clone(&config.source.streams),
        tables: Arc::clone(&config.source.tables),
        table: config.source.table.clone(),
        stream: stream.arn,
        view: stream.view,
    };
    let rows = rows.into_iter().map(|row| (row.shard.clone(), row)).collect();
    Ok(Started { leases, source, replicas, channels, writers, rows, stream_gap, others })
}

/// Creates a replica's table like its source's, where that is wanted and it is missing. What fails here does not keep
/// changes from the other replicas: its writer tells what it meets.
async fn create_replica(replica: &crate::supervisor::Replica) {
    let Some(pair) = replica.schema.as_ref().filter(|pair| pair.create) else { return };
    let described = replica.tables.describe(&pair.replica_table).await;
    if !described.is_err_and(|error| error.fault == Fault::Missing) {
        return;
    }
    let created = async {
        let plan = pair.plan().await?;
        // Tables are only created here: what differs in one that is there is told, and left.
        if !plan.creates {
            return Ok(Vec::new());
        }
        let mut told = |step: &str| info!(replica = replica.name, step, "creating the replica's table");
        pair.apply(&plan, &mut told).await
    };
    match created.await {
        Ok(refusals) => {
            for refusal in refusals {
                let (call, error) = (refusal.call.operation.name(), refusal.error);
                warn!(replica = replica.name, call, %error, "setting of the replica's table was not accepted");
            }
        }
        Err::<_, schema::Error>(error) => {
            warn!(replica = replica.name, error = %error, "replica's table cannot be created")
        }
    }
}

/// A replica that cannot be described now is no reason to keep changes from the others; its writer tells what it
/// meets. One with another key can never be written to.
async fn check_replica(
    replica: &crate::supervisor::Replica,
    key: &[dynamo::KeyAttribute],
) -> Result<(), Failure> {
    let table = &replica.writer.table;
    let described = match replica.tables.describe(table).await {
        Ok(described) => described,
        Err(error) => {
            let advice = advice(error.fault, Stage::Write);
            warn!(replica = replica.name, %error, advice, "replica cannot be described");
            return Ok(());
        }
    };
    let guard = replica.writer.guard.as_ref();
    if let Some(guard) = guard.filter(|guard| key.iter().any(|part| part.name == guard.attribute)) {
        return Err(Failure::Guard { table: table.clone(), attribute: guard.attribute.clone() });
    }
    if described.key == key {
        return Ok(());
    }
    let spell = |key: &[dynamo::KeyAttribute]| {
        key.iter().map(|part| format!("{} ({})", part.name, part.kind)).collect::<Vec<_>>().join(", ")
    };
    Err(Failure::Key { table: table.clone(), expected: spell(key), found: spell(&described.key) })
}

/// Rows of another stream: the table has a new one, and what was written to it between the two, or to the old one
/// after the last checkpoint, is not known to be in the replicas (I6).
fn left_behind(setup: &Setup, others: &[Row], current: &StreamArn) -> Option<status::Gap> {
    let gap = stream_gap(&others.first()?.stream, Some(current), setup.clock.unix_ms());
    error!(reason = gap.reason, advice = gap.advice, "stream was replaced");
    Some(gap)
}

/// The gap that a replaced or switched-off stream leaves.
pub(super) fn stream_gap(read: &StreamArn, current: Option<&StreamArn>, now_unix_ms: i64) -> status::Gap {
    let reason = match current {
        Some(current) => format!("the table has a new stream {current}; checkpoints are of {read}"),
        None => format!("the table's stream was switched off; checkpoints are of {read}"),
    };
    status::Gap {
        shard: None,
        reason,
        advice: "changes between the two streams may be missing: restart the workers, verify or copy the replicas, and \
                 `dynamirror seek` all of them to give up what is missing"
            .to_owned(),
        found_unix_ms: now_unix_ms,
    }
}

/// The replicas that nobody remembers to have been started.
pub(super) async fn new_replicas(setup: &Setup) -> Result<BTreeSet<String>, control::Error> {
    let registered = setup.control.rows(&setup.config.name, REGISTERED).await?;
    let mut names: BTreeSet<_> = setup.config.replicas.iter().map(|replica| replica.name.clone()).collect();
    for row in &registered {
        let row = setup.control.read(row);
        names.remove(row.text("sk")?.trim_start_matches(REGISTERED));
    }
    Ok(names)
}

/// Sort keys of replicas that were started start with this.
const REGISTERED: &str = "replica/";

/// Remembers that `replica` was started.
pub(super) async fn register(setup: &Setup, replica: &str) -> Result<(), control::Error> {
    let key = RowKey { partition: setup.config.name.clone(), sort: format!("{REGISTERED}{replica}") };
    let mut row = key.attributes();
    row.insert("started_ms".to_owned(), Value::integer(setup.clock.unix_ms()));
    setup.control.put(&row, &Condition::Absent).await?;
    Ok(())
}

async fn writers(setup: &Setup, stream: &StreamArn) -> Result<(Vec<Channel>, Tasks<()>), Failure> {
    let mut channels = Vec::new();
    let mut writers = Tasks::new();
    for replica in &setup.config.replicas {
        let (inbox, receiver) = mpsc::unbounded_channel();
        let (reloads, asked) = mpsc::unbounded_channel();
        let (gauges, window) = (Arc::new(Gauges::default()), Window::new(replica.window_keys_max));
        let retries = Fence::closed();
        let (name, table) = (&setup.config.name, &setup.config.source.table);
        let writer = Writer::build(replica::Parts {
            config: replica.writer.clone(),
            tables: Arc::clone(&replica.tables),
            parked: Parked::new(setup.control.clone(), name, &replica.name, setup.clock),
            inbox: receiver,
            reloads: asked,
            retry_lot: {
                let fence = retries.clone();
                // One that waited for the right to write could have it again after somebody else wrote meanwhile.
                Arc::new(move |shard: Option<&ShardId>| {
                    fence.is_open(Instant::now()).then(|| Lot::unheard(shard.cloned(), fence.clone()))
                })
            },
            gauges: Arc::clone(&gauges),
            window: window.clone(),
            clock: setup.clock,
            metrics: setup.metrics.replica(name, table, &replica.name),
        });
        let span = info_span!("replica", replica = replica.name);
        writers.spawn(span, writer.await?.run());
        let budget = Budget::new(replica.buffer_bytes);
        let stream = replica.writer.guard.is_some().then(|| stream.order());
        channels.push(Channel {
            replica: replica.name.clone(),
            inbox,
            reloads,
            budget,
            gauges,
            retries,
            stream,
            window,
        });
    }
    Ok((channels, writers))
}
