//! What can go wrong with calls, and with which.

use std::ops::{BitOr, RangeInclusive};
use std::time::Duration;

use tokio::time::Instant;

use super::{Node, Site};
use crate::fault::Fault;

/// An operation of the two services.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    DescribeStream,
    GetShardIterator,
    GetRecords,
    DescribeTable,
    BatchWriteItem,
    BatchGetItem,
    Scan,
    PutItem,
    DeleteItem,
    Query,
    CreateTable,
    UpdateTable,
}

/// A set of operations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Operations(u16);

/// What goes wrong with one call.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Trouble {
    /// No connection is made, nothing is sent, and the caller learns it soon: `Transient`.
    Unreachable,
    /// The request is lost. The caller waits in vain, or learns that the connection broke: `Unanswered`.
    RequestLost,
    /// It is carried out and the answer is lost; the caller as above.
    AnswerLost,
    /// As `AnswerLost`, and the effect comes at any time until the longest has passed since the caller learned that no
    /// answer comes.
    Late,
    /// As `Late`, after exactly this time, however long that is.
    LandsAfter(Duration),
    /// The server refuses with this fault and does nothing.
    Refused(Fault),
    /// The server answers that it failed, which it did before, amid or after the effect: `Transient`.
    Failed,
    /// Some of a batch is not carried out; the answer says which. Where nothing was, the batch is throttled.
    Unprocessed,
    /// Both ways take so much longer, in milliseconds.
    Slow(RangeInclusive<u32>),
    /// A batch is carried out in two parts at different times.
    Torn,
}

/// A trouble, and the calls it meets.
#[derive(Debug, Clone)]
pub(crate) struct Rule {
    trouble: Trouble,
    operations: Operations,
    node: Option<Node>,
    site: Option<Site>,
    table: Option<String>,
    chance: f64,
    from: Option<Instant>,
    until_exclusive: Option<Instant>,
    times: Option<u32>,
}

/// The name of a rule, to lift it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RuleId(pub(super) u32);

/// What a rule looks at.
pub(super) struct Call<'a> {
    pub(super) operation: Operation,
    pub(super) node: Node,
    pub(super) site: Site,
    /// The table's name; nothing for a call about a stream.
    pub(super) table: &'a str,
}

// === impl Operation ===

impl Operation {
    /// What the service calls it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::DescribeStream => "DescribeStream",
            Self::GetShardIterator => "GetShardIterator",
            Self::GetRecords => "GetRecords",
            Self::DescribeTable => "DescribeTable",
            Self::BatchWriteItem => "BatchWriteItem",
            Self::BatchGetItem => "BatchGetItem",
            Self::Scan => "Scan",
            Self::PutItem => "PutItem",
            Self::DeleteItem => "DeleteItem",
            Self::Query => "Query",
            Self::CreateTable => "CreateTable",
            Self::UpdateTable => "UpdateTable",
        }
    }

    pub(super) fn writes(self) -> bool {
        Operations::WRITES.contains(self)
    }
}

// === impl Operations ===

impl Operations {
    /// All there are.
    pub(crate) const ALL: Self = Self(u16::MAX);
    /// Those of streams.
    pub(crate) const STREAMS: Self =
        Self::of(&[Operation::DescribeStream, Operation::GetShardIterator, Operation::GetRecords]);
    /// Those that change items or rows.
    pub(crate) const WRITES: Self =
        Self::of(&[Operation::BatchWriteItem, Operation::PutItem, Operation::DeleteItem]);
    /// Those of the control table.
    pub(crate) const ROWS: Self = Self::of(&[Operation::PutItem, Operation::DeleteItem, Operation::Query]);

    /// These.
    pub(crate) const fn of(operations: &[Operation]) -> Self {
        let mut bits = 0;
        let mut index = 0;
        while index < operations.len() {
            bits |= 1 << operations[index] as u16;
            index += 1;
        }
        Self(bits)
    }

    /// Whether this is one of them.
    pub(crate) fn contains(self, operation: Operation) -> bool {
        self.0 & (1 << operation as u16) != 0
    }
}

impl From<Operation> for Operations {
    fn from(operation: Operation) -> Self {
        Self::of(&[operation])
    }
}

impl BitOr for Operations {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

// === impl Rule ===

impl Rule {
    /// Meets every call, always.
    pub(crate) fn new(trouble: Trouble) -> Self {
        Self {
            trouble,
            operations: Operations::ALL,
            node: None,
            site: None,
            table: None,
            chance: 1.0,
            from: None,
            until_exclusive: None,
            times: None,
        }
    }

    /// Only these operations.
    pub(crate) fn on(self, operations: impl Into<Operations>) -> Self {
        Self { operations: operations.into(), ..self }
    }

    /// Only calls of this node.
    pub(crate) fn of_node(self, node: Node) -> Self {
        Self { node: Some(node), ..self }
    }

    /// Only calls to this site.
    pub(crate) fn at(self, site: Site) -> Self {
        Self { site: Some(site), ..self }
    }

    /// Only calls that name this table.
    pub(crate) fn of_table(self, table: &str) -> Self {
        Self { table: Some(table.to_owned()), ..self }
    }

    /// With this chance, from 0 to 1.
    pub(crate) fn chance(self, chance: f64) -> Self {
        Self { chance, ..self }
    }

    /// Only calls that are sent within this time.
    pub(crate) fn during(self, from: Instant, until_exclusive: Instant) -> Self {
        Self { from: Some(from), until_exclusive: Some(until_exclusive), ..self }
    }

    /// At most so many calls.
    pub(crate) fn times(self, times: u32) -> Self {
        Self { times: Some(times), ..self }
    }

    /// The trouble, when this call meets it.
    pub(super) fn meets(
        &mut self,
        call: &Call<'_>,
        now: Instant,
        rng: &mut fastrand::Rng,
    ) -> Option<Trouble> {
        let fits = self.operations.contains(call.operation)
            && self.node.is_none_or(|node| node == call.node)
            && self.site.is_none_or(|site| site == call.site)
            && self.table.as_deref().is_none_or(|table| table == call.table)
            && self.from.is_none_or(|from| from <= now)
            && self.until_exclusive.is_none_or(|until| now < until)
            && self.times != Some(0);
        if !fits || (self.chance < 1.0 && rng.f64() >= self.chance) {
            return None;
        }
        if let Some(times) = &mut self.times {
            *times -= 1;
        }
        Some(self.trouble.clone())
    }

    /// Whether it can meet no call any more.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        self.times == Some(0) || self.until_exclusive.is_some_and(|until| until <= now)
    }
}
