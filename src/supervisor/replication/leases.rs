//! Leases: which to take, what a taken one starts, and what comes after a shard's task.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self as futures, StreamExt};
use tokio::time::Instant;
use tracing::{info, info_span, warn};

use super::super::plan::{Standing, Wanted};
use super::super::shard::{Built, Exit, Parts};
use super::{CONTROL_CALLS, Running};
use crate::lease::{self, Claim, Fence, Row};
use crate::shard::ShardId;
use crate::telemetry;

impl Running {
    /// Takes every lease that is free to take and starts its shard.
    pub(super) async fn advance(&mut self) {
        if self.discovered_unix_ms.is_none() {
            return;
        }
        self.give_orders();
        let now = Instant::now();
        // A look that is due soon stays due, however often this is called before it.
        self.look_again = self.look_again.filter(|at| *at > now);
        let wanted = self.wanted();
        let mut claims = Vec::new();
        for row in self.rows.values() {
            if self.live.contains_key(&row.shard) || !self.is_claimable(row, &wanted) {
                continue;
            }
            match self.observer.claim(row, &self.setup.worker, self.setup.lease.duration, now) {
                Claim::Held(left) => {
                    // Seen again before it runs out, in case it was renewed, and as often as it is renewed, because
                    // a released lease waits for nothing.
                    let wait = (left / 2).min(self.setup.lease.renew_interval);
                    let look = now + wait.max(Duration::from_millis(50));
                    self.look_again = Some(self.look_again.map_or(look, |at| at.min(look)));
                }
                claim => {
                    let mut wanted = row.clone();
                    let closed = self.lineage.get(&row.shard).is_none_or(|shard| shard.closed);
                    self.replicas.complete(&mut wanted, closed, self.setup.clock.unix_ms());
                    self.replicas.inherit(&mut wanted, &self.rows);
                    claims.push((wanted, claim == Claim::Expired));
                }
            }
        }
        self.take(claims).await;
    }

    /// Whether a shard's lease is worth having: it can be read, or somebody who may be dead holds it and has not obeyed
    /// a seek.
    fn is_claimable(&self, row: &Row, wanted: &Wanted) -> bool {
        self.replicas.standing(row, &self.rows, &self.lineage) == Standing::Ready
            || (row.owner.is_some() && wanted.is_behind(row))
    }

    pub(super) async fn take(&mut self, claims: Vec<(Row, bool)>) {
        let leases = &self.leases;
        let taken: Vec<_> = futures::iter(claims)
            .map(|(row, settles)| async move {
                let sent = Instant::now();
                (leases.take(&row).await, row, settles, sent)
            })
            .buffer_unordered(CONTROL_CALLS)
            .collect()
            .await;
        for (outcome, seen, settles, sent) in taken {
            match outcome {
                Ok(Some(row)) => {
                    self.control_error = None;
                    self.start(row, settles, sent);
                }
                Ok(None) => {
                    info!(shard = %seen.shard, "another worker was faster to take the lease");
                    self.look_again = Some(Instant::now() + Duration::from_millis(50));
                }
                Err(error) => {
                    warn!(shard = %seen.shard, %error, "lease cannot be taken");
                    self.control_error = Some(error.to_string());
                    self.look_again = Some(Instant::now() + Duration::from_secs(1));
                }
            }
        }
    }

    pub(super) fn start(&mut self, row: Row, settles: bool, sent: Instant) {
        let shard = row.shard.clone();
        let fence = Fence::closed();
        let closes_at = sent + self.setup.lease.fence_span();
        fence.open_until(closes_at);
        self.observer.forget(&shard);
        self.rows.insert(shard.clone(), row.clone());
        let is_fresh = self.decided.remove(&shard);
        info!(%shard, settles, "lease taken");
        self.metrics.lease_changed(telemetry::LeaseChange::Acquired);
        let orders = self.replicas.orders(&self.wanted(), &row, &self.rows, &self.lineage);
        let (built, live) = Built::new(Parts {
            row,
            leases: self.leases.clone(),
            lease: self.setup.lease,
            fence,
            settles,
            is_fresh,
            reader: self.setup.config.source.reader,
            source: self.source.clone(),
            describer: Arc::clone(&self.describer),
            channels: self.channels.clone(),
            orders,
            reports: self.reports.0.clone(),
            clock: self.setup.clock,
            metrics: self.metrics.clone(),
            drain: self.setup.drain.clone(),
            grace: self.setup.grace,
        });
        self.live.insert(shard.clone(), live);
        let span = info_span!("shard", %shard);
        self.shards.spawn(span, async move { (shard, built.run().await) });
    }

    /// A shard's task ended.
    pub(super) async fn ended(&mut self, shard: &ShardId, exit: Exit) {
        self.live.remove(shard);
        match exit {
            Exit::Ended(row, children) => {
                self.rows.insert(shard.clone(), row);
                self.lineage.merge(&children);
                self.track(children.into_iter().map(|child| child.id).collect()).await;
                self.advance().await;
            }
            Exit::Idle(row) => {
                self.rows.insert(shard.clone(), row);
                self.advance().await;
            }
            Exit::Released(row) => drop(self.rows.insert(shard.clone(), row)),
            Exit::Lost => self.look_at_rows().await,
        }
    }

    /// Reads the rows again, to see what other workers did with them.
    pub(super) async fn look_at_rows(&mut self) {
        match self.leases.load().await {
            Ok(rows) => {
                self.control_error = None;
                for row in rows.into_iter().filter(|row| row.stream == self.source.stream) {
                    if !self.live.contains_key(&row.shard) {
                        self.rows.insert(row.shard.clone(), row);
                    }
                }
                self.advance().await;
            }
            Err(error) => {
                warn!(%error, "rows of shards cannot be read");
                self.control_error = Some(error.to_string());
                self.look_again = Some(Instant::now() + Duration::from_secs(1));
            }
        }
    }

    /// Lets rows of ended shards go whose children are being read.
    pub(super) async fn expire(&mut self) {
        let now_unix_ms = self.setup.clock.unix_ms();
        let expiring: Vec<_> = self
            .rows
            .values()
            .filter(|row| !self.live.contains_key(&row.shard))
            .filter_map(|row| {
                let expires = self.replicas.expiry(row, &self.rows, &self.lineage, now_unix_ms)?;
                Some(Row { expires_unix_s: Some(expires), ..row.clone() })
            })
            .collect();
        for mut row in expiring {
            match self.leases.release(&mut row).await {
                Ok(lease::Renewal::Done) => drop(self.rows.insert(row.shard.clone(), row)),
                Ok(lease::Renewal::Lost) => {}
                Err(error) => return warn!(%error, "row of an ended shard cannot be marked"),
            }
        }
    }
}
