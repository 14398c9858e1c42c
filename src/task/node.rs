//! Machines of a simulation: what is spawned by a task of a node belongs to that node, and stops and dies with it.
//!
//! A frozen node is a process that is stopped: none of its futures is polled, while timers run out and whatever it
//! has asked of others goes on. Thawed, it goes on as if no time had passed. A dead one loses its futures at once.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

thread_local! {
    static CURRENT: RefCell<Option<Node>> = const { RefCell::new(None) };
}

/// One machine. Clones are the same one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Node {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Runs,
    /// With those to be woken when it is thawed.
    Frozen(Vec<Waker>),
    Dead,
}

/// A future of a node.
struct Placed<T> {
    node: Node,
    future: Option<Pin<Box<dyn Future<Output = T> + Send>>>,
}

/// Places `future` on the node whose task asks for it; it is left as it is when there is none.
pub(super) fn here<T: 'static>(
    future: impl Future<Output = T> + Send + 'static,
) -> Pin<Box<dyn Future<Output = T> + Send>> {
    match CURRENT.with_borrow(Clone::clone) {
        Some(node) => node.place(future),
        None => Box::pin(future),
    }
}

// === impl Node ===

impl Node {
    /// Places `future`, and all that it spawns, on this node.
    pub(crate) fn place<T: 'static>(
        &self,
        future: impl Future<Output = T> + Send + 'static,
    ) -> Pin<Box<dyn Future<Output = T> + Send>> {
        Box::pin(Placed { node: self.clone(), future: Some(Box::pin(future)) })
    }

    /// Stops it, unless it is stopped or dead.
    pub(crate) fn freeze(&self) {
        let mut state = self.state();
        if matches!(*state, State::Runs) {
            *state = State::Frozen(Vec::new());
        }
    }

    /// Lets it go on.
    pub(crate) fn thaw(&self) {
        let mut state = self.state();
        if let State::Frozen(wakers) = &mut *state {
            let wakers = std::mem::take(wakers);
            *state = State::Runs;
            drop(state);
            wakers.into_iter().for_each(Waker::wake);
        }
    }

    /// Ends it for good: nothing of it does anything any more.
    pub(crate) fn kill(&self) {
        *self.state() = State::Dead;
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while holding it")
    }
}

// === impl Placed ===

impl<T> Future for Placed<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        let Self { node, future } = self.get_mut();
        if let State::Frozen(wakers) = &mut *node.state() {
            wakers.push(context.waker().clone());
            return Poll::Pending;
        }
        if matches!(*node.state(), State::Dead) {
            *future = None;
        }
        let Some(future) = future else { return Poll::Pending };
        let before = CURRENT.replace(Some(node.clone()));
        let polled = future.as_mut().poll(context);
        CURRENT.set(before);
        polled
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Duration;

    use tokio::time::sleep;

    use super::super::Tasks;
    use super::*;

    /// Counts seconds in a task that is spawned by another.
    fn count(node: &Node) -> (Tasks<()>, Arc<AtomicU32>) {
        let seconds = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&seconds);
        let mut tasks = Tasks::new();
        let outer = node.place(async move {
            let mut inner = Tasks::new();
            inner.spawn(tracing::Span::none(), async move {
                loop {
                    sleep(Duration::from_secs(1)).await;
                    counted.fetch_add(1, Ordering::Relaxed);
                }
            });
            inner.next().await;
        });
        tasks.spawn(tracing::Span::none(), outer);
        (tasks, seconds)
    }

    #[tokio::test(start_paused = true)]
    async fn all_tasks_of_a_node_stop_and_die_with_it() {
        let (first, second) = (Node::default(), Node::default());
        let (_first_tasks, of_first) = count(&first);
        let (_second_tasks, of_second) = count(&second);
        let mut expected = (0, 0);
        let mut pass = async |seconds: u32, first_runs: bool| {
            sleep(Duration::from_secs(seconds.into()) + Duration::from_millis(1)).await;
            expected.0 += if first_runs { seconds } else { 0 };
            expected.1 += seconds;
            let counted = (of_first.load(Ordering::Relaxed), of_second.load(Ordering::Relaxed));
            assert_eq!(counted, expected);
        };
        pass(3, true).await;
        first.freeze();
        pass(10, false).await;
        first.thaw();
        // The timer that ran out meanwhile counts at once.
        tokio::task::yield_now().await;
        assert_eq!(of_first.load(Ordering::Relaxed), 4);
        first.kill();
        sleep(Duration::from_secs(10)).await;
        assert_eq!(of_first.load(Ordering::Relaxed), 4);
        assert_eq!(of_second.load(Ordering::Relaxed), 23);
    }
}
