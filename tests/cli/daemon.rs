//! `run`, and the commands that look after it.

use std::net::TcpListener;
use std::process::Stdio;
use std::time::Duration;

use dynamirror::emulator::{Fault, Rule};
use tokio::time::Instant;

use super::program::{Daemon, file, name, program, run, until};
use super::town::Town;

#[test]
fn it_replicates_shows_itself_and_drains() {
    let town = Town::with_tables();
    let config = town.config("", "");
    run(&["init", "--config", name(&config)]).expect(0);
    let before = run(&["status", "--config", name(&config)]).expect(1);
    assert!(before.stdout.contains("no worker runs"), "{before:#?}");
    let mut daemon = Daemon::start(name(&config));
    let address = daemon.address();
    town.put("1", "one");
    town.arrived("1");
    until("it to be ready", || Daemon::answers(address, "/readyz").then_some(()));
    let text = address.to_string();
    run(&["healthcheck", "--addr", &text]).expect(0);
    // Each row is written by the next checkpoint.
    let status = until("a status without problems", || {
        let status = run(&["status", "--config", name(&config), "--output", "json"]);
        let json = status.json();
        (status.code == Some(0) && json["replications"][0]["replicas"][0]["lag_seconds"].is_number())
            .then_some(json)
    });
    assert_eq!(status["schema_version"], 1);
    assert_eq!(status["replications"][0]["shards"]["active"], 2);
    assert_eq!(status["workers"][0]["alive"], true);
    assert_eq!(status["workers"][0]["shards"], 2);
    let page = run(&["status", "--config", name(&config)]).expect(0);
    assert!(
        page.stdout.contains("orders/west") && page.stdout.contains("nothing needs attention"),
        "{page:#?}"
    );
    daemon.terminate();
    assert_eq!(daemon.code(), Some(0));
    assert_eq!(town.owners(), [None, None], "leases were not given back");
}

#[test]
fn a_control_table_is_created_at_the_start_when_that_is_wanted() {
    let town = Town::with_tables();
    let config = town.config("", "");
    let text = std::fs::read_to_string(&config).expect("readable");
    let config = file(&text.replace("[control]", "[control]\ncreate = true"));
    let mut daemon = Daemon::start(name(&config));
    daemon.address();
    assert!(town.has_table("control"));
    town.put("1", "one");
    town.arrived("1");
    daemon.terminate();
    assert_eq!(daemon.code(), Some(0));
}

#[test]
fn a_port_in_use_stops_it_before_anything_else() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("it is bound").to_string();
    let town = Town::empty();
    let config = town.config("", "");
    let refused = run(&["run", "--config", name(&config), "--listen", &address]).expect(75);
    assert!(refused.stderr.contains(&address) && refused.stderr.contains("in use"), "{refused:#?}");
}

/// A worker that cannot finish its writes.
fn stuck(town: &Town, grace: &str) -> (Daemon, tempfile::TempPath) {
    let config = town.config(&format!("[heartbeat]\nmode = \"off\"\n[worker]\ngrace = \"{grace}\"\n"), "");
    run(&["init", "--config", name(&config)]).expect(0);
    let hang = Fault::Hang(Duration::from_secs(600));
    town.replica_region().faults().add(Rule::new(hang).on("BatchWriteItem"));
    let mut daemon = Daemon::start(name(&config));
    daemon.address();
    town.put("1", "one");
    until("a write that hangs", || (town.replica_region().requests("BatchWriteItem") > 0).then_some(()));
    (daemon, config)
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let town = Town::with_tables();
    let (mut daemon, _config) = stuck(&town, "10m");
    daemon.terminate();
    daemon.logged("draining");
    daemon.terminate();
    let began = Instant::now();
    assert_eq!(daemon.code(), Some(75));
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}

#[test]
fn a_drain_that_takes_too_long_is_cut_and_says_so() {
    let town = Town::with_tables();
    let (mut daemon, _config) = stuck(&town, "2s");
    daemon.terminate();
    assert_eq!(daemon.code(), Some(75));
}

#[test]
fn a_refused_change_is_listed_shown_and_retried() {
    let town = Town::with_tables();
    let config = town.config("", "");
    let at = ["--config", name(&config)];
    run(&[&["init"], &at[..]].concat()).expect(0);
    let letters = |arguments: &[&str]| run(&[&["dead-letters"], arguments, &at[..]].concat());
    let none = letters(&["list"]).expect(0);
    assert!(none.stdout.contains("has no dead letters"), "{none:#?}");
    let poison = Fault::Poison { marker: "poison".to_owned() };
    let faults = town.replica_region().faults();
    let rule = faults.add(Rule::new(poison));
    let mut daemon = Daemon::start(name(&config));
    daemon.address();
    town.put("bad", "poison");
    town.put("good", "fine");
    town.arrived("good");
    let listed = until("a dead letter", || {
        let listed = letters(&["list", "--output", "json"]).expect(0).json();
        (!listed["dead_letters"][0].is_null()).then_some(listed)
    });
    let letter = &listed["dead_letters"][0];
    assert_eq!(letter["key"]["sk"]["S"], "bad");
    assert_eq!(letter["change"], "put");
    let id = letter["id"].as_str().expect("an id");
    assert!(letters(&["list"]).expect(0).stdout.contains(id));
    let shown = letters(&["show", id, "--output", "json"]).expect(0).json();
    assert_eq!(shown["item"]["text"]["S"], "poison");
    assert!(letters(&["show", &id[..8]]).expect(0).stdout.contains(r#""text":{"S":"poison"}"#));
    let status = run(&[&["status"], &at[..]].concat()).expect(1);
    assert!(status.stdout.contains("refused 1 keys"), "{status:#?}");
    let refused = letters(&["drop", id]).expect(2);
    assert!(refused.stderr.contains("--yes"), "{refused:#?}");
    faults.remove(rule);
    letters(&["retry", "--all"]).expect(0);
    town.arrived("bad");
    until("it to be settled", || letters(&["list"]).stdout.contains("no dead letters").then_some(()));
    let unknown = letters(&["show", id]).expect(2);
    assert!(unknown.stderr.contains("is not parked"), "{unknown:#?}");
}

#[test]
fn a_dropped_change_is_forgotten() {
    let town = Town::with_tables();
    let config = town.config("", "");
    let at = ["--config", name(&config)];
    run(&[&["init"], &at[..]].concat()).expect(0);
    let letters = |arguments: &[&str]| run(&[&["dead-letters"], arguments, &at[..]].concat());
    let poison = Fault::Poison { marker: "poison".to_owned() };
    town.replica_region().faults().add(Rule::new(poison));
    let mut daemon = Daemon::start(name(&config));
    daemon.address();
    town.put("bad", "poison");
    let id = until("a dead letter", || {
        let listed = letters(&["list", "--output", "json"]).expect(0).json();
        let id = listed["dead_letters"][0]["id"].as_str();
        id.map(str::to_owned)
    });
    let dropped = letters(&["drop", &id, "--yes"]).expect(0);
    assert!(dropped.stderr.contains("is never written to `Orders`"), "{dropped:#?}");
    assert!(letters(&["list"]).expect(0).stdout.contains("has no dead letters"));
}

#[test]
fn a_watched_status_ends_with_the_reader() {
    let town = Town::with_tables();
    let config = town.config("", "");
    run(&["init", "--config", name(&config)]).expect(0);
    let mut watching = program(&["status", "--watch", "--output", "json", "--config", name(&config)])
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let stdout = watching.stdout.take().expect("it is piped");
    let first = serde_json::Deserializer::from_reader(stdout)
        .into_iter::<serde_json::Value>()
        .next()
        .expect("a report")
        .expect("it is JSON");
    assert_eq!(first["ok"], false);
    let ended = until("the end", || watching.try_wait().expect("it is our child"));
    assert_eq!(ended.code(), Some(0));
}
