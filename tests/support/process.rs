//! The real program as a child process of a test.

use std::fmt::Write as _;

use dynamirror::supervisor::{FirstCopy, Start};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::world::Place;
use super::{Shape, World};
use crate::cli::program::{self, Daemon};

/// A configuration file for the first table of a world.
pub(crate) fn config(world: &World, lease: &str, more: &str) -> tempfile::TempPath {
    let endpoint = |place: &Place| place.endpoint.clone();
    let head = head(world, lease, more, &endpoint);
    program::file(&(head + &replication(world, world.shape(), &endpoint)))
}

/// A configuration file for all tables of a world, each place of which is reached at `endpoint`.
pub(crate) fn config_through(
    world: &World,
    lease: &str,
    more: &str,
    endpoint: &dyn Fn(&Place) -> String,
) -> tempfile::TempPath {
    let replications = world.options.shapes.iter().map(|shape| replication(world, shape, endpoint));
    program::file(&(head(world, lease, more, endpoint) + &replications.collect::<String>()))
}

fn head(world: &World, lease: &str, more: &str, endpoint: &dyn Fn(&Place) -> String) -> String {
    format!(
        r#"
[control]
table = "{}"
region = "{}"
endpoint_url = "{}"
[lease]
{lease}
{more}
"#,
        world.control_table,
        world.control.region,
        endpoint(&world.control),
    )
}

fn replication(world: &World, shape: &Shape, endpoint: &dyn Fn(&Place) -> String) -> String {
    let mut text = format!(
        r#"
[[replications]]
name = "{}"
{}
[replications.source]
table = "{}"
region = "{}"
endpoint_url = "{}"
[replications.poll]
idle = "250ms"
discovery = "500ms"
"#,
        shape.name,
        if world.options.start == Start::Latest { "start = \"latest\"" } else { "" },
        world.source_table(shape),
        world.source.region,
        endpoint(&world.source),
    );
    for (index, place) in world.replicas.iter().enumerate() {
        write!(
            text,
            r#"
[[replications.replicas]]
name = "replica-{index}"
table = "{}"
region = "{}"
endpoint_url = "{}"
attempt_timeout = "500ms"
{}
"#,
            world.replica_table(shape, index),
            place.region,
            endpoint(place),
            if matches!(world.options.copy, FirstCopy::Auto(_)) { "copy = \"auto\"" } else { "" },
        )
        .expect("memory takes all that is written to it");
    }
    text
}

/// A lease that a killed worker's successor need not wait long for.
pub(crate) const SHORT_LEASE: &str = "duration = \"1500ms\"\ncheckpoint_interval = \"200ms\"";

/// Starts the program on a world's tables.
pub(crate) fn start(world: &World, config: &tempfile::TempPath) -> Daemon {
    Daemon::start_as(program::name(config), &world.prefix)
}

/// What a daemon answers to a GET, after the head.
pub(crate) async fn get(address: std::net::SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.expect("the daemon listens");
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("the request is sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("the answer is text");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    assert!(head.starts_with("HTTP/1.1 200"), "GET {path}: {head}");
    assert!(!head.to_ascii_lowercase().contains("transfer-encoding"), "GET {path}: {head}");
    body.to_owned()
}
