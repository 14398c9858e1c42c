//! Attribute values of every type that DynamoDB has, drawn from a seed.

use std::collections::BTreeSet;

use crate::item::number;
use crate::item::{Attributes, Value};

/// Where payloads are cut from; longer than the largest, so that they differ.
const POOL_BYTES: usize = 512 * 1024;

/// What strings are made of, besides letters: all that is escaped somewhere, other scripts, and more than the basic
/// plane.
const PIECES: [&str; 12] = [
    "\"quoted\"",
    "back\\slash",
    "tab\there",
    "line\nbreak",
    "ünïcödé",
    "注文",
    "🚚",
    "{\"N\":\"1\"}",
    "'",
    "</b>",
    "\u{7f}\u{1}",
    "e\u{301}",
];

/// Draws values.
#[derive(Debug)]
pub(super) struct Values {
    rng: fastrand::Rng,
    pool: String,
}

/// The kinds of attributes, each with a name of its own, so that a name always has the same type.
const NAMES: [&str; 16] = [
    "note",
    "empty",
    "balance",
    "delta",
    "ratio",
    "photo",
    "nothing in it",
    "paid",
    "cancelled",
    "lines",
    "no lines",
    "address",
    "no address",
    "tags",
    "scores",
    "naïve \"name\" 名",
];

// === impl Values ===

impl Values {
    pub(super) fn new(mut rng: fastrand::Rng) -> Self {
        let pool = (0..POOL_BYTES).map(|_| rng.alphanumeric()).collect();
        Self { rng, pool }
    }

    /// Attributes of a whole item, but for its key: some of all kinds, and a payload of `payload_bytes` or else of a
    /// drawn size.
    pub(super) fn attributes(&mut self, payload_bytes: Option<usize>) -> Attributes {
        let mut attributes = Attributes::new();
        for _ in 0..self.rng.usize(1..=5) {
            let (name, value) = self.any();
            attributes.insert(name.to_owned(), value);
        }
        let bytes = payload_bytes.unwrap_or_else(|| self.size());
        attributes.insert("payload".to_owned(), self.payload(bytes));
        if self.rng.bool() {
            attributes.insert("draft".to_owned(), Value::Bool(true));
        }
        attributes
    }

    /// One to three attributes with different names.
    pub(super) fn few(&mut self) -> Vec<(&'static str, Value)> {
        let drawn = (0..self.rng.usize(1..=3)).map(|_| self.any());
        let mut drawn: Vec<_> = drawn.collect();
        drawn.sort_by_key(|(name, _)| *name);
        drawn.dedup_by_key(|(name, _)| *name);
        drawn
    }

    /// A set to add to another.
    pub(super) fn tag(&mut self) -> Value {
        Value::Strings(BTreeSet::from([format!("label {}", self.rng.u8(0..8))]))
    }

    fn any(&mut self) -> (&'static str, Value) {
        let kind = self.rng.usize(0..NAMES.len());
        let value = match kind {
            0 => self.text().into(),
            1 => "".into(),
            2 => self.number(38),
            3 => Value::integer(-self.rng.i64(1..1_000_000_000)),
            4 => self.fraction(),
            5 => self.binary(),
            6 => Value::Binary(Vec::new()),
            7 => Value::Bool(self.rng.bool()),
            8 => Value::Null,
            9 => self.list(2),
            10 => Value::List(Vec::new()),
            11 => self.map(2),
            12 => Value::Map(Attributes::new()),
            13 => Value::Strings((0..self.rng.usize(1..5)).map(|_| self.text()).collect()),
            14 => Value::Numbers((0..self.rng.usize(1..5)).map(|_| self.digits(20)).collect()),
            _ => Value::Binaries((0..self.rng.usize(1..4)).map(|_| self.bytes()).collect()),
        };
        (NAMES[kind], value)
    }

    fn text(&mut self) -> String {
        let mut text = String::new();
        for _ in 0..self.rng.usize(1..5) {
            text.push_str(PIECES[self.rng.usize(0..PIECES.len())]);
            let start = self.rng.usize(0..POOL_BYTES - 20);
            text.push_str(&self.pool[start..start + self.rng.usize(0..20)]);
        }
        text
    }

    /// A whole number of exactly `digits` digits, none of them lost by writing it in its shortest form.
    fn digits(&mut self, digits: usize) -> String {
        let mut text: String = (0..digits).map(|_| char::from(b'0' + self.rng.u8(1..=9))).collect();
        if self.rng.bool() {
            text.insert(0, '-');
        }
        text
    }

    fn number(&mut self, digits: usize) -> Value {
        Value::Number(self.digits(digits))
    }

    /// From 1e-30 to 9.99e29.
    fn fraction(&mut self) -> Value {
        let text = format!("{}e{}", self.rng.i32(-999..=999), self.rng.i32(-30..28));
        Value::Number(number::canonical(&text).into_owned())
    }

    fn bytes(&mut self) -> Vec<u8> {
        let mut bytes = vec![0; self.rng.usize(1..64)];
        self.rng.fill(&mut bytes);
        bytes
    }

    fn binary(&mut self) -> Value {
        Value::Binary(self.bytes())
    }

    fn list(&mut self, depth: u32) -> Value {
        Value::List((0..self.rng.usize(1..4)).map(|_| self.nested(depth)).collect())
    }

    fn map(&mut self, depth: u32) -> Value {
        let members =
            (0..self.rng.usize(1..4)).map(|index| (format!("member \"{index}\""), self.nested(depth)));
        Value::Map(members.collect())
    }

    fn nested(&mut self, depth: u32) -> Value {
        match self.rng.u32(0..8) {
            0 if depth > 0 => self.list(depth - 1),
            1 if depth > 0 => self.map(depth - 1),
            2 => self.number(12),
            3 => Value::Null,
            4 => Value::Bool(self.rng.bool()),
            5 => self.binary(),
            _ => self.text().into(),
        }
    }

    /// Mostly some hundred bytes, now and then up to 30 KB: as tables are.
    fn size(&mut self) -> usize {
        let (least, most) = match self.rng.u32(0..100) {
            0..75 => (20, 500),
            75..97 => (500, 4_000),
            _ => (4_000, 28_000),
        };
        self.rng.usize(least..most)
    }

    fn payload(&mut self, bytes: usize) -> Value {
        let start = self.rng.usize(0..POOL_BYTES - bytes);
        let text = &self.pool[start..start + bytes];
        if self.rng.u32(0..8) == 0 && bytes < 10_000 {
            return Value::Binary(text.as_bytes().to_vec());
        }
        text.into()
    }
}
