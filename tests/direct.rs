//! Against a server that nobody here wrote, without the emulator between: what can be seen with its one shard, and
//! what an ordinary AWS client writes.
//!
//! These need a server (`DYNAMIRROR_TEST_ENDPOINT`), so plain `cargo test` leaves them out; `tests/run` runs them.

use std::process::Stdio;
use std::sync::Mutex;
use std::time::Duration;

use fastrand::Rng;
use tokio::process::{Child, Command};

use crate::support::process::{self, SHORT_LEASE};
use crate::support::target::{self, Server};
use crate::support::{Options, World};

/// The Python that has boto3.
const PYTHON: &str = "DYNAMIRROR_TEST_PYTHON";

/// What writes and compares with boto3.
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/aws_client.py");

fn direct() -> Options {
    Options { direct: true, ..Options::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a server: tests/run starts one"]
async fn every_change_arrives_without_the_emulator() {
    let world = World::with(direct()).await;
    let mut load = world.load(100, 91);
    load.run(300).await;
    let worker = world.worker().await;
    load.run(700).await;
    let item = crate::support::value::every().into_iter().chain(world.shape().key(1_000));
    load.put_item(item.collect()).await;
    world.settled(&worker).await;
    worker.drain().await;
    load.run(200).await;
    let worker = world.worker().await;
    load.run(200).await;
    world.settled(&worker).await;
    worker.drain().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a server: tests/run starts one"]
async fn a_dead_workers_shard_is_taken_over_without_the_emulator() {
    let mut options = Options { attempt_timeout: Duration::from_millis(500), ..direct() };
    options.lease.duration = Duration::from_secs(2);
    options.lease.longest_attempt = Duration::from_millis(500);
    let world = World::with(options).await;
    let mut load = world.load(100, 92);
    let mut worker = world.worker().await;
    for _ in 0..4 {
        let next = world.worker().await;
        load.run(150).await;
        worker.die().await;
        load.run(150).await;
        next.until("the next to read", |status| status.replications[0].shards.active == 1).await;
        worker = next;
    }
    world.settled(&worker).await;
    worker.drain().await;
}

/// A stream that is switched off and on again closes its shard for real, which is how a shard's end and a new
/// stream look on this server.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a server: tests/run starts one"]
async fn a_stream_that_is_switched_off_is_told() {
    use aws_sdk_dynamodb::types::StreamSpecification;
    let world = World::with(direct()).await;
    let worker = world.worker().await;
    let mut load = world.load(100, 93);
    load.run(200).await;
    world.settled(&worker).await;
    let off = StreamSpecification::builder().stream_enabled(false).build().expect("a switch");
    let update = world.source.client.update_table().table_name(world.table()).stream_specification(off);
    update.send().await.expect("the stream is switched off");
    worker
        .until("the gap", |status| {
            let gaps = &status.replications[0].gaps;
            !status.ready && gaps.iter().any(|gap| gap.shard.is_none() && gap.reason.contains("switched off"))
        })
        .await;
    worker.drain().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a server and boto3: tests/run brings them"]
async fn what_boto3_writes_arrives_in_two_replicas_also_with_kills_in_between() {
    let world = World::with(Options { attempt_timeout: Duration::from_millis(500), ..direct() }).await;
    let config = process::config(&world, SHORT_LEASE, "");
    let mut rng = Rng::with_seed(94);
    let mut writer = boto3(&world, "write");
    let mut kills = 0;
    // Until the writer has ended, and a few times more.
    while writer.try_wait().expect("it is our child").is_none() || kills < 8 {
        let mut daemon = process::start(&world, &config);
        tokio::time::sleep(Duration::from_millis(rng.u64(200..3_000))).await;
        daemon.kill();
        kills += 1;
    }
    let written = writer.wait().await.expect("it is our child");
    assert!(written.success(), "the writer failed: {written}");
    let daemon = Mutex::new(process::start(&world, &config));
    let tell = || format!("{:#?}", daemon.lock().expect("nothing panics with it").told());
    world.equal(&tell).await;
    println!("{kills} kills");
    let compared = boto3(&world, "compare").wait().await.expect("it is our child");
    assert!(compared.success(), "boto3 finds differences: {compared}");
    let mut daemon = daemon.into_inner().expect("nothing panicked with it");
    daemon.terminate();
    assert_eq!(daemon.code(), Some(0));
}

/// Runs the script on the world's tables.
fn boto3(world: &World, act: &str) -> Child {
    let python = std::env::var(PYTHON).unwrap_or_else(|_| {
        panic!("this test needs a Python that has boto3: set {PYTHON}, or run tests/run")
    });
    let mut command = Command::new(python);
    command.arg(SCRIPT).arg(act).arg(&world.source.endpoint).arg(&world.source.region).arg(world.table());
    for (index, place) in world.replicas.iter().enumerate() {
        command.arg(&place.region).arg(world.replica_table(world.shape(), index));
    }
    command
        .env("AWS_ACCESS_KEY_ID", &world.prefix)
        .env("AWS_SECRET_ACCESS_KEY", "secret")
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("Python starts")
}

/// The server is the one it is said to be: what it cannot do is left out by its name.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a server: tests/run starts one"]
async fn the_server_answers() {
    assert_ne!(target::server(), Server::Embedded);
    let world = World::with(direct()).await;
    let tables = world.source.client.list_tables().send().await.expect("it lists tables");
    assert!(tables.table_names().contains(&world.table()), "{tables:?}");
}
