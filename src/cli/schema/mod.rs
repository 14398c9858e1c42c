//! `schema`: makes the tables of replicas like their sources.

mod text;

use std::fmt;

use serde::Serialize;

use super::build;
use super::choose::pick;
use super::connections::{Connections, Limits};
use super::exit::{Code, Failure};
use super::input::Input;
use super::output::{Format, print, print_json};
use super::{confirm, runtime};
use crate::config::{Config, Replica, Replication};
use crate::schema::{Pair, Plan, Refusal};

/// Keys, indexes, capacity, encryption, stream, tags, expiry, backups, auto scaling: what the source has is carried
/// over, or told with the reason why not. A table is never deleted, and nothing is taken from it.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Show the calls that would make the replica's table like its source, and what is not carried over.
    Plan(Which),
    /// Make these calls: create the table, or change what differs.
    Apply(Apply),
    /// Show what differs now. Exits with 1 when something does.
    Diff(Which),
}

/// The replicas that are meant.
#[derive(Debug, clap::Args)]
struct Which {
    #[command(flatten)]
    input: Input,

    /// The replication.
    replication: String,

    /// One of its replicas; without it, all of them.
    #[arg(long, value_name = "NAME")]
    replica: Option<String>,

    /// How it is printed.
    #[arg(long, short, value_enum, default_value_t)]
    output: Format,

    /// The same as `--output json`.
    #[arg(long, conflicts_with = "output")]
    json: bool,
}

/// What is applied.
#[derive(Debug, clap::Args)]
struct Apply {
    #[command(flatten)]
    which: Which,

    /// Do not ask before the calls are made.
    #[arg(long)]
    yes: bool,

    /// Only say what would be done.
    #[arg(long)]
    dry_run: bool,
}

/// What is printed.
#[derive(Debug, Serialize)]
struct Report {
    schema_version: u32,
    replication: String,
    replicas: Vec<Planned>,
}

/// One replica's plan, and what came of it.
#[derive(Debug, Serialize)]
struct Planned {
    name: String,
    equal: bool,
    plan: Plan,
    /// Whether the plan's calls were made.
    applied: bool,
    /// Calls of the plan that were not accepted.
    refused: Vec<Refused>,
}

#[derive(Debug, Serialize)]
struct Refused {
    operation: &'static str,
    /// Whether the endpoint does not know such calls at all.
    unsupported: bool,
    error: String,
}

/// Does what is asked.
pub(super) fn run(args: &Args) -> Result<Code, Failure> {
    let which = match &args.command {
        Command::Plan(which) | Command::Diff(which) => which,
        Command::Apply(apply) => &apply.which,
    };
    let config = which.input.load_quietly()?;
    runtime()?.block_on(async {
        let (replication, replicas) = chosen(&config, which)?;
        let mut report = Report {
            schema_version: 1,
            replication: replication.name.clone(),
            replicas: Vec::with_capacity(replicas.len()),
        };
        let mut connections = Connections::new("dynamirror-schema".to_owned(), None);
        let mut pairs = Vec::with_capacity(replicas.len());
        for replica in replicas {
            let source = &replication.source;
            let pair = build::schema(source, replica, Limits::COMMAND, &mut connections).await;
            let plan = pair.plan().await?;
            pairs.push(pair);
            let (name, equal) = (replica.name.clone(), plan.is_equal());
            report.replicas.push(Planned { name, equal, plan, applied: false, refused: Vec::new() });
        }
        match &args.command {
            Command::Plan(_) => which.show(&report, text::plan)?,
            Command::Diff(_) => which.show(&report, text::diff)?,
            Command::Apply(apply) => return apply.run(&pairs, report).await,
        }
        let is_diff = matches!(args.command, Command::Diff(_));
        let differs = report.replicas.iter().any(|planned| !planned.equal);
        Ok(if is_diff && differs { Code::Negative } else { Code::Success })
    })
}

fn chosen<'a>(config: &'a Config, which: &Which) -> Result<(&'a Replication, Vec<&'a Replica>), Failure> {
    let replication = pick(&config.replications, Some(&which.replication), |it| &it.name, "replication")?;
    let replicas = match &which.replica {
        Some(name) => vec![pick(&replication.replicas, Some(name), |it| &it.name, "--replica")?],
        None => replication.replicas.iter().collect(),
    };
    Ok((replication, replicas))
}

// === impl Which ===

impl Which {
    fn show(&self, report: &Report, text: impl Fn(&Report) -> String) -> Result<(), Failure> {
        match self.format() {
            Format::Json => print_json(report),
            Format::Text => print(text(report)),
        }
    }

    fn format(&self) -> Format {
        if self.json { Format::Json } else { self.output }
    }
}

// === impl Apply ===

impl Apply {
    async fn run(&self, pairs: &[Pair], mut report: Report) -> Result<Code, Failure> {
        let is_text = self.which.format() == Format::Text;
        if is_text {
            print(text::plan(&report))?;
        }
        let calls: usize = report.replicas.iter().map(|planned| planned.plan.calls.len()).sum();
        if calls > 0 && !self.dry_run {
            confirm::confirm(&format!("make {calls} calls"), "no call is made", self.yes)?;
            for (pair, planned) in pairs.iter().zip(&mut report.replicas) {
                let name = planned.name.clone();
                let mut told = |step: &str| eprintln!("{name}: {step}");
                let refusals = pair.apply(&planned.plan, &mut told).await?;
                planned.refused = refusals.iter().map(Refused::new).collect();
                planned.applied = true;
            }
        }
        if is_text {
            print(text::applied(&report, self.dry_run))?;
        } else {
            print_json(&report)?;
        }
        let refused = report.replicas.iter().flat_map(|planned| &planned.refused);
        // What an endpoint does not know is told, and no failure.
        let is_refused = refused.into_iter().any(|refused| !refused.unsupported);
        Ok(if is_refused { Code::Negative } else { Code::Success })
    }
}

// === impl Refused ===

impl Refused {
    fn new(refusal: &Refusal) -> Self {
        Self {
            operation: refusal.call.operation.name(),
            unsupported: refusal.is_lack,
            error: refusal.error.to_string(),
        }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.unsupported {
            true => write!(f, "the endpoint has no {}", self.operation),
            false => f.write_str(&self.error),
        }
    }
}
