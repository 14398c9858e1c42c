//! The built program as a child process.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

/// Far more than anything here needs: it only bounds how long a failing test takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// What a command left behind.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// A worker that was started, killed when dropped.
pub(crate) struct Daemon {
    child: Child,
    lines: Receiver<String>,
    seen: Vec<String>,
}

/// The program with nothing of this process's environment and no credentials.
pub(crate) fn bare(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dynamirror"));
    command
        .args(arguments)
        .env_clear()
        .env("HOME", "/nonexistent")
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .stdin(Stdio::null());
    command
}

/// The program with credentials that servers on this host take.
pub(crate) fn program(arguments: &[&str]) -> Command {
    let mut command = bare(arguments);
    command.env("AWS_ACCESS_KEY_ID", "local").env("AWS_SECRET_ACCESS_KEY", "local");
    command
}

/// Runs a command to its end.
pub(crate) fn outcome(command: &mut Command) -> Outcome {
    let Output { status, stdout, stderr } = command.output().expect("the program starts");
    let text = |bytes| String::from_utf8(bytes).expect("it prints text");
    Outcome { code: status.code(), stdout: text(stdout), stderr: text(stderr) }
}

/// Runs the program with credentials to its end.
pub(crate) fn run(arguments: &[&str]) -> Outcome {
    outcome(&mut program(arguments))
}

/// Asks until `ask` gives something.
pub(crate) fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = ask() {
            return found;
        }
        assert!(began.elapsed() < PATIENCE, "waited {PATIENCE:?} for {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

// === impl Outcome ===

impl Outcome {
    /// Panics unless it ended with `code`.
    #[track_caller]
    pub(crate) fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:#?}");
        self
    }

    /// Its standard output as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:#?}"))
    }
}

// === impl Daemon ===

impl Daemon {
    /// Starts `run` with this configuration, on any free port, with logs as JSON.
    pub(crate) fn start(config: &str) -> Self {
        Self::start_as(config, "local")
    }

    /// The same with this access key.
    pub(crate) fn start_as(config: &str, key_id: &str) -> Self {
        let arguments = ["run", "--config", config, "--listen", "127.0.0.1:0", "--log-format", "json"];
        let mut child = program(&arguments)
            .env("AWS_ACCESS_KEY_ID", key_id)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let (send, lines) = channel();
        let stderr = child.stderr.take().expect("it is piped");
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines() {
                let line = line.unwrap_or_default();
                if send.send(line).is_err() {
                    return;
                }
            }
        });
        Self { child, lines, seen: Vec::new() }
    }

    /// Waits for a log line with this message.
    pub(crate) fn logged(&mut self, message: &str) -> Value {
        loop {
            let line = self.lines.recv_timeout(PATIENCE);
            let line = line.unwrap_or_else(|_| panic!("no `{message}` in {:#?}", self.seen));
            self.seen.push(line.clone());
            let line: Value = serde_json::from_str(&line).unwrap_or_default();
            if line["message"] == message {
                return line;
            }
        }
    }

    /// Waits until it has started, and tells where it listens.
    pub(crate) fn address(&mut self) -> SocketAddr {
        let started = self.logged("started");
        let url = started["status"].as_str().expect("a URL");
        let address = url.trim_start_matches("http://").trim_end_matches('/');
        address.parse().expect("an address")
    }

    /// Sends SIGTERM.
    pub(crate) fn terminate(&self) {
        let id = self.child.id().to_string();
        let sent = Command::new("kill").args(["-TERM", &id]).status();
        assert!(sent.expect("there is a `kill`").success());
    }

    /// Sends SIGKILL, which nobody can prepare for, and waits for the end.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("it is our child");
        let status = self.child.wait().expect("it is our child");
        assert_eq!(status.code(), None, "it had ended by itself: {:#?}", self.told());
    }

    /// All that it has logged.
    pub(crate) fn told(&mut self) -> &[String] {
        self.seen.extend(self.lines.try_iter());
        &self.seen
    }

    /// Waits for its end and tells the exit code.
    pub(crate) fn code(&mut self) -> Option<i32> {
        let child = &mut self.child;
        until("the end", || child.try_wait().expect("it is our child")).code()
    }

    /// What it tells a scraper.
    pub(crate) fn metrics(address: SocketAddr) -> String {
        let mut stream = std::net::TcpStream::connect(address).expect("it listens");
        write!(stream, "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            .expect("sent");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("an answer");
        text
    }

    /// Whether `path` answers with 200.
    pub(crate) fn answers(address: SocketAddr, path: &str) -> bool {
        dynamirror::http::probe::probe(address, path, Duration::from_secs(2)).is_ok()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            let mut rest: Vec<_> = self.lines.try_iter().collect();
            self.seen.append(&mut rest);
            eprintln!("{:#?}", self.seen);
        }
    }
}

/// A file that holds `text`, gone when dropped.
pub(crate) fn file(text: &str) -> tempfile::TempPath {
    let mut file = tempfile::Builder::new().suffix(".toml").tempfile().expect("a file");
    file.write_all(text.as_bytes()).expect("written");
    file.into_temp_path()
}

/// A path as an argument.
pub(crate) fn name(path: &tempfile::TempPath) -> &str {
    path.to_str().expect("its name is text")
}
