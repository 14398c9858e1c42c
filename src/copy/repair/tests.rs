use std::time::Duration;

use tokio::time::sleep;

use super::*;
use crate::change::{Change, Op, Order};
use crate::copy::tests::{World, item, key};
use crate::dynamo::{Guard, Tables};
use crate::fault::Fault;

async fn done(world: &World) -> Vec<Entry> {
    let repairs = world.repairs();
    for _ in 0..1_000 {
        if repairs.wanted().await.expect("readable").is_empty() {
            return repairs.states().await.expect("readable");
        }
        sleep(Duration::from_millis(500)).await;
    }
    panic!("repairs are never done");
}

#[tokio::test(start_paused = true)]
async fn keys_are_put_or_deleted_as_the_source_has_them() {
    let world = World::new();
    world.fill(300);
    let worker = world.start().await;
    // What the source does not have, and an older state.
    for name in ["extra", "k7"] {
        worker.change(&world, name, Some("wrong"));
    }
    worker.settled().await;
    world.source.write(&key("extra"), None);
    world.source.write(&key("k7"), Some(&item("k7", "right")));
    let mut keys: Vec<_> = (0..300).map(|index| key(&format!("k{index}"))).collect();
    keys.push(key("extra"));
    world.repairs().post(&keys).await.expect("written");
    let states = done(&world).await;
    assert_eq!(Counts::of(&states), Counts { wanted: 0, put: 300, deleted: 1 });
    world.is_equal();
    world.repairs().clear().await.expect("cleared");
    assert!(world.repairs().states().await.expect("readable").is_empty());
}

#[tokio::test(start_paused = true)]
async fn under_a_guard_items_that_carry_a_mark_are_repaired_and_keep_it() {
    let guard = Guard { attribute: Guard::DEFAULT_ATTRIBUTE.to_owned() };
    let mut world = World::new();
    world.guard = Some(guard.clone());
    world.source.write(&key("different"), Some(&item("different", "right")));
    world.source.write(&key("unmarked"), Some(&item("unmarked", "right")));
    let put = |name: &str| Op::Put(item(name, "wrong"));
    let change = |name: &str, mark| Change { key: key(name), op: put(name), created_unix_ms: 0, order: mark };
    for (name, mark) in [("different", Some("t/2026#7")), ("extra", Some("t/2026#8")), ("unmarked", None)] {
        let change = change(name, mark.and_then(Order::from_mark));
        world.tables.write_guarded("replica", &change, &guard).await.expect("written");
    }
    let _worker = world.start().await;
    world.repairs().post(&["different", "extra", "unmarked"].map(key)).await.expect("written");
    let states = done(&world).await;
    assert_eq!(Counts::of(&states), Counts { wanted: 0, put: 2, deleted: 1 });
    let (mark, text) = (Order::from_mark("t/2026#7").expect("a mark").mark(), world.replica());
    assert_eq!(text.len(), 2, "{text:?}");
    assert!(text.values().all(|item| item.contains("right")), "{text:?}");
    assert!(text[&key("different").to_string()].contains(&mark), "{text:?}");
}

#[tokio::test(start_paused = true)]
async fn what_stands_in_the_way_is_told() {
    let world = World::new();
    world.fill(2);
    world.source.fail(Some(Fault::Denied));
    let _worker = world.start().await;
    world.repairs().post(&[key("k0")]).await.expect("written");
    sleep(Duration::from_secs(60)).await;
    let states = world.repairs().states().await.expect("readable");
    let State::Wanted { trouble: Some(trouble) } = &states[0].state else { panic!("{states:?}") };
    assert!(trouble.contains("credentials"), "{trouble}");
    world.source.fail(None);
    let states = done(&world).await;
    assert_eq!(Counts::of(&states), Counts { wanted: 0, put: 1, deleted: 0 });
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_asked_for_again_is_repaired_again() {
    let world = World::new();
    world.fill(1);
    let repairs = world.repairs();
    repairs.post(&[key("k0")]).await.expect("written");
    let asked = repairs.wanted().await.expect("readable").remove(0);
    repairs.post(&[key("k0")]).await.expect("written");
    // Whoever did the first does not take the second away.
    repairs.done(&asked, State::Put).await.expect("written");
    assert_eq!(repairs.wanted().await.expect("readable").len(), 1);
    let _worker = world.start().await;
    let states = done(&world).await;
    assert_eq!(Counts::of(&states), Counts { wanted: 0, put: 1, deleted: 0 });
}
