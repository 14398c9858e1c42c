//! Equal items have equal digests however they are spelled, and different ones different digests.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::item::{Attributes, Value, any_value};

fn digest(text: &str) -> Digest {
    Digester::new::<&str>(&[]).item(&Item::from_json(text.as_bytes().to_vec().into()))
}

#[test]
fn spellings_of_one_item_have_one_digest() {
    for (left, right) in [
        (r#"{"a":{"N":"1.0"},"b":{"S":"x"}}"#, r#" { "b" : {"S":"x"} , "a" : { "N" : "1" } } "#),
        (r#"{"a":{"N":"1E2"}}"#, r#"{"a":{"N":"100"}}"#),
        (r#"{"a":{"NS":["1","2.50","1e1"]}}"#, r#"{"a":{"NS":["10","1.0","2.5"]}}"#),
        (r#"{"a":{"SS":["x","yy","é"]}}"#, r#"{"a":{"SS":["\u00e9","x","yy"]}}"#),
        (r#"{"a":{"BS":["AQ==","Ag=="]}}"#, r#"{"a":{"BS":["Ag==","AQ"]}}"#),
        (r#"{"a":{"B":"//8="}}"#, r#"{"a":{"B":"\/\/8="}}"#),
        (r#"{"é":{"S":"/"}}"#, r#"{"\u00e9":{"S":"\/"}}"#),
        (
            r#"{"m":{"M":{"x":{"BOOL":true},"y":{"NULL":true}}}}"#,
            r#"{"m":{"M":{"y":{"NULL":true},"x":{"BOOL":true}}}}"#,
        ),
        (
            r#"{"l":{"L":[{"M":{"b":{"N":"2"},"a":{"N":"1"}}},{"S":"z"}]}}"#,
            r#"{"l":{"L":[{"M":{"a":{"N":"1.0"},"b":{"N":"2.0"}}},{"S":"z"}]}}"#,
        ),
    ] {
        assert_eq!(digest(left), digest(right), "{left} and {right}");
    }
}

#[test]
fn what_differs_has_another_digest() {
    let items = [
        r#"{}"#,
        r#"{"a":{"S":"1"}}"#,
        r#"{"a":{"N":"1"}}"#,
        r#"{"a":{"B":"MQ=="}}"#,
        r#"{"a":{"SS":["1"]}}"#,
        r#"{"a":{"NS":["1"]}}"#,
        r#"{"a":{"BS":["MQ=="]}}"#,
        r#"{"a":{"L":[{"S":"1"}]}}"#,
        r#"{"a":{"L":[{"N":"1"}]}}"#,
        r#"{"a":{"M":{"1":{"NULL":true}}}}"#,
        r#"{"a":{"L":[]}}"#,
        r#"{"a":{"M":{}}}"#,
        r#"{"a":{"BOOL":true}}"#,
        r#"{"a":{"BOOL":false}}"#,
        r#"{"a":{"NULL":true}}"#,
        r#"{"a":{"S":""}}"#,
        r#"{"b":{"S":"1"}}"#,
        r#"{"a":{"S":"1"},"b":{"S":"1"}}"#,
        r#"{"a":{"L":[{"S":"1"},{"S":"2"}]}}"#,
        r#"{"a":{"L":[{"S":"2"},{"S":"1"}]}}"#,
        r#"{"a":{"L":[{"L":[{"S":"1"}]},{"S":"2"}]}}"#,
        r#"{"a":{"L":[{"L":[{"S":"1"},{"S":"2"}]}]}}"#,
        r#"{"a":{"VECTOR":[1]}}"#,
        r#"{"a":{"VECTOR":[2]}}"#,
        "not an item",
        "[]",
    ];
    let mut seen = BTreeMap::new();
    for item in items {
        if let Some(other) = seen.insert(digest(item), item) {
            panic!("{item} and {other} have one digest");
        }
    }
}

#[test]
fn ignored_attributes_are_left_out_at_the_top_alone() {
    let mut digester = Digester::new(&["seen", "dynamirror:sequence"]);
    let mut of = |text: &'static str| digester.item(&Item::from_json(text.into()));
    let plain = of(r#"{"k":{"S":"a"}}"#);
    assert_eq!(of(r#"{"dynamirror:sequence":{"S":"t/2026#7"},"k":{"S":"a"}}"#), plain);
    assert_eq!(of(r#"{"k":{"S":"a"},"s\u0065en":{"L":[{"N":"1"}]}}"#), plain);
    assert_eq!(
        of(r#"{"aws:rep:updatetime":{"N":"1.5"},"k":{"S":"a"},"aws:rep:deleting":{"BOOL":false}}"#),
        plain
    );
    assert_ne!(of(r#"{"k":{"S":"a"},"m":{"M":{"seen":{"N":"1"}}}}"#), of(r#"{"k":{"S":"a"},"m":{"M":{}}}"#));
}

#[test]
fn nothing_nests_deep_enough_to_hurt() {
    let deep = |depth: usize| {
        let text = format!("{}{}", r#"{"L":["#.repeat(depth), "]}".repeat(depth));
        digest(&format!(r#"{{"a":{text}}}"#))
    };
    assert_ne!(deep(10), deep(11));
    assert_ne!(deep(100_000), deep(100_001));
}

/// The same item in another spelling: members and elements of sets backwards, numbers with a point or an exponent,
/// letters escaped.
fn respelled(attributes: &Attributes, out: &mut String) {
    out.push_str(" {");
    for (index, (name, value)) in attributes.iter().rev().enumerate() {
        out.push_str(if index == 0 { " " } else { " , " });
        text(name, out);
        out.push(':');
        respelled_value(value, out);
    }
    out.push('}');
}

fn respelled_value(value: &Value, out: &mut String) {
    let list = |out: &mut String, kind: &str, elements: Vec<String>| {
        out.push_str(&format!(r#"{{ "{kind}" : [ {} ] }}"#, elements.join(" ,")));
    };
    let quoted = |value: &str| {
        let mut out = String::new();
        text(value, &mut out);
        out
    };
    let binary = |bytes: &[u8]| base64::engine::general_purpose::STANDARD.encode(bytes).replace('/', "\\/");
    match value {
        Value::String(value) => out.push_str(&format!(r#"{{"S":{}}}"#, quoted(value))),
        Value::Number(value) => out.push_str(&format!(r#"{{"N":"{}"}}"#, number(value))),
        Value::Binary(bytes) => out.push_str(&format!(r#"{{"B":"{}"}}"#, binary(bytes))),
        Value::Bool(value) => out.push_str(&format!(r#"{{"BOOL": {value} }}"#)),
        Value::Null => out.push_str(r#"{"NULL":true}"#),
        Value::Map(members) => {
            out.push_str(r#"{"M":"#);
            respelled(members, out);
            out.push('}');
        }
        Value::List(elements) => {
            let each = elements.iter().map(|value| {
                let mut out = String::new();
                respelled_value(value, &mut out);
                out
            });
            list(out, "L", each.collect());
        }
        Value::Strings(set) => list(out, "SS", set.iter().rev().map(|it| quoted(it)).collect()),
        Value::Numbers(set) => {
            list(out, "NS", set.iter().rev().map(|it| format!("\"{}\"", number(it))).collect())
        }
        Value::Binaries(set) => {
            list(out, "BS", set.iter().rev().map(|it| format!("\"{}\"", binary(it))).collect());
        }
    }
}

fn number(canonical: &str) -> String {
    match canonical.split_once('e') {
        Some((mantissa, exponent)) => format!("{mantissa}.0E+{exponent}"),
        None if canonical.contains('.') => format!("{canonical}0"),
        None => format!("{canonical}.00e0"),
    }
}

fn text(value: &str, out: &mut String) {
    let units = value.encode_utf16().map(|unit| format!("\\u{unit:04x}"));
    out.push_str(&format!("\"{}\"", units.collect::<String>()));
}

proptest! {
    #[test]
    fn a_digest_does_not_depend_on_spelling(
        attributes in prop::collection::btree_map(any::<String>(), any_value(), 0..6),
    ) {
        let mut other = String::new();
        respelled(&attributes, &mut other);
        let canonical = Item::from_attributes(&attributes);
        let mut digester = Digester::new::<&str>(&[]);
        // Its memory is used before, by something else.
        digester.item(&Item::from_json(r#"{"x":{"SS":["b","a"]}}"#.into()));
        prop_assert_eq!(digester.item(&canonical), digest(&other));
    }

    #[test]
    fn different_items_have_different_digests(
        left in prop::collection::btree_map("[ab]", any_value(), 0..3),
        right in prop::collection::btree_map("[ab]", any_value(), 0..3),
    ) {
        let [of_left, of_right] =
            [&left, &right].map(|it| Digester::new::<&str>(&[]).item(&Item::from_attributes(it)));
        prop_assert_eq!(of_left == of_right, left == right);
    }

    #[test]
    fn no_text_makes_it_panic(text in any::<String>()) {
        digest(&text);
        digest(&format!(r#"{{"a":{text}}}"#));
    }
}
