//! Proof that the simulation finds bugs: each of these is made on purpose, and found.
//!
//! Every row is a test, which runs seeds of one focus from 0 on until a rule is broken, and fails when none is within the
//! budget, or when the healthy program breaks a rule with that seed. The budgets are several times what was needed
//! when they were set, because every change of the program shuffles what a seed means.
//!
//! | bug | focus | seeds needed | budget | found by |
//! |---|---|---|---|---|
//! | a checkpoint passes a lot that is not settled | Writes | 1 | 30 | I2 |
//! | a lot that is settled moves the checkpoint, whatever is open before it | Writes | 1 | 20 | I2 |
//! | the end of a shard counts before all of it is settled | Shards | 7 | 60 | I2 |
//! | a successor writes without waiting | Takeover | 165 | 400 | I3, I5, I9 |
//! | a holder writes on when its lease is over | Takeover | 1 | 20 | I5 |
//! | a renewal without an answer counts as done | Takeover | 1 | 20 | I5 |
//! | a lease that is held is taken, and written under at once | Workers | 1 | 20 | I5 |
//! | a row is written whoever wrote it meanwhile | Workers | 1 | 20 | I2 |
//! | the records of a shard's last page are lost | Shards | 1 | 20 | I2 |
//! | sequence numbers are compared as texts | Mixed | 1 | 20 | I2, I4 |
//! | a child is read before its parent's end is durable | Shards | 1 | 20 | I3 |
//! | a child starts at its latest record | Shards | 1 | 20 | I3 |
//! | a start at the latest record is asked for again | Latest | 16 | 80 | I2, I4, I10 |
//! | a replica starts at the checkpoint of another | Outages | 1 | 40 | I2 |
//! | a vanished shard is taken for finished | Loss | 2 | 30 | I2 |
//! | a trimmed position is never a gap | Loss | 14 | 150 | I2 |
//! | a new stream is ignored | Loss | 1 | 30 | I6 |
//! | what a batch left over is written over a newer change | Writes | 1 | 20 | I2, I3 |
//! | what a batch left over counts as written | Writes | 1 | 20 | I2 |
//! | coalescing settles a change before its successor is written | Writes | 1 | 20 | I2 |
//! | an unanswered write is repeated at once | Writes | 9 | 80 | I3 |
//! | a client repeats writes beneath | Writes | 1 | 20 | I3 |
//! | a parked change stays when a newer one applies, and overtakes it | Poison | 3 | 40 | I3 |
//! | replaced changes are missing from the ledger | Mixed | 1 | 20 | I1 |
//! | pages are read without room for them | Outages | 1 | 20 | I7 |
//! | a replica that was sought is read before all shards have obeyed | Orders | 29 | 200 | I2, I3, I4, I5 |
//! | a pause is not obeyed | Orders | 2 | 20 | pause |
//! | who claims all leases counts as alone at once | Affinity | 3 | 40 | sole |
//! | a copied item is written whatever the stream wrote to its key | Copy | 23 | 120 | I3, I4 |
//! | stale pages are guarded as consistent ones | Copy | 23 | 120 | I3, I4 |
//! | a copy goes on at another worker without a wait | Copy | 7 | 60 | I3, I4 |
//! | touched keys are forgotten when there are too many | Copy | 24 | 120 | I3, I4 |
//! | who claims all leases may copy at once | Copy | 7 | 60 | sole, I3, I4 |
//!
//! A lease that is counted from the answer to its renewal instead of its sending is not among them: an answer comes within
//! the time of an attempt, and by as much a successor waits before its first write. Nor is a lease that is read although
//! all are another worker's: it takes a worker that stops between a shard's end and the take of its child, which no seed
//! of the first sixty has. Tests of `supervisor` show that such a lease is given back.

use super::run::{Report, run};
use super::scenario::{Focus, Scenario};
use crate::mutation::Mutation;

/// The first seed that finds a bug, and by what.
fn find(mutation: Mutation, focus: Focus, budget: u64) -> Option<Report> {
    (0..budget)
        .map(|seed| run(Scenario::draw(seed, Some(focus)), Some(mutation)))
        .find(|report| !report.violations.is_empty())
}

fn prove(mutation: Mutation, focus: Focus, budget: u64, invariants: &[&str]) {
    let report = find(mutation, focus, budget);
    let report = report.unwrap_or_else(|| panic!("{mutation:?} was not found by {budget} seeds"));
    let (seed, violation) = (report.scenario.seed, &report.violations[0]);
    println!("{mutation:?}: {} seeds, {}: {}", seed + 1, violation.invariant, violation.what);
    let by = violation.invariant;
    assert!(invariants.contains(&by), "{mutation:?} was found by {by}: {}", violation.what);
    let healthy = run(Scenario::draw(seed, Some(focus)), None);
    assert!(
        healthy.violations.is_empty(),
        "seed {seed} of {focus:?} fails without a bug: {:?}",
        healthy.violations
    );
}

macro_rules! proofs {
    ($($name:ident: $mutation:ident, $focus:ident, $budget:literal, $invariants:expr;)*) => {
        $(
            #[test]
            fn $name() {
                prove(Mutation::$mutation, Focus::$focus, $budget, &$invariants);
            }
        )*
    };
}

proofs! {
    a_checkpoint_one_too_far: CheckpointOneTooFar, Writes, 30, ["I2"];
    a_checkpoint_out_of_order: CheckpointOutOfOrder, Writes, 20, ["I2"];
    an_end_before_all_is_settled: EndBeforeSettled, Shards, 60, ["I2"];
    no_settling: SkipSettle, Takeover, 400, ["I3", "I5", "I9"];
    no_cut_off: NoCutOff, Takeover, 20, ["I5", "I3"];
    a_lost_renewal_taken_for_done: LostRenewalIsDone, Takeover, 20, ["I5", "I3"];
    a_held_lease_taken: StealHeld, Workers, 20, ["I5", "I3"];
    an_unconditional_row: UnconditionalRow, Workers, 20, ["I2"];
    a_last_page_dropped: DropLastPage, Shards, 20, ["I2"];
    numbers_compared_as_texts: CompareAsText, Mixed, 20, ["I2", "I4"];
    a_child_before_its_parent: ChildBeforeParent, Shards, 20, ["I3"];
    a_child_at_latest: ChildAtLatest, Shards, 20, ["I3"];
    latest_asked_for_again: LatestAgain, Latest, 80, ["I2", "I4", "I10"];
    a_start_at_anothers_checkpoint: StartElsewhere, Outages, 40, ["I2", "I4"];
    a_vanished_shard_taken_for_finished: VanishedIsFinished, Loss, 30, ["I2"];
    a_trimmed_position_ignored: TrimmedIsNoGap, Loss, 150, ["I2"];
    a_new_stream_ignored: NewStreamIsNoGap, Loss, 30, ["I6"];
    a_retry_over_a_newer_change: RetryOverNewer, Writes, 20, ["I2", "I3"];
    unprocessed_items_lost: LoseUnprocessed, Writes, 20, ["I2"];
    coalescing_that_settles_early: CoalesceSettlesEarly, Writes, 20, ["I2"];
    a_retry_without_settling: RetryWithoutSettling, Writes, 80, ["I3"];
    a_hidden_retry: HiddenRetry, Writes, 20, ["I3"];
    a_parked_key_overtaken: ParkedStays, Poison, 40, ["I3"];
    a_ledger_with_a_hole: LedgerForgets, Mixed, 20, ["I1"];
    a_budget_ignored: BudgetIgnored, Outages, 20, ["I7"];
    a_replay_at_once: ReplayAtOnce, Orders, 200, ["I2", "I3", "I4", "I5"];
    a_pause_ignored: PauseIgnored, Orders, 20, ["pause"];
    alone_at_once: SoleAtOnce, Affinity, 40, ["sole"];
    a_copy_without_guard: CopyWithoutGuard, Copy, 120, ["I3", "I4"];
    a_copy_with_a_window_of_zero: CopyWindowZero, Copy, 120, ["I3", "I4"];
    a_copy_without_a_wait: CopyWithoutWait, Copy, 60, ["I3", "I4"];
    a_guard_dropped_on_overflow: GuardDroppedOnOverflow, Copy, 120, ["I3", "I4"];
    a_copy_by_who_is_not_alone: SoleAtOnce, Copy, 60, ["sole", "I3", "I4"];
}
