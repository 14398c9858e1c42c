//! The invariants, judged on what landed.
//!
//! | | what is judged here |
//! |---|---|
//! | I1 | at every look the ledger of a worker accounts for no more than it read; when all is quiet, for exactly that |
//! | I2 | a row's checkpoint moves forward only, unless a newer epoch moves it, is written by who holds the lease and on top of the row that was seen, and whatever it passes is in the replica, or parked, when the row lands |
//! | I3 | per key and replica: a change that is older than what is there lands only as part of a replay, that is when its writer was given its record again after the newer one had been sent; no two writes of a key by one worker are under way together; a shard's first change lands when all its parent's are durable; a child starts at its first record |
//! | I4 | when all is quiet, a replica holds what the source holds; a key that it refuses is parked with its newest change |
//! | I5 | nothing is written without a lease, and nothing of a holder lands after something of its successor, per shard and replica |
//! | I6 | there is a gap exactly when data was made unreadable |
//! | I7 | what a worker holds in memory is within its limit |
//! | I9 | a shard has at most two readers, of whichever workers, and one where nothing goes wrong |
//! | pause | what lands in a paused replica was read before every worker had to know of the pause |
//! | I10 | whatever a worker says is applied is in the replica |

use std::time::Duration;

use super::model::Write;
use super::truth::{Commit, CommitId, Commits, Effect, Lane, Page, Source, Track, Truth, version_in};
use crate::checkpoint::Checkpoint;
use crate::copy::State;
use crate::item::{Item, Value};
use crate::lease::{self, Row};
use crate::shard::{Position, ShardId};
use crate::stream::PAGE_RESERVE_BYTES;
use crate::supervisor::status::{self, Status};

/// How long it takes until what a worker knows is shown.
const SHOWN_WITHIN: Duration = Duration::from_secs(1);

/// How far a worker's clock may be wrong, and what it says with it.
const SKEW_MS: i64 = 3_000;

/// A start at the latest record is asked for as such within five seconds, and a slow call lands an attempt later; what was
/// written before may be left out.
const LATEST_WITHIN: Duration = Duration::from_secs(5 + 3);

/// How long a stream keeps its records.
const RETENTION: Duration = Duration::from_hours(24);

impl Truth {
    /// A change landed in a replica.
    pub(super) fn landed(&mut self, source: usize, target: usize, write: &Write) {
        let Some(node) = write.node else { return };
        let key = write.key.to_string();
        let Some(Commits { least, most, sure }) = self.commits_of(source, target, write) else {
            let what = format!("{key}: what landed in a replica was never written to the source");
            return self.broken("I4", write.landed, what, Some(&key), None);
        };
        let effect = Effect { commit: least, sure, node, sent: write.sent, landed: write.landed };
        let retried = self.sources[source].targets[target]
            .keys
            .get(&key)
            .is_some_and(|held| held.was_parked == Some(least));
        if sure && !retried && self.must_be_copied(source, effect) {
            self.copied.push((source, write.clone()));
        }
        let of = &self.sources[source];
        if !of.hydrated && !of.replaced {
            self.judge_order(source, target, &key, effect, retried);
            if sure && !retried && !self.may_be_copied(source, effect) {
                self.judge_holder(source, target, effect);
                self.judge_parent(source, target, effect);
            }
        }
        if sure {
            self.judge_pause(source, target, effect);
        }
        let is_sought = self.obeyed_within.is_some();
        let held = self.sources[source].targets[target].keys.entry(key).or_default();
        held.last = Some(effect);
        held.durable = if is_sought { Some(most) } else { held.durable.max(Some(most)) };
    }

    /// What lands in a paused replica was read before everybody had to know of it.
    fn judge_pause(&mut self, source: usize, target: usize, effect: Effect) {
        let of = &self.sources[source];
        let Some((since, within)) = of.targets[target].paused.zip(self.obeyed_within) else { return };
        let commit = &of.commits[effect.commit];
        if of.hydrated || self.was_given(effect.node, commit, Duration::ZERO, since + within) {
            return;
        }
        let (key, shard) = (commit.key.clone(), commit.shard.clone());
        let what = format!(
            "{key}: {} read commit {} for {}, which is paused since {since:?}",
            self.name(effect.node),
            effect.commit,
            of.targets[target].name
        );
        self.broken("pause", effect.landed, what, Some(&key), Some(&shard));
    }

    fn judge_order(&mut self, source: usize, target: usize, key: &str, effect: Effect, retried: bool) {
        let Some(last) = self.sources[source].targets[target].keys.get(key).and_then(|held| held.last) else {
            return;
        };
        if last.node == effect.node && effect.sent < last.landed {
            let what = format!(
                "{key}: two writes of {} were under way: one sent {:?} landed {:?}, the other {:?} to {:?}",
                self.name(effect.node),
                last.sent,
                last.landed,
                effect.sent,
                effect.landed
            );
            self.broken("I3", effect.landed, what, Some(key), None);
        }
        if effect.commit >= last.commit || !effect.sure || !last.sure {
            return;
        }
        let commit = &self.sources[source].commits[effect.commit];
        let shard = commit.shard.clone();
        // What the stream brings heals a copied state that is newer, or one that a later page showed older.
        let again =
            self.was_given(effect.node, commit, last.sent, effect.sent) || self.may_be_copied(source, last);
        if !again {
            let what = format!(
                "{key}: commit {} of {} landed over the newer {} of {}{}",
                effect.commit,
                self.name(effect.node),
                last.commit,
                self.name(last.node),
                if retried { ", tried again" } else { "" },
            );
            self.broken("I3", effect.landed, what, Some(key), Some(&shard));
        }
    }

    /// Whose lease a change was written under, and whether a successor has written already.
    fn judge_holder(&mut self, source: usize, target: usize, effect: Effect) {
        let of = &self.sources[source];
        let shard = of.commits[effect.commit].shard.clone();
        let key = of.commits[effect.commit].key.clone();
        let holders = of.lanes.get(&shard).map_or(&[][..], |lane| &lane.holders);
        let held = holders.iter().rposition(|(node, since)| *node == effect.node && *since <= effect.sent);
        let Some(index) = held else {
            let what = format!("{key}: {} wrote without a lease of shard {shard}", self.name(effect.node));
            return self.broken("I5", effect.landed, what, Some(&key), Some(&shard));
        };
        let latest = self.sources[source].targets[target].latest_holder.entry(shard.clone()).or_insert(index);
        if index < *latest {
            let what = format!(
                "{key}: a write of {} landed after the first of its successor in shard {shard}",
                self.name(effect.node)
            );
            return self.broken("I5", effect.landed, what, Some(&key), Some(&shard));
        }
        *latest = index;
    }

    /// A shard's changes come after all of its parent's.
    fn judge_parent(&mut self, source: usize, target: usize, effect: Effect) {
        let of = &self.sources[source];
        if of.lossy {
            return;
        }
        let commit = &of.commits[effect.commit];
        let Some(lane) = of.lanes.get(&commit.shard) else { return };
        let Some(parent) = lane.row.as_ref().and_then(|row| row.parent.as_ref()) else { return };
        let Some(before) = of.lanes.get(parent) else { return };
        let missing = before.commits.iter().find(|id| !of.is_there(target, before, **id));
        if let Some(missing) = missing {
            let what = format!(
                "{}: a change of shard {} landed before commit {missing} of its parent {parent}",
                commit.key, commit.shard
            );
            let (key, shard) = (commit.key.clone(), commit.shard.clone());
            self.broken("I3", effect.landed, what, Some(&key), Some(&shard));
        }
    }

    /// A row of the control table was written.
    pub(super) fn row_written(&mut self, write: &Write) {
        let Some(row) = &write.row else { return self.row_deleted(write) };
        let text = |name: &str| row.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (partition, sort) = (text("pk"), text("sk"));
        if partition == "#desired" {
            let is_paused = row.contains_key("paused_ms");
            return self.wished(&sort, is_paused.then_some(write.landed));
        }
        let mut parts = partition.split('/');
        let replication = parts.next().unwrap_or_default().to_owned();
        let Some(source) = self.source_named(&replication) else { return };
        match (parts.next(), parts.next()) {
            (None, _) if sort.starts_with("replica/") => {
                if let Some(target) = self.target_named(source, sort.trim_start_matches("replica/")) {
                    self.sources[source].targets[target].registered = true;
                }
            }
            (None, _) if sort.starts_with(Row::PREFIX) => match Row::read(&Self::control(), row) {
                Ok(row) => self.shard_row(source, row, write),
                Err(error) => self.broken("I2", write.landed, format!("{error}"), None, None),
            },
            (Some("copy"), Some(replica)) => {
                if let Some(target) = self.target_named(source, replica) {
                    self.copy_row(source, target, &sort, write);
                }
            }
            (Some("payload"), Some(replica)) => {
                let Some(Value::Binary(data)) = row.get("data") else { return };
                let mut text = Vec::new();
                let decoded =
                    std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&data[..]), &mut text);
                let version = decoded.ok().and_then(|_| version_in(&text));
                let name = sort.rsplit_once('/').map_or("", |(name, _)| name).to_owned();
                if let Some(target) = self.target_named(source, replica) {
                    self.sources[source].targets[target].payloads.insert(name, version);
                }
            }
            (Some("parked"), Some(replica)) => {
                let Some(target) = self.target_named(source, replica) else { return };
                let key = text("key");
                let name = format!("{sort}/{}", text("version"));
                let of = &mut self.sources[source];
                let version = of.targets[target].payloads.get(&name).copied().flatten();
                let commit = version.and_then(|version| of.commit_of(version));
                of.targets[target].parked_keys.insert(sort, key.clone());
                let held = of.targets[target].keys.entry(key).or_default();
                held.parked = commit;
                held.was_parked = held.was_parked.max(commit);
            }
            _ => {}
        }
    }

    /// Somebody wants something of a replica.
    fn wished(&mut self, sort: &str, paused: Option<Duration>) {
        let Some((replication, replica)) = sort.split_once('/') else { return };
        let Some(source) = self.source_named(replication) else { return };
        let Some(target) = self.target_named(source, replica) else { return };
        let of = &mut self.sources[source].targets[target];
        of.paused = paused.map(|since| of.paused.unwrap_or(since));
    }

    /// A parked key was retried, or a newer change of it applied.
    fn row_deleted(&mut self, write: &Write) {
        let text = bytes::Bytes::copy_from_slice(write.key.as_bytes());
        let Ok(key) = Item::from_json(text).attributes() else { return };
        let part = |name: &str| key.get(name).and_then(Value::as_str).unwrap_or_default();
        let mut parts = part("pk").split('/');
        let (Some(replication), Some("parked"), Some(replica)) = (parts.next(), parts.next(), parts.next())
        else {
            return;
        };
        let Some(source) = self.source_named(replication) else { return };
        let Some(target) = self.target_named(source, replica) else { return };
        let target = &mut self.sources[source].targets[target];
        if let Some(held) = target.parked_keys.get(part("sk")).and_then(|key| target.keys.get_mut(key)) {
            held.parked = None;
        }
    }

    fn shard_row(&mut self, source: usize, row: Row, write: &Write) {
        let Some(node) = write.node else { return };
        let worker = self.name(node);
        let (at, shard) = (write.landed, row.shard.clone());
        let lane = self.sources[source].lanes.entry(shard.clone()).or_default();
        let before = lane.row.replace(row.clone());
        let was = before.as_ref().map_or(-1, |before| before.counter);
        if before.is_some() && row.counter != was + 1 {
            let what = format!("{worker} wrote counter {} over {was}", row.counter);
            self.broken("I2", at, what, None, Some(&shard));
        }
        let owned_by_other = before
            .as_ref()
            .and_then(|before| before.owner.as_ref())
            .is_some_and(|owner| lease::worker(owner) != worker);
        if owned_by_other && row.owner.as_deref().map(lease::worker) != Some(worker.as_str()) {
            let what = format!("{worker} wrote a row that it does not hold");
            self.broken("I2", at, what, None, Some(&shard));
        }
        let lane = self.sources[source].lanes.get_mut(&shard).expect("it was there just now");
        if row.owner.as_deref().map(lease::worker) == Some(worker.as_str())
            && (lane.holders.last().is_none_or(|(last, _)| *last != node)
                || before.as_ref().is_none_or(|before| before.owner.is_none()))
        {
            lane.holders.push((node, at));
        }
        for (replica, checkpoint) in &row.checkpoints {
            let earlier = before.as_ref().and_then(|before| before.checkpoints.get(replica));
            let place = |checkpoint: &Checkpoint| (checkpoint.epoch, checkpoint.position);
            if let Some(earlier) = earlier.filter(|earlier| place(checkpoint) < place(earlier)) {
                let what = format!(
                    "{worker} moved the checkpoint of {replica} from {:?} back to {:?}",
                    place(earlier),
                    place(checkpoint)
                );
                self.broken("I2", at, what, None, Some(&shard));
            }
            if earlier.is_some_and(|earlier| earlier.epoch < checkpoint.epoch) {
                self.sought(source, replica, &shard, checkpoint.position);
            }
            self.judge_checkpoint(source, replica, &row, checkpoint.position, at, &worker);
        }
    }

    /// A seek moved a checkpoint: what lies after it is judged again.
    fn sought(&mut self, source: usize, replica: &str, shard: &ShardId, position: Position) {
        let passed = match position {
            Position::After(_) | Position::End => self.passed(source, shard, position),
            _ => 0,
        };
        let lane = self.sources[source].lanes.get_mut(shard).expect("its row was just written");
        if let Some(track) = lane.tracks.get_mut(replica) {
            track.judged = track.judged.min(passed);
        }
    }

    fn judge_checkpoint(
        &mut self,
        source: usize,
        replica: &str,
        row: &Row,
        position: Position,
        at: Duration,
        worker: &str,
    ) {
        let Some(target) = self.target_named(source, replica) else { return };
        let shard = &row.shard;
        let of = &mut self.sources[source];
        let child = row.parent.as_ref().is_some_and(|parent| {
            of.lanes.get(parent).is_some_and(|parent| {
                parent.row.as_ref().is_some_and(|row| row.checkpoints.contains_key(replica))
            })
        });
        let lane = of.lanes.get_mut(shard).expect("its row was just written");
        if !lane.tracks.contains_key(replica) {
            let starts = !of.targets[target].registered;
            lane.tracks.insert(replica.to_owned(), Track { first: position, since: at, starts, judged: 0 });

            let decided = of.targets[target].registered || {
                let parent = row.parent.as_ref().and_then(|parent| of.lanes.get(parent));
                let first = parent.and_then(|parent| parent.tracks.get(replica)).map(|track| track.first);
                first != Some(Position::End)
            };
            if child && decided && position != Position::TrimHorizon {
                let what = format!("{replica} starts in a child at {position:?}");
                return self.broken("I3", at, what, None, Some(shard));
            }
        }
        let lane = &of.lanes[shard];
        let judged = lane.tracks[replica].judged;
        if !matches!(position, Position::After(_) | Position::End) || lane.tracks[replica].first == position {
            return;
        }
        let passed = self.passed(source, shard, position);
        let of = &self.sources[source];
        let lane = &of.lanes[shard];
        let missing =
            lane.commits[judged.min(passed)..passed].iter().find(|id| !of.is_there(target, lane, **id));
        if let Some(missing) = missing {
            let commit = &of.commits[*missing];
            let what = format!(
                "{worker} checkpointed {replica} at {position:?}, past commit {missing} (record {}) which is not there",
                commit.ordinal
            );
            let key = commit.key.clone();
            self.broken("I2", at, what, Some(&key), Some(shard));
        }
        let lane = self.sources[source].lanes.get_mut(shard).expect("it was there just now");
        lane.tracks.get_mut(replica).expect("it was there just now").judged = passed.max(judged);
    }

    /// How many records of a shard a position has passed.
    fn passed(&mut self, source: usize, shard: &ShardId, position: Position) -> usize {
        let of = &self.sources[source];
        let all = of.lanes[shard].commits.len();
        let Position::After(sequence) = position else { return all };
        let table = of.table.expect("a source has a table");
        let shards = self.model.shards(table);
        let known = shards.iter().find(|state| state.id == *shard);
        // Judged as numbers whatever the program makes of them.
        let number = |text: &str| text.parse::<u128>().unwrap_or(u128::MAX);
        let passed = number(sequence.as_str());
        let count = |issued: &[crate::shard::SequenceNumber]| {
            issued.iter().take_while(|issued| number(issued.as_str()) <= passed).count()
        };
        known.map_or(0, |state| count(&state.issued)).min(all)
    }

    /// What a worker shows.
    pub(super) fn judge_status(&mut self, status: &Status, at: Duration, start_unix_ms: i64) {
        for (source, replication) in status.replications.iter().enumerate() {
            for (target, replica) in replication.replicas.iter().enumerate() {
                let name = format!("{} {}/{}", status.worker, replication.name, replica.name);
                let known = accounted(replica) + replica.pending_changes;
                if known > replica.ledger.read {
                    let what = format!("{name} accounts for more than it read: {:?}", replica.ledger);
                    self.broken("I1", at, what, None, None);
                }
                let limit = replica.buffer_limit_bytes.max(PAGE_RESERVE_BYTES as u64);
                if replica.buffer_bytes > limit {
                    let what = format!("{name} holds {} of {limit} bytes", replica.buffer_bytes);
                    self.broken("I7", at, what, None, None);
                }
                // Before the first listing it does not know what there is, says so, and is not ready.
                if replication.discovered_unix_ms.is_some() {
                    self.judge_lag(source, target, &name, replica, at, start_unix_ms);
                }
            }
        }
    }

    fn judge_lag(
        &mut self,
        source: usize,
        target: usize,
        name: &str,
        replica: &status::Replica,
        at: Duration,
        start_unix_ms: i64,
    ) {
        let Some(through_unix_ms) = replica.applied_through_unix_ms else { return };
        if self.sources[source].replaced {
            return;
        }
        self.move_prefix(source, target, at);
        let of = &self.sources[source];
        let prefix = of.targets[target].durable_prefix;
        let Some(first) = of.commits.get(prefix) else { return };
        let made_unix_ms = start_unix_ms + first.at.as_millis() as i64;
        if made_unix_ms <= through_unix_ms - SKEW_MS && !self.looked_quiet(of, first) {
            let (key, shard) = (first.key.clone(), first.shard.clone());
            let what = format!(
                "{name} says that all is applied that was made until {} ms, but commit {prefix} of {} ms is not",
                through_unix_ms - start_unix_ms,
                first.at.as_millis()
            );
            self.broken("I10", at, what, Some(&key), Some(&shard));
        }
    }

    /// Whether a shard, or one that it came from, gave a worker so many empty pages over a record that it had to take it for
    /// quiet. Which of its answers came is not known here.
    fn looked_quiet(&self, of: &Source, commit: &Commit) -> bool {
        const POLLS: usize = 3;
        let mut line = vec![(commit.shard.clone(), commit.ordinal)];
        while let Some(Some(parent)) = of.parents.get(&line[line.len() - 1].0) {
            let last = of.lanes.get(parent).map_or(0, |lane| lane.commits.len() as u64).saturating_sub(1);
            line.push((parent.clone(), last));
        }
        self.pages.iter().any(|((_, shard), pages)| {
            line.iter().filter(|(of, _)| of == shard).any(|(_, ordinal)| {
                let empty = |page: &&Page| page.from == page.to_exclusive && page.from <= *ordinal;
                pages.iter().filter(empty).count() >= POLLS
            })
        })
    }

    fn move_prefix(&mut self, source: usize, target: usize, at: Duration) {
        let of = &self.sources[source];
        let mut prefix = of.targets[target].durable_prefix;
        while let Some(commit) = of.commits.get(prefix)
            && (commit.shard == super::copies::initial()
                || of.lanes.get(&commit.shard).is_some_and(|lane| {
                    // What is shown may be a little older than the row.
                    let known = lane.tracks.values().any(|track| track.since + SHOWN_WITHIN < at);
                    of.is_there(target, lane, prefix) || (!known && of.may_be_unknown(&commit.shard))
                }))
        {
            prefix += 1;
        }
        self.sources[source].targets[target].durable_prefix = prefix;
    }

    /// When all is quiet: the ledger to the last change.
    pub(super) fn judge_ledger(&mut self, status: &Status, at: Duration) {
        for replication in &status.replications {
            for replica in &replication.replicas {
                let known = accounted(replica) + replica.pending_changes;
                if known != replica.ledger.read {
                    let what = format!(
                        "{} {}/{} read {} and accounts for {known}: {:?}, {} pending",
                        status.worker,
                        replication.name,
                        replica.name,
                        replica.ledger.read,
                        replica.ledger,
                        replica.pending_changes
                    );
                    self.broken("I1", at, what, None, None);
                }
            }
        }
    }

    /// Keys in which a replica differs from the source, each with what it should hold.
    pub(super) fn differences(&self) -> Vec<(usize, usize, String, CommitId)> {
        let mut found = Vec::new();
        for (index, source) in self.sources.iter().enumerate() {
            if source.lossy || source.replaced {
                continue;
            }
            for (key, commits) in &source.by_key {
                let newest = *commits.last().expect("a key has a commit");
                let lane = &source.lanes[&source.commits[newest].shard];
                for (target, of) in source.targets.iter().enumerate() {
                    // What a copy brought is not left out by a start.
                    let is_copied = of.copy.state == Some(State::Done);
                    let is_initial = source.commits[newest].shard == super::copies::initial();
                    if !is_copied && (is_initial || !source.is_wanted(target, lane, newest)) {
                        continue;
                    }
                    let held = of.keys.get(key);
                    let there = held.and_then(|held| held.last).map(|last| last.commit);
                    let parked = held.and_then(|held| held.parked);
                    let same = match there {
                        Some(there) => source.same(there, newest),
                        // A key that was removed before its stream was read may never have been there.
                        None => is_copied && source.commits[newest].version.is_none(),
                    };
                    if !same && parked != Some(newest) {
                        found.push((index, target, key.clone(), newest));
                    }
                }
            }
        }
        found
    }

    pub(super) fn name(&self, node: super::model::Node) -> String {
        self.names.get(&node).cloned().unwrap_or_else(|| format!("{node:?}"))
    }

    pub(super) fn source_named(&self, name: &str) -> Option<usize> {
        (0..self.sources.len()).find(|index| format!("r{index}") == name)
    }

    fn target_named(&self, source: usize, name: &str) -> Option<usize> {
        self.sources[source].targets.iter().position(|target| target.name == name)
    }
}

/// Changes whose end is known.
fn accounted(replica: &status::Replica) -> u64 {
    let ledger = &replica.ledger;
    ledger.applied + ledger.superseded + ledger.coalesced + ledger.filtered + ledger.parked + ledger.abandoned
}

// === impl Source ===

impl Source {
    pub(super) fn commit_of(&self, version: u64) -> Option<CommitId> {
        self.by_version.get(&version).copied()
    }

    /// Whether no listing may have shown a shard: its siblings are known, or it has no parent that is, so that nothing tells
    /// that it is missing.
    fn may_be_unknown(&self, shard: &ShardId) -> bool {
        let Some(Some(parent)) = self.parents.get(shard) else { return true };
        let tracked = |shard: &ShardId| self.lanes.get(shard).is_some_and(|lane| lane.row.is_some());
        !tracked(parent)
            || self
                .parents
                .iter()
                .any(|(other, of)| of.as_ref() == Some(parent) && other != shard && tracked(other))
    }

    /// Whether two commits leave the same item.
    pub(super) fn same(&self, left: CommitId, right: CommitId) -> bool {
        left == right || (self.commits[left].version.is_none() && self.commits[right].version.is_none())
    }

    /// Whether a commit, or a newer one of its key, is durable in a replica, or need not be.
    pub(super) fn is_there(&self, target: usize, lane: &Lane, id: CommitId) -> bool {
        let commit = &self.commits[id];
        let held = self.targets[target].keys.get(&commit.key);
        held.is_some_and(|held| held.durable >= Some(id) || held.parked >= Some(id))
            || !self.is_wanted(target, lane, id)
    }

    /// Whether a replica is to have a commit: a start by time leaves out what was made before.
    fn is_wanted(&self, target: usize, lane: &Lane, id: CommitId) -> bool {
        let Some(track) = lane.tracks.get(&self.targets[target].name) else { return true };
        let commit = &self.commits[id];
        match track.first {
            Position::TrimHorizon => !track.starts || commit.at + RETENTION > track.since,
            Position::After(_) => true,
            Position::End => commit.at > track.since,
            Position::Latest { .. } | Position::At { .. } => {
                // Of several replicas, each may have begun with a page of its own.
                let page = lane.first_page.filter(|_| lane.tracks.len() == 1);
                commit.at > track.since + LATEST_WITHIN
                    || (commit.at > track.since && page.is_some_and(|(_, from)| commit.ordinal >= from))
            }
        }
    }
}
