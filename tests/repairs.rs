//! The real program copies a table, is killed at it, finds what was changed behind its back, and mends it.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;
use dynamirror::copy::{self, Request, Store};
use dynamirror::emulator::{Fault, Rule};
use dynamirror::supervisor::{FirstCopy, Start};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::cli::program::{self, Daemon, Outcome};
use crate::support::process;
use crate::support::value::spell_item;
use crate::support::{Item, Options, World, beside, wait};

/// Sets how many differences are planted.
const DIFFERENCES: &str = "DYNAMIRROR_DIFFERENCES";

/// What is planted where nothing else is said.
const DIFFERENCES_DEFAULT: usize = 60;

/// Keys that are written to all the time.
const BUSY: usize = 400;

/// The first key that nobody writes to; all of them are multiples of four, whose spelling every server keeps.
const QUIET: usize = 10_000;

/// Short enough not to wait long for, and long enough that a busy machine keeps it: whoever loses it reads pages again.
const LEASE: &str = "duration = \"4s\"\ncheckpoint_interval = \"250ms\"";

/// Ways in which an item can differ.
const WAYS: usize = 6;

async fn world(copy: FirstCopy) -> World {
    let attempt_timeout = Duration::from_millis(500);
    World::with(Options { replicas: 1, start: Start::Latest, copy, attempt_timeout, ..Options::default() })
        .await
}

fn command(world: &World, config: &tempfile::TempPath, arguments: &[&str]) -> Command {
    let mut command = program::program(&[arguments, &["--config", program::name(config)]].concat());
    command.env("AWS_ACCESS_KEY_ID", &world.prefix);
    command
}

/// Runs the program to its end, without keeping the test from going on.
async fn run(world: &World, config: &tempfile::TempPath, arguments: &[&str]) -> Outcome {
    let mut command = command(world, config, arguments);
    tokio::task::spawn_blocking(move || program::outcome(&mut command)).await.expect("it does not panic")
}

async fn until_copy(world: &World, daemon: &mut Daemon, wanted: copy::State) -> copy::Run {
    let store = Store::new(world.control_of().await, world.shape().name, "replica-0");
    let found = wait::within(wait::PATIENCE, async || {
        let run = store.load().await.expect("the run can be read");
        run.filter(|run| run.state == wanted)
    });
    let found = found.await;
    found.unwrap_or_else(|| panic!("the copy is not {wanted:?}: {:#?}", daemon.told()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_by_the_program_goes_on_after_its_death_and_is_followed_to_its_end() {
    let world = world(FirstCopy::OnDemand).await;
    let config = process::config(&world, LEASE, "");
    let mut load = world.load(BUSY, 96);
    load.fill().await;
    let held_back = Rule::new(Fault::Slow(Duration::from_millis(300))).on("Scan");
    let held_back = world.source_region().faults().add(held_back);
    let mut daemon = process::start(&world, &config);
    daemon.address();
    // Nobody writes yet: a replica that holds something is refused.
    let mut follow = command(&world, &config, &["copy", "orders", "--follow", "--segments", "500"]);
    let follow = tokio::task::spawn_blocking(move || program::outcome(&mut follow));
    until_copy(&world, &mut daemon, copy::State::Copying).await;
    let stop = CancellationToken::new();
    let load = beside(load.run_until(stop.clone()));
    let pages = world.source_region().requests("Scan") + 20;
    wait::until("pages to be read", async || (world.source_region().requests("Scan") >= pages).then_some(()))
        .await;
    daemon.kill();
    let mut daemon = process::start(&world, &config);
    let pages = world.source_region().requests("Scan") + 20;
    wait::until("pages to be read again", async || {
        (world.source_region().requests("Scan") >= pages).then_some(())
    })
    .await;
    let shown = run(&world, &config, &["status"]).await;
    assert!(shown.stdout.contains("copying, "), "{shown:#?}");
    assert!(shown.stdout.contains("all shards are kept at worker"), "{shown:#?}");
    world.source_region().faults().remove(held_back);
    let followed = follow.await.expect("it does not panic").expect(0);
    assert!(followed.stdout.contains("orders/replica-0: done"), "{followed:#?}");
    assert!(followed.stdout.contains("equals its source since"), "{followed:#?}");
    stop.cancel();
    load.await.expect("the load does not panic");
    world.equal(&String::new).await;
    let shown = run(&world, &config, &["status"]).await;
    assert!(shown.stdout.contains("consistent since"), "{shown:#?}");
    daemon.terminate();
    assert_eq!(daemon.code(), Some(0));
}

fn differences() -> usize {
    std::env::var(DIFFERENCES).map_or(DIFFERENCES_DEFAULT, |text| text.parse().expect("a number"))
}

fn number(text: &str) -> AttributeValue {
    AttributeValue::N(text.to_owned())
}

fn texts(members: &[&str]) -> Vec<String> {
    members.iter().map(|it| (*it).to_owned()).collect()
}

/// An item with one attribute that every way of differing changes.
fn quiet(world: &World, index: usize, n: AttributeValue, set: AttributeValue) -> Item {
    let more = [("n".to_owned(), n), ("set".to_owned(), set)];
    world.shape().key(index).into_iter().chain(more).collect()
}

/// Changes items of the replica behind the worker's back. Gives the class of each by the spelling of its key.
async fn plant(world: &World, count: usize) -> BTreeMap<String, &'static str> {
    let (client, table) = (&world.replicas[0].client, world.replica_table(world.shape(), 0));
    let put = async |item: Item| {
        let put = client.put_item().table_name(&table).set_item(Some(item));
        put.send().await.expect("an item is put");
    };
    let set = || AttributeValue::Ss(texts(&["a", "b"]));
    let mut planted = BTreeMap::new();
    for turn in 0..count {
        let index = QUIET + 4 * turn;
        let item = |n, set| quiet(world, index, n, set);
        let (key, class) = match turn % WAYS {
            0 => {
                let delete = client.delete_item().table_name(&table).set_key(Some(world.shape().key(index)));
                delete.send().await.expect("an item is deleted");
                (index, "missing")
            }
            1 => {
                let extra = QUIET * 10 + 4 * turn;
                put(quiet(world, extra, number("1"), set())).await;
                (extra, "extra")
            }
            2 => {
                put(item(number("7.001"), set())).await;
                (index, "different")
            }
            3 => {
                put(item(AttributeValue::S("7".to_owned()), set())).await;
                (index, "different")
            }
            4 => {
                let list = ["a", "b"].map(|it| AttributeValue::S(it.to_owned()));
                put(item(number("7"), AttributeValue::L(list.to_vec()))).await;
                (index, "different")
            }
            _ => {
                let mut item = item(number("7"), set());
                item.insert("more".to_owned(), AttributeValue::S(String::new()));
                put(item).await;
                (index, "different")
            }
        };
        planted.insert(spell_item(&world.shape().key(key)), class);
        // The same, spelt otherwise.
        let same = AttributeValue::Ss(texts(&["b", "a"]));
        put(quiet(world, QUIET * 20 + 4 * turn, number("7.00"), same)).await;
    }
    planted
}

/// The class of each difference that a report tells, by the spelling of its key.
fn found(report: &Value) -> BTreeMap<String, String> {
    let differences = report["replicas"][0]["differences"].as_array().expect("a list");
    let spelt = |key: &Value| {
        let parts = key.as_object().expect("a key").iter().map(|(name, value)| {
            let text = |kind: &str| value[kind].as_str().map(str::to_owned);
            let value = text("S").map(AttributeValue::S).or(text("N").map(AttributeValue::N));
            (name.clone(), value.expect("a text or a number"))
        });
        spell_item(&parts.collect())
    };
    let class = |it: &Value| it["class"].as_str().expect("a class").to_owned();
    differences.iter().map(|it| (spelt(&it["key"]), class(it))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_changed_behind_its_back_is_found_exactly_and_mended_under_load() {
    let world = world(FirstCopy::Auto(Request::default())).await;
    let config = process::config(&world, LEASE, "");
    let count = differences();
    let mut load = world.load(BUSY, 97);
    load.fill().await;
    for first in [QUIET, QUIET * 20] {
        for turn in 0..count {
            let set = AttributeValue::Ss(texts(&["a", "b"]));
            load.put_item(quiet(&world, first + 4 * turn, number("7"), set)).await;
        }
    }
    let mut daemon = process::start(&world, &config);
    daemon.address();
    let stop = CancellationToken::new();
    let load = beside(load.run_until(stop.clone()));
    until_copy(&world, &mut daemon, copy::State::Done).await;
    let verify = ["verify", "orders", "--replica", "replica-0", "--output", "json"];
    let equal = run(&world, &config, &verify).await.expect(0).json();
    assert_eq!(found(&equal), BTreeMap::new());
    let planted = plant(&world, count).await;
    let planted: BTreeMap<_, _> = planted.into_iter().map(|(key, class)| (key, class.to_owned())).collect();
    let report = run(&world, &config, &verify).await.expect(1).json();
    assert_eq!(found(&report), planted, "what is found is not what was planted");
    let dir = tempfile::tempdir().expect("a directory");
    let undo = dir.path().join("undo.jsonl");
    let repair = ["--repair", "--apply", "--undo", undo.to_str().expect("a path")];
    let repaired = run(&world, &config, &[&verify[..], &repair].concat()).await.expect(0).json();
    assert_eq!(found(&repaired), planted, "what is mended is not what was planted");
    let outcome = &repaired["replicas"][0]["repair"];
    let extra = planted.values().filter(|class| *class == "extra").count();
    assert_eq!(
        (&outcome["dry_run"], &outcome["put"], &outcome["delete"], &outcome["left"]),
        (&false.into(), &(planted.len() - extra).into(), &extra.into(), &0.into())
    );
    let before = std::fs::read_to_string(&undo).expect("the undo file is written");
    assert_eq!(before.lines().count(), planted.len());
    let nulls = before.lines().filter(|line| line.ends_with(r#""Item":null}"#)).count();
    assert_eq!(nulls, planted.values().filter(|class| *class == "missing").count(), "{before}");
    let equal = run(&world, &config, &verify).await.expect(0).json();
    assert_eq!(found(&equal), BTreeMap::new());
    stop.cancel();
    load.await.expect("the load does not panic");
    world.equal(&String::new).await;
    daemon.terminate();
    assert_eq!(daemon.code(), Some(0));
}
