//! What is shown while the demo runs: numbers at a moment, and rates over the last two seconds.

use std::collections::VecDeque;
use std::time::Duration;

use super::copies::Copied;
use super::latency::Quantiles;
use super::summary::{grouped, shortened};
use crate::supervisor::status::{Ledger, Shards};

/// Rates are taken over this long: the daemon's numbers are renewed twice a second.
const RATE_SPAN: Duration = Duration::from_secs(2);

/// Over less than this no rate is told.
const RATE_SPAN_MIN: Duration = Duration::from_millis(700);

/// How much of an error is shown: its start names the call and the cause, and the summary has all of it.
const ERROR_CHARS: usize = 80;

/// What the demo does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Load runs.
    Writing,
    /// The load has stopped, and the replicas get the rest.
    CatchingUp,
    /// The tables are compared.
    Verifying,
}

/// Counts at a moment.
#[derive(Debug, Clone, Default)]
pub(super) struct Counts {
    /// Since the load began.
    pub(super) elapsed: Duration,
    /// Items that the source held before.
    pub(super) held: u64,
    /// Items that the source took.
    pub(super) written: u64,
    /// Records that they made.
    pub(super) records: u64,
    pub(super) shards: Shards,
    pub(super) replicas: Vec<Replica>,
}

/// One replica's counts.
#[derive(Debug, Clone, Default)]
pub(super) struct Replica {
    pub(super) name: String,
    pub(super) ledger: Ledger,
    /// Changes and copied items that are under way.
    pub(super) pending: u64,
    /// How far its copy is.
    pub(super) copied: Copied,
    /// How long the changes of the last seconds were on their way.
    pub(super) lag: Option<Quantiles>,
    /// What keeps writes from succeeding.
    pub(super) error: Option<String>,
}

/// Counts and rates.
#[derive(Debug)]
pub(super) struct Sample {
    pub(super) phase: Phase,
    /// How long the load runs; without an end if absent.
    pub(super) planned: Option<Duration>,
    pub(super) now: Counts,
    written_rate: Option<f64>,
    applied_rates: Vec<Option<f64>>,
}

/// Remembers counts, to tell rates.
#[derive(Debug, Default)]
pub(super) struct Sampler {
    past: VecDeque<Counts>,
}

// === impl Sampler ===

impl Sampler {
    /// Takes counts; those of a moment that came earlier must have been taken before.
    pub(super) fn take(&mut self, phase: Phase, planned: Option<Duration>, now: Counts) -> Sample {
        while self.past.len() > 1 && now.elapsed.saturating_sub(self.past[1].elapsed) >= RATE_SPAN {
            self.past.pop_front();
        }
        let past = self.past.front().cloned().unwrap_or_default();
        let span = now.elapsed.saturating_sub(past.elapsed);
        let rate = |now: u64, past: u64| {
            let per_second = || now.saturating_sub(past) as f64 / span.as_secs_f64();
            (span >= RATE_SPAN_MIN).then(per_second)
        };
        let applied = now.replicas.iter().enumerate().map(|(index, replica)| {
            let past = past.replicas.get(index).map_or(0, |past| past.ledger.applied);
            rate(replica.ledger.applied, past)
        });
        let sample = Sample {
            phase,
            planned,
            written_rate: rate(now.written, past.written),
            applied_rates: applied.collect(),
            now: now.clone(),
        };
        self.past.push_back(now);
        sample
    }
}

// === impl Sample ===

impl Sample {
    /// One line for a log.
    pub(super) fn line(&self) -> String {
        if self.phase == Phase::Verifying {
            return self.time();
        }
        let mut line = format!("{}  {}", self.time(), self.source());
        for (index, replica) in self.now.replicas.iter().enumerate() {
            line.push_str(&format!(" | {} {}", replica.name, self.replica(index)));
        }
        line
    }

    /// How long load has run, or what comes after it.
    pub(super) fn time(&self) -> String {
        let seconds = self.now.elapsed.as_secs_f64();
        match (self.phase, self.planned) {
            (Phase::Writing, Some(planned)) => format!("{seconds:>5.1} of {:.1} s", planned.as_secs_f64()),
            (Phase::Writing, None) => format!("{seconds:>5.1} s"),
            (Phase::CatchingUp, _) => format!("{seconds:>5.1} s, catching up"),
            (Phase::Verifying, _) => format!("{seconds:>5.1} s, verifying the tables"),
        }
    }

    /// What the source does.
    pub(super) fn source(&self) -> String {
        let Counts { written, shards, .. } = &self.now;
        let rate = match self.phase {
            Phase::Writing => format!("{}  ", shown(self.written_rate)),
            Phase::CatchingUp | Phase::Verifying => String::new(),
        };
        format!(
            "written {rate}{} items  shards {} active, {} ended",
            grouped(*written),
            shards.active,
            shards.ended
        )
    }

    /// What one replica does.
    pub(super) fn replica(&self, index: usize) -> String {
        let replica = &self.now.replicas[index];
        let progress = match (replica.copied.is_read(), replica.lag) {
            (false, _) => {
                let copied = format!(
                    "copied {} items, {} held",
                    grouped(replica.copied.items),
                    grouped(self.now.held)
                );
                format!("{copied:<27}")
            }
            (true, Some(lag)) => format!("lag p50 {:>4} ms p99 {:>4} ms", lag.p50_ms, lag.p99_ms),
            (true, None) => "lag p50    - ms p99    - ms".to_owned(),
        };
        let mut text = format!(
            "applied {}  {progress}  backlog {:>5}",
            shown(self.applied_rates[index]),
            grouped(self.now.backlog(index)),
        );
        if let Some(error) = &replica.error {
            text.push_str("  ");
            text.push_str(&shortened(error, ERROR_CHARS));
        }
        text
    }
}

fn shown(rate: Option<f64>) -> String {
    let number = rate.map_or_else(|| "-".to_owned(), |rate| grouped(rate.round() as u64));
    format!("{number:>6}/s")
}

// === impl Counts ===

impl Counts {
    /// Records that one replica has not settled. While items are copied, only those that were read are known: what is
    /// settled of the others cannot be told from copied items.
    pub(super) fn backlog(&self, index: usize) -> u64 {
        let replica = &self.replicas[index];
        if !replica.copied.is_done() {
            return replica.pending;
        }
        (self.records + replica.copied.items).saturating_sub(settled(&replica.ledger))
    }
}

/// What became of the changes and the copied items that are no longer under way.
pub(super) fn settled(ledger: &Ledger) -> u64 {
    ledger.applied
        + ledger.stale
        + ledger.superseded
        + ledger.coalesced
        + ledger.filtered
        + ledger.parked
        + ledger.abandoned
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::copy::State;

    fn counts(elapsed_ms: u64, written: u64, applied: u64) -> Counts {
        let ledger = Ledger { read: applied, applied, ..Ledger::default() };
        let copied = Copied { state: Some(State::Done), took_ms: Some(9), ..Copied::default() };
        let replica = Replica { name: "eu-central-1".to_owned(), ledger, copied, ..Replica::default() };
        Counts {
            elapsed: Duration::from_millis(elapsed_ms),
            written,
            records: written,
            replicas: vec![replica],
            ..Counts::default()
        }
    }

    #[test]
    fn rates_are_those_of_the_last_two_seconds() {
        let mut sampler = Sampler::default();
        let mut take = |counts| sampler.take(Phase::Writing, None, counts);
        assert!(take(counts(0, 0, 0)).line().contains("written      -/s"));
        take(counts(1_000, 100, 50));
        let sample = take(counts(2_000, 200, 150));
        assert!(sample.line().contains("written    100/s"), "{}", sample.line());
        assert!(sample.line().contains("applied     75/s"), "{}", sample.line());
        take(counts(3_000, 1_200, 150));
        let sample = take(counts(4_000, 2_200, 150));
        assert!(sample.line().contains("written  1,000/s"), "{}", sample.line());
        assert!(sample.line().contains("applied      0/s"), "{}", sample.line());
        assert!(sample.line().contains("backlog 2,050"), "{}", sample.line());
    }

    #[test]
    fn a_copy_is_shown_until_all_was_read() {
        let mut now = counts(1_000, 100, 50);
        now.held = 5_000;
        now.replicas[0].pending = 7;
        now.replicas[0].copied = Copied { items: 1_200, state: Some(State::Copying), ..Copied::default() };
        let copying = Sampler::default().take(Phase::Writing, None, now.clone()).line();
        assert!(copying.contains("copied 1,200 items, 5,000 held"), "{copying}");
        assert!(copying.contains("backlog     7"), "{copying}");
        now.replicas[0].copied.took_ms = Some(800);
        let settling = Sampler::default().take(Phase::Writing, None, now).line();
        assert!(settling.contains("lag p50") && settling.contains("backlog     7"), "{settling}");
    }
}
