//! What a copy would do and cost, before it is asked for.

use serde::Serialize;

use super::view::amount;
use super::{Args, Target};
use crate::capacity::read_units;
use crate::cli::advice::advice;
use crate::cli::connections::{Connections, Limits};
use crate::cli::exit::{Code, Failure};
use crate::cli::output::{self, Format, print_json};
use crate::cli::status::seconds;
use crate::clock::Clock;
use crate::config::Replication;
use crate::copy::{self, Request, Run};
use crate::dynamo::{Table, Tables};
use crate::fault::Stage;

/// What would be done.
#[derive(Debug, Serialize)]
struct Plan {
    schema_version: u32,
    replication: String,
    dry_run: bool,
    source_table: String,
    /// As the table's description tells, which is some hours old.
    items: u64,
    bytes: u64,
    replicas: Vec<Replica>,
}

#[derive(Debug, Serialize)]
struct Replica {
    name: String,
    table: String,
    /// Whether it goes on with what is under way.
    goes_on: bool,
    /// Why it cannot be done; absent when it can.
    refused: Option<String>,
    reconcile: bool,
    consistent: bool,
    segments: u32,
    /// Read units of the source, all together.
    read_units: f64,
    /// At least so long it takes with the units per second that it may use; absent without a limit.
    least_seconds: Option<f64>,
}

/// Describes the source and prints what would be done.
pub(super) async fn print(
    args: &Args,
    replication: &Replication,
    targets: &[Target<'_>],
) -> Result<Code, Failure> {
    let mut connections = Connections::new("dynamirror-cli".to_owned(), None);
    let client = connections.client(&replication.source.endpoint, Limits::COMMAND).await;
    let described = client.tables().describe(&replication.source.table).await;
    let source = described.map_err(|error| Failure::Call {
        action: format!("describe source table `{}`", replication.source.table),
        advice: advice(&error, Stage::Discover),
        source: Box::new(error),
    })?;
    let plan = Plan {
        schema_version: 1,
        replication: replication.name.clone(),
        dry_run: true,
        source_table: replication.source.table.clone(),
        items: source.items,
        bytes: source.bytes,
        replicas: targets.iter().map(|target| replica(args, target, &source)).collect(),
    };
    match args.output {
        Format::Json => print_json(&plan)?,
        Format::Text => output::print(text(&plan))?,
    }
    Ok(if plan.replicas.iter().any(|it| it.refused.is_some()) { Code::Negative } else { Code::Success })
}

fn replica(args: &Args, target: &Target<'_>, source: &Table) -> Replica {
    let goes_on = target.run.as_ref().is_some_and(|run| run.state.is_active());
    let known = target.run.as_ref().filter(|_| goes_on);
    let request: Request = match known {
        Some(run) if args.says_nothing() => run.request.clone(),
        _ => args.request(&target.replica.copy),
    };
    let refused = Run::ask(target.run.as_ref(), &request, Clock::System.unix_ms()).err();
    let kept = known.map(|run| run.segments).filter(|count| *count > 0);
    let segments = kept.or(request.segments).unwrap_or_else(|| copy::segments(source.bytes));
    let bytes = usize::try_from(source.bytes).unwrap_or(usize::MAX);
    let units = read_units(bytes, request.consistent);
    Replica {
        name: target.replica.name.clone(),
        table: target.replica.table.clone(),
        goes_on,
        refused: refused.map(|refusal| refusal.to_string()),
        reconcile: request.reconcile,
        consistent: request.consistent,
        segments,
        read_units: units,
        least_seconds: request.read_units.map(|per_s| units / per_s.max(1) as f64),
    }
}

fn text(plan: &Plan) -> String {
    let mut lines =
        vec![format!("source table `{}`: about {}", plan.source_table, amount(plan.items, plan.bytes))];
    for it in &plan.replicas {
        let name = format!("{}/{}", plan.replication, it.name);
        if let Some(refused) = &it.refused {
            lines.push(format!("{name}: refused: {refused}"));
            continue;
        }
        let verb = if it.goes_on { "goes on with the copy to" } else { "would copy to" };
        let kind = if it.consistent { "strongly consistent" } else { "eventually consistent" };
        let time =
            it.least_seconds.map_or_else(String::new, |least| format!(", at least {}", seconds(least)));
        let delete = if it.reconcile { "; deletes what the source does not have" } else { "" };
        lines.push(format!(
            "{name}: {verb} `{}` in {} segments, {kind}, for about {:.0} read units{time}{delete}",
            it.table, it.segments, it.read_units
        ));
    }
    lines.join("\n")
}
