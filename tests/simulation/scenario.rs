//! What happens in one run, drawn from the seed before the run begins.
//!
//! A scenario is plain data, so it can be printed whole. Times are counted from the beginning of the run. Two runs of
//! one scenario are the same run, event for event.

use std::fmt;
use std::time::Duration;

use fastrand::Rng;

use super::copies;
use super::model::{Operation, Operations, Quirks, Trouble};
use crate::fault::{Fault, Width};
use crate::lease;
use crate::record::View;
use crate::stream;
use crate::supervisor::{FirstCopy, Start};

/// Everything that one run is told.
#[derive(Debug, Clone)]
pub(super) struct Scenario {
    pub(super) seed: u64,
    pub(super) focus: Focus,
    pub(super) replications: Vec<Replication>,
    pub(super) lease: lease::Config,
    pub(super) grace: Duration,
    pub(super) reader: stream::Config,
    pub(super) discovery: Duration,
    /// How far the clock of each worker's place is ahead of the service's, in milliseconds.
    pub(super) skews_ms: Vec<i64>,
    /// What may happen to calls.
    pub(super) hazards: Vec<Hazard>,
    /// In order of their times.
    pub(super) events: Vec<(Duration, Event)>,
}

/// One source and where it goes.
#[derive(Debug, Clone)]
pub(super) struct Replication {
    pub(super) name: String,
    pub(super) view: View,
    pub(super) start: Start,
    /// Open shards at the beginning.
    pub(super) shards: usize,
    pub(super) keys: u32,
    /// How the source's endpoint behaves.
    pub(super) quirks: Quirks,
    /// Keys that the source holds before its stream begins.
    pub(super) held: Vec<u32>,
    pub(super) replicas: Vec<Replica>,
}

/// One replica's limits.
#[derive(Debug, Clone)]
pub(super) struct Replica {
    pub(super) name: String,
    pub(super) buffer_bytes: usize,
    pub(super) batches_in_flight: usize,
    pub(super) park_limit: usize,
    pub(super) copy: FirstCopy,
    pub(super) window_keys_max: usize,
}

/// What is made likely, beside what always happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Focus {
    /// A little of everything.
    Mixed,
    /// No fault at all: nothing may be read or written twice but by restarts.
    Calm,
    /// Workers die, freeze and are cut off.
    Workers,
    /// Workers lose their leases while they write, and what they wrote lands late.
    Takeover,
    /// Writes fail, are left over, land late.
    Writes,
    /// Shards split and roll, listings lie.
    Shards,
    /// Items are refused, and tried again on demand.
    Poison,
    /// Data becomes unreadable.
    Loss,
    /// Replicas are down for long.
    Outages,
    /// Control writes fail, are answered late or not at all.
    Control,
    /// A worker begins at the latest record, with its calls failing.
    Latest,
    /// People pause replicas, and send them back. No plain seed is of it: what those mean would change.
    Orders,
    /// Workers want all shards of a replication, and die, freeze and are cut off. No plain seed is of it either.
    Affinity,
    /// Replicas are copied to from a source that held items before, and single items repaired. No plain seed is of it.
    Copy,
}

/// What may happen to any call, until the faults stop.
#[derive(Debug, Clone)]
pub(super) struct Hazard {
    pub(super) site: Site,
    pub(super) operations: Operations,
    pub(super) trouble: Trouble,
    pub(super) chance: f64,
}

/// A thing that happens at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Event {
    /// A worker starts in a place, unless one runs there. The same id again only after one that is surely gone.
    Start {
        place: usize,
        same_id: bool,
    },
    /// It is asked to drain.
    Drain {
        place: usize,
    },
    /// It is gone at once.
    Kill {
        place: usize,
    },
    /// It is stopped, and goes on later.
    Freeze {
        place: usize,
        span: Duration,
    },
    /// It cannot reach one service for a while.
    Cut {
        place: usize,
        site: Site,
        span: Duration,
    },
    /// A service is down for everybody.
    Down {
        site: Site,
        span: Duration,
    },
    /// Writes to the source.
    Write {
        replication: usize,
        count: u32,
        hot: bool,
    },
    /// An open shard is split, or rolled over.
    Split {
        replication: usize,
    },
    Roll {
        replication: usize,
    },
    /// Many shards at once.
    Burst {
        replication: usize,
        shards: usize,
    },
    /// The oldest records are trimmed, of those that everybody has read.
    Trim {
        replication: usize,
    },
    /// From now on replicas refuse some items, or none any more.
    Poison {
        replication: usize,
        replica: usize,
        on: bool,
    },
    /// Somebody asks for all parked keys to be tried again.
    Retry {
        replication: usize,
        replica: usize,
    },
    /// A shard is gone, read or not.
    Vanish {
        replication: usize,
    },
    /// The stream is switched off and on.
    Replace {
        replication: usize,
    },
    /// All workers are stopped, for longer than a stream keeps records.
    Away {
        span: Duration,
    },
    /// Somebody pauses one replica, or all, or lets them go on.
    Pause {
        replication: usize,
        replica: Option<usize>,
        on: bool,
    },
    /// Somebody sends one replica back, or all.
    Seek {
        replication: usize,
        replica: Option<usize>,
        to: Back,
    },
    /// The worker of a place wants all shards of a replication, or does no more.
    Want {
        place: usize,
        replication: usize,
        on: bool,
        /// Whether nothing is under way when it wants them no more.
        settled: bool,
    },
    /// Somebody asks for a copy, of a replica that had nothing but what came by the stream or an earlier copy.
    Copy {
        replication: usize,
        replica: usize,
    },
    /// Somebody asks for repairs of so many keys.
    Repair {
        replication: usize,
        replica: usize,
        count: u32,
    },
}

/// Where replicas are sent back to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Back {
    /// To the oldest record.
    Horizon,
    /// To a time of so long ago.
    Time(Duration),
    /// To some record of some shard.
    Record,
}

/// A service that can be out of reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Site {
    Control,
    Source { replication: usize },
    Replica { replication: usize, replica: usize },
}

/// Places where workers run.
pub(super) const PLACES: usize = 4;

impl Focus {
    pub(super) const ALL: [Self; 11] = [
        Self::Mixed,
        Self::Calm,
        Self::Workers,
        Self::Takeover,
        Self::Writes,
        Self::Shards,
        Self::Poison,
        Self::Loss,
        Self::Outages,
        Self::Control,
        Self::Latest,
    ];
}

/// How long things happen, in seconds; then faults end and the source falls silent.
const BUSY_S: std::ops::Range<u64> = 30..100;

/// Draws events of one scenario.
struct Draw<'a> {
    rng: &'a mut Rng,
    focus: Focus,
    busy: Duration,
    events: Vec<(Duration, Event)>,
}

// === impl Scenario ===

impl Scenario {
    /// The scenario of a seed; its focus goes by the seed too, unless one is given.
    pub(super) fn draw(seed: u64, focus: Option<Focus>) -> Self {
        let focus = focus.unwrap_or(Focus::ALL[(seed % Focus::ALL.len() as u64) as usize]);
        let mut rng = Rng::with_seed(seed ^ 0x5eed_0000_5eed_0000);
        let rng = &mut rng;
        let attempt = Duration::from_millis(rng.u64(1_000..=2_500));
        let renew_interval = Duration::from_millis(rng.u64(1_000..=2_500));
        let least = (3 * renew_interval).max(2 * attempt + renew_interval);
        let lease = lease::Config {
            duration: least + Duration::from_millis(rng.u64(1..=4_000)),
            renew_interval,
            longest_attempt: attempt,
        };
        let replications = (0..1 + usize::from(rng.u8(..) < 50)).map(|index| replication(rng, focus, index));
        let replications: Vec<_> = replications.collect();
        let active_pause = Duration::from_millis(rng.u64(200..=800));
        let mut scenario = Self {
            seed,
            focus,
            replications,
            lease,
            grace: Duration::from_secs(rng.u64(3..=20)),
            reader: stream::Config { active_pause, idle_pause: active_pause * rng.u32(1..=4) },
            discovery: Duration::from_secs(rng.u64(5..=20)),
            skews_ms: (0..PLACES).map(|_| rng.i64(-3_000..=3_000)).collect(),
            hazards: Vec::new(),
            events: Vec::new(),
        };
        scenario.hazards = hazards(rng, focus, &scenario.replications);
        scenario.events = events(rng, &scenario);
        scenario
    }
}

fn replication(rng: &mut Rng, focus: Focus, index: usize) -> Replication {
    let start = match focus {
        Focus::Latest => Start::Latest,
        Focus::Mixed if rng.u8(..) < 40 => Start::Latest,
        _ => Start::TrimHorizon,
    };
    let view = match rng.u8(..) {
        0..25 => View::KeysOnly,
        25..45 => View::NewImage,
        45..55 => View::OldImage,
        _ => View::NewAndOldImages,
    };
    let replicas = match rng.u8(..) {
        0..110 => 1,
        110..210 => 2,
        _ => 3,
    };
    // A page's reservation is 1.5 MiB, so the smallest budget lets one reader at a time through.
    let small = |rng: &mut Rng| focus != Focus::Calm && rng.bool();
    let buffer = |rng: &mut Rng| if small(rng) { rng.usize(1..=3) << 20 } else { 32 << 20 };
    let plan = Replication {
        name: format!("r{index}"),
        view: if matches!(focus, Focus::Poison) { View::NewAndOldImages } else { view },
        start,
        shards: rng.usize(1..=4),
        keys: rng.u32(2..=24),
        quirks: if focus == Focus::Calm { Quirks::plain() } else { Quirks::drawn(rng) },
        held: Vec::new(),
        replicas: (0..replicas)
            .map(|index| Replica {
                name: format!("t{index}"),
                buffer_bytes: buffer(rng),
                batches_in_flight: rng.usize(1..=6),
                park_limit: rng.usize(3..=100),
                copy: FirstCopy::Never,
                window_keys_max: crate::lane::Window::KEYS_MAX,
            })
            .collect(),
    };
    if focus == Focus::Copy { copies::plan(rng, plan) } else { plan }
}

/// What may happen to calls: a few kinds of trouble at a few sites, rarely; and often where the scenario is about it.
fn hazards(rng: &mut Rng, focus: Focus, replications: &[Replication]) -> Vec<Hazard> {
    let mut hazards = Vec::new();
    if focus == Focus::Calm {
        return hazards;
    }
    let mut add =
        |site, operations, trouble, chance| hazards.push(Hazard { site, operations, trouble, chance });
    for site in sites(replications) {
        let often = match (focus, site) {
            (Focus::Takeover, Site::Replica { .. } | Site::Control) => 0.1 + 0.2 * rng.f64(),
            (Focus::Affinity, _) => 0.02 + 0.2 * rng.f64(),
            (Focus::Copy, _) => 0.12 * rng.f64(),
            (Focus::Writes, Site::Replica { .. })
            | (Focus::Poison, Site::Control)
            | (Focus::Control | Focus::Latest, Site::Control)
            | (Focus::Shards | Focus::Latest, Site::Source { .. }) => 0.03 + 0.12 * rng.f64(),
            _ => 0.01 * rng.f64(),
        };
        for _ in 0..rng.u32(0..=3) {
            let trouble = match (focus, site) {
                (Focus::Takeover | Focus::Affinity, Site::Replica { .. }) => Trouble::Late,
                (Focus::Takeover, Site::Control) => Trouble::Slow(100..=3_000),
                (Focus::Affinity, _) if rng.bool() => Trouble::Slow(100..=3_000),
                _ => trouble(rng, site),
            };
            let operations = match (site, &trouble) {
                (Site::Source { .. }, Trouble::Refused(Fault::ExpiredIterator)) => {
                    Operation::GetRecords.into()
                }
                (Site::Source { .. }, _) if focus == Focus::Copy => {
                    Operations::STREAMS | Operation::Scan.into() | Operation::BatchGetItem.into()
                }
                (Site::Source { .. }, _) => Operations::STREAMS,
                (_, Trouble::Unprocessed | Trouble::Torn) => Operation::BatchWriteItem.into(),
                _ => Operations::WRITES | Operations::ROWS,
            };
            add(site, operations, trouble, often);
        }
    }
    hazards
}

fn trouble(rng: &mut Rng, site: Site) -> Trouble {
    const THROTTLES: [Width; 4] = [Width::KeyRange, Width::Table, Width::Index, Width::Account];
    let replica = matches!(site, Site::Replica { .. });
    match rng.u8(0..10) {
        0 => Trouble::Unreachable,
        1 => Trouble::RequestLost,
        2 => Trouble::AnswerLost,
        3 => Trouble::Late,
        4 => Trouble::Refused(Fault::Throttled(THROTTLES[rng.usize(..4)])),
        5 => Trouble::Failed,
        6 => Trouble::Slow(100..=2_000),
        7 | 8 if replica => Trouble::Unprocessed,
        9 if replica => Trouble::Torn,
        _ if matches!(site, Site::Source { .. }) => Trouble::Refused(Fault::ExpiredIterator),
        _ => Trouble::Late,
    }
}

/// Every service there is.
pub(super) fn sites(replications: &[Replication]) -> Vec<Site> {
    let mut sites = vec![Site::Control];
    for (replication, plan) in replications.iter().enumerate() {
        sites.push(Site::Source { replication });
        sites.extend((0..plan.replicas.len()).map(|replica| Site::Replica { replication, replica }));
    }
    sites
}

fn events(rng: &mut Rng, scenario: &Scenario) -> Vec<(Duration, Event)> {
    let busy = Duration::from_secs(rng.u64(BUSY_S));
    let mut draw = Draw { rng, focus: scenario.focus, busy, events: Vec::new() };
    draw.workers(&scenario.lease);
    for (index, replication) in scenario.replications.iter().enumerate() {
        draw.source(index, replication);
        for replica in 0..replication.replicas.len() {
            draw.replica(index, replica, &scenario.lease);
        }
    }
    draw.losses(scenario.replications.len());
    for (index, replication) in scenario.replications.iter().enumerate() {
        draw.orders(index, replication.replicas.len());
        draw.wants(index);
        draw.copies(index, replication);
    }
    let mut events = draw.events;
    events.sort_by_key(|(at, _)| *at);
    events
}

// === impl Draw ===

impl Draw<'_> {
    fn at(&mut self, event: Event) {
        let at = Duration::from_millis(self.rng.u64(0..self.busy.as_millis() as u64));
        self.events.push((at, event));
    }

    /// Between zero and `most` times; more often when the scenario is about it.
    fn times(&mut self, focus: Focus, usually: u32, most: u32) -> u32 {
        match self.focus {
            Focus::Calm => 0,
            _ if self.focus == focus => self.rng.u32(1..=most),
            _ => self.rng.u32(0..=usually),
        }
    }

    fn workers(&mut self, lease: &lease::Config) {
        self.events.push((Duration::ZERO, Event::Start { place: 0, same_id: false }));
        for place in 1..PLACES {
            if self.rng.bool() {
                self.at(Event::Start { place, same_id: false });
            }
        }
        let changes = match self.focus {
            Focus::Calm => self.rng.u32(0..=2),
            Focus::Workers | Focus::Takeover | Focus::Orders | Focus::Affinity | Focus::Copy => {
                self.rng.u32(3..=14)
            }
            _ => self.rng.u32(0..=4),
        };
        for _ in 0..changes {
            let place = self.rng.usize(0..PLACES);
            let again = Event::Start { place, same_id: self.rng.u8(..) < 60 };
            let span = lease.duration.mul_f64(0.2 + 2.0 * self.rng.f64());
            let end = match self.rng.u8(..) {
                0..80 => Event::Drain { place },
                _ if self.focus == Focus::Calm => Event::Drain { place },
                80..150 => Event::Kill { place },
                _ => Event::Freeze { place, span },
            };
            let at = Duration::from_millis(self.rng.u64(0..self.busy.as_millis() as u64));
            let pause = Duration::from_millis(self.rng.u64(0..=20_000));
            self.events.push((at, end));
            self.events.push((at + pause, again));
        }
        for _ in 0..self.times(Focus::Workers, 1, 4).max(4 * u32::from(self.focus == Focus::Takeover)) {
            let place = self.rng.usize(0..PLACES);
            let site = if self.rng.bool() || self.focus == Focus::Takeover {
                Site::Control
            } else {
                Site::Source { replication: 0 }
            };
            let span = lease.duration.mul_f64(0.2 + 2.0 * self.rng.f64());
            self.at(Event::Cut { place, site, span });
        }
        for _ in 0..self.times(Focus::Control, 0, 3) {
            let span = lease.duration.mul_f64(0.2 + 2.0 * self.rng.f64());
            self.at(Event::Down { site: Site::Control, span });
        }
    }

    fn source(&mut self, replication: usize, plan: &Replication) {
        let writes = match self.focus {
            Focus::Takeover | Focus::Affinity | Focus::Copy => self.rng.u32(60..=200),
            _ => self.rng.u32(5..=60),
        };
        for _ in 0..writes {
            let count = self.rng.u32(1..=30);
            let hot = self.rng.u8(..) < 80;
            self.at(Event::Write { replication, count, hot });
        }
        if plan.start == Start::TrimHorizon && self.rng.bool() {
            self.events.push((Duration::ZERO, Event::Write { replication, count: 40, hot: false }));
        }
        let ends = match self.focus {
            Focus::Affinity => self.rng.u32(4..=24),
            _ => self.times(Focus::Shards, 3, 12).max(u32::from(self.focus == Focus::Calm)),
        };
        for _ in 0..ends {
            let event =
                if self.rng.bool() { Event::Split { replication } } else { Event::Roll { replication } };
            self.at(event);
        }
        if self.focus == Focus::Shards && self.rng.u8(..) < 12 {
            self.at(Event::Burst { replication, shards: 120 });
        }
        // What is trimmed while a seek back is obeyed is lost for it, which a day's retention rules out.
        let trims = if self.focus == Focus::Orders { 0 } else { self.times(Focus::Shards, 1, 4) };
        for _ in 0..trims {
            self.at(Event::Trim { replication });
        }
    }

    fn replica(&mut self, replication: usize, replica: usize, lease: &lease::Config) {
        for _ in 0..self.times(Focus::Poison, 0, 4) {
            self.at(Event::Poison { replication, replica, on: true });
            self.at(Event::Poison { replication, replica, on: false });
        }
        for _ in 0..self.times(Focus::Poison, 0, 6) {
            self.at(Event::Retry { replication, replica });
        }
        for _ in 0..self.times(Focus::Outages, 1, 4) {
            let span = match self.focus {
                Focus::Outages => Duration::from_secs(self.rng.u64(1..=60)),
                _ => lease.duration.mul_f64(self.rng.f64()),
            };
            self.at(Event::Down { site: Site::Replica { replication, replica }, span });
        }
    }

    fn losses(&mut self, replications: usize) {
        if self.focus != Focus::Loss {
            return;
        }
        let replication = self.rng.usize(0..replications);
        let event = match self.rng.u8(..) {
            0..100 => Event::Vanish { replication },
            100..180 => Event::Replace { replication },
            _ => Event::Away { span: Duration::from_secs(self.rng.u64(20..=40) * 3_600) },
        };
        self.at(event);
    }

    fn orders(&mut self, replication: usize, replicas: usize) {
        if self.focus != Focus::Orders {
            return;
        }
        for _ in 0..self.rng.u32(0..=3) {
            let replica = self.one_or_all(replicas);
            let begin = Duration::from_millis(self.rng.u64(0..self.busy.as_millis() as u64));
            let span = Duration::from_millis(self.rng.u64(0..=40_000));
            self.events.push((begin, Event::Pause { replication, replica, on: true }));
            self.events.push((begin + span, Event::Pause { replication, replica, on: false }));
        }
        for _ in 0..self.rng.u32(1..=5) {
            let replica = self.one_or_all(replicas);
            let to = match self.rng.u8(0..3) {
                0 => Back::Horizon,
                1 => Back::Time(Duration::from_millis(self.rng.u64(0..60_000))),
                _ => Back::Record,
            };
            let at = Duration::from_millis(self.rng.u64(0..self.busy.as_millis() as u64));
            self.events.push((at, Event::Seek { replication, replica, to }));
            if self.rng.bool() {
                // Shards end just before or just after it.
                let near = (at + Duration::from_millis(self.rng.u64(0..4_000)))
                    .saturating_sub(Duration::from_secs(2));
                let split = self.rng.bool();
                let event = if split { Event::Split { replication } } else { Event::Roll { replication } };
                self.events.push((near, event));
            }
        }
    }

    fn wants(&mut self, replication: usize) {
        if self.focus != Focus::Affinity {
            return;
        }
        for _ in 0..self.rng.u32(2..=10) {
            let place = self.rng.usize(0..PLACES);
            let settled = self.rng.bool();
            let begin = Duration::from_millis(self.rng.u64(0..self.busy.as_millis() as u64));
            let span = Duration::from_millis(self.rng.u64(0..=40_000));
            self.events.push((begin, Event::Want { place, replication, on: true, settled }));
            if self.rng.u8(..) < 200 {
                self.events.push((begin + span, Event::Want { place, replication, on: false, settled }));
            }
        }
    }

    fn copies(&mut self, replication: usize, plan: &Replication) {
        if self.focus != Focus::Copy {
            return;
        }
        for (replica, limits) in plan.replicas.iter().enumerate() {
            if limits.copy == FirstCopy::OnDemand || self.rng.u8(..) < 70 {
                self.at(Event::Copy { replication, replica });
            }
            if self.rng.bool() {
                for _ in 0..self.rng.u32(1..=5) {
                    let count = self.rng.u32(1..=8);
                    self.at(Event::Repair { replication, replica, count });
                }
            }
        }
    }

    fn one_or_all(&mut self, replicas: usize) -> Option<usize> {
        self.rng.bool().then(|| self.rng.usize(0..replicas))
    }
}

// === impl Scenario: fmt ===

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "seed {} focus {:?} lease {:?} grace {:?}",
            self.seed, self.focus, self.lease, self.grace
        )?;
        writeln!(f, "reader {:?} discovery {:?} skews {:?} ms", self.reader, self.discovery, self.skews_ms)?;
        for hazard in &self.hazards {
            writeln!(f, "{hazard:?}")?;
        }
        for replication in &self.replications {
            writeln!(f, "{replication:?}")?;
        }
        for (at, event) in self.events.iter().filter(|(_, event)| !matches!(event, Event::Write { .. })) {
            writeln!(f, "{:>8.3} {event:?}", at.as_secs_f64())?;
        }
        Ok(())
    }
}
