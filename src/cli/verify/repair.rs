//! Having differences repaired: what is wrong in the replica is written down, workers are asked to mend it, and it is
//! looked at again.
//!
//! What the verifier saw is never written. A worker reads each key from the source once more and takes it through the
//! replica's own lane, where it cannot get in the way of a newer change.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde::Serialize;
use tokio::time::{Instant, sleep};

use crate::cli::exit::Failure;
use crate::clock::Clock;
use crate::config::{Replica, Replication};
use crate::control::{self, Control};
use crate::copy::repair::{State, Store};
use crate::dynamo::FETCH_KEYS_MAX;
use crate::key::Key;
use crate::verify::{self, Class, Findings, Parts};

/// So many keys may always be repaired: they are looked through in an afternoon.
const KEYS_FREE: u64 = 1_000;

/// Beyond that, one item in so many: more are a sign that the wrong tables are compared.
const ITEMS_PER_KEY: u64 = 1_000;

/// How often workers are asked how far they are.
const ASK_INTERVAL: Duration = Duration::from_millis(500);

/// How long without a single repaired key until a person is told that no worker does it.
const PATIENCE: Duration = Duration::from_secs(300);

/// What is wanted.
#[derive(Debug, clap::Args)]
pub(super) struct Wanted {
    /// Have confirmed differences repaired. Only tells what would be done, unless `--apply` is given too.
    #[arg(long)]
    repair: bool,

    /// Do it: a worker must run. It reads the source again; what was seen here is never written.
    #[arg(long, requires_all = ["repair", "undo"])]
    apply: bool,

    /// Write what the replica has under these keys to this new file first, one line of JSON for each:
    /// `{"Key":{…},"Item":{…}}`, or `"Item":null`.
    #[arg(long, value_name = "FILE", requires = "repair")]
    undo: Option<PathBuf>,

    /// Repair more than 1,000 keys and more than 0.1 % of the table.
    #[arg(long, requires = "repair")]
    force: bool,
}

/// What was done.
#[derive(Debug, Serialize)]
pub(super) struct Outcome {
    /// Whether it was only planned.
    dry_run: bool,
    /// Keys that differ and are to be put.
    put: u64,
    /// Keys that differ and are to be deleted.
    delete: u64,
    /// Those that differ still.
    left: Option<u64>,
    /// Where the replica's items of before are.
    undo: Option<PathBuf>,
}

/// Repairs one replica.
pub(super) struct Repair<'a> {
    full_name: String,
    workers: Workers,
    parts: &'a Parts,
}

/// What the control table answers, in the end.
type Answer<T> = BoxFuture<'static, Result<T, control::Error>>;

/// The workers of the fleet, asked through the control table.
struct Workers {
    /// Asks for repairs.
    post: Box<dyn Fn(Vec<Key>) -> Answer<()>>,
    /// How many of them are not done, and what stands in the way of one.
    waiting: Box<dyn Fn() -> Answer<Waiting>>,
}

/// Repairs that are not done.
struct Waiting {
    keys: usize,
    trouble: Option<String>,
}

// === impl Wanted ===

impl Wanted {
    pub(super) fn is_wanted(&self) -> bool {
        self.repair
    }

    /// Refuses what makes no sense before anything is read.
    pub(super) fn check(&self, replicas: usize) -> Result<(), Failure> {
        if self.apply && replicas > 1 {
            return Err(Failure::Usage("--apply repairs one replica: name it with --replica".to_owned()));
        }
        match &self.undo {
            Some(path) if path.exists() => Err(exists(path)),
            _ => Ok(()),
        }
    }
}

// === impl Outcome ===

impl Outcome {
    /// Whether nothing differs any more.
    pub(super) fn is_whole(&self) -> bool {
        self.left == Some(0)
    }

    pub(super) fn text(&self) -> String {
        let keys = format!("{} keys put, {} deleted", self.put, self.delete);
        match (self.dry_run, self.left) {
            (true, _) => format!("would be repaired: {keys}; add `--apply --undo FILE` to do it"),
            (false, Some(0)) => format!("repaired: {keys}; all of them are equal now"),
            (false, left) => format!("repaired: {keys}; {} of them differ still", left.unwrap_or_default()),
        }
    }
}

// === impl Repair ===

impl<'a> Repair<'a> {
    pub(super) fn new(
        control: Control,
        replication: &Replication,
        replica: &Replica,
        parts: &'a Parts,
    ) -> Self {
        let workers = Workers::new(control, &replication.name, &replica.name, parts.clock);
        Self { full_name: format!("{}/{}", replication.name, replica.name), workers, parts }
    }

    /// Plans it, and does it when that is wanted.
    pub(super) async fn run(&self, wanted: &Wanted, findings: &Findings) -> Result<Outcome, Failure> {
        let keys: Vec<_> = findings.confirmed().map(|difference| difference.key.clone()).collect();
        let delete = findings.count(Class::Extra);
        let mut outcome = Outcome {
            dry_run: !wanted.apply,
            put: keys.len() as u64 - delete,
            delete,
            left: None,
            undo: None,
        };
        let (Some(path), true) = (&wanted.undo, wanted.apply) else { return Ok(outcome) };
        let items = findings.progress.source.items.max(findings.progress.replica.items);
        if !wanted.force && !is_modest(keys.len() as u64, items, findings.complete) {
            return Err(Failure::Usage(format!(
                "{} keys of replica `{}` differ, of {items}: nothing is repaired without --force, because so many \
                 differ when the wrong tables are compared, or a copy is missing",
                keys.len(),
                self.full_name
            )));
        }
        let workers = &self.workers;
        self.save(path, &keys).await?;
        outcome.undo = Some(path.clone());
        (workers.post)(keys.clone()).await?;
        self.wait(workers, keys.len()).await?;
        let again = verify::recheck(self.parts, keys).await?;
        outcome.left = Some(again.confirmed().count() as u64 + again.count(Class::Unstable));
        Ok(outcome)
    }

    /// Writes down what the replica has now.
    async fn save(&self, path: &Path, keys: &[Key]) -> Result<(), Failure> {
        let failed = |source| Failure::File { action: "write the undo file", path: path.to_owned(), source };
        let file = File::create_new(path).map_err(|source| match source.kind() {
            std::io::ErrorKind::AlreadyExists => exists(path),
            _ => failed(source),
        })?;
        let mut out = BufWriter::new(file);
        for keys in keys.chunks(FETCH_KEYS_MAX) {
            let items = self.parts.replica.fetch(keys).await?;
            for (key, item) in keys.iter().zip(items) {
                let item = item.as_ref().map_or(&b"null"[..], |item| item.as_bytes());
                let line = [b"{\"Key\":", key.as_bytes(), b",\"Item\":", item, b"}\n"].concat();
                out.write_all(&line).map_err(failed)?;
            }
        }
        let file = out.into_inner().map_err(|error| failed(error.into_error()))?;
        file.sync_all().map_err(failed)
    }

    async fn wait(&self, workers: &Workers, keys: usize) -> Result<(), Failure> {
        let (mut least, mut since) = (keys, Instant::now());
        loop {
            let waiting = (workers.waiting)().await?;
            if waiting.keys == 0 {
                return Ok(());
            }
            if waiting.keys < least {
                (least, since) = (waiting.keys, Instant::now());
            }
            if since.elapsed() > PATIENCE {
                let trouble = waiting.trouble.unwrap_or_else(|| "no worker does it".to_owned());
                return Err(Failure::Stalled(format!(
                    "repair {} keys of replica `{}`: {trouble}; they are asked for, and done as soon as they can be",
                    waiting.keys, self.full_name
                )));
            }
            sleep(ASK_INTERVAL).await;
        }
    }
}

// === impl Workers ===

impl Workers {
    /// Those that hold the replica.
    fn new(control: Control, replication: &str, replica: &str, clock: Clock) -> Self {
        let posted = Store::new(control, replication, replica, clock);
        let asked = posted.clone();
        let post = move |keys: Vec<Key>| -> Answer<()> {
            let store = posted.clone();
            Box::pin(async move { store.post(&keys).await })
        };
        let waiting = move || -> Answer<Waiting> {
            let store = asked.clone();
            Box::pin(async move {
                let wanted = store.wanted().await?;
                let trouble = wanted.iter().find_map(|entry| match &entry.state {
                    State::Wanted { trouble } => trouble.clone(),
                    State::Put | State::Deleted => None,
                });
                Ok(Waiting { keys: wanted.len(), trouble })
            })
        };
        Self { post: Box::new(post), waiting: Box::new(waiting) }
    }
}

fn exists(path: &Path) -> Failure {
    Failure::Usage(format!("--undo {}: there is such a file already", path.display()))
}

/// Whether so many keys may be repaired without a second thought.
fn is_modest(keys: u64, items: u64, complete: bool) -> bool {
    complete && keys <= KEYS_FREE.max(items / ITEMS_PER_KEY)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use tokio::sync::watch;

    use super::*;
    use crate::budget::Budget;
    use crate::capacity::Bucket;
    use crate::change::{Change, Op};
    use crate::dynamo::Tables;
    use crate::dynamo::memory::Memory;
    use crate::item::Item;
    use crate::verify::{Barrier, Digester, Progress, Table, join};

    fn key(number: u64) -> Key {
        let text = Bytes::from(format!(r#"{{"k":{{"N":"{number}"}}}}"#));
        Key::from_json(&text, 0..text.len()).expect("a key")
    }

    async fn put(memory: &Memory, table: &str, number: u64, text: &str) {
        let item = format!(r#"{{"k":{{"N":"{number}"}},"t":{{"S":"{text}"}}}}"#);
        let op = Op::Put(Item::from_json(item.into_bytes().into()));
        let change = Change { key: key(number), op, created_unix_ms: 0, order: None };
        memory.write(table, &[change]).await.expect("written");
    }

    fn parts(memory: &Arc<Memory>, dir: &Path) -> Parts {
        let table = |name: &str| Table {
            tables: Arc::clone(memory) as _,
            name: name.to_owned(),
            key: vec!["k".to_owned()],
            segments: 1,
            pages: 1,
            units: Bucket::new(None),
        };
        Parts {
            source: table("source"),
            replica: table("replica"),
            digester: Digester::new::<&str>(&[]),
            join: join::Config {
                memory_bytes: join::Config::MEMORY_BYTES_MIN,
                disk_bytes: 1 << 20,
                dir: dir.to_owned(),
                key_bytes_max: join::Config::KEY_BYTES_MAX,
            },
            pages: Budget::new(1 << 20),
            barrier: Barrier::Grace(Duration::from_secs(1)),
            ttl_attribute: None,
            differences_max: 100,
            details_max: 10,
            clock: Clock::System,
            progress: watch::Sender::new(Progress::default()),
        }
    }

    /// Workers that mend what they are asked for at once, from what the source has then.
    fn workers(memory: &Arc<Memory>) -> Workers {
        let memory = Arc::clone(memory);
        let post = move |keys: Vec<Key>| -> Answer<()> {
            let memory = Arc::clone(&memory);
            Box::pin(async move {
                let items = memory.fetch("source", &keys).await.expect("read").items;
                for (key, item) in keys.into_iter().zip(items) {
                    let op = item.map_or(Op::Delete, Op::Put);
                    let change = Change { key, op, created_unix_ms: 0, order: None };
                    memory.write("replica", &[change]).await.expect("written");
                }
                Ok(())
            })
        };
        let waiting = || -> Answer<Waiting> { Box::pin(async { Ok(Waiting { keys: 0, trouble: None }) }) };
        Workers { post: Box::new(post), waiting: Box::new(waiting) }
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_there_is_written_down_and_what_was_mended_is_looked_at_again() {
        let (memory, dir) = (Arc::new(Memory::default()), tempfile::tempdir().expect("a directory"));
        put(&memory, "source", 1, "same").await;
        put(&memory, "replica", 1, "same").await;
        put(&memory, "source", 2, "right").await;
        put(&memory, "replica", 2, "wrong").await;
        put(&memory, "source", 3, "missing").await;
        put(&memory, "replica", 4, "extra").await;
        let parts = parts(&memory, dir.path());
        let findings = verify::verify(&parts).await.expect("verified");
        let repair = Repair { full_name: "orders/us".to_owned(), workers: workers(&memory), parts: &parts };
        let undo = dir.path().join("undo.jsonl");
        let mut wanted = Wanted { repair: true, apply: false, undo: Some(undo.clone()), force: false };
        let planned = repair.run(&wanted, &findings).await.expect("planned");
        assert_eq!((planned.dry_run, planned.put, planned.delete, planned.left), (true, 2, 1, None));
        assert!(!undo.exists() && memory.item("replica", &key(4)).is_some(), "a dry run did something");
        wanted.apply = true;
        let done = repair.run(&wanted, &findings).await.expect("repaired");
        assert!(done.is_whole(), "{done:?}");
        let mut lines: Vec<_> =
            std::fs::read_to_string(&undo).expect("written").lines().map(str::to_owned).collect();
        lines.sort();
        let line = |number: u64, item: &str| format!(r#"{{"Key":{},"Item":{item}}}"#, key(number));
        let expected = [
            line(2, r#"{"k":{"N":"2"},"t":{"S":"wrong"}}"#),
            line(3, "null"),
            line(4, r#"{"k":{"N":"4"},"t":{"S":"extra"}}"#),
        ];
        assert_eq!(lines, expected);
        let refused = repair.run(&wanted, &findings).await.expect_err("the file exists");
        assert!(refused.to_string().contains("there is such a file already"), "{refused}");
        assert!(verify::verify(&parts).await.expect("verified").counts.is_empty());
    }

    #[test]
    fn many_keys_of_a_small_table_and_few_of_a_large_one() {
        assert!(is_modest(1_000, 10, true));
        assert!(!is_modest(1_001, 10, true));
        assert!(is_modest(2_000, 2_000_000, true));
        assert!(!is_modest(2_001, 2_000_000, true));
        assert!(!is_modest(5, 10, false), "nobody knows how many there are");
    }
}
