//! `check-config`: everything that a worker needs, looked at before it is started.
//!
//! ```text
//!  files ── load ──> problems, doubts ── offline stops here
//!             └──> probe, all endpoints at once ──> Seen ── findings: each replica against its source
//! ```
//!
//! All that is wrong is reported together, a line each. No item is written. What cannot be known without writing
//! one, the permission to write to a replica, is not looked at.

mod finding;
mod heartbeat;
mod probe;

use std::fmt::Write as _;

use serde::Serialize;

use super::exit::{Code, Failure};
use super::input::Input;
use super::output::{Format, print, print_json};
use super::runtime;
use crate::config::{self, Config, Errors, Problem};
use crate::telemetry::logs;
use finding::{Finding, Result as Found};

/// Checks the configuration, and then, unless `--offline`, each table that it names: whether it is there and has a
/// stream, whether replicas have their source's key, whether the control table can be used, and whether the
/// credentials allow to read all that. Permission to write to replicas is not tried.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    input: Input,

    /// Only read the configuration; call no service.
    #[arg(long)]
    offline: bool,

    /// How it is printed.
    #[arg(long, short, value_enum, default_value_t)]
    output: Format,
}

/// What was found, as it is printed.
#[derive(Debug, Default, Serialize)]
struct Report {
    schema_version: u32,
    ok: bool,
    exit_code: u8,
    /// What is wrong with the configuration itself; nothing else is looked at then.
    problems: Vec<Problem>,
    /// What is allowed and still deserves a second look.
    warnings: Vec<Problem>,
    /// What came of each check of a service.
    findings: Vec<Finding>,
}

/// Prints what was found; the code is that of the gravest.
pub(super) fn run(args: &Args) -> Result<Code, Failure> {
    let config = match load(args) {
        Ok(config) => config,
        Err(Failure::Config(errors)) if args.output == Format::Json => {
            let report = Report::refused(&errors);
            print_json(&report)?;
            return Ok(Code::Config);
        }
        Err(failure) => return Err(failure),
    };
    let warnings = config::warnings(&config);
    let findings = if args.offline { Vec::new() } else { runtime()?.block_on(probe::everything(&config)) };
    let code = Code::gravest(findings.iter().map(Finding::code));
    let report = Report {
        schema_version: 1,
        ok: code == Code::Success,
        exit_code: code as u8,
        problems: Vec::new(),
        warnings,
        findings,
    };
    match args.output {
        Format::Json => print_json(&report)?,
        Format::Text => print(report.page(&config, args.offline))?,
    }
    Ok(code)
}

fn load(args: &Args) -> Result<Config, Failure> {
    let config = args.input.load_quietly()?;
    // The one setting that only its user can judge.
    logs::check(&config.log.filter)?;
    Ok(config)
}

// === impl Report ===

impl Report {
    fn refused(errors: &Errors) -> Self {
        Self {
            schema_version: 1,
            exit_code: Code::Config as u8,
            problems: errors.problems().to_vec(),
            ..Self::default()
        }
    }

    fn page(&self, config: &Config, offline: bool) -> String {
        let mut page = String::new();
        for warning in &self.warnings {
            // Writing to a string cannot fail.
            let _ = writeln!(
                page,
                "warning  {}: {}{}",
                warning.path.as_deref().unwrap_or("configuration"),
                warning.message,
                warning.help.as_deref().map(|help| format!("; {help}")).unwrap_or_default()
            );
        }
        for finding in &self.findings {
            let _ = writeln!(page, "{finding}");
        }
        let failed = self.findings.iter().filter(|finding| !finding.is_ok()).count();
        let replications = config.replications.len();
        let _ = match (offline, failed) {
            (true, _) => writeln!(
                page,
                "the configuration of {replications} replications is good; no service was called"
            ),
            (false, 0) => writeln!(page, "{replications} replications can be started"),
            (false, 1) => writeln!(page, "1 check failed"),
            (false, failed) => writeln!(page, "{failed} checks failed"),
        };
        page
    }
}
