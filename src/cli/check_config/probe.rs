//! Looks at each table the way a worker will, reading only. The one thing written is the mark of the control
//! table's layout, which every start writes.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::{join, join_all};

use super::finding::{Finding, compare, spell};
use super::{Found, heartbeat};
use crate::cli::advice::advice;
use crate::cli::connections::{Connections, Limits};
use crate::cli::exit::Code;
use crate::cli::init;
use crate::cli::place::Place;
use crate::config::{self, Config};
use crate::control::{self, Control};
use crate::dynamo::{Describe, Error, KeyAttribute, Streams, Table, TableStream, Tables};
use crate::fault::{Fault, Stage};
use crate::key::Key;
use crate::shard::Position;

/// The key of the control table: names and types.
const CONTROL_KEY: [(&str, &str); 2] = [("pk", "S"), ("sk", "S")];

/// A source and its replicas with their clients.
struct Replication<'a> {
    settings: &'a config::Replication,
    index: usize,
    tables: Arc<dyn Tables>,
    streams: Arc<dyn Streams>,
    replicas: Vec<(&'a config::Replica, Arc<dyn Tables>)>,
}

/// Looks at everything at once, and tells it in order of the configuration.
pub(super) async fn everything(config: &Config) -> Vec<Finding> {
    let mut connections = Connections::new("dynamirror-check".to_owned(), None);
    let endpoint = &config.control.endpoint;
    let control = connections.client(endpoint, Limits::COMMAND).await;
    let mut replications = Vec::new();
    for (index, settings) in config.replications.iter().enumerate() {
        replications.push(Replication::connect(settings, index, &mut connections).await);
    }
    let control = control_table(config, Arc::new(control.tables()));
    let beats = heartbeat::connect(config, &mut connections).await;
    let (control, (replications, beats)) = join(
        control,
        join(
            join_all(replications.iter().map(Replication::probe)),
            join_all(beats.iter().map(heartbeat::Table::probe)),
        ),
    )
    .await;
    let mut findings = vec![control];
    findings.extend(replications.into_iter().flatten());
    findings.extend(beats);
    findings
}

async fn control_table(config: &Config, tables: Arc<dyn Tables>) -> Finding {
    let settings = &config.control;
    let place = Place::new("control table", &settings.table, &settings.endpoint);
    let result = match tables.describe(&settings.table).await {
        Err(error) if error.fault == Fault::Missing && settings.create => {
            Found::ok("is not there; it is created at the start")
        }
        Err(error) => Found::call(&error, Stage::Control),
        Ok(table) if !is_control(&table.key) => Found::wrong(
            format!("its key is {}", spell(&table.key)),
            "name another table, and let `dynamirror init` create it",
        ),
        Ok(_) => use_control(&Control::new(tables, &settings.table)).await,
    };
    Finding::new("control", place, result)
}

fn is_control(key: &[KeyAttribute]) -> bool {
    let expected = CONTROL_KEY.iter().copied();
    key.iter().map(|part| (part.name.as_str(), part.kind.as_str())).eq(expected)
}

async fn use_control(control: &Control) -> Found {
    let used = async {
        control.open().await?;
        control.rows("#workers", "").await
    };
    match used.await {
        Ok(_) => Found::ok(format!("can be read and written, layout {}", control::LAYOUT_VERSION)),
        Err(control::Error::Call { source, .. }) => Found::call(&source, Stage::Control),
        Err(error @ control::Error::Layout { .. }) => {
            Found::wrong(error.to_string(), "nothing was changed in it")
        }
        Err(error) => Found::failed(error.to_string(), "check that it is this fleet's own", Code::Data),
    }
}

// === impl Replication ===

impl<'a> Replication<'a> {
    async fn connect(settings: &'a config::Replication, index: usize, connections: &mut Connections) -> Self {
        let limits = Limits::COMMAND;
        let tables = connections.client(&settings.source.endpoint, limits).await;
        let streams = connections.streams_client(&settings.source, limits).await;
        let mut replicas: Vec<(_, Arc<dyn Tables>)> = Vec::new();
        for replica in &settings.replicas {
            let client = connections.client(&replica.endpoint, limits).await;
            replicas.push((replica, Arc::new(client.tables())));
        }
        Self {
            settings,
            index,
            tables: Arc::new(tables.tables()),
            streams: Arc::new(streams.streams()),
            replicas,
        }
    }

    async fn probe(&self) -> Vec<Finding> {
        let described = self.replicas.iter().map(|(settings, tables)| async {
            let described = tables.describe(&settings.table).await;
            (*settings, described)
        });
        let ((source, result), replicas) = join(self.source(), join_all(described)).await;
        let settings = &self.settings.source;
        let place = Place::new("source table", &settings.table, &settings.endpoint);
        let setting = format!("replications[{}].source", self.index);
        let mut findings = vec![Finding::new(&setting, place, result)];
        if let Some(found) = heartbeat::in_table(self.settings, source.as_ref()) {
            findings.push(Finding::new(&format!("replications[{}].heartbeat", self.index), place, found));
        }
        for (number, (replica, described)) in replicas.into_iter().enumerate() {
            let setting = format!("replications[{}].replicas[{number}]", self.index);
            let place = Place::new("replica table", &replica.table, &replica.endpoint);
            let result = self.replica(source.as_ref(), replica, described);
            findings.push(Finding::new(&setting, place, result));
        }
        findings
    }

    fn replica(
        &self,
        source: Option<&Table>,
        settings: &config::Replica,
        described: Result<Table, Error>,
    ) -> Found {
        let table = match described {
            Ok(table) if table.usable => table,
            Ok(_) => return Found::failed("is not active", "wait until it is", Code::Temporary),
            Err(error) if error.fault == Fault::Missing && settings.create => {
                return Found::ok("is not there; it is created like its source at the start");
            }
            Err(error) if error.fault == Fault::Missing => {
                let advice = "create it with the source's key (`dynamirror schema apply` does), or check its name, \
                              region and account";
                return Found::wrong(error.to_string(), advice);
            }
            Err(error) => return Found::call(&error, Stage::Discover),
        };
        match source {
            Some(source) => compare((source, &self.settings.source.endpoint), (&table, &settings.endpoint)),
            None => Found::ok("is there; its source is not known"),
        }
    }

    async fn source(&self) -> (Option<Table>, Found) {
        let table = match self.tables.describe(&self.settings.source.table).await {
            Ok(table) => table,
            Err(error) => return (None, Found::call(&error, Stage::Discover)),
        };
        let result = match table.stream.as_ref().filter(|stream| stream.enabled) {
            _ if !table.usable => Found::failed("is not active", "wait until it is", Code::Temporary),
            None => Found::wrong("its stream is off", "switch it on: `dynamirror init --enable-streams`"),
            Some(stream) => match self.read(stream, &table.key).await {
                Ok(()) => Found::ok(format!("its stream is on ({})", init::view(stream.view))),
                Err(error) => {
                    let message = format!("read its stream: {error}");
                    Found::failed(message, advice(&error, Stage::Discover), Code::of_fault(error.fault))
                }
            },
        };
        (Some(table), result)
    }

    /// Makes each call that reading takes once.
    async fn read(&self, stream: &TableStream, key: &[KeyAttribute]) -> Result<(), Error> {
        let listing = self.streams.describe(&stream.arn, &Describe::default()).await?;
        // The newest is the least likely to be trimmed meanwhile.
        if let Some(shard) = listing.shards.last() {
            let start = Position::TrimHorizon;
            let iterator = self.streams.iterator(&stream.arn, &shard.id, &start).await;
            match iterator {
                Ok(iterator) => drop(self.streams.records(&iterator, 1).await?),
                // It was allowed to ask.
                Err(error) if matches!(error.fault, Fault::Trimmed | Fault::Missing) => {}
                Err(error) => return Err(error),
            }
        }
        if !stream.view.has_new_image() {
            let table = &self.settings.source.table;
            self.tables.fetch(table, &[any_key(key)?]).await?;
        }
        Ok(())
    }
}

/// A key that fits the schema; whether there is an item does not matter.
fn any_key(schema: &[KeyAttribute]) -> Result<Key, Error> {
    let value = |kind: &str| match kind {
        "N" => r#"{"N":"0"}"#,
        "B" => r#"{"B":"AA=="}"#,
        _ => r#"{"S":"dynamirror"}"#,
    };
    let member = |part: &KeyAttribute| {
        let name = serde_json::Value::from(part.name.as_str());
        format!("{name}:{}", value(&part.kind))
    };
    let members: Vec<_> = schema.iter().map(member).collect();
    let text = Bytes::from(format!("{{{}}}", members.join(",")));
    Key::from_json(&text, 0..text.len())
        .map_err(|error| Error::new("BatchGetItem", Fault::Protocol, error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_for_every_schema() {
        let part = |name: &str, kind: &str| KeyAttribute { name: name.to_owned(), kind: kind.to_owned() };
        let key = any_key(&[part("i\"d", "B"), part("at", "N")]).expect("a key");
        assert_eq!(key.to_string(), r#"{"at":{"N":"0"},"i\"d":{"B":"AA=="}}"#);
    }

    #[test]
    fn the_control_table_is_known_by_its_key() {
        let part = |(name, kind): (&str, &str)| KeyAttribute { name: name.to_owned(), kind: kind.to_owned() };
        let ours: Vec<_> = CONTROL_KEY.into_iter().map(part).collect();
        assert!(is_control(&ours));
        assert!(!is_control(&ours[..1]));
        assert!(!is_control(&[]));
    }
}
