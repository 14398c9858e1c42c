use super::*;

const MINIMAL: &str = r#"
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

fn file(text: &str) -> Vec<File> {
    vec![File {
        name: "c.toml".to_owned(),
        text: text.to_owned(),
    }]
}

#[test]
fn look() {
    println!("{}", effective(&parse(&file(MINIMAL), &[], &[]).unwrap()));
    println!("{}", example());
    println!("{}", reference());
    let bad = r#"
[controll]
region = "eu-west-1"
[lease]
duration = 15
checkpoint_interval = "8x"
[[http]]
listen = "localhost:80"
[log]
filter = "a=b=c"

[[replications]]
name = "or ders"
source.table = "Or"
source = { table = 5, regoin = "x" }

[[replications]]
name = "a"
park_limit = 5
start = 2026-11-20T10:00:00
[replications.source]
table = "Orders"
region = "eu-west-1a"
endpoint_url = "http://u:pässword@host/x"

[[replications.replicas]]
name = "us"
region = "us-east-1"
buffer = "1KiB"
"#;
    println!("{}", parse(&file(bad), &[], &[]).unwrap_err());
    let bad = bad.replace("source.table = \"Or\"\n", "");
    println!(
        "{}",
        parse(&file(&bad), &[("DYNAMIRROR__HTTTP__X".into(), "1".into())], &[]).unwrap_err()
    );
}
