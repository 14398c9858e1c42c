//! What two items are compared by: 128 bits of a canonical form of each.
//!
//! ```text
//!  JSON text ── canonical form (scratch memory, reused) ── BLAKE3 ── first 16 bytes
//! ```
//!
//! Two items have the same canonical form exactly when the service holds them for equal: members of maps in any order,
//! numbers in any spelling, sets in any order, strings with any escapes, binary values by their bytes. Every value is
//! written with its type and length before it, so no two different items share a form. No typed value is built on the
//! way.
//!
//! Left out are the attributes that a replica may have and its source not, or the other way: the mark of a guard, those
//! that global tables of version 2017.11.29 keep, and those that a person names. Text that is no item, or holds a type
//! that is not known, is compared byte by byte: nothing that cannot be understood passes for equal.

use std::fmt;

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use crate::item::scan::{Scanner, Unexpected};
use crate::item::{Item, number};
use crate::key::Key;

/// Attributes that global tables of version 2017.11.29 keep in every item of each of their tables.
pub const RESERVED: [&str; 3] = ["aws:rep:deleting", "aws:rep:updatetime", "aws:rep:updateregion"];

/// Deeper than any item may be nested (the service's limit is 32 levels), and far less than a stack holds.
const DEPTH_MAX: u32 = 64;

/// 128 bits that stand for a key or an item. Of 10¹² items, two different ones share them with a probability of 10⁻¹⁴,
/// and nobody can make such two: the hash is a cryptographic one, so that no writer of the source can hide a difference.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Digest(pub u128);

/// Makes digests. Keeps its memory from one to the next.
#[derive(Debug, Clone)]
pub struct Digester {
    /// Names of attributes that are not compared, in order.
    ignored: Vec<Vec<u8>>,
    form: Vec<u8>,
    sorted: Vec<u8>,
}

/// Why a text has no canonical form.
enum Odd {
    Json,
    Nested,
}

/// Accepts what any server may send: no binary value is unequal for how its last bits or its padding are spelled.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

// === impl Digest ===

impl Digest {
    /// The digest of some bytes.
    pub fn of(bytes: &[u8]) -> Self {
        let hash = blake3::hash(bytes);
        let (first, _) = hash.as_bytes().split_first_chunk::<16>().expect("a hash has 32 bytes");
        Self(u128::from_be_bytes(*first))
    }

    /// The digest of a key, whose text is canonical already.
    pub fn of_key(key: &Key) -> Self {
        Self::of(key.as_bytes())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

// === impl Digester ===

impl Digester {
    /// Leaves the attributes named `ignored` out of every item, at its top level, and the [`RESERVED`] ones. Key
    /// attributes should not be among them: a key tells one item from another.
    pub fn new<S: AsRef<str>>(ignored: &[S]) -> Self {
        let named = ignored.iter().map(|name| name.as_ref().as_bytes().to_vec());
        let mut ignored: Vec<_> = named.chain(RESERVED.map(|name| name.as_bytes().to_vec())).collect();
        ignored.sort_unstable();
        ignored.dedup();
        Self { ignored, form: Vec::new(), sorted: Vec::new() }
    }

    /// Whether the attribute is left out.
    pub fn ignores(&self, attribute: &str) -> bool {
        self.ignored.binary_search_by(|ignored| ignored.as_slice().cmp(attribute.as_bytes())).is_ok()
    }

    /// The digest of an item.
    pub fn item(&mut self, item: &Item) -> Digest {
        self.form.clear();
        let mut writer = Writer { form: &mut self.form, sorted: &mut self.sorted };
        let mut scanner = Scanner::new(item.as_bytes());
        let read = writer.members(&mut scanner, 0, &self.ignored);
        if read.is_err() || scanner.peek().is_some() {
            self.form.clear();
            self.form.push(b'?');
            self.form.extend_from_slice(item.as_bytes());
        }
        Digest::of(&self.form)
    }
}

/// Writes canonical forms.
struct Writer<'a> {
    form: &'a mut Vec<u8>,
    /// For parts that are put in order.
    sorted: &'a mut Vec<u8>,
}

// === impl Writer ===

impl Writer<'_> {
    /// A map: its members in order of their forms, and an end.
    fn members(&mut self, scanner: &mut Scanner<'_>, depth: u32, ignored: &[Vec<u8>]) -> Result<(), Odd> {
        self.form.push(b'm');
        let start = self.form.len();
        let mut starts = Vec::new();
        scanner.object::<Odd>(|name, scanner| {
            let at = self.form.len();
            self.text(b'k', name);
            // Behind the letter and the length.
            if ignored.binary_search_by(|it| it.as_slice().cmp(&self.form[at + 5..])).is_ok() {
                self.form.truncate(at);
                scanner.value()?;
                return Ok(());
            }
            starts.push(at);
            self.value(scanner, depth)
        })?;
        self.order(start, &starts, false);
        self.form.push(b'.');
        Ok(())
    }

    fn value(&mut self, scanner: &mut Scanner<'_>, depth: u32) -> Result<(), Odd> {
        if depth == DEPTH_MAX {
            return Err(Odd::Nested);
        }
        let mut members = 0;
        scanner.object::<Odd>(|kind, scanner| {
            members += 1;
            self.content(kind, scanner, depth + 1)
        })?;
        if members == 1 { Ok(()) } else { Err(Odd::Json) }
    }

    fn content(&mut self, kind: &[u8], scanner: &mut Scanner<'_>, depth: u32) -> Result<(), Odd> {
        match kind {
            b"S" | b"N" | b"B" => self.scalar(kind[0], scanner),
            b"BOOL" | b"NULL" => {
                let range = scanner.value()?;
                self.counted(if kind == b"NULL" { b'0' } else { b'o' }, scanner.slice(range));
                Ok(())
            }
            b"SS" | b"NS" | b"BS" => {
                // A set is told from a string by its letter.
                self.form.push(kind[0].to_ascii_lowercase());
                let start = self.form.len();
                let mut starts = Vec::new();
                scanner.array::<Odd>(|scanner| {
                    starts.push(self.form.len());
                    self.scalar(kind[0], scanner)
                })?;
                self.order(start, &starts, true);
                self.form.push(b'.');
                Ok(())
            }
            b"L" => {
                self.form.push(b'l');
                scanner.array::<Odd>(|scanner| self.value(scanner, depth))?;
                self.form.push(b'.');
                Ok(())
            }
            b"M" => self.members(scanner, depth, &[]),
            // A type of a later day: by its text.
            _ => {
                let range = scanner.value()?;
                self.counted(b'?', kind);
                self.counted(b'?', scanner.slice(range));
                Ok(())
            }
        }
    }

    fn scalar(&mut self, kind: u8, scanner: &mut Scanner<'_>) -> Result<(), Odd> {
        let range = scanner.string()?;
        let inside = scanner.slice(range);
        match kind {
            b'N' => match std::str::from_utf8(inside) {
                Ok(text) => self.counted(kind, number::canonical(text).as_bytes()),
                Err(_) => return Err(Odd::Json),
            },
            b'B' => self.binary(inside),
            _ => self.text(kind, inside),
        }
        Ok(())
    }

    /// A string, from what stands between its quotes.
    fn text(&mut self, kind: u8, inside: &[u8]) {
        if memchr::memchr(b'\\', inside).is_none() {
            return self.counted(kind, inside);
        }
        let quoted = [b"\"", inside, b"\""].concat();
        match serde_json::from_slice::<String>(&quoted) {
            Ok(text) => self.counted(kind, text.as_bytes()),
            Err(_) => self.counted(b'?', inside),
        }
    }

    fn binary(&mut self, inside: &[u8]) {
        // The only escape that a writer may put into base64 is that of a slash.
        let unescaped: Vec<u8>;
        let inside = match memchr::memchr(b'\\', inside) {
            None => inside,
            Some(_) => {
                unescaped = inside.iter().copied().filter(|byte| *byte != b'\\').collect();
                &unescaped
            }
        };
        match LENIENT.decode(inside) {
            Ok(bytes) => self.counted(b'B', &bytes),
            Err(_) => self.counted(b'?', inside),
        }
    }

    /// A letter, a length and so many bytes.
    fn counted(&mut self, kind: u8, bytes: &[u8]) {
        self.form.push(kind);
        // No item of the service has 4 GB.
        self.form.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
        self.form.extend_from_slice(bytes);
    }

    /// Puts the parts that begin at `starts`, the first at `start`, in order.
    fn order(&mut self, start: usize, starts: &[usize], once: bool) {
        let end = self.form.len();
        let part = |index: usize| starts[index]..starts.get(index + 1).copied().unwrap_or(end);
        let form = &self.form;
        let in_order = |left: usize, right: usize| form[part(left)] < form[part(right)];
        if (1..starts.len()).all(|index| in_order(index - 1, index)) {
            return;
        }
        let mut parts: Vec<_> = (0..starts.len()).map(part).collect();
        parts.sort_unstable_by(|left, right| form[left.clone()].cmp(&form[right.clone()]));
        if once {
            parts.dedup_by(|left, right| form[left.clone()] == form[right.clone()]);
        }
        self.sorted.clear();
        for part in parts {
            self.sorted.extend_from_slice(&self.form[part]);
        }
        self.form.truncate(start);
        self.form.extend_from_slice(self.sorted);
    }
}

impl From<Unexpected> for Odd {
    fn from(_: Unexpected) -> Self {
        Self::Json
    }
}

#[cfg(test)]
mod tests;
