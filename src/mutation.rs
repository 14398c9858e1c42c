//! Deliberate bugs, to show that the simulation finds such.
//!
//! Each is a switch of one line where the bug would be made. They are compiled for tests only: elsewhere
//! [`is_on`] is `false` at compile time and the line is gone. `tests/simulation/mutations.rs` switches them on, one at
//! a time, and says which invariant catches each and how soon.

/// A bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mutation {
    /// A checkpoint passes one lot that is not settled.
    CheckpointOneTooFar,
    /// A settled lot moves the checkpoint whatever is open before it.
    CheckpointOutOfOrder,
    /// A successor writes at once.
    SkipSettle,
    /// A holder writes on after its lease is over.
    NoCutOff,
    /// The records of a page that comes without a next iterator are lost.
    DropLastPage,
    /// Sequence numbers are ordered as texts.
    CompareAsText,
    /// What a batch left over takes the place of a newer change of its key.
    RetryOverNewer,
    /// A change that was replaced is settled before its successor is.
    CoalesceSettlesEarly,
    /// A shard that is gone counts as read to its end.
    VanishedIsFinished,
    /// A trimmed position is never a gap.
    TrimmedIsNoGap,
    /// What a batch left over counts as written.
    LoseUnprocessed,
    /// An unanswered write is repeated at once.
    RetryWithoutSettling,
    /// A write is sent a second time beneath, while the first is under way.
    HiddenRetry,
    /// A parked change stays when a newer one of its key applies.
    ParkedStays,
    /// A row is written whoever wrote it meanwhile.
    UnconditionalRow,
    /// A renewal without an answer counts as done.
    LostRenewalIsDone,
    /// A start at the latest record is asked for again and again.
    LatestAgain,
    /// Replaced changes are missing from the ledger.
    LedgerForgets,
    /// A child is read before its parent's end is durable.
    ChildBeforeParent,
    /// A child starts at its latest record.
    ChildAtLatest,
    /// A lease that is held is taken, and written under at once.
    StealHeld,
    /// A table's new stream is no gap.
    NewStreamIsNoGap,
    /// The end of a shard counts before what comes before it is settled.
    EndBeforeSettled,
    /// A replica that is read for by itself starts at the checkpoint of another.
    StartElsewhere,
    /// Changes are handed over without room for them.
    BudgetIgnored,
    /// A replica that was sought is read before all shards have obeyed.
    ReplayAtOnce,
    /// A pause is not obeyed.
    PauseIgnored,
    /// A copied item is written whatever the stream has written to its key.
    CopyWithoutGuard,
    /// Pages that may be stale are guarded as consistent ones are.
    CopyWindowZero,
    /// Keys are not remembered any more when there are too many.
    GuardDroppedOnOverflow,
    /// After a restart a copy reads on at once, not knowing what the stream has written before.
    CopyWithoutWait,
}

/// Whether the program has this bug.
#[cfg(not(test))]
pub(crate) const fn is_on(_mutation: Mutation) -> bool {
    false
}

/// Whether the program has this bug, on this thread.
#[cfg(test)]
pub(crate) fn is_on(mutation: Mutation) -> bool {
    ON.get() == Some(mutation)
}

#[cfg(test)]
thread_local! {
    static ON: std::cell::Cell<Option<Mutation>> = const { std::cell::Cell::new(None) };
}

/// From now on the program has this bug, or none, on this thread.
#[cfg(test)]
pub(crate) fn switch(mutation: Option<Mutation>) {
    ON.set(mutation);
}
