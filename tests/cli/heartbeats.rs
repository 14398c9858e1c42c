//! Heartbeats as a person meets them: created by `init`, looked at by `check-config`, shown by a worker.

use super::program::{Daemon, file, name, run, until};
use super::town::Town;

#[test]
fn init_creates_their_tables_and_a_worker_shows_that_they_arrive() {
    let town = Town::with_tables();
    let config = town.config("[heartbeat]\ninterval = \"1s\"\n", "");
    let at = ["--config", name(&config)];
    let dry = run(&[&["init", "--dry-run"], &at[..]].concat()).expect(0);
    assert!(dry.stdout.contains("would create heartbeat table `dynamirror-heartbeat`"), "{dry:#?}");
    assert!(!town.has_table("dynamirror-heartbeat"), "a dry run created it");
    let created = run(&[&["init"], &at[..]].concat()).expect(0);
    let lines: Vec<_> = created.stdout.lines().filter(|line| line.contains("heartbeat table")).collect();
    assert!(lines.len() == 2 && lines.iter().all(|line| line.starts_with("created")), "{created:#?}");
    assert!(lines[1].contains("`dynamirror-heartbeat.us-east-1-"), "{created:#?}");
    let again = run(&[&["init"], &at[..]].concat()).expect(0);
    assert_eq!(again.stdout.matches(" is there").count(), 3, "{again:#?}");
    let checked = run(&[&["check-config"], &at[..]].concat()).expect(0);
    assert_eq!(
        checked.stdout.lines().filter(|line| line.starts_with("ok       heartbeat: ")).count(),
        2,
        "{checked:#?}"
    );
    let mut daemon = Daemon::start(name(&config));
    let address = daemon.address();
    until("a heartbeat in the replica", || {
        let page = Daemon::metrics(address);
        let line = page.lines().find(|line| line.starts_with("dynamirror_heartbeat_last_applied"))?;
        assert!(line.contains("replication=\"#heartbeat/us-east-1-"), "{line}");
        Some(())
    });
    daemon.terminate();
    assert_eq!(daemon.code(), Some(0));
}

#[test]
fn without_their_tables_a_worker_is_as_ready_as_ever_and_says_so() {
    let town = Town::with_tables();
    let config = town.config("[heartbeat]\nmode = \"off\"\n", "");
    let off = run(&["init", "--config", name(&config)]).expect(0);
    assert!(!off.stdout.contains("heartbeat"), "{off:#?}");
    let text = std::fs::read_to_string(&config).expect("readable").replace("mode = \"off\"", "");
    let config = file(&text);
    let checked = run(&["check-config", "--config", name(&config)]).expect(0);
    assert!(checked.stdout.contains("is not there; `dynamirror init` creates it"), "{checked:#?}");
    let mut daemon = Daemon::start(name(&config));
    let address = daemon.address();
    daemon.logged("no heartbeats: an idle source's lag is not proven");
    until("it to be ready", || Daemon::answers(address, "/readyz").then_some(()));
    town.put("1", "one");
    town.arrived("1");
    daemon.terminate();
    assert_eq!(daemon.code(), Some(0));
}

#[test]
fn a_table_that_is_not_for_them_and_a_key_that_cannot_carry_them_are_told() {
    let town = Town::with_tables();
    town.create_with_other_key("Numbers");
    let replica = town.replica_region().endpoint();
    let more = format!(
        r#"
[[replications]]
name = "numbers"
heartbeat = "in-table"
[replications.source]
table = "Numbers"
region = "us-west-2"
endpoint_url = "{replica}"
[[replications.replicas]]
name = "copy"
table = "NumbersCopy"
region = "us-west-2"
endpoint_url = "{replica}"
attempt_timeout = "1s"
"#
    );
    let config = town.config("", &more);
    run(&["init", "--config", name(&config)]).expect(0);
    let checked = run(&["check-config", "--config", name(&config)]).expect(78);
    for words in ["replications[1].heartbeat: source table `Numbers`", "the partition key `id` is a number"] {
        assert!(checked.stdout.contains(words), "no {words} in {checked:#?}");
    }
}
