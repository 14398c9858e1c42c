//! What must hold before the first page of a run is read, and what is found out for it.

use crate::copy::image::Images;
use crate::copy::run::{Run, State};
use crate::copy::{Parts, is_empty, plan};
use crate::dynamo::{self, KeyAttribute, Table};
use crate::fault::{Stage, advice};

/// What was found out.
pub(super) struct Ready {
    pub(super) images: Images,
    /// Read units per second that the run may use; `None` for what the table gives.
    pub(super) read_units: Option<f64>,
}

/// Why a run cannot begin.
pub(super) enum Failure {
    /// It never can as it was asked for, for this reason.
    Refused(String),
    /// It cannot now, for this reason.
    Trouble(String),
}

/// Checks a run that is about to begin or to go on, and makes it one that copies.
pub(super) async fn begin(parts: &Parts, run: &Run) -> Result<(Run, Ready), Failure> {
    let described = parts.source.describe(&parts.source_table).await;
    let source = described.map_err(|error| trouble(&parts.source_table, &error, Stage::Copy))?;
    let described = parts.replica.describe(&parts.replica_table).await;
    let replica = described.map_err(|error| trouble(&parts.replica_table, &error, Stage::Write))?;
    for (table, name) in [(&source, &parts.source_table), (&replica, &parts.replica_table)] {
        if !table.usable {
            let text = format!("table `{name}` is not active: the copy goes on when it is");
            return Err(Failure::Trouble(text));
        }
    }
    if source.key != replica.key {
        let (found, expected) = (spell(&replica.key), spell(&source.key));
        return Err(Failure::Refused(format!(
            "replica table `{}` has the key {found}, its source {expected}: name another table",
            parts.replica_table
        )));
    }
    let read_units = read_units(&source, run, &parts.source_table).map_err(Failure::Refused)?;
    let key = source.key.iter().map(|part| part.name.clone()).collect();
    let images = Images::new(key, replica.index_keys);
    let run = match run.state {
        State::Copying => Run { trouble: None, ..run.clone() },
        _ => {
            check_empty(parts, run).await?;
            Run {
                state: State::Copying,
                segments: run.request.segments.unwrap_or_else(|| plan::segments(source.bytes)),
                expected: (source.items, source.bytes),
                started_unix_ms: Some(parts.clock.unix_ms()),
                trouble: None,
                ..run.clone()
            }
        }
    };
    Ok((run, Ready { images, read_units }))
}

/// A replica that holds items is copied over only when somebody wants that.
async fn check_empty(parts: &Parts, run: &Run) -> Result<(), Failure> {
    if run.request.reconcile || run.request.known_empty {
        return Ok(());
    }
    let empty = is_empty(&*parts.replica, &parts.replica_table).await;
    if empty.map_err(|error| trouble(&parts.replica_table, &error, Stage::Copy))? {
        return Ok(());
    }
    Err(Failure::Refused(format!(
        "replica table `{}` holds items already: copy with --reconcile, which replaces them by the source's and deletes those \
         that the source does not have, or empty it",
        parts.replica_table
    )))
}

/// What the run may use each second; a text when it asks for more than there is.
fn read_units(source: &Table, run: &Run, name: &str) -> Result<Option<f64>, String> {
    let quota = source.provisioned.map(|(read, _)| read).or(source.on_demand_max.0);
    match (run.request.read_units, quota) {
        (Some(asked), Some(quota)) if asked > quota => Err(format!(
            "{asked} read units per second are more than the {quota} of table `{name}`: ask for fewer, or raise its capacity"
        )),
        _ => Ok(run.request.read_units_of(source)),
    }
}

fn trouble(table: &str, error: &dynamo::Error, stage: Stage) -> Failure {
    Failure::Trouble(format!("table `{table}`: {error}: {}", advice(error.fault, stage)))
}

fn spell(key: &[KeyAttribute]) -> String {
    key.iter().map(|part| format!("{} ({})", part.name, part.kind)).collect::<Vec<_>>().join(", ")
}
