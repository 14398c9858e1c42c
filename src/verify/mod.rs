//! Tells whether a replica is equal to its source, while both are written to.
//!
//! ```text
//!  source ──scan──┐ digest of ┌───────┐ keys whose    ┌────────┐ differences
//!                 ├─ key and ─┤ join  ├─ digests  ───>│ settle ├────────────> Findings
//!  replica ─scan──┘ item      └───────┘ differ        └────────┘
//!                                 │                       ├── reads source, replica, source consistently
//!                                 └── signature           └── waits until the replica is as far ([`Barrier`])
//! ```
//!
//! Both tables are scanned at the same time, each within its own budget of read capacity. That takes a fortieth of what
//! looking up each item would cost for small ones, and as much for those of 4 kB. The two scans see each key at different
//! times, so what differs by its digest ([`digest`]) is only suspect, and [`settle`] finds out.
//!
//! [`rolling`] is the same for a table that is verified all the time.
//!
//! What holds:
//!
//! - Every key that differed all the time from before the scans until the end is found.
//! - No key is called different because its replica was behind, whatever is written meanwhile.
//! - Nothing is written to the tables.
//! - Memory and disk are bounded by configuration, whatever the tables' sizes ([`join`]).

mod barrier;
pub mod difference;
pub mod digest;
pub mod join;
pub mod rolling;
pub mod settle;
pub mod signature;
mod table;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard};

use futures_util::future::try_join;
use tokio::sync::watch;

use crate::budget::Budget;
use crate::clock::Clock;
use crate::key::Key;
use crate::{control, dynamo, key};

pub use barrier::{Barrier, Watermark};
pub use difference::{Class, Difference};
pub use digest::{Digest, Digester};
use join::{Identity, Join, Side};
pub use signature::Signature;
pub use table::{Table, segments};

/// Keys of which only digests are known that are looked for in one more scan. Beyond that the rest is left out, and the
/// findings say that they are not complete.
const LONG_KEYS_MAX: usize = 100_000;

/// All that a verification needs.
pub struct Parts {
    /// The table that is replicated.
    pub source: Table,
    /// The one that should be like it.
    pub replica: Table,
    /// What is left out of the comparison.
    pub digester: Digester,
    /// Memory and disk of the join.
    pub join: join::Config,
    /// Memory for pages that are being read.
    pub pages: Budget,
    /// How to wait for the replica.
    pub barrier: Barrier,
    /// The source's attribute by which items expire: those past their time are no differences.
    pub ttl_attribute: Option<String>,
    /// Stop after so many confirmed differences.
    pub differences_max: usize,
    /// Of so many differences of each class the items are kept, and of those that are not confirmed the keys.
    pub details_max: usize,
    /// The time of day.
    pub clock: Clock,
    /// Told what is done, as it is done.
    pub progress: watch::Sender<Progress>,
}

/// How far a verification is.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Progress {
    /// The source's part.
    pub source: Counted,
    /// The replica's part.
    pub replica: Counted,
    /// Keys that were suspect so far.
    pub suspects: u64,
    /// Differences so far, whatever their class.
    pub differences: u64,
}

/// What was read of a table.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Counted {
    /// Items of the scan.
    pub items: u64,
    /// Bytes of their JSON text.
    pub bytes: u64,
    /// Read capacity units that the scan took.
    pub units: f64,
}

/// What was found.
#[derive(Debug, Clone)]
pub struct Findings {
    /// Every confirmed difference and some of the others, in order of classes, then keys.
    pub differences: Vec<Difference>,
    /// How many there are of each class.
    pub counts: BTreeMap<Class, u64>,
    /// What was read.
    pub progress: Progress,
    /// Whether all suspects were settled: not when there were more differences than wanted.
    pub complete: bool,
    /// The largest size of the file on disk.
    pub disk_bytes: u64,
}

/// Why tables cannot be compared. Nothing was changed in any of them.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A table cannot be read.
    #[error("read table `{table}`")]
    Read {
        /// The table.
        table: String,
        /// Why.
        #[source]
        source: Box<dynamo::Error>,
    },
    /// An item of a table has not the table's key.
    #[error("find the key of an item of table `{table}`")]
    Key {
        /// The table.
        table: String,
        /// Why.
        #[source]
        source: key::Malformed,
    },
    /// The digests cannot be kept.
    #[error(transparent)]
    Join(#[from] join::Error),
    /// Nobody tells how far the replica is.
    #[error("ask how far the replica is")]
    Barrier(#[source] control::Error),
}

/// Compares the two tables.
///
/// # Errors
/// When a table cannot be read any more, the disk is full, or the control table fails.
pub async fn verify(parts: &Parts) -> Result<Findings, Error> {
    let join = Mutex::new(Join::new(&parts.join)?);
    let add = |side: Side| {
        let join = &join;
        move |key: &Key, item: Digest| Ok(locked(join).add(side, key, item)?)
    };
    try_join(
        parts.scan(Side::Source, true, add(Side::Source)),
        parts.scan(Side::Replica, true, add(Side::Replica)),
    )
    .await?;
    let join = join.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    let disk_bytes = join.disk_bytes();
    let mut found = Found::new(parts);
    let mut suspects = join.suspects();
    let mut long = BTreeSet::new();
    let mut complete = true;
    let next = || loop {
        match suspects.next().transpose()? {
            None => return Ok(None),
            Some(Identity::Key(key)) => return Ok(Some(parts.suspected(key))),
            Some(Identity::Digest(_)) if long.len() == LONG_KEYS_MAX => complete = false,
            Some(Identity::Digest(digest)) => drop(long.insert(digest)),
        }
    };
    let mut settler = parts.settler();
    let mut settled = settler.settle(next, |difference| found.note(difference)).await?;
    if settled && !long.is_empty() {
        let mut keys = parts.find(&long).await?.into_iter();
        let next = || Ok(keys.next().map(|key| parts.suspected(key)));
        settled = settler.settle(next, |difference| found.note(difference)).await?;
    }
    Ok(found.findings(settled && complete, disk_bytes))
}

/// The signature of one of the two tables, as of now.
///
/// # Errors
/// When the table cannot be read any more.
pub async fn sign(parts: &Parts, side: Side) -> Result<Signature, Error> {
    let signature = Mutex::new(Signature::new());
    let add = |key: &Key, item: Digest| {
        locked(&signature).add(Digest::of_key(key), item);
        Ok(())
    };
    parts.scan(side, true, add).await?;
    Ok(signature.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner))
}

/// Looks at some keys again, such as those that were repaired.
///
/// # Errors
/// When a table cannot be read any more, or the control table fails.
pub async fn recheck(parts: &Parts, keys: Vec<Key>) -> Result<Findings, Error> {
    let mut found = Found::new(parts);
    let mut keys = keys.into_iter();
    let next = || Ok(keys.next().map(|key| parts.suspected(key)));
    let settled = parts.settler().settle(next, |difference| found.note(difference)).await?;
    Ok(found.findings(settled, 0))
}

/// Differences on their way to the findings.
struct Found<'a> {
    parts: &'a Parts,
    differences: Vec<Difference>,
    counts: BTreeMap<Class, u64>,
}

// === impl Parts ===

impl Parts {
    /// Digests of all items of one table.
    async fn scan(
        &self,
        side: Side,
        counted: bool,
        mut each: impl FnMut(&Key, Digest) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let table = self.table(side);
        let mut digester = self.digester.clone();
        let mut pages = table.scan(&self.pages);
        while let Some(page) = pages.next().await? {
            let mut read = Counted { units: page.units, ..Counted::default() };
            for item in &page.items {
                let key = Key::of_item(item.as_bytes(), &table.key)
                    .map_err(|source| Error::Key { table: table.name.clone(), source })?;
                each(&key, digester.item(item))?;
                read.items += 1;
                read.bytes += item.as_bytes().len() as u64;
            }
            if counted {
                self.progress.send_modify(|progress| progress.of(side).add(read));
            }
        }
        Ok(())
    }

    /// The keys whose digests are `wanted`, from one more scan of both tables.
    async fn find(&self, wanted: &BTreeSet<Digest>) -> Result<Vec<Key>, Error> {
        let found = Mutex::new(BTreeMap::new());
        let look = || {
            |key: &Key, _: Digest| {
                let digest = Digest::of_key(key);
                if wanted.contains(&digest) {
                    locked(&found).entry(digest).or_insert_with(|| key.detached());
                }
                Ok(())
            }
        };
        try_join(self.scan(Side::Source, false, look()), self.scan(Side::Replica, false, look())).await?;
        let found = found.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        // One that is in neither any more is equal in both.
        Ok(found.into_values().collect())
    }

    fn table(&self, side: Side) -> &Table {
        match side {
            Side::Source => &self.source,
            Side::Replica => &self.replica,
        }
    }

    fn suspected(&self, key: Key) -> Key {
        self.progress.send_modify(|progress| progress.suspects += 1);
        key
    }

    fn settler(&self) -> settle::run::Settler<'_> {
        settle::run::Settler {
            source: &self.source,
            replica: &self.replica,
            barrier: &self.barrier,
            digester: self.digester.clone(),
            ttl_attribute: self.ttl_attribute.as_deref(),
            clock: self.clock,
        }
    }
}

// === impl Progress ===

impl Progress {
    fn of(&mut self, side: Side) -> &mut Counted {
        match side {
            Side::Source => &mut self.source,
            Side::Replica => &mut self.replica,
        }
    }
}

// === impl Counted ===

impl Counted {
    fn add(&mut self, other: Self) {
        self.items += other.items;
        self.bytes += other.bytes;
        self.units += other.units;
    }
}

// === impl Findings ===

impl Findings {
    /// How many differences are of `class`.
    pub fn count(&self, class: Class) -> u64 {
        self.counts.get(&class).copied().unwrap_or(0)
    }

    /// Those that are proven, and not for their age: missing, extra and different ones.
    pub fn confirmed(&self) -> impl Iterator<Item = &Difference> {
        self.differences.iter().filter(|difference| difference.class.is_confirmed())
    }
}

// === impl Found ===

impl<'a> Found<'a> {
    fn new(parts: &'a Parts) -> Self {
        Self { parts, differences: Vec::new(), counts: BTreeMap::new() }
    }

    /// `false` when there are enough.
    fn note(&mut self, difference: Difference) -> bool {
        let class = difference.class;
        let count = self.counts.entry(class).or_default();
        *count += 1;
        let in_detail = *count <= self.parts.details_max as u64;
        if in_detail {
            self.differences.push(difference.detached());
        } else if class.is_confirmed() {
            self.differences.push(difference.without_items());
        }
        self.parts.progress.send_modify(|progress| progress.differences += 1);
        let confirmed = self.counts.iter().filter(|(class, _)| class.is_confirmed()).map(|(_, count)| count);
        confirmed.sum::<u64>() < self.parts.differences_max as u64
    }

    fn findings(mut self, complete: bool, disk_bytes: u64) -> Findings {
        self.differences.sort_by_cached_key(|it| (it.class, it.key.as_bytes().to_vec()));
        Findings {
            differences: self.differences,
            counts: self.counts,
            progress: *self.parts.progress.borrow(),
            complete,
            disk_bytes,
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
