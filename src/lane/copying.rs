//! Pages of a table through the real queue and window, beside a stream that lags, against writes that are left over,
//! unanswered or late, and workers that crash: whatever happens, the replica ends as the source is.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::{Instant, advance};

use super::*;
use crate::change::Op;
use crate::item::Item;
use crate::key::Key;
use crate::mutation::{self, Mutation};

const KEYS: u8 = 24;
const PAGES: usize = 4;
const TICK: Duration = Duration::from_secs(1);
/// Ticks after which a write that was not answered has landed or never will.
const SETTLE: u64 = 12;
/// The number among replicas by which lots of pages are told from those of the two shards.
const COPY: usize = 2;

/// One of the circumstances in which a copy must come out right.
#[derive(Clone, Copy)]
struct Setting {
    /// Ticks by which a page may be behind.
    stale: u64,
    crashes: usize,
    /// Keys that the window holds before the copy waits.
    keys_max: usize,
}

struct World {
    rng: fastrand::Rng,
    setting: Setting,
    now: u64,
    /// Each key's versions and when it got them; `None` for a removal.
    history: Vec<Vec<(u64, Option<u64>)>>,
    records: [Vec<(u64, u8, Option<u64>)>; 2],
    read: [usize; 2],
    settled: [BTreeSet<usize>; 2],
    checkpoint: [usize; 2],
    replica: BTreeMap<u8, u64>,
    queue: Queue,
    window: Window,
    armed: Option<Armed>,
    acks: mpsc::UnboundedReceiver<Ack>,
    sender: mpsc::UnboundedSender<Ack>,
    fence: Fence,
    todo: Vec<usize>,
    next_page_at: u64,
    answers: Vec<(u64, usize, Page, Vec<Change>)>,
    under_way: Vec<(u64, Batch, Fate)>,
    late: Vec<(u64, Vec<Change>)>,
    tally: Tally,
}

#[derive(Clone, Copy, PartialEq)]
enum Fate {
    Done,
    LeftOver,
    Unanswered,
}

fn change(key: u8, version: Option<u64>) -> Change {
    let text = Bytes::from(format!(r#"{{"k":{{"N":"{key}"}}}}"#));
    let item = |version| Item::from_json(format!(r#"{{"v":{{"N":"{version}"}}}}"#).into());
    let key = Key::from_json(&text, 0..text.len()).expect("a key");
    Change {
        key,
        op: version.map_or(Op::Delete, |version| Op::Put(item(version))),
        created_unix_ms: 0,
        order: None,
    }
}

fn digits(text: &str) -> u64 {
    text.chars().filter(char::is_ascii_digit).collect::<String>().parse().expect("a number")
}

impl World {
    fn new(seed: u64, setting: Setting) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut version = 0;
        let mut next = || {
            version += 1;
            version
        };
        let mut history: Vec<_> = (0..KEYS).map(|_| vec![(0, Some(next()))]).collect();
        let mut records = [Vec::new(), Vec::new()];
        for (key, versions) in (0..KEYS).zip(&mut history) {
            for _ in 0..rng.u32(1..=3) {
                let at = versions.last().expect("the first").0.max(20) + rng.u64(1..70);
                let version = (rng.f64() > 0.4).then(&mut next);
                versions.push((at, version));
                records[usize::from(key % 2)].push((at, key, version));
            }
        }
        records.iter_mut().for_each(|records| records.sort_unstable());
        let fence = Fence::closed();
        fence.open_until(Instant::now() + Duration::from_hours(24));
        let (sender, acks) = mpsc::unbounded_channel();
        let window = Window::new(setting.keys_max);
        Self {
            next_page_at: rng.u64(20..110),
            rng,
            setting,
            now: 0,
            history,
            records,
            read: [0; 2],
            settled: Default::default(),
            checkpoint: [0; 2],
            replica: BTreeMap::new(),
            queue: Queue::new(window.clone()),
            window,
            armed: None,
            acks,
            sender,
            fence,
            todo: (0..PAGES).collect(),
            answers: Vec::new(),
            under_way: Vec::new(),
            late: Vec::new(),
            tally: Tally::default(),
        }
    }

    fn at(&self, key: u8, time: u64) -> Option<u64> {
        let versions = self.history[usize::from(key)].iter().rev();
        versions.into_iter().find(|(at, _)| *at <= time).and_then(|(_, version)| *version)
    }

    fn lot(&self, replica: usize, number: usize, page: Option<Page>) -> Lot {
        let (fence, acks) = (self.fence.clone(), self.sender.clone());
        Lot { replica, number: number as u64, acks, page, ..Lot::unheard(None, fence) }
    }

    fn apply(&mut self, changes: &[Change]) {
        for change in changes {
            let key = digits(&change.key.to_string()) as u8;
            match &change.op {
                Op::Put(item) => drop(self.replica.insert(key, digits(&format!("{item:?}")))),
                Op::Delete => drop(self.replica.remove(&key)),
            }
        }
    }

    /// The worker is gone with all that it knew; what it had sent has landed or never will.
    fn crash(&mut self) {
        for (_, changes) in std::mem::take(&mut self.late) {
            self.apply(&changes);
        }
        for (_, batch, _) in std::mem::take(&mut self.under_way) {
            if self.rng.bool() {
                self.apply(&batch.changes);
            }
        }
        self.answers.clear();
        self.armed = None;
        self.window = Window::new(self.setting.keys_max);
        self.queue = Queue::new(self.window.clone());
        (self.sender, self.acks) = mpsc::unbounded_channel();
        self.read = self.checkpoint;
        let copied = &self.settled;
        for (shard, settled) in copied.clone().into_iter().enumerate() {
            self.settled[shard] =
                settled.into_iter().filter(|index| *index < self.checkpoint[shard]).collect();
        }
    }

    fn read_stream(&mut self) {
        for shard in 0..2 {
            while let Some((at, key, version)) = self.records[shard].get(self.read[shard]).copied()
                && at + self.rng.u64(0..=3) <= self.now
            {
                let lot = self.lot(shard, self.read[shard], None);
                self.queue.push(Delivery { changes: vec![change(key, version)], lot });
                self.read[shard] += 1;
            }
        }
    }

    fn read_table(&mut self, pages: &mut BTreeSet<usize>) {
        if self.now < self.next_page_at || pages.len() == PAGES {
            return;
        }
        if self.armed.is_none() {
            self.armed = Some(self.window.arm(TICK * self.setting.stale as u32));
            self.todo = (0..PAGES).filter(|page| !pages.contains(page)).collect();
        }
        let armed = self.armed.as_ref().expect("it is armed");
        if Instant::now() >= armed.first_read_at()
            && armed.has_room()
            && let Some(number) = self.todo.pop()
        {
            let page = armed.page();
            let comes = self.now + self.rng.u64(0..=16);
            let shown = self.rng.u64(self.now - self.setting.stale..=self.now);
            let keys = (0..KEYS).filter(|key| usize::from(*key) % PAGES == number);
            let items = keys.filter_map(|key| self.at(key, shown).map(|version| change(key, Some(version))));
            let items: Vec<_> = items.collect();
            if items.is_empty() {
                pages.insert(number);
            } else {
                self.answers.push((comes, number, page, items));
            }
            self.next_page_at = self.now + self.rng.u64(1..=4);
        }
    }

    fn receive(&mut self) {
        let now = self.now;
        for (_, number, page, changes) in
            self.answers.extract_if(.., |(at, ..)| *at <= now).collect::<Vec<_>>()
        {
            let lot = self.lot(COPY, number, Some(page));
            self.queue.push(Delivery { changes, lot });
        }
        for (_, changes) in self.late.extract_if(.., |(at, _)| *at <= now).collect::<Vec<_>>() {
            self.apply(&changes);
        }
        for (_, mut batch, fate) in self.under_way.extract_if(.., |(at, ..)| *at <= now).collect::<Vec<_>>() {
            match fate {
                Fate::Unanswered => self.queue.retry(batch, Instant::now() + TICK * SETTLE as u32),
                _ => {
                    let left = (0..batch.changes.len()).filter(|_| fate == Fate::LeftOver && self.rng.bool());
                    let left = batch.take(&left.collect::<Vec<_>>());
                    self.apply(&batch.changes);
                    self.queue.applied(batch);
                    self.queue.retry(left, Instant::now() + TICK);
                }
            }
        }
    }

    fn send(&mut self) {
        while self.under_way.len() < 3
            && self.rng.f64() < 0.6
            && let Some(batch) = self.queue.next_batch(self.rng.usize(1..=6), 1 << 20, Instant::now())
        {
            let fate = [Fate::Done, Fate::Done, Fate::LeftOver, Fate::Unanswered][self.rng.usize(..4)];
            if fate == Fate::Unanswered && self.rng.bool() {
                self.late.push((self.now + self.rng.u64(1..=SETTLE), batch.changes.clone()));
            }
            self.under_way.push((self.now + self.rng.u64(1..=4), batch, fate));
        }
    }

    fn settle(&mut self, pages: &mut BTreeSet<usize>) {
        while let Ok(ack) = self.acks.try_recv() {
            assert!(ack.durable, "nothing is given up under an open fence");
            match ack.replica {
                COPY => drop(pages.insert(ack.lot as usize)),
                shard => drop(self.settled[shard].insert(ack.lot as usize)),
            }
        }
        for shard in 0..2 {
            while self.rng.f64() < 0.3 && self.settled[shard].contains(&self.checkpoint[shard]) {
                self.checkpoint[shard] += 1;
            }
        }
        let tally = self.queue.take_tally();
        self.tally.copied += tally.copied;
        self.tally.superseded += tally.superseded;
    }
}

/// Copies, beside a stream, until nothing is left to be done. Says which keys came out wrong, and what became of items.
async fn run(seed: u64, setting: Setting) -> (Vec<u8>, Tally) {
    let mut world = World::new(seed, setting);
    let mut pages = BTreeSet::new();
    let begins = world.next_page_at;
    let crashes: BTreeSet<_> = (0..setting.crashes).map(|_| begins + world.rng.u64(0..90)).collect();
    let is_over = |world: &World, pages: &BTreeSet<usize>| {
        let all_read = (0..2).all(|shard| world.read[shard] == world.records[shard].len());
        world.now > 250 && all_read && pages.len() == PAGES && world.queue.is_empty() && world.late.is_empty()
    };
    while !is_over(&world, &pages) {
        assert!(world.now < 5_000, "it never ends");
        world.now += 1;
        advance(TICK).await;
        if crashes.contains(&world.now) {
            world.crash();
        }
        world.receive();
        world.read_stream();
        world.read_table(&mut pages);
        world.send();
        world.settle(&mut pages);
    }
    let wrong = (0..KEYS).filter(|key| world.at(*key, u64::MAX) != world.replica.get(key).copied());
    (wrong.collect(), world.tally)
}

const CONSISTENT: Setting = Setting { stale: 0, crashes: 0, keys_max: 1 << 10 };
const EVENTUAL: Setting = Setting { stale: 20, ..CONSISTENT };

/// Runs that came out wrong among so many.
async fn diverged(seeds: u64, setting: Setting) -> usize {
    let mut diverged = 0;
    for seed in 0..seeds {
        diverged += usize::from(!run(seed, setting).await.0.is_empty());
    }
    diverged
}

#[tokio::test(start_paused = true)]
async fn a_copy_beside_a_stream_converges() {
    let narrow = Setting { keys_max: 3, ..EVENTUAL };
    let crashing = [CONSISTENT, EVENTUAL, narrow].map(|setting| Setting { crashes: 3, ..setting });
    for setting in [CONSISTENT, EVENTUAL, narrow].into_iter().chain(crashing) {
        let (mut copied, mut superseded) = (0, 0);
        for seed in 0..150 {
            let (wrong, tally) = run(seed, setting).await;
            let Setting { stale, crashes, keys_max } = setting;
            assert!(
                wrong.is_empty(),
                "{wrong:?} of seed {seed}, stale {stale}, {crashes} crashes, {keys_max} keys"
            );
            copied += tally.copied;
            superseded += tally.superseded;
        }
        assert!(
            copied > 500 && superseded > 100,
            "{copied} copied and {superseded} superseded prove nothing"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn each_mistake_of_the_guard_is_found() {
    let narrow = Setting { keys_max: 3, ..EVENTUAL };
    for (bug, setting, seeds) in [
        (Mutation::CopyWithoutGuard, CONSISTENT, 20),
        (Mutation::CopyWindowZero, EVENTUAL, 20),
        (Mutation::GuardDroppedOnOverflow, narrow, 20),
    ] {
        mutation::switch(Some(bug));
        let found = diverged(seeds, setting).await;
        mutation::switch(None);
        assert!(found > 0, "{bug:?} was not found in {seeds} cases");
    }
}
