//! Tables over a real socket: what goes over the wire, and what each failure proves.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_config::credential_process::CredentialProcessProvider;
use aws_sdk_dynamodb::config::{Region, SharedCredentialsProvider};
use serde_json::json;

use super::stub::{Reply, Stub};
use super::*;
use crate::change::Op;
use crate::fault::{Fault, Width};

pub(super) fn endpoint(url: &str) -> Endpoint {
    Endpoint {
        endpoint_url: Some(url.to_owned()),
        access_key: Some(AccessKey { id: "AKIDEXAMPLE".to_owned(), secret: "secret".to_owned() }),
        ..Endpoint::new("eu-west-1")
    }
}

fn key(text: &str) -> Key {
    let body = bytes::Bytes::copy_from_slice(text.as_bytes());
    Key::from_json(&body, 0..body.len()).expect("a key")
}

fn put(pk: &str, rest: &str) -> Change {
    let item = format!(r#"{{"pk":{{"S":"{pk}"}},{rest}}}"#);
    Change {
        key: key(&format!(r#"{{"pk":{{"S":"{pk}"}}}}"#)),
        op: Op::Put(Item::from_json(item.into())),
        created_unix_ms: 0,
        order: None,
    }
}

pub(super) fn remove(pk: &str) -> Change {
    Change { op: Op::Delete, ..put(pk, r#""x":{"S":""}"#) }
}

pub(super) fn fine() -> Reply {
    Reply::Answer(200, r#"{"UnprocessedItems":{}}"#.to_owned())
}

pub(super) fn failing(status: u16, body: &str) -> Reply {
    Reply::Answer(status, body.to_owned())
}

/// What a write of one item meets at a server that replies like this.
async fn write_to(reply: Reply) -> Error {
    let stub = Stub::start(move |_, _| reply.clone()).await;
    let tables = connect(&endpoint(&stub.url)).await.tables();
    let error = tables.write("t", &[remove("a")]).await.expect_err("it fails");
    assert_eq!(error.operation, "BatchWriteItem");
    error
}

#[tokio::test]
async fn a_batch_reaches_the_wire_byte_for_byte() {
    let mut stub = Stub::start(|_, _| {
        let answer = json!({
            "UnprocessedItems": {},
            "ConsumedCapacity": [{"TableName": "t", "CapacityUnits": 2.5}],
        });
        Reply::Answer(200, answer.to_string())
    })
    .await;
    let tables = connect(&endpoint(&stub.url)).await.tables();
    let odd = r#" "n" : {"N":"1.50E+2"} , "u":{"S":"\u00e9\/é"},"future":{"XX":[null]}"#;
    let written = tables.write("my table", &[put("a", odd), remove("b")]).await;
    let expected = Written { unprocessed: vec![], consumed_units: 2.5 };
    assert_eq!(written.expect("it is written"), expected);

    let seen = stub.next().await;
    let body = String::from_utf8(seen.body.clone()).expect("text");
    let put = format!(r#"{{"PutRequest":{{"Item":{{"pk":{{"S":"a"}},{odd}}}}}}}"#);
    let delete = r#"{"DeleteRequest":{"Key":{"pk":{"S":"b"}}}}"#;
    let wanted =
        format!(r#"{{"RequestItems":{{"my table":[{put},{delete}]}},"ReturnConsumedCapacity":"TOTAL"}}"#);
    assert_eq!(body, wanted);
    assert!(seen.head.starts_with("POST / HTTP/1.1\r\n"), "{}", seen.head);
    assert_eq!(seen.header("x-amz-target"), Some("DynamoDB_20120810.BatchWriteItem"));
    assert_eq!(seen.header("content-type"), Some("application/x-amz-json-1.0"));
    let signature = seen.header("authorization").expect("it is signed");
    assert!(signature.starts_with("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/"), "{signature}");
    assert!(signature.contains("/eu-west-1/dynamodb/aws4_request"), "{signature}");
    assert!(signature.contains("x-amz-target"), "{signature}");
}

#[tokio::test]
async fn unprocessed_items_are_told_by_index() {
    let stub = Stub::start(|_, _| {
        let answer = json!({"UnprocessedItems": {"t": [
            {"DeleteRequest": {"Key": {"pk": {"S": "c"}}}},
            {"PutRequest": {"Item": {"x": {"S": "1"}, "pk": {"S": "a"}}}},
        ]}});
        Reply::Answer(200, answer.to_string())
    })
    .await;
    let tables = connect(&endpoint(&stub.url)).await.tables();
    let changes = [put("a", r#""x":{"S":"1"}"#), put("b", r#""x":{"S":"2"}"#), remove("c")];
    let written = tables.write("t", &changes).await.expect("it is answered");
    assert_eq!(written.unprocessed, [2, 0]);
}

#[tokio::test]
async fn an_answer_about_a_strange_item_is_not_believed() {
    let strange = r#"{"UnprocessedItems":{"t":[{"DeleteRequest":{"Key":{"pk":{"S":"z"}}}}]}}"#;
    for body in [strange, "{}", "<html>", ""] {
        let error = write_to(failing(200, body)).await;
        assert_eq!(error.fault, Fault::Protocol, "{body}: {error}");
    }
}

#[tokio::test]
async fn a_broken_answer_proves_nothing_and_does_not_stick() {
    let mut stub = Stub::start(|number, _| match number {
        0 => Reply::Truncated(r#"{"Unproc"#.to_owned(), 10),
        1 => Reply::Close,
        2 => failing(500, r#"{"__type":"x#InternalServerError","message":"m"}"#),
        _ => fine(),
    })
    .await;
    let tables = connect(&endpoint(&stub.url)).await.tables();
    for expected in [Fault::Unanswered, Fault::Unanswered, Fault::Transient] {
        let error = tables.write("t", &[remove("a")]).await.expect_err("it fails");
        assert_eq!(error.fault, expected, "{error}");
    }
    assert!(tables.write("t", &[remove("b")]).await.is_ok());
    // Each call was sent once: the fourth request is the fourth call's.
    for pk in ["a", "a", "a", "b"] {
        let seen = stub.next().await.json();
        assert_eq!(seen["RequestItems"]["t"][0]["DeleteRequest"]["Key"], json!({"pk": {"S": pk}}));
    }
    assert!(stub.seen.try_recv().is_err());
}

#[tokio::test]
async fn a_throttle_tells_its_width() {
    let body = r#"{"__type":"com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException",
        "message":"slow down","ThrottlingReasons":[
        {"reason":"TableWriteKeyRangeThroughputExceeded","resource":"arn:aws:dynamodb:eu-west-1:1:table/t"}]}"#;
    let error = write_to(failing(400, body)).await;
    assert_eq!(error.fault, Fault::Throttled(Width::KeyRange));
    assert_eq!(error.code.as_deref(), Some("ProvisionedThroughputExceededException"));
    assert_eq!(error.message, "slow down");
    assert_eq!(error.reasons[0].resource, "arn:aws:dynamodb:eu-west-1:1:table/t");
    assert!(error.source.is_some());

    let error = write_to(failing(400, r#"{"__type":"x#ThrottlingException"}"#)).await;
    assert_eq!(error.fault, Fault::Throttled(Width::Unknown));
}

#[tokio::test]
async fn codes_decide_what_an_error_means() {
    for (status, code, fault) in [
        (400, "ValidationException", Fault::Invalid),
        (400, "ItemCollectionSizeLimitExceededException", Fault::Invalid),
        (400, "ResourceNotFoundException", Fault::Missing),
        (400, "UnrecognizedClientException", Fault::Denied),
        (400, "AccessDeniedException", Fault::Denied),
        (400, "TransactionConflictException", Fault::Conflict),
        (500, "InternalFailure", Fault::Transient),
        (503, "ServiceUnavailable", Fault::Transient),
        (400, "SomethingNew", Fault::Invalid),
        (500, "SomethingNew", Fault::Transient),
    ] {
        let body = json!({"__type": format!("x#{code}"), "Message": "m"});
        let error = write_to(failing(status, &body.to_string())).await;
        assert_eq!(error.fault, fault, "{error}");
        assert_eq!(error.code.as_deref(), Some(code));
    }
    let error = write_to(failing(503, "<html>busy</html>")).await;
    assert_eq!(error.fault, Fault::Transient, "{error}");
    assert!(error.message.contains("<html>busy</html>"), "{error}");
    assert_eq!(write_to(failing(504, "")).await.fault, Fault::Unanswered);
}

#[tokio::test]
async fn a_hanging_write_ends_at_its_deadline_and_is_sent_once() {
    let mut stub = Stub::start(|number, _| if number == 0 { Reply::Hang } else { fine() }).await;
    let endpoint = Endpoint { attempt_timeout: Duration::from_millis(300), ..endpoint(&stub.url) };
    let tables = connect(&endpoint).await.tables();
    let error = tables.write("t", &[remove("a")]).await.expect_err("no answer");
    assert_eq!(error.fault, Fault::Unanswered, "{error}");
    assert!(error.message.contains(&stub.url), "{error}");
    assert!(tables.write("t", &[remove("b")]).await.is_ok());
    for pk in ["a", "b"] {
        let seen = stub.next().await.json();
        assert_eq!(seen["RequestItems"]["t"][0]["DeleteRequest"]["Key"]["pk"]["S"], pk);
    }
    assert!(stub.seen.try_recv().is_err());
}

#[tokio::test]
async fn a_refused_connection_proves_that_nothing_was_sent() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a loopback port is free");
    let url = format!("http://{}", listener.local_addr().expect("it is bound"));
    drop(listener);
    let tables = connect(&endpoint(&url)).await.tables();
    let error = tables.write("t", &[remove("a")]).await.expect_err("nobody listens");
    assert_eq!(error.fault, Fault::Transient, "{error}");
    assert_eq!(error.message, format!("connection refused ({url})"));
    assert!(error.source.is_some());
}

#[tokio::test]
async fn an_unknown_host_is_transient() {
    let tables = connect(&endpoint("http://nowhere.invalid:1")).await.tables();
    let error = tables.write("t", &[remove("a")]).await.expect_err("no such host");
    assert_eq!(error.fault, Fault::Transient, "{error}");
}

/// Clients whose credentials come from a command, so that no test asks the machine for its own.
fn with_credentials_from(command: &str, endpoint: &Endpoint) -> Client {
    let provider = CredentialProcessProvider::new(command.to_owned());
    let shared = aws_config::SdkConfig::builder()
        .region(Region::new(endpoint.region.clone()))
        .credentials_provider(SharedCredentialsProvider::new(provider))
        .behavior_version(super::client::behavior())
        .build();
    super::client::over(&shared, endpoint)
}

#[tokio::test]
async fn absent_credentials_are_denied_and_nothing_is_sent() {
    let mut stub = Stub::start(|_, _| fine()).await;
    let tables = with_credentials_from("false", &endpoint(&stub.url)).tables();
    let error = tables.write("t", &[remove("a")]).await.expect_err("no credentials");
    assert_eq!(error.fault, Fault::Denied, "{error}");
    assert!(error.message.contains("credentials"), "{error}");
    assert!(stub.seen.try_recv().is_err());
}

#[tokio::test]
async fn credentials_that_do_not_come_in_time_prove_that_nothing_was_sent() {
    let mut stub = Stub::start(|_, _| fine()).await;
    let endpoint = Endpoint { attempt_timeout: Duration::from_millis(200), ..endpoint(&stub.url) };
    let tables = with_credentials_from("sleep 4", &endpoint).tables();
    let error = tables.write("t", &[remove("a")]).await.expect_err("no credentials");
    assert_eq!(error.fault, Fault::Transient, "{error}");
    assert!(stub.seen.try_recv().is_err());
}

#[tokio::test]
async fn a_failed_condition_gives_the_row_in_the_way() {
    let stub = Stub::start(|number, _| match number {
        0 => failing(200, "{}"),
        1 => failing(
            400,
            r#"{"__type":"x#ConditionalCheckFailedException","message":"m","Item":{"pk":{"S":"p"},"n":{"N":"07"}}}"#,
        ),
        _ => failing(
            400,
            r#"{"__type":"x#ConditionalCheckFailedException","message":"m"}"#,
        ),
    })
    .await;
    let tables = connect(&endpoint(&stub.url)).await.tables();
    let row = Attributes::from([("pk".to_owned(), Value::from("p"))]);
    let key = RowKey { partition: "p".to_owned(), sort: "s".to_owned() };
    let done = tables.put("t", &row, &Condition::Absent).await;
    assert_eq!(done.expect("an outcome"), Outcome::Done);
    let mut there = row.clone();
    there.insert("n".to_owned(), Value::integer(7));
    let refused = tables.put("t", &row, &Condition::Absent).await;
    assert_eq!(refused.expect("an outcome"), Outcome::Refused(Some(there)));
    let refused = tables.delete("t", &key, &Condition::Absent).await;
    assert_eq!(refused.expect("an outcome"), Outcome::Refused(None));
}

#[tokio::test]
async fn items_are_fetched_to_the_places_of_their_keys() {
    let mut stub = Stub::start(|_, _| {
        let answer = json!({
            "Responses": {"t": [{"v": {"N": "2"}, "pk": {"S": "b"}}]},
            "UnprocessedKeys": {"t": {"Keys": [{"pk": {"S": "c"}}], "ConsistentRead": true}},
        });
        Reply::Answer(200, answer.to_string())
    })
    .await;
    let tables = connect(&endpoint(&stub.url)).await.tables();
    let keys = ["a", "b", "c"].map(|pk| key(&format!(r#"{{"pk":{{"S":"{pk}"}}}}"#)));
    let fetched = tables.fetch("t", &keys).await.expect("it is answered");
    assert!(fetched.items[0].is_none());
    assert!(fetched.items[1].is_some());
    assert_eq!(fetched.unprocessed, [2]);
    let wanted = json!({"RequestItems": {"t": {
        "Keys": [{"pk": {"S": "a"}}, {"pk": {"S": "b"}}, {"pk": {"S": "c"}}], "ConsistentRead": true}}});
    assert_eq!(stub.next().await.json(), wanted);
}

#[tokio::test]
async fn calls_are_observed() {
    let stub = Stub::start(|number, _| match number {
        0 => fine(),
        _ => failing(400, r#"{"__type":"x#ValidationException"}"#),
    })
    .await;
    let calls: Arc<Mutex<Vec<Call>>> = Arc::default();
    let sink = calls.clone();
    let observer: Observer = Arc::new(move |call| sink.lock().expect("not poisoned").push(call));
    let client = connect(&endpoint(&stub.url)).await.observed(observer);
    let _ = client.tables().write("t", &[remove("a")]).await;
    let _ = client.streams().records(&Iterator("i".to_owned()), 1).await;
    let calls: Vec<_> = calls
        .lock()
        .expect("not poisoned")
        .iter()
        .map(|call| (call.service, call.operation, call.fault))
        .collect();
    let expected = [("dynamodb", "BatchWriteItem", None), ("streams", "GetRecords", Some(Fault::Invalid))];
    assert_eq!(calls, expected);
}

#[tokio::test]
async fn an_endpoint_that_is_no_url_is_invalid_and_no_item_is_quoted() {
    for url in ["localhost:8000", "http://", "not a url"] {
        let tables = connect(&endpoint(url)).await.tables();
        let error = tables.write("t", &[remove("a")]).await.expect_err("no url");
        assert_eq!(error.fault, Fault::Invalid, "{error}");
        assert!(error.message.contains(url), "{error}");
        assert!(!format!("{error:?}").contains("DeleteRequest"), "{error:?}");
    }
    let nowhere = Endpoint { endpoint_url: None, region: "eu west".to_owned(), ..endpoint("") };
    let tables = connect(&nowhere).await.tables();
    let error = tables.write("t", &[remove("a")]).await.expect_err("no region");
    assert_eq!(error.fault, Fault::Invalid, "{error}");
}
