//! The two cursors of a shard at work: thin loops around what [`Cursors`] decides.

mod state;

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use tracing::{debug, info};

use self::state::State;
use super::super::feed::{Channel, Seen};
use super::super::plan::{Order, Orders};
use super::super::watch;
use super::cursors::Step;
use super::room::Room;
use crate::budget::Reservation;
use crate::checkpoint::Checkpoint;
use crate::clock::Clock;
use crate::lease::Fence;
use crate::mutation::{self, Mutation};
use crate::shard::ShardId;
use crate::stream::{self, GapReason, Page, Polled, Reader, Source, Start, Trouble};

/// How long the replicas whose parked keys are known wait for the others at the start, so that all begin together.
const MUSTER: Duration = Duration::from_millis(500);

/// How often a closed fence is looked at.
const FENCE_LOOK: Duration = Duration::from_millis(100);

/// What reading a shard needs to know.
pub(super) struct Parts {
    pub(super) shard: ShardId,
    pub(super) config: stream::Config,
    pub(super) source: Source,
    pub(super) clock: Clock,
    pub(super) is_fresh: bool,
    /// Without the right to write what is read nothing is read: a successor may be at the shard.
    pub(super) fence: Fence,
    pub(super) metrics: Arc<stream::Metrics>,
    pub(super) troubles: mpsc::Sender<Trouble>,
    pub(super) replicas: Vec<Replica>,
}

/// One replica to read for.
pub(super) struct Replica {
    pub(super) channel: Channel,
    pub(super) from: Checkpoint,
    pub(super) seen: Arc<Seen>,
}

/// What was read, in the order of each replica.
pub(super) enum News {
    /// A page for some replicas, each with its room when there are records.
    Page { page: Page, to: Vec<(usize, Option<Reservation>)> },
    /// These replicas were given all of the shard.
    End(Vec<usize>),
    /// For these replicas the shard cannot be read on.
    Gap(Vec<usize>, GapReason),
    /// All that was read for a replica was told, and nothing more is read before the seek with this number is obeyed.
    Rest(usize, i64),
}

/// Both cursors.
pub(super) struct Reading {
    parts: Parts,
    news: mpsc::Sender<News>,
    state: Mutex<State>,
    changed: Notify,
}

/// Nobody listens any more: the shard's task has ended.
struct Deaf;

// === impl Reading ===

impl Reading {
    pub(super) fn new(parts: Parts, news: mpsc::Sender<News>) -> Self {
        let state = Mutex::new(State::new(&parts.replicas));
        Self { parts, news, state, changed: Notify::new() }
    }

    /// Reads for the replicas that may be read for, until nobody listens to the news.
    pub(super) async fn run(self, orders: watch::Receiver<Orders>) {
        tokio::select! {
            biased;
            Err(Deaf) = self.attend(orders) => {}
            Err(Deaf) = self.live() => {}
            Err(Deaf) = self.catch_up() => {}
        }
    }

    // --- orders ---

    /// Lets replicas in and out as they may be read for. A replica is let in when its writer knows all keys that were
    /// parked before: its newer changes have to clear them.
    async fn attend(&self, mut orders: watch::Receiver<Orders>) -> Result<(), Deaf> {
        let know = |replica: usize, order: Order| async move {
            self.parts.replicas[replica].channel.know_parked().await;
            (replica, order)
        };
        let (mut entering, mut inside) = (FuturesUnordered::new(), BTreeSet::new());
        let mut muster = Some(Instant::now() + MUSTER);
        loop {
            let now_runs: Vec<_> = {
                let orders = orders.borrow_and_update();
                let order = |it: &Replica| orders.get(&it.channel.replica).cloned().unwrap_or(Order::Hold);
                self.parts.replicas.iter().map(order).collect()
            };
            for (replica, order) in now_runs.iter().enumerate() {
                if order.runs() && inside.insert(replica) {
                    entering.push(know(replica, order.clone()));
                } else if !order.runs() && inside.remove(&replica) {
                    self.update(|state| state.cursors.hold(replica));
                }
                self.state().seek(replica, order.epoch());
            }
            self.tell_rest().await?;
            let mut known = Vec::new();
            if let Some(until) = muster.take() {
                while let Ok(Some(next)) = timeout_at(until, entering.next()).await {
                    known.push(next);
                }
            } else {
                tokio::select! {
                    biased;
                    changed = orders.changed() => if changed.is_err() { std::future::pending().await },
                    Some(next) = entering.next() => known.push(next),
                }
            }
            // One that may not be read for any more, or not yet again, is let in when it may.
            known.retain(|(replica, _)| inside.contains(replica));
            self.let_in(known);
        }
    }

    fn let_in(&self, replicas: Vec<(usize, Order)>) {
        if replicas.is_empty() {
            return;
        }
        self.update(|state| {
            for (replica, order) in replicas {
                let sought = &self.parts.replicas[replica].seen.sought;
                if let Some(from) = sought.lock().expect("nothing panics while holding it").take() {
                    state.begin_anew(replica, from);
                }
                let State { cursors, readers, from, .. } = state;
                cursors.want(replica, || {
                    let reader = self.reader(replica, from[replica], &order);
                    let place = reader.place();
                    readers[replica] = Some(reader);
                    place
                });
            }
        });
    }

    fn reader(&self, replica: usize, mut from: Checkpoint, order: &Order) -> Reader {
        let is_fresh = self.parts.is_fresh && from.epoch == self.parts.replicas[replica].from.epoch;
        if mutation::is_on(Mutation::StartElsewhere) {
            let all = self.parts.replicas.iter().map(|it| it.from);
            from = all.fold(from, |most, it| if it.position > most.position { it } else { most });
        }
        if let Order::Run { parent: Some(parent) } = order {
            from.inherit(parent);
        }
        let start = Start {
            position: from.position,
            fresh: is_fresh,
            read_through_unix_ms: Some(from.read_through_unix_ms),
        };
        let Parts { config, source, shard, clock, metrics, troubles, .. } = &self.parts;
        let metrics = Arc::clone(metrics);
        Reader::new(config, source.clone(), shard.clone(), start, *clock, metrics, troubles.clone())
    }

    // --- the live cursor ---

    async fn live(&self) -> Result<(), Deaf> {
        let budgets = self.parts.replicas.iter().map(|it| it.channel.budget.clone()).collect();
        let mut room = Room::new(budgets);
        let mut reader: Option<Reader> = None;
        loop {
            self.permitted().await;
            let changed = self.changed.notified();
            let step = self.update(|state| {
                let step = state.cursors.step(Instant::now(), |replica| room.is_there(replica));
                match (&step, &reader) {
                    (Step::Take(replica), _) => reader = state.readers[*replica].take(),
                    (Step::Release(replica), Some(reader)) => {
                        state.cursors.release(*replica, reader.place());
                        state.readers[*replica] = Some(reader.fork());
                    }
                    _ => {}
                }
                step
            });
            let Step::Read { attached, not_before } = step else {
                if matches!(step, Step::Release(_)) {
                    self.tell_rest().await?;
                }
                if step == Step::Rest {
                    reader = None;
                    changed.await;
                }
                continue;
            };
            let reader = reader.as_mut().expect("who is attached shares the live cursor's reader");
            let found = async {
                let due = not_before.map_or(reader.due(), |not_before| not_before.max(reader.due()));
                // A timer takes up to a millisecond, even for what is past.
                if due > Instant::now() {
                    sleep_until(due).await;
                }
                room.find(&attached, &self.parts.metrics).await
            };
            let found = tokio::select! {
                biased;
                () = changed => continue,
                found = found => found,
            };
            if found.waited {
                reader.forget_iterator();
            }
            if !self.is_permitted() {
                continue;
            }
            self.detach(found.lacking, reader);
            self.live_page(reader, found.reserved).await?;
        }
    }

    /// Between two pages: those without room go on by themselves from here.
    fn detach(&self, lacking: Vec<usize>, reader: &Reader) {
        let now = Instant::now();
        self.update(|state| {
            for replica in lacking {
                info!(
                    replica = self.name(replica),
                    "replica has no room and is read for by itself from here"
                );
                state.cursors.detach(replica, reader.place(), now);
                state.readers[replica] = Some(reader.fork());
            }
            state.cursors.begin();
        });
    }

    async fn live_page(&self, reader: &mut Reader, reserved: Vec<(usize, Reservation)>) -> Result<(), Deaf> {
        match reader.poll(|| self.is_permitted()).await {
            Polled::Page(page) => {
                let is_last = page.is_last;
                self.tell(page_for(page, reserved)).await?;
                if is_last {
                    let ended = self.update(State::all_over);
                    self.tell_over(News::End(ended.clone()), &ended).await?;
                } else {
                    self.update(|state| state.cursors.done(reader.place()));
                }
            }
            Polled::Failed => self.update(|state| state.cursors.failed()),
            Polled::Gap(reason) => {
                let stopped = self.update(|state| state.gap(&reader.place()));
                self.tell_over(News::Gap(stopped.clone(), reason), &stopped).await?;
            }
        }
        Ok(())
    }

    // --- the catch-up cursor ---

    async fn catch_up(&self) -> Result<(), Deaf> {
        let budgets = self.parts.replicas.iter().map(|it| it.channel.budget.clone()).collect();
        let room = Room::new(budgets);
        loop {
            self.permitted().await;
            let changed = self.changed.notified();
            let waiting = {
                let state = self.state();
                let due =
                    |replica: usize| state.readers[replica].as_ref().map_or_else(Instant::now, Reader::due);
                let turns = state.cursors.turns(Instant::now());
                turns.into_iter().map(|replica| (replica, due(replica))).collect::<Vec<_>>()
            };
            if waiting.is_empty() {
                changed.await;
                continue;
            }
            let (replica, reservation, waited) = tokio::select! {
                biased;
                () = changed => continue,
                first = room.first(&waiting) => first,
            };
            if !self.is_permitted() {
                continue;
            }
            let mut reader = self.update(|state| {
                if let Some(before) = state.cursors.serve(replica, Instant::now())
                    && let Some(reader) = &mut state.readers[before]
                {
                    reader.forget_iterator();
                }
                state.readers[replica].take().expect("who is detached has a reader of its own")
            });
            if waited {
                reader.forget_iterator();
            }
            self.catch_up_page(replica, reader, reservation, &room).await?;
        }
    }

    async fn catch_up_page(
        &self,
        replica: usize,
        mut reader: Reader,
        reservation: Reservation,
        room: &Room,
    ) -> Result<(), Deaf> {
        match reader.poll(|| self.is_permitted()).await {
            Polled::Page(page) => {
                let is_last = page.is_last;
                self.tell(page_for(page, vec![(replica, reservation)])).await?;
                if is_last {
                    self.update(|state| state.over(replica));
                    return self.tell_over(News::End(vec![replica]), &[replica]).await;
                }
            }
            Polled::Failed => drop(reservation),
            Polled::Gap(reason) => {
                self.update(|state| state.over(replica));
                return self.tell_over(News::Gap(vec![replica], reason), &[replica]).await;
            }
        }
        let (place, has_room) = (reader.place(), room.is_there(replica));
        let joined = self.update(|state| {
            let joined = state.cursors.served(replica, place, has_room, Instant::now());
            state.readers[replica] = Some(reader);
            joined
        });
        if joined {
            debug!(replica = self.name(replica), "replica has caught up with the others");
        }
        self.tell_rest().await
    }

    // --- both ---

    /// Whether the lease is surely held. A process that stood still for longer than that must not read on beside its
    /// successor (I9) until it has learnt so.
    fn is_permitted(&self) -> bool {
        self.parts.fence.is_open(Instant::now())
    }

    /// Waits until the lease is surely held: if it was not lost, a renewal opens the fence again.
    async fn permitted(&self) {
        while !self.is_permitted() {
            sleep(FENCE_LOOK).await;
        }
    }

    async fn tell(&self, news: News) -> Result<(), Deaf> {
        self.news.send(news).await.map_err(|_| Deaf)
    }

    /// Tells that there is nothing more to read for some.
    async fn tell_over(&self, news: News, replicas: &[usize]) -> Result<(), Deaf> {
        self.tell(news).await?;
        for replica in replicas {
            self.state().is_telling[*replica] = false;
        }
        self.tell_rest().await
    }

    /// Tells of replicas that were sought and are at rest now. What was read for them before is told already: a page
    /// is told before its cursor lets go of a replica.
    async fn tell_rest(&self) -> Result<(), Deaf> {
        let resting = self.state().take_resting();
        for (replica, epoch) in resting {
            self.tell(News::Rest(replica, epoch)).await?;
        }
        Ok(())
    }

    /// Changes the state, shows what is to be seen of it, and wakes the other loops if it concerns them.
    fn update<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state();
        let before = state.cursors.changes();
        let result = change(&mut state);
        if state.cursors.changes() != before {
            for (replica, it) in self.parts.replicas.iter().enumerate() {
                it.seen.detached.store(state.cursors.is_detached(replica), Ordering::Relaxed);
            }
            self.changed.notify_waiters();
        }
        result
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while holding it")
    }

    fn name(&self, replica: usize) -> &str {
        &self.parts.replicas[replica].channel.replica
    }
}

/// A page with its room made as large as what came.
fn page_for(page: Page, reserved: Vec<(usize, Reservation)>) -> News {
    let is_empty = page.records.is_empty();
    let fit = |(replica, mut reservation): (usize, Reservation)| {
        reservation.resize(page.held_bytes);
        (replica, (!is_empty).then_some(reservation))
    };
    let to = reserved.into_iter().map(fit).collect();
    News::Page { page, to }
}
