//! A lease with a row of its own: one thing of which one worker at a time is in charge.
//!
//! ```text
//!  no row, or no owner ── take ──> owned by A ── renew (counter) ──> owned by A ── release ──> no owner
//!                                      │  counter stood still for a whole duration, by B's own clock
//!                                      └──> taken by B
//! ```
//!
//! The rules are those of every lease. A [`Term`] ends by its holder's own clock, counted from before the last renewal was
//! sent, one attempt before another worker can take the lease. The row stays when it is given up: with it the counter
//! would begin anew, and a worker that was frozen since could write on a counter that it had seen long ago.

use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tracing::warn;

use super::Config;
use super::leased::{self, Leased, Renewal, Standing};
use super::observer::{Claim, Observer};
use super::row::Owner;
use crate::control::{self, Control};
use crate::dynamo::RowKey;
use crate::item::{Attributes, Value};

/// Before another try at a renewal that failed.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// The row, as one worker takes and keeps it.
pub struct Post {
    control: Control,
    key: RowKey,
    worker: Owner,
    times: Config,
    seen: Observer<()>,
}

/// What the row says.
#[derive(Debug, PartialEq, Eq)]
struct Held {
    owner: Option<Owner>,
    counter: i64,
}

/// The lease while it is held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Term {
    counter: i64,
    /// From here on nothing may be done under it.
    ends_at: Instant,
}

// === impl Post ===

impl Post {
    /// The row at `key`, taken and kept by `worker`.
    pub fn new(control: Control, key: RowKey, worker: &str, times: Config) -> Self {
        Self { control, key, worker: worker.to_owned(), times, seen: Observer::default() }
    }

    /// Looks at the row once, and takes it if it may be taken. `None` when it is another worker's, or when the answer
    /// takes so long that it would be worth little; a write that is done all the same is found at the next look.
    ///
    /// # Errors
    /// When the control table cannot be used.
    pub async fn try_take(&mut self) -> Result<Option<Term>, control::Error> {
        timeout(self.times.row_write_limit(), self.take()).await.unwrap_or(Ok(None))
    }

    async fn take(&mut self) -> Result<Option<Term>, control::Error> {
        let found = self.look().await?;
        let sent = Instant::now();
        let claim = self.claim(found.as_ref(), sent);
        if let Claim::Held(_) = claim {
            return Ok(None);
        }
        let owner = Some(self.worker.clone());
        let counter = found.as_ref().map_or(0, |held| held.counter);
        let mut row = Held { owner, counter };
        let written = match found {
            Some(_) => self.write(&mut row, Standing::Stranger).await?,
            None => leased::create(&self.control, &self.key, &self.worker, &mut row).await?,
        };
        let term = Term { counter: row.counter, ends_at: sent + self.times.fence_span() };
        Ok((written == Renewal::Done).then_some(term))
    }

    /// Renews until it is lost, or can no longer be known to be held.
    pub async fn keep(&self, term: &mut Term) {
        let mut next = Instant::now() + self.times.renew_interval;
        let RowKey { partition, sort } = &self.key;
        loop {
            sleep_until(next.min(term.ends_at)).await;
            let sent = Instant::now();
            if sent >= term.ends_at {
                return;
            }
            let answered_by = term.ends_at.min(sent + self.times.row_write_limit());
            let renewed = timeout_at(answered_by, self.renew(term)).await;
            next = sent + self.times.renew_interval;
            match renewed {
                Ok(Ok(Renewal::Done)) => {}
                Ok(Ok(Renewal::Lost)) => return,
                Ok(Err(error)) => {
                    warn!(partition, sort, %error, "a lease is not renewed");
                    next = Instant::now() + RETRY_PAUSE;
                }
                Err(_) => warn!(partition, sort, error = "no answer in time", "a lease is not renewed"),
            }
        }
    }

    /// Gives it back, so that another worker can take it at once. Tried once: it runs out by itself.
    pub async fn release(&self, term: &Term) {
        let mut row = Held { owner: None, counter: term.counter };
        let RowKey { partition, sort } = &self.key;
        match timeout(self.times.row_write_limit(), self.write(&mut row, Standing::Holder)).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => warn!(partition, sort, %error, "a lease is left to run out"),
            Err(_) => warn!(partition, sort, error = "no answer in time", "a lease is left to run out"),
        }
    }

    async fn look(&self) -> Result<Option<Held>, control::Error> {
        let rows = self.control.rows(&self.key.partition, &self.key.sort).await?;
        // The key of another row may start with this one's.
        let is_it = |row: &&Attributes| row.get("sk").and_then(Value::as_str) == Some(&self.key.sort);
        rows.iter().find(is_it).map(|row| Held::read(&self.control, row)).transpose()
    }

    /// Whether it may be taken as it was `found` at `now`.
    fn claim(&mut self, found: Option<&Held>, now: Instant) -> Claim {
        let (owner, counter) = found.map_or((None, 0), |held| (held.owner.as_deref(), held.counter));
        self.seen.claim((), (owner, counter), &self.worker, self.times.duration, now)
    }

    /// Renews it once. A write without an answer may have been done all the same, and the next renewal finds that out.
    async fn renew(&self, term: &mut Term) -> Result<Renewal, control::Error> {
        let sent = Instant::now();
        let mut row = Held { owner: Some(self.worker.clone()), counter: term.counter };
        let renewal = self.write(&mut row, Standing::Holder).await?;
        if renewal == Renewal::Done {
            *term = Term { counter: row.counter, ends_at: sent + self.times.fence_span() };
        }
        Ok(renewal)
    }

    async fn write(&self, row: &mut Held, writer: Standing) -> Result<Renewal, control::Error> {
        leased::write(&self.control, &self.key, &self.worker, row, writer).await
    }
}

// === impl Held ===

impl Leased for Held {
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
        }
        row
    }

    fn read(control: &Control, attributes: &Attributes) -> Result<Self, control::Error> {
        let row = control.read(attributes);
        Ok(Self { owner: row.optional_text("owner").map(str::to_owned), counter: row.integer("counter")? })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::dynamo::memory::Memory;
    use crate::fault::Fault;

    const TIMES: Config = Config {
        duration: Duration::from_secs(12),
        renew_interval: Duration::from_secs(3),
        longest_attempt: Duration::from_secs(2),
    };

    fn post(memory: &Arc<Memory>, worker: &str) -> Post {
        let key = RowKey { partition: "orders".to_owned(), sort: "post".to_owned() };
        Post::new(Control::new(Arc::clone(memory) as _, "control"), key, worker, TIMES)
    }

    #[tokio::test(start_paused = true)]
    async fn a_counter_that_stands_still_for_a_whole_duration_is_a_free_lease() {
        let held = |counter| Held { owner: Some("other".to_owned()), counter };
        let start = Instant::now();
        let mut me = post(&Arc::new(Memory::default()), "me");
        let mut at = |found: Option<Held>, seconds: u64| {
            me.claim(found.as_ref(), start + Duration::from_secs(seconds))
        };
        let wait = |seconds: u64| Claim::Held(Duration::from_secs(seconds));
        assert_eq!(at(Some(held(1)), 0), wait(12));
        assert_eq!(at(Some(held(1)), 11), wait(1));
        assert_eq!(at(Some(held(2)), 12), wait(12), "it was renewed");
        assert_eq!(at(Some(held(2)), 23), wait(1));
        assert_eq!(at(Some(held(2)), 24), Claim::Expired);
        assert_eq!(at(Some(Held { owner: None, counter: 3 }), 24), Claim::Free);
        assert_eq!(at(Some(held(2)), 30), wait(12), "what was seen before a release says nothing");
        assert_eq!(at(None, 30), Claim::Free);
        assert_eq!(at(Some(Held { owner: Some("me".to_owned()), ..held(9) }), 31), Claim::Expired);
    }

    #[tokio::test(start_paused = true)]
    async fn one_of_two_has_it_until_it_is_released() {
        let memory = Arc::new(Memory::default());
        let (mut a, mut b) = (post(&memory, "a"), post(&memory, "b"));
        let mut term = a.take().await.expect("a call").expect("it is free");
        assert!(b.take().await.expect("a call").is_none());
        a.release(&term).await;
        let of_b = b.take().await.expect("a call").expect("it was released");
        assert!(of_b.counter > term.counter);
        assert_eq!(a.renew(&mut term).await.expect("a call"), Renewal::Lost);
    }

    #[tokio::test(start_paused = true)]
    async fn two_that_find_no_row_do_not_both_make_it() {
        let memory = Arc::new(Memory::default());
        let (a, b) = (post(&memory, "a"), post(&memory, "b"));
        let row = |post: &Post| Held { owner: Some(post.worker.clone()), counter: 0 };
        let create = async |post: &Post, row: &mut Held| {
            leased::create(&post.control, &post.key, &post.worker, row).await.expect("a call")
        };
        assert_eq!(create(&a, &mut row(&a)).await, Renewal::Done);
        assert_eq!(create(&b, &mut row(&b)).await, Renewal::Lost);
        let mut again = row(&a);
        assert_eq!(create(&a, &mut again).await, Renewal::Done, "its own, whose answer was lost");
        assert_eq!(again.counter, 2, "others count from when they saw the first: it must be seen to move");
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_was_lost_costs_nothing() {
        let memory = Arc::new(Memory::default());
        let mut a = post(&memory, "a");
        memory.lose_next_answer(Fault::Unanswered);
        a.take().await.expect_err("the answer is lost");
        let mut term = a.take().await.expect("a call").expect("it is its own");
        let before = term.clone();
        memory.lose_next_answer(Fault::Unanswered);
        a.renew(&mut term).await.expect_err("the answer is lost");
        assert_eq!(term, before);
        assert_eq!(a.renew(&mut term).await.expect("a call"), Renewal::Done);
        assert_eq!(term.counter, before.counter + 2);
        memory.lose_next_answer(Fault::Unanswered);
        a.release(&term).await;
        assert_eq!(a.look().await.expect("a call").expect("it stays").owner, None);
    }

    #[tokio::test(start_paused = true)]
    async fn it_ends_by_itself_before_anybody_else_may_take_it() {
        let memory = Arc::new(Memory::default());
        let mut a = post(&memory, "a");
        let mut term = a.take().await.expect("a call").expect("it is free");
        let start = Instant::now();
        memory.break_rows(true);
        a.keep(&mut term).await;
        assert_eq!(start.elapsed(), TIMES.fence_span());
    }
}
