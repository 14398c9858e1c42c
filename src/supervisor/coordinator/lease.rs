//! The coordinator's lease: one row of the control table, taken and kept like a shard's.

use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tracing::warn;

use crate::control::{self, Control};
use crate::dynamo::{Condition, Outcome, RowKey};
use crate::item::{Attributes, Value};
use crate::lease;

/// Before another try at a renewal that failed.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// The row, as one worker takes and keeps it.
pub(super) struct Lease {
    control: Control,
    worker: String,
    times: lease::Config,
    /// The counter of another holder, and since when it stands there.
    seen: Option<(i64, Instant)>,
}

/// The lease while it is held.
#[derive(Debug)]
pub(super) struct Term {
    counter: i64,
    /// From here on nothing may be done under it.
    ends_at: Instant,
}

/// What the row says.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Held {
    owner: Option<String>,
    counter: i64,
}

/// Whether the row may be taken.
#[derive(Debug, PartialEq, Eq)]
enum Claim {
    Take,
    Wait,
}

// === impl Lease ===

impl Lease {
    pub(super) fn new(control: Control, worker: &str, times: lease::Config) -> Self {
        Self { control, worker: worker.to_owned(), times, seen: None }
    }

    /// Looks at the row once, and takes it if it may be taken. `None` when it is another worker's, or when the answer
    /// takes so long that it would be worth little; a write that is done all the same is found at the next look.
    pub(super) async fn try_take(&mut self) -> Result<Option<Term>, control::Error> {
        timeout(self.times.row_write_limit(), self.take()).await.unwrap_or(Ok(None))
    }

    async fn take(&mut self) -> Result<Option<Term>, control::Error> {
        let found = self.read().await?;
        let claim = claim(found.as_ref(), &self.worker, &mut self.seen, self.times.duration, Instant::now());
        if claim == Claim::Wait {
            return Ok(None);
        }
        let sent = Instant::now();
        let counter = found.map(|held| held.counter);
        let taken = self.write(counter, Some(&self.worker)).await?;
        Ok(taken.map(|counter| Term { counter, ends_at: sent + self.times.fence_span() }))
    }

    /// Renews until it is lost, or can no longer be known to be held.
    pub(super) async fn keep(&self, term: &mut Term) {
        let mut next = Instant::now() + self.times.renew_interval;
        loop {
            sleep_until(next.min(term.ends_at)).await;
            let sent = Instant::now();
            if sent >= term.ends_at {
                return;
            }
            let answered_by = term.ends_at.min(sent + self.times.row_write_limit());
            let renewed = timeout_at(answered_by, self.write(Some(term.counter), Some(&self.worker))).await;
            next = sent + self.times.renew_interval;
            match renewed {
                Ok(Ok(Some(counter))) => *term = Term { counter, ends_at: sent + self.times.fence_span() },
                Ok(Ok(None)) => return,
                Ok(Err(error)) => {
                    warn!(%error, "the coordinator's lease is not renewed");
                    next = Instant::now() + RETRY_PAUSE;
                }
                Err(_) => warn!(error = "no answer in time", "the coordinator's lease is not renewed"),
            }
        }
    }

    /// Gives it back, so that another worker can take it at once. Tried once: it runs out by itself.
    pub(super) async fn release(&self, term: &Term) {
        match timeout(self.times.row_write_limit(), self.write(Some(term.counter), None)).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => warn!(%error, "the coordinator's lease is left to run out"),
            Err(_) => warn!(error = "no answer in time", "the coordinator's lease is left to run out"),
        }
    }

    async fn read(&self) -> Result<Option<Held>, control::Error> {
        let key = key();
        let rows = self.control.rows(&key.partition, &key.sort).await?;
        rows.first().map(|row| self.held(row)).transpose()
    }

    /// Writes the row if its counter is still `seen`, or if there is none where none was seen. The new counter, or
    /// `None` when somebody else wrote it. A write of this worker's own whose answer was lost is found and written
    /// over: nobody else writes its name.
    async fn write(&self, seen: Option<i64>, owner: Option<&str>) -> Result<Option<i64>, control::Error> {
        let mut seen = seen;
        loop {
            let counter = seen.unwrap_or(0) + 1;
            let mut row = key().attributes();
            row.insert("counter".to_owned(), Value::integer(counter));
            if let Some(owner) = owner {
                row.insert("owner".to_owned(), owner.into());
            }
            let unchanged = match seen {
                Some(seen) => Condition::Equals { attribute: "counter", value: Value::integer(seen) },
                None => Condition::Absent,
            };
            let found = match self.control.put(&row, &unchanged).await? {
                Outcome::Done => return Ok(Some(counter)),
                Outcome::Refused(None) => return Ok(None),
                Outcome::Refused(Some(found)) => self.held(&found)?,
            };
            if found.owner.as_deref() != Some(&self.worker) || found.counter <= seen.unwrap_or(0) {
                return Ok(None);
            }
            seen = Some(found.counter);
        }
    }

    fn held(&self, row: &Attributes) -> Result<Held, control::Error> {
        let row = self.control.read(row);
        Ok(Held { owner: row.optional_text("owner").map(str::to_owned), counter: row.integer("counter")? })
    }
}

fn key() -> RowKey {
    RowKey { partition: "#dynamirror".to_owned(), sort: "coordinator".to_owned() }
}

/// The rules of every lease: free when there is no row or no owner, and expired when the counter stood still for a whole
/// duration by this worker's own clock. No settle time follows: what a coordinator writes are heartbeats, of which a late
/// one does no harm.
fn claim(
    found: Option<&Held>,
    worker: &str,
    seen: &mut Option<(i64, Instant)>,
    duration: Duration,
    now: Instant,
) -> Claim {
    let Some(Held { owner: Some(owner), counter }) = found else {
        *seen = None;
        return Claim::Take;
    };
    if owner == worker {
        // Taken before, and the answer lost; or by this worker's process before a restart.
        return Claim::Take;
    }
    match seen {
        Some((known, since)) if known == counter => {
            if now.duration_since(*since) >= duration {
                return Claim::Take;
            }
        }
        _ => *seen = Some((*counter, now)),
    }
    Claim::Wait
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::dynamo::memory::Memory;
    use crate::fault::Fault;

    const TIMES: lease::Config = lease::Config {
        duration: Duration::from_secs(12),
        renew_interval: Duration::from_secs(3),
        longest_attempt: Duration::from_secs(2),
    };

    fn lease(memory: &Arc<Memory>, worker: &str) -> Lease {
        Lease::new(Control::new(Arc::clone(memory) as _, "control"), worker, TIMES)
    }

    #[tokio::test(start_paused = true)]
    async fn a_counter_that_stands_still_for_a_whole_duration_is_a_free_lease() {
        let held = |counter| Held { owner: Some("other".to_owned()), counter };
        let start = Instant::now();
        let mut seen = None;
        let mut at = |found: Option<Held>, seconds: u64| {
            let now = start + Duration::from_secs(seconds);
            claim(found.as_ref(), "me", &mut seen, TIMES.duration, now)
        };
        assert_eq!(at(Some(held(1)), 0), Claim::Wait);
        assert_eq!(at(Some(held(1)), 11), Claim::Wait);
        assert_eq!(at(Some(held(2)), 12), Claim::Wait, "it was renewed");
        assert_eq!(at(Some(held(2)), 23), Claim::Wait);
        assert_eq!(at(Some(held(2)), 24), Claim::Take);
        assert_eq!(at(Some(Held { owner: None, counter: 3 }), 24), Claim::Take);
        assert_eq!(at(Some(held(3)), 30), Claim::Wait, "what was seen before a release says nothing");
        assert_eq!(at(None, 30), Claim::Take);
        assert_eq!(at(Some(Held { owner: Some("me".to_owned()), counter: 9 }), 31), Claim::Take);
    }

    #[tokio::test(start_paused = true)]
    async fn one_of_two_has_it_until_it_is_released() {
        let memory = Arc::new(Memory::default());
        let (mut a, mut b) = (lease(&memory, "a"), lease(&memory, "b"));
        let term = a.take().await.expect("a call").expect("it is free");
        assert!(b.take().await.expect("a call").is_none());
        a.release(&term).await;
        assert!(b.take().await.expect("a call").is_some());
        assert_eq!(a.write(Some(term.counter), Some("a")).await.expect("a call"), None);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_was_lost_costs_nothing() {
        let memory = Arc::new(Memory::default());
        let mut a = lease(&memory, "a");
        memory.lose_next_answer(Fault::Unanswered);
        a.take().await.expect_err("the answer is lost");
        let term = a.take().await.expect("a call").expect("it is its own");
        memory.lose_next_answer(Fault::Unanswered);
        a.write(Some(term.counter), Some("a")).await.expect_err("the answer is lost");
        let renewed = a.write(Some(term.counter), Some("a")).await.expect("a call");
        assert!(renewed > Some(term.counter));
    }

    #[tokio::test(start_paused = true)]
    async fn it_ends_by_itself_before_anybody_else_may_take_it() {
        let memory = Arc::new(Memory::default());
        let mut a = lease(&memory, "a");
        let mut term = a.take().await.expect("a call").expect("it is free");
        let start = Instant::now();
        memory.break_rows(true);
        a.keep(&mut term).await;
        assert_eq!(start.elapsed(), TIMES.fence_span());
    }
}
