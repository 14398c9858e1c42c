use clap::Parser;

use super::*;
use crate::demo::load::{HASH_KEY, RANGE_KEY};
use crate::demo::wire::Wire;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    args: Args,
}

fn args() -> Args {
    let line = ["demo", "--held", "300", "--rate", "150", "--duration", "2500ms", "--shards", "2"];
    Line::parse_from(line).args
}

/// A demo after its load, caught up.
async fn caught_up<'a>(args: &Args, screen: &'a mut Screen) -> Stage<'a> {
    let mut stage = Stage::open(args, 7, screen).await.expect("a world and a daemon");
    let never = CancellationToken::new();
    stage.write(args.planned(), &never).await.expect("load");
    stage.catch_up(Duration::from_secs(60)).await.expect("a running daemon");
    stage
}

async fn call(wire: &Wire, operation: &'static str, body: String) {
    let called = wire.call(operation, body.into_bytes()).await;
    called.expect("the region takes it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn replicas_are_equal_and_everything_is_accounted_for() {
    let (args, mut screen) = (args(), Screen::plain());
    let mut stage = caught_up(&args, &mut screen).await;
    stage.verify().await.expect("tables that can be read");
    let summary = stage.close().await.expect("a drained daemon");
    assert!(summary.ok, "{summary}");
    assert!(summary.source.written.items() > 100 && summary.source.records > 50, "{summary}");
    assert!(
        summary.source.splits > 0 && summary.source.shards_ended == summary.source.shards_closed,
        "{summary}"
    );
    assert_eq!(summary.replicas.len(), 2);
    for replica in &summary.replicas {
        assert!(replica.verified.items > 300 && replica.lag.is_some(), "{summary}");
        assert!(replica.copied.items >= 250 && replica.copied.is_done(), "{summary}");
        assert_eq!(replica.ledger.read, summary.source.records + replica.copied.items, "{summary}");
    }
}

/// What the daemon did not do is found, whatever its ledger says.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_replica_that_was_tampered_with_is_found() {
    let (args, mut screen) = (args(), Screen::plain());
    let mut stage = caught_up(&args, &mut screen).await;
    let key = format!(r#""{HASH_KEY}":{{"S":"nobody"}},"{RANGE_KEY}":{{"N":"1"}}"#);
    let item = format!(r#"{{"TableName":"{TABLE}","Item":{{{key}}}}}"#);
    call(&stage.world.replicas[1].wire(), "PutItem", item).await;
    stage.verify().await.expect("tables that can be read");
    let summary = stage.close().await.expect("a drained daemon");
    assert!(!summary.ok && summary.replicas[0].is_equal() && !summary.replicas[1].is_equal(), "{summary}");
    assert_eq!(summary.replicas[1].verified.extra, 1, "{summary}");
    assert!(summary.replicas[1].verified.examples[0].contains("nobody"), "{summary}");
}

/// A replica that takes nothing is told as such, and not waited for any longer than asked.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_replica_that_does_not_catch_up_is_told() {
    let (args, mut screen) = (args(), Screen::plain());
    let mut stage = Stage::open(&args, 7, &mut screen).await.expect("a world and a daemon");
    let replica = stage.world.replicas[0].region.clone();
    replica.limit_writes(TABLE, 1.0);
    let never = CancellationToken::new();
    stage.write(args.planned(), &never).await.expect("load");
    stage.catch_up(Duration::from_secs(1)).await.expect("a running daemon");
    stage.verify().await.expect("tables that can be read");
    replica.unlimit_writes(TABLE);
    let summary = stage.close().await.expect("a drained daemon");
    assert!(!summary.ok && !summary.replicas[0].is_equal(), "{summary}");
    assert!(summary.problems.iter().any(|it| it.contains("eu-central-1 settled")), "{summary}");
}
