//! `verify`: compares replicas with their source while both are written to, and has what is different repaired.

mod build;
mod progress;
mod repair;
mod report;
mod sign;

use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;
use tokio::time::Instant;

use super::choose::pick;
use super::exit::{Code, Failure};
use super::fleet;
use super::input::Input;
use super::output::{Format, print, print_json};
use super::runtime;
use crate::config::Replica;
use crate::control::Control;
use crate::verify::{self, join};
use build::Build;
use progress::Screen;
use repair::Repair;
use report::{Compared, Report};

/// Scans both tables at the same time and compares what they hold. What differs is read again, strongly consistent and
/// after the replica has everything that the source had, until it is proven: neither writes nor a lag raise a false alarm.
/// Numbers are compared as numbers and sets as sets. Nothing is written to any table, unless a repair is applied.
///
/// Exits with 1 when differences are confirmed.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    input: Input,

    /// The replication.
    replication: String,

    /// One of its replicas; without it, all of them, one after the other.
    #[arg(long, value_name = "NAME")]
    replica: Option<String>,

    #[command(flatten)]
    limits: Limits,

    #[command(flatten)]
    scope: Scope,

    #[command(flatten)]
    signature: Signature,

    #[command(flatten)]
    repair: repair::Wanted,

    /// How it is printed.
    #[arg(long, short, value_enum, default_value_t)]
    output: Format,
}

/// What it may use.
#[derive(Debug, clap::Args)]
struct Limits {
    /// Read capacity units per second that it may take of each of the two tables.
    ///
    /// Without it, half of what the table is provisioned for, or as much as a table on demand gives.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    read_units: Option<u32>,

    /// Memory for comparing; the rest of what is needed is kept on disk.
    #[arg(long, value_name = "SIZE", default_value = "256MiB", value_parser = memory)]
    memory: u64,

    /// Where digests are kept on disk: about 50 bytes per item of both tables. Nothing is left there, however it ends.
    #[arg(long, value_name = "DIR")]
    temp_dir: Option<PathBuf>,

    /// The most that is kept on disk.
    #[arg(long, value_name = "SIZE", default_value = "64GiB", value_parser = size)]
    temp_size: u64,
}

/// What counts as a difference.
#[derive(Debug, clap::Args)]
struct Scope {
    /// An attribute that is not compared; may be given several times.
    #[arg(long, value_name = "ATTRIBUTE")]
    ignore: Vec<String>,

    /// The source's time-to-live attribute, by which items past their time are told apart, and are no differences.
    ///
    /// Without it the source is asked.
    #[arg(long, value_name = "ATTRIBUTE")]
    ttl_attribute: Option<String>,

    /// How long a replica may lag, where the control table cannot tell: what differs is read again after this long.
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    grace: Option<Duration>,

    /// How long to wait for a replica that is behind. What cannot be told then is unstable.
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = humantime::parse_duration)]
    patience: Duration,

    /// Stop after so many differences.
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..))]
    max_differences: u32,

    /// Show so many differences of each class with both items.
    #[arg(long, value_name = "N", default_value_t = 20)]
    show: u32,
}

/// Comparing without candidates.
#[derive(Debug, clap::Args)]
struct Signature {
    /// Only tell whether both tables are equal, and in which of 256 parts of their keys they are not: needs no disk. While
    /// the source is written to, they are not.
    #[arg(long)]
    signature_only: bool,

    /// Print the signature of this table alone, to be compared with another.
    #[arg(long, requires = "signature_only")]
    side: Option<Side>,

    /// Compare with the signature in this file, as `--side … --output json` printed it.
    #[arg(long, value_name = "FILE", requires = "side")]
    against: Option<PathBuf>,
}

/// One of the two tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Side {
    /// The source.
    Source,
    /// The replica.
    Replica,
}

/// Compares, reports, and repairs if asked to.
pub(super) fn run(args: &Args) -> Result<Code, Failure> {
    let config = args.input.load_quietly()?;
    let replication = pick(&config.replications, Some(&args.replication), |it| &it.name, "replication")?;
    let replicas: Vec<&Replica> = match &args.replica {
        Some(name) => vec![pick(&replication.replicas, Some(name), |it| &it.name, "--replica")?],
        None => replication.replicas.iter().collect(),
    };
    args.repair.check(replicas.len())?;
    runtime()?.block_on(async {
        if args.signature.signature_only {
            let mut build = Build::new(args, replication, None);
            return sign::run(args, &mut build, &replicas).await;
        }
        // Whoever says how long a replica may lag needs no control table.
        let asks = args.scope.grace.is_none() || args.repair.is_wanted();
        let control = if asks { Some(fleet::control(&config).await?) } else { None };
        let mut build = Build::new(args, replication, control.as_ref());
        let mut report = Report::new(&replication.name);
        for replica in replicas {
            let compared = compare(args, &mut build, control.as_ref(), replica).await?;
            report.add(compared);
        }
        match args.output {
            Format::Json => print_json(&report)?,
            Format::Text => print(report.text())?,
        }
        Ok(if report.ok { Code::Success } else { Code::Negative })
    })
}

async fn compare(
    args: &Args,
    build: &mut Build<'_>,
    control: Option<&Control>,
    replica: &Replica,
) -> Result<Compared, Failure> {
    let began = Instant::now();
    let built = build.parts(replica).await?;
    let screen = Screen::new(&built.parts, built.expected_items);
    let findings = screen.during(verify::verify(&built.parts)).await?;
    let mut compared = Compared::new(replica, &findings, began.elapsed());
    if let (Some(control), true) = (control, args.repair.is_wanted()) {
        let repair = Repair::new(control.clone(), build.replication(), replica, &built.parts);
        compared.repair = Some(repair.run(&args.repair, &findings).await?);
    }
    Ok(compared)
}

fn size(text: &str) -> Result<u64, String> {
    text.parse::<bytesize::ByteSize>().map(|size| size.as_u64())
}

fn memory(text: &str) -> Result<u64, String> {
    let bytes = size(text)?;
    let least = join::Config::MEMORY_BYTES_MIN as u64;
    if bytes < least { Err(format!("at least {}", bytesize::ByteSize(least))) } else { Ok(bytes) }
}
