//! Waiting for events: a condition is looked at again and again until it holds, or the time for it is over.

use std::time::Duration;

use tokio::time::{Instant, sleep};

/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// How long anything may take. Far more than any of it needs, also on a busy machine with two cores: it only
/// bounds how long a failing test takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

/// Looks until `look` gives something.
///
/// # Panics
/// When it gives nothing for [`PATIENCE`].
pub(crate) async fn until<T>(what: &str, look: impl AsyncFnMut() -> Option<T>) -> T {
    match within(PATIENCE, look).await {
        Some(found) => found,
        None => panic!("waited {PATIENCE:?} in vain for {what}"),
    }
}

/// Looks until `look` gives something, or `patience` is over.
pub(crate) async fn within<T>(patience: Duration, mut look: impl AsyncFnMut() -> Option<T>) -> Option<T> {
    let start = Instant::now();
    loop {
        if let Some(found) = look().await {
            return Some(found);
        }
        if start.elapsed() > patience {
            return None;
        }
        sleep(LOOK).await;
    }
}
