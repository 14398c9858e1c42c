//! One worker for all shards: they come to it, it learns when it is the only one that writes, and they leave it again.

use super::fleet::{Traffic, all_read};
use super::*;
use crate::lease::Fence;

const SHARDS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

/// The longest that a lease lasts after its holder died, with the time until others see it, and settling.
const EXPIRED: Duration = Duration::from_secs(12 + 3 + 2);

impl Running {
    /// The right to write what is copied, if there is one at present.
    fn sole(&self) -> Option<Fence> {
        self.affinity.sole().filter(|sole| sole.is_open(Instant::now()))
    }

    fn is_sole(&self) -> bool {
        self.sole().is_some()
    }
}

impl World {
    /// Waits until a worker is the only one that writes, and sees that no two ever are. Says how long that took.
    async fn until_sole(&self, at: &Running, others: &[&Running]) -> Duration {
        let begun = Instant::now();
        while !at.is_sole() {
            assert!(
                begun.elapsed() < Duration::from_secs(120),
                "it is never alone: {:#?}",
                self.owners().await
            );
            assert!(others.iter().filter(|other| other.is_sole()).count() <= 1);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let owners = self.owners().await;
        let me = at.board.status().worker;
        assert!(owners.values().flatten().all(|owner| lease::worker(owner) == me), "{owners:?}");
        assert!(!others.iter().any(|other| other.is_sole()), "two are alone at once");
        begun.elapsed()
    }
}

#[tokio::test(start_paused = true)]
async fn all_shards_come_to_who_wants_them_within_seconds_and_leave_again() {
    let world = World::new(&SHARDS);
    let (one, two, three) =
        (world.worker("one").await, world.worker("two").await, world.worker("three").await);
    all_read(&[&one, &two, &three], &[2, 2, 2]).await;
    let mut traffic = Traffic::new(&world, &SHARDS);
    traffic.until("some traffic", || true).await;
    let (begun, want) = (Instant::now(), two.affinity.want("copy of us"));
    let stood = traffic.until("alone", || two.is_sole()).await;
    let took = begun.elapsed() - Duration::from_secs(4);
    assert!(took < Duration::from_secs(8), "it took {took:?}");
    assert!(stood < Duration::from_secs(2), "a shard stood still for {stood:?}");
    assert_eq!([one.active(), two.active(), three.active()], [0, 6, 0]);
    let shown = one.until("the others show it", |status| status.replications[0].affinity.is_some()).await;
    let shown = shown.replications[0].affinity.clone().expect("it was there");
    assert_eq!((shown.worker.as_str(), shown.purpose.as_str(), shown.sole), ("two", "copy of us", false));
    // Nothing moves while it lasts, and the right to write is one and the same.
    let sole = two.sole().expect("it is alone");
    let begun = Instant::now();
    traffic.until("a while", || begun.elapsed() > Duration::from_secs(60)).await;
    assert!(sole.is_open(Instant::now()), "it was not kept open");
    assert_eq!([one.active(), two.active(), three.active()], [0, 6, 0]);
    want.settled();
    traffic.until("even", || [&one, &two, &three].iter().all(|it| it.active() == 2)).await;
    assert!(!sole.is_open(Instant::now()) && two.affinity.sole().is_none());
    assert_eq!(two.board.status().replications[0].affinity, None);
    traffic.assert_read_once().await;
}

#[tokio::test(start_paused = true)]
async fn when_the_holder_dies_one_who_wants_it_takes_over_and_is_alone_when_the_dead_ones_writes_have_ended()
{
    let world = World::new(&SHARDS);
    let (one, two) = (world.worker("one").await, world.worker("two").await);
    all_read(&[&one, &two], &[3, 3]).await;
    let _first = one.affinity.want("copy");
    world.until_sole(&one, &[&two]).await;
    let _second = two.affinity.want("copy");
    tokio::time::sleep(Duration::from_secs(40)).await;
    assert!(one.is_sole() && !two.is_sole());
    let sole = one.affinity.sole().expect("it is alone");
    let mut traffic = Traffic::new(&world, &SHARDS);
    drop(one);
    let died = Instant::now();
    traffic.until("taken over", || two.is_sole()).await;
    let took = died.elapsed() - Duration::from_secs(4);
    assert!(!sole.is_open(Instant::now()));
    assert!(took >= Duration::from_secs(12 - 3 + 2), "it was alone after {took:?}");
    assert!(took <= EXPIRED + Duration::from_secs(6), "it took {took:?}");
    assert_eq!(two.active(), 6);
}

#[tokio::test(start_paused = true)]
async fn when_the_holder_dies_and_nobody_wants_it_the_shards_are_spread_again() {
    let world = World::new(&SHARDS);
    let (one, two, three) =
        (world.worker("one").await, world.worker("two").await, world.worker("three").await);
    all_read(&[&one, &two, &three], &[2, 2, 2]).await;
    let _want = one.affinity.want("copy");
    world.until_sole(&one, &[&two, &three]).await;
    let mut traffic = Traffic::new(&world, &SHARDS);
    traffic.until("some traffic", || true).await;
    let died = Instant::now();
    drop(one);
    traffic.until("taken over", || two.active() + three.active() == 6).await;
    let took = died.elapsed() - Duration::from_secs(4);
    assert!(took <= EXPIRED + Duration::from_secs(2 + 4), "it took {took:?}");
    all_read(&[&two, &three], &[3, 3]).await;
    assert_eq!(two.board.status().replications[0].affinity, None);
}

#[tokio::test(start_paused = true)]
async fn one_that_was_frozen_past_its_lease_is_not_alone_any_more() {
    let world = World::new(&SHARDS);
    let (one, two) = (world.worker("one").await, world.worker("two").await);
    all_read(&[&one, &two], &[3, 3]).await;
    let first = one.affinity.want("copy");
    world.until_sole(&one, &[&two]).await;
    let sole = one.affinity.sole().expect("it is alone");
    one.node.freeze();
    let second = two.affinity.want("copy");
    let took = world.until_sole(&two, &[&one]).await;
    assert!(took >= Duration::from_secs(12 - 3 + 2), "the other was alone after {took:?}");
    one.node.thaw();
    for _ in 0..2_000 {
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(!sole.is_open(Instant::now()), "what waited since may be written now");
        assert!(two.is_sole() && !one.is_sole());
    }
    assert_eq!((one.active(), two.active()), (0, 6));
    // It still wants it, and gets it when the other has no need.
    drop(second);
    let took = world.until_sole(&one, &[&two]).await;
    assert!(took > Duration::from_secs(2 * 2), "writes of the other may still have landed after {took:?}");
    assert!(!sole.is_open(Instant::now()));
    first.settled();
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_taken_late_is_given_back_unread() {
    let world = World::new(&["a"]);
    let one = world.worker("one").await;
    all_read(&[&one], &[1]).await;
    let two = world.worker("two").await;
    two.until("it has looked", |status| status.replications[0].shards.elsewhere == 1).await;
    // The take of the child lands, and who took it is stopped before it hears of it.
    world.tables.slow_rows(Duration::from_millis(900));
    world.source.close("a", &["b"]);
    while world.owners().await.get(&"b".into()).is_none_or(Option::is_none) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    one.node.freeze();
    world.tables.slow_rows(Duration::ZERO);
    let _want = two.affinity.want("copy");
    world.until_sole(&two, &[&one]).await;
    world.source.put("b", "x", 1);
    world.until("x", 1).await;
    one.node.thaw();
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(30) {
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(one.active() == 0 && two.is_sole());
    }
    assert_eq!(world.source.reads(), 1, "it was read by both");
    let owners: Vec<_> = world.owners().await.into_values().flatten().collect();
    assert_eq!(owners.iter().map(|owner| lease::worker(owner)).collect::<Vec<_>>(), ["two"]);
}

#[tokio::test(start_paused = true)]
async fn children_stay_with_their_parents_holder_and_it_stays_alone() {
    let world = World::new(&["0", "1"]);
    let (one, two) = (world.worker("one").await, world.worker("two").await);
    all_read(&[&one, &two], &[1, 1]).await;
    let _want = one.affinity.want("copy");
    world.until_sole(&one, &[&two]).await;
    let sole = one.affinity.sole().expect("it is alone");
    let mut open = ["0".to_owned(), "1".to_owned()];
    for round in 1..=5_u64 {
        for (index, shard) in open.iter_mut().enumerate() {
            for version in 1..=20 {
                world.source.put(shard, &format!("x{index}"), 20 * (round - 1) + version);
            }
            let (left, right) = (format!("{index}{round}"), format!("{index}{round}r"));
            world.source.close(shard, &[&left, &right]);
            *shard = left;
        }
        for index in 0..2 {
            world.until(&format!("x{index}"), 20 * round).await;
        }
        one.until("all children are read", |status| status.replications[0].shards.active == 2 + 2 * round)
            .await;
        assert!(sole.is_open(Instant::now()) && !two.is_sole());
        assert_eq!(two.active(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_holder_that_drains_gives_everything_to_the_next_without_waiting() {
    let world = World::new(&SHARDS);
    let (one, two) = (world.worker("one").await, world.worker("two").await);
    all_read(&[&one, &two], &[3, 3]).await;
    let first = one.affinity.want("copy");
    world.until_sole(&one, &[&two]).await;
    let _second = two.affinity.want("copy");
    let mut traffic = Traffic::new(&world, &SHARDS);
    traffic.until("some traffic", || true).await;
    first.settled();
    one.drain.cancel();
    let stood = traffic.until("taken over", || two.active() == 6).await;
    assert!(stood < Duration::from_secs(5), "a shard stood still for {stood:?}");
    let sole = one.affinity.sole();
    one.drain().await;
    assert!(sole.is_none());
    let took = world.until_sole(&two, &[]).await;
    assert!(took < Duration::from_secs(5), "it took {took:?}");
    traffic.assert_read_once().await;
}

#[tokio::test(start_paused = true)]
async fn a_control_table_that_is_down_ends_the_right_to_write_in_time_and_its_return_brings_another() {
    let world = World::new(&SHARDS);
    let (one, two) = (world.worker("one").await, world.worker("two").await);
    all_read(&[&one, &two], &[3, 3]).await;
    let _want = one.affinity.want("copy");
    world.until_sole(&one, &[&two]).await;
    let sole = one.affinity.sole().expect("it is alone");
    world.tables.break_rows(true);
    let begun = Instant::now();
    while sole.is_open(Instant::now()) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(begun.elapsed() <= Duration::from_secs(12 - 2), "it was open for {:?}", begun.elapsed());
    tokio::time::sleep(Duration::from_secs(5)).await;
    world.tables.break_rows(false);
    world.until_sole(&one, &[&two]).await;
    assert!(!sole.is_open(Instant::now()), "others may have written since");
}
