use super::*;
use aws_sdk_dynamodbstreams::types::{ShardFilter, ShardFilterType};

#[tokio::test(flavor = "multi_thread")]
async fn splits_and_roll_overs_lose_nothing_and_keep_each_keys_order() {
    let bench = Bench::start(Config { initial_shards: 3, empty_pages: 0.2, ..config() }).await;
    for round in 0..8 {
        bench.put_many(round * 250..(round + 1) * 250, 40).await;
        if round % 2 == 0 {
            bench.region().split(TABLE).await.expect("a shard is open");
        } else {
            bench.region().roll(TABLE).await.expect("a shard is open");
        }
    }
    bench.region().roll_all(TABLE).await.expect("shards are open");
    let shards = bench.region().shards(TABLE).await.expect("shards");
    assert_eq!(shards.iter().map(|shard| shard.records).sum::<usize>(), 2000);
    assert!(shards.iter().filter(|shard| shard.records > 0).count() > 5, "the load is spread");
    let mut records = Vec::new();
    for shard in &shards {
        records.extend(read_through_empty_pages(&bench, &shard.id).await);
    }
    assert_complete(&records, 2000);
    assert!(records.iter().all(|record| record.aws_region.as_deref() == Some(REGION)));
    bench.emulator.stop().await;
}

/// Reads a shard to its end, or when open until ten empty pages in a row.
async fn read_through_empty_pages(bench: &Bench, shard_id: &str) -> Vec<Record> {
    let mut iterator = Some(bench.iterator(shard_id, ShardIteratorType::TrimHorizon, None).await);
    let (mut records, mut empty) = (Vec::new(), 0);
    while let Some(current) = iterator.filter(|_| empty < 10) {
        let page = bench.streams.get_records().shard_iterator(current).send().await.expect("a page");
        let page_records = page.records.unwrap_or_default();
        empty = if page_records.is_empty() { empty + 1 } else { 0 };
        records.extend(page_records);
        iterator = page.next_shard_iterator;
    }
    records
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_a_hundred_shards_come_in_pages() {
    let bench = Bench::start(Config { initial_shards: 60, ..config() }).await;
    bench.put_many(0..500, 100).await;
    bench.region().roll_all(TABLE).await.expect("shards are open");
    for _ in 0..30 {
        bench.region().split(TABLE).await.expect("a shard is open");
    }
    let first = bench.streams.describe_stream().stream_arn(&bench.arn).send().await.expect("described");
    let first = first.stream_description.expect("a description");
    assert_eq!(first.shards.map(|shards| shards.len()), Some(100));
    assert!(first.last_evaluated_shard_id.is_some());
    let seven =
        bench.streams.describe_stream().stream_arn(&bench.arn).limit(7).send().await.expect("described");
    let seven = seven.stream_description.expect("a description");
    assert_eq!(seven.shards.map(|shards| shards.len()), Some(7));
    let listed: Vec<String> = bench.describe().await.into_iter().filter_map(|shard| shard.shard_id).collect();
    let actual: Vec<String> =
        bench.region().shards(TABLE).await.expect("shards").into_iter().map(|s| s.id).collect();
    assert_eq!(listed.len(), 180);
    assert_eq!(listed, actual);
    assert_complete(&bench.walk().await, 500);
}

#[tokio::test(flavor = "multi_thread")]
async fn children_are_found_by_filter_and_settle_after_inconsistent_listings() {
    let bench = Bench::start(config()).await;
    bench.region().inconsistent_describe(true);
    let parent = bench.region().split(TABLE).await.expect("a shard is open");
    let filter = ShardFilter::builder().r#type(ShardFilterType::ChildShards).shard_id(&parent).build();
    let children = || async {
        let request = bench.streams.describe_stream().stream_arn(&bench.arn).shard_filter(filter.clone());
        let described = request.send().await.expect("described").stream_description.expect("a description");
        described.shards.unwrap_or_default()
    };
    let looks_open = |shards: &[Shard]| {
        let range = shards.iter().find(|shard| shard.shard_id.as_ref() == Some(&parent));
        range
            .and_then(|shard| shard.sequence_number_range.as_ref()?.ending_sequence_number.as_ref())
            .is_none()
    };
    assert!(looks_open(&bench.describe().await));
    for _ in 0..3 {
        bench.describe().await;
        children().await;
    }
    assert!(!looks_open(&bench.describe().await));
    let child = children().await.remove(0).shard_id.expect("an id");
    bench.region().inconsistent_describe(false);
    bench.region().split_shard(TABLE, &child).await.expect("the child is open");
    let children = children().await;
    assert_eq!(children.len(), 2);
    assert!(children.iter().all(|child| child.parent_shard_id.as_ref() == Some(&parent)));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_does_not_know_the_filter_lists_everything() {
    let bench = Bench::start(Config { child_shards_filter: false, ..config() }).await;
    let parent = bench.region().split(TABLE).await.expect("a shard is open");
    let filter = ShardFilter::builder().r#type(ShardFilterType::ChildShards).shard_id(&parent).build();
    let request = bench.streams.describe_stream().stream_arn(&bench.arn).shard_filter(filter);
    let described = request.send().await.expect("described").stream_description.expect("a description");
    assert_eq!(described.shards.map(|shards| shards.len()), Some(3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn shards_may_split_while_clients_write() {
    let bench = Arc::new(Bench::start(Config { initial_shards: 2, ..config() }).await);
    let (writers, keys, rounds) = (4, 5, 40);
    let mut tasks = tokio::task::JoinSet::new();
    for writer in 0..writers {
        let bench = Arc::clone(&bench);
        tasks.spawn(async move {
            for round in 0..rounds {
                for key in 0..keys {
                    let value = (round * keys + key) * writers + writer;
                    bench.put(&format!("{writer}-{key}"), value).await;
                }
            }
        });
    }
    let mut reshapes = 0;
    while !tasks.is_empty() {
        tokio::select! {
            joined = tasks.join_next() => joined.expect("a task").expect("the writer ends well"),
            split = bench.region().split(TABLE) => {
                split.expect("a shard is open");
                bench.region().roll(TABLE).await.expect("a shard is open");
                reshapes += 1;
            }
        }
    }
    assert!(reshapes > 3, "the writers were overtaken");
    bench.region().shards(TABLE).await.expect("drained");
    assert_complete(&bench.walk().await, writers * keys * rounds);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_written_before_a_roll_over_is_in_the_parent() {
    let bench = Bench::start(config()).await;
    for value in 0..10 {
        bench.put("key", value).await;
        let parent = bench.region().roll(TABLE).await.expect("a shard is open");
        let records = bench.read(&parent).await;
        assert_eq!(records.iter().map(value_of).collect::<Vec<_>>(), [value]);
    }
}
