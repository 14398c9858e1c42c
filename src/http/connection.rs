//! Accepting connections and ending them: every one of them is bounded in time and their number is bounded, so
//! that no client can keep another, or the program's end, waiting.

use std::io;
use std::pin::pin;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::task::Tasks;

/// What clients may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Connections at a time; more wait in the system's queue.
    pub(super) connections: usize,
    /// To send a request's head, counted from the connection's start or the last answer's end. A connection that
    /// idles longer is closed.
    pub(super) head: Duration,
    /// Of a connection, after which the answer under way is its last.
    pub(super) lifetime: Duration,
    /// Of the last answer of a connection that is to end.
    pub(super) last_answer: Duration,
    /// Of a shutdown as a whole.
    pub(super) shutdown: Duration,
}

impl Limits {
    pub(super) const DEFAULT: Self = Self {
        // A few scrapers, probes and browsers with six connections each; far below the limit of open files.
        connections: 256,
        // Long for a client that means it; short for the sum of those that do not.
        head: Duration::from_secs(10),
        // A scraper that connects anew once a minute does not notice.
        lifetime: Duration::from_secs(60),
        // The largest answer takes milliseconds to a client that reads it.
        last_answer: Duration::from_millis(1500),
        // The last answer, and some time to end the thread.
        shutdown: Duration::from_secs(2),
    };
}

/// The largest head of a request; the smallest that the library allows.
const HEAD_BYTES: usize = 8192;

/// Serves connections until `stop`, and then for at most [`Limits::last_answer`].
pub(super) async fn accept(listener: TcpListener, router: Router, limits: Limits, stop: CancellationToken) {
    let mut connections = Tasks::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            Some(()) = connections.next(), if !connections.is_empty() => {}
            accepted = listener.accept(), if connections.len() < limits.connections => match accepted {
                Ok((stream, _)) => {
                    let serve = serve(stream, router.clone(), limits, stop.clone());
                    connections.spawn(tracing::Span::none(), serve);
                }
                Err(error) => refuse(error).await,
            }
        }
    }
    drop(listener);
    let drained = async { while connections.next().await.is_some() {} };
    if timeout(limits.last_answer, drained).await.is_err() {
        tracing::debug!(open = connections.len(), "http connections dropped");
    }
}

/// A client that is gone already is no matter. Anything else, such as too many open files, lasts a while: trying
/// again at once would only use up the processor.
async fn refuse(error: io::Error) {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    if matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset) {
        return;
    }
    tracing::warn!(%error, "http connection not accepted");
    sleep(Duration::from_millis(500)).await;
}

async fn serve(stream: TcpStream, router: Router, limits: Limits, stop: CancellationToken) {
    // Answers are written whole; there is nothing to wait for.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "http connection without nodelay");
    }
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => Ok(ended),
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            timeout(limits.last_answer, connection).await
        }
        () = sleep(limits.lifetime) => {
            connection.as_mut().graceful_shutdown();
            timeout(limits.last_answer, connection).await
        }
    };
    match ended {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "http connection broke"),
        Err(error) => tracing::debug!(%error, "http connection did not end in time"),
    }
}
