//! Replicas are compared with their source while a worker replicates and the source is written to.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;
use dynamirror::budget::Budget;
use dynamirror::capacity::Bucket;
use dynamirror::clock::Clock;
use dynamirror::dynamo::{Tables, connect};
use dynamirror::verify::{
    Barrier, Class, Digester, Findings, Parts, Progress, Table, join, segments, verify,
};
use tokio::sync::watch;

use crate::support::world::Place;
use crate::support::{Item, World, beside, value};

/// Keys that are written to all the time.
const BUSY: usize = 400;

async fn table(world: &World, place: &Place, name: String) -> Table {
    let tables = connect(&world.endpoint(place)).await.tables();
    let described = tables.describe(&name).await.expect("the table is there");
    Table {
        key: described.key.iter().map(|attribute| attribute.name.clone()).collect(),
        segments: segments(described.bytes),
        pages: 4,
        units: Bucket::new(None),
        tables: Arc::new(tables),
        name,
    }
}

async fn parts(world: &World, dir: &tempfile::TempDir) -> Parts {
    let patience = Duration::from_secs(60);
    Parts {
        source: table(world, &world.source, world.table()).await,
        replica: table(world, &world.replicas[0], world.replica_table(world.shape(), 0)).await,
        digester: Digester::new::<&str>(&[]),
        join: join::Config {
            memory_bytes: join::Config::MEMORY_BYTES_MIN,
            disk_bytes: 1 << 30,
            dir: dir.path().to_owned(),
            key_bytes_max: join::Config::KEY_BYTES_MAX,
        },
        pages: Budget::new(64 << 20),
        barrier: Barrier::of_rows(world.control_of().await, world.shape().name, "replica-0", patience),
        ttl_attribute: None,
        differences_max: 10_000,
        details_max: 10,
        clock: Clock::System,
        progress: watch::Sender::new(Progress::default()),
    }
}

fn found(findings: &Findings) -> BTreeMap<String, Class> {
    findings.confirmed().map(|difference| (difference.key.to_string(), difference.class)).collect()
}

/// Changes items of the replica behind the worker's back, and tells what must be found.
async fn plant(world: &World) -> usize {
    let place = &world.replicas[0];
    let table = world.replica_table(world.shape(), 0);
    let put = async |item: Item| {
        let put = place.client.put_item().table_name(&table).set_item(Some(item));
        put.send().await.expect("an item is put");
    };
    let item = |index: usize, more: &[(&str, AttributeValue)]| {
        let more = more.iter().map(|(name, value)| ((*name).to_owned(), value.clone()));
        world.shape().key(index).into_iter().chain(more).collect::<Item>()
    };
    let number = |text: &str| AttributeValue::N(text.to_owned());
    let text = |text: &str| AttributeValue::S(text.to_owned());
    let mut planted = 0;
    for index in (10_000..10_100).step_by(10) {
        let key = world.shape().key(index);
        let delete = place.client.delete_item().table_name(&table).set_key(Some(key));
        delete.send().await.expect("an item is deleted");
        put(item(index + 50_000, &[])).await;
        put(item(index + 1, &[("n", number("7.001"))])).await;
        put(item(index + 2, &[("n", text("7"))])).await;
        put(item(index + 3, &[("n", AttributeValue::Ns(vec!["7".to_owned()]))])).await;
        put(item(index + 4, &[("n", number("7")), ("more", text(""))])).await;
        // The same number.
        put(item(index + 5, &[("n", number("7.00"))])).await;
        planted += 6;
    }
    planted
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn live_tables_give_no_false_alarm_and_planted_differences_are_found() {
    let world = World::start().await;
    let worker = world.worker().await;
    let mut quiet = world.load(BUSY, 1);
    quiet.fill().await;
    for index in 10_000..10_100 {
        let item = world.shape().key(index).into_iter();
        let item = item.chain([("n".to_owned(), AttributeValue::N("7".to_owned()))]);
        quiet.put_item(item.collect()).await;
    }
    for (offset, item) in value::every().into_iter().enumerate() {
        let item = world.shape().key(20_000 + offset).into_iter().chain([item]);
        quiet.put_item(item.collect()).await;
    }
    world.settled(&worker).await;
    let mut busy = world.load(BUSY, 2);
    let load = beside(async move {
        loop {
            busy.step().await;
            // One that never pauses leaves no key alone for as long as it takes to look at it.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let dir = tempfile::tempdir().expect("a directory");
    let mut suspects = 0;
    for _ in 0..2 {
        let findings = verify(&parts(&world, &dir).await).await.expect("verified");
        assert_eq!(found(&findings), BTreeMap::new(), "a false alarm\n{}", worker.tell());
        suspects += findings.progress.suspects;
    }
    assert!(suspects > 0, "the load changed nothing between the scans");
    let planted = plant(&world).await;
    let findings = verify(&parts(&world, &dir).await).await.expect("verified");
    let found = found(&findings);
    assert_eq!(found.len(), planted, "{found:#?}");
    let count = |class: Class| found.values().filter(|it| **it == class).count();
    assert_eq!((count(Class::Missing), count(Class::Extra), count(Class::Different)), (10, 10, 40));
    assert!(findings.complete);
    load.abort();
    worker.drain().await;
}
