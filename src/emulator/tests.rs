//! The emulator as the real AWS clients see it.

mod faults;
mod reading;
mod running;
mod shards;
mod tables;

use super::*;
use aws_sdk_dynamodb::{
    Client as Tables,
    config::{BehaviorVersion, Credentials, retry::RetryConfig},
    types::{
        AttributeDefinition, AttributeValue, BillingMode, KeySchemaElement, KeyType, PutRequest,
        ScalarAttributeType, StreamSpecification, StreamViewType, WriteRequest,
    },
};
use aws_sdk_dynamodbstreams::{
    Client as Streams,
    types::{Record, Shard, ShardIteratorType},
};
use std::collections::{HashMap, HashSet};

const REGION: &str = "eu-west-1";
const TABLE: &str = "orders";

/// An emulator with one region and one streamed table, and clients that do not retry.
struct Bench {
    emulator: Emulator,
    tables: Tables,
    streams: Streams,
    arn: String,
}

impl Bench {
    async fn start(config: Config) -> Self {
        let emulator = Emulator::start(config).await.expect("the emulator starts");
        let (tables, streams) = clients(emulator.region(REGION));
        create_table(&tables, TABLE).await;
        let arn = stream_arn(&tables, TABLE).await.expect("the table is streamed");
        Self { emulator, tables, streams, arn }
    }

    fn region(&self) -> &Region {
        self.emulator.region(REGION)
    }

    async fn put(&self, key: &str, value: usize) {
        self.tables
            .put_item()
            .table_name(TABLE)
            .item("pk", AttributeValue::S(key.to_owned()))
            .item("value", AttributeValue::N(value.to_string()))
            .send()
            .await
            .expect("the item is put");
    }

    /// Writes `values` over `keys` keys, 25 items a call.
    async fn put_many(&self, values: std::ops::Range<usize>, keys: usize) {
        let values: Vec<usize> = values.collect();
        for batch in values.chunks(25.min(keys)) {
            let items = batch.iter().map(|value| (format!("key-{:04}", value % keys), *value));
            let written = write_batch(&self.tables, items).await.expect("the batch is written");
            assert!(written.is_empty(), "nothing comes back");
        }
    }

    async fn describe(&self) -> Vec<Shard> {
        describe(&self.streams, &self.arn).await
    }

    async fn iterator(&self, shard_id: &str, kind: ShardIteratorType, sequence: Option<&str>) -> String {
        let request = self.streams.get_shard_iterator().stream_arn(&self.arn).shard_id(shard_id);
        let request = request.shard_iterator_type(kind).set_sequence_number(sequence.map(str::to_owned));
        let answer = request.send().await.expect("an iterator");
        answer.shard_iterator.expect("an iterator")
    }

    /// Everything in a shard from its horizon on; an open one until an empty page.
    async fn read(&self, shard_id: &str) -> Vec<Record> {
        read(&self.streams, &self.arn, shard_id).await
    }

    /// Everything in the stream, parents before children.
    async fn walk(&self) -> Vec<Record> {
        walk(&self.streams, &self.arn).await
    }
}

fn config() -> Config {
    Config { regions: vec![REGION.to_owned()], initial_shards: 1, seed: 11, ..Config::default() }
}

fn clients(region: &Region) -> (Tables, Streams) {
    let credentials = Credentials::new("key", "secret", None, None, "test");
    let name = region.name().to_owned();
    let tables = aws_sdk_dynamodb::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(aws_sdk_dynamodb::config::Region::new(name.clone()))
        .credentials_provider(credentials.clone())
        .endpoint_url(region.endpoint())
        .retry_config(RetryConfig::disabled())
        .build();
    let streams = aws_sdk_dynamodbstreams::Config::builder()
        .behavior_version(aws_sdk_dynamodbstreams::config::BehaviorVersion::latest())
        .region(aws_sdk_dynamodbstreams::config::Region::new(name))
        .credentials_provider(credentials)
        .endpoint_url(region.endpoint())
        .retry_config(aws_sdk_dynamodbstreams::config::retry::RetryConfig::disabled())
        .build();
    (Tables::from_conf(tables), Streams::from_conf(streams))
}

async fn create_table(tables: &Tables, name: &str) {
    let key = KeySchemaElement::builder().attribute_name("pk").key_type(KeyType::Hash).build();
    let attribute =
        AttributeDefinition::builder().attribute_name("pk").attribute_type(ScalarAttributeType::S).build();
    tables
        .create_table()
        .table_name(name)
        .key_schema(key.expect("a key"))
        .attribute_definitions(attribute.expect("an attribute"))
        .billing_mode(BillingMode::PayPerRequest)
        .stream_specification(stream_specification(true))
        .send()
        .await
        .expect("the table is created");
}

fn stream_specification(enabled: bool) -> StreamSpecification {
    let specification = StreamSpecification::builder().stream_enabled(enabled);
    let view = Some(StreamViewType::NewAndOldImages).filter(|_| enabled);
    specification.set_stream_view_type(view).build().expect("a specification")
}

async fn stream_arn(tables: &Tables, name: &str) -> Option<String> {
    let described = tables.describe_table().table_name(name).send().await.expect("the table is described");
    described.table.expect("a table").latest_stream_arn
}

/// Writes one batch; gives what came back unprocessed.
async fn write_batch(
    tables: &Tables,
    items: impl Iterator<Item = (String, usize)>,
) -> Result<Vec<WriteRequest>, aws_sdk_dynamodb::Error> {
    let requests = items.map(|(key, value)| {
        let put = PutRequest::builder()
            .item("pk", AttributeValue::S(key))
            .item("value", AttributeValue::N(value.to_string()));
        WriteRequest::builder().put_request(put.build().expect("an item")).build()
    });
    let answer = tables.batch_write_item().request_items(TABLE, requests.collect()).send().await?;
    Ok(answer.unprocessed_items.unwrap_or_default().remove(TABLE).unwrap_or_default())
}

async fn describe(streams: &Streams, arn: &str) -> Vec<Shard> {
    let mut shards = Vec::new();
    let mut start = None;
    loop {
        let request = streams.describe_stream().stream_arn(arn).set_exclusive_start_shard_id(start);
        let answer = request.send().await.expect("the stream is described");
        let description = answer.stream_description.expect("a description");
        shards.extend(description.shards.unwrap_or_default());
        start = description.last_evaluated_shard_id;
        if start.is_none() {
            return shards;
        }
    }
}

async fn read(streams: &Streams, arn: &str, shard_id: &str) -> Vec<Record> {
    let kind = ShardIteratorType::TrimHorizon;
    let begun = streams.get_shard_iterator().stream_arn(arn).shard_id(shard_id).shard_iterator_type(kind);
    let mut iterator = begun.send().await.expect("an iterator").shard_iterator;
    let mut records = Vec::new();
    while let Some(current) = iterator {
        let page = streams.get_records().shard_iterator(current).send().await.expect("a page");
        let page_records = page.records.unwrap_or_default();
        let empty = page_records.is_empty();
        records.extend(page_records);
        iterator = page.next_shard_iterator.filter(|_| !empty);
    }
    records
}

async fn walk(streams: &Streams, arn: &str) -> Vec<Record> {
    let mut waiting = describe(streams, arn).await;
    let known: HashSet<String> = waiting.iter().filter_map(|shard| shard.shard_id.clone()).collect();
    let mut done = HashSet::new();
    let mut records = Vec::new();
    while !waiting.is_empty() {
        let ready = waiting.iter().position(|shard| {
            shard
                .parent_shard_id
                .as_ref()
                .is_none_or(|parent| !known.contains(parent) || done.contains(parent))
        });
        let shard = waiting.swap_remove(ready.expect("lineage has no cycle"));
        let id = shard.shard_id.expect("an id");
        records.extend(read(streams, arn, &id).await);
        done.insert(id);
    }
    records
}

fn key_of(record: &Record) -> String {
    let keys = record.dynamodb.as_ref().and_then(|change| change.keys.as_ref()).expect("keys");
    keys["pk"].as_s().expect("a text key").clone()
}

fn value_of(record: &Record) -> usize {
    let image = record.dynamodb.as_ref().and_then(|change| change.new_image.as_ref()).expect("a new image");
    image["value"].as_n().expect("a number").parse().expect("a number")
}

fn sequence_of(record: &Record) -> String {
    record.dynamodb.as_ref().and_then(|change| change.sequence_number.clone()).expect("a sequence number")
}

/// Asserts that `records` hold each value below `count` once, and each key's values in order.
fn assert_complete(records: &[Record], count: usize) {
    let mut latest = HashMap::new();
    let mut values = HashSet::new();
    for record in records {
        let (key, value) = (key_of(record), value_of(record));
        let before = latest.insert(key.clone(), value);
        assert!(before < Some(value), "{key} went from {before:?} to {value}");
        assert!(values.insert(value), "{value} came twice");
    }
    assert_eq!(values.len(), count, "records are missing");
}
