//! `copy`: what a source holds already, copied to replicas. Writes a row of the control table that workers obey, and
//! shows from there how far they are.

mod follow;
mod plan;
mod screen;
mod view;

use std::time::Duration;

use super::choose::pick;
use super::confirm::confirm;
use super::exit::{Code, Failure};
use super::fleet;
use super::input::Input;
use super::output::{Format, print, print_json};
use super::runtime;
use crate::clock::Clock;
use crate::config::{self, Config, Replication};
use crate::copy::{Refusal, Request, Run, Saved, Store};
pub(super) use view::Copied;
use view::Shown;

/// A worker that runs does the copy, while changes go on: an item that changes meanwhile comes by the stream. It goes on
/// where it was after a crash, and when this command is asked again; nothing is lost when this command is stopped.
///
/// A replica that holds items already is refused unless `--reconcile` is given.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    input: Input,

    /// The replication.
    replication: String,

    /// One of its replicas; without it, all of them.
    #[arg(long, value_name = "NAME")]
    replica: Option<String>,

    /// Copy over items that the replica holds, and delete those that the source does not have.
    #[arg(long)]
    reconcile: bool,

    /// Read at half the price, and wait for the window first and after each restart.
    #[arg(long)]
    eventually_consistent: bool,

    /// By how much such reads may be behind, instead of `copy_window`.
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    window: Option<Duration>,

    /// Read units per second of the source that may be used, instead of `copy_read_units`.
    #[arg(long, value_name = "NUMBER")]
    read_units: Option<u64>,

    /// Cut the table into so many segments; its size decides otherwise.
    #[arg(long, value_name = "NUMBER")]
    segments: Option<u32>,

    /// Give up the copy that is under way: what was copied stays.
    #[arg(long, conflicts_with_all = ["reconcile", "eventually_consistent", "window", "read_units", "segments"])]
    cancel: bool,

    /// Only ask for it, and do not wait for its end.
    #[arg(long, overrides_with = "follow")]
    no_follow: bool,

    /// Wait for its end and show how far it is; this is so without being asked for.
    #[arg(long)]
    follow: bool,

    /// Only say what would be done, and what it costs.
    #[arg(long)]
    dry_run: bool,

    /// Do not ask before a copy that deletes items of a replica.
    #[arg(long)]
    yes: bool,

    /// How it is printed.
    #[arg(long, short, value_enum, default_value_t)]
    output: Format,
}

/// How a replica is copied that its configuration speaks for.
pub(super) fn configured(settings: &config::FirstCopy) -> Request {
    Request {
        reconcile: settings.reconcile,
        consistent: settings.consistent,
        window: settings.window,
        read_units: settings.read_units,
        segments: None,
        known_empty: false,
    }
}

/// One replica whose copy is meant.
struct Target<'a> {
    replica: &'a config::Replica,
    store: Store,
    run: Option<Run>,
}

// === impl Args ===

impl Args {
    /// How the copy of a replica is to be done.
    fn request(&self, settings: &config::FirstCopy) -> Request {
        let configured = configured(settings);
        Request {
            reconcile: self.reconcile || configured.reconcile,
            consistent: configured.consistent && !self.eventually_consistent,
            window: self.window.unwrap_or(configured.window),
            read_units: self.read_units.or(configured.read_units),
            segments: self.segments,
            known_empty: false,
        }
    }

    /// Whether nothing is said about how: then what is under way is only followed.
    fn says_nothing(&self) -> bool {
        let Self { reconcile, eventually_consistent, window, read_units, segments, .. } = self;
        !reconcile && !eventually_consistent && window.is_none() && read_units.is_none() && segments.is_none()
    }
}

/// Asks for copies, and follows them.
pub(super) fn run(args: &Args) -> Result<Code, Failure> {
    let config = args.input.load_quietly()?;
    runtime()?.block_on(async {
        let replication = pick(&config.replications, Some(&args.replication), |it| &it.name, "replication")?;
        let mut targets = targets(args, &config, replication).await?;
        if args.dry_run && !args.cancel {
            return plan::print(args, replication, &targets).await;
        }
        if !args.cancel {
            ask_first(args, &targets)?;
        }
        for target in &mut targets {
            match args.cancel {
                true => cancel(args, replication, target).await?,
                false => ask(args, replication, target).await?,
            }
        }
        if !args.cancel && !args.no_follow {
            follow::follow(replication, &mut targets).await?;
        }
        tell(args, replication, &targets)
    })
}

async fn targets<'a>(
    args: &Args,
    config: &Config,
    replication: &'a Replication,
) -> Result<Vec<Target<'a>>, Failure> {
    let replicas = match &args.replica {
        Some(name) => vec![pick(&replication.replicas, Some(name), |it| &it.name, "--replica")?],
        None => replication.replicas.iter().collect(),
    };
    let control = fleet::control(config).await?;
    let mut targets = Vec::with_capacity(replicas.len());
    for replica in replicas {
        let store = Store::new(control.clone(), &replication.name, &replica.name);
        targets.push(Target { replica, run: store.load().await?, store });
    }
    Ok(targets)
}

/// A copy that deletes is confirmed, once for all replicas.
fn ask_first(args: &Args, targets: &[Target<'_>]) -> Result<(), Failure> {
    let begins = |target: &&Target<'_>| !target.run.as_ref().is_some_and(|run| run.state.is_active());
    let deleting = targets.iter().filter(begins).filter(|it| args.request(&it.replica.copy).reconcile);
    let names: Vec<_> = deleting.map(|it| it.replica.table.as_str()).collect();
    if names.is_empty() {
        return Ok(());
    }
    let deed =
        format!("make {} equal the source, and delete what the source does not have", names.join(", "));
    confirm(&deed, "nothing is copied", args.yes)
}

async fn ask(args: &Args, replication: &Replication, target: &mut Target<'_>) -> Result<(), Failure> {
    let active = target.run.as_ref().is_some_and(|run| run.state.is_active());
    if active && args.says_nothing() {
        return Ok(());
    }
    let request = args.request(&target.replica.copy);
    let run = Run::ask(target.run.as_ref(), &request, Clock::System.unix_ms());
    let run = run.map_err(|refusal| refused(replication, target, &refusal))?;
    save(replication, target, run).await
}

async fn cancel(args: &Args, replication: &Replication, target: &mut Target<'_>) -> Result<(), Failure> {
    let Some(run) = target.run.as_ref().and_then(Run::cancelled) else {
        let name = full_name(replication, target);
        return Err(Failure::Usage(format!("cancel the copy of `{name}`: none is under way")));
    };
    if args.dry_run {
        return Ok(());
    }
    save(replication, target, run).await
}

async fn save(replication: &Replication, target: &mut Target<'_>, mut run: Run) -> Result<(), Failure> {
    match target.store.save(&mut run).await? {
        Saved::Done => {
            target.run = Some(run);
            Ok(())
        }
        Saved::Changed(_) => {
            Err(Failure::Changed(format!("write the copy of `{}`", full_name(replication, target))))
        }
    }
}

fn tell(args: &Args, replication: &Replication, targets: &[Target<'_>]) -> Result<Code, Failure> {
    let shown = Shown::new(replication, targets);
    match args.output {
        Format::Json => print_json(&shown)?,
        Format::Text => print(shown.text())?,
    }
    Ok(if shown.is_well(args.cancel) { Code::Success } else { Code::Negative })
}

fn refused(replication: &Replication, target: &Target<'_>, refusal: &Refusal) -> Failure {
    Failure::Usage(format!("copy to `{}`: {refusal}", full_name(replication, target)))
}

fn full_name(replication: &Replication, target: &Target<'_>) -> String {
    format!("{}/{}", replication.name, target.replica.name)
}
