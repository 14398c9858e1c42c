//! What must hold between settings.

use super::*;

/// A replication as inline TOML: `(name, source, replicas)`, tables as inline keys.
fn config(replications: &[(&str, &str, &[&str])]) -> String {
    let mut text = String::from("[control]\nregion = \"eu-west-1\"\n");
    for (name, source, replicas) in replications {
        text.push_str(&format!("[[replications]]\nname = {name:?}\nsource = {{ {source} }}\nreplicas = [\n"));
        for (index, replica) in replicas.iter().enumerate() {
            text.push_str(&format!("  {{ name = \"r{index}\", {replica} }},\n"));
        }
        text.push_str("]\n");
    }
    text
}

const ORDERS_EU: &str = "table = \"Orders\", region = \"eu-west-1\"";
const ORDERS_US: &str = "table = \"Orders\", region = \"us-east-1\"";
const ORDERS_AP: &str = "table = \"Orders\", region = \"ap-south-1\"";
const USERS_EU: &str = "table = \"Users\", region = \"eu-west-1\"";

fn refused_with(replications: &[(&str, &str, &[&str])], path: &str, message: &str, help: &str) {
    let problem = only_problem(&config(replications));
    assert_eq!(problem.path.as_deref(), Some(path));
    assert_eq!(problem.message, message);
    assert!(problem.help.as_deref().unwrap_or_default().contains(help), "{problem}");
    assert!(matches!(problem.place, Place::File { .. }), "{problem}");
}

#[test]
fn replication_names_are_unique() {
    let twice = [("a", ORDERS_EU, &[ORDERS_US][..]), ("a", USERS_EU, &["region = \"us-east-1\""])];
    refused_with(&twice, "replications[1].name", "two replications are named \"a\"", "`replications[0]`");
}

#[test]
fn replica_names_are_unique_within_a_replication() {
    let text = config(&[("a", ORDERS_EU, &[ORDERS_US, ORDERS_AP])]).replace("\"r1\"", "\"r0\"");
    let problem = only_problem(&text);
    assert_eq!(problem.path.as_deref(), Some("replications[0].replicas[1].name"));
    assert_eq!(problem.message, "two replicas of one source are named \"r0\"");
    accepted(&config(&[("a", ORDERS_EU, &[ORDERS_US]), ("b", USERS_EU, &["region = \"us-east-1\""])]));
}

#[test]
fn a_replica_is_not_its_own_source() {
    let message = "the replica is its own source: table Orders in eu-west-1";
    for (source, replica) in [
        (ORDERS_EU, ORDERS_EU),
        (ORDERS_EU, "region = \"eu-west-1\""),
        (ORDERS_EU, "region = \"eu-west-1\", endpoint_url = \"https://dynamodb.eu-west-1.amazonaws.com/\""),
        (
            "table = \"Orders\", region = \"eu-west-1\", role_arn = \"arn:aws:iam::123456789012:role/read\"",
            "region = \"eu-west-1\", role_arn = \"arn:aws:iam::123456789012:role/write\"",
        ),
        (
            "table = \"arn:aws:dynamodb:eu-west-1:123456789012:table/Orders\", region = \"eu-west-1\"",
            "region = \"eu-west-1\", role_arn = \"arn:aws:iam::123456789012:role/write\"",
        ),
    ] {
        refused_with(&[("a", source, &[replica])], "replications[0].replicas[0]", message, "another table");
    }
    let local = "table = \"Orders\", region = \"eu-west-1\", endpoint_url = \"http://localhost:8000\"";
    let same = "region = \"eu-west-1\", endpoint_url = \"http://127.0.0.1:8000/\"";
    let message = "the replica is its own source: table Orders in eu-west-1 at http://127.0.0.1:8000";
    refused_with(&[("a", local, &[same])], "replications[0].replicas[0]", message, "another table");
}

#[test]
fn tables_reached_differently_are_different() {
    for replica in [
        ORDERS_US,
        "table = \"orders\", region = \"eu-west-1\"",
        "region = \"eu-west-1\", endpoint_url = \"http://127.0.0.1:8000\"",
        "region = \"eu-west-1\", profile = \"other\"",
        "region = \"eu-west-1\", role_arn = \"arn:aws:iam::123456789012:role/r\"",
        "table = \"arn:aws:dynamodb:eu-west-1:123456789012:table/Orders\", region = \"eu-west-1\"",
    ] {
        accepted(&config(&[("a", ORDERS_EU, &[replica])]));
    }
    let ports = "region = \"eu-west-1\", endpoint_url = \"http://127.0.0.1:8001\"";
    let local = "table = \"Orders\", region = \"eu-west-1\", endpoint_url = \"http://127.0.0.1:8000\"";
    accepted(&config(&[("a", local, &[ports])]));
}

#[test]
fn a_table_is_written_once() {
    let message = "two replicas write table Orders in us-east-1";
    let within = [("a", ORDERS_EU, &[ORDERS_US, ORDERS_US][..])];
    refused_with(&within, "replications[0].replicas[1]", message, "`replications[0].replicas[0]`");
    let across = [("a", ORDERS_EU, &[ORDERS_US][..]), ("b", USERS_EU, &[ORDERS_US])];
    refused_with(&across, "replications[1].replicas[0]", message, "`replications[0].replicas[0]`");
}

#[test]
fn cycles_are_refused_and_chains_are_pointed_out() {
    let two = [("a", ORDERS_EU, &[ORDERS_US][..]), ("b", ORDERS_US, &[ORDERS_EU])];
    let message = "replications form a cycle: table Orders in eu-west-1 -> table Orders in us-east-1 -> \
                   table Orders in eu-west-1";
    refused_with(&two, "replications[1].replicas[0]", message, "for ever");
    let three =
        [("a", ORDERS_EU, &[ORDERS_US][..]), ("b", ORDERS_US, &[ORDERS_AP]), ("c", ORDERS_AP, &[ORDERS_EU])];
    let problem = only_problem(&config(&three));
    assert!(problem.message.ends_with("table Orders in ap-south-1"), "{problem}");
    assert_eq!(problem.message.matches(" -> ").count(), 3, "{problem}");
    let chain = accepted(&config(&three[..2]));
    let warnings = warnings(&chain);
    assert_eq!(warnings.len(), 1);
    assert_eq!(
        warnings[0].message,
        "table Orders in us-east-1 is also the source of `b`: replicas form a chain"
    );
    assert_eq!(warnings[0].path.as_deref(), Some("replications[0].replicas[0]"));
    assert!(super::warnings(&accepted(MINIMAL)).is_empty());
}

#[test]
fn the_control_table_is_apart() {
    let control = "table = \"dynamirror-control\", region = \"eu-west-1\"";
    let source = "the control table cannot be a source: table dynamirror-control in eu-west-1";
    refused_with(&[("a", control, &[ORDERS_US])], "replications[0].source", source, "of their own");
    let replica = "the control table cannot be a replica: table dynamirror-control in eu-west-1";
    refused_with(&[("a", ORDERS_EU, &[control])], "replications[0].replicas[0]", replica, "of their own");
}

#[test]
fn times_build_on_each_other() {
    let lease = |lines: &str| format!("[lease]\n{lines}\n{MINIMAL}");
    assert_problem(
        &lease("checkpoint_interval = \"7s\""),
        "c.toml:2:23",
        "lease.checkpoint_interval (7s) is longer than a third of lease.duration (20s)",
        "two renewals",
    );
    let text = lease("duration = \"13s\"\ncheckpoint_interval = \"4s\"");
    accepted(&text);
    let exact = lease("duration = \"12s\"\ncheckpoint_interval = \"4s\"");
    let problem = only_problem(&exact);
    assert_eq!(
        problem.message, "attempt_timeout (4s) is too long for lease.duration (12s)",
        "the bound itself is too short"
    );
    assert_eq!(problem.path.as_deref(), Some("replications[0].replicas[0].attempt_timeout"));
    assert!(problem.help.as_deref().unwrap_or_default().contains("here 12s"), "{problem}");
    let poll =
        minimal_with("[replications.source]", "[replications.poll]\nidle = \"100ms\"\n[replications.source]");
    let message = "poll.idle (100ms) is shorter than poll.active (200ms)";
    assert_problem(&poll, "c.toml:8:8", message, "no more often");
}

#[test]
fn relations_are_checked_among_what_could_be_read() {
    let broken = "table = \"Users\", region = 5";
    let text = config(&[("a", ORDERS_EU, &[ORDERS_EU]), ("a", broken, &[ORDERS_US])]);
    let errors = refused(&text);
    let expected = [
        "the replica is its own source: table Orders in eu-west-1",
        "two replications are named \"a\"",
        "expected a region such as \"eu-west-1\", found the number 5",
    ];
    assert_eq!(messages(&errors), expected);
}

#[test]
fn heartbeat_tables_are_nobody_elses() {
    let named = |table: &str, more: &str| {
        let heartbeat = format!("[heartbeat]\ntable = {table:?}\n{more}\n");
        format!("{heartbeat}{}", config(&[("a", ORDERS_EU, &[ORDERS_US])]))
    };
    for (table, message) in [
        ("Orders", "table Orders in eu-west-1 has the name of a heartbeat table"),
        ("arn:aws:dynamodb:eu-west-2:123456789012:table/Beats", "expected a name, no ARN"),
    ] {
        let problem = only_problem(&named(table, ""));
        assert_eq!(problem.path.as_deref(), Some("heartbeat.table"));
        assert!(problem.message.contains(message), "{problem}");
        accepted(&named(table, "mode = \"off\""));
    }
    accepted(&named("Ord", ""));
}
