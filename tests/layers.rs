//! The modules' order: who may import whom. Reads `src/`, follows its `mod` lines, and leaves out what is compiled
//! for tests only.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// Every top-level module with the others it may import. Words know only lower words; ports know words; stages know
/// ports, words, and of each other what the module before hands over; programs know stages; the shell knows all.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    // Below all: switches for deliberate bugs, compiled for tests only.
    ("mutation", &[]),
    // Words.
    ("fault", &[]),
    ("item", &[]),
    ("shard", &["mutation"]),
    ("key", &["item"]),
    ("change", &["item", "key", "shard"]),
    ("record", &["item", "key", "shard"]),
    // Ports.
    ("backoff", &[]),
    ("budget", &["mutation"]),
    ("capacity", &["fault"]),
    ("clock", &[]),
    ("task", &[]),
    ("telemetry", &["clock", "fault"]),
    ("dynamo", &["backoff", "change", "fault", "item", "key", "record", "shard"]),
    ("control", &["dynamo", "item"]),
    // Stages, in the order of a change's path.
    (
        "stream",
        &[
            "backoff", "budget", "clock", "dynamo", "fault", "item", "key", "mutation", "record", "shard",
            "task",
        ],
    ),
    ("route", &["change", "record", "shard"]),
    ("checkpoint", &["mutation", "shard"]),
    ("lease", &["checkpoint", "control", "dynamo", "item", "mutation", "shard"]),
    ("lane", &["budget", "change", "key", "lease", "mutation", "shard"]),
    (
        "replica",
        &[
            "backoff",
            "budget",
            "change",
            "clock",
            "control",
            "dynamo",
            "fault",
            "item",
            "key",
            "lane",
            "lease",
            "mutation",
            "shard",
            "telemetry",
        ],
    ),
    // Programs.
    ("schema", &["backoff", "dynamo", "fault"]),
    (
        "verify",
        &["backoff", "budget", "capacity", "clock", "control", "dynamo", "fault", "item", "key", "lease"],
    ),
    (
        "copy",
        &[
            "backoff",
            "budget",
            "capacity",
            "change",
            "clock",
            "control",
            "dynamo",
            "fault",
            "item",
            "key",
            "lane",
            "lease",
            "mutation",
            "replica",
            "telemetry",
        ],
    ),
    (
        "supervisor",
        &[
            "backoff",
            "budget",
            "capacity",
            "change",
            "checkpoint",
            "clock",
            "control",
            "copy",
            "dynamo",
            "fault",
            "item",
            "key",
            "lane",
            "lease",
            "mutation",
            "record",
            "replica",
            "route",
            "schema",
            "shard",
            "stream",
            "task",
            "telemetry",
            "verify",
        ],
    ),
    // Shell.
    ("config", &[]),
    ("http", &["supervisor", "task", "telemetry"]),
    // Aside: it judges the daemon, so it shares no part of it but the time of day.
    ("emulator", &["clock"]),
];

/// Modules that may import everything.
const TOP: &[&str] = &["cli", "demo"];

/// A reference from one top-level module to another.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Import {
    from: String,
    to: String,
    place: String,
}

#[test]
fn imports_run_downward_only() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let imports = imports(&root.join("src"));
    assert!(imports.len() > 100, "only {} imports were found: the reader is broken", imports.len());
    let mut faults = String::new();
    for Import { from, to, place } in &imports {
        if TOP.contains(&from.as_str()) || from == to {
            continue;
        }
        let place = place.trim_start_matches(&format!("{}/", root.display())).to_owned();
        match MAY_IMPORT.iter().find(|(module, _)| module == from) {
            None => writeln!(faults, "{place}: module `{from}` has no place in the order"),
            Some((_, allowed)) if !allowed.contains(&to.as_str()) => {
                writeln!(faults, "{place}: `{from}` may not import `{to}`")
            }
            Some(_) => Ok(()),
        }
        .expect("memory takes all that is written to it");
    }
    assert!(faults.is_empty(), "\n{faults}");
}

#[test]
fn the_order_names_only_modules_that_are_there_and_has_no_circle() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut before: BTreeSet<&str> = BTreeSet::new();
    for (module, allowed) in MAY_IMPORT {
        let there = src.join(format!("{module}.rs")).exists() || src.join(module).join("mod.rs").exists();
        assert!(there, "there is no module `{module}`");
        for other in *allowed {
            assert!(before.contains(other), "`{module}` may import `{other}`, which does not come before it");
        }
        before.insert(module);
    }
}

fn imports(src: &Path) -> BTreeSet<Import> {
    let mut found = BTreeSet::new();
    let map = fs::read_to_string(src.join("lib.rs")).expect("there is a map");
    for module in modules(&code(&map)) {
        let file = file_of(src, &module);
        follow(&file, &module, 1, &mut found);
    }
    found
}

/// Reads one file of the top-level module `top`, then its modules. `depth` is how far below the crate it is.
fn follow(file: &Path, top: &str, depth: usize, found: &mut BTreeSet<Import>) {
    let text = fs::read_to_string(file).unwrap_or_else(|error| panic!("read {}: {error}", file.display()));
    let code = code(&text);
    let up = "super::".repeat(depth);
    for (index, _) in code.match_indices("crate::").chain(code.match_indices(up.as_str())) {
        let before = code[..index].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':' || c == '$') {
            continue;
        }
        let line = code[..index].matches('\n').count() + 1;
        let rest = &code[index..];
        let rest =
            rest.strip_prefix("crate::").or_else(|| rest.strip_prefix(&up)).expect("it was found here");
        for to in names(rest) {
            let place = format!("{}:{line}", file.display());
            found.insert(Import { from: top.to_owned(), to, place });
        }
    }
    let is_directory = file.file_name().is_some_and(|name| name == "mod.rs");
    let directory = if is_directory { file.with_file_name("") } else { file.with_extension("") };
    for module in modules(&code) {
        follow(&file_of(&directory, &module), top, depth + 1, found);
    }
}

fn file_of(directory: &Path, module: &str) -> PathBuf {
    let flat = directory.join(format!("{module}.rs"));
    if flat.exists() { flat } else { directory.join(module).join("mod.rs") }
}

/// The first names after `crate::`: one, or those in braces.
fn names(rest: &str) -> Vec<String> {
    let Some(group) = rest.strip_prefix('{') else {
        return vec![word(rest)];
    };
    let (mut depth, mut names, mut start) = (0, Vec::new(), 0);
    for (index, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => {
                names.push(word(group[start..index].trim()));
                break;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                names.push(word(group[start..index].trim()));
                start = index + 1;
            }
            _ => {}
        }
    }
    names.retain(|name| !name.is_empty());
    names
}

fn word(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

/// The text with comments, and with what is compiled for tests only, made blank; lines keep their numbers.
fn code(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut test_only = false;
    // How deep the braces of a module for tests are open.
    let mut skipping: Option<i32> = None;
    for line in text.lines() {
        let trimmed = line.trim_start();
        let is_test =
            trimmed.starts_with("#[cfg(") && trimmed.contains("test") && !trimmed.contains("not(test");
        if let Some(depth) = &mut skipping {
            *depth += braces(line);
            if *depth <= 0 {
                skipping = None;
            }
        } else if is_test {
            test_only = true;
        } else if test_only && !trimmed.starts_with("#[") && !trimmed.starts_with("//") {
            test_only = false;
            let depth = braces(line);
            // An item that ends on this line needs no skipping.
            if depth > 0 {
                skipping = Some(depth);
            }
        } else if !test_only && !trimmed.starts_with("//") {
            code.push_str(line);
        }
        code.push('\n');
    }
    code
}

fn braces(line: &str) -> i32 {
    let count = |c| line.matches(c).count() as i32;
    count('{') - count('}')
}

/// Modules that this code declares in files of their own.
fn modules(code: &str) -> Vec<String> {
    let declared = code.lines().filter_map(|line| {
        let line = line.trim_end().strip_suffix(';')?;
        let (visibility, name) = line.rsplit_once("mod ")?;
        let visible = visibility.trim().is_empty() || visibility.trim_start().starts_with("pub");
        (visible && !name.contains(' ')).then(|| name.to_owned())
    });
    declared.collect()
}
