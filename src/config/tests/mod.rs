//! Tests of the whole pipeline; nothing here reads the process environment.

mod keys;
mod layers;
mod relations;
mod round_trip;
mod samples;
mod shown;
mod values;

use super::*;

/// The smallest configuration.
const MINIMAL: &str = r#"[control]
region = "eu-west-1"

[[replications]]
name = "orders"

[replications.source]
table = "Orders"
region = "eu-west-1"

[[replications.replicas]]
name = "us"
region = "us-east-1"
"#;

fn files(texts: &[&str]) -> Vec<File> {
    let name = |index| {
        if index == 0 { "c.toml".to_owned() } else { format!("c{index}.toml") }
    };
    texts
        .iter()
        .enumerate()
        .map(|(index, text)| File { name: name(index), text: (*text).to_owned() })
        .collect()
}

fn env(variables: &[(&str, &str)]) -> Vec<(String, String)> {
    variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn accepted(text: &str) -> Config {
    parse(&files(&[text]), &[], &[]).unwrap_or_else(|errors| panic!("refused:\n{text}\n{errors}"))
}

fn refused(text: &str) -> Errors {
    parse(&files(&[text]), &[], &[]).expect_err("this configuration must be refused")
}

/// The minimal configuration with one text replaced by another.
fn minimal_with(old: &str, new: &str) -> String {
    assert!(MINIMAL.contains(old), "{old:?} is not in the minimal configuration");
    MINIMAL.replacen(old, new, 1)
}

/// The only problem of a configuration.
fn only_problem(text: &str) -> Problem {
    let errors = refused(text);
    assert_eq!(errors.problems().len(), 1, "{errors}");
    errors.problems()[0].clone()
}

/// Asserts one problem at `place` (as `c.toml:line:column`), with its message and what its help contains.
#[track_caller]
fn assert_problem(text: &str, place: &str, message: &str, help: &str) {
    let problem = only_problem(text);
    assert_eq!(at(&problem), place, "{problem}");
    assert_eq!(problem.message, message);
    let found = problem.help.as_deref().unwrap_or_default();
    assert!(found.contains(help) && found.is_empty() == help.is_empty(), "help {found:?}, expected {help:?}");
}

fn at(problem: &Problem) -> String {
    match &problem.place {
        Place::File { file, line, column, .. } => format!("{file}:{line}:{column}"),
        Place::WholeFile { file } => file.clone(),
        Place::Environment { variable } => variable.clone(),
        Place::Flag { flag } => flag.clone(),
        Place::Nowhere => problem.path.clone().unwrap_or_default(),
    }
}

fn messages(errors: &Errors) -> Vec<&str> {
    errors.problems().iter().map(|problem| problem.message.as_str()).collect()
}

/// The minimal configuration with one more key in `table` (a header of it, or a new one).
fn with(table: &str, line: &str) -> String {
    match MINIMAL.find(table) {
        Some(at) => {
            let end = at + table.len();
            format!("{}\n{line}{}", &MINIMAL[..end], &MINIMAL[end..])
        }
        None => format!("{table}\n{line}\n\n{MINIMAL}"),
    }
}

const SOURCE: &str = "[replications.source]";
const REPLICA: &str = "[[replications.replicas]]";
