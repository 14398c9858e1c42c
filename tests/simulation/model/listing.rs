//! What `DescribeStream` shows, which is not always how things are.

use std::ops::Bound;

use tokio::time::Instant;

use super::shard::Shard;
use super::world::{Landing, World};
use crate::dynamo::{Describe, Error, Listing, StreamArn};
use crate::fault::{Fault, Width};
use crate::shard::{self, ShardId};

impl World {
    pub(super) fn describe_stream(
        &mut self,
        landing: &Landing,
        arn: &StreamArn,
        what: &Describe,
    ) -> Result<Listing, Error> {
        let now = Instant::now();
        if self.describes_too_often(landing, now) {
            return Err(landing.error(Fault::Throttled(Width::Unknown)));
        }
        let index = self.find_stream(landing, arn.as_str())?;
        let retention = self.settings.retention;
        let quirks = self.sites[usize::from(landing.site.0)].quirks.clone();
        let stream = &self.streams[index];
        let start = what.after.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let filter = what.children_of.as_ref().filter(|_| quirks.knows_children);
        let shown = |shard: &Shard| shard.listed_at <= now && !shard.is_gone(now, retention);
        let wanted = |shard: &Shard| filter.is_none() || shard.parent.as_ref() == filter;
        let shards = stream.by_id.range::<ShardId, _>((start, Bound::Unbounded));
        let shards = shards.map(|(_, index)| &stream.shards[*index]);
        let mut shards = shards.filter(|shard| shown(shard) && wanted(shard)).map(|shard| shard::Shard {
            id: shard.id.clone(),
            parent: shard.parent.clone(),
            closed: shard.closed_at.is_some() && shard.closing_listed_at <= now,
        });
        let mut page: Vec<_> = shards.by_ref().take(quirks.list_page).collect();
        let more = shards.next().is_some() || self.rng.f64() < quirks.listing_empty_page;
        let next = page.last().filter(|_| more).map(|last| last.id.clone());
        if !page.is_empty() && self.rng.f64() < quirks.listing_omits {
            page.remove(self.rng.usize(..page.len()));
        }
        Ok(Listing { shards: page, next, enabled: stream.off_at.is_none(), view: stream.view })
    }

    fn describes_too_often(&mut self, landing: &Landing, now: Instant) -> bool {
        let limit = self.settings.describes_per_second;
        let lately = &mut self.site(landing.site).describes;
        while lately.front().is_some_and(|at| now - *at >= std::time::Duration::from_secs(1)) {
            lately.pop_front();
        }
        if lately.len() >= limit {
            return true;
        }
        lately.push_back(now);
        false
    }
}
