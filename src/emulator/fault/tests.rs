use super::*;
use bytes::Bytes;
use hyper::{HeaderMap, Method};

fn faults() -> Faults {
    Faults::new(fastrand::Rng::with_seed(3))
}

fn put(body: &'static str) -> Request {
    let body = Bytes::from_static(body.as_bytes());
    Request { method: Method::POST, path: "/".to_owned(), headers: HeaderMap::new(), body }
}

#[test]
fn a_rule_strikes_its_operation_and_table_as_often_as_it_says() {
    let faults = faults();
    let rule = Rule::new(Fault::ResetBefore).on("PutItem").of_table("t").times(2);
    let id = faults.add(rule);
    let strikes = |operation, body| faults.judge(operation, &put(body)).fault.is_some();
    assert!(!strikes("GetItem", r#"{"TableName":"t"}"#));
    assert!(!strikes("PutItem", r#"{"TableName":"u"}"#));
    assert!(strikes("PutItem", r#"{"TableName":"t"}"#));
    assert!(strikes("PutItem", r#"{"TableName":"t"}"#));
    assert!(!strikes("PutItem", r#"{"TableName":"t"}"#));
    assert_eq!((faults.fired(id), faults.fired_in_total()), (2, 2));
}

#[test]
fn delays_add_up_and_the_first_other_fault_decides() {
    let faults = faults();
    faults.add(Rule::new(Fault::Slow(Duration::from_millis(5))).times(1));
    faults.add(Rule::new(Fault::Slow(Duration::from_millis(7))));
    faults.add(Rule::new(Fault::Status(503)));
    faults.add(Rule::new(Fault::ResetAfter));
    let verdict = faults.judge("Scan", &put("{}"));
    assert_eq!(verdict, Verdict { delay: Duration::from_millis(12), fault: Some(Fault::Status(503)) });
    assert_eq!(faults.judge("Scan", &put("{}")).delay, Duration::from_millis(7));
    faults.clear();
    assert_eq!(faults.judge("Scan", &put("{}")), Verdict::default());
}

#[test]
fn poison_strikes_writes_that_carry_it() {
    let faults = faults();
    faults.add(Rule::new(Fault::Poison { marker: "bad".to_owned() }));
    assert!(faults.judge("BatchWriteItem", &put(r#"{"x":"bad"}"#)).fault.is_some());
    assert!(faults.judge("BatchWriteItem", &put(r#"{"x":"good"}"#)).fault.is_none());
    assert!(faults.judge("GetItem", &put(r#"{"x":"bad"}"#)).fault.is_none());
}

#[test]
fn the_same_seed_gives_the_same_faults() {
    let run = || {
        let faults = faults();
        faults.add(Rule::new(Fault::ResetBefore).with_probability(0.3));
        (0..200).map(|_| faults.judge("PutItem", &put("{}")).fault.is_some()).collect::<Vec<_>>()
    };
    let struck = run();
    assert_eq!(struck, run());
    assert!((30..90).contains(&struck.iter().filter(|struck| **struck).count()));
}
