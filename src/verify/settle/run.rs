//! The rounds: many suspects at once, so that all of them wait together.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use super::{Seen, State, Suspect, Verdict};
use crate::clock::Clock;
use crate::dynamo::FETCH_KEYS_MAX;
use crate::item::{Item, Value};
use crate::key::Key;
use crate::verify::difference::{self, Class, Difference};
use crate::verify::{Barrier, Digester, Error, Table};

/// Suspects that are looked at together. More wait for the others' pauses less; each takes little memory.
const OPEN_MAX: usize = 4_000;

/// How much later than the source was read a change that the read shows may be dated: two hosts' clocks differ by this
/// at most, and the service dates changes to whole seconds.
const CLOCKS_DIFFER_MS: i64 = 3_000;

/// How often both sides are read after the wait.
const READS: u32 = 4;

/// Between two of these reads, about: what is written to all the time changes within it.
const PAUSE: Duration = Duration::from_millis(500);

/// What settling needs.
pub(in crate::verify) struct Settler<'a> {
    pub(in crate::verify) source: &'a Table,
    pub(in crate::verify) replica: &'a Table,
    pub(in crate::verify) barrier: &'a Barrier,
    pub(in crate::verify) digester: Digester,
    pub(in crate::verify) ttl_attribute: Option<&'a str>,
    pub(in crate::verify) clock: Clock,
}

/// A suspect with the time of its next round.
struct Open {
    key: Key,
    suspect: Suspect,
    due: Instant,
}

/// A key in the middle of a round.
struct Round {
    open: Open,
    before: State,
    /// What the first read after the wait saw of the source and the replica.
    first: Option<(State, State)>,
    /// Whether all later ones saw the same.
    steady: bool,
}

// === impl Round ===

impl Round {
    fn note(&mut self, source: State, replica: State) {
        let first = *self.first.get_or_insert((source, replica));
        self.steady &= first == (source, replica);
    }
}

// === impl Settler ===

impl Settler<'_> {
    /// Settles all keys that `next` gives, and hands every difference to `found`, which says whether to go on. `false`
    /// when it did not.
    pub(in crate::verify) async fn settle(
        &mut self,
        mut next: impl FnMut() -> Result<Option<Key>, Error>,
        mut found: impl FnMut(Difference) -> bool,
    ) -> Result<bool, Error> {
        let mut open: Vec<Open> = Vec::new();
        let mut more = true;
        loop {
            while more && open.len() + FETCH_KEYS_MAX <= OPEN_MAX {
                let mut keys = Vec::with_capacity(FETCH_KEYS_MAX);
                while more && keys.len() < FETCH_KEYS_MAX {
                    let key = next()?;
                    more = key.is_some();
                    keys.extend(key);
                }
                open.extend(self.look(keys).await?);
            }
            let Some(first) = open.iter().map(|it| it.due).min() else { return Ok(true) };
            sleep_until(first).await;
            let now = Instant::now();
            let (due, later): (Vec<_>, Vec<_>) = open.into_iter().partition(|it| it.due <= now);
            open = later;
            if !self.round(due, &mut open, &mut found).await? {
                return Ok(false);
            }
        }
    }

    /// Drops those that are equal without any wait: nearly all that only changed while the tables were scanned.
    async fn look(&mut self, keys: Vec<Key>) -> Result<Vec<Open>, Error> {
        let replica = self.states(self.replica.fetch(&keys).await?);
        let source = self.states(self.source.fetch(&keys).await?);
        let due = Instant::now();
        let differ = keys.into_iter().zip(source.into_iter().zip(replica));
        let differ = differ.filter(|(_, (source, replica))| source != replica);
        let open = |(key, (source, replica))| Open { key, suspect: Suspect::new(source, replica), due };
        Ok(differ.map(open).collect())
    }

    /// One round of all that are due. What is to be tried again goes back to `open`.
    async fn round(
        &mut self,
        due: Vec<Open>,
        open: &mut Vec<Open>,
        found: &mut impl FnMut(Difference) -> bool,
    ) -> Result<bool, Error> {
        let keys: Vec<_> = due.iter().map(|it| it.key.clone()).collect();
        let before = self.before(&keys).await?;
        let passed = self.barrier.pass(self.clock.unix_ms() + CLOCKS_DIFFER_MS).await?;
        let pairs = due.into_iter().zip(before);
        let mut rounds: Vec<_> =
            pairs.map(|(open, before)| Round { open, before, first: None, steady: true }).collect();
        for _ in 1..READS {
            self.read(&mut rounds).await?;
            sleep(PAUSE.mul_f64(0.4 + fastrand::f64() * 1.2)).await;
        }
        let mut rounds = VecDeque::from(rounds);
        while !rounds.is_empty() {
            let part: Vec<_> = rounds.drain(..rounds.len().min(FETCH_KEYS_MAX)).collect();
            let keys: Vec<_> = part.iter().map(|it| it.open.key.clone()).collect();
            let replica = self.replica.fetch(&keys).await?;
            let source = self.source.fetch(&keys).await?;
            for (round, (source, replica)) in part.into_iter().zip(source.into_iter().zip(replica)) {
                if !self.judge(round, source, replica, passed, open, found) {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// Reads both sides of all rounds once, drops those that are equal, and notes which were seen to change.
    async fn read(&mut self, rounds: &mut Vec<Round>) -> Result<(), Error> {
        let mut left = Vec::with_capacity(rounds.len());
        while !rounds.is_empty() {
            let part: Vec<_> = rounds.drain(..rounds.len().min(FETCH_KEYS_MAX)).collect();
            let keys: Vec<_> = part.iter().map(|it| it.open.key.clone()).collect();
            let replica = self.states(self.replica.fetch(&keys).await?);
            let source = self.states(self.source.fetch(&keys).await?);
            for (mut round, (source, replica)) in part.into_iter().zip(source.into_iter().zip(replica)) {
                if source != replica {
                    round.note(source, replica);
                    left.push(round);
                }
            }
        }
        *rounds = left;
        Ok(())
    }

    async fn before(&mut self, keys: &[Key]) -> Result<Vec<State>, Error> {
        let mut states = Vec::with_capacity(keys.len());
        for keys in keys.chunks(FETCH_KEYS_MAX) {
            states.extend(self.states(self.source.fetch(keys).await?));
        }
        Ok(states)
    }

    fn judge(
        &mut self,
        mut round: Round,
        source: Option<Item>,
        replica: Option<Item>,
        passed: bool,
        open: &mut Vec<Open>,
        found: &mut impl FnMut(Difference) -> bool,
    ) -> bool {
        let (of_source, of_replica) = (self.state(source.as_ref()), self.state(replica.as_ref()));
        round.note(of_source, of_replica);
        let Round { open: Open { key, mut suspect, .. }, before, steady, .. } = round;
        let seen = Seen { before, replica: of_replica, after: of_source, steady };
        let verdict = match suspect.judge(seen) {
            Verdict::Equal => return true,
            // How the replica is behind says nothing about it.
            _ if !passed => Verdict::Unstable,
            verdict => verdict,
        };
        let class = match verdict {
            Verdict::Again(pause) => {
                // Shortened at random, so that what is changed and changed back in a rhythm is not met in it.
                let due = Instant::now() + pause.mul_f64(0.5 + fastrand::f64() / 2.0);
                open.push(Open { key, suspect, due });
                return true;
            }
            Verdict::Confirmed => self.class(source.as_ref(), replica.as_ref()),
            _ => Class::Unstable,
        };
        let paths = match (&source, &replica) {
            (Some(source), Some(replica)) => difference::paths(source, replica, &self.digester),
            _ => Vec::new(),
        };
        found(Difference { key, class, paths, source, replica })
    }

    fn class(&self, source: Option<&Item>, replica: Option<&Item>) -> Class {
        match (source, replica) {
            (Some(source), _) if self.is_expired(source) => Class::TtlExpired,
            (Some(_), None) => Class::Missing,
            (None, _) => Class::Extra,
            (Some(_), Some(_)) => Class::Different,
        }
    }

    fn is_expired(&self, item: &Item) -> bool {
        let Some(attribute) = self.ttl_attribute else { return false };
        let attributes = item.attributes().unwrap_or_default();
        let expires_unix_s = attributes.get(attribute).and_then(Value::as_i64);
        expires_unix_s.is_some_and(|expires| expires <= self.clock.unix_ms() / 1_000)
    }

    fn states(&mut self, items: Vec<Option<Item>>) -> Vec<State> {
        items.iter().map(|item| self.state(item.as_ref())).collect()
    }

    fn state(&mut self, item: Option<&Item>) -> State {
        item.map(|item| self.digester.item(item))
    }
}
