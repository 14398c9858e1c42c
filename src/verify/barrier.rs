//! How to wait until a replica has all that its source had.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::time::{Instant, sleep};

use super::Error;
use crate::control::{self, Control};
use crate::lease::{Leases, Rows};

/// How often a replica is asked how far it is.
const ASK_INTERVAL: Duration = Duration::from_millis(500);

/// Asks up to which time of the source's changes a replica has all, in milliseconds since 1970; `None` when nothing is
/// proven.
pub type Watermark = Box<dyn Fn() -> BoxFuture<'static, Result<Option<i64>, control::Error>> + Send + Sync>;

/// How to wait.
pub enum Barrier {
    /// By what the replication proves.
    Applied {
        /// Who is asked.
        through_unix_ms: Watermark,
        /// How long a replica may take. What cannot be told then is unstable.
        patience: Duration,
    },
    /// By waiting this long, where nobody can be asked.
    Grace(Duration),
}

// === impl Barrier ===

impl Barrier {
    /// By the checkpoints of `replica` in the rows of `replication`.
    pub fn of_rows(control: Control, replication: &str, replica: &str, patience: Duration) -> Self {
        // Nothing is written, so the worker's name does not matter.
        let leases = Arc::new(Leases::new(control, replication, ""));
        let replica: Arc<str> = replica.into();
        let through_unix_ms = move || -> BoxFuture<'static, _> {
            let (leases, replica) = (Arc::clone(&leases), Arc::clone(&replica));
            Box::pin(async move { Ok(Rows::new(&leases.load().await?).watermark_unix_ms(&replica)) })
        };
        Self::Applied { through_unix_ms: Box::new(through_unix_ms), patience }
    }

    /// Waits until the replica has all that was written to the source by `unix_ms`. `false` when it does not get there.
    pub(super) async fn pass(&self, unix_ms: i64) -> Result<bool, Error> {
        let (through_unix_ms, patience) = match self {
            Self::Applied { through_unix_ms, patience } => (through_unix_ms, *patience),
            Self::Grace(grace) => {
                sleep(*grace).await;
                return Ok(true);
            }
        };
        let began = Instant::now();
        loop {
            let through = through_unix_ms().await.map_err(Error::Barrier)?;
            if through.is_some_and(|through| through >= unix_ms) {
                return Ok(true);
            }
            if began.elapsed() >= patience {
                return Ok(false);
            }
            sleep(ASK_INTERVAL).await;
        }
    }
}
