//! What is written at the source arrives in every replica, typed exactly.

use aws_sdk_dynamodb::types::{AttributeValue, StreamViewType};

use crate::support::{Kind, Options, Shape, World, target, value};

fn shape(name: &'static str, hash: Kind, range: Option<Kind>) -> Shape {
    Shape { name, hash, range, view: StreamViewType::NewAndOldImages }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_change_to_every_kind_of_table_arrives_typed_exactly() {
    let shapes = vec![
        shape("string", Kind::String, None),
        shape("number", Kind::Number, None),
        shape("binary", Kind::Binary, None),
        shape("string-number", Kind::String, Some(Kind::Number)),
        shape("number-binary", Kind::Number, Some(Kind::Binary)),
        shape("binary-string", Kind::Binary, Some(Kind::String)),
    ];
    let mut options = Options { shapes, ..Options::default() };
    options.emulator.initial_shards = 2;
    let world = World::with(options).await;
    let mut loads: Vec<_> =
        (0..).zip(&world.options.shapes).map(|(seed, shape)| world.load_of(shape, 60, seed)).collect();
    for load in &mut loads {
        load.fill().await;
        load.run(200).await;
    }
    let worker = world.worker().await;
    for load in &mut loads {
        load.run(200).await;
    }
    for (load, shape) in loads.iter_mut().zip(&world.options.shapes) {
        let item = value::every().into_iter().chain(shape.key(1_000));
        load.put_item(item.collect()).await;
    }
    world.settled(&worker).await;
    worker.drain().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn items_as_large_as_the_service_allows_arrive_and_go() {
    let world = World::start().await;
    let worker = world.worker().await;
    let mut load = world.load(20, 2);
    let mut rng = fastrand::Rng::with_seed(2);
    for index in 0..20 {
        let mut item = world.shape().key(index);
        item.insert("huge".to_owned(), value::huge(&mut rng));
        load.put_item(item).await;
    }
    world.settled(&worker).await;
    for index in 0..10 {
        load.delete_item(world.shape().key(index)).await;
    }
    world.settled(&worker).await;
    worker.drain().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_changes_all_the_time_ends_with_its_last_change() {
    let world = World::start().await;
    let worker = world.worker().await;
    world.load(3, 3).run(1_000).await;
    world.settled(&worker).await;
    world.assert_read_once(&worker).await;
    let ledger = worker.replica(0).ledger;
    assert!(ledger.coalesced > 0, "nothing was coalesced: {ledger:?}");
    worker.drain().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn items_that_expire_go_in_the_replicas_too() {
    if target::server().sweeps_on_demand().is_err() {
        return target::server().tell();
    }
    let world = World::start().await;
    let worker = world.worker().await;
    let ttl = aws_sdk_dynamodb::types::TimeToLiveSpecification::builder()
        .attribute_name("expires")
        .enabled(true)
        .build();
    let update = world.source.client.update_time_to_live().table_name(world.table());
    let update = update.time_to_live_specification(ttl.expect("a name and a switch"));
    update.send().await.expect("items expire");
    let mut load = world.load(1, 4);
    for (index, expires) in [(0, "1600000000"), (1, "4100000000")] {
        let mut item = world.shape().key(index);
        item.insert("expires".to_owned(), AttributeValue::N(expires.to_owned()));
        load.put_item(item).await;
    }
    world.settled(&worker).await;
    assert!(world.replica_item(0, &world.shape().key(0)).await.is_some());
    let swept = world.source_region().sweep_ttl().await.expect("expired items are deleted");
    assert_eq!(swept, 1);
    world.settled(&worker).await;
    assert!(world.replica_item(0, &world.shape().key(0)).await.is_none());
    assert!(world.replica_item(1, &world.shape().key(1)).await.is_some());
    worker.drain().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_stream_view_replicates_whole_items() {
    for view in [
        StreamViewType::KeysOnly,
        StreamViewType::OldImage,
        StreamViewType::NewImage,
        StreamViewType::NewAndOldImages,
    ] {
        println!("view {view:?}");
        let world = World::with(Options { shapes: vec![Shape::viewed(view)], ..Options::default() }).await;
        let mut load = world.load(60, 5);
        load.run(200).await;
        let worker = world.worker().await;
        load.run(400).await;
        world.settled(&worker).await;
        worker.drain().await;
    }
}
