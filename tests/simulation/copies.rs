//! First copies and repairs while everything else goes wrong: the source held items before its stream began.
//!
//! What was there before is a commit of every key, of a shard that there never was ([`initial`]): an item, or that there is
//! none. So all that is judged of changes is judged of it. **What must hold**, besides all else: a replica whose copy is
//! done holds what the source held when the copy began, or newer (I4), and when all is quiet all that the source holds; what
//! a segment's row passes is durable, or the stream may bring it (I2); what can only have been read from the table is written by who was alone then, and nobody
//! else's write lands between (sole).
//!
//! Whether a put was copied or came by the stream cannot be told from it when its writer was given both. It is taken for
//! what makes it right; what comes of a wrong one is seen when all is quiet.

use std::collections::BTreeMap;
use std::time::Duration;

use fastrand::Rng;

use super::model::{Look, Node, Write};
use super::scenario::Replication;
use super::truth::{Commit, CommitId, Effect, Source, Truth, version};
use crate::clock::Clock;
use crate::control;
use crate::copy::{Request, Run, State, Store};
use crate::item::Value;
use crate::key::Key;
use crate::lane::Window;
use crate::shard::ShardId;
use crate::supervisor::{FirstCopy, Start};

/// Between two attempts of a person.
const AGAIN: Duration = Duration::from_millis(700);

/// What was shown to workers, by the source's number and the node.
#[derive(Default)]
pub(super) struct Shown {
    /// When a commit was first shown.
    items: BTreeMap<(usize, Node, CommitId), Duration>,
    /// Pages of scans.
    pages: BTreeMap<(usize, Node), Vec<Look>>,
}

/// The copy of one replica, by its rows.
#[derive(Debug, Default)]
pub(super) struct Copy {
    /// Its run.
    run: Option<i64>,
    pub(super) state: Option<State>,
    /// When its row first said that it copies.
    since: Option<Duration>,
    /// How far each segment is: up to this key's text, or to its end.
    segments: BTreeMap<u32, Place>,
}

/// How far a segment is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    After(String),
    End,
}

/// The shard of what was there before the stream began.
pub(super) fn initial() -> ShardId {
    "before".into()
}

/// Makes a plan one that is about copies.
pub(super) fn plan(rng: &mut Rng, mut plan: Replication) -> Replication {
    plan.start = if rng.u8(..) < 190 { Start::Latest } else { Start::TrimHorizon };
    plan.keys = rng.u32(8..=60);
    plan.held = (0..plan.keys).filter(|_| rng.u8(..) < 200).collect();
    plan.quirks.rows_page = [3, 10, 50][rng.usize(..3)];
    let consistent = rng.bool();
    if !consistent {
        plan.quirks.scan_staleness = Duration::from_millis(rng.u64(1_000..=8_000));
    }
    let window = plan.quirks.scan_staleness + Duration::from_millis(rng.u64(0..=2_000));
    for (index, replica) in (0..).zip(&mut plan.replicas) {
        let request = Request {
            consistent,
            window,
            read_units: (rng.u8(..) < 200).then(|| rng.u64(1..=6)),
            // By their number it is known whose pages they are.
            segments: Some(4 * rng.u32(0..=3) + index + 1),
            ..Request::default()
        };
        replica.copy = if rng.u8(..) < 200 { FirstCopy::Auto(request) } else { FirstCopy::OnDemand };
        replica.window_keys_max = if rng.bool() { rng.usize(2..=10) } else { Window::KEYS_MAX };
    }
    plan
}

/// Asks for a copy, however often it takes; unless one is under way.
pub(super) async fn want(store: Store, clock: Clock, request: Request) {
    loop {
        match attempt(&store, clock, &request).await {
            Ok(()) => return,
            Err(_) => tokio::time::sleep(AGAIN).await,
        }
    }
}

async fn attempt(store: &Store, clock: Clock, request: &Request) -> Result<(), control::Error> {
    let known = store.load().await?;
    if known.as_ref().is_some_and(|known| known.state.is_active()) {
        return Ok(());
    }
    let mut run = Run::ask(known.as_ref(), request, clock.unix_ms()).expect("a copy that can be asked for");
    store.save(&mut run).await.map(drop)
}

/// The request of a person who knows that the replica had nothing of its own.
pub(super) fn asked(plan: &Replication, replica: usize) -> Request {
    let request = match &plan.replicas[replica].copy {
        FirstCopy::Auto(request) => request.clone(),
        _ => Request {
            consistent: plan.quirks.scan_staleness.is_zero(),
            window: plan.quirks.scan_staleness,
            segments: Some(replica as u32 + 1),
            ..Request::default()
        },
    };
    Request { known_empty: true, ..request }
}

// === impl Truth ===

impl Truth {
    /// Somebody was shown items.
    pub(super) fn looked(&mut self, source: usize, look: Look) {
        for item in &look.items {
            let commit = version(item).and_then(|version| self.sources[source].commit_of(version));
            if let Some(commit) = commit {
                self.shown.items.entry((source, look.node, commit)).or_insert(look.at);
            }
        }
        if look.part.is_some() {
            self.shown.pages.entry((source, look.node)).or_default().push(look);
        }
    }

    /// Whether what landed may have been copied.
    pub(super) fn may_be_copied(&self, source: usize, effect: Effect) -> bool {
        let of = &self.sources[source];
        let shown = self.shown.items.get(&(source, effect.node, effect.commit));
        // A deletion may be a repair.
        of.is_copied
            && (of.commits[effect.commit].version.is_none() || shown.is_some_and(|at| *at <= effect.sent))
    }

    /// Whether it cannot have come by the stream.
    pub(super) fn must_be_copied(&self, source: usize, effect: Effect) -> bool {
        let of = &self.sources[source];
        let commit = &of.commits[effect.commit];
        of.is_copied && !of.hydrated && !self.was_given(effect.node, commit, Duration::ZERO, effect.sent)
    }

    /// The row of a replica's copy, or of one of its segments, was written.
    pub(super) fn copy_row(&mut self, source: usize, target: usize, sort: &str, write: &Write) {
        let Some(row) = &write.row else { return };
        let number = |name: &str| match row.get(name) {
            Some(Value::Number(number)) => number.to_string().parse::<i64>().ok(),
            _ => None,
        };
        let text = |name: &str| row.get(name).and_then(Value::as_str).map(str::to_owned);
        let Some(run) = number("run") else { return };
        let copy = &mut self.sources[source].targets[target].copy;
        let Some(segment) = sort.strip_prefix("segment/") else {
            if copy.run != Some(run) {
                *copy = Copy { run: Some(run), ..Copy::default() };
            }
            let was = copy.state;
            copy.state = text("state").and_then(|name| State::from_name(&name));
            if copy.state == Some(State::Copying) {
                copy.since.get_or_insert(write.landed);
            }
            if copy.state == Some(State::Done) && was != Some(State::Done) {
                self.judge_done(source, target, write.landed);
            }
            return;
        };
        let (Some(node), Ok(segment), Some(total)) = (write.node, segment.parse(), number("segments")) else {
            return;
        };
        if copy.run != Some(run) {
            return;
        }
        let finished = matches!(row.get("finished"), Some(Value::Bool(true)));
        let to = if finished { Place::End } else { Place::After(text("after").unwrap_or_default()) };
        // A late one of a dead worker moves it back.
        let from = copy.segments.insert(segment, to.clone());
        let part = (segment, u32::try_from(total).unwrap_or_default());
        self.judge_segment((source, target), part, (from, to), (node, write.sent, write.landed));
    }

    /// What a segment's row passes is durable, as it was read or newer, unless the stream brings it.
    fn judge_segment(
        &mut self,
        (source, target): (usize, usize),
        part: (u32, u32),
        (from, to): (Option<Place>, Place),
        (node, sent, landed): (Node, Duration, Duration),
    ) {
        let mut newest = BTreeMap::new();
        for look in self.shown.pages.get(&(source, node)).into_iter().flatten() {
            let Some(page) = look.part.as_ref().filter(|page| page.segment == part && look.at <= sent) else {
                continue;
            };
            let end = page.to.clone().map_or(Place::End, Place::After);
            let passed = from.as_ref().is_none_or(|from| Place::After(page.after.clone()) >= *from);
            if passed && end <= to {
                newest.insert(page.after.clone(), look);
            }
        }
        let of = &self.sources[source];
        let commits = newest.values().flat_map(|look| &look.items);
        let commits = commits.filter_map(|item| of.commit_of(version(item)?));
        let missing = commits.into_iter().find(|id| !of.may_be_brought(*id) && !of.is_durable(target, *id));
        if let Some(missing) = missing {
            let key = of.commits[missing].key.clone();
            let name = self.name(node);
            let what =
                format!("{name} passed {key} in segment {part:?}, whose commit {missing} is not there");
            self.broken("I2", landed, what, Some(&key), None);
        }
    }

    /// What the source held when a copy began is there when it is done.
    fn judge_done(&mut self, source: usize, target: usize, at: Duration) {
        let of = &self.sources[source];
        let since = of.targets[target].copy.since.unwrap_or_default().saturating_sub(of.staleness);
        let missing = of.by_key.values().find_map(|commits| {
            let newest = commits.iter().rev().find(|id| of.commits[**id].at <= since)?;
            (!of.is_durable(target, *newest)).then_some(*newest)
        });
        if let Some(missing) = missing {
            let key = of.commits[missing].key.clone();
            let what = format!("r{source}/t{target} is said to be copied, without commit {missing} of {key}");
            self.broken("I4", at, what, Some(&key), None);
        }
    }

    /// Copies that are wanted and not over.
    pub(super) fn missing_copies(&self, plans: &[Replication]) -> Vec<(usize, usize, Option<State>)> {
        let mut missing = Vec::new();
        for (source, plan) in plans.iter().enumerate() {
            for (target, limits) in plan.replicas.iter().enumerate() {
                let state = self.sources[source].targets[target].copy.state;
                let unbegun = state.is_none() && matches!(limits.copy, FirstCopy::Auto(_));
                if unbegun || state.is_some_and(State::is_active) {
                    missing.push((source, target, state));
                }
            }
        }
        missing
    }

    /// How many replicas have a copy that is done.
    pub(super) fn copies_done(&self) -> usize {
        let targets = self.sources.iter().flat_map(|source| &source.targets);
        targets.filter(|target| target.copy.state == Some(State::Done)).count()
    }
}

// === impl Source ===

impl Source {
    /// Whether the stream may bring a commit, so that a copy may leave it to it.
    fn may_be_brought(&self, id: CommitId) -> bool {
        self.commits[id].shard != initial()
    }

    /// Whether a commit, or a newer one of its key, is in a replica or parked.
    fn is_durable(&self, target: usize, id: CommitId) -> bool {
        let commit: &Commit = &self.commits[id];
        let held = self.targets[target].keys.get(&commit.key);
        let newer = held.is_some_and(|held| held.durable >= Some(id) || held.was_parked >= Some(id));
        let gone = held.and_then(|held| held.last).is_none_or(|last| self.same(last.commit, id));
        newer || (commit.version.is_none() && gone)
    }
}

/// Keys of a replication's source.
pub(super) fn key(number: u32) -> Key {
    let text = bytes::Bytes::from(format!(r#"{{"k":{{"S":"k{number}"}}}}"#));
    Key::from_json(&text, 0..text.len()).expect("a key")
}
