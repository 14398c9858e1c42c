//! Calls and what becomes of them.

use std::time::Duration;

use futures_util::{FutureExt, poll};
use tokio::time::{Instant, timeout};

use super::*;
use crate::dynamo::{Condition, Outcome, Scan, Streams, Tables};
use crate::fault::{Fault, Width};
use crate::item::{Attributes, Value};

const LONGEST: Duration = Duration::from_secs(2);

fn row(count: i64) -> Attributes {
    Attributes::from([
        ("pk".to_owned(), Value::from("p")),
        ("sk".to_owned(), Value::from("s")),
        ("count".to_owned(), Value::integer(count)),
    ])
}

#[tokio::test(start_paused = true)]
async fn a_write_lands_although_its_author_is_gone() {
    let bench = Bench::plain(1);
    let handle = bench.handle();
    let changes = [change("a", 1)];
    // Sent, and dropped at once.
    assert!(handle.write("t", &changes).now_or_never().is_none());
    assert!(bench.model.item(bench.table, &key("a")).is_none());
    pass(Duration::from_millis(20)).await;
    assert_eq!(bench.model.item(bench.table, &key("a")), Some(item("a", 1)));
    // Never polled, never sent.
    drop(handle.write("t", &[change("b", 1)]));
    pass(LONGEST).await;
    assert_eq!(bench.model.items(bench.table).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn who_is_not_polled_finds_the_answer_of_long_ago() {
    let bench = Bench::plain(1);
    bench.put("a", 1);
    let handle = bench.handle();
    let keys = [key("a")];
    let mut read = handle.fetch("t", &keys);
    assert!(poll!(&mut read).is_pending());
    pass(Duration::from_secs(30)).await;
    bench.put("a", 2);
    let answer = read.now_or_never().expect("the answer waits").expect("an answer");
    assert_eq!(answer.items, [Some(item("a", 1))]);
}

#[tokio::test(start_paused = true)]
async fn no_effect_is_later_than_the_longest_but_one_that_is_meant_to_be() {
    let bench = Bench::plain(2);
    let handle = bench.handle();
    let late = bench.model.rule(Rule::new(Trouble::Late).on(Operation::BatchWriteItem));
    let mut gave_up_before = 0;
    let mut heard = Vec::new();
    for version in 0..60 {
        let sent = Instant::now();
        let error = handle.write("t", &[change("a", version)]).await.expect_err("no answer comes");
        assert_eq!(error.fault, Fault::Unanswered);
        assert!(sent.elapsed() <= LONGEST, "a caller waits no longer than its patience");
        heard.push(bench.model.elapsed());
        gave_up_before += u32::from(bench.landed().len() <= version as usize);
        pass(LONGEST).await;
    }
    let landed: Vec<_> =
        bench.model.history(|history| history.writes.iter().map(|write| write.landed).collect());
    assert_eq!(landed.len(), 60);
    let after = landed.iter().zip(&heard).map(|(landed, heard)| landed.saturating_sub(*heard));
    let longest = after.max().expect("one");
    assert!(longest <= LONGEST && longest > LONGEST / 2, "{longest:?}");
    assert!(gave_up_before > 10, "only {gave_up_before} callers gave up before the effect");
    bench.model.lift(late);
    let far = Duration::from_secs(17);
    bench.model.rule(Rule::new(Trouble::LandsAfter(far)).times(1));
    handle.write("t", &[change("a", 99)]).await.expect_err("no answer comes");
    handle.write("t", &[change("a", 100)]).await.expect("the rule is used up");
    pass(far).await;
    assert_eq!(bench.model.item(bench.table, &key("a")), Some(item("a", 99)), "it landed over a newer one");
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_lost_is_never_done_and_a_lost_answer_hides_what_was() {
    for seed in 0..10 {
        let bench = Bench::plain(seed);
        let handle = bench.handle();
        for (trouble, fault, done) in [
            (Trouble::RequestLost, Fault::Unanswered, false),
            (Trouble::Unreachable, Fault::Transient, false),
            (Trouble::AnswerLost, Fault::Unanswered, true),
            (Trouble::Refused(Fault::Denied), Fault::Denied, false),
        ] {
            bench.model.rule(Rule::new(trouble.clone()).times(1));
            let name = format!("{trouble:?}");
            let name = name.replace(['(', ')'], "-");
            let error = handle.write("t", &[change(&name, 1)]).await.expect_err("it fails");
            assert_eq!(error.fault, fault, "{name}");
            pass(LONGEST).await;
            assert_eq!(bench.model.item(bench.table, &key(&name)).is_some(), done, "{name}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_fails_did_all_some_or_nothing() {
    let bench = Bench::plain(3);
    bench.model.rule(Rule::new(Trouble::Failed).on(Operations::WRITES));
    let handle = bench.handle();
    let mut counts = std::collections::BTreeSet::new();
    for round in 0..40 {
        let batch: Vec<_> = (0..4).map(|index| change(&format!("{round}-{index}"), 1)).collect();
        let before = bench.model.items(bench.table).len();
        let error = handle.write("t", &batch).await.expect_err("it fails");
        assert_eq!(error.fault, Fault::Transient);
        counts.insert(bench.model.items(bench.table).len() - before);
        pass(LONGEST).await;
        assert!(counts.contains(&(bench.model.items(bench.table).len() - before)), "nothing lands later");
    }
    assert!(counts.contains(&0) && counts.contains(&4) && counts.len() > 2, "{counts:?}");
}

#[tokio::test(start_paused = true)]
async fn a_torn_batch_lands_in_two_parts_before_its_answer() {
    let bench = Bench::plain(4);
    bench.model.rule(Rule::new(Trouble::Torn));
    let handle = bench.handle();
    let mut answered = 0;
    for round in 0..20 {
        let batch: Vec<_> = (0..8).map(|index| change(&format!("{round}-{index}"), 1)).collect();
        let count = |model: &Model| model.items(bench.table).len() - 8 * round;
        let wrote = handle.write("t", &batch).await;
        if wrote.is_ok_and(|written| written.unprocessed.is_empty()) {
            answered += 1;
            assert_eq!(count(&bench.model), 8, "an answer came before all was done");
        }
        pass(LONGEST).await;
        assert_eq!(count(&bench.model), 8);
    }
    assert!(answered > 10);
    let times: std::collections::BTreeSet<_> =
        bench.model.history(|history| history.writes.iter().map(|write| write.landed).collect());
    assert!(times.len() > 30, "{} moments of landing", times.len());
    assert!(bench.landed().iter().all(|(_, delay)| *delay <= LONGEST));
}

#[tokio::test(start_paused = true)]
async fn who_is_cut_off_gets_nothing_through_until_it_is_healed() {
    let bench = Bench::plain(5);
    let (handle, other) = (bench.handle(), bench.model.handle(Node(8), bench.site));
    bench.model.cut(NODE, bench.site);
    let mut faults = Vec::new();
    for version in 0..10 {
        let error = handle.write("t", &[change("a", version)]).await.expect_err("it is cut off");
        faults.push(error.fault);
    }
    assert!(faults.contains(&Fault::Transient) && faults.contains(&Fault::Unanswered), "{faults:?}");
    assert!(bench.model.items(bench.table).is_empty());
    other.write("t", &[change("b", 1)]).await.expect("the other is not");
    bench.model.heal(NODE, bench.site);
    handle.write("t", &[change("a", 1)]).await.expect("it is healed");
    // What is under way when the cut comes may land; its answer does not come.
    let mut landed = 0;
    for version in 0..20 {
        let name = format!("c{version}");
        let changes = [change(&name, 1)];
        let mut write = handle.write("t", &changes);
        assert!(poll!(&mut write).is_pending());
        bench.model.cut(NODE, bench.site);
        let patience = Duration::from_secs(3);
        let error = timeout(patience, write).await.expect("it gives up").expect_err("it is cut off");
        assert_eq!(error.fault, Fault::Unanswered);
        landed += usize::from(bench.model.item(bench.table, &key(&name)).is_some());
        bench.model.heal(NODE, bench.site);
    }
    assert!(landed > 3 && landed < 17, "{landed} of 20 landed");
}

#[tokio::test(start_paused = true)]
async fn a_rule_meets_only_what_it_names() {
    let bench = Bench::plain(6);
    let site = bench.model.add_site("us-east-1", Quirks::plain());
    bench.model.add_table(site, "t", &[("k", "S")]);
    bench.model.add_row_table(bench.site, "rows");
    let (here, there) = (bench.handle(), bench.model.handle(NODE, site));
    let other = bench.model.handle(Node(8), bench.site);
    let throttle = || Rule::new(Trouble::Refused(Fault::Throttled(Width::Table)));
    let rule = throttle().on(Operation::BatchWriteItem).of_node(NODE).at(bench.site).of_table("t");
    let rule: RuleId = bench.model.rule(rule);
    let error = here.write("t", &[change("a", 1)]).await.expect_err("it is met");
    assert_eq!(error.fault, Fault::Throttled(Width::Table));
    there.write("t", &[change("a", 1)]).await.expect("another site");
    other.write("t", &[change("a", 1)]).await.expect("another node");
    here.fetch("t", &[key("a")]).await.expect("another operation");
    here.put("rows", &row(1), &Condition::Always).await.expect("another table");
    bench.model.lift(rule);
    here.write("t", &[change("a", 2)]).await.expect("it is lifted");
    let now = Instant::now();
    let window = (now + Duration::from_secs(10), now + Duration::from_secs(20));
    let rows = Operations::ROWS | Operation::Scan.into();
    bench.model.rule(throttle().on(rows).during(window.0, window.1).chance(0.5));
    let mut refused = [0; 3];
    for (phase, refused) in refused.iter_mut().enumerate() {
        tokio::time::sleep_until(now + Duration::from_secs(10 * phase as u64)).await;
        for _ in 0..40 {
            *refused += i32::from(here.scan("t", Scan::whole()).await.is_err());
        }
    }
    assert!(refused[0] == 0 && (8..32).contains(&refused[1]) && refused[2] == 0, "{refused:?}");
    bench.model.rule(throttle().on(Operations::STREAMS));
    here.write("t", &[change("a", 3)]).await.expect("it is no stream");
    bench.model.rule(throttle());
    bench.model.cut(NODE, bench.site);
    bench.model.quiesce();
    here.write("t", &[change("a", 3)]).await.expect("it is quiet");
    let (calls, troubled) = bench.model.history(|history| (history.calls, history.troubled_calls));
    assert!(troubled > 8 && calls > 120, "{troubled} of {calls}");
}

#[tokio::test(start_paused = true)]
async fn slow_answers_come_late_or_not_at_all() {
    let bench = Bench::plain(7);
    let handle = bench.handle();
    bench.model.rule(Rule::new(Trouble::Slow(500..=500)).times(1));
    let sent = Instant::now();
    handle.write("t", &[change("a", 1)]).await.expect("it is slow");
    assert!(sent.elapsed() >= Duration::from_secs(1));
    bench.model.rule(Rule::new(Trouble::Slow(1_500..=1_500)).times(1));
    let error = handle.write("t", &[change("a", 2)]).await.expect_err("it is too slow");
    assert_eq!(error.fault, Fault::Unanswered);
    assert_eq!(bench.model.item(bench.table, &key("a")), Some(item("a", 2)));
}

#[tokio::test(start_paused = true)]
async fn poison_refuses_the_whole_batch_until_it_is_cured() {
    let bench = Bench::plain(8);
    let handle = bench.handle();
    bench.model.poison(bench.table, r#""N":"13""#);
    let batch = [change("a", 12), change("b", 13)];
    let error = handle.write("t", &batch).await.expect_err("one is poison");
    assert_eq!(error.fault, Fault::Invalid);
    assert!(bench.model.items(bench.table).is_empty());
    bench.model.cure(bench.table);
    handle.write("t", &batch).await.expect("it is cured");
    assert_eq!(bench.model.items(bench.table).len(), 2);
}

#[tokio::test(start_paused = true)]
async fn conditional_writes_that_are_lost_were_done_once() {
    let bench = Bench::plain(9);
    let rows = bench.model.add_row_table(bench.site, "rows");
    let handle = bench.handle();
    bench.model.rule(Rule::new(Trouble::AnswerLost).times(1));
    handle.put("rows", &row(1), &Condition::Absent).await.expect_err("the answer is lost");
    pass(LONGEST).await;
    let again = handle.put("rows", &row(1), &Condition::Absent).await.expect("an outcome");
    assert_eq!(again, Outcome::Refused(Some(row(1))));
    let written: Vec<Write> = bench.model.history(|history| history.of_table(rows).cloned().collect());
    assert_eq!(written.len(), 1, "what is refused is not in the history");
    assert!(written[0].row.as_deref() == Some(&row(1)) && written[0].node == Some(NODE));
}

/// Everything that happens in a little world of two nodes in trouble, as text.
async fn story(seed: u64) -> String {
    let quirks = Quirks::drawn(&mut fastrand::Rng::with_seed(seed));
    let bench = Bench::new(seed, quirks);
    let source = bench.model.add_table(bench.site, "source", &[("k", "S")]);
    let arn = bench.model.start_stream(source, View::NewAndOldImages, 3);
    for trouble in [Trouble::Late, Trouble::Torn, Trouble::Failed, Trouble::Unprocessed] {
        bench.model.rule(Rule::new(trouble).chance(0.2));
    }
    let nodes = [0, 1].map(|node| bench.model.handle(Node(node), bench.site));
    let node = async |handle: Arc<Handle>| {
        for version in 0..20 {
            let batch: Vec<_> = (0..5).map(|index| change(&format!("k{index}"), version)).collect();
            drop(handle.write("t", &batch).await);
            drop(Streams::describe(&*handle, &arn, &crate::dynamo::Describe::default()).await);
            bench.model.put(source, item(&format!("k{version}"), version));
        }
    };
    let [first, second] = nodes;
    tokio::join!(node(first), node(second));
    pass(LONGEST).await;
    bench.model.history(|history: &History| format!("{history:?}"))
}

#[tokio::test(start_paused = true)]
async fn one_seed_is_one_story() {
    let mut stories = std::collections::BTreeSet::new();
    for seed in 0..6 {
        let told = story(seed).await;
        assert!(told.len() > 10_000);
        assert_eq!(told, story(seed).await, "seed {seed}");
        stories.insert(told);
    }
    assert_eq!(stories.len(), 6, "seeds do not matter");
}

#[tokio::test(start_paused = true)]
async fn a_scan_that_is_not_consistent_is_behind_within_its_bound() {
    let staleness = Duration::from_secs(5);
    let bench = Bench::new(9, Quirks { scan_staleness: staleness, ..Quirks::plain() });
    let handle = bench.handle();
    let eventual = Scan { consistent: false, ..Scan::whole() };
    let mut behind = 0;
    for version in 1..=40 {
        bench.put("a", version);
        pass(Duration::from_secs(1)).await;
        let current = handle.scan("t", Scan::whole()).await.expect("a page");
        assert_eq!((&current.items[..], current.consumed_units), (&[item("a", version)][..], 1.0));
        let page = handle.scan("t", eventual).await.expect("a page");
        assert_eq!(page.consumed_units, 0.5);
        // One version a second: of five seconds ago, at most, and never a later one.
        let oldest = version.saturating_sub(6);
        let seen = (oldest..=version).find(|version| page.items == [item("a", *version)]);
        assert!(seen.is_some() || (oldest == 0 && page.items.is_empty()), "{page:?} at {version}");
        behind += u32::from(seen != Some(version));
    }
    assert!((20..40).contains(&behind), "{behind} of 40 pages were behind");
    pass(staleness).await;
    let page = handle.scan("t", eventual).await.expect("a page");
    assert_eq!(page.items, [item("a", 40)]);
}

#[tokio::test(start_paused = true)]
async fn a_scan_keeps_to_its_limit() {
    let bench = Bench::plain(10);
    let handle = bench.handle();
    (0..9).for_each(|name| bench.put(&name.to_string(), 1));
    let mut found = Vec::new();
    let mut after = None;
    loop {
        let scan = Scan { after: after.as_ref(), items_max: Some(4), ..Scan::whole() };
        let page = handle.scan("t", scan).await.expect("a page");
        assert!(page.items.len() <= 4);
        found.extend(page.items);
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(found, (0..9).map(|name| item(&name.to_string(), 1)).collect::<Vec<_>>());
}
