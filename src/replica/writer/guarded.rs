//! Batches under a guard: conditional writes, one for each change, and what each of them met.

use std::sync::Arc;

use futures_util::future::join_all;
use tokio::time::Instant;

use super::{Done, Writer};
use crate::change::Op;
use crate::dynamo::{self, Guarded};
use crate::fault::{Directive, Stage, directive};
use crate::lane::{Batch, Queue};

impl Writer {
    /// Sends each change of a batch by itself, all at once and with one deadline.
    pub(super) fn send_guarded(&mut self, batch: Batch, deadline: Instant) {
        let tables = Arc::clone(&self.parts.tables);
        let table = self.parts.config.table.clone();
        let guard = self.parts.config.guard.clone().expect("only a guarded writer sends guarded batches");
        self.under_way.push(Box::pin(async move {
            let attempts = batch.changes.iter().map(|change| {
                let operation = if matches!(change.op, Op::Put(_)) { "PutItem" } else { "DeleteItem" };
                dynamo::until(deadline, operation, tables.write_guarded(&table, change, &guard))
            });
            let results = join_all(attempts).await;
            Done::Tried { batch, results }
        }));
    }

    /// Settles what was applied or is stale, and deals with each fault once, however many changes met it.
    pub(super) fn tried(&mut self, batch: Batch, results: Vec<Result<Guarded, dynamo::Error>>) {
        let consumed_units = results.iter().flatten().map(|done| done.consumed_units).sum();
        self.parts.metrics.consumed_write_units(consumed_units);
        let (groups, errors) = sort(results);
        if errors.is_empty() {
            self.succeeded();
        }
        let mut parts = batch.partition(&groups, FAILED + errors.len());
        let failed = parts.split_off(FAILED);
        let settled = [(APPLIED, Queue::applied as fn(&mut Queue, Batch)), (STALE, Queue::stale)];
        for (group, settle) in settled {
            let mut batch = std::mem::take(&mut parts[group]);
            if group == APPLIED {
                self.count_applied(&batch);
            }
            self.clear_parked(&mut batch);
            settle(&mut self.queue, batch);
        }
        for (batch, error) in failed.into_iter().zip(errors) {
            self.failed(batch, error);
        }
    }
}

/// Groups of a batch's changes: those that are in the replica now, those that were there before, and then one for each
/// fault that others met.
const APPLIED: usize = 0;
const STALE: usize = 1;
const FAILED: usize = 2;

/// The group of each change, and the errors of the failed ones. A change that is refused for itself has a group of its
/// own.
fn sort(results: Vec<Result<Guarded, dynamo::Error>>) -> (Vec<usize>, Vec<dynamo::Error>) {
    let mut errors: Vec<dynamo::Error> = Vec::new();
    let mut group = |result: Result<Guarded, dynamo::Error>| match result {
        Ok(Guarded { is_stale, .. }) => usize::from(is_stale),
        Err(error) => {
            let alone = directive(error.fault, Stage::Write) == Directive::Park;
            let known = errors.iter().position(|known| known.fault == error.fault && !alone);
            FAILED
                + known.unwrap_or_else(|| {
                    errors.push(error);
                    errors.len() - 1
                })
        }
    };
    (results.into_iter().map(&mut group).collect(), errors)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::{Fault, Width};

    #[test]
    fn what_met_the_same_fault_is_one_group_but_for_refusals() {
        let done = |is_stale| Ok(Guarded { is_stale, consumed_units: 1.0 });
        let failed = |fault| Err(dynamo::Error::new("PutItem", fault, "scripted"));
        let throttled = Fault::Throttled(Width::KeyRange);
        let (groups, errors) = sort(vec![
            failed(Fault::Invalid),
            done(false),
            failed(throttled),
            done(true),
            failed(Fault::Invalid),
            failed(throttled),
            failed(Fault::Transient),
        ]);
        assert_eq!(groups, [2, APPLIED, 3, STALE, 4, 3, 5]);
        let faults: Vec<_> = errors.iter().map(|error| error.fault).collect();
        assert_eq!(faults, [Fault::Invalid, throttled, Fault::Invalid, Fault::Transient]);
    }
}
