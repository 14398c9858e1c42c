//! Whose turn it is: the segments of a run, the pages of each that are under way, and how far each is.
//!
//! Segments are served in turn, one page each, in an order that was shuffled once: neighbours lie in one partition, and a
//! table that is read from its beginning to its end heats its partitions one after the other. What is under way of a
//! segment are pages in their order; its checkpoint is the end of the last one before which all are settled.
//!
//! It is a plain state machine, as the lane's queue is: time comes in as an argument.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use tokio::time::Instant;

use crate::item::Item;

/// How far one segment is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Segment {
    /// The key after which reading goes on (exclusive); `None` at the beginning.
    pub after: Option<Item>,
    /// Whether its end was reached.
    pub finished: bool,
    /// Items up to there.
    pub items: u64,
    /// Their bytes, as answers carried them.
    pub bytes: u64,
}

/// What a page of a segment held.
#[derive(Debug, Clone)]
pub(super) struct Read {
    /// Items in it.
    pub(super) items: u64,
    /// Their bytes.
    pub(super) bytes: u64,
    /// Where the next page begins (exclusive); `None` at the segment's end.
    pub(super) next: Option<Item>,
}

/// Segments of a run.
#[derive(Debug)]
pub(super) struct Rota {
    tracks: Vec<Track>,
    ready: VecDeque<u32>,
    delayed: BTreeSet<(Instant, u32)>,
    /// Pages under way, by the number of their lot.
    lots: BTreeMap<u64, u32>,
    next_lot: u64,
    unfinished: usize,
}

#[derive(Debug)]
struct Track {
    /// Before it all is settled.
    reached: Segment,
    /// Pages that were read, oldest first.
    pages: VecDeque<Page>,
    /// It is in `ready` or `delayed`, or a page of it is being read.
    busy: bool,
}

#[derive(Debug)]
struct Page {
    lot: u64,
    settled: bool,
    /// How far the segment is with it.
    end: Segment,
}

/// Pages of one segment that are read and not settled: one that is written, one behind it. More would only hold memory,
/// because a writer takes from all segments in turn.
const PAGES_AHEAD: usize = 2;

// === impl Rota ===

impl Rota {
    /// Goes on where the segments are.
    pub(super) fn new(segments: Vec<Segment>) -> Self {
        let mut order: Vec<u32> =
            (0..).zip(&segments).filter(|(_, segment)| !segment.finished).map(|(id, _)| id).collect();
        fastrand::shuffle(&mut order);
        let track = |reached: Segment| Track { busy: !reached.finished, reached, pages: VecDeque::new() };
        Self {
            unfinished: order.len(),
            tracks: segments.into_iter().map(track).collect(),
            ready: order.into(),
            delayed: BTreeSet::new(),
            lots: BTreeMap::new(),
            next_lot: 0,
        }
    }

    /// The segment of which a page is to be read, and after which key. It has its next turn when the page is
    /// [admitted](Self::admit) or [delayed](Self::delay).
    pub(super) fn take(&mut self, now: Instant) -> Option<(u32, Option<Item>)> {
        while let Some((at, id)) = self.delayed.first().copied().filter(|(at, _)| *at <= now) {
            self.delayed.remove(&(at, id));
            self.ready.push_back(id);
        }
        let id = self.ready.pop_front()?;
        Some((id, self.tracks[id as usize].end().after.clone()))
    }

    /// The page could not be read; it is tried again at `at`.
    pub(super) fn delay(&mut self, id: u32, at: Instant) {
        self.delayed.insert((at, id));
    }

    /// A page was read. Gives the number of its lot.
    pub(super) fn admit(&mut self, id: u32, read: Read) -> u64 {
        let lot = self.next_lot;
        self.next_lot += 1;
        let track = &mut self.tracks[id as usize];
        let before = track.end();
        let end = Segment {
            finished: read.next.is_none(),
            after: read.next,
            items: before.items + read.items,
            bytes: before.bytes + read.bytes,
        };
        track.pages.push_back(Page { lot, settled: false, end });
        track.busy = false;
        self.lots.insert(lot, id);
        self.requeue(id);
        lot
    }

    /// A page is durable as a whole. Gives how far its segment is, if that is further than before.
    pub(super) fn settle(&mut self, lot: u64) -> Option<(u32, Segment)> {
        let id = self.lots.remove(&lot)?;
        let track = &mut self.tracks[id as usize];
        let page = track.pages.iter_mut().find(|page| page.lot == lot)?;
        page.settled = true;
        let mut moved = false;
        while let Some(page) = track.pages.pop_front_if(|page| page.settled) {
            track.reached = page.end;
            moved = true;
        }
        if moved && track.reached.finished {
            self.unfinished -= 1;
        }
        let reached = moved.then(|| (id, track.reached.clone()));
        self.requeue(id);
        reached
    }

    /// Whether every segment is durable to its end.
    pub(super) fn is_finished(&self) -> bool {
        self.unfinished == 0
    }

    /// Segments that are durable to their ends.
    pub(super) fn finished(&self) -> u32 {
        (self.tracks.len() - self.unfinished) as u32
    }

    /// Pages that are read and not settled.
    pub(super) fn under_way(&self) -> usize {
        self.lots.len()
    }

    /// Items and bytes that are durable.
    pub(super) fn durable(&self) -> (u64, u64) {
        let add = |sum: (u64, u64), track: &Track| (sum.0 + track.reached.items, sum.1 + track.reached.bytes);
        self.tracks.iter().fold((0, 0), add)
    }

    fn requeue(&mut self, id: u32) {
        let track = &mut self.tracks[id as usize];
        if !track.busy && !track.end().finished && track.pages.len() < PAGES_AHEAD {
            track.busy = true;
            self.ready.push_back(id);
        }
    }
}

// === impl Track ===

impl Track {
    /// How far it is read.
    fn end(&self) -> &Segment {
        self.pages.back().map_or(&self.reached, |page| &page.end)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(number: u64) -> Item {
        Item::from_json(format!(r#"{{"k":{{"N":"{number}"}}}}"#).into())
    }

    fn number(item: Option<&Item>) -> u64 {
        let text = item.map_or_else(|| "0".to_owned(), |item| format!("{item:?}"));
        text.trim_matches(|c: char| !c.is_ascii_digit()).parse().expect("a number")
    }

    #[tokio::test(start_paused = true)]
    async fn each_segment_has_one_page_in_its_turn() {
        let mut rota = Rota::new(vec![Segment::default(); 8]);
        let now = Instant::now();
        let mut turns = Vec::new();
        for _ in 0..8 {
            let (id, after) = rota.take(now).expect("its turn");
            assert_eq!(after, None);
            rota.admit(id, Read { items: 1, bytes: 9, next: Some(key(1)) });
            turns.push(id);
        }
        for id in &turns {
            let (again, after) = rota.take(now).expect("its turn");
            assert_eq!((again, after), (*id, Some(key(1))), "turns were not kept");
        }
        assert!(rota.take(now).is_none(), "a page was read ahead without end");
        turns.sort_unstable();
        assert_eq!(turns, (0..8).collect::<Vec<_>>());
    }

    #[derive(Debug, Clone)]
    enum Step {
        Read,
        Fail,
        Settle(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![4 => Just(Step::Read), 1 => Just(Step::Fail), 4 => any::<usize>().prop_map(Step::Settle)]
    }

    /// Segments of so many pages, each with one item.
    struct Model {
        pages: Vec<u64>,
        under_way: Vec<(u64, u32, u64)>,
        settled: Vec<BTreeSet<u64>>,
        checkpoints: Vec<Segment>,
    }

    impl Model {
        fn read(&mut self, rota: &mut Rota, now: Instant) -> bool {
            let Some((id, after)) = rota.take(now) else { return false };
            let page = number(after.as_ref()) + 1;
            let next = (page < self.pages[id as usize]).then(|| key(page));
            let lot = rota.admit(id, Read { items: 1, bytes: 2, next });
            self.under_way.push((lot, id, page));
            true
        }

        fn settle(&mut self, rota: &mut Rota, index: usize) {
            if self.under_way.is_empty() {
                return;
            }
            let (lot, id, page) = self.under_way.swap_remove(index % self.under_way.len());
            self.settled[id as usize].insert(page);
            let Some((moved, reached)) = rota.settle(lot) else { return };
            assert_eq!(moved, id);
            assert!(reached.items > self.checkpoints[id as usize].items, "a checkpoint did not move forward");
            for page in 1..=reached.items {
                assert!(
                    self.settled[id as usize].contains(&page),
                    "a checkpoint is ahead of what is durable"
                );
            }
            assert_eq!(reached.finished, reached.items == self.pages[id as usize]);
            self.checkpoints[id as usize] = reached;
        }
    }

    proptest! {
        #[test]
        fn checkpoints_are_never_ahead_and_all_is_read_once(
            pages in prop::collection::vec(1u64..6, 1..6),
            steps in prop::collection::vec(step(), 0..80),
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
            let _guard = runtime.enter();
            let now = Instant::now();
            let count = pages.len();
            let total: u64 = pages.iter().sum();
            let mut rota = Rota::new(vec![Segment::default(); count]);
            let mut model = Model {
                pages,
                under_way: Vec::new(),
                settled: vec![BTreeSet::new(); count],
                checkpoints: vec![Segment::default(); count],
            };
            for step in steps {
                match step {
                    Step::Read => drop(model.read(&mut rota, now)),
                    Step::Fail => if let Some((id, _)) = rota.take(now) { rota.delay(id, now) },
                    Step::Settle(index) => model.settle(&mut rota, index),
                }
            }
            // A crash: what is under way is lost, and reading goes on from the checkpoints.
            model.under_way.clear();
            let mut rota = Rota::new(model.checkpoints.clone());
            while !rota.is_finished() {
                while model.read(&mut rota, now) {}
                model.settle(&mut rota, 0);
            }
            prop_assert_eq!(rota.durable(), (total, 2 * total));
            prop_assert_eq!(rota.finished() as usize, count);
            prop_assert!(rota.take(now).is_none() && rota.under_way() == 0);
        }
    }
}
