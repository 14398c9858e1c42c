//! A scanner over JSON text that finds where values begin and end without taking them apart.
//!
//! It trusts the text to be JSON (it comes whole from the service, its length checked by HTTP): strings and
//! brackets are matched, but what stands between them is not validated. Wrong text gives an error or a slice
//! that a server will refuse; it never panics and never reads past the end.

use std::ops::Range;

/// The text ended, or held something else than expected, at this byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("read JSON at byte {at}: expected {expected}")]
pub struct Unexpected {
    /// The byte's offset in the scanned text.
    pub at: usize,
    /// What should have stood there.
    pub expected: &'static str,
}

/// A position in JSON text that moves forward only.
#[derive(Debug, Clone)]
pub struct Scanner<'a> {
    text: &'a [u8],
    at: usize,
}

// === impl Scanner ===

impl<'a> Scanner<'a> {
    /// Starts before the first byte of `text`.
    pub fn new(text: &'a [u8]) -> Self {
        Self { text, at: 0 }
    }

    /// The next byte that is not white space, without taking it.
    pub fn peek(&mut self) -> Option<u8> {
        while let Some(byte) = self.text.get(self.at) {
            if !matches!(byte, b' ' | b'\n' | b'\r' | b'\t') {
                return Some(*byte);
            }
            self.at += 1;
        }
        None
    }

    /// Takes `byte` if it is next.
    pub fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    /// Takes `byte`.
    ///
    /// # Errors
    /// When something else is next.
    pub fn expect(&mut self, byte: u8, expected: &'static str) -> Result<(), Unexpected> {
        if self.take(byte) { Ok(()) } else { Err(self.unexpected(expected)) }
    }

    /// Calls `member` with each name of the next object (its raw text between the quotes) and the scanner
    /// before the member's value, which `member` must take.
    ///
    /// # Errors
    /// When no object is next, or `member` fails.
    pub fn object<E: From<Unexpected>>(
        &mut self,
        mut member: impl FnMut(&'a [u8], &mut Self) -> Result<(), E>,
    ) -> Result<(), E> {
        self.expect(b'{', "an object")?;
        if self.take(b'}') {
            return Ok(());
        }
        loop {
            let name = self.string()?;
            self.expect(b':', "a colon")?;
            member(&self.text[name], self)?;
            if self.take(b',') {
                continue;
            }
            return Ok(self.expect(b'}', "a comma or the object's end")?);
        }
    }

    /// Calls `element` with the scanner before each element of the next array, which `element` must take.
    ///
    /// # Errors
    /// When no array is next, or `element` fails.
    pub fn array<E: From<Unexpected>>(
        &mut self,
        mut element: impl FnMut(&mut Self) -> Result<(), E>,
    ) -> Result<(), E> {
        self.expect(b'[', "an array")?;
        if self.take(b']') {
            return Ok(());
        }
        loop {
            element(self)?;
            if self.take(b',') {
                continue;
            }
            return Ok(self.expect(b']', "a comma or the array's end")?);
        }
    }

    /// Takes a string and gives the range between its quotes, escapes left as they are.
    ///
    /// # Errors
    /// When no string is next, or it does not end.
    pub fn string(&mut self) -> Result<Range<usize>, Unexpected> {
        self.expect(b'"', "a string")?;
        let start = self.at;
        self.close_string()?;
        Ok(start..self.at - 1)
    }

    /// Takes any value and gives the range of its text.
    ///
    /// # Errors
    /// When no value is next, or it does not end.
    pub fn value(&mut self) -> Result<Range<usize>, Unexpected> {
        match self.peek() {
            Some(b'"') => {
                let inner = self.string()?;
                Ok(inner.start - 1..inner.end + 1)
            }
            Some(b'{' | b'[') => self.container(),
            Some(byte) if byte.is_ascii_alphanumeric() || byte == b'-' => Ok(self.scalar()),
            _ => Err(self.unexpected("a value")),
        }
    }

    /// The text behind a range that this scanner gave.
    pub fn slice(&self, range: Range<usize>) -> &'a [u8] {
        &self.text[range]
    }

    /// The offset of the next byte.
    pub fn offset(&self) -> usize {
        self.at
    }

    fn container(&mut self) -> Result<Range<usize>, Unexpected> {
        let start = self.at;
        let mut depth = 0usize;
        while let Some(byte) = self.text.get(self.at) {
            self.at += 1;
            match byte {
                b'"' => self.close_string()?,
                b'{' | b'[' => depth += 1,
                b'}' | b']' => {
                    depth -= 1;
                    if depth == 0 {
                        return Ok(start..self.at);
                    }
                }
                _ => {}
            }
        }
        Err(self.unexpected("the closing bracket"))
    }

    /// Goes behind the quote that ends the string whose first quote was taken.
    fn close_string(&mut self) -> Result<(), Unexpected> {
        /// Most names and all type letters are shorter; calling memchr for them costs more than looking.
        const SHORT: usize = 16;
        let mut end = (self.at + SHORT).min(self.text.len());
        loop {
            while self.at < end {
                match self.text[self.at] {
                    b'"' => {
                        self.at += 1;
                        return Ok(());
                    }
                    b'\\' => self.at += 2,
                    _ => self.at += 1,
                }
            }
            self.at = self.at.min(self.text.len());
            match memchr::memchr2(b'"', b'\\', &self.text[self.at..]) {
                Some(found) => self.at += found,
                None => {
                    self.at = self.text.len();
                    return Err(self.unexpected("the string's end"));
                }
            }
            end = self.at + 1;
        }
    }

    fn scalar(&mut self) -> Range<usize> {
        let start = self.at;
        let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'.');
        self.at += self.text[self.at..].iter().take_while(|byte| is_part(byte)).count();
        start..self.at
    }

    fn unexpected(&self, expected: &'static str) -> Unexpected {
        Unexpected { at: self.at, expected }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn members(text: &str) -> Vec<(String, String)> {
        let mut found = Vec::new();
        let mut scanner = Scanner::new(text.as_bytes());
        scanner
            .object::<Unexpected>(|name, scanner| {
                let value = scanner.value()?;
                let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("utf-8");
                found.push((text(name), text(scanner.slice(value))));
                Ok(())
            })
            .expect("an object");
        found
    }

    #[test]
    fn finds_members_whatever_stands_in_their_strings() {
        let text = r#" { "a\"}" : {"S":"}]\\"} , "b":[1,{"x":"\\\""}],"c":-1.5e+3,"d":{} } "#;
        let expected =
            [("a\\\"}", r#"{"S":"}]\\"}"#), ("b", r#"[1,{"x":"\\\""}]"#), ("c", "-1.5e+3"), ("d", "{}")];
        let expected: Vec<_> = expected.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        assert_eq!(members(text), expected);
    }

    fn json() -> impl Strategy<Value = serde_json::Value> {
        use serde_json::Value;
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "\\PC*".prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::hash_map(any::<String>(), inner, 0..5)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn a_value_ends_where_a_parser_says_it_ends(value in json(), pretty in any::<bool>()) {
            let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) };
            let text = text.expect("it serialises");
            let followed = format!("{text},\"tail\"");
            let mut scanner = Scanner::new(followed.as_bytes());
            prop_assert_eq!(scanner.value(), Ok(0..text.len()));
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let mut scanner = Scanner::new(&bytes);
            let _ = scanner.value();
            let mut scanner = Scanner::new(&bytes);
            let _ = scanner.object::<Unexpected>(|_, scanner| scanner.value().map(drop));
        }
    }
}
