//! The files beside the source: samples load, and what is generated is current.

use std::path::{Path, PathBuf};

use super::*;

const BEGIN: &str = "<!-- settings: generated from the source, checked by its tests -->\n";
const END: &str = "<!-- end of settings -->\n";

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config")
}

fn text_of(name: &str) -> String {
    std::fs::read_to_string(directory().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn readme_with_reference(readme: &str) -> String {
    let (before, rest) = readme.split_once(BEGIN).expect("the beginning is marked");
    let (_, after) = rest.split_once(END).expect("the end is marked");
    format!("{before}{BEGIN}\n{}{END}{after}", reference())
}

#[test]
fn every_sample_loads_without_a_warning() {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(directory()).expect("the directory of samples") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            let config =
                load(std::slice::from_ref(&path), &[], &[]).unwrap_or_else(|errors| panic!("{errors}"));
            assert_eq!(warnings(&config), [], "{}", path.display());
            names.extend(path.file_name().and_then(|name| name.to_str()).map(str::to_owned));
        }
    }
    names.sort();
    assert_eq!(names, ["cross-account.toml", "dynamirror.example.toml", "local.toml", "minimal.toml"]);
    let readme = text_of("README.md");
    assert!(names.iter().all(|name| readme.contains(&format!("]({name})"))), "the README links every sample");
}

#[test]
fn the_example_is_current() {
    let advice = "regenerate: cargo test --lib config::tests::samples::regenerate -- --ignored";
    assert_eq!(text_of("dynamirror.example.toml"), example(), "{advice}");
    let readme = text_of("README.md");
    assert_eq!(readme, readme_with_reference(&readme), "{advice}");
}

#[test]
fn the_example_without_its_marks_changes_no_default() {
    let written: String = example()
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(setting) if !setting.is_empty() && !setting.starts_with(' ') => setting,
            _ => line,
        })
        .flat_map(|line| [line, "\n"])
        .collect();
    let (full, bare) = (accepted(&written), accepted(&example()));
    assert_eq!(full.worker.id.as_deref(), Some("worker-1"), "the marks were removed");
    assert_eq!(full.control.endpoint.external_id.as_deref(), Some("012345678901"));
    assert_eq!(bare.worker.id, None);
    assert_eq!(full.lease, bare.lease);
    assert_eq!((full.http, full.log, full.worker.grace), (bare.http, bare.log, bare.worker.grace));
    let (full, bare) = (&full.replications[0], &bare.replications[0]);
    assert_eq!((full.start, &full.poll), (bare.start, &bare.poll));
    let (full, bare) = (&full.replicas[0], &bare.replicas[0]);
    assert_eq!(full.copy.read_units, Some(1_000));
    let copy = FirstCopy { read_units: None, ..full.copy.clone() };
    assert_eq!(Replica { endpoint: bare.endpoint.clone(), copy, ..full.clone() }, *bare);
}

#[test]
fn the_readme_knows_the_exit_code() {
    assert!(text_of("README.md").contains(&format!("| {EXIT_CODE} | the configuration cannot be used")));
}

#[test]
#[ignore = "writes config/dynamirror.example.toml and config/README.md"]
fn regenerate() {
    let write =
        |name: &str, text: String| std::fs::write(directory().join(name), text).expect("a written file");
    write("dynamirror.example.toml", example());
    write("README.md", readme_with_reference(&text_of("README.md")));
}
