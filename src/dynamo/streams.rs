//! [`Streams`] over the SDK's client.

use std::pin::pin;

use aws_sdk_dynamodbstreams::Client;
use aws_sdk_dynamodbstreams::operation::get_records::GetRecordsOutput;
use aws_sdk_dynamodbstreams::types::{
    ShardFilter, ShardFilterType, ShardIteratorType, StreamDescription, StreamStatus, StreamViewType,
};
use aws_smithy_runtime_api::client::interceptors::context::Output;
use aws_smithy_types::DateTime;

use super::call::{Caller, unreadable};
use super::client::Limits;
use super::raw::Exchange;
use super::{Describe, Error, Future, Iterator, Listing, Page, StreamArn, Streams, records};
use crate::fault::Fault;
use crate::record::View;
use crate::shard::{Position, Shard, ShardId};

/// Reads streams through the SDK.
#[derive(Debug, Clone)]
pub struct SdkStreams {
    client: Client,
    caller: Caller,
    limits: Limits,
}

const DESCRIBE: &str = "DescribeStream";
const ITERATOR: &str = "GetShardIterator";
const RECORDS: &str = "GetRecords";

impl SdkStreams {
    pub(super) fn new(client: Client, caller: Caller, limits: Limits) -> Self {
        Self { client, caller, limits }
    }

    async fn list(&self, stream: &StreamArn, what: &Describe, filtered: bool) -> Result<Listing, Error> {
        let filter = match &what.children_of {
            Some(parent) if filtered => Some(
                ShardFilter::builder().r#type(ShardFilterType::ChildShards).shard_id(parent.as_str()).build(),
            ),
            _ => None,
        };
        let call = pin!(
            self.client
                .describe_stream()
                .stream_arn(stream.as_str())
                .set_exclusive_start_shard_id(what.after.as_ref().map(ToString::to_string))
                .set_shard_filter(filter)
                .send()
        );
        let output = self.caller.typed(DESCRIBE, self.limits.read, call).await?;
        let description = output
            .stream_description
            .ok_or_else(|| Error::new(DESCRIBE, Fault::Protocol, "the answer holds no description"))?;
        let mut listing = read_listing(description);
        if let Some(parent) = &what.children_of {
            // Some endpoints accept the filter and list all shards.
            listing.shards.retain(|shard| shard.parent.as_ref() == Some(parent));
        }
        Ok(listing)
    }

    async fn get_iterator(
        &self,
        stream: &StreamArn,
        shard: &ShardId,
        position: &Position,
    ) -> Result<Iterator, Error> {
        let call = self.client.get_shard_iterator().stream_arn(stream.as_str()).shard_id(shard.as_str());
        let call = match position {
            Position::TrimHorizon => call.shard_iterator_type(ShardIteratorType::TrimHorizon),
            Position::Latest { .. } => call.shard_iterator_type(ShardIteratorType::Latest),
            Position::At { unix_ms } => call
                .shard_iterator_type(ShardIteratorType::AtTimestamp)
                .timestamp(DateTime::from_millis(*unix_ms)),
            Position::After(number) => call
                .shard_iterator_type(ShardIteratorType::AfterSequenceNumber)
                .sequence_number(number.as_str()),
            Position::End => {
                let message = "a shard has no iterator behind its end";
                return Err(Error::new(ITERATOR, Fault::Invalid, message));
            }
        };
        let output = self.caller.typed(ITERATOR, self.limits.read, pin!(call.send())).await;
        let output = output.map_err(|error| match position {
            Position::At { .. } => refused_time(error),
            _ => error,
        })?;
        output
            .shard_iterator
            .map(Iterator)
            .ok_or_else(|| Error::new(ITERATOR, Fault::Protocol, "the answer holds no iterator"))
    }

    async fn get_records(&self, iterator: &Iterator, limit: u32) -> Result<Page, Error> {
        let call = pin!(
            self.client
                .get_records()
                .shard_iterator(&iterator.0)
                .limit(i32::try_from(limit).unwrap_or(i32::MAX))
                .send()
        );
        let exchange = Exchange::keep(|| Output::erase(GetRecordsOutput::builder().build()));
        let body = self.caller.raw(RECORDS, self.limits.read, exchange, call).await?;
        let (records, next) = records::parse(&body).map_err(|malformed| unreadable(RECORDS, malformed))?;
        Ok(Page {
            // An empty page keeps nothing.
            bytes: if records.is_empty() { 0 } else { body.len() },
            records,
            next,
        })
    }
}

impl Streams for SdkStreams {
    fn describe<'a>(&'a self, stream: &'a StreamArn, what: &'a Describe) -> Future<'a, Listing> {
        Box::pin(async move {
            match self.list(stream, what, true).await {
                Err(error) if error.fault == Fault::Invalid && what.children_of.is_some() => {
                    self.list(stream, what, false).await
                }
                listed => listed,
            }
        })
    }

    fn iterator<'a>(
        &'a self,
        stream: &'a StreamArn,
        shard: &'a ShardId,
        position: &'a Position,
    ) -> Future<'a, Iterator> {
        Box::pin(self.get_iterator(stream, shard, position))
    }

    fn records<'a>(&'a self, iterator: &'a Iterator, limit: u32) -> Future<'a, Page> {
        Box::pin(self.get_records(iterator, limit))
    }
}

/// An endpoint that does not know iterators at a time answers that it failed, not that the request is wrong.
fn refused_time(mut error: Error) -> Error {
    if error.code.as_deref() == Some("InternalFailure") {
        error.fault = Fault::Invalid;
    }
    error
}

fn read_listing(description: StreamDescription) -> Listing {
    let enabled = matches!(description.stream_status, Some(StreamStatus::Enabled | StreamStatus::Enabling));
    let view = match description.stream_view_type {
        Some(StreamViewType::NewImage) => View::NewImage,
        Some(StreamViewType::NewAndOldImages) => View::NewAndOldImages,
        Some(StreamViewType::OldImage) => View::OldImage,
        // Whatever it carries, it carries keys.
        _ => View::KeysOnly,
    };
    let read_shard = |shard: aws_sdk_dynamodbstreams::types::Shard| {
        let range = shard.sequence_number_range;
        Some(Shard {
            id: shard.shard_id?.into(),
            parent: shard.parent_shard_id.map(ShardId::from),
            closed: range.is_some_and(|range| range.ending_sequence_number.is_some()),
        })
    };
    let shards = description.shards.unwrap_or_default();
    Listing {
        shards: shards.into_iter().filter_map(read_shard).collect(),
        next: description.last_evaluated_shard_id.map(ShardId::from),
        enabled,
        view,
    }
}
