//! What the coordinator tells while it is that: the metrics of the fleet, and the fleet's part of the status. Both are
//! gone when the office is dropped.

use std::sync::{Mutex, MutexGuard};

use super::view::{Proof, View, Watermark};
use crate::supervisor::Replication;
use crate::supervisor::board::Board;
use crate::supervisor::status::{self, Evidence};
use crate::telemetry::{self, FleetShards};

/// The office, from the lease's taking to its loss.
pub(in crate::supervisor) struct Office {
    metrics: telemetry::Leading,
    board: Board,
    seats: Mutex<Vec<Seat>>,
}

/// What is known of one replication.
struct Seat {
    name: String,
    source: String,
    looked_unix_ms: Option<i64>,
    shards: FleetShards,
    note: Option<String>,
    replicas: Vec<Known>,
}

/// What is known of one replica.
struct Known {
    name: String,
    watermark: Option<Watermark>,
    heartbeat: Option<Heartbeat>,
}

/// How the heartbeats of a replica fare.
#[derive(Clone, Copy)]
struct Heartbeat {
    applied_unix_ms: Option<i64>,
    lost: u64,
}

// === impl Office ===

impl Office {
    /// The office of the coordinator of `replications`.
    pub(super) fn new(metrics: telemetry::Leading, board: Board, replications: &[&Replication]) -> Self {
        let office =
            Self { metrics, board, seats: Mutex::new(replications.iter().map(|it| Seat::new(it)).collect()) };
        office.change(|_| {});
        office
    }

    /// The metrics of the fleet.
    pub(in crate::supervisor) fn metrics(&self) -> &telemetry::Leading {
        &self.metrics
    }

    /// What the rows of a replication showed at `looked_unix_ms`.
    pub(super) fn seen(&self, replication: &Replication, view: &View, looked_unix_ms: i64) {
        let (name, table) = (&replication.name, &replication.source.table);
        self.metrics.set_shards(name, table, view.shards);
        for (replica, watermark) in replication.replicas.iter().zip(&view.watermarks) {
            let through = watermark.map(|watermark| watermark.through_unix_ms);
            self.metrics.set_applied_through(name, table, &replica.name, through);
        }
        self.change_seat(name, |seat| {
            seat.looked_unix_ms = Some(looked_unix_ms);
            seat.shards = view.shards;
            for (known, watermark) in seat.replicas.iter_mut().zip(&view.watermarks) {
                known.watermark = *watermark;
            }
        });
    }

    /// The newest heartbeat that is in a replica had been written at `applied_unix_ms`, and so many were lost since this
    /// worker coordinates.
    pub(in crate::supervisor) fn heartbeat(
        &self,
        replication: &str,
        replica: &str,
        applied_unix_ms: Option<i64>,
        lost: u64,
    ) {
        self.change_seat(replication, |seat| {
            for known in seat.replicas.iter_mut().filter(|known| known.name == replica) {
                known.heartbeat = Some(Heartbeat { applied_unix_ms, lost });
            }
        });
    }

    /// Why a replication has no heartbeats; `None` when it has.
    pub(in crate::supervisor) fn note(&self, replication: &str, note: Option<String>) {
        self.change_seat(replication, |seat| seat.note = note);
    }

    fn change_seat(&self, replication: &str, change: impl FnOnce(&mut Seat)) {
        self.change(|seats| {
            if let Some(seat) = seats.iter_mut().find(|seat| seat.name == replication) {
                change(seat);
            }
        });
    }

    fn change(&self, change: impl FnOnce(&mut [Seat])) {
        let mut seats = self.seats();
        change(&mut seats);
        self.board.set_fleet(Some(shown(&seats)));
    }

    fn seats(&self) -> MutexGuard<'_, Vec<Seat>> {
        self.seats.lock().expect("nothing panics while holding it")
    }
}

impl Drop for Office {
    fn drop(&mut self) {
        self.board.set_fleet(None);
    }
}

// === impl Seat ===

impl Seat {
    fn new(replication: &Replication) -> Self {
        let known = |name: &String| Known { name: name.clone(), watermark: None, heartbeat: None };
        Self {
            name: replication.name.clone(),
            source: replication.source.table.clone(),
            looked_unix_ms: None,
            shards: FleetShards::default(),
            note: None,
            replicas: replication.replicas.iter().map(|replica| known(&replica.name)).collect(),
        }
    }
}

fn shown(seats: &[Seat]) -> status::Fleet {
    let replica = |known: &Known| status::FleetReplica {
        name: known.name.clone(),
        applied_through_unix_ms: known.watermark.map(|watermark| watermark.through_unix_ms),
        lag_seconds: None,
        evidence: known.watermark.map(|watermark| evidence(watermark, known.heartbeat)),
        heartbeat: known.heartbeat.map(|heartbeat| status::Heartbeat {
            applied_unix_ms: heartbeat.applied_unix_ms,
            age_seconds: None,
            lost: heartbeat.lost,
        }),
    };
    let replication = |seat: &Seat| {
        let FleetShards { owned, waiting, ended, unowned, gap } = seat.shards;
        status::FleetReplication {
            name: seat.name.clone(),
            source: seat.source.clone(),
            looked_unix_ms: seat.looked_unix_ms,
            shards: status::FleetShards { owned, waiting, ended, unowned, gap },
            replicas: seat.replicas.iter().map(replica).collect(),
            note: seat.note.clone(),
        }
    };
    status::Fleet { replications: seats.iter().map(replication).collect() }
}

/// What proves a watermark: a heartbeat that was written to the same source after that time and was read back from the
/// replica says more than a record, and a record more than a few empty polls.
fn evidence(watermark: Watermark, heartbeat: Option<Heartbeat>) -> Evidence {
    let beats = heartbeat
        .and_then(|heartbeat| heartbeat.applied_unix_ms)
        .is_some_and(|applied_unix_ms| applied_unix_ms >= watermark.through_unix_ms);
    match watermark.proof {
        Proof::Records if beats => Evidence::Heartbeat,
        Proof::Records => Evidence::Records,
        Proof::EmptyPolls => Evidence::EmptyPolls,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_heartbeat_proves_what_is_older_and_empty_polls_stay_what_they_are() {
        let heartbeat = |applied: i64| Some(Heartbeat { applied_unix_ms: Some(applied), lost: 0 });
        let records = Watermark { through_unix_ms: 5_000, proof: Proof::Records };
        assert_eq!(evidence(records, None), Evidence::Records);
        assert_eq!(evidence(records, heartbeat(4_999)), Evidence::Records);
        assert_eq!(evidence(records, heartbeat(6_200)), Evidence::Heartbeat);
        let polled = Watermark { proof: Proof::EmptyPolls, ..records };
        assert_eq!(evidence(polled, heartbeat(6_200)), Evidence::EmptyPolls);
    }
}
