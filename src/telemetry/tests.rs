//! The text that is rendered, judged as a scraper sees it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::catalogue::{ALL, Kind};
use super::*;
use crate::clock::Clock;
use crate::fault::{Fault, Width};

const HOUR_MS: i64 = 3_600_000;

/// Stopped, at this many milliseconds since 1970.
fn clock(start_unix_ms: i64) -> Clock {
    Clock::Simulated { start_unix_ms, start: tokio::time::Instant::now() }
}

fn metrics(clock: Clock) -> Metrics {
    Metrics::new("worker-1", "dynamirror-control", clock).expect("the catalogue can be registered")
}

/// With every handle made and every moment known.
fn complete(clock: Clock) -> Metrics {
    let metrics = metrics(clock);
    let source = metrics.source("orders", "Orders");
    let replica = metrics.replica("orders", "Orders", "eu");
    let now = clock.unix_ms();
    source.set_discovered(now);
    source.set_oldest_poll(now);
    source.checkpointed(now, Duration::from_millis(3));
    replica.set_applied_through(now);
    replica.applied_after(now - 1500, now);
    metrics.copies("orders", "Orders", "eu").set_times(Some(now - 2), Some(now));
    metrics.calls("dynamodb", "eu-west-1").record("BatchWriteItem", Outcome::Ok, Duration::from_millis(7));
    metrics
}

/// Tells something of the fleet in every way.
fn lead(metrics: &Metrics, now_unix_ms: i64) -> Leading {
    let leading = metrics.lead();
    leading.set_shards("orders", "Orders", FleetShards { unowned: 2, ..FleetShards::default() });
    leading.set_applied_through("orders", "Orders", "eu", Some(now_unix_ms - 2_500));
    leading.set_schema_drift("orders", "Orders", "eu", Some(2));
    leading.heartbeat_written("orders", "Orders", now_unix_ms);
    let heartbeats = leading.heartbeats("orders", "Orders", "eu");
    heartbeats.set_applied(now_unix_ms - 1_000);
    heartbeats.returned(Duration::from_millis(700));
    heartbeats.lost(3);
    let verification = leading.verification("orders", "Orders", "eu", &["missing"]);
    verification.compared(20);
    verification.found("missing");
    verification.covered(now_unix_ms - 5_000);
    leading
}

/// The samples of a text: name with labels to value.
fn samples(metrics: &Metrics) -> BTreeMap<String, f64> {
    let text = metrics.render().expect("metrics can be rendered");
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let sample = |line: &str| {
        let (series, value) = line.rsplit_once(' ').expect("a sample has a value");
        (series.to_owned(), value.parse().expect("a value is a number"))
    };
    lines.map(sample).collect()
}

fn names_of_labels(series: &str) -> BTreeSet<&str> {
    let inside = series.split_once('{').map_or("", |(_, labels)| labels.trim_end_matches('}'));
    let pairs = inside.split("\",").filter(|pair| !pair.is_empty());
    pairs.filter_map(|pair| Some(pair.split_once('=')?.0)).filter(|&name| name != "le").collect()
}

#[cfg(target_os = "linux")]
#[tokio::test(start_paused = true)]
async fn every_metric_of_the_catalogue_is_there_with_its_type_and_labels() {
    let metrics = complete(clock(100 * HOUR_MS));
    let _leading = lead(&metrics, 100 * HOUR_MS);
    let text = metrics.render().expect("metrics can be rendered");
    let described: BTreeSet<&str> = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
    let expected: Vec<String> =
        ALL.iter().map(|metric| format!("{} {}", metric.name, kind(metric.kind))).collect();
    assert_eq!(described, expected.iter().map(String::as_str).collect());
    for series in samples(&metrics).keys() {
        let name = series.split('{').next().expect("the first part of a split always exists");
        let metric = ALL.iter().find(|metric| {
            let rest = name.strip_prefix(metric.name);
            rest.is_some_and(|rest| ["", "_bucket", "_sum", "_count"].contains(&rest))
        });
        let metric = metric.unwrap_or_else(|| panic!("{series} is not in the catalogue"));
        assert_eq!(names_of_labels(series), metric.labels.iter().copied().collect(), "{series}");
    }
}

#[tokio::test(start_paused = true)]
async fn lag_grows_though_nobody_reports() {
    let metrics = metrics(clock(100 * HOUR_MS));
    let replica = metrics.replica("orders", "Orders", "eu");
    let lag = r#"dynamirror_lag_seconds{replica="eu",replication="orders",table="Orders"}"#;
    let headroom = lag.replace("lag", "retention_headroom");
    assert_eq!(samples(&metrics).get(lag), None, "an unknown lag is not zero");
    replica.set_applied_through(100 * HOUR_MS - 500);
    assert_eq!(samples(&metrics)[lag], 0.5);
    tokio::time::advance(Duration::from_secs(3600)).await;
    assert_eq!(samples(&metrics)[lag], 3600.5);
    assert_eq!(samples(&metrics)[&headroom], 24.0 * 3600.0 - 3600.5);
    replica.set_applied_through(None);
    let unknown = samples(&metrics);
    assert_eq!((unknown.get(lag), unknown.get(&headroom)), (None, None));
}

#[tokio::test(start_paused = true)]
async fn what_the_fleet_does_is_told_by_its_coordinator_only() {
    let now = 100 * HOUR_MS;
    let metrics = metrics(clock(now));
    let fleet = |samples: &BTreeMap<String, f64>| -> Vec<String> {
        let of_fleet = |name: &&String| name.contains("_fleet_") || name.contains("_timestamp_");
        samples.keys().filter(of_fleet).cloned().collect()
    };
    assert_eq!(samples(&metrics)["dynamirror_coordinator_leader"], 0.0);
    let leading = lead(&metrics, now);
    let handle = leading.heartbeats("orders", "Orders", "eu");
    tokio::time::advance(Duration::from_secs(60)).await;
    let told = samples(&metrics);
    assert_eq!(told["dynamirror_coordinator_leader"], 1.0);
    let route = r#"{replica="eu",replication="orders",table="Orders"}"#;
    assert_eq!(told[&format!("dynamirror_fleet_lag_seconds{route}")], 62.5);
    assert_eq!(told[r#"dynamirror_fleet_shards{replication="orders",state="unowned",table="Orders"}"#], 2.0);
    assert_eq!(told[&format!("dynamirror_heartbeats_lost_total{route}")], 3.0);
    leading.set_applied_through("orders", "Orders", "eu", None);
    assert_eq!(samples(&metrics).get(&format!("dynamirror_fleet_lag_seconds{route}")), None);
    drop(leading);
    handle.set_applied(now);
    let after = samples(&metrics);
    assert_eq!(after["dynamirror_coordinator_leader"], 0.0);
    assert_eq!(fleet(&after), Vec::<String>::new(), "a worker that lost the office still tells of the fleet");
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_behind_is_counted_and_lag_stays_at_zero() {
    let metrics = metrics(clock(0));
    let replica = metrics.replica("orders", "Orders", "eu");
    assert_eq!(samples(&metrics)["dynamirror_clock_skew_total"], 0.0);
    replica.set_applied_through(2000);
    let skewed = samples(&metrics);
    assert_eq!(skewed[r#"dynamirror_lag_seconds{replica="eu",replication="orders",table="Orders"}"#], 0.0);
    assert_eq!(skewed["dynamirror_clock_skew_total"], 1.0);
}

#[tokio::test(start_paused = true)]
async fn a_new_route_starts_every_counter_at_zero() {
    let metrics = metrics(clock(0));
    metrics.source("orders", "Orders");
    metrics.replica("orders", "Orders", "eu");
    let samples = samples(&metrics);
    let route = r#"replica="eu",replication="orders",table="Orders""#;
    for series in [
        r#"dynamirror_records_read_total{replication="orders",table="Orders"}"#.to_owned(),
        r#"dynamirror_gaps_total{replication="orders",table="Orders"}"#.to_owned(),
        r#"dynamirror_lease_changes_total{reason="stolen"}"#.to_owned(),
        r#"dynamirror_backpressure_seconds_total{stage="apply"}"#.to_owned(),
        format!(r#"dynamirror_records_applied_total{{op="delete",{route}}}"#),
        format!(r#"dynamirror_write_throttles_total{{reason="key_range",{route}}}"#),
        format!(r#"dynamirror_records_dead_lettered_total{{{route}}}"#),
    ] {
        let found = samples.iter().find(|(name, _)| labels(name) == labels(&series));
        assert_eq!(found.map(|(_, value)| *value), Some(0.0), "{series}");
    }
}

/// A series in a form that does not depend on the order of labels.
fn labels(series: &str) -> (&str, BTreeSet<&str>) {
    let (name, labels) = series.split_once('{').unwrap_or((series, ""));
    (name, labels.trim_end_matches('}').split(',').collect())
}

#[tokio::test(start_paused = true)]
async fn what_is_counted_arrives_under_its_own_label() {
    let metrics = metrics(clock(0));
    let replica = metrics.replica("orders", "Orders", "eu");
    replica.throttled(Width::Index);
    replica.set_state(State::Stalled);
    replica.set_state(State::CatchingUp);
    replica.consumed_write_units(2.5);
    replica.consumed_write_units(f64::NAN);
    replica.set_buffer(3, 4096, 8192);
    let source = metrics.source("orders", "Orders");
    source.lease_changed(LeaseChange::Lost);
    source.set_shards(Shards { elsewhere: 7, ..Shards::default() });
    metrics.source("orders", "Orders").read(5, 100);
    source.read(6, 100);
    let copy = metrics.copies("orders", "Orders", "eu");
    copy.set_state(CopyState::Reconciling);
    copy.set_state(CopyState::Copying);
    copy.set_segments(64, 3);
    copy.read(5, 600, 1.5);
    copy.repaired(true);
    let samples = samples(&metrics);
    let above_zero = |name: &str| -> Vec<String> {
        let found = samples.iter().filter(|(series, value)| series.starts_with(name) && **value > 0.0);
        found.map(|(series, value)| format!("{} {value}", &series[name.len()..])).collect()
    };
    let replica = r#"replica="eu",replication="orders",table="Orders""#;
    let source = r#"replication="orders""#;
    let with_reason =
        |name: &str, expected: &str| assert_eq!(above_zero(name), [expected.to_owned()], "{name}");
    with_reason(
        "dynamirror_write_throttles_total",
        r#"{reason="index",replica="eu",replication="orders",table="Orders"} 1"#,
    );
    with_reason(
        "dynamirror_route_state",
        r#"{replica="eu",replication="orders",state="catching_up",table="Orders"} 1"#,
    );
    with_reason("dynamirror_consumed_capacity_units_total", &format!(r#"{{kind="write",{replica}}} 2.5"#));
    with_reason("dynamirror_inflight_records", &format!("{{{replica}}} 3"));
    with_reason("dynamirror_buffer_bytes", &format!("{{{replica}}} 4096"));
    with_reason("dynamirror_buffer_limit_bytes", &format!("{{{replica}}} 8192"));
    with_reason("dynamirror_lease_changes_total", r#"{reason="lost"} 1"#);
    with_reason(
        "dynamirror_copy_state",
        r#"{replica="eu",replication="orders",state="copying",table="Orders"} 1"#,
    );
    with_reason("dynamirror_copy_items_total", &format!("{{{replica}}} 5"));
    with_reason("dynamirror_copy_bytes_total", &format!("{{{replica}}} 600"));
    with_reason(
        "dynamirror_repairs_total",
        r#"{outcome="put",replica="eu",replication="orders",table="Orders"} 1"#,
    );
    with_reason("dynamirror_copy_read_units_total", &format!("{{{replica}}} 1.5"));
    with_reason("dynamirror_shards", &format!(r#"{{{source},state="elsewhere",table="Orders"}} 7"#));
    with_reason("dynamirror_records_read_total", &format!(r#"{{{source},table="Orders"}} 11"#));
}

#[tokio::test(start_paused = true)]
async fn a_call_is_counted_by_its_outcome_and_the_other_outcomes_are_zero() {
    let metrics = metrics(clock(0));
    let calls = metrics.calls("streams", "eu-west-1");
    for fault in [Fault::Throttled(Width::Table), Fault::Unanswered, Fault::Trimmed, Fault::Unanswered] {
        calls.record("GetRecords", fault.into(), Duration::from_millis(40));
    }
    let samples = samples(&metrics);
    let count = |outcome: &str| {
        let labels =
            format!(r#"operation="GetRecords",outcome="{outcome}",region="eu-west-1",service="streams""#);
        samples[&format!("dynamirror_aws_requests_total{{{labels}}}")]
    };
    let outcomes = ["ok", "throttled", "conflict", "access_denied", "timeout", "error"];
    assert_eq!(outcomes.map(count), [0.0, 1.0, 0.0, 0.0, 2.0, 1.0]);
    let durations =
        r#"dynamirror_aws_request_duration_seconds_count{operation="GetRecords",service="streams"}"#;
    assert_eq!(samples[durations], 4.0);
}

#[tokio::test(start_paused = true)]
async fn promtool_has_nothing_to_say() {
    let metrics = complete(clock(100 * HOUR_MS));
    let _leading = lead(&metrics, 100 * HOUR_MS);
    metrics.replica("a \"quoted\"\\ name", "Orders", "line\nbreak").set_applied_through(1);
    let text = metrics.render().expect("metrics can be rendered");
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is on the PATH: it comes with the Debian package `prometheus`");
    let mut input = promtool.stdin.take().expect("standard input was asked for");
    input.write_all(text.as_bytes()).expect("promtool reads");
    drop(input);
    let output = promtool.wait_with_output().expect("promtool ends");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty() && output.stdout.is_empty(), "{said}\n{text}");
}

fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
        Kind::Histogram(_) => "histogram",
    }
}

/// The page about metrics, made of the catalogue.
fn page() -> String {
    let mut page = String::from(
        "# Metrics\n\n\
         Served at `/metrics`. This page is made of the program's own catalogue; a test compares the two.\n\n\
         `table` is the source table, `replica` the replica's name and `replication` the replication's name, all as\n\
         configured. A shard is never a label: shards change every few hours.\n\n\
         | name | type | labels | meaning |\n|---|---|---|---|\n",
    );
    for metric in ALL {
        let labels = metric.labels.join(", ");
        writeln!(page, "| `{}` | {} | {labels} | {} |", metric.name, kind(metric.kind), metric.help)
            .expect("a string takes all text");
    }
    page
}

#[test]
fn the_page_about_metrics_is_current() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/METRICS.md");
    if std::env::var_os("UPDATE_EXPECTED").is_some() {
        std::fs::write(path, page()).expect("the page can be written");
    }
    let written = std::fs::read_to_string(path).expect("the page exists");
    assert_eq!(written, page(), "run this test once with UPDATE_EXPECTED=1 and commit {path}");
}
