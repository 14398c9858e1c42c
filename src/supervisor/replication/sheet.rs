//! What a replication shows of itself: in the status and in the metrics.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use tokio::time::Instant;

use super::{Running, SHOW_INTERVAL};
use crate::lease::{Row, Rows};
use crate::supervisor::plan::{Order, Standing};
use crate::supervisor::shard::Live;
use crate::supervisor::status::{self, Gap, Ledger, Shards};
use crate::telemetry;

/// A replica whose writes fail for this long is stalled; a throttle or a blip is over sooner.
const STALLED_AFTER_MS: i64 = 30_000;

/// A replica with waiting changes of which none was settled for this long is stalled, whatever it says.
const UNSETTLED_AFTER_MS: i64 = 60_000;

/// A replica that is further behind than this is catching up.
const CATCHING_UP_MS: i64 = 60_000;

/// The sheet of a replication that has not started, and why.
pub(super) fn not_started(config: &crate::supervisor::Replication, error: String) -> status::Replication {
    status::Replication { error: Some(error), ..empty(config) }
}

/// The sheet of a replication of which nothing is known yet.
pub(in crate::supervisor) fn empty(config: &crate::supervisor::Replication) -> status::Replication {
    let replica = |replica: &crate::supervisor::Replica| status::Replica {
        name: replica.name.clone(),
        table: replica.writer.table.clone(),
        state: status::State::Starting,
        applied_through_unix_ms: None,
        lag_seconds: None,
        last_applied_unix_ms: None,
        headroom_seconds: None,
        pending_changes: 0,
        buffer_bytes: 0,
        buffer_limit_bytes: replica.buffer_bytes as u64,
        batches_in_flight: 0,
        detached_shards: 0,
        parked_keys: 0,
        ledger: Ledger::default(),
        error: None,
    };
    status::Replication {
        name: config.name.clone(),
        source: config.source.table.clone(),
        stream_arn: None,
        shards: Shards::default(),
        discovered_unix_ms: None,
        oldest_poll_unix_ms: None,
        gaps: Vec::new(),
        error: None,
        affinity: None,
        replicas: config.replicas.iter().map(replica).collect(),
    }
}

impl Running {
    /// Hangs up the sheet, and sets the gauges that say the same.
    pub(super) fn show(&mut self) {
        let now_unix_ms = self.setup.clock.unix_ms();
        let shards = self.count_shards();
        self.permit_retries(&shards);
        self.permit_copies();
        let gaps = self.gaps();
        let oldest_poll_unix_ms = self.oldest_poll_unix_ms();
        self.move_watermarks();
        let replicas = (0..self.channels.len()).map(|index| self.replica(index, now_unix_ms)).collect();
        self.metrics.set_shards(telemetry::Shards {
            active: shards.active,
            waiting: shards.waiting,
            ended: shards.ended,
            unowned: shards.unowned,
            elsewhere: shards.elsewhere,
            gap: shards.gap,
        });
        self.metrics.set_leases_owned(shards.active);
        self.metrics.set_gaps(gaps.len() as u64);
        self.metrics.set_discovered(self.discovered_unix_ms);
        self.metrics.set_oldest_poll(oldest_poll_unix_ms);
        let sheet = status::Replication {
            stream_arn: Some(self.source.stream.to_string()),
            shards,
            discovered_unix_ms: self.discovered_unix_ms,
            oldest_poll_unix_ms,
            gaps,
            error: self
                .error
                .clone()
                .or_else(|| self.control_error.clone())
                .or_else(|| self.wishes_unknown())
                .or_else(|| self.reading_trouble()),
            affinity: self.affinity.status(),
            replicas,
            ..empty(&self.setup.config)
        };
        self.setup.board.hang(self.setup.index, sheet);
    }

    fn permit_retries(&self, shards: &Shards) {
        let until = Instant::now() + 2 * SHOW_INTERVAL;
        let holds_all = shards.elsewhere == 0 && shards.unowned == 0 && !self.live.is_empty();
        // What is being given up is another worker's before this one hears of it, and so are children not yet known.
        let gives_up = self.holds.values().any(|(hold, _)| hold.drain().is_cancelled());
        let may_write = holds_all
            && !gives_up
            && !self.lacks_children()
            && self.live.values().all(|live| live.fence.is_open(until));
        let wanted = self.wanted();
        for channel in &self.channels {
            if may_write && wanted.runs(&channel.replica) {
                channel.retries.open_until(until);
            } else {
                channel.retries.revoke();
            }
        }
    }

    /// Nothing that was parked is tried again before the next turn finds that it may be.
    pub(super) fn revoke_retries(&self) {
        self.channels.iter().for_each(|channel| channel.retries.revoke());
    }

    /// Whether a shard that the stream still shows ended for a replica, and none of its children is known.
    fn lacks_children(&self) -> bool {
        let parents: BTreeSet<_> = self.rows.values().filter_map(|row| row.parent.as_ref()).collect();
        let is_last = |row: &Row| row.expires_unix_s.is_none() && !parents.contains(&row.shard);
        let ended = |row: &Row| self.replicas.names.iter().any(|replica| row.is_done_for(replica));
        self.rows.values().any(|row| is_last(row) && ended(row) && self.lineage.get(&row.shard).is_some())
    }

    fn count_shards(&self) -> Shards {
        let mut shards = Shards::default();
        for row in self.rows.values() {
            let count = match self.replicas.standing(row, &self.rows, &self.lineage) {
                Standing::Gap => &mut shards.gap,
                _ if self.live.contains_key(&row.shard) => &mut shards.active,
                Standing::Done => &mut shards.ended,
                Standing::Waiting => &mut shards.waiting,
                Standing::Ready => match row.owner.as_deref() {
                    Some(owner) if owner != self.setup.worker => &mut shards.elsewhere,
                    _ => &mut shards.unowned,
                },
            };
            *count += 1;
        }
        shards
    }

    fn gaps(&self) -> Vec<Gap> {
        let advice = format!(
            "replicas miss changes of this shard: `dynamirror seek {} --to trim_horizon` reads what the stream still \
             has of it and gives up the rest; verify or copy them then",
            self.setup.config.name
        );
        let gaps = |row: &Row| {
            let gap = |(replica, gap): (Option<&str>, crate::lease::Gap)| Gap {
                shard: Some(row.shard.to_string()),
                reason: match replica {
                    Some(replica) => format!("replica `{replica}`: {}", gap.reason),
                    None => gap.reason,
                },
                advice: advice.clone(),
                found_unix_ms: gap.found_unix_ms,
            };
            row.all_gaps(&self.replicas.names).into_iter().map(gap).collect::<Vec<_>>()
        };
        self.stream_gap.iter().cloned().chain(self.rows.values().flat_map(gaps)).collect()
    }

    /// Of the shards that are read for somebody. One that was just started counts from its start.
    fn oldest_poll_unix_ms(&self) -> Option<i64> {
        let is_read = |live: &&Live| live.orders.borrow().values().any(Order::runs);
        let polled = |live: &Live| live.reading.last_poll_unix_ms().unwrap_or(0).max(live.started_unix_ms);
        self.live.values().filter(is_read).map(polled).min()
    }

    /// Until it is known whether a replica is to pause, nothing is written to any.
    fn wishes_unknown(&self) -> Option<String> {
        let unknown = self.setup.wishes.borrow().is_none();
        unknown.then(|| "what people want of replicas cannot be read from the control table".to_owned())
    }

    fn reading_trouble(&self) -> Option<String> {
        self.live.iter().find_map(|(shard, live)| {
            let trouble = live.trouble.lock().expect("nothing panics while holding it");
            trouble.as_ref().map(|text| format!("shard {shard} is not read: {text}"))
        })
    }

    fn replica(&self, index: usize, now_unix_ms: i64) -> status::Replica {
        let through = self.applied_through[index];
        let config = &self.setup.config.replicas[index];
        let channel = &self.channels[index];
        let gauges = &channel.gauges;
        let counts = gauges.counts();
        let trouble = gauges.trouble();
        let fails =
            trouble.as_ref().is_some_and(|trouble| now_unix_ms - trouble.since_unix_ms > STALLED_AFTER_MS);
        let stuck =
            gauges.unsettled_since_unix_ms().is_some_and(|since| now_unix_ms - since > UNSETTLED_AFTER_MS);
        let detached_shards = self.detached_shards(&channel.replica);
        let state = match through {
            _ if self.wish(&config.name).is_some_and(|wish| wish.is_paused()) => status::State::Paused,
            _ if fails || stuck => status::State::Stalled,
            None => status::State::Starting,
            Some(_) if detached_shards > 0 => status::State::CatchingUp,
            Some(through) if now_unix_ms - through > CATCHING_UP_MS => status::State::CatchingUp,
            Some(_) => status::State::Streaming,
        };
        let metrics = &self.replica_metrics[index];
        metrics.set_applied_through(through);
        metrics.set_state(match state {
            status::State::Starting => telemetry::State::Starting,
            status::State::CatchingUp => telemetry::State::CatchingUp,
            status::State::Streaming => telemetry::State::Streaming,
            status::State::Stalled => telemetry::State::Stalled,
            status::State::Paused => telemetry::State::Paused,
        });
        metrics.set_parked_keys(gauges.parked_keys());
        let (used, limit) = (channel.budget.used_bytes() as u64, channel.budget.limit_bytes() as u64);
        metrics.set_buffer(gauges.pending(), used, limit);
        status::Replica {
            name: config.name.clone(),
            table: config.writer.table.clone(),
            state,
            applied_through_unix_ms: through,
            lag_seconds: None,
            last_applied_unix_ms: gauges.newest_applied_unix_ms(),
            headroom_seconds: None,
            pending_changes: gauges.pending(),
            buffer_bytes: used,
            buffer_limit_bytes: limit,
            batches_in_flight: gauges.batches_in_flight(),
            detached_shards,
            parked_keys: gauges.parked_keys(),
            ledger: Ledger {
                read: counts.read,
                applied: counts.settled.applied(),
                superseded: counts.settled.superseded,
                stale: counts.settled.stale,
                coalesced: counts.settled.coalesced,
                filtered: counts.filtered,
                parked: counts.settled.parked,
                abandoned: counts.settled.abandoned,
            },
            error: trouble.map(|trouble| trouble.text),
        }
    }

    /// Shards that this worker reads for the replica by itself.
    fn detached_shards(&self, replica: &str) -> u64 {
        let is_detached =
            |live: &&Live| live.seen(replica).is_some_and(|seen| seen.detached.load(Ordering::Relaxed));
        self.live.values().filter(is_detached).count() as u64
    }

    /// Looks how far replicas are. With no shard that tells, one stays where it was; as it does when the stream was
    /// replaced, because what the old one still holds is not read.
    fn move_watermarks(&mut self) {
        if self.stream_gap.is_some() {
            return;
        }
        let known = Rows::new(self.rows.values());
        let least: Vec<_> =
            self.channels.iter().map(|channel| self.least(&known, &channel.replica)).collect();
        for (through, least) in self.applied_through.iter_mut().zip(least) {
            *through = least.unwrap_or(*through);
        }
    }

    /// The least time that a shard which [`Rows::bounding`] names has reached for `replica`, by what this worker has
    /// applied and not written into its row yet. A parent that is listed is about to get its row, and its child waits.
    fn least(&self, known: &Rows<'_>, replica: &str) -> Option<Option<i64>> {
        let tells = |row: &&Row| {
            let waits =
                || self.replicas.standing_of(replica, row, &self.rows, &self.lineage) == Standing::Waiting;
            row.checkpoints.contains_key(replica) && !waits()
        };
        let through = |row: &Row| {
            let live = self.live.get(&row.shard).filter(|_| !row.is_done_for(replica));
            // What is read here is known here: after a seek the row says for a while what was applied before.
            match live.and_then(|live| live.seen(replica)) {
                Some(seen) => seen.applied_through.get(),
                None => row.checkpoints.get(replica)?.applied_through_unix_ms,
            }
        };
        known.bounding(replica).filter(tells).map(|row| known.reached(row, replica, through)).min()
    }
}
