//! `healthcheck`: for containers and service managers that can run a command but not ask over HTTP.

use std::net::SocketAddr;

use super::exit::{Code, Failure};
use crate::config::Http;
use crate::http::probe;

/// The same variable by which `run` is told where to listen.
const VARIABLE: &str = "DYNAMIRROR__HTTP__LISTEN";

/// Asks `/livez`, which is about the program's own progress: no outage of a table makes it fail. Needs no
/// configuration file.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Where the worker listens; 0.0.0.0 is asked through loopback.
    #[arg(long, value_name = "ADDRESS", env = VARIABLE, default_value_t = Http::DEFAULT_LISTEN)]
    addr: SocketAddr,
}

/// Healthy is success, everything else is the answer "no".
pub(super) fn run(args: &Args) -> Result<Code, Failure> {
    match probe::probe(args.addr, "/livez", probe::TIMEOUT) {
        Ok(()) => Ok(Code::Success),
        Err(error) => {
            let cause = std::error::Error::source(&error);
            let cause = cause.map(|cause| format!(": {cause}")).unwrap_or_default();
            eprintln!("unhealthy: failed to {error}{cause}");
            Ok(Code::Negative)
        }
    }
}
