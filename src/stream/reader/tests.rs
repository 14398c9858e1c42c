use super::*;
use crate::dynamo::{Streams, Tables};
use crate::fault::Width;
use crate::item::Item;
use crate::record::{Kind, Record, View};
use crate::stream::script::{Call, RECORD_BYTES, Script, after, record, record_of};
use crate::stream::{GapReason, RETENTION, events};
use crate::task::Tasks;

/// When the tests' clocks start.
const START: i64 = 1_700_000_000_000;

/// Longer than any pause of a reader.
const LONG: Duration = Duration::from_secs(60);

const HOUR_MS: i64 = 3_600_000;

/// A reader to be, with its script.
struct Rig {
    script: Arc<Script>,
    view: View,
    start: Start,
    budgets: Vec<Budget>,
    clock: Clock,
    cancel: CancellationToken,
    metrics: Arc<Metrics>,
}

/// A reader that runs.
struct Running {
    events: mpsc::Receiver<Event>,
    tasks: Tasks<Stop>,
}

/// What of a page most tests look at.
#[derive(Debug, PartialEq)]
struct Seen {
    numbers: Vec<String>,
    position: Position,
    skipped: u64,
}

impl Rig {
    fn new(position: Position) -> Self {
        let clock = Clock::Simulated {
            start_unix_ms: START,
            start: Instant::now(),
        };
        Self {
            script: Script::new(),
            view: View::NewAndOldImages,
            start: Start {
                position,
                fresh: false,
                read_through_unix_ms: None,
            },
            budgets: Vec::new(),
            clock,
            cancel: CancellationToken::new(),
            metrics: Arc::default(),
        }
    }

    fn run(&self) -> Running {
        let source = Source {
            streams: Arc::clone(&self.script) as Arc<dyn Streams>,
            tables: Arc::clone(&self.script) as Arc<dyn Tables>,
            table: "source".to_owned(),
            stream: "arn:stream".into(),
            view: self.view,
        };
        let reader = Reader::new(
            &Config::default(),
            source,
            "shard".into(),
            self.start,
            self.budgets.clone(),
            self.clock,
            self.cancel.clone(),
        );
        let (sender, receiver) = events();
        let mut tasks = Tasks::new();
        let reader = reader.with_metrics(Arc::clone(&self.metrics));
        tasks.spawn(tracing::Span::none(), reader.run(sender));
        Running {
            events: receiver,
            tasks,
        }
    }
}

impl Running {
    async fn event(&mut self) -> Event {
        tokio::time::timeout(LONG, self.events.recv())
            .await
            .expect("an event comes soon")
            .expect("the reader goes on")
    }

    async fn page(&mut self) -> Seen {
        loop {
            if let Event::Page {
                records,
                position,
                skipped,
                ..
            } = self.event().await
            {
                return Seen {
                    numbers: numbers(&records),
                    position,
                    skipped,
                };
            }
        }
    }

    async fn records(&mut self) -> Vec<Record> {
        match self.event().await {
            Event::Page { records, .. } => records,
            Event::Trouble(error, _) => panic!("expected a page, got {error}"),
        }
    }

    async fn trouble(&mut self) -> (Fault, Directive) {
        match self.event().await {
            Event::Trouble(error, directive) => (error.fault, directive),
            Event::Page { position, .. } => panic!("expected trouble, got a page up to {position:?}"),
        }
    }

    async fn stop(&mut self) -> Stop {
        tokio::time::timeout(LONG, self.tasks.next())
            .await
            .expect("the reader stops soon")
            .expect("the reader was not asked before")
    }
}

fn numbers(records: &[Record]) -> Vec<String> {
    records.iter().map(|record| record.sequence.to_string()).collect()
}

fn seen(numbers: &[&str], position: Position, skipped: u64) -> Seen {
    Seen {
        numbers: numbers.iter().map(|number| (*number).to_owned()).collect(),
        position,
        skipped,
    }
}

fn at(unix_ms: i64) -> Position {
    Position::At { unix_ms }
}

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
async fn a_shard_that_was_read_to_its_end_is_not_asked_for() {
    let rig = Rig::new(Position::End);
    assert_eq!(rig.run().stop().await, Stop::End);
    assert!(rig.script.calls().is_empty());
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
    for _ in 0..2 {
        let Event::Page {
            position,
            polled_unix_ms,
            reservations,
            ..
        } = reader.event().await
        else {
            panic!("nothing fails here");
        };
        assert_eq!((position, reservations.len()), (after(7), 0));
        polled.push(polled_unix_ms);
    }
    assert!(polled[0] == START && polled[1] >= START + 200, "{polled:?}");
    assert_eq!(reader.page().await, seen(&["8"], after(8), 0));
    assert_eq!(reader.page().await, seen(&[], after(8), 0));
    assert_eq!(reader.stop().await, Stop::End);
    assert!(rig.metrics.last_poll_unix_ms() > Some(polled[1]));
}

#[tokio::test(start_paused = true)]
async fn an_expired_iterator_is_replaced_after_the_last_record_read() {
    let rig = Rig::new(Position::TrimHorizon);
    rig.script.page(vec![record(1, START), record(2, START)]);
    rig.script.fails_to_read(Fault::ExpiredIterator);
    rig.script.last_page(vec![record(3, START)]);
    let mut reader = rig.run();
    assert_eq!(reader.records().await.len(), 2);
    assert_eq!(
        reader.records().await.len(),
        1,
        "one expired iterator is no trouble"
    );
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
    assert_eq!(
        reader.trouble().await,
        (Fault::ExpiredIterator, Directive::Reacquire)
    );
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
async fn trimmed_without_evidence_is_a_gap() {
    for (read_through_unix_ms, refused_at_iterator) in
        [(None, true), (None, false), (Some(START - 23 * HOUR_MS), true)]
    {
        let mut rig = Rig::new(after(5));
        rig.start.read_through_unix_ms = read_through_unix_ms;
        if refused_at_iterator {
            rig.script.refuses_iterator(Fault::Trimmed);
        } else {
            rig.script.fails_to_read(Fault::Trimmed);
        }
        assert_eq!(rig.run().stop().await, Stop::Gap(GapReason::Trimmed));
        assert_eq!(rig.script.asked(), [after(5)]);
    }
}

#[tokio::test(start_paused = true)]
async fn trimmed_with_young_evidence_goes_on_at_the_oldest_record() {
    let mut rig = Rig::new(after(5));
    rig.start.read_through_unix_ms = Some(START - HOUR_MS);
    rig.script.refuses_iterator(Fault::Trimmed);
    rig.script.page(vec![]);
    rig.script.last_page(vec![record(5, START), record(9, START)]);
    let mut reader = rig.run();
    assert_eq!(reader.page().await, seen(&[], after(5), 0));
    assert_eq!(reader.page().await, seen(&["9"], after(9), 1));
    assert_eq!(reader.stop().await, Stop::End);
    assert_eq!(rig.script.asked(), [after(5), Position::TrimHorizon]);
}

#[tokio::test(start_paused = true)]
async fn a_quiet_shard_that_was_followed_for_a_day_has_no_gap() {
    let rig = Rig::new(after(5));
    // More than a day of polls; nobody applies anything, so that the start's evidence stays absent.
    let polls = RETENTION.as_secs() + RETENTION.as_secs() / 8;
    for _ in 0..polls {
        rig.script.page(vec![]);
    }
    rig.script.fails_to_read(Fault::Trimmed);
    rig.script.last_page(vec![record(6, START)]);
    let mut reader = rig.run();
    for _ in 0..polls {
        reader.page().await;
    }
    assert_eq!(reader.page().await.position, after(6));
    assert_eq!(reader.stop().await, Stop::End);
    assert_eq!(rig.script.asked(), [after(5), Position::TrimHorizon]);
}

#[tokio::test(start_paused = true)]
async fn missing_is_a_gap_whatever_is_known() {
    for refused_at_iterator in [true, false] {
        let mut rig = Rig::new(after(5));
        rig.start.read_through_unix_ms = Some(START);
        if refused_at_iterator {
            rig.script.refuses_iterator(Fault::Missing);
        } else {
            rig.script.fails_to_read(Fault::Missing);
        }
        assert_eq!(rig.run().stop().await, Stop::Gap(GapReason::Missing));
    }
}

#[tokio::test(start_paused = true)]
async fn a_start_older_than_the_retention_is_a_gap_and_not_a_silent_skip() {
    let rig = Rig::new(at(START - 25 * HOUR_MS));
    assert_eq!(rig.run().stop().await, Stop::Gap(GapReason::StartTooOld));
    assert!(rig.script.calls().is_empty());
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
    while let Event::Trouble(..) = reader.event().await {
        told += 1;
    }
    let expected = start.elapsed().as_secs() / 10;
    assert!(
        told <= expected + 1 && told > expected / 3,
        "{told} in {:?}",
        start.elapsed()
    );
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
async fn back_pressure_drops_the_iterator_and_goes_on_after_the_last_record_read() {
    let mut rig = Rig::new(Position::TrimHorizon);
    let (roomy, tight) = (Budget::new(64 << 20), Budget::new(PAGE_RESERVE_BYTES));
    rig.budgets = vec![roomy.clone(), tight.clone()];
    rig.script.page(vec![record(1, START)]);
    rig.script.last_page(vec![record(2, START)]);
    let mut reader = rig.run();
    let Event::Page { reservations, .. } = reader.event().await else {
        panic!("nothing fails here");
    };
    let bytes: Vec<_> = reservations.iter().map(Reservation::bytes).collect();
    assert_eq!(bytes, [RECORD_BYTES, RECORD_BYTES]);
    // One record is left in the tight budget, and a whole page has no room beside it.
    tokio::time::sleep(LONG).await;
    assert_eq!(rig.script.calls().len(), 2, "nothing is read without room");
    let waited = rig.metrics.backpressure();
    assert!(waited > LONG / 2, "waiting is counted while it lasts: {waited:?}");
    drop(reservations);
    assert_eq!(reader.page().await, seen(&["2"], after(2), 0));
    assert_eq!(reader.stop().await, Stop::End);
    assert_eq!(rig.script.asked(), [Position::TrimHorizon, after(1)]);
    assert_eq!((roomy.used_bytes(), tight.used_bytes()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_reader_in_trouble_keeps_no_room() {
    let mut rig = Rig::new(Position::TrimHorizon);
    let budget = Budget::new(PAGE_RESERVE_BYTES);
    rig.budgets = vec![budget.clone()];
    rig.script.refuses_iterator(Fault::Denied);
    let mut reader = rig.run();
    reader.trouble().await;
    assert_eq!(budget.used_bytes(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_cannot_start_at_a_time_is_read_whole_and_the_old_is_skipped() {
    let rig = Rig::new(at(START - 500));
    rig.script.refuses_iterator(Fault::Invalid);
    rig.script
        .page(vec![record(1, START - 9_000), record(2, START - 8_000)]);
    rig.script.fails_to_read(Fault::ExpiredIterator);
    rig.script
        .last_page(vec![record(3, START - 2_000), record(4, START - 1_000)]);
    let mut reader = rig.run();
    assert_eq!(reader.page().await, seen(&[], after(2), 2));
    assert_eq!(reader.page().await, seen(&["4"], after(4), 1));
    assert_eq!(reader.stop().await, Stop::End);
    assert_eq!(
        rig.script.asked(),
        [at(START - 1_000), Position::TrimHorizon, after(2)]
    );
}

#[tokio::test(start_paused = true)]
async fn what_is_trimmed_before_a_young_start_was_not_wanted() {
    let rig = Rig::new(at(START - HOUR_MS));
    rig.script.refuses_iterator(Fault::Invalid);
    rig.script.fails_to_read(Fault::Trimmed);
    rig.script.last_page(vec![record(4, START)]);
    let mut reader = rig.run();
    assert_eq!(reader.page().await, seen(&["4"], after(4), 0));
}

#[tokio::test(start_paused = true)]
async fn latest_is_asked_for_as_such_only_once_and_by_who_decided_it() {
    let latest = Position::Latest {
        since_unix_ms: START - 500,
    };
    let by_time = at(START - 1_000);
    for (fresh, expected) in [(true, [latest, by_time]), (false, [by_time, by_time])] {
        let mut rig = Rig::new(latest);
        rig.start.fresh = fresh;
        rig.script.page(vec![]);
        rig.script.fails_to_read(Fault::ExpiredIterator);
        rig.script.last_page(vec![record(1, START)]);
        let mut reader = rig.run();
        assert_eq!(reader.page().await, seen(&[], latest, 0));
        assert_eq!(reader.page().await, seen(&["1"], after(1), 0));
        assert_eq!(rig.script.asked(), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_latest_start_that_could_not_be_made_at_once_is_made_by_time() {
    let mut rig = Rig::new(Position::Latest { since_unix_ms: START });
    rig.start.fresh = true;
    rig.script.refuses_iterator(Fault::Transient);
    rig.script.last_page(vec![]);
    rig.run().page().await;
    assert_eq!(rig.script.asked()[1], at(START));
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
    let settings: [(&str, usize, Setting); 9] = [
        ("getting an iterator", 1, |rig| rig.script.hangs_on_iterators()),
        ("getting records", 2, |_| {}),
        ("pausing", 2, |rig| rig.script.page(vec![])),
        ("backing off", 1, |rig| {
            rig.script.refuses_iterator(Fault::Transient)
        }),
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
        ("waiting for room", 0, |rig| {
            let budget = Budget::new(PAGE_RESERVE_BYTES);
            let taken = budget.try_reserve(1).expect("it is empty");
            // For as long as the test runs.
            std::mem::forget(taken);
            rig.budgets = vec![budget];
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
            let Running { events, tasks } = &mut reader;
            let before = Instant::now();
            if by_cancelling {
                rig.cancel.cancel();
            } else {
                events.close();
            }
            assert_eq!(tasks.next().await, Some(Stop::Cancelled), "{what}");
            assert_eq!(before.elapsed(), Duration::ZERO, "{what}");
            assert_eq!(rig.script.calls().len(), calls, "{what}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn records_without_images_become_what_the_table_holds_now() {
    for view in [View::KeysOnly, View::OldImage] {
        let mut rig = Rig::new(Position::TrimHorizon);
        rig.view = view;
        let budget = Budget::new(64 << 20);
        rig.budgets = vec![budget.clone()];
        rig.script.has_item("a", r#"{"id":{"S":"a"},"v":{"N":"2"}}"#);
        let mut expired = record_of("b", 3, START);
        expired.kind = Kind::Remove;
        expired.by_ttl = true;
        rig.script
            .page(vec![record_of("a", 1, START), record_of("a", 2, START), expired]);
        let mut reader = rig.run();
        let Event::Page {
            records,
            position,
            reservations,
            skipped,
            ..
        } = reader.event().await
        else {
            panic!("nothing fails here");
        };
        assert_eq!(numbers(&records), ["2", "3"]);
        assert_eq!((position, skipped), (after(3), 1));
        let text = records[0].image.as_ref().map(Item::as_bytes);
        assert_eq!(text, Some(&br#"{"id":{"S":"a"},"v":{"N":"2"}}"#[..]));
        assert_eq!((records[0].kind, records[1].kind), (Kind::Modify, Kind::Remove));
        assert!(records[1].image.is_none() && records[1].by_ttl);
        assert_eq!(reservations[0].bytes(), 3 * RECORD_BYTES + 30);
        let limit_and_keys = rig.script.calls().into_iter().filter_map(|(_, call)| match call {
            Call::Records(_, limit) => Some(limit.to_string()),
            Call::Fetch(keys) => Some(keys.join(" ")),
            _ => None,
        });
        assert_eq!(limit_and_keys.take(2).collect::<Vec<_>>(), ["100", "a b"]);
    }
}

#[tokio::test(start_paused = true)]
async fn keys_that_were_left_unprocessed_are_asked_for_again_and_no_page_goes_out_before() {
    let mut rig = Rig::new(Position::TrimHorizon);
    rig.view = View::KeysOnly;
    rig.script.has_item("a", r#"{"id":{"S":"a"}}"#);
    rig.script.has_item("b", r#"{"id":{"S":"b"}}"#);
    rig.script.leaves_unprocessed(vec![0, 2]);
    rig.script.fails_to_fetch(Fault::Transient);
    rig.script.leaves_unprocessed(vec![1]);
    let page = ["a", "b", "c"].iter().zip(1..);
    rig.script.last_page(
        page.map(|(name, number)| record_of(name, number, START))
            .collect(),
    );
    let mut reader = rig.run();
    assert_eq!(
        reader.trouble().await,
        (Fault::Throttled(Width::Unknown), Directive::SlowDown)
    );
    assert_eq!(reader.trouble().await, (Fault::Transient, Directive::Retry));
    let records = reader.records().await;
    let kinds: Vec<_> = records.iter().map(|record| record.kind).collect();
    assert_eq!(kinds, [Kind::Modify, Kind::Modify, Kind::Remove]);
    assert_eq!(reader.stop().await, Stop::End);
    let fetches = rig.script.calls().into_iter().filter_map(|(_, call)| match call {
        Call::Fetch(keys) => Some(keys.join(" ")),
        _ => None,
    });
    assert_eq!(fetches.collect::<Vec<_>>(), ["a b c", "a c", "a c", "c"]);
}

#[tokio::test(start_paused = true)]
async fn a_source_table_that_is_gone_is_a_gap() {
    let mut rig = Rig::new(Position::TrimHorizon);
    rig.view = View::KeysOnly;
    rig.script.page(vec![record(1, START)]);
    rig.script.fails_to_fetch(Fault::Missing);
    let mut reader = rig.run();
    assert_eq!(reader.stop().await, Stop::Gap(GapReason::TableMissing));
    assert!(reader.events.try_recv().is_err(), "half a page was sent");
}
