//! All shards of a replication at one worker, while something is copied in it: who has them, and when this worker is the
//! only one that may write.
//!
//! ```text
//!  wanted ──> claim ──> take what others give up ──> a look at all rows that began after the claim
//!                                                     └─ nobody else holds a shard, all that can be read are held here
//!                                                          └─> the right to write opens, and is kept open
//! ```
//!
//! The right ends at once when it is not wanted any more, when a lease is lost or given up, when another worker is seen to
//! hold one, and by itself when the affinity or any lease is not renewed. The next is another fence, so that
//! nothing that waited under the first is written after others wrote. Why a look is enough is told in
//! [`crate::lease::affinity`].

mod keeper;

use tokio::time::Instant;
use tracing::{Span, info, warn};

use super::Running;
use super::calls::{Called, Failure, limited};
use crate::lease::{self, Claim, Owner, Renewal};
use crate::supervisor::plan::Standing;

pub(super) use keeper::{Keeper, Kept};
use keeper::{RETRY_PAUSE, Step};

/// A replica that refuses writes for this long will go on to do so: leases are handed over although its changes do not
/// settle, which costs the shards a drain's grace and a lease's duration, once.
const TROUBLE_PATIENCE_MS: i64 = 60_000;

// === impl Running ===

impl Running {
    /// Claims, renews and gives up the affinity, as somebody here wants it, and keeps the right to write open.
    pub(super) fn keep_affinity(&mut self) {
        let now = Instant::now();
        let purpose = self.setup.affinity.purpose();
        let is_able = self.discovered_unix_ms.is_some() && !self.is_outdated;
        let wanted = purpose.is_some() && is_able;
        if wanted {
            self.affinity.resume()
        } else {
            self.affinity.end(now)
        }
        if let Some(step) = self.affinity.step(wanted, self.has_least(), now) {
            self.call_affinity(step, purpose.unwrap_or_default());
        }
        self.open_sole(now);
    }

    /// Whether no other worker has less to do of other replications.
    fn has_least(&self) -> bool {
        let workers = self.setup.fleet.workers(&self.setup.config.name);
        let least = workers.iter().min_by_key(|(owner, share)| (**share, *owner));
        least.is_some_and(|(owner, _)| *owner == self.setup.worker)
    }

    fn call_affinity(&mut self, step: Step, purpose: String) {
        let (lease, row) = self.affinity.begin();
        let limit = self.setup.lease.row_write_limit();
        let since_unix_ms = self.setup.clock.unix_ms();
        self.calls.spawn(Span::current(), async move {
            let sent = Instant::now();
            let outcome = match (step, &row) {
                (Step::Claim { .. }, seen) => {
                    limited(limit, lease.claim(seen.as_ref(), &purpose, since_unix_ms)).await
                }
                (Step::Renew, Some(row)) => limited(limit, lease.renew(row)).await,
                (Step::Release | Step::Clear, Some(row)) => limited(limit, lease.clear(row)).await,
                (Step::Renew | Step::Release | Step::Clear, None) => Ok(None),
            };
            Called::Kept(Box::new(Kept { step, sent, answered: Instant::now(), outcome }))
        });
    }

    pub(super) fn kept(&mut self, kept: Kept) {
        if self.affinity.called(kept) {
            self.look();
            self.advance();
        }
        self.open_sole(Instant::now());
    }

    fn open_sole(&mut self, now: Instant) {
        let leases_end = self.live.values().filter_map(|live| live.fence.closes_at()).min();
        self.affinity.open(leases_end, now);
    }

    /// All rows were looked at from `begun` on.
    pub(super) fn prove_sole(&mut self, begun: Instant, is_alone: bool) {
        let is_held = |row: &lease::Row| {
            self.live.contains_key(&row.shard)
                || self.replicas.standing(row, &self.rows, &self.lineage) != Standing::Ready
        };
        let holds_all = self.rows.values().all(is_held);
        self.affinity.prove(begun, is_alone, holds_all);
        self.open_sole(Instant::now());
    }

    /// Whether nobody else holds any of `rows`, whatever stream and replicas they are of. What a dead worker left of an
    /// earlier stream, nobody takes, so it is cleared here.
    pub(super) fn is_alone(&mut self, rows: &[lease::Row]) -> bool {
        if !self.affinity.is_here() {
            return false;
        }
        let me = self.setup.worker.clone();
        let is_foreign = |row: &&lease::Row| row.owner.as_ref().is_some_and(|owner| *owner != me);
        let foreign: Vec<_> = rows.iter().filter(is_foreign).collect();
        for row in &foreign {
            if row.stream == self.source.stream {
                continue;
            }
            let claim = self.claims.claim(row, &me, self.setup.lease.duration, Instant::now());
            if claim == Claim::Expired && self.taking.insert(row.shard.clone()) {
                self.clear((*row).clone());
            }
        }
        foreign.is_empty()
    }

    fn clear(&mut self, mut row: lease::Row) {
        let (leases, limit) = (self.leases.clone(), self.setup.lease.row_write_limit());
        self.calls.spawn(Span::current(), async move {
            let outcome = limited(limit, leases.amend(&mut row)).await;
            Called::Cleared(Box::new(row), outcome)
        });
    }

    /// A row of an earlier stream was cleared.
    pub(super) fn cleared(&mut self, row: lease::Row, outcome: Result<Renewal, Failure>) {
        self.taking.remove(&row.shard);
        match outcome {
            Ok(Renewal::Done) => {
                info!(shard = %row.shard, "a lease of an earlier stream was cleared");
                self.affinity.wait_for_others(Instant::now() + self.setup.lease.settle());
                for other in self.others.iter_mut().filter(|other| other.shard == row.shard) {
                    other.clone_from(&row);
                }
            }
            Ok(Renewal::Lost) => {}
            Err(error) => warn!(shard = %row.shard, %error, "lease of an earlier stream is not cleared"),
        }
        self.look_by(Instant::now() + RETRY_PAUSE);
    }

    /// Gives everything up for the worker that is to hold it all, once it is there to take it.
    pub(super) fn hand_all_over(&mut self, heir: &Owner) {
        if self.setup.fleet.own_want(&self.setup.config.name).is_some() {
            self.setup.fleet.drop_want();
        }
        // One that drains, or is dead, is soon to be the holder no more.
        if self.roster.get(heir) != Some(&false) || !self.may_settle() {
            return;
        }
        for (shard, (hold, _)) in &self.holds {
            if hold.hand_over(heir) {
                info!(%shard, to = lease::worker(heir), "giving a lease up for the worker that copies");
                self.revoke_retries();
            }
        }
    }

    /// Whether what was read settles soon, or will not for long.
    fn may_settle(&self) -> bool {
        let now_unix_ms = self.setup.clock.unix_ms();
        let troubles = self.channels.iter().filter_map(|channel| channel.gauges.trouble());
        troubles.into_iter().all(|trouble| now_unix_ms - trouble.since_unix_ms > TROUBLE_PATIENCE_MS)
    }
}
