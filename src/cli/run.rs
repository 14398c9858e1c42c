//! `run`: the daemon.
//!
//! Built in this order, so that each failure comes before anything that would have to be undone: configuration,
//! logs, port, signals, worker. What heals by itself, such as an endpoint that is not there yet, is tried again while
//! it runs; what does not, stops it here.

use std::cell::OnceCell;
use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::advice::advice;
use super::connections::Connections;
use super::exit::{Code, Failure};
use super::input::{self, Input, flag};
use super::{build, identity, init, runtime, signals};
use crate::backoff::Backoff;
use crate::clock::Clock;
use crate::config::{self, Config, Override};
use crate::dynamo::Tables;
use crate::fault::Stage;
use crate::http;
use crate::supervisor::Worker;
use crate::telemetry::Metrics;

/// Replicates until SIGTERM or SIGINT. Then it stops reading, finishes writes, saves progress, gives its leases back
/// and exits with 0; with 75 when `worker.grace` was not enough, or at once at a second signal. Nothing is lost in
/// either case: the next worker goes on from the saved progress.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    input: Input,

    /// Address of metrics, probes and status, instead of `http.listen`.
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,

    /// How log lines look, instead of `log.format`: auto, text or json.
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<String>,

    /// Name in the control table, instead of `worker.id`.
    #[arg(long, value_name = "ID")]
    worker_id: Option<String>,
}

/// What a worker's life needs besides the worker.
struct Life {
    worker: String,
    metrics: Metrics,
    bound: http::Bound,
    drain: CancellationToken,
}

/// Runs the daemon until it is drained.
pub(super) fn run(args: &Args) -> Result<Code, Failure> {
    let config = args.input.load(args.overrides())?;
    input::start_logs(&config)?;
    input::log_doubts(&config);
    let bound = http::bind(config.http.listen)?;
    let drain = CancellationToken::new();
    signals::watch(drain.clone()).map_err(Failure::System)?;
    let worker = config.worker.id.clone().unwrap_or_else(identity::worker_id);
    let metrics = Metrics::new(&worker, &config.control.table, Clock::System)?;
    let runtime = runtime()?;
    let life = Life { worker, metrics, bound, drain };
    let outcome = runtime.block_on(live(&config, life));
    // A look-up of a name may hang in it, and nobody waits for that any more.
    runtime.shutdown_background();
    let (server, drained) = outcome?;
    server.shutdown();
    drained.map(|()| Code::Success)
}

async fn live(config: &Config, life: Life) -> Result<(http::Server, Result<(), Failure>), Failure> {
    let Life { worker: name, metrics, bound, drain } = life;
    let shared = Arc::new(metrics.clone());
    let mut connections = Connections::new(identity::session_name(&name), Some(Arc::clone(&shared)));
    let limits = build::control_limits(&config.lease);
    let control = connections.client(&config.control.endpoint, limits).await.tables();
    let there = tokio::select! {
        there = is_there(&control, &config.control) => there,
        () = drain.cancelled() => true,
    };
    let settings = build::supervisor(config, &name, &shared, &mut connections).await;
    let worker = Worker::build(settings).await?;
    let (board, alive) = (worker.board(), worker.board());
    let server = bound.serve(http::Source {
        status: Arc::new(move || board.status()),
        liveness: Arc::new(move || alive.alive()),
        metrics,
    })?;
    info!(
        version = env!("CARGO_PKG_VERSION"),
        worker = name,
        replications = config.replications.len(),
        status = status_url(server.local_addr()),
        "started"
    );
    let drained = tokio::select! {
        drained = drained(worker, drain, config.worker.grace) => drained,
        never = keep_creating(there, &control, &config.control) => match never {},
    };
    Ok((server, drained))
}

/// Runs the worker until it is drained, or its grace is over.
async fn drained(worker: Worker, drain: CancellationToken, grace: Duration) -> Result<(), Failure> {
    let asked = OnceCell::new();
    let overtime = async {
        drain.cancelled().await;
        asked.get_or_init(Instant::now);
        sleep(grace).await;
    };
    tokio::select! {
        () = overtime => Err(Failure::Grace(grace)),
        () = worker.run(drain.clone()) => match asked.get() {
            // It gave up writes, and said so.
            Some(asked) if asked.elapsed() >= build::drain_within(grace) => Err(Failure::Grace(grace)),
            _ => Ok(()),
        },
    }
}

/// Whether the control table need not be created, or just was.
async fn is_there(tables: &dyn Tables, control: &config::Control) -> bool {
    if !control.create {
        return true;
    }
    match init::ensure(tables, &control.table).await {
        Ok(created) => {
            if created {
                info!(table = control.table, "control table is created");
            }
            true
        }
        Err(error) => {
            warn!(%error, advice = advice(&error, Stage::Control), "control table is not created yet");
            false
        }
    }
}

/// Tries until the control table is there; the worker finds it by itself.
async fn keep_creating(mut there: bool, tables: &dyn Tables, control: &config::Control) -> Infallible {
    let mut pauses = Backoff::new(Duration::from_millis(200), Duration::from_secs(15));
    while !there {
        sleep(pauses.pause()).await;
        there = is_there(tables, control).await;
    }
    std::future::pending().await
}

/// Where a person of this host looks at the worker.
fn status_url(address: SocketAddr) -> String {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    format!("http://{}/", SocketAddr::new(ip, address.port()))
}

// === impl Args ===

impl Args {
    fn overrides(&self) -> Vec<Override> {
        let flags = [
            ("--listen", "http.listen", &self.listen),
            ("--log-format", "log.format", &self.log_format),
            ("--worker-id", "worker.id", &self.worker_id),
        ];
        let given = flags.iter().filter_map(|(name, path, value)| Some(flag(name, path, value.as_deref()?)));
        given.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_url_can_be_opened_on_this_host() {
        let url = |address: &str| status_url(address.parse().expect("an address"));
        assert_eq!(url("0.0.0.0:9464"), "http://127.0.0.1:9464/");
        assert_eq!(url("[::]:80"), "http://[::1]:80/");
        assert_eq!(url("10.0.0.7:9464"), "http://10.0.0.7:9464/");
    }
}
