//! Configuration: from files, environment and flags to checked settings, or to one list of everything that
//! is wrong.
//!
//! A setting's way: each file is walked along the schema (`schema`, the one table of keys), where unknown
//! keys and wrong types are reported at their line (`strict`); what is left is merged with the environment
//! and the flags by the `config` crate (`layer`); each value is read into its unit and range (`value`,
//! `resolve`); then relations between settings are checked (`relation`). No stage stops at the first
//! problem, and every problem points at the file, variable or flag that the setting really came from.
//!
//! What holds: a [`Config`] is complete and consistent, so nobody below checks again. Loading never reads
//! the process environment or the clock; both are the caller's. No setting is a secret: credentials come
//! from the AWS chain, and a URL that carries some is refused and masked wherever it is shown.

mod draft;
mod kind;
mod layer;
mod print;
mod problem;
mod relation;
mod resolve;
mod schema;
mod settings;
mod strict;
mod value;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

pub use layer::{ENVIRONMENT_PREFIX, File, Override, environment};
pub use print::{effective, example, reference};
pub use problem::{EXIT_CODE, Errors, Excerpt, Place, Problem};
pub use relation::warnings;
pub use settings::{
    Config, Control, CopyMode, Endpoint, FirstCopy, Guard, Heartbeat, HeartbeatMode, Http, KmsKey, Lease,
    Log, LogFormat, Poll, Replica, Replication, Schema, Source, Start, Verify, Worker,
};

/// Reads the files and resolves the configuration; see [`parse`].
///
/// # Errors
/// Everything that is wrong, including files that cannot be read, sorted by place.
pub fn load(files: &[PathBuf], env: &[(String, String)], overrides: &[Override]) -> Result<Config, Errors> {
    let mut texts = Vec::new();
    let mut problems = Vec::new();
    for path in files {
        match read(path) {
            Ok(file) => texts.push(file),
            Err(problem) => problems.push(problem),
        }
    }
    if problems.is_empty() {
        return parse(&texts, env, overrides);
    }
    // Settings of the unread file would only seem to be missing, so the rest is checked file by file.
    problems.extend(layer::merge(&texts, env, overrides).problems);
    Err(Errors::new(problems))
}

/// Resolves the configuration of `files`, later ones over earlier ones, then `env` (name and value; names
/// without [`ENVIRONMENT_PREFIX`] are ignored, empty values are as if unset), then `overrides`.
///
/// # Errors
/// Everything that is wrong, sorted by place.
pub fn parse(files: &[File], env: &[(String, String)], overrides: &[Override]) -> Result<Config, Errors> {
    if files.is_empty() {
        let problem = Problem::at(Place::Nowhere, "no configuration file was given").help(
            "name one with --config FILE; `dynamirror print-config --defaults` prints a complete example",
        );
        return Err(Errors::new(vec![problem]));
    }
    let merged = layer::merge(files, env, overrides);
    let mut problems = merged.problems;
    if !merged.incomplete {
        match resolve::resolve(&merged.tree, &merged.origins) {
            Ok(config) if problems.is_empty() => return Ok(config),
            Ok(_usable_but_refused) => {}
            Err(more) => problems.extend(more),
        }
    }
    Err(Errors::new(problems))
}

fn read(path: &Path) -> Result<File, Problem> {
    let name = path.display().to_string();
    let problem = |message: String| Problem::at(Place::WholeFile { file: name.clone() }, message);
    let bytes = std::fs::read(path).map_err(|error| problem(format!("cannot be read: {error}")))?;
    match String::from_utf8(bytes) {
        Ok(text) => Ok(File { name, text }),
        Err(error) => Err(problem(format!("is not UTF-8 text: {}", error.utf8_error()))),
    }
}
