//! Repairs: single items copied anew, because somebody found that they differ.
//!
//! ```text
//!  post(keys) ──> rows `wanted/…` ──> fetch from the source ──> lane ──> writer ──> rows `done/…`
//! ```
//!
//! Whoever compares tables posts keys and nothing else: what is written is what the source holds when the repair is done,
//! never what was seen when the difference was found. A key that the source has is put, one that it does not have is
//! deleted, by the same rule as the pages of a copy: not when the stream touched the key since the source was asked. Under
//! a guard the replica's item is read before the source's, and the repair is written only while the item has the mark that
//! was seen: whoever wrote another one meanwhile wrote something newer.

mod rows;
mod runner;
#[cfg(test)]
mod tests;

use crate::key::Key;

pub use rows::Store;
pub use runner::Runner;

/// A key that somebody wants repaired, or that was.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Its name in rows.
    pub id: String,
    /// The key.
    pub key: Key,
    /// Tells this wish from earlier and later ones for the same key.
    pub version: String,
    /// When it was asked for, in milliseconds since 1970.
    pub asked_unix_ms: i64,
    /// How far it is.
    pub state: State,
}

/// How far a repair is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Not done yet; what stood in its way the last time it was tried, if anything.
    Wanted {
        /// What failed, and what to do about it.
        trouble: Option<String>,
    },
    /// The source's item is in the replica, or parked, or a newer change of the stream took its place.
    Put,
    /// The source has no such item, and the replica has none, unless the stream made one since.
    Deleted,
}

/// How many keys wait and how many are done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Not done yet.
    pub wanted: u64,
    /// Put.
    pub put: u64,
    /// Deleted.
    pub deleted: u64,
}

// === impl Counts ===

impl Counts {
    /// Of these entries.
    pub fn of(entries: &[Entry]) -> Self {
        let count = |is: fn(&State) -> bool| entries.iter().filter(|entry| is(&entry.state)).count() as u64;
        Self {
            wanted: count(|state| matches!(state, State::Wanted { .. })),
            put: count(|state| matches!(state, State::Put)),
            deleted: count(|state| matches!(state, State::Deleted)),
        }
    }
}
