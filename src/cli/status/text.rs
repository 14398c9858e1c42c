//! A report as a page of text.

use super::report::{Replica, ReplicaState, Replication, Report, Shards, Worker};
use crate::cli::copy::Copied;
use crate::cli::output::Table;

/// The page: problems last, where a person's eyes are when it has been printed.
pub(super) fn page(report: &Report) -> String {
    let now = report.now.as_deref().unwrap_or("?");
    let mut page = format!("control table {} at {now}\n", report.control_table);
    if !report.workers.is_empty() {
        page.push_str(&format!("\n{}", workers(&report.workers)));
    }
    page.push_str(&format!("\n{}", shards(&report.replications)));
    page.push_str(&format!("\n{}", replicas(&report.replications)));
    page.push('\n');
    if report.ok {
        page.push_str("nothing needs attention\n");
    }
    for problem in &report.problems {
        page.push_str(&format!("! {problem}\n"));
    }
    page
}

fn workers(workers: &[Worker]) -> Table {
    let mut table = Table::new(&["WORKER", "VERSION", "SHARDS", "HEARTBEAT", ""]);
    for worker in workers {
        let age = seconds(worker.heartbeat_age_seconds);
        table.row(vec![
            worker.id.clone(),
            worker.version.clone().unwrap_or_else(|| "?".to_owned()),
            worker.shards.to_string(),
            format!("{age} ago{}", if worker.alive { "" } else { ", silent" }),
            if worker.draining { "draining" } else { "" }.to_owned(),
        ]);
    }
    table
}

fn shards(replications: &[Replication]) -> Table {
    let mut table = Table::new(&["REPLICATION", "SOURCE", "ACTIVE", "WAITING", "UNOWNED", "ENDED", "GAPS"]);
    for replication in replications {
        let Shards { active, waiting, unowned, ended, gap } = replication.shards;
        let mut cells = vec![replication.name.clone(), replication.source_table.clone()];
        cells.extend([active, waiting, unowned, ended, gap].map(|count| count.to_string()));
        table.row(cells);
    }
    table
}

fn replicas(replications: &[Replication]) -> Table {
    let mut table =
        Table::new(&["REPLICA", "TABLE", "STATE", "APPLIED THROUGH", "LAG", "HEADROOM", "PARKED", "COPY"]);
    for replication in replications {
        for replica in &replication.replicas {
            table.row(vec![
                format!("{}/{}", replication.name, replica.name),
                replica.table.clone(),
                state(replica),
                replica.applied_through.clone().unwrap_or_else(|| "-".to_owned()),
                replica.lag_seconds.map_or_else(|| "-".to_owned(), seconds),
                replica.headroom_seconds.map_or_else(|| "-".to_owned(), |left| seconds(left.max(0.0))),
                replica.parked_keys.to_string(),
                replica.copy.as_ref().map_or_else(|| "-".to_owned(), copy),
            ]);
        }
    }
    table
}

fn copy(copy: &Copied) -> String {
    match (copy.state, copy.share, &copy.consistent_since) {
        ("copying", Some(share), _) => format!("copying, {:.0} %", share * 100.0),
        ("done", _, Some(since)) => format!("consistent since {since}"),
        (state, ..) => state.to_owned(),
    }
}

fn state(replica: &Replica) -> String {
    let state = match replica.state {
        ReplicaState::NotStarted => "not started",
        ReplicaState::Paused => "paused",
        ReplicaState::Seeking => "seeking",
        ReplicaState::Gap => "gap",
        ReplicaState::Starting => "starting",
        ReplicaState::CatchingUp => "catching up",
        ReplicaState::Streaming => "streaming",
    };
    match &replica.seek {
        Some(seek) if seek.shards_to_follow > 0 => {
            format!("{state}, {} shards to go to {}", seek.shards_to_follow, seek.target)
        }
        _ => state.to_owned(),
    }
}

/// Seconds as a person says them.
pub(in crate::cli) fn seconds(seconds: f64) -> String {
    let whole = seconds as u64;
    match whole {
        0..60 => format!("{whole} s"),
        60..3_600 => format!("{} min {} s", whole / 60, whole % 60),
        3_600..86_400 => format!("{} h {} min", whole / 3_600, whole % 3_600 / 60),
        _ => format!("{} d {} h", whole / 86_400, whole % 86_400 / 3_600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_told_in_two_units_at_most() {
        assert_eq!(seconds(0.9), "0 s");
        assert_eq!(seconds(75.0), "1 min 15 s");
        assert_eq!(seconds(7_322.0), "2 h 2 min");
        assert_eq!(seconds(90_000.0), "1 d 1 h");
    }
}
