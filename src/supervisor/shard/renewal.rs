//! The shard's row: renewed with the newest checkpoints, and written for the last time.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use tracing::warn;

use super::super::feed::Feed;
use super::{Exit, Report, Task};
use crate::lease::Renewal;
use crate::mutation::{self, Mutation};
use crate::shard::Shard;
use crate::telemetry;

/// How long the end of a shard in one replica waits for the others that have been given all of it too. Their last
/// writes end at about the same time, and then the children start together, on one cursor.
const END_SPREAD: Duration = Duration::from_millis(250);

impl Task {
    /// The grace is over and writes are still under way: what is settled is kept, and the lease is left to run
    /// out, because a successor must not write before those have landed or failed.
    pub(super) async fn give_up(&mut self) -> Exit {
        warn!("drain took too long: changes not yet applied are left to the next holder");
        self.fence.revoke();
        self.checkpoint();
        let mut row = self.row.clone();
        if let Err(error) = self.leases.renew(&mut row).await {
            warn!(%error, "write the last checkpoint");
        }
        Exit::Lost
    }

    /// Puts how far the replicas are into the row.
    pub(super) fn checkpoint(&mut self) {
        for feed in &self.feeds {
            let (replica, reached) = feed.reached();
            if let Some(checkpoint) = self.row.checkpoints.get_mut(replica) {
                checkpoint.advance(reached);
            }
        }
        self.row.load = Some(self.hold.load());
        self.row.end_if_done();
    }

    /// Renews the lease with the newest checkpoints. `false` when it is lost, or can no longer be known to be held.
    pub(super) async fn renew(&mut self) -> bool {
        self.checkpoint();
        let sent = Instant::now();
        let mut row = self.row.clone();
        let outcome = timeout(self.lease.row_write_limit(), self.leases.renew(&mut row)).await;
        match outcome {
            Ok(Ok(Renewal::Done)) => {
                self.row = row;
                self.fence.open_until(sent + self.lease.fence_span());
                self.metrics.checkpointed(self.clock.unix_ms(), sent.elapsed());
                self.announce();
                true
            }
            Ok(Ok(Renewal::Lost)) => {
                warn!("lease was taken by another worker");
                self.metrics.lease_changed(telemetry::LeaseChange::Lost);
                false
            }
            Ok(Err(error)) => self.renewal_failed(&error),
            Err(_) => self.renewal_failed(&"no answer in time"),
        }
    }

    /// When a replica came to its end, to a gap, or to where a seek wants it, others wait to hear of it before all is
    /// over.
    pub(super) fn look_for_news(&mut self) {
        if self.is_sought {
            self.news_at = Some(Instant::now());
        } else if !self.has_news() {
            self.news_at = None;
        } else if self.feeds.iter().any(Feed::is_ending) {
            self.news_at.get_or_insert(Instant::now() + END_SPREAD);
        } else {
            self.news_at = Some(Instant::now());
        }
    }

    fn has_news(&self) -> bool {
        self.count_decided() > self.reported
            && !self.feeds.iter().all(|feed| feed.is_over() && feed.is_settled())
    }

    /// The row is written: who waits for what is in it is told, while other replicas are still read for. A gap is told
    /// at once; before an end the children are listed, which start after it.
    fn announce(&mut self) {
        let is_sought = std::mem::take(&mut self.is_sought);
        if self.count_decided() == self.reported {
            if is_sought {
                self.tell(Vec::new());
            }
            return;
        }
        self.reported = self.count_decided();
        let children = self.children.clone();
        let ended = self.feeds.iter().any(Feed::is_ended);
        if ended && children.is_none() {
            let (describer, stream) = (Arc::clone(&self.describer), self.source.stream.clone());
            let shard = self.row.shard.clone();
            self.listing
                .spawn(tracing::Span::current(), async move { describer.children(&stream, &shard).await });
        }
        self.tell(children.unwrap_or_default());
    }

    /// Children were listed while some replicas are still read for.
    pub(super) fn report(&mut self, children: Vec<Shard>) {
        self.children = Some(children.clone());
        self.tell(children);
    }

    fn tell(&self, children: Vec<Shard>) {
        // Nobody listens when the replication drains.
        let _ = self.reports.send(Report { row: self.row.clone(), children });
    }

    pub(super) fn count_decided(&self) -> usize {
        self.feeds.iter().filter(|feed| feed.is_decided()).count()
    }

    pub(super) fn renewal_failed(&self, error: &dyn std::fmt::Display) -> bool {
        self.metrics.lease_renewal_failed();
        self.metrics.checkpoint_failed();
        if mutation::is_on(Mutation::LostRenewalIsDone) {
            self.fence.open_until(Instant::now() + self.lease.fence_span());
        }
        let held = self.fence.is_open(Instant::now());
        warn!(%error, held, "lease is not renewed");
        if !held {
            self.metrics.lease_changed(telemetry::LeaseChange::Expired);
        }
        held
    }

    /// Writes the final row and gives the lease back, trying until the lease runs out.
    pub(super) async fn write_last(&mut self) -> bool {
        self.checkpoint();
        self.row.handed_to = self.hold.heir().cloned();
        while self.fence.is_open(Instant::now()) {
            let mut row = self.row.clone();
            let outcome = timeout(self.lease.row_write_limit(), self.leases.release(&mut row)).await;
            match outcome {
                Ok(Ok(Renewal::Done)) => {
                    self.row = row;
                    self.metrics.lease_changed(telemetry::LeaseChange::Released);
                    return true;
                }
                Ok(Ok(Renewal::Lost)) => return false,
                Ok(Err(error)) => self.last_failed(&error).await,
                Err(_) => self.last_failed(&"no answer in time").await,
            }
        }
        false
    }

    pub(super) async fn last_failed(&self, error: &(dyn std::fmt::Display + Sync)) {
        warn!(%error, "last checkpoint is not written yet");
        self.metrics.checkpoint_failed();
        sleep(Duration::from_millis(250)).await;
    }
}
