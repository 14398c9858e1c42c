//! Verification that never ends: all items once in so many days, a page at a time.
//!
//! ```text
//!  forward:   page of the source  ── its keys ──> replica   missing, different
//!  backward:  page of the replica ── its keys ──> source    extra
//!                 └── suspects are settled at once; then the place is saved
//! ```
//!
//! A part of one table corresponds to no part of another: segments do not align, and to read a part of the keys by
//! their digests a scan reads them all. So a page of one side is compared with what the other has under its keys, which
//! costs up to half a read unit more per item of 4 kB than two scans, and for that keeps nothing but the place: no disk, no memory
//! beyond a page, and another worker goes on where one stopped. What is found is settled while it is news.
//!
//! A pass goes forward through the source, then backward through the replica. It is spread evenly over its time, within a
//! budget of read units; a table that is too large for both takes longer, and the age of the last whole pass shows it.

mod place;

use std::convert::Infallible;
use std::time::Duration;

use tokio::time::sleep;
use tracing::{info, warn};

pub use place::{Place, Store};

use super::barrier::Barrier;
use super::join::Side;
use super::settle::run::Settler;
use super::{Class, Difference, Digester, Error, Table};
use crate::backoff::Backoff;
use crate::clock::Clock;
use crate::control;
use crate::key::Key;

/// The longest pause between two pages, so that a change of the tables' sizes is soon seen.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// Differences of one page are all there can be: a page has at most a hundred keys.
const KEYS_MAX: usize = crate::dynamo::FETCH_KEYS_MAX;

/// What it needs.
pub struct Rolling {
    /// The table that is replicated.
    pub source: Table,
    /// The one that should be like it.
    pub replica: Table,
    /// What is left out of the comparison.
    pub digester: Digester,
    /// How to wait for the replica.
    pub barrier: Barrier,
    /// Where the place is kept.
    pub store: Store,
    /// The time of day.
    pub clock: Clock,
    /// The time of one pass.
    pub every: Duration,
    /// Told what is done.
    pub tell: Box<dyn Fn(Told<'_>) + Send + Sync>,
}

/// What was done.
#[derive(Debug)]
pub enum Told<'a> {
    /// So many items were compared.
    Compared(u64),
    /// A difference was found.
    Found(&'a Difference),
    /// Every item was compared since this time, in milliseconds since 1970.
    Covered(i64),
}

/// Why a step was not made.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The tables.
    #[error(transparent)]
    Verify(#[from] Error),
    /// The place.
    #[error(transparent)]
    Control(#[from] control::Error),
}

// === impl Rolling ===

impl Rolling {
    /// Goes on where it was stopped, for ever. What fails is tried again.
    pub async fn run(self) -> Infallible {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(300));
        loop {
            let failure = match self.walk(&mut backoff).await {
                Ok(never) => match never {},
                Err(failure) => failure,
            };
            self.warn(&failure);
            sleep(backoff.pause()).await;
        }
    }

    fn warn(&self, failure: &Failure) {
        let error = failure as &dyn std::error::Error;
        warn!(
            source = self.source.name,
            replica = self.replica.name,
            error,
            "the rolling verification stops for a while"
        );
    }

    async fn walk(&self, backoff: &mut Backoff) -> Result<Infallible, Failure> {
        let mut place = match self.store.load().await? {
            Some(place) => place,
            None => Place::new(self.clock.unix_ms(), self.segments()),
        };
        if let Some(covered) = place.covered_unix_ms {
            (self.tell)(Told::Covered(covered));
        }
        loop {
            self.wait(&place).await?;
            self.step(&mut place).await?;
            self.store.save(&place).await?;
            backoff.reset();
        }
    }

    /// One page.
    pub(super) async fn step(&self, place: &mut Place) -> Result<(), Failure> {
        let (table, other) = match place.side {
            Side::Source => (&self.source, &self.replica),
            Side::Replica => (&self.replica, &self.source),
        };
        let (segment, segments) = (place.segment, place.segments);
        let scanned = table.read(segment, segments, place.after.as_ref(), KEYS_MAX).await?;
        let keys = scanned.items.iter().map(|item| Key::of_item(item.as_bytes(), &table.key));
        let keys: Vec<_> = keys
            .collect::<Result<_, _>>()
            .map_err(|source| Error::Key { table: table.name.clone(), source })?;
        let mut digester = self.digester.clone();
        let found = other.fetch(&keys).await?;
        let compared = keys.len() as u64;
        let pairs = keys.into_iter().zip(scanned.items.iter().zip(&found));
        let suspects = pairs.filter(|(_, (item, other))| match (place.side, other) {
            (_, None) => true,
            (Side::Source, Some(other)) => digester.item(item) != digester.item(other),
            // It was compared on the way forward.
            (Side::Replica, Some(_)) => false,
        });
        let suspects: Vec<_> = suspects.map(|(key, _)| key.detached()).collect();
        self.settle(suspects).await?;
        (self.tell)(Told::Compared(compared));
        let began_unix_ms = place.began_unix_ms;
        if place.advance(compared, scanned.next.as_ref(), self.clock.unix_ms(), self.segments()) {
            info!(
                source = self.source.name,
                replica = self.replica.name,
                "every item was verified once more"
            );
            (self.tell)(Told::Covered(began_unix_ms));
        }
        Ok(())
    }

    async fn settle(&self, suspects: Vec<Key>) -> Result<(), Error> {
        if suspects.is_empty() {
            return Ok(());
        }
        let mut settler = Settler {
            source: &self.source,
            replica: &self.replica,
            barrier: &self.barrier,
            digester: self.digester.clone(),
            ttl_attribute: None,
            clock: self.clock,
        };
        let mut suspects = suspects.into_iter();
        let found = |difference: Difference| {
            if difference.class.is_confirmed() {
                warn!(
                    source = self.source.name,
                    replica = self.replica.name,
                    key = %difference.key,
                    class = %difference.class,
                    "the replica differs from its source"
                );
            }
            (self.tell)(Told::Found(&difference));
            true
        };
        settler.settle(|| Ok(suspects.next()), found).await?;
        Ok(())
    }

    /// Waits until the next page is due, so that the pass takes its time.
    async fn wait(&self, place: &Place) -> Result<(), Failure> {
        loop {
            // The service counts every six hours; asking is free, and rare beside pages.
            let items = self.source.items().await? + self.replica.items().await?;
            let pause = place.pause(items, self.every, self.clock.unix_ms());
            if pause.is_zero() {
                return Ok(());
            }
            sleep(pause.min(PAUSE_MAX)).await;
        }
    }

    fn segments(&self) -> [u32; 2] {
        [self.source.segments, self.replica.segments]
    }
}

/// Classes that a rolling verification tells, in the order of their labels.
pub const CLASSES: [Class; 4] = [Class::Missing, Class::Extra, Class::Different, Class::Unstable];

#[cfg(test)]
mod tests;
