use super::*;

#[tokio::test(start_paused = true)]
async fn an_expired_iterator_is_replaced_after_the_last_record_read() {
    let rig = Rig::new(Position::TrimHorizon);
    rig.script.page(vec![record(1, START), record(2, START)]);
    rig.script.fails_to_read(Fault::ExpiredIterator);
    rig.script.last_page(vec![record(3, START)]);
    let mut reader = rig.run();
    assert_eq!(reader.records().await.len(), 2);
    assert_eq!(reader.records().await.len(), 1, "one expired iterator is no trouble");
    assert_eq!(reader.stop().await, Stop::End);
    assert_eq!(rig.script.asked(), [Position::TrimHorizon, after(2)]);
}

#[tokio::test(start_paused = true)]
async fn iterators_that_expire_at_once_do_not_make_it_spin() {
    let rig = Rig::new(Position::TrimHorizon);
    for _ in 0..5 {
        rig.script.fails_to_read(Fault::ExpiredIterator);
    }
    rig.script.last_page(vec![]);
    let mut reader = rig.run();
    let start = Instant::now();
    assert_eq!(reader.trouble().await, (Fault::ExpiredIterator, Directive::Reacquire));
    reader.page().await;
    assert!(start.elapsed() > Duration::from_millis(500));
}

#[tokio::test(start_paused = true)]
async fn an_iterator_that_lay_too_long_is_not_used() {
    let rig = Rig::new(Position::TrimHorizon);
    rig.script.page(vec![record(1, START)]);
    rig.script.page(vec![record(2, START)]);
    rig.script.page(vec![record(3, START)]);
    rig.script.last_page(vec![]);
    let mut reader = rig.run();
    // The second page stands before a full channel, with the third's iterator in hand.
    rig.script.called(3).await;
    tokio::time::sleep(ITERATOR_AGE_MAX * 2).await;
    for _ in 0..4 {
        reader.page().await;
    }
    assert_eq!(reader.stop().await, Stop::End);
    let asked = rig.script.asked();
    assert_eq!(asked, [Position::TrimHorizon, after(2)]);
}

#[tokio::test(start_paused = true)]
async fn faults_that_pass_are_retried_told_and_over_with_the_next_page() {
    for (fault, expected) in [
        (Fault::Throttled(Width::Unknown), Directive::SlowDown),
        (Fault::Transient, Directive::Retry),
        (Fault::Unanswered, Directive::Retry),
        (Fault::Protocol, Directive::Retry),
        (Fault::Denied, Directive::Stall),
        (Fault::Invalid, Directive::Stall),
    ] {
        let rig = Rig::new(Position::TrimHorizon);
        rig.script.refuses_iterator(fault);
        rig.script.fails_to_read(fault);
        rig.script.last_page(vec![record(1, START)]);
        let mut reader = rig.run();
        let start = Instant::now();
        assert_eq!(reader.trouble().await, (fault, expected));
        assert_eq!(reader.page().await, seen(&["1"], after(1), 0));
        assert_eq!(reader.stop().await, Stop::End);
        let pauses = start.elapsed();
        let stalls = expected == Directive::Stall;
        assert_eq!(pauses >= Duration::from_secs(60), stalls, "{fault:?} {pauses:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_fault_that_lasts_is_told_now_and_then() {
    let rig = Rig::new(Position::TrimHorizon);
    for _ in 0..60 {
        rig.script.refuses_iterator(Fault::Transient);
    }
    rig.script.last_page(vec![]);
    let mut reader = rig.run();
    let start = Instant::now();
    let mut told = 0;
    while let Event::Trouble(_) = reader.event().await {
        told += 1;
    }
    let expected = start.elapsed().as_secs() / 10;
    assert!(told <= expected + 1 && told > expected / 3, "{told} in {:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn an_iterator_survives_a_fault_that_has_nothing_to_do_with_it() {
    let rig = Rig::new(Position::TrimHorizon);
    rig.script.fails_to_read(Fault::Transient);
    rig.script.last_page(vec![]);
    let mut reader = rig.run();
    reader.page().await;
    let used = rig.script.calls().into_iter().filter_map(|(_, call)| match call {
        Call::Records(iterator, _) => Some(iterator),
        _ => None,
    });
    assert_eq!(used.collect::<Vec<_>>(), ["at-1", "at-1"]);
}

#[tokio::test(start_paused = true)]
async fn throttling_slows_down_even_a_reader_that_is_behind() {
    let rig = Rig::new(Position::TrimHorizon);
    rig.script.fails_to_read(Fault::Throttled(Width::Unknown));
    rig.script.page(vec![record(1, START - HOUR_MS)]);
    rig.script.last_page(vec![]);
    let mut reader = rig.run();
    reader.page().await;
    reader.page().await;
    let calls = rig.script.calls();
    assert!(calls[3].0 - calls[2].0 >= Duration::from_millis(200));
}
