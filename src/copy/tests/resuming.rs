//! Copies whose workers die, or are not alone for a while.

use super::*;
use crate::mutation::{self, Mutation};

/// Every item up to a segment's checkpoint is in the replica.
async fn checkpoints_are_not_ahead(world: &World) {
    let run = world.run().await;
    if run.segments == 0 {
        return;
    }
    let (_, segments) = world.store().segments(&run).await.expect("readable");
    let replica = world.replica();
    for key in world.source.items().keys() {
        let segment = &segments[model::segment(key.as_bytes(), run.segments) as usize];
        let passed = segment.after.as_ref().is_some_and(|after| key.as_bytes() <= after.as_bytes());
        if segment.finished || passed {
            assert!(replica.contains_key(key), "{key} was passed and is not there");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_copy_that_is_killed_at_any_time_goes_on_and_loses_nothing() {
    for seed in 0..8 {
        fastrand::seed(seed);
        let world = World::new();
        world.fill(300);
        world.source.slow(Duration::from_millis(40));
        world.tables.slow_table("replica", Duration::from_millis(30));
        world.tables.slow_rows(Duration::from_millis(10));
        world.ask(cut(8)).await;
        let mut deaths = 0;
        while world.run().await.state != State::Done {
            let worker = world.start().await;
            sleep(Duration::from_millis(fastrand::u64(20..300))).await;
            drop(worker);
            deaths += 1;
            checkpoints_are_not_ahead(&world).await;
            assert!(deaths < 500, "it does not get forward");
        }
        assert!(deaths > 1, "seed {seed}: it was never killed");
        world.is_equal();
        let run = world.run().await;
        assert_eq!((run.progress.items, run.progress.segments_finished), (300, 8), "seed {seed}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_is_not_alone_reads_nothing_and_goes_on_when_it_is() {
    let world = World::new();
    world.fill(200);
    world.source.slow(Duration::from_millis(100));
    world.ask(cut(4)).await;
    let worker = world.start().await;
    sleep(Duration::from_millis(550)).await;
    worker.lose();
    sleep(Duration::from_secs(1)).await;
    let scans = world.source.scans().len();
    let held = world.replica().len();
    sleep(Duration::from_secs(60)).await;
    assert_eq!((world.source.scans().len(), world.replica().len()), (scans, held));
    assert!(held < 200, "nothing was left to do");
    checkpoints_are_not_ahead(&world).await;
    worker.regain();
    let run = world.until(State::Done).await;
    assert_eq!(run.progress.items, 200);
    world.is_equal();
}

#[tokio::test(start_paused = true)]
async fn a_stop_saves_what_is_under_way() {
    let world = World::new();
    world.fill(200);
    world.source.slow(Duration::from_millis(100));
    world.tables.slow_table("replica", Duration::from_millis(200));
    world.ask(cut(4)).await;
    let mut worker = world.start().await;
    sleep(Duration::from_millis(450)).await;
    worker.end().await;
    worker.settled().await;
    let run = world.run().await;
    let (_, segments) = world.store().segments(&run).await.expect("readable");
    let saved: u64 = segments.iter().map(|segment| segment.items).sum();
    assert_eq!(saved, world.replica().len() as u64, "what is durable was not saved");
    assert!(saved > 0 && saved < 200, "{saved} items were copied before the stop");
    drop(worker);
    let _worker = world.start().await;
    world.until(State::Done).await;
    world.is_equal();
}

/// Eventually consistent reads are 30 s behind, and the window is a minute. A worker applies a change of the stream and
/// dies; does its successor, which has not seen that, bring the older state back?
async fn older_state_comes_back(mutation: Option<Mutation>) -> bool {
    let world = World::with_staleness(Duration::from_secs(30));
    world.fill(50);
    sleep(Duration::from_secs(100)).await;
    let request = Request { consistent: false, window: Duration::from_secs(60), ..cut(4) };
    world.ask(request).await;
    let worker = world.start().await;
    sleep(Duration::from_secs(5)).await;
    for name in ["k1", "k2", "k3"] {
        worker.change(&world, name, Some("new"));
    }
    worker.settled().await;
    drop(worker);
    let restarted = Instant::now();
    mutation::switch(mutation);
    let _worker = world.start().await;
    world.until(State::Done).await;
    mutation::switch(None);
    let first = world.source.scans().into_iter().find(|at| *at >= restarted).expect("it went on");
    let came_back = world.replica() != world.source.items();
    assert!(came_back || first >= restarted + Duration::from_secs(60), "it read before the window was over");
    came_back
}

#[tokio::test(start_paused = true)]
async fn reads_that_may_be_behind_wait_for_the_window_after_every_restart() {
    assert!(!older_state_comes_back(None).await);
}

#[tokio::test(start_paused = true)]
async fn without_that_wait_an_older_state_comes_back() {
    let came_back = older_state_comes_back(Some(Mutation::CopyWithoutWait)).await;
    assert!(came_back, "the wait is not what keeps it away");
}

#[tokio::test(start_paused = true)]
async fn a_window_is_waited_for_each_time_this_worker_is_alone() {
    let world = World::with_staleness(Duration::from_secs(30));
    world.fill(100);
    sleep(Duration::from_secs(100)).await;
    world.source.slow(Duration::from_secs(10));
    world.ask(Request { consistent: false, window: Duration::from_secs(60), ..cut(1) }).await;
    let worker = world.start().await;
    sleep(Duration::from_secs(75)).await;
    assert!(!world.source.scans().is_empty(), "the window is over");
    worker.lose();
    sleep(Duration::from_secs(20)).await;
    worker.regain();
    let regained = Instant::now();
    world.until(State::Done).await;
    let next = world.source.scans().into_iter().find(|at| *at >= regained).expect("it went on");
    assert!(next >= regained + Duration::from_secs(60), "read {:?} after", next - regained);
    world.is_equal();
}

/// Workers that die again and again under a table that changes all the while, whose reads are half a minute behind.
async fn copied_under_changes(seed: u64, mutation: Option<Mutation>) -> bool {
    fastrand::seed(seed);
    let world = World::with_staleness(Duration::from_secs(30));
    world.fill(60);
    sleep(Duration::from_secs(100)).await;
    world.source.slow(Duration::from_secs(5));
    world.ask(Request { consistent: false, window: Duration::from_secs(31), ..cut(4) }).await;
    mutation::switch(mutation);
    for _ in 0..6 {
        let worker = world.start().await;
        for version in 0..fastrand::u64(1..20) {
            sleep(Duration::from_millis(fastrand::u64(100..5_000))).await;
            let value = fastrand::bool().then(|| format!("v{version}"));
            worker.change(&world, &format!("k{}", fastrand::u32(..60)), value.as_deref());
        }
        // What a dead worker had not applied its successor would read again from the stream.
        worker.settled().await;
    }
    let worker = world.start().await;
    world.until(State::Done).await;
    worker.settled().await;
    mutation::switch(None);
    world.replica() == world.source.items()
}

#[tokio::test(start_paused = true)]
async fn whoever_dies_while_the_table_changes_the_replica_ends_as_its_source() {
    for seed in 0..20 {
        assert!(copied_under_changes(seed, None).await, "seed {seed}: source and replica differ");
    }
}

#[tokio::test(start_paused = true)]
async fn without_the_wait_or_the_guard_it_does_not() {
    for mutation in [Mutation::CopyWithoutWait, Mutation::CopyWithoutGuard, Mutation::CopyWindowZero] {
        let mut found = false;
        for seed in 0..20 {
            found |= !copied_under_changes(seed, Some(mutation)).await;
        }
        assert!(found, "{mutation:?} was not found in 20 cases");
    }
}
