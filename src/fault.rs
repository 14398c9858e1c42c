//! What went wrong with a call, and the one table that says what that means.
//!
//! A port turns every error into a [`Fault`]; a stage asks [`directive`] what to do about it. Nothing else in
//! the program decides whether an error is retried, slows a replica down, parks a key or stops a shard.

/// How far a throttle reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Width {
    /// One hot range of keys: only writes near it need to slow down.
    KeyRange,
    /// The whole table, by its provisioned or maximum throughput.
    Table,
    /// A secondary index of the table: writes to the whole table suffer for it.
    Index,
    /// The account's quota in this region.
    Account,
    /// The server gave no reason.
    Unknown,
}

/// The class of an error: what it proves about the call that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// Refused because of load; nothing was done.
    Throttled(Width),
    /// It did not reach the service, or the service answered that it failed: it may be repeated at once.
    Transient,
    /// No answer came: it may have been done, and may even be done later.
    Unanswered,
    /// The iterator is too old.
    ExpiredIterator,
    /// The position is older than what the stream still holds.
    Trimmed,
    /// The table, stream or shard does not exist.
    Missing,
    /// Credentials are absent, expired, or do not allow the call.
    Denied,
    /// A condition did not hold, or another request was in the way.
    Conflict,
    /// The request itself is refused and always will be.
    Invalid,
    /// The answer could not be understood.
    Protocol,
}

/// Who met the fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Listing shards.
    Discover,
    /// Getting an iterator or records, or fetching the items that a record names.
    Read,
    /// Reading the items of a source table, to copy them.
    Copy,
    /// Writing to a replica.
    Write,
    /// Reading or writing the control table.
    Control,
}

/// What a stage does about a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Directive {
    /// Again, after a pause that grows.
    Retry,
    /// Again, and slower.
    SlowDown,
    /// Again, when an attempt that may still land can no longer do so.
    RetryAfterSettling,
    /// A new iterator after the last record read.
    Reacquire,
    /// Find the one bad item, park its key, go on with the others.
    Park,
    /// Data was lost or can no longer be read: stop this shard loudly.
    Gap,
    /// Nothing heals by itself: keep trying slowly, be not ready, tell the operator.
    Stall,
}

/// What to do about `fault` at `stage`.
pub fn directive(fault: Fault, stage: Stage) -> Directive {
    use Directive as D;
    use Fault as F;
    match (fault, stage) {
        (F::Throttled(_), _) => D::SlowDown,
        (F::Transient, _) => D::Retry,
        (F::Unanswered, Stage::Write) => D::RetryAfterSettling,
        (F::Unanswered, _) => D::Retry,
        (F::ExpiredIterator, _) => D::Reacquire,
        (F::Trimmed | F::Missing, Stage::Read) => D::Gap,
        (F::Trimmed, _) => D::Retry,
        (F::Missing, _) => D::Stall,
        (F::Denied, _) => D::Stall,
        (F::Conflict, _) => D::Retry,
        (F::Invalid, Stage::Write) => D::Park,
        (F::Invalid, _) => D::Stall,
        (F::Protocol, Stage::Write) => D::RetryAfterSettling,
        (F::Protocol, _) => D::Retry,
    }
}

/// What an operator should do about `fault` at `stage`; a sentence for logs and the status.
pub fn advice(fault: Fault, stage: Stage) -> &'static str {
    use Fault as F;
    match (fault, stage) {
        (F::Throttled(Width::Table), Stage::Write) => {
            "the replica table's write capacity is used up: raise it or accept the lag"
        }
        (F::Throttled(Width::Index), Stage::Write) => {
            "a secondary index of the replica throttles all writes: raise the index's capacity"
        }
        (F::Throttled(Width::KeyRange), Stage::Write) => {
            "one range of keys is hotter than a partition allows (1,000 writes/s): nothing to do but wait"
        }
        (F::Throttled(Width::Account), Stage::Write) => {
            "the account's write quota in the replica's region is used up: ask for a higher one"
        }
        (F::Throttled(_), _) => "the service limits the rate of calls: it is slowed down and goes on",
        (F::Transient | F::Unanswered | F::Protocol, _) => {
            "it is tried again; if it lasts, check the network and the service's health"
        }
        (F::ExpiredIterator, _) => "a new iterator is taken after the last record that was read",
        (F::Trimmed, _) => {
            "records were trimmed before they were read (the stream keeps 24 hours): the replica misses changes and must be copied anew"
        }
        (F::Missing, Stage::Read) => {
            "the shard vanished before it was read to its end: the replica misses changes and must be copied anew"
        }
        (F::Missing, Stage::Copy) => {
            "the source table does not exist: what was copied stays, and the copy goes on when it is back; \
             `dynamirror copy --cancel` gives it up"
        }
        (F::Missing, Stage::Control) => "create the control table with `dynamirror init`",
        (F::Missing, _) => "the table or stream does not exist: check its name, region and account",
        (F::Denied, _) => {
            "the credentials do not allow this call: run `dynamirror check-config` and grant what it names"
        }
        (F::Conflict, _) => "another writer was faster; it is tried again",
        (F::Invalid, Stage::Write) => {
            "the item's key is parked with its payload: see `dynamirror dead-letters list`"
        }
        (F::Invalid, _) => {
            "the service refuses the request: check the configuration, and report this if it is right"
        }
    }
}
