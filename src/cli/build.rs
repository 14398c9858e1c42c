//! From checked settings to what the supervisor is built from: every setting to its place, and nothing decided.

use std::sync::Arc;
use std::time::Duration;

use super::connections::{Connections, Limits};
use super::heartbeat::{self, Dedicated};
use crate::clock::Clock;
use crate::config::{self, Config, HeartbeatMode};
use crate::control::Control;
use crate::dynamo::Guard;
use crate::telemetry::Metrics;
use crate::{lease, replica, schema, stream, supervisor};

/// The longest part of the grace that is kept for the last checkpoints, which are written when the writes are done
/// or given up.
const LAST_CHECKPOINTS: Duration = Duration::from_secs(5);

/// The longest single write of a control row.
const CONTROL_WRITE: Duration = Duration::from_secs(5);

/// Everything for a worker named `worker`. Makes no request.
pub(super) async fn supervisor(
    config: &Config,
    worker: &str,
    metrics: &Arc<Metrics>,
    connections: &mut Connections,
) -> supervisor::Config {
    let control = control(config, connections, control_limits(&config.lease)).await;
    let mut replications = Vec::with_capacity(config.replications.len());
    for settings in &config.replications {
        replications.push(replication(settings, connections).await);
    }
    supervisor::Config {
        worker: worker.to_owned(),
        control,
        lease: lease(config),
        grace: drain_within(config.worker.grace),
        clock: Clock::System,
        metrics: Arc::clone(metrics),
        replications,
        heartbeat: heartbeats(config, connections).await,
    }
}

/// The control table of a configuration.
pub(super) async fn control(config: &Config, connections: &mut Connections, limits: Limits) -> Control {
    let client = connections.client(&config.control.endpoint, limits).await;
    Control::new(Arc::new(client.tables()), &config.control.table)
}

/// A lease survives lost renewals only if each is over soon enough for another.
pub(super) fn control_limits(lease: &config::Lease) -> Limits {
    Limits::daemon(CONTROL_WRITE.min(lease.duration / 4))
}

/// The part of the grace in which writes may be finished.
pub(super) fn drain_within(grace: Duration) -> Duration {
    grace - LAST_CHECKPOINTS.min(grace / 4)
}

fn lease(config: &Config) -> lease::Config {
    let replicas = config.replications.iter().flat_map(|it| &it.replicas);
    let attempts = replicas.map(|replica| replica.attempt_timeout);
    lease::Config {
        duration: config.lease.duration,
        renew_interval: config.lease.checkpoint_interval,
        longest_attempt: attempts.max().unwrap_or(config::Replica::DEFAULT_ATTEMPT_TIMEOUT),
    }
}

async fn replication(
    settings: &config::Replication,
    connections: &mut Connections,
) -> supervisor::Replication {
    let source = &settings.source;
    // A source is never written to; the limit is the same as for reads.
    let limits = Limits::daemon(Limits::COMMAND.write);
    let tables = connections.client(&source.endpoint, limits).await;
    let streams = connections.streams_client(source, limits).await;
    let mut replicas = Vec::with_capacity(settings.replicas.len());
    for replica in &settings.replicas {
        replicas.push(self::replica(replica, source, connections).await);
    }
    supervisor::Replication {
        name: settings.name.clone(),
        start: start(settings.start),
        source: supervisor::Source {
            table: source.table.clone(),
            tables: Arc::new(tables.tables()),
            streams: Arc::new(streams.streams()),
            reader: reader(&settings.poll),
            discovery: settings.poll.discovery,
        },
        replicas,
        verify: verify(&settings.verify),
    }
}

fn verify(settings: &config::Verify) -> Option<supervisor::Verify> {
    let every = settings.every?;
    Some(supervisor::Verify { every, read_units: settings.read_units as f64 })
}

async fn replica(
    settings: &config::Replica,
    source: &config::Source,
    connections: &mut Connections,
) -> supervisor::Replica {
    let limits = Limits::daemon(settings.attempt_timeout);
    let client = connections.client(&settings.endpoint, limits).await;
    supervisor::Replica {
        name: settings.name.clone(),
        tables: Arc::new(client.tables()),
        buffer_bytes: usize::try_from(settings.buffer_bytes.get()).unwrap_or(usize::MAX),
        writer: writer(settings),
        copy: match settings.copy.mode {
            config::CopyMode::Off => supervisor::FirstCopy::OnDemand,
            config::CopyMode::Auto => supervisor::FirstCopy::Auto(super::copy::configured(&settings.copy)),
        },
        window_keys_max: crate::lane::Window::KEYS_MAX,
        schema: Some(schema(source, settings, Limits::daemon(Limits::COMMAND.write), connections).await),
    }
}

/// What it takes to make the table of a replica like its source's.
pub(super) async fn schema(
    source: &config::Source,
    replica: &config::Replica,
    limits: Limits,
    connections: &mut Connections,
) -> schema::Pair {
    let keys = replica.schema.kms_keys.iter();
    schema::Pair {
        source: Arc::new(connections.client(&source.endpoint, limits).await.schemas()),
        source_table: source.table.clone(),
        replica: Arc::new(connections.client(&replica.endpoint, limits).await.schemas()),
        replica_table: replica.table.clone(),
        settings: schema::Settings {
            warm_throughput: replica.schema.warm_throughput,
            resource_policy: replica.schema.resource_policy,
            kinesis: replica.schema.kinesis,
            kms_keys: keys.map(|key| (key.source.clone(), key.replica.clone())).collect(),
        },
        create: replica.create,
    }
}

/// Heartbeat tables are replicated like any other; what they hold is small.
async fn heartbeats(config: &Config, connections: &mut Connections) -> supervisor::heartbeat::Config {
    let mut dedicated = Vec::new();
    for wanted in heartbeat::dedicated(config) {
        dedicated.push(heartbeat_replication(&wanted, connections).await);
    }
    let in_table = config.replications.iter().filter(|it| it.heartbeat == HeartbeatMode::InTable);
    let in_table = in_table.map(|replication| supervisor::heartbeat::InTable {
        replication: replication.name.clone(),
        keys: usize::try_from(config.heartbeat.keys).unwrap_or(usize::MAX),
    });
    supervisor::heartbeat::Config {
        interval: config.heartbeat.interval,
        in_table: in_table.collect(),
        dedicated,
    }
}

async fn heartbeat_replication(
    wanted: &Dedicated<'_>,
    connections: &mut Connections,
) -> supervisor::Replication {
    let limits = Limits::daemon(Limits::COMMAND.write);
    let tables = connections.client(&wanted.source.endpoint, limits).await;
    let streams = connections.streams_client(wanted.source, limits).await;
    let mut replicas = Vec::with_capacity(wanted.replicas.len());
    for replica in &wanted.replicas {
        let client = connections.client(replica.endpoint, Limits::daemon(replica.attempt_timeout)).await;
        replicas.push(supervisor::Replica {
            name: replica.name.clone(),
            tables: Arc::new(client.tables()),
            buffer_bytes: usize::try_from(*config::Replica::BUFFER_BYTES.start()).unwrap_or(usize::MAX),
            writer: replica::Config {
                table: replica.table.clone(),
                batches_in_flight: 1,
                attempt_timeout: replica.attempt_timeout,
                settle: replica.attempt_timeout,
                guard: None,
                park_limit: 0,
            },
            copy: supervisor::FirstCopy::Never,
            window_keys_max: crate::lane::Window::KEYS_MAX,
            schema: None,
        });
    }
    supervisor::Replication {
        name: wanted.name.clone(),
        start: supervisor::Start::TrimHorizon,
        source: supervisor::Source {
            table: wanted.table.to_owned(),
            tables: Arc::new(tables.tables()),
            streams: Arc::new(streams.streams()),
            reader: reader(wanted.poll),
            discovery: wanted.poll.discovery,
        },
        replicas,
        verify: None,
    }
}

fn writer(settings: &config::Replica) -> replica::Config {
    replica::Config {
        table: settings.table.clone(),
        batches_in_flight: settings.batches_in_flight.get(),
        attempt_timeout: settings.attempt_timeout,
        // As long again as an attempt: what the service has not begun by then, it has dropped.
        settle: settings.attempt_timeout,
        guard: guard(settings),
        park_limit: usize::try_from(settings.park_limit).unwrap_or(usize::MAX),
    }
}

fn guard(settings: &config::Replica) -> Option<Guard> {
    match settings.guard {
        config::Guard::None => None,
        config::Guard::Sequence => Some(Guard { attribute: settings.guard_attribute.clone() }),
    }
}

fn reader(poll: &config::Poll) -> stream::Config {
    stream::Config { active_pause: poll.active, idle_pause: poll.idle }
}

fn start(start: config::Start) -> supervisor::Start {
    match start {
        config::Start::TrimHorizon => supervisor::Start::TrimHorizon,
        config::Start::Latest => supervisor::Start::Latest,
        config::Start::At { unix_ms } => supervisor::Start::At { unix_ms },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every setting differs from its default.
    const ALL: &str = r#"
        [control]
        table = "fleet"
        region = "eu-west-1"
        [worker]
        grace = "40s"
        [lease]
        duration = "30s"
        checkpoint_interval = "3s"
        [heartbeat]
        interval = "7s"
        table = "beats"
        keys = 9
        [[replications]]
        name = "orders"
        start = "2026-01-02T03:04:05Z"
        verify_every = "12h"
        verify_read_units = 7
        [replications.source]
        table = "Orders"
        region = "eu-west-1"
        [replications.poll]
        active = "300ms"
        idle = "7s"
        discovery = "11s"
        [[replications.replicas]]
        name = "us"
        table = "OrdersCopy"
        region = "us-east-1"
        buffer = "8MiB"
        batches_in_flight = 3
        attempt_timeout = "2s"
        guard = "sequence"
        guard_attribute = "mark"
        park_limit = 9
        [[replications.replicas]]
        name = "eu"
        table = "OrdersCopy"
        region = "eu-central-1"
        attempt_timeout = "6s"
    "#;

    async fn built() -> supervisor::Config {
        built_from(ALL).await
    }

    async fn built_from(text: &str) -> supervisor::Config {
        let file = config::File { name: "all.toml".to_owned(), text: text.to_owned() };
        let config = config::parse(&[file], &[], &[]).expect("a good configuration");
        let metrics = Arc::new(Metrics::new("w", "fleet", Clock::System).expect("metrics"));
        supervisor(&config, "w", &metrics, &mut Connections::new("s".to_owned(), None)).await
    }

    #[tokio::test]
    async fn every_setting_of_the_worker_arrives() {
        let built = built().await;
        assert_eq!(built.worker, "w");
        assert_eq!(built.control.table(), "fleet");
        assert_eq!(built.lease.duration, Duration::from_secs(30));
        assert_eq!(built.lease.renew_interval, Duration::from_secs(3));
        assert_eq!(built.lease.longest_attempt, Duration::from_secs(6), "the slowest replica's");
        assert_eq!(built.grace, Duration::from_secs(35));
    }

    #[tokio::test]
    async fn every_setting_of_a_replication_arrives() {
        let built = built().await;
        let [orders] = &built.replications[..] else { panic!("expected one") };
        assert_eq!(orders.name, "orders");
        let every = Duration::from_secs(12 * 3_600);
        assert_eq!(orders.verify, Some(supervisor::Verify { every, read_units: 7.0 }));
        let start = "2026-01-02T03:04:05Z".parse::<jiff::Timestamp>().expect("a time");
        assert_eq!(orders.start, supervisor::Start::At { unix_ms: start.as_millisecond() });
        assert_eq!(orders.source.table, "Orders");
        assert_eq!(orders.source.reader.active_pause, Duration::from_millis(300));
        assert_eq!(orders.source.reader.idle_pause, Duration::from_secs(7));
        assert_eq!(orders.source.discovery, Duration::from_secs(11));
        let [us, eu] = &orders.replicas[..] else { panic!("expected two") };
        assert_eq!((us.name.as_str(), eu.name.as_str()), ("us", "eu"));
        assert_eq!(us.buffer_bytes, 8 << 20);
        assert_eq!(us.writer.table, "OrdersCopy");
        assert_eq!(us.writer.batches_in_flight, 3);
        assert_eq!(us.writer.attempt_timeout, Duration::from_secs(2));
        assert_eq!(us.writer.settle, Duration::from_secs(2));
        assert_eq!(us.writer.guard, Some(Guard { attribute: "mark".to_owned() }));
        assert_eq!(eu.writer.guard, None);
        assert_eq!(config::Replica::DEFAULT_GUARD_ATTRIBUTE, Guard::DEFAULT_ATTRIBUTE);
        assert_eq!(us.writer.park_limit, 9);
        assert_eq!(eu.writer.attempt_timeout, Duration::from_secs(6));
    }

    #[tokio::test]
    async fn every_setting_of_heartbeats_arrives() {
        let built = built().await.heartbeat;
        assert_eq!(built.interval, Duration::from_secs(7));
        assert_eq!(built.in_table, []);
        let [dedicated] = &built.dedicated[..] else { panic!("expected one") };
        assert_eq!(dedicated.name, "#heartbeat/eu-west-1");
        assert_eq!(dedicated.source.table, "beats");
        assert_eq!(dedicated.source.reader.idle_pause, Duration::from_secs(7));
        let [us, eu] = &dedicated.replicas[..] else { panic!("expected two") };
        assert_eq!((us.name.as_str(), us.writer.table.as_str()), ("us-east-1", "beats.eu-west-1"));
        assert_eq!(eu.writer.attempt_timeout, Duration::from_secs(6));
        let inside = ALL.replace(
            "        [[replications]]\n",
            "        [[replications]]\n        heartbeat = \"in-table\"\n",
        );
        let built = built_from(&inside).await.heartbeat;
        let expected = supervisor::heartbeat::InTable { replication: "orders".to_owned(), keys: 9 };
        assert_eq!((built.in_table, built.dedicated.len()), (vec![expected], 0));
    }

    #[test]
    fn a_short_grace_leaves_time_for_both() {
        assert_eq!(drain_within(Duration::from_secs(4)), Duration::from_secs(3));
        assert_eq!(drain_within(Duration::from_secs(60)), Duration::from_secs(55));
    }

    #[test]
    fn a_renewal_of_a_short_lease_is_over_soon() {
        let lease = config::Lease {
            duration: Duration::from_secs(2),
            checkpoint_interval: Duration::from_millis(500),
        };
        assert_eq!(control_limits(&lease).write, Duration::from_millis(500));
    }
}
