//! Replicas of a running shard that people send elsewhere.

use tracing::info;

use super::Task;
use crate::supervisor::plan::Order;

impl Task {
    /// Puts replicas elsewhere that were sought and have come to rest. The next renewal writes it; if that never comes,
    /// nothing was read from there either.
    pub(super) fn seek(&mut self) {
        let orders = self.orders.borrow().clone();
        for index in 0..self.feeds.len() {
            let feed = &self.feeds[index];
            let Some(Order::Seek(sought)) = orders.get(feed.name()) else { continue };
            let epoch = sought.seek().epoch;
            if !feed.is_at_rest(epoch) || feed.reached().1.epoch >= epoch {
                continue;
            }
            let replica = feed.name().to_owned();
            self.checkpoint();
            let from = sought.put(&mut self.row, &replica);
            info!(replica, target = ?sought.seek().target, from = ?from.position, "replica goes on from elsewhere");
            self.feeds[index].seek(from);
            self.is_sought = true;
            self.reported = self.reported.min(self.count_decided());
            self.look_for_news();
        }
    }
}
