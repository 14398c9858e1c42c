//! Real sockets, asked from the test's own thread while the server runs on another.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Mutex;

use super::*;
use crate::clock::Clock;
use crate::supervisor::status::{Ledger, Replica, Replication, Shards, State};

/// No test waits for them; a test that wants one to pass makes it short.
const LIMITS: Limits = Limits {
    connections: 8,
    head: Duration::from_secs(600),
    lifetime: Duration::from_secs(600),
    last_answer: Duration::from_millis(100),
    shutdown: Duration::from_secs(600),
};

/// How long a test waits for an answer that does not come.
const PATIENCE: Duration = Duration::from_secs(30);

fn status(not_ready: &[&str]) -> Status {
    let replica = Replica {
        name: "eu".to_owned(),
        table: "Orders<b>".to_owned(),
        state: State::CatchingUp,
        applied_through_unix_ms: None,
        lag_seconds: None,
        last_applied_unix_ms: None,
        headroom_seconds: None,
        pending_changes: 3,
        buffer_bytes: 4096,
        buffer_limit_bytes: 8192,
        batches_in_flight: 1,
        detached_shards: 0,
        parked_keys: 0,
        ledger: Ledger::default(),
        error: None,
    };
    let replication = Replication {
        name: "orders".to_owned(),
        source: "Orders".to_owned(),
        stream_arn: None,
        shards: Shards::default(),
        discovered_unix_ms: None,
        affinity: None,
        oldest_poll_unix_ms: None,
        gaps: Vec::new(),
        error: None,
        replicas: vec![replica],
    };
    Status {
        schema_version: 1,
        version: "0.1.0".to_owned(),
        worker: "worker-1".to_owned(),
        started_unix_ms: 1000,
        now_unix_ms: 2000,
        ready: not_ready.is_empty(),
        not_ready: not_ready.iter().map(|&reason| reason.to_owned()).collect(),
        replications: vec![replication],
        heartbeats: Vec::new(),
        notes: Vec::new(),
        fleet: None,
    }
}

fn source(not_ready: &'static [&str], not_alive: &'static [&str]) -> Source {
    let alive = move || match not_alive {
        [] => Ok(()),
        reasons => Err(reasons.iter().map(|&reason| reason.to_owned()).collect()),
    };
    Source {
        status: Arc::new(move || status(not_ready)),
        liveness: Arc::new(alive),
        metrics: Metrics::new("worker-1", "control", Clock::System).expect("the catalogue can be registered"),
    }
}

fn serve_on(address: &str, source: Source, limits: Limits) -> Server {
    let bound = bind(address.parse().expect("an address")).expect("a free port");
    bound.serve_within(source, limits).expect("a thread can be started")
}

fn serve(source: Source) -> Server {
    serve_on("127.0.0.1:0", source, LIMITS)
}

fn connect(server: &Server) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", server.local_addr().port())).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a duration above zero");
    stream
}

/// The head, in lower case, and the body of the answer.
fn ask(server: &Server, method_and_path: &str, host: &str) -> (String, String) {
    let mut stream = connect(server);
    write!(stream, "{method_and_path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")
        .expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers and closes");
    let (head, body) = answer.split_once("\r\n\r\n").expect("an answer has a head");
    (head.to_ascii_lowercase(), body.to_owned())
}

fn get(server: &Server, path: &str) -> (String, String) {
    ask(server, &format!("GET {path}"), "localhost")
}

#[test]
fn metrics_are_served_with_the_type_that_prometheus_asks_for() {
    let server = serve(source(&[], &[]));
    let (head, body) = get(&server, "/metrics");
    assert!(head.starts_with("http/1.1 200"), "{head}");
    assert!(head.contains("content-type: text/plain; version=0.0.4\r\n"), "{head}");
    assert!(body.contains(r#"dynamirror_worker_info{fleet="control",worker_id="worker-1"} 1"#), "{body}");
}

#[test]
fn probes_say_yes_or_why_not() {
    let server = serve(source(&[], &[]));
    for path in ["/livez", "/readyz"] {
        probe::probe(server.local_addr(), path, PATIENCE).expect(path);
    }
    let server = serve(source(&["orders: no stream", "eu: access denied"], &["lease loop stands still"]));
    assert_eq!(get(&server, "/readyz").1, "orders: no stream\neu: access denied\n");
    let (head, body) = get(&server, "/livez");
    assert!(head.starts_with("http/1.1 503"), "{head}");
    assert_eq!(body, "lease loop stands still\n");
    let error = probe::probe(server.local_addr(), "/livez", PATIENCE).expect_err("it is not alive");
    assert_eq!(error.to_string(), "be healthy (503): lease loop stands still");
}

#[test]
fn the_status_is_json_and_knows_what_is_unknown() {
    let server = serve(source(&[], &[]));
    let (head, body) = get(&server, "/api/v1/status");
    assert!(head.contains("content-type: application/json"), "{head}");
    let status: Status = serde_json::from_str(&body).expect("what was written can be read");
    assert_eq!((status.worker.as_str(), status.ready), ("worker-1", true));
    assert_eq!(status.replications[0].replicas[0].state, State::CatchingUp);
    assert!(body.contains(r#""lag_seconds":null"#), "{body}");
}

#[test]
fn the_page_may_load_only_what_is_served_beside_it() {
    let server = serve(source(&[], &[]));
    let (head, body) = get(&server, "/");
    assert!(head.contains("content-type: text/html"), "{head}");
    assert!(head.contains("content-security-policy: default-src 'self'"), "{head}");
    assert!(head.contains("x-content-type-options: nosniff"), "{head}");
    let attributes = body.split('"').filter(|part| part.starts_with('/'));
    let mut loaded = 0;
    for path in attributes {
        let (head, _) = get(&server, path);
        assert!(head.starts_with("http/1.1 200"), "{path}: {head}");
        loaded += 1;
    }
    assert_eq!(loaded, 7, "a style, a script, a link in the noscript part and four links");
    assert!(!body.contains("style=") && !body.contains("onclick="), "the policy forbids inline code");
    let script = get(&server, "/page/status.js").1;
    assert!(!script.contains("innerHTML") && !script.contains("insertAdjacentHTML"));
}

#[test]
fn nothing_else_is_there_and_nothing_can_be_changed() {
    let server = serve(source(&[], &[]));
    let (head, body) = get(&server, "/../etc/passwd");
    assert!(head.starts_with("http/1.1 404") && head.contains("content-type: text/plain"), "{head}");
    assert_eq!(body, "there is nothing here; start at /\n");
    for method in ["POST", "PUT", "DELETE", "PATCH"] {
        let (head, _) = ask(&server, &format!("{method} /api/v1/status"), "localhost");
        assert!(head.starts_with("http/1.1 405"), "{method}: {head}");
    }
    let (head, body) = ask(&server, "HEAD /metrics", "localhost");
    assert!(head.starts_with("http/1.1 200") && body.is_empty(), "{head}\n{body}");
}

#[test]
fn a_foreign_name_for_loopback_is_refused() {
    let server = serve(source(&[], &[]));
    let (head, body) = ask(&server, "GET /api/v1/status", "rebound.example:9464");
    assert!(head.starts_with("http/1.1 421"), "{head}");
    assert!(!body.contains("worker-1"), "{body}");
    for host in ["localhost:1", "127.0.0.1:9464", "[::1]:9464"] {
        assert!(ask(&server, "GET /livez", host).0.starts_with("http/1.1 200"), "{host}");
    }
    let public = serve_on("0.0.0.0:0", source(&[], &[]), LIMITS);
    assert!(ask(&public, "GET /livez", "pod-7.example:9464").0.starts_with("http/1.1 200"));
}

#[test]
fn a_port_in_use_is_named_with_what_to_do() {
    let first = bind("127.0.0.1:0".parse().expect("an address")).expect("a free port");
    let error = bind(first.local_addr()).expect_err("it is taken").to_string();
    let address = first.local_addr();
    let expected = format!(
        "listen on {address}: port {} is in use: stop the program that has it, or set another one in `http.listen`",
        address.port()
    );
    assert_eq!(error, expected);
    let error = bind("192.0.2.1:9464".parse().expect("an address")).expect_err("nobody has it");
    assert!(error.to_string().contains("no such address"), "{error}");
}

#[test]
fn a_connection_that_asks_for_nothing_is_closed_and_keeps_nobody_waiting_for_ever() {
    let limits = Limits { connections: 1, head: Duration::from_millis(100), ..LIMITS };
    let server = serve_on("127.0.0.1:0", source(&[], &[]), limits);
    let mut idle = connect(&server);
    idle.write_all(b"GET /livez HTTP/1.1\r\nHost: local").expect("it reads");
    // The one place is taken, and is free when the idle one was closed.
    assert!(get(&server, "/livez").0.starts_with("http/1.1 200"));
    let mut rest = String::new();
    idle.read_to_string(&mut rest).expect("it was closed in order");
    assert!(!rest.contains("200"), "{rest}");
}

#[test]
fn a_connection_is_reused_until_it_is_old() {
    let limits = Limits { lifetime: Duration::from_millis(200), ..LIMITS };
    let server = serve_on("127.0.0.1:0", source(&[], &[]), limits);
    let mut stream = connect(&server);
    let mut head = [0; 12];
    stream.write_all(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("it reads");
    stream.read_exact(&mut head).expect("it answers");
    assert_eq!(&head, b"HTTP/1.1 200");
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).expect("it was closed in order");
}

#[test]
fn a_shutdown_waits_for_no_client() {
    let server = serve(source(&[], &[]));
    let mut kept = connect(&server);
    let mut head = [0; 12];
    kept.write_all(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("it reads");
    kept.read_exact(&mut head).expect("it answers");
    let mut halfway = connect(&server);
    halfway.write_all(b"GET /livez HTTP/1.1\r\nHost: local").expect("it reads");
    let address = server.local_addr();
    // Would wait ten minutes for its clients, were they not left behind.
    server.shutdown();
    let mut rest = Vec::new();
    // An answer under way, the end, or a reset: all but waiting.
    drop(kept.read_to_end(&mut rest));
    drop(halfway.shutdown(Shutdown::Both));
    assert!(TcpStream::connect(address).is_err(), "it still listens");
}

#[test]
fn a_shutdown_waits_for_no_stuck_answer() {
    let gate = Arc::new(Mutex::new(()));
    let (asked, asking) = mpsc::sync_channel(1);
    let stuck = {
        let gate = Arc::clone(&gate);
        move || {
            asked.send(()).expect("the test waits for it");
            drop(gate.lock());
            status(&[])
        }
    };
    let source = Source { status: Arc::new(stuck), ..source(&[], &[]) };
    let limits = Limits { shutdown: Duration::from_millis(50), ..LIMITS };
    let server = serve_on("127.0.0.1:0", source, limits);
    let closed = gate.lock().expect("nobody panics with it");
    let mut stream = connect(&server);
    stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("it reads");
    asking.recv().expect("it is asked");
    server.shutdown();
    drop(closed);
}

#[test]
fn dropping_the_server_ends_it() {
    let server = serve(source(&[], &[]));
    let mut idle = connect(&server);
    drop(server);
    let mut rest = Vec::new();
    drop(idle.read_to_end(&mut rest));
    assert!(rest.is_empty());
}
