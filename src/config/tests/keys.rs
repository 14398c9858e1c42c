//! What is written where: unknown, misplaced and missing keys, types, brackets, syntax.

use super::*;

#[test]
fn unknown_keys_are_named_with_a_suggestion_and_what_is_allowed() {
    assert_problem(
        &with("[http]", "lissten = \"127.0.0.1:1\""),
        "c.toml:2:1",
        "unknown key `lissten` in `http`; did you mean `listen`?",
        "allowed: listen",
    );
    assert_problem(
        &with(REPLICA, "endpoint = \"http://h\""),
        "c.toml:12:1",
        "unknown key `endpoint` in `replications[0].replicas[0]`; did you mean `endpoint_url`?",
        "allowed: name, table, region, endpoint_url",
    );
    assert_problem(
        &with("[[replications]]", "park_limit = 1"),
        "c.toml:5:1",
        "unknown key `park_limit` in `replications[0]`; it is a key of `replications.replicas`",
        "allowed: name, start, heartbeat, verify_every, verify_read_units, source, poll, replicas",
    );
    assert_problem(
        &with("[colour]", "red = 1"),
        "c.toml:1:2",
        "unknown key `colour` at the top level",
        "allowed: control, worker, http, log, lease, heartbeat, replications",
    );
}

#[test]
fn a_misspelt_required_key_is_one_problem_and_not_also_missing() {
    let text = minimal_with("region = \"us-east-1\"", "regoin = \"us-east-1\"");
    let message = "unknown key `regoin` in `replications[0].replicas[0]`; did you mean `region`?";
    assert_problem(&text, "c.toml:13:1", message, "allowed:");
}

#[test]
fn wrong_types_say_what_is_expected() {
    let duration = "expected a duration such as \"15s\" or \"2m30s\", found the number 15";
    assert_problem(&with("[worker]", "grace = 15"), "c.toml:2:9", duration, "\"15s\" or \"15ms\"");
    let size = "expected a size with a unit, such as \"32MiB\", found the number 64";
    assert_problem(&with(REPLICA, "buffer = 64"), "c.toml:12:10", size, "\"64MiB\" or \"64B\"");
    let number = "expected a whole number, found \"8\"";
    assert_problem(
        &with(REPLICA, "batches_in_flight = \"8\""),
        "c.toml:12:21",
        number,
        "remove the quotes: 8",
    );
    let region = "expected a region such as \"eu-west-1\", found the number 5";
    assert_problem(&minimal_with("\"us-east-1\"", "5"), "c.toml:13:10", region, "write it in quotes");
    let flag = "expected true or false, found \"yes\"";
    assert_problem(&with("[control]", "create = \"yes\""), "c.toml:2:10", flag, "");
    let table = "expected a table, found the number 1";
    assert_problem(&format!("http = 1\n{MINIMAL}"), "c.toml:1:8", table, "");
}

#[test]
fn brackets_that_do_not_fit_are_explained() {
    let list = format!("[[http]]\nlisten = \"127.0.0.1:1\"\n{MINIMAL}");
    assert_problem(&list, "c.toml:1:1", "expected a table, found a list", "single brackets");
    let table =
        minimal_with("[[replications]]", "[replications]").replace(REPLICA, "[replications.replicas]");
    assert_problem(&table, "c.toml:4:1", "expected a list of tables, found a table", "double brackets");
}

#[test]
fn a_syntax_error_is_shown_where_it_is() {
    let problem = only_problem(&minimal_with("name = \"orders\"", "name = \"orders"));
    assert_eq!(at(&problem), "c.toml:5:15", "{problem}");
    assert!(problem.message.contains("basic string"), "{problem}");
    let duplicate = only_problem(&minimal_with("name = \"orders\"", "name = \"a\"\nname = \"b\""));
    assert_eq!((at(&duplicate).as_str(), duplicate.message.as_str()), ("c.toml:6:1", "duplicate key"));
}

#[test]
fn required_keys_are_asked_for_at_their_table() {
    let region = minimal_with("region = \"us-east-1\"", "");
    assert_problem(
        &region,
        "c.toml:11:1",
        "missing key `region` in `replications[0].replicas[0]`",
        "AWS_REGION",
    );
    let table = minimal_with("table = \"Orders\"", "");
    assert_problem(&table, "c.toml:7:15", "missing key `table` in `replications[0].source`", "");
    let name = minimal_with("name = \"orders\"", "");
    assert_problem(&name, "c.toml:4:1", "missing key `name` in `replications[0]`", "checkpoints");
    let replica = minimal_with("name = \"us\"", "");
    assert_problem(&replica, "c.toml:11:1", "missing key `name` in `replications[0].replicas[0]`", "metrics");
    let control = minimal_with("[control]\nregion = \"eu-west-1\"", "");
    assert_problem(&control, "control.region", "missing key `region` in `control`", "AWS_REGION");
    let source =
        refused(&minimal_with("[replications.source]\ntable = \"Orders\"\nregion = \"eu-west-1\"", ""));
    let expected = [
        "missing key `table` in `replications[0].source`",
        "missing key `region` in `replications[0].source`",
    ];
    assert_eq!(messages(&source), expected);
}

#[test]
fn empty_lists_are_refused() {
    let none = "[control]\nregion = \"eu-west-1\"\n";
    assert_problem(none, "replications", "there is nothing to replicate", "[[replications]]");
    let bare = minimal_with("[[replications.replicas]]\nname = \"us\"\nregion = \"us-east-1\"\n", "");
    assert_problem(&bare, "c.toml:4:1", "`replications[0]` has no replicas", "[[replications.replicas]]");
}
