use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::*;
use crate::budget::Budget;
use crate::change::Op;
use crate::item::Item;
use crate::key::Key;

fn change(key: u8, version: u64) -> Change {
    let key = Bytes::from(format!(r#"{{"k":{{"S":"{key}"}}}}"#));
    let item = Item::from_json(Bytes::from(format!(r#"{{"v":{{"N":"{version}"}}}}"#)));
    let key = Key::from_json(&key, 0..key.len()).expect("a key");
    Change { key, op: Op::Put(item), created_unix_ms: 0, order: None }
}

fn version(change: &Change) -> u64 {
    let Op::Put(item) = &change.op else { panic!("only puts are used here") };
    let text = format!("{item:?}");
    text.trim_matches(|c: char| !c.is_ascii_digit()).parse().expect("a version")
}

fn open_fence() -> Fence {
    let fence = Fence::closed();
    fence.open_until(Instant::now() + Duration::from_secs(3_600));
    fence
}

/// A queue with the other end of its acks, and a budget to see what it holds.
struct World {
    queue: Queue,
    window: Window,
    acks: mpsc::UnboundedReceiver<Ack>,
    sender: mpsc::UnboundedSender<Ack>,
    budget: Budget,
    fence: Fence,
    next_lot: u64,
}

impl World {
    fn new() -> Self {
        let (sender, acks) = mpsc::unbounded_channel();
        let (window, budget) = (Window::default(), Budget::new(1 << 20));
        Self {
            queue: Queue::new(window.clone()),
            window,
            acks,
            sender,
            budget,
            fence: open_fence(),
            next_lot: 0,
        }
    }

    fn push(&mut self, changes: Vec<Change>) -> u64 {
        self.push_of(changes, None)
    }

    fn push_of(&mut self, changes: Vec<Change>, page: Option<Page>) -> u64 {
        let number = self.next_lot;
        self.next_lot += 1;
        let reservation = self.budget.try_reserve(1).expect("room");
        let lot = Lot {
            number,
            replica: 0,
            shard: None,
            fence: self.fence.clone(),
            acks: self.sender.clone(),
            reservation,
            page,
        };
        self.queue.push(Delivery { changes, lot });
        number
    }

    fn batch(&mut self, max: usize) -> Option<Batch> {
        self.queue.next_batch(max, 1 << 20, Instant::now())
    }

    fn acked(&mut self) -> Vec<u64> {
        let mut lots: Vec<_> = std::iter::from_fn(|| self.acks.try_recv().ok())
            .filter(|ack| ack.durable)
            .map(|ack| ack.lot)
            .collect();
        lots.sort_unstable();
        lots
    }
}

#[tokio::test]
async fn a_newer_version_replaces_the_one_that_waits_and_settles_it() {
    let mut world = World::new();
    world.push(vec![change(1, 1)]);
    let sending = world.batch(25).expect("one is ready");
    world.push(vec![change(1, 2)]);
    world.push(vec![change(1, 3)]);
    assert!(world.batch(25).is_none(), "two writes of one key were under way");
    world.queue.applied(sending);
    assert_eq!(world.acked(), [0]);
    let sending = world.batch(25).expect("the newest is ready");
    assert_eq!(version(&sending.changes[0]), 3);
    assert_eq!(
        world.acked(),
        [0u64; 0],
        "a replaced change was acknowledged before its successor was written"
    );
    world.queue.applied(sending);
    assert_eq!(world.acked(), [1, 2]);
    assert!(world.queue.is_empty());
    assert_eq!(world.queue.take_tally(), Tally { put: 2, coalesced: 1, ..Tally::default() });
    assert_eq!(world.budget.used_bytes(), 0);
}

#[tokio::test]
async fn an_unprocessed_change_never_follows_a_newer_one() {
    let mut world = World::new();
    world.push(vec![change(1, 1), change(2, 1)]);
    let mut sending = world.batch(25).expect("ready");
    world.push(vec![change(1, 2)]);
    let unprocessed = sending.take(&[0]);
    world.queue.applied(sending);
    world.queue.retry(unprocessed, Instant::now());
    let again = world.batch(25).expect("ready");
    assert_eq!(again.changes.iter().map(version).collect::<Vec<_>>(), [2]);
    world.queue.applied(again);
    assert_eq!(world.acked(), [0, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_retry_waits_and_so_does_what_comes_behind_it() {
    let mut world = World::new();
    world.push(vec![change(1, 1)]);
    let sending = world.batch(25).expect("ready");
    let later = Instant::now() + Duration::from_secs(1);
    world.queue.retry(sending, later);
    world.push(vec![change(1, 2)]);
    assert!(world.batch(25).is_none());
    assert_eq!(world.queue.next_wake(), Some(later));
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(world.batch(25).expect("ready").changes.len(), 1);
}

#[tokio::test]
async fn a_lot_whose_fence_closed_is_given_up_and_never_acknowledged() {
    let mut world = World::new();
    world.push(vec![change(1, 1), change(2, 1)]);
    let sending = world.batch(1).expect("ready");
    world.fence.revoke();
    world.fence = open_fence();
    world.push(vec![change(2, 2), change(3, 1)]);
    world.queue.applied(sending);
    let again = world.batch(25).expect("the new holder's changes");
    assert_eq!(again.changes.len(), 2);
    world.queue.applied(again);
    // The newer change of key 2 came under an open fence and covers the older one.
    assert_eq!(world.acked(), [0, 1]);

    world.push(vec![change(4, 1)]);
    world.fence.revoke();
    assert!(world.batch(25).is_none());
    assert_eq!(world.acked(), [0u64; 0]);
    assert_eq!(world.queue.take_tally().abandoned, 1);
    assert!(world.queue.is_empty());
    assert_eq!(world.budget.used_bytes(), 0);
}

#[tokio::test]
async fn batches_keep_to_count_and_bytes_and_hold_at_least_one() {
    let mut world = World::new();
    world.push((0..60).map(|key| change(key, 1)).collect());
    assert_eq!(world.batch(25).expect("ready").changes.len(), 25);
    let one = change(0, 1).request_bytes();
    assert_eq!(world.queue.next_batch(25, 3 * one + 2, Instant::now()).expect("ready").changes.len(), 3);
    assert_eq!(world.queue.next_batch(25, 1, Instant::now()).expect("ready").changes.len(), 1);
}

#[tokio::test]
async fn a_batch_is_halved_until_the_bad_change_stands_alone() {
    let mut world = World::new();
    world.push((0..25).map(|key| change(key, 1)).collect());
    let mut batches = vec![world.batch(25).expect("ready")];
    let mut requests = 0;
    while let Some(mut batch) = batches.pop() {
        requests += 1;
        let bad = batch.changes.iter().any(|change| change.key.to_string().contains("\"17\""));
        match (bad, batch.changes.len()) {
            (false, _) => world.queue.applied(batch),
            (true, 1) => world.queue.parked(batch),
            (true, _) => {
                batches.push(batch.split());
                batches.push(batch);
            }
        }
    }
    assert!(requests <= 11, "{requests} requests");
    assert_eq!(world.queue.take_tally(), Tally { put: 24, parked: 1, ..Tally::default() });
    assert_eq!(world.acked(), [0]);
}

#[tokio::test(start_paused = true)]
async fn copied_items_fill_up_batches_and_make_way_for_the_stream() {
    let mut world = World::new();
    let page = world.window.arm(Duration::ZERO).page();
    let copied = world.push_of((0..6).map(|key| change(key, 1)).collect(), Some(page));
    let live = world.push(vec![change(4, 2), change(9, 2)]);
    let sending = world.batch(4).expect("ready");
    // The stream's first, also the one whose key a copied item waited for.
    assert_eq!(sending.changes.iter().map(version).collect::<Vec<_>>(), [2, 2, 1, 1]);
    assert_eq!(sending.live().count(), 2);
    world.queue.applied(sending);
    assert_eq!(world.acked(), [live]);
    let rest = world.batch(25).expect("ready");
    assert_eq!(rest.changes.len(), 3);
    world.queue.applied(rest);
    assert_eq!(world.acked(), [copied]);
    assert!(world.queue.is_empty());
    let expected = Tally { put: 2, coalesced: 1, copied: 5, ..Tally::default() };
    assert_eq!(world.queue.take_tally(), expected);
    assert_eq!(world.queue.pending(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_copied_item_is_dropped_when_the_stream_owns_its_key() {
    let mut world = World::new();
    let armed = world.window.arm(Duration::ZERO);
    let page = armed.page();
    world.push(vec![change(1, 2), change(2, 2)]);
    let sending = world.batch(1).expect("ready");
    // One key's change is on its way, the other's waits.
    let dropped = world.push_of(vec![change(1, 1), change(2, 1)], Some(page.clone()));
    assert_eq!(world.acked(), [dropped], "what is dropped is settled");
    world.queue.applied(sending);
    let sending = world.batch(25).expect("ready");
    world.queue.parked(sending);
    assert_eq!(world.acked(), [0]);
    // Both are touched since the page was read, which is asked when items are about to be sent.
    let page = world.push_of(vec![change(1, 1), change(2, 1), change(3, 1)], Some(page));
    let sending = world.batch(25).expect("ready");
    assert_eq!(sending.changes.len(), 1);
    assert_eq!(world.acked(), [0u64; 0], "the page waits for its last item");
    world.queue.applied(sending);
    assert_eq!(world.acked(), [page]);
    tokio::time::advance(Duration::from_millis(1)).await;
    let later = world.push_of(vec![change(1, 2)], Some(armed.page()));
    let sending = world.batch(25).expect("it was read after the change was applied");
    world.queue.applied(sending);
    assert_eq!(world.acked(), [later]);
    assert_eq!(world.queue.take_tally().superseded, 4);
}

#[tokio::test(start_paused = true)]
async fn what_the_stream_brings_waits_for_an_unanswered_copy_even_if_nobody_may_copy_any_more() {
    let mut world = World::new();
    let armed = world.window.arm(Duration::ZERO);
    let copied = world.push_of(vec![change(1, 1)], Some(armed.page()));
    let sending = world.batch(25).expect("ready");
    world.queue.retry(sending, Instant::now() + Duration::from_secs(4));
    std::mem::replace(&mut world.fence, open_fence()).revoke();
    world.queue.abandon_closed(Instant::now());
    let live = world.push(vec![change(1, 2)]);
    assert!(world.batch(25).is_none(), "the older item may still land over it");
    tokio::time::advance(Duration::from_secs(4)).await;
    let sending = world.batch(25).expect("ready");
    assert_eq!(sending.changes.iter().map(version).collect::<Vec<_>>(), [2]);
    world.queue.applied(sending);
    assert_eq!(world.acked(), [copied, live]);
}

#[tokio::test(start_paused = true)]
async fn copied_items_whose_fence_closed_are_given_up() {
    let mut world = World::new();
    let armed = world.window.arm(Duration::ZERO);
    world.push_of(vec![change(1, 1), change(2, 1)], Some(armed.page()));
    world.fence.revoke();
    assert!(world.batch(25).is_none());
    assert!(world.queue.is_empty());
    assert_eq!((world.acked(), world.queue.take_tally().abandoned), (Vec::new(), 2));
}

#[derive(Debug, Clone)]
enum Step {
    Push(Vec<u8>),
    Send(usize),
    Finish { batch: usize, unprocessed: Vec<bool>, park: bool },
    Lose(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => prop::collection::vec(0u8..6, 1..8).prop_map(Step::Push),
        4 => (1usize..6).prop_map(Step::Send),
        4 => (any::<usize>(), prop::collection::vec(any::<bool>(), 6), prop::bool::weighted(0.1))
            .prop_map(|(batch, unprocessed, park)| Step::Finish { batch, unprocessed, park }),
        1 => any::<usize>().prop_map(Step::Lose),
    ]
}

/// The plainest replica there is, and what must be true of it.
#[derive(Default)]
struct Model {
    newest: BTreeMap<u8, u64>,
    applied: BTreeMap<String, u64>,
    in_flight: Vec<Batch>,
    lots: BTreeMap<u64, Vec<(String, u64)>>,
    pushed: u64,
}

impl Model {
    fn apply(&mut self, batch: &Batch) {
        for change in &batch.changes {
            let held = self.applied.entry(change.key.to_string()).or_default();
            assert!(*held <= version(change), "an older version was written over a newer one");
            *held = version(change);
        }
    }

    fn acknowledged(&mut self, lot: u64) {
        for (key, version) in self.lots.remove(&lot).expect("a lot was acknowledged twice") {
            assert!(self.applied.get(&key) >= Some(&version), "acknowledged before it was durable");
        }
    }
}

proptest! {
    #[test]
    fn order_acks_and_ledger_hold_whatever_happens(steps in prop::collection::vec(step(), 1..80)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        let _guard = runtime.enter();
        let (mut world, mut model) = (World::new(), Model::default());
        for step in steps {
            run(&mut world, &mut model, step);
        }
        // Faults stop: everything drains.
        while !world.queue.is_empty() {
            while let Some(batch) = world.batch(25) {
                model.in_flight.push(batch);
            }
            let batch = model.in_flight.pop().expect("something is under way while the queue is not empty");
            model.apply(&batch);
            world.queue.applied(batch);
        }
        for lot in world.acked() {
            model.acknowledged(lot);
        }
        prop_assert!(model.lots.is_empty(), "a lot was never acknowledged");
        let tally = world.queue.take_tally();
        prop_assert_eq!(tally.put + tally.coalesced + tally.parked, model.pushed);
        prop_assert_eq!(world.budget.used_bytes(), 0);
        for (key, version) in &model.newest {
            let applied = model.applied[&change(*key, 0).key.to_string()];
            prop_assert_eq!(applied, *version);
        }
    }
}

fn run(world: &mut World, model: &mut Model, step: Step) {
    match step {
        Step::Push(keys) => {
            let changes: Vec<_> = keys
                .iter()
                .map(|key| {
                    let version = model.newest.entry(*key).or_default();
                    *version += 1;
                    change(*key, *version)
                })
                .collect();
            model.pushed += changes.len() as u64;
            let held = changes.iter().map(|change| (change.key.to_string(), version(change))).collect();
            let lot = world.push(changes);
            model.lots.insert(lot, held);
        }
        Step::Send(max) => {
            if let Some(batch) = world.batch(max) {
                let under_way = model.in_flight.iter().flat_map(|batch| &batch.changes);
                let mut keys: BTreeSet<_> = under_way.map(|change| change.key.to_string()).collect();
                for change in &batch.changes {
                    assert!(keys.insert(change.key.to_string()), "two writes of one key were under way");
                }
                model.in_flight.push(batch);
            }
        }
        Step::Finish { batch, unprocessed, park } if !model.in_flight.is_empty() => {
            let mut batch = model.in_flight.swap_remove(batch % model.in_flight.len());
            if park {
                // A parked payload stands in for the item: the model treats it as held.
                model.apply(&batch);
                world.queue.parked(batch);
            } else {
                let left: Vec<_> = (0..batch.changes.len()).filter(|index| unprocessed[index % 6]).collect();
                let left = batch.take(&left);
                model.apply(&batch);
                world.queue.applied(batch);
                world.queue.retry(left, Instant::now());
            }
        }
        Step::Lose(batch) if !model.in_flight.is_empty() => {
            // Applied, but the answer was lost: it is tried again.
            let batch = model.in_flight.swap_remove(batch % model.in_flight.len());
            model.apply(&batch);
            world.queue.retry(batch, Instant::now());
        }
        Step::Finish { .. } | Step::Lose(_) => {}
    }
    for lot in world.acked() {
        model.acknowledged(lot);
    }
}
