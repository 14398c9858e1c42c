//! An item as the service sends it: the bytes of its JSON text.
//!
//! DynamoDB's JSON is the same in a stream's answer and in a write request, so an item that needs no change is
//! never taken apart: an [`Item`] is a slice of the answer's body, shared and not copied. [`scan`] finds such
//! slices; [`Value`] is the typed form, made only where a comparison, a filter or a control row asks for it.

pub mod number;
pub mod scan;
mod value;

use std::fmt;

use bytes::Bytes;

#[cfg(test)]
pub(crate) use value::tests::any_value;
pub use value::{Attributes, Malformed, Value};

/// A whole item: the text of a JSON object `{"name":{"S":"value"},…}` in DynamoDB's notation.
///
/// Cloning shares the bytes. The text is not checked when it is taken from an answer; [`Item::attributes`] does.
#[derive(Clone, PartialEq, Eq)]
pub struct Item(Bytes);

// === impl Item ===

impl Item {
    /// Takes the text of one JSON object as an item.
    pub fn from_json(text: Bytes) -> Self {
        Self(text)
    }

    /// Writes attributes as an item.
    pub fn from_attributes(attributes: &Attributes) -> Self {
        let mut text = Vec::with_capacity(64 * attributes.len().max(1));
        value::write_attributes(attributes, &mut text);
        Self(text.into())
    }

    /// The JSON text.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The JSON text as a shared slice.
    pub fn bytes(&self) -> &Bytes {
        &self.0
    }

    /// The typed attributes.
    ///
    /// # Errors
    /// When the text is not an item in DynamoDB's notation.
    pub fn attributes(&self) -> Result<Attributes, Malformed> {
        value::read_attributes(&self.0)
    }
}

impl fmt::Debug for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}
