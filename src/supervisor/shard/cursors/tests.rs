//! The cursors over a log of numbers: whatever happens, each replica gets each number once and in order.

use proptest::prelude::*;

use super::*;
use crate::shard::Position;

fn place(number: u64) -> Place {
    let position = match number {
        0 => Position::TrimHorizon,
        number => Position::After(number.to_string().parse().expect("a number")),
    };
    Place {
        position,
        read_through_unix_ms: Some(0),
        quiet_through_unix_ms: None,
        moved_unix_ms: i64::MAX,
        leaves_out_before_unix_ms: None,
    }
}

/// A log, its cursors, and what each replica was given.
struct Rig {
    cursors: Cursors,
    now: Instant,
    /// Numbers `1..=written` are in the log.
    written: u64,
    closed: bool,
    live: u64,
    /// Where a replica's own reader stands.
    own: Vec<u64>,
    given: Vec<u64>,
    over: Vec<bool>,
    room: Vec<bool>,
    polling: Option<Vec<usize>>,
    serving: Option<usize>,
    most_readers: usize,
}

/// What may happen.
#[derive(Debug, Clone)]
enum Act {
    Write(u64),
    Pass(u64),
    Room(usize, bool),
    Want(usize),
    Hold(usize),
    /// The live cursor begins a page, or ends the one that it has begun.
    Live(bool),
    /// The catch-up cursor does.
    CatchUp(bool),
}

const PAGE: u64 = 10;

impl Rig {
    fn new(count: usize, now: Instant) -> Self {
        Self {
            cursors: Cursors::new(count, now),
            now,
            written: 0,
            closed: false,
            live: 0,
            own: vec![0; count],
            given: vec![0; count],
            over: vec![false; count],
            room: vec![true; count],
            polling: None,
            serving: None,
            most_readers: 0,
        }
    }

    fn act(&mut self, act: &Act) {
        match act {
            Act::Write(count) if !self.closed => self.written += count,
            Act::Write(_) => {}
            Act::Pass(ms) => self.now += Duration::from_millis(*ms),
            Act::Room(replica, room) => self.room[*replica] = *room,
            Act::Want(replica) => {
                let own = self.own[*replica];
                self.cursors.want(*replica, || place(own));
            }
            Act::Hold(replica) => self.cursors.hold(*replica),
            Act::Live(works) => match self.polling.take() {
                None => self.begin_live(),
                Some(attached) => self.end_live(attached, *works),
            },
            Act::CatchUp(works) => match self.serving.take() {
                None => self.begin_catch_up(),
                Some(replica) => self.end_catch_up(replica, *works),
            },
        }
        let readers = usize::from(self.polling.is_some()) + usize::from(self.serving.is_some());
        self.most_readers = self.most_readers.max(readers);
    }

    /// Hands numbers over to a replica as its feed does: what it has is left out, and nothing may be missing.
    fn give(&mut self, replica: usize, after: u64, through: u64) {
        assert!(!self.over[replica], "{replica} was given something after its end");
        assert!(after <= self.given[replica], "{replica} misses what lies before {after}");
        self.given[replica] = self.given[replica].max(through);
    }

    fn end(&mut self, replica: usize) {
        assert_eq!(self.given[replica], self.written, "{replica} ended early");
        self.over[replica] = true;
    }

    fn begin_live(&mut self) {
        loop {
            let room = self.room.clone();
            match self.cursors.step(self.now, |replica| room[replica]) {
                Step::Rest => return,
                Step::Take(replica) => self.live = self.own[replica],
                Step::Release(replica) => {
                    self.own[replica] = self.live;
                    self.cursors.release(replica, place(self.live));
                }
                Step::Read { not_before: Some(_), .. } => return,
                Step::Read { attached, not_before: None } => {
                    let (with, without): (Vec<_>, Vec<_>) =
                        attached.into_iter().partition(|replica| self.room[*replica]);
                    if with.is_empty() {
                        return;
                    }
                    for replica in without {
                        self.own[replica] = self.live;
                        self.cursors.detach(replica, place(self.live), self.now);
                    }
                    self.cursors.begin();
                    self.polling = Some(with);
                    return;
                }
            }
        }
    }

    fn end_live(&mut self, attached: Vec<usize>, works: bool) {
        if !works {
            return self.cursors.failed();
        }
        let through = self.written.min(self.live + PAGE);
        for replica in &attached {
            self.give(*replica, self.live, through);
        }
        self.live = through;
        if self.closed && through == self.written {
            let over = self.cursors.all_over();
            assert_eq!(over, attached, "somebody joined or left while a page was under way");
            over.into_iter().for_each(|replica| self.end(replica));
        } else {
            self.cursors.done(place(through));
        }
    }

    fn begin_catch_up(&mut self) {
        let turns = self.cursors.turns(self.now);
        let Some(replica) = turns.into_iter().find(|replica| self.room[*replica]) else { return };
        self.cursors.serve(replica, self.now);
        self.serving = Some(replica);
    }

    fn end_catch_up(&mut self, replica: usize, works: bool) {
        if works {
            let through = self.written.min(self.own[replica] + PAGE);
            self.give(replica, self.own[replica], through);
            self.own[replica] = through;
            if self.closed && through == self.written {
                self.cursors.over(replica);
                return self.end(replica);
            }
        }
        self.cursors.served(replica, place(self.own[replica]), self.room[replica], self.now);
    }

    fn both(&mut self) {
        for _ in 0..2 {
            self.act(&Act::Live(true));
            self.act(&Act::CatchUp(true));
        }
    }

    fn is_attached(&self, replica: usize) -> bool {
        matches!(self.cursors.replicas[replica].seat, Seat::Attached { .. })
    }
}

fn act(count: usize) -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => (1u64..40).prop_map(Act::Write),
        2 => (1u64..2_000).prop_map(Act::Pass),
        3 => (0..count, any::<bool>()).prop_map(|(replica, room)| Act::Room(replica, room)),
        1 => (0..count).prop_map(Act::Want),
        1 => (0..count).prop_map(Act::Hold),
        6 => prop::bool::weighted(0.9).prop_map(Act::Live),
        6 => prop::bool::weighted(0.9).prop_map(Act::CatchUp),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn each_replica_gets_all_in_order_from_two_cursors_and_ends_on_one(
        (count, acts) in (1usize..5).prop_flat_map(|count| {
            (Just(count), prop::collection::vec(act(count), 0..200))
        }),
    ) {
        let mut rig = Rig::new(count, Instant::now());
        for replica in 0..count {
            rig.act(&Act::Want(replica));
        }
        for act in &acts {
            rig.act(act);
        }
        prop_assert!(rig.most_readers <= count.min(2));
        // All are well again: they come together on one cursor, whatever is written meanwhile.
        for replica in 0..count {
            rig.act(&Act::Want(replica));
            rig.act(&Act::Room(replica, true));
        }
        let turns = 40 + rig.written as usize * count / 5;
        for turn in 0..turns {
            rig.act(&Act::Write(u64::from(turn % 3 == 0)));
            rig.act(&Act::Pass(100));
            rig.both();
        }
        for turn in 0..2_000 {
            if (0..count).all(|replica| rig.is_attached(replica)) {
                break;
            }
            prop_assert!(turn < 1_999, "not all came together: {:?}", rig.cursors);
            rig.act(&Act::Pass(100));
            rig.both();
        }
        rig.closed = true;
        for _ in 0..turns {
            rig.both();
        }
        prop_assert!(rig.over.iter().all(|over| *over), "{:?}", rig.cursors);
    }
}

fn attached(rig: &mut Rig) -> Vec<usize> {
    match rig.cursors.step(rig.now, |_| true) {
        Step::Read { attached, .. } => attached,
        other => panic!("expected a page to be read, got {other:?}"),
    }
}

#[test]
fn a_single_replica_never_needs_a_second_cursor() {
    let mut rig = Rig::new(1, Instant::now());
    rig.act(&Act::Want(0));
    assert!(rig.cursors.turns(rig.now).is_empty());
    assert_eq!(rig.cursors.step(rig.now, |_| true), Step::Take(0));
    assert_eq!(attached(&mut rig), [0]);
}

#[test]
fn who_is_furthest_is_read_for_live_and_equals_join_it() {
    let mut rig = Rig::new(3, Instant::now());
    for (replica, at) in [5, 9, 9].into_iter().enumerate() {
        rig.cursors.want(replica, || place(at));
    }
    assert_eq!(rig.cursors.step(rig.now, |_| true), Step::Take(1));
    assert_eq!(attached(&mut rig), [1, 2]);
    assert_eq!(rig.cursors.turns(rig.now), [0]);
    assert!([true, false, false] == [0, 1, 2].map(|replica| rig.cursors.is_detached(replica)));
}

#[test]
fn turns_go_round_among_those_who_wait() {
    let mut rig = Rig::new(4, Instant::now());
    for (replica, at) in [0, 1, 2, 9].into_iter().enumerate() {
        rig.cursors.want(replica, || place(at));
    }
    rig.cursors.step(rig.now, |_| true);
    let mut order = Vec::new();
    for _ in 0..6 {
        let first = rig.cursors.turns(rig.now)[0];
        rig.cursors.serve(first, rig.now);
        rig.cursors.served(first, place(1), true, rig.now);
        assert_eq!(rig.cursors.turns(rig.now)[0], first, "a turn is longer than a page");
        rig.now += TURN;
        order.push(first);
    }
    assert_eq!(order, [0, 1, 2, 0, 1, 2]);
}

#[test]
fn who_is_detached_again_and_again_rests_longer_each_time() {
    let mut rig = Rig::new(2, Instant::now());
    rig.cursors.want(0, || place(9));
    rig.cursors.want(1, || place(9));
    rig.cursors.step(rig.now, |_| true);
    let mut rests = Vec::new();
    for _ in 0..9 {
        assert_eq!(attached(&mut rig), [0, 1]);
        rig.cursors.detach(1, place(9), rig.now);
        let since = rig.now;
        while attached(&mut rig) != [0, 1] {
            rig.now += Duration::from_secs(1);
        }
        rests.push((rig.now - since).as_secs());
    }
    assert_eq!(rests, [2, 4, 8, 16, 32, 60, 60, 60, 60]);
    rig.now += STEADY;
    rig.cursors.detach(1, place(9), rig.now);
    rig.now += FIRST_REST;
    assert_eq!(attached(&mut rig), [0, 1], "it was well for long");
}

#[test]
fn the_live_cursor_waits_once_for_who_is_a_page_behind_and_not_for_long() {
    let mut rig = Rig::new(2, Instant::now());
    rig.cursors.want(0, || place(20));
    rig.cursors.want(1, || place(5));
    rig.cursors.step(rig.now, |_| true);
    rig.cursors.begin();
    rig.cursors.done(place(30));
    rig.cursors.serve(1, rig.now);
    assert!(!rig.cursors.served(1, place(15), true, rig.now));
    assert!(
        matches!(rig.cursors.step(rig.now, |_| true), Step::Read { not_before: None, .. }),
        "it is far behind"
    );
    rig.cursors.serve(1, rig.now);
    assert!(!rig.cursors.served(1, place(25), true, rig.now));
    let until = rig.now + HANDOVER;
    let waits = Step::Read { attached: vec![0], not_before: Some(until) };
    assert_eq!(rig.cursors.step(rig.now, |_| true), waits);
    rig.now = until;
    assert!(matches!(rig.cursors.step(rig.now, |_| true), Step::Read { not_before: None, .. }));
    rig.cursors.begin();
    rig.cursors.done(place(40));
    rig.cursors.serve(1, rig.now);
    assert!(!rig.cursors.served(1, place(35), true, rig.now));
    assert!(
        matches!(rig.cursors.step(rig.now, |_| true), Step::Read { not_before: None, .. }),
        "it waits again at once"
    );
    rig.cursors.serve(1, rig.now);
    assert!(rig.cursors.served(1, place(45), true, rig.now), "it has reached the live cursor");
}

#[test]
fn what_the_live_cursor_cannot_read_is_no_gap_to_who_is_beyond_it() {
    let mut rig = Rig::new(3, Instant::now());
    rig.cursors.want(0, || place(5));
    rig.cursors.step(rig.now, |_| true);
    for (replica, at) in [(1, 5), (2, 9)] {
        rig.cursors.want(replica, || place(at));
    }
    assert_eq!(attached(&mut rig), [0, 1, 2]);
    rig.cursors.begin();
    assert_eq!(rig.cursors.gap(&place(5)), [0, 1]);
    assert_eq!(rig.cursors.step(rig.now, |_| true), Step::Take(2), "it is read for from its own place");
    assert_eq!(attached(&mut rig), [2]);
    rig.cursors.begin();
    rig.cursors.done(place(20));
    rig.cursors.begin();
    assert_eq!(rig.cursors.gap(&place(20)), [2]);
    assert_eq!(rig.cursors.step(rig.now, |_| true), Step::Rest);
}
