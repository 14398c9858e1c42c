//! What needs no service: arguments, files, environment.

use std::path::Path;

use super::program::{bare, file, name, outcome, run};

/// A good configuration.
const GOOD: &str = r#"
[control]
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

#[test]
fn no_command_is_wrong_usage_and_help_is_not() {
    let none = run(&[]).expect(2);
    assert!(none.stdout.is_empty() && none.stderr.contains("Usage:"), "{none:#?}");
    let help = run(&["--help"]).expect(0);
    assert!(help.stdout.contains("check-config") && help.stdout.contains("\n  78  "), "{help:#?}");
    for command in [
        "run",
        "init",
        "check-config",
        "print-config",
        "status",
        "healthcheck",
        "dead-letters",
        "pause",
        "resume",
        "seek",
        "schema",
    ] {
        let help = run(&[command, "--help"]).expect(0);
        assert!(help.stdout.contains(&format!("Usage: dynamirror {command}")), "{help:#?}");
    }
    let typo = run(&["run", "--confg", "x"]).expect(2);
    assert!(typo.stdout.is_empty() && typo.stderr.contains("--config"), "{typo:#?}");
    run(&["dead-letters", "retry"]).expect(2);
}

#[test]
fn the_version_has_a_short_and_a_long_form() {
    let short = run(&["-V"]).expect(0);
    assert_eq!(short.stdout, format!("dynamirror {}\n", env!("CARGO_PKG_VERSION")));
    let long = run(&["--version"]).expect(0);
    assert!(long.stdout.contains("\ncompiler: "), "{long:#?}");
}

#[test]
fn an_unknown_key_is_named_with_its_place_and_what_was_meant() {
    let config = file(&format!("{GOOD}\nregoin = \"x\"\n"));
    for command in ["run", "init", "check-config", "print-config", "status"] {
        let refused = run(&[command, "--config", name(&config)]).expect(78);
        assert!(refused.stdout.is_empty(), "{refused:#?}");
        for words in [&format!("{}:13:1", name(&config)), "regoin", "`region`", "78"] {
            assert!(refused.stderr.contains(words), "no {words} in {refused:#?}");
        }
    }
    let refused = run(&["check-config", "--config", name(&config), "--output", "json"]).expect(78);
    let json = refused.json();
    assert_eq!(json["ok"], false);
    assert_eq!(json["problems"][0]["place"]["line"], 13);
}

#[test]
fn a_file_that_is_missing_is_named() {
    let refused = run(&["run", "--config", "/nonexistent/config.toml"]).expect(78);
    assert!(refused.stderr.contains("/nonexistent/config.toml"), "{refused:#?}");
    let none = run(&["run"]).expect(78);
    assert!(none.stderr.contains("--config FILE"), "{none:#?}");
}

#[test]
fn files_come_from_the_environment_and_flags_go_over_them() {
    let first = file(GOOD);
    let second = file("[lease]\nduration = \"45s\"\n");
    let mut command = bare(&["print-config"]);
    command.env("DYNAMIRROR_CONFIG", format!("{}:{}", name(&first), name(&second)));
    command.env("DYNAMIRROR__WORKER__ID", "worker-7");
    let printed = outcome(&mut command).expect(0);
    for line in ["duration = \"45s\"", "id = \"worker-7\"", "name = \"orders\""] {
        assert!(printed.stdout.contains(line), "no {line} in {printed:#?}");
    }
    let refused = run(&["run", "--config", name(&first), "--listen", "nowhere"]).expect(78);
    assert!(refused.stderr.contains("flag --listen"), "{refused:#?}");
}

#[test]
fn printed_configurations_load_back() {
    for arguments in [&["print-config", "--defaults"][..], &["print-config"]] {
        let good = file(GOOD);
        let mut command = bare(arguments);
        let printed = outcome(command.env("DYNAMIRROR_CONFIG", name(&good))).expect(0);
        let config = file(&printed.stdout);
        let checked = run(&["check-config", "--offline", "--config", name(&config)]).expect(0);
        assert!(checked.stdout.contains("1 replications is good"), "{checked:#?}");
    }
}

#[test]
fn every_sample_is_good() {
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    let samples = std::fs::read_dir(samples).expect("the samples are there");
    let paths = samples.map(|entry| entry.expect("readable").path());
    let samples: Vec<_> = paths.filter(|path| path.extension().is_some_and(|it| it == "toml")).collect();
    assert!(samples.len() >= 4, "{samples:?}");
    for sample in samples {
        let sample = sample.to_str().expect("text");
        run(&["check-config", "--offline", "--config", sample]).expect(0);
    }
}

#[test]
fn a_log_filter_that_is_none_is_a_mistake_in_the_configuration() {
    let config = file(&format!("[log]\nfilter = \"inof\"\n{GOOD}"));
    let refused = run(&["check-config", "--offline", "--config", name(&config)]).expect(78);
    assert!(refused.stderr.contains("did you mean \"info\""), "{refused:#?}");
    run(&["run", "--config", name(&config)]).expect(78);
}

#[test]
fn nobody_there_is_unhealthy() {
    // A reserved port: nobody listens there.
    let unhealthy = run(&["healthcheck", "--addr", "127.0.0.1:1"]).expect(1);
    assert!(unhealthy.stdout.is_empty() && unhealthy.stderr.contains("127.0.0.1:1"), "{unhealthy:#?}");
    let mut command = bare(&["healthcheck"]);
    let unhealthy = outcome(command.env("DYNAMIRROR__HTTP__LISTEN", "0.0.0.0:1")).expect(1);
    assert!(unhealthy.stderr.contains("127.0.0.1:1"), "{unhealthy:#?}");
}

#[test]
fn an_output_that_is_closed_ends_it_silently() {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let mut command = bare(&["print-config", "--defaults"]);
    let ended = outcome(command.stdout(writer)).expect(0);
    assert!(ended.stderr.is_empty(), "{ended:#?}");
}

#[test]
fn names_that_are_not_configured_are_wrong_usage() {
    let config = file(GOOD);
    let wrong = run(&["dead-letters", "list", "--replica", "eu", "--config", name(&config)]).expect(2);
    assert!(wrong.stderr.contains("but us"), "{wrong:#?}");
}
