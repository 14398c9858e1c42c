//! Files over defaults, variables over files, flags over variables.

use super::*;

const ROLE: &str = "arn:aws:iam::012345678901:role/r";

fn parsed(texts: &[&str], variables: &[(&str, &str)], overrides: &[Override]) -> Result<Config, Errors> {
    parse(&files(texts), &env(variables), overrides)
}

fn flag(flag: &str, path: &str, value: &str) -> Override {
    Override { flag: flag.to_owned(), path: path.to_owned(), value: value.to_owned() }
}

#[track_caller]
fn assert_variable(name: &str, value: &str, message: &str) {
    let errors = parsed(&[MINIMAL], &[(name, value)], &[]).expect_err("this variable must be refused");
    assert_eq!(messages(&errors), [message]);
    assert_eq!(at(&errors.problems()[0]), name);
}

#[test]
fn each_layer_wins_over_the_one_before() {
    let file = "[http]\nlisten = \"127.0.0.1:1\"\n";
    let later = "[http]\nlisten = \"127.0.0.1:2\"\n[log]\nfilter = \"warn\"\n";
    let variable = ("DYNAMIRROR__HTTP__LISTEN", "127.0.0.1:3");
    let flags = [flag("--listen", "http.listen", "127.0.0.1:4")];
    let port = |texts: &[&str], variables: &[(&str, &str)], flags: &[Override]| {
        parsed(texts, variables, flags).expect("accepted").http.listen.port()
    };
    assert_eq!(port(&[MINIMAL], &[], &[]), 9464);
    assert_eq!(port(&[MINIMAL, file], &[], &[]), 1);
    assert_eq!(port(&[MINIMAL, file, later], &[], &[]), 2);
    assert_eq!(port(&[MINIMAL, file, later], &[variable], &[]), 3);
    assert_eq!(port(&[MINIMAL, file, later], &[variable], &flags), 4);
    let merged = parsed(&[MINIMAL, file, later], &[variable], &flags).expect("accepted");
    assert_eq!(merged.log.filter, "warn", "the rest of the later file stays");
    assert_eq!(merged.control.endpoint.region, "eu-west-1", "and so does the first");
}

#[test]
fn a_later_list_replaces_the_earlier_one_and_its_places() {
    let later = minimal_with("[control]\nregion = \"eu-west-1\"\n", "").replace("\"orders\"", "\"other\"");
    let config = parsed(&[MINIMAL, &later], &[], &[]).expect("accepted");
    assert_eq!(config.replications.len(), 1);
    assert_eq!(config.replications[0].name, "other");
    let broken = later.replace("region = \"us-east-1\"", "");
    let errors = parsed(&[MINIMAL, &broken], &[], &[]).expect_err("region is missing");
    assert_eq!(at(&errors.problems()[0]), "c1.toml:9:1", "{errors}");
}

#[test]
fn a_mistake_that_a_later_file_overwrites_is_still_a_mistake_but_only_once() {
    let first = format!("[http]\nlisten = 5\n{MINIMAL}");
    let errors = parsed(&[&first, "[http]\nlisten = \"127.0.0.1:1\"\n"], &[], &[]).expect_err("wrong type");
    assert_eq!(errors.problems().len(), 1, "{errors}");
    assert_eq!(at(&errors.problems()[0]), "c.toml:2:10");
}

#[test]
fn variables_reach_list_elements_in_both_spellings() {
    for name in [
        "DYNAMIRROR__REPLICATIONS__0__REPLICAS__0__REGION",
        "DYNAMIRROR__REPLICATIONS[0]__REPLICAS[0]__REGION",
    ] {
        let config = parsed(&[MINIMAL], &[(name, "ap-south-1")], &[]).expect("accepted");
        assert_eq!(config.replications[0].replicas[0].endpoint.region, "ap-south-1");
        assert_eq!(config.replications[0].replicas[0].name, "us", "the rest of the element stays");
    }
}

#[test]
fn a_variable_can_add_an_element_but_leave_no_gap() {
    let second = |index: usize| {
        let name = |key: &str| format!("DYNAMIRROR__REPLICATIONS__0__REPLICAS__{index}__{key}");
        [(name("NAME"), "eu".to_owned()), (name("REGION"), "eu-central-1".to_owned())]
    };
    let config = parse(&files(&[MINIMAL]), &second(1), &[]).expect("accepted");
    assert_eq!(config.replications[0].replicas[1].name, "eu");
    let errors = parse(&files(&[MINIMAL]), &second(2), &[]).expect_err("a gap");
    assert_eq!(messages(&errors), ["`replications[0].replicas[1]` is missing, but a later one is set"]);
    let incomplete = parse(&files(&[MINIMAL]), &second(1)[..1], &[]).expect_err("no region");
    assert_eq!(messages(&incomplete), ["missing key `region` in `replications[0].replicas[1]`"]);
    assert_eq!(at(&incomplete.problems()[0]), "DYNAMIRROR__REPLICATIONS__0__REPLICAS__1__NAME");
}

#[test]
fn text_that_looks_like_a_number_stays_text() {
    let source = |key: &str| format!("DYNAMIRROR__REPLICATIONS__0__SOURCE__{key}");
    let variables = [
        (source("EXTERNAL_ID"), "012345678901".to_owned()),
        (source("PROFILE"), "1e5".to_owned()),
        (source("ROLE_ARN"), ROLE.to_owned()),
        (source("REGION"), "2024".to_owned()),
        ("DYNAMIRROR__WORKER__ID".to_owned(), "0x10".to_owned()),
        ("DYNAMIRROR__REPLICATIONS__0__NAME".to_owned(), "true".to_owned()),
        ("DYNAMIRROR__REPLICATIONS__0__REPLICAS__0__NAME".to_owned(), "1,2".to_owned()),
    ];
    let config = parse(&files(&[MINIMAL]), &variables[..6], &[]).expect("accepted");
    let endpoint = &config.replications[0].source.endpoint;
    assert_eq!(endpoint.external_id.as_deref(), Some("012345678901"));
    assert_eq!(endpoint.profile.as_deref(), Some("1e5"));
    assert_eq!(endpoint.region, "2024");
    assert_eq!(config.worker.id.as_deref(), Some("0x10"));
    assert_eq!(config.replications[0].name, "true");
    let errors = parse(&files(&[MINIMAL]), &variables[6..], &[]).expect_err("a comma is no part of a name");
    assert_eq!(messages(&errors), ["\"1,2\" cannot be a name"], "and makes no list either");
}

#[test]
fn numbers_and_flags_come_as_text_from_variables() {
    let variables = [
        ("DYNAMIRROR__CONTROL__CREATE", "true"),
        ("DYNAMIRROR__REPLICATIONS__0__REPLICAS__0__BATCHES_IN_FLIGHT", "7"),
    ];
    let config = parsed(&[MINIMAL], &variables, &[]).expect("accepted");
    assert!(config.control.create);
    assert_eq!(config.replications[0].replicas[0].batches_in_flight.get(), 7);
    assert_variable("DYNAMIRROR__CONTROL__CREATE", "yes", "expected true or false, found \"yes\"");
    let name = "DYNAMIRROR__REPLICATIONS__0__REPLICAS__0__PARK_LIMIT";
    assert_variable(name, "1e5", "expected a whole number, found \"1e5\"");
}

#[test]
fn wrong_variables_are_named() {
    assert_variable(
        "DYNAMIRROR__HTTTP__LISTEN",
        "x",
        "unknown key `htttp` at the top level; did you mean `http`?",
    );
    assert_variable("DYNAMIRROR__HTTP__LISTN", "x", "unknown key `listn` in `http`; did you mean `listen`?");
    assert_variable("DYNAMIRROR__HTTP", "x", "`http` is a table, not a value");
    assert_variable(
        "DYNAMIRROR__HTTP__LISTEN__PORT",
        "x",
        "`http.listen` is a value and has no settings inside",
    );
    assert_variable("DYNAMIRROR__HTTP[0]__LISTEN", "x", "`http` is not a list");
    let index = "`replications` is a list: expected an index from 0 to 999, found";
    assert_variable("DYNAMIRROR__REPLICATIONS__NAME", "x", &format!("{index} \"name\""));
    assert_variable("DYNAMIRROR__REPLICATIONS__99999__NAME", "x", &format!("{index} \"99999\""));
    assert_variable("DYNAMIRROR__REPLICATIONS[-1]__NAME", "x", &format!("{index} \"-1\""));
    assert_variable(
        "DYNAMIRROR__HTTP__LISTEN.PORT",
        "x",
        "unknown key `listen.port` in `http`; did you mean `listen`?",
    );
}

#[test]
fn other_and_empty_variables_are_no_settings() {
    let variables = [
        ("DYNAMIRROR_PORT", "tcp://10.0.0.1:80"),
        ("DYNAMIRROR_LOG", "debug"),
        ("HTTP__LISTEN", "x"),
        ("DYNAMIRROR__HTTP__LISTEN", ""),
    ];
    assert_eq!(parsed(&[MINIMAL], &variables, &[]).expect("accepted"), accepted(MINIMAL));
}

#[test]
fn a_process_environment_may_hold_anything() {
    use std::os::unix::ffi::OsStringExt;
    let latin = std::ffi::OsString::from_vec(b"caf\xe9".to_vec());
    let variables = [
        ("PATH".into(), latin.clone()),
        (latin.clone(), "x".into()),
        ("DYNAMIRROR__WORKER__ID".into(), latin),
        ("DYNAMIRROR__LOG__FILTER".into(), "warn".into()),
    ];
    let settings = environment(variables.into_iter());
    let names: Vec<_> = settings.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["DYNAMIRROR__WORKER__ID", "DYNAMIRROR__LOG__FILTER"]);
    let errors = parse(&files(&[MINIMAL]), &settings, &[]).expect_err("not a name");
    assert_eq!(messages(&errors), ["\"caf\u{fffd}\" cannot be a name"]);
}

#[test]
fn one_setting_in_two_variables_is_refused() {
    let variables = [("DYNAMIRROR__LOG__FILTER", "info"), ("dynamirror__log__filter", "debug")];
    let errors = parsed(&[MINIMAL], &variables, &[]).expect_err("ambiguous");
    assert_eq!(messages(&errors), ["`log.filter` is also set by DYNAMIRROR__LOG__FILTER"]);
}

#[test]
fn a_problem_points_at_the_layer_the_value_came_from() {
    let overrides = [flag("--listen", "http.listen", "nowhere")];
    let variables = [("DYNAMIRROR__HTTP__LISTEN", "127.0.0.1:1"), ("DYNAMIRROR__LEASE__DURATION", "9")];
    let errors = parsed(&[MINIMAL], &variables, &overrides).expect_err("two mistakes");
    let places: Vec<_> = errors.problems().iter().map(at).collect();
    assert_eq!(places, ["DYNAMIRROR__LEASE__DURATION", "--listen"]);
    let unknown = parsed(&[MINIMAL], &[], &[flag("--set", "htp.listen", "x")]).expect_err("unknown");
    assert_eq!(messages(&unknown), ["unknown key `htp` at the top level; did you mean `http`?"]);
    assert_eq!(at(&unknown.problems()[0]), "--set");
}

#[test]
fn a_configuration_needs_a_file() {
    let errors = load(&[], &[], &[]).expect_err("no file");
    assert_eq!(messages(&errors), ["no configuration file was given"]);
    assert!(errors.to_string().contains("--config FILE"), "{errors}");
}

#[test]
fn unreadable_files_are_named_together_with_what_else_is_wrong() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = |name: &str| directory.path().join(name);
    std::fs::write(path("latin.toml"), b"# caf\xe9").expect("a written file");
    std::fs::write(path("typo.toml"), "[htp]\n").expect("a written file");
    let paths = [path("none.toml"), path("latin.toml"), path("typo.toml"), directory.path().to_owned()];
    let errors = load(&paths, &[], &[]).expect_err("four problems");
    let text = errors.to_string();
    for expected in [
        "none.toml\n  | cannot be read: No such file",
        "latin.toml\n  | is not UTF-8 text",
        "unknown key `htp` at the top level; did you mean `http`?",
        "cannot be read: Is a directory",
        "4 problems found; nothing was started.",
    ] {
        assert!(text.contains(expected), "{expected:?} is not in\n{text}");
    }
}

#[test]
fn files_are_read_from_disk() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("c.toml");
    std::fs::write(&path, format!("\u{feff}{}", MINIMAL.replace('\n', "\r\n"))).expect("a written file");
    assert_eq!(load(&[path], &[], &[]).expect("accepted"), accepted(MINIMAL), "with a BOM and CRLF");
}
