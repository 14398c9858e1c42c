//! What people want of the replicas, obeyed: who may be read for, and which rows a seek puts elsewhere.
//!
//! Rows whose leases are held are put elsewhere by their holders (see `shard`). All others any worker writes, whoever
//! is first; rows that say what others did are looked at often until all have followed.

use std::time::Duration;

use tokio::time::Instant;
use tracing::{info, warn};

use super::Running;
use crate::lease::{Renewal, Row};
use crate::shard::Shard;
use crate::supervisor::desired::{Wanted, Wish, is_listed};

/// Between two looks at what other workers have obeyed. Nothing is written to the replica meanwhile.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

impl Running {
    /// What is wanted of a replica; `None` as long as nobody knows.
    pub(super) fn wish(&self, replica: &str) -> Option<Wish> {
        let known = self.setup.wishes.borrow();
        known.as_ref().map(|wishes| wishes.of(&self.setup.config.name, replica))
    }

    /// What is wanted of all replicas, and who may be read for.
    pub(super) fn wanted(&self) -> Wanted {
        let names = self.replicas.names.iter();
        let wishes = names.filter_map(|name| Some((name.clone(), self.wish(name)?)));
        Wanted::new(wishes.collect(), &self.rows).without(&self.vanished)
    }

    /// People want something else.
    pub(super) async fn obey(&mut self) {
        self.permit_copies();
        self.obey_rest().await;
        self.advance();
    }

    /// Goes on with what was not obeyed at once.
    pub(super) async fn obey_rest(&mut self) {
        let wanted = self.wanted();
        self.leave_behind(&wanted).await;
        if self.discovered_unix_ms.is_none() {
            return;
        }
        let behind: Vec<_> = self.rows.values().filter(|row| wanted.is_behind(row)).cloned().collect();
        if behind.is_empty() {
            self.vanished.clear();
            if !wanted.waits() {
                return;
            }
        }
        let mut changed = false;
        for row in behind {
            if self.live.contains_key(&row.shard) {
                changed |= self.find(&row).await;
            } else if row.owner.is_none() && !self.has(&row.shard) {
                changed |= self.put_elsewhere(&row, &wanted).await;
            }
        }
        self.look_by(Instant::now() + LOOK_INTERVAL);
        if changed {
            self.advance();
        }
    }

    /// Writes a row that nobody holds as a seek wants it. Says whether that was done.
    async fn put_elsewhere(&mut self, row: &Row, wanted: &Wanted) -> bool {
        let is_listed = self.is_there(row).await;
        let Some(mut obeyed) = wanted.obeyed(row, &self.rows, is_listed) else {
            return false;
        };
        match self.leases.amend(&mut obeyed).await {
            Ok(Renewal::Done) => {
                info!(shard = %obeyed.shard, "shard that nobody reads obeys a seek");
                self.rows.insert(obeyed.shard.clone(), obeyed);
                true
            }
            // Somebody else was faster; the next look shows what it wrote.
            Ok(Renewal::Lost) => false,
            Err(error) => {
                warn!(%error, "seek cannot be obeyed yet");
                false
            }
        }
    }

    /// Finds out whether the stream still has a shard that is held here and is to obey a seek, where no listing tells.
    /// Says whether that is known since now.
    async fn find(&mut self, row: &Row) -> bool {
        if is_listed(&row.shard, &self.lineage) || self.vanished.contains(&row.shard) {
            return false;
        }
        if !self.is_there(row).await {
            self.vanished.insert(row.shard.clone());
        }
        true
    }

    /// Whether the stream still has a shard. Where a listing may be incomplete, or older than a gap, an iterator tells:
    /// neither must an ended shard be left out, nor one be tried again that is gone.
    async fn is_there(&mut self, row: &Row) -> bool {
        let is_listed = is_listed(&row.shard, &self.lineage);
        if is_listed && row.all_gaps(&self.replicas.names).is_empty() {
            return true;
        }
        let is_there = self.can_be_read(&row.shard).await;
        if is_there && !is_listed {
            let shard = Shard { id: row.shard.clone(), parent: row.parent.clone(), closed: false };
            self.lineage.merge(&[shard]);
        }
        is_there
    }

    /// Removes rows of earlier streams when every replica was sought since: what is missing of them, is given up.
    async fn leave_behind(&mut self, wanted: &Wanted) {
        let (done, left) =
            std::mem::take(&mut self.others).into_iter().partition(|row| wanted.leave_behind(row));
        self.others = left;
        let done: Vec<Row> = done;
        if done.is_empty() {
            return;
        }
        for row in done {
            match self.leases.remove(&row).await {
                Ok(_) => {
                    info!(shard = %row.shard, stream = %row.stream, "row of an earlier stream is given up")
                }
                Err(error) => {
                    warn!(%error, "row of an earlier stream is not removed yet");
                    self.others.push(row);
                }
            }
        }
        if self.others.is_empty() {
            self.stream_gap = None;
        }
    }
}
