//! Copies whose source or control table fails.

use super::*;
use crate::fault::{Fault, Width};

#[tokio::test(start_paused = true)]
async fn a_page_that_fails_is_read_again() {
    for fault in [
        Fault::Throttled(Width::KeyRange),
        Fault::Throttled(Width::Table),
        Fault::Transient,
        Fault::Unanswered,
        Fault::Protocol,
    ] {
        let world = World::new();
        world.fill(60);
        world.source.fail_next(&[fault; 7]);
        world.ask(cut(4)).await;
        let worker = world.start().await;
        let run = world.until(State::Done).await;
        assert_eq!(run.progress.items, 60, "{fault:?}");
        assert_eq!(run.trouble, None, "{fault:?}");
        world.is_equal();
        assert_eq!(worker.budget.used_bytes(), 0, "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_deleted_source_is_told_and_the_copy_goes_on_when_it_is_back() {
    let world = World::new();
    world.fill(100);
    world.source.slow(Duration::from_millis(200));
    world.ask(cut(4)).await;
    let _worker = world.start().await;
    sleep(Duration::from_millis(700)).await;
    world.source.fail(Some(Fault::Missing));
    sleep(Duration::from_secs(120)).await;
    let run = world.run().await;
    assert_eq!(run.state, State::Copying);
    let trouble = run.trouble.expect("it is told");
    assert!(trouble.contains("does not exist") && trouble.contains("`source`"), "{trouble}");
    let scans = world.source.scans().len();
    sleep(Duration::from_secs(600)).await;
    assert!(world.source.scans().len() - scans < 1_000, "it is tried without a pause");
    world.source.fail(None);
    let run = world.until(State::Done).await;
    assert_eq!((run.trouble, run.progress.items), (None, 100));
    world.is_equal();
}

#[tokio::test(start_paused = true)]
async fn checkpoints_that_cannot_be_written_hold_the_copy_back_and_lose_nothing() {
    let world = World::new();
    world.fill(100);
    world.source.slow(Duration::from_millis(200));
    world.ask(cut(4)).await;
    let _worker = world.start().await;
    sleep(Duration::from_millis(700)).await;
    world.tables.break_rows(true);
    sleep(Duration::from_secs(300)).await;
    world.tables.break_rows(false);
    let run = world.until(State::Done).await;
    assert_eq!(run.progress.items, 100);
    world.is_equal();
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_takes_no_writes_stops_the_reading() {
    let world = World::new();
    world.fill(2_000);
    world.tables.break_table("replica", true);
    world.ask(cut(4)).await;
    let _worker = world.start().await;
    sleep(Duration::from_secs(60)).await;
    let scans = world.source.scans().len();
    assert!(scans < 100, "{scans} pages were read for a replica that takes none");
    let trouble = world.run().await.trouble.expect("it is told");
    assert!(trouble.starts_with("replica: "), "{trouble}");
    world.tables.break_table("replica", false);
    world.until(State::Done).await;
    world.is_equal();
}

#[tokio::test(start_paused = true)]
async fn live_changes_that_wait_come_first() {
    let world = World::new();
    world.fill(500);
    world.tables.slow_table("replica", Duration::from_secs(1));
    // So that the writer has them all before the copy begins.
    world.tables.slow_rows(Duration::from_millis(100));
    world.ask(Request { known_empty: true, ..cut(4) }).await;
    let worker = world.start().await;
    for index in 0..5_000 {
        worker.change(&world, &format!("n{index}"), Some("new"));
    }
    sleep(Duration::from_secs(10)).await;
    assert!(worker.gauges.pending() > 2_000, "{} wait", worker.gauges.pending());
    assert_eq!(world.run().await.state, State::Copying);
    assert!(world.source.scans().is_empty(), "pages are read while thousands of changes wait");
    world.until(State::Done).await;
    worker.settled().await;
    world.is_equal();
}

#[tokio::test(start_paused = true)]
async fn a_page_has_no_more_items_than_its_limit() {
    // What the other tests rely on.
    let world = World::new();
    world.fill(50);
    world.ask(cut(1)).await;
    let _worker = world.start().await;
    world.until(State::Done).await;
    assert!(world.source.scans().len() >= 50 / PAGE_ITEMS as usize);
}
