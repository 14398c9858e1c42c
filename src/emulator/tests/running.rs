use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn any_server_can_stand_behind() {
    let behind = Bench::start(config()).await;
    behind.put_many(0..100, 20).await;
    let upstream = Upstream::Endpoint(behind.region().endpoint());
    let front = Emulator::start(Config { upstream, initial_shards: 4, ..config() }).await.expect("starts");
    let region = front.region(REGION);
    assert_eq!(region.shards(TABLE).await.expect("the table is found").len(), 4);
    assert!(region.sweep_ttl().await.is_err());
    let (tables, streams) = clients(region);
    let arn = stream_arn(&tables, TABLE).await.expect("streamed");
    region.split(TABLE).await.expect("a shard is open");
    behind.put_many(100..200, 20).await;
    behind.region().shards(TABLE).await.expect("the emulator behind shows its own stream late otherwise");
    region.shards(TABLE).await.expect("drained");
    assert_complete(&walk(&streams, &arn).await, 200);
    front.stop().await;
}

/// Against a server nobody here wrote, at the address in `EMULATOR_UPSTREAM`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a server, its address in EMULATOR_UPSTREAM"]
async fn a_foreign_server_can_stand_behind() {
    let origin = std::env::var("EMULATOR_UPSTREAM").expect("EMULATOR_UPSTREAM is set");
    let bench =
        Bench::start(Config { upstream: Upstream::Endpoint(origin), initial_shards: 3, ..config() }).await;
    for round in 0..4 {
        bench.put_many(round * 100..(round + 1) * 100, 30).await;
        bench.region().split(TABLE).await.expect("a shard is open");
    }
    assert!(bench.arn.starts_with("arn:aws:dynamodb:eu-west-1:"), "{}", bench.arn);
    let mut records = bench.walk().await;
    let request = bench.tables.update_table().table_name(TABLE);
    request.stream_specification(stream_specification(false)).send().await.expect("disabled");
    let request = bench.tables.update_table().table_name(TABLE);
    request.stream_specification(stream_specification(true)).send().await.expect("enabled");
    let arn = stream_arn(&bench.tables, TABLE).await.expect("streamed again");
    assert_ne!(arn, bench.arn);
    bench.put_many(400..500, 30).await;
    bench.region().shards(TABLE).await.expect("drained");
    records.extend(walk(&bench.streams, &arn).await);
    assert_complete(&records, 500);
    bench.tables.delete_table().table_name(TABLE).send().await.expect("deleted");
    bench.emulator.stop().await;
}

/// The clients live on a runtime with one thread, the emulator on one of its own.
#[test]
fn the_emulator_runs_apart_from_its_clients() {
    let own = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let emulator = own.block_on(Emulator::start(config())).expect("starts");
    let clients_own = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    clients_own.block_on(async {
        let region = emulator.region(REGION);
        let (tables, streams) = clients(region);
        create_table(&tables, TABLE).await;
        let arn = stream_arn(&tables, TABLE).await.expect("streamed");
        write_batch(&tables, (0..20).map(|value| (format!("key-{value}"), value))).await.expect("written");
        region.split(TABLE).await.expect("a shard is open");
        assert_complete(&walk(&streams, &arn).await, 20);
    });
    own.block_on(emulator.stop());
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_ends_what_hangs_and_frees_the_port() {
    let bench = Bench::start(config()).await;
    let hang = bench.region().faults().add(Rule::new(Fault::Hang(Duration::from_hours(1))).on("PutItem"));
    let tables = bench.tables.clone();
    let mut hanging = tokio::task::JoinSet::new();
    hanging.spawn(async move {
        tables.put_item().table_name(TABLE).item("pk", AttributeValue::S("a".into())).send().await
    });
    while bench.region().faults().fired(hang) == 0 {
        tokio::task::yield_now().await;
    }
    let endpoint = bench.region().endpoint();
    bench.emulator.stop().await;
    let ended = hanging.join_next().await.expect("it was spawned");
    assert!(ended.expect("ends").is_err());
    let address = endpoint.trim_start_matches("http://");
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}
