use std::time::Duration;

use proptest::prelude::*;

use super::account::SLACK;
use super::*;
use crate::task::Tasks;

/// Asserts that of charges (begun at, cost) no window of time has more than its due.
fn within_budget(charges: &[(Instant, f64)], per_s: f64, extra: f64) -> Result<(), TestCaseError> {
    for (first, (from, _)) in charges.iter().enumerate() {
        let mut sum = 0.0;
        for (at, units) in &charges[first..] {
            sum += units;
            let due = per_s * (*at - *from + SLACK).as_secs_f64() + extra;
            prop_assert!(sum <= due + 1e-3, "{sum} units in {:?}, {due} were due", *at - *from);
        }
    }
    Ok(())
}

#[derive(Debug, Clone)]
enum Step {
    Wait(u64),
    /// Begins a request of this cost, if it may.
    Begin(f64),
    /// Ends the request under way that is this far down the list.
    End(usize),
    Throttle,
}

fn step(cost_max: f64) -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0u64..3_000).prop_map(Step::Wait),
        6 => (0.5..cost_max).prop_map(Step::Begin),
        4 => any::<usize>().prop_map(Step::End),
        1 => Just(Step::Throttle),
    ]
}

/// What the requests that were begun did cost, each predicted by `predict` from its cost.
fn run(steps: Vec<Step>, per_s: f64, predict: impl Fn(f64) -> f64) -> Vec<(Instant, f64)> {
    let mut now = Instant::now();
    let mut account = Account::new(Some(per_s), now);
    let mut under_way = Vec::new();
    let mut begun = Vec::new();
    for step in steps {
        match step {
            Step::Wait(ms) => now += Duration::from_millis(ms),
            Step::Begin(cost) if account.free_at(now) <= now => {
                under_way.push((account.charge(predict(cost), now), cost));
                begun.push((now, cost));
            }
            Step::End(index) if !under_way.is_empty() => {
                let (predicted, cost) = under_way.swap_remove(index % under_way.len());
                account.settle(predicted, cost, now);
            }
            Step::Throttle => account.cut(now),
            Step::Begin(_) | Step::End(_) => {}
        }
    }
    begun
}

proptest! {
    #[test]
    fn no_window_has_more_than_its_due_and_one_request(
        steps in prop::collection::vec(step(256.0), 1..150),
        per_s in 1.0..5_000.0f64,
    ) {
        let begun = run(steps, per_s, |cost| cost);
        within_budget(&begun, per_s, 256.0)?;
    }

    #[test]
    fn wrong_predictions_are_made_up_for(
        requests in prop::collection::vec((0u64..3_000, 0.5..256.0f64, 0u64..1_000), 1..100),
        per_s in 1.0..5_000.0f64,
        predicted in 0.0..256.0f64,
    ) {
        let one = |(wait, cost, takes)| [Step::Wait(wait), Step::Begin(cost), Step::Wait(takes), Step::End(0)];
        let begun = run(requests.into_iter().flat_map(one).collect(), per_s, |_| predicted);
        within_budget(&begun, per_s, 256.0)?;
    }

    #[test]
    fn a_rate_is_never_more_than_its_ceiling_and_comes_back(
        waits in prop::collection::vec(0u64..5_000, 1..30),
        per_s in 1.0..50_000.0f64,
    ) {
        let mut now = Instant::now();
        let mut account = Account::new(Some(per_s), now);
        for ms in waits {
            account.cut(now);
            now += Duration::from_millis(ms);
            let rate = account.rate(now);
            prop_assert!((1.0..=per_s).contains(&rate), "{rate}");
        }
        now += Duration::from_secs(61);
        prop_assert_eq!(account.rate(now), per_s);
    }
}

/// How many units requests of `cost` have when so many ask at once, and each takes `latency`, for a time.
async fn consumed(bucket: &Bucket, parallel: usize, cost: f64, latency: Duration, time: Duration) -> f64 {
    let mut tasks = Tasks::new();
    let until = Instant::now() + time;
    for _ in 0..parallel {
        let bucket = bucket.clone();
        tasks.spawn(tracing::Span::none(), async move {
            let mut units = 0.0;
            // A reservation that can be had is had, even when the time is over.
            while Instant::now() < until
                && let Ok(charge) = tokio::time::timeout_at(until, bucket.reserve(bucket.predicted())).await
            {
                tokio::time::sleep(latency).await;
                charge.settle(cost);
                units += cost;
            }
            units
        });
    }
    let mut units = 0.0;
    while let Some(of_one) = tasks.next().await {
        units += of_one;
    }
    units
}

#[tokio::test(start_paused = true)]
async fn many_at_once_use_the_whole_budget_and_not_more() {
    let (minute, latency) = (Duration::from_secs(60), Duration::from_millis(70));
    for (per_s, parallel, cost) in [(100.0, 16, 128.0), (1_000.0, 4, 0.5), (40_000.0, 32, 128.0)] {
        let units = consumed(&Bucket::new(Some(per_s)), parallel, cost, latency, minute).await;
        // So few small requests cannot use all that they may.
        let possible = (parallel as f64 * cost * 60.0 / 0.07).min(per_s * 60.0);
        let most = possible + per_s * SLACK.as_secs_f64() + cost;
        assert!((0.93 * possible..=most).contains(&units), "{units} of {possible}");
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_without_a_limit_until_the_table_throttles() {
    let bucket = Bucket::new(None);
    assert_eq!((bucket.units_per_s(), bucket.items_max(1.0)), (None, None));
    let (latency, time) = (Duration::from_millis(100), Duration::from_secs(30));
    assert_eq!(consumed(&bucket, 10, 8.0, latency, time).await, 24_000.0);
    bucket.throttled(Width::KeyRange);
    assert_eq!(bucket.units_per_s(), None);
    bucket.throttled(Width::Table);
    let half = bucket.units_per_s().expect("a rate");
    assert!((360.0..450.0).contains(&half), "{half}");
    // Answers to requests that were under way together are one throttle.
    bucket.throttled(Width::Account);
    assert_eq!(bucket.units_per_s(), Some(half));
    tokio::time::advance(Duration::from_secs(1)).await;
    bucket.throttled(Width::Unknown);
    assert!(bucket.units_per_s().expect("a rate") < 0.6 * half);
}

#[tokio::test(start_paused = true)]
async fn low_budgets_ask_for_small_pages() {
    let bucket = Bucket::new(Some(5.0));
    assert_eq!(bucket.items_max(0.5), Some(10));
    assert_eq!(bucket.items_max(100.0), Some(1));
    assert_eq!(Bucket::new(Some(256.0)).items_max(100.0), None);
}

#[tokio::test(start_paused = true)]
async fn a_prediction_follows_what_requests_cost_and_an_unsettled_one_stays_charged() {
    let bucket = Bucket::new(Some(10.0));
    assert_eq!(bucket.predicted(), PAGE_UNITS_MAX);
    bucket.reserve(bucket.predicted()).await.settle(10.0);
    assert_eq!(bucket.predicted(), 10.0);
    let begun = Instant::now();
    drop(bucket.reserve(20.0).await);
    assert!((0..=1_010).contains(&(begun.elapsed().as_millis())), "{:?}", begun.elapsed());
    bucket.reserve(10.0).await.refund();
    assert!(begun.elapsed() >= Duration::from_millis(2_980), "{:?}", begun.elapsed());
    bucket.reserve(10.0).await.settle(20.0);
    assert_eq!(bucket.predicted(), 13.0);
}

#[tokio::test(start_paused = true)]
async fn a_refund_wakes_who_waits() {
    let bucket = Bucket::new(Some(1.0));
    let first = bucket.reserve(100.0).await;
    let mut second = Box::pin(bucket.reserve(1.0));
    assert!(futures_util::poll!(&mut second).is_pending());
    first.settle(0.0);
    assert!(futures_util::poll!(&mut second).is_ready());
}
