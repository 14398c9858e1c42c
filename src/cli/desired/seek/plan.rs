//! What a seek does to each shard, and how that is told.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::cli::desired::{Chosen, target, time};
use crate::cli::output::Table;
use crate::lease::Row;
use crate::shard::{Position, ShardId};
use crate::supervisor::desired::{self, Effect, Seek, Step, Wish};

/// A seek, shard by shard.
#[derive(Debug, Serialize)]
pub(super) struct Plan {
    schema_version: u32,
    replication: String,
    replicas: Vec<String>,
    target: String,
    /// Whether it was only planned.
    dry_run: bool,
    shards: Vec<Shard>,
    /// What to know about it, a sentence each.
    notes: Vec<String>,
}

/// A shard for one replica.
#[derive(Debug, Serialize)]
struct Shard {
    shard: String,
    replica: String,
    now_at: String,
    /// When the stream still has the shard; the rest of one that is gone is given up.
    goes_to: String,
    #[serde(serialize_with = "word")]
    effect: Effect,
    /// Changes that the replica never gets; absent unless some are passed over.
    skipped: Option<String>,
}

// === impl Plan ===

impl Plan {
    pub(super) fn new(chosen: &Chosen<'_>, seek: &Seek, dry_run: bool) -> Self {
        let rows: BTreeMap<ShardId, Row> =
            chosen.rows.iter().map(|row| (row.shard.clone(), row.clone())).collect();
        let of = |replica: &&str| {
            let wish = chosen.wish(replica);
            rows.values().map(|row| Shard::new(row, replica, &wish, seek, &rows)).collect::<Vec<_>>()
        };
        let shards: Vec<_> = chosen.replicas.iter().flat_map(of).collect();
        Self {
            schema_version: 1,
            replication: chosen.replication.name.clone(),
            replicas: chosen.replicas.iter().map(|replica| (*replica).to_owned()).collect(),
            target: target(&seek.target),
            dry_run,
            notes: notes(chosen, &shards),
            shards,
        }
    }

    /// Whether changes may be passed over.
    pub(super) fn skips(&self) -> bool {
        self.shards.iter().any(|shard| shard.skipped.is_some())
    }

    /// What is passed over, a line for each shard and replica.
    pub(super) fn skipped(&self) -> Vec<String> {
        let line = |shard: &Shard| {
            let skipped = shard.skipped.as_ref()?;
            let Shard { replica, shard, .. } = shard;
            Some(format!("replica `{}/{replica}` never gets {skipped} of shard {shard}", self.replication))
        };
        self.shards.iter().filter_map(line).collect()
    }

    /// For a person.
    pub(super) fn text(&self) -> String {
        let verb = if self.dry_run { "would go" } else { "goes" };
        let replicas = self.replicas.join(", ");
        let mut text = format!("`{}` ({replicas}) {verb} to {}\n\n", self.replication, self.target);
        let mut table = Table::new(&["SHARD", "REPLICA", "NOW AT", "GOES TO", "EFFECT"]);
        for shard in &self.shards {
            table.row(vec![
                shard.shard.clone(),
                shard.replica.clone(),
                shard.now_at.clone(),
                shard.goes_to.clone(),
                name(shard.effect).to_owned(),
            ]);
        }
        text.push_str(&table.to_string());
        let skipped = if self.dry_run { self.skipped() } else { Vec::new() };
        for note in skipped.iter().chain(&self.notes) {
            text.push_str(&format!("\n! {note}"));
        }
        text
    }
}

// === impl Shard ===

impl Shard {
    fn new(row: &Row, replica: &str, wish: &Wish, seek: &Seek, rows: &BTreeMap<ShardId, Row>) -> Self {
        // Where it stands when it has obeyed what was asked for before.
        let obeyed = desired::obey(row, [(replica, wish)], rows, true);
        let row = obeyed.as_ref().unwrap_or(row);
        let now = row.checkpoints.get(replica);
        let relation = desired::relation(row, &seek.target, rows);
        let change = Step { seek: seek.clone(), relation }.change(row, replica);
        let to = change.checkpoint.position;
        let skips = change.effect == Effect::Skips;
        Self {
            shard: row.shard.to_string(),
            replica: replica.to_owned(),
            now_at: now.map_or_else(|| "not started".to_owned(), |now| position(&now.position)),
            goes_to: position(&to),
            effect: change.effect,
            skipped: skips.then(|| {
                skipped(now.and_then(|now| now.applied_through_unix_ms), now.map(|it| it.position), &to)
            }),
        }
    }
}

/// What lies between two positions.
fn skipped(applied_through_unix_ms: Option<i64>, now: Option<Position>, to: &Position) -> String {
    match (applied_through_unix_ms, now, to) {
        (_, Some(Position::After(now)), Position::After(to)) => {
            format!("the changes after {now} up to {to}")
        }
        (_, _, Position::After(to)) => format!("the changes up to {to}"),
        (Some(through), _, Position::At { unix_ms }) => {
            format!("changes made between {} and {}", time(through), time(*unix_ms))
        }
        (None, _, Position::At { unix_ms }) => format!("changes made before {}", time(*unix_ms)),
        (_, _, to) => format!("changes before {}", position(to)),
    }
}

fn notes(chosen: &Chosen<'_>, shards: &[Shard]) -> Vec<String> {
    let mut notes = Vec::new();
    if shards.iter().any(|shard| shard.effect == Effect::Replays) {
        notes.push(
            "changes are applied again: readers of the replica may see older values until it has caught up"
                .to_owned(),
        );
    }
    let name = &chosen.replication.name;
    for row in &chosen.rows {
        let replicas: Vec<_> =
            chosen.replicas.iter().copied().filter(|replica| row.gap_of(replica).is_some()).collect();
        if !replicas.is_empty() {
            notes.push(format!(
                "shard {} is a gap for {}: it is read again if the stream still has it, and the rest of it is given up \
                 otherwise: verify or copy what `{name}` misses",
                row.shard,
                replicas.join(", ")
            ));
        }
    }
    let paused: Vec<_> =
        chosen.replicas.iter().copied().filter(|replica| chosen.wish(replica).is_paused()).collect();
    if !paused.is_empty() {
        notes.push(format!(
            "paused: {}: nothing is written before `dynamirror resume {name}`",
            paused.join(", ")
        ));
    }
    notes
}

fn position(position: &Position) -> String {
    match position {
        Position::TrimHorizon => "trim_horizon".to_owned(),
        Position::Latest { since_unix_ms } => format!("latest, since {}", time(*since_unix_ms)),
        Position::At { unix_ms } => time(*unix_ms),
        Position::After(sequence) => format!("after {sequence}"),
        Position::End => "end".to_owned(),
    }
}

const fn name(effect: Effect) -> &'static str {
    match effect {
        Effect::Stays => "stays",
        Effect::Replays => "replays",
        Effect::Skips => "skips",
        Effect::Ends => "ends",
    }
}

fn word<S: serde::Serializer>(effect: &Effect, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(name(*effect))
}
