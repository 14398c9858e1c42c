//! The command line: what a person types becomes a call of one command, and its outcome an exit code.
//!
//! ```text
//!  arguments ── clap ──> Command ──> run | init | check_config | … ──> Result<Code, Failure> ──> exit code
//!                                      │ Input::load: files, environment, flags
//!                                      │ Connections: one client per endpoint
//!                                      └ Output: standard output
//! ```
//!
//! What holds: data goes to standard output and everything else to standard error; a closed standard output ends a
//! command silently. Bad input never panics, and every failure has its exit code in one table ([`exit`]). What is
//! printed as JSON has a `schema_version`, times by RFC 3339 and durations as numbers named `*_seconds`; readers
//! ignore fields they do not know. Nothing here decides anything about replication.

mod advice;
mod build;
mod check_config;
mod choose;
mod confirm;
mod connections;
mod copy;
mod dead_letters;
mod desired;
pub mod exit;
mod fleet;
mod healthcheck;
mod heartbeat;
mod identity;
mod init;
mod input;
mod output;
mod place;
mod print_config;
mod run;
mod schema;
mod signals;
mod status;
mod verify;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::LazyLock;

use clap::{Parser, Subcommand};

use exit::{Code, Failure};

/// Keeps DynamoDB tables mirrored: every change of a source table's stream, applied to any number of replicas.
#[derive(Debug, Parser)]
#[command(
    name = "dynamirror",
    bin_name = "dynamirror",
    version,
    long_version = long_version(),
    after_help = exit::table(),
    propagate_version = true,
    arg_required_else_help = true,
    disable_help_subcommand = true
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Replicate until told to stop.
    Run(run::Args),
    /// Show the daemon at work on emulated regions, and prove that the replicas are equal.
    #[cfg(feature = "emulator")]
    Demo(crate::demo::Args),
    /// Create the control table, and switch source streams on if asked to.
    Init(init::Args),
    /// Check a configuration, and every table and permission that it needs.
    CheckConfig(check_config::Args),
    /// Print the configuration in force, or a complete example.
    PrintConfig(print_config::Args),
    /// Show shards, owners, lags and what needs attention, from the control table.
    Status(status::Args),
    /// Compare a replica with its source, and repair it.
    Verify(verify::Args),
    /// Ask a worker on this host whether it makes progress.
    Healthcheck(healthcheck::Args),
    /// Make the tables of replicas like their sources: plan, apply, diff.
    Schema(schema::Args),
    /// Stop writing to a replica, or to all of a replication, until it is resumed.
    Pause(desired::pause::Args),
    /// Let what was paused go on where it stopped.
    Resume(desired::pause::Args),
    /// Let a replica, or all of a replication, go on from another place in the stream.
    Seek(desired::seek::Args),
    /// Copy what a source holds already to its replicas, while changes go on.
    Copy(copy::Args),
    /// List, show, retry or drop changes that a replica refused.
    DeadLetters(dead_letters::Args),
}

/// The whole program, from the process's arguments to its exit code.
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Nothing is left to tell it to.
            drop(error.print());
            return if error.use_stderr() { Code::Usage.into() } else { Code::Success.into() };
        }
    };
    let outcome = catch_unwind(AssertUnwindSafe(|| dispatch(arguments.command)));
    match outcome {
        Ok(Ok(code)) => code.into(),
        Ok(Err(failure)) => {
            failure.report();
            failure.code().into()
        }
        Err(_panic) => {
            eprintln!("error: this is a bug in dynamirror: please report it with the lines above");
            Code::Bug.into()
        }
    }
}

fn dispatch(command: Command) -> Result<Code, Failure> {
    match command {
        Command::Run(args) => run::run(&args),
        #[cfg(feature = "emulator")]
        Command::Demo(args) => Ok(match crate::demo::run(&args)? {
            crate::demo::Verdict::Equal => Code::Success,
            crate::demo::Verdict::Different => Code::Negative,
        }),
        Command::Init(args) => init::run(&args),
        Command::CheckConfig(args) => check_config::run(&args),
        Command::PrintConfig(args) => print_config::run(&args),
        Command::Status(args) => status::run(&args),
        Command::Verify(args) => verify::run(&args),
        Command::Healthcheck(args) => healthcheck::run(&args),
        Command::Schema(args) => schema::run(&args),
        Command::Pause(args) => desired::pause::run(&args, desired::pause::Verb::Pause),
        Command::Resume(args) => desired::pause::run(&args, desired::pause::Verb::Resume),
        Command::Seek(args) => desired::seek::run(&args),
        Command::Copy(args) => copy::run(&args),
        Command::DeadLetters(args) => dead_letters::run(&args),
    }
}

/// What `--version` prints after the name; `-V` prints the number alone.
fn long_version() -> &'static str {
    static TEXT: LazyLock<String> = LazyLock::new(|| {
        format!(
            "{}\nrevision: {}\ncompiler: {}\ntarget: {}-{}",
            env!("CARGO_PKG_VERSION"),
            option_env!("BUILD_REVISION").unwrap_or("unknown"),
            option_env!("BUILD_RUSTC").unwrap_or("unknown"),
            std::env::consts::ARCH,
            std::env::consts::OS,
        )
    });
    &TEXT
}

/// One thread does all of a command's work. For the data path that costs a quarter less processor time than a shared
/// pool, because no change moves between threads.
fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Failure::System)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn the_help_tells_all_exit_codes() {
        let help = Arguments::command().render_long_help().to_string();
        for code in Code::ALL {
            assert!(help.contains(&format!("\n  {:>2}  ", code as u8)), "{code:?} in {help}");
        }
    }
}
