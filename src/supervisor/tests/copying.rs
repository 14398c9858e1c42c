//! First copies by whole workers, while writes go on.

use super::*;
use crate::copy::{self, Request, Run};

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
            self.tables.item("us", &model::key(&name)) != self.source.item(&name)
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
    let other = crate::change::Change {
        key: model::key("stranger"),
        op: crate::change::Op::Put(crate::item::Item::from_json(r#"{"k":{"S":"stranger"}}"#.into())),
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
