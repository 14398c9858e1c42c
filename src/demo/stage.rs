//! The demo's acts, one after the other: open, write, catch up, verify, close.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::info_span;

use super::copies::{Copied, Copies};
use super::daemon::Daemon;
use super::fill::fill;
use super::sample::{Counts, Phase, Replica, Sampler, settled};
use super::screen::Screen;
use super::sender::Load;
use super::summary::{self, Summary};
use super::verified::{Verified, verify};
use super::world::{self, Reshaped, SOURCE_REGION, Stream, TABLE, World};
use super::{Args, Error, Output};
use crate::clock::Clock;
use crate::supervisor::status::{self, Status};
use crate::task::Tasks;

/// How often progress is looked at after the load: the daemon renews its numbers twice a second.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// While load runs, progress is looked at this often at least.
const LOOK_LATEST: Duration = Duration::from_secs(1);

/// Longer than anybody waits.
const FOREVER: Duration = Duration::from_hours(24 * 365 * 10);

/// A source that refuses this many requests without taking one is not a source.
const REFUSED_MAX: u64 = 20;

/// All that takes part.
pub(super) struct Stage<'a> {
    screen: &'a mut Screen,
    world: World,
    daemon: Daemon,
    copies: Copies,
    /// What was known of each copy when it was looked at last.
    copied: Vec<Copied>,
    /// Items that the source held before, and the records they made, which nobody reads.
    held: u64,
    held_records: u64,
    seed: u64,
    /// Items that should be written each second.
    rate: u32,
    load: Load,
    reshaped: Arc<Mutex<Reshaped>>,
    /// Ends the load and the reshaping.
    stop: CancellationToken,
    /// Reshapes and watches the source's stream.
    beside: Tasks<()>,
    stream: watch::Receiver<Stream>,
    sampler: Sampler,
    started: Instant,
    load_took: Duration,
    catch_up_took: Duration,
    planned: Option<Duration>,
    verified: Vec<Verified>,
    problems: Vec<String>,
}

/// What there is at a moment.
struct Look {
    /// Of what was written by the load.
    stream: Stream,
    status: Status,
    copied: Vec<Copied>,
}

// === impl Stage ===

impl<'a> Stage<'a> {
    /// Opens the regions, fills the source, and starts the daemon, then the load.
    pub(super) async fn open(args: &Args, seed: u64, screen: &'a mut Screen) -> Result<Self, Error> {
        let replicas = usize::from(args.replicas);
        let world = World::open(replicas, args.shards, seed).await?;
        let filled = fill(&world.source.wire(), TABLE, args.held, seed).await;
        filled.map_err(Error::Fill)?;
        let held = world.source.stream().await?;
        let daemon = Daemon::start(&world).await?;
        announce(screen, args, &world, &daemon);
        let copies = daemon.copies(&world).await;
        daemon.placed(held.open_shards).await?;
        let stop = CancellationToken::new();
        let load = Load::start(&world.source.wire(), TABLE, args.rate(), seed, &stop);
        let reshaped = Arc::new(Mutex::new(Reshaped::default()));
        let (seen, stream) = watch::channel(held);
        let mut beside = Tasks::new();
        let source = || world.source.clone();
        beside.spawn(info_span!("reshape"), world::reshape(source(), Arc::clone(&reshaped), stop.clone()));
        beside.spawn(info_span!("watch"), world::watch(source(), seen, stop.clone()));
        Ok(Self {
            screen,
            world,
            daemon,
            copies,
            copied: Vec::new(),
            held: args.held.into(),
            held_records: held.records,
            seed,
            rate: args.rate(),
            load,
            reshaped,
            stop,
            beside,
            stream,
            sampler: Sampler::default(),
            started: Instant::now(),
            load_took: Duration::ZERO,
            catch_up_took: Duration::ZERO,
            planned: args.planned(),
            verified: Vec::new(),
            problems: Vec::new(),
        })
    }

    /// Lets load run for as long as `planned`, or until `stop`.
    pub(super) async fn write(
        &mut self,
        planned: Option<Duration>,
        stop: &CancellationToken,
    ) -> Result<(), Error> {
        let end = self.started + planned.unwrap_or(FOREVER);
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                () = tokio::time::sleep_until(end) => break,
                // The daemon is looked at right after the stream, so that no change counts as settled before it counts
                // as written. A stream that is slow to be seen does not hold up the rest.
                Ok(()) = self.stream.changed() => {}
                () = tokio::time::sleep(LOOK_LATEST) => {}
            }
            let stream = *self.stream.borrow_and_update();
            self.look(Phase::Writing, stream).await?;
            let tally = self.load.tally();
            if let Some(error) =
                tally.first_error.filter(|_| tally.requests == 0 && tally.failed > REFUSED_MAX)
            {
                return Err(Error::Load(error));
            }
        }
        self.stop.cancel();
        self.load.finished().await;
        while self.beside.next().await.is_some() {}
        self.load_took = self.started.elapsed();
        let tally = self.load.tally();
        if let Some(error) = tally.first_error {
            self.problems
                .push(format!("{} requests to the source failed, the first with: {error}", tally.failed));
        }
        Ok(())
    }

    /// Waits until every record and every copied item is settled at every replica, all copies are done, and all closed
    /// shards are read to the end. After
    /// `at_most` it says what is missing.
    pub(super) async fn catch_up(&mut self, at_most: Duration) -> Result<(), Error> {
        let began = Instant::now();
        let mut ticks = looks();
        // Nothing is written any more, so it stays as it is.
        let stream = self.world.source.stream().await?;
        loop {
            ticks.tick().await;
            let look = self.look(Phase::CatchingUp, stream).await?;
            let open = look.open_ends();
            self.catch_up_took = began.elapsed();
            if open.is_empty() {
                return Ok(());
            }
            if began.elapsed() >= at_most {
                let limit = format!("not caught up after {at_most:?}");
                self.problems.extend(open.into_iter().map(|it| format!("{limit}: {it}")));
                self.problems.extend(look.status.not_ready);
                self.problems.extend(self.copies.troubles());
                return Ok(());
            }
        }
    }

    /// Compares every replica with the source.
    pub(super) async fn verify(&mut self) -> Result<(), Error> {
        let stream = self.world.source.stream().await?;
        self.look(Phase::Verifying, stream).await?;
        for replica in &self.world.replicas {
            self.verified.push(verify(&self.world.source, replica).await?);
        }
        Ok(())
    }

    /// Drains the daemon, ends everything, and tells what was.
    pub(super) async fn close(mut self) -> Result<Summary, Error> {
        let stream = self.world.source.stream().await?;
        let look = self.look(Phase::Verifying, stream).await?;
        let leases = self.daemon.drain(&self.world).await?;
        if look.stream.records == 0 {
            self.problems.push("nothing was written, so nothing is shown".to_owned());
        }
        if leases > 0 {
            self.problems.push(format!("{leases} leases were not given back by the drain"));
        }
        let verified = std::mem::take(&mut self.verified);
        let replicas = replicas(&self.world, &look, verified);
        self.problems.extend(replicas.iter().filter_map(summary::Replica::imbalance));
        let source = self.source(&look);
        let summary = Summary {
            schema_version: 2,
            ok: self.problems.is_empty() && replicas.iter().all(summary::Replica::is_equal),
            seed: self.seed,
            rate: self.rate,
            load_seconds: self.load_took.as_secs_f64(),
            catch_up_seconds: self.catch_up_took.as_secs_f64(),
            source,
            replicas,
            problems: self.problems,
        };
        self.world.close().await;
        Ok(summary)
    }

    /// What happened at the source.
    fn source(&self, look: &Look) -> summary::Source {
        let tally = self.load.tally();
        let reshaped = *self.reshaped.lock().unwrap_or_else(PoisonError::into_inner);
        let shards = look.status.replications.first().map(|it| it.shards.clone());
        summary::Source {
            region: SOURCE_REGION.to_owned(),
            table: TABLE.to_owned(),
            held: self.held,
            written: tally.written,
            requests: tally.requests,
            records: look.stream.records,
            splits: reshaped.splits,
            rolls: reshaped.rolls,
            shards: look.stream.open_shards + look.stream.closed_shards,
            shards_closed: look.stream.closed_shards,
            shards_ended: shards.unwrap_or_default().ended,
        }
    }

    /// Looks at everything and shows it.
    async fn look(&mut self, phase: Phase, stream: Stream) -> Result<Look, Error> {
        let stream = Stream { records: stream.records.saturating_sub(self.held_records), ..stream };
        let status = self.daemon.status()?;
        let copied = self.copies.look().await?;
        self.tell_copied(&copied);
        let now_unix_ms = Clock::System.unix_ms();
        let replication = status.replications.first();
        let replicas = replication.into_iter().flat_map(|it| &it.replicas).zip(&self.world.replicas);
        let replicas = replicas.zip(&copied).map(|((replica, site), copied)| Replica {
            name: replica.name.clone(),
            ledger: replica.ledger,
            pending: replica.pending_changes,
            copied: *copied,
            lag: site.latency().recent(now_unix_ms),
            error: replica.error.clone(),
        });
        let counts = Counts {
            elapsed: self.started.elapsed(),
            held: self.held,
            written: self.load.tally().written.items(),
            records: stream.records,
            shards: replication.map(|it| it.shards.clone()).unwrap_or_default(),
            replicas: replicas.collect(),
        };
        let sample = self.sampler.take(phase, self.planned, counts);
        self.screen.show(&sample);
        Ok(Look { stream, status, copied })
    }

    /// Says what was copied since the last look.
    fn tell_copied(&mut self, copied: &[Copied]) {
        for (index, (site, copied)) in self.world.replicas.iter().zip(copied).enumerate() {
            if copied.is_done() && self.copied.get(index).is_none_or(|before| !before.is_done()) {
                self.screen.say(&format!("{}: copied {copied}", site.region.name()));
            }
        }
        self.copied = copied.to_vec();
    }
}

/// Says what is there.
fn announce(screen: &Screen, args: &Args, world: &World, daemon: &Daemon) {
    if args.output == Output::Json {
        return screen.say(&format!("status: {}", daemon.url()));
    }
    let replicas = match world.replicas.len() {
        1 => "1 replica".to_owned(),
        count => format!("{count} replicas"),
    };
    screen.say(&format!(
        "replicating table {TABLE} from {SOURCE_REGION} to {replicas}, all emulated in this process"
    ));
    let end = match args.planned() {
        Some(planned) => format!("for {}", humantime::format_duration(planned)),
        None => "until Ctrl-C".to_owned(),
    };
    screen.say(&format!(
        "{} items are there already and are copied while load runs",
        summary::grouped(args.held.into())
    ));
    screen.say(&format!(
        "writing {} items/s {end}; {} shards at first, every 2 s one splits or rolls over",
        summary::grouped(args.rate().into()),
        args.shards
    ));
    let hint = if args.keep_running { "" } else { " (--keep-running leaves time to look)" };
    screen.say(&format!("status page: {}{hint}", daemon.url()));
}

fn looks() -> tokio::time::Interval {
    let mut ticks = interval(LOOK_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// What is known of one replica, from several places.
type Part<'a> = (((&'a world::Site, &'a status::Replica), &'a Copied), Verified);

fn replicas(world: &World, look: &Look, verified: Vec<Verified>) -> Vec<summary::Replica> {
    let shown = look.status.replications.first().into_iter().flat_map(|it| &it.replicas);
    let parts = world.replicas.iter().zip(shown).zip(&look.copied).zip(verified);
    let replica = |(((site, shown), copied), verified): Part<'_>| summary::Replica {
        name: shown.name.clone(),
        ledger: shown.ledger,
        pending: shown.pending_changes,
        batches: site.region.requests("BatchWriteItem"),
        lag: site.latency().all(),
        copied: *copied,
        verified,
    };
    parts.map(replica).collect()
}

// === impl Look ===

impl Look {
    /// What still has to happen before all replicas have everything, a sentence each.
    fn open_ends(&self) -> Vec<String> {
        let Some(replication) = self.status.replications.first() else {
            return vec!["the daemon has no replication".to_owned()];
        };
        let mut open = Vec::new();
        for (replica, copied) in replication.replicas.iter().zip(&self.copied) {
            let (records, settled) = (self.stream.records, settled(&replica.ledger));
            if settled < records + copied.items || replica.pending_changes > 0 {
                let why = replica.error.as_deref().unwrap_or("no error");
                open.push(format!(
                    "{} settled {settled} of {records} records and {} copied items, {} are pending ({why})",
                    replica.name, copied.items, replica.pending_changes
                ));
            }
            if !copied.is_done() {
                open.push(format!("{} is not copied: {copied}", replica.name));
            }
        }
        let shards = &replication.shards;
        if shards.ended < self.stream.closed_shards || shards.waiting + shards.unowned + shards.gap > 0 {
            open.push(format!(
                "{} of {} closed shards are read to the end, {} wait, {} are not read, {} cannot be read",
                shards.ended, self.stream.closed_shards, shards.waiting, shards.unowned, shards.gap
            ));
        }
        open
    }
}

#[cfg(test)]
mod tests;
