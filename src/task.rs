//! Tasks with a name and an owner. The only place that spawns.

#[cfg(test)]
pub(crate) mod node;

use std::future::Future;

use tokio::task::JoinSet;
use tracing::Instrument;

/// Tasks of one owner, which end when the owner is dropped. A panic in one of them is a bug that goes on in the
/// owner; it is never swallowed.
#[derive(Debug)]
pub struct Tasks<T> {
    set: JoinSet<T>,
}

impl<T: Send + 'static> Tasks<T> {
    /// No task yet.
    pub fn new() -> Self {
        Self { set: JoinSet::new() }
    }

    /// Starts `future` in `span`.
    pub fn spawn(&mut self, span: tracing::Span, future: impl Future<Output = T> + Send + 'static) {
        #[cfg(test)]
        let future = node::here(future);
        self.set.spawn(future.instrument(span));
    }

    /// The next result, in order of completion; `None` when no task is left.
    pub async fn next(&mut self) -> Option<T> {
        match self.set.join_next().await? {
            Ok(result) => Some(result),
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_cancelled) => None,
        }
    }

    /// How many still run, or have ended and were not asked for.
    pub fn len(&self) -> usize {
        self.set.len()
    }

    /// Whether none is left.
    pub fn is_empty(&self) -> bool {
        self.set.is_empty()
    }
}

impl<T: Send + 'static> Default for Tasks<T> {
    fn default() -> Self {
        Self::new()
    }
}
