//! Whole workers in one process on paused time, against a model of DynamoDB, all of it decided by one seed.
//!
//! ```text
//!  seed ──> Scenario ──> Run ──┬── Model (sites, tables, streams; rules, cuts, quirks) ──> History
//!                              ├── Fleet (places: workers on nodes that freeze and die)        │
//!                              └── Truth (what is where, since when) <── judge ────────────────┘
//! ```
//!
//! **What is real**: `supervisor::Worker` with all below it, down to the traits of `dynamo`. **What is not**: the services
//! ([`model`], which is written from their documentation, shares only words with the program and is held against real
//! servers by [`conformance`]), the clock (tokio's, paused; each worker's time of day is off by up to three seconds), and
//! machines: what a worker spawns runs on a [`Node`](crate::task::node::Node), which is frozen as by `SIGSTOP`, killed,
//! or cut off from a service, while timers and requests under way go on.
//!
//! **A run**: a [`Scenario`](scenario::Scenario) is drawn from the seed before anything happens: one or two replications
//! with one to three replicas, their view, start, buffers, the times of leases, how endpoints behave, which troubles meet
//! calls how often, and a list of events (workers start, drain, die, freeze, come back; shards split and roll; records are
//! trimmed, shards vanish, the stream is replaced, everybody is away for a day; items are refused, replicas are down). What
//! a scenario is mostly about is its [`Focus`](scenario::Focus), which goes by the seed. While it runs, each
//! write that lands and each look at a worker is judged. Then all trouble ends, the source falls silent, and the workers
//! must come to rest: everything applied, or parked, or a gap told.
//!
//! **What is judged** is in [`judge`], by the names of the design's invariants. That the judge would find a bug is shown
//! by [`mutations`]. I8 (a stalled replica delays no other) is shown by tests of `supervisor`, which measure; here every
//! replica is judged by itself.
//!
//! **One seed is one run**: the runtime has one thread, time is its own, `fastrand` is seeded, and nothing the program
//! does depends on the order of a hash map. Nor may it depend on tokio's own generator, which cannot be seeded: every
//! `select!` is `biased`, and a value with listeners is one of `supervisor::watch`, since tokio's `watch` wakes them in
//! random order. A test runs seeds three times and compares all that happened.
//!
//! To run more or others: `DYNAMIRROR_SEEDS=10000 DYNAMIRROR_FIRST_SEED=5000 cargo test --lib simulation::every`, and
//! `DYNAMIRROR_SEEDS_OF_ORDERS` for those of pauses and seeks, which are counted apart.
//! To see one again: `DYNAMIRROR_SEED=123 cargo test --lib simulation::replay -- --nocapture`, with `DYNAMIRROR_FOCUS=Writes`
//! for one of a focus, and `DYNAMIRROR_LOG=1` for the program's own log. What a seed means changes with every change of the
//! program that makes one call more or less, so a counterexample is kept as a test of what it showed, not as its seed.
//!
//! Pauses and seeks are a focus of their own ([`orders`]): `cargo test --lib simulation::every_seed_of_orders`, and
//! `DYNAMIRROR_FOCUS=Orders` for one of its seeds.
//!
//! So is that all shards of a replication are wanted at one worker ([`sole`]): `simulation::every_seed_of_affinity`, and
//! `DYNAMIRROR_FOCUS=Affinity`.
//!
//! And so are first copies and repairs ([`copies`]): `simulation::every_seed_of_copies`, `DYNAMIRROR_SEEDS_OF_COPIES`, and
//! `DYNAMIRROR_FOCUS=Copy`.
//!
//! To add a fault: what a service may do by itself goes into the model, as a `Trouble` or a `Quirk`, and is drawn in
//! [`scenario`]; what happens to workers or data is an [`Event`](scenario::Event), and what it does stands in [`run`].
//! Data that becomes unreadable is entered in the run's losses, or its gap counts as a false alarm.
//! To add an invariant: judge it in [`judge`] from what landed (`Truth::landed`, `Truth::row_written`), from what a
//! worker shows (`Truth::judge_status`), or when all is at rest (`Run::judge_end`), and show that it finds a bug.

mod conformance;
mod copies;
mod fleet;
mod judge;
mod model;
mod mutations;
mod orders;
mod run;
mod scenario;
mod sole;
mod trace;
mod truth;

use std::fmt::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use self::run::{Counts, Report, run};
use self::scenario::{Focus, Scenario};

/// Seeds that a plain run of the tests takes: half a minute of two cores.
const SEEDS: u64 = 300;

/// Seeds of pauses and seeks, besides: of one focus, and what went wrong in it needed a hundred or more.
const SEEDS_OF_ORDERS: u64 = 300;

/// Seeds in which workers want all shards, besides.
const SEEDS_OF_AFFINITY: u64 = 100;

/// Seeds in which replicas are copied to, besides.
const SEEDS_OF_COPIES: u64 = 60;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

/// Runs seeds on all cores, and gives the reports of those that fail, in order.
fn run_all(first: u64, count: u64, focus: Option<Focus>) -> (Vec<Report>, Counts) {
    let next = AtomicU64::new(first);
    let (failures, counts) = (Mutex::new(Vec::new()), Mutex::new(Counts::default()));
    let work = || {
        while let Some(seed) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|seed| *seed < first + count)
        {
            let report = run(Scenario::draw(seed, focus), None);
            counts.lock().expect("nobody panics with it").add(&report.counts);
            if !report.violations.is_empty() {
                failures.lock().expect("nobody panics with it").push(report);
            }
        }
    };
    let threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
    let mut failures = failures.into_inner().expect("nobody panicked with it");
    failures.sort_by_key(|report| report.scenario.seed);
    (failures, counts.into_inner().expect("nobody panicked with it"))
}

fn explain(report: &Report) -> String {
    let mut text = format!("{}\n{}", report.scenario, report.trace);
    for violation in &report.violations {
        let at = violation.at.as_secs_f64();
        writeln!(text, "{} at {at:.3}: {}", violation.invariant, violation.what).expect("memory takes all");
    }
    let seed = report.scenario.seed;
    text + &format!("replay: DYNAMIRROR_SEED={seed} cargo test --lib simulation::replay -- --nocapture")
}

#[test]
fn every_seed_holds() {
    hold(number("DYNAMIRROR_SEEDS").unwrap_or(SEEDS), None);
}

#[test]
fn every_seed_of_orders_holds() {
    hold(number("DYNAMIRROR_SEEDS_OF_ORDERS").unwrap_or(SEEDS_OF_ORDERS), Some(Focus::Orders));
}

#[test]
fn every_seed_of_affinity_holds() {
    let counts =
        hold(number("DYNAMIRROR_SEEDS_OF_AFFINITY").unwrap_or(SEEDS_OF_AFFINITY), Some(Focus::Affinity));
    assert!(counts.soles > 0, "nobody was ever alone: {counts:?}");
}

#[test]
fn every_seed_of_copies_holds() {
    let count = number("DYNAMIRROR_SEEDS_OF_COPIES").unwrap_or(SEEDS_OF_COPIES);
    let counts = hold(count, Some(Focus::Copy));
    assert!(counts.copies >= count, "hardly anything was copied: {counts:?}");
}

fn hold(count: u64, focus: Option<Focus>) -> Counts {
    let first = number("DYNAMIRROR_FIRST_SEED").unwrap_or(0);
    let (failures, counts) = run_all(first, count, focus);
    println!("{count} seeds from {first}: {counts:?}");
    for report in &failures {
        let (scenario, first) = (&report.scenario, &report.violations[0]);
        println!("seed {} {:?}: {}: {}", scenario.seed, scenario.focus, first.invariant, first.what);
    }
    if let Some(report) = failures.first() {
        panic!("{} seeds of {count} failed; the first:\n{}", failures.len(), explain(report));
    }
    assert!(counts.effects > count && counts.troubled > count, "hardly anything happened: {counts:?}");
    counts
}

/// Runs the seed that the environment names and tells all about it.
#[test]
fn replay() {
    let Some(seed) = number("DYNAMIRROR_SEED") else { return };
    if std::env::var_os("DYNAMIRROR_LOG").is_some() {
        tracing_subscriber::fmt().with_env_filter("dynamirror=debug").without_time().init();
    }
    let named = std::env::var("DYNAMIRROR_FOCUS").ok();
    let focus = Focus::ALL
        .into_iter()
        .chain([Focus::Orders, Focus::Affinity, Focus::Copy])
        .find(|focus| named.as_deref() == Some(format!("{focus:?}").as_str()));
    let report = run(Scenario::draw(seed, focus), None);
    println!("{:?}", report.counts);
    if !report.violations.is_empty() {
        println!("{}", explain(&report));
        panic!("seed {seed} fails");
    }
}

/// One seed decides everything, whatever thread it runs on and whatever ran there before.
#[test]
fn the_same_seed_is_the_same_run() {
    for seed in 0..2 * Focus::ALL.len() as u64 {
        let digest = move || run(Scenario::draw(seed, None), None).digest;
        let (here, again) = (digest(), digest());
        let elsewhere = thread::spawn(digest).join().expect("it ends");
        assert!(here == again && here == elsewhere, "seed {seed} ran in two ways");
    }
}
