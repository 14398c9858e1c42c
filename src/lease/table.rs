//! The conditional writes that make leases: create, take, renew, release.

use super::leased::{self, Leased, Renewal, Standing};
use super::row::{Owner, Row};
use crate::control::{self, Control};
use crate::dynamo::{Condition, Outcome, RowKey};
use crate::item::{Attributes, Value};
use crate::shard::ShardId;

/// The shard rows of one replication, as one worker writes them.
#[derive(Clone)]
pub struct Leases {
    control: Control,
    replication: String,
    worker: Owner,
}

impl Leased for Row {
    fn owner(&self) -> Option<&str> {
        self.owner.as_deref()
    }

    fn counter_mut(&mut self) -> &mut i64 {
        &mut self.counter
    }

    fn attributes(&self, key: &RowKey) -> Attributes {
        self.attributes(&key.partition)
    }

    fn read(control: &Control, attributes: &Attributes) -> Result<Self, control::Error> {
        Self::read(control, attributes)
    }
}

// === impl Leases ===

impl Leases {
    /// The rows of `replication`, written by `worker`.
    pub fn new(control: Control, replication: &str, worker: &str) -> Self {
        Self { control, replication: replication.to_owned(), worker: worker.to_owned() }
    }

    /// All rows.
    ///
    /// # Errors
    /// When the control table cannot be read, or a row in it is damaged.
    pub async fn load(&self) -> Result<Vec<Row>, control::Error> {
        let rows = self.control.rows(&self.replication, Row::PREFIX).await?;
        rows.iter().map(|row| Row::read(&self.control, row)).collect()
    }

    /// The row of one shard; `None` when it has none.
    ///
    /// # Errors
    /// When the control table cannot be read, or the row is damaged.
    pub async fn look(&self, shard: &ShardId) -> Result<Option<Row>, control::Error> {
        let key = Row::key(&self.replication, shard);
        let rows = self.control.rows(&key.partition, &key.sort).await?;
        let mut rows = rows.iter().map(|row| Row::read(&self.control, row));
        // The key of another shard may start with this one's.
        let is_it = |row: &Result<Row, _>| row.as_ref().map_or(true, |row| row.shard == *shard);
        rows.find(is_it).transpose()
    }

    /// Writes a row that is not there yet. A row that is there is left alone and returned. Says whether it was
    /// written.
    ///
    /// # Errors
    /// When the control table cannot be written.
    pub async fn create(&self, row: Row) -> Result<(Row, bool), control::Error> {
        match self.control.put(&row.attributes(&self.replication), &Condition::Absent).await? {
            Outcome::Done => Ok((row, true)),
            Outcome::Refused(None) => Ok((row, false)),
            Outcome::Refused(Some(found)) => Ok((Row::read(&self.control, &found)?, false)),
        }
    }

    /// Removes a row as it was last seen. Says whether it was that, or gone already.
    ///
    /// # Errors
    /// When the control table cannot be written.
    pub async fn remove(&self, seen: &Row) -> Result<bool, control::Error> {
        let unchanged = Condition::Equals { attribute: "counter", value: Value::integer(seen.counter) };
        let outcome = self.control.delete(&Row::key(&self.replication, &seen.shard), &unchanged).await?;
        Ok(matches!(outcome, Outcome::Done | Outcome::Refused(None)))
    }

    /// Makes this worker the owner of a row as it was last seen. `None` when somebody wrote it since.
    ///
    /// # Errors
    /// When the control table cannot be written.
    pub async fn take(&self, seen: &Row) -> Result<Option<Row>, control::Error> {
        let mut row = seen.clone();
        row.owner = Some(self.worker.clone());
        row.handed_to = None;
        Ok((self.write(&mut row, Standing::Stranger).await? == Renewal::Done).then_some(row))
    }

    /// Writes a row that this worker holds, and raises its counter.
    ///
    /// # Errors
    /// When the control table cannot be written; the row may have been written all the same, and the next
    /// renewal finds that out.
    pub async fn renew(&self, row: &mut Row) -> Result<Renewal, control::Error> {
        self.write(row, Standing::Holder).await
    }

    /// Writes a row and gives the lease up, so that another worker can take it at once; the one that
    /// [`Row::handed_to`] names, if any, before others.
    ///
    /// # Errors
    /// When the control table cannot be written.
    pub async fn release(&self, row: &mut Row) -> Result<Renewal, control::Error> {
        row.owner = None;
        self.write(row, Standing::Holder).await
    }

    /// Writes a row that nobody holds, as it was last seen, and leaves it so. Says that it is lost when somebody wrote it
    /// since.
    ///
    /// # Errors
    /// When the control table cannot be written.
    pub async fn amend(&self, row: &mut Row) -> Result<Renewal, control::Error> {
        row.owner = None;
        self.write(row, Standing::Stranger).await
    }

    async fn write(&self, row: &mut Row, writer: Standing) -> Result<Renewal, control::Error> {
        let key = Row::key(&self.replication, &row.shard);
        leased::write(&self.control, &key, &self.worker, row, writer).await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::row::tests::any_row;
    use super::*;
    use crate::dynamo::memory::Memory;
    use crate::fault::Fault;
    use proptest::strategy::{Strategy, ValueTree};
    use proptest::test_runner::TestRunner;

    fn unowned() -> Row {
        let row = any_row().new_tree(&mut TestRunner::deterministic()).expect("a row").current();
        Row { owner: None, counter: 0, ..row }
    }

    fn leases(memory: &Arc<Memory>, worker: &str) -> Leases {
        Leases::new(Control::new(Arc::clone(memory) as _, "control"), "orders", worker)
    }

    #[tokio::test]
    async fn one_of_two_takes_a_lease_and_the_other_learns_it() {
        let memory = Arc::new(Memory::default());
        let (a, b) = (leases(&memory, "a"), leases(&memory, "b"));
        let (row, created) = a.create(unowned()).await.expect("created");
        assert!(created);
        assert_eq!(b.create(unowned()).await.expect("found"), (row.clone(), false));
        let mut held = a.take(&row).await.expect("a call").expect("it is free");
        assert_eq!(b.take(&row).await.expect("a call"), None);
        assert_eq!(a.renew(&mut held).await.expect("a call"), Renewal::Done);
        let mut stolen = b.take(&held).await.expect("a call").expect("it was seen as it is");
        assert_eq!(a.renew(&mut held).await.expect("a call"), Renewal::Lost);
        assert_eq!(b.release(&mut stolen).await.expect("a call"), Renewal::Done);
        let loaded = b.load().await.expect("rows");
        assert_eq!(loaded.len(), 1);
        assert_eq!(loaded[0].owner, None);
        assert_eq!(a.look(&loaded[0].shard).await.expect("a call").as_ref(), Some(&loaded[0]));
        assert_eq!(a.look(&"shardId".into()).await.expect("a call"), None);
        let mut handed = a.take(&loaded[0]).await.expect("a call").expect("it is free");
        handed.handed_to = Some("b".to_owned());
        assert_eq!(a.release(&mut handed).await.expect("a call"), Renewal::Done);
        let taken = b.take(&handed).await.expect("a call").expect("it is free");
        assert_eq!((taken.owner.as_deref(), taken.handed_to), (Some("b"), None));
    }

    #[tokio::test]
    async fn an_own_lease_that_was_forgotten_is_not_taken_with_what_was_known_before_it() {
        let memory = Arc::new(Memory::default());
        let leases = leases(&memory, "a");
        let (row, _) = leases.create(unowned()).await.expect("created");
        let mut held = leases.take(&row).await.expect("a call").expect("it is free");
        held.load = Some(77);
        assert_eq!(leases.renew(&mut held).await.expect("a call"), Renewal::Done);
        // The shard's task ended without a word, and its replication knows the row as it was when it was taken.
        assert_eq!(leases.take(&row).await.expect("a call"), None, "newer checkpoints were overwritten");
        assert_eq!(leases.amend(&mut row.clone()).await.expect("a call"), Renewal::Lost);
        assert_eq!(leases.load().await.expect("rows"), std::slice::from_ref(&held));
        let taken = leases.take(&held).await.expect("a call").expect("it was seen as it is");
        assert_eq!(taken.load, Some(77));
    }

    #[tokio::test]
    async fn a_take_whose_answer_was_lost_is_written_again() {
        let memory = Arc::new(Memory::default());
        let leases = leases(&memory, "a");
        let (row, _) = leases.create(unowned()).await.expect("created");
        memory.lose_next_answer(Fault::Unanswered);
        leases.take(&row).await.expect_err("the answer is lost");
        let taken = leases.take(&row).await.expect("a call").expect("nobody else wrote it");
        // Others count its time from when they saw the first of the two: it must be seen to move.
        assert_eq!(taken.counter, row.counter + 2);
    }

    #[tokio::test]
    async fn a_renewal_whose_answer_was_lost_is_found_done() {
        let memory = Arc::new(Memory::default());
        let leases = leases(&memory, "a");
        let (row, _) = leases.create(unowned()).await.expect("created");
        let mut held = leases.take(&row).await.expect("a call").expect("it is free");
        memory.lose_next_answer(Fault::Unanswered);
        leases.renew(&mut held).await.expect_err("the answer is lost");
        assert_eq!(leases.renew(&mut held).await.expect("a call"), Renewal::Done);
        // Twice in a row: the caller's row is as old as before both.
        for attempt in 0..2 {
            // The second attempt is refused first, which uses up one of them.
            for _ in 0..=attempt {
                memory.lose_next_answer(Fault::Unanswered);
            }
            let mut stale = held.clone();
            leases.renew(&mut stale).await.expect_err("the answer is lost");
        }
        assert_eq!(leases.renew(&mut held).await.expect("a call"), Renewal::Done);
        memory.lose_next_answer(Fault::Unanswered);
        let mut released = held.clone();
        leases.release(&mut released).await.expect_err("the answer is lost");
        assert_eq!(leases.release(&mut held).await.expect("a call"), Renewal::Done);
        let loaded = leases.load().await.expect("rows");
        assert_eq!(loaded[0].owner, None);
    }
}
