//! Rows of shards and replicas that cannot be written, or are written although that failed.

use super::*;
use crate::lease::Leases;

impl World {
    async fn shards_with_rows(&self) -> Vec<String> {
        let control = Control::new(Arc::clone(&self.tables) as _, "control");
        let rows = Leases::new(control, "orders", "a test").load().await.expect("the rows can be read");
        rows.iter().map(|row| row.shard.to_string()).collect()
    }
}

/// Seed 1308 of the simulation: a first listing without shards, and rows of replicas of which one could not be written.
#[tokio::test(start_paused = true)]
async fn a_started_replica_gets_all_of_shards_that_are_found_before_the_others_are_started() {
    let mut world = World::new(&[]);
    world.start = Start::Latest;
    world.replicas = vec!["a".to_owned(), "b".to_owned(), "c".to_owned()];
    world.tables.break_row(Some("replica/b"));
    let worker = world.worker("w").await;
    worker.until("b is not started", |status| status.replications[0].error.is_some()).await;
    world.source.open("s");
    world.source.put("s", "x", 1);
    world.source.close("s", &[]);
    tokio::time::sleep(Duration::from_secs(30)).await;
    world.tables.break_row(None);
    worker.until("the shard has ended", |status| status.replications[0].shards.ended == 1).await;
    for replica in ["a", "c"] {
        assert_eq!(
            world.version_in(replica, "x").as_deref(),
            Some("1"),
            "{replica} lacks what came after its start"
        );
    }
}

/// Seed 1308 again: the row could not be written, as far as the worker knew.
#[tokio::test(start_paused = true)]
async fn a_replica_that_was_started_without_an_answer_gets_all_of_shards_that_are_found_before_it_is_known() {
    let mut world = World::new(&[]);
    world.start = Start::Latest;
    world.tables.lose_row(Some("replica/us"));
    let worker = world.worker("w").await;
    worker.until("it is not known to be started", |status| status.replications[0].error.is_some()).await;
    world.source.open("s");
    world.source.put("s", "x", 1);
    world.source.close("s", &[]);
    world.tables.lose_row(None);
    worker.until("the shard has ended", |status| status.replications[0].shards.ended == 1).await;
    assert_eq!(world.version("x").as_deref(), Some("1"), "it lacks what came after its start");
}

/// Seed 6088 of the simulation: the row of a shard could not be made, that of its child was, and another worker took the
/// child for one whose parent was never tracked.
#[tokio::test(start_paused = true)]
async fn no_shard_has_a_row_before_its_parent_has_one() {
    let world = World::new(&["a"]);
    world.source.list_singly();
    let worker = world.worker("w").await;
    worker.until("it is read", |status| status.replications[0].shards.active == 1).await;
    world.tables.break_row(Some("shard/b"));
    world.source.close("a", &["b"]);
    world.source.close("b", &["c"]);
    world.source.put("c", "x", 1);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(world.shards_with_rows().await, ["a"], "a child is tracked before its parent");
    world.tables.break_row(None);
    world.until("x", 1).await;
    assert_eq!(world.source.read_order(), ["c"], "nothing else held a record");
}
