//! `copy`: what it writes, what it refuses, and what `status` shows of it. Nobody works there.

use super::program::{Outcome, name, run};
use super::town::Town;

fn at(config: &tempfile::TempPath, arguments: &[&str]) -> Outcome {
    run(&[arguments, &["--config", name(config)]].concat())
}

/// The copy of the only replica, as the status has it.
fn shown(config: &tempfile::TempPath) -> serde_json::Value {
    let status = at(config, &["status", "--output", "json"]).expect(1).json();
    status["replications"][0]["replicas"][0]["copy"].clone()
}

#[test]
fn what_makes_no_sense_is_refused_and_writes_nothing() {
    let town = Town::with_tables();
    let config = town.config("", "");
    at(&config, &["init"]).expect(0);
    for (arguments, words) in [
        (&["copy", "invoices"][..], "but orders"),
        (&["copy", "orders", "--replica", "east"], "--replica east"),
        (&["copy", "orders", "--read-units", "0"], "nothing can be read"),
        (&["copy", "orders", "--segments", "9999"], "1 to 8192"),
        (&["copy", "orders", "--window", "soon"], "--window"),
        (&["copy", "orders", "--reconcile"], "without --yes"),
        (&["copy", "orders", "--cancel"], "none is under way"),
    ] {
        let refused = at(&config, arguments).expect(2);
        assert!(refused.stderr.contains(words), "{arguments:?}: {refused:#?}");
    }
    assert!(shown(&config).is_null(), "something was written");
}

#[test]
fn a_copy_is_planned_asked_for_shown_and_given_up() {
    let town = Town::with_tables();
    let config = town.config("", "");
    at(&config, &["init"]).expect(0);
    town.put("1", "one");
    let plan = at(&config, &["copy", "orders", "--dry-run", "--read-units", "7"]).expect(0);
    assert!(plan.stdout.contains("64 segments, strongly consistent"), "{plan:#?}");
    assert!(shown(&config).is_null(), "a dry run wrote something");

    let asked = ["copy", "orders", "--no-follow", "--segments", "8", "--output", "json"];
    let asked = at(&config, &asked).expect(0).json();
    assert_eq!(asked["replicas"][0]["state"], "wanted");
    assert_eq!(shown(&config)["state"], "wanted");
    let other = at(&config, &["copy", "orders", "--no-follow", "--segments", "16"]).expect(2);
    assert!(other.stderr.contains("has cut the table into 8"), "{other:#?}");
    let other = at(&config, &["copy", "orders", "--no-follow", "--eventually-consistent"]).expect(2);
    assert!(other.stderr.contains("cancel it first"), "{other:#?}");
    at(&config, &["copy", "orders", "--no-follow"]).expect(0);

    let given_up = at(&config, &["copy", "orders", "--cancel"]).expect(0);
    assert!(given_up.stdout.contains("orders/west: cancelled"), "{given_up:#?}");
    assert_eq!(shown(&config)["state"], "cancelled");
    at(&config, &["copy", "orders", "--cancel"]).expect(2);
}
