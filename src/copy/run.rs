//! One copy of a table: what was asked, how far it is, and what may become of it. Plain decisions.
//!
//! ```text
//!  wanted ──> copying ──> settling ──> done
//!     │          │  └──> reconciling ──^     (extra items are found by comparing, and deleted)
//!     └> refused └> cancelled               (from every state before `done`)
//! ```
//!
//! A run never fails by itself: what stands in its way is its *trouble*, and it goes on when that is gone.

use std::time::Duration;

use super::plan::SEGMENTS_MAX;
use crate::dynamo::Table;

/// Where a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Somebody asked for it; no worker has begun.
    Wanted,
    /// It cannot be done as it was asked for.
    Refused,
    /// Segments are being read.
    Copying,
    /// All is copied; what the replica has beyond the source is looked for and deleted.
    Reconciling,
    /// All is written; changes made during the copy are not all applied yet.
    Settling,
    /// The replica equals its source.
    Done,
    /// Somebody gave it up.
    Cancelled,
}

/// How a copy is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Whether the replica may hold items, and is freed of those that the source does not have.
    pub reconcile: bool,
    /// Whether strongly consistent reads are used, which cost twice as much and need no window.
    pub consistent: bool,
    /// By how much other reads may be behind.
    pub window: Duration,
    /// Read units per second of the source that it may use; `None` for what the table gives.
    pub read_units: Option<u64>,
    /// Segments to cut the table into; `None` lets its size decide.
    pub segments: Option<u32>,
    /// Whether it was seen that the replica held nothing before any change was applied to it, so that what it holds now
    /// came from the source's stream.
    pub known_empty: bool,
}

/// A copy of one table.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// Its number: when it was asked for, in milliseconds since 1970, and more than that of every run before.
    pub id: i64,
    /// How often its row was written.
    pub version: i64,
    /// Where it is.
    pub state: State,
    /// Why it was refused or cancelled.
    pub reason: Option<String>,
    /// What was asked for.
    pub request: Request,
    /// Segments that the table is cut into; zero before it begins.
    pub segments: u32,
    /// How much of it is durable in the replica.
    pub progress: Progress,
    /// Items and bytes of the source when it began, as its description told them: they are hours old.
    pub expected: (u64, u64),
    /// When a worker began, in milliseconds since 1970.
    pub started_unix_ms: Option<i64>,
    /// When the last segment was durable.
    pub scan_ended_unix_ms: Option<i64>,
    /// Since when the replica is known to hold what the source held.
    pub consistent_since_unix_ms: Option<i64>,
    /// What stands in its way at present, and what to do about it.
    pub trouble: Option<String>,
    /// When the row was written last.
    pub updated_unix_ms: i64,
}

/// How much of a run is durable.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Progress {
    /// Items.
    pub items: u64,
    /// Their bytes, as answers carried them.
    pub bytes: u64,
    /// Segments that are done.
    pub segments_finished: u32,
    /// Read units that were consumed, by all workers that had a part in it.
    pub read_units: f64,
    /// Items that an index of the replica cannot hold; those that were read twice, after a crash, count twice.
    pub misfits: u64,
    /// The first of them, and what is wrong with it.
    pub misfit: Option<String>,
}

/// Why a copy cannot be asked for as it is.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Positions in segments mean nothing when the table is cut otherwise.
    #[error(
        "go on with {asked} segments: the copy that is under way has cut the table into {kept}; leave the number away, or \
         cancel it first and begin anew"
    )]
    Segments {
        /// The number that was asked for.
        asked: u32,
        /// The one of the copy.
        kept: u32,
    },
    /// What is copied already was read otherwise.
    #[error("change how a copy is done while it is under way: cancel it first and begin anew")]
    Differs,
    /// Nothing can be read without units.
    #[error("copy with 0 read units per second: nothing can be read; give at least 1")]
    NoUnits,
    /// Too many segments, or none.
    #[error("cut a table into {0} segments: give 1 to {SEGMENTS_MAX}")]
    Count(u32),
}

// === impl State ===

impl State {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Wanted,
        Self::Refused,
        Self::Copying,
        Self::Reconciling,
        Self::Settling,
        Self::Done,
        Self::Cancelled,
    ];

    /// Its name in rows, metrics and reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Wanted => "wanted",
            Self::Refused => "refused",
            Self::Copying => "copying",
            Self::Reconciling => "reconciling",
            Self::Settling => "settling",
            Self::Done => "done",
            Self::Cancelled => "cancelled",
        }
    }

    /// The state of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }

    /// Whether something is still to be done.
    pub const fn is_active(self) -> bool {
        matches!(self, Self::Wanted | Self::Copying | Self::Reconciling | Self::Settling)
    }

    /// Whether items are written that do not come from the stream, so that one worker must hold all shards.
    pub const fn writes(self) -> bool {
        matches!(self, Self::Wanted | Self::Copying | Self::Reconciling)
    }
}

// === impl Request ===

impl Request {
    /// How old an eventually consistent read may be, where nobody says otherwise. The service names no bound; a second is
    /// usual, and a minute is far above all that was ever seen.
    pub const DEFAULT_WINDOW: Duration = Duration::from_secs(60);

    /// The staleness that reads may have.
    pub fn staleness(&self) -> Duration {
        if self.consistent { Duration::ZERO } else { self.window }
    }

    /// Read units per second that may be used of a table; `None` for as many as it gives. Where nobody says, it is half of
    /// what it is provisioned for, or of what it may take at most, because the table is there for others.
    pub fn read_units_of(&self, table: &Table) -> Option<f64> {
        const SHARE: f64 = 0.5;
        let quota = table.provisioned.map(|(read, _)| read).or(table.on_demand_max.0);
        match self.read_units {
            Some(asked) => Some(asked as f64),
            None => quota.map(|quota| (quota as f64 * SHARE).max(1.0)),
        }
    }

    fn check(&self) -> Result<(), Refusal> {
        match (self.read_units, self.segments) {
            (Some(0), _) => Err(Refusal::NoUnits),
            (_, Some(count)) if !(1..=SEGMENTS_MAX).contains(&count) => Err(Refusal::Count(count)),
            _ => Ok(()),
        }
    }

    /// Whether pages of both are read alike.
    fn is_like(&self, other: &Self) -> bool {
        self.reconcile == other.reconcile && self.staleness() == other.staleness()
    }
}

impl Default for Request {
    fn default() -> Self {
        Self {
            reconcile: false,
            consistent: true,
            window: Self::DEFAULT_WINDOW,
            read_units: None,
            segments: None,
            known_empty: false,
        }
    }
}

// === impl Run ===

impl Run {
    /// What becomes of `known`, the run that there is, when a copy is asked for: one that is under way goes on, perhaps
    /// with another budget; otherwise a new one begins.
    ///
    /// # Errors
    /// When it cannot be done, or differs from what is under way.
    pub fn ask(known: Option<&Self>, request: &Request, now_unix_ms: i64) -> Result<Self, Refusal> {
        request.check()?;
        match known {
            Some(known) if known.state.is_active() => {
                let kept = if known.segments > 0 { Some(known.segments) } else { known.request.segments };
                if let (Some(asked), Some(kept)) = (request.segments, kept)
                    && asked != kept
                {
                    return Err(Refusal::Segments { asked, kept });
                }
                if !request.is_like(&known.request) {
                    return Err(Refusal::Differs);
                }
                let mut run = known.clone();
                run.request.read_units = request.read_units;
                if run.segments == 0 && request.segments.is_some() {
                    run.request.segments = request.segments;
                }
                Ok(run)
            }
            _ => Ok(Self {
                id: known.map_or(now_unix_ms, |known| now_unix_ms.max(known.id + 1)),
                version: known.map_or(0, |known| known.version),
                state: State::Wanted,
                reason: None,
                request: request.clone(),
                segments: 0,
                progress: Progress::default(),
                expected: (0, 0),
                started_unix_ms: None,
                scan_ended_unix_ms: None,
                consistent_since_unix_ms: None,
                trouble: None,
                updated_unix_ms: now_unix_ms,
            }),
        }
    }

    /// The run given up; `None` when nothing is left to give up.
    pub fn cancelled(&self) -> Option<Self> {
        let reason = Some("it was cancelled: what was copied stays".to_owned());
        self.state.is_active().then(|| Self {
            state: State::Cancelled,
            reason,
            trouble: None,
            ..self.clone()
        })
    }

    /// Which part of it is done, from 0 to 1; `None` while that cannot be said. The description of a table is hours old,
    /// so segments tell it better as soon as some are done.
    pub fn share(&self) -> Option<f64> {
        if self.state == State::Wanted || self.segments == 0 {
            return None;
        }
        if !matches!(self.state, State::Copying) {
            return Some(1.0);
        }
        let by_segments = f64::from(self.progress.segments_finished) / f64::from(self.segments);
        let by_bytes = match self.expected.1 {
            0 => 0.0,
            bytes => (self.progress.bytes as f64 / bytes as f64).min(0.99),
        };
        Some(by_segments.max(by_bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(segments: Option<u32>) -> Request {
        Request { segments, ..Request::default() }
    }

    fn begun() -> Run {
        let run = Run::ask(None, &request(None), 5).expect("nothing stands in its way");
        Run { state: State::Copying, segments: 64, version: 3, ..run }
    }

    #[test]
    fn a_copy_under_way_goes_on_and_keeps_its_segments() {
        let run = begun();
        let again = Run::ask(Some(&run), &request(Some(64)), 9).expect("the same number");
        assert_eq!((again.id, again.segments, again.state), (5, 64, State::Copying));
        let error = Run::ask(Some(&run), &request(Some(128)), 9).expect_err("another number");
        assert_eq!(error, Refusal::Segments { asked: 128, kept: 64 });
        let slower = Request { read_units: Some(10), ..request(None) };
        assert_eq!(Run::ask(Some(&run), &slower, 9).expect("a budget").request.read_units, Some(10));
        let other = Request { consistent: false, ..request(None) };
        assert_eq!(Run::ask(Some(&run), &other, 9), Err(Refusal::Differs));
    }

    #[test]
    fn a_new_run_has_a_greater_number_whatever_the_clock_says() {
        for state in [State::Done, State::Refused, State::Cancelled] {
            let over = Run { state, ..begun() };
            let next = Run::ask(Some(&over), &request(None), 1).expect("nothing is under way");
            assert_eq!((next.id, next.version, next.state, next.segments), (6, 3, State::Wanted, 0));
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let none = Request { read_units: Some(0), ..request(None) };
        assert_eq!(Run::ask(None, &none, 1), Err(Refusal::NoUnits));
        for count in [0, SEGMENTS_MAX + 1] {
            assert_eq!(Run::ask(None, &request(Some(count)), 1), Err(Refusal::Count(count)));
        }
    }

    #[test]
    fn only_what_is_under_way_can_be_cancelled() {
        assert_eq!(begun().cancelled().expect("it is under way").state, State::Cancelled);
        for state in State::ALL {
            let run = Run { state, ..begun() };
            assert_eq!(run.cancelled().is_some(), state.is_active(), "{state:?}");
            assert_eq!(State::from_name(state.as_str()), Some(state));
        }
    }

    #[test]
    fn the_share_is_told_by_whatever_is_further() {
        let mut run = begun();
        assert_eq!(run.share(), Some(0.0));
        run.expected = (10, 1_000);
        run.progress.bytes = 5_000;
        assert_eq!(run.share(), Some(0.99));
        run.state = State::Settling;
        assert_eq!(run.share(), Some(1.0));
    }
}
