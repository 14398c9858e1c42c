use super::*;

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_cannot_start_at_a_time_is_read_whole_and_the_old_is_skipped() {
    let rig = Rig::new(at(START - 500));
    rig.script.refuses_iterator(Fault::Invalid);
    rig.script.page(vec![record(1, START - 9_000), record(2, START - 8_000)]);
    rig.script.fails_to_read(Fault::ExpiredIterator);
    rig.script.last_page(vec![record(3, START - 2_000), record(4, START - 1_000)]);
    let mut reader = rig.run();
    assert_eq!(reader.page().await, seen(&[], after(2), 2));
    assert_eq!(reader.page().await, seen(&["4"], after(4), 1));
    assert_eq!(reader.stop().await, Stop::End);
    assert_eq!(rig.script.asked(), [at(START - 1_000), Position::TrimHorizon, after(2)]);
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
    let latest = Position::Latest { since_unix_ms: START - 500 };
    let by_time = at(START - 11_000);
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
    assert_eq!(rig.script.asked()[1], at(START - 10_000));
}
