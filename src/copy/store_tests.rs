use std::sync::Arc;

use super::*;
use crate::dynamo::memory::Memory;
use crate::fault::Fault;

fn store(memory: &Arc<Memory>) -> Store {
    Store::new(Control::new(Arc::clone(memory) as _, "control"), "orders", "us")
}

fn run(id: i64, segments: u32) -> Run {
    let run = Run::ask(None, &Request::default(), id).expect("nothing stands in its way");
    Run { state: State::Copying, segments, ..run }
}

fn segment(items: u64) -> Segment {
    let after = Item::from_json(format!(r#"{{"k":{{"N":"{items}.0"}}}}"#).into());
    Segment { after: Some(after), finished: false, items, bytes: 10 * items }
}

#[tokio::test]
async fn a_run_comes_back_as_it_was_written() {
    let memory = Arc::new(Memory::default());
    let store = store(&memory);
    assert_eq!(store.load().await.expect("readable"), None);
    let mut full = run(7, 64);
    full.reason = Some("because".to_owned());
    full.request = Request {
        reconcile: true,
        consistent: false,
        window: std::time::Duration::from_millis(1_500),
        read_units: Some(12),
        segments: Some(64),
        known_empty: true,
    };
    full.progress = Progress {
        items: 1,
        bytes: 2,
        segments_finished: 3,
        read_units: 4.0,
        misfits: 5,
        misfit: Some("it".to_owned()),
    };
    full.expected = (8, 9);
    full.started_unix_ms = Some(10);
    full.scan_ended_unix_ms = Some(11);
    full.consistent_since_unix_ms = Some(12);
    full.trouble = Some("trouble".to_owned());
    assert_eq!(store.save(&mut full).await.expect("written"), Saved::Done);
    assert_eq!(store.load().await.expect("readable"), Some(full.clone()));
    let mut bare = Run { version: 1, ..run(8, 0) };
    assert_eq!(store.save(&mut bare).await.expect("written"), Saved::Done);
    assert_eq!(store.load().await.expect("readable"), Some(bare));
}

#[tokio::test]
async fn nobody_overwrites_a_run_that_changed_and_a_lost_answer_is_no_change() {
    let memory = Arc::new(Memory::default());
    let store = store(&memory);
    let mut mine = run(7, 64);
    store.save(&mut mine).await.expect("written");
    let mut cancelled = mine.cancelled().expect("it is under way");
    store.save(&mut cancelled).await.expect("written");
    mine.progress.items = 9;
    let saved = store.save(&mut mine).await.expect("refused");
    assert_eq!(saved, Saved::Changed(Some(Box::new(cancelled.clone()))));
    let mut next = Run { updated_unix_ms: 99, ..cancelled };
    memory.lose_next_answer(Fault::Unanswered);
    store.save(&mut next).await.expect_err("nobody answered");
    assert_eq!(store.save(&mut next).await.expect("asked again"), Saved::Done);
}

#[tokio::test]
async fn segments_of_an_earlier_run_count_for_nothing_and_are_replaced() {
    let memory = Arc::new(Memory::default());
    let store = store(&memory);
    let old = run(7, 4);
    let (mut of_old, segments) = store.segments(&old).await.expect("none");
    assert_eq!(segments, vec![Segment::default(); 4]);
    for id in [1, 3] {
        assert!(store.save_segment(of_old.place(id), &segment(5)).await.expect("written"));
        of_old.written(id);
    }
    let (_, segments) = store.segments(&old).await.expect("readable");
    assert_eq!(segments[1], segment(5), "a position is kept letter by letter");

    let new = run(8, 2);
    let (of_new, segments) = store.segments(&new).await.expect("readable");
    assert_eq!(segments, vec![Segment::default(); 2]);
    assert!(store.save_segment(of_new.place(1), &segment(2)).await.expect("written"));
    // Whoever still works on the old run writes nothing over it, whatever it knows.
    assert!(!store.save_segment(of_old.place(1), &segment(9)).await.expect("refused"));
    let (of_new, segments) = store.segments(&new).await.expect("readable");
    assert_eq!(segments[1], segment(2));
    assert!(store.save_segment(of_new.place(0), &segment(1)).await.expect("written"));
    assert!(!store.save_segment(of_old.place(0), &segment(9)).await.expect("refused"));
}

#[tokio::test]
async fn a_segment_is_written_again_after_a_lost_answer() {
    let memory = Arc::new(Memory::default());
    let store = store(&memory);
    let (known, _) = store.segments(&run(7, 1)).await.expect("none");
    memory.lose_next_answer(Fault::Unanswered);
    store.save_segment(known.place(0), &segment(1)).await.expect_err("nobody answered");
    assert!(store.save_segment(known.place(0), &segment(2)).await.expect("written"));
    let (_, segments) = store.segments(&run(7, 1)).await.expect("readable");
    assert_eq!(segments[0].items, 2);
}

#[tokio::test]
async fn a_table_that_was_cut_otherwise_is_no_start() {
    let memory = Arc::new(Memory::default());
    let store = store(&memory);
    let (known, _) = store.segments(&run(7, 4)).await.expect("none");
    assert!(store.save_segment(known.place(0), &segment(1)).await.expect("written"));
    let error = store.segments(&run(7, 8)).await.expect_err("other segments").to_string();
    assert!(error.contains("`segments`"), "{error}");
}
