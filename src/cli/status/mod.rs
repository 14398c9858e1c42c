//! `status`: the fleet as its control table shows it, from any host that may read the table.
//!
//! It needs no worker to answer: it shows what is saved, so a lag may look as much larger than it is as checkpoints
//! are apart (`lease.checkpoint_interval`). What one worker sees right now is at its own `/api/v1/status`.

mod gather;
mod report;
mod rows;
mod text;

use std::io::{self, IsTerminal};
use std::time::Duration;

use super::exit::{Code, Failure};
use super::input::Input;
use super::output::{Format, print, print_json};
use super::{fleet, runtime};
use crate::clock::Clock;
use crate::config::Config;
use report::Report;
pub(super) use rows::Rows;
pub(super) use text::seconds;

/// How often a watched status is renewed.
const WATCH_INTERVAL: Duration = Duration::from_secs(2);

/// Moves to the top left corner of a terminal and clears what is below.
const CLEAR: &str = "\x1b[H\x1b[2J";

/// Shows workers, shards, replicas and their lags, as the control table has them.
///
/// Exits with 1 when something needs attention: no worker runs, a shard is held by nobody or by a silent worker,
/// changes can no longer be read (a gap), or keys are parked. A lag alone is not a problem here; alerts on the
/// metrics are for that.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    input: Input,

    /// How it is printed.
    #[arg(long, short, value_enum, default_value_t)]
    output: Format,

    /// Show it again every two seconds, until Ctrl-C.
    #[arg(long, short)]
    watch: bool,
}

/// Prints it; the answer is whether all is well.
pub(super) fn run(args: &Args) -> Result<Code, Failure> {
    let config = args.input.load_quietly()?;
    runtime()?.block_on(async {
        if args.watch {
            watch(args, &config).await
        } else {
            let control = fleet::control(&config).await?;
            let report = Report::new(&gather::gather(&config, &control, Clock::System).await?);
            show(args.output, &report, false)
        }
    })
}

/// What fails while watching is told, and tried again.
async fn watch(args: &Args, config: &Config) -> Result<Code, Failure> {
    let control = fleet::control(config).await?;
    let clear = io::stdout().is_terminal() && args.output == Format::Text;
    let mut ticks = tokio::time::interval(WATCH_INTERVAL);
    let mut code = Code::Success;
    loop {
        let next = async {
            ticks.tick().await;
            gather::gather(config, &control, Clock::System).await
        };
        let observed = tokio::select! {
            observed = next => observed,
            interrupted = tokio::signal::ctrl_c() => {
                interrupted.map_err(Failure::System)?;
                return Ok(code);
            }
        };
        match observed {
            Ok(observed) => code = show(args.output, &Report::new(&observed), clear)?,
            Err(failure) => failure.report(),
        }
    }
}

fn show(format: Format, report: &Report, clear: bool) -> Result<Code, Failure> {
    match format {
        Format::Json => print_json(report)?,
        Format::Text if clear => print(format!("{CLEAR}{}", text::page(report)))?,
        Format::Text => print(text::page(report))?,
    }
    Ok(if report.ok { Code::Success } else { Code::Negative })
}
