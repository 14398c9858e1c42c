use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn arns_agree_between_table_stream_and_region() {
    let bench = Bench::start(config()).await;
    assert!(bench.arn.starts_with("arn:aws:dynamodb:eu-west-1:"), "{}", bench.arn);
    let table = bench.tables.describe_table().table_name(TABLE).send().await.expect("described");
    let table = table.table.expect("a table");
    let label = table.latest_stream_label.expect("a label");
    assert!(bench.arn.ends_with(&format!(":table/{TABLE}/stream/{label}")));
    let stream = bench.streams.describe_stream().stream_arn(&bench.arn).send().await.expect("described");
    let stream = stream.stream_description.expect("a description");
    assert_eq!(stream.stream_arn.as_ref(), Some(&bench.arn));
    assert_eq!(stream.stream_label, Some(label));
    assert_eq!(stream.table_name.as_deref(), Some(TABLE));
    assert_eq!(stream.stream_status.map(|status| status.as_str().to_owned()).as_deref(), Some("ENABLED"));
    assert_eq!(stream.key_schema.map(|keys| keys.len()), Some(1));
    let listed = bench.streams.list_streams().table_name(TABLE).send().await.expect("listed");
    assert_eq!(listed.streams.unwrap_or_default()[0].stream_arn.as_ref(), Some(&bench.arn));
    let other = bench.arn.replace(&bench.arn[bench.arn.len() - 3..], "zzz");
    let unknown = bench.streams.describe_stream().stream_arn(other).send().await.expect_err("no such stream");
    assert!(unknown.into_service_error().is_resource_not_found_exception());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replaced_stream_has_a_new_arn_and_the_old_one_ends() {
    let bench = Bench::start(config()).await;
    bench.put_many(0..10, 10).await;
    let new = bench.region().replace_stream(TABLE).await.expect("replaced");
    bench.put_many(10..30, 10).await;
    assert_eq!(bench.region().streams(TABLE).await.expect("streams"), [bench.arn.clone(), new.clone()]);
    assert_eq!(stream_arn(&bench.tables, TABLE).await, Some(new.clone()));
    let old = bench.describe().await;
    assert!(old.iter().all(|shard| {
        shard.sequence_number_range.as_ref().is_some_and(|range| range.ending_sequence_number.is_some())
    }));
    let mut records = bench.walk().await;
    assert_eq!(records.len(), 10);
    records.extend(walk(&bench.streams, &new).await);
    assert_complete(&records, 30);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_disabled_and_enabled_by_the_client_is_followed() {
    let bench = Bench::start(config()).await;
    bench.put_many(0..10, 10).await;
    let set = |enabled| {
        let request = bench.tables.update_table().table_name(TABLE);
        request.stream_specification(stream_specification(enabled)).send()
    };
    set(false).await.expect("disabled");
    assert_eq!(bench.walk().await.len(), 10);
    assert!(bench.region().replace_stream(TABLE).await.is_err());
    set(true).await.expect("enabled");
    let new = stream_arn(&bench.tables, TABLE).await.expect("streamed again");
    assert_ne!(new, bench.arn);
    bench.put_many(10..20, 10).await;
    bench.region().shards(TABLE).await.expect("drained");
    let mut records = bench.walk().await;
    records.extend(walk(&bench.streams, &new).await);
    assert_complete(&records, 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recreated_table_begins_a_stream_without_the_old_records() {
    let bench = Bench::start(config()).await;
    bench.put_many(0..10, 10).await;
    bench.tables.delete_table().table_name(TABLE).send().await.expect("deleted");
    assert_eq!(bench.walk().await.len(), 10);
    create_table(&bench.tables, TABLE).await;
    let new = stream_arn(&bench.tables, TABLE).await.expect("streamed");
    assert_ne!(new, bench.arn);
    bench.put("fresh", 3).await;
    bench.region().shards(TABLE).await.expect("drained");
    let records = walk(&bench.streams, &new).await;
    assert_eq!(records.iter().map(value_of).collect::<Vec<_>>(), [3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn regions_are_apart_and_observers_see_what_was_written() {
    let regions = vec![REGION.to_owned(), "cn-north-1".to_owned()];
    let bench = Bench::start(Config { regions, ..config() }).await;
    let (other, _) = clients(bench.emulator.region("cn-north-1"));
    create_table(&other, "copy").await;
    let arn = stream_arn(&other, "copy").await.expect("streamed");
    assert!(arn.starts_with("arn:aws-cn:dynamodb:cn-north-1:"), "{arn}");
    assert!(other.describe_table().table_name(TABLE).send().await.is_err());
    let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
    let sink = Arc::clone(&seen);
    bench.region().on_write(Arc::new(move |operation, body| {
        sink.lock().expect("not poisoned").push((operation.to_owned(), body.len()));
    }));
    bench.put("a", 1).await;
    bench
        .tables
        .get_item()
        .table_name(TABLE)
        .key("pk", AttributeValue::S("a".into()))
        .send()
        .await
        .expect("got");
    let seen = seen.lock().expect("not poisoned");
    assert_eq!(seen.len(), 1);
    assert!(seen[0].0 == "PutItem" && seen[0].1 > 10);
    assert_eq!(bench.region().requests("PutItem"), 1);
}
