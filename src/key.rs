//! The identity of an item: its primary key, in one spelling.

use std::fmt;
use std::hash::{BuildHasher, Hash, Hasher};
use std::ops::Range;

use bytes::Bytes;
use foldhash::fast::FixedState;

use crate::item::number;
use crate::item::scan::{Scanner, Unexpected};

/// A primary key: the text of a JSON object with one or two attributes, in its canonical spelling, and a hash
/// of it.
///
/// Canonical means: members in order of their names, no white space, no needless escapes, numbers in one
/// spelling. So two keys are equal exactly when their bytes are. A key that arrives canonical, as the service
/// sends it, is a slice of the answer and costs no copy.
#[derive(Clone)]
pub struct Key {
    json: Bytes,
    hash: u64,
}

/// A text that is no primary key.
#[derive(Debug, thiserror::Error)]
pub enum Malformed {
    /// It is not the JSON it should be.
    #[error(transparent)]
    Json(#[from] Unexpected),
    /// It holds none or more than two attributes.
    #[error("read a primary key: it has {0} attributes, expected 1 or 2")]
    Members(usize),
    /// An attribute is missing from an item.
    #[error("find the key attribute `{0}` in an item")]
    Absent(String),
    /// A string in it is not valid JSON text.
    #[error("read a string of a primary key")]
    Text(#[source] serde_json::Error),
}

/// The hash must be the same in every run only for tests' sake; keys come from the table's own users.
const HASHER: FixedState = FixedState::with_seed(0x6479_6e61_6d69_7272);

// === impl Key ===

impl Key {
    /// Takes `range` of `body`, the text of a key's JSON object.
    ///
    /// # Errors
    /// When it is no object with one or two attributes.
    pub fn from_json(body: &Bytes, range: Range<usize>) -> Result<Self, Malformed> {
        let text = &body[range.clone()];
        let mut members = Members::default();
        Scanner::new(text).object(|name, scanner| {
            let value = scanner.value()?;
            members.push(name, scanner.slice(value))
        })?;
        members.count_is_fine()?;
        if members.are_canonical(text.len()) {
            return Ok(Self::new(body.slice(range)));
        }
        Ok(Self::new(members.respell()?))
    }

    /// Takes the key attributes named `names` out of an item's text.
    ///
    /// # Errors
    /// When the text is no object or lacks one of them.
    pub fn of_item(item: &[u8], names: &[String]) -> Result<Self, Malformed> {
        let mut members = Members::default();
        Scanner::new(item).object::<Malformed>(|name, scanner| {
            let value = scanner.value()?;
            if names.iter().any(|wanted| same_text(wanted, name)) {
                members.push(name, scanner.slice(value))?;
            }
            Ok(())
        })?;
        for wanted in names {
            if !members.found[..members.count].iter().any(|(name, _)| same_text(wanted, name)) {
                return Err(Malformed::Absent(wanted.clone()));
            }
        }
        Ok(Self::new(members.respell()?))
    }

    /// The canonical JSON text, fit for a request.
    pub fn as_bytes(&self) -> &[u8] {
        &self.json
    }

    /// The hash of the canonical text.
    pub fn hash64(&self) -> u64 {
        self.hash
    }

    /// The same key in memory of its own, so that it does not keep a whole answer alive.
    pub fn detached(&self) -> Self {
        Self { json: Bytes::copy_from_slice(&self.json), hash: self.hash }
    }

    fn new(json: Bytes) -> Self {
        let hash = HASHER.hash_one(&json[..]);
        Self { json, hash }
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash && self.json == other.json
    }
}

impl Eq for Key {}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.json))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The attributes of a key on their way to the canonical spelling.
#[derive(Default)]
struct Members<'a> {
    found: [(&'a [u8], &'a [u8]); 2],
    count: usize,
}

impl<'a> Members<'a> {
    fn push(&mut self, name: &'a [u8], value: &'a [u8]) -> Result<(), Malformed> {
        let slot = self.found.get_mut(self.count).ok_or(Malformed::Members(3))?;
        *slot = (name, value);
        self.count += 1;
        Ok(())
    }

    fn count_is_fine(&self) -> Result<(), Malformed> {
        if self.count == 0 { Err(Malformed::Members(0)) } else { Ok(()) }
    }

    /// Whether the text these members were found in, `len` bytes long, is canonical already.
    fn are_canonical(&self, len: usize) -> bool {
        let members = &self.found[..self.count];
        // `{`, `}`, a comma between; around a name two quotes and a colon.
        let tight: usize =
            1 + members.iter().map(|(name, value)| name.len() + value.len() + 4).sum::<usize>();
        let ordered = self.count < 2 || members[0].0 <= members[1].0;
        ordered
            && tight == len
            && members.iter().all(|(name, value)| memchr::memchr(b'\\', name).is_none() && is_plain(value))
    }

    fn respell(&self) -> Result<Bytes, Malformed> {
        let mut spelled = Vec::with_capacity(2);
        for (name, value) in &self.found[..self.count] {
            spelled.push((respell_text(name)?, respell_value(value)?));
        }
        spelled.sort_unstable();
        let mut json = Vec::with_capacity(128);
        for (index, (name, value)) in spelled.into_iter().enumerate() {
            json.push(if index == 0 { b'{' } else { b',' });
            json.extend_from_slice(name.as_bytes());
            json.push(b':');
            json.extend_from_slice(value.as_bytes());
        }
        json.push(b'}');
        Ok(json.into())
    }
}

/// Whether a key attribute's value is spelled canonically: `{"S":"…"}` or `{"B":"…"}` without escapes or white
/// space around, or a plain integer.
fn is_plain(value: &[u8]) -> bool {
    let Some((kind, content)) = tight_value(value) else {
        return false;
    };
    match kind {
        b'S' | b'B' => memchr::memchr(b'\\', content).is_none(),
        _ => match std::str::from_utf8(content) {
            Ok(text) => matches!(number::canonical(text), std::borrow::Cow::Borrowed(_)),
            Err(_) => false,
        },
    }
}

/// The type letter and the raw content of `{"T":"content"}` without any white space.
fn tight_value(value: &[u8]) -> Option<(u8, &[u8])> {
    match value {
        [b'{', b'"', kind @ (b'S' | b'N' | b'B'), b'"', b':', b'"', content @ .., b'"', b'}'] => {
            Some((*kind, content)).filter(|(_, content)| memchr::memchr(b'"', content).is_none())
        }
        _ => None,
    }
}

fn respell_value(value: &[u8]) -> Result<String, Malformed> {
    let mut spelled = String::new();
    Scanner::new(value).object::<Malformed>(|kind, scanner| {
        let content = scanner.string()?;
        let content = scanner.slice(content);
        spelled = match kind {
            b"N" => {
                let text = String::from_utf8_lossy(content);
                format!(r#"{{"N":"{}"}}"#, number::canonical(&text))
            }
            kind => format!(r#"{{"{}":{}}}"#, String::from_utf8_lossy(kind), respell_text(content)?),
        };
        Ok(())
    })?;
    Ok(spelled)
}

/// The quoted text of a JSON string's inside with only the escapes that JSON demands.
fn respell_text(inside: &[u8]) -> Result<String, Malformed> {
    let quoted = [b"\"", inside, b"\""].concat();
    let text: String = serde_json::from_slice(&quoted).map_err(Malformed::Text)?;
    serde_json::to_string(&text).map_err(Malformed::Text)
}

/// Whether the inside of a JSON string stands for `wanted`.
fn same_text(wanted: &str, inside: &[u8]) -> bool {
    if memchr::memchr(b'\\', inside).is_none() {
        return wanted.as_bytes() == inside;
    }
    let quoted = [b"\"", inside, b"\""].concat();
    serde_json::from_slice::<String>(&quoted).is_ok_and(|text| text == wanted)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::item::{Attributes, Item, Value};

    fn key(text: &str) -> Key {
        let body = Bytes::copy_from_slice(text.as_bytes());
        Key::from_json(&body, 0..body.len()).expect("a key")
    }

    #[test]
    fn spellings_of_one_key_become_one() {
        for (left, right) in [
            (r#"{"a":{"S":"x"},"b":{"N":"1"}}"#, r#"{"b":{"N":"1"},"a":{"S":"x"}}"#),
            (r#"{"a":{"S":"x"}}"#, r#"{ "a" : { "S" : "x" } }"#),
            (r#"{"a":{"N":"10"}}"#, r#"{"a":{"N":"1e1"}}"#),
            (r#"{"a":{"S":"é"}}"#, r#"{"a":{"S":"\u00e9"}}"#),
            (r#"{"é":{"S":"/"}}"#, r#"{"\u00e9":{"S":"\/"}}"#),
        ] {
            assert_eq!(key(left), key(right));
        }
    }

    #[test]
    fn keys_that_differ_stay_apart() {
        assert_ne!(key(r#"{"a":{"S":"1"}}"#), key(r#"{"a":{"N":"1"}}"#));
        assert_ne!(key(r#"{"a":{"S":"x"}}"#), key(r#"{"a":{"S":"X"}}"#));
    }

    #[test]
    fn a_canonical_key_is_not_copied() {
        let body = Bytes::from_static(br#"..{"a":{"S":"x y"},"b":{"N":"17"}}.."#);
        let key = Key::from_json(&body, 2..body.len() - 2).expect("a key");
        assert_eq!(key.as_bytes().as_ptr(), body[2..].as_ptr());
    }

    #[test]
    fn what_is_no_key_is_refused() {
        for text in ["", "{}", "[]", r#"{"a":{"S":"x"},"b":{"S":"x"},"c":{"S":"x"}}"#, r#"{"a":{"S":"#] {
            let body = Bytes::copy_from_slice(text.as_bytes());
            assert!(Key::from_json(&body, 0..body.len()).is_err(), "{text} was accepted");
        }
        let item = br#"{"a":{"S":"x"}}"#;
        assert!(matches!(Key::of_item(item, &["b".to_owned()]), Err(Malformed::Absent(name)) if name == "b"));
    }

    proptest! {
        #[test]
        fn a_key_is_the_same_from_a_record_and_from_its_item(
            hash in any::<String>(), range in any::<i64>(), other in any::<String>(),
        ) {
            let names = ["pk \"quoted\"".to_owned(), "sk".to_owned()];
            let mut attributes = Attributes::new();
            attributes.insert(names[0].clone(), Value::String(hash));
            attributes.insert(names[1].clone(), Value::integer(range));
            let keys = Item::from_attributes(&attributes);
            attributes.insert("zz".to_owned(), Value::String(other));
            let item = Item::from_attributes(&attributes);
            let left = Key::from_json(keys.bytes(), 0..keys.as_bytes().len()).expect("a key");
            prop_assert_eq!(&left, &Key::of_item(item.as_bytes(), &names).expect("a key"));
            prop_assert_eq!(&left, &key(&left.to_string()));
        }
    }
}
