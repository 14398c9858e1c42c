use super::*;
use aws_sdk_dynamodb::{
    Error as TablesError,
    error::{ProvideErrorMetadata as _, SdkError},
    operation::put_item::{PutItemError, PutItemOutput},
};
use tokio::time::Instant;

type Put = Result<PutItemOutput, SdkError<PutItemError>>;

async fn put(bench: &Bench, key: &str) -> Put {
    bench.tables.put_item().table_name(TABLE).item("pk", AttributeValue::S(key.to_owned())).send().await
}

async fn exists(bench: &Bench, key: &str) -> bool {
    let get = bench.tables.get_item().table_name(TABLE).key("pk", AttributeValue::S(key.to_owned()));
    get.send().await.expect("got").item.is_some()
}

async fn bench() -> Bench {
    Bench::start(config()).await
}

fn batch(count: usize) -> impl Iterator<Item = (String, usize)> {
    (0..count).map(|value| (format!("key-{value:04}"), value))
}

#[tokio::test(flavor = "multi_thread")]
async fn throttles_carry_their_reasons() {
    let bench = bench().await;
    let reason =
        Reason { reason: "TableWriteKeyRangeThroughputExceeded".to_owned(), resource: "arn:t".to_owned() };
    for exception in [Throttle::ProvisionedThroughputExceeded, Throttle::Throttling] {
        let reasons = vec![reason.clone()];
        bench.region().faults().add(Rule::new(Fault::Throttle { exception, reasons }).times(1));
    }
    let reasons = |error: PutItemError| match error {
        PutItemError::ProvisionedThroughputExceededException(error) => error.throttling_reasons,
        PutItemError::ThrottlingException(error) => error.throttling_reasons,
        other => panic!("{other:?}"),
    };
    for _ in 0..2 {
        let error = put(&bench, "a").await.expect_err("throttled").into_service_error();
        let reasons = reasons(error).expect("reasons");
        assert_eq!(reasons[0].reason.as_deref(), Some("TableWriteKeyRangeThroughputExceeded"));
        assert_eq!(reasons[0].resource.as_deref(), Some("arn:t"));
    }
    assert!(!exists(&bench, "a").await);
    put(&bench, "a").await.expect("the rules are used up");
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_and_server_errors_apply_nothing() {
    let bench = bench().await;
    let faults = bench.region().faults();
    let code = |result: Put| result.expect_err("refused").into_service_error().code().map(str::to_owned);
    faults.add(Rule::new(Fault::Status(503)).on("PutItem").times(1));
    let error = put(&bench, "a").await.expect_err("an error");
    assert_eq!(error.raw_response().map(|response| response.status().as_u16()), Some(503));
    assert_eq!(error.code(), Some("InternalServerError"));
    let (denied, message) = ("AccessDeniedException".to_owned(), "no".to_owned());
    faults.add(Rule::new(Fault::Refuse { code: denied.clone(), message }).on("PutItem").times(1));
    assert_eq!(code(put(&bench, "a").await), Some(denied));
    let poison = faults.add(Rule::new(Fault::Poison { marker: "key-0007".to_owned() }));
    assert!(matches!(
        write_batch(&bench.tables, batch(25)).await,
        Err(error) if error.code() == Some("ValidationException")
    ));
    assert_eq!(faults.fired(poison), 1);
    assert!(write_batch(&bench.tables, batch(7)).await.expect("no poison").is_empty());
    assert!(!exists(&bench, "a").await && !exists(&bench, "key-0024").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn resets_leave_the_write_undone_or_done() {
    let bench = bench().await;
    let faults = bench.region().faults();
    faults.add(Rule::new(Fault::ResetBefore).on("PutItem").times(1));
    assert!(matches!(put(&bench, "before").await, Err(SdkError::DispatchFailure(_))));
    assert!(!exists(&bench, "before").await);
    faults.add(Rule::new(Fault::ResetAfter).on("PutItem").times(1));
    assert!(matches!(put(&bench, "after").await, Err(SdkError::DispatchFailure(_))));
    assert!(exists(&bench, "after").await);
    faults.add(Rule::new(Fault::TruncateBody).on("BatchWriteItem").times(1));
    assert!(write_batch(&bench.tables, batch(3)).await.is_err());
    assert!(exists(&bench, "key-0000").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_write_lands_after_the_client_gave_up() {
    let bench = bench().await;
    let (landed, landing) = tokio::sync::oneshot::channel();
    let landed = std::sync::Mutex::new(Some(landed));
    bench.region().on_write(Arc::new(move |_, _| {
        let landed = landed.lock().expect("not poisoned").take();
        landed.map(|landed| landed.send(Instant::now()));
    }));
    let delay = Duration::from_millis(300);
    bench.region().faults().add(Rule::new(Fault::Late(delay)).on("PutItem").times(1));
    let begun = Instant::now();
    assert!(put(&bench, "late").await.is_err());
    let gave_up = Instant::now();
    let landed = tokio::time::timeout(Duration::from_secs(10), landing).await.expect("lands").expect("lands");
    assert!(landed > gave_up && landed >= begun + delay);
    assert!(exists(&bench, "late").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn hanging_never_applies_and_slow_does() {
    let bench = bench().await;
    let faults = bench.region().faults();
    let delay = Duration::from_millis(100);
    faults.add(Rule::new(Fault::Hang(delay)).on("PutItem").times(1));
    let begun = Instant::now();
    assert!(put(&bench, "hang").await.is_err());
    assert!(begun.elapsed() >= delay);
    assert!(!exists(&bench, "hang").await);
    faults.add(Rule::new(Fault::Slow(delay)).on("PutItem").times(1));
    let begun = Instant::now();
    put(&bench, "slow").await.expect("put");
    assert!(begun.elapsed() >= delay);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_drops_connections_until_it_is_over() {
    let bench = bench().await;
    let outage = bench.region().faults().add(Rule::new(Fault::Down));
    for _ in 0..3 {
        assert!(matches!(put(&bench, "a").await, Err(SdkError::DispatchFailure(_))));
    }
    bench.region().faults().remove(outage);
    put(&bench, "a").await.expect("put");
    assert!(bench.region().faults().fired(outage) >= 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn unprocessed_items_are_the_ones_not_applied() {
    let bench = bench().await;
    bench.region().faults().add(Rule::new(Fault::Unprocessed { share: 0.5 }).times(1));
    let returned = write_batch(&bench.tables, batch(25)).await.expect("some apply");
    assert!((1..25).contains(&returned.len()), "{}", returned.len());
    let returned: HashSet<String> = returned
        .iter()
        .filter_map(|request| request.put_request.as_ref()?.item["pk"].as_s().ok().cloned())
        .collect();
    for (key, _) in batch(25) {
        assert_eq!(exists(&bench, &key).await, !returned.contains(&key), "{key}");
    }
    bench.region().faults().add(Rule::new(Fault::Unprocessed { share: 1.0 }).times(1));
    let refused = write_batch(&bench.tables, batch(25)).await;
    assert!(matches!(refused, Err(TablesError::ProvisionedThroughputExceededException(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_limit_gives_back_the_excess() {
    let bench = bench().await;
    bench.region().limit_writes(TABLE, 10.0);
    let returned = write_batch(&bench.tables, batch(25)).await.expect("the burst applies");
    assert!((5..=15).contains(&returned.len()), "{}", returned.len());
    bench.region().limit_writes(TABLE, 0.0);
    put(&bench, "a").await.expect("a bucket holds at least one");
    let refused = put(&bench, "b").await.expect_err("the bucket is empty").into_service_error();
    assert!(refused.is_provisioned_throughput_exceeded_exception());
    bench.region().unlimit_writes(TABLE);
    assert!(write_batch(&bench.tables, batch(25)).await.expect("no limit").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn stream_reads_meet_faults_too() {
    let bench = bench().await;
    bench.put_many(0..5, 5).await;
    let shard = bench.region().shards(TABLE).await.expect("shards")[0].id.clone();
    let throttle = Fault::Throttle { exception: Throttle::Throttling, reasons: Vec::new() };
    let rule = Rule::new(throttle).on("GetRecords").of_table(TABLE).times(1);
    bench.region().faults().add(rule);
    let iterator = bench.iterator(&shard, ShardIteratorType::TrimHorizon, None).await;
    let refused = bench.streams.get_records().shard_iterator(&iterator).send().await.expect_err("throttled");
    assert_eq!(refused.into_service_error().meta().code(), Some("ThrottlingException"));
    let page = bench.streams.get_records().shard_iterator(iterator).send().await.expect("a page");
    assert_eq!(page.records.map(|records| records.len()), Some(5));
}
