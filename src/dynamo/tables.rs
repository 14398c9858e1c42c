//! [`Tables`] over the SDK's client.

use std::pin::pin;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::operation::batch_get_item::BatchGetItemOutput;
use aws_sdk_dynamodb::operation::batch_write_item::BatchWriteItemOutput;
use aws_sdk_dynamodb::operation::delete_item::{DeleteItemError, DeleteItemOutput};
use aws_sdk_dynamodb::operation::put_item::{PutItemError, PutItemOutput};
use aws_sdk_dynamodb::operation::query::QueryOutput;
use aws_sdk_dynamodb::operation::scan::ScanOutput;
use aws_sdk_dynamodb::types::KeysAndAttributes;
use aws_smithy_runtime_api::client::interceptors::context::Output;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use bytes::Bytes;

use super::answer::Malformed;
use super::call::{Caller, unreadable};
use super::client::Limits;
use super::raw::Exchange;
use super::{
    Condition, Error, Fetched, Future, Guard, Guarded, Outcome, RowKey, Rows, Scan, Scanned, Table, Tables,
    Written, batch, guard, rows, schema,
};
use crate::change::{Change, Op};
use crate::fault::Fault;
use crate::item::{Attributes, Item};
use crate::key::Key;

/// Reads and writes tables through the SDK.
#[derive(Debug, Clone)]
pub struct SdkTables {
    pub(super) client: Client,
    pub(super) caller: Caller,
    pub(super) limits: Limits,
}

/// An operation's full name in a request's head.
macro_rules! target {
    ($operation:ident) => {
        concat!("DynamoDB_20120810.", stringify!($operation))
    };
}

const WRITE: &str = "BatchWriteItem";
const FETCH: &str = "BatchGetItem";
const SCAN: &str = "Scan";
const QUERY: &str = "Query";
const PUT: &str = "PutItem";
const DELETE: &str = "DeleteItem";

/// The code of the answer that a condition did not hold.
const CONDITION_FAILED: &str = "ConditionalCheckFailedException";

impl SdkTables {
    pub(super) fn new(client: Client, caller: Caller, limits: Limits) -> Self {
        Self { client, caller, limits }
    }

    async fn write_batch(&self, table: &str, changes: &[Change]) -> Result<Written, Error> {
        if changes.is_empty() {
            return Ok(Written::default());
        }
        let body = batch::write_body(table, changes);
        let empty = || Output::erase(BatchWriteItemOutput::builder().build());
        let exchange = Exchange::send(target!(BatchWriteItem), body, empty);
        // The typed input only tells the endpoint rules which table it is about; so in all calls below.
        let call = pin!(self.client.batch_write_item().request_items(table, Vec::new()).send());
        let body = self.caller.raw(WRITE, self.limits.write, exchange, call).await?;
        read(WRITE, batch::read_written(&body, changes))
    }

    async fn write_one(&self, table: &str, change: &Change, guard: &Guard) -> Result<Guarded, Error> {
        let body = guard.write_body(table, change);
        let operation = if matches!(change.op, Op::Put(_)) { PUT } else { DELETE };
        let body = body.map_err(|unexpected| Error {
            source: Some(Box::new(unexpected)),
            ..Error::new(operation, Fault::Invalid, format!("the item cannot carry a mark: {unexpected}"))
        })?;
        let done = match change.op {
            Op::Put(_) => self.send_put(table, body).await,
            Op::Delete => self.send_delete(table, body).await,
        };
        match done {
            Ok(body) => read(operation, guard::read_done(&body)),
            Err(error) if error.code.as_deref() == Some(CONDITION_FAILED) => {
                Ok(Guarded { is_stale: true, consumed_units: 0.0 })
            }
            Err(error) => Err(error),
        }
    }

    async fn fetch_batch(&self, table: &str, keys: &[Key]) -> Result<Fetched, Error> {
        if keys.is_empty() {
            return Ok(Fetched::default());
        }
        let body = batch::fetch_body(table, keys);
        let empty = || Output::erase(BatchGetItemOutput::builder().build());
        let exchange = Exchange::send(target!(BatchGetItem), body, empty);
        let none = KeysAndAttributes::builder().set_keys(Some(Vec::new())).build();
        let none = none.map_err(|error| Error::new(FETCH, Fault::Invalid, error.to_string()))?;
        let call = pin!(self.client.batch_get_item().request_items(table, none).send());
        let body = self.caller.raw(FETCH, self.limits.read, exchange, call).await?;
        read(FETCH, batch::read_fetched(&body, keys))
    }

    async fn scan_page(&self, table: &str, scan: Scan<'_>) -> Result<Scanned, Error> {
        let body = rows::scan_body(table, scan);
        let empty = || Output::erase(ScanOutput::builder().build());
        let exchange = Exchange::send(target!(Scan), body, empty);
        let call = pin!(self.client.scan().table_name(table).send());
        let body = self.caller.raw(SCAN, self.limits.read, exchange, call).await?;
        read(SCAN, rows::read_scanned(&body))
    }

    async fn query_page(
        &self,
        table: &str,
        partition: &str,
        prefix: &str,
        after: Option<&Item>,
    ) -> Result<Rows, Error> {
        let body = rows::query_body(table, partition, prefix, after);
        let empty = || Output::erase(QueryOutput::builder().build());
        let exchange = Exchange::send(target!(Query), body, empty);
        let call = pin!(self.client.query().table_name(table).send());
        let body = self.caller.raw(QUERY, self.limits.read, exchange, call).await?;
        read(QUERY, rows::read_rows(&body))
    }

    async fn put_row(&self, table: &str, row: &Attributes, condition: &Condition) -> Result<Outcome, Error> {
        let done = self.send_put(table, rows::put_body(table, row, condition)).await;
        outcome::<PutItemError>(done)
    }

    async fn delete_row(&self, table: &str, row: &RowKey, condition: &Condition) -> Result<Outcome, Error> {
        let done = self.send_delete(table, rows::delete_body(table, row, condition)).await;
        outcome::<DeleteItemError>(done)
    }

    async fn send_put(&self, table: &str, body: Vec<u8>) -> Result<Bytes, Error> {
        let empty = || Output::erase(PutItemOutput::builder().build());
        let exchange = Exchange::send(target!(PutItem), body, empty);
        let call = pin!(self.client.put_item().table_name(table).send());
        self.caller.raw(PUT, self.limits.write, exchange, call).await
    }

    async fn send_delete(&self, table: &str, body: Vec<u8>) -> Result<Bytes, Error> {
        let empty = || Output::erase(DeleteItemOutput::builder().build());
        let exchange = Exchange::send(target!(DeleteItem), body, empty);
        let call = pin!(self.client.delete_item().table_name(table).send());
        self.caller.raw(DELETE, self.limits.write, exchange, call).await
    }
}

impl Tables for SdkTables {
    fn describe<'a>(&'a self, table: &'a str) -> Future<'a, Table> {
        Box::pin(schema::describe(self, table))
    }

    fn write<'a>(&'a self, table: &'a str, changes: &'a [Change]) -> Future<'a, Written> {
        Box::pin(self.write_batch(table, changes))
    }

    fn write_guarded<'a>(
        &'a self,
        table: &'a str,
        change: &'a Change,
        guard: &'a Guard,
    ) -> Future<'a, Guarded> {
        Box::pin(self.write_one(table, change, guard))
    }

    fn fetch<'a>(&'a self, table: &'a str, keys: &'a [Key]) -> Future<'a, Fetched> {
        Box::pin(self.fetch_batch(table, keys))
    }

    fn scan<'a>(&'a self, table: &'a str, scan: Scan<'a>) -> Future<'a, Scanned> {
        Box::pin(self.scan_page(table, scan))
    }

    fn put<'a>(
        &'a self,
        table: &'a str,
        row: &'a Attributes,
        condition: &'a Condition,
    ) -> Future<'a, Outcome> {
        Box::pin(self.put_row(table, row, condition))
    }

    fn delete<'a>(
        &'a self,
        table: &'a str,
        row: &'a RowKey,
        condition: &'a Condition,
    ) -> Future<'a, Outcome> {
        Box::pin(self.delete_row(table, row, condition))
    }

    fn query<'a>(
        &'a self,
        table: &'a str,
        partition: &'a str,
        prefix: &'a str,
        after: Option<&'a Item>,
    ) -> Future<'a, Rows> {
        Box::pin(self.query_page(table, partition, prefix, after))
    }

    fn create<'a>(&'a self, table: &'a str) -> Future<'a, ()> {
        Box::pin(schema::create(self, table))
    }

    fn enable_stream<'a>(&'a self, table: &'a str) -> Future<'a, ()> {
        Box::pin(schema::enable_stream(self, table))
    }
}

fn read<T>(operation: &'static str, parsed: Result<T, Malformed>) -> Result<T, Error> {
    parsed.map_err(|malformed| unreadable(operation, malformed))
}

/// Tells a condition that did not hold from a failure.
fn outcome<E>(done: Result<Bytes, Error>) -> Result<Outcome, Error>
where
    E: std::error::Error + Send + Sync + 'static,
{
    let error = match done {
        Ok(_) => return Ok(Outcome::Done),
        Err(error) if error.code.as_deref() == Some(CONDITION_FAILED) => error,
        Err(error) => return Err(error),
    };
    let told = error.source.as_deref();
    let told = told.and_then(|source| source.downcast_ref::<SdkError<E, HttpResponse>>());
    let body = match told {
        Some(SdkError::ServiceError(context)) => context.raw().body().bytes().unwrap_or_default(),
        _ => return Err(error),
    };
    let row = match read(error.operation, rows::read_refused(body))? {
        Some(item) => Some(item.attributes().map_err(|malformed| Error {
            source: Some(Box::new(malformed)),
            ..Error::new(error.operation, Fault::Protocol, "the row that was there cannot be read")
        })?),
        None => None,
    };
    Ok(Outcome::Refused(row))
}
