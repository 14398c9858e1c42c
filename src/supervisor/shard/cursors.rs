//! Which cursor reads a shard for which replica: plain decisions, without readers, budgets or waiting.
//!
//! ```text
//!          may be read for           at the live cursor, and room
//!   held ──────────────────> detached ─────────────────────────────> attached
//!                             │  ^  ^           no room                │  │
//!                        turn │  │  └──────────────────────────────────┘  │ end, gap
//!                             v  │ page                                   v
//!                            served ───────────────────────────────────> over
//! ```
//!
//! The *live* cursor reads once for all replicas that are attached. The *catch-up* cursor serves those that are
//! detached, one at a time. So there are never more than two readers (I9), and who is slow or broken is detached and
//! holds back nobody (I8).
//!
//! Why nothing is skipped and nothing comes twice: a replica is attached only between two pages of the live cursor,
//! and only where [`Place::may_follow`] says that what it has been given reaches the live cursor. What the live cursor
//! gives from there on begins at or before what the replica lacks; what it has already is left out by its feed. When
//! it is detached, again between two pages, it goes on from the live cursor's place. On the catch-up cursor it is
//! served by a reader of its own, whose place only moves forward.
//!
//! When nobody is attached, the one who is furthest becomes the live cursor: one reader is the normal case.

#[cfg(test)]
mod tests;

use std::time::Duration;

use tokio::time::Instant;

use crate::stream::Place;

/// How long one replica is served while others wait for the catch-up cursor: some tens of pages, so that a new
/// iterator for each turn does not count.
pub(super) const TURN: Duration = Duration::from_secs(1);

/// How long the live cursor waits for one that has all but reached it: the time of one page, with room for a slow
/// answer.
pub(super) const HANDOVER: Duration = Duration::from_millis(500);

/// Between two waits for somebody who did not reach the live cursor in time: so at most a tenth of the time is lost.
const HANDOVER_PAUSE: Duration = Duration::from_secs(5);

/// How long a replica that was detached stays so at least. It doubles when it is detached again soon.
const FIRST_REST: Duration = Duration::from_secs(1);

/// The longest of these.
const LONGEST_REST: Duration = Duration::from_secs(60);

/// Attached for this long, a replica is taken for cured.
const STEADY: Duration = Duration::from_secs(60);

/// The replicas of a shard and their cursors.
#[derive(Debug)]
pub(super) struct Cursors {
    replicas: Vec<Replica>,
    live: Option<Live>,
    turn: Option<Turn>,
    turns: u64,
    handover: Option<Handover>,
    next_handover: Instant,
    /// Raised by whatever another cursor may wait for.
    changes: u64,
}

/// Where a replica stands.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Seat {
    Held,
    /// With its own place when it joined, which the live cursor may not have reached yet.
    Attached {
        since: Instant,
        from: Place,
    },
    Detached(Place),
    Served(Place),
    Over,
}

#[derive(Debug)]
struct Replica {
    seat: Seat,
    /// Whether it may be read for. One that no longer may leaves its cursor at the next page.
    wanted: bool,
    /// The number of its latest turn.
    served: u64,
    rest: Duration,
    not_before: Instant,
}

#[derive(Debug)]
struct Live {
    place: Place,
    /// Where it was before its newest page.
    before: Place,
    is_polling: bool,
}

#[derive(Debug, Clone, Copy)]
struct Turn {
    replica: usize,
    until: Instant,
}

/// The live cursor waits for a replica.
#[derive(Debug, Clone, Copy)]
struct Handover {
    replica: usize,
    until: Instant,
}

/// What the live cursor is to do next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Wait until something changes.
    Rest,
    /// Become the cursor that this replica had for itself.
    Take(usize),
    /// Let go of a replica for which nothing may be read any more, and keep its place.
    Release(usize),
    /// Read for these, but not before then.
    Read { attached: Vec<usize>, not_before: Option<Instant> },
}

// === impl Cursors ===

impl Cursors {
    /// Nothing is read for any of `count` replicas yet.
    pub(super) fn new(count: usize, now: Instant) -> Self {
        let replica =
            || Replica { seat: Seat::Held, wanted: false, served: 0, rest: FIRST_REST, not_before: now };
        Self {
            replicas: (0..count).map(|_| replica()).collect(),
            live: None,
            turn: None,
            turns: 0,
            handover: None,
            next_handover: now,
            changes: 0,
        }
    }

    /// Grows with everything that another cursor may wait for.
    pub(super) fn changes(&self) -> u64 {
        self.changes
    }

    /// Whether a replica that may be read for is not on the live cursor.
    pub(super) fn is_detached(&self, replica: usize) -> bool {
        matches!(self.replicas[replica].seat, Seat::Detached(_) | Seat::Served(_))
            && self.replicas[replica].wanted
    }

    /// From now on `replica` may be read for; from `place` on, where it was not read for before.
    pub(super) fn want(&mut self, replica: usize, place: impl FnOnce() -> Place) {
        let it = &mut self.replicas[replica];
        it.wanted = true;
        if it.seat == Seat::Held {
            it.seat = Seat::Detached(place());
        }
        self.changes += 1;
    }

    /// From the next page on nothing is read for `replica`.
    pub(super) fn hold(&mut self, replica: usize) {
        self.replicas[replica].wanted = false;
        self.changes += 1;
    }

    /// Whether nothing is read for `replica`, nor will be before it is wanted again.
    pub(super) fn is_at_rest(&self, replica: usize) -> bool {
        let it = &self.replicas[replica];
        !it.wanted && !matches!(it.seat, Seat::Attached { .. } | Seat::Served(_))
    }

    /// Forgets where `replica`, which is at rest, was: it begins anew, elsewhere.
    pub(super) fn reset(&mut self, replica: usize) {
        debug_assert!(self.is_at_rest(replica), "it is read for");
        self.replicas[replica].seat = Seat::Held;
        self.end_handover(replica);
        self.changes += 1;
    }

    // --- the live cursor ---

    /// What the live cursor is to do next. `has_room` tells of a detached replica whether it has room for a page.
    pub(super) fn step(&mut self, now: Instant, has_room: impl Fn(usize) -> bool) -> Step {
        if let Some(left) = self.find(|it| matches!(it.seat, Seat::Attached { .. }) && !it.wanted) {
            return Step::Release(left);
        }
        let attached = self.attached();
        if attached.is_empty() {
            self.live = None;
            return match self.furthest() {
                Some(replica) => self.promote(replica, now),
                None => Step::Rest,
            };
        }
        let place = self.live.as_ref().expect("somebody is attached to it").place;
        let joins = |replica: usize| match self.replicas[replica] {
            Replica { seat: Seat::Detached(own), wanted: true, not_before, .. }
                if not_before <= now && own.may_follow(&place) && has_room(replica) =>
            {
                Some((replica, own))
            }
            _ => None,
        };
        let joining: Vec<_> = (0..self.replicas.len()).filter_map(joins).collect();
        for (replica, from) in joining {
            self.attach(replica, from, now);
        }
        let not_before = self.handover.map(|handover| handover.until).filter(|until| *until > now);
        Step::Read { attached: self.attached(), not_before }
    }

    /// The live cursor has begun to ask for a page, for all who are attached.
    pub(super) fn begin(&mut self) {
        self.live_mut().is_polling = true;
    }

    /// The live cursor got no page.
    pub(super) fn failed(&mut self) {
        self.live_mut().is_polling = false;
        self.changes += u64::from(self.handover.is_some());
    }

    /// A page of the live cursor was handed over to all who are attached.
    pub(super) fn done(&mut self, place: Place) {
        let live = self.live_mut();
        live.before = std::mem::replace(&mut live.place, place);
        live.is_polling = false;
        self.changes += u64::from(self.handover.is_some());
    }

    /// Takes a replica off the live cursor, which stands at `place`.
    pub(super) fn detach(&mut self, replica: usize, place: Place, now: Instant) {
        let it = &mut self.replicas[replica];
        if let Seat::Attached { since, .. } = it.seat {
            let is_steady = now.saturating_duration_since(since) >= STEADY;
            it.rest = if is_steady { FIRST_REST } else { (it.rest * 2).min(LONGEST_REST) };
        }
        it.not_before = now + it.rest;
        it.seat = Seat::Detached(place);
        self.changes += 1;
    }

    /// Takes a replica off the live cursor, which stands at `place`, because nothing may be read for it.
    pub(super) fn release(&mut self, replica: usize, place: Place) {
        self.replicas[replica].seat = Seat::Detached(place);
        self.changes += 1;
    }

    /// The live cursor cannot go on from `place`: neither can those who are attached. Returns them. Who was beyond it
    /// and has not been reached is not among them: it goes on by itself from its own place.
    pub(super) fn gap(&mut self, place: &Place) -> Vec<usize> {
        let mut stopped = self.attached();
        stopped.retain(|replica| match self.replicas[*replica].seat {
            Seat::Attached { from, .. } if from.position > place.position => {
                self.release(*replica, from);
                false
            }
            _ => {
                self.over(*replica);
                true
            }
        });
        self.live = None;
        stopped
    }

    /// The live cursor has come to the end: with it all who are attached. Returns them.
    pub(super) fn all_over(&mut self) -> Vec<usize> {
        let attached = self.attached();
        for replica in &attached {
            self.over(*replica);
        }
        self.live = None;
        attached
    }

    // --- the catch-up cursor ---

    /// Who may have the catch-up cursor next, in the order in which they go first when they have room. Nobody, while
    /// nobody is attached: the live cursor serves one of them then.
    pub(super) fn turns(&self, now: Instant) -> Vec<usize> {
        if self.attached().is_empty() {
            return Vec::new();
        }
        let waits =
            |it: &usize| matches!(self.replicas[*it].seat, Seat::Detached(_)) && self.replicas[*it].wanted;
        let mut waiting: Vec<_> = (0..self.replicas.len()).filter(waits).collect();
        if let Some(handover) = self.handover.filter(|handover| handover.until > now) {
            waiting.retain(|replica| *replica == handover.replica);
        }
        let goes_on = |replica| self.turn.is_some_and(|it| it.replica == replica && it.until > now);
        waiting.sort_by_key(|replica| (!goes_on(*replica), self.replicas[*replica].served, *replica));
        waiting
    }

    /// The catch-up cursor reads a page for `replica` now. Returns who had it before, if that was another.
    pub(super) fn serve(&mut self, replica: usize, now: Instant) -> Option<usize> {
        debug_assert!(self.find(|it| matches!(it.seat, Seat::Served(_))).is_none(), "two are served at once");
        let before = self.turn.map(|turn| turn.replica).filter(|before| *before != replica);
        if self.turn.is_none_or(|turn| turn.replica != replica || turn.until <= now) {
            self.turns += 1;
            self.replicas[replica].served = self.turns;
            self.turn = Some(Turn { replica, until: now + TURN });
        }
        if let Seat::Detached(place) = self.replicas[replica].seat {
            self.replicas[replica].seat = Seat::Served(place);
        }
        before
    }

    /// The catch-up cursor got as far as `place` for `replica`, which has room for more or not. Says whether it is
    /// attached now.
    pub(super) fn served(&mut self, replica: usize, place: Place, has_room: bool, now: Instant) -> bool {
        self.replicas[replica].seat = Seat::Detached(place);
        let it = &self.replicas[replica];
        let may_join = it.wanted && has_room && now >= it.not_before;
        let Some(live) = self.live.as_ref().filter(|_| !self.attached().is_empty()) else {
            self.changes += 1;
            return false;
        };
        if may_join && !live.is_polling && place.may_follow(&live.place) {
            self.attach(replica, place, now);
            return true;
        }
        // With the page that is under way, or that just came, the live cursor is ahead again.
        let is_near = place.may_follow(if live.is_polling { &live.place } else { &live.before });
        if may_join && is_near && now >= self.next_handover {
            self.handover = Some(Handover { replica, until: now + HANDOVER });
            self.next_handover = now + HANDOVER_PAUSE;
            self.changes += 1;
        }
        false
    }

    /// There is nothing more to read for `replica`.
    pub(super) fn over(&mut self, replica: usize) {
        self.replicas[replica].seat = Seat::Over;
        self.end_handover(replica);
        self.changes += 1;
    }

    // --- private ---

    fn find(&self, is_it: impl Fn(&Replica) -> bool) -> Option<usize> {
        self.replicas.iter().position(is_it)
    }

    fn attached(&self) -> Vec<usize> {
        let is_attached = |it: &usize| matches!(self.replicas[*it].seat, Seat::Attached { .. });
        (0..self.replicas.len()).filter(is_attached).collect()
    }

    fn live_mut(&mut self) -> &mut Live {
        self.live.as_mut().expect("the live cursor reads only while somebody is attached")
    }

    /// The first of those who are furthest.
    fn furthest(&self) -> Option<usize> {
        let mut best: Option<(usize, Place)> = None;
        for (replica, it) in self.replicas.iter().enumerate() {
            let Seat::Detached(place) = it.seat else { continue };
            if it.wanted && best.is_none_or(|(_, best)| !best.is_as_far_as(&place)) {
                best = Some((replica, place));
            }
        }
        best.map(|(replica, _)| replica)
    }

    fn promote(&mut self, replica: usize, now: Instant) -> Step {
        if let Seat::Detached(place) = self.replicas[replica].seat {
            self.live = Some(Live { place, before: place, is_polling: false });
            self.attach(replica, place, now);
        }
        Step::Take(replica)
    }

    fn attach(&mut self, replica: usize, from: Place, now: Instant) {
        self.replicas[replica].seat = Seat::Attached { since: now, from };
        self.end_handover(replica);
        self.changes += 1;
    }

    fn end_handover(&mut self, replica: usize) {
        if self.handover.is_some_and(|handover| handover.replica == replica) {
            self.handover = None;
        }
    }
}
