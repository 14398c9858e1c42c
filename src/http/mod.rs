//! The one port: metrics, probes, status and a page for a person to look at. Nothing can be changed over it.
//!
//! ```text
//!  bind(addr) ──> Bound ── serve(Source) ──> Server (own thread, own runtime) ── shutdown() ──> gone within 2 s
//!                                              │
//!                 accept, at most 256 ──> connection ──> guard (Host) ──> route ──> Source's closures
//! ```
//!
//! | path | answer |
//! |---|---|
//! | `/metrics` | Prometheus' text |
//! | `/livez` | 200 while the program's loops make progress, else 503 and why |
//! | `/readyz` | 200 while it does what it is there for, else 503 and why |
//! | `/api/v1/status` | a [`Status`] as JSON |
//! | `/` | the same as a page |
//!
//! What holds:
//!
//! - It runs beside the data plane, not in it: a saturated or stuck worker still answers, and `/livez` says so.
//!   The closures of [`Source`] are called on its only thread and must not wait.
//! - It is bound before anything is started, so that a port in use stops the program at once.
//! - It is shut down last, so that a drain can be watched, and no open connection holds the program's end up.
//! - On a loopback address it answers only to names of this host. Otherwise any web page that a person of this
//!   host visits could point a name of its own at the address and read the status.

mod connection;
pub mod probe;
mod route;

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::supervisor::status::Status;
use crate::telemetry::Metrics;

use connection::Limits;

/// What is served.
#[derive(Clone)]
pub struct Source {
    /// Tells all of the worker as it is now.
    pub status: Arc<dyn Fn() -> Status + Send + Sync>,
    /// Whether the program's loops make progress, or which do not, a sentence each.
    pub liveness: Arc<dyn Fn() -> Result<(), Vec<String>> + Send + Sync>,
    /// What `/metrics` renders.
    pub metrics: Metrics,
}

/// A port that is taken, and on which nothing answers yet.
#[derive(Debug)]
pub struct Bound {
    listener: TcpListener,
    local_addr: SocketAddr,
}

/// A running server. It ends when this is dropped, or with [`Server::shutdown`] for who wants to wait.
#[derive(Debug)]
pub struct Server {
    local_addr: SocketAddr,
    stop: CancellationToken,
    /// Nothing is ever sent: the other end is dropped when the thread ends.
    ended: mpsc::Receiver<()>,
    longest_shutdown: Duration,
}

/// Why nothing is served.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address cannot be listened on.
    #[error("listen on {address}: {}", advice(.source, .address))]
    Bind {
        /// As configured.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// The server's thread cannot be started.
    #[error("start the HTTP server")]
    Start {
        /// What the system says.
        source: io::Error,
    },
}

fn advice(error: &io::Error, address: &SocketAddr) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => format!(
            "port {} is in use: stop the program that has it, or set another one in `http.listen`",
            address.port()
        ),
        io::ErrorKind::PermissionDenied => {
            "this user may not take it: set a port above 1023 in `http.listen`".to_owned()
        }
        io::ErrorKind::AddrNotAvailable => {
            "this host has no such address: set one that it has, or 0.0.0.0 for all, in `http.listen`"
                .to_owned()
        }
        _ => "set another address in `http.listen`".to_owned(),
    }
}

/// Takes `address`; port 0 takes any that is free.
pub fn bind(address: SocketAddr) -> Result<Bound, Error> {
    let bound = || {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let local_addr = listener.local_addr()?;
        Ok(Bound { listener, local_addr })
    };
    bound().map_err(|source| Error::Bind { address, source })
}

// === impl Bound ===

impl Bound {
    /// The address, with the port that was taken.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Answers from now on, on a thread of its own.
    pub fn serve(self, source: Source) -> Result<Server, Error> {
        self.serve_within(source, Limits::DEFAULT)
    }

    fn serve_within(self, source: Source, limits: Limits) -> Result<Server, Error> {
        let local_addr = self.local_addr;
        let stop = CancellationToken::new();
        let (started, starting) = mpsc::sync_channel(1);
        let (end, ended) = mpsc::sync_channel(0);
        let stopped = stop.clone();
        let run = move || {
            self.run(source, limits, stopped, &started);
            drop(end);
        };
        let thread = thread::Builder::new().name("http".to_owned()).spawn(run);
        thread.map_err(|source| Error::Start { source })?;
        let lost = |mpsc::RecvError| Err(io::Error::other("its thread ended"));
        let result = starting.recv().unwrap_or_else(lost);
        result.map_err(|source| Error::Start { source })?;
        Ok(Server { local_addr, stop, ended, longest_shutdown: limits.shutdown })
    }

    /// Answers until `stop`, and says in `started` whether it began to.
    fn run(
        self,
        source: Source,
        limits: Limits,
        stop: CancellationToken,
        started: &mpsc::SyncSender<io::Result<()>>,
    ) {
        let router = route::router(source, self.local_addr);
        let run = || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(self.listener)?;
                // It is waited for, so that it is received.
                drop(started.send(Ok(())));
                connection::accept(listener, router, limits, stop).await;
                Ok(())
            })
        };
        if let Err(error) = run() {
            drop(started.send(Err(error)));
        }
    }
}

// === impl Server ===

impl Server {
    /// The address it answers on.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Stops accepting, finishes the answers under way and returns, after two seconds at the latest whatever
    /// clients do. Blocks the thread: it is the last thing a program does.
    pub fn shutdown(self) {
        self.stop.cancel();
        if self.ended.recv_timeout(self.longest_shutdown) == Err(mpsc::RecvTimeoutError::Timeout) {
            tracing::warn!("http server did not end in time");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
