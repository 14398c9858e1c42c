//! `dynamirror demo`: the real daemon at work in a small world of its own, and a proof of what it did.
//!
//! ```text
//!  fill ──────────┐     ┌── scan ── copy ─────────────────────────────────────┐
//!  sender (load) ─┴> source region ──> stream, splits and roll-overs ──> daemon ┴─> replica regions
//!                        │                                             │   └ copies      │ on_write
//!                        │                                           board    │       latency
//!                        │                                             └── sample ───────┤
//!                        │                                                   └─> screen  │
//!                        └──────────────────────> verify <───────────────────────────────┘ ──> summary
//! ```
//!
//! The regions are the [`emulator`](crate::emulator), on a runtime with several threads; the daemon is the worker that
//! `run` builds, with the SDK's clients over loopback HTTP, on a thread and runtime of its own. The source holds items
//! before the daemon starts; it begins with the latest change and copies the rest while load runs. After the load has
//! stopped, the daemon gets time to catch up, and then every replica's table is compared with the source's by the
//! verifier. What counts is what the tables hold and what the daemon's ledger says, never that nothing failed.
//!
//! What holds: the demo succeeds only if every replica is copied and equal, every record and every copied item is
//! accounted for, and the leases were given back; a first Ctrl-C ends the load early and still verifies, a second ends at
//! once.

mod copies;
mod daemon;
mod fill;
mod latency;
mod load;
mod sample;
mod screen;
mod sender;
mod signals;
mod stage;
mod summary;
mod value;
mod verified;
mod wire;
mod world;

use std::io::{self, Write};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use self::screen::Screen;
use self::stage::Stage;
use self::summary::Summary;
use crate::telemetry::logs;
use crate::verify;

/// Copies a table of an emulated region to others and replicates it under load, shows how it goes, and then verifies
/// that the tables are equal. Needs neither an AWS account nor a network. Exits with 0 only if all replicas are equal to the
/// source.
///
/// Everything is real but the regions: shards split and roll over while load runs, and the daemon reads and writes
/// through the AWS SDK. The copy of what the table held before runs while load does. While it runs, its status page and metrics are at the URL that is printed. The first Ctrl-C
/// ends the load early and verifies; the second ends at once.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// How long load runs.
    #[arg(long, value_name = "DURATION", default_value = "15s")]
    duration: humantime::Duration,

    /// Go on until Ctrl-C, and verify then. The emulated regions keep every record in memory: at the slower rate that
    /// this defaults to, some 150 MB a minute.
    #[arg(long, conflicts_with = "duration")]
    keep_running: bool,

    /// Items that the source holds before the daemon starts, which are copied while load runs.
    #[arg(long, value_name = "ITEMS", default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(0..=200_000))]
    held: u32,

    /// Items written to the source each second; 2000 by default, 200 with --keep-running.
    #[arg(long, value_name = "ITEMS", value_parser = clap::value_parser!(u32).range(1..=50_000))]
    rate: Option<u32>,

    /// Replica tables, each in a region of its own.
    #[arg(long, value_name = "COUNT", default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=8))]
    replicas: u8,

    /// Shards that the source's stream begins with.
    #[arg(long, value_name = "COUNT", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=64))]
    shards: u32,

    /// The longest time that replicas may take to catch up after the load.
    #[arg(long, value_name = "DURATION", default_value = "60s")]
    catch_up: humantime::Duration,

    /// Draws the load and the shards that split; drawn anew each time if absent.
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u64>,

    /// How the result is printed.
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = Output::Text)]
    output: Output,

    /// What the daemon logs to standard error, such as `info` or `info,dynamirror::lease=debug`.
    #[arg(long, value_name = "FILTER", default_value = DEFAULT_LOG)]
    log: String,
}

/// Warnings, but for the embedded server's, which warns of every condition that does not hold: they are part of how
/// leases work.
const DEFAULT_LOG: &str = "warn,dynoxide=error";

/// How the result is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Output {
    /// For a person.
    Text,
    /// One JSON object.
    Json,
}

/// What the demo has shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Every replica is equal to the source, and every change is accounted for.
    Equal,
    /// Not so; the summary says what is wrong.
    Different,
}

/// Why the demo has shown nothing.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The log filter is wrong.
    #[error(transparent)]
    Logs(#[from] logs::Error),
    /// The system does not give what is needed.
    #[error("get threads and signals from the system")]
    System(#[source] io::Error),
    /// The regions are not there.
    #[error(transparent)]
    World(#[from] world::Error),
    /// The daemon is not there.
    #[error(transparent)]
    Daemon(#[from] daemon::Error),
    /// The source cannot be filled.
    #[error("fill the source")]
    Fill(#[source] wire::Error),
    /// Nobody tells how far the copies are.
    #[error(transparent)]
    Copies(#[from] copies::Error),
    /// The tables cannot be compared.
    #[error(transparent)]
    Verify(#[from] verify::Error),
    /// The source does not take the load.
    #[error("write to the source: {0}")]
    Load(String),
    /// A second signal.
    #[error("verify the tables: the demo was interrupted")]
    Interrupted,
    /// The result cannot be printed.
    #[error("print the result")]
    Print(#[source] io::Error),
}

/// Items a second: half of one core for the regions, the load and the daemon together (a third of what two cores do).
const DEFAULT_RATE: u32 = 2_000;

/// Items a second of a demo without an end, whose memory should last for a while.
const KEPT_RATE: u32 = 200;

/// Threads for the regions, whose server computes on them without yielding: one may be in a long write while the other
/// answers.
const REGION_THREADS: usize = 2;

/// Runs the demo and prints its result to standard output.
///
/// # Errors
/// When it cannot be run to its end.
pub fn run(args: &Args) -> Result<Verdict, Error> {
    let mut screen = Screen::new();
    logs::init_to(logs::Format::Text, &args.log, screen.log_writer())?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(REGION_THREADS)
        .thread_name("region")
        .enable_all()
        .build()
        .map_err(Error::System)?;
    let shown = runtime.block_on(show(args, &mut screen));
    screen.clear();
    // What is left of an interrupted demo is not waited for.
    runtime.shutdown_background();
    let summary = shown?;
    match print(&summary, args.output) {
        // Who reads it has seen enough, as `head` has.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(Error::Print(error)),
        _ => {}
    }
    Ok(if summary.ok { Verdict::Equal } else { Verdict::Different })
}

async fn show(args: &Args, screen: &mut Screen) -> Result<Summary, Error> {
    let (stop, quit) = (CancellationToken::new(), CancellationToken::new());
    let _signals = signals::watch(&stop, &quit).map_err(Error::System)?;
    tokio::select! {
        biased;
        () = quit.cancelled() => Err(Error::Interrupted),
        played = Box::pin(play(args, screen, &stop)) => played,
    }
}

async fn play(args: &Args, screen: &mut Screen, stop: &CancellationToken) -> Result<Summary, Error> {
    let seed = args.seed.unwrap_or_else(|| u64::from(fastrand::u32(..)));
    let mut stage = Stage::open(args, seed, screen).await?;
    stage.write(args.planned(), stop).await?;
    stage.catch_up(args.catch_up.into()).await?;
    stage.verify().await?;
    stage.close().await
}

fn print(summary: &Summary, output: Output) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match output {
        Output::Text => write!(out, "{summary}")?,
        Output::Json => {
            serde_json::to_writer_pretty(&mut out, summary)?;
            writeln!(out)?;
        }
    }
    out.flush()
}

// === impl Args ===

impl Args {
    fn rate(&self) -> u32 {
        let default = if self.keep_running { KEPT_RATE } else { DEFAULT_RATE };
        self.rate.unwrap_or(default)
    }

    /// How long load runs; without an end if absent.
    fn planned(&self) -> Option<Duration> {
        (!self.keep_running).then(|| self.duration.into())
    }
}
