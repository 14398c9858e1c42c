//! What the tasks of shards are told while they run, and what they tell.

use super::Running;
use crate::supervisor::plan::{Order, Orders};
use crate::supervisor::shard::Report;

impl Running {
    /// Tells every running shard which replicas it may be read for: one that waited for a parent starts when the
    /// parent's end is durable in that replica.
    pub(super) fn give_orders(&mut self) {
        let wanted = self.wanted();
        let now_unix_ms = self.setup.clock.unix_ms();
        for row in self.rows.values() {
            let Some(live) = self.live.get_mut(&row.shard) else { continue };
            let orders = self.replicas.orders(&wanted, row, &self.rows, &self.lineage);
            let is_read = |orders: &Orders| orders.values().any(Order::runs);
            if is_read(&orders) && !is_read(&live.orders.borrow()) {
                // It was not to be polled before.
                live.started_unix_ms = now_unix_ms;
            }
            live.orders.send_if_modified(|given| {
                let is_new = *given != orders;
                *given = orders;
                is_new
            });
        }
    }

    /// A shard that is still being read came to its end, or to a gap, for some replicas.
    pub(super) async fn reported(&mut self, report: Report) {
        let Report { row, children } = report;
        self.revoke_retries();
        // The shard's task may have ended meanwhile, and told more.
        if self.rows.get(&row.shard).is_some_and(|known| known.counter > row.counter) {
            return;
        }
        self.rows.insert(row.shard.clone(), row);
        self.lineage.merge(&children);
        self.track(children.into_iter().map(|child| child.id).collect()).await;
        self.advance();
    }
}
