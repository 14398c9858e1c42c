//! Looks whether the replicas' tables are still like their sources, and tells in how many settings they are not.

use std::convert::Infallible;
use std::time::Duration;

use tracing::{debug, info};

use super::office::Office;
use crate::supervisor::Replication;

/// Time between two looks while all is equal. Each is some twenty calls for every replica, and people change tables a few
/// times a year.
const LOOK_INTERVAL: Duration = Duration::from_secs(3600);

/// Time between two looks while something differs or is not known: somebody is about to mend it.
const SOON: Duration = Duration::from_secs(300);

/// Looks, again and again. What cannot be looked at is not known, and told as such.
pub(super) async fn watch(replications: &[Replication], office: &Office) -> Infallible {
    loop {
        let mut is_equal = true;
        for replication in replications {
            is_equal &= look(replication, office).await;
        }
        tokio::time::sleep(if is_equal { LOOK_INTERVAL } else { SOON }).await;
    }
}

/// Tells how far the replicas of one replication have drifted. Whether none has.
async fn look(replication: &Replication, office: &Office) -> bool {
    let mut is_equal = true;
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
        is_equal &= differences == Some(0);
        let differences = differences.map(|count| u64::try_from(count).unwrap_or(u64::MAX));
        office.metrics().set_schema_drift(name, table, &replica.name, differences);
    }
    is_equal
}
