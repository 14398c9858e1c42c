//! Copies and repairs of the replicas: who runs them, and when they may write.
//!
//! For each replica three services run on every worker, one for [copies](copy::Runner), one that [compares](Reconciler)
//! what they leave where that is wanted, and one for [repairs](copy::repair::Runner). They look for what is wanted, want all shards at this worker while there is something
//! to do, and write under a [`Right`]. One opens when this worker is the only one that writes to the replication's
//! replicas, has a place in every shard for this replica, and nobody wants the replica to pause:
//!
//! - *Alone*, because only who sees the pages and the stream of a key can keep their order (`lease::affinity`).
//! - *A place in every shard*, because what is changed after a page was read has to come by the stream. A start at the
//!   latest record is none before the first answer to it; the row remembers an earlier time.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, info_span, warn};

use super::reconciling::Reconciler;
use super::{Running, Setup};
use crate::budget::Budget;
use crate::control;
use crate::copy::{self, Parts, Purpose};
use crate::lease::Fence;
use crate::supervisor::feed::{Channel, Moment};
use crate::supervisor::plan::Order;
use crate::supervisor::{FirstCopy, Replica};
use crate::task::Tasks;

/// Memory that pages of a copy may take, beside the replica's buffer: sixteen pages of 1 MB, which keep more write
/// requests busy than a replica has under way.
const PAGES_BYTES: usize = 16 << 20;

/// The copies and repairs of one replication.
pub(super) struct Copying {
    stop: CancellationToken,
    services: Tasks<()>,
    rights: BTreeMap<String, Right>,
    watermarks: BTreeMap<String, Arc<Moment>>,
}

/// The right to write to one replica what was not read from a shard. Clones are the same one.
#[derive(Clone)]
struct Right {
    held: Arc<Mutex<Held>>,
}

struct Held {
    fence: Fence,
    /// Whether this worker once had a place in every shard for the replica.
    is_placed: bool,
}

// === impl Right ===

impl Right {
    fn new() -> Self {
        Self { held: Arc::new(Mutex::new(Held { fence: Fence::closed(), is_placed: false })) }
    }

    /// A fence that nothing opens again once it was closed.
    fn fence(&self) -> Fence {
        self.held().fence.clone()
    }

    /// Lets the right be part of `sole`, or takes it back.
    fn permit(&self, sole: Option<&Fence>) {
        let mut held = self.held();
        match sole {
            Some(sole) if held.fence.is_within(sole) => {}
            Some(sole) => {
                held.fence.revoke();
                held.fence = sole.within();
            }
            None => {
                held.fence.revoke();
                held.fence = Fence::closed();
            }
        }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().expect("nothing panics while holding it")
    }
}

// === impl Copying ===

impl Copying {
    /// Starts the services of every replica that has any.
    pub(super) fn start(setup: &Setup, channels: &[Channel]) -> Self {
        let mut copying = Self {
            stop: CancellationToken::new(),
            services: Tasks::new(),
            rights: BTreeMap::new(),
            watermarks: BTreeMap::new(),
        };
        for (replica, channel) in setup.config.replicas.iter().zip(channels) {
            if replica.copy != FirstCopy::Never {
                copying.serve(setup, replica, channel);
            }
        }
        copying
    }

    fn serve(&mut self, setup: &Setup, replica: &Replica, channel: &Channel) {
        let (right, watermark) = (Right::new(), Arc::new(Moment::default()));
        let mut parts = self.parts(setup, replica, channel, &right, &watermark);
        let (shown, runs) = watch::channel(None);
        parts.show = Arc::new(move |run| drop(shown.send_replace(Some(run.clone()))));
        self.rights.insert(replica.name.clone(), right);
        self.watermarks.insert(replica.name.clone(), watermark);
        let (name, stop) = (&replica.name, &self.stop);
        let repairs = copy::repair::Store::new(setup.control.clone(), &setup.config.name, name, setup.clock);
        let repair = copy::repair::Runner::new(parts.clone(), repairs.clone()).run(stop.clone());
        self.services.spawn(info_span!("repair", replica = name), repair);
        let names = [setup.config.name.as_str(), name];
        let reconcile = Reconciler::new(parts.clone(), repairs, setup.control.clone(), names, runs);
        self.services.spawn(info_span!("reconcile", replica = name), reconcile.run(stop.clone()));
        let copy = copy::Runner::new(parts).run(stop.clone());
        self.services.spawn(info_span!("copy", replica = name), copy);
    }

    fn parts(
        &self,
        setup: &Setup,
        replica: &Replica,
        channel: &Channel,
        right: &Right,
        watermark: &Arc<Moment>,
    ) -> Parts {
        let (name, source) = (&setup.config.name, &setup.config.source);
        let (right, watermark) = (right.clone(), Arc::clone(watermark));
        Parts {
            source: Arc::clone(&source.tables),
            source_table: source.table.clone(),
            replica: Arc::clone(&replica.tables),
            replica_table: replica.writer.table.clone(),
            guard: replica.writer.guard.clone(),
            inbox: channel.inbox.clone(),
            window: channel.window.clone(),
            budget: Budget::new(PAGES_BYTES),
            sole: Arc::new(move || right.fence()),
            want: wants(setup, &replica.name, &self.stop),
            gauges: Arc::clone(&channel.gauges),
            watermark: Arc::new(move || watermark.get()),
            store: copy::Store::new(setup.control.clone(), name, &replica.name),
            show: Arc::new(|_run| {}),
            clock: setup.clock,
            metrics: setup.metrics.copies(name, &source.table, &replica.name),
        }
    }

    /// Waits for a service that ends by itself, which none does; a panic in one must not go unseen.
    pub(super) async fn ended(&mut self) -> Option<()> {
        self.services.next().await
    }

    /// Lets pages that are under way settle, and reads no more.
    pub(super) async fn stop(&mut self) {
        self.stop.cancel();
        while self.services.next().await.is_some() {}
    }
}

/// Wants all shards at this worker, or gives them up again.
fn wants(setup: &Setup, replica: &str, stop: &CancellationToken) -> Arc<dyn Fn(Purpose, bool) + Send + Sync> {
    let (affinity, replica, stop) = (setup.affinity.clone(), replica.to_owned(), stop.clone());
    let open = Mutex::new(BTreeMap::new());
    Arc::new(move |purpose, wanted| {
        let mut open = open.lock().expect("nothing panics while holding it");
        if wanted {
            open.entry(purpose).or_insert_with(|| match purpose {
                Purpose::Copy => affinity.want(&format!("copy of {replica}")),
                Purpose::Repair => affinity.want(&format!("repair of {replica}")),
            });
        } else if let Some(want) = open.remove(&purpose)
            && !stop.is_cancelled()
        {
            // What was written for it is answered, or it would not be over.
            want.settled();
        }
    })
}

/// Asks for the first copy of a replica that is to be copied by itself, before any change is applied to it: then it is
/// known whether it holds anything that did not come from the source.
pub(super) async fn ask(setup: &Setup, replica: &str) -> Result<(), control::Error> {
    let Some(replica) = setup.config.replicas.iter().find(|it| it.name == replica) else { return Ok(()) };
    let FirstCopy::Auto(request) = &replica.copy else { return Ok(()) };
    let store = copy::Store::new(setup.control.clone(), &setup.config.name, &replica.name);
    if store.load().await?.is_some() {
        return Ok(());
    }
    let table = &replica.writer.table;
    let known_empty = copy::is_empty(&*replica.tables, table).await.unwrap_or_else(|error| {
        warn!(replica = replica.name, %error, "whether the replica is empty is not known before its copy begins");
        false
    });
    let request = copy::Request { known_empty, ..request.clone() };
    match copy::Run::ask(None, &request, setup.clock.unix_ms()) {
        Ok(mut run) => {
            store.save(&mut run).await?;
            info!(replica = replica.name, "first copy is asked for");
        }
        Err(error) => warn!(replica = replica.name, %error, "first copy cannot be asked for"),
    }
    Ok(())
}

// === impl Running ===

impl Running {
    /// Opens the rights to write what is copied, and takes them back.
    pub(super) fn permit_copies(&mut self) {
        let sole = self.setup.affinity.sole();
        let wanted = self.wanted();
        for (replica, right) in &self.copying.rights {
            let is_placed = right.held().is_placed || self.has_places(replica);
            right.held().is_placed = is_placed;
            right.permit(sole.as_ref().filter(|_| is_placed && wanted.runs(replica)));
        }
        for (channel, through) in self.channels.iter().zip(&self.applied_through) {
            if let Some(watermark) = self.copying.watermarks.get(&channel.replica) {
                watermark.set(*through);
            }
        }
    }

    /// Whether every shard that is read for a replica was read once since it was taken.
    fn has_places(&self, replica: &str) -> bool {
        let is_read = |live: &super::Live| live.orders.borrow().get(replica).is_some_and(Order::runs);
        let was_polled =
            |live: &super::Live| live.seen(replica).is_some_and(|seen| seen.polled.load(Ordering::Relaxed));
        self.discovered_unix_ms.is_some() && self.live.values().all(|live| !is_read(live) || was_polled(live))
    }
}
