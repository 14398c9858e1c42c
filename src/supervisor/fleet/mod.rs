//! All workers of the fleet, as one of them sees them, and what it tells them of itself.
//!
//! Each process has a row of its own under `#workers`, and writes no other there. It holds a counter that rises with
//! every heartbeat, whether the worker drains, and the one lease that it wants of another ([`Want`]). The rows of shards
//! belong to their holders, so this is how a worker asks for one:
//!
//! ```text
//!   thief                         its row             the shard's row            holder
//!   plan: steal ──> want ────────> want ─────────────────────────────────────> sees it: drains this one shard
//!   looks every 250 ms <──────────────────────────── released, handed_to <──── all written, checkpointed
//!   takes it ───────────────────────────────────────> owner
//!   want dropped ────────────────> -
//! ```
//!
//! A want that nobody answers is dropped after [`WANT_PATIENCE`]; the lease of a holder that is gone runs out by itself.
//! Whether a worker lives is judged like a lease: by the observer's own clock, from a counter that stood still.

mod announce;
mod watch;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use super::watch as channel;
use crate::control;
use crate::item::{Attributes, Value};
use crate::lease::Owner;
use crate::lease::assign::Share;
use crate::shard::ShardId;

pub(super) use announce::{announce, leave};
pub(super) use watch::watch;

/// The partition of workers' rows.
pub(super) const PARTITION: &str = "#workers";

/// How long a holder may take to give a lease up: it sees the want within half a second, and its writes under way end
/// within an attempt or two. One that does not has trouble of its own, which a lease more or less does not mend.
const WANT_PATIENCE: Duration = Duration::from_secs(10);

/// After an unanswered want, none is made for this long: the same plan would ask for the same lease.
const WANT_PAUSE: Duration = Duration::from_secs(30);

/// How long a drain waits until the others can see it. Without that they find its leases later, and nothing else.
const DRAIN_NOTICE: Duration = Duration::from_millis(500);

/// This process's place in its fleet.
#[derive(Clone)]
pub(super) struct Fleet {
    shared: Arc<Shared>,
    seen: channel::Receiver<View>,
}

/// What the tasks of this module share with those who ask.
pub(super) struct Shared {
    me: Owner,
    state: Mutex<State>,
    /// The own row is to be written at once.
    changed: Notify,
    /// The newest revision of the own row that was written.
    written: channel::Sender<u64>,
    seen: channel::Sender<View>,
}

#[derive(Default)]
struct State {
    draining: bool,
    want: Option<Wanting>,
    no_want_before: Option<Instant>,
    /// What each worker has of each replication of this process, as it was last planned.
    shares: BTreeMap<String, BTreeMap<Owner, Share>>,
    revision: u64,
}

struct Wanting {
    want: Want,
    /// Who holds it.
    from: Owner,
    since: Instant,
}

/// A lease that a worker asks another for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Want {
    pub(super) replication: String,
    pub(super) shard: ShardId,
}

/// The other workers that live.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct View {
    /// `None` until they were looked at once.
    others: Option<BTreeMap<Owner, Member>>,
}

/// What a worker tells of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Member {
    /// It gives its leases up and takes none.
    pub(super) draining: bool,
    /// The lease that it asks for.
    pub(super) want: Option<Want>,
}

// === impl Fleet ===

impl Fleet {
    /// The place of the process `me`, which sees nothing until [`watch()`] runs.
    pub(super) fn new(me: &str) -> Self {
        let (seen, receiver) = channel::channel(View::default());
        let shared = Shared {
            me: me.to_owned(),
            state: Mutex::default(),
            changed: Notify::new(),
            written: channel::Sender::new(0),
            seen,
        };
        Self { shared: Arc::new(shared), seen: receiver }
    }

    /// What the tasks of this module work on.
    pub(super) fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }

    /// Waits until the view is another than at the last call.
    pub(super) async fn changed(&mut self) {
        self.seen.changed().await.expect("the sender is part of what is shared");
    }

    /// Whether the others were looked at.
    pub(super) fn is_known(&self) -> bool {
        self.seen.borrow().others.is_some()
    }

    /// Who lives, and whether it drains, but for this process.
    pub(super) fn roster(&self) -> BTreeMap<Owner, bool> {
        let view = self.seen.borrow();
        let others = view.others.iter().flatten();
        others.map(|(owner, member)| (owner.clone(), member.draining)).collect()
    }

    /// Those who may take leases, with what each has of other replications than this one.
    pub(super) fn workers(&self, replication: &str) -> BTreeMap<Owner, Share> {
        let takes = self.roster().into_iter().filter(|(_, draining)| !draining);
        let mut workers: BTreeMap<_, _> = takes.map(|(owner, _)| (owner, Share::default())).collect();
        let state = self.shared.state();
        if !state.draining {
            workers.insert(self.shared.me.clone(), Share::default());
        }
        for (_, shares) in state.shares.iter().filter(|(name, _)| *name != replication) {
            for (owner, share) in shares {
                if let Some(all) = workers.get_mut(owner) {
                    all.join(*share);
                }
            }
        }
        workers
    }

    /// Keeps what each worker has of a replication, for the plans of the others.
    pub(super) fn share_out(&self, replication: &str, shares: BTreeMap<Owner, Share>) {
        self.shared.state().shares.insert(replication.to_owned(), shares);
    }

    /// The leases of a replication that others ask for, and who does.
    pub(super) fn wants(&self, replication: &str) -> BTreeMap<ShardId, Owner> {
        let view = self.seen.borrow();
        let others = view.others.iter().flatten().filter(|(_, member)| !member.draining);
        let wants = others.filter_map(|(owner, member)| Some((member.want.as_ref()?, owner)));
        let wants = wants.filter(|(want, _)| want.replication == replication);
        wants.map(|(want, owner)| (want.shard.clone(), owner.clone())).collect()
    }

    /// The lease of a replication that this process asks for.
    pub(super) fn own_want(&self, replication: &str) -> Option<ShardId> {
        let state = self.shared.state();
        let wanting = state.want.as_ref().filter(|wanting| wanting.want.replication == replication);
        wanting.map(|wanting| wanting.want.shard.clone())
    }

    /// Whether another worker's lease may be asked for: one at a time.
    pub(super) fn may_want(&self, now: Instant) -> bool {
        let state = self.shared.state();
        !state.draining && state.want.is_none() && state.no_want_before.is_none_or(|at| at <= now)
    }

    /// Asks for a lease.
    pub(super) fn want(&self, want: Want, from: Owner, now: Instant) {
        self.shared.tell(|state| state.want = Some(Wanting { want, from, since: now }));
    }

    /// Whether the lease that is asked for may still come from its holder, when `owner` is in its row.
    pub(super) fn may_come_from(&self, owner: Option<&Owner>) -> bool {
        let state = self.shared.state();
        owner.is_none() || state.want.as_ref().is_some_and(|wanting| Some(&wanting.from) == owner)
    }

    /// Drops a want of a lease whose holder is gone, or gives up all that it has anyway.
    pub(super) fn check_want(&self, roster: &BTreeMap<Owner, bool>) {
        let is_in_vain = |wanting: &Wanting| roster.get(&wanting.from).is_none_or(|draining| *draining);
        if self.shared.state().want.as_ref().is_some_and(is_in_vain) {
            self.drop_want();
        }
    }

    /// The lease that is asked for is had, or can no longer be.
    pub(super) fn drop_want(&self) {
        self.shared.tell(|state| state.want = None);
    }

    /// Drops a want that nobody answers. Says whether it did.
    pub(super) fn lose_patience(&self, now: Instant) -> bool {
        let is_old = |state: &State| {
            state.want.as_ref().is_some_and(|it| now.duration_since(it.since) >= WANT_PATIENCE)
        };
        if !is_old(&self.shared.state()) {
            return false;
        }
        self.shared.tell(|state| {
            state.want = None;
            state.no_want_before = Some(now + WANT_PAUSE);
        });
        true
    }

    /// Takes part no more: tells it, and waits a moment until that is written.
    pub(super) async fn drain(&self) {
        let mut written = self.shared.written.subscribe();
        let revision = self.shared.tell(|state| {
            state.draining = true;
            state.want = None;
        });
        // Nothing depends on it but how soon the others look.
        let _ = timeout(DRAIN_NOTICE, written.wait_for(|written| *written >= revision)).await;
    }
}

// === impl Shared ===

impl Shared {
    /// Changes what the own row says, and has it written. Gives the row's new revision.
    fn tell(&self, change: impl FnOnce(&mut State)) -> u64 {
        let mut state = self.state();
        change(&mut state);
        state.revision += 1;
        self.changed.notify_one();
        state.revision
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while holding it")
    }
}

// === impl Member ===

impl Member {
    fn write(&self, row: &mut Attributes) {
        if self.draining {
            row.insert("draining".to_owned(), Value::Bool(true));
        }
        if let Some(want) = &self.want {
            row.insert("want_replication".to_owned(), want.replication.as_str().into());
            row.insert("want_shard".to_owned(), want.shard.as_str().into());
        }
    }

    fn read(row: &control::Row<'_>) -> Self {
        let want = row.optional_text("want_replication").zip(row.optional_text("want_shard"));
        let want = want.map(|(replication, shard)| Want {
            replication: replication.to_owned(),
            shard: ShardId::from(shard),
        });
        Self { draining: matches!(row.get("draining"), Some(Value::Bool(true))), want }
    }
}
