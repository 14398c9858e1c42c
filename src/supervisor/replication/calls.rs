//! Calls to the control table that the loop does not wait for: looks at rows, and takes.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout};
use tracing::{Span, info, warn};

use super::super::plan;
use super::Running;
use super::affinity::Kept;
use crate::control;
use crate::lease::{self, Leases, Renewal, Row, State, affinity};
use crate::shard::ShardId;
use crate::telemetry::LeaseChange;

/// After a call failed, the next look.
const AFTER_FAILURE: Duration = Duration::from_secs(1);

/// After another worker was faster, the next look.
const AFTER_REFUSAL: Duration = Duration::from_millis(50);

/// What a call came to.
pub(super) enum Called {
    /// All rows, as they were from this time on.
    Loaded(Instant, Result<(Vec<Row>, Option<affinity::Row>), Failure>),
    /// The row of one shard, if it is there.
    Seen(ShardId, Result<Option<Row>, Failure>),
    Took(Box<Taken>),
    /// The affinity was claimed, renewed or given up.
    Kept(Box<Kept>),
    /// A dead worker's lease of an earlier stream is nobody's now.
    Cleared(Box<Row>, Result<Renewal, Failure>),
}

/// A take that is over.
pub(super) struct Taken {
    seen: Row,
    settles: bool,
    sent: Instant,
    outcome: Result<Option<Row>, Failure>,
}

/// Why a call came to nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error(transparent)]
    Control(#[from] control::Error),
    #[error("no answer in time")]
    Late,
    #[error("the worker drains")]
    Drained,
    /// It was given back unread.
    #[error("all leases are kept together by worker `{0}`")]
    KeptTogether(String),
}

/// Looks at all rows: one at a time.
#[derive(Default)]
pub(super) struct Looking {
    under_way: bool,
    /// What is under way may have begun too early.
    again: bool,
    /// At the row of the one lease that is asked for.
    at_one: bool,
    /// What [`plan::orphans`] found in the last look.
    orphans: BTreeSet<ShardId>,
}

pub(super) async fn limited<T>(
    limit: Duration,
    call: impl Future<Output = Result<T, control::Error>>,
) -> Result<T, Failure> {
    timeout(limit, call).await.map_err(|_| Failure::Late)?.map_err(Failure::Control)
}

/// Takes a lease, and gives it back at once when all of them are another worker's: that one may have looked before this
/// take, so it is not written under. The affinity is read after the take, for else its claim could come between.
async fn take(
    leases: &Leases,
    affinity: &affinity::Lease,
    seen: &Row,
    settles: bool,
    times: lease::Config,
) -> Result<Option<Row>, Failure> {
    let limit = times.row_write_limit();
    let Some(mut row) = limited(limit, leases.take(seen)).await? else { return Ok(None) };
    let taken = Instant::now();
    let Some(owner) = limited(limit, affinity.elsewhere()).await? else { return Ok(Some(row)) };
    if settles {
        // Who takes a released lease writes at once.
        sleep_until(taken + times.settle()).await;
    }
    if let Err(error) = limited(limit, leases.release(&mut row)).await {
        warn!(shard = %row.shard, %error, "lease is left to run out");
    }
    Err(Failure::KeptTogether(lease::worker(&owner).to_owned()))
}

impl Running {
    /// Reads the rows again, to see what other workers did with them.
    pub(super) fn look(&mut self) {
        if std::mem::replace(&mut self.looking.under_way, true) {
            self.looking.again = true;
            return;
        }
        let (leases, limit) = (self.leases.clone(), self.setup.lease.row_write_limit());
        self.calls.spawn(Span::current(), async move {
            let begun = Instant::now();
            Called::Loaded(begun, limited(limit, leases.load_all()).await)
        });
    }

    /// Whether a lease is about to be given up that may come here.
    pub(super) fn hurries(&self) -> bool {
        let name = &self.setup.config.name;
        let drains = |owner: &String| self.roster.get(owner).copied().unwrap_or_default();
        self.setup.fleet.own_want(name).is_some()
            || self.affinity.hurries(drains, Instant::now())
            || self.rows.values().any(|row| row.owner.as_ref().is_some_and(drains))
    }

    /// Looks for what is about to be given up.
    pub(super) fn look_hurried(&mut self) {
        if self.setup.fleet.lose_patience(Instant::now()) {
            info!("a lease that was asked for was not given up");
        }
        match self.setup.fleet.own_want(&self.setup.config.name) {
            None => self.look(),
            Some(_) if self.looking.at_one => {}
            Some(shard) => {
                self.looking.at_one = true;
                let (leases, limit) = (self.leases.clone(), self.setup.lease.row_write_limit());
                self.calls.spawn(Span::current(), async move {
                    let row = limited(limit, leases.look(&shard)).await;
                    Called::Seen(shard, row)
                });
            }
        }
    }

    /// Takes leases as they were seen, each with whether it must settle.
    pub(super) fn take(&mut self, claims: Vec<(Row, bool)>) {
        for (seen, settles) in claims {
            if !self.taking.insert(seen.shard.clone()) {
                continue;
            }
            let (leases, times) = (self.leases.clone(), self.setup.lease);
            let affinity = self.affinity.lease();
            let (permits, drain) = (Arc::clone(&self.take_permits), self.setup.drain.clone());
            self.calls.spawn(Span::current(), async move {
                let _permit = permits.acquire().await.expect("it is never closed");
                let sent = Instant::now();
                let outcome = match drain.is_cancelled() {
                    true => Err(Failure::Drained),
                    false => take(&leases, &affinity, &seen, settles, times).await,
                };
                Called::Took(Box::new(Taken { seen, settles, sent, outcome }))
            });
        }
    }

    pub(super) fn called(&mut self, called: Called) {
        match called {
            Called::Loaded(begun, result) => self.loaded(begun, result),
            Called::Seen(shard, row) => self.seen(&shard, row),
            Called::Took(taken) => self.took(*taken),
            Called::Kept(kept) => self.kept(*kept),
            Called::Cleared(row, outcome) => self.cleared(*row, outcome),
        }
    }

    fn seen(&mut self, shard: &ShardId, row: Result<Option<Row>, Failure>) {
        self.looking.at_one = false;
        match row {
            Ok(row) => {
                row.into_iter().for_each(|row| self.keep(row));
                self.advance();
                self.check_wanted(shard);
            }
            Err(error) => warn!(%shard, %error, "row of a shard cannot be read"),
        }
    }

    fn loaded(&mut self, begun: Instant, result: Result<(Vec<Row>, Option<affinity::Row>), Failure>) {
        self.looking.under_way = false;
        let again = std::mem::take(&mut self.looking.again);
        match result {
            Ok((rows, affinity)) => {
                self.control_error = None;
                self.affinity.look(affinity, Instant::now());
                let is_alone = self.is_alone(&rows);
                self.keep_all(rows);
                self.prove_sole(begun, is_alone);
                self.answer_wants();
                self.advance();
                self.even_out();
            }
            Err(error) => {
                warn!(%error, "rows of shards cannot be read");
                self.control_error = Some(error.to_string());
                self.look_by(Instant::now() + AFTER_FAILURE);
            }
        }
        if again {
            self.look();
        }
    }

    /// All rows as the control table has them. Those that have expired are gone from it.
    fn keep_all(&mut self, rows: Vec<Row>) {
        let orphans = plan::orphans(&rows, &self.rows);
        let listed: BTreeSet<_> = rows.iter().map(|row| row.shard.clone()).collect();
        self.rows.retain(|shard, row| {
            row.expires_unix_s.is_none() || listed.contains(shard) || self.live.contains_key(shard)
        });
        self.near.retain(|shard| self.rows.contains_key(shard));
        self.decided.retain(|shard| self.rows.contains_key(shard));
        let is_torn = |row: &Row| orphans.contains(&row.shard) && !self.looking.orphans.contains(&row.shard);
        let (torn, whole): (Vec<_>, Vec<_>) = rows.into_iter().partition(is_torn);
        whole.into_iter().for_each(|row| self.keep(row));
        self.looking.orphans = orphans;
        if !torn.is_empty() {
            self.look();
        }
    }

    /// A row as the control table has it. What is known already may be newer than an answer that was long on its way.
    fn keep(&mut self, mut row: Row) {
        if row.stream != self.source.stream || self.live.contains_key(&row.shard) {
            return;
        }
        if let Some(known) = self.rows.get(&row.shard) {
            if known.counter > row.counter {
                return;
            }
            // Where new replicas start was decided when they were registered, and is written with the next take.
            for (replica, checkpoint) in &known.checkpoints {
                row.checkpoints.entry(replica.clone()).or_insert(*checkpoint);
            }
            if row.state == State::Ended && !self.replicas.has_all_of(&row) {
                (row.state, row.expires_unix_s) = (State::Open, None);
            }
        }
        self.rows.insert(row.shard.clone(), row);
    }

    fn took(&mut self, taken: Taken) {
        let Taken { seen, settles, sent, outcome } = taken;
        let shard = &seen.shard;
        self.taking.remove(shard);
        match outcome {
            Ok(Some(row)) => {
                self.control_error = None;
                let is_stolen = self.setup.fleet.own_want(&self.setup.config.name).as_ref() == Some(shard);
                if is_stolen {
                    self.setup.fleet.drop_want();
                }
                self.metrics.lease_changed(match is_stolen {
                    true => LeaseChange::Stolen,
                    false => LeaseChange::Acquired,
                });
                self.start(row, settles, sent);
            }
            Ok(None) => {
                info!(%shard, "another worker was faster to take the lease");
                self.look_by(Instant::now() + AFTER_REFUSAL);
            }
            Err(Failure::KeptTogether(worker)) => {
                info!(%shard, worker, "lease is given back: all of them are kept together");
                self.look();
            }
            Err(error) => {
                warn!(%shard, %error, "lease cannot be taken");
                self.control_error = Some(error.to_string());
                self.look_by(Instant::now() + AFTER_FAILURE);
            }
        }
    }

    /// Looks at the rows then, if not earlier.
    pub(super) fn look_by(&mut self, at: Instant) {
        self.look_again = Some(self.look_again.map_or(at, |earlier| earlier.min(at)));
    }

    /// In a drain, what is taken at the last moment is given back. What would have had to settle first is not: who
    /// takes a released lease writes at once.
    pub(super) async fn give_back_taken(&mut self) {
        while let Some(called) = self.calls.next().await {
            let taken = match called {
                Called::Took(taken) => taken,
                Called::Kept(kept) => {
                    self.affinity.called(*kept);
                    continue;
                }
                Called::Loaded(..) | Called::Seen(..) | Called::Cleared(..) => continue,
            };
            let Taken { settles: false, outcome: Ok(Some(mut row)), .. } = *taken else { continue };
            let limit = self.setup.lease.row_write_limit();
            match limited(limit, self.leases.release(&mut row)).await {
                Ok(Renewal::Done | Renewal::Lost) => {}
                Err(error) => warn!(shard = %row.shard, %error, "lease is left to run out"),
            }
        }
    }

    /// Whether a lease is being taken, or its shard read.
    pub(super) fn has(&self, shard: &ShardId) -> bool {
        self.live.contains_key(shard) || self.taking.contains(shard)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::Checkpoint;
    use crate::control::Control;
    use crate::dynamo::memory::Memory;
    use crate::shard::Position;

    const TIMES: lease::Config = lease::Config {
        duration: Duration::from_secs(12),
        renew_interval: Duration::from_secs(3),
        longest_attempt: Duration::from_secs(2),
    };

    fn row() -> Row {
        let first = Checkpoint::starting(Position::TrimHorizon, 0);
        Row {
            shard: "s".into(),
            stream: "arn".into(),
            parent: None,
            owner: None,
            handed_to: None,
            load: None,
            counter: 0,
            state: State::Open,
            checkpoints: [("us".to_owned(), first)].into(),
            gaps: Default::default(),
            expires_unix_s: None,
        }
    }

    /// The rows of a worker, with one lease that is free.
    async fn desk(memory: &Arc<Memory>, worker: &str) -> (Leases, affinity::Lease, Row) {
        let control = Control::new(Arc::clone(memory) as _, "control");
        let leases = Leases::new(control.clone(), "orders", worker);
        let (row, _) = leases.create(row()).await.expect("a call");
        (leases, affinity::Lease::new(control, "orders", worker), row)
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_that_was_decided_on_before_all_were_anothers_is_given_back_when_it_has_settled() {
        let memory = Arc::new(Memory::default());
        let (leases, affinity, free) = desk(&memory, "late").await;
        let (_, of_other, _) = desk(&memory, "other").await;
        of_other.claim(None, "copy", 0).await.expect("a call").expect("it is free");
        for (settles, waits) in [(false, Duration::ZERO), (true, TIMES.settle())] {
            let seen = leases.look(&free.shard).await.expect("a call").expect("a row");
            let begun = Instant::now();
            let taken = take(&leases, &affinity, &seen, settles, TIMES).await;
            assert!(matches!(taken, Err(Failure::KeptTogether(worker)) if worker == "other"));
            assert_eq!(begun.elapsed(), waits);
            let left = leases.look(&free.shard).await.expect("a call").expect("a row");
            assert_eq!((left.owner.as_deref(), left.counter), (None, seen.counter + 2));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_is_kept_by_who_has_all_and_when_nobody_has() {
        let memory = Arc::new(Memory::default());
        let (leases, affinity, free) = desk(&memory, "me").await;
        let taken = take(&leases, &affinity, &free, false, TIMES).await.expect("a call").expect("it is free");
        assert_eq!(taken.owner.as_deref(), Some("me"));
        affinity.claim(None, "copy", 0).await.expect("a call").expect("it is free");
        let again =
            take(&leases, &affinity, &taken, true, TIMES).await.expect("a call").expect("it is its own");
        assert_eq!(again.owner.as_deref(), Some("me"));
    }
}
