//! Where a command's settings come from: files, environment and flags.

use std::ffi::OsString;
use std::path::PathBuf;

use tracing::warn;

use super::exit::Failure;
use crate::config::{self, Config, LogFormat, Override};
use crate::telemetry::logs;

/// Names files like `--config`, several separated by `:`.
const VARIABLE: &str = "DYNAMIRROR_CONFIG";

/// What a command logs that a person waits for: nothing, unless something is wrong that it does not tell anyway.
const QUIET: &str = "error,dynamirror=warn";

/// Names the configuration.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Input {
    /// Configuration file; may be given several times, later ones over earlier ones.
    ///
    /// Without it, the files in the environment variable DYNAMIRROR_CONFIG are used, separated by `:`. Each setting
    /// can also come from the environment, such as DYNAMIRROR__LEASE__DURATION=30s.
    #[arg(long, short, value_name = "FILE", global = true)]
    config: Vec<PathBuf>,

    /// What to log to standard error, such as `info,dynamirror::lease=debug`.
    #[arg(long, value_name = "FILTER", global = true)]
    log: Option<String>,
}

// === impl Input ===

impl Input {
    /// The configuration, with `overrides` over files and environment.
    pub(super) fn load(&self, mut overrides: Vec<Override>) -> Result<Config, config::Errors> {
        if let Some(filter) = &self.log {
            overrides.push(flag("--log", "log.filter", filter));
        }
        let files = files(&self.config, std::env::var_os(VARIABLE));
        config::load(&files, &config::environment(std::env::vars_os()), &overrides)
    }

    /// The configuration for a command that a person waits for; logs only what is wrong.
    pub(super) fn load_quietly(&self) -> Result<Config, Failure> {
        let config = self.load(Vec::new())?;
        let format = match config.log.format {
            LogFormat::Auto | LogFormat::Text => logs::Format::Text,
            LogFormat::Json => logs::Format::Json,
        };
        logs::init(format, self.log.as_deref().unwrap_or(QUIET))?;
        Ok(config)
    }
}

/// A flag that sets `path`.
pub(super) fn flag(flag: &str, path: &str, value: &str) -> Override {
    Override { flag: flag.to_owned(), path: path.to_owned(), value: value.to_owned() }
}

/// Starts logging as configured.
pub(super) fn start_logs(config: &Config) -> Result<(), Failure> {
    let format = match config.log.format {
        LogFormat::Auto => logs::Format::Auto,
        LogFormat::Text => logs::Format::Text,
        LogFormat::Json => logs::Format::Json,
    };
    Ok(logs::init(format, &config.log.filter)?)
}

/// Logs what is allowed and still deserves a second look.
pub(super) fn log_doubts(config: &Config) {
    for doubt in config::warnings(config) {
        warn!(setting = doubt.path, help = doubt.help, "doubtful configuration: {}", doubt.message);
    }
}

fn files(named: &[PathBuf], variable: Option<OsString>) -> Vec<PathBuf> {
    match variable {
        Some(paths) if named.is_empty() => {
            std::env::split_paths(&paths).filter(|path| !path.as_os_str().is_empty()).collect()
        }
        _ => named.to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_on_the_command_line_come_before_those_of_the_environment() {
        let named = [PathBuf::from("a:b.toml")];
        assert_eq!(files(&named, Some("c.toml".into())), named);
        assert_eq!(files(&[], Some("c.toml::d.toml".into())), ["c.toml", "d.toml"].map(PathBuf::from));
        assert!(files(&[], Some("".into())).is_empty());
        assert!(files(&[], None).is_empty());
    }
}
