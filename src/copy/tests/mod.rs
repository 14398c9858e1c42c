//! Copies and repairs on paused time: a source that remembers its past, a real writer, and tables in memory that outlive
//! workers.

mod copying;
mod faults;
pub(super) mod model;
mod resuming;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use self::model::{Model, PAGE_ITEMS};
use super::*;
use crate::change::{Change, Op};
use crate::control::Control;
use crate::dynamo::memory::Memory;
use crate::item::Item;
use crate::key::Key;
use crate::lane::Lot;
use crate::replica::parked::Parked;
use crate::replica::{self, Writer};
use crate::task::Tasks;
use crate::telemetry::Metrics;

/// What outlives a worker: the tables, and the time.
pub(super) struct World {
    pub(super) source: Arc<Model>,
    pub(super) tables: Arc<Memory>,
    clock: Clock,
    /// Up to when all is applied, as the stream's side would tell; zero while that is not known.
    applied_through: Arc<AtomicI64>,
    budget_bytes: usize,
    pub(super) guard: Option<Guard>,
}

/// A worker that runs. Dropping it is its sudden death.
pub(super) struct Worker {
    inbox: mpsc::UnboundedSender<Delivery>,
    /// The right to write what comes by the stream.
    live: Fence,
    /// The right to write what is copied; another one each time.
    sole: Arc<Mutex<Fence>>,
    pub(super) gauges: Arc<Gauges>,
    pub(super) wanted: Arc<Mutex<Vec<(Purpose, bool)>>>,
    pub(super) stop: CancellationToken,
    pub(super) budget: Budget,
    _tasks: Tasks<()>,
    pub(super) copying: Tasks<()>,
}

pub(super) fn key(name: &str) -> Key {
    let text = Bytes::from(format!(r#"{{"k":{{"S":"{name}"}}}}"#));
    Key::from_json(&text, 0..text.len()).expect("a key")
}

pub(super) fn item(name: &str, value: &str) -> Item {
    Item::from_json(Bytes::from(format!(r#"{{"k":{{"S":"{name}"}},"v":{{"S":"{value}"}}}}"#)))
}

fn open() -> Fence {
    let fence = Fence::closed();
    fence.open_until(Instant::now() + Duration::from_secs(1_000_000));
    fence
}

impl World {
    pub(super) fn new() -> Self {
        Self::with_staleness(Duration::ZERO)
    }

    fn with_staleness(staleness: Duration) -> Self {
        let tables = Arc::new(Memory::default());
        tables.describe_as(model::table());
        Self {
            source: Arc::new(Model::new(staleness)),
            tables,
            clock: Clock::Simulated { start_unix_ms: 1_000_000, start: Instant::now() },
            applied_through: Arc::new(AtomicI64::new(i64::MAX)),
            budget_bytes: 64 << 20,
            guard: None,
        }
    }

    /// Items `k0`, `k1`, … at the source.
    pub(super) fn fill(&self, items: usize) {
        for index in 0..items {
            let name = format!("k{index}");
            self.source.write(&key(&name), Some(&item(&name, "old")));
        }
    }

    pub(super) fn store(&self) -> Store {
        Store::new(self.control(), "orders", "us")
    }

    pub(super) fn repairs(&self) -> repair::Store {
        repair::Store::new(self.control(), "orders", "us", self.clock)
    }

    fn control(&self) -> Control {
        Control::new(Arc::clone(&self.tables) as _, "control")
    }

    pub(super) async fn ask(&self, request: Request) -> Run {
        let store = self.store();
        let known = store.load().await.expect("readable");
        let mut run = Run::ask(known.as_ref(), &request, self.clock.unix_ms()).expect("it makes sense");
        assert_eq!(store.save(&mut run).await.expect("written"), Saved::Done);
        run
    }

    pub(super) async fn run(&self) -> Run {
        self.store().load().await.expect("readable").expect("there is one")
    }

    /// Waits until the run is in `state`.
    async fn until(&self, state: State) -> Run {
        let reached = async {
            loop {
                let run = self.run().await;
                if run.state == state {
                    return run;
                }
                sleep(Duration::from_millis(50)).await;
            }
        };
        match timeout(Duration::from_secs(10_000), reached).await {
            Ok(run) => run,
            Err(_) => panic!("never {state:?}: {:?}", self.run().await),
        }
    }

    /// The replica's items, by key.
    pub(super) fn replica(&self) -> BTreeMap<String, String> {
        self.tables.items("replica")
    }

    /// The replica holds exactly what the source holds.
    pub(super) fn is_equal(&self) {
        let (source, replica) = (self.source.items(), self.replica());
        let keys = source.keys().chain(replica.keys());
        let different: Vec<_> = keys
            .filter(|key| source.get(*key) != replica.get(*key))
            .map(|key| (key, source.get(key), replica.get(key)))
            .take(5)
            .collect();
        assert!(different.is_empty(), "source and replica differ: {different:#?}");
    }

    pub(super) async fn start(&self) -> Worker {
        let metrics = Metrics::new("test", "test", self.clock).expect("metrics");
        let (inbox, receiver) = mpsc::unbounded_channel();
        let (gauges, window, live) = (Arc::new(Gauges::default()), Window::default(), open());
        let writer = self.writer(&metrics, receiver, &gauges, &window, &live).await;
        let mut tasks = Tasks::new();
        tasks.spawn(tracing::Span::none(), writer.run());
        let sole = Arc::new(Mutex::new(open()));
        let (wanted, budget) = (Arc::new(Mutex::new(Vec::new())), Budget::new(self.budget_bytes));
        let parts = Parts {
            source: Arc::clone(&self.source) as _,
            source_table: "source".to_owned(),
            replica: Arc::clone(&self.tables) as _,
            replica_table: "replica".to_owned(),
            guard: self.guard.clone(),
            inbox: inbox.clone(),
            window,
            budget: budget.clone(),
            sole: {
                let sole = Arc::clone(&sole);
                Arc::new(move || sole.lock().expect("whole").clone())
            },
            want: {
                let wanted = Arc::clone(&wanted);
                Arc::new(move |purpose, is| wanted.lock().expect("whole").push((purpose, is)))
            },
            gauges: Arc::clone(&gauges),
            watermark: {
                let through = Arc::clone(&self.applied_through);
                Arc::new(move || Some(through.load(Ordering::Relaxed)).filter(|unix_ms| *unix_ms > 0))
            },
            store: self.store(),
            show: Arc::new(|_| {}),
            clock: self.clock,
            metrics: metrics.copies("orders", "Orders", "us"),
        };
        let stop = CancellationToken::new();
        let mut copying = Tasks::new();
        copying.spawn(tracing::Span::none(), Runner::new(parts.clone()).run(stop.clone()));
        copying.spawn(tracing::Span::none(), repair::Runner::new(parts, self.repairs()).run(stop.clone()));
        Worker { inbox, live, sole, gauges, wanted, stop, budget, _tasks: tasks, copying }
    }

    async fn writer(
        &self,
        metrics: &Metrics,
        inbox: mpsc::UnboundedReceiver<Delivery>,
        gauges: &Arc<Gauges>,
        window: &Window,
        live: &Fence,
    ) -> Writer {
        let fence = live.clone();
        let parts = replica::Parts {
            config: replica::Config {
                table: "replica".to_owned(),
                batches_in_flight: 4,
                attempt_timeout: Duration::from_secs(4),
                settle: Duration::from_secs(4),
                guard: self.guard.clone(),
                park_limit: 100,
            },
            tables: Arc::clone(&self.tables) as _,
            parked: self.parked(),
            inbox,
            reloads: mpsc::unbounded_channel().1,
            retry_lot: Arc::new(move |shard| Some(Lot::unheard(shard.cloned(), fence.clone()))),
            gauges: Arc::clone(gauges),
            window: window.clone(),
            clock: self.clock,
            metrics: metrics.replica("orders", "Orders", "us"),
        };
        Writer::build(parts).await.expect("the parked keys are read")
    }

    fn parked(&self) -> Parked {
        Parked::new(self.control(), "orders", "us", self.clock)
    }
}

impl Worker {
    /// A change of the source, which comes by the stream at once.
    pub(super) fn change(&self, world: &World, name: &str, value: Option<&str>) {
        let put = value.map(|value| item(name, value));
        world.source.write(&key(name), put.as_ref());
        self.deliver(world, name, value);
    }

    /// What the stream tells of an earlier change.
    fn deliver(&self, world: &World, name: &str, value: Option<&str>) {
        let op = value.map_or(Op::Delete, |value| Op::Put(item(name, value)));
        let created_unix_ms = world.clock.unix_ms();
        let changes = vec![Change { key: key(name), op, created_unix_ms, order: None }];
        let lot = Lot::unheard(None, self.live.clone());
        self.inbox.send(Delivery { changes, lot }).expect("the writer runs");
    }

    /// Waits until nothing waits to be written.
    pub(super) async fn settled(&self) {
        sleep(Duration::from_millis(10)).await;
        while self.gauges.pending() > 0 {
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// The right to write what is copied ends.
    fn lose(&self) {
        self.sole.lock().expect("whole").revoke();
    }

    /// This worker is alone again.
    fn regain(&self) {
        *self.sole.lock().expect("whole") = open();
    }

    /// Ends the copy as a drain does.
    async fn end(&mut self) {
        self.stop.cancel();
        while self.copying.next().await.is_some() {}
    }
}

/// So many segments, read strongly consistently.
pub(super) fn cut(segments: u32) -> Request {
    Request { segments: Some(segments), ..Request::default() }
}
