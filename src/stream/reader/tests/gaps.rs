use super::*;

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
