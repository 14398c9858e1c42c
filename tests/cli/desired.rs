//! `pause`, `resume` and `seek`: what they write, what they refuse, and what `status` shows of it.

use super::program::{Daemon, Outcome, name, run, until};
use super::town::Town;

/// A town whose source was replicated for a while, and its configuration. Nobody works there now.
fn replicated() -> (Town, tempfile::TempPath) {
    let town = Town::with_tables();
    let config = town.config("", "");
    run(&["init", "--config", name(&config)]).expect(0);
    let mut daemon = Daemon::start(name(&config));
    daemon.address();
    for key in ["1", "2", "3", "4"] {
        town.put(key, "one");
        town.arrived(key);
    }
    // The shard without changes proves after some empty polls that it has none.
    until("a lag", || {
        let status = at(&config, &["status", "--output", "json"]).json();
        status["replications"][0]["replicas"][0]["lag_seconds"].is_number().then_some(())
    });
    daemon.terminate();
    assert_eq!(daemon.code(), Some(0));
    (town, config)
}

fn at(config: &tempfile::TempPath, arguments: &[&str]) -> Outcome {
    run(&[arguments, &["--config", name(config)]].concat())
}

/// A shard of a planned seek that stands after a change, and the number of that change.
fn reached(config: &tempfile::TempPath) -> (String, u128) {
    let seek = ["seek", "orders", "--to", "trim_horizon", "--dry-run", "--output", "json"];
    let plan = at(config, &seek).expect(0).json();
    let shards = plan["shards"].as_array().expect("shards");
    let after = shards.iter().find_map(|shard| {
        let number = shard["now_at"].as_str()?.strip_prefix("after ")?;
        Some((shard["shard"].as_str()?.to_owned(), number.parse().ok()?))
    });
    after.unwrap_or_else(|| panic!("no change was applied: {plan:#}"))
}

#[test]
fn names_and_targets_that_make_no_sense_are_refused() {
    let town = Town::with_tables();
    let config = town.config("", "");
    at(&config, &["init"]).expect(0);
    let unknown = at(&config, &["pause", "invoices"]).expect(2);
    assert!(unknown.stderr.contains("invoices") && unknown.stderr.contains("but orders"), "{unknown:#?}");
    let unknown = at(&config, &["resume", "orders", "--replica", "east"]).expect(2);
    assert!(unknown.stderr.contains("--replica east"), "{unknown:#?}");
    let never = at(&config, &["seek", "orders", "--to", "trim_horizon"]).expect(2);
    assert!(never.stderr.contains("was never started"), "{never:#?}");
    for (to, words) in [("25h", "24 hours"), ("2100-01-01T00:00:00Z", "in the future"), ("12", "--shard")] {
        let refused = at(&config, &["seek", "orders", "--to", to]).expect(2);
        assert!(refused.stderr.contains(words), "{refused:#?}");
    }
}

#[test]
fn a_pause_is_written_shown_and_lifted() {
    let (_town, config) = replicated();
    let planned = at(&config, &["pause", "orders", "--dry-run"]).expect(0);
    assert!(planned.stdout.contains("would pause replica `orders/west`"), "{planned:#?}");
    let state = || {
        let status = at(&config, &["status", "--output", "json"]).expect(1).json();
        status["replications"][0]["replicas"][0].clone()
    };
    assert_eq!(state()["paused_since"], serde_json::Value::Null, "a dry run wrote something");
    let paused = at(&config, &["pause", "orders"]).expect(0);
    assert!(paused.stdout.contains("24 hours"), "{paused:#?}");
    assert_eq!(state()["state"], "paused");
    assert!(state()["headroom_seconds"].as_f64().is_some_and(|left| left > 86_000.0), "{:#}", state());
    let again = at(&config, &["pause", "orders", "--replica", "west", "--output", "json"]).expect(0).json();
    assert_eq!(again["replicas"][0]["changed"], false);
    assert_eq!(again["replicas"][0]["paused_since"], state()["paused_since"]);
    at(&config, &["resume", "orders"]).expect(0);
    assert_eq!(state()["paused_since"], serde_json::Value::Null);
    let idle = at(&config, &["resume", "orders"]).expect(0);
    assert!(idle.stdout.contains("is not paused"), "{idle:#?}");
}

#[test]
fn a_seek_forward_names_what_is_lost_and_waits_for_a_yes() {
    let (_town, config) = replicated();
    let (shard, number) = reached(&config);
    let next = (number + 1_000_000).to_string();
    let seek = ["seek", "orders", "--shard", &shard, "--to", &next];
    let refused = at(&config, &seek).expect(2);
    assert!(refused.stderr.contains("never gets the changes after"), "{refused:#?}");
    assert!(refused.stderr.contains("without --yes"), "{refused:#?}");
    let planned = at(&config, &[&seek[..], &["--dry-run"]].concat()).expect(0);
    assert!(planned.stdout.contains("skips") && planned.stdout.contains("never gets"), "{planned:#?}");
    let status = || at(&config, &["status", "--output", "json"]).expect(1).json();
    assert!(status()["replications"][0]["replicas"][0]["seek"].is_null(), "nothing was to be written");
    at(&config, &[&seek[..], &["--yes"]].concat()).expect(0);
    let seek = &status()["replications"][0]["replicas"][0]["seek"];
    assert_eq!(seek["target"], format!("after {next} in shard {shard}"));
    assert_eq!(seek["shards_to_follow"], 2, "nobody is there to obey");
    let unknown = at(&config, &["seek", "orders", "--shard", "shardId-0", "--to", "1"]).expect(2);
    assert!(unknown.stderr.contains("has no such shard"), "{unknown:#?}");
}
