use super::*;

#[tokio::test(start_paused = true)]
async fn records_without_images_become_what_the_table_holds_now() {
    for view in [View::KeysOnly, View::OldImage] {
        let mut rig = Rig::new(Position::TrimHorizon);
        rig.view = view;
        rig.script.has_item("a", r#"{"id":{"S":"a"},"v":{"N":"2"}}"#);
        let mut expired = record_of("b", 3, START);
        expired.kind = Kind::Remove;
        expired.by_ttl = true;
        rig.script.page(vec![record_of("a", 1, START), record_of("a", 2, START), expired]);
        let mut reader = rig.run();
        let Event::Page(Page { records, position, held_bytes, skipped, .. }, _) = reader.event().await else {
            panic!("nothing fails here");
        };
        assert_eq!(numbers(&records), ["2", "3"]);
        assert_eq!((position, skipped), (after(3), 1));
        let text = records[0].image.as_ref().map(Item::as_bytes);
        assert_eq!(text, Some(&br#"{"id":{"S":"a"},"v":{"N":"2"}}"#[..]));
        assert_eq!((records[0].kind, records[1].kind), (Kind::Modify, Kind::Remove));
        assert!(records[1].image.is_none() && records[1].by_ttl);
        assert_eq!(held_bytes, 3 * RECORD_BYTES + 30 + 2 * crate::stream::CHANGE_BYTES);
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
    let mut gone = record_of("c", 3, START);
    gone.by_ttl = true;
    rig.script.last_page(vec![record_of("a", 1, START), record_of("b", 2, START), gone]);
    let mut reader = rig.run();
    assert_eq!(reader.trouble().await, (Fault::Throttled(Width::Unknown), Directive::SlowDown));
    assert_eq!(reader.trouble().await, (Fault::Transient, Directive::Retry));
    let records = reader.records().await;
    let kinds: Vec<_> = records.iter().map(|record| record.kind).collect();
    assert_eq!(kinds, [Kind::Modify, Kind::Modify, Kind::Remove]);
    assert!(records[2].by_ttl, "what came for an unprocessed key was looked at");
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
