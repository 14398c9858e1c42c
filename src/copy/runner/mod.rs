//! The life of runs: looked for, begun, brought through one time of being alone after the other, and ended.

mod begin;
mod page;
mod pages;

use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::run::{Run, State};
use super::store::Saved;
use super::{Parts, Purpose, Request};
use crate::backoff::Backoff;
use crate::capacity::Bucket;
use crate::control;
use crate::fault::{Stage, advice};
use crate::lease::Fence;
use crate::mutation::{self, Mutation};
use crate::telemetry::CopyState;
use begin::Ready;
use pages::{Ended, Pages};

/// Between two looks while nothing is under way. A person who asks for a copy waits up to this for it to begin. Every
/// worker looks for every replica, and each look costs a unit.
const IDLE_INTERVAL: Duration = Duration::from_secs(10);

/// Between two looks at a run that is under way.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// Between two looks whether this worker is alone.
const ALONE_INTERVAL: Duration = Duration::from_millis(200);

/// Creation times of changes are whole seconds: one of the copy's last second is among those proven only a second later.
const ROUNDING_MS: i64 = 1_000;

/// Does the copies of one replica, one after the other.
pub struct Runner {
    parts: Parts,
    failures: Backoff,
    failing: bool,
    /// Pauses while something stands in a run's way.
    troubles: Backoff,
}

/// What became of a step.
enum Step {
    /// Go on with this.
    Next(Box<Run>),
    /// The row says something else now: look again.
    Look,
    /// Told to stop.
    Stopped,
}

// === impl Runner ===

impl Runner {
    /// A runner that does nothing yet.
    pub fn new(parts: Parts) -> Self {
        let backoff = || Backoff::new(Duration::from_millis(100), Duration::from_secs(30));
        Self { parts, failures: backoff(), failing: false, troubles: backoff() }
    }

    /// Does what is asked for until `stop` is cancelled. Pages that are under way then are given a moment to settle.
    pub async fn run(mut self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let step = match self.parts.store.load().await {
                Ok(run) => {
                    self.recovered();
                    self.advance(run, &stop).await
                }
                Err(error) => self.failed(&error, &stop).await,
            };
            if matches!(step, Step::Stopped) {
                break;
            }
        }
        (self.parts.want)(Purpose::Copy, false);
    }

    async fn advance(&mut self, run: Option<Run>, stop: &CancellationToken) -> Step {
        let Some(run) = run else {
            (self.parts.want)(Purpose::Copy, false);
            return pause(IDLE_INTERVAL, stop).await;
        };
        self.show(&run);
        (self.parts.want)(Purpose::Copy, run.state.writes());
        match run.state {
            State::Wanted | State::Copying => self.copy(run, stop).await,
            State::Settling => self.settle(run, stop).await,
            State::Reconciling => pause(LOOK_INTERVAL, stop).await,
            State::Done | State::Refused | State::Cancelled => pause(IDLE_INTERVAL, stop).await,
        }
    }

    /// Copies for as long as this worker is alone.
    async fn copy(&mut self, run: Run, stop: &CancellationToken) -> Step {
        let Some(fence) = self.alone(stop).await else {
            // Nothing of the run is touched: another worker may be doing it.
            return if stop.is_cancelled() { Step::Stopped } else { Step::Look };
        };
        let (run, ready) = match begin::begin(&self.parts, &run).await {
            Ok(begun) => begun,
            Err(begin::Failure::Refused(reason)) => return self.refuse(run, reason, stop).await,
            Err(begin::Failure::Trouble(text)) => return self.troubled(run, text, stop).await,
        };
        self.troubles.reset();
        let run = match self.save(run, stop).await {
            Step::Next(run) => *run,
            other => return other,
        };
        let (places, segments) = match self.parts.store.segments(&run).await {
            Ok(loaded) => loaded,
            Err(error) => return self.failed(&error, stop).await,
        };
        info!(run = run.id, segments = run.segments, consistent = run.request.consistent, "copy goes on");
        let Ready { images, read_units } = ready;
        let bucket = Bucket::new(read_units);
        let armed = self.parts.window.arm(run.request.staleness());
        if !wait_for_window(&run.request, armed.first_read_at(), &fence, stop).await {
            return Step::Look;
        }
        let pages = Pages::new(&self.parts, run, segments, (places, images, bucket, armed, fence));
        match pages.run(stop).await {
            Ended::Finished(run) => self.scanned(*run, stop).await,
            Ended::Lost => {
                info!("copy stands still: this worker is not alone any more");
                pause(ALONE_INTERVAL, stop).await
            }
            Ended::Changed => Step::Look,
            Ended::Stopped => Step::Stopped,
        }
    }

    /// The right to write, if it comes before it is time for another look at the run.
    async fn alone(&self, stop: &CancellationToken) -> Option<Fence> {
        let look_at = Instant::now() + LOOK_INTERVAL;
        loop {
            let fence = (self.parts.sole)();
            let now = Instant::now();
            if fence.is_open(now) {
                return Some(fence);
            }
            if now >= look_at || matches!(pause(ALONE_INTERVAL, stop).await, Step::Stopped) {
                return None;
            }
        }
    }

    /// Every item is durable.
    async fn scanned(&mut self, mut run: Run, stop: &CancellationToken) -> Step {
        run.scan_ended_unix_ms = Some(self.parts.clock.unix_ms());
        run.state = if run.request.reconcile { State::Reconciling } else { State::Settling };
        run.trouble = None;
        info!(run = run.id, items = run.progress.items, bytes = run.progress.bytes, "all items are copied");
        self.save(run, stop).await
    }

    /// Waits until every change that was made during the scan is applied.
    async fn settle(&mut self, mut run: Run, stop: &CancellationToken) -> Step {
        let ended_unix_ms = run.scan_ended_unix_ms.unwrap_or(run.updated_unix_ms);
        let proven = (self.parts.watermark)().is_some_and(|through| through >= ended_unix_ms + ROUNDING_MS);
        if !proven {
            return pause(LOOK_INTERVAL, stop).await;
        }
        run.state = State::Done;
        run.consistent_since_unix_ms = Some(self.parts.clock.unix_ms());
        info!(run = run.id, "replica equals its source");
        self.save(run, stop).await
    }

    /// Writes the run until it is written, or somebody else did.
    async fn save(&mut self, mut run: Run, stop: &CancellationToken) -> Step {
        run.updated_unix_ms = self.parts.clock.unix_ms();
        loop {
            match self.parts.store.save(&mut run).await {
                Ok(Saved::Done) => {
                    self.recovered();
                    self.show(&run);
                    return Step::Next(Box::new(run));
                }
                Ok(Saved::Changed(_)) => return Step::Look,
                Err(error) => {
                    if let Step::Stopped = self.failed(&error, stop).await {
                        return Step::Stopped;
                    }
                }
            }
        }
    }

    /// A run that never can be done as it was asked for says why.
    async fn refuse(&mut self, run: Run, reason: String, stop: &CancellationToken) -> Step {
        warn!(run = run.id, reason, "copy is refused");
        self.save(Run { state: State::Refused, reason: Some(reason), trouble: None, ..run }, stop).await
    }

    /// A run that cannot go on for now says why.
    async fn troubled(&mut self, run: Run, text: String, stop: &CancellationToken) -> Step {
        if run.trouble.as_ref() != Some(&text) {
            warn!(run = run.id, trouble = text, "copy cannot go on");
            let step = self.save(Run { trouble: Some(text), ..run }, stop).await;
            if !matches!(step, Step::Next(_)) {
                return step;
            }
        }
        pause(self.troubles.pause(), stop).await
    }

    async fn failed(&mut self, error: &control::Error, stop: &CancellationToken) -> Step {
        if !std::mem::replace(&mut self.failing, true) {
            let advice = match error {
                control::Error::Call { source, .. } => advice(source.fault, Stage::Control),
                _ => "check that the control table is this fleet's own",
            };
            warn!(%error, advice, "copy cannot use the control table");
        }
        pause(self.failures.pause(), stop).await
    }

    fn recovered(&mut self) {
        self.failing = false;
        self.failures.reset();
    }

    fn show(&self, run: &Run) {
        show(&self.parts, run);
    }
}

/// Lets others see a run.
fn show(parts: &Parts, run: &Run) {
    let state = match run.state {
        State::Wanted => CopyState::Wanted,
        State::Copying => CopyState::Copying,
        State::Reconciling => CopyState::Reconciling,
        State::Settling => CopyState::Settling,
        State::Done => CopyState::Done,
        State::Refused | State::Cancelled => CopyState::None,
    };
    parts.metrics.set_state(state);
    parts.metrics.set_segments(run.segments, run.progress.segments_finished);
    parts.metrics.set_times(run.started_unix_ms, run.consistent_since_unix_ms);
    (parts.show)(run);
}

/// Lets `duration` pass, unless told to stop.
async fn pause(duration: Duration, stop: &CancellationToken) -> Step {
    tokio::select! {
        biased;
        () = stop.cancelled() => Step::Stopped,
        () = sleep(duration) => Step::Look,
    }
}

/// Waits until a read cannot miss anything that other workers applied before this one watched. Says whether this worker
/// is still alone.
async fn wait_for_window(
    request: &Request,
    first_read_at: Instant,
    fence: &Fence,
    stop: &CancellationToken,
) -> bool {
    let wait = sleep_until(first_read_at);
    if request.consistent || mutation::is_on(Mutation::CopyWithoutWait) {
        return fence.is_open(Instant::now());
    }
    tokio::select! {
        biased;
        () = stop.cancelled() => false,
        () = wait => fence.is_open(Instant::now()),
    }
}
