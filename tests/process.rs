//! The real program: killed at any moment, drained, scraped.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use fastrand::Rng;
use tokio_util::sync::CancellationToken;

use crate::cli::program::Daemon;
use crate::support::process::{self, SHORT_LEASE};
use crate::support::{Options, World, beside, wait};

/// Kills of one run. Each comes at another moment of a worker's life.
const KILLS: usize = 24;

async fn world() -> World {
    World::with(Options { attempt_timeout: Duration::from_millis(500), ..Options::default() }).await
}

/// Lets a random part of a worker's life pass: some time, or some of its calls.
async fn some_while(world: &World, rng: &mut Rng) {
    let calls = [
        (world.replica_region(0), "BatchWriteItem", 40),
        (world.replica_region(1), "BatchWriteItem", 40),
        (world.control_region(), "PutItem", 30),
        (world.source_region(), "GetRecords", 40),
    ];
    match rng.usize(..=calls.len()) {
        4 => tokio::time::sleep(Duration::from_millis(rng.u64(..300))).await,
        which => {
            let (region, operation, most) = calls[which];
            let enough = region.requests(operation) + rng.u64(1..most);
            wait::until("the worker to do something", async || {
                (region.requests(operation) >= enough).then_some(())
            })
            .await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_that_is_killed_again_and_again_under_load_leaves_no_difference() {
    let world = world().await;
    let seed = 81;
    let mut rng = Rng::with_seed(seed);
    let config = process::config(&world, SHORT_LEASE, "");
    // The same worker again need not wait for its own lease: more of the kills hit one that is at work.
    let named = process::config(&world, SHORT_LEASE, "[worker]\nid = \"named\"");
    let stop = CancellationToken::new();
    let load = beside(world.load(300, seed).run_until(stop.clone()));
    for kill in 0..KILLS {
        let mut daemon = process::start(&world, if rng.bool() { &config } else { &named });
        some_while(&world, &mut rng).await;
        if kill % 4 == 3 {
            world.source_region().roll(&world.table()).await.expect("a shard is rolled over");
        }
        if kill % 8 == 5 {
            world.source_region().split(&world.table()).await.expect("a shard is split");
        }
        daemon.kill();
    }
    stop.cancel();
    let load = load.await.expect("the load does not panic");
    let daemon = std::sync::Mutex::new(process::start(&world, &config));
    let tell = || format!("{:#?}", daemon.lock().expect("nothing panics with it").told());
    world.equal(&tell).await;
    println!("{} changes, {KILLS} kills, seed {seed}", load.written);
    let mut daemon = daemon.into_inner().expect("nothing panicked with it");
    daemon.terminate();
    assert_eq!(daemon.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_that_is_asked_to_end_gives_its_leases_back_and_the_next_goes_on_at_once() {
    let world = world().await;
    let config = process::config(&world, "duration = \"60s\"\ncheckpoint_interval = \"500ms\"", "");
    let stop = CancellationToken::new();
    let load = beside(world.load(100, 82).run_until(stop.clone()));
    // With leases of a minute, none of these would read anything if the one before had kept them.
    for _ in 0..4 {
        let writes = world.replica_region(0).requests("BatchWriteItem");
        let mut daemon = process::start(&world, &config);
        daemon.address();
        let moved = wait::within(Duration::from_secs(30), async || {
            (world.replica_region(0).requests("BatchWriteItem") > writes + 5).then_some(())
        });
        assert!(moved.await.is_some(), "it does not go on at once: {:#?}", daemon.told());
        daemon.terminate();
        assert_eq!(daemon.code(), Some(0), "{:#?}", daemon.told());
        for row in world.rows(world.shape()).await {
            assert_eq!(row.owner, None, "a lease was kept");
        }
    }
    stop.cancel();
    load.await.expect("the load does not panic");
    let mut daemon = process::start(&world, &config);
    world.equal(&String::new).await;
    daemon.terminate();
    assert_eq!(daemon.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn its_metrics_are_what_prometheus_wants() {
    let world = world().await;
    let config = process::config(&world, SHORT_LEASE, "");
    let mut load = world.load(100, 83);
    load.run(300).await;
    let mut daemon = process::start(&world, &config);
    let address = daemon.address();
    world.equal(&String::new).await;
    let metrics = wait::until("the lag to be known", async || {
        let metrics = process::get(address, "/metrics").await;
        metrics.contains("dynamirror_lag_seconds{").then_some(metrics)
    })
    .await;
    for name in [
        "dynamirror_records_read_total",
        "dynamirror_records_applied_total",
        "dynamirror_shards",
        "dynamirror_buffer_bytes",
        "dynamirror_aws_requests_total",
        "process_resident_memory_bytes",
    ] {
        let sample = metrics.lines().find(|line| line.starts_with(name) && !line.ends_with(" 0"));
        assert!(
            sample.is_some() || name.ends_with("buffer_bytes"),
            "{name} has no value above 0:\n{metrics}"
        );
    }
    check_with_promtool(&metrics);
    assert!(Daemon::answers(address, "/livez"));
    wait::until("it to be ready", async || Daemon::answers(address, "/readyz").then_some(())).await;
    daemon.terminate();
    assert_eq!(daemon.code(), Some(0));
}

fn check_with_promtool(metrics: &str) {
    let promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut promtool =
        promtool.expect("promtool is there (Debian's package `prometheus`; tests/run installs it)");
    let mut input = promtool.stdin.take().expect("it is piped");
    input.write_all(metrics.as_bytes()).expect("promtool reads");
    drop(input);
    let output = promtool.wait_with_output().expect("promtool ends");
    assert!(
        output.status.success(),
        "promtool finds fault:\n{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}
