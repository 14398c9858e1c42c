//! The servers that the suite runs over.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::super::model::{Model, Node, Quirks, Settings};
use super::means::Means;
use super::run;
use super::subject::Subject;
use crate::clock::Clock;
use crate::dynamo::{AccessKey, Endpoint, connect};

/// The time of day at which the model begins.
const START_UNIX_MS: i64 = 1_900_000_000_123;

/// Ways in which the model's endpoint may behave that are tried.
const SEEDS: u64 = 40;

fn model(seed: u64, quirks: Quirks) -> Subject {
    let clock = Clock::Simulated { start_unix_ms: START_UNIX_MS, start: Instant::now() };
    let model = Model::new(Settings::new(seed, clock));
    let site = model.add_site("us-east-1", quirks);
    let handle = model.handle(Node(0), site);
    let (streams, tables) = (Arc::clone(&handle) as _, handle as _);
    Subject::new(streams, tables, Means::Model(model, site), "c", &[])
}

#[tokio::test(start_paused = true)]
async fn the_plain_model_conforms() {
    run(&model(0, Quirks::plain())).await;
}

#[tokio::test(start_paused = true)]
async fn the_model_conforms_with_all_its_quirks() {
    for seed in 0..SEEDS {
        let quirks = Quirks::drawn(&mut fastrand::Rng::with_seed(seed));
        println!("seed {seed}: {quirks:?}");
        run(&model(seed, quirks)).await;
    }
}

async fn over(url: String, means: Means, prefix: &str, differences: Differences) {
    let endpoint = Endpoint {
        endpoint_url: Some(url),
        access_key: Some(AccessKey { id: "any".to_owned(), secret: "any".to_owned() }),
        attempt_timeout: Duration::from_secs(2),
        ..Endpoint::new("us-east-1")
    };
    let client = connect(&endpoint).await;
    let (streams, tables) = (Arc::new(client.streams()), Arc::new(client.tables()));
    run(&Subject::new(streams, tables, means, prefix, differences)).await;
}

/// Cases in which a server is known to be different, and how.
type Differences = &'static [(&'static str, &'static str)];

#[cfg(feature = "emulator")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_emulator_conforms() {
    use crate::emulator::{Config, Emulator};
    const DIFFERENCES: Differences =
        &[("an_arn_is_as_good_as_a_name", "the server inside knows tables by name only")];
    let config = Config { initial_shards: 1, empty_pages: 0.1, ..Config::default() };
    let emulator = Emulator::start(config).await.expect("an emulator on a loopback port");
    let url = emulator.regions()[0].endpoint();
    over(url, Means::Emulator(emulator), "c", DIFFERENCES).await;
}

/// The address of the server, and which it is; as the end-to-end tests have it.
const ENDPOINT: &str = "DYNAMIRROR_TEST_ENDPOINT";
/// See [`ENDPOINT`].
const SERVER: &str = "DYNAMIRROR_TEST_SERVER";

#[tokio::test]
#[ignore = "needs a server of its own: set DYNAMIRROR_TEST_ENDPOINT and DYNAMIRROR_TEST_SERVER, or run tests/run"]
async fn a_server_at_an_address_conforms() {
    let url = std::env::var(ENDPOINT).unwrap_or_else(|_| panic!("{ENDPOINT} is not set"));
    let (name, differences): (_, Differences) = match std::env::var(SERVER).as_deref() {
        Ok("ministack") => ("ministack", MINISTACK),
        Ok("dynamodb-local") => ("DynamoDB Local", DYNAMODB_LOCAL),
        other => panic!("{SERVER} must be `ministack` or `dynamodb-local`, not {other:?}"),
    };
    let prefix = format!("c{:08x}", fastrand::u32(..));
    over(url, Means::Server(name), &prefix, differences).await;
}

const MINISTACK: Differences = &[];

const DYNAMODB_LOCAL: Differences = &[
    ("times_are_whole_seconds_of_now", "its records carry whole minutes"),
    ("a_time_is_read_from_or_refused", "its records carry whole minutes"),
];
