//! `verify`: what it finds, what it prints, and what it refuses.

use std::path::Path;

use super::program::{Daemon, Outcome, name, run};
use super::town::Town;

/// A town whose source is replicated by the daemon, and its configuration.
fn replicated(keys: u32) -> (Town, tempfile::TempPath, Daemon) {
    let town = Town::with_tables();
    let config = town.config("", "");
    run(&["init", "--config", name(&config)]).expect(0);
    let mut daemon = Daemon::start(name(&config));
    daemon.address();
    for key in 0..keys {
        town.put(&format!("{key:03}"), "same");
    }
    for key in 0..keys {
        town.arrived(&format!("{key:03}"));
    }
    (town, config, daemon)
}

fn verify(config: &tempfile::TempPath, arguments: &[&str]) -> Outcome {
    run(&[&["verify", "orders", "--config", name(config)], arguments].concat())
}

#[test]
fn equal_tables_are_told_and_planted_differences_found() {
    let (town, config, _daemon) = replicated(30);
    let equal = verify(&config, &[]).expect(0);
    assert!(equal.stdout.contains("replica `orders/west` is equal to its source"), "{equal:#?}");
    town.put_in_replica("extra", "only here");
    town.put_in_replica("007", "another text");
    town.delete_in_replica("011");
    let found = verify(&config, &["--output", "json"]).expect(1).json();
    assert_eq!((&found["schema_version"], &found["ok"]), (&1.into(), &false.into()));
    let replica = &found["replicas"][0];
    assert_eq!(replica["source"]["items"], 30);
    assert_eq!(replica["complete"], true);
    assert_eq!(
        replica["counts"],
        serde_json::json!({"missing": 1, "extra": 1, "different": 1, "ttl_expired": 0, "unstable": 0})
    );
    let differences = replica["differences"].as_array().expect("a list");
    let told: Vec<_> = differences.iter().map(|it| (&it["class"], &it["key"]["sk"]["S"])).collect();
    let expected = [("missing", "011"), ("extra", "extra"), ("different", "007")];
    assert_eq!(told.len(), 3, "{found:#}");
    for ((class, key), (wanted_class, wanted_key)) in told.iter().zip(expected) {
        assert_eq!((class.as_str(), key.as_str()), (Some(wanted_class), Some(wanted_key)));
    }
    assert_eq!(differences[2]["paths"], serde_json::json!([{"path": "text", "what": "value"}]));
    assert_eq!(differences[2]["source"]["text"]["S"], "same");
    assert_eq!(differences[2]["replica"]["text"]["S"], "another text");
    let text = verify(&config, &["--grace", "1s", "--ignore", "text"]).expect(1);
    for words in ["1 missing, 1 extra, 0 different", r#"extra        {"pk":{"S":"p"},"sk":{"S":"extra"}}"#] {
        assert!(text.stdout.contains(words), "no {words} in {text:#?}");
    }
    let bounded =
        verify(&config, &["--grace", "1s", "--max-differences", "1", "--output", "json"]).expect(1).json();
    assert_eq!(bounded["replicas"][0]["complete"], false);
}

#[test]
fn signatures_are_compared_here_or_elsewhere() {
    let (town, config, _daemon) = replicated(20);
    let equal = verify(&config, &["--signature-only"]).expect(0);
    assert!(equal.stdout.contains("`orders/west`: equal, 20 items"), "{equal:#?}");
    let sign = ["--signature-only", "--side", "source", "--output", "json"];
    let saved = verify(&config, &sign).expect(0);
    assert_eq!(saved.json()["items"], 20);
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("source.json");
    std::fs::write(&file, &saved.stdout).expect("written");
    let against = |more: &[&str]| {
        let file = file.to_str().expect("a path");
        let flags = ["--signature-only", "--side", "replica", "--against", file];
        verify(&config, &[&flags, more].concat())
    };
    against(&[]).expect(0);
    let other = against(&["--ignore", "text"]).expect(2);
    assert!(other.stderr.contains("it was made with other `--ignore`"), "{other:#?}");
    town.put_in_replica("003", "another text");
    let different = against(&["--output", "json"]).expect(1).json();
    assert_eq!(different["items"], serde_json::json!([20, 20]));
    assert_eq!(different["differing_buckets"].as_array().map(Vec::len), Some(1));
    std::fs::write(&file, "{}").expect("written");
    against(&[]).expect(2);
}

#[test]
fn a_repair_is_planned_and_what_makes_no_sense_is_refused() {
    let (town, config, _daemon) = replicated(5);
    town.put_in_replica("extra", "only here");
    town.delete_in_replica("001");
    let planned = verify(&config, &["--grace", "1s", "--repair"]).expect(1);
    assert!(planned.stdout.contains("would be repaired: 1 keys put, 1 deleted"), "{planned:#?}");
    let dir = tempfile::tempdir().expect("a directory");
    let there = dir.path().join("there.json");
    std::fs::write(&there, "mine").expect("written");
    let refused = |arguments: &[&str], words: &str| {
        let refused = verify(&config, arguments).expect(2);
        assert!(refused.stderr.contains(words), "no {words} in {refused:#?}");
    };
    let there_path = there.to_str().expect("a path");
    refused(&["--repair", "--apply", "--undo", there_path], "there is such a file already");
    assert_eq!(std::fs::read(&there).expect("read"), b"mine");
    refused(&["--repair", "--apply"], "--undo");
    refused(&["--apply"], "--repair");
    refused(&["--read-units", "0"], "0");
    refused(&["--memory", "1MiB"], "at least 8.0 MiB");
    refused(&["--ignore", "sk"], "it is a key attribute");
    refused(&["--replica", "east"], "--replica east");
    let nowhere = verify(&config, &["--temp-dir", "/nonexistent"]).expect(75);
    assert!(nowhere.stderr.contains("keep digests on disk in `/nonexistent`"), "{nowhere:#?}");
    assert!(Path::new(&there).exists());
}

#[test]
fn nobody_who_could_tell_how_far_the_replica_is_needs_a_grace() {
    let town = Town::with_tables();
    let config = town.config("", "");
    run(&["init", "--config", name(&config)]).expect(0);
    let unknown = verify(&config, &[]).expect(2);
    assert!(unknown.stderr.contains("--grace"), "{unknown:#?}");
    town.put("1", "one");
    let missing = verify(&config, &["--grace", "10ms"]).expect(1);
    assert!(missing.stdout.contains("1 missing, 0 extra, 0 different"), "{missing:#?}");
    town.create_with_other_key("Other");
    let config = town.config("", "table = \"Other\"");
    let keyed = verify(&config, &["--grace", "10ms"]).expect(2);
    assert!(keyed.stderr.contains("by `id` (N): they cannot be compared"), "{keyed:#?}");
}
