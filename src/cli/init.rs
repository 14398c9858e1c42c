//! `init`: what must be there before a worker runs. Idempotent: what is there already is left as it is.

use std::sync::Arc;

use super::connections::{Connections, Limits};
use super::exit::{Code, Failure};
use super::heartbeat;
use super::input::Input;
use super::output::print;
use super::place::Place;
use super::runtime;
use crate::config::{Config, Source};
use crate::control::Control;
use crate::dynamo::{self, Client, Tables};
use crate::fault::{Fault, Stage};
use crate::record::View;

/// Creates the control table and marks it with the layout of its rows, and the tables of heartbeats unless they are off
/// (`heartbeat.mode`). Safe to repeat: what is there already is left as it is.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    input: Input,

    /// Switch on the streams of source tables that have none, with new and old images.
    #[arg(long)]
    enable_streams: bool,

    /// Only say what would be done.
    #[arg(long)]
    dry_run: bool,
}

/// Does it, and prints a line for each table.
pub(super) fn run(args: &Args) -> Result<Code, Failure> {
    let config = args.input.load_quietly()?;
    runtime()?.block_on(async {
        let mut connections = Connections::new("dynamirror-init".to_owned(), None);
        control_table(&config, args.dry_run, &mut connections).await?;
        heartbeat_tables(&config, args.dry_run, &mut connections).await?;
        if args.enable_streams {
            for source in distinct_sources(&config) {
                source_stream(source, args.dry_run, &mut connections).await?;
            }
        }
        Ok(Code::Success)
    })
}

/// Creates `table` unless it is there. Says whether it was created.
pub(super) async fn ensure(tables: &dyn Tables, table: &str) -> Result<bool, dynamo::Error> {
    match tables.describe(table).await {
        Ok(described) if described.usable => Ok(false),
        // It is being created, which creating it once more waits for.
        Ok(_) => tables.create(table).await.map(|()| false),
        Err(error) if error.fault == Fault::Missing => tables.create(table).await.map(|()| true),
        Err(error) => Err(error),
    }
}

async fn control_table(config: &Config, dry_run: bool, connections: &mut Connections) -> Result<(), Failure> {
    let (table, endpoint) = (&config.control.table, &config.control.endpoint);
    let place = Place::new("control table", table, endpoint);
    let tables = connections.client(endpoint, Limits::COMMAND).await.tables();
    if dry_run {
        return match tables.describe(table).await {
            Ok(_) => print(format!("{place} is there")),
            Err(error) if error.fault == Fault::Missing => print(format!("would create {place}")),
            Err(error) => Err(place.failure("describe", error, Stage::Control)),
        };
    }
    let created = ensure(&tables, table).await;
    let created = created.map_err(|error| place.failure("create", error, Stage::Control))?;
    Control::new(Arc::new(tables), table).open().await?;
    print(if created { format!("created {place}") } else { format!("{place} is there") })
}

/// The tables of heartbeats: one at each source, its stream on, and one at each of its replicas.
async fn heartbeat_tables(
    config: &Config,
    dry_run: bool,
    connections: &mut Connections,
) -> Result<(), Failure> {
    for wanted in heartbeat::dedicated(config) {
        let place = Place::new("heartbeat table", wanted.table, &wanted.source.endpoint);
        let tables = connections.client(&wanted.source.endpoint, Limits::COMMAND).await.tables();
        if heartbeat_table(&place, wanted.table, &tables, dry_run).await? {
            let enabled = tables.enable_stream(wanted.table).await;
            enabled.map_err(|error| place.failure("switch on the stream of", error, Stage::Discover))?;
        }
        for replica in &wanted.replicas {
            let place = Place::new("heartbeat table", &replica.table, replica.endpoint);
            let tables = connections.client(replica.endpoint, Limits::COMMAND).await.tables();
            heartbeat_table(&place, &replica.table, &tables, dry_run).await?;
        }
    }
    Ok(())
}

/// Creates one unless it is there, or says what would be done. Whether it is there now.
async fn heartbeat_table(
    place: &Place<'_>,
    table: &str,
    tables: &dyn Tables,
    dry_run: bool,
) -> Result<bool, Failure> {
    if dry_run {
        match tables.describe(table).await {
            Ok(_) => print(format!("{place} is there"))?,
            Err(error) if error.fault == Fault::Missing => print(format!("would create {place}"))?,
            Err(error) => return Err(place.failure("describe", error, Stage::Discover)),
        }
        return Ok(false);
    }
    let created = ensure(tables, table).await;
    let created = created.map_err(|error| place.failure("create", error, Stage::Discover))?;
    print(if created { format!("created {place}") } else { format!("{place} is there") })?;
    Ok(true)
}

async fn source_stream(source: &Source, dry_run: bool, connections: &mut Connections) -> Result<(), Failure> {
    let place = Place::new("source table", &source.table, &source.endpoint);
    let client: Client = connections.client(&source.endpoint, Limits::COMMAND).await;
    let tables = client.tables();
    let described = tables.describe(&source.table).await;
    let described = described.map_err(|error| place.failure("describe", error, Stage::Discover))?;
    if let Some(stream) = described.stream.filter(|stream| stream.enabled) {
        let view = view(stream.view);
        return print(format!("{place} has its stream on ({view}); left as it is"));
    }
    if dry_run {
        return print(format!("would switch on the stream of {place} (new and old images)"));
    }
    let enabled = tables.enable_stream(&source.table).await;
    enabled.map_err(|error| place.failure("switch on the stream of", error, Stage::Discover))?;
    print(format!("switched on the stream of {place} (new and old images)"))
}

/// What a stream's records carry, in words.
pub(super) const fn view(view: View) -> &'static str {
    match view {
        View::KeysOnly => "keys only",
        View::NewImage => "new images",
        View::OldImage => "old images",
        View::NewAndOldImages => "new and old images",
    }
}

/// Several replications may read the same table.
fn distinct_sources(config: &Config) -> Vec<&Source> {
    let mut sources: Vec<&Source> = Vec::new();
    for replication in &config.replications {
        let source = &replication.source;
        let known = |other: &&Source| other.table == source.table && other.endpoint == source.endpoint;
        if !sources.iter().any(known) {
            sources.push(source);
        }
    }
    sources
}
