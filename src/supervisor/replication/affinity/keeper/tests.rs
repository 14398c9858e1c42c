use std::sync::Arc;

use super::*;
use crate::control::Control;
use crate::dynamo::memory::Memory;

const TIMES: lease::Config = lease::Config {
    duration: Duration::from_secs(12),
    renew_interval: Duration::from_secs(3),
    longest_attempt: Duration::from_secs(2),
};

/// A keeper whose calls are answered by hand, `start` being now.
struct Desk {
    keeper: Keeper,
    wants: Affinity,
    start: Instant,
}

impl Desk {
    fn new() -> Self {
        let control = Control::new(Arc::new(Memory::default()), "control");
        let (lease, wants) = (Lease::new(control, "orders", "me/1"), Affinity::default());
        Self { keeper: Keeper::new(lease, TIMES, wants.clone()), wants, start: Instant::now() }
    }

    fn at(&self, ms: u64) -> Instant {
        self.start + Duration::from_millis(ms)
    }

    fn look(&mut self, owner: Option<&str>, counter: i64, ms: u64) {
        let now = self.at(ms);
        self.keeper.look(Some(row(owner, counter)), now);
    }

    fn step(&self, wanted: bool, ms: u64) -> Option<Step> {
        self.keeper.step(wanted, true, self.at(ms))
    }

    /// A call that was sent and answered then; `None` is a refusal.
    fn called(&mut self, step: Step, (sent, answered): (u64, u64), counter: Option<i64>) -> bool {
        self.keeper.begin();
        let outcome = Ok(counter.map(|counter| row(Some("me/1"), counter)));
        let (sent, answered) = (self.at(sent), self.at(answered));
        self.keeper.called(Kept { step, sent, answered, outcome })
    }

    /// Claims it at zero, and is alone by a look at 100 ms.
    fn alone() -> Self {
        let mut desk = Self::new();
        desk.called(Step::Claim { expired: false }, (0, 50), Some(1));
        desk.keeper.prove(desk.at(100), true, true);
        desk.keeper.open(Some(desk.at(9_000)), desk.at(100));
        desk
    }

    fn sole(&self) -> Fence {
        self.wants.sole().expect("it is alone")
    }
}

fn row(owner: Option<&str>, counter: i64) -> Row {
    Row { owner: owner.map(str::to_owned), counter, purpose: "copy".to_owned(), since_unix_ms: 0 }
}

#[tokio::test(start_paused = true)]
async fn it_is_claimed_when_nobody_has_it_and_first_by_who_has_least_to_do() {
    let mut desk = Desk::new();
    assert_eq!(desk.step(true, 0), None, "nothing is known yet");
    desk.keeper.look(None, desk.at(0));
    assert_eq!(desk.step(false, 0), None);
    assert_eq!(desk.step(true, 0), Some(Step::Claim { expired: false }));
    let others_first = |ms| desk.keeper.step(true, false, desk.at(ms));
    assert_eq!(others_first(999), None);
    assert_eq!(others_first(1_000), Some(Step::Claim { expired: false }));
}

#[tokio::test(start_paused = true)]
async fn a_dead_holders_is_claimed_when_it_expired_or_cleared_when_its_writes_have_ended() {
    let mut desk = Desk::new();
    desk.look(Some("other/1"), 4, 0);
    desk.look(Some("other/1"), 5, 1_000);
    desk.look(Some("other/1"), 5, 9_000);
    assert_eq!(desk.keeper.holder().map(String::as_str), Some("other/1"));
    assert_eq!((desk.step(true, 12_999), desk.step(false, 12_999)), (None, None));
    assert_eq!(desk.step(true, 13_000), Some(Step::Claim { expired: true }));
    assert_eq!((desk.step(false, 14_999), desk.step(false, 15_000)), (None, Some(Step::Clear)));
    desk.look(Some("other/1"), 3, 13_100);
    assert_eq!(desk.step(true, 13_100), Some(Step::Claim { expired: true }), "an older answer says nothing");
    // What is taken under it settles, and nobody is alone before.
    desk.called(Step::Claim { expired: true }, (13_100, 13_200), Some(6));
    assert!(desk.keeper.takes_settle(desk.at(15_199)) && !desk.keeper.takes_settle(desk.at(15_200)));
    desk.keeper.prove(desk.at(13_300), true, true);
    desk.keeper.open(None, desk.at(15_199));
    assert!(desk.wants.sole().is_none());
    desk.keeper.open(None, desk.at(15_200));
    assert!(desk.wants.sole().is_some());
}

#[tokio::test(start_paused = true)]
async fn only_a_look_that_began_after_the_claim_proves_anything() {
    let mut desk = Desk::new();
    desk.called(Step::Claim { expired: false }, (0, 500), Some(1));
    for (begun, is_alone, holds_all) in [(499, true, true), (600, false, true), (600, true, false)] {
        desk.keeper.prove(desk.at(begun), is_alone, holds_all);
        desk.keeper.open(None, desk.at(700));
        assert!(desk.wants.sole().is_none(), "{begun} {is_alone} {holds_all}");
    }
    desk.keeper.prove(desk.at(600), true, true);
    desk.keeper.open(None, desk.at(700));
    assert!(desk.sole().is_open(desk.at(700)));
    // One who holds a lease that this worker did not see is seen now.
    let sole = desk.sole();
    desk.keeper.prove(desk.at(800), false, true);
    assert!(!sole.is_open(desk.at(800)) && desk.wants.sole().is_none());
}

#[tokio::test(start_paused = true)]
async fn the_right_to_write_ends_with_the_first_lease_and_with_the_affinity() {
    let mut desk = Desk::alone();
    assert_eq!(desk.sole().closes_at(), Some(desk.at(9_000)), "a lease ends before the affinity");
    assert_eq!((desk.step(true, 2_999), desk.step(true, 3_000)), (None, Some(Step::Renew)));
    assert!(!desk.called(Step::Renew, (3_000, 3_100), Some(2)));
    desk.keeper.open(Some(desk.at(20_000)), desk.at(3_200));
    assert_eq!(desk.sole().closes_at(), Some(desk.at(13_000)), "counted from before it was sent");
    // It closes by itself, and what waited under it never passes.
    let sole = desk.sole();
    desk.keeper.open(Some(desk.at(20_000)), desk.at(13_000));
    assert!(desk.wants.sole().is_none() && sole.closes_at().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_was_answered_too_late_is_a_claim() {
    let mut desk = Desk::alone();
    let sole = desk.sole();
    desk.called(Step::Renew, (9_000, 10_500), Some(2));
    assert!(sole.closes_at().is_none() && desk.wants.sole().is_none());
    desk.keeper.prove(desk.at(10_400), true, true);
    desk.keeper.open(None, desk.at(10_600));
    assert!(desk.wants.sole().is_none(), "that look began before it");
    desk.keeper.prove(desk.at(10_600), true, true);
    desk.keeper.open(None, desk.at(10_700));
    assert!(desk.sole().is_open(desk.at(10_700)) && !sole.is_open(desk.at(10_700)));
}

#[tokio::test(start_paused = true)]
async fn who_loses_it_writes_no_more() {
    let mut desk = Desk::alone();
    let sole = desk.sole();
    desk.look(Some("me/1"), 3, 200);
    assert!(sole.is_open(desk.at(200)), "an own renewal whose answer was lost");
    desk.look(Some("other/1"), 4, 300);
    assert!(!sole.is_open(desk.at(300)) && !desk.keeper.is_here());
    assert_eq!(desk.keeper.holder().map(String::as_str), Some("other/1"));
    let mut desk = Desk::alone();
    let sole = desk.sole();
    assert!(desk.called(Step::Renew, (3_000, 3_100), None), "it is worth a look who has it");
    assert!(!sole.is_open(desk.at(3_100)) && !desk.keeper.is_here());
}

#[tokio::test(start_paused = true)]
async fn it_is_given_up_at_once_when_all_is_settled_and_else_when_nothing_lands_any_more() {
    let mut desk = Desk::alone();
    let (want, sole) = (desk.wants.want("copy"), desk.sole());
    want.settled();
    desk.keeper.end(desk.at(1_000));
    assert!(!sole.is_open(desk.at(1_000)));
    assert_eq!(desk.step(false, 1_000), Some(Step::Release));
    drop(desk.wants.want("copy"));
    assert_eq!((desk.step(false, 4_999), desk.step(false, 5_000)), (Some(Step::Renew), Some(Step::Release)));
    desk.keeper.begin();
    let (sent, answered) = (desk.at(5_000), desk.at(5_100));
    let outcome = Ok(Some(row(None, 9)));
    assert!(desk.keeper.called(Kept { step: Step::Release, sent, answered, outcome }));
    assert!(desk.keeper.holder().is_none() && !desk.wants.is_unsettled());
}

#[tokio::test(start_paused = true)]
async fn a_claim_whose_answer_was_lost_is_made_again_or_cleared() {
    let mut desk = Desk::new();
    desk.look(Some("me/1"), 1, 0);
    assert_eq!(desk.step(true, 0), Some(Step::Claim { expired: false }));
    assert_eq!(desk.step(false, 0), Some(Step::Clear));
}
