//! What the demo has shown, at its end: for a person and as JSON.

use std::fmt;

use serde::Serialize;

use super::copies::Copied;
use super::latency::Quantiles;
use super::load;
use super::sample::settled;
use super::verified::Verified;
use crate::supervisor::status::Ledger;

/// A load that reaches this share of the asked rate is as asked: it ends with whole requests.
const RATE_REACHED: f64 = 0.9;

/// The whole result.
#[derive(Debug, Serialize)]
pub(super) struct Summary {
    /// Raised when a field changes its meaning.
    pub(super) schema_version: u32,
    /// Whether every replica is copied and equal to the source, and nothing is unaccounted for.
    pub(super) ok: bool,
    pub(super) seed: u64,
    /// Items a second that were asked for.
    pub(super) rate: u32,
    pub(super) load_seconds: f64,
    pub(super) catch_up_seconds: f64,
    pub(super) source: Source,
    pub(super) replicas: Vec<Replica>,
    /// What went wrong beside differences, a sentence each.
    pub(super) problems: Vec<String>,
}

/// What happened at the source.
#[derive(Debug, Serialize)]
pub(super) struct Source {
    pub(super) region: String,
    pub(super) table: String,
    /// Items before anything was read.
    pub(super) held: u64,
    pub(super) written: load::Counts,
    pub(super) requests: u64,
    /// Of what was written by the load.
    pub(super) records: u64,
    pub(super) splits: u64,
    pub(super) rolls: u64,
    pub(super) shards: u64,
    pub(super) shards_closed: u64,
    /// Read and applied to the end, everywhere.
    pub(super) shards_ended: u64,
}

/// What happened at a replica.
#[derive(Debug, Serialize)]
pub(super) struct Replica {
    pub(super) name: String,
    pub(super) ledger: Ledger,
    pub(super) pending: u64,
    /// Write requests.
    pub(super) batches: u64,
    /// From the write at the source to the write at the replica.
    pub(super) lag: Option<Quantiles>,
    /// The first copy.
    pub(super) copied: Copied,
    pub(super) verified: Verified,
}

// === impl Replica ===

impl Replica {
    /// Whether it is copied and equal to the source.
    pub(super) fn is_equal(&self) -> bool {
        self.copied.is_done() && self.verified.differences() == 0
    }

    /// What is unaccounted for, if anything is (I1).
    pub(super) fn imbalance(&self) -> Option<String> {
        let settled = settled(&self.ledger);
        if self.ledger.read == settled && self.pending == 0 {
            return None;
        }
        Some(format!(
            "{}: {} changes and copied items were read, {} are accounted for, {} are pending",
            self.name, self.ledger.read, settled, self.pending
        ))
    }
}

// === impl Summary ===

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f)?;
        self.source.write(f)?;
        let written = self.source.written.items() as f64 / self.load_seconds.max(0.001);
        if written < f64::from(self.rate) * RATE_REACHED {
            writeln!(
                f,
                "  rate     {} items/s instead of {}: the emulated source takes no more here",
                grouped(written.round() as u64),
                grouped(self.rate.into())
            )?;
        }
        for replica in &self.replicas {
            replica.write(f)?;
        }
        writeln!(f)?;
        for problem in &self.problems {
            writeln!(f, "problem: {problem}")?;
        }
        let count = self.replicas.len();
        let equal = self.replicas.iter().filter(|replica| replica.is_equal()).count();
        let replicas = if count == 1 { "replica is" } else { "replicas are" };
        let verdict = if self.ok { "ok" } else { "failed" };
        writeln!(
            f,
            "{verdict}: {equal} of {count} {replicas} equal to the source \
             (load {:.1} s, catch-up {:.1} s, seed {})",
            self.load_seconds, self.catch_up_seconds, self.seed
        )
    }
}

impl Source {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let written = &self.written;
        writeln!(f, "source   table {} in {}", self.table, self.region)?;
        writeln!(f, "  held     {} items before its stream was read", grouped(self.held))?;
        writeln!(
            f,
            "  written  {} items in {} requests: {} put, {} updated, {} deleted",
            grouped(written.items()),
            grouped(self.requests),
            grouped(written.puts),
            grouped(written.updates),
            grouped(written.deletes),
        )?;
        writeln!(
            f,
            "           of these {} in batches, {} in transactions, {} of 300 KB",
            grouped(written.in_batches),
            grouped(written.in_transactions),
            grouped(written.large),
        )?;
        writeln!(f, "  stream   {} records", grouped(self.records))?;
        writeln!(
            f,
            "  shards   {} in all: {} split, {} rolled over; {} of {} closed ones read to the end",
            self.shards, self.splits, self.rolls, self.shards_ended, self.shards_closed,
        )
    }
}

impl Replica {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ledger = &self.ledger;
        writeln!(f, "replica  {}", self.name)?;
        writeln!(f, "  copied   {}", self.copied)?;
        write!(
            f,
            "  ledger   {} read = {} applied + {} coalesced",
            grouped(ledger.read),
            grouped(ledger.applied),
            grouped(ledger.coalesced)
        )?;
        for (count, what) in [
            (ledger.superseded, "superseded"),
            (ledger.stale, "stale"),
            (ledger.filtered, "filtered"),
            (ledger.parked, "parked"),
            (ledger.abandoned, "abandoned"),
            (self.pending, "pending"),
        ] {
            if count > 0 {
                write!(f, " + {} {what}", grouped(count))?;
            }
        }
        writeln!(f, ", in {} batches", grouped(self.batches))?;
        match self.lag {
            Some(lag) => {
                writeln!(f, "  lag      p50 {} ms, p99 {} ms, max {} ms", lag.p50_ms, lag.p99_ms, lag.max_ms)?
            }
            None => writeln!(f, "  lag      not known: nothing was applied")?,
        }
        write!(f, "{}", self.verified)
    }
}

/// A number with a comma between thousands.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.char_indices() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// The first `chars` of a text.
pub(super) fn shortened(text: &str, chars: usize) -> String {
    let mut short: String = text.chars().take(chars).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::copy::State;

    fn replica() -> Replica {
        Replica {
            name: "eu-central-1".to_owned(),
            ledger: Ledger { read: 1_200, applied: 1_000, coalesced: 200, ..Ledger::default() },
            pending: 0,
            batches: 40,
            lag: None,
            copied: Copied { state: Some(State::Done), items: 20, ..Copied::default() },
            verified: Verified::default(),
        }
    }

    #[test]
    fn thousands_are_grouped() {
        let shown = [0, 999, 1_000, 123_456, 1_234_567].map(grouped);
        assert_eq!(shown, ["0", "999", "1,000", "123,456", "1,234,567"]);
    }

    #[test]
    fn a_change_that_is_lost_is_told() {
        let mut replica = replica();
        assert_eq!(replica.imbalance(), None);
        replica.ledger.applied -= 1;
        let told = replica.imbalance().expect("one change is lost");
        assert!(told.contains("1200 changes and copied items were read, 1199 are accounted for"), "{told}");
        replica.pending = 1;
        assert!(replica.imbalance().is_some());
    }

    #[test]
    fn a_difference_is_shown_with_its_examples() {
        let mut replica = replica();
        replica.verified.missing = 1;
        replica.verified.examples.push("missing {}".to_owned());
        assert!(!replica.is_equal());
        let mut summary = Summary {
            schema_version: 2,
            ok: false,
            seed: 7,
            rate: 200,
            load_seconds: 15.0,
            catch_up_seconds: 0.5,
            source: Source {
                region: "us-east-1".to_owned(),
                table: "orders".to_owned(),
                held: 5_000,
                written: load::Counts::default(),
                requests: 0,
                records: 0,
                splits: 0,
                rolls: 0,
                shards: 4,
                shards_closed: 0,
                shards_ended: 0,
            },
            replicas: vec![replica],
            problems: vec!["something".to_owned()],
        };
        let text = summary.to_string();
        assert!(text.contains("NOT EQUAL: 1 missing") && text.contains("missing {}"), "{text}");
        assert!(text.contains("0 items/s instead of 200"), "{text}");
        assert!(text.contains("problem: something") && text.contains("failed: 0 of 1"), "{text}");
        summary.replicas[0].verified.missing = 0;
        summary.ok = true;
        assert!(summary.to_string().contains("ok: 1 of 1 replica is equal"), "{summary}");
        summary.replicas[0].copied.state = Some(State::Copying);
        let text = summary.to_string();
        assert!(
            text.contains("0 of 1 replica is equal") && text.contains("20 items, not done (copying)"),
            "{text}"
        );
    }
}
