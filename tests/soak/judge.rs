//! What must hold when a schedule is over.

use std::collections::BTreeMap;

use dynamirror::supervisor::status::Status;

use super::schedule::{self, Step, Timed};
use super::{Soak, fencing, fleet};
use crate::support::wait;

/// How many late writes are spelt out.
const SHOWN: usize = 20;

impl Soak {
    /// Faults are over and the source is quiet.
    pub(super) async fn finish(mut self, schedule: &[Timed], written: usize) {
        let of = |is: fn(&Step) -> bool| schedule::count(schedule, is);
        assert_eq!(self.tally.kills, of(|step| matches!(step, Step::Kill { .. })));
        assert_eq!(self.tally.zombies, of(|step| matches!(step, Step::Stop { .. })));
        self.say(&format!("load ended after {written} changes"));
        self.world.equal(&|| self.tell_late_writes()).await;
        self.say("tables are equal");
        self.assert_ledgers().await;
        self.world.assert_readers();
        self.end().await;
        self.assert_logs();
        assert!(self.late_writes().is_empty(), "{}", self.tell_late_writes());
        self.say(&format!("{:?}", self.tally));
    }

    /// Every process tells a ledger that balances with nothing pending (I1), and no gap (I6).
    async fn assert_ledgers(&self) {
        for slot in &self.slots {
            let told = wait::within(wait::PATIENCE, async || {
                let status = slot.status().await;
                balances(&status).then_some(status)
            });
            let Some(status) = told.await else {
                panic!("the ledger of {} does not balance: {:#?}", slot.worker(), slot.status().await);
            };
            for replication in &status.replications {
                assert!(replication.gaps.is_empty(), "{replication:#?}");
                assert!(replication.replicas.iter().all(|it| it.parked_keys == 0), "{replication:#?}");
            }
        }
    }

    fn late_writes(&self) -> Vec<String> {
        let names: Vec<_> = self.world.options.shapes.iter().map(|shape| shape.name).collect();
        fencing::late_writes(&self.slots, &names)
    }

    fn tell_late_writes(&self) -> String {
        let late = self.late_writes();
        let shown = late.iter().take(SHOWN).map(|line| format!("\n{line}"));
        let shown: String = shown.collect();
        format!("{} changes were written by a process that others had taken over from:{shown}", late.len())
    }

    async fn end(&mut self) {
        for slot in &self.slots {
            slot.terminate();
        }
        for slot in &mut self.slots {
            assert_eq!(slot.ended().await, Some(0), "{} ends with 0", slot.name);
        }
        assert_eq!(self.held().await, BTreeMap::new(), "leases were kept");
    }

    /// No process panicked, and none found a gap or any other error.
    fn assert_logs(&self) {
        let entries = std::fs::read_dir(&self.home).expect("the logs are there");
        let logs = entries.map(|entry| entry.expect("the logs are there").path());
        for log in logs.filter(|path| path.extension().is_some_and(|extension| extension == "log")) {
            let text = std::fs::read_to_string(&log).expect("a log is text");
            assert!(!text.contains("panicked"), "{} tells of a panic", log.display());
            let error = fleet::lines(&log).find(|line| line["level"] == "ERROR");
            assert_eq!(error, None, "{} tells of an error", log.display());
        }
    }
}

fn balances(status: &Status) -> bool {
    let replicas = status.replications.iter().flat_map(|replication| &replication.replicas);
    replicas.into_iter().all(|replica| {
        let ledger = &replica.ledger;
        let settled = ledger.applied
            + ledger.superseded
            + ledger.coalesced
            + ledger.filtered
            + ledger.parked
            + ledger.abandoned;
        replica.pending_changes == 0 && replica.buffer_bytes == 0 && ledger.read == settled
    })
}
