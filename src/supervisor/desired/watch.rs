//! Keeps a worker informed of the wishes: one task asks, every replication listens.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;
use tracing::{info, warn};

use super::{Store, Wishes};
use crate::supervisor::watch::{self, Receiver, Sender};
use crate::task::Tasks;

/// Between two looks. A person who pauses a replica waits about so long for it; a look costs half a read unit.
const INTERVAL: Duration = Duration::from_secs(1);

/// The wishes as they were read last; `None` as long as they were never read.
pub(in crate::supervisor) type Known = Option<Arc<Wishes>>;

/// Follows the wishes until nobody listens any more.
pub(in crate::supervisor) fn watch(store: Store, tasks: &mut Tasks<()>) -> Receiver<Known> {
    let (sender, receiver) = watch::channel(None);
    tasks.spawn(tracing::Span::current(), follow(store, sender));
    receiver
}

async fn follow(store: Store, sender: Sender<Known>) {
    let mut failing = false;
    while !sender.is_closed() {
        match store.load().await {
            Ok(wishes) => {
                failing = false;
                let changed = sender.send_if_modified(|known| {
                    let differs = known.as_deref() != Some(&wishes);
                    if differs {
                        *known = Some(Arc::new(wishes));
                    }
                    differs
                });
                if changed {
                    info!("wishes for replicas are known");
                }
            }
            Err(error) => {
                if !failing {
                    warn!(%error, "wishes for replicas cannot be read: what was known before stands");
                }
                failing = true;
            }
        }
        sleep(INTERVAL).await;
    }
}
