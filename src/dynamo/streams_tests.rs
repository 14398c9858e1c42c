//! Streams over a real socket.

use serde_json::json;

use super::records::tests::{IMAGE, PAGE};
use super::stub::{Reply, Stub};
use super::tests::{endpoint, failing};
use super::*;
use crate::fault::{Fault, Width};
use crate::shard::SequenceNumber;

#[tokio::test]
async fn a_page_of_records_is_read_from_the_answers_own_bytes() {
    let mut stub = Stub::start(|number, _| match number {
        0 => failing(200, PAGE),
        1 => failing(400, r#"{"__type":"x#ExpiredIteratorException","message":"m"}"#),
        2 => failing(400, r#"{"__type":"x#TrimmedDataAccessException","message":"m"}"#),
        3 => failing(400, r#"{"__type":"x#LimitExceededException","message":"m"}"#),
        _ => failing(200, "{}"),
    })
    .await;
    let streams = connect(&endpoint(&stub.url)).await.streams();
    let iterator = Iterator("token|1".to_owned());
    let page = streams.records(&iterator, 500).await.expect("a page");
    assert_eq!(page.records.len(), 2);
    assert_eq!(page.bytes, PAGE.len());
    assert_eq!(page.next.expect("more").0, "token|2");
    let image = page.records[0].image.as_ref().expect("an image");
    assert_eq!(image.as_bytes(), IMAGE.as_bytes());
    let seen = stub.next().await;
    assert_eq!(seen.json(), json!({"ShardIterator": "token|1", "Limit": 500}));
    assert_eq!(seen.header("x-amz-target"), Some("DynamoDBStreams_20120810.GetRecords"));
    for fault in [Fault::ExpiredIterator, Fault::Trimmed, Fault::Throttled(Width::Unknown), Fault::Protocol] {
        let error = streams.records(&iterator, 500).await.expect_err("it fails");
        assert_eq!(error.fault, fault, "{error}");
    }
}

#[tokio::test]
async fn a_position_becomes_an_iterator() {
    let mut stub = Stub::start(|number, _| match number {
        4 => failing(500, r#"{"__type":"x#InternalFailure"}"#),
        _ => failing(200, r#"{"ShardIterator":"token"}"#),
    })
    .await;
    let streams = connect(&endpoint(&stub.url)).await.streams();
    let (stream, shard) = (StreamArn::from("arn:s"), ShardId::from("shard-1"));
    let number: SequenceNumber = "00017".parse().expect("a number");
    for (position, kind, more) in [
        (Position::TrimHorizon, "TRIM_HORIZON", json!({})),
        (Position::Latest { since_unix_ms: 5 }, "LATEST", json!({})),
        (Position::After(number), "AFTER_SEQUENCE_NUMBER", json!({"SequenceNumber": "00017"})),
        (Position::At { unix_ms: 1_700_000_000_000 }, "AT_TIMESTAMP", json!({"Timestamp": 1_700_000_000})),
    ] {
        let iterator = streams.iterator(&stream, &shard, &position).await.expect("an iterator");
        assert_eq!(iterator.0, "token");
        let mut wanted = json!({"StreamArn": "arn:s", "ShardId": "shard-1", "ShardIteratorType": kind});
        let more = more.as_object().expect("an object").clone();
        wanted.as_object_mut().expect("an object").extend(more);
        assert_eq!(stub.next().await.json(), wanted);
    }
    let unknown = streams.iterator(&stream, &shard, &Position::At { unix_ms: 1 }).await;
    assert_eq!(unknown.expect_err("the server fails").fault, Fault::Invalid);
    let end = streams.iterator(&stream, &shard, &Position::End).await;
    assert_eq!(end.expect_err("no such iterator").fault, Fault::Invalid);
}

#[tokio::test]
async fn children_are_found_whatever_the_server_knows() {
    let mut stub = Stub::start(|number, seen| {
        if number == 0 && seen.json().get("ShardFilter").is_some() {
            return failing(400, r#"{"__type":"x#ValidationException","message":"ShardFilter?"}"#);
        }
        let range = json!({"StartingSequenceNumber": "1", "EndingSequenceNumber": "2"});
        let answer = json!({"StreamDescription": {
        "StreamStatus": "ENABLED", "StreamViewType": "NEW_IMAGE", "LastEvaluatedShardId": "c",
        "Shards": [
            {"ShardId": "a", "SequenceNumberRange": range},
            {"ShardId": "b", "ParentShardId": "a", "SequenceNumberRange": {"StartingSequenceNumber": "3"}},
            {"ShardId": "c", "ParentShardId": "b"},
        ]}});
        Reply::Answer(200, answer.to_string())
    })
    .await;
    let streams = connect(&endpoint(&stub.url)).await.streams();
    let stream = StreamArn::from("arn:s");
    let what = Describe { after: None, children_of: Some("a".into()) };
    for _ in 0..2 {
        let listing = streams.describe(&stream, &what).await.expect("a listing");
        assert_eq!(listing.shards.len(), 1);
        assert_eq!(listing.shards[0].id, "b".into());
        assert!(!listing.shards[0].closed);
        assert_eq!(listing.next, Some("c".into()));
    }
    let filter = json!({"Type": "CHILD_SHARDS", "ShardId": "a"});
    assert_eq!(stub.next().await.json()["ShardFilter"], filter);
    assert_eq!(stub.next().await.json(), json!({"StreamArn": "arn:s"}));
    assert_eq!(stub.next().await.json()["ShardFilter"], filter);

    let all = Describe { after: Some("0".into()), children_of: None };
    let listing = streams.describe(&stream, &all).await.expect("a listing");
    assert_eq!(listing.shards.len(), 3);
    assert!(listing.shards[0].closed && listing.enabled);
    assert_eq!(listing.view, View::NewImage);
    assert_eq!(stub.next().await.json(), json!({"StreamArn": "arn:s", "ExclusiveStartShardId": "0"}));
}

#[test]
fn streams_of_one_table_are_ordered_and_told_from_those_of_others() {
    let order = |arn: &str| StreamArn::from(arn).order().to_string();
    let orders = "arn:aws:dynamodb:eu-west-1:123456789012:table/Orders/stream/";
    // It is kept in tables, so it must stay what it is.
    assert_eq!(order(&format!("{orders}2026-11-20T21:24:23.123")), "860cf093/2026-11-20T21:24:23.123");
    assert!(
        order(&format!("{orders}2026-11-20T21:24:23.123"))
            < order(&format!("{orders}2026-11-20T21:24:24.000"))
    );
    let others = "arn:aws:dynamodb:eu-west-1:123456789012:table/Others/stream/2026";
    assert_ne!(order(others)[..9], order(&format!("{orders}2026"))[..9]);
}
