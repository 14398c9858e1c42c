use super::*;
use aws_sdk_dynamodbstreams::{
    operation::{get_records::GetRecordsError, get_shard_iterator::GetShardIteratorError},
    types::OperationType,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_shard_ends_on_the_page_that_has_its_last_records() {
    let bench = Bench::start(config()).await;
    bench.put_many(0..10, 10).await;
    let parent = bench.region().roll(TABLE).await.expect("a shard is open");
    let shards = bench.describe().await;
    assert_eq!(shards[1].parent_shard_id.as_ref(), Some(&parent));
    let ending =
        |shard: &Shard| shard.sequence_number_range.clone().and_then(|range| range.ending_sequence_number);
    assert!(ending(&shards[0]).is_some() && ending(&shards[1]).is_none());
    let iterator = bench.iterator(&parent, ShardIteratorType::TrimHorizon, None).await;
    let page = bench.streams.get_records().shard_iterator(iterator).send().await.expect("a page");
    assert_eq!(page.records.map(|records| records.len()), Some(10));
    assert_eq!(page.next_shard_iterator, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn iterators_start_where_their_type_says() {
    let bench = Bench::start(config()).await;
    bench.put_many(0..5, 5).await;
    let shard = bench.region().shards(TABLE).await.expect("shards")[0].id.clone();
    let records = bench.read(&shard).await;
    let middle = sequence_of(&records[2]);
    let first_value = |iterator: String| async {
        let page =
            bench.streams.get_records().shard_iterator(iterator).limit(1).send().await.expect("a page");
        page.records.unwrap_or_default().first().map(value_of)
    };
    let at = bench.iterator(&shard, ShardIteratorType::AtSequenceNumber, Some(&middle)).await;
    assert_eq!(first_value(at).await, Some(2));
    let after = bench.iterator(&shard, ShardIteratorType::AfterSequenceNumber, Some(&middle)).await;
    assert_eq!(first_value(after).await, Some(3));
    bench.put("key-before", 76).await;
    let latest = bench.iterator(&shard, ShardIteratorType::Latest, None).await;
    bench.region().shards(TABLE).await.expect("drained");
    assert_eq!(first_value(latest.clone()).await, None);
    bench.put("key-new", 77).await;
    bench.region().shards(TABLE).await.expect("drained");
    assert_eq!(first_value(latest).await, Some(77));
    let created = records[0].dynamodb.as_ref().and_then(|change| change.approximate_creation_date_time);
    let created = created.expect("a creation time");
    assert_eq!(created.subsec_nanos(), 0);
    let request = bench.streams.get_shard_iterator().stream_arn(&bench.arn).shard_id(&shard);
    let request = request.shard_iterator_type(ShardIteratorType::AtTimestamp).timestamp(created);
    let iterator = request.send().await.expect("an iterator").shard_iterator.expect("an iterator");
    assert_eq!(first_value(iterator).await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_outside_the_range_are_refused() {
    let bench = Bench::start(config()).await;
    let shard = bench.region().shards(TABLE).await.expect("shards")[0].id.clone();
    let iterator = bench.iterator(&shard, ShardIteratorType::TrimHorizon, None).await;
    let with_limit = |limit| {
        let request = bench.streams.get_records().shard_iterator(&iterator).limit(limit);
        async { request.send().await.map_err(aws_sdk_dynamodbstreams::error::SdkError::into_service_error) }
    };
    assert!(matches!(with_limit(1001).await, Err(GetRecordsError::LimitExceededException(_))));
    let zero = with_limit(0).await.expect_err("zero is refused");
    assert_eq!(zero.meta().code(), Some("ValidationException"));
    assert!(with_limit(1000).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_trimmed_expired_or_forgotten_says_so() {
    let bench = Bench::start(config()).await;
    bench.put_many(0..5, 5).await;
    let shard = bench.region().shards(TABLE).await.expect("shards")[0].id.clone();
    let old = sequence_of(&bench.read(&shard).await[1]);
    let horizon = bench.iterator(&shard, ShardIteratorType::TrimHorizon, None).await;
    let get = |iterator: String| {
        let request = bench.streams.get_records().shard_iterator(iterator);
        async { request.send().await.map_err(aws_sdk_dynamodbstreams::error::SdkError::into_service_error) }
    };
    bench.region().trim(TABLE).await.expect("trimmed");
    assert!(matches!(get(horizon).await, Err(GetRecordsError::TrimmedDataAccessException(_))));
    let again = || {
        let request = bench.streams.get_shard_iterator().stream_arn(&bench.arn).shard_id(&shard);
        let request =
            request.shard_iterator_type(ShardIteratorType::AfterSequenceNumber).sequence_number(&old);
        async { request.send().await.map_err(aws_sdk_dynamodbstreams::error::SdkError::into_service_error) }
    };
    assert!(matches!(again().await, Err(GetShardIteratorError::TrimmedDataAccessException(_))));
    assert!(bench.read(&shard).await.is_empty());

    let iterator = bench.iterator(&shard, ShardIteratorType::TrimHorizon, None).await;
    bench.region().expire_iterators();
    assert!(matches!(get(iterator).await, Err(GetRecordsError::ExpiredIteratorException(_))));

    let iterator = bench.iterator(&shard, ShardIteratorType::TrimHorizon, None).await;
    bench.region().forget_shard(TABLE, &shard).await.expect("forgotten");
    assert!(matches!(get(iterator).await, Err(GetRecordsError::ResourceNotFoundException(_))));
    assert!(matches!(again().await, Err(GetShardIteratorError::ResourceNotFoundException(_))));
    assert!(bench.describe().await.iter().all(|listed| listed.shard_id.as_ref() != Some(&shard)));
}

#[tokio::test(flavor = "multi_thread")]
async fn iterators_and_records_grow_old() {
    let aged = Config { iterator_lifetime: Duration::ZERO, retention: Duration::ZERO, ..config() };
    let bench = Bench::start(aged).await;
    bench.put_many(0..5, 5).await;
    let shard = bench.region().roll(TABLE).await.expect("a shard is open");
    let gone = async {
        while bench.describe().await.iter().any(|listed| listed.shard_id.as_ref() == Some(&shard)) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), gone)
        .await
        .expect("a closed shard leaves after the retention");
    let open = bench.region().shards(TABLE).await.expect("shards")[0].id.clone();
    let iterator = bench.iterator(&open, ShardIteratorType::TrimHorizon, None).await;
    let expired = async {
        loop {
            let request = bench.streams.get_records().shard_iterator(&iterator);
            match request.send().await.map_err(aws_sdk_dynamodbstreams::error::SdkError::into_service_error) {
                Err(GetRecordsError::ExpiredIteratorException(_)) => return,
                other => assert!(other.is_ok(), "{other:?}"),
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(10), expired).await.expect("an iterator expires");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_is_at_most_a_thousand_records_and_a_mebibyte() {
    let bench = Bench::start(config()).await;
    bench.put_many(0..1_200, 100).await;
    let shard = bench.region().shards(TABLE).await.expect("shards")[0].id.clone();
    let iterator = bench.iterator(&shard, ShardIteratorType::TrimHorizon, None).await;
    let page = bench.streams.get_records().shard_iterator(iterator).send().await.expect("a page");
    assert_eq!(page.records.map(|records| records.len()), Some(1000));
    let latest = bench.iterator(&shard, ShardIteratorType::Latest, None).await;
    for key in 0..5 {
        let wide = AttributeValue::S("x".repeat(300_000));
        let put =
            bench.tables.put_item().table_name(TABLE).item("pk", AttributeValue::S(format!("wide-{key}")));
        put.item("wide", wide).send().await.expect("the item is put");
    }
    bench.region().shards(TABLE).await.expect("drained");
    let page = bench.streams.get_records().shard_iterator(latest).send().await.expect("a page");
    assert_eq!(page.records.map(|records| records.len()), Some(3));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_changes_nothing_has_no_record_and_ttl_names_the_service() {
    let bench = Bench::start(config()).await;
    bench.put("same", 1).await;
    bench.put("same", 1).await;
    bench.put("same", 2).await;
    let ttl =
        aws_sdk_dynamodb::types::TimeToLiveSpecification::builder().attribute_name("until").enabled(true);
    let ttl = ttl.build().expect("a specification");
    let enabled =
        bench.tables.update_time_to_live().table_name(TABLE).time_to_live_specification(ttl).send().await;
    enabled.expect("time to live is on");
    let past = crate::clock::Clock::System.unix_ms() / 1_000 - 60;
    let put = bench.tables.put_item().table_name(TABLE).item("pk", AttributeValue::S("old".to_owned()));
    put.item("until", AttributeValue::N(past.to_string())).send().await.expect("the item is put");
    assert_eq!(bench.region().sweep_ttl().await.expect("swept"), 1);
    bench.region().shards(TABLE).await.expect("drained");
    let records = bench.walk().await;
    let names: Vec<_> = records.iter().map(|record| record.event_name.clone()).collect();
    use OperationType::{Insert, Modify, Remove};
    assert_eq!(names, [Some(Insert), Some(Modify), Some(Insert), Some(Remove)]);
    let identity = records[3].user_identity.as_ref().expect("an identity");
    assert_eq!(identity.r#type.as_deref(), Some("Service"));
    assert_eq!(identity.principal_id.as_deref(), Some("dynamodb.amazonaws.com"));
    assert!(records[2].user_identity.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_are_counted_by_interleaving_chains() {
    let bench = Bench::start(config()).await;
    let shard = bench.region().shards(TABLE).await.expect("shards")[0].id.clone();
    let mut chains = Vec::new();
    for _ in 0..2 {
        chains.push(bench.iterator(&shard, ShardIteratorType::TrimHorizon, None).await);
    }
    let get = |iterator: &String| bench.streams.get_records().shard_iterator(iterator).send();
    get(&chains[0]).await.expect("a page");
    get(&chains[1]).await.expect("a page");
    assert_eq!(bench.region().max_readers(TABLE), 1);
    get(&chains[0]).await.expect("a page");
    assert_eq!(bench.region().max_readers(TABLE), 2);
    assert_eq!(bench.region().requests("GetRecords"), 3);
}
