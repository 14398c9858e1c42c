//! Two emulated regions with a source table in one and its replica in the other.

use std::sync::Arc;

use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType,
};
use dynamirror::control::Control;
use dynamirror::dynamo::{
    AccessKey, Client, Condition, Endpoint, Outcome, RowKey, SdkTables, Tables, connect,
};
use dynamirror::emulator::{Config, Emulator, Region};
use dynamirror::item::Value;
use dynamirror::lease::Leases;
use tokio::runtime::Runtime;

use super::program::{file, until};

const SOURCE: &str = "us-east-1";
const REPLICA: &str = "us-west-2";

/// The regions, and a thread to ask them from.
pub(super) struct Town {
    runtime: Runtime,
    emulator: Option<Emulator>,
    source: Client,
    replica: Client,
}

impl Town {
    /// Two regions without any table.
    pub(super) fn empty() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime");
        let config = Config {
            regions: vec![SOURCE.to_owned(), REPLICA.to_owned()],
            initial_shards: 2,
            ..Config::default()
        };
        let emulator = runtime.block_on(Emulator::start(config)).expect("it starts");
        let client = |region: &str| {
            let endpoint = Endpoint {
                endpoint_url: Some(emulator.region(region).endpoint()),
                access_key: Some(AccessKey { id: "local".to_owned(), secret: "local".to_owned() }),
                ..Endpoint::new(region)
            };
            runtime.block_on(connect(&endpoint))
        };
        Self { source: client(SOURCE), replica: client(REPLICA), emulator: Some(emulator), runtime }
    }

    /// Two regions with table `Orders` in both, and its stream on in the first.
    pub(super) fn with_tables() -> Self {
        let town = Self::empty();
        town.create_source_without_stream();
        town.create_replica();
        town.enable_stream();
        town
    }

    /// Switches the source's stream on.
    pub(super) fn enable_stream(&self) {
        let enabled = self.runtime.block_on(self.source.tables().enable_stream("Orders"));
        enabled.expect("it has a stream");
    }

    /// Creates the source table.
    pub(super) fn create_source_without_stream(&self) {
        let created = self.runtime.block_on(self.source.tables().create("Orders"));
        created.expect("created");
    }

    /// Creates the replica table.
    pub(super) fn create_replica(&self) {
        let created = self.runtime.block_on(self.replica.tables().create("Orders"));
        created.expect("created");
    }

    /// A configuration for it; `more` follows the settings of the replica.
    pub(super) fn config(&self, before: &str, more: &str) -> tempfile::TempPath {
        let (source, replica) = (self.region(SOURCE).endpoint(), self.region(REPLICA).endpoint());
        file(&format!(
            r#"{before}
[control]
table = "control"
region = "{SOURCE}"
endpoint_url = "{source}"
[lease]
duration = "6s"
checkpoint_interval = "200ms"
[[replications]]
name = "orders"
[replications.source]
table = "Orders"
region = "{SOURCE}"
endpoint_url = "{source}"
[replications.poll]
idle = "200ms"
[[replications.replicas]]
name = "west"
region = "{REPLICA}"
endpoint_url = "{replica}"
attempt_timeout = "1s"
{more}
"#
        ))
    }

    /// The source's region.
    pub(super) fn source_region(&self) -> &Region {
        self.region(SOURCE)
    }

    /// The replica's region.
    pub(super) fn replica_region(&self) -> &Region {
        self.region(REPLICA)
    }

    /// Writes an item to the source.
    pub(super) fn put(&self, sort: &str, text: &str) {
        let mut item = RowKey { partition: "p".to_owned(), sort: sort.to_owned() }.attributes();
        item.insert("text".to_owned(), Value::from(text));
        let tables = self.source.tables();
        let put = tables.put("Orders", &item, &Condition::Always);
        self.runtime.block_on(put).expect("written");
    }

    /// Writes an item to the replica alone.
    pub(super) fn put_in_replica(&self, sort: &str, text: &str) {
        let mut item = RowKey { partition: "p".to_owned(), sort: sort.to_owned() }.attributes();
        item.insert("text".to_owned(), Value::from(text));
        let tables = self.replica.tables();
        let put = tables.put("Orders", &item, &Condition::Always);
        self.runtime.block_on(put).expect("written");
    }

    /// Deletes an item of the replica alone.
    pub(super) fn delete_in_replica(&self, sort: &str) {
        let key = RowKey { partition: "p".to_owned(), sort: sort.to_owned() };
        let tables = self.replica.tables();
        self.runtime.block_on(tables.delete("Orders", &key, &Condition::Always)).expect("deleted");
    }

    /// Waits until the replica has an item.
    pub(super) fn arrived(&self, sort: &str) {
        let tables = self.replica.tables();
        until("an item in the replica", || {
            let rows = self.runtime.block_on(tables.query("Orders", "p", sort, None));
            (!rows.expect("read").rows.is_empty()).then_some(())
        });
    }

    /// Creates a table with one numeric key attribute in the replica's region.
    pub(super) fn create_with_other_key(&self, table: &str) {
        let config = aws_sdk_dynamodb::Config::builder()
            .behavior_version(aws_sdk_dynamodb::config::BehaviorVersion::latest())
            .region(aws_sdk_dynamodb::config::Region::new(REPLICA))
            .endpoint_url(self.region(REPLICA).endpoint())
            .credentials_provider(aws_sdk_dynamodb::config::Credentials::new(
                "local", "local", None, None, "test",
            ))
            .build();
        let definition = AttributeDefinition::builder()
            .attribute_name("id")
            .attribute_type(ScalarAttributeType::N)
            .build();
        let element = KeySchemaElement::builder().attribute_name("id").key_type(KeyType::Hash).build();
        let create = aws_sdk_dynamodb::Client::from_conf(config)
            .create_table()
            .table_name(table)
            .billing_mode(BillingMode::PayPerRequest)
            .attribute_definitions(definition.expect("complete"))
            .key_schema(element.expect("complete"))
            .send();
        self.runtime.block_on(create).expect("created");
    }

    /// Creates the control table and marks it with a layout of the future.
    pub(super) fn create_newer_control(&self) {
        let control = self.control();
        let key = RowKey { partition: "#dynamirror".to_owned(), sort: "layout".to_owned() };
        let mut row = key.attributes();
        row.insert("version".to_owned(), Value::integer(2));
        self.runtime.block_on(async {
            self.source_tables().create("control").await.expect("created");
            let put = control.put(&row, &Condition::Always).await.expect("written");
            assert_eq!(put, Outcome::Done);
        });
    }

    /// Who holds the shards.
    pub(super) fn owners(&self) -> Vec<Option<String>> {
        let rows = self.runtime.block_on(Leases::new(self.control(), "orders", "test").load());
        rows.expect("read").into_iter().map(|row| row.owner).collect()
    }

    /// The source region's tables.
    pub(super) fn source_tables(&self) -> SdkTables {
        self.source.tables()
    }

    /// Whether a table is in the source's region.
    pub(super) fn has_table(&self, table: &str) -> bool {
        self.runtime.block_on(self.source_tables().describe(table)).is_ok()
    }

    /// Whether a table is in the replica's region.
    pub(super) fn replica_has_table(&self, table: &str) -> bool {
        self.runtime.block_on(self.replica.tables().describe(table)).is_ok()
    }

    fn control(&self) -> Control {
        Control::new(Arc::new(self.source_tables()), "control")
    }

    fn region(&self, name: &str) -> &Region {
        let emulator = self.emulator.as_ref().expect("it runs as long as this");
        emulator.region(name)
    }
}

impl Drop for Town {
    fn drop(&mut self) {
        if let Some(emulator) = self.emulator.take() {
            self.runtime.block_on(emulator.stop());
        }
    }
}
