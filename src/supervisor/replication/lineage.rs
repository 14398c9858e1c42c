//! What is found of the source's shards, and the rows that come of it.

use std::collections::{BTreeSet, HashSet};

use futures_util::stream::{self as futures, StreamExt};
use tracing::{error, info, warn};

use super::super::desired::ABSENT_LISTINGS;
use super::super::plan::Standing;
use super::{CONTROL_CALLS, Running, copying, start};
use crate::dynamo::Table;
use crate::fault::{Fault, Stage, advice};
use crate::lease::{self, Row, State};
use crate::mutation::{self, Mutation};
use crate::shard::{Position, Shard, ShardId};

/// Full listings in a row that show a shard without its parent, before a parent that can be read is read although
/// nothing is known of its own parents. An inconsistent listing is right again by the next one or the one after.
const HIDDEN_LISTINGS: u32 = 5;

impl Running {
    /// Some shards were listed. Their rows are made when their parents are known; a listing may show a child before
    /// its parent, whose page is still to come.
    pub(super) async fn listed(&mut self, shards: &[Shard]) {
        self.lineage.merge(shards);
        if self.discovered_unix_ms.is_some() {
            let listed = shards.iter().map(|shard| shard.id.clone());
            let ready: Vec<_> = listed.filter(|shard| self.hidden_ancestor(shard).is_none()).collect();
            self.track(ready).await;
            self.advance();
        }
    }

    /// All shards were listed.
    pub(super) async fn complete(&mut self, sync: crate::stream::Sync, table: &Table) {
        let absent = self.lineage.complete(sync);
        self.check_stream(table);
        if !self.know_started().await {
            return;
        }
        self.find_hidden_parents().await;
        let listed = self.lineage.parents_first().into_iter();
        let all: Vec<_> = listed
            .map(|shard| shard.id.clone())
            .filter(|shard| {
                let hidden = self.hidden_ancestor(shard);
                hidden.is_none_or(|hidden| !self.hidden.contains_key(&hidden))
            })
            .collect();
        if !self.track(all).await {
            return;
        }
        for shard in absent {
            self.absent(&shard).await;
        }
        // A new replica's place in a shard is decided when all shards are known.
        let all_known = self.hidden.is_empty() || self.replicas.new.is_empty();
        if all_known && self.register().await {
            self.error = None;
            self.discovered_unix_ms = Some(self.setup.clock.unix_ms());
        }
        self.advance();
        self.expire().await;
    }

    pub(super) fn look_failed(&mut self, error: &crate::dynamo::Error) {
        let advice = advice(error.fault, Stage::Discover);
        warn!(%error, advice, "shards cannot be listed");
        self.error = Some(format!("{error}: {advice}"));
    }

    /// A stream that is not the table's newest any more ends, and what is written to the new one is not read.
    pub(super) fn check_stream(&mut self, table: &Table) {
        let current = table.stream.as_ref().filter(|stream| stream.enabled).map(|stream| &stream.arn);
        self.is_outdated = current != Some(&self.source.stream);
        if current == Some(&self.source.stream)
            || self.stream_gap.is_some()
            || mutation::is_on(Mutation::NewStreamIsNoGap)
        {
            return;
        }
        let gap = start::stream_gap(&self.source.stream, current, self.setup.clock.unix_ms());
        error!(reason = gap.reason, advice = gap.advice, "stream was replaced");
        self.metrics.gap_found();
        self.stream_gap = Some(gap);
    }

    /// A shard whose parent is neither listed nor tracked: the parent was trimmed, or the listing is incomplete. An
    /// iterator tells, because a child must never start before a parent that can still be read (I3). Such a parent
    /// is waited for, since only its own line in a listing tells what must be read before it; one that no listing
    /// shows any more is read as it is.
    pub(super) async fn find_hidden_parents(&mut self) {
        let untracked =
            self.lineage.parents_first().into_iter().filter(|shard| !self.rows.contains_key(&shard.id));
        let parents: BTreeSet<_> = untracked.filter_map(|shard| self.hidden_ancestor(&shard.id)).collect();
        let before = std::mem::take(&mut self.hidden);
        for parent in parents {
            if !self.can_be_read(&parent).await {
                continue;
            }
            let listings = before.get(&parent).map_or(1, |listings| listings + 1);
            if listings < HIDDEN_LISTINGS {
                info!(shard = %parent, "parent is missing from the listing and can be read: its children wait");
                self.hidden.insert(parent, listings);
            } else {
                info!(shard = %parent, "parent is no longer listed and can be read");
                self.lineage.merge(&[Shard { id: parent, parent: None, closed: true }]);
            }
        }
    }

    /// The nearest ancestor of a shard that is neither listed nor tracked, unless a tracked one is nearer.
    pub(super) fn hidden_ancestor(&self, shard: &ShardId) -> Option<ShardId> {
        let mut at = self.lineage.get(shard)?.parent.clone()?;
        while !self.rows.contains_key(&at) {
            match self.lineage.get(&at) {
                None => return Some(at),
                Some(listed) => at = listed.parent.clone()?,
            }
        }
        None
    }

    pub(super) async fn can_be_read(&self, shard: &ShardId) -> bool {
        let iterator = self.source.streams.iterator(&self.source.stream, shard, &Position::TrimHorizon).await;
        !matches!(iterator, Err(error) if matches!(error.fault, Fault::Missing | Fault::Trimmed))
    }

    /// Makes rows for shards that have none, parents before their children: whoever sees the row of a child sees that
    /// of its parent. Says whether all have one now.
    pub(super) async fn track(&mut self, shards: Vec<ShardId>) -> bool {
        let (now_unix_ms, wanted) = (self.setup.clock.unix_ms(), self.wanted());
        let mut missing = self.with_ancestors(shards);
        while !missing.is_empty() {
            let open: HashSet<_> = missing.iter().cloned().collect();
            let listed = missing.into_iter().filter_map(|shard| self.lineage.get(&shard));
            let waits = |shard: &&Shard| shard.parent.as_ref().is_some_and(|parent| open.contains(parent));
            let (later, next): (Vec<_>, Vec<_>) = listed.partition(waits);
            // A child starts where the row of its parent says, so that one must be there first.
            let new_row = |shard: &Shard| {
                let row = self.replicas.new_row(shard, &self.source.stream, &self.rows, now_unix_ms);
                wanted.obeyed(&row, &self.rows, true).unwrap_or(row)
            };
            let rows = next.into_iter().map(new_row).collect();
            missing = later.into_iter().map(|shard| shard.id.clone()).collect();
            if !self.create(rows).await {
                return false;
            }
        }
        true
    }

    /// Those of `shards` that have no row, with all that they come from and that have none either: one of those was listed
    /// earlier, and its row could not be made.
    fn with_ancestors(&self, shards: Vec<ShardId>) -> Vec<ShardId> {
        let mut all = BTreeSet::new();
        for shard in shards {
            let mut at = Some(shard);
            while let Some(shard) = at.filter(|shard| !self.rows.contains_key(shard) && !all.contains(shard))
            {
                at = self.lineage.get(&shard).and_then(|listed| listed.parent.clone());
                all.insert(shard);
            }
        }
        all.into_iter().collect()
    }

    /// Writes new rows, and keeps those that were there already. Says whether all are there now.
    pub(super) async fn create(&mut self, rows: Vec<Row>) -> bool {
        let leases = &self.leases;
        let made: Vec<_> =
            futures::iter(rows).map(|row| leases.create(row)).buffer_unordered(CONTROL_CALLS).collect().await;
        let mut all = true;
        for row in made {
            match row {
                Ok((row, _)) if row.stream != self.source.stream => {
                    all = false;
                    let (shard, stream) = (&row.shard, &row.stream);
                    let text = format!(
                        "shard {shard} has a row of another stream, {stream}: `dynamirror seek` all replicas to give it up"
                    );
                    error!(%shard, %stream, "a row of another stream is in the way");
                    self.error = Some(text);
                }
                Ok((row, created)) => {
                    if created {
                        self.decided.insert(row.shard.clone());
                    }
                    self.rows.insert(row.shard.clone(), row);
                }
                Err(error) => {
                    all = false;
                    warn!(%error, "row of a shard cannot be made");
                    self.error = Some(error.to_string());
                }
            }
        }
        all
    }

    /// Remembers that the replicas were started, once every shard has a row of theirs. Says whether all are remembered.
    pub(super) async fn register(&mut self) -> bool {
        for replica in self.replicas.new.clone() {
            let remembered = async {
                copying::ask(&self.setup, &replica).await?;
                start::register(&self.setup, &replica).await
            };
            match remembered.await {
                Ok(()) => self.registered(&replica),
                Err(error) => {
                    warn!(%error, replica, "new replica cannot be remembered");
                    self.error = Some(error.to_string());
                    // It may be remembered all the same, and is owed all shards since.
                    self.is_start_unsure = true;
                }
            }
        }
        self.replicas.new.is_empty()
    }

    /// Learns which replicas were remembered although that failed, before the start of any is decided for more shards.
    /// Says whether it is known now.
    async fn know_started(&mut self) -> bool {
        if !self.is_start_unsure {
            return true;
        }
        match start::new_replicas(&self.setup).await {
            Ok(new) => {
                for replica in self.replicas.new.clone().difference(&new) {
                    self.registered(replica);
                }
                self.is_start_unsure = false;
                true
            }
            Err(error) => {
                warn!(%error, "which replicas were started is not known");
                self.error = Some(error.to_string());
                false
            }
        }
    }

    /// A replica is started from now on: whatever shard is found later, it gets all of it. That must not wait for the
    /// other replicas, whose rows may not be written for a while.
    fn registered(&mut self, replica: &str) {
        // Rows that are not held get the new replicas' checkpoints when they are taken.
        let now_unix_ms = self.setup.clock.unix_ms();
        for row in self.rows.values_mut() {
            let closed = self.lineage.get(&row.shard).is_none_or(|shard| shard.closed);
            if self.replicas.complete(row, closed, now_unix_ms) {
                self.decided.insert(row.shard.clone());
            }
        }
        self.replicas.new.remove(replica);
    }

    /// A tracked shard is missing from a full listing.
    pub(super) async fn absent(&mut self, shard: &ShardId) {
        let Some(row) = self.rows.get(shard) else {
            return self.lineage.forget(shard);
        };
        if self.replicas.standing(row, &self.rows, &self.lineage) == Standing::Done {
            self.lineage.forget(shard);
            if row.expires_unix_s.is_some() {
                self.rows.remove(shard);
            }
            return;
        }
        let is_running = self.live.contains_key(shard);
        let is_gap = row.is_gap();
        let is_elsewhere = row.owner.as_ref().is_some_and(|owner| *owner != self.setup.worker);
        if is_running
            || is_gap
            || is_elsewhere
            || self.lineage.absences(shard) < ABSENT_LISTINGS
            || self.can_be_read(shard).await
        {
            return;
        }
        let reason = "it vanished from the stream before it was read to its end".to_owned();
        error!(%shard, reason, "shard cannot be read: replicas miss changes and must be copied anew");
        self.metrics.gap_found();
        let mut row = self.rows[shard].clone();
        row.state = State::Gap { reason, found_unix_ms: self.setup.clock.unix_ms() };
        match self.leases.amend(&mut row).await {
            Ok(lease::Renewal::Done) => drop(self.rows.insert(shard.clone(), row)),
            Ok(lease::Renewal::Lost) => {}
            Err(error) => warn!(%error, "gap cannot be written"),
        }
    }
}
