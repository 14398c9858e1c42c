//! Looks whether the replicas' tables are still like their sources, and tells in how many settings they are not.

use std::convert::Infallible;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};
use tracing::{debug, info};

use super::office::Office;
use crate::supervisor::Replication;

/// Time between two looks. Each is some twenty calls for every replica, and people change tables a few times a year.
const LOOK_INTERVAL: Duration = Duration::from_secs(3600);

/// Looks, again and again. What cannot be looked at is not known, and told as such.
pub(super) async fn watch(replications: &[Replication], office: &Office) -> Infallible {
    let mut looks = interval(LOOK_INTERVAL);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        for replication in replications {
            look(replication, office).await;
        }
    }
}

async fn look(replication: &Replication, office: &Office) {
    let (name, table) = (&replication.name, &replication.source.table);
    for replica in &replication.replicas {
        let Some(pair) = &replica.schema else { continue };
        let differences = match pair.plan().await {
            Ok(plan) => Some(plan.differences.len()),
            Err(error) => {
                debug!(replication = name, replica = replica.name, %error, "schemas cannot be compared");
                None
            }
        };
        if let Some(count @ 1..) = differences {
            info!(
                replication = name,
                replica = replica.name,
                differences = count,
                "replica's table differs from its source: see `dynamirror schema diff`"
            );
        }
        let differences = differences.map(|count| u64::try_from(count).unwrap_or(u64::MAX));
        office.metrics().set_schema_drift(name, table, &replica.name, differences);
    }
}
