//! What a person and a program are shown.

use super::*;

#[test]
fn a_report_shows_every_problem_at_its_line() {
    let text = "[controll]\nregion = \"eu-west-1\"\n\n[lease]\n\tduration = 15\n";
    let errors =
        parse(&files(&[text]), &env(&[("DYNAMIRROR__LOG__FORMAT", "xml")]), &[]).expect_err("problems");
    let expected = "\
invalid configuration
 --> c.toml:1:2
  |
1 | [controll]
  |  ^^^^^^^^ unknown key `controll` at the top level; did you mean `control`?
  = allowed: control, worker, http, log, lease, heartbeat, replications

 --> c.toml:5:13
  |
5 | \tduration = 15
  | \t           ^^ expected a duration such as \"15s\" or \"2m30s\", found the number 15
  = add a unit and quotes: \"15s\" or \"15ms\"

 --> environment variable DYNAMIRROR__LOG__FORMAT
  | expected \"auto\", \"text\" or \"json\", found \"xml\"

 --> replications
  | there is nothing to replicate
  = add a [[replications]] table with a source and its replicas

4 problems found; nothing was started.";
    assert_eq!(errors.to_string(), expected);
}

#[test]
fn one_problem_is_counted_in_the_singular() {
    let errors = refused(&minimal_with("\"us-east-1\"", "5"));
    assert!(errors.to_string().ends_with("\n1 problem found; nothing was started."), "{errors}");
}

#[test]
fn problems_are_data_as_well() {
    let text = minimal_with("\"us-east-1\"", "5");
    let json = serde_json::to_value(refused(&text)).expect("plain data");
    let expected = serde_json::json!({"problems": [{
        "place": {"kind": "file", "file": "c.toml", "line": 13, "column": 10},
        "path": "replications[0].replicas[0].region",
        "message": "expected a region such as \"eu-west-1\", found the number 5",
        "help": "write it in quotes",
    }]});
    assert_eq!(json, expected);
}

#[test]
fn problems_are_sorted_by_file_and_line() {
    let texts = [minimal_with("\"us-east-1\"", "5"), "[http]\nlisten = 1\n[log]\nfilter = 2\n".to_owned()];
    let errors = parse(&files(&[&texts[0], &texts[1]]), &[], &[]).expect_err("three problems");
    let places: Vec<_> = errors.problems().iter().map(at).collect();
    assert_eq!(places, ["c.toml:13:10", "c1.toml:2:10", "c1.toml:4:10"]);
}

#[test]
fn carets_survive_wide_and_long_lines() {
    let text = minimal_with("\"us-east-1\"", "5 # größer");
    let wide = text.replace("name = \"us\"\nregion", "\"näme\" = \"üs\"\nname = \"us\"\nregion");
    let errors = refused(&wide);
    assert!(
        errors.to_string().contains("\n12 | \"näme\" = \"üs\"\n   | ^^^^^^ unknown key `näme`"),
        "{errors}"
    );
    let long = format!("[http]\nlisten = \"{}\"\n{MINIMAL}", "x".repeat(5000));
    let longest = refused(&long).to_string().lines().filter(|line| line.contains("^^^")).map(str::len).max();
    assert!(longest.is_some(), "the excerpt is there");
    let excerpt = refused(&long).to_string().lines().find(|line| line.starts_with("2 |")).map(str::len);
    assert!(excerpt.is_some_and(|length| length < 200), "{excerpt:?}");
}

#[test]
fn credentials_in_a_url_are_never_shown() {
    let urls = [
        "http://user:zq@host",
        "http://user:z/zq@host",
        "httpx://zq@host",
        "http://z zq@host",
        "http://u:z'zq@host",
    ];
    for url in urls {
        let text = minimal_with(
            "region = \"us-east-1\"",
            &format!("region = \"us-east-1\"\nendpoint_url = {url:?}"),
        );
        let errors = refused(&text);
        let json = serde_json::to_string(&errors).expect("plain data");
        assert!(errors.to_string().contains("@host") && !errors.to_string().contains("zq"), "{errors}");
        assert!(!json.contains("zq"), "{json}");
    }
    let mut config = accepted(MINIMAL);
    config.control.endpoint.endpoint_url = Some("http://user:secret@host:8000/x".to_owned());
    let text = effective(&config);
    assert!(text.contains("endpoint_url = \"http://***********@host:8000/x\""), "{text}");
}
