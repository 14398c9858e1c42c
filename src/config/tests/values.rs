//! Single settings: defaults, kinds, ranges.

use std::time::Duration;

use super::*;

#[test]
fn defaults_fill_what_is_not_written() {
    let config = accepted(MINIMAL);
    assert_eq!(config.control.table, "dynamirror-control");
    assert!(!config.control.create);
    assert_eq!(config.worker, Worker { id: None, grace: Duration::from_secs(25) });
    assert_eq!(config.http.listen.to_string(), "127.0.0.1:9464");
    assert_eq!(config.log, Log { format: LogFormat::Auto, filter: "info".to_owned() });
    let (duration, checkpoint_interval) = (Duration::from_secs(20), Duration::from_secs(5));
    assert_eq!(config.lease, Lease { duration, checkpoint_interval });
    let replication = &config.replications[0];
    assert_eq!(replication.start, Start::TrimHorizon);
    assert_eq!(replication.poll.active, Duration::from_millis(200));
    assert_eq!(replication.poll.idle, Duration::from_secs(1));
    assert_eq!(replication.poll.discovery, Duration::from_secs(30));
    let replica = &replication.replicas[0];
    assert_eq!(replica.table, "Orders", "the source's table name");
    assert_eq!(replica.buffer_bytes.get(), 32 << 20);
    assert_eq!(replica.batches_in_flight.get(), 32);
    assert_eq!(replica.attempt_timeout, Duration::from_secs(4));
    assert_eq!((replica.guard, replica.guard_attribute.as_str()), (Guard::None, "dynamirror:sequence"));
    assert_eq!(replica.park_limit, 1000);
    let copy = &replica.copy;
    assert_eq!((copy.mode, copy.read_units, copy.reconcile), (CopyMode::Off, None, false));
    assert_eq!((copy.consistent, copy.window), (true, Duration::from_secs(60)));
}

#[test]
fn a_guard_is_one_of_two_and_its_attribute_needs_no_escapes() {
    let replica = &accepted(&with(REPLICA, "guard = \"sequence\"\nguard_attribute = \"m\"")).replications[0]
        .replicas[0];
    assert_eq!((replica.guard, replica.guard_attribute.as_str()), (Guard::Sequence, "m"));
    let wrong = "expected \"none\" or \"sequence\", found \"version\"";
    assert_problem(&with(REPLICA, "guard = \"version\""), "c.toml:12:9", wrong, "");
    for name in ["", "a/b", "\u{e4}", "a b"] {
        let message = format!("{name:?} cannot be a guard's attribute");
        let text = with(REPLICA, &format!("guard_attribute = {name:?}"));
        assert_problem(&text, "c.toml:12:19", &message, "each a letter, a digit");
    }
}

#[test]
fn the_name_of_a_source_arn_is_the_replicas_default() {
    let arn = "arn:aws:dynamodb:eu-west-1:123456789012:table/Orders";
    let config = accepted(&minimal_with("\"Orders\"", &format!("{arn:?}")));
    assert_eq!(config.replications[0].source.table, arn);
    assert_eq!(config.replications[0].replicas[0].table, "Orders");
}

#[test]
fn durations_have_units_and_ranges() {
    let bare = "expected a duration such as \"15s\" or \"2m30s\", found \"15\"";
    assert_problem(&with("[worker]", "grace = \"15\""), "c.toml:2:9", bare, "\"15s\" or \"15ms\"");
    let unit = "expected a duration such as \"15s\" or \"2m30s\", found \"15x\"";
    assert_problem(&with("[worker]", "grace = \"15x\""), "c.toml:2:9", unit, "units are ms, s, m and h");
    let zero = "expected a duration from 1s to 1h, found \"0s\"";
    assert_problem(&with("[worker]", "grace = \"0s\""), "c.toml:2:9", zero, "");
    let months = "expected a duration from 1s to 1h, found \"5M\"";
    assert_problem(&with("[worker]", "grace = \"5M\""), "c.toml:2:9", months, "a minute is m");
    assert_eq!(accepted(&with("[worker]", "grace = \"2m 30s\"")).worker.grace, Duration::from_secs(150));
}

#[test]
fn sizes_have_units_and_a_useful_minimum() {
    let bare = "expected a size with a unit, such as \"32MiB\", found \"64\"";
    assert_problem(&with(REPLICA, "buffer = \"64\""), "c.toml:12:10", bare, "\"64MiB\" or \"64B\"");
    let unit = "expected a size with a unit, such as \"32MiB\", found \"64 parsecs\"";
    assert_problem(&with(REPLICA, "buffer = \"64 parsecs\""), "c.toml:12:10", unit, "KiB, MiB");
    for small in ["0B", "1MiB", "4194303B"] {
        let message = format!("expected a size from 4MiB to 1TiB, found {small:?}");
        assert_problem(&with(REPLICA, &format!("buffer = {small:?}")), "c.toml:12:10", &message, "");
    }
    let config = accepted(&with(REPLICA, "buffer = \"8 MB\""));
    assert_eq!(config.replications[0].replicas[0].buffer_bytes.get(), 8_000_000);
}

#[test]
fn numbers_have_ranges() {
    let zero = "expected a whole number from 1 to 1024, found 0";
    assert_problem(&with(REPLICA, "batches_in_flight = 0"), "c.toml:12:21", zero, "");
    let negative = "expected a whole number from 0 to 1000000, found -1";
    assert_problem(&with(REPLICA, "park_limit = -1"), "c.toml:12:14", negative, "");
    let huge = "expected a whole number from 0 to 1000000, found 99999999999999999999";
    assert_problem(&with(REPLICA, "park_limit = 99999999999999999999"), "c.toml:12:14", huge, "");
    let zero = "expected a whole number from 1 to 10000000, found 0";
    assert_problem(&with(REPLICA, "copy_read_units = 0"), "c.toml:12:19", zero, "");
    let units = accepted(&with(REPLICA, "copy_read_units = 7")).replications[0].replicas[0].copy.read_units;
    assert_eq!(units, Some(7));
    let mode = "expected \"off\" or \"auto\", found \"always\"";
    assert_problem(&with(REPLICA, "copy = \"always\""), "c.toml:12:8", mode, "");
    assert_eq!(accepted(&with(REPLICA, "park_limit = 0")).replications[0].replicas[0].park_limit, 0);
}

#[test]
fn listen_wants_an_address() {
    let cases = [
        ("localhost:9464", "write \"127.0.0.1:9464\""),
        (":9464", "write \"0.0.0.0:9464\""),
        ("9464", "write \"0.0.0.0:9464\""),
        ("127.0.0.1", "an IP address and a port"),
        ("example.org:80", "host names are not resolved"),
    ];
    for (text, help) in cases {
        let message = format!("expected an address and port such as \"127.0.0.1:9464\", found {text:?}");
        assert_problem(&with("[http]", &format!("listen = {text:?}")), "c.toml:2:10", &message, help);
    }
    assert_eq!(accepted(&with("[http]", "listen = \"[::1]:0\"")).http.listen.to_string(), "[::1]:0");
}

#[test]
fn log_settings_are_checked() {
    let format = "expected \"auto\", \"text\" or \"json\", found \"xml\"";
    assert_problem(&with("[log]", "format = \"xml\""), "c.toml:2:10", format, "");
    let filter =
        "expected a log filter such as \"info\" or \"info,dynamirror::lease=debug\", found \"a=b=c\"";
    assert_problem(&with("[log]", "filter = \"a=b=c\""), "c.toml:2:10", filter, "level");
}

#[test]
fn start_is_a_word_or_a_time() {
    let start =
        |text: &str| accepted(&with("[[replications]]", &format!("start = {text}"))).replications[0].start;
    assert_eq!(start("\"latest\""), Start::Latest);
    assert_eq!(start("\"TRIM_HORIZON\""), Start::TrimHorizon);
    let at = Start::At { unix_ms: 1_795_168_800_250 };
    assert_eq!(start("\"2026-11-20T10:00:00.25Z\""), at);
    assert_eq!(start("2026-11-20T11:00:00.25+01:00"), at, "a time of TOML, without quotes");
    let expected = "expected \"trim_horizon\", \"latest\" or a time such as \"2026-11-20T10:00:00Z\"";
    let local = format!("{expected}, found \"2026-11-20T10:00:00\"");
    assert_problem(&with("[[replications]]", "start = 2026-11-20T10:00:00"), "c.toml:5:9", &local, "offset");
    let word = format!("{expected}, found \"yesterday\"");
    assert_problem(&with("[[replications]]", "start = \"yesterday\""), "c.toml:5:9", &word, "");
}

#[test]
fn names_have_a_small_alphabet() {
    let help = "a name has 1 to 100 characters";
    for name in ["", "a b", "a#b", "größe", &"x".repeat(101)] {
        let text = minimal_with("\"orders\"", &format!("{name:?}"));
        assert_problem(&text, "c.toml:5:8", &format!("{name:?} cannot be a name"), help);
    }
    accepted(&minimal_with("\"orders\"", &format!("{:?}", "A-z_0.9".repeat(14))));
}

#[test]
fn tables_follow_dynamodbs_rules() {
    for name in ["ab", "a/b", &"x".repeat(256)] {
        let text = minimal_with("\"Orders\"", &format!("{name:?}"));
        assert_problem(
            &text,
            "c.toml:8:9",
            &format!("{name:?} cannot be a table name"),
            "3 to 255 characters",
        );
    }
    for arn in [
        "arn:aws:dynamodb:eu-west-1:123456789012:table/Orders/stream/2026-11-20T10:00:00.000",
        "arn:aws:dynamodb:eu-west-1:12345:table/Orders",
        "arn:aws:s3:::bucket",
    ] {
        let text = minimal_with("\"Orders\"", &format!("{arn:?}"));
        assert_problem(&text, "c.toml:8:9", &format!("{arn:?} is not the ARN of a table"), "table/Orders");
    }
    let text = minimal_with("\"Orders\"", "\"arn:aws:dynamodb:eu-west-2:123456789012:table/Orders\"");
    let message = "region \"eu-west-1\" is not that of the table's ARN, \"eu-west-2\"";
    assert_problem(&text, "c.toml:9:10", message, "");
}

#[test]
fn regions_are_not_zones() {
    let zone = minimal_with("\"us-east-1\"", "\"us-east-1a\"");
    let message = "\"us-east-1a\" is an availability zone, not a region";
    assert_problem(&zone, "c.toml:13:10", message, "did you mean \"us-east-1\"?");
    let upper = minimal_with("\"us-east-1\"", "\"US-East-1\"");
    let message = "expected a region such as \"eu-west-1\", found \"US-East-1\"";
    assert_problem(&upper, "c.toml:13:10", message, "did you mean \"us-east-1\"?");
    for region in ["local", "us-gov-west-1", "cn-north-1", "2024"] {
        accepted(&minimal_with("\"us-east-1\"", &format!("{region:?}")));
    }
}

#[test]
fn endpoint_urls_are_http_without_credentials() {
    let cases = [
        ("127.0.0.1:8000", "begin with http:// or https://"),
        ("ftp://host", "only http:// and https://"),
        ("http://", ""),
        ("http://host:0", ""),
        ("http://host:port", ""),
        ("http://[::1:8000", ""),
        ("http://ho st", ""),
        ("http://host/?a=b", "no query"),
    ];
    for (url, help) in cases {
        let message = format!("expected a URL such as \"http://127.0.0.1:8000\", found {url:?}");
        assert_problem(&with(SOURCE, &format!("endpoint_url = {url:?}")), "c.toml:8:16", &message, help);
    }
    for url in ["http://127.0.0.1:8000", "HTTPS://vpce-1.example.com/", "http://[::1]:8000/base"] {
        let config = accepted(&with(SOURCE, &format!("endpoint_url = {url:?}")));
        assert_eq!(config.replications[0].source.endpoint.endpoint_url.as_deref(), Some(url));
    }
    let message = "an endpoint URL carries no credentials";
    assert_problem(&with(SOURCE, "endpoint_url = \"http://u:p@host\""), "c.toml:8:16", message, "role_arn");
}

#[test]
fn roles_have_arns_and_external_ids_have_roles() {
    let role = "expected a role ARN such as \"arn:aws:iam::123456789012:role/replicator\", found";
    for arn in [
        "replicator",
        "arn:aws:iam::12:role/r",
        "arn:aws:iam::123456789012:user/u",
        "arn:aws:iam::123456789012:role/",
    ] {
        let message = format!("{role} {arn:?}");
        assert_problem(&with(SOURCE, &format!("role_arn = {arn:?}")), "c.toml:8:12", &message, "");
    }
    for arn in ["arn:aws-cn:iam::123456789012:role/r", "arn:aws:iam::123456789012:role/path/to/r@x"] {
        accepted(&with(SOURCE, &format!("role_arn = {arn:?}")));
    }
    let alone = with(SOURCE, "external_id = \"abc\"");
    assert_problem(&alone, "c.toml:8:15", "external_id without role_arn", "add role_arn");
    let both = "role_arn = \"arn:aws:iam::123456789012:role/r\"\nexternal_id = \"a b\"";
    assert_problem(&with(SOURCE, both), "c.toml:9:15", "\"a b\" cannot be an external id", "2 to 1224");
}

#[test]
fn empty_text_is_refused() {
    assert_problem(&with(SOURCE, "profile = \" \""), "c.toml:8:11", "must not be empty", "");
    assert_problem(&with("[log]", "filter = \"\""), "c.toml:2:10", "must not be empty", "");
}

#[test]
fn heartbeats_of_a_source_are_as_all_others_unless_it_says_otherwise() {
    let mode = |text: &str| accepted(text).replications[0].heartbeat;
    assert_eq!(mode(MINIMAL), HeartbeatMode::Dedicated);
    let off = with("[heartbeat]", "mode = \"off\"");
    assert_eq!(mode(&off), HeartbeatMode::Off);
    let own =
        format!("[heartbeat]\nmode = \"off\"\n{}", with("[[replications]]", "heartbeat = \"in-table\""));
    assert_eq!(mode(&own), HeartbeatMode::InTable);
    assert_problem(
        &with("[heartbeat]", "mode = \"on\""),
        "c.toml:2:8",
        "expected \"off\", \"dedicated\" or \"in-table\", found \"on\"",
        "",
    );
}
