//! What a source holds already is copied to replicas by whole workers, while it is written to: killed, in a fleet, and
//! where it cannot be done.

use std::time::Duration;

use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, GlobalSecondaryIndex, KeySchemaElement, KeyType,
    Projection, ProjectionType, ScalarAttributeType,
};
use dynamirror::copy::{Request, Run, State, Store};
use dynamirror::emulator::{Fault, Rule, RuleId};
use dynamirror::supervisor::{FirstCopy, Start};
use fastrand::Rng;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::support::shape::{HASH, RANGE};
use crate::support::{Item, Load, Options, Running, Shape, World, beside, value, wait};

/// Sets how many items the killed copy is of.
const ITEMS: &str = "DYNAMIRROR_COPY_ITEMS";

/// What the source holds where nothing else is said.
const ITEMS_DEFAULT: usize = 3_000;

/// How often the worker is killed while it copies.
const KILLS: usize = 5;

/// Items of nearly 400 KB.
const HUGE: usize = 4;

fn items() -> usize {
    std::env::var(ITEMS).map_or(ITEMS_DEFAULT, |text| text.parse().expect("a number of items"))
}

/// Workers that copy by themselves, and whose successors need not wait long.
fn options(replicas: usize, request: Request) -> Options {
    let mut options = Options {
        replicas,
        start: Start::Latest,
        copy: FirstCopy::Auto(request),
        attempt_timeout: Duration::from_millis(500),
        ..Options::default()
    };
    options.lease.duration = Duration::from_secs(3);
    options.lease.longest_attempt = Duration::from_millis(500);
    options
}

async fn store(world: &World, shape: &Shape, index: usize) -> Store {
    Store::new(world.control_of().await, shape.name, &format!("replica-{index}"))
}

async fn run_of(store: &Store) -> Option<Run> {
    store.load().await.expect("the run can be read")
}

/// Waits until a copy is as wanted.
async fn until_run(store: &Store, worker: &Running, what: &str, wanted: impl Fn(&Run) -> bool) -> Run {
    let mut last = None;
    let found = wait::within(wait::PATIENCE, async || {
        last = run_of(store).await;
        last.clone().filter(|run| wanted(run))
    });
    match found.await {
        Some(run) => run,
        None => panic!("waited in vain for a copy {what}: {last:#?}\n{}", worker.tell()),
    }
}

async fn until_done(store: &Store, worker: &Running) -> Run {
    let run = until_run(store, worker, "to be done", |run| run.state == State::Done).await;
    let (ended, since) = (run.scan_ended_unix_ms, run.consistent_since_unix_ms);
    assert!(since > ended && ended > run.started_unix_ms, "{run:#?}");
    assert_eq!(run.progress.segments_finished, run.segments, "{run:#?}");
    run
}

/// Keeps copies from coming to their end.
fn slow(world: &World) -> RuleId {
    world.source_region().faults().add(Rule::new(Fault::Slow(Duration::from_millis(300))).on("Scan"))
}

/// Writes a change that must be in a replica soon; says how long that took.
async fn probe(world: &World, load: &mut Load, replica: usize, number: usize) -> Duration {
    let mut item = world.shape().key(0);
    let told = AttributeValue::S(format!("probe {number}"));
    item.insert("probe".to_owned(), told.clone());
    load.put_item(item).await;
    let since = Instant::now();
    wait::until("a change to be in a replica", async || {
        let found = world.replica_item(replica, &world.shape().key(0)).await?;
        (found.get("probe") == Some(&told)).then_some(())
    })
    .await;
    since.elapsed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_that_is_killed_again_and_again_under_load_leaves_no_difference() {
    let count = items();
    // About ten seconds for all of it: each kill comes before the end.
    let read_units = Some((count / 60).max(20) as u64);
    let world = World::with(options(1, Request { read_units, ..Request::default() })).await;
    let (seed, mut rng) = (91, Rng::with_seed(91));
    let mut load = world.load(count, seed);
    load.fill().await;
    let all = world.shape().key(count).into_iter().chain(value::every()).collect();
    load.put_item(all).await;
    for index in 1..=HUGE {
        let huge = [("huge".to_owned(), value::huge(&mut rng))];
        load.put_item(world.shape().key(count + index).into_iter().chain(huge).collect()).await;
    }
    let (stop, began) = (CancellationToken::new(), Instant::now());
    let load = beside(load.run_until(stop.clone()));
    let store = store(&world, world.shape(), 0).await;
    let mut pages = 0;
    for kill in 0..KILLS {
        let worker = world.worker().await;
        let before = world.source_region().requests("Scan");
        let enough = before + rng.u64(2..12);
        wait::until("pages to be read", async || {
            (world.source_region().requests("Scan") >= enough).then_some(())
        })
        .await;
        let run = until_run(&store, &worker, "to begin", |run| run.state != State::Wanted).await;
        worker.die().await;
        assert_eq!(run.state, State::Copying, "nothing is left after {kill} kills: {run:#?}");
        pages += world.source_region().requests("Scan") - before;
    }
    let worker = world.worker().await;
    let run = until_done(&store, &worker).await;
    println!("{count} items, {pages} pages before {KILLS} kills, {:?}: {run:#?}", began.elapsed());
    stop.cancel();
    let load = load.await.expect("the load does not panic");
    println!("{} changes, seed {seed}", load.written);
    // Finished pages are not read again, so nothing counts twice.
    let held = count + 1 + HUGE;
    assert!((held / 2..=held).contains(&(run.progress.items as usize)), "{held} were there: {run:#?}");
    assert!(run.request.known_empty && run.progress.misfits == 0, "{run:#?}");
    world.settled(&worker).await;
    let ledger = worker.replica(0).ledger;
    assert!(ledger.superseded < ledger.read, "{ledger:?}");
    worker.drain().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fleet_copies_one_replica_at_one_worker_and_keeps_the_others_going() {
    let request = Request { segments: Some(1_000), ..Request::default() };
    let world = World::with(options(3, request)).await;
    let two_replicas = Options {
        replicas: 2,
        start: Start::TrimHorizon,
        copy: FirstCopy::OnDemand,
        ..world.options.clone()
    };
    let worker = world.worker_with(&two_replicas).await;
    let mut load = world.load(400, 92);
    load.fill().await;
    wait::until("the first replicas to have everything", async || {
        let differences =
            [world.differences(world.shape(), 0, &[]).await, world.differences(world.shape(), 1, &[]).await];
        differences.iter().all(Vec::is_empty).then_some(())
    })
    .await;
    worker.drain().await;
    let held_back = slow(&world);
    let (one, two) = (world.worker().await, world.worker().await);
    let store = store(&world, world.shape(), 2).await;
    until_run(&store, &one, "to begin", |run| run.state == State::Copying).await;
    let sole = |worker: &Running| worker.replication().affinity.is_some_and(|affinity| affinity.sole);
    assert!(sole(&one) != sole(&two), "{}\n{}", one.tell(), two.tell());
    let (alone, other) = if sole(&one) { (&one, &two) } else { (&two, &one) };
    assert_eq!(other.replication().shards.active, 0, "{}", other.tell());
    assert!(alone.replication().shards.active > 0, "{}", alone.tell());
    let scans = world.source_region().requests("Scan");
    let mut slowest = Duration::ZERO;
    for number in 0..10 {
        slowest = slowest.max(probe(&world, &mut load, number % 2, number).await);
        load.run(20).await;
    }
    assert!(slowest < Duration::from_secs(5), "a change took {slowest:?} while another replica is copied");
    assert!(world.source_region().requests("Scan") > scans, "nothing was copied meanwhile");
    assert_eq!(run_of(&store).await.map(|run| run.state), Some(State::Copying), "it was over all the while");
    world.source_region().faults().remove(held_back);
    until_done(&store, alone).await;
    if world.rows(world.shape()).await.len() > 1 {
        for worker in [&one, &two] {
            worker
                .until("the shards to spread again", |status| {
                    let replication = &status.replications[0];
                    replication.shards.active > 0 && replication.affinity.is_none()
                })
                .await;
        }
    }
    load.run(100).await;
    world.settled(&one).await;
    two.assert_ledger().await;
    for index in 0..2 {
        let run = run_of(&self::store(&world, world.shape(), index).await).await;
        assert_eq!(run, None, "replica {index} was copied although it is not new");
    }
    one.drain().await;
    two.drain().await;
}

/// Text that the second replica's index cannot hold.
const MISFIT: &str = "misfit-7f3a";

/// Makes a replica's table anew with an index over numbers.
async fn give_index(world: &World, index: usize) {
    let (client, table) = (&world.replicas[index].client, world.replica_table(world.shape(), index));
    client.delete_table().table_name(&table).send().await.expect("the table is deleted");
    wait::until("the table to be gone", async || {
        client.describe_table().table_name(&table).send().await.is_err().then_some(())
    })
    .await;
    let attribute = |name: &str, kind| {
        AttributeDefinition::builder().attribute_name(name).attribute_type(kind).build().expect("whole")
    };
    let part = |name: &str, role| {
        KeySchemaElement::builder().attribute_name(name).key_type(role).build().expect("whole")
    };
    let over = GlobalSecondaryIndex::builder()
        .index_name("by-rank")
        .key_schema(part("rank", KeyType::Hash))
        .projection(Projection::builder().projection_type(ProjectionType::All).build());
    let create = client
        .create_table()
        .table_name(&table)
        .billing_mode(BillingMode::PayPerRequest)
        .attribute_definitions(attribute(HASH, ScalarAttributeType::S))
        .attribute_definitions(attribute(RANGE, ScalarAttributeType::N))
        .attribute_definitions(attribute("rank", ScalarAttributeType::N))
        .key_schema(part(HASH, KeyType::Hash))
        .key_schema(part(RANGE, KeyType::Range))
        .global_secondary_indexes(over.build().expect("whole"));
    create.send().await.expect("the table is created");
    // Not every server refuses what an index cannot hold.
    let fault = Fault::Poison { marker: MISFIT.to_owned() };
    world.replicas[index].client.describe_table().table_name(&table).send().await.expect("described");
    world.replica_region(index).faults().add(Rule::new(fault));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_holds_something_is_refused_and_what_an_index_cannot_hold_is_parked() {
    let world = World::with(options(3, Request::default())).await;
    let mut load = world.load(100, 93);
    load.fill().await;
    let misfit: Item = world
        .shape()
        .key(40)
        .into_iter()
        .chain([("rank".to_owned(), AttributeValue::S(MISFIT.to_owned()))])
        .collect();
    load.put_item(misfit.clone()).await;
    give_index(&world, 1).await;
    let stranger = world.shape().key(5_000);
    let table = world.replica_table(world.shape(), 0);
    let put = world.replicas[0].client.put_item().table_name(&table).set_item(Some(stranger.clone()));
    put.send().await.expect("an item is put");
    let worker = world.worker().await;
    let store_of = async |index| store(&world, world.shape(), index).await;
    let refused = store_of(0).await;
    let refused = until_run(&refused, &worker, "to be refused", |run| run.state == State::Refused).await;
    let reason = refused.reason.expect("a reason");
    assert!(reason.contains(&table) && reason.contains("--reconcile"), "{reason}");
    let parking = until_done(&store_of(1).await, &worker).await;
    let told = parking.progress.misfit.expect("the misfit is told");
    for words in ["h-20", "`rank` of type S", "index `by-rank` of the replica wants N", "parked"] {
        assert!(told.contains(words), "no {words} in {told}");
    }
    assert_eq!(parking.progress.misfits, 1);
    worker.until("it to be parked", |status| status.replications[0].replicas[1].parked_keys == 1).await;
    let whole = until_done(&store_of(2).await, &worker).await;
    assert_eq!(whole.progress.misfit, None);
    probe(&world, &mut load, 0, 0).await;
    // Something in every shard: what was written before the start is nobody's to read.
    load.run(150).await;
    load.put_item(misfit.clone()).await;
    assert!(world.replica_item(0, &stranger).await.is_some(), "the refused copy deleted something");
    world.durable(world.shape(), &worker).await;
    let without = [misfit].map(|item| world.shape().key_of(&item));
    assert_eq!(world.differences(world.shape(), 1, &without).await, Vec::<String>::new());
    assert_eq!(world.differences(world.shape(), 2, &[]).await, Vec::<String>::new());
    worker.assert_ledger().await;
    // What is mended at the source is settled.
    load.put_item(world.shape().key(40)).await;
    worker.until("nothing to be parked", |status| status.replications[0].replicas[1].parked_keys == 0).await;
    worker.drain().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_that_is_deleted_while_it_is_copied_is_told_and_stops_no_other() {
    let other = Shape { name: "invoices", ..Shape::orders() };
    let request = Request { segments: Some(1_000), ..Request::default() };
    let world =
        World::with(Options { shapes: vec![Shape::orders(), other.clone()], ..options(1, request) }).await;
    let mut load = world.load(100, 94);
    load.fill().await;
    let mut others = world.load_of(&other, 100, 95);
    others.fill().await;
    let fault = Rule::new(Fault::Slow(Duration::from_millis(300))).on("Scan").of_table(&world.table());
    world.source_region().faults().add(fault);
    let worker = world.worker().await;
    let copy = store(&world, world.shape(), 0).await;
    until_run(&copy, &worker, "to begin", |run| run.state == State::Copying).await;
    world.source.client.delete_table().table_name(world.table()).send().await.expect("it is deleted");
    let run = until_run(&copy, &worker, "to tell its trouble", |run| run.trouble.is_some()).await;
    let trouble = run.trouble.expect("there is one");
    assert_eq!(run.state, State::Copying, "it can go on: {trouble}");
    assert!(trouble.contains(&world.table()), "{trouble}");
    println!("{trouble}");
    others.run(100).await;
    until_done(&store(&world, &other, 0).await, &worker).await;
    others.run(100).await;
    world.durable(&other, &worker).await;
    assert_eq!(world.differences(&other, 0, &[]).await, Vec::<String>::new());
    worker.drain().await;
}
