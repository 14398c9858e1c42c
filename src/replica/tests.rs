use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::parked::Parked;
use super::*;
use crate::budget::Budget;
use crate::change::{Change, Op, Order};
use crate::clock::Clock;
use crate::control::Control;
use crate::dynamo::memory::Memory;
use crate::fault::{Fault, Width};
use crate::item::Item;
use crate::key::Key;
use crate::lane::{Ack, Delivery, Lot, Window};
use crate::lease::Fence;
use crate::shard::ShardId;
use crate::task::Tasks;

fn key(name: &str) -> Key {
    let text = Bytes::from(format!(r#"{{"k":{{"S":"{name}"}}}}"#));
    Key::from_json(&text, 0..text.len()).expect("a key")
}

fn put(name: &str, value: &str) -> Change {
    let item = Item::from_json(Bytes::from(format!(r#"{{"k":{{"S":"{name}"}},"v":{{"S":"{value}"}}}}"#)));
    Change { key: key(name), op: Op::Put(item), created_unix_ms: 1_000, order: None }
}

/// A writer on tables in memory, fed by hand.
struct World {
    memory: Arc<Memory>,
    parked: Parked,
    gauges: Arc<Gauges>,
    inbox: mpsc::UnboundedSender<Delivery>,
    acks: mpsc::UnboundedReceiver<Ack>,
    sender: mpsc::UnboundedSender<Ack>,
    fence: Fence,
    lots: u64,
    _tasks: Tasks<()>,
}

impl World {
    async fn start(memory: Arc<Memory>, park_limit: usize) -> Self {
        Self::guarded_by(None, memory, park_limit).await
    }

    async fn guarded_by(guard: Option<Guard>, memory: Arc<Memory>, park_limit: usize) -> Self {
        let control = Control::new(Arc::clone(&memory) as _, "control");
        let clock = Clock::Simulated { start_unix_ms: 1_000_000, start: Instant::now() };
        let parked = Parked::new(control, "orders", "us", clock);
        let (inbox, receiver) = mpsc::unbounded_channel();
        let (sender, acks) = mpsc::unbounded_channel();
        let fence = Fence::closed();
        fence.open_until(Instant::now() + Duration::from_secs(86_400));
        let gauges = Arc::new(Gauges::default());
        let parts = Parts {
            config: Config {
                table: "replica".to_owned(),
                batches_in_flight: 4,
                attempt_timeout: Duration::from_secs(4),
                settle: Duration::from_secs(4),
                guard,
                park_limit,
            },
            tables: Arc::clone(&memory) as _,
            parked: parked.clone(),
            inbox: receiver,
            reloads: mpsc::unbounded_channel().1,
            retry_lot: {
                let fence = fence.clone();
                Arc::new(move |shard: Option<&ShardId>| Some(Lot::unheard(shard.cloned(), fence.clone())))
            },
            gauges: Arc::clone(&gauges),
            window: Window::default(),
            clock,
            metrics: crate::telemetry::Metrics::new("test", "test", clock)
                .expect("metrics")
                .replica("orders", "Orders", "us"),
        };
        let writer = Writer::build(parts).await.expect("the parked keys are read");
        let mut tasks = Tasks::new();
        tasks.spawn(tracing::Span::none(), writer.run());
        Self { memory, parked, gauges, inbox, acks, sender, fence, lots: 0, _tasks: tasks }
    }

    fn push(&mut self, changes: Vec<Change>) {
        let reservation = Budget::new(1).try_reserve(1).expect("room");
        let (number, fence) = (self.lots, self.fence.clone());
        self.lots += 1;
        let shard = Some(ShardId::from("shard-1"));
        let lot =
            Lot { number, replica: 0, shard, fence, acks: self.sender.clone(), reservation, page: None };
        self.inbox.send(Delivery { changes, lot }).expect("the writer runs");
    }

    async fn ack(&mut self) -> u64 {
        self.acks.recv().await.expect("the writer runs").lot
    }

    /// What became of changes, once the writer has told.
    async fn settled(&self) -> crate::lane::Tally {
        while self.gauges.pending() > 0 {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        self.gauges.counts().settled
    }

    fn value(&self, name: &str) -> Option<String> {
        self.memory.item("replica", &key(name))
    }
}

#[tokio::test(start_paused = true)]
async fn a_failed_batch_is_tried_again_until_it_is_done() {
    for fault in
        [Fault::Transient, Fault::Throttled(Width::Table), Fault::Throttled(Width::KeyRange), Fault::Denied]
    {
        let memory = Arc::new(Memory::default());
        let mut world = World::start(Arc::clone(&memory), 10).await;
        memory.fail_next(fault);
        memory.fail_next(fault);
        world.push(vec![put("a", "1"), put("b", "1")]);
        assert_eq!(world.ack().await, 0);
        assert!(world.value("a").is_some() && world.value("b").is_some());
        assert_eq!(memory.batches().len(), 3, "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_unanswered_write_is_not_followed_before_it_can_no_longer_land() {
    let memory = Arc::new(Memory::default());
    let mut world = World::start(Arc::clone(&memory), 10).await;
    memory.lose_next_answer(Fault::Unanswered);
    let start = Instant::now();
    world.push(vec![put("a", "1")]);
    world.push(vec![put("a", "2")]);
    while world.ack().await != 1 {}
    assert!(start.elapsed() >= Duration::from_secs(4), "written again after {:?}", start.elapsed());
    assert!(world.value("a").expect("written").contains(r#""v":{"S":"2"}"#));
}

#[tokio::test(start_paused = true)]
async fn what_is_left_unprocessed_is_written_later() {
    let memory = Arc::new(Memory::default());
    let mut world = World::start(Arc::clone(&memory), 10).await;
    memory.leave_next_unprocessed(&[1]);
    world.push(vec![put("a", "1"), put("b", "1"), put("c", "1")]);
    assert_eq!(world.ack().await, 0);
    assert!(world.value("b").is_some());
    assert_eq!(memory.batches()[1], [key("b").to_string()]);
}

#[tokio::test(start_paused = true)]
async fn one_bad_item_is_parked_and_the_others_are_written() {
    let memory = Arc::new(Memory::default());
    memory.refuse_items_with("poison");
    let mut world = World::start(Arc::clone(&memory), 10).await;
    let mut changes: Vec<_> = (0..25).map(|index| put(&format!("k{index}"), "fine")).collect();
    changes[13] = put("k13", "poison");
    world.push(changes);
    assert_eq!(world.ack().await, 0);
    assert!((0..25).all(|index| world.value(&format!("k{index}")).is_some() == (index != 13)));
    let entries = world.parked.list().await.expect("listed");
    assert_eq!(entries.iter().map(|entry| entry.key.clone()).collect::<Vec<_>>(), [key("k13")]);
    let Op::Put(item) = world.parked.change(&entries[0]).await.expect("its payload").op else {
        panic!("a put")
    };
    assert!(format!("{item:?}").contains("poison"));

    // A later change is tried in its place, and settles it.
    world.push(vec![put("k13", "mended")]);
    assert_eq!(world.ack().await, 1);
    assert!(world.value("k13").expect("written").contains("mended"));
    assert!(world.parked.list().await.expect("listed").is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_parked_key_survives_a_restart_and_is_tried_again_on_demand() {
    let memory = Arc::new(Memory::default());
    memory.refuse_items_with("poison");
    let mut world = World::start(Arc::clone(&memory), 10).await;
    world.push(vec![put("a", "poison")]);
    assert_eq!(world.ack().await, 0);
    drop(world);

    let world = World::start(Arc::clone(&memory), 10).await;
    assert_eq!(world.gauges.parked_keys(), 1);
    memory.accept_all();
    let entry = world.parked.list().await.expect("listed").remove(0);
    assert!(world.parked.ask_retry(&entry).await.expect("asked"));
    while world.value("a").is_none() || !world.parked.list().await.expect("listed").is_empty() {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_unanswered_parking_is_not_followed_before_it_can_no_longer_land() {
    let memory = Arc::new(Memory::default());
    memory.refuse_items_with("poison");
    let mut world = World::start(Arc::clone(&memory), 10).await;
    // The first is that of the refused write.
    memory.lose_next_answer(Fault::Unanswered);
    memory.lose_next_answer(Fault::Unanswered);
    let begun = Instant::now();
    world.push(vec![put("a", "poison")]);
    assert_eq!(world.ack().await, 0);
    // What is written under its key next must not be overtaken by the attempt that nobody answered.
    assert!(begun.elapsed() >= Duration::from_secs(4), "kept after {:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn too_many_refusals_stall_the_replica_instead_of_parking_everything() {
    let memory = Arc::new(Memory::default());
    memory.refuse_items_with("poison");
    let mut world = World::start(Arc::clone(&memory), 2).await;
    world.push((0..5).map(|index| put(&format!("k{index}"), "poison")).collect());
    while world.gauges.trouble().is_none() {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(world.parked.list().await.expect("listed").len(), 2);
    let text = world.gauges.trouble().expect("it is there").text;
    assert!(text.contains("too many keys are parked"), "{text}");
    memory.accept_all();
    assert_eq!(world.ack().await, 0);
    assert_eq!(world.gauges.trouble(), None);
}

#[tokio::test(start_paused = true)]
async fn a_batch_is_not_halved_and_sent_again_under_a_lost_lease() {
    let memory = Arc::new(Memory::default());
    memory.refuse_items_with("poison");
    memory.slow_items(Duration::from_secs(1));
    let mut world = World::start(Arc::clone(&memory), 10).await;
    world.push((0..8).map(|index| put(&format!("k{index}"), "poison")).collect());
    tokio::time::sleep(Duration::from_millis(500)).await;
    world.fence.revoke();
    let ack = world.acks.recv().await.expect("the writer runs");
    assert!(!ack.durable);
    assert_eq!(memory.batches().len(), 1, "sent without the right to");
    assert!(world.parked.list().await.expect("listed").is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_key_is_not_parked_under_a_lost_lease() {
    let memory = Arc::new(Memory::default());
    memory.refuse_items_with("poison");
    let mut world = World::start(Arc::clone(&memory), 10).await;
    memory.break_rows(true);
    world.push(vec![put("a", "poison")]);
    tokio::time::sleep(Duration::from_secs(5)).await;
    world.fence.revoke();
    let waited = tokio::time::timeout(Duration::from_secs(60), world.acks.recv()).await;
    let ack = waited.expect("it was tried for ever").expect("the writer runs");
    assert!(!ack.durable);
    memory.break_rows(false);
    assert!(world.parked.list().await.expect("listed").is_empty());
}

/// A version of a key, as the record with this number.
fn version(name: &str, sequence: &str) -> Change {
    Change { order: Order::from_mark(&format!("t/2026#{sequence}")), ..put(name, sequence) }
}

fn deleted(name: &str, sequence: &str) -> Change {
    Change { op: Op::Delete, ..version(name, sequence) }
}

async fn guarded(memory: &Arc<Memory>) -> World {
    let guard = Guard { attribute: Guard::DEFAULT_ATTRIBUTE.to_owned() };
    World::guarded_by(Some(guard), Arc::clone(memory), 10).await
}

fn shows(world: &World, name: &str, sequence: &str) -> bool {
    world.value(name).is_some_and(|item| item.contains(&format!(r#""v":{{"S":"{sequence}"}}"#)))
}

#[tokio::test(start_paused = true)]
async fn under_a_guard_a_replay_never_shows_an_older_version() {
    let memory = Arc::new(Memory::default());
    let mut world = guarded(&memory).await;
    world.push(vec![version("a", "99"), version("b", "100")]);
    world.ack().await;
    world.push(vec![version("a", "101")]);
    world.ack().await;
    drop(world);

    // From before the first, as after a crash: one by one, so that none is coalesced.
    let mut world = guarded(&memory).await;
    for change in [version("a", "99"), version("b", "100"), version("a", "101"), version("a", "102")] {
        let newest = if change.order == version("a", "102").order { "102" } else { "101" };
        world.push(vec![change]);
        world.ack().await;
        assert!(shows(&world, "a", newest) && shows(&world, "b", "100"));
    }
    let settled = world.settled().await;
    assert_eq!((settled.put, settled.stale), (1, 3));
}

#[tokio::test(start_paused = true)]
async fn under_a_guard_a_late_delete_takes_nothing_newer_away() {
    let memory = Arc::new(Memory::default());
    let mut world = guarded(&memory).await;
    world.push(vec![version("a", "7")]);
    world.ack().await;
    world.push(vec![deleted("a", "5")]);
    world.ack().await;
    assert!(shows(&world, "a", "7"));
    world.push(vec![deleted("a", "8")]);
    world.ack().await;
    assert!(world.value("a").is_none());
    // What was deleted remembers nothing: the replay ends with its delete.
    world.push(vec![version("a", "7")]);
    world.ack().await;
    assert!(shows(&world, "a", "7"));
    world.push(vec![deleted("a", "8")]);
    world.ack().await;
    assert!(world.value("a").is_none());
}

#[tokio::test(start_paused = true)]
async fn under_a_guard_each_change_of_a_batch_has_its_own_fate() {
    let memory = Arc::new(Memory::default());
    let mut world = guarded(&memory).await;
    world.push(vec![version("stale", "50")]);
    world.ack().await;
    memory.refuse_items_with("poison");
    // In the order of the batch; answers that are scripted go to the first calls.
    memory.fail_next(Fault::Throttled(Width::KeyRange));
    memory.lose_next_answer(Fault::Unanswered);
    let refused = Change { order: version("x", "12").order, ..put("bad", "poison") };
    world.push(vec![
        version("hot", "10"),
        version("lost", "11"),
        refused,
        version("stale", "13"),
        version("fine", "14"),
    ]);
    world.ack().await;
    assert!(shows(&world, "hot", "10") && shows(&world, "lost", "11") && shows(&world, "fine", "14"));
    assert!(shows(&world, "stale", "50") && world.value("bad").is_none());
    let parked = world.parked.list().await.expect("listed");
    assert_eq!(parked.iter().map(|entry| entry.key.clone()).collect::<Vec<_>>(), [key("bad")]);
    assert_eq!(parked[0].order, version("x", "12").order);
    assert_eq!(parked[0].shard, Some(ShardId::from("shard-1")));
    let settled = world.settled().await;
    // The lost answer's write was done, so making it again found it stale.
    assert_eq!((settled.put, settled.stale, settled.parked), (3, 2, 1));
}

#[tokio::test(start_paused = true)]
async fn a_parked_change_is_not_tried_again_without_the_right_to() {
    let memory = Arc::new(Memory::default());
    memory.refuse_items_with("poison");
    let mut world = World::start(Arc::clone(&memory), 10).await;
    world.push(vec![put("a", "poison")]);
    world.ack().await;
    memory.accept_all();
    world.fence.revoke();
    let entry = world.parked.list().await.expect("listed").remove(0);
    let tried = memory.batches().len();
    assert!(world.parked.ask_retry(&entry).await.expect("asked"));
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(memory.batches().len(), tried, "written without the right to");
    world.fence.open_until(Instant::now() + Duration::from_secs(60));
    while world.value("a").is_none() {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}
