//! Copies that meet no failure.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_table_is_copied_while_it_changes() {
    let world = World::new();
    world.fill(200);
    world.source.slow(Duration::from_millis(20));
    world.ask(cut(8)).await;
    let worker = world.start().await;
    for round in 0..40 {
        sleep(Duration::from_millis(7)).await;
        worker.change(&world, &format!("k{}", round * 5), Some("new"));
        worker.change(&world, &format!("k{}", round * 5 + 1), None);
        worker.change(&world, &format!("n{round}"), Some("new"));
    }
    let run = world.until(State::Done).await;
    worker.settled().await;
    world.is_equal();
    assert_eq!((run.segments, run.progress.segments_finished), (8, 8));
    assert!(run.progress.items >= 160 && run.progress.read_units >= 160.0, "{run:?}");
    assert!(run.consistent_since_unix_ms >= run.scan_ended_unix_ms && run.scan_ended_unix_ms.is_some());
    assert_eq!(worker.budget.used_bytes(), 0);
    let wanted = worker.wanted.lock().expect("whole").clone();
    assert!(wanted.contains(&(Purpose::Copy, true)), "the right to write was never asked for");
}

#[tokio::test(start_paused = true)]
async fn an_empty_table_is_copied_at_once() {
    let world = World::new();
    world.ask(Request::default()).await;
    let _worker = world.start().await;
    let run = world.until(State::Done).await;
    assert_eq!((run.segments, run.progress.items), (64, 0));
    assert!(world.replica().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_holds_items_is_refused_and_can_be_reconciled() {
    let world = World::new();
    world.fill(3);
    let worker = world.start().await;
    worker.change(&world, "there", Some("already"));
    worker.settled().await;
    world.ask(Request::default()).await;
    let run = world.until(State::Refused).await;
    assert!(run.reason.as_ref().is_some_and(|reason| reason.contains("--reconcile")), "{run:?}");
    assert!(!world.replica().contains_key(&key("k0").to_string()), "it was copied all the same");

    world.ask(Request { reconcile: true, ..Request::default() }).await;
    let mut run = world.until(State::Reconciling).await;
    world.is_equal();
    // Whoever compares them says when nothing is left over.
    run.state = State::Settling;
    assert_eq!(world.store().save(&mut run).await.expect("written"), Saved::Done);
    world.until(State::Done).await;
}

#[tokio::test(start_paused = true)]
async fn what_came_by_the_stream_alone_does_not_stand_in_the_way() {
    let world = World::new();
    world.fill(3);
    let worker = world.start().await;
    worker.change(&world, "k0", Some("new"));
    worker.settled().await;
    world.ask(Request { known_empty: true, ..Request::default() }).await;
    world.until(State::Done).await;
    world.is_equal();
}

#[tokio::test(start_paused = true)]
async fn tables_that_do_not_fit_are_refused() {
    let world = World::new();
    let mut table = model::table();
    table.key[0].kind = "N".to_owned();
    world.tables.describe_as(table);
    world.ask(Request::default()).await;
    let _worker = world.start().await;
    let run = world.until(State::Refused).await;
    let reason = run.reason.expect("it says why");
    assert!(reason.contains("the key k (N), its source k (S)"), "{reason}");
}

#[tokio::test(start_paused = true)]
async fn more_units_than_the_table_has_are_refused() {
    let world = World::new();
    world.source.describe_as(crate::dynamo::Table { provisioned: Some((50, 5)), ..model::table() });
    world.ask(Request { read_units: Some(51), ..Request::default() }).await;
    let _worker = world.start().await;
    let reason = world.until(State::Refused).await.reason.expect("it says why");
    assert!(reason.contains("51 read units per second are more than the 50"), "{reason}");
    world.ask(Request { read_units: Some(50), ..Request::default() }).await;
    world.until(State::Done).await;
}

#[tokio::test(start_paused = true)]
async fn a_copy_keeps_to_its_units() {
    let world = World::new();
    world.fill(300);
    world.ask(Request { read_units: Some(10), ..cut(4) }).await;
    let _worker = world.start().await;
    let begun = Instant::now();
    let run = world.until(State::Done).await;
    assert!(begun.elapsed() >= Duration::from_secs(29), "300 units in {:?}", begun.elapsed());
    assert!(begun.elapsed() <= Duration::from_secs(120), "300 units took {:?}", begun.elapsed());
    assert_eq!((run.progress.read_units, run.progress.items), (300.0, 300));
}

#[tokio::test(start_paused = true)]
async fn another_budget_counts_from_the_next_look() {
    let world = World::new();
    world.fill(400);
    world.ask(Request { read_units: Some(1), ..cut(4) }).await;
    let _worker = world.start().await;
    sleep(Duration::from_secs(60)).await;
    assert_eq!(world.run().await.state, State::Copying);
    world.ask(Request { read_units: Some(1_000), ..cut(4) }).await;
    let asked = Instant::now();
    world.until(State::Done).await;
    assert!(asked.elapsed() < Duration::from_secs(60), "{:?}", asked.elapsed());
    world.is_equal();
}

#[tokio::test(start_paused = true)]
async fn a_copy_keeps_to_its_memory() {
    let mut world = World::new();
    world.budget_bytes = 3 << 20;
    world.fill(300);
    world.source.slow(Duration::from_millis(50));
    world.ask(cut(16)).await;
    let worker = world.start().await;
    world.until(State::Done).await;
    assert!(world.source.scans_at_once() <= 3, "{} pages at once", world.source.scans_at_once());
    assert_eq!(worker.budget.used_bytes(), 0);
    world.is_equal();
}

#[tokio::test(start_paused = true)]
async fn the_end_is_told_when_the_stream_is_past_it() {
    let world = World::new();
    world.fill(10);
    world.applied_through.store(0, Ordering::Relaxed);
    world.ask(cut(2)).await;
    let worker = world.start().await;
    let run = world.until(State::Settling).await;
    let ended = run.scan_ended_unix_ms.expect("it ended");
    world.applied_through.store(ended, Ordering::Relaxed);
    sleep(Duration::from_secs(60)).await;
    assert_eq!(world.run().await.state, State::Settling, "creation times are whole seconds");
    let wanted = worker.wanted.lock().expect("whole").last().copied();
    assert_eq!(wanted, Some((Purpose::Copy, false)), "the right to write is kept for nothing");
    world.applied_through.store(ended + 1_000, Ordering::Relaxed);
    let run = world.until(State::Done).await;
    assert!(run.consistent_since_unix_ms >= Some(ended));
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_copy_ends_and_a_new_one_begins_anew() {
    let world = World::new();
    world.fill(200);
    world.source.slow(Duration::from_millis(500));
    world.ask(cut(4)).await;
    let _worker = world.start().await;
    sleep(Duration::from_secs(2)).await;
    let mut run = world.run().await.cancelled().expect("it is under way");
    assert_eq!(world.store().save(&mut run).await.expect("written"), Saved::Done);
    sleep(Duration::from_secs(30)).await;
    let scans = world.source.scans().len();
    sleep(Duration::from_secs(30)).await;
    assert_eq!(world.source.scans().len(), scans, "a cancelled copy reads on");
    assert_eq!(world.run().await.state, State::Cancelled);
    world.ask(Request { reconcile: true, ..cut(2) }).await;
    let run = world.until(State::Reconciling).await;
    assert_eq!((run.segments, run.progress.items), (2, 200));
    world.is_equal();
}

#[tokio::test(start_paused = true)]
async fn an_item_that_an_index_cannot_hold_is_told_and_parked() {
    let world = World::new();
    world.fill(20);
    let index = crate::dynamo::IndexKey {
        index: "by-v".to_owned(),
        key: vec![crate::dynamo::KeyAttribute { name: "v".to_owned(), kind: "S".to_owned() }],
    };
    world.tables.describe_as(crate::dynamo::Table { index_keys: vec![index], ..model::table() });
    let text = r#"{"k":{"S":"odd"},"v":{"N":"7"},"poison":{"BOOL":true}}"#;
    world.source.write(&key("odd"), Some(&Item::from_json(text.into())));
    world.tables.refuse_items_with("poison");
    world.ask(cut(4)).await;
    let _worker = world.start().await;
    let run = world.until(State::Done).await;
    let misfit = run.progress.misfit.expect("it is told");
    assert!(misfit.contains("odd") && misfit.contains("by-v"), "{misfit}");
    assert_eq!((run.progress.misfits, run.progress.items), (1, 21));
    let parked = world.parked().list().await.expect("listed");
    assert_eq!(parked.iter().map(|entry| entry.key.clone()).collect::<Vec<_>>(), [key("odd")]);
    assert_eq!(world.replica().len(), 20);
}

#[tokio::test(start_paused = true)]
async fn what_the_service_keeps_in_items_is_not_copied() {
    let world = World::new();
    let text = r#"{"aws:rep:updateregion":{"S":"x"},"k":{"S":"a"}}"#;
    world.source.write(&key("a"), Some(&Item::from_json(text.into())));
    world.ask(cut(1)).await;
    let _worker = world.start().await;
    world.until(State::Done).await;
    assert_eq!(world.replica()[&key("a").to_string()], r#"{"k":{"S":"a"}}"#);
}
