//! The affinity as one worker keeps it: plain decisions about the row, and about the right to write.

use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout};
use tracing::{info, warn};

use super::super::calls::Failure;
use crate::lease::affinity::{Lease, Row};
use crate::lease::assign::TAKEN_BY_OTHERS_AFTER;
use crate::lease::{self, Fence, Owner};
use crate::mutation::{self, Mutation};
use crate::supervisor::affinity::Affinity;
use crate::supervisor::status;

/// Before another try at a call that failed.
pub(super) const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// How long rows are looked at often for what others give up. Their shards stand still meanwhile, and are given up
/// within seconds; a replica that refuses writes keeps them longer.
const HURRY_SPAN: Duration = Duration::from_secs(30);

/// What this worker knows of the row, and its own affinity.
pub(in super::super) struct Keeper {
    lease: Lease,
    times: lease::Config,
    wants: Affinity,
    seen: Option<Seen>,
    tenure: Option<Tenure>,
    is_calling: bool,
    /// No call before.
    pause_ends: Option<Instant>,
    /// Leases that are taken before settle first: what the last holder of the affinity sent may still land.
    takes_settle_until: Option<Instant>,
    /// What others sent before their leases were taken may land until then.
    others_end: Option<Instant>,
}

/// The row as it was seen.
struct Seen {
    row: Option<Row>,
    /// Since when it is as it is, as far as this worker saw.
    since: Instant,
}

/// The affinity while it is this worker's.
struct Tenure {
    row: Row,
    /// When the claim was answered: looks that begin later show all leases that others may use.
    since: Instant,
    /// When it was renewed last, counted from before that was sent.
    renewed: Instant,
    is_proven: bool,
    sole: Option<Fence>,
    /// When the right to write was taken back because nobody wants it any more.
    ended: Option<Instant>,
}

/// What is to be done about the row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Step {
    Claim {
        /// Its holder is dead.
        expired: bool,
    },
    Renew,
    /// This worker gives it up.
    Release,
    /// Its holder is dead, and nobody here wants it.
    Clear,
}

/// A call about the row that is over.
pub(in super::super) struct Kept {
    pub(super) step: Step,
    pub(super) sent: Instant,
    pub(super) answered: Instant,
    pub(super) outcome: Result<Option<Row>, Failure>,
}

// === impl Keeper ===

impl Keeper {
    pub(in super::super) fn new(lease: Lease, times: lease::Config, wants: Affinity) -> Self {
        Self {
            lease,
            times,
            wants,
            seen: None,
            tenure: None,
            is_calling: false,
            pause_ends: None,
            takes_settle_until: None,
            others_end: None,
        }
    }

    /// The row, for who takes a lease.
    pub(in super::super) fn lease(&self) -> Lease {
        self.lease.clone()
    }

    /// Whether the row was ever looked at.
    pub(in super::super) fn is_known(&self) -> bool {
        self.seen.is_some()
    }

    /// Whose all leases are to be.
    pub(in super::super) fn holder(&self) -> Option<&Owner> {
        let held = self.tenure.as_ref().map(|tenure| &tenure.row);
        let seen = || self.seen.as_ref().and_then(|seen| seen.row.as_ref());
        held.or_else(seen)?.owner.as_ref()
    }

    /// Whether they are to be this worker's.
    pub(in super::super) fn is_here(&self) -> bool {
        self.tenure.is_some()
    }

    /// Whether a lease that is taken now must settle, whoever had it.
    pub(in super::super) fn takes_settle(&self, now: Instant) -> bool {
        self.takes_settle_until.is_some_and(|until| now < until)
    }

    /// What others sent may land until then.
    pub(in super::super) fn wait_for_others(&mut self, until: Instant) {
        self.others_end = self.others_end.max(Some(until));
    }

    /// The row as a look showed it at `now`. An answer may be older than what is known.
    pub(in super::super) fn look(&mut self, row: Option<Row>, now: Instant) {
        let counter = |row: &Option<Row>| row.as_ref().map_or(0, |row| row.counter);
        let found = counter(&row);
        let owner = row.as_ref().and_then(|row| row.owner.as_ref());
        let is_own = owner.is_some_and(|owner| self.lease.is_own(owner));
        let is_same = self.seen.as_ref().map(|seen| counter(&seen.row) >= found).unwrap_or_default();
        if !is_same {
            self.seen = Some(Seen { row, since: now });
        }
        // Somebody else found it expired.
        if !is_own && self.tenure.as_ref().is_some_and(|tenure| found > tenure.row.counter) {
            self.lose();
        }
    }

    /// What to do about the row now; `wanted` is whether this worker may want it, and `is_first` whether it has least to
    /// do, so that replications are copied all over the fleet.
    pub(in super::super) fn step(&self, wanted: bool, is_first: bool, now: Instant) -> Option<Step> {
        if self.is_calling || self.pause_ends.is_some_and(|at| now < at) {
            return None;
        }
        if let Some(tenure) = &self.tenure {
            let is_due = now >= tenure.renewed + self.times.renew_interval;
            let may_end = tenure.ended.is_some_and(|ended| now >= self.settled_at(ended));
            return match () {
                () if !wanted && may_end => Some(Step::Release),
                () if is_due => Some(Step::Renew),
                () => None,
            };
        }
        let seen = self.seen.as_ref()?;
        let stood = now.duration_since(seen.since);
        match seen.row.as_ref().and_then(|row| row.owner.as_ref()) {
            None if wanted && (is_first || stood >= TAKEN_BY_OTHERS_AFTER) => {
                Some(Step::Claim { expired: false })
            }
            None => None,
            // The answer to its claim was lost, so nothing was written under it.
            Some(owner) if self.lease.is_own(owner) => {
                Some(if wanted { Step::Claim { expired: false } } else { Step::Clear })
            }
            Some(_) if wanted && stood >= self.times.duration => Some(Step::Claim { expired: true }),
            Some(_) if stood >= self.times.duration + self.times.settle() => Some(Step::Clear),
            Some(_) => None,
        }
    }

    /// When nothing lands any more of what was sent before `ended`.
    fn settled_at(&self, ended: Instant) -> Instant {
        match self.wants.is_unsettled() {
            true => ended + self.times.longest_attempt + self.times.settle(),
            false => ended,
        }
    }

    /// Nobody wants it any more: nothing is written from now on.
    pub(in super::super) fn end(&mut self, now: Instant) {
        self.close();
        if let Some(tenure) = &mut self.tenure {
            tenure.ended.get_or_insert(now);
        }
    }

    /// Somebody wants it, perhaps again.
    pub(in super::super) fn resume(&mut self) {
        if let Some(tenure) = &mut self.tenure {
            tenure.ended = None;
        }
    }

    /// A call about the row begins: by what it is made, and the row as it was seen last.
    pub(super) fn begin(&mut self) -> (Lease, Option<Row>) {
        self.is_calling = true;
        let seen = self.seen.as_ref().and_then(|seen| seen.row.clone());
        let held = self.tenure.as_ref().map(|tenure| tenure.row.clone());
        (self.lease.clone(), held.or(seen))
    }

    /// A call ended. Says whether the rows are to be looked at because of it.
    pub(in super::super) fn called(&mut self, kept: Kept) -> bool {
        let Kept { step, sent, answered, outcome } = kept;
        self.is_calling = false;
        let row = match outcome {
            Ok(row) => row,
            Err(error) => {
                warn!(%error, ?step, "affinity is not written");
                self.pause_ends = Some(answered + RETRY_PAUSE);
                return false;
            }
        };
        let Some(row) = row else {
            info!(?step, "another worker has the affinity, or cleared it");
            self.lose();
            return true;
        };
        match step {
            Step::Claim { expired } => self.claimed(row.clone(), expired, sent, answered),
            Step::Renew => self.renewed(row.clone(), sent, answered),
            Step::Release | Step::Clear => {
                info!(?step, "affinity is nobody's any more");
                self.lose();
                self.wants.settle();
            }
        }
        self.seen = Some(Seen { row: Some(row), since: answered });
        step != Step::Renew
    }

    fn claimed(&mut self, row: Row, expired: bool, sent: Instant, answered: Instant) {
        info!(purpose = row.purpose, expired, "all leases are to be held here");
        if expired {
            let settled = answered + self.times.settle();
            self.takes_settle_until = self.takes_settle_until.max(Some(settled));
            self.wait_for_others(settled);
        }
        let tenure =
            Tenure { row, since: answered, renewed: sent, is_proven: false, sole: None, ended: None };
        self.tenure = Some(tenure);
    }

    fn renewed(&mut self, row: Row, sent: Instant, answered: Instant) {
        let Some(tenure) = &mut self.tenure else { return };
        let is_late = answered >= tenure.renewed + self.times.fence_span();
        (tenure.row, tenure.renewed) = (row, sent);
        if is_late {
            // Like a claim: whoever wrote meanwhile is seen by a look from now on.
            tenure.since = answered;
            self.close();
        }
    }

    /// It is not this worker's any more.
    fn lose(&mut self) {
        self.close();
        self.tenure = None;
    }

    /// Takes back the right to write; it takes another look to open it again.
    pub(in super::super) fn close(&mut self) {
        let Some(tenure) = &mut self.tenure else { return };
        tenure.is_proven = false;
        if let Some(sole) = tenure.sole.take() {
            info!("this worker may no longer write what is copied");
            sole.revoke();
            self.wants.tell(None);
        }
    }

    /// A look that began at `begun` showed whether others hold leases, and this worker all that can be read.
    pub(in super::super) fn prove(&mut self, begun: Instant, is_alone: bool, holds_all: bool) {
        let Some(tenure) = self.tenure.as_mut().filter(|tenure| begun >= tenure.since) else { return };
        if !is_alone {
            self.close();
        } else if holds_all {
            tenure.is_proven = true;
        }
    }

    /// Opens the right to write, or keeps it open: until the affinity or the first of the leases may end.
    pub(in super::super) fn open(&mut self, leases_end: Option<Instant>, now: Instant) {
        let is_proven = |it: &&mut Tenure| it.is_proven || mutation::is_on(Mutation::SoleAtOnce);
        let Some(tenure) = self.tenure.as_mut().filter(is_proven).filter(|it| it.ended.is_none()) else {
            return;
        };
        if self.others_end.is_some_and(|until| now < until) {
            return;
        }
        let own_end = tenure.renewed + self.times.fence_span();
        let until = leases_end.map_or(own_end, |end| end.min(own_end));
        let has_lapsed = tenure.sole.as_ref().is_some_and(|sole| !sole.is_open(now));
        if until <= now || has_lapsed {
            return self.close();
        }
        match &tenure.sole {
            Some(sole) => sole.open_until(until),
            None => {
                info!("this worker alone writes: it may write what is copied");
                let sole = Fence::closed();
                sole.open_until(until);
                tenure.sole = Some(sole.clone());
                self.wants.tell(Some(sole));
            }
        }
    }

    /// Whether rows are about to be given up for this worker, or by the holder of the affinity to everybody.
    pub(in super::super) fn hurries(&self, drains: impl Fn(&Owner) -> bool, now: Instant) -> bool {
        match &self.tenure {
            Some(tenure) => !tenure.is_proven && now < tenure.since + HURRY_SPAN,
            None => self.holder().is_some_and(drains),
        }
    }

    /// What is shown of it.
    pub(in super::super) fn status(&self) -> Option<status::Affinity> {
        let seen = || self.seen.as_ref().and_then(|seen| seen.row.as_ref());
        let row = self.tenure.as_ref().map(|tenure| &tenure.row).or_else(seen)?;
        let owner = row.owner.as_ref()?;
        Some(status::Affinity {
            worker: lease::worker(owner).to_owned(),
            purpose: row.purpose.clone(),
            since_unix_ms: row.since_unix_ms,
            sole: self.tenure.as_ref().is_some_and(|tenure| tenure.sole.is_some()),
        })
    }

    /// The last of a drain: gives it back when nothing lands any more of what was written under it.
    pub(in super::super) async fn give_back(&mut self) {
        let Some(tenure) = &self.tenure else { return };
        sleep_until(self.settled_at(tenure.ended.unwrap_or_else(Instant::now))).await;
        match timeout(self.times.row_write_limit(), self.lease.clear(&tenure.row)).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => warn!(%error, "affinity is left to run out"),
            Err(_) => warn!(error = "no answer in time", "affinity is left to run out"),
        }
        self.lose();
    }
}

#[cfg(test)]
mod tests;
