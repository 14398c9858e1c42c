//! Three processes of the real program, each with its own links, configuration and logs.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use dynamirror::supervisor::status::Status;
use serde_json::Value;

use super::proxy::{Link, Tap};
use crate::cli::program;
use crate::support::world::Place;
use crate::support::{World, process, wait};

/// Short enough that two minutes hold many of them.
pub(crate) const LEASE: &str = "duration = \"3s\"\ncheckpoint_interval = \"250ms\"";

/// How long a successor settles: as long as one write may take.
pub(crate) const SETTLE_MS: u64 = 500;

/// How long [`LEASE`] lasts, and a successor settles.
pub(crate) const LEASE_AND_SETTLE_MS: u64 = 3_000 + SETTLE_MS;

/// One place of a fleet, in which one process runs after another.
pub(crate) struct Slot {
    /// `a`, `b` or `c`.
    pub(crate) name: &'static str,
    /// To the source, the control table, and the replicas.
    pub(crate) links: Vec<Link>,
    /// What its processes sent.
    pub(crate) tap: Arc<Tap>,
    config: tempfile::TempPath,
    prefix: String,
    home: PathBuf,
    starts: u32,
    /// How many names its processes had.
    names: u32,
    process: Option<Process>,
}

/// A process that was started, killed when dropped.
struct Process {
    child: Child,
    log: PathBuf,
    worker: String,
}

// === impl Slot ===

impl Slot {
    /// A place without a process. Logs go to `home`.
    pub(crate) async fn new(world: &World, name: &'static str, home: &Path, lease: &str) -> Self {
        let tap = Arc::new(Tap::new(&writes(home, name)));
        let places: Vec<&Place> =
            [&world.source, &world.control].into_iter().chain(&world.replicas).collect();
        let mut links = Vec::new();
        for place in &places {
            links.push(Link::open(&place.endpoint, Arc::clone(&tap)).await);
        }
        let through = |place: &Place| {
            let index = places.iter().position(|other| other.region == place.region).expect("a place of its");
            links[index].endpoint()
        };
        let config = process::config_through(world, lease, "", &through);
        let (prefix, home) = (world.prefix.clone(), home.to_owned());
        Self { name, links, tap, config, prefix, home, starts: 0, names: 0, process: None }
    }

    /// Starts a process, under the name of the one before if wanted.
    pub(crate) fn start(&mut self, same_name: bool) {
        assert!(self.process.is_none(), "{} runs already", self.name);
        self.starts += 1;
        if !same_name || self.names == 0 {
            self.names += 1;
        }
        self.tap.start.store(self.starts, Ordering::Relaxed);
        let worker = format!("{}-{}", self.name, self.names);
        let log = self.log(self.starts);
        let config = program::name(&self.config);
        let arguments = ["run", "--config", config, "--listen", "127.0.0.1:0", "--log-format", "json"];
        let child = program::program(&arguments)
            .args(["--worker-id", &worker])
            .env("AWS_ACCESS_KEY_ID", &self.prefix)
            .stdout(Stdio::null())
            .stderr(File::create(&log).expect("its log can be written"))
            .spawn()
            .expect("the program starts");
        self.process = Some(Process { child, log, worker });
    }

    /// Whether a process was started and not awaited.
    pub(crate) fn runs(&self) -> bool {
        self.process.is_some()
    }

    /// The name of the process that runs.
    pub(crate) fn worker(&self) -> &str {
        &self.process().worker
    }

    /// How many processes were started here.
    pub(crate) fn starts(&self) -> u32 {
        self.starts
    }

    /// Asserts that the process runs.
    pub(crate) fn assert_alive(&mut self) {
        let name = self.name;
        let process = self.process.as_mut().expect("one was started");
        let ended = process.child.try_wait().expect("it is our child");
        assert_eq!(ended, None, "{name} ended by itself: {}", process.log.display());
    }

    /// SIGKILL, and the end.
    pub(crate) fn kill(&mut self) {
        self.assert_alive();
        drop(self.process.take());
    }

    /// SIGSTOP: it takes no step until [`Slot::resume`].
    pub(crate) fn stop(&self) {
        self.signal("-STOP");
    }

    /// SIGCONT.
    pub(crate) fn resume(&self) {
        self.signal("-CONT");
    }

    /// SIGTERM; [`Slot::ended`] waits for the end.
    pub(crate) fn terminate(&self) {
        self.signal("-TERM");
    }

    /// Waits for the end, and tells the exit code.
    pub(crate) async fn ended(&mut self) -> Option<i32> {
        let mut process = self.process.take().expect("one was started");
        let child = &mut process.child;
        let what = format!("{} to end", process.worker);
        wait::until(&what, async || child.try_wait().expect("it is our child")).await.code()
    }

    /// What the process tells of itself, as soon as it answers.
    pub(crate) async fn status(&self) -> Status {
        let address = self.address().await;
        let text = process::get(address, "/api/v1/status").await;
        serde_json::from_str(&text).expect("a status")
    }

    /// The lines that the process has logged with this message.
    pub(crate) fn logged(&self, message: &str) -> Vec<Value> {
        lines(&self.process().log).filter(|line| line["message"] == message).collect()
    }

    /// Where it is noted what its processes sent.
    pub(crate) fn writes(&self) -> PathBuf {
        writes(&self.home, self.name)
    }

    /// Where the process of this start logs.
    pub(crate) fn log(&self, start: u32) -> PathBuf {
        self.home.join(format!("{}-{start:03}.log", self.name))
    }

    async fn address(&self) -> SocketAddr {
        let what = format!("{} to start", self.name);
        let started = wait::until(&what, async || self.logged("started").pop()).await;
        let url = started["status"].as_str().expect("a URL").to_owned();
        url.trim_start_matches("http://").trim_end_matches('/').parse().expect("an address")
    }

    fn signal(&self, signal: &str) {
        let id = self.process().child.id().to_string();
        let sent = Command::new("kill").args([signal, &id]).status();
        assert!(sent.expect("there is a `kill`").success(), "{signal} for {}", self.name);
    }

    fn process(&self) -> &Process {
        self.process.as_ref().expect("one was started")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended. This also ends one that is stopped.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn writes(home: &Path, name: &str) -> PathBuf {
    home.join(format!("{name}.writes"))
}

/// The lines of a log that are whole.
pub(crate) fn lines(log: &Path) -> impl Iterator<Item = Value> + use<> {
    let text = fs::read_to_string(log).unwrap_or_default();
    let whole: Vec<_> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    whole.into_iter()
}
