//! A value that others follow, like tokio's `watch`, on which it stands.
//!
//! That one spreads its listeners over eight lists at random, so that two of one value are woken in an order that no
//! seed decides. Here they are woken in the order in which they began to wait, which makes a simulated run one that can
//! be repeated. Values change a few times a second at most, so one list is enough.

use std::sync::Arc;

use tokio::sync::Notify;
use tokio::sync::watch::error::RecvError;
use tokio::sync::watch::{self, Ref};

/// Sets the value. When the last clone is dropped, listeners are told.
#[derive(Debug, Clone)]
pub(super) struct Sender<T> {
    // Dropped before its listeners are woken, who then find it closed.
    value: watch::Sender<T>,
    told: Told,
}

/// Sees the value, and waits for another.
#[derive(Debug, Clone)]
pub(super) struct Receiver<T> {
    value: watch::Receiver<T>,
    told: Arc<Notify>,
}

/// Wakes the listeners, and does so at its end.
#[derive(Debug, Clone)]
struct Told(Arc<Notify>);

/// A sender of `value`, and a receiver who has seen it.
pub(super) fn channel<T>(value: T) -> (Sender<T>, Receiver<T>) {
    let sender = Sender::new(value);
    let receiver = sender.subscribe();
    (sender, receiver)
}

// === impl Sender ===

impl<T> Sender<T> {
    pub(super) fn new(value: T) -> Self {
        Self { value: watch::Sender::new(value), told: Told(Arc::default()) }
    }

    /// A receiver who has seen what is there.
    pub(super) fn subscribe(&self) -> Receiver<T> {
        Receiver { value: self.value.subscribe(), told: Arc::clone(&self.told.0) }
    }

    /// Sets the value, and gives the one before.
    pub(super) fn send_replace(&self, value: T) -> T {
        let before = self.value.send_replace(value);
        self.told.0.notify_waiters();
        before
    }

    /// Changes the value; `modify` says whether it did. Gives what it said.
    pub(super) fn send_if_modified(&self, modify: impl FnOnce(&mut T) -> bool) -> bool {
        let modified = self.value.send_if_modified(modify);
        if modified {
            self.told.0.notify_waiters();
        }
        modified
    }

    pub(super) fn borrow(&self) -> Ref<'_, T> {
        self.value.borrow()
    }

    /// Whether nobody listens any more.
    pub(super) fn is_closed(&self) -> bool {
        self.value.is_closed()
    }
}

// === impl Receiver ===

impl<T> Receiver<T> {
    pub(super) fn borrow(&self) -> Ref<'_, T> {
        self.value.borrow()
    }

    /// The value, which counts as seen.
    pub(super) fn borrow_and_update(&mut self) -> Ref<'_, T> {
        self.value.borrow_and_update()
    }

    /// Waits for a value that was not seen, which then counts as seen. It may be dropped at any time.
    ///
    /// # Errors
    /// When the sender is gone, and its last value was seen.
    pub(super) async fn changed(&mut self) -> Result<(), RecvError> {
        loop {
            // Made before the look, so that it is told of whatever comes after that.
            let told = self.told.notified();
            match self.value.has_changed() {
                Ok(false) => told.await,
                Ok(true) => {
                    self.value.mark_unchanged();
                    return Ok(());
                }
                // It is closed, so this waits for nobody: the last value may be one that was not seen.
                Err(_) => return self.value.changed().await,
            }
        }
    }

    /// Waits until the value is as `wanted`, which then counts as seen.
    ///
    /// # Errors
    /// When the sender is gone, and its last value was seen.
    pub(super) async fn wait_for(&mut self, wanted: impl Fn(&T) -> bool) -> Result<(), RecvError> {
        while !wanted(&self.borrow_and_update()) {
            self.changed().await?;
        }
        Ok(())
    }
}

// === impl Told ===

impl Drop for Told {
    fn drop(&mut self) {
        self.0.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::task::Tasks;

    /// With tokio's own, eight listeners hardly ever are woken in this order.
    #[tokio::test]
    async fn listeners_are_woken_in_the_order_in_which_they_began_to_wait() {
        let (sender, receiver) = channel(0);
        let woken = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = Tasks::new();
        for listener in 0..8 {
            let (mut receiver, woken) = (receiver.clone(), Arc::clone(&woken));
            tasks.spawn(tracing::Span::none(), async move {
                while receiver.changed().await.is_ok() {
                    woken.lock().expect("nobody panics with it").push((*receiver.borrow(), listener));
                }
            });
        }
        for value in 1..=3 {
            tokio::task::yield_now().await;
            sender.send_replace(value);
        }
        drop(sender);
        while tasks.next().await.is_some() {}
        let expected: Vec<_> = (1..=3).flat_map(|value| (0..8).map(move |it| (value, it))).collect();
        assert_eq!(*woken.lock().expect("nobody panicked with it"), expected);
    }

    #[tokio::test]
    async fn the_last_value_is_seen_although_its_sender_is_gone() {
        let (sender, mut receiver) = channel(0);
        assert!(!sender.send_if_modified(|_| false), "nothing was changed");
        sender.send_replace(1);
        drop(sender);
        assert!(receiver.changed().await.is_ok() && *receiver.borrow() == 1);
        assert!(receiver.changed().await.is_err());
    }

    #[tokio::test]
    async fn one_who_waits_is_told_that_the_sender_is_gone() {
        let (sender, mut receiver) = channel(0);
        let mut tasks = Tasks::new();
        tasks.spawn(
            tracing::Span::none(),
            async move { receiver.wait_for(|value| *value == 1).await.is_err() },
        );
        tokio::task::yield_now().await;
        drop(sender);
        assert_eq!(tasks.next().await, Some(true));
    }
}
