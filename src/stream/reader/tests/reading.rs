use super::*;

#[tokio::test(start_paused = true)]
async fn the_last_page_is_sent_before_the_end() {
    let rig = Rig::new(Position::TrimHorizon);
    rig.script.page(vec![record(1, START)]);
    rig.script.last_page(vec![record(2, START), record(3, START)]);
    let mut reader = rig.run();
    assert_eq!(reader.page().await, seen(&["1"], after(1), 0));
    assert_eq!(reader.page().await, seen(&["2", "3"], after(3), 0));
    assert_eq!(reader.stop().await, Stop::End);
    assert_eq!(rig.script.asked(), [Position::TrimHorizon]);
    assert_eq!((rig.metrics.records(), rig.metrics.polls()), (3, 2));
    assert_eq!(rig.metrics.bytes(), 3 * RECORD_BYTES as u64);
}

#[tokio::test(start_paused = true)]
async fn empty_pages_are_told_and_do_not_move_the_position() {
    let rig = Rig::new(after(7));
    rig.script.page(vec![]);
    rig.script.page(vec![]);
    rig.script.page(vec![record(8, START)]);
    rig.script.last_page(vec![]);
    let mut reader = rig.run();
    let mut polled = Vec::new();
    for pages in 1..=2 {
        let Event::Page(page, _) = reader.event().await else {
            panic!("nothing fails here");
        };
        assert_eq!((page.position, page.held_bytes), (after(7), 0));
        let quiet = page.quiet.expect("nothing but empty pages came");
        assert_eq!((quiet.pages, quiet.since_unix_ms), (pages, START));
        polled.push(quiet.polled_unix_ms);
    }
    assert!(polled[0] == START && polled[1] >= START + 200, "{polled:?}");
    assert_eq!(reader.page().await, seen(&["8"], after(8), 0));
    assert_eq!(reader.page().await, seen(&[], after(8), 0));
    assert_eq!(reader.stop().await, Stop::End);
    assert!(rig.metrics.last_poll_unix_ms() > Some(polled[1]));
}

#[tokio::test(start_paused = true)]
async fn a_forgotten_iterator_is_replaced_after_the_last_record_and_by_a_fork_of_its_own() {
    let rig = Rig::new(Position::TrimHorizon);
    for number in 1..=3 {
        rig.script.page(vec![record(number, START)]);
    }
    rig.script.page(vec![]);
    let source = rig.source(Arc::clone(&rig.script) as Arc<dyn Streams>);
    let (told, _troubles) = mpsc::channel(1);
    let config = Config::default();
    let mut reader =
        Reader::new(&config, source, "shard".into(), rig.start, rig.clock, Arc::clone(&rig.metrics), told);
    reader.poll(|| true).await;
    reader.poll(|| true).await;
    reader.forget_iterator();
    reader.poll(|| true).await;
    let mut fork = reader.fork();
    assert_eq!(fork.place(), reader.place());
    let Polled::Page(page) = fork.poll(|| true).await else { panic!("nothing fails here") };
    assert_eq!(page.quiet.map(|quiet| quiet.pages), Some(1));
    assert_eq!(rig.script.asked(), [Position::TrimHorizon, after(2), after(3)]);
}

#[tokio::test(start_paused = true)]
async fn a_page_is_not_asked_for_when_the_right_to_read_ended_while_the_iterator_came() {
    let rig = Rig::new(Position::TrimHorizon);
    rig.script.page(vec![record(1, START)]);
    let source = rig.source(Arc::clone(&rig.script) as Arc<dyn Streams>);
    let (told, mut troubles) = mpsc::channel(1);
    let config = Config::default();
    let mut reader =
        Reader::new(&config, source, "shard".into(), rig.start, rig.clock, Arc::clone(&rig.metrics), told);
    assert!(matches!(reader.poll(|| false).await, Polled::Failed));
    assert_eq!((rig.script.calls().len(), rig.metrics.polls()), (1, 0));
    assert!(troubles.try_recv().is_err() && reader.due() <= Instant::now());
    let Polled::Page(page) = reader.poll(|| true).await else { panic!("it may read again") };
    assert_eq!(page.position, after(1));
    assert_eq!(rig.script.asked(), [Position::TrimHorizon]);
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_is_behind_does_not_pause_and_one_that_is_not_does() {
    let rig = Rig::new(Position::TrimHorizon);
    rig.script.page(vec![record(1, START - HOUR_MS)]);
    rig.script.page(vec![record(2, START)]);
    rig.script.last_page(vec![]);
    let mut reader = rig.run();
    for _ in 0..3 {
        reader.page().await;
    }
    let polls: Vec<_> = rig.script.calls().into_iter().skip(1).collect();
    assert_eq!(polls[0].0, polls[1].0);
    assert!(polls[2].0 - polls[1].0 >= Config::default().active_pause);
}

#[tokio::test(start_paused = true)]
async fn cancellation_and_a_dropped_receiver_end_every_wait_at_once() {
    type Setting = fn(&mut Rig);
    let settings: [(&str, usize, Setting); 8] = [
        ("getting an iterator", 1, |rig| rig.script.hangs_on_iterators()),
        ("getting records", 2, |_| {}),
        ("pausing", 2, |rig| rig.script.page(vec![])),
        ("backing off", 1, |rig| rig.script.refuses_iterator(Fault::Transient)),
        ("stalling", 1, |rig| rig.script.refuses_iterator(Fault::Denied)),
        ("a full channel", 3, |rig| {
            for number in 1..4 {
                rig.script.page(vec![record(number, START)]);
            }
        }),
        ("fetching", 3, |rig| {
            rig.view = View::KeysOnly;
            rig.script.page(vec![record(1, START)]);
            rig.script.hangs_on_fetches();
        }),
        ("backing off from a fetch", 3, |rig| {
            rig.view = View::KeysOnly;
            rig.script.page(vec![record(1, START)]);
            rig.script.fails_to_fetch(Fault::Transient);
        }),
    ];
    for (what, calls, set) in settings {
        for by_cancelling in [true, false] {
            let mut rig = Rig::new(Position::TrimHorizon);
            set(&mut rig);
            let mut reader = rig.run();
            rig.script.called(calls).await;
            // The reader does all it can without time passing.
            for _ in 0..20 {
                tokio::task::yield_now().await;
            }
            let before = Instant::now();
            if by_cancelling {
                rig.cancel.cancel();
            } else {
                reader.events.close();
            }
            assert_eq!(reader.stop().await, Stop::Cancelled, "{what}");
            assert_eq!(before.elapsed(), Duration::ZERO, "{what}");
            assert_eq!(rig.script.calls().len(), calls, "{what}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn pages_without_records_hold_nothing() {
    let rig = Rig::new(at(START));
    rig.script.page(vec![]);
    rig.script.last_page(vec![record(1, START - 5_000)]);
    let mut reader = rig.run();
    for skipped_here in [0, 1] {
        let Event::Page(page, _) = reader.event().await else {
            panic!("nothing fails here");
        };
        assert_eq!((page.held_bytes, page.skipped), (0, skipped_here));
    }
    assert_eq!(reader.stop().await, Stop::End);
}
