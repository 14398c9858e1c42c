//! First copies by whole workers, while writes go on.

use super::*;
use crate::change::Change;
use crate::copy::{self, Request, Run};
use crate::item::Item;

/// Items that the source held before anybody read its stream.
const HELD: u64 = 120;

impl World {
    /// A source that holds items already, whose replica is to be copied by itself.
    fn filled(shards: &[&str]) -> Self {
        let copy = FirstCopy::Auto(Request::default());
        let world = Self { start: Start::Latest, copy, ..Self::new(shards) };
        (0..HELD).for_each(|number| world.source.had(&name(number), 1));
        world
    }

    async fn run_row(&self) -> Option<Run> {
        let control = Control::new(Arc::clone(&self.tables) as _, "control");
        copy::Store::new(control, "orders", "us").load().await.expect("the rows can be read")
    }

    /// Changes and removes keys all the time until the copy is where `until` says.
    async fn write_until(&self, shards: &[&str], until: impl Fn(&Run) -> bool) -> Run {
        let begun = Instant::now();
        for version in 2.. {
            if let Some(run) = self.run_row().await.filter(|run| until(run)) {
                return run;
            }
            assert!(begun.elapsed() < Duration::from_secs(600), "{:#?}", self.run_row().await);
            let number = fastrand::u64(..HELD + 20);
            let shard = shards[usize::try_from(number).expect("small") % shards.len()];
            let now_unix_ms = self.clock.unix_ms();
            match fastrand::u8(..4) {
                0 => self.source.remove(shard, &name(number), now_unix_ms),
                _ => self.source.put_at(shard, &name(number), version, now_unix_ms),
            }
            tokio::time::sleep(Duration::from_millis(40)).await;
        }
        unreachable!("there is always another version")
    }

    /// Waits until the replica holds just what the source does.
    async fn until_equal(&self) {
        let begun = Instant::now();
        let differs = |number: &u64| {
            let name = name(*number);
            self.unmarked(&name) != self.source.item(&name)
        };
        while let Some(number) = (0..HELD + 20).find(differs) {
            let (name, left) = (name(number), (0..HELD + 20).filter(differs).count());
            let item = self.tables.item("us", &model::key(&name));
            assert!(
                begun.elapsed() < Duration::from_secs(60),
                "{left} differ, such as {name}: {item:?} for {:?}",
                self.source.item(&name)
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

impl World {
    /// One that holds ten items already that the source does not have, ten older states and ten equal ones; under a
    /// guard each with a mark.
    async fn strange(shards: &[&str], guard: Option<dynamo::Guard>) -> Self {
        let copy = FirstCopy::Auto(Request { reconcile: true, ..Request::default() });
        let world = Self { copy, guard, ..Self::filled(shards) };
        let strangers = (0..10).map(|number| (format!("x{number}"), 1));
        let known = (0..20).map(|number| (name(number), if number < 10 { 0 } else { 1 }));
        for (index, (name, version)) in strangers.chain(known).enumerate() {
            let item = format!(r#"{{"k":{{"S":"{name}"}},"v":{{"N":"{version}"}}}}"#);
            let change = Change {
                key: model::key(&name),
                op: crate::change::Op::Put(Item::from_json(item.into())),
                created_unix_ms: 0,
                order: crate::change::Order::from_mark(&format!("other/2026#{}", index + 1)),
            };
            match &world.guard {
                Some(guard) => drop(world.tables.write_guarded("us", &change, guard).await.expect("a write")),
                None => drop(world.tables.write("us", &[change]).await.expect("a write")),
            }
        }
        world
    }

    /// What the replica holds of a key, without its mark.
    fn unmarked(&self, name: &str) -> Option<String> {
        let text = self.tables.item("us", &model::key(name))?;
        let Some(guard) = &self.guard else { return Some(text) };
        let item = guard.strip(&Item::from_json(text.into())).expect("an item");
        Some(format!("{item:?}"))
    }

    async fn is_reconciled(&self, shards: &[&str]) {
        let (_one, _two) = (self.worker("one").await, self.worker("two").await);
        let run = self.write_until(shards, |run| run.state == copy::State::Reconciling).await;
        assert_eq!(run.progress.segments_finished, run.segments);
        let strangers = || self.tables.items("us").keys().filter(|key| key.contains("\"x")).count();
        assert_eq!(strangers(), 10, "they are gone before anybody compared");
        let done = self.write_until(shards, |run| run.state == copy::State::Done).await;
        assert!(done.trouble.is_none() && done.consistent_since_unix_ms.is_some(), "{done:#?}");
        self.until_equal().await;
        assert_eq!(strangers(), 0, "{:?}", self.tables.items("us"));
    }
}

impl Running {
    fn is_alone(&self) -> bool {
        self.affinity.sole().is_some_and(|sole| sole.is_open(Instant::now()))
    }
}

fn name(number: u64) -> String {
    format!("k{number:03}")
}

#[tokio::test(start_paused = true)]
async fn a_new_replica_gets_all_that_its_source_held_while_writes_go_on() {
    fastrand::seed(1);
    let shards = ["a", "b", "c"];
    let world = World::filled(&shards);
    let (_one, _two) = (world.worker("one").await, world.worker("two").await);
    let done = world.write_until(&shards, |run| run.state == copy::State::Done).await;
    world.until_equal().await;
    assert!(done.request.known_empty && done.consistent_since_unix_ms > done.scan_ended_unix_ms);
    assert!(done.progress.items > HELD / 2 && done.progress.segments_finished == done.segments);
}

#[tokio::test(start_paused = true)]
async fn a_copy_goes_on_at_another_worker_when_the_first_dies() {
    fastrand::seed(2);
    let shards = ["a", "b", "c"];
    let world = World::filled(&shards);
    let (one, two) = (world.worker("one").await, world.worker("two").await);
    world.write_until(&shards, |run| run.state == copy::State::Copying).await;
    tokio::time::sleep(Duration::from_millis(700)).await;
    let begun = world.run_row().await.expect("a run");
    assert_eq!(begun.state, copy::State::Copying, "it is over already");
    assert!(one.is_alone() != two.is_alone());
    let (_left, dead) = if one.is_alone() { (two, one) } else { (one, two) };
    drop(dead);
    world.write_until(&shards, |run| run.state == copy::State::Done).await;
    world.until_equal().await;
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_holds_something_is_not_copied_to_and_follows_its_source_all_the_same() {
    let world = World::filled(&["a"]);
    let other = Change {
        key: model::key("stranger"),
        op: crate::change::Op::Put(Item::from_json(r#"{"k":{"S":"stranger"}}"#.into())),
        created_unix_ms: 0,
        order: None,
    };
    world.tables.write("us", &[other]).await.expect("a write");
    let worker = world.worker("one").await;
    worker.until("it is read", |status| status.replications[0].shards.active == 1).await;
    let refused = world.write_until(&["a"], |run| run.state == copy::State::Refused).await;
    assert!(refused.reason.is_some_and(|reason| reason.contains("--reconcile")));
    world.source.put("a", "new", 7);
    world.until("new", 7).await;
}

#[tokio::test(start_paused = true)]
async fn a_copy_that_reconciles_leaves_nothing_that_its_source_has_not() {
    fastrand::seed(3);
    let shards = ["a", "b"];
    World::strange(&shards, None).await.is_reconciled(&shards).await;
}

#[tokio::test(start_paused = true)]
async fn under_a_guard_too_whatever_marks_there_are() {
    fastrand::seed(4);
    let shards = ["a", "b"];
    let guard = dynamo::Guard { attribute: dynamo::Guard::DEFAULT_ATTRIBUTE.to_owned() };
    World::strange(&shards, Some(guard)).await.is_reconciled(&shards).await;
}

#[tokio::test(start_paused = true)]
async fn a_comparison_goes_on_at_another_worker_when_the_first_dies() {
    fastrand::seed(5);
    let shards = ["a", "b"];
    let world = World::strange(&shards, None).await;
    let (one, two) = (world.worker("one").await, world.worker("two").await);
    world.write_until(&shards, |run| run.state == copy::State::Reconciling).await;
    assert!(one.is_alone() != two.is_alone());
    let (_left, dead) = if one.is_alone() { (two, one) } else { (one, two) };
    drop(dead);
    world.write_until(&shards, |run| run.state == copy::State::Done).await;
    world.until_equal().await;
    assert!(!world.tables.items("us").keys().any(|key| key.contains("\"x")));
}
