//! A streamed table: the streams it has had, the newest of which grows, and the real stream they are fed from.

use super::{arn, lineage, lineage::Lineage, pump::Cursor, readers::Readers, sequence::Sequence};
use hyper::HeaderMap;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};
use tokio::sync::Notify;

/// What the emulator needs to know of a `TableDescription`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Description {
    pub(super) table_name: String,
    table_arn: Option<String>,
    #[serde(default)]
    key_schema: Option<Box<RawValue>>,
    latest_stream_arn: Option<String>,
    stream_specification: Option<Specification>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Specification {
    stream_enabled: bool,
    stream_view_type: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Key {
    attribute_name: String,
    key_type: String,
}

/// What a new stream is made with.
#[derive(Debug)]
pub(super) struct Birth<'a> {
    pub(super) region: &'a str,
    pub(super) now_ms: u64,
    pub(super) shards: u32,
    pub(super) rng: fastrand::Rng,
    pub(super) inconsistent: bool,
}

#[derive(Debug)]
pub(super) struct Table {
    pub(super) name: String,
    /// Wakes the pump.
    pub(super) nudge: Notify,
    /// Held while draining, so records are appended in one order only.
    pub(super) cursor: tokio::sync::Mutex<Cursor>,
    state: Mutex<State>,
}

#[derive(Debug)]
pub(super) struct State {
    /// Oldest first. The last one grows while `source` is set.
    pub(super) streams: Vec<Stream>,
    /// The real stream that feeds the last of `streams`; nothing while the table has none.
    pub(super) source: Option<String>,
    pub(super) hash_key: String,
    /// In whose name the real stream is read.
    pub(super) identity: HeaderMap,
    /// Greatest sequence number appended to any of `streams`.
    last: Sequence,
    last_label_ms: u64,
}

/// One stream, as `DescribeStream` shows it.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) arn: String,
    pub(super) label: String,
    pub(super) created_s: u64,
    pub(super) enabled: bool,
    pub(super) view_type: String,
    pub(super) key_schema: Box<RawValue>,
    pub(super) lineage: Lineage,
    readers: HashMap<String, Readers>,
}

impl Description {
    /// The real stream the table has now.
    fn source(&self) -> Option<(&str, &str)> {
        let specification = self.stream_specification.as_ref().filter(|stream| stream.stream_enabled)?;
        let view_type = specification.stream_view_type.as_deref().unwrap_or("NEW_AND_OLD_IMAGES");
        Some((self.latest_stream_arn.as_deref()?, view_type))
    }

    pub(super) fn is_streamed(&self) -> bool {
        self.source().is_some()
    }

    fn hash_key(&self) -> Option<String> {
        let keys: Vec<Key> = serde_json::from_str(self.key_schema.as_ref()?.get()).ok()?;
        keys.into_iter().find(|key| key.key_type == "HASH").map(|key| key.attribute_name)
    }
}

impl Table {
    pub(super) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            nudge: Notify::new(),
            cursor: tokio::sync::Mutex::default(),
            state: Mutex::new(State {
                streams: Vec::new(),
                source: None,
                hash_key: String::new(),
                identity: HeaderMap::new(),
                last: Sequence::FLOOR,
                last_label_ms: 0,
            }),
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Brings the table in line with what the real server says of it when `identity` asks.
    pub(super) fn adopt(&self, description: &Description, identity: HeaderMap, birth: Birth<'_>) {
        let mut state = self.state();
        let Some((source, view_type)) = description.source() else {
            state.disable(birth.now_ms);
            return;
        };
        if state.source.as_deref() == Some(source) {
            return;
        }
        state.disable(birth.now_ms);
        state.hash_key = description.hash_key().unwrap_or_default();
        state.source = Some(source.to_owned());
        state.identity = identity;
        let table_arn = description.table_arn.as_deref();
        let table_arn = table_arn.or_else(|| source.split_once("/stream/").map(|(table, _)| table));
        let table_arn = arn::in_region(table_arn.unwrap_or(source), birth.region);
        let key_schema = description.key_schema.clone().unwrap_or_default();
        state.begin(&table_arn, view_type.to_owned(), key_schema, birth);
        drop(state);
        self.nudge.notify_one();
    }
}

impl State {
    pub(super) fn stream(&mut self, arn: &str) -> Option<&mut Stream> {
        self.streams.iter_mut().find(|stream| stream.arn == arn)
    }

    /// The stream that grows, or grew last.
    pub(super) fn current(&mut self) -> Option<&mut Stream> {
        self.streams.last_mut()
    }

    /// Closes the current stream; it stays readable.
    pub(super) fn disable(&mut self, now_ms: u64) {
        self.source = None;
        if let Some(stream) = self.current().filter(|stream| stream.enabled) {
            stream.enabled = false;
            stream.lineage.close(now_ms);
        }
    }

    /// Puts a new stream in the place of the current one, though the real stream stays the same.
    /// Nothing when there is no stream that grows.
    pub(super) fn replace(&mut self, birth: Birth<'_>) -> Option<String> {
        let stream = self.current().filter(|stream| stream.enabled)?;
        stream.enabled = false;
        stream.lineage.close(birth.now_ms);
        let table_arn =
            stream.arn.split_once("/stream/").map_or_else(String::new, |(table, _)| table.to_owned());
        let (view_type, key_schema) = (stream.view_type.clone(), stream.key_schema.clone());
        Some(self.begin(&table_arn, view_type, key_schema, birth))
    }

    /// Appends a record unless it was appended before: a server may show a new stream the old one's records.
    pub(super) fn append(&mut self, record: lineage::Record) -> Result<(), lineage::Error> {
        if record.sequence <= self.last {
            return Ok(());
        }
        let sequence = record.sequence;
        if let Some(stream) = self.current() {
            stream.lineage.append(record)?;
            self.last = sequence;
        }
        Ok(())
    }

    fn begin(
        &mut self,
        table_arn: &str,
        view_type: String,
        key_schema: Box<RawValue>,
        birth: Birth<'_>,
    ) -> String {
        self.last_label_ms = birth.now_ms.max(self.last_label_ms + 1);
        let label = label(self.last_label_ms);
        let arn = format!("{table_arn}/stream/{label}");
        let mut lineage = Lineage::new(birth.shards, self.last, birth.now_ms, birth.rng);
        lineage.inconsistent = birth.inconsistent;
        self.streams.push(Stream {
            arn: arn.clone(),
            label,
            created_s: self.last_label_ms / 1000,
            enabled: true,
            view_type,
            key_schema,
            lineage,
            readers: HashMap::new(),
        });
        arn
    }
}

impl Stream {
    pub(super) fn saw_reader(&mut self, shard_id: &str, chain: u64) {
        match self.readers.get_mut(shard_id) {
            Some(readers) => readers.saw(chain),
            None => self.readers.entry(shard_id.to_owned()).or_default().saw(chain),
        }
    }

    pub(super) fn most_readers(&self) -> usize {
        self.readers.values().map(Readers::most_at_once).max().unwrap_or(0)
    }
}

/// A stream label: the time it was made, as the service writes it.
fn label(ms: u64) -> String {
    let time = i64::try_from(ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    time.unwrap_or_default().strftime("%Y-%m-%dT%H:%M:%S%.3f").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn description(source: Option<&str>) -> Description {
        let stream = source.map(|arn| {
            format!(
                r#","LatestStreamArn":"{arn}","StreamSpecification":{{"StreamEnabled":true,"StreamViewType":"NEW_IMAGE"}}"#
            )
        });
        let text = format!(
            r#"{{"TableName":"t","TableArn":"arn:aws:dynamodb:x:0:table/t","KeySchema":[{{"AttributeName":"sk","KeyType":"RANGE"}},{{"AttributeName":"pk","KeyType":"HASH"}}]{}}}"#,
            stream.unwrap_or_default()
        );
        serde_json::from_str(&text).expect("a description")
    }

    fn birth(now_ms: u64) -> Birth<'static> {
        let rng = fastrand::Rng::with_seed(1);
        Birth { region: "eu-west-1", now_ms, shards: 2, rng, inconsistent: false }
    }

    #[test]
    fn a_label_reads_as_the_service_writes_it() {
        assert_eq!(label(1_700_000_000_007), "2023-11-14T22:13:20.007");
    }

    #[test]
    fn a_new_source_closes_the_old_stream_and_begins_another() {
        let table = Table::new("t");
        table.adopt(&description(Some("arn:aws:dynamodb:x:0:table/t/stream/1")), HeaderMap::new(), birth(5));
        table.adopt(&description(Some("arn:aws:dynamodb:x:0:table/t/stream/1")), HeaderMap::new(), birth(6));
        assert_eq!(table.state().streams.len(), 1);
        assert_eq!(table.state().hash_key, "pk");
        table.adopt(&description(Some("arn:aws:dynamodb:x:0:table/t/stream/2")), HeaderMap::new(), birth(6));
        let state = table.state();
        let [old, new] = state.streams.as_slice() else { panic!("two streams") };
        assert!(!old.enabled && new.enabled);
        assert!(old.lineage.shards().all(|shard| !shard.is_open()));
        assert_eq!(new.arn, format!("arn:aws:dynamodb:eu-west-1:0:table/t/stream/{}", label(6)));
        assert_ne!(old.arn, new.arn);
    }

    #[test]
    fn a_table_without_a_stream_keeps_its_old_one_closed() {
        let table = Table::new("t");
        table.adopt(&description(Some("arn:aws:dynamodb:x:0:table/t/stream/1")), HeaderMap::new(), birth(5));
        table.adopt(&description(None), HeaderMap::new(), birth(6));
        let mut state = table.state();
        assert_eq!(state.source, None);
        assert!(state.current().is_some_and(|stream| !stream.enabled));
        assert_eq!(state.replace(birth(7)), None);
    }
}
