//! When records can no longer be read, and whether any was lost by it.
//!
//! The service trims only records older than [`RETENTION`]. So a trimmed position lost nothing when every record
//! up to a younger time is known to be read already; a quiet shard that was followed all the time is the usual
//! case. Everything else is a gap, because nothing proves that it is none.

use std::time::Duration;

use crate::fault::Fault;
use crate::mutation::{self, Mutation};
use crate::shard::Position;

use super::{RETENTION, Start};

/// How much younger than the retention evidence must be: more than any clock of a fleet is wrong.
const MARGIN: Duration = Duration::from_secs(60 * 60);

/// How long a shard must give nothing but empty pages before that says anything about old records. The service
/// may answer with empty pages although records follow; a quarter of an hour of them, at several pages a
/// minute at least, is the tip of the shard and no sparse stretch of its past.
pub const QUIET: Duration = Duration::from_secs(15 * 60);

/// See [`QUIET`].
pub const QUIET_PAGES: u32 = 100;

/// Why a shard cannot be read on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// The next records were trimmed, and it is not known that they were read before.
    #[error("read on: the next records were trimmed from the stream before they were known to be read")]
    Trimmed,
    /// The stream or the shard is gone.
    #[error("read on: the stream or the shard does not exist any more")]
    Missing,
    /// The source table is gone, which hydrated records need.
    #[error("read the items that records name: the source table does not exist any more")]
    TableMissing,
    /// The start lies before all that the stream still holds, so that reading from it would skip silently.
    #[error("start: the start is older than the 24 hours that the stream holds")]
    StartTooOld,
}

/// What to do about a position that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing was lost: go on at the oldest record.
    TrimHorizon,
    /// Something may be lost.
    Gap(Reason),
}

/// Judges a fault, `Trimmed` or `Missing`, at a position: everything created up to `read_through_unix_ms` is
/// known to be read.
pub fn judge(fault: Fault, read_through_unix_ms: Option<i64>, now_unix_ms: i64) -> Verdict {
    if fault != Fault::Trimmed {
        return Verdict::Gap(Reason::Missing);
    }
    if is_proof(read_through_unix_ms, now_unix_ms) || mutation::is_on(Mutation::TrimmedIsNoGap) {
        Verdict::TrimHorizon
    } else {
        Verdict::Gap(Reason::Trimmed)
    }
}

/// Judges a start before it is asked for, because the service takes a time before its oldest record for the
/// trim horizon and says nothing. A sequence number is not judged: the service refuses a trimmed one.
pub fn judge_start(
    position: &Position,
    read_through_unix_ms: Option<i64>,
    now_unix_ms: i64,
) -> Result<(), Reason> {
    let from_unix_ms = match position {
        Position::Latest { since_unix_ms } => Some(*since_unix_ms),
        Position::At { unix_ms } => Some(*unix_ms),
        // Nothing known is the first start of a shard; something old is one that was started and left alone.
        Position::TrimHorizon => read_through_unix_ms,
        Position::After(_) | Position::End => None,
    };
    let too_old = from_unix_ms.is_some_and(|from| now_unix_ms - from > millis(RETENTION));
    if too_old && !is_proof(read_through_unix_ms, now_unix_ms) {
        return Err(Reason::StartTooOld);
    }
    Ok(())
}

/// Whether nothing that may have been trimmed is unread. A time well in the future proves nothing but that
/// some clock is wrong.
fn is_proof(read_through_unix_ms: Option<i64>, now_unix_ms: i64) -> bool {
    read_through_unix_ms.is_some_and(|through| {
        let age_ms = now_unix_ms - through;
        age_ms < millis(RETENTION - MARGIN) && age_ms > -millis(MARGIN)
    })
}

/// Up to which time everything is known to be read, while a reader runs.
#[derive(Debug, Clone)]
pub(super) struct Evidence {
    through_unix_ms: Option<i64>,
    /// The part of it that silence alone tells.
    quiet_through_unix_ms: Option<i64>,
    quiet: Option<Quiet>,
}

/// Empty pages in a row, and nothing else, through one chain of iterators.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quiet {
    /// When the first of them was asked for, in milliseconds since 1970.
    pub since_unix_ms: i64,
    /// How many there were.
    pub pages: u32,
    /// When the latest was asked for, in milliseconds since 1970.
    pub polled_unix_ms: i64,
}

// === impl Quiet ===

impl Quiet {
    /// The time up to which everything counts as read when `pages` empty pages, over `span`, are taken for the tip of
    /// the shard; `None` while there were fewer.
    pub fn proves(&self, pages: u32, span: Duration) -> Option<i64> {
        let lasts = self.polled_unix_ms - self.since_unix_ms >= millis(span);
        (self.pages >= pages && lasts).then(|| self.polled_unix_ms - millis(span))
    }
}

// === impl Evidence ===

impl Evidence {
    pub(super) fn new(start: &Start) -> Self {
        let unwanted_unix_ms = match start.position {
            // What was made before is not asked for, as if it had been read.
            Position::At { unix_ms: from } | Position::Latest { since_unix_ms: from } => Some(from - 1),
            _ => None,
        };
        Self {
            through_unix_ms: start.read_through_unix_ms.max(unwanted_unix_ms),
            quiet_through_unix_ms: None,
            quiet: None,
        }
    }

    pub(super) fn through_unix_ms(&self) -> Option<i64> {
        self.through_unix_ms
    }

    /// Takes a page into account: when its newest record was created, and when it was asked for.
    pub(super) fn page(&mut self, newest_unix_ms: Option<i64>, polled_unix_ms: i64) {
        if let Some(created_unix_ms) = newest_unix_ms {
            self.quiet = None;
            // Creation times are whole seconds: others of the same second may follow.
            self.raise(created_unix_ms - 1);
            return;
        }
        let quiet =
            self.quiet.get_or_insert(Quiet { since_unix_ms: polled_unix_ms, pages: 0, polled_unix_ms });
        quiet.pages = quiet.pages.saturating_add(1);
        quiet.polled_unix_ms = polled_unix_ms;
        if let Some(through) = quiet.proves(QUIET_PAGES, QUIET) {
            self.quiet_through_unix_ms = self.quiet_through_unix_ms.max(Some(through));
            self.raise(through);
        }
    }

    /// The silence that lasts at present.
    pub(super) fn quiet(&self) -> Option<Quiet> {
        self.quiet
    }

    pub(super) fn quiet_through_unix_ms(&self) -> Option<i64> {
        self.quiet_through_unix_ms
    }

    /// The next page does not follow the one before: silence begins anew.
    pub(super) fn interrupt(&mut self) {
        self.quiet = None;
    }

    fn raise(&mut self, unix_ms: i64) {
        self.through_unix_ms = self.through_unix_ms.max(Some(unix_ms));
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).expect("the durations here are hours")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOUR_MS: i64 = 3_600_000;
    const NOW: i64 = 1_700_000_000_000;

    fn evidence(read_through_unix_ms: Option<i64>) -> Evidence {
        Evidence::new(&Start { position: Position::TrimHorizon, fresh: false, read_through_unix_ms })
    }

    #[test]
    fn trimming_is_harmless_only_with_evidence_younger_than_what_is_trimmed() {
        let judged = |through| judge(Fault::Trimmed, through, NOW);
        assert_eq!(judged(None), Verdict::Gap(Reason::Trimmed));
        assert_eq!(judged(Some(NOW - 23 * HOUR_MS)), Verdict::Gap(Reason::Trimmed));
        assert_eq!(judged(Some(NOW - 23 * HOUR_MS + 1)), Verdict::TrimHorizon);
        assert_eq!(judged(Some(NOW + 2 * HOUR_MS)), Verdict::Gap(Reason::Trimmed));
    }

    #[test]
    fn a_missing_shard_is_always_a_gap() {
        assert_eq!(judge(Fault::Missing, Some(NOW), NOW), Verdict::Gap(Reason::Missing));
    }

    #[test]
    fn a_start_before_the_retention_is_a_gap_unless_the_rest_is_known_to_be_read() {
        let old = NOW - 24 * HOUR_MS - 1;
        let starts = [Position::At { unix_ms: old }, Position::Latest { since_unix_ms: old }];
        for start in starts {
            assert_eq!(judge_start(&start, None, NOW), Err(Reason::StartTooOld));
            assert_eq!(judge_start(&start, Some(NOW - HOUR_MS), NOW), Ok(()));
        }
        assert_eq!(judge_start(&Position::At { unix_ms: old + 1 }, None, NOW), Ok(()));
        assert_eq!(judge_start(&Position::TrimHorizon, None, NOW), Ok(()));
        assert_eq!(judge_start(&Position::TrimHorizon, Some(old), NOW), Err(Reason::StartTooOld));
    }

    #[test]
    fn a_followed_quiet_shard_gives_evidence_and_a_short_silence_does_not() {
        let mut evidence = evidence(None);
        for second in 0..899 {
            evidence.page(None, NOW + second * 1000);
        }
        assert_eq!(evidence.through_unix_ms(), None);
        evidence.page(None, NOW + 900_000);
        assert_eq!(evidence.through_unix_ms(), Some(NOW));
    }

    #[test]
    fn few_empty_pages_prove_nothing_however_long_they_take() {
        let mut evidence = evidence(None);
        for hour in 0..20 {
            evidence.page(None, NOW + hour * HOUR_MS);
        }
        assert_eq!(evidence.through_unix_ms(), None);
    }

    proptest! {
        #[test]
        fn evidence_never_falls_and_never_passes_what_was_polled(
            pages in prop::collection::vec((prop::option::of(0i64..5_000), 1i64..60_000), 1..400),
        ) {
            let mut evidence = evidence(Some(NOW - HOUR_MS));
            let mut polled = NOW;
            for (age_ms, later_ms) in pages {
                polled += later_ms;
                let before = evidence.through_unix_ms();
                evidence.page(age_ms.map(|age| polled - age), polled);
                prop_assert!(evidence.through_unix_ms() >= before);
                prop_assert!(evidence.through_unix_ms() < Some(polled));
            }
        }
    }
}
