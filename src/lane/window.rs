//! The memory of which keys the stream has lately written to, so that a copy never undoes it.
//!
//! A page of a table shows each of its items as it was when the page was read, or a little earlier, and is written some
//! time after. If a change of the stream was applied in between, the page would take it back, and no later record would
//! ever repair it; if the change was a removal, it would resurrect the item. So a copied item is written only if its key
//! has not been touched since a [`Page`]'s reading began, or so much earlier as the reading may have been behind:
//!
//! ```text
//!        staleness     page.begun            sent?
//!  ───|──────────────────|───────────────────|──> time
//!     └── touched in here: dropped ──────────┘
//! ```
//!
//! Dropping is always right, because the stream goes on past the item and brings its final state. Keeping is right because
//! nothing was applied since the moment that the item was read from, so it is at least as new as all that was; what
//! comes later replaces it.
//!
//! Nothing is remembered while nobody copies. What was touched before the window was armed is unknown, so the first page
//! may be read only when that can no longer matter ([`Armed::first_read_at`]). Full keys are kept, in memory of their own: a
//! collision of hashes would lose an item.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::key::Key;
use crate::mutation::{self, Mutation};

/// The memory of one replica's touched keys, shared by clones: the writer's queue, and whoever copies.
#[derive(Debug, Clone)]
pub struct Window {
    shared: Arc<Shared>,
}

/// The right to copy: while it is there, touched keys are remembered.
#[derive(Debug)]
pub struct Armed {
    arm: Arc<Arm>,
}

/// The reading of one page, from the moment in which its request is sent until its items are written or dropped. Clones
/// are the same reading, for a page whose items are handed over in parts.
#[derive(Debug, Clone)]
pub struct Page {
    reading: Arc<Reading>,
}

#[derive(Debug)]
struct Arm {
    shared: Arc<Shared>,
    id: u64,
    staleness: Duration,
    first_read_at: Instant,
}

#[derive(Debug)]
struct Reading {
    arm: Arc<Arm>,
    id: u64,
    begun: Instant,
}

#[derive(Debug)]
struct Shared {
    /// Whether anybody copies. Read without the lock for each batch: who sees it late by the moment that a page's request
    /// takes to come back misses nothing that a page could show otherwise.
    is_armed: AtomicBool,
    state: Mutex<State>,
    /// A page is done with.
    freed: Notify,
    keys_max: usize,
}

#[derive(Debug, Default)]
struct State {
    next_id: u64,
    /// The staleness of each who copies.
    arms: BTreeMap<u64, Duration>,
    /// Pages under way, by the moment in which their reading began.
    pages: BTreeSet<(Instant, u64)>,
    touched: HashMap<Key, Instant, foldhash::fast::FixedState>,
    /// Each key of `touched` once, roughly by how long ago it was touched.
    oldest: VecDeque<(Instant, Key)>,
}

// === impl Window ===

impl Window {
    /// Keys that may be remembered before no further page is read. One takes about 250 bytes (the key's text, an entry of
    /// the map and one of the queue, and their slack), so these are 64 MiB. They are enough for 4,000 keys touched in each
    /// second while pages live five seconds and may be a minute stale, or for 50,000 of consistent pages.
    pub const KEYS_MAX: usize = 1 << 18;

    /// A window that remembers so many keys before no further page is read.
    pub fn new(keys_max: usize) -> Self {
        let shared = Shared {
            is_armed: AtomicBool::new(false),
            state: Mutex::default(),
            freed: Notify::new(),
            keys_max,
        };
        Self { shared: Arc::new(shared) }
    }

    /// Begins to remember, for pages that show the table as it was up to `staleness` before their reading began (zero for
    /// consistent ones).
    pub fn arm(&self, staleness: Duration) -> Armed {
        let mut state = self.shared.state();
        let id = state.new_id();
        state.arms.insert(id, staleness);
        self.shared.is_armed.store(true, Ordering::Release);
        let first_read_at = Instant::now() + staleness;
        Armed { arm: Arc::new(Arm { shared: Arc::clone(&self.shared), id, staleness, first_read_at }) }
    }

    /// Keys that are remembered now.
    pub fn keys(&self) -> usize {
        self.shared.state().touched.len()
    }

    /// Whether anybody copies.
    pub(super) fn is_armed(&self) -> bool {
        self.shared.is_armed.load(Ordering::Relaxed)
    }

    /// The stream's changes of these keys are settled now.
    pub(super) fn touch<'a>(&self, keys: impl Iterator<Item = &'a Key>) {
        let now = Instant::now();
        let mut state = self.shared.state();
        for key in keys {
            if mutation::is_on(Mutation::GuardDroppedOnOverflow)
                && state.touched.len() >= self.shared.keys_max
            {
                return;
            }
            state.touch(key, now);
        }
        state.prune(now);
    }

    /// Whether the stream has written to this key since the page was read, or may have.
    pub(super) fn is_touched_since(&self, page: &Page, key: &Key) -> bool {
        if mutation::is_on(Mutation::CopyWithoutGuard) {
            return false;
        }
        let staleness = match mutation::is_on(Mutation::CopyWindowZero) {
            true => Duration::ZERO,
            false => page.reading.arm.staleness,
        };
        let touched = self.shared.state().touched.get(key).copied();
        touched.is_some_and(|at| at + staleness >= page.reading.begun)
    }
}

impl Default for Window {
    fn default() -> Self {
        Self::new(Self::KEYS_MAX)
    }
}

// === impl Armed ===

impl Armed {
    /// When the first page may be read: what was touched before the window was armed can no longer matter to it.
    pub fn first_read_at(&self) -> Instant {
        self.arm.first_read_at
    }

    /// A page whose request is sent now.
    pub fn page(&self) -> Page {
        let begun = Instant::now();
        debug_assert!(
            begun >= self.arm.first_read_at || mutation::is_on(Mutation::CopyWithoutWait),
            "a page is read before the window knows enough"
        );
        let mut state = self.arm.shared.state();
        let id = state.new_id();
        state.pages.insert((begun, id));
        Page { reading: Arc::new(Reading { arm: Arc::clone(&self.arm), id, begun }) }
    }

    /// Whether another page may be read: touched keys take no more memory than they may. When no page is under way there
    /// always is room, since waiting would not make any.
    pub fn has_room(&self) -> bool {
        let state = self.arm.shared.state();
        state.pages.is_empty() || state.touched.len() < self.arm.shared.keys_max
    }

    /// Waits until another page may be read.
    pub async fn room(&self) {
        loop {
            let mut freed = std::pin::pin!(self.arm.shared.freed.notified());
            freed.as_mut().enable();
            if self.has_room() {
                return;
            }
            freed.await;
        }
    }
}

// === impl Page ===

impl Page {
    /// When its reading began.
    pub fn begun(&self) -> Instant {
        self.reading.begun
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        let shared = &self.arm.shared;
        let mut state = shared.state();
        state.pages.remove(&(self.begun, self.id));
        state.prune(Instant::now());
        drop(state);
        shared.freed.notify_waiters();
    }
}

impl Drop for Arm {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.arms.remove(&self.id);
        if state.arms.is_empty() {
            self.shared.is_armed.store(false, Ordering::Release);
            *state = State { next_id: state.next_id, ..State::default() };
        }
    }
}

// === impl Shared ===

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while holding it")
    }
}

// === impl State ===

impl State {
    fn new_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    fn touch(&mut self, key: &Key, now: Instant) {
        if let Some(at) = self.touched.get_mut(key) {
            *at = now;
            return;
        }
        let key = key.detached();
        self.oldest.push_back((now, key.clone()));
        self.touched.insert(key, now);
    }

    /// Forgets what can matter to no page that is under way or is yet to be read.
    fn prune(&mut self, now: Instant) {
        let staleness = self.arms.values().max().copied().unwrap_or_default();
        let begun = self.pages.first().map_or(now, |(begun, _)| *begun);
        while let Some((at, _)) = self.oldest.front()
            && *at + staleness < begun
        {
            let (_, key) = self.oldest.pop_front().expect("it was there just now");
            match self.touched.get(&key).copied() {
                // It was touched again since. It goes to the end, which is not quite its place: it may stay longer than it
                // must, but blocks nothing and is there only once.
                Some(again) if again + staleness >= begun => self.oldest.push_back((again, key)),
                _ => drop(self.touched.remove(&key)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn key(name: u32) -> Key {
        let text = Bytes::from(format!(r#"{{"k":{{"N":"{name}"}}}}"#));
        Key::from_json(&text, 0..text.len()).expect("a key")
    }

    const W: Duration = Duration::from_secs(60);

    async fn pass(seconds: u64) {
        tokio::time::advance(Duration::from_secs(seconds)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn keys_are_remembered_for_as_long_as_a_page_may_show_them_old() {
        let window = Window::default();
        assert!(!window.is_armed());
        let armed = window.arm(W);
        window.touch([key(1)].iter());
        assert_eq!(armed.first_read_at(), Instant::now() + W);
        pass(60).await;
        let page = armed.page();
        pass(1).await;
        window.touch([key(2)].iter());
        assert!(window.is_touched_since(&page, &key(1)) && window.is_touched_since(&page, &key(2)));
        let later = armed.page();
        assert!(!window.is_touched_since(&later, &key(1)) && window.is_touched_since(&later, &key(2)));
        pass(200).await;
        window.touch([key(3)].iter());
        assert_eq!(window.keys(), 3, "a page under way needs them");
        drop(page.clone());
        assert_eq!(window.keys(), 3, "it is under way still");
        drop(page);
        assert_eq!(window.keys(), 2);
        drop(later);
        assert_eq!(window.keys(), 1);
        drop(armed);
        assert!(!window.is_armed());
        assert_eq!(window.keys(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_that_is_touched_again_and_again_takes_one_place() {
        let window = Window::default();
        let armed = window.arm(W);
        for _ in 0..200 {
            window.touch([key(1), key(2)].iter());
            pass(1).await;
        }
        assert_eq!(window.shared.state().oldest.len(), 2);
        let page = armed.page();
        assert!(window.is_touched_since(&page, &key(1)));
        drop(page);
        pass(120).await;
        window.touch([key(3)].iter());
        assert_eq!((window.keys(), window.shared.state().oldest.len()), (1, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn the_copy_waits_when_too_much_is_remembered_and_the_guard_stays() {
        let window = Window::new(10);
        let armed = window.arm(Duration::ZERO);
        armed.room().await;
        let page = armed.page();
        pass(1).await;
        let keys: Vec<_> = (0..20).map(key).collect();
        window.touch(keys.iter());
        assert!(keys.iter().all(|key| window.is_touched_since(&page, key)));
        let mut room = Box::pin(armed.room());
        assert!(futures_util::poll!(&mut room).is_pending());
        pass(1).await;
        drop(page);
        assert!(futures_util::poll!(&mut room).is_ready());
        assert_eq!(window.keys(), 0);
    }
}
