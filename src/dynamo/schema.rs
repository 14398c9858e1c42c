//! Tables themselves: describing them, creating one of ours, switching a stream on.

use std::pin::pin;
use std::time::Duration;

use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType, StreamSpecification,
    StreamViewType, TableDescription, TableStatus, TimeToLiveSpecification,
};
use tokio::time::Instant;

use super::tables::SdkTables;
use super::{Error, KeyAttribute, StreamArn, Table, TableStream};
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
    let definitions = description.attribute_definitions.unwrap_or_default();
    let mut schema = description.key_schema.unwrap_or_default();
    schema.sort_by_key(|element| element.key_type == KeyType::Range);
    let kind = |name: &str| {
        let definition = definitions.iter().find(|definition| definition.attribute_name == name);
        definition.map_or("", |definition| definition.attribute_type.as_str())
    };
    let key = schema.iter().map(|element| KeyAttribute {
        name: element.attribute_name.clone(),
        kind: kind(&element.attribute_name).to_owned(),
    });
    Table {
        key: key.collect(),
        arn: description.table_arn.unwrap_or_default(),
        usable,
        stream,
        items: u64::try_from(description.item_count.unwrap_or_default()).unwrap_or_default(),
    }
}
