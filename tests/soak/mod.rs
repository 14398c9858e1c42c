//! The soak: three real processes replicate two tables to two replicas each, while they are killed, stopped for
//! longer than their leases last and woken up, cut off and restarted, and while shards split and roll over.
//!
//! ```text
//!  load ──> source ─┐                               ┌─> replicas
//!                   ├── links ── process a ── links ┤
//!                   ├── links ── process b ── links ┤    each link can be cut
//!                   └── links ── process c ── links ┘
//! ```
//!
//! A [`schedule`] drawn from a seed says what is done to whom. When it is over and the load has ended, everything
//! written must become durable, both replicas of both tables must equal their sources item by item, the ledgers must
//! balance, nothing may be missing, no process may have written what another had taken over ([`fencing`], I5), and all
//! processes must end with 0.
//!
//! It is ignored by default, because it takes two minutes and wants the processor for itself; `tests/run` runs it
//! alone, and `tests/soak/run` for as long as wanted. `DYNAMIRROR_SOAK_SEED` replays a schedule,
//! `DYNAMIRROR_SOAK_ROUNDS` makes it longer or shorter.

mod fencing;
mod fleet;
mod handover;
mod judge;
mod proxy;
mod schedule;
mod steps;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use dynamirror::emulator;
use dynamirror::lease::{Leases, State};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use self::fleet::Slot;
use self::schedule::{PROCESSES, Who};
use crate::support::{Kind, Load, Options, Shape, World, beside};

/// The seed of a run that is not told one.
const SEED: u64 = 20_240;

/// Rounds of a run that is not told how many: 33 kills and 11 zombies in about two minutes.
const ROUNDS: usize = 11;

/// Keys of each table, enough that most are not written again soon: a stale write stays to be seen.
const KEYS: usize = 1_500;

/// Keys that take half of the changes.
const HOT_KEYS: usize = 10;

/// Time between two calls of the load to one table: about 150 changes a second.
const LOAD_PAUSE: Duration = Duration::from_millis(30);

/// Records older than this are trimmed, so that a long run does not fill the memory. Far more than a shard is ever
/// behind.
const RETENTION: Duration = Duration::from_mins(20);

/// A fleet under a schedule.
struct Soak {
    world: World,
    slots: Vec<Slot>,
    leases: Vec<Leases>,
    home: PathBuf,
    began: Instant,
    asleep: Option<Asleep>,
    tally: Tally,
}

/// A process that is stopped until others have its shards.
struct Asleep {
    slot: usize,
    since: Instant,
    /// Writes of the others before.
    writes: usize,
}

/// What was done.
#[derive(Debug, Default)]
struct Tally {
    kills: usize,
    /// Of those, the ones that hit a holder of leases.
    kills_at_work: usize,
    zombies: usize,
    freezes: usize,
    cuts: usize,
    splits: usize,
    rolls: usize,
    restarts: usize,
}

fn shapes() -> Vec<Shape> {
    vec![Shape::orders(), Shape { name: "events", hash: Kind::Binary, range: None, ..Shape::orders() }]
}

fn number<T: std::str::FromStr>(name: &str, default: T) -> T {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} must be a number, not `{text}`")),
        Err(_) => default,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes two minutes and the whole processor; tests/run and tests/soak/run run it alone"]
async fn a_fleet_that_is_killed_stopped_cut_off_and_restarted_leaves_no_difference() {
    let (seed, rounds) = (number("DYNAMIRROR_SOAK_SEED", SEED), number("DYNAMIRROR_SOAK_ROUNDS", ROUNDS));
    let schedule = schedule::draw(seed, rounds);
    let home = home(&format!("soak-{seed}"));
    let _report = Report { seed, rounds, home: home.clone() };
    println!("seed {seed}, {rounds} rounds, {} steps", schedule.len());
    let mut soak = Soak::start(&home).await;
    let stop = CancellationToken::new();
    let loads: Vec<_> = soak.loads(seed).into_iter().map(beside_load(&stop)).collect();
    for timed in &schedule {
        sleep(Duration::from_millis(timed.after_ms)).await;
        soak.step(timed).await;
    }
    stop.cancel();
    let mut written = 0;
    for load in loads {
        written += load.await.expect("the load does not panic").written;
    }
    soak.finish(&schedule, written).await;
}

/// Changes a table until told to stop.
fn beside_load(stop: &CancellationToken) -> impl Fn(Load) -> JoinHandle<Load> {
    let stop = stop.clone();
    move |mut load| {
        let stop = stop.clone();
        beside(async move {
            while !stop.is_cancelled() {
                load.step().await;
                sleep(LOAD_PAUSE).await;
            }
            load
        })
    }
}

/// An empty directory for the logs of a run.
fn home(name: &str) -> PathBuf {
    let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    // It need not be there.
    let _ = std::fs::remove_dir_all(&home);
    std::fs::create_dir_all(&home).expect("a directory for logs");
    home
}

/// Says on failure how to see it again.
struct Report {
    seed: u64,
    rounds: usize,
    home: PathBuf,
}

impl Drop for Report {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let Self { seed, rounds, home } = self;
            eprintln!("the soak failed; logs of all processes are in {}", home.display());
            eprintln!(
                "the same schedule again: DYNAMIRROR_SOAK_ROUNDS={rounds} tests/soak/run --seed {seed}"
            );
        } else {
            // Nobody misses it.
            let _ = std::fs::remove_dir_all(&self.home);
        }
    }
}

// === impl Soak ===

impl Soak {
    async fn start(home: &Path) -> Self {
        let world = World::with(Options {
            shapes: shapes(),
            attempt_timeout: Duration::from_millis(500),
            emulator: emulator::Config {
                retention: RETENTION,
                empty_pages: 0.05,
                ..emulator::Config::default()
            },
            ..Options::default()
        });
        let world = world.await;
        world.source_region().inconsistent_describe(true);
        let mut slots = Vec::new();
        for name in ["a", "b", "c"] {
            let mut slot = Slot::new(&world, name, home, fleet::LEASE).await;
            slot.start(false);
            slots.push(slot);
        }
        let control = world.control_of().await;
        let leases = |shape: &Shape| Leases::new(control.clone(), shape.name, "a test");
        let leases = world.options.shapes.iter().map(leases).collect();
        Self {
            world,
            slots,
            leases,
            home: home.to_owned(),
            began: Instant::now(),
            asleep: None,
            tally: Tally::default(),
        }
    }

    fn loads(&self, seed: u64) -> Vec<Load> {
        let load = |shape: &Shape| self.world.load_of(shape, KEYS, seed).hot(HOT_KEYS);
        self.world.options.shapes.iter().map(load).collect()
    }

    fn say(&self, text: &str) {
        println!("{:7.1} s  {text}", self.began.elapsed().as_secs_f64());
    }

    /// How many leases each worker holds, dead ones included. Who dies right after it wrote a shard's end leaves its name in
    /// a row that nobody takes any more, and that is marked to expire when its time has run out and its children are read:
    /// that is no lease.
    async fn held(&self) -> BTreeMap<String, usize> {
        let mut held = BTreeMap::new();
        for leases in &self.leases {
            let rows = leases.load().await.expect("the rows can be read");
            for row in rows.into_iter().filter(|row| row.state != State::Ended) {
                if let Some(owner) = row.owner {
                    // A name may be followed by what tells one run of it from another.
                    let worker = owner.split('/').next().unwrap_or_default().to_owned();
                    *held.entry(worker).or_default() += 1;
                }
            }
        }
        held
    }

    /// Whom a step strikes, and how many leases it holds. One that sleeps is left alone.
    async fn choose(&self, who: Who) -> (usize, usize) {
        let held = self.held().await;
        let asleep = self.asleep.as_ref().map(|asleep| asleep.slot);
        let awake: Vec<_> = (0..PROCESSES).filter(|slot| Some(*slot) != asleep).collect();
        let leases = |slot: usize| held.get(self.slots[slot].worker()).copied().unwrap_or(0);
        let chosen = match who {
            Who::Busiest => awake.into_iter().max_by_key(|slot| leases(*slot)).expect("some run"),
            Who::Any(index) => awake[index % awake.len()],
        };
        (chosen, leases(chosen))
    }
}
