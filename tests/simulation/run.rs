//! One run: the services, the workers, what happens to both, and the verdict.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fastrand::Rng;
use tokio::time::{Instant, sleep, sleep_until};

use super::copies;
use super::fleet::{self, CONTROL, Fleet, Map};
use super::model::{self, Model, Node, Quirks, Rule, Settings, TableId, Trouble};
use super::orders::{self, Order};
use super::scenario::{Back, Event, Focus, PLACES, Scenario, Site};
use super::sole::Soles;
use super::truth::{Truth, Violation};
use crate::clock::Clock;
use crate::control::Control;
use crate::fault::{Fault, Width};
use crate::item::Item;
use crate::mutation::{self, Mutation};
use crate::replica::parked::Parked;
use crate::shard::{Position, ShardId};
use crate::supervisor::desired::{Store, Target};
use crate::task::Tasks;

/// The time of day at which every run begins.
const START_UNIX_MS: i64 = 1_900_000_000_000;

/// How often workers are looked at.
const LOOK: Duration = Duration::from_millis(500);

/// How long workers may take to come to rest when nothing happens any more: an iterator that stands still for a lease
/// and its settling, five listings of a hidden parent, and pauses of half a minute between attempts.
const REST_WITHIN: Duration = Duration::from_secs(400);

/// What becomes of a run.
pub(super) struct Report {
    pub(super) scenario: Arc<Scenario>,
    pub(super) violations: Vec<Violation>,
    /// Of everything that happened, in its order.
    pub(super) digest: u64,
    /// How much happened.
    pub(super) counts: Counts,
    pub(super) trace: String,
}

/// How much happened.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counts {
    pub(super) calls: u64,
    pub(super) troubled: u64,
    pub(super) commits: u64,
    pub(super) effects: u64,
    pub(super) seconds: u64,
    /// How often a worker was the only one that may write.
    pub(super) soles: u64,
    /// Replicas whose copy was done.
    pub(super) copies: u64,
}

impl Counts {
    pub(super) fn add(&mut self, other: &Self) {
        self.calls += other.calls;
        self.troubled += other.troubled;
        self.commits += other.commits;
        self.effects += other.effects;
        self.seconds += other.seconds;
        self.soles += other.soles;
        self.copies += other.copies;
    }
}

/// A run under way.
struct Run {
    scenario: Arc<Scenario>,
    model: Model,
    map: Arc<Map>,
    tables: Vec<(TableId, Vec<TableId>)>,
    clock: Clock,
    fleet: Fleet,
    truth: Truth,
    rng: Rng,
    /// What is to end later: in order of time, and of being planned.
    agenda: BTreeMap<(Instant, u32), End>,
    planned: u32,
    versions: u64,
    helpers: Tasks<()>,
    /// People who write what they want.
    orders: Tasks<()>,
    /// What happened to data, which must end in a gap.
    losses: Vec<Loss>,
    /// Who was the only one that may write.
    soles: Soles,
    log: Vec<String>,
    begun: Instant,
}

/// Something that ends later.
enum End {
    Thaw(Node),
    Heal(Node, model::Site),
}

/// Data that was made unreadable.
#[derive(Debug, Clone)]
struct Loss {
    replication: usize,
    /// Whether it must be told, or may be.
    certain: bool,
}

/// Runs a scenario, with a bug or without.
pub(super) fn run(scenario: Scenario, mutation: Option<Mutation>) -> Report {
    let scenario = Arc::new(scenario);
    fastrand::seed(scenario.seed);
    mutation::switch(mutation);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.expect("a runtime");
    // Outside of the future, so that a panic leaves it behind.
    let mut run: Option<Run> = None;
    let ended = catch_unwind(AssertUnwindSafe(|| {
        runtime.block_on(async {
            run.insert(Run::new(Arc::clone(&scenario))).go().await;
        });
    }));
    mutation::switch(None);
    let report = runtime.block_on(async { run.expect("it was begun").report(ended.err()) });
    drop(runtime);
    report
}

// === impl Run ===

impl Run {
    fn new(scenario: Arc<Scenario>) -> Self {
        let clock = Clock::Simulated { start_unix_ms: START_UNIX_MS, start: Instant::now() };
        let attempt = scenario.lease.longest_attempt;
        let settings = Settings {
            longest_effect: attempt,
            write_patience: scenario.lease.row_write_limit(),
            read_patience: 2 * attempt,
            ..Settings::new(scenario.seed, clock)
        };
        let model = Model::new(settings);
        let control = model.add_site("control", Quirks::plain());
        let control_table = model.add_row_table(control, CONTROL);
        let (mut sources, mut replicas, mut tables) = (Vec::new(), Vec::new(), Vec::new());
        let mut versions = 0;
        for plan in &scenario.replications {
            let site = model.add_site(&plan.name, plan.quirks.clone());
            let source = model.add_table(site, &plan.name, &[("k", "S")]);
            let versions = &mut versions;
            for key in (0..plan.keys).filter(|_| scenario.focus == Focus::Copy) {
                match plan.held.contains(&key) {
                    true => drop(model.put(source, item(key, "good", "", next(versions)))),
                    false => drop(model.delete(source, &copies::key(key))),
                }
            }
            model.start_stream(source, plan.view, plan.shards);
            sources.push(site);
            let targets = plan.replicas.iter().map(|replica| {
                let site = model.add_site(&format!("{}-{}", plan.name, replica.name), Quirks::plain());
                (site, model.add_table(site, &replica.name, &[("k", "S")]))
            });
            let (sites, targets): (Vec<_>, Vec<_>) = targets.unzip();
            replicas.push(sites);
            tables.push((source, targets));
        }
        let map = Arc::new(Map { control, sources, replicas });
        let fleet = Fleet::new(&model, Arc::clone(&map), Arc::clone(&scenario), clock);
        let truth = Truth::new(&model, &scenario, control_table, &tables);
        let is_copied = scenario.focus == Focus::Copy;
        let run = Self {
            rng: Rng::with_seed(scenario.seed ^ 0x00dd_ba11),
            scenario,
            model,
            map,
            tables,
            clock,
            fleet,
            truth,
            agenda: BTreeMap::new(),
            planned: 0,
            versions,
            helpers: Tasks::new(),
            orders: Tasks::new(),
            losses: Vec::new(),
            soles: Soles::new(attempt, is_copied),
            log: Vec::new(),
            begun: Instant::now(),
        };
        for hazard in &run.scenario.hazards {
            let rule = Rule::new(hazard.trouble.clone()).on(hazard.operations).chance(hazard.chance);
            run.model.rule(rule.at(run.site(hazard.site)));
        }
        run
    }

    async fn go(&mut self) {
        let scenario = Arc::clone(&self.scenario);
        let mut late = Duration::ZERO;
        for (at, event) in &scenario.events {
            self.pass_until(self.begun + *at + late).await;
            if let Event::Away { span } = event {
                late += *span;
            }
            self.happens(event).await;
            if !self.truth.violations.is_empty() {
                return;
            }
        }
        self.rest().await;
    }

    /// Lets time pass, looking at the workers and ending what is to end.
    async fn pass_until(&mut self, until: Instant) {
        let mut look = Instant::now() + LOOK;
        if self.scenario.focus == Focus::Copy {
            // What happens comes more often than looks do.
            self.soles.look(&self.fleet, self.tables.len(), &self.model, &mut self.truth);
        }
        loop {
            let end = self.agenda.first_key_value().map(|((at, _), _)| *at);
            let next = end.map_or(look, |end| end.min(look)).min(until);
            sleep_until(next).await;
            if next == look {
                look += LOOK;
                self.look();
            }
            while let Some(entry) = self.agenda.first_entry()
                && entry.key().0 <= next
            {
                match entry.remove() {
                    End::Thaw(node) => self.fleet.thaw(node),
                    End::Heal(node, site) => self.model.heal(node, site),
                }
            }
            if next >= until || !self.truth.violations.is_empty() {
                return;
            }
        }
    }

    fn look(&mut self) {
        self.fleet.reap();
        self.truth.names.clone_from(&self.fleet.names);
        self.truth.follow();
        self.soles.look(&self.fleet, self.tables.len(), &self.model, &mut self.truth);
        let at = self.model.elapsed();
        let places: Vec<_> =
            (0..PLACES).filter_map(|place| Some((place, self.fleet.at(place)?.status()?))).collect();
        for (place, status) in places {
            if self.fleet.at(place).is_some_and(|running| !running.frozen) {
                self.truth.judge_status(&status, at, START_UNIX_MS);
            }
        }
    }

    async fn happens(&mut self, event: &Event) {
        if !matches!(event, Event::Write { .. }) {
            self.log.push(format!("{:>9.3} {event:?}", self.model.elapsed().as_secs_f64()));
        }
        match *event {
            Event::Start { place, same_id } => {
                self.fleet.start(place, same_id);
                self.truth.names.clone_from(&self.fleet.names);
            }
            Event::Drain { place } => self.fleet.drain(place),
            Event::Kill { place } => self.fleet.kill(place),
            Event::Freeze { place, span } => {
                if let Some(node) = self.fleet.freeze(place) {
                    self.later(span, End::Thaw(node));
                }
            }
            Event::Cut { place, site, span } => {
                if let Some(node) = self.fleet.at(place).map(|running| running.node) {
                    let site = self.site(site);
                    self.model.cut(node, site);
                    self.later(span, End::Heal(node, site));
                }
            }
            Event::Down { site, span } => self.down(site, span),
            Event::Write { replication, count, hot } => {
                for _ in 0..count {
                    self.write(replication, hot);
                }
            }
            Event::Split { replication } => self.end_shard(replication, true),
            Event::Roll { replication } => self.end_shard(replication, false),
            Event::Burst { replication, shards } => {
                for _ in 0..shards {
                    self.end_shard(replication, true);
                }
            }
            Event::Trim { replication } => self.trim(replication),
            Event::Poison { replication, replica, on } => {
                let table = self.tables[replication].1[replica];
                if on { self.model.poison(table, "\"bad\"") } else { self.model.cure(table) }
            }
            Event::Retry { replication, replica } => self.retry_parked(replication, replica),
            Event::Vanish { replication } => self.vanish(replication),
            Event::Replace { replication } => self.replace(replication),
            Event::Away { span } => self.away(span).await,
            Event::Pause { replication, replica, on } => {
                self.order(replication, replica, &if on { Order::Pause } else { Order::Resume });
            }
            Event::Seek { replication, replica, to } => {
                if let Some(target) = self.target(replication, to) {
                    self.order(replication, replica, &Order::Seek(target));
                }
            }
            Event::Want { place, replication, on, settled } => {
                if let Some(node) = self.fleet.want(place, replication, on, settled) {
                    self.soles.settled(replication, node);
                }
            }
            Event::Copy { replication, replica } => self.copy(replication, replica),
            Event::Repair { replication, replica, count } => self.repair(replication, replica, count),
        }
    }

    /// Somebody wants something of one replica or of all.
    fn order(&mut self, replication: usize, replica: Option<usize>, order: &Order) {
        let plan = &self.scenario.replications[replication];
        for (index, limits) in plan.replicas.iter().enumerate() {
            if replica.is_none_or(|replica| replica == index) {
                let (names, order) = ((plan.name.clone(), limits.name.clone()), order.clone());
                let wanted = orders::want(self.wishes(), self.clock, names.0, names.1, order);
                self.orders.spawn(tracing::Span::none(), wanted);
            }
        }
    }

    fn copy(&mut self, replication: usize, replica: usize) {
        let plan = &self.scenario.replications[replication];
        let control = Control::new(self.fleet.operator(), CONTROL);
        let store = crate::copy::Store::new(control, &plan.name, &plan.replicas[replica].name);
        let wanted = copies::want(store, self.clock, copies::asked(plan, replica));
        self.helpers.spawn(tracing::Span::none(), wanted);
    }

    fn repair(&mut self, replication: usize, replica: usize, count: u32) {
        let plan = &self.scenario.replications[replication];
        let control = Control::new(self.fleet.operator(), CONTROL);
        let name = &plan.replicas[replica].name;
        let store = crate::copy::repair::Store::new(control, &plan.name, name, self.clock);
        let keys: Vec<_> = (0..count).map(|_| copies::key(self.rng.u32(0..plan.keys))).collect();
        self.helpers.spawn(tracing::Span::none(), async move { drop(store.post(&keys).await) });
    }

    fn wishes(&self) -> Store {
        Store::new(Control::new(self.fleet.operator(), CONTROL))
    }

    /// Where a seek goes; `None` when there is no record to go to.
    fn target(&mut self, replication: usize, to: Back) -> Option<Target> {
        match to {
            Back::Horizon => Some(Target::TrimHorizon),
            Back::Time(ago) => Some(Target::Time { unix_ms: self.clock.unix_ms() - ago.as_millis() as i64 }),
            Back::Record => {
                self.truth.follow();
                let lanes = &self.truth.sources[replication].lanes;
                let mut shards = self.model.shards(self.tables[replication].0);
                let tracked = |id: &ShardId| lanes.get(id).is_some_and(|lane| lane.row.is_some());
                shards.retain(|state| !state.issued.is_empty() && tracked(&state.id));
                let state = shards.get(self.rng.usize(0..shards.len().max(1)))?;
                let sequence = state.issued[self.rng.usize(0..state.issued.len())];
                Some(Target::After { shard: state.id.clone(), sequence })
            }
        }
    }

    /// Nobody wants anything any more but that all replicas run.
    async fn resume(&mut self) {
        self.orders = Tasks::new();
        for plan in &self.scenario.replications {
            for limits in &plan.replicas {
                let names = (plan.name.clone(), limits.name.clone());
                orders::want(self.wishes(), self.clock, names.0, names.1, Order::Resume).await;
            }
        }
    }

    fn later(&mut self, span: Duration, end: End) {
        self.planned += 1;
        self.agenda.insert((Instant::now() + span, self.planned), end);
    }

    fn site(&self, site: Site) -> model::Site {
        match site {
            Site::Control => self.map.control,
            Site::Source { replication } => self.map.sources[replication],
            Site::Replica { replication, replica } => self.map.replicas[replication][replica],
        }
    }

    fn down(&mut self, site: Site, span: Duration) {
        let trouble = match self.rng.u8(0..4) {
            0 => Trouble::Unreachable,
            1 => Trouble::RequestLost,
            2 => Trouble::Refused(Fault::Throttled(Width::Table)),
            _ => Trouble::Refused(Fault::Transient),
        };
        let now = Instant::now();
        self.model.rule(Rule::new(trouble).at(self.site(site)).during(now, now + span));
    }

    /// One change of the source.
    fn write(&mut self, replication: usize, hot: bool) -> Option<(model::ShardRef, u64)> {
        let plan = &self.scenario.replications[replication];
        let key = if hot { self.rng.u32(0..2) } else { self.rng.u32(0..plan.keys) };
        let table = self.tables[replication].0;
        if self.rng.u8(..) < 45 {
            return self.model.delete(table, &copies::key(key));
        }
        let mark = if self.rng.u8(..) < 50 { "bad" } else { "good" };
        let pad = "x".repeat(self.rng.usize(0..60));
        self.model.put(table, item(key, mark, &pad, next(&mut self.versions)))
    }

    fn end_shard(&mut self, replication: usize, split: bool) {
        let open = self.model.open_shards(self.tables[replication].0);
        if !open.is_empty() {
            let shard = open[self.rng.usize(0..open.len())];
            // One whose range is a single hash cannot be split, and stays.
            let _ = if split { self.model.split(shard) } else { self.model.roll(shard) };
        }
    }

    /// Trims what every replica has checkpointed.
    fn trim(&mut self, replication: usize) {
        self.truth.follow();
        let table = self.tables[replication].0;
        for state in self.model.shards(table) {
            let lane = self.truth.sources[replication].lanes.get(&state.id);
            let Some(row) = lane.and_then(|lane| lane.row.as_ref()) else { continue };
            let names = self.scenario.replications[replication].replicas.iter().map(|replica| &replica.name);
            let done = names.map(|name| match row.checkpoints.get(name).map(|it| it.position) {
                Some(Position::End) => state.issued.len(),
                Some(Position::After(sequence)) => {
                    state.issued.iter().take_while(|issued| **issued <= sequence).count()
                }
                _ => 0,
            });
            let done = done.min().unwrap_or(0);
            if done as u64 > state.trimmed {
                self.model.trim(state.shard, state.issued.len() - done);
            }
        }
    }

    fn retry_parked(&mut self, replication: usize, replica: usize) {
        let plan = &self.scenario.replications[replication];
        let control = Control::new(self.fleet.operator(), CONTROL);
        let parked = Parked::new(control, &plan.name, &plan.replicas[replica].name, self.clock);
        self.helpers.spawn(tracing::Span::none(), async move {
            // An operator whose calls fail comes back another day.
            for entry in parked.list().await.unwrap_or_default() {
                drop(parked.ask_retry(&entry).await);
            }
        });
    }

    /// A shard ends with records that nobody has read, and is gone.
    fn vanish(&mut self, replication: usize) {
        self.truth.follow();
        let table = self.tables[replication].0;
        let tracked: Vec<_> = (0..30).filter_map(|_| self.write(replication, false)).collect();
        self.truth.follow();
        let found = tracked.into_iter().find(|(shard, _)| {
            let id = self.model.shard_id(*shard);
            let lane = self.truth.sources[replication].lanes.get(&id);
            lane.is_some_and(|lane| lane.row.is_some())
        });
        let open = self.model.open_shards(table);
        let Some((shard, _)) = found.filter(|(shard, _)| open.contains(shard)) else { return };
        if self.model.roll(shard) {
            self.model.forget(shard);
            self.loses(replication, true);
        }
    }

    fn replace(&mut self, replication: usize) {
        self.truth.follow();
        let known = self.truth.sources[replication].lanes.values().any(|lane| lane.row.is_some());
        let plan = &self.scenario.replications[replication];
        self.model.start_stream(self.tables[replication].0, plan.view, plan.shards);
        self.truth.sources[replication].replaced = true;
        self.loses(replication, known);
    }

    async fn away(&mut self, span: Duration) {
        (0..PLACES).for_each(|place| self.fleet.kill(place));
        self.look();
        sleep(span).await;
        for replication in 0..self.scenario.replications.len() {
            self.truth.sources[replication].lossy = true;
            self.loses(replication, false);
        }
    }

    fn loses(&mut self, replication: usize, certain: bool) {
        self.truth.sources[replication].lossy = true;
        self.losses.push(Loss { replication, certain });
    }

    /// The faults stop and the source falls silent; the workers come to rest.
    async fn rest(&mut self) {
        self.log.push(format!("{:>9.3} quiet", self.model.elapsed().as_secs_f64()));
        self.model.quiesce();
        self.agenda.clear();
        self.fleet.thaw_all();
        if self.scenario.focus == Focus::Orders {
            self.resume().await;
        }
        for (plan, (_, replicas)) in self.scenario.replications.iter().zip(&self.tables) {
            for (limits, table) in plan.replicas.iter().zip(replicas) {
                // Where only some keys may be parked, the others would wait for ever.
                if limits.park_limit <= plan.keys as usize || self.rng.bool() {
                    self.model.cure(*table);
                }
            }
        }
        let deadline = Instant::now() + REST_WITHIN;
        loop {
            if !self.come_to_rest(deadline).await {
                return;
            }
            // What is still under way would land now, and a shard whose lease was lost is read again from its checkpoint.
            self.pass_until(Instant::now() + 2 * fleet::longest_effect(&self.scenario)).await;
            if self.is_at_rest() {
                return self.judge_end();
            }
        }
    }

    /// Waits until nothing is missing for some seconds. Says whether it came to that, and nothing was broken on the way.
    async fn come_to_rest(&mut self, deadline: Instant) -> bool {
        let mut rested = 0;
        while rested < 3 {
            self.fleet.reap();
            if self.fleet.is_idle() {
                let place = (0..PLACES).find(|place| self.fleet.at(*place).is_none());
                place.into_iter().for_each(|place| self.fleet.start(place, false));
            }
            self.pass_until(Instant::now() + Duration::from_secs(1)).await;
            if !self.truth.violations.is_empty() {
                return false;
            }
            rested = if self.is_at_rest() { rested + 1 } else { 0 };
            if Instant::now() > deadline {
                self.never_rested();
                return false;
            }
        }
        true
    }

    fn is_at_rest(&self) -> bool {
        let idle = |status: &crate::supervisor::status::Status| {
            let replicas = status.replications.iter().flat_map(|replication| &replication.replicas);
            replicas.into_iter().all(|replica| replica.pending_changes == 0)
        };
        let settled = self.fleet.running().filter_map(|running| running.status()).all(|status| idle(&status));
        settled
            && self.truth.differences().is_empty()
            && self.missing_gaps().is_empty()
            && self.missing_soles().is_empty()
            && self.missing_copies().is_empty()
    }

    /// Replications whose shards are all wanted by somebody, and nobody is alone with them.
    fn missing_soles(&self) -> Vec<usize> {
        let is_wanted = |index: &usize| self.fleet.running().any(|running| running.wants(*index));
        let all = (0..self.tables.len()).filter(is_wanted);
        all.filter(|index| !self.soles.is_given(*index)).collect()
    }

    fn missing_copies(&self) -> Vec<(usize, usize, Option<crate::copy::State>)> {
        self.truth.missing_copies(&self.scenario.replications)
    }

    fn never_rested(&mut self) {
        let at = self.model.elapsed();
        for (replication, target, state) in self.missing_copies() {
            let what = format!("the copy of r{replication}/t{target} is never done: {state:?}");
            self.truth.broken("I4", at, what, None, None);
        }
        for (replication, target, key, newest) in self.truth.differences().into_iter().take(3) {
            let what = format!(
                "r{replication}/t{target} never came to hold commit {newest} of {key}, {:?} after the last fault",
                REST_WITHIN
            );
            let shard = self.truth.sources[replication].commits[newest].shard.clone();
            self.truth.broken("I4", at, what, Some(&key), Some(&shard));
        }
        for replication in self.missing_gaps() {
            self.truth.broken("I6", at, format!("r{replication} lost data and shows no gap"), None, None);
        }
        for replication in self.missing_soles() {
            let what = format!("r{replication}: a worker wants all shards and is never alone");
            self.truth.broken("sole", at, what, None, None);
        }
        if self.truth.violations.is_empty() {
            self.truth.broken("I4", at, "changes wait although nothing is missing".to_owned(), None, None);
        }
    }

    /// Replications that lost data and do not say so.
    fn missing_gaps(&self) -> Vec<usize> {
        let lost = self.losses.iter().filter(|loss| loss.certain).map(|loss| loss.replication);
        lost.filter(|replication| {
            let mut statuses = self.fleet.running().filter_map(|running| running.status());
            !statuses.any(|status| !status.replications[*replication].gaps.is_empty())
        })
        .collect()
    }

    fn judge_end(&mut self) {
        self.look();
        let at = self.model.elapsed();
        let statuses: Vec<_> = self.fleet.running().filter_map(|running| running.status()).collect();
        for status in &statuses {
            self.truth.judge_ledger(status, at);
            for (index, replication) in status.replications.iter().enumerate() {
                let lost = self.losses.iter().any(|loss| loss.replication == index);
                if let Some(gap) = replication.gaps.first().filter(|_| !lost) {
                    let what = format!("{} shows a gap, and nothing was lost: {}", status.worker, gap.reason);
                    self.truth.broken("I6", at, what, None, gap.shard.as_deref().map(Into::into).as_ref());
                }
            }
        }
        for (replication, target, key, newest) in self.truth.differences() {
            let what = format!("r{replication}/t{target} does not hold commit {newest} of {key} any more");
            self.truth.broken("I4", at, what, Some(&key), None);
        }
        let most = self.model.history(|history| history.most_readers(Duration::from_secs(2)));
        // A shard's task has two cursors at most, and asks for nothing more when its fence is closed, before a
        // successor's begins.
        let allowed = if self.scenario.focus == Focus::Calm { 1 } else { 2 };
        if let Some((count, shard, when)) = most
            && count > allowed
        {
            let shard = self.truth.shard_id(shard);
            let what = format!("shard {shard} had {count} readers");
            self.truth.broken("I9", when, what, None, Some(&shard));
        }
    }

    fn report(mut self, panic: Option<Box<dyn std::any::Any + Send>>) -> Report {
        self.truth.names.clone_from(&self.fleet.names);
        self.truth.follow();
        if let Some(panic) = panic {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("panicked");
            self.truth.broken("panic", self.model.elapsed(), text.to_owned(), None, None);
        }
        let trace = match self.truth.violations.is_empty() {
            true => String::new(),
            false => super::trace::write(&self.truth, &self.log),
        };
        let (calls, troubled) = self.model.history(|history| (history.calls, history.troubled_calls));
        Report {
            digest: self.digest(),
            counts: Counts {
                calls,
                troubled,
                commits: self.truth.sources.iter().map(|source| source.commits.len() as u64).sum(),
                effects: self.truth.seen_writes as u64,
                seconds: self.model.elapsed().as_secs(),
                soles: self.soles.count() as u64,
                copies: self.truth.copies_done() as u64,
            },
            violations: std::mem::take(&mut self.truth.violations),
            scenario: Arc::clone(&self.scenario),
            trace,
        }
    }

    fn digest(&self) -> u64 {
        let mut hasher = foldhash::quality::FixedState::with_seed(7).build_hasher();
        self.model.history(|history| {
            for write in &history.writes {
                (write.key.as_bytes(), write.sent, write.landed, write.node).hash(&mut hasher);
                write.item.as_ref().map(|item| item.as_bytes()).hash(&mut hasher);
            }
            for read in &history.reads {
                (read.at, read.node, read.shard, read.from, read.records).hash(&mut hasher);
            }
            history.calls.hash(&mut hasher);
        });
        hasher.finish()
    }
}

/// An item of a source.
fn item(key: u32, mark: &str, pad: &str, version: u64) -> Item {
    let text = format!(
        r#"{{"k":{{"S":"k{key}"}},"mark":{{"S":"{mark}"}},"pad":{{"S":"{pad}"}},"v":{{"N":"{version}"}}}}"#
    );
    Item::from_json(Bytes::from(text))
}

fn next(versions: &mut u64) -> u64 {
    *versions += 1;
    *versions
}
