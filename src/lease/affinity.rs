//! One worker for all shards of a replication, while something is copied or repaired in it.
//!
//! A copied page is read from the table, a change from one of the stream's shards, and both end in the same replica. Only
//! a worker that sees the pages and the stream of a key can keep their order, so while pages are written one worker holds
//! all shards of the replication. It says so in a row of its own, which is a lease like any other: claimed, renewed, given
//! up, and expired when its counter stood still.
//!
//! ```text
//!   A: claims the row ─────> looks at all shards' rows ─────────────> nobody else holds one: A is alone
//!   B:        takes a shard ────> reads the affinity: A's ────> gives the shard back, unread
//! ```
//!
//! **Why that is enough.** Whoever takes a shard's lease reads this row after the take and before it reads the shard. So a
//! take either landed before A looked, and A sees it, or after A's claim, and the taker sees that. It does not matter how
//! old the decision was on which the lease was taken, so a worker that was frozen for long does no harm either.
//!
//! **An affinity ends in the row alone.** As long as the row names a worker, others take nothing, however long its counter
//! stands still; who finds it expired claims it, or clears it when nothing is to be copied, and waits before for what
//! its holder may have sent at the last moment. So whoever sees no owner in the row need not know what was before.
//!
//! The row stays when it is given up: its counter never goes back, so that no write that comes late can be taken for one
//! of a later holder.

use super::leased::{self, Leased, Renewal, Standing};
use super::row::Owner;
use crate::control::{self, Control};
use crate::dynamo::RowKey;
use crate::item::{Attributes, Value};

/// What the row of a replication says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Whose all shards are; nobody's when it was given up.
    pub owner: Option<Owner>,
    /// Raised by every write of the row.
    pub counter: i64,
    /// What for, to be read by people.
    pub purpose: String,
    /// When it was claimed, in milliseconds since 1970.
    pub since_unix_ms: i64,
}

/// The row, as one worker claims and keeps it.
#[derive(Clone)]
pub struct Lease {
    control: Control,
    replication: String,
    worker: Owner,
}

// === impl Row ===

impl Row {
    /// Its sort key.
    pub const SORT: &str = "affinity";

    /// Where the row of `replication` stands.
    pub fn key(replication: &str) -> RowKey {
        RowKey { partition: replication.to_owned(), sort: Self::SORT.to_owned() }
    }

    /// Reads the row.
    ///
    /// # Errors
    /// When it has no counter.
    pub fn read(control: &Control, attributes: &Attributes) -> Result<Self, control::Error> {
        let row = control.read(attributes);
        Ok(Self {
            owner: row.optional_text("owner").map(str::to_owned),
            counter: row.integer("counter")?,
            purpose: row.optional_text("purpose").unwrap_or_default().to_owned(),
            since_unix_ms: row.optional_integer("since_ms").unwrap_or(0),
        })
    }
}

impl Leased for Row {
    fn owner(&self) -> Option<&str> {
        self.owner.as_deref()
    }

    fn counter_mut(&mut self) -> &mut i64 {
        &mut self.counter
    }

    fn attributes(&self, key: &RowKey) -> Attributes {
        let mut row = key.attributes();
        row.insert("counter".to_owned(), Value::integer(self.counter));
        if let Some(owner) = &self.owner {
            row.insert("owner".to_owned(), owner.as_str().into());
            row.insert("purpose".to_owned(), self.purpose.as_str().into());
            row.insert("since_ms".to_owned(), Value::integer(self.since_unix_ms));
        }
        row
    }

    fn read(control: &Control, attributes: &Attributes) -> Result<Self, control::Error> {
        Self::read(control, attributes)
    }
}

// === impl Lease ===

impl Lease {
    /// The affinity of `replication`, for `worker`.
    pub fn new(control: Control, replication: &str, worker: &str) -> Self {
        Self { control, replication: replication.to_owned(), worker: worker.to_owned() }
    }

    /// The row as it is now; `None` when nobody ever claimed it.
    ///
    /// # Errors
    /// When the control table cannot be read.
    pub async fn look(&self) -> Result<Option<Row>, control::Error> {
        let rows = self.control.rows(&self.replication, Row::SORT).await?;
        rows.first().map(|row| Row::read(&self.control, row)).transpose()
    }

    /// Whose all shards are, if they are another worker's.
    ///
    /// # Errors
    /// When the control table cannot be read.
    pub async fn elsewhere(&self) -> Result<Option<Owner>, control::Error> {
        let owner = self.look().await?.and_then(|row| row.owner);
        Ok(owner.filter(|owner| !self.is_own(owner)))
    }

    /// Whether `owner` is this worker's process.
    pub fn is_own(&self, owner: &str) -> bool {
        owner == self.worker
    }

    /// Makes it this worker's, as it was last seen. `None` when somebody wrote the row since.
    ///
    /// # Errors
    /// When the control table cannot be written; the row may have been written all the same.
    pub async fn claim(
        &self,
        seen: Option<&Row>,
        purpose: &str,
        since_unix_ms: i64,
    ) -> Result<Option<Row>, control::Error> {
        let (owner, purpose) = (Some(self.worker.clone()), purpose.to_owned());
        self.write(seen, Row { owner, counter: 0, purpose, since_unix_ms }, Standing::Stranger).await
    }

    /// Keeps it. `None` when it is another's now, or was cleared.
    ///
    /// # Errors
    /// When the control table cannot be written; the row may have been written all the same.
    pub async fn renew(&self, held: &Row) -> Result<Option<Row>, control::Error> {
        self.write(Some(held), held.clone(), Standing::Holder).await
    }

    /// Leaves it to nobody: it is given up, or its holder is dead. `None` when somebody else wrote the row since.
    ///
    /// # Errors
    /// When the control table cannot be written; the row may have been written all the same.
    pub async fn clear(&self, seen: &Row) -> Result<Option<Row>, control::Error> {
        let is_own = seen.owner.as_deref().is_some_and(|owner| self.is_own(owner));
        let writer = if is_own { Standing::Holder } else { Standing::Stranger };
        self.write(Some(seen), Row { owner: None, ..seen.clone() }, writer).await
    }

    async fn write(
        &self,
        seen: Option<&Row>,
        mut row: Row,
        writer: Standing,
    ) -> Result<Option<Row>, control::Error> {
        let key = Row::key(&self.replication);
        let written = match seen {
            Some(seen) => {
                row.counter = seen.counter;
                leased::write(&self.control, &key, &self.worker, &mut row, writer).await?
            }
            None => leased::create(&self.control, &key, &self.worker, &mut row).await?,
        };
        Ok((written == Renewal::Done).then_some(row))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::dynamo::memory::Memory;
    use crate::fault::Fault;

    fn lease(memory: &Arc<Memory>, worker: &str) -> Lease {
        Lease::new(Control::new(Arc::clone(memory) as _, "control"), "orders", worker)
    }

    #[tokio::test]
    async fn one_of_two_has_it_until_it_is_given_up_or_cleared() {
        let memory = Arc::new(Memory::default());
        let (a, b) = (lease(&memory, "a"), lease(&memory, "b"));
        assert_eq!(a.look().await.expect("a call"), None);
        let claimed = a.claim(None, "copy", 5).await.expect("a call").expect("it is free");
        assert_eq!(b.claim(None, "copy", 6).await.expect("a call"), None);
        assert_eq!((a.elsewhere().await.expect("a call"), b.elsewhere().await.expect("a call")), {
            (None, Some("a".to_owned()))
        });
        let renewed = a.renew(&claimed).await.expect("a call").expect("it is held");
        assert_eq!(b.look().await.expect("a call").as_ref(), Some(&renewed));
        assert_eq!((renewed.purpose.as_str(), renewed.since_unix_ms), ("copy", 5));
        assert_eq!(b.claim(Some(&claimed), "copy", 6).await.expect("a call"), None, "it was renewed");
        let cleared = b.clear(&renewed).await.expect("a call").expect("it was seen as it is");
        assert_eq!(a.renew(&renewed).await.expect("a call"), None);
        let taken = b.claim(Some(&cleared), "repair", 7).await.expect("a call").expect("it is free");
        assert!(taken.counter > renewed.counter, "a late write of `a` would count again");
        assert_eq!(a.clear(&renewed).await.expect("a call"), None);
    }

    #[tokio::test]
    async fn an_answer_that_was_lost_costs_nothing() {
        let memory = Arc::new(Memory::default());
        let a = lease(&memory, "a");
        memory.lose_next_answer(Fault::Unanswered);
        a.claim(None, "copy", 5).await.expect_err("the answer is lost");
        let held = a.claim(None, "copy", 5).await.expect("a call").expect("it is its own");
        memory.lose_next_answer(Fault::Unanswered);
        a.renew(&held).await.expect_err("the answer is lost");
        let renewed = a.renew(&held).await.expect("a call").expect("it is its own");
        assert!(renewed.counter > held.counter + 1);
        assert_eq!(a.clear(&renewed).await.expect("a call").expect("it is its own").owner, None);
    }
}
