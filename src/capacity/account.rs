//! The arithmetic of a bucket. Time comes in as an argument.

use std::time::Duration;

use tokio::time::Instant;

use super::PAGE_UNITS_MAX;

/// The balance may grow to what so much time gives. It makes up for waits that end late, as timers of whole milliseconds
/// do, and is too little to be noticed as a burst.
pub(super) const SLACK: Duration = Duration::from_millis(10);

/// Throttles within this time are one: they are the answers to requests that were under way together.
const CUT_INTERVAL: Duration = Duration::from_secs(1);

/// What a throttled rate grows back by in each second: at least a unit, and a table of thousands should not take hours.
/// A sixtieth of the limit makes up for a halving in half a minute, in which provisioned tables regain their burst.
const RECOVERY_MIN: f64 = 1.0;
const RECOVERY_PART: f64 = 1.0 / 60.0;

/// The lowest rate: below it nothing would come to an end.
const RATE_MIN: f64 = 1.0;

/// The weight of the newest charge in the prediction of the next.
const NEWEST_WEIGHT: f64 = 0.3;

/// Over how long consumption is measured, in seconds, to know what half of it is.
const MEASURE_S: f64 = 5.0;

/// Less debt than this is none; it comes from rounding.
const DUST: f64 = 1e-6;

/// More than any request costs, whatever a server says.
const CHARGE_MAX: f64 = 1e6;

/// Units that are there or owed.
#[derive(Debug)]
pub(super) struct Account {
    /// The highest rate in units per second; infinite when there is none.
    ceiling: f64,
    /// The rate now.
    rate: f64,
    /// Units per second by which the rate grows each second.
    recovery: f64,
    balance: f64,
    /// When `rate` and `balance` were as they are.
    at: Instant,
    cut_at: Option<Instant>,
    predicted: Option<f64>,
    /// Units charged lately; each counts less the longer ago it was.
    recent: f64,
}

impl Account {
    pub(super) fn new(units_per_s: Option<f64>, now: Instant) -> Self {
        let ceiling = units_per_s.map_or(f64::INFINITY, |units| units.max(RATE_MIN));
        Self {
            ceiling,
            rate: ceiling,
            recovery: 0.0,
            balance: 0.0,
            at: now,
            cut_at: None,
            predicted: None,
            recent: 0.0,
        }
    }

    /// When the next request may be charged, if nothing is given back before.
    pub(super) fn free_at(&mut self, now: Instant) -> Instant {
        self.advance(now);
        if self.balance > -DUST {
            return now;
        }
        now + Duration::from_secs_f64(-self.balance / self.rate)
    }

    /// Charges a request, and says what it was charged.
    pub(super) fn charge(&mut self, predicted: f64, now: Instant) -> f64 {
        self.advance(now);
        let predicted = sane(predicted);
        self.add(-predicted);
        self.recent += predicted;
        predicted
    }

    /// A request that was charged `predicted` did cost `actual`.
    pub(super) fn settle(&mut self, predicted: f64, actual: f64, now: Instant) {
        self.advance(now);
        let actual = sane(actual);
        self.add(predicted - actual);
        self.recent = (self.recent + actual - predicted).max(0.0);
        self.predicted =
            Some(self.predicted.map_or(actual, |known| known + (actual - known) * NEWEST_WEIGHT));
    }

    /// A request that was charged `predicted` was not served.
    pub(super) fn refund(&mut self, predicted: f64, now: Instant) {
        self.advance(now);
        self.add(predicted);
        self.recent = (self.recent - predicted).max(0.0);
    }

    pub(super) fn predicted(&self) -> f64 {
        self.predicted.unwrap_or(PAGE_UNITS_MAX)
    }

    pub(super) fn rate(&mut self, now: Instant) -> f64 {
        self.advance(now);
        self.rate
    }

    /// Halves the rate. Without a limit it is what was consumed lately that is halved.
    pub(super) fn cut(&mut self, now: Instant) {
        if self.cut_at.is_some_and(|at| now.saturating_duration_since(at) < CUT_INTERVAL) {
            return;
        }
        self.advance(now);
        self.cut_at = Some(now);
        let from = if self.rate.is_finite() { self.rate } else { self.recent / MEASURE_S };
        let limit = if self.ceiling.is_finite() { self.ceiling } else { from };
        self.rate = (from / 2.0).clamp(RATE_MIN, self.ceiling);
        // The steepest that was ever due, so that a rate which was cut often still comes back.
        self.recovery = self.recovery.max((limit * RECOVERY_PART).max(RECOVERY_MIN));
    }

    fn advance(&mut self, now: Instant) {
        let seconds = now.saturating_duration_since(self.at).as_secs_f64();
        self.at = self.at.max(now);
        self.recent *= (-seconds / MEASURE_S).exp();
        if self.rate.is_finite() {
            self.add(self.rate * seconds);
            self.rate = (self.rate + self.recovery * seconds).min(self.ceiling);
        }
    }

    /// Nobody owes anything while there is no limit.
    fn add(&mut self, units: f64) {
        if self.rate.is_finite() {
            self.balance = (self.balance + units).min(self.rate * SLACK.as_secs_f64());
        }
    }
}

fn sane(units: f64) -> f64 {
    if units.is_nan() { 0.0 } else { units.clamp(0.0, CHARGE_MAX) }
}
