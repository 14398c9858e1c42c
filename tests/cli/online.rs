//! What is found by asking services: `check-config`, `init`, `status`.

use std::time::Duration;

use dynamirror::emulator::{Fault, Rule};
use tokio::time::Instant;

use super::program::{bare, file, name, outcome, program, run};
use super::town::Town;

/// Nobody listens on a reserved port.
const NOWHERE: &str = r#"
[control]
region = "eu-west-1"
endpoint_url = "http://127.0.0.1:1"
[[replications]]
name = "orders"
[replications.source]
table = "Orders"
region = "eu-west-1"
endpoint_url = "http://127.0.0.1:1"
[[replications.replicas]]
name = "us"
region = "us-east-1"
endpoint_url = "http://127.0.0.1:1"
"#;

#[test]
fn endpoints_that_cannot_be_reached_are_told_at_once_and_together() {
    let config = file(NOWHERE);
    let began = Instant::now();
    let checked = run(&["check-config", "--config", name(&config)]).expect(69);
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    let failed = checked.stdout.lines().filter(|line| line.starts_with("failed "));
    assert_eq!(failed.count(), 3, "{checked:#?}");
    for words in [
        "control: control table `dynamirror-control` in eu-west-1 at http://127.0.0.1:1",
        "replications[0].source: source table `Orders`",
        "replications[0].replicas[0]: replica table `Orders` in us-east-1",
        "connection refused",
    ] {
        assert!(checked.stdout.contains(words), "no {words} in {checked:#?}");
    }
    let json = run(&["check-config", "--config", name(&config), "--output", "json"]).expect(69);
    assert_eq!(json.json()["findings"][2]["exit_code"], 69);
}

#[test]
fn missing_credentials_are_told_with_what_to_do() {
    let config = file(NOWHERE);
    let checked = outcome(&mut bare(&["check-config", "--config", name(&config)])).expect(77);
    assert!(checked.stdout.contains("AWS_ACCESS_KEY_ID"), "{checked:#?}");
    let denied = outcome(&mut bare(&["init", "--config", name(&config)])).expect(77);
    assert!(denied.stdout.is_empty(), "{denied:#?}");
    for words in ["control table `dynamirror-control`", "AWS_ACCESS_KEY_ID", "`profile`"] {
        assert!(denied.stderr.contains(words), "no {words} in {denied:#?}");
    }
}

#[test]
fn init_creates_what_is_missing_and_then_the_check_is_good() {
    let town = Town::empty();
    let config = town.config("", "");
    let at = ["--config", name(&config)];
    let checked = run(&[&["check-config"], &at[..]].concat()).expect(78);
    assert!(checked.stdout.contains("create the control table with `dynamirror init`"), "{checked:#?}");
    let status = run(&[&["status"], &at[..]].concat()).expect(78);
    assert!(status.stderr.contains("dynamirror init"), "{status:#?}");
    let dry = run(&[&["init", "--dry-run"], &at[..]].concat()).expect(0);
    assert!(dry.stdout.contains("would create control table"), "{dry:#?}");
    assert!(!town.has_table("control"), "a dry run created it");
    let created = run(&[&["init"], &at[..]].concat()).expect(0);
    assert!(created.stdout.starts_with("created control table `control`"), "{created:#?}");
    let again = run(&[&["init"], &at[..]].concat()).expect(0);
    assert!(again.stdout.contains("is there"), "{again:#?}");
}

#[test]
fn init_switches_streams_on_when_asked_to() {
    let town = Town::empty();
    let config = town.config("", "");
    let at = ["--config", name(&config)];
    town.create_source_without_stream();
    town.create_replica();
    run(&[&["init"], &at[..]].concat()).expect(0);
    let checked = run(&[&["check-config"], &at[..]].concat()).expect(78);
    assert!(
        checked.stdout.contains("its stream is off; switch it on: `dynamirror init --enable-streams`"),
        "{checked:#?}"
    );
    let dry = run(&[&["init", "--enable-streams", "--dry-run"], &at[..]].concat()).expect(0);
    assert!(dry.stdout.contains("would switch on the stream"), "{dry:#?}");
    let switched = run(&[&["init", "--enable-streams"], &at[..]].concat()).expect(0);
    assert!(switched.stdout.contains("switched on the stream of source table `Orders`"), "{switched:#?}");
    let again = run(&[&["init", "--enable-streams"], &at[..]].concat()).expect(0);
    assert!(again.stdout.contains("left as it is"), "{again:#?}");
    let good = run(&[&["check-config"], &at[..]].concat()).expect(0);
    assert!(good.stdout.contains("its stream is on (new and old images)"), "{good:#?}");
    assert!(good.stdout.contains("can be read and written"), "{good:#?}");
}

#[test]
fn everything_that_is_wrong_with_replicas_is_told_together() {
    let town = Town::with_tables();
    town.create_with_other_key("Numbered");
    let endpoint = town.replica_region().endpoint();
    let source = town.source_region().endpoint();
    let config = town.config(
        "",
        &format!(
            r#"
[[replications.replicas]]
name = "numbered"
table = "Numbered"
region = "us-west-2"
endpoint_url = "{endpoint}"
attempt_timeout = "1s"
[[replications.replicas]]
name = "absent"
table = "Absent"
region = "us-west-2"
endpoint_url = "{endpoint}"
attempt_timeout = "1s"
[[replications.replicas]]
name = "itself"
table = "Orders"
profile = "same"
region = "us-east-1"
endpoint_url = "{source}"
attempt_timeout = "1s"
"#
        ),
    );
    run(&["init", "--config", name(&config)]).expect(0);
    // Another profile may be another account, so that only the service knows that it is the same table.
    let profiles = file("[profile same]\nregion = us-east-1\n");
    let mut command = program(&["check-config", "--config", name(&config)]);
    let checked = outcome(command.env("AWS_CONFIG_FILE", name(&profiles))).expect(78);
    for words in [
        "replicas[0]: replica table `Orders` in us-west-2",
        "has the source's key, `pk` (S), `sk` (S)",
        "its key is `id` (N), the source's is `pk` (S), `sk` (S)",
        "`Absent` in us-west-2",
        "create it with the source's key",
        "replicas[3]: replica table `Orders` in us-east-1",
        "it is the source itself",
    ] {
        assert!(checked.stdout.contains(words), "no {words} in {checked:#?}");
    }
}

#[test]
fn a_missing_permission_is_named() {
    let town = Town::with_tables();
    let config = town.config("", "");
    run(&["init", "--config", name(&config)]).expect(0);
    for operation in ["DescribeStream", "GetShardIterator", "GetRecords"] {
        let refuse =
            Fault::Refuse { code: "AccessDeniedException".to_owned(), message: "not authorized".to_owned() };
        let rule = town.source_region().faults().add(Rule::new(refuse).on(operation));
        let checked = run(&["check-config", "--config", name(&config)]).expect(77);
        assert!(checked.stdout.contains(&format!("allow `dynamodb:{operation}`")), "{checked:#?}");
        town.source_region().faults().remove(rule);
    }
    run(&["check-config", "--config", name(&config)]).expect(0);
}

#[test]
fn a_newer_layout_is_refused_by_every_command() {
    let town = Town::with_tables();
    town.create_newer_control();
    let config = town.config("[http]\nlisten = \"127.0.0.1:0\"\n", "");
    for command in [&["run"][..], &["init"], &["check-config"], &["status"], &["dead-letters", "list"]] {
        let refused = run(&[command, &["--config", name(&config)]].concat()).expect(78);
        let told = format!("{}{}", refused.stdout, refused.stderr);
        assert!(
            told.contains("has layout version") && told.contains("run the newer program"),
            "{refused:#?}"
        );
    }
}
