//! What a reader does about a fault before the next attempt: tells its owner, and says how long to wait.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::backoff::Backoff;
use crate::dynamo;
use crate::fault::{Directive, Fault};

use super::{Trouble, pace};

/// Between two attempts at what does not heal by itself: soon enough after somebody granted a permission, and
/// few enough calls to be left in place over a weekend.
const STALL_PAUSE: Duration = Duration::from_secs(30);

/// Between two words about the same fault.
const REPORT_INTERVAL: Duration = Duration::from_secs(10);

/// The faults since the last success.
#[derive(Debug)]
pub(super) struct Recovery {
    retry: Backoff,
    slow_down: Backoff,
    /// When each fault was reported last; there are no more than a dozen kinds.
    reported: Vec<(Fault, Instant)>,
    troubles: mpsc::Sender<Trouble>,
}

// === impl Recovery ===

impl Recovery {
    pub(super) fn new(troubles: mpsc::Sender<Trouble>) -> Self {
        Self {
            // From the time that a new connection takes to what an outage can be checked at.
            retry: Backoff::new(Duration::from_millis(100), Duration::from_secs(10)),
            // A throttled caller's first pause is already longer than the usual one between calls.
            slow_down: Backoff::new(Duration::from_millis(500), Duration::from_secs(20)),
            reported: Vec::new(),
            troubles,
        }
    }

    /// A call succeeded: pauses start over.
    pub(super) fn succeeded(&mut self) {
        self.retry.reset();
        self.slow_down.reset();
    }

    /// For another reader of the same owner.
    pub(super) fn fork(&self) -> Self {
        Self::new(self.troubles.clone())
    }

    /// Tells the owner of a fault, if it does not know yet, and returns how long to wait, as `directive` says.
    pub(super) fn failed(&mut self, error: dynamo::Error, directive: Directive) -> Duration {
        let pause = match directive {
            Directive::SlowDown => self.slow_down.pause(),
            Directive::Stall | Directive::Park | Directive::Gap => {
                pace::jittered(STALL_PAUSE, fastrand::f64())
            }
            Directive::Retry | Directive::RetryAfterSettling | Directive::Reacquire => self.retry.pause(),
        };
        self.report(error, directive);
        pause
    }

    /// A new iterator is needed: that is normal and costs one call, unless the new one is no better.
    pub(super) fn reacquire(&mut self, error: dynamo::Error) -> Duration {
        if self.retry.failures() > 0 {
            return self.failed(error, Directive::Reacquire);
        }
        tracing::debug!(%error, "taking a new iterator");
        // Counted, so that the next one waits.
        self.retry.pause();
        Duration::ZERO
    }

    /// Never waits: an owner that is busy with a page hears of it by the next failure.
    fn report(&mut self, error: dynamo::Error, directive: Directive) {
        let fault = error.fault;
        self.reported.retain(|(_, when)| when.elapsed() < REPORT_INTERVAL);
        if self.reported.iter().any(|(reported, _)| *reported == fault) {
            tracing::debug!(%error, "read failed again");
        } else if self.troubles.try_send(Trouble { error, directive }).is_ok() {
            self.reported.push((fault, Instant::now()));
        }
    }
}
