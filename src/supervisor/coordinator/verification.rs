//! The rolling verification of one replica, while this worker coordinates.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;
use tracing::warn;

use super::Office;
use crate::backoff::Backoff;
use crate::capacity::Bucket;
use crate::dynamo::{self, Tables};
use crate::supervisor::{Config, Replica, Replication, Verify};
use crate::verify::rolling::{CLASSES, Rolling, Store, Told};
use crate::verify::{Barrier, Digester, Table, segments};

/// How long a replica may lag behind what was found to differ, before that is left to the next pass.
const PATIENCE: Duration = Duration::from_secs(600);

/// One replica that is verified.
pub(super) struct Verification<'a> {
    config: &'a Config,
    replication: &'a Replication,
    replica: &'a Replica,
    wanted: Verify,
}

// === impl Verification ===

impl<'a> Verification<'a> {
    /// All that the configuration wants.
    pub(super) fn all(config: &'a Config) -> Vec<Self> {
        let of = |replication: &'a Replication| {
            let wanted = replication.verify;
            let each = replication.replicas.iter();
            each.filter_map(move |replica| Some(Self { config, replication, replica, wanted: wanted? }))
        };
        config.replications.iter().flat_map(of).collect()
    }

    /// Verifies without end, and tells `office` what is found.
    pub(super) async fn run(&self, office: &Office) -> Infallible {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(300));
        loop {
            match self.rolling(office).await {
                Ok(rolling) => return rolling.run().await,
                Err(error) => {
                    let (replication, replica) = (&self.replication.name, &self.replica.name);
                    warn!(replication, replica, %error, "the rolling verification does not begin");
                }
            }
            sleep(backoff.pause()).await;
        }
    }

    async fn rolling(&self, office: &Office) -> Result<Rolling, dynamo::Error> {
        let Self { config, replication, replica, wanted } = self;
        let source = self.table(&replication.source.tables, &replication.source.table).await?;
        let target = self.table(&replica.tables, &replica.writer.table).await?;
        let classes = CLASSES.map(|class| class.as_str());
        let metrics = office.metrics().verification(
            &replication.name,
            &replication.source.table,
            &replica.name,
            &classes,
        );
        let ignored: Vec<_> = replica.writer.guard.iter().map(|guard| guard.attribute.as_str()).collect();
        Ok(Rolling {
            source,
            replica: target,
            digester: Digester::new(&ignored),
            barrier: Barrier::of_rows(config.control.clone(), &replication.name, &replica.name, PATIENCE),
            store: Store::new(config.control.clone(), &replication.name, &replica.name),
            clock: config.clock,
            every: wanted.every,
            tell: Box::new(move |told| match told {
                Told::Compared(items) => metrics.compared(items),
                Told::Found(difference) => metrics.found(difference.class.as_str()),
                Told::Covered(since_unix_ms) => metrics.covered(since_unix_ms),
            }),
        })
    }

    async fn table(&self, tables: &Arc<dyn Tables>, name: &str) -> Result<Table, dynamo::Error> {
        let described = tables.describe(name).await?;
        Ok(Table {
            tables: Arc::clone(tables),
            name: name.to_owned(),
            key: described.key.into_iter().map(|attribute| attribute.name).collect(),
            segments: segments(described.bytes),
            pages: 1,
            units: Bucket::new(Some(self.wanted.read_units)),
        })
    }
}
