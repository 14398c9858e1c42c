//! `schema`, and replicas that are created like their sources.

use serde_json::Value;

use super::program::{Daemon, Outcome, name, run, until};
use super::town::Town;

fn at(config: &tempfile::TempPath, arguments: &[&str]) -> Outcome {
    run(&[arguments, &["--config", name(config)]].concat())
}

/// A source table alone, its stream on.
fn town() -> Town {
    let town = Town::empty();
    town.create_source_without_stream();
    town.enable_stream();
    town
}

#[test]
fn a_missing_table_is_planned_then_made_and_then_nothing_differs() {
    let town = town();
    let config = town.config("", "");
    let planned = at(&config, &["schema", "plan", "orders"]).expect(0);
    for words in
        ["replica `orders/west`", "is missing", "1. CreateTable", "TimeToLive", "not carried over: ", "IAM"]
    {
        assert!(planned.stdout.contains(words), "no {words} in {planned:#?}");
    }
    let differs = at(&config, &["schema", "diff", "orders"]).expect(1);
    assert!(differs.stdout.contains("`Orders` is missing"), "{differs:#?}");
    let refused = at(&config, &["schema", "apply", "orders"]).expect(2);
    assert!(refused.stderr.contains("no call is made without --yes"), "{refused:#?}");
    let dry = at(&config, &["schema", "apply", "orders", "--dry-run"]).expect(0);
    assert!(dry.stdout.contains("no call was made"), "{dry:#?}");
    assert!(!town.replica_has_table("Orders"), "it was made without a yes");

    let applied = at(&config, &["schema", "apply", "orders", "--yes"]).expect(0);
    assert!(applied.stdout.contains("2 of 2 calls were made"), "{applied:#?}");
    let same = at(&config, &["schema", "diff", "orders", "--replica", "west"]).expect(0);
    assert!(same.stdout.contains("is like its source"), "{same:#?}");
    let again = at(&config, &["schema", "apply", "orders"]).expect(0);
    assert!(again.stdout.contains("there was nothing to do"), "{again:#?}");
    at(&config, &["init"]).expect(0);
    let checked = at(&config, &["check-config"]).expect(0);
    assert!(checked.stdout.contains("has the source's key"), "{checked:#?}");
}

#[test]
fn a_plan_is_also_there_for_programs() {
    let town = town();
    let config = town.config("", "");
    let plan = at(&config, &["schema", "plan", "orders", "--json"]).expect(0).json();
    assert_eq!(plan["schema_version"], 1);
    let replica = &plan["replicas"][0];
    assert_eq!((&replica["name"], &replica["equal"]), (&"west".into(), &false.into()), "{plan:#}");
    assert_eq!(replica["plan"]["calls"][0]["operation"], "CreateTable", "{plan:#}");
    assert_eq!(replica["plan"]["calls"][0]["body"]["TableName"], "Orders", "{plan:#}");
    let recorded = replica["plan"]["recorded"].as_array().expect("a list");
    assert!(
        recorded.iter().all(|it| it["reason"].as_str().is_some_and(|reason| !reason.is_empty())),
        "{plan:#}"
    );
    let applied = at(&config, &["schema", "apply", "orders", "--yes", "--json"]).expect(0).json();
    assert_eq!(applied["replicas"][0]["applied"], true, "{applied:#}");
    let same: Value = at(&config, &["schema", "diff", "orders", "--json"]).expect(0).json();
    assert_eq!(same["replicas"][0]["equal"], true, "{same:#}");
}

#[test]
fn a_table_of_another_key_is_told_and_left_alone() {
    let town = town();
    town.create_with_other_key("Orders");
    let config = town.config("", "");
    let differs = at(&config, &["schema", "diff", "orders"]).expect(1);
    assert!(
        differs.stdout.contains("KeySchema") && differs.stdout.contains("name another table"),
        "{differs:#?}"
    );
    let applied = at(&config, &["schema", "apply", "orders", "--yes"]).expect(0);
    assert!(applied.stdout.contains("there was nothing to do"), "{applied:#?}");
}

#[test]
fn what_makes_no_sense_is_refused() {
    let town = Town::empty();
    let config = town.config("", "");
    let unknown = at(&config, &["schema", "plan", "invoices"]).expect(2);
    assert!(unknown.stderr.contains("but orders"), "{unknown:#?}");
    let missing = at(&config, &["schema", "plan", "orders"]).expect(78);
    assert!(
        missing.stderr.contains("copy the schema of table `Orders`: there is no such table"),
        "{missing:#?}"
    );
}

#[test]
fn two_workers_create_a_missing_replica_and_replicate_to_it() {
    let town = town();
    let config = town.config("", "create = true\n");
    at(&config, &["init"]).expect(0);
    let checked = at(&config, &["check-config"]).expect(0);
    assert!(checked.stdout.contains("it is created like its source at the start"), "{checked:#?}");
    town.put("1", "one");
    let mut workers = [Daemon::start(name(&config)), Daemon::start(name(&config))];
    workers[0].address();
    until("the replica's table", || town.replica_has_table("Orders").then_some(()));
    town.arrived("1");
    until("an equal table", || (at(&config, &["schema", "diff", "orders"]).code == Some(0)).then_some(()));
    for worker in &mut workers {
        worker.terminate();
        assert_eq!(worker.code(), Some(0));
    }
}

#[test]
fn a_worker_tells_in_how_many_settings_a_replica_differs() {
    let town = Town::with_tables();
    let config = town.config("", "");
    at(&config, &["init"]).expect(0);
    // The replica has no stream.
    let differs = at(&config, &["schema", "diff", "orders"]).expect(1);
    assert_eq!(differs.stdout.matches("the source has").count(), 1, "{differs:#?}");
    let mut worker = Daemon::start(name(&config));
    let address = worker.address();
    let series = r#"dynamirror_schema_drift{replica="west",replication="orders",table="Orders"} 1"#;
    until("the drift", || Daemon::metrics(address).contains(series).then_some(()));
    worker.terminate();
    assert_eq!(worker.code(), Some(0));
}
