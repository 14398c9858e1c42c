//! One entry of a stream, as far as replication needs it.

use crate::item::Item;
use crate::key::Key;
use crate::shard::SequenceNumber;

/// What happened to an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// It was created.
    Insert,
    /// It was replaced or updated.
    Modify,
    /// It was deleted, by a person or by its time to live.
    Remove,
}

/// What a stream carries of the item besides its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum View {
    /// Keys alone: the item is read from the source when the record is applied.
    KeysOnly,
    /// The item after the change.
    NewImage,
    /// The item before the change: like `KeysOnly` for a replica.
    OldImage,
    /// Both.
    NewAndOldImages,
}

/// One change of one item. Images are whole items, so the newest record of a key says all about it.
#[derive(Debug, Clone)]
pub struct Record {
    /// What happened.
    pub kind: Kind,
    /// The item's key.
    pub key: Key,
    /// Where the record stands in its stream; increasing within a shard and, per key, over all shards.
    pub sequence: SequenceNumber,
    /// When the change was made, in milliseconds since 1970. The service rounds it down to the whole second.
    pub created_unix_ms: i64,
    /// The item after the change; `None` for a removal, or where the view does not carry it.
    pub image: Option<Item>,
    /// Whether the service itself removed the item because its time to live was over.
    pub by_ttl: bool,
}

// === impl View ===

impl View {
    /// Whether records carry the item after the change.
    pub fn has_new_image(self) -> bool {
        matches!(self, Self::NewImage | Self::NewAndOldImages)
    }
}
