//! Every metric, once: its name, type, labels and meaning. What is registered, what tests expect and what
//! `deploy/METRICS.md` says are all read from here.

/// One metric as it is exposed.
#[derive(Debug)]
pub(super) struct Metric {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) labels: &'static [&'static str],
    pub(super) help: &'static str,
}

/// What its numbers are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts by upper bounds, in seconds.
    Histogram(&'static [f64]),
}

/// From a source's creation time to the replica's answer. The source's times are whole seconds, so nothing below
/// one second means anything; the last bound is the 24 hours after which a stream forgets.
const APPLY_SECONDS: &[f64] =
    &[1.0, 2.0, 3.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 900.0, 3600.0, 21600.0, 86400.0];

/// One request to a service, from a fast read in the same region to the longest attempt anybody allows.
const REQUEST_SECONDS: &[f64] = &[0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// From a heartbeat's write at the source to its being seen in the replica, which is looked for once a second: a poll of
/// the stream and a write take less than a second, a take-over half a minute, and after minutes it is counted as lost.
const HEARTBEAT_SECONDS: &[f64] = &[0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0];

/// Defines the metrics and `ALL`, so that none is missing from it.
macro_rules! catalogue {
    ($($id:ident = $kind:expr, $name:literal, [$($label:literal),*], $help:literal;)*) => {
        $(pub(super) const $id: Metric =
            Metric { name: $name, kind: $kind, labels: &[$($label),*], help: $help };)*
        /// All of them, in the order of `deploy/METRICS.md`.
        #[cfg(test)]
        pub(super) const ALL: &[Metric] = &[$($id),*];
    };
}

catalogue! {
    // What runs.
    BUILD_INFO = Kind::Gauge, "dynamirror_build_info", ["version", "revision", "rustc", "target"],
        "Always 1; the labels say which build runs.";
    WORKER_INFO = Kind::Gauge, "dynamirror_worker_info", ["worker_id", "fleet"],
        "Always 1; the labels say by which name the worker owns leases, and in which control table.";

    // How far each replica is.
    APPLIED_THROUGH = Kind::Gauge, "dynamirror_applied_through_timestamp_seconds", ["replication", "table", "replica"],
        "Every change made at the source up to this time is in the replica and checkpointed, over the shards that this worker holds. Absent until known.";
    LAG = Kind::Gauge, "dynamirror_lag_seconds", ["replication", "table", "replica"],
        "Time since dynamirror_applied_through_timestamp_seconds, computed at the scrape, never below 0. Absent until known.";
    HEADROOM = Kind::Gauge, "dynamirror_retention_headroom_seconds", ["replication", "table", "replica"],
        "Time until the oldest change that is not applied may be trimmed from the stream: 24 hours minus the lag. Changes are lost at 0. Absent until known.";
    LAST_APPLIED = Kind::Gauge, "dynamirror_last_record_applied_timestamp_seconds", ["replication", "table", "replica"],
        "When the newest change that was applied was made at the source. Absent until one was.";
    APPLY_LATENCY = Kind::Histogram(APPLY_SECONDS), "dynamirror_apply_latency_seconds", ["replica"],
        "From a change's creation at the source, which is in whole seconds, to its write in the replica.";
    ROUTE_STATE = Kind::Gauge, "dynamirror_route_state", ["replication", "table", "replica", "state"],
        "1 for the state that the replica is in: starting, catching_up, streaming, stalled or paused.";
    CLOCK_SKEW = Kind::Counter, "dynamirror_clock_skew_total", [],
        "Scrapes at which a lag came out below 0 and was shown as 0: this host's clock is behind the source's.";

    // The whole fleet.
    COORDINATOR = Kind::Gauge, "dynamirror_coordinator_leader", [],
        "1 on the worker that coordinates the fleet and 0 on the others. Alarm when the sum over all workers is not 1 for a minute.";
    FLEET_APPLIED_THROUGH = Kind::Gauge, "dynamirror_fleet_applied_through_timestamp_seconds", ["replication", "table", "replica"],
        "As dynamirror_applied_through_timestamp_seconds over all shards, whoever holds them; a shard that nobody holds freezes it. From the coordinator, every 10 seconds, for the replications of its own configuration. Absent until known.";
    FLEET_LAG = Kind::Gauge, "dynamirror_fleet_lag_seconds", ["replication", "table", "replica"],
        "Time since dynamirror_fleet_applied_through_timestamp_seconds, computed at the scrape, never below 0. Alarm on this one: a worker's own lag ends with the worker.";
    FLEET_SHARDS = Kind::Gauge, "dynamirror_fleet_shards", ["replication", "table", "state"],
        "Shards of the stream by what the fleet does with them: owned, waiting (for their parents), ended, unowned (ready, and held by nobody or by a worker that no longer renews) or gap. Alarm when unowned stays above 0 for longer than a take-over: two leases.";
    HEARTBEAT_WRITTEN = Kind::Gauge, "dynamirror_heartbeat_last_written_timestamp_seconds", ["replication", "table"],
        "When the coordinator last wrote a heartbeat to the source. Absent until it did.";
    HEARTBEAT_APPLIED = Kind::Gauge, "dynamirror_heartbeat_last_applied_timestamp_seconds", ["replication", "table", "replica"],
        "When the newest heartbeat that was read back from the replica had been written; of several keys, the one that is furthest behind. Absent until one was read. Alarm when it is older than some minutes: nothing else proves an idle stream.";
    HEARTBEAT_ROUNDTRIP = Kind::Histogram(HEARTBEAT_SECONDS), "dynamirror_heartbeat_roundtrip_seconds", ["replica"],
        "From sending a heartbeat to the source to reading it back from the replica, which is tried once a second.";
    HEARTBEATS_LOST = Kind::Counter, "dynamirror_heartbeats_lost_total", ["replication", "table", "replica"],
        "Heartbeats that were not in the replica within five intervals. Alarm when it grows.";
    SCHEMA_DRIFT = Kind::Gauge, "dynamirror_schema_drift", ["replication", "table", "replica"],
        "Settings in which the replica's table differs from its source: see `dynamirror schema diff`. From the coordinator, every hour, and every five minutes while it is not 0. Absent until known.";
    VERIFY_COVERED = Kind::Gauge, "dynamirror_verify_covered_timestamp_seconds", ["replication", "table", "replica"],
        "Every item of source and replica was compared since this time, by the rolling verification. Absent until one pass was made. Alarm when it is older than two times `verify_every`.";
    VERIFY_ITEMS = Kind::Counter, "dynamirror_verify_items_total", ["replication", "table", "replica"],
        "Items that the rolling verification compared.";
    VERIFY_DIFFERENCES = Kind::Counter, "dynamirror_verify_differences_total", ["replication", "table", "replica", "class"],
        "What the rolling verification found, by class: missing, extra, different or unstable (not proven). Each pass counts again what is still there. Alarm when one of the first three grows.";

    // Reading.
    OLDEST_POLL = Kind::Gauge, "dynamirror_reader_oldest_poll_timestamp_seconds", ["replication", "table"],
        "Of the shards being read, the last successful poll of the one that was polled longest ago. Absent while none is read.";
    DISCOVERY = Kind::Gauge, "dynamirror_shard_discovery_last_success_timestamp_seconds", ["replication", "table"],
        "When all shards were last listed. Absent until they were.";
    SHARDS = Kind::Gauge, "dynamirror_shards", ["replication", "table", "state"],
        "Shards of the stream: active (read here), waiting (for parents or a lease), ended, unowned, elsewhere (another worker's) or gap.";
    READ = Kind::Counter, "dynamirror_records_read_total", ["replication", "table"],
        "Records received from the stream.";
    READ_BYTES = Kind::Counter, "dynamirror_read_bytes_total", ["replication", "table"],
        "Bytes of the responses that carried them.";
    GAPS_TOTAL = Kind::Counter, "dynamirror_gaps_total", ["replication", "table"],
        "Times that changes turned out to be unreadable: trimmed, vanished or in a replaced stream.";
    GAPS = Kind::Gauge, "dynamirror_gaps", ["replication", "table"],
        "Gaps that nobody dealt with yet. Replicas miss changes while it is above 0.";

    // Leases and checkpoints.
    LEASES = Kind::Gauge, "dynamirror_leases_owned", ["replication", "table"],
        "Shard leases that this worker holds.";
    LEASE_CHANGES = Kind::Counter, "dynamirror_lease_changes_total", ["reason"],
        "Leases that changed hands: acquired, stolen, lost, released or expired.";
    LEASE_RENEW_FAILURES = Kind::Counter, "dynamirror_lease_renew_failures_total", [],
        "Renewals that failed.";
    CHECKPOINTED = Kind::Gauge, "dynamirror_checkpoint_last_success_timestamp_seconds", ["replication", "table"],
        "When a checkpoint was last written. Absent until one was.";
    CHECKPOINT_FAILURES = Kind::Counter, "dynamirror_checkpoint_failures_total", [],
        "Checkpoints that could not be written.";
    CHECKPOINT_DURATION = Kind::Histogram(REQUEST_SECONDS), "dynamirror_checkpoint_duration_seconds", [],
        "Time to write a checkpoint.";

    // Applying.
    APPLIED = Kind::Counter, "dynamirror_records_applied_total", ["replication", "table", "replica", "op"],
        "Changes written to the replica, by op: put or delete.";
    COALESCED = Kind::Counter, "dynamirror_records_coalesced_total", ["replication", "table", "replica"],
        "Changes replaced, before they were written, by a newer change of the same key.";
    SKIPPED = Kind::Counter, "dynamirror_records_skipped_total", ["replication", "table", "replica", "reason"],
        "Changes left out by rule, by reason: filtered (older than the start, already checkpointed, or not wanted) or stale (refused by the replica's guard, because it has them or newer ones).";
    ABANDONED = Kind::Counter, "dynamirror_records_abandoned_total", ["replication", "table", "replica"],
        "Changes given up because their lease was lost; the next holder reads them again.";
    COPIED = Kind::Counter, "dynamirror_items_copied_total", ["replication", "table", "replica", "outcome"],
        "Items of a copy or a repair, by what became of them: put, delete (the source has none) or superseded (dropped, because the stream brings the final state of their keys).";
    PARKED_TOTAL = Kind::Counter, "dynamirror_records_dead_lettered_total", ["replication", "table", "replica"],
        "Changes that the replica refused and that are kept with their payload.";
    PARKED = Kind::Gauge, "dynamirror_dead_letters", ["replication", "table", "replica"],
        "Keys whose newest change the replica refused.";
    INFLIGHT = Kind::Gauge, "dynamirror_inflight_records", ["replication", "table", "replica"],
        "Changes read and not yet settled.";
    BUFFER = Kind::Gauge, "dynamirror_buffer_bytes", ["replication", "table", "replica"],
        "Memory that they hold.";
    BUFFER_LIMIT = Kind::Gauge, "dynamirror_buffer_limit_bytes", ["replication", "table", "replica"],
        "Memory that they may hold.";
    BACKPRESSURE = Kind::Counter, "dynamirror_backpressure_seconds_total", ["stage"],
        "Time that work stood still for a slower part: stage read (for room in a replica's buffer) or apply (for the replica's rate).";

    // Copying.
    COPY_STATE = Kind::Gauge, "dynamirror_copy_state", ["replication", "table", "replica", "state"],
        "1 for what the replica's copy is doing: none (never asked for, refused or cancelled), wanted, copying, reconciling, settling or done.";
    COPY_SEGMENTS = Kind::Gauge, "dynamirror_copy_segments", ["replication", "table", "replica", "of"],
        "Segments that the copy cuts the source into, and those that are durable to their ends, by of: total or finished.";
    COPY_ITEMS = Kind::Counter, "dynamirror_copy_items_total", ["replication", "table", "replica"],
        "Items that this worker read from the source for a copy; those that were read twice, after a crash, count twice.";
    COPY_BYTES = Kind::Counter, "dynamirror_copy_bytes_total", ["replication", "table", "replica"],
        "Bytes of the responses that carried them.";
    COPY_UNITS = Kind::Counter, "dynamirror_copy_read_units_total", ["replication", "table", "replica"],
        "Read capacity units of the source that they consumed; estimated where the server does not tell.";
    COPY_STARTED = Kind::Gauge, "dynamirror_copy_started_timestamp_seconds", ["replication", "table", "replica"],
        "When the newest copy began. Absent when there was none.";
    COPY_CONSISTENT_SINCE = Kind::Gauge, "dynamirror_copy_consistent_since_timestamp_seconds", ["replication", "table", "replica"],
        "Since when the replica is known to hold all that the source held when its copy ended. Absent until then.";
    REPAIRS = Kind::Counter, "dynamirror_repairs_total", ["replication", "table", "replica", "outcome"],
        "Keys that this worker repaired, by outcome: put (the source has an item) or delete (it has none).";

    // Calls.
    THROTTLES = Kind::Counter, "dynamirror_write_throttles_total", ["replication", "table", "replica", "reason"],
        "Writes that the replica throttled, by how far it reaches: key_range, table, index, account or unknown.";
    CAPACITY = Kind::Counter, "dynamirror_consumed_capacity_units_total", ["replication", "table", "replica", "kind"],
        "Capacity units that calls consumed, by kind: read or write. An empty replica means the source table.";
    CALLS = Kind::Counter, "dynamirror_aws_requests_total", ["service", "operation", "region", "outcome"],
        "Attempts of calls, by outcome: ok, throttled, conflict, access_denied, timeout or error.";
    CALL_DURATION = Kind::Histogram(REQUEST_SECONDS), "dynamirror_aws_request_duration_seconds", ["service", "operation"],
        "Time of an attempt, whatever came of it.";

    // The process; names and meanings are those of every Prometheus client.
    CPU = Kind::Counter, "process_cpu_seconds_total", [],
        "Total user and system CPU time spent in seconds.";
    OPEN_FDS = Kind::Gauge, "process_open_fds", [],
        "Number of open file descriptors.";
    MAX_FDS = Kind::Gauge, "process_max_fds", [],
        "Maximum number of open file descriptors.";
    RESIDENT = Kind::Gauge, "process_resident_memory_bytes", [],
        "Resident memory size in bytes.";
    VIRTUAL = Kind::Gauge, "process_virtual_memory_bytes", [],
        "Virtual memory size in bytes.";
    THREADS = Kind::Gauge, "process_threads", [],
        "Number of OS threads in the process.";
    STARTED = Kind::Gauge, "process_start_time_seconds", [],
        "Start time of the process since unix epoch in seconds.";
}
