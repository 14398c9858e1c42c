//! A table's read or write capacity as something that is reserved before it is used.
//!
//! A service counts what requests cost in units and says so in its answers, after the fact. Whoever reads a whole table
//! beside its other users holds itself to a number of units per second: it reserves what a request is expected to cost,
//! sends it, and settles by what it did cost.
//!
//! ```text
//!  reserve(predicted) ── waits while there is debt ──> request ──> settle(actual)
//!                                                        │ throttled(width): the rate is halved, and grows back
//! ```
//!
//! The balance may go below zero, by one request that costs more than is there, and then nobody is served until the debt
//! is paid; so a page that costs more than a second's budget is read all the same, and the average holds. Since many
//! requests are under way at once, each is charged before it is sent: charged by their answers, as many as are under way
//! would overshoot together. Over any time the requests that were begun cost no more than the rate times that time and
//! one request, as far as predictions are right; what one was wrong by is made up for by whoever comes next.
//!
//! What is decided is decided in `account`, without a clock.

mod account;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use crate::fault::Width;

use account::Account;

/// What the largest page costs: 1 MB, read consistently (developer guide, "Read consistency").
pub const PAGE_UNITS_MAX: f64 = 256.0;

/// Units that a read of items of `bytes` together costs, for servers that do not tell; items of JSON text count
/// somewhat more than they do at the service.
pub fn read_units(bytes: usize, consistent: bool) -> f64 {
    /// A unit reads so many bytes consistently, or twice as many otherwise.
    const UNIT_BYTES: usize = 4096;
    let units = bytes.div_ceil(UNIT_BYTES).max(1) as f64;
    if consistent { units } else { units / 2.0 }
}

/// Units per second, shared by clones.
#[derive(Debug, Clone)]
pub struct Bucket {
    shared: Arc<Shared>,
}

/// Units that are reserved for one request. Dropped unsettled, what was predicted stays charged: the request may have
/// been served although nobody heard of it.
#[derive(Debug)]
#[must_use = "a request that was answered is settled by what it cost"]
pub struct Charge {
    shared: Arc<Shared>,
    predicted: f64,
}

#[derive(Debug)]
struct Shared {
    account: Mutex<Account>,
    /// Held by the one who waits first, so that the others stand in line behind.
    turn: tokio::sync::Mutex<()>,
    /// At most one waits for it, the holder of `turn`.
    changed: Notify,
}

// === impl Bucket ===

impl Bucket {
    /// A bucket of `units_per_s`, at least one. `None` is as much as the table gives: nobody waits until it throttles.
    pub fn new(units_per_s: Option<f64>) -> Self {
        let shared = Shared {
            account: Mutex::new(Account::new(units_per_s, Instant::now())),
            turn: tokio::sync::Mutex::new(()),
            changed: Notify::new(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Charges `predicted` units, waiting in line until no debt is left.
    pub async fn reserve(&self, predicted: f64) -> Charge {
        let _turn = self.shared.turn.lock().await;
        loop {
            let free_at = {
                let now = Instant::now();
                let mut account = self.shared.account();
                let free_at = account.free_at(now);
                if free_at <= now {
                    let predicted = account.charge(predicted, now);
                    return Charge { shared: Arc::clone(&self.shared), predicted };
                }
                free_at
            };
            tokio::select! {
                biased;
                () = self.shared.changed.notified() => {}
                () = sleep_until(free_at) => {}
            }
        }
    }

    /// What a request is expected to cost, by those that were settled; before the first as much as any can
    /// ([`PAGE_UNITS_MAX`]).
    pub fn predicted(&self) -> f64 {
        self.shared.account().predicted()
    }

    /// Most items for a page that fits in about a second's budget, when each costs `item_units`; `None` when any page
    /// does.
    pub fn items_max(&self, item_units: f64) -> Option<u32> {
        let per_s = self.shared.account().rate(Instant::now());
        if per_s >= PAGE_UNITS_MAX {
            return None;
        }
        // The smallest cost is half a unit for 4 KB, of which many items may share one.
        let items = per_s / item_units.max(0.001);
        Some(items.clamp(1.0, f64::from(u32::MAX)) as u32)
    }

    /// Units per second that it gives now; `None` while that is as many as the table does.
    pub fn units_per_s(&self) -> Option<f64> {
        Some(self.shared.account().rate(Instant::now())).filter(|rate| rate.is_finite())
    }

    /// A request was refused because of load. For a whole table, or more, the rate is halved and grows back bit by bit;
    /// a hot range of keys says nothing about the others: whoever read there waits by itself.
    pub fn throttled(&self, width: Width) {
        if width != Width::KeyRange {
            self.shared.account().cut(Instant::now());
        }
    }
}

// === impl Charge ===

impl Charge {
    /// The request cost `actual` units. Where the server does not tell, that is an estimate ([`read_units`]), not 0.
    pub fn settle(self, actual: f64) {
        self.shared.account().settle(self.predicted, actual, Instant::now());
        self.shared.changed.notify_one();
    }

    /// The request was refused, or never sent: it cost nothing.
    pub fn refund(self) {
        self.shared.account().refund(self.predicted, Instant::now());
        self.shared.changed.notify_one();
    }
}

// === impl Shared ===

impl Shared {
    fn account(&self) -> MutexGuard<'_, Account> {
        self.account.lock().expect("nothing panics while holding it")
    }
}
