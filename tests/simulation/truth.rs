//! What really happened, kept current from the model's history: which version of an item is where, since when, and
//! who put it there. Rules about it are judged write by write, in the order in which they landed.
//!
//! A *commit* is one change of the source, named by its place in the order of all of them. Every put carries a version
//! of its own, so a put that lands in a replica names its commit. A delete names only its key: of the deletes it may
//! be, the earliest that keeps the order is taken where order is judged, and the latest where it matters what is
//! durable, so that neither judges wrongly.

use std::collections::BTreeMap;
use std::time::Duration;

use super::copies;
use super::model::{History, Model, Node, Read, ShardRef, TableId, Write};
use super::scenario::{Focus, Scenario};
use crate::control::Control;
use crate::item::Item;
use crate::lease::Row;
use crate::shard::ShardId;

/// A change of the source, by its place in the order of them all.
pub(super) type CommitId = usize;

/// All there is to know.
pub(super) struct Truth {
    pub(super) model: Model,
    pub(super) sources: Vec<Source>,
    roles: BTreeMap<TableId, Role>,
    pub(super) names: BTreeMap<Node, String>,
    shard_ids: BTreeMap<ShardRef, ShardId>,
    /// Pages by reader's node and shard, in order.
    pub(super) pages: BTreeMap<(Node, ShardId), Vec<Page>>,
    pub(super) seen_writes: usize,
    seen_reads: usize,
    pub(super) violations: Vec<Violation>,
    /// After how long no worker reads for a paused replica; `None` when replicas are neither paused nor sought.
    pub(super) obeyed_within: Option<Duration>,
    seen_looks: usize,
    pub(super) shown: copies::Shown,
    /// What landed and can only have been copied: the replication, and the write.
    pub(super) copied: Vec<(usize, Write)>,
}

/// What a table is for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Role {
    Source(usize),
    Replica(usize, usize),
    Control,
}

/// A rule that was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Violation {
    /// `I1` to `I10`.
    pub(super) invariant: &'static str,
    pub(super) at: Duration,
    pub(super) what: String,
    /// What the trace should tell more about.
    pub(super) key: Option<String>,
    pub(super) shard: Option<ShardId>,
}

/// One replication.
#[derive(Default)]
pub(super) struct Source {
    pub(super) table: Option<TableId>,
    /// Records carry keys alone, so that an effect may be newer than the record it is made for.
    pub(super) hydrated: bool,
    pub(super) commits: Vec<Commit>,
    pub(super) by_key: BTreeMap<String, Vec<CommitId>>,
    pub(super) by_version: BTreeMap<u64, CommitId>,
    pub(super) lanes: BTreeMap<ShardId, Lane>,
    /// Where shards came from.
    pub(super) parents: BTreeMap<ShardId, Option<ShardId>>,
    pub(super) targets: Vec<Target>,
    /// Data was made unreadable on purpose: what is missing then is no fault, as long as it is said.
    pub(super) lossy: bool,
    /// The stream was replaced: what comes through the new one has no order with the old.
    pub(super) replaced: bool,
    /// It held items before its stream began, and replicas are copied to.
    pub(super) is_copied: bool,
    /// By how much a scan of it may be behind.
    pub(super) staleness: Duration,
}

/// One change of the source.
#[derive(Debug)]
pub(super) struct Commit {
    pub(super) at: Duration,
    pub(super) key: String,
    pub(super) shard: ShardId,
    pub(super) ordinal: u64,
    /// `None` for a delete.
    pub(super) version: Option<u64>,
}

/// One shard, and its row.
#[derive(Default)]
pub(super) struct Lane {
    pub(super) commits: Vec<CommitId>,
    pub(super) row: Option<Row>,
    /// Who held it, in order, and since when.
    pub(super) holders: Vec<(Node, Duration)>,
    /// What is judged of it, by replica.
    pub(super) tracks: BTreeMap<String, Track>,
    /// When its first page was served, and from where.
    pub(super) first_page: Option<(Duration, u64)>,
}

/// One shard as one replica is concerned.
#[derive(Debug, Clone)]
pub(super) struct Track {
    /// Where it began.
    pub(super) first: crate::shard::Position,
    pub(super) since: Duration,
    /// Whether it was decided with the replica's start: what was trimmed by then it never wanted.
    pub(super) starts: bool,
    /// Commits up to here were found durable when a checkpoint of its epoch passed them.
    pub(super) judged: usize,
}

/// One replica.
#[derive(Default)]
pub(super) struct Target {
    pub(super) name: String,
    pub(super) keys: BTreeMap<String, Held>,
    /// The latest holder of a shard of whom anything landed.
    pub(super) latest_holder: BTreeMap<ShardId, usize>,
    /// Payloads by the name that a parked row gives them.
    pub(super) payloads: BTreeMap<String, Option<u64>>,
    /// Whether its start is remembered: what is found later starts with its first record.
    pub(super) registered: bool,
    /// Keys by the names of their parked rows.
    pub(super) parked_keys: BTreeMap<String, String>,
    /// Since when it is to pause.
    pub(super) paused: Option<Duration>,
    /// Commits up to here are durable, as far as they are wanted.
    pub(super) durable_prefix: CommitId,
    pub(super) copy: copies::Copy,
}

/// One key in a replica.
#[derive(Debug, Default)]
pub(super) struct Held {
    /// What is there, and how it came there.
    pub(super) last: Option<Effect>,
    /// The newest that was ever there; where seeks go back, what is there.
    pub(super) durable: Option<CommitId>,
    /// What is parked.
    pub(super) parked: Option<CommitId>,
    /// The newest that was ever parked, retried or not.
    pub(super) was_parked: Option<CommitId>,
}

/// A write that landed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Effect {
    pub(super) commit: CommitId,
    /// Whether it can be no other.
    pub(super) sure: bool,
    pub(super) node: Node,
    pub(super) sent: Duration,
    pub(super) landed: Duration,
}

/// Commits that a write may stand for: the least that fits what was there, and the most. A put is sure.
#[derive(Debug, Clone, Copy)]
pub(super) struct Commits {
    pub(super) least: CommitId,
    pub(super) most: CommitId,
    pub(super) sure: bool,
}

/// A page that was served.
#[derive(Debug, Clone, Copy)]
pub(super) struct Page {
    pub(super) at: Duration,
    pub(super) from: u64,
    pub(super) to_exclusive: u64,
}

// === impl Truth ===

impl Truth {
    pub(super) fn new(
        model: &Model,
        scenario: &Scenario,
        control: TableId,
        tables: &[(TableId, Vec<TableId>)],
    ) -> Self {
        let mut roles = BTreeMap::from([(control, Role::Control)]);
        let mut sources = Vec::new();
        for (index, (plan, (source, replicas))) in scenario.replications.iter().zip(tables).enumerate() {
            roles.insert(*source, Role::Source(index));
            let targets = plan.replicas.iter().zip(replicas).enumerate().map(|(replica, (limits, table))| {
                roles.insert(*table, Role::Replica(index, replica));
                Target { name: limits.name.clone(), ..Target::default() }
            });
            let targets = targets.collect();
            let hydrated = !plan.view.has_new_image();
            sources.push(Source {
                table: Some(*source),
                hydrated,
                targets,
                is_copied: scenario.focus == Focus::Copy,
                staleness: plan.quirks.scan_staleness,
                ..Source::default()
            });
        }
        Self {
            model: model.clone(),
            sources,
            roles,
            names: BTreeMap::new(),
            shard_ids: BTreeMap::new(),
            pages: BTreeMap::new(),
            seen_writes: 0,
            seen_reads: 0,
            violations: Vec::new(),
            obeyed_within: (scenario.focus == Focus::Orders)
                .then(|| super::orders::obeyed_within(&scenario.lease)),
            seen_looks: 0,
            shown: copies::Shown::default(),
            copied: Vec::new(),
        }
    }

    /// Takes note of what happened since it last did, and judges it.
    pub(super) fn follow(&mut self) {
        let (from_write, from_read) = (self.seen_writes, self.seen_reads);
        let news =
            |history: &History| (history.writes[from_write..].to_vec(), history.reads[from_read..].to_vec());
        let (writes, reads) = self.model.history(news);
        self.seen_writes += writes.len();
        self.seen_reads += reads.len();
        for source in &mut self.sources {
            let shards = self.model.shards(source.table.expect("a source has a table"));
            source.parents.extend(shards.into_iter().map(|state| (state.id, state.parent)));
        }
        for read in reads {
            self.read(read);
        }
        self.follow_looks(&writes);
        for write in writes {
            match self.roles[&write.table] {
                Role::Source(source) if self.sources[source].is_copied => {}
                Role::Source(source) => self.committed(source, &write),
                Role::Replica(source, target) => self.landed(source, target, &write),
                Role::Control => self.row_written(&write),
            }
        }
    }

    /// Takes note of what was shown of sources, when what they held is known.
    fn follow_looks(&mut self, writes: &[Write]) {
        if !self.sources.iter().any(|source| source.is_copied) {
            return;
        }
        for write in writes {
            if let Role::Source(source) = self.roles[&write.table] {
                self.committed(source, write);
            }
        }
        let from = self.seen_looks;
        let looks = self.model.history(|history| history.looks[from..].to_vec());
        self.seen_looks += looks.len();
        for look in looks {
            if let Some(Role::Source(source)) = self.role(look.table) {
                self.looked(source, look);
            }
        }
    }

    pub(super) fn broken(
        &mut self,
        invariant: &'static str,
        at: Duration,
        what: String,
        key: Option<&str>,
        shard: Option<&ShardId>,
    ) {
        // One is enough to fail, and a few to understand it.
        if self.violations.len() < 20 {
            let (key, shard) = (key.map(str::to_owned), shard.cloned());
            self.violations.push(Violation { invariant, at, what, key, shard });
        }
    }

    /// What a table is for.
    pub(super) fn role(&self, table: TableId) -> Option<Role> {
        self.roles.get(&table).copied()
    }

    pub(super) fn shard_id(&mut self, shard: ShardRef) -> ShardId {
        let model = &self.model;
        self.shard_ids.entry(shard).or_insert_with(|| model.shard_id(shard)).clone()
    }

    fn read(&mut self, read: Read) {
        let shard = self.shard_id(read.shard);
        if let Some(lane) = self.sources.iter_mut().find_map(|source| source.lanes.get_mut(&shard)) {
            lane.first_page.get_or_insert((read.at, read.from));
        }
        let page = Page { at: read.at, from: read.from, to_exclusive: read.from + u64::from(read.records) };
        self.pages.entry((read.node, shard)).or_default().push(page);
    }

    fn committed(&mut self, source: usize, write: &Write) {
        let (shard, ordinal) = match write.record {
            Some((shard, ordinal)) => (self.shard_id(shard), ordinal),
            None if self.sources[source].is_copied && write.landed.is_zero() => (copies::initial(), 0),
            None => return,
        };
        let source = &mut self.sources[source];
        let key = write.key.to_string();
        let version = write.item.as_ref().and_then(version);
        let id = source.commits.len();
        source.by_key.entry(key.clone()).or_default().push(id);
        if let Some(version) = version {
            source.by_version.insert(version, id);
        }
        source.lanes.entry(shard.clone()).or_default().commits.push(id);
        source.commits.push(Commit { at: write.landed, key, shard, ordinal, version });
    }

    /// The commits that a write may be.
    pub(super) fn commits_of(&self, source: usize, target: usize, write: &Write) -> Option<Commits> {
        let of = &self.sources[source];
        if let Some(item) = &write.item {
            let id = *of.by_version.get(&version(item)?)?;
            return Some(Commits { least: id, most: id, sure: true });
        }
        let (key, node) = (write.key.to_string(), write.node?);
        let deletes = of.by_key.get(&key)?.iter().copied().filter(|id| {
            let commit = &of.commits[*id];
            commit.version.is_none() && commit.at <= write.sent
        });
        let deletes: Vec<_> = deletes.collect();
        let given =
            |id: &CommitId| of.hydrated || self.was_given(node, &of.commits[*id], Duration::ZERO, write.sent);
        let given: Vec<_> = deletes.iter().copied().filter(given).collect();
        let most = *given.last().or(deletes.last())?;
        let last = of.targets[target].keys.get(&key).and_then(|held| held.last);
        // One that was given since the newest there was sent may be new, or part of a replay.
        let since = |id: &CommitId| {
            last.is_some_and(|last| self.was_given(node, &of.commits[*id], last.sent, write.sent))
        };
        let newer = |id: &CommitId| last.is_none_or(|last| *id >= last.commit);
        // The same again, when the first was not answered.
        let repeated = last
            .filter(|last| last.node == node)
            .map(|last| last.commit)
            .filter(|id| of.commits[*id].version.is_none());
        let find = |fits: &dyn Fn(&CommitId) -> bool| given.iter().copied().find(|id| fits(id));
        let least = repeated.or_else(|| find(&since)).or_else(|| find(&newer)).unwrap_or(most);
        // Where items are repaired, a deletion may stand for a record that its writer was not given.
        Some(Commits { least, most, sure: given.len() == 1 && !of.is_copied })
    }

    /// Whether a node was given a commit's record within a time, both ends inclusive.
    pub(super) fn was_given(&self, node: Node, commit: &Commit, from: Duration, to: Duration) -> bool {
        let pages = self.pages.get(&(node, commit.shard.clone()));
        pages.is_some_and(|pages| {
            let holds = |page: &Page| (page.from..page.to_exclusive).contains(&commit.ordinal);
            pages.iter().any(|page| holds(page) && from <= page.at && page.at <= to)
        })
    }

    /// A control table to read rows with; nothing is in it.
    pub(super) fn control() -> Control {
        Control::new(std::sync::Arc::new(crate::dynamo::memory::Memory::default()), super::fleet::CONTROL)
    }
}

/// The version in an item.
pub(super) fn version(item: &Item) -> Option<u64> {
    version_in(item.as_bytes())
}

pub(super) fn version_in(text: &[u8]) -> Option<u64> {
    const BEFORE: &[u8] = br#""v":{"N":""#;
    let start = memchr::memmem::find(text, BEFORE)? + BEFORE.len();
    let digits = text[start..].iter().take_while(|byte| byte.is_ascii_digit());
    Some(digits.fold(0, |number, digit| number * 10 + u64::from(digit - b'0')))
}
