//! The two ports against a real server in this process.

use std::net::SocketAddr;

use dynoxide::Database;
use tokio::task::JoinSet;

use super::*;
use crate::change::{Op, Order};
use crate::fault::Fault;
use crate::record::Kind;
use crate::shard::SequenceNumber;

struct Server {
    client: Client,
    _tasks: JoinSet<()>,
}

async fn server() -> Server {
    let database = Database::memory().expect("a database in memory");
    let listener = tokio::net::TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))
        .await
        .expect("a loopback port is free");
    let url = format!("http://{}", listener.local_addr().expect("it is bound"));
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let _ = dynoxide::server::serve_with_shutdown(listener, database, std::future::pending()).await;
    });
    let endpoint = Endpoint {
        endpoint_url: Some(url),
        access_key: Some(AccessKey { id: "any".to_owned(), secret: "any".to_owned() }),
        ..Endpoint::new("eu-west-1")
    };
    Server { client: connect(&endpoint).await, _tasks: tasks }
}

fn row(sort: &str, count: i64) -> Attributes {
    Attributes::from([
        ("pk".to_owned(), Value::from("p")),
        ("sk".to_owned(), Value::from(sort)),
        ("count".to_owned(), Value::integer(count)),
    ])
}

fn change(sort: &str, count: Option<i64>) -> Change {
    let key = RowKey { partition: "p".to_owned(), sort: sort.to_owned() };
    let key = Item::from_attributes(&key.attributes());
    Change {
        key: Key::from_json(key.bytes(), 0..key.as_bytes().len()).expect("a key"),
        op: count.map_or(Op::Delete, |count| Op::Put(Item::from_attributes(&row(sort, count)))),
        created_unix_ms: 0,
        order: None,
    }
}

#[tokio::test]
async fn a_change_goes_from_stream_to_table() {
    let server = server().await;
    let (streams, tables) = (server.client.streams(), server.client.tables());
    assert_eq!(tables.describe("source").await.expect_err("no table").fault, Fault::Missing);
    tables.create("source").await.expect("it is created");
    tables.create("source").await.expect("it is left as it is");
    tables.enable_stream("source").await.expect("it has a stream");
    tables.enable_stream("source").await.expect("it still has");
    let source = tables.describe("source").await.expect("a table");
    assert!(source.usable);
    let names: Vec<_> = source.key.iter().map(|key| (&*key.name, &*key.kind)).collect();
    assert_eq!(names, [("pk", "S"), ("sk", "S")]);
    let stream = source.stream.expect("a stream");
    assert!(stream.enabled && stream.view == View::NewAndOldImages);

    let batch = [change("a", Some(1)), change("b", Some(2))];
    let written = tables.write("source", &batch).await.expect("it is written");
    assert!(written.unprocessed.is_empty() && written.consumed_units > 0.0);
    let removal = [change("b", None)];
    tables.write("source", &removal).await.expect("it is written");

    let listing = streams.describe(&stream.arn, &Describe::default()).await.expect("a listing");
    let shard = &listing.shards[0].id;
    let start = Position::TrimHorizon;
    let iterator = streams.iterator(&stream.arn, shard, &start).await.expect("an iterator");
    let page = streams.records(&iterator, 1000).await.expect("a page");
    let kinds: Vec<Kind> = page.records.iter().map(|record| record.kind).collect();
    assert_eq!(kinds, [Kind::Insert, Kind::Insert, Kind::Remove]);
    let numbers: Vec<SequenceNumber> = page.records.iter().map(|record| record.sequence).collect();
    assert!(numbers.is_sorted());
    assert!(page.records.iter().all(|record| record.created_unix_ms > 0));

    tables.create("replica").await.expect("it is created");
    let image = page.records[0].image.clone().expect("an image");
    let copy =
        Change { key: page.records[0].key.clone(), op: Op::Put(image), created_unix_ms: 0, order: None };
    tables.write("replica", &[copy]).await.expect("it is written");
    let keys = [page.records[0].key.clone(), page.records[1].key.clone()];
    let fetched = tables.fetch("replica", &keys).await.expect("it is read");
    let item = fetched.items[0].as_ref().expect("an item");
    assert_eq!(item.attributes().expect("an item"), row("a", 1));
    assert!(fetched.items[1].is_none() && fetched.unprocessed.is_empty());

    let after = Position::After(numbers[2]);
    let iterator = streams.iterator(&stream.arn, shard, &after).await.expect("an iterator");
    assert!(streams.records(&iterator, 1000).await.expect("a page").records.is_empty());
    let unknown = Position::At { unix_ms: 1_000 };
    let error = streams.iterator(&stream.arn, shard, &unknown).await;
    assert_eq!(error.expect_err("it is not known here").fault, Fault::Invalid);
}

#[tokio::test]
async fn rows_are_written_under_conditions_and_paged() {
    let server = server().await;
    let tables = server.client.tables();
    tables.create("control").await.expect("it is created");
    let put = async |sort: &str, count, condition: &Condition| {
        let outcome = tables.put("control", &row(sort, count), condition).await;
        outcome.expect("an outcome")
    };
    assert_eq!(put("lease#1", 1, &Condition::Absent).await, Outcome::Done);
    let refused = put("lease#1", 2, &Condition::Absent).await;
    assert_eq!(refused, Outcome::Refused(Some(row("lease#1", 1))));
    let counts = |count: i64| Condition::Equals { attribute: "count", value: Value::integer(count) };
    assert_eq!(put("lease#1", 2, &counts(1)).await, Outcome::Done);
    let refused = put("lease#1", 3, &counts(1)).await;
    assert_eq!(refused, Outcome::Refused(Some(row("lease#1", 2))));
    for sort in ["lease#2", "other", "lease#3"] {
        assert_eq!(put(sort, 0, &Condition::Always).await, Outcome::Done);
    }

    let page = tables.query("control", "p", "lease#", None).await.expect("rows");
    let sorts: Vec<_> = page.rows.iter().map(|row| row.attributes().expect("a row")["sk"].clone()).collect();
    assert_eq!(sorts, ["lease#1", "lease#2", "lease#3"].map(Value::from));
    assert!(page.next.is_none());
    let key = RowKey { partition: "p".to_owned(), sort: "lease#2".to_owned() };
    let after = Item::from_attributes(&key.attributes());
    let page = tables.query("control", "p", "", Some(&after)).await.expect("rows");
    assert_eq!(page.rows.len(), 2);

    let refused = tables.delete("control", &key, &counts(9)).await.expect("an outcome");
    assert_eq!(refused, Outcome::Refused(Some(row("lease#2", 0))));
    let done = tables.delete("control", &key, &counts(0)).await.expect("an outcome");
    assert_eq!(done, Outcome::Done);
    let gone = tables.delete("control", &key, &counts(0)).await.expect("an outcome");
    assert_eq!(gone, Outcome::Refused(None));
    let mut found = 0;
    for segment in 0..3 {
        let scan = Scan { segment, segments: 3, ..Scan::whole() };
        found += tables.scan("control", scan).await.expect("items").items.len();
    }
    assert_eq!(found, 3);

    let one = Scan { items_max: Some(1), consistent: false, ..Scan::whole() };
    let first = tables.scan("control", one).await.expect("items");
    assert_eq!((first.items.len(), first.consumed_units), (1, 0.5));
    let rest = Scan { after: first.next.as_ref(), ..Scan::whole() };
    assert_eq!(tables.scan("control", rest).await.expect("items").items.len(), 2);
}

#[tokio::test]
async fn one_bad_item_refuses_a_batch() {
    let server = server().await;
    let tables = server.client.tables();
    tables.create("replica").await.expect("it is created");
    let mut bad = change("a", Some(1));
    bad.op = Op::Put(Item::from_json(r#"{"pk":{"S":"p"}}"#.into()));
    let error = tables.write("replica", &[bad, change("b", Some(1))]).await;
    assert_eq!(error.expect_err("it is refused").fault, Fault::Invalid);
    let page = tables.scan("replica", Scan::whole()).await.expect("items");
    assert!(page.items.is_empty());
}

#[tokio::test]
async fn a_guard_lets_no_older_state_replace_a_newer_one() {
    let server = server().await;
    let tables = server.client.tables();
    tables.create("replica").await.expect("it is created");
    let guard = Guard { attribute: Guard::DEFAULT_ATTRIBUTE.to_owned() };
    let write = async |count: Option<i64>, mark: &str| {
        let order = Order::from_mark(mark);
        let change = Change { order, ..change("a", count) };
        tables.write_guarded("replica", &change, &guard).await.expect("it is answered").is_stale
    };
    let stored = async || {
        let keys = [change("a", None).key];
        let mut fetched = tables.fetch("replica", &keys).await.expect("it is read");
        let item = fetched.items.remove(0)?;
        let marked = item.attributes().expect("an item");
        assert!(marked.contains_key(Guard::DEFAULT_ATTRIBUTE), "{item:?}");
        Some(guard.strip(&item).expect("an item").attributes().expect("an item"))
    };
    assert!(!write(Some(9), "t/2026-01-01T00:00:00.000#9").await);
    assert!(!write(Some(10), "t/2026-01-01T00:00:00.000#10").await, "numbers were compared as text");
    for older in
        ["t/2026-01-01T00:00:00.000#9", "t/2026-01-01T00:00:00.000#10", "t/2025-12-31T00:00:00.000#99"]
    {
        assert!(write(Some(0), older).await, "{older}");
        assert!(write(None, older).await, "{older}");
    }
    assert_eq!(stored().await, Some(row("a", 10)));
    assert!(!write(Some(11), "t/2026-01-02T00:00:00.000#1").await, "a newer stream");
    assert_eq!(stored().await, Some(row("a", 11)));
    assert!(!write(Some(12), "u/2020-01-01T00:00:00.000#1").await, "another source");
    assert_eq!(stored().await, Some(row("a", 12)));
    assert!(write(Some(0), "u/2020-01-01T00:00:00.000#1").await);
    assert!(!write(None, "t/2026-01-02T00:00:00.000#2").await);
    assert_eq!(stored().await, None);
}

#[tokio::test]
async fn an_item_that_was_there_before_the_guard_takes_a_mark() {
    let server = server().await;
    let tables = server.client.tables();
    tables.create("replica").await.expect("it is created");
    let guard = Guard { attribute: Guard::DEFAULT_ATTRIBUTE.to_owned() };
    tables.write("replica", &[change("a", Some(1))]).await.expect("it is written");
    let unknown = tables.write_guarded("replica", &change("a", Some(2)), &guard).await.expect("answered");
    assert!(!unknown.is_stale && unknown.consumed_units > 0.0);
    let marked = Change { order: Order::from_mark("t/2026#1"), ..change("a", Some(3)) };
    assert!(!tables.write_guarded("replica", &marked, &guard).await.expect("answered").is_stale);
    let unknown = tables.write_guarded("replica", &change("a", Some(2)), &guard).await.expect("answered");
    assert!(unknown.is_stale, "a change whose order is not known replaced one whose order is");
    let mut bad = marked;
    bad.op = Op::Put(Item::from_json(r#"{"pk":{"S":"p"}}"#.into()));
    let error = tables.write_guarded("replica", &bad, &guard).await.expect_err("it is refused");
    assert_eq!(error.fault, Fault::Invalid);
}
