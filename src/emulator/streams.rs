//! The four stream operations, answered from the virtual shards.

use super::{
    arn,
    iterator::Iterator,
    lineage::{self, Listed, Page, Start},
    pump::Extent,
    reply::Reply,
    sequence::Sequence,
    site::Site,
    table::{State, Stream, Table},
};
use serde::Deserialize;
use std::{borrow::Cow, fmt::Write as _, sync::Arc};

/// Most shards in one answer, and most records; API model.
const MAX_RECORDS: usize = 1000;

/// Shortest and longest sequence number a request may name; API model.
const SEQUENCE_CHARS: std::ops::RangeInclusive<usize> = 21..=40;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DescribeStream<'a> {
    #[serde(borrow)]
    stream_arn: Cow<'a, str>,
    limit: Option<i64>,
    #[serde(borrow)]
    exclusive_start_shard_id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    shard_filter: Option<ShardFilter<'a>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ShardFilter<'a> {
    #[serde(borrow)]
    r#type: Option<Cow<'a, str>>,
    #[serde(borrow)]
    shard_id: Option<Cow<'a, str>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct GetShardIterator<'a> {
    #[serde(borrow)]
    stream_arn: Cow<'a, str>,
    #[serde(borrow)]
    shard_id: Cow<'a, str>,
    #[serde(borrow)]
    shard_iterator_type: Cow<'a, str>,
    #[serde(borrow)]
    sequence_number: Option<Cow<'a, str>>,
    /// Seconds since the epoch.
    timestamp: Option<f64>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct GetRecords<'a> {
    #[serde(borrow)]
    shard_iterator: Cow<'a, str>,
    limit: Option<i64>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ListStreams<'a> {
    #[serde(borrow)]
    table_name: Option<Cow<'a, str>>,
    limit: Option<usize>,
    #[serde(borrow)]
    exclusive_start_stream_arn: Option<Cow<'a, str>>,
}

/// Answers a stream operation; nothing when it is none of the four.
pub(super) async fn answer(site: &Arc<Site>, operation: &str, body: &[u8]) -> Option<Reply> {
    let answered = match operation {
        "DescribeStream" => describe_stream(site, body).await,
        "GetShardIterator" => get_shard_iterator(site, body).await,
        "GetRecords" => get_records(site, body),
        "ListStreams" => list_streams(site, body).await,
        _ => return None,
    };
    Some(answered.unwrap_or_else(|refusal| *refusal))
}

type Answer = Result<Reply, Box<Reply>>;

fn parse<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Box<Reply>> {
    serde_json::from_slice(body)
        .map_err(|error| Box::new(Reply::refusal("SerializationException", &error.to_string())))
}

fn invalid(message: &str) -> Box<Reply> {
    Box::new(Reply::refusal("ValidationException", message))
}

fn unknown_stream(stream_arn: &str) -> Box<Reply> {
    let message = format!("Requested resource not found: Stream: {stream_arn} not found");
    Box::new(Reply::refusal("ResourceNotFoundException", &message))
}

fn refusal(error: lineage::Error) -> Box<Reply> {
    let (code, message) = match error {
        lineage::Error::Trimmed(shard) => (
            "TrimmedDataAccessException",
            format!("The operation attempted to read past the oldest stream record in shard {shard}"),
        ),
        lineage::Error::Beyond(shard) => {
            ("ValidationException", format!("Invalid SequenceNumber: not within shard {shard}"))
        }
        error => ("ResourceNotFoundException", format!("Requested resource not found: {error}")),
    };
    Box::new(Reply::refusal(code, &message))
}

/// Finds the table a stream ARN speaks of, asking the real server when it is not known yet.
async fn table_of(site: &Arc<Site>, stream_arn: &str) -> Result<Arc<Table>, Box<Reply>> {
    let name = arn::table_name(stream_arn);
    let table = match site.table(name) {
        Some(table) => Some(table),
        None => site.track(name).await.ok(),
    };
    table.ok_or_else(|| unknown_stream(stream_arn))
}

/// The stream, with its retention applied up to now.
fn stream_in<'s>(site: &Site, state: &'s mut State, stream_arn: &str) -> Result<&'s mut Stream, Box<Reply>> {
    let stream = state.stream(stream_arn).ok_or_else(|| unknown_stream(stream_arn))?;
    stream.lineage.expire(site.horizon_ms());
    Ok(stream)
}

async fn describe_stream(site: &Arc<Site>, body: &[u8]) -> Answer {
    let request: DescribeStream<'_> = parse(body)?;
    let page = site.config.describe_page;
    let limit = match request.limit {
        None => page,
        Some(limit) if limit < 1 => return Err(invalid("Limit must be greater than or equal to 1")),
        Some(limit) => usize::try_from(limit).unwrap_or(page).min(page),
    };
    let filter = request.shard_filter.filter(|_| site.config.child_shards_filter);
    if filter.as_ref().is_some_and(|filter| filter.r#type.as_deref() != Some("CHILD_SHARDS")) {
        return Err(invalid("ShardFilter.Type must be CHILD_SHARDS"));
    }
    let table = table_of(site, &request.stream_arn).await?;
    let mut state = table.state();
    let stream = stream_in(site, &mut state, &request.stream_arn)?;
    let listing = match filter {
        Some(filter) => stream.lineage.children(filter.shard_id.as_deref().unwrap_or_default()),
        None => stream.lineage.list(request.exclusive_start_shard_id.as_deref(), limit),
    };
    let shards: Vec<serde_json::Value> = listing.shards.iter().map(render_shard).collect();
    let mut description = serde_json::json!({
        "StreamArn": stream.arn,
        "StreamLabel": stream.label,
        "StreamStatus": if stream.enabled { "ENABLED" } else { "DISABLED" },
        "StreamViewType": stream.view_type,
        "CreationRequestDateTime": stream.created_s,
        "TableName": table.name,
        "KeySchema": stream.key_schema,
        "Shards": shards,
    });
    if let Some(last) = listing.last_evaluated {
        description["LastEvaluatedShardId"] = last.into();
    }
    Ok(Reply::json(serde_json::json!({ "StreamDescription": description }).to_string()))
}

fn render_shard(shard: &Listed) -> serde_json::Value {
    let mut range = serde_json::json!({ "StartingSequenceNumber": shard.starting.to_string() });
    if let Some(ending) = shard.ending {
        range["EndingSequenceNumber"] = ending.to_string().into();
    }
    let mut rendered = serde_json::json!({ "ShardId": shard.id, "SequenceNumberRange": range });
    if let Some(parent) = &shard.parent {
        rendered["ParentShardId"] = parent.as_str().into();
    }
    rendered
}

async fn get_shard_iterator(site: &Arc<Site>, body: &[u8]) -> Answer {
    let request: GetShardIterator<'_> = parse(body)?;
    let start = start_of(site, &request)?;
    let table = table_of(site, &request.stream_arn).await?;
    if matches!(start, Start::Latest | Start::AtTimestamp(_)) {
        // What was written before this request must count as earlier.
        if let Err(error) = site.pump(&table).drain(Extent::Everything).await {
            tracing::warn!(table = %table.name, error = %error, "stream not drained");
        }
    }
    let mut state = table.state();
    let stream = stream_in(site, &mut state, &request.stream_arn)?;
    let after_exclusive = stream.lineage.start(&request.shard_id, start).map_err(refusal)?;
    let iterator = Iterator {
        stream_arn: request.stream_arn.into_owned(),
        shard_id: request.shard_id.into_owned(),
        after_exclusive,
        issued_ms: site.clock.now_ms(),
        epoch: site.epoch(),
        chain: site.next_chain(),
    };
    Ok(Reply::json(serde_json::json!({ "ShardIterator": iterator.encode() }).to_string()))
}

fn start_of(site: &Site, request: &GetShardIterator<'_>) -> Result<Start, Box<Reply>> {
    let sequence = || {
        let text = request.sequence_number.as_deref();
        let text = text.ok_or_else(|| invalid("SequenceNumber must be given for this ShardIteratorType"))?;
        let sequence = Sequence::parse(text).filter(|_| SEQUENCE_CHARS.contains(&text.len()));
        sequence.ok_or_else(|| invalid("Invalid SequenceNumber"))
    };
    let start = match request.shard_iterator_type.as_ref() {
        "AT_SEQUENCE_NUMBER" => return Ok(Start::At(sequence()?)),
        "AFTER_SEQUENCE_NUMBER" => return Ok(Start::After(sequence()?)),
        "TRIM_HORIZON" => Start::TrimHorizon,
        "LATEST" => Start::Latest,
        "AT_TIMESTAMP" if site.config.at_timestamp => return at_timestamp(site, request.timestamp),
        other => return Err(invalid(&format!("Invalid ShardIteratorType: {other}"))),
    };
    if request.sequence_number.is_some() {
        return Err(invalid("SequenceNumber should not be passed for this iterator type"));
    }
    Ok(start)
}

fn at_timestamp(site: &Site, timestamp: Option<f64>) -> Result<Start, Box<Reply>> {
    let seconds = timestamp.ok_or_else(|| invalid("Timestamp must be given for AT_TIMESTAMP"))?;
    if seconds * 1000.0 > site.clock.now_ms() as f64 {
        return Err(invalid("Timestamp must not be in the future"));
    }
    // Creation times are whole seconds, so the first record at or after 1.5 s is one of second 2.
    Ok(Start::AtTimestamp(seconds.max(0.0).ceil() as u64))
}

fn get_records(site: &Arc<Site>, body: &[u8]) -> Answer {
    let request: GetRecords<'_> = parse(body)?;
    let limit = match request.limit {
        None => MAX_RECORDS,
        Some(limit) if limit < 1 => return Err(invalid("Limit must be greater than or equal to 1")),
        Some(limit) => usize::try_from(limit).unwrap_or(usize::MAX),
    };
    if limit > MAX_RECORDS {
        let message = "Limit must be less than or equal to 1000";
        return Err(Box::new(Reply::refusal("LimitExceededException", message)));
    }
    let iterator =
        Iterator::decode(&request.shard_iterator).ok_or_else(|| invalid("Invalid ShardIterator"))?;
    let now_ms = site.clock.now_ms();
    let expires_ms = iterator.issued_ms + super::clock::millis(site.config.iterator_lifetime);
    if iterator.epoch != site.epoch() || now_ms > expires_ms {
        let message = "The shard iterator has expired and can no longer be used";
        return Err(Box::new(Reply::refusal("ExpiredIteratorException", message)));
    }
    let page = page_of(site, &iterator, limit.min(site.config.page_records))?;
    let next = page
        .next_after_exclusive
        .map(|after_exclusive| Iterator { after_exclusive, issued_ms: now_ms, ..iterator }.encode());
    Ok(Reply::json(render_page(&page, next.as_deref())))
}

fn page_of(site: &Site, iterator: &Iterator, limit: usize) -> Result<Page, Box<Reply>> {
    let unknown = || unknown_stream(&iterator.stream_arn);
    let table = site.table(arn::table_name(&iterator.stream_arn)).ok_or_else(unknown)?;
    let mut state = table.state();
    let stream = stream_in(site, &mut state, &iterator.stream_arn)?;
    stream.saw_reader(&iterator.shard_id, iterator.chain);
    let after = iterator.after_exclusive;
    let page =
        stream.lineage.page(&iterator.shard_id, after, limit, site.config.page_bytes).map_err(refusal)?;
    if !page.bodies.is_empty() && site.chance(site.config.empty_pages) {
        return Ok(Page { bodies: Vec::new(), next_after_exclusive: Some(after) });
    }
    Ok(page)
}

fn render_page(page: &Page, next: Option<&str>) -> Vec<u8> {
    let bytes: usize = page.bodies.iter().map(|body| body.len() + 1).sum();
    let mut text = Vec::with_capacity(bytes + 512);
    text.extend_from_slice(br#"{"Records":["#);
    for (index, body) in page.bodies.iter().enumerate() {
        if index > 0 {
            text.push(b',');
        }
        text.extend_from_slice(body);
    }
    text.push(b']');
    if let Some(next) = next {
        let mut field = String::new();
        write!(field, r#","NextShardIterator":"{next}""#).expect("a string takes any write");
        text.extend_from_slice(field.as_bytes());
    }
    text.push(b'}');
    text
}

async fn list_streams(site: &Arc<Site>, body: &[u8]) -> Answer {
    let request: ListStreams<'_> = parse(body)?;
    let limit = request.limit.unwrap_or(100).clamp(1, 100);
    let mut tables = match &request.table_name {
        None => site.tables(),
        Some(name) => table_of(site, name).await.into_iter().collect(),
    };
    tables.sort_by(|a, b| a.name.cmp(&b.name));
    let mut streams = Vec::new();
    for table in tables {
        for stream in &table.state().streams {
            streams.push(serde_json::json!({
                "StreamArn": stream.arn, "StreamLabel": stream.label, "TableName": table.name,
            }));
        }
    }
    let begin = request.exclusive_start_stream_arn.and_then(|start| {
        streams.iter().position(|stream| stream["StreamArn"] == start.as_ref()).map(|index| index + 1)
    });
    let mut page: Vec<_> = streams.into_iter().skip(begin.unwrap_or(0)).take(limit + 1).collect();
    let more = page.len() > limit;
    page.truncate(limit);
    let last = page.last().filter(|_| more).map(|stream| stream["StreamArn"].clone());
    let mut answer = serde_json::json!({ "Streams": page });
    if let Some(last) = last {
        answer["LastEvaluatedStreamArn"] = last;
    }
    Ok(Reply::json(answer.to_string()))
}
