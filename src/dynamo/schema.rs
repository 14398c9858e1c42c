//! Tables themselves: describing them, creating one of ours, switching a stream on.

use std::pin::pin;
use std::time::Duration;

use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, KeySchemaElement, KeyType, OnDemandThroughput,
    ProvisionedThroughputDescription, ScalarAttributeType, StreamSpecification, StreamViewType,
    TableDescription, TableStatus, TimeToLiveSpecification,
};
use tokio::time::Instant;

use super::tables::SdkTables;
use super::{Error, IndexKey, KeyAttribute, StreamArn, Table, TableStream};
use crate::backoff::Backoff;
use crate::fault::Fault;
use crate::record::View;

const CREATE: &str = "CreateTable";
const DESCRIBE: &str = "DescribeTable";
const UPDATE: &str = "UpdateTable";
const EXPIRE: &str = "UpdateTimeToLive";

/// How long a new table or stream may take to be ready. Seconds are usual; a table with a large backlog of
/// changes to its schema may take minutes.
const READY_WITHIN: Duration = Duration::from_secs(300);

/// The attribute by which rows of our tables expire.
const EXPIRES_AT: &str = "expires_at";

pub(super) async fn describe(tables: &SdkTables, table: &str) -> Result<Table, Error> {
    let description = fetch(tables, table).await?;
    Ok(read_table(description))
}

pub(super) async fn create(tables: &SdkTables, table: &str) -> Result<(), Error> {
    let call = pin!(
        tables
            .client
            .create_table()
            .table_name(table)
            .billing_mode(BillingMode::PayPerRequest)
            .set_attribute_definitions(Some(vec![definition("pk")?, definition("sk")?]))
            .set_key_schema(Some(vec![element("pk", KeyType::Hash)?, element("sk", KeyType::Range)?,]))
            .send()
    );
    match tables.caller.typed(CREATE, tables.limits.read, call).await {
        Ok(_) => {
            wait_until(tables, table, is_active).await?;
            expire_rows(tables, table).await;
            Ok(())
        }
        Err(error) if error.fault == Fault::Conflict => wait_until(tables, table, is_usable).await,
        Err(error) => Err(error),
    }
}

pub(super) async fn enable_stream(tables: &SdkTables, table: &str) -> Result<(), Error> {
    match describe(tables, table).await?.stream {
        Some(stream) if stream.enabled && stream.view == View::NewAndOldImages => return Ok(()),
        Some(stream) if stream.enabled => {
            let message = format!(
                "the stream {} is on with the view {:?}, which can only be changed by switching it off",
                stream.arn, stream.view
            );
            return Err(Error::new(UPDATE, Fault::Invalid, message));
        }
        _ => {}
    }
    let specification = StreamSpecification::builder()
        .stream_enabled(true)
        .stream_view_type(StreamViewType::NewAndOldImages)
        .build()
        .map_err(|error| Error::new(UPDATE, Fault::Invalid, error.to_string()))?;
    let call =
        pin!(tables.client.update_table().table_name(table).stream_specification(specification).send());
    tables.caller.typed(UPDATE, tables.limits.read, call).await?;
    wait_until(tables, table, has_stream).await
}

async fn fetch(tables: &SdkTables, table: &str) -> Result<TableDescription, Error> {
    let call = pin!(tables.client.describe_table().table_name(table).send());
    let output = tables.caller.typed(DESCRIBE, tables.limits.read, call).await?;
    output.table.ok_or_else(|| Error::new(DESCRIBE, Fault::Protocol, "the answer holds no description"))
}

async fn wait_until(
    tables: &SdkTables,
    table: &str,
    ready: fn(&TableDescription) -> bool,
) -> Result<(), Error> {
    let started = Instant::now();
    let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(2));
    loop {
        match fetch(tables, table).await {
            Ok(description) if ready(&description) => return Ok(()),
            // Descriptions are eventually consistent: a new table may not be known everywhere.
            Ok(_) => {}
            Err(error) if error.fault == Fault::Missing => {}
            Err(error) => return Err(error),
        }
        if started.elapsed() > READY_WITHIN {
            let message = format!("{table} is not ready after {READY_WITHIN:?}");
            return Err(Error::new(DESCRIBE, Fault::Transient, message));
        }
        tokio::time::sleep(backoff.pause()).await;
    }
}

/// Lets the rows of a table of ours expire. They do no harm if they stay, so a refusal is only told.
async fn expire_rows(tables: &SdkTables, table: &str) {
    let specification = TimeToLiveSpecification::builder().attribute_name(EXPIRES_AT).enabled(true).build();
    let specification = match specification {
        Ok(specification) => specification,
        Err(error) => return tracing::warn!(table, error = %error, "rows will not expire"),
    };
    let call = pin!(
        tables
            .client
            .update_time_to_live()
            .table_name(table)
            .time_to_live_specification(specification)
            .send()
    );
    if let Err(error) = tables.caller.typed(EXPIRE, tables.limits.read, call).await {
        tracing::warn!(table, error = %error, "rows will not expire");
    }
}

fn definition(name: &str) -> Result<AttributeDefinition, Error> {
    AttributeDefinition::builder()
        .attribute_name(name)
        .attribute_type(ScalarAttributeType::S)
        .build()
        .map_err(|error| Error::new(CREATE, Fault::Invalid, error.to_string()))
}

fn element(name: &str, kind: KeyType) -> Result<KeySchemaElement, Error> {
    KeySchemaElement::builder()
        .attribute_name(name)
        .key_type(kind)
        .build()
        .map_err(|error| Error::new(CREATE, Fault::Invalid, error.to_string()))
}

fn is_active(description: &TableDescription) -> bool {
    description.table_status == Some(TableStatus::Active)
}

fn is_usable(description: &TableDescription) -> bool {
    matches!(description.table_status, Some(TableStatus::Active | TableStatus::Updating))
}

fn has_stream(description: &TableDescription) -> bool {
    is_active(description) && read_stream(description).is_some_and(|stream| stream.enabled)
}

fn read_stream(description: &TableDescription) -> Option<TableStream> {
    let arn = description.latest_stream_arn.as_deref()?;
    let specification = description.stream_specification.as_ref();
    let view = match specification.and_then(|specification| specification.stream_view_type.as_ref()) {
        Some(StreamViewType::NewImage) => View::NewImage,
        Some(StreamViewType::NewAndOldImages) => View::NewAndOldImages,
        Some(StreamViewType::OldImage) => View::OldImage,
        _ => View::KeysOnly,
    };
    Some(TableStream {
        arn: StreamArn::from(arn),
        view,
        enabled: specification.is_some_and(|specification| specification.stream_enabled),
    })
}

fn read_table(description: TableDescription) -> Table {
    let stream = read_stream(&description);
    let usable = is_usable(&description);
    let index_keys = read_indexes(&description);
    let on_demand = description.on_demand_throughput.as_ref();
    let on_demand = |max: fn(&OnDemandThroughput) -> Option<i64>| {
        // -1 stands for no limit.
        on_demand.and_then(max).and_then(|units| u64::try_from(units).ok())
    };
    Table {
        key: read_key(&description, description.key_schema.as_deref()),
        usable,
        stream,
        items: count(description.item_count),
        bytes: count(description.table_size_bytes),
        index_keys,
        provisioned: description.provisioned_throughput.as_ref().and_then(read_provisioned),
        on_demand_max: (
            on_demand(|max| max.max_read_request_units),
            on_demand(|max| max.max_write_request_units),
        ),
        arn: description.table_arn.unwrap_or_default(),
    }
}

fn read_key(description: &TableDescription, schema: Option<&[KeySchemaElement]>) -> Vec<KeyAttribute> {
    let mut schema: Vec<_> = schema.unwrap_or_default().iter().collect();
    schema.sort_by_key(|element| element.key_type == KeyType::Range);
    let definitions = description.attribute_definitions.as_deref().unwrap_or_default();
    let kind = |name: &str| {
        let definition = definitions.iter().find(|definition| definition.attribute_name == name);
        definition.map_or("", |definition| definition.attribute_type.as_str())
    };
    let key = schema.iter().map(|element| KeyAttribute {
        name: element.attribute_name.clone(),
        kind: kind(&element.attribute_name).to_owned(),
    });
    key.collect()
}

fn read_indexes(description: &TableDescription) -> Vec<IndexKey> {
    let read = |name: Option<&str>, schema: Option<&[KeySchemaElement]>| IndexKey {
        index: name.unwrap_or_default().to_owned(),
        key: read_key(description, schema),
    };
    let global = description.global_secondary_indexes.as_deref().unwrap_or_default();
    let local = description.local_secondary_indexes.as_deref().unwrap_or_default();
    let global = global.iter().map(|index| read(index.index_name.as_deref(), index.key_schema.as_deref()));
    let local = local.iter().map(|index| read(index.index_name.as_deref(), index.key_schema.as_deref()));
    global.chain(local).collect()
}

/// A table on demand is described as provisioned for 0 units.
fn read_provisioned(throughput: &ProvisionedThroughputDescription) -> Option<(u64, u64)> {
    let units = (count(throughput.read_capacity_units), count(throughput.write_capacity_units));
    (units != (0, 0)).then_some(units)
}

fn count(told: Option<i64>) -> u64 {
    told.and_then(|told| u64::try_from(told).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use aws_sdk_dynamodb::types::{GlobalSecondaryIndexDescription, LocalSecondaryIndexDescription};

    use super::*;

    fn attribute(name: &str, kind: ScalarAttributeType) -> AttributeDefinition {
        let attribute = AttributeDefinition::builder().attribute_name(name).attribute_type(kind);
        attribute.build().expect("a definition")
    }

    fn key(names: &[(&str, KeyType)]) -> Vec<KeySchemaElement> {
        names.iter().map(|(name, kind)| element(name, kind.clone()).expect("an element")).collect()
    }

    fn provisioned(units: i64) -> ProvisionedThroughputDescription {
        ProvisionedThroughputDescription::builder()
            .read_capacity_units(units)
            .write_capacity_units(2 * units)
            .build()
    }

    #[test]
    fn a_description_tells_keys_of_indexes_and_limits() {
        let global = GlobalSecondaryIndexDescription::builder()
            .index_name("by-time")
            .set_key_schema(Some(key(&[("at", KeyType::Range), ("zone", KeyType::Hash)])));
        let local = LocalSecondaryIndexDescription::builder()
            .index_name("by-size")
            .set_key_schema(Some(key(&[("pk", KeyType::Hash), ("size", KeyType::Range)])));
        let description = TableDescription::builder()
            .attribute_definitions(attribute("pk", ScalarAttributeType::S))
            .attribute_definitions(attribute("zone", ScalarAttributeType::B))
            .attribute_definitions(attribute("at", ScalarAttributeType::N))
            .attribute_definitions(attribute("size", ScalarAttributeType::N))
            .set_key_schema(Some(key(&[("pk", KeyType::Hash)])))
            .global_secondary_indexes(global.build())
            .local_secondary_indexes(local.build())
            .provisioned_throughput(provisioned(5))
            .table_size_bytes(1 << 40)
            .build();
        let table = read_table(description);
        let named = |index: &IndexKey| {
            let key = index.key.iter().map(|part| format!("{}:{}", part.name, part.kind));
            (index.index.clone(), key.collect::<Vec<_>>().join(" "))
        };
        let expected = [("by-time", "zone:B at:N"), ("by-size", "pk:S size:N")];
        let expected = expected.map(|(index, key)| (index.to_owned(), key.to_owned()));
        assert_eq!(table.index_keys.iter().map(named).collect::<Vec<_>>(), expected);
        assert_eq!((table.bytes, table.provisioned), (1 << 40, Some((5, 10))));
    }

    #[test]
    fn a_table_on_demand_is_provisioned_for_nothing() {
        let max =
            OnDemandThroughput::builder().max_read_request_units(-1).max_write_request_units(40).build();
        let description = TableDescription::builder()
            .provisioned_throughput(provisioned(0))
            .on_demand_throughput(max)
            .build();
        let table = read_table(description);
        assert_eq!((table.provisioned, table.on_demand_max), (None, (None, Some(40))));
    }
}
