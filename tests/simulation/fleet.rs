//! The workers of a run: each in a place, on a node that can be frozen and killed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::model::{Handle, Model, Node, Site};
use super::scenario::{PLACES, Scenario};
use crate::clock::Clock;
use crate::control::Control;
use crate::dynamo::{Streams, Tables};
use crate::supervisor::{self, Affinity, Board, Want, Worker};
use crate::task::{self, Tasks};
use crate::telemetry::Metrics;

/// Where everything is.
pub(super) struct Map {
    pub(super) control: Site,
    pub(super) sources: Vec<Site>,
    /// By replication and replica.
    pub(super) replicas: Vec<Vec<Site>>,
}

/// All workers.
pub(super) struct Fleet {
    model: Model,
    map: Arc<Map>,
    scenario: Arc<Scenario>,
    clock: Clock,
    places: [Place; PLACES],
    nodes: u16,
    /// Who was who.
    pub(super) names: BTreeMap<Node, String>,
}

/// Where one worker runs, or none.
#[derive(Default)]
struct Place {
    running: Option<Running>,
    generation: u32,
    last_id: Option<String>,
}

/// A worker's process. Dropping it is its sudden death.
pub(super) struct Running {
    pub(super) node: Node,
    process: task::node::Node,
    board: Arc<Mutex<Option<Board>>>,
    drain: CancellationToken,
    pub(super) frozen: bool,
    tasks: Tasks<()>,
    /// One for each replication, once it is built.
    affinities: Arc<Mutex<Vec<Affinity>>>,
    /// By replication: that all its shards are wanted here.
    wants: BTreeMap<usize, Want>,
}

/// The name of the control table.
pub(super) const CONTROL: &str = "control";

// === impl Fleet ===

impl Fleet {
    pub(super) fn new(model: &Model, map: Arc<Map>, scenario: Arc<Scenario>, clock: Clock) -> Self {
        Self {
            model: model.clone(),
            map,
            scenario,
            clock,
            places: Default::default(),
            nodes: 0,
            names: BTreeMap::new(),
        }
    }

    /// Starts a worker in a place, unless one is there.
    pub(super) fn start(&mut self, index: usize, same_id: bool) {
        let place = &mut self.places[index];
        if place.running.is_some() {
            return;
        }
        place.generation += 1;
        let id = match place.last_id.take() {
            Some(id) if same_id => id,
            _ => format!("w{index}.{}", place.generation),
        };
        place.last_id = Some(id.clone());
        self.nodes += 1;
        let node = Node(self.nodes);
        self.names.insert(node, id.clone());
        let config = self.config(&id, node, index);
        let (process, drain) = (task::node::Node::default(), CancellationToken::new());
        let (board, stop) = (Arc::new(Mutex::new(None)), drain.clone());
        let shown = Arc::clone(&board);
        let affinities: Arc<Mutex<Vec<Affinity>>> = Arc::default();
        let told = Arc::clone(&affinities);
        let names: Vec<_> = config.replications.iter().map(|it| it.name.clone()).collect();
        let mut tasks = Tasks::new();
        let work = process.place(async move {
            let worker = Worker::build(config).await.expect("the control table is ours");
            *shown.lock().expect("nothing panics while holding it") = Some(worker.board());
            let own = |name: &String| worker.affinity(name).expect("a replication of its own");
            *told.lock().expect("nothing panics while holding it") = names.iter().map(own).collect();
            worker.run(stop).await;
        });
        tasks.spawn(tracing::Span::none(), work);
        let wants = BTreeMap::new();
        let running = Running { node, process, board, drain, frozen: false, tasks, affinities, wants };
        self.places[index].running = Some(running);
    }

    /// Asks a worker to drain.
    pub(super) fn drain(&mut self, index: usize) {
        if let Some(running) = &self.places[index].running {
            running.drain.cancel();
        }
    }

    /// A worker wants all shards of a replication, or does no more. Gives the node of one that does no more, and whose
    /// writes have all ended.
    pub(super) fn want(&mut self, index: usize, replication: usize, on: bool, settled: bool) -> Option<Node> {
        let running = self.places[index].running.as_mut().filter(|running| !running.frozen)?;
        if on {
            let affinity = running.affinity(replication)?;
            running.wants.entry(replication).or_insert_with(|| affinity.want("a copy"));
            return None;
        }
        let want = running.wants.remove(&replication)?;
        if !settled {
            return None;
        }
        want.settled();
        Some(running.node)
    }

    /// Ends a worker at once.
    pub(super) fn kill(&mut self, index: usize) {
        if let Some(running) = self.places[index].running.take() {
            running.process.kill();
        }
    }

    /// Stops a worker.
    pub(super) fn freeze(&mut self, index: usize) -> Option<Node> {
        let running = self.places[index].running.as_mut()?;
        running.process.freeze();
        running.frozen = true;
        Some(running.node)
    }

    /// Lets the worker of a node go on, if it still is there.
    pub(super) fn thaw(&mut self, node: Node) {
        for running in self.places.iter_mut().filter_map(|place| place.running.as_mut()) {
            if running.node == node {
                running.process.thaw();
                running.frozen = false;
            }
        }
    }

    /// Lets all go on.
    pub(super) fn thaw_all(&mut self) {
        let nodes: Vec<_> = self.running().map(|running| running.node).collect();
        nodes.into_iter().for_each(|node| self.thaw(node));
    }

    /// The worker of a place.
    pub(super) fn at(&self, index: usize) -> Option<&Running> {
        self.places[index].running.as_ref()
    }

    /// Those that run, frozen ones included.
    pub(super) fn running(&self) -> impl Iterator<Item = &Running> {
        self.places.iter().filter_map(|place| place.running.as_ref())
    }

    /// Whether none is left that will do anything.
    pub(super) fn is_idle(&self) -> bool {
        self.running().all(|running| running.drain.is_cancelled())
    }

    /// Frees the places of workers that have drained.
    ///
    /// # Panics
    /// When a worker did.
    pub(super) fn reap(&mut self) {
        for place in &mut self.places {
            if let Some(running) = &mut place.running
                && let Some(()) = futures_util::FutureExt::now_or_never(running.tasks.next()).flatten()
            {
                place.running = None;
            }
        }
    }

    /// The services as somebody sees them who is no worker.
    pub(super) fn operator(&self) -> Arc<Handle> {
        self.model.handle(Node(u16::MAX), self.map.control)
    }

    fn config(&self, id: &str, node: Node, place: usize) -> supervisor::Config {
        let scenario = &self.scenario;
        let clock = skewed(self.clock, scenario.skews_ms[place]);
        let tables = |site: Site| self.model.handle(node, site) as Arc<dyn Tables>;
        let replications = scenario.replications.iter().enumerate().map(|(index, plan)| {
            let site = self.map.sources[index];
            let source = supervisor::Source {
                table: plan.name.clone(),
                tables: tables(site),
                streams: self.model.handle(node, site) as Arc<dyn Streams>,
                reader: scenario.reader,
                discovery: scenario.discovery,
            };
            let replicas = plan.replicas.iter().enumerate().map(|(replica, limits)| supervisor::Replica {
                name: limits.name.clone(),
                tables: tables(self.map.replicas[index][replica]),
                buffer_bytes: limits.buffer_bytes,
                writer: crate::replica::Config {
                    table: limits.name.clone(),
                    batches_in_flight: limits.batches_in_flight,
                    attempt_timeout: scenario.lease.longest_attempt,
                    settle: scenario.lease.longest_attempt,
                    park_limit: limits.park_limit,
                    guard: None,
                },
                copy: limits.copy.clone(),
                window_keys_max: limits.window_keys_max,
                schema: None,
            });
            supervisor::Replication {
                name: plan.name.clone(),
                start: plan.start,
                source,
                replicas: replicas.collect(),
                verify: None,
            }
        });
        supervisor::Config {
            worker: id.to_owned(),
            control: Control::new(tables(self.map.control), CONTROL),
            lease: scenario.lease,
            grace: scenario.grace,
            clock,
            metrics: Arc::new(Metrics::new(id, CONTROL, clock).expect("metrics")),
            replications: replications.collect(),
            heartbeat: crate::supervisor::heartbeat::Config::default(),
        }
    }
}

// === impl Running ===

impl Running {
    /// The affinity of a replication, once it is built.
    pub(super) fn affinity(&self, replication: usize) -> Option<Affinity> {
        self.affinities.lock().expect("nothing panics while holding it").get(replication).cloned()
    }

    /// Whether it wants all shards of a replication and may get them.
    pub(super) fn wants(&self, replication: usize) -> bool {
        self.wants.contains_key(&replication) && !self.drain.is_cancelled()
    }

    /// What it shows, once it is built.
    pub(super) fn status(&self) -> Option<supervisor::status::Status> {
        let board = self.board.lock().expect("nothing panics while holding it");
        board.as_ref().map(Board::status)
    }
}

fn skewed(clock: Clock, by_ms: i64) -> Clock {
    match clock {
        Clock::Simulated { start_unix_ms, start } => {
            Clock::Simulated { start_unix_ms: start_unix_ms + by_ms, start }
        }
        Clock::System => unreachable!("a simulation has no other clock"),
    }
}

/// How long what a dead worker sent may still be under way.
pub(super) fn longest_effect(scenario: &Scenario) -> Duration {
    scenario.lease.longest_attempt
}
