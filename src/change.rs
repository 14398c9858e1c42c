//! What one replica must do for one record.

use crate::item::Item;
use crate::key::Key;

/// What becomes of the item under a key.
#[derive(Debug, Clone)]
pub enum Op {
    /// It is replaced by this whole item.
    Put(Item),
    /// It is gone.
    Delete,
}

/// One write for one replica. It carries the item's whole state, so of two changes of one key the later alone
/// is enough, and applying one twice does no harm.
#[derive(Debug, Clone)]
pub struct Change {
    /// The key in the replica.
    pub key: Key,
    /// The item's new state.
    pub op: Op,
    /// When the change was made at the source, in milliseconds since 1970 (whole seconds from the service).
    pub created_unix_ms: i64,
}

// === impl Change ===

impl Change {
    /// Bytes this change adds to a write request, from above: the service's limits count item bytes, which JSON
    /// text never falls short of.
    pub fn request_bytes(&self) -> usize {
        /// `{"DeleteRequest":{"Key":}},`
        const FRAME_BYTES: usize = 27;
        FRAME_BYTES
            + match &self.op {
                Op::Put(item) => item.as_bytes().len(),
                Op::Delete => self.key.as_bytes().len(),
            }
    }
}
