//! Attribute values of every type, drawn from a seed, and a spelling of them that can be compared.

use std::collections::HashMap;
use std::fmt::Write;

use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;
use fastrand::Rng;

use super::target;

/// An item as the SDK has it.
pub(crate) type Item = HashMap<String, AttributeValue>;

/// Texts that trip over quoting, encoding or emptiness.
const TEXTS: [&str; 9] = [
    "",
    "plain",
    "\"quoted\" \\ back\\slash",
    "line\nbreak\ttab\u{0}\u{1f}",
    "snow ☃ crab \u{1F980} e\u{301}",
    "{\"S\":\"not a value\"}",
    "</script>\u{2028}\u{2029}\u{7f}",
    "]}}]",
    " ",
];

/// Numbers at the edges of what the service keeps: 38 digits, exponents from -130 to 125.
const NUMBERS: [&str; 12] = [
    "0",
    "-1",
    "3.14159",
    "12345678901234567890123456789012345678",
    "-0.12345678901234567890123456789012345678",
    "99999999999999999999999999999999999999",
    "1234567890123456789.0123456789012345678",
    "1000000000000000000000000",
    "0.000000000000000000001",
    "100",
    "-100.5",
    "9007199254740993",
];

/// Names of attributes.
pub(crate) const NAMES: [&str; 8] = ["a", "b.c", "#d", "é \"q\"", "\\", "☃", "S", "🦀[0]"];

/// One value, with at most `depth` levels of lists and maps.
pub(crate) fn any(rng: &mut Rng, depth: usize) -> AttributeValue {
    let kinds = if depth == 0 { 8 } else { 10 };
    match rng.usize(..kinds) {
        0 => AttributeValue::S(text(rng)),
        1 => AttributeValue::N(number(rng)),
        2 => AttributeValue::B(Blob::new(bytes(rng))),
        3 => AttributeValue::Bool(rng.bool()),
        4 => AttributeValue::Null(true),
        5 => AttributeValue::Ss(distinct(rng, |rng| format!("{}{}", text(rng), rng.u8(..)))),
        6 => AttributeValue::Ns(distinct(rng, |rng| rng.i32(..).to_string())),
        7 => AttributeValue::Bs(distinct(rng, bytes).into_iter().map(Blob::new).collect()),
        8 => AttributeValue::L((0..rng.usize(..4)).map(|_| any(rng, depth - 1)).collect()),
        _ => {
            let least = usize::from(target::server().streams_empty_maps().is_err());
            let members = (0..least + rng.usize(..4)).map(|_| (name(rng), any(rng, depth - 1)));
            AttributeValue::M(members.collect())
        }
    }
}

/// Some attributes beside the key.
pub(crate) fn attributes(rng: &mut Rng) -> Item {
    (0..rng.usize(..6)).map(|_| (name(rng), any(rng, 3))).collect()
}

/// One attribute of each type and each edge, all in one item.
pub(crate) fn every() -> Item {
    let text = |text: &str| AttributeValue::S(text.to_owned());
    let mut item = Item::from([
        ("binary".to_owned(), AttributeValue::B(Blob::new((0..=255).collect::<Vec<u8>>()))),
        ("empty binary".to_owned(), AttributeValue::B(Blob::new(Vec::new()))),
        ("empty list".to_owned(), AttributeValue::L(Vec::new())),
        ("empty map".to_owned(), AttributeValue::M(HashMap::new())),
        ("null".to_owned(), AttributeValue::Null(true)),
        ("true".to_owned(), AttributeValue::Bool(true)),
        ("false".to_owned(), AttributeValue::Bool(false)),
        ("texts".to_owned(), AttributeValue::Ss(TEXTS.iter().skip(1).map(|it| (*it).to_owned()).collect())),
        ("numbers".to_owned(), AttributeValue::Ns(NUMBERS.iter().map(|it| (*it).to_owned()).collect())),
        (
            "binaries".to_owned(),
            AttributeValue::Bs(vec![Blob::new([0]), Blob::new([255, 0]), Blob::new([1, 2, 3])]),
        ),
    ]);
    if target::server().streams_empty_maps().is_err() {
        item.remove("empty map");
    }
    for (index, number) in NUMBERS.iter().enumerate() {
        item.insert(format!("number {index}"), AttributeValue::N((*number).to_owned()));
    }
    for (index, it) in TEXTS.iter().enumerate() {
        item.insert(format!("text {index}"), text(it));
    }
    let mut nested = AttributeValue::S("the innermost".to_owned());
    for level in 0..14 {
        nested = AttributeValue::M(HashMap::from([
            (format!("\"level\" {level}"), AttributeValue::L(vec![nested, text("")])),
            (NAMES[level % NAMES.len()].to_owned(), AttributeValue::N(level.to_string())),
        ]));
    }
    item.insert("nested".to_owned(), nested);
    item
}

/// A value of which an item is just below the limit of 400 KB (the keys and names take the rest).
pub(crate) fn huge(rng: &mut Rng) -> AttributeValue {
    AttributeValue::S(std::iter::repeat_with(|| rng.alphanumeric()).take(399 * 1024).collect())
}

fn text(rng: &mut Rng) -> String {
    TEXTS[rng.usize(..TEXTS.len())].to_owned()
}

fn number(rng: &mut Rng) -> String {
    if rng.bool() { NUMBERS[rng.usize(..NUMBERS.len())].to_owned() } else { rng.i64(..).to_string() }
}

fn bytes(rng: &mut Rng) -> Vec<u8> {
    let len = rng.usize(..20);
    std::iter::repeat_with(|| rng.u8(..)).take(len).collect()
}

fn name(rng: &mut Rng) -> String {
    NAMES[rng.usize(..NAMES.len())].to_owned()
}

fn distinct<T: Ord>(rng: &mut Rng, draw: impl Fn(&mut Rng) -> T) -> Vec<T> {
    let count = 1 + rng.usize(..3);
    std::iter::repeat_with(|| draw(rng))
        .take(count)
        .collect::<std::collections::BTreeSet<_>>()
        .into_iter()
        .collect()
}

/// An item as text that is the same for equal items only: sets and maps have no order, all else does.
pub(crate) fn spell_item(item: &Item) -> String {
    let mut members: Vec<_> =
        item.iter().map(|(name, value)| format!("{name:?}: {}", spell(value))).collect();
    members.sort();
    format!("{{{}}}", members.join(", "))
}

fn spell(value: &AttributeValue) -> String {
    let set = |kind: &str, mut members: Vec<String>| {
        members.sort();
        format!("{kind}({})", members.join(", "))
    };
    match value {
        AttributeValue::S(text) => format!("S({text:?})"),
        AttributeValue::N(number) => format!("N({number})"),
        AttributeValue::B(blob) => format!("B({})", hex(blob)),
        AttributeValue::Bool(it) => format!("BOOL({it})"),
        AttributeValue::Null(it) => format!("NULL({it})"),
        AttributeValue::Ss(members) => set("SS", members.iter().map(|it| format!("{it:?}")).collect()),
        AttributeValue::Ns(members) => set("NS", members.clone()),
        AttributeValue::Bs(members) => set("BS", members.iter().map(hex).collect()),
        AttributeValue::L(members) => {
            format!("L[{}]", members.iter().map(spell).collect::<Vec<_>>().join(", "))
        }
        AttributeValue::M(members) => format!("M{}", spell_item(members)),
        other => panic!("an attribute value of a type that this test does not know: {other:?}"),
    }
}

fn hex(blob: &Blob) -> String {
    let mut text = String::new();
    for byte in blob.as_ref() {
        write!(text, "{byte:02x}").expect("memory takes all that is written to it");
    }
    text
}
