//! Draws a table's real stream into its virtual shards.
//!
//! One task per streamed table waits for a nudge (every write that passes gives one) or for the poll, and reads
//! pages. Whoever needs the boundary to be exact (a split, a LATEST iterator) drains everything first; both go
//! through the table's cursor lock, so records are appended in the real server's order and once.

use super::{
    record::{self, Page},
    table::Table,
    upstream::{self, Upstream},
};
use hyper::HeaderMap;
use serde::Deserialize;
use std::{sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;

/// How long the pump lets writes gather after a nudge: it bounds the calls under load to 200 a second, and is
/// well below what the real service takes to show a write in its stream.
const GATHER: Duration = Duration::from_millis(5);

/// A page this full suggests that more waits behind it.
const FULL_PAGE: usize = 500;

const PREFIX: &str = "DynamoDBStreams_20120810";

/// Where draining stands.
#[derive(Debug, Default)]
pub(super) struct Cursor {
    /// The real stream the rest belongs to.
    source: String,
    shard_id: String,
    next: Option<String>,
    last: Option<String>,
    ended: bool,
}

/// How far to drain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Extent {
    /// Until an answer is empty: all writes that were answered before are in.
    Everything,
    /// Until an answer is not full; the next nudge brings the rest.
    Backlog,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("ask the server behind the emulator")]
    Upstream(#[from] upstream::Error),
    #[error("read the stream of the server behind the emulator")]
    Answer(#[from] serde_json::Error),
    #[error("take over a stream record")]
    Record(#[from] record::Error),
    #[error("put a stream record into a shard")]
    Shard(#[from] super::lineage::Error),
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Described {
    stream_description: Shards,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Shards {
    #[serde(default)]
    shards: Vec<Shard>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Shard {
    shard_id: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Begun {
    shard_iterator: Option<String>,
}

/// What the drain needs of its surroundings.
#[derive(Debug, Clone)]
pub(super) struct Pump {
    pub(super) table: Arc<Table>,
    pub(super) upstream: Upstream,
    pub(super) region: Arc<str>,
    pub(super) clock: super::clock::Clock,
}

impl Pump {
    /// Runs until the token is cancelled. `poll` bounds the wait for writes that did not pass through here.
    pub(super) async fn run(self, poll: Duration, stop: CancellationToken) {
        while !stop.is_cancelled() {
            if let Err(error) = self.drain(Extent::Backlog).await
                && !stop.is_cancelled()
            {
                tracing::warn!(table = %self.table.name, error = %error, "stream not drained");
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.table.nudge.notified() => tokio::time::sleep(GATHER).await,
                () = tokio::time::sleep(poll) => {}
            }
        }
    }

    /// Moves records from the real stream into the table's current stream.
    pub(super) async fn drain(&self, extent: Extent) -> Result<(), Error> {
        let mut cursor = self.table.cursor.lock().await;
        let (source, identity) = {
            let state = self.table.state();
            let Some(source) = state.source.clone() else {
                return Ok(());
            };
            (source, state.identity.clone())
        };
        if cursor.source != source {
            *cursor = Cursor { source, ..Cursor::default() };
        }
        while !cursor.ended {
            let drained = match self.page(&mut cursor, &identity).await {
                Err(Error::Upstream(upstream::Error::Refused { code, .. })) if is_stale(&code) => continue,
                drained => drained?,
            };
            if drained == 0 || (extent == Extent::Backlog && drained < FULL_PAGE) {
                break;
            }
        }
        Ok(())
    }

    async fn page(&self, cursor: &mut Cursor, identity: &HeaderMap) -> Result<usize, Error> {
        let iterator = match cursor.next.take() {
            Some(iterator) => iterator,
            None => self.begin(cursor, identity).await?,
        };
        let body = serde_json::json!({ "ShardIterator": iterator }).to_string();
        let answer = match self.upstream.call(PREFIX, "GetRecords", identity, body).await {
            Ok(answer) => answer,
            Err(error) => {
                // Anything but a refusal leaves the iterator good.
                if !matches!(error, upstream::Error::Refused { .. }) {
                    cursor.next = Some(iterator);
                }
                return Err(error.into());
            }
        };
        let page: Page<'_> = serde_json::from_slice(&answer)?;
        self.append(cursor, &page)?;
        cursor.ended = page.next_shard_iterator.is_none();
        cursor.next = page.next_shard_iterator.map(Into::into);
        Ok(page.records.len())
    }

    fn append(&self, cursor: &mut Cursor, page: &Page<'_>) -> Result<(), Error> {
        let hash_key = self.table.state().hash_key.clone();
        let now_ms = self.clock.now_ms();
        let mut ready = Vec::with_capacity(page.records.len());
        for incoming in &page.records {
            if !incoming.changes_nothing() {
                ready.push(incoming.repair(&self.region, &hash_key, now_ms)?);
            }
        }
        let mut state = self.table.state();
        for record in ready {
            state.append(record)?;
        }
        if let Some(incoming) = page.records.last() {
            cursor.last = Some(incoming.sequence()?.to_string());
        }
        Ok(())
    }

    /// An iterator that continues after the last record drained, or at the horizon.
    async fn begin(&self, cursor: &mut Cursor, identity: &HeaderMap) -> Result<String, Error> {
        let arn = &cursor.source;
        if cursor.shard_id.is_empty() {
            let body = serde_json::json!({ "StreamArn": arn }).to_string();
            let answer = self.upstream.call(PREFIX, "DescribeStream", identity, body).await?;
            let described: Described = serde_json::from_slice(&answer)?;
            let shard = described.stream_description.shards.into_iter().next();
            cursor.shard_id = shard.map(|shard| shard.shard_id).unwrap_or_default();
        }
        let mut body = serde_json::json!({ "StreamArn": arn, "ShardId": cursor.shard_id });
        match &cursor.last {
            Some(last) => {
                body["ShardIteratorType"] = "AFTER_SEQUENCE_NUMBER".into();
                body["SequenceNumber"] = last.as_str().into();
            }
            None => body["ShardIteratorType"] = "TRIM_HORIZON".into(),
        }
        let answer = self.upstream.call(PREFIX, "GetShardIterator", identity, body.to_string()).await?;
        let begun: Begun = serde_json::from_slice(&answer)?;
        Ok(begun.shard_iterator.unwrap_or_default())
    }
}

/// An iterator the real server gave that has outlived its time.
fn is_stale(code: &str) -> bool {
    code == "ExpiredIteratorException"
}
