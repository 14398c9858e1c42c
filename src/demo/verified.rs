//! What the verifier finds of a replica after everything has come to rest.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::sync::watch;

use super::daemon;
use super::load::{HASH_KEY, RANGE_KEY};
use super::summary::{grouped, shortened};
use super::world::{Site, TABLE};
use crate::budget::Budget;
use crate::capacity::Bucket;
use crate::clock::Clock;
use crate::verify::{
    self, Barrier, Class, Difference, Digester, Error, Findings, Parts, Progress, Table, join, segments,
};

/// Before what differs is looked at again. All that was read is settled by then, so only a write that is being answered
/// could still come.
const GRACE: Duration = Duration::from_secs(1);

/// Differences of each class that are kept to be shown. More of them say nothing new.
const EXAMPLES_MAX: usize = 5;

/// How much of a difference is shown: keys may be long, and their start tells which one it is.
const EXAMPLE_CHARS: usize = 160;

/// Pages that are read at once of each region, whose server computes on one core.
const PAGES: usize = 2;

/// Memory for digests: of the largest table that fits into a demo's memory they take less.
const MEMORY_BYTES: usize = 64 << 20;

/// The digests' file never gets as large.
const DISK_BYTES: u64 = 4 << 30;

/// A verification's counts and examples.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Verified {
    /// Items of the source.
    pub(super) items: u64,
    pub(super) missing: u64,
    pub(super) extra: u64,
    pub(super) different: u64,
    /// Keys that nothing can be said of, because they do not come to rest.
    pub(super) unstable: u64,
    pub(super) examples: Vec<String>,
}

/// Compares a replica with the source.
pub(super) async fn verify(source: &Site, replica: &Site) -> Result<Verified, Error> {
    let parts = Parts {
        source: table(source).await,
        replica: table(replica).await,
        digester: Digester::new::<&str>(&[]),
        join: join::Config {
            memory_bytes: MEMORY_BYTES,
            disk_bytes: DISK_BYTES,
            dir: std::env::temp_dir(),
            key_bytes_max: join::Config::KEY_BYTES_MAX,
        },
        pages: Budget::new(MEMORY_BYTES),
        barrier: Barrier::Grace(GRACE),
        ttl_attribute: None,
        differences_max: usize::MAX,
        details_max: EXAMPLES_MAX,
        clock: Clock::System,
        progress: watch::Sender::new(Progress::default()),
    };
    Ok(Verified::new(&verify::verify(&parts).await?))
}

async fn table(site: &Site) -> Table {
    Table {
        tables: Arc::new(daemon::connect(site, None).await.tables()),
        name: TABLE.to_owned(),
        key: vec![HASH_KEY.to_owned(), RANGE_KEY.to_owned()],
        segments: segments(0),
        pages: PAGES,
        units: Bucket::new(None),
    }
}

fn example(found: &Difference) -> String {
    let mut text = format!("{} {}", found.class, found.key);
    for (index, path) in found.paths.iter().enumerate() {
        let before = if index == 0 { " in " } else { ", " };
        text.push_str(&format!("{before}{} ({})", path.path, path.what));
    }
    shortened(&text, EXAMPLE_CHARS)
}

// === impl Verified ===

impl Verified {
    fn new(findings: &Findings) -> Self {
        Self {
            items: findings.progress.source.items,
            missing: findings.count(Class::Missing),
            extra: findings.count(Class::Extra),
            different: findings.count(Class::Different),
            unstable: findings.count(Class::Unstable),
            examples: findings.differences.iter().take(EXAMPLES_MAX).map(example).collect(),
        }
    }

    /// How many keys are not known to be equal.
    pub(super) fn differences(&self) -> u64 {
        self.missing + self.extra + self.different + self.unstable
    }
}

impl std::fmt::Display for Verified {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.differences() == 0 {
            return writeln!(f, "  verified equal: {} items, no differences", grouped(self.items));
        }
        write!(f, "  verified NOT EQUAL: ")?;
        for (count, what) in [(self.missing, "missing"), (self.extra, "extra"), (self.different, "different")]
        {
            write!(f, "{} {what}, ", grouped(count))?;
        }
        if self.unstable > 0 {
            write!(f, "{} unstable, ", grouped(self.unstable))?;
        }
        writeln!(f, "of {} items", grouped(self.items))?;
        self.examples.iter().try_for_each(|example| writeln!(f, "           {example}"))
    }
}
