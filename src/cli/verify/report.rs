//! What was found, as a person and a program read it.

use std::time::Duration;

use serde::Serialize;
use serde_json::value::RawValue;

use super::repair;
use crate::config::Replica;
use crate::item::Item;
use crate::verify::difference::Path;
use crate::verify::{Class, Counted, Difference, Findings};

/// All replicas that were compared.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    schema_version: u32,
    replication: String,
    /// Whether every replica is equal to its source.
    pub(super) ok: bool,
    replicas: Vec<Compared>,
}

/// One replica.
#[derive(Debug, Serialize)]
pub(super) struct Compared {
    name: String,
    table: String,
    /// Whether no difference was confirmed.
    equal: bool,
    /// Whether all was compared; not when there were more differences than wanted.
    complete: bool,
    seconds: f64,
    source: Scanned,
    replica: Scanned,
    /// Keys that were read again.
    suspects: u64,
    counts: Counts,
    /// In order of classes, then keys. Of those beyond `--show` there is the key alone.
    differences: Vec<Shown>,
    /// The largest size of the file of digests.
    disk_bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) repair: Option<repair::Outcome>,
}

#[derive(Debug, Serialize)]
struct Scanned {
    items: u64,
    bytes: u64,
    read_units: f64,
}

#[derive(Debug, Serialize)]
struct Counts {
    missing: u64,
    extra: u64,
    different: u64,
    ttl_expired: u64,
    unstable: u64,
}

#[derive(Debug, Serialize)]
struct Shown {
    key: Option<Box<RawValue>>,
    class: Class,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    paths: Vec<Path>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    replica: Option<Box<RawValue>>,
}

// === impl Report ===

impl Report {
    pub(super) fn new(replication: &str) -> Self {
        Self { schema_version: 1, replication: replication.to_owned(), ok: true, replicas: Vec::new() }
    }

    pub(super) fn add(&mut self, compared: Compared) {
        self.ok &= compared.is_fine();
        self.replicas.push(compared);
    }

    /// For a person.
    pub(super) fn text(&self) -> String {
        let each = self.replicas.iter().map(|replica| replica.text(&self.replication));
        each.collect::<Vec<_>>().join("\n")
    }
}

// === impl Compared ===

impl Compared {
    pub(super) fn new(replica: &Replica, findings: &Findings, elapsed: Duration) -> Self {
        Self {
            name: replica.name.clone(),
            table: replica.table.clone(),
            equal: findings.complete && findings.confirmed().next().is_none(),
            complete: findings.complete,
            seconds: elapsed.as_secs_f64(),
            source: Scanned::new(findings.progress.source),
            replica: Scanned::new(findings.progress.replica),
            suspects: findings.progress.suspects,
            counts: Counts {
                missing: findings.count(Class::Missing),
                extra: findings.count(Class::Extra),
                different: findings.count(Class::Different),
                ttl_expired: findings.count(Class::TtlExpired),
                unstable: findings.count(Class::Unstable),
            },
            differences: findings.differences.iter().map(Shown::new).collect(),
            disk_bytes: findings.disk_bytes,
            repair: None,
        }
    }

    /// Equal, or made so.
    fn is_fine(&self) -> bool {
        self.equal || self.repair.as_ref().is_some_and(repair::Outcome::is_whole)
    }

    fn text(&self, replication: &str) -> String {
        let Counts { missing, extra, different, ttl_expired, unstable } = self.counts;
        let verdict = match (self.equal, self.complete) {
            (true, _) => "is equal to its source",
            (false, true) => "differs from its source",
            (false, false) => "differs from its source, in more than was looked at",
        };
        let mut lines = vec![
            format!("replica `{replication}/{}` {verdict}", self.name),
            format!("  source   {}", self.source.text()),
            format!("  replica  {}", self.replica.text()),
            format!(
                "  {missing} missing, {extra} extra, {different} different; {ttl_expired} expired, {unstable} unstable \
                 of {} suspects; {:.0} s",
                self.suspects, self.seconds
            ),
        ];
        let mut bare = 0;
        for shown in &self.differences {
            if shown.is_bare() {
                bare += 1;
            } else {
                lines.extend(shown.lines());
            }
        }
        if bare > 0 {
            lines.push(format!("  and {bare} more: see `--output json`, or raise `--show`"));
        }
        lines.extend(self.repair.iter().map(|repair| format!("  {}", repair.text())));
        lines.join("\n")
    }
}

// === impl Scanned ===

impl Scanned {
    fn new(counted: Counted) -> Self {
        Self { items: counted.items, bytes: counted.bytes, read_units: counted.units }
    }

    fn text(&self) -> String {
        format!("{} items, {}, {:.0} read units", self.items, bytesize::ByteSize(self.bytes), self.read_units)
    }
}

// === impl Shown ===

impl Shown {
    fn new(difference: &Difference) -> Self {
        Self {
            key: raw(difference.key.as_bytes()),
            class: difference.class,
            paths: difference.paths.clone(),
            source: difference.source.as_ref().and_then(item),
            replica: difference.replica.as_ref().and_then(item),
        }
    }

    fn is_bare(&self) -> bool {
        self.source.is_none() && self.replica.is_none()
    }

    fn lines(&self) -> Vec<String> {
        let key = self.key.as_ref().map_or("?", |key| key.get());
        let mut lines = vec![format!("  {:<12} {key}", self.class.to_string())];
        lines.extend(self.paths.iter().map(|path| format!("      {}: {}", path.path, path.what)));
        lines.extend(self.source.iter().map(|item| format!("      source   {}", item.get())));
        lines.extend(self.replica.iter().map(|item| format!("      replica  {}", item.get())));
        lines
    }
}

fn item(item: &Item) -> Option<Box<RawValue>> {
    raw(item.as_bytes())
}

/// JSON text as it is; `None` when a server sent something else.
fn raw(text: &[u8]) -> Option<Box<RawValue>> {
    serde_json::from_slice(text).ok()
}
