//! What a replica has otherwise than its source after a copy, found by comparing the two, and repaired.
//!
//! ```text
//!  run is reconciling ──> verify ── confirmed ──> repairs ──> recheck ── equal ──────────> run is settling
//!                           ^                        ^           │ some differ still: repaired again, a few times
//!                           │                        └───────────┘
//!                           └── more differed than one pass takes ──┘
//! ```
//!
//! A copy puts what its source has. What the replica had besides stays, and so does, under a guard, an item that carries
//! a mark. Both are found by [`verify`], which calls nothing different that is only late, and are mended by the
//! [repairs](repair) that anybody may ask for: nothing is written here but the run's row.
//!
//! One worker does it, the one that is alone, because that one repairs. When it is not any more, or the run is given up,
//! the comparison ends where it is, and begins anew elsewhere: a repair that was asked for twice does no harm. The run
//! goes on when every difference that was found is gone; one that comes back after [`TRIES`] repairs, such as that of
//! an item which the replica refuses and which is parked, is told, and left to whoever looks at parked keys.

use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::backoff::Backoff;
use crate::capacity::Bucket;
use crate::control::{self, Control};
use crate::copy::{Parts, Run, Saved, State, repair};
use crate::dynamo::{self, Tables};
use crate::key::Key;
use crate::lease::Fence;
use crate::verify::{self, Barrier, Class, Digester, Findings, Progress, Table, join};

/// Between two looks whether this worker is still alone, and whether repairs are done.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// How often what differs is repaired and looked at again, before it is left.
const TRIES: u32 = 3;

/// How long the replica may lag behind what was found to differ. What cannot be told then is looked at again.
const PATIENCE: Duration = Duration::from_secs(600);

/// Keys that one pass finds at most: each is a row for a while, and some 200 bytes of memory. More take more passes.
const DIFFERENCES_MAX: usize = 100_000;

/// Differences of each class whose items are kept, which may have 400 KB each. Nobody looks at them here; but of keys that
/// were never seen at rest only so many are told at all.
const DETAILS_MAX: usize = 64;

/// Memory of the comparison, beside its pages; tables of up to a million items need no more.
const MEMORY_BYTES: usize = 64 << 20;

/// Most bytes on disk, in the directory for temporary files: enough for a billion items.
const DISK_BYTES: u64 = 64 << 30;

/// Pages of each table that are read at once, which hide the way to another continent.
const PAGES: usize = 4;

/// Finishes the copies of one replica that are to leave nothing else in it.
pub(super) struct Reconciler {
    parts: Parts,
    repairs: repair::Store,
    control: Control,
    replication: String,
    replica: String,
    /// The newest run, as whoever copies saw it last.
    runs: watch::Receiver<Option<Run>>,
}

/// Why a run is not brought on.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("describe table `{table}`")]
    Describe { table: String, source: Box<dynamo::Error> },
    #[error(transparent)]
    Verify(#[from] verify::Error),
    #[error(transparent)]
    Control(#[from] control::Error),
    #[error("repair {left} keys that differ still, such as {key}: look at the parked keys of the replica")]
    Stuck { left: usize, key: Key },
}

/// Keys that differ, or may.
#[derive(Default)]
struct Left {
    confirmed: Vec<Key>,
    /// Never seen at rest: whatever is written to them goes on being replicated, so they are only looked at again.
    unstable: Vec<Key>,
}

// === impl Reconciler ===

impl Reconciler {
    /// One for the runs that `runs` shows.
    pub(super) fn new(
        parts: Parts,
        repairs: repair::Store,
        control: Control,
        [replication, replica]: [&str; 2],
        runs: watch::Receiver<Option<Run>>,
    ) -> Self {
        let (replication, replica) = (replication.to_owned(), replica.to_owned());
        Self { parts, repairs, control, replication, replica, runs }
    }

    /// Brings on what is reconciling, until `stop` is cancelled.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let mut failures = Backoff::new(Duration::from_secs(1), Duration::from_secs(300));
        loop {
            let attempt = async {
                self.until_wanted().await;
                let result = self.attempt().await;
                match &result {
                    Ok(()) => failures.reset(),
                    Err(failure) => {
                        self.tell(failure).await;
                        sleep(failures.pause()).await;
                    }
                }
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = attempt => {}
            }
        }
    }

    /// Waits for a run that is reconciling.
    async fn until_wanted(&mut self) {
        let is_wanted = |run: &Option<Run>| run.as_ref().is_some_and(|run| run.state == State::Reconciling);
        if self.runs.wait_for(is_wanted).await.is_err() {
            // Nobody copies any more: the worker stops.
            std::future::pending::<()>().await;
        }
    }

    /// Reconciles while this worker is alone, and the run is what it was.
    async fn attempt(&self) -> Result<(), Failure> {
        let fence = (self.parts.sole)();
        let Some(run) = self.load().await?.filter(|_| fence.is_open(Instant::now())) else {
            sleep(LOOK_INTERVAL).await;
            return Ok(());
        };
        info!(run = run.id, "replica is compared with its source");
        tokio::select! {
            biased;
            () = self.until_over(run.id, &fence) => {
                info!(run = run.id, "comparison stands still: this worker is not alone, or the run is over");
                return Ok(());
            }
            compared = self.reconcile(&run) => compared?,
        }
        self.settle(run.id).await
    }

    /// The run, as it is now, while it is reconciling.
    async fn load(&self) -> Result<Option<Run>, control::Error> {
        let run = self.parts.store.load().await?;
        if let Some(run) = &run {
            (self.parts.show)(run);
        }
        Ok(run.filter(|run| run.state == State::Reconciling))
    }

    /// Until another worker may write, or the run is reconciling no more.
    async fn until_over(&self, id: i64, fence: &Fence) {
        let is_same = |run: &Run| run.id == id && run.state == State::Reconciling;
        while fence.is_open(Instant::now()) && self.runs.borrow().as_ref().is_some_and(is_same) {
            sleep(LOOK_INTERVAL).await;
        }
    }

    /// Compares and repairs until all is compared and what was found is mended.
    async fn reconcile(&self, run: &Run) -> Result<(), Failure> {
        let parts = self.verification(run).await?;
        loop {
            let findings = verify::verify(&parts).await?;
            let found = Left::of(&findings);
            let before = found.confirmed.len();
            info!(run = run.id, differ = before, complete = findings.complete, "replica was compared");
            let left = self.mend(&parts, found).await?.confirmed;
            let stuck = || left.first().map(|key| Failure::Stuck { left: left.len(), key: key.clone() });
            match stuck() {
                // There are others, which only those that could not be repaired keep from being found.
                Some(stuck) if !findings.complete && left.len() >= before => return Err(stuck),
                Some(stuck) if findings.complete => {
                    warn!(run = run.id, error = %stuck, "replica is left as it is");
                }
                _ => {}
            }
            if findings.complete {
                return Ok(());
            }
        }
    }

    /// Repairs what differs, and gives what differs after that.
    async fn mend(&self, parts: &verify::Parts, mut left: Left) -> Result<Left, Failure> {
        for _ in 0..TRIES {
            if left.is_empty() {
                break;
            }
            self.repair(&left.confirmed).await?;
            left = Left::of(&verify::recheck(parts, left.into_keys()).await?);
        }
        Ok(left)
    }

    /// Asks for repairs, and waits until no key is left that somebody wants repaired.
    async fn repair(&self, keys: &[Key]) -> Result<(), control::Error> {
        self.repairs.post(keys).await?;
        while !keys.is_empty() && !self.repairs.wanted().await?.is_empty() {
            sleep(LOOK_INTERVAL).await;
        }
        Ok(())
    }

    /// The run has nothing left to do but to wait for the stream.
    async fn settle(&self, id: i64) -> Result<(), Failure> {
        let Some(run) = self.load().await?.filter(|run| run.id == id) else { return Ok(()) };
        let mut run = Run { state: State::Settling, trouble: None, ..run };
        run.updated_unix_ms = self.parts.clock.unix_ms();
        // Who changed it meanwhile gave it up; the next look shows that.
        if self.parts.store.save(&mut run).await? == Saved::Done {
            info!(run = run.id, "replica has nothing that its source has not");
            (self.parts.show)(&run);
        }
        Ok(())
    }

    /// Lets whoever asked for the copy see what stands in its way.
    async fn tell(&self, failure: &Failure) {
        let trouble = spell(failure);
        warn!(trouble, "replica cannot be compared with its source");
        let saved = async {
            let Some(run) = self.load().await?.filter(|run| run.trouble.as_ref() != Some(&trouble)) else {
                return Ok(());
            };
            let updated_unix_ms = self.parts.clock.unix_ms();
            let mut run = Run { trouble: Some(trouble.clone()), updated_unix_ms, ..run };
            self.parts.store.save(&mut run).await.map(drop)
        };
        let saved: Result<(), control::Error> = saved.await;
        if let Err(error) = saved {
            warn!(%error, "copy cannot use the control table");
        }
    }

    async fn verification(&self, run: &Run) -> Result<verify::Parts, Failure> {
        let Parts { source, source_table, replica, replica_table, guard, .. } = &self.parts;
        let ignored: Vec<_> = guard.iter().map(|guard| guard.attribute.as_str()).collect();
        let (control, clock) = (self.control.clone(), self.parts.clock);
        Ok(verify::Parts {
            source: table(run, source, source_table).await?,
            replica: table(run, replica, replica_table).await?,
            digester: Digester::new(&ignored),
            join: join::Config {
                memory_bytes: MEMORY_BYTES,
                disk_bytes: DISK_BYTES,
                dir: std::env::temp_dir(),
                key_bytes_max: join::Config::KEY_BYTES_MAX,
            },
            pages: self.parts.budget.clone(),
            barrier: Barrier::of_rows(control, &self.replication, &self.replica, PATIENCE),
            ttl_attribute: None,
            differences_max: DIFFERENCES_MAX,
            details_max: DETAILS_MAX,
            clock,
            progress: watch::Sender::new(Progress::default()),
        })
    }
}

// === impl Left ===

impl Left {
    fn of(findings: &Findings) -> Self {
        let keys = |is: fn(Class) -> bool| {
            let differences = findings.differences.iter().filter(|difference| is(difference.class));
            differences.map(|difference| difference.key.detached()).collect()
        };
        Self { confirmed: keys(Class::is_confirmed), unstable: keys(|class| class == Class::Unstable) }
    }

    fn is_empty(&self) -> bool {
        self.confirmed.is_empty() && self.unstable.is_empty()
    }

    fn into_keys(self) -> Vec<Key> {
        let Self { mut confirmed, unstable } = self;
        confirmed.extend(unstable);
        confirmed
    }
}

/// One of the two tables, read within the run's budget.
async fn table(run: &Run, tables: &Arc<dyn Tables>, name: &str) -> Result<Table, Failure> {
    let described = tables.describe(name).await;
    let described =
        described.map_err(|source| Failure::Describe { table: name.to_owned(), source: Box::new(source) })?;
    let units = Bucket::new(run.request.read_units_of(&described));
    Ok(Table {
        tables: Arc::clone(tables),
        name: name.to_owned(),
        key: described.key.into_iter().map(|attribute| attribute.name).collect(),
        segments: verify::segments(described.bytes),
        pages: PAGES,
        units,
    })
}

/// A failure with all its causes.
fn spell(failure: &Failure) -> String {
    let mut text = failure.to_string();
    let mut cause = failure.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
