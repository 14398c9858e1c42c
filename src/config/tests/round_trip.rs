//! Whatever is printed loads back to the same configuration.

use std::net::{IpAddr, SocketAddr};
use std::num::{NonZeroU64, NonZeroUsize};
use std::ops::RangeInclusive;
use std::time::Duration;

use proptest::option;
use proptest::prelude::*;

use super::*;

fn duration(range: RangeInclusive<Duration>) -> impl Strategy<Value = Duration> {
    let nanos = |duration: &Duration| u64::try_from(duration.as_nanos()).expect("limits are short");
    let (start, end) = (nanos(range.start()), nanos(range.end()));
    prop_oneof![
        (start..=end).prop_map(Duration::from_nanos),
        (start.div_ceil(1_000_000)..=end / 1_000_000).prop_map(Duration::from_millis),
    ]
}

fn role() -> impl Strategy<Value = (Option<String>, Option<String>)> {
    let arn = "arn:aws(-cn|-us-gov)?:iam::[0-9]{12}:role/[a-zA-Z0-9+=,.@_/-]{0,20}[a-z]";
    option::of((arn, option::of("[a-zA-Z0-9_+=,.@:/-]{2,30}"))).prop_map(|role| match role {
        Some((arn, external_id)) => (Some(arn), external_id),
        None => (None, None),
    })
}

fn endpoint() -> impl Strategy<Value = Endpoint> {
    let url = option::of("https?://[a-z0-9.-]{1,20}(:[1-9][0-9]{0,3})?(/[a-z0-9]{0,5})?");
    let profile = option::of(any::<String>().prop_filter("not empty", |text| !text.trim().is_empty()));
    let region = "[a-z]{2}-[a-z]{4,9}-[1-9]";
    (region, url, profile, role()).prop_map(|(region, endpoint_url, profile, (role_arn, external_id))| {
        Endpoint {
            region,
            endpoint_url,
            profile: profile.map(|text| text.replace("://", "")),
            role_arn,
            external_id,
        }
    })
}

fn start() -> impl Strategy<Value = Start> {
    let years_0_to_9999 = -62_135_596_800_000_i64..=253_402_207_200_000_i64;
    prop_oneof![
        Just(Start::TrimHorizon),
        Just(Start::Latest),
        years_0_to_9999.prop_map(|unix_ms| Start::At { unix_ms })
    ]
}

fn poll() -> impl Strategy<Value = Poll> {
    (duration(Poll::ACTIVE), duration(Poll::IDLE), duration(Poll::DISCOVERY))
        .prop_map(|(active, idle, discovery)| Poll { active, idle: idle.max(active), discovery })
}

/// A replica whose table is unique by `number`, and never a source.
fn replica(number: usize) -> impl Strategy<Value = Replica> {
    let attempt_timeout = duration(*Replica::ATTEMPT_TIMEOUT.start()..=Duration::from_millis(400));
    let sizes = (Replica::BUFFER_BYTES, Replica::BATCHES_IN_FLIGHT, Replica::PARK_LIMIT);
    let guard = (proptest::sample::select(&Guard::ALL[..]), "[A-Za-z0-9._:-]{1,40}");
    let made = (any::<bool>(), schema(), copy());
    ("[A-Za-z0-9._-]{1,40}", endpoint(), sizes, attempt_timeout, guard, made).prop_map(
        move |(
            name,
            endpoint,
            (buffer, batches, park_limit),
            attempt_timeout,
            guard,
            (create, schema, copy),
        )| {
            Replica {
                name: format!("{name}{number}"),
                table: format!("replica-{number}"),
                endpoint,
                buffer_bytes: NonZeroU64::new(buffer).expect("within the range"),
                batches_in_flight: NonZeroUsize::new(batches as usize).expect("within the range"),
                attempt_timeout,
                guard: guard.0,
                guard_attribute: guard.1,
                park_limit,
                create,
                schema,
                copy,
            }
        },
    )
}

fn copy() -> impl Strategy<Value = FirstCopy> {
    let mode = proptest::sample::select(&CopyMode::ALL[..]);
    let read_units = proptest::option::of(FirstCopy::READ_UNITS);
    let window = (1_000u64..=3_600_000).prop_map(Duration::from_millis);
    (mode, read_units, any::<bool>(), window, any::<bool>()).prop_map(
        |(mode, read_units, consistent, window, reconcile)| FirstCopy {
            mode,
            read_units,
            consistent,
            window,
            reconcile,
        },
    )
}

fn schema() -> impl Strategy<Value = Schema> {
    let key = ("[!-~]{1,40}", "[!-~]{1,40}").prop_map(|(source, replica)| KmsKey { source, replica });
    (any::<[bool; 3]>(), prop::collection::vec(key, 0..3)).prop_map(
        |([warm_throughput, resource_policy, kinesis], kms_keys)| Schema {
            warm_throughput,
            resource_policy,
            kinesis,
            kms_keys,
        },
    )
}

fn mode() -> impl Strategy<Value = HeartbeatMode> {
    proptest::sample::select(&HeartbeatMode::ALL[..])
}

fn heartbeat() -> impl Strategy<Value = Heartbeat> {
    (mode(), duration(Heartbeat::INTERVAL), "heartbeat[a-z]{0,5}", Heartbeat::KEYS)
        .prop_map(|(mode, interval, table, keys)| Heartbeat { mode, interval, table, keys })
}

fn replication(number: usize) -> impl Strategy<Value = Replication> {
    let replicas = (1..=3_usize)
        .prop_flat_map(move |count| (0..count).map(|index| replica(10 * number + index)).collect::<Vec<_>>());
    let url = option::of("https?://[a-z0-9]{1,9}");
    let verify = (option::of(duration(Verify::EVERY)), Verify::READ_UNITS);
    ("[A-Za-z0-9._-]{1,40}", start(), mode(), endpoint(), url, poll(), replicas, verify).prop_map(
        move |(
            name,
            start,
            heartbeat,
            endpoint,
            streams_endpoint_url,
            poll,
            replicas,
            (every, read_units),
        )| Replication {
            verify: Verify { every, read_units },
            name: format!("{name}{number}"),
            start,
            heartbeat,
            source: Source { table: format!("source-{number}"), endpoint, streams_endpoint_url },
            poll,
            replicas,
        },
    )
}

prop_compose! {
    fn config()(
        control_table in "control[a-z]{0,5}",
        control in endpoint(),
        create in any::<bool>(),
        id in option::of("[A-Za-z0-9._-]{1,100}"),
        grace in duration(Worker::GRACE),
        address in any::<IpAddr>(),
        port in any::<u16>(),
        format in proptest::sample::select(&LogFormat::ALL[..]),
        filter in "(info|debug,[a-z]{1,9}=trace|[a-z]{1,9}\\[span\\{field=\"x\"\\}\\]=warn)",
        duration in duration(Duration::from_secs(2)..=*Lease::DURATION.end()),
        share in 5_u32..=20,
        heartbeat in heartbeat(),
        replications in (1..=3_usize).prop_flat_map(|count| (0..count).map(replication).collect::<Vec<_>>()),
    ) -> Config {
        Config {
            control: Control { table: control_table, endpoint: control, create },
            worker: Worker { id, grace },
            http: Http { listen: SocketAddr::new(address, port) },
            log: Log { format, filter },
            lease: Lease {
                duration,
                checkpoint_interval: (duration / share).min(*Lease::CHECKPOINT_INTERVAL.end()),
            },
            heartbeat,
            replications,
        }
    }
}

proptest! {
    // A failing case becomes a named test, not a file at the top level.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_printed_loads_back(config in config()) {
        let text = effective(&config);
        match parse(&files(&[&text]), &[], &[]) {
            Ok(loaded) => prop_assert_eq!(loaded, config),
            Err(errors) => prop_assert!(false, "{}\n{}", text, errors),
        }
    }

    #[test]
    fn no_text_makes_it_panic(text in any::<String>(), cut in any::<prop::sample::Index>(), path in "[A-Z0-9_\\[\\]-]{0,40}") {
        let mut broken = MINIMAL.to_owned();
        broken.insert_str(cut.index(MINIMAL.len()), &text);
        let variable = (format!("{ENVIRONMENT_PREFIX}{path}"), text);
        if let Err(errors) = parse(&files(&[&broken]), &[variable], &[]) {
            prop_assert!(errors.to_string().ends_with("nothing was started."));
        }
    }
}
